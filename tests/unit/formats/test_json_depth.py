"""JSON nests 254 levels deep, everywhere: what is deeper is a bad record, never an error of kpipe's."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from kpipe.delivery.backchannel.protocol import read_message
from kpipe.formats.envelope import EnvelopeDecoder
from kpipe.formats.envelope_output import EnvelopeEncoder
from kpipe.formats.foreign import KafDecoder, KcatDecoder, KclDecoder, RpkDecoder
from kpipe.formats.json_depth import MAX_DEPTH, is_too_deep
from kpipe.record import Batch
from kpipe.sinks.preview import Preview
from kpipe.transform.chain import Step, build

if TYPE_CHECKING:
    from kpipe.flight import Flight

DEPTHS = (MAX_DEPTH + 1, 300, 1023, 1024, 1025, 9_999, 10_001, 200_000)


def nested(depth: int) -> bytes:
    return b'{"a":' * depth + b"1.10" + b"}" * depth


STEPS = [
    [Step("filter", ".a")],
    [Step("filter", "true or .a")],
    [Step("filter", '$meta.key == "k" or .a')],
    [Step("map", ".")],
    [Step("map", "[.]")],
    [Step("map", "{b: .a}")],
    [Step("map-raw", ".a")],
    [Step("map-key", ".a")],
    [Step("map-key", "[.a]")],
    [Step("map-header", "h=.a")],
    [Step("key-field", ".a")],
    [Step("set-header", "h={json[.a]}")],
    [Step("add-header", "h={json[.a]}")],
    [Step("set-key", "{json[.a]}")],
    [Step("mask", ".a")],
    [Step("hash", ".a"), Step("hash-salt", "env:SALT")],
    [Step("drop-field", ".a")],
    [Step("rename-field", ".a=b")],
    [Step("cast", ".a=int")],
    [Step("flatten", "_")],
    [Step("split", ".")],
    [Step("split", ".[]")],
    [Step("dedupe", ".a")],
    [Step("dedupe", "[.a]")],
    [Step("route", ".a"), Step("route-allow", "*")],
    [Step("timestamp-from", ".a")],
]


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("steps", STEPS, ids=lambda steps: " ".join(f"{s.name} {s.argument}" for s in steps))
def test_every_transform_takes_a_value_that_is_too_deep_for_a_bad_record(steps: list[Step], depth: int) -> None:
    batch = Batch([b"[1]", nested(depth), b'{"a":2}'], keys=[b"k"] * 3)
    for stage in build(steps, environ={"SALT": "salt"}):
        stage(batch)
    (bad,) = [bad for bad in batch.bad if bad.index == 1]
    assert f"nests deeper than {MAX_DEPTH} levels" in bad.error.what


@pytest.mark.parametrize("steps", STEPS[:9] + STEPS[14:18], ids=lambda steps: f"{steps[0].name} {steps[0].argument}")
def test_what_is_as_deep_as_is_allowed_goes_through(steps: list[Step]) -> None:
    batch = Batch([nested(MAX_DEPTH - 1), nested(MAX_DEPTH)], keys=[b"k"] * 2)
    for stage in build(steps, environ={"SALT": "salt"}):
        stage(batch)
    wraps = steps[0].argument == "[.]"
    assert [bad.index for bad in batch.bad] == ([1] if wraps else [])


@pytest.mark.parametrize("program", ["reduce range(300) as $i (null; [.])", "reduce range(20000) as $i (null; [.])"])
@pytest.mark.parametrize("name", ["map", "split", "map-key"])
def test_a_result_that_is_too_deep_is_bad(name: str, program: str) -> None:
    batch = Batch([b"1"], keys=[b"k"])
    for stage in build([Step(name, program)]):
        stage(batch)
    if name != "map-key" or "20000" in program:  # a raw result may be any text, but not one with jq's remark in it
        assert [f"nests deeper than {MAX_DEPTH} levels" in bad.error.what for bad in batch.bad] == [True]
    assert b"skipped" not in b"".join(value or b"" for value in (*batch.values, *(batch.keys or ())))


@pytest.mark.parametrize("depth", DEPTHS)
def test_an_envelope_embeds_and_takes_what_is_not_too_deep(depth: int) -> None:
    found = EnvelopeDecoder("f").feed(b'{"value":"a"}\n{"value":%b}\n{"value":"b"}\n' % nested(depth))
    assert found.values == [b"a", b"b"]
    assert f"nests deeper than {MAX_DEPTH} levels" in found.bad[0].error.what
    encoded = EnvelopeEncoder(json_value=True)(Batch([nested(depth), nested(MAX_DEPTH)]))
    again = EnvelopeDecoder("f").feed(encoded)
    assert (again.values, again.bad) == ([nested(depth), nested(MAX_DEPTH)], [])


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("decoder", [KcatDecoder, KclDecoder, RpkDecoder, KafDecoder])
def test_the_json_of_other_tools_is_bad_where_it_is_too_deep(
    decoder: type[KcatDecoder | KclDecoder | RpkDecoder | KafDecoder], depth: int
) -> None:
    for line in (
        nested(depth),
        b'{"payload":%b,"value":%b}' % (nested(depth), nested(depth)),
        b'{"headers":%b}' % nested(depth),
    ):
        reader = decoder("f")
        batches = [reader.feed(line + b"\n"), reader.finish()]
        assert [len(batch.values) for batch in batches] == [0, 0]
        assert sum(len(batch.bad) for batch in batches) == 1


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_preview_shows_what_is_too_deep(depth: int) -> None:
    shown: list[bytes] = []
    for terminal in (False, True):
        preview = Preview("t", shown.append, terminal=terminal)
        batch = Batch([nested(depth)])
        preview.enter(batch)
        preview.leave(batch)

        class Settled:
            origin = batch

            def settle_sent(self, _batch: Batch) -> None:
                pass

        preview.send(batch, cast("Flight", Settled()), lambda: True)
    assert len(shown) == 2


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_far_end_of_a_pipe_cannot_end_consume(depth: int) -> None:
    for message in (b"[" * depth, b'{"acks":%b}' % (b"[" * depth + b"]" * depth)):
        with pytest.raises((ValueError, RecursionError)) as caught:
            read_message(message)
        assert isinstance(caught.value, ValueError)


def test_depth_is_that_of_brackets_outside_of_strings() -> None:
    assert not is_too_deep(b'["' + b"[" * 1000 + b'"]')
    assert not is_too_deep(b'["\\"' + b"[" * 1000 + b'\\\\"]')
    assert not is_too_deep(b"[" + b"[1]," * 1000 + b"2]")
    assert is_too_deep(b'["\\"",' + nested(MAX_DEPTH) + b"]")
    assert not is_too_deep(nested(MAX_DEPTH))
    assert is_too_deep(nested(MAX_DEPTH + 1))
