"""What a forward writes again, and what travels as it came: on a real Kafka, beside a registry or two."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.broker.lab.cluster import Rec
from tests.broker.test_schemas import PROTO, USER, avro, config, framed, two
from tests.registry.conftest import fake_registry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe
    from tests.registry.fake import FakeRegistry

__all__ = ["fake_registry"]

NEW = {**USER, "fields": [*USER["fields"], {"name": "mail", "type": "string", "default": "-"}]}
LONG_NAME = b"\x82\x00a"  # "a", its length in more bytes than it needs: nobody who writes it again keeps that
RENAME = 'if .name == "bo" then .name = "BO" else . end'


@pytest.fixture
def fake(fake_registry) -> FakeRegistry:
    return fake_registry()


def values(kafka: Cluster, topic: str) -> list[bytes | None]:
    return [record.value for record in kafka.read(topic)]


def test_changed_values_are_written_by_their_schema_or_by_that_of_encode(
    kafka: Cluster, kpipe: Kpipe, fake: FakeRegistry, tmp_path: Path
) -> None:
    source, own, other, by_header = (kafka.topic() for _ in range(4))
    number = fake.add(f"{source}-value", json.dumps(USER))
    kafka.write(source, [Rec(framed(number, LONG_NAME)), Rec(framed(number, avro(USER, {"name": "bo"}))), Rec(None)])
    settings = config(kafka, fake.url)
    run = ("forward", "-e", "--trace", "none", "--map", RENAME)
    done = kpipe(*run, "--decode", "auto", source, own, config=settings)
    assert (done.code, done.err) == (0, "")
    assert values(kafka, own) == [framed(number, LONG_NAME), framed(number, avro(USER, {"name": "BO"})), None]
    file = tmp_path / "new.avsc"
    file.write_text(json.dumps(NEW))
    refused = kpipe(*run, "--encode", "avro", "--schema", str(file), source, other, config=settings)
    assert (refused.code, "add it with --register" in refused.err) == (2, True)
    done = kpipe(*run, "--encode", "avro", "--schema", str(file), "--register", source, other, config=settings)
    assert (done.code, done.err) == (0, "")
    new = fake.subjects[f"{other}-value"][0]
    assert values(kafka, other) == [
        framed(number, LONG_NAME),
        framed(new, avro(NEW, {"name": "BO", "mail": "-"})),
        None,
    ]
    done = kpipe(
        *run,
        "--encode",
        "avro",
        "--schema",
        f"{other}-value",
        "--framing",
        "header",
        source,
        by_header,
        config=settings,
    )
    assert (done.code, done.err) == (0, "")
    first, second, _ = kafka.read(by_header)
    assert (first.value, first.headers) == (framed(number, LONG_NAME), ())
    assert (second.value, [name for name, _ in second.headers]) == (
        avro(NEW, {"name": "BO", "mail": "-"}), ["__value_schema_id"],
    )  # fmt: skip
    # Back to a prefix: what named the former schema goes, or a reader would take it first.
    again = kafka.topic()
    back = ("--encode", "avro", "--schema", f"{source}-value", "--filter", ".mail", "--map", "{name}")
    done = kpipe("forward", "-e", "--trace", "none", *back, by_header, again, config=settings)
    assert (done.code, done.err) == (0, "")
    assert [(r.value, r.headers) for r in kafka.read(again)] == [(framed(number, avro(USER, {"name": "BO"})), ())]


def test_json_becomes_avro_and_avro_another_format_and_what_does_not_fit_is_bad(
    kafka: Cluster, kpipe: Kpipe, fake: FakeRegistry
) -> None:
    source, target, letters, third = (kafka.topic() for _ in range(4))
    number = fake.add(f"{target}-value", json.dumps(USER))
    keys = fake.add(f"{target}-key", PROTO, "PROTOBUF")
    records = [
        Rec(b'{"name":"a"}', b'{"x":5}'),
        Rec(b"text", b'{"x":6}'),
        Rec(b'{"name":7}', None),
        Rec(None, b'{"x":7}'),
    ]
    kafka.write(source, records)
    settings = config(kafka, fake.url)
    run = ("forward", "-e", "--trace", "none", "--encode", "avro", "--on-error", f"dlq:{letters}")
    done = kpipe(*run, source, target, config=settings)
    assert done.code == 0, done.err
    assert [(r.value, r.key) for r in kafka.read(target)] == [
        (framed(number, avro(USER, {"name": "a"})), b'{"x":5}'),
        (None, b'{"x":7}'),
    ]
    assert [r.value for r in kafka.read(letters)] == [b"text", b'{"name":7}']
    by_key = ("--encode-key", "protobuf", "--key-schema", f"{target}-key")
    told = kpipe("forward", "-e", *by_key, target, third, config=settings)
    assert (told.code, "encode keys with a schema of one" in told.err) == (2, True)
    fake.add("one", 'syntax = "proto3"; message A { int32 x = 1; }', "PROTOBUF")
    text = fake.add("j", '{"type":"object"}', "JSON")
    by_key = ("--encode-key", "protobuf", "--key-schema", "one", "--encode", "json", "--schema", "j")
    done = kpipe("forward", "-e", "--trace", "none", *by_key, target, third, config=settings)
    assert (done.code, done.err) == (0, "")
    assert [(r.value, r.key) for r in kafka.read(third)] == [
        (framed(text, b'{"name":"a"}'), framed(keys + 1, b"\0\x08\x05")),
        (None, framed(keys + 1, b"\0\x08\x07")),
    ]
    verdict = kpipe("verify", "--decode", "auto", source, third, config=settings)
    assert verdict.code == 5  # without a trace nothing is known to be a copy


def test_the_subject_of_the_topic_is_taken_where_it_is_the_only_one(
    kafka: Cluster, kpipe: Kpipe, fake: FakeRegistry
) -> None:
    topic, settings = kafka.topic(), config(kafka, fake.url)
    run = ("produce", "--encode", "avro", topic)
    none = kpipe(*run, stdin=b"{}\n", config=settings)
    assert (none.code, f"The registry has no subject {topic}-value" in none.err) == (2, True)
    number = fake.add(f"{topic}-shop.User", json.dumps(USER))
    fake.add(f"{topic}-other-value", '"int"')
    assert kpipe(*run, stdin=b'{"name":"a"}\n', config=settings).code == 0
    fake.add(f"{topic}-value", json.dumps(USER))
    several = kpipe(*run, stdin=b'{"name":"a"}\n', config=settings)
    assert several.code == 2
    assert f"the subjects {topic}-value, {topic}-shop.User; say which with --schema" in several.err
    assert values(kafka, topic) == [framed(number, avro(USER, {"name": "a"}))]


def test_ids_are_translated_once(kafka: Cluster, kpipe: Kpipe, fake_registry) -> None:
    """The header tells whose ids they are: passed on as they are by the same hop, translated by the way back."""
    one, other = fake_registry(), fake_registry(first_id=900)
    source, target, twice, home, mixed = (kafka.topic() for _ in range(5))
    number = one.add(f"{source}-value", json.dumps(USER))
    one.schemas[900] = {"schema": '"string"', "schemaType": "AVRO", "references": []}  # the wrong one, if asked for
    one.subjects["wrong"] = [900]
    kafka.write(source, [Rec(framed(number, avro(USER, {"name": name})), b"k") for name in ("a", "bo")])
    settings = two(kafka, one.url, other.url)
    run = ("forward", "-e", "--translate-schemas", "register")
    assert kpipe(*run, f"a:{source}", f"b:{target}", config=settings).code == 0
    translated = [framed(900, avro(USER, {"name": name})) for name in ("a", "bo")]
    assert values(kafka, target) == translated
    again = kpipe(*run, f"a:{target}", f"b:{twice}", config=settings)
    assert (again.code, "2 records were translated before" in again.err) == (0, True)
    assert values(kafka, twice) == translated
    assert kpipe(*run, f"b:{target}", f"a:{home}", config=settings).code == 0
    assert {value[:5] for value in values(kafka, home) if value} == {framed(one.subjects[f"{home}-value"][0], b"")}
    for compared in (("--translated-schemas",), ("--decode", "auto")):
        assert kpipe("verify", *compared, f"a:{source}", f"b:{target}", config=settings).code == 0
    # Beside --encode: what that wrote has the target's id already.
    new = other.add("new", json.dumps(NEW))
    encode = ("--encode", "avro", "--schema", "new", "--map", RENAME)
    done = kpipe(*run, *encode, f"a:{source}", f"b:{mixed}", config=settings)
    assert done.code == 0, done.err
    assert values(kafka, mixed) == [translated[0], framed(new, avro(NEW, {"name": "BO", "mail": "-"}))]


def test_verify_stat_and_find_look_at_what_is_decoded(
    kafka: Cluster, kpipe: Kpipe, fake: FakeRegistry, tmp_path: Path
) -> None:
    source, target = kafka.topic(3), kafka.topic()
    number = fake.add(f"{source}-value", json.dumps(USER))
    text, key = fake.add(f"{target}-value", '{"type":"object"}', "JSON"), fake.add("key", '"string"')
    settings = config(kafka, fake.url)
    records = [Rec(framed(number, avro(USER, {"name": n})), framed(key, avro("string", f"k-{n}"))) for n in ("a", "bo")]
    kafka.write(source, [*records, Rec(None, b"plain")])
    encode = ("--encode", "json", "--schema", f"{target}-value")
    assert kpipe("forward", "-e", *encode, source, target, config=settings).code == 0
    assert framed(text, b'{"name":"a"}') in values(kafka, target)
    assert kpipe("verify", source, target, config=settings).code == 5
    same = kpipe("verify", "--decode", "auto", source, target, config=settings)
    assert (same.code, same.err) == (0, "")
    kafka.write(source, [Rec(framed(number, b"\x05"), b"bad")])
    shown = kpipe("stat", "--json", "--decode", "auto", source, config=settings)
    found = json.loads(shown.out)
    assert (shown.code, found["schemas"], found["json_paths"]) == (
        1,
        {f"avro id {number}": 2},
        {".name": {"string": 2}},
    )
    assert found["values"]["least"] == 6
    assert "are counted as they are" in shown.err
    for asked in ("k-bo", '"k-bo"'):
        hit = kpipe("find", "-J", "--decode", "auto", "--decode-key", "auto", source, asked, config=settings)
        assert [json.loads(line)["value"] for line in hit.out.splitlines()] == [{"name": "bo"}], hit.err
    assert kpipe("find", "-q", "--decode-key", "auto", source, "plain", config=settings).code == 0
    assert kpipe("find", "-q", "--decode-key", "auto", source, "k-", config=settings).code == 5
    file = tmp_path / "new.avsc"
    file.write_text(json.dumps(NEW))
    through = ("consume", "-e", "-c", "1", "--decode", "auto", "--reader-schema", str(file))
    assert kpipe(*through, target, config=settings).code == 1  # of JSON Schema, and the reader's is Avro
    seen = kpipe("find", "-J", "-q", *through[4:], "--decode-key", "auto", source, "k-a", config=settings)
    assert json.loads(seen.out)["value"] == {"name": "a", "mail": "-"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--schema", "x"), "--schema says how values are decoded"),
        (("--register",), "--register belongs to --encode"),
        (("--framing", "none"), "--framing belongs to --encode"),
        (("--decode", "auto", "--decode-schema", "x"), "write --schema"),
        (("--key-schema", "x"), "add --encode-key"),
        (("--reader-schema", "x"), "add --decode auto"),
        (("--connect-types",), "add --decode auto"),
        (("--encode", "avro", "--to-origin"), "--to-origin"),
        (("--encode", "avro", "--also", "b:x"), "a further target has another registry"),
        (("--encode", "avro", "--through-json", "cat"), "--through-json"),
    ],
)
def test_what_does_not_go_together_is_told(kafka: Cluster, kpipe: Kpipe, fake_registry, words, told) -> None:
    topic, target = kafka.topic(), kafka.topic()
    places = [f"a:{topic}"] + ([] if "--to-origin" in words else [f"a:{target}"])
    words = [word.replace("b:x", f"b:{kafka.topic()}") for word in words]
    settings = two(kafka, fake_registry().url, fake_registry().url)
    result = kpipe("forward", "-e", *words, *places, config=settings)
    assert (result.code, told in result.err) == (2, True), result.err
