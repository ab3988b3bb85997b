"""What the two ends of a pipe say to each other, and what is not believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpipe.backchannel.protocol import END, read_message, write_acks

OFFSETS = st.lists(st.integers(0, 2**63 - 1), min_size=1)


@given(st.dictionaries(st.tuples(st.text(), st.integers(0, 2**31 - 1)), OFFSETS))
def test_what_is_written_is_read(delivered: dict[tuple[str, int], list[int]]) -> None:
    message = write_acks(delivered)

    assert message.endswith(b"\n")
    assert b"\n" not in message[:-1]
    assert read_message(message) == (list(delivered.items()), False)


def test_the_end_is_a_message_of_its_own() -> None:
    assert read_message(END) == ([], True)


@pytest.mark.parametrize(
    "line",
    [
        b"", b"GET / HTTP/1.1", b"[]", b"1", b"\xff", b'{"acks":1}', b'{"acks":[["t",0]]}',
        b'{"acks":[["t",null,[1]]]}', b'{"acks":[["t",0,["x"]]]}', b'{"acks":[["t",Infinity,[1]]]}',
    ],
)  # fmt: skip
def test_what_is_no_message_is_not_believed(line: bytes) -> None:
    with pytest.raises(ValueError):
        read_message(line)
