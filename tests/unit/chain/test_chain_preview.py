"""A dry run shows every record once, and lets none of them drive the terminal."""

from __future__ import annotations

import json
import re

from chain_fakes import ListSource, rows, run

from kpipe.errors import BadRecord
from kpipe.record import Bad
from kpipe.sinks.preview import Preview
from kpipe.transform.chain import build
from kpipe.transform.step import Step


def preview_of(batch, steps, *, terminal=False, on_error="stop"):
    blocks = []
    preview = Preview("to", blocks.append, terminal=terminal)
    done = run(ListSource(batch), [preview.enter, *build(steps), preview.leave], preview, on_error=on_error)
    return b"".join(blocks).decode(), done


def test_json_lines_tell_before_after_and_outcome_in_order():
    steps = [Step("filter", 'type != "number"'), Step("map", ".a"), Step("set-key", "k")]
    text, done = preview_of(rows(b'{"a":1}', b"7", b"no json", b'{"a":2}'), steps, on_error="skip")
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["outcome"] for line in lines] == ["sent", "filtered", "bad", "sent"]
    assert [line["before"]["offset"] for line in lines] == [0, 1, 2, 3]
    assert lines[0]["before"]["value"] == '{"a":1}'
    assert lines[0]["after"]["value"] == "1"
    assert lines[0]["after"]["key"] == "k"
    assert lines[0]["after"]["topic"] == "to"
    assert "t[0]@2" in lines[2]["error"]
    assert lines[1]["after"] is lines[2]["after"] is None
    assert done.ledger.balanced


def test_a_split_shows_each_child_and_a_route_its_topic():
    steps = [Step("split", ".[]"), Step("route", "tostring"), Step("route-allow", "*")]
    text, _ = preview_of(rows(b"[1,2]"), steps)
    assert [(line["after"]["value"], line["after"]["topic"]) for line in map(json.loads, text.splitlines())] == [
        ("1", "1"),
        ("2", "2"),
    ]


def test_a_diff_has_colours_and_escapes_what_is_in_the_record():
    text, _ = preview_of(
        rows(b"a\x1b[31mb\x07\xc2\x9bc", keys=[b"k\x1b]0;x\x07"]), [Step("set-header", "n\x1b=v")], terminal=True
    )
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", plain)
    assert "\x1b[32m+ headers" in text
    assert re.search(r"\x1b\[1m--- t\[0\]@0  -> to", text)


def test_a_record_that_could_not_be_decoded_is_told_by_its_position():
    batch = rows(b"good")
    batch.index, batch.read = [1], 2
    batch.bad = [Bad(0, BadRecord("not an envelope", where="stdin:1"))]
    text, _ = preview_of(batch, [], on_error="skip")
    first, second = (json.loads(line) for line in text.splitlines())
    assert (first["outcome"], first["before"], first["error"]) == (
        "bad",
        {"at": "stdin:1"},
        "decode: stdin:1: not an envelope",
    )
    assert (second["outcome"], second["before"]["value"]) == ("sent", "good")


def test_nothing_behind_a_limit_is_shown():
    blocks = []
    preview = Preview("to", blocks.append, terminal=False)
    batch = rows(b'{"a":1}', b"7", b'{"a":2}', b"8", b"no json", b'{"a":3}')
    stages = [preview.enter, *build([Step("filter", 'type != "number"')]), preview.leave]
    done = run(ListSource(batch), stages, preview, on_error="skip", limit=2)
    lines = [json.loads(line) for line in b"".join(blocks).splitlines()]
    assert [(line["before"]["offset"], line["outcome"]) for line in lines] == [
        (0, "sent"),
        (1, "filtered"),
        (2, "sent"),
    ]
    assert (done.ledger.read, done.ledger.balanced) == (3, True)


def test_nothing_behind_the_record_that_stops_the_run_is_shown():
    text, _ = preview_of(rows(b"1", b"no json", b"2", b"no json", b"3"), [Step("filter", ". == 9")])
    assert [json.loads(line)["outcome"] for line in text.splitlines()] == ["filtered", "bad"]


def test_without_colours_a_diff_has_no_escape():
    blocks = []
    preview = Preview("to", blocks.append, terminal=True, color=False)
    run(ListSource(rows(b"a", b"b")), [preview.enter, *build([Step("set-key", "k")]), preview.leave], preview)
    text = b"".join(blocks).decode()
    assert "\x1b" not in text
    assert '+ key: "k"' in text


def test_a_large_block_is_encoded_once_and_not_once_a_record():
    encoded = []

    class Counting(Preview):
        def __init__(self, write):
            super().__init__("to", write, terminal=False)
            encode = self._encode
            self._encode = lambda batch: encoded.append(len(batch)) or encode(batch)

    for count in (10, 4000):
        encoded.clear()
        blocks = []
        preview = Counting(blocks.append)
        run(ListSource(rows(*[b"v"] * count)), [preview.enter, preview.leave], preview)
        assert len(b"".join(blocks).splitlines()) == count
        assert encoded == [count, count]
