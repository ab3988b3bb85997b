"""Equal headers of records that are kept become one list; what is read stays the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from format_records import headers
from hypothesis import given, settings
from hypothesis import strategies as st

from kpipe.formats.equal_headers import REMEMBERED, EqualHeaders

if TYPE_CHECKING:
    from kpipe.record import Headers


def shared(stage: EqualHeaders, column: list[Headers | None]) -> list[Headers | None]:
    """What becomes of headers that the client has made anew."""
    return stage([own and list(own) for own in column])


@settings(max_examples=60)
@given(st.lists(st.lists(st.none() | headers, min_size=1, max_size=5), max_size=8))
def test_headers_are_what_they_were(columns: list[list[Headers | None]]) -> None:
    stage = EqualHeaders()
    for column in columns:
        assert [own or None for own in shared(stage, column)] == [own or None for own in column]


def test_equal_ones_are_one_list_also_over_batches_and_nothing_else_is_equal() -> None:
    stage = EqualHeaders()
    ones: list[Headers | None] = [[("h", b""), ("h", None)], None, [("h", None), ("h", b"")], [("h", b""), ("h", None)]]
    first, again = shared(stage, ones * 2), shared(stage, ones)
    assert first[0] is first[3] is first[4] is again[0] is again[3]
    assert first[0] is not first[2]
    assert again == ones


def test_headers_that_are_new_in_each_record_are_looked_at_ever_more_rarely() -> None:
    stage, looks = EqualHeaders(), 0
    for number in range(600):
        first, second, *_ = shared(stage, [[("n", b"%d" % number)], [("n", b"%d" % number)], None, None, None])
        looks += first is second
    assert looks == 600
    for number in range(600):
        column: list[Headers | None] = [[("m", b"%d" % (number * 9 + place))] for place in range(9)]
        looks += stage(column) is not column
    assert 603 <= looks <= 612
    assert not stage._known.keys() - {None}


def test_what_is_kept_to_be_shared_has_a_bound() -> None:
    stage = EqualHeaders()
    for number in range(400):
        column: list[Headers | None] = [[("n", b"%d" % number * 5000)]] * 4
        assert shared(stage, column) == column
        assert sum(64 + len(key[0][1] or b"") for key in stage._known if key) <= REMEMBERED
    assert len(stage._known) > 1
