"""Blocks of envelopes as kpipe writes them are read whole; all others line by line, with the same outcome."""

from __future__ import annotations

import pytest
from format_records import batch, consumed, cuts, decode, rows, rows_of
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kpipe.formats.canonical import CanonicalReader
from kpipe.formats.envelope import EnvelopeDecoder
from kpipe.formats.envelope_output import EnvelopeEncoder
from kpipe.formats.rows import Row
from kpipe.formats.sharing import MOST_WORDS, REMEMBERED
from kpipe.formats.splitting import Splitter

ROW = Row(b'{"a": "\\n\x7f\\u00e9"}', b"k", [("h", b"v"), ("h", None), ("", b"")], (1, 1763884800000), "orders", 3, 42)
LINE = EnvelopeEncoder()(batch(ROW))


def eager(**options: int) -> EnvelopeDecoder:
    """Looks at a block as a whole however small it is, and again soon after one that was somebody else's."""
    return EnvelopeDecoder("in", worth_a_look=0, most_misses=0, **options)


def is_text(row: Row) -> bool:
    """Whether the envelope has no base64 in it."""
    try:
        for part in (row.key, row.value, *(value for _, value in row.headers)):
            (part or b"").decode()
        return all(type(name) is str for name, _ in row.headers)
    except UnicodeDecodeError:
        return False


@settings(max_examples=80, deadline=None)
@given(st.lists(consumed, max_size=4))
@example([ROW, ROW._replace(value=None, key=None, headers=[]), ROW._replace(value=b"", key=b"", timestamp=(2, -5))])
def test_what_consume_writes_is_read_whole_unless_there_is_base64_in_it(records: list[Row]) -> None:
    found = CanonicalReader().read(EnvelopeEncoder()(batch(*records)))
    if all(map(is_text, records)):
        assert found is not None
        assert rows_of(found) == records
    else:
        assert found is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"partition":3', b'"partition":4,"partition":3'),
        (b'"key":"k"', b'"key":"j","key":"k"'),
        (b'"partition":3', b'"partition": 3'),
        (b'"partition":3', b'"partition":3.0'),
        (b'"partition":3', b'"partition":-1'),
        (b'"partition":3', b'"partition":2147483648'),
        (b'"partition":3', b'"partition":true'),
        (b'"partition":3', b'"partition":"3"'),
        (b'"partition":3,', b""),
        (b'"offset":42', b'"offset":42.5'),
        (b'"offset":42', b'"offset":9223372036854775808'),
        (b'"offset":42', b'"offset":4.2e1'),
        (b'"offset":42', b'"offset":null'),
        (b'"timestamp":1763884800000', b'"timestamp":1e400'),
        (b'"create"', b'"log"'),
        (b'"create"', b"null"),
        (b'"key":"k"', b'"key":1'),
        (b'"key":"k"', b'"key":"\\u006b"'),
        (b'"key":"k"', b'"key":"\\ud800"'),
        (b'"key":"k"', b'"key":"\xff"'),
        (b'"key":"k"', b'"key_base64":"aw=="'),
        (b'"key":"k"', b'"key":"k","x":1'),
        (b'"headers":', b'"value_schema":{"id":1},"headers":'),
        (b'["h",null]', b'["h"]'),
        (b'["h",null]', b'["h",null,null]'),
        (b'["h",null]', b'["h",{"base64":"AA=="}]'),
        (b'["h",null]', b'[{"base64":"6Q=="},"x"]'),
        (b'["h",null]', b'["h",1]'),
        (b"}\n", b"}\r\n"),
        (b"}\n", b"}\n\n"),
        (b"}\n", b"} \n"),
        (b"}\n", b"}}\n"),
        (b"{", b"\xef\xbb\xbf{"),
        (b"{", b" {"),
    ],
)
def test_anything_else_is_left_to_the_reading_line_by_line(old: bytes, new: bytes) -> None:
    assert old in LINE
    changed = LINE.replace(old, new, 1)
    for data in (LINE + changed + LINE, changed):
        assert CanonicalReader().read(data) is None
        singly = EnvelopeDecoder("in")
        expected = [singly._batch(data.split(b"\n")[:-1])]
        assert decode(eager(), data) == (
            [row for part in expected for row in rows_of(part)],
            [str(bad.error) for part in expected for bad in part.bad],
        )


