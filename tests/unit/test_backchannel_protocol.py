"""What the two ends of a pipe say to each other, and what is not believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpipe.delivery.backchannel.protocol import END, LONGEST, read_message, write_acks

OFFSETS = st.lists(st.integers(0, 2**63 - 1), min_size=1)


@given(st.dictionaries(st.tuples(st.text(), st.integers(0, 2**31 - 1)), OFFSETS))
def test_what_is_written_is_read(delivered: dict[tuple[str, int], list[int]]) -> None:
    messages = write_acks(delivered).splitlines(keepends=True)

    assert all(message.endswith(b"\n") for message in messages)
    read = [read_message(message) for message in messages]
    assert [acks for acks, end in read if not end] == [[entry] for entry in delivered.items()]


def test_no_message_is_longer_than_the_far_end_reads() -> None:
    offsets = list(range(2**63 - 25_000, 2**63))
    messages = write_acks({("t" * 249, 2**31 - 1): offsets}).splitlines(keepends=True)

    assert max(map(len, messages)) < LONGEST
    assert [offset for message in messages for ((_, some),) in [read_message(message)[0]] for offset in some] == offsets


def test_the_end_is_a_message_of_its_own() -> None:
    assert read_message(END) == ([], True)


@pytest.mark.parametrize(
    "line",
    [
        b"", b"GET / HTTP/1.1", b"[]", b"1", b"\xff", b'{"acks":1}', b'{"acks":[["t",0]]}',
        b"[" * 100_000, b'{"acks":[["t",null,[1]]]}', b'{"acks":[["t",0,["x"]]]}', b'{"acks":[["t",Infinity,[1]]]}',
    ],
)  # fmt: skip
def test_what_is_no_message_is_not_believed(line: bytes) -> None:
    with pytest.raises(ValueError):
        read_message(line)
