"""Records for people: nothing drives the terminal, a pipe gets whole lines, a fold changes no character."""

from __future__ import annotations

import re

import pytest

from kpipe.formats.pretty import PLACES, STYLES, PrettyEncoder
from kpipe.record import Batch

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def batch(
    value: bytes | None, key: bytes | None = b"k", headers: list[tuple[str, bytes | None]] | None = None
) -> Batch:
    return Batch(
        [value], keys=[key], headers=[headers], timestamps=[(1, 1_700_000_000_123)],
        topics=["orders"], partitions=[3], offsets=[42], cluster="prod",
    )  # fmt: skip


def show(given: Batch, **options: object) -> str:
    return PrettyEncoder(**options)(given).decode()  # type: ignore[arg-type]


def test_a_pipe_gets_one_whole_plain_line() -> None:
    line = show(batch(b'{"a":1}', headers=[("h", b"v w"), ("n", None), ("source_topic", b"t")]))
    assert line.endswith('  prod:orders[3]@42  key=k  h="v w"  n=null  source_topic=t  {"a":1}\n')
    assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (b"", '""'),
        (b"a\nb\x1b[2J", "a\\nb\\x1b[2J"),
        (b"\xff\x00", "0xff00"),
        ("\u202e".encode(), "\\u202e"),
    ],
)
def test_null_empty_and_what_is_no_text_are_told_apart_and_nothing_drives_a_terminal(
    value: bytes | None, text: str
) -> None:
    for options in ({}, {"color": True}, {"width": 200}, {"width": 200, "color": True}):
        shown = ESCAPES.sub("", show(batch(value), **options))
        if not (value == b"\xff\x00" and "width" in options):
            assert shown.endswith(f"  {text}\n")
        assert "\x1b" not in shown


@pytest.mark.parametrize("width", [24, 40, 80, 140])
@pytest.mark.parametrize("color", [True, False])
def test_a_terminal_gets_folded_lines_and_every_character(width: int, color: bool) -> None:
    value = b'{"name":"' + b"x" * 300 + '","n":1.50,"é":"日本"}'.encode()
    lines = ESCAPES.sub("", show(batch(value), width=width, color=color)).splitlines()
    assert max(len(line) + sum(ord(c) > 0x2E7F for c in line) for line in lines) <= width
    joined = "".join(line.strip() for line in lines)
    assert value.decode() in joined


def test_expanding_keeps_every_token() -> None:
    text = ESCAPES.sub("", show(batch(b'{ "a":[1.10,2e5,{}],"b":{"c":null} }'), width=80, color=True, expand=True))
    assert '"a": [' in text
    assert re.sub(r"\s", "", text).endswith('{"a":[1.10,2e5,{}],"b":{"c":null}}')


def test_bytes_are_shown_with_a_gutter() -> None:
    text = show(batch(b"\xff\x00ab"), width=100)
    assert "000000  ff 00 61 62" in text
    assert "|..ab|" in text
    long = show(batch(b"\xff" * 5000), width=100)
    assert "904 more bytes" in long


def test_a_trace_is_one_word_on_a_terminal() -> None:
    trace: list[tuple[str, bytes | None]] = [
        ("h", b"v"), ("source_topic", b"orders"), ("source_partition", b"0"), ("source_offset", b"7"), ("source_cluster", b"id"),
    ]  # fmt: skip
    text = show(batch(b"v", headers=trace), width=140)
    assert "<-orders[0]@7" in text
    assert "source_cluster" not in text
    assert "source_cluster=id" in show(batch(b"v", headers=trace))


def test_a_time_beyond_the_calendar_is_shown_as_it_is() -> None:
    given = batch(b"v")
    given.timestamps = [(1, 10**17)]
    assert f"{10**17} ms" in show(given)
    given.timestamps = [(0, -1)]
    assert show(given).startswith("---")


def luminance(number: int) -> float:
    """Of one of xterm's 256 colours, relative to white (WCAG 2.1)."""
    cube = (0, 95, 135, 175, 215, 255)
    colour = (205, 0, 0) if number == 1 else tuple(cube[(number - 16) // step % 6] for step in (36, 6, 1))
    red, green, blue = (
        ((level / 255 + 0.055) / 1.055) ** 2.4 if level > 10 else level / 255 / 12.92 for level in colour
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("code", sorted({*PLACES, *STYLES.values()}))
def test_colours_are_read_on_white_and_on_black(code: str) -> None:
    """A contrast of 3 is what WCAG asks of large text and of signs; yellow on white has 1.1."""
    if code == "31" or code.startswith("38;5;"):
        light = luminance(1 if code == "31" else int(code.rpartition(";")[2]))
        assert 1.05 / (light + 0.05) >= 3
        assert (light + 0.05) / 0.05 >= 3
    else:  # bold, faint, italic: the terminal's own colour
        assert set(code.split(";")) <= {"", "1", "2", "3"}