@settings(max_examples=60, deadline=None)
@given(st.lists(rows | consumed, max_size=5), cuts)
def test_however_the_blocks_fall_the_records_are_the_same(records: list[Row], places: list[int]) -> None:
    assert decode(eager(), EnvelopeEncoder()(batch(*records)), places) == (records, [])


def test_what_was_seen_before_changes_nothing_that_is_read() -> None:
    """Topics, names and headers that come again, that are new, and more of them than are kept."""
    reader = CanonicalReader()
    for block in range(3):
        for count in (1, MOST_WORDS + 1, 3):
            records = [
                ROW._replace(topic=f"t{n}", headers=[(f"h{n % 7}", b"%d" % (n % 2)), (f"n{n}", None)])
                for n in range(count)
            ] + [ROW._replace(headers=[]), ROW, ROW._replace(headers=[("h", b"%d" % block)])]
            found = reader.read(EnvelopeEncoder()(batch(*records)))
            assert found is not None
            assert rows_of(found) == records
    many = [ROW._replace(headers=[("h", b"%d" % (n // 3) + b"x" * 500)]) for n in range(6 * REMEMBERED // 500)]
    for start in range(0, len(many), 600):
        found = reader.read(EnvelopeEncoder()(batch(*many[start : start + 600])))
        assert found is not None
        assert rows_of(found) == many[start : start + 600]


@pytest.mark.parametrize("reads", [1, 2])
def test_a_line_that_is_none_is_found_also_among_known_words(reads: int) -> None:
    reader = CanonicalReader()
    for _ in range(reads):
        assert reader.read(LINE) is not None
    for bad in (b'"topic":1', b'"topic":null', b'"topic":"\\ud800"'):
        assert reader.read(LINE + LINE.replace(b'"topic":"orders"', bad)) is None
    for bad in (b'["h"]', b'[1,"x"]', b'[null,"x"]', b'["h",{"base64":"AA=="}]', b'["\xff","x"]', b'["\\ud800",""]'):
        assert reader.read(LINE + LINE.replace(b'["h",null]', bad)) is None
    assert reader.read(LINE) is not None


def test_positions_count_over_both_ways_and_limits_hold() -> None:
    decoder = eager(max_record_bytes=1000)
    blocks = [LINE * 2, b'{"value":"a"}\n', LINE[:50], LINE[50:], b"x" * 990, b"x" * 20, b"\n" + LINE, LINE]
    parts = [decoder.feed(block) for block in blocks]
    assert [list(part.lines or ()) for part in parts] == [[1, 2], [3], [], [4], [], [], [6], [7]]
    assert [bad.error.where for part in parts for bad in part.bad] == ["in:5"]


def test_lines_of_somebody_else_are_looked_at_ever_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    monkeypatch.setattr(CanonicalReader, "read", lambda _self, block: looked.append(len(block)))
    decoder, block = EnvelopeDecoder("in"), b'{"value":"a"}\n' * 2000
    values = [len(decoder.feed(block)) for _ in range(500)]
    assert values == [2000] * 500
    assert 6 <= len(looked) <= 15


def test_a_piece_that_is_taken_uncut_may_lie_over_blocks() -> None:
    splitter = Splitter(b"\n", 20)
    assert [splitter.take(block) for block in (b"a\nb", b"c", b"d\ne\n", b"")] == [b"a\n", b"", b"bcd\ne\n", b""]
    assert splitter.pending == 0
    assert splitter.take(b"x" * 21) is None
    assert Splitter(b"\r\n").take(b"a\r\n") is None
