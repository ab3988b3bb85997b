"""Schemas on a real Kafka: with a real registry (Apicurio), and with a fake one for what no real one can be made to do.

What is read and written is compared with fastavro and with bytes put together here, never with kpipe itself.
"""

from __future__ import annotations

import io
import json
import signal
from contextlib import closing
from typing import TYPE_CHECKING
from uuid import UUID

import fastavro
import pytest

from kpipe.codecs.registry import Registry, SchemaReference, SchemaText
from tests.broker.lab.apicurio import Apicurio
from tests.broker.lab.cluster import Rec
from tests.broker.test_group_safety import members
from tests.conftest import Result
from tests.registry.conftest import fake_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe
    from tests.registry.fake import FakeRegistry

__all__ = ["fake_registry"]

ORDER = {
    "type": "record",
    "name": "Order",
    "namespace": "shop",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "note", "type": ["null", "string"], "default": None},
        {"name": "amount", "type": ["int", "long"]},
    ],
}
USER = {"type": "record", "name": "User", "fields": [{"name": "name", "type": "string"}]}
PROTO = 'syntax = "proto3"; package shop; message A { int32 x = 1; } message B { string y = 1; }'


def avro(schema: dict, value: object) -> bytes:
    """The bytes as another library writes them."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    return out.getvalue()


def framed(number: int, data: bytes) -> bytes:
    return b"\0" + number.to_bytes(4, "big") + data


def order(number: int, **changes: object) -> bytes:
    plain = json.loads(json.dumps(ORDER).replace(', "logicalType": "decimal", "precision": 9, "scale": 2', ""))
    plain = json.loads(json.dumps(plain).replace(', "logicalType": "timestamp-millis"', ""))
    return avro(plain, {"id": number, "price": b"\x04\xd2", "at": 0, "note": None, "amount": 5, **changes})


@pytest.fixture(scope="session")
def apicurio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apicurio]:
    """A real registry that all tests share."""
    registry = Apicurio(tmp_path_factory.mktemp("apicurio"))
    yield registry
    registry.end()


@pytest.fixture(params=["apicurio", "fake"])
def registry_url(request: pytest.FixtureRequest) -> str:
    """The address of a registry, a real one and the fake."""
    if request.param == "apicurio":
        return request.getfixturevalue("apicurio").url
    return request.getfixturevalue("fake_registry")().url


def config(kafka: Cluster, url: str, **more: str) -> str:
    lines = [f'{name} = "{value}"' for name, value in more.items()]
    return "\n".join([
        'default = "a"', "[clusters.a]", f'"bootstrap.servers" = "{kafka.bootstrap}"',
        f'"schema.registry.url" = "{url}"', *lines,
    ]) + "\n"  # fmt: skip


def register(url: str, subject: str, text: object, kind: str = "AVRO") -> int:
    with closing(Registry([url])) as client:
        found = client.register(subject, SchemaText(kind, text if isinstance(text, str) else json.dumps(text)))
    assert found.id is not None
    return found.id


@pytest.fixture
def pipe(kafka: Cluster, kpipe: Kpipe) -> Callable[[str, str], tuple[Result, Result]]:
    """`consume -J --decode auto A | produce --input json --encode same B`."""

    def through(url: str, source: str, target: str) -> tuple[Result, Result]:
        settings = config(kafka, url)
        read = kpipe("consume", "-J", "-e", "--decode", "auto", source, config=settings)
        options = ("--input", "json", "--encode", "same", "--trace", "none")
        return read, kpipe("produce", *options, target, stdin=read.out, config=settings)

    return through


def test_decoded_and_encoded_again_is_the_same_topic(kafka: Cluster, registry_url: str, pipe) -> None:
    source, target = kafka.topic(), kafka.topic()
    key_id = register(registry_url, f"{source}-key", USER)
    number = register(registry_url, f"{source}-value", ORDER)
    proto = register(registry_url, f"{source}-other", PROTO, "PROTOBUF")
    records = [
        Rec(framed(number, order(1)), framed(key_id, avro(USER, {"name": "éva"}))),
        Rec(framed(number, order(1 << 60, note="n", amount=1 << 40)), b"plain key"),
        Rec(None, framed(key_id, avro(USER, {"name": "bo"}))),
        Rec(b"", None),
        Rec(b"\0\0\0\xff\xffno schema", b"\0\0\0\0"),
        Rec(framed(proto, b"\x02\x02\x0a\x01z"), b"k", (("h", None), ("h", b"\xff"))),
        Rec(framed(proto, b"\0\x08\x05"), b"k"),
    ]
    kafka.write(source, records)
    read, written = pipe(registry_url, source, target)
    assert (read.code, written.code, written.err) == (0, 0, "")
    first = json.loads(read.out.splitlines()[0])
    assert first["value"] == {
        "id": 1,
        "price": "12.34",
        "at": "1970-01-01T00:00:00.000Z",
        "note": None,
        "amount": {"int": 5},
    }
    assert first["value_schema"]["id"] == number
    assert first["key"] == {"name": "éva"}
    assert [(r.value, r.key, r.headers) for r in kafka.read(target)] == [(r.value, r.key, r.headers) for r in records]


def test_a_filter_between_the_two_changes_one_field(kafka: Cluster, kpipe: Kpipe, apicurio: Apicurio) -> None:
    source, target = kafka.topic(), kafka.topic()
    number = register(apicurio.url, f"{source}-value", ORDER)
    kafka.write(source, [framed(number, order(1)), framed(number, order(2))])
    settings = config(kafka, apicurio.url)
    read = kpipe("consume", "-J", "-e", "--decode", "auto", "--map", ".id = 7", source, config=settings)
    options = ("--input", "json", "--encode", "same", "--trace", "none")
    assert kpipe("produce", *options, target, stdin=read.out, config=settings) == Result(0, b"", "")
    assert [r.value for r in kafka.read(target)] == [framed(number, order(7)), framed(number, order(7))]


def test_a_file_is_looked_up_and_registered_only_on_demand(
    kafka: Cluster, kpipe: Kpipe, registry_url: str, tmp_path: Path
) -> None:
    topic, settings = kafka.topic(), config(kafka, registry_url)
    schema, keys = tmp_path / "user.avsc", tmp_path / "key.proto"
    schema.write_text(json.dumps(USER))
    keys.write_text('syntax = "proto3"; message K { int32 x = 1; }')
    options = ("produce", "-K", "|", "--encode", "avro", "--schema", str(schema))
    options += ("--encode-key", "protobuf", "--key-schema", str(keys), "--trace", "none")
    refused = kpipe(*options, topic, stdin=b'{"x":5}|{"name":"bo"}\n', config=settings)
    assert refused.code == 2
    assert f"the subject {topic}-value has no such schema; add it with --register" in refused.err
    with closing(Registry([registry_url])) as client:
        assert not [subject for subject in client.subjects() if subject.startswith(topic)]
    assert kafka.read(topic) == []
    assert kpipe(*options, "--register", topic, stdin=b'{"x":5}|{"name":"bo"}\n', config=settings) == Result(0, b"", "")
    with closing(Registry([registry_url])) as client:
        value_id, key_id = client.version(f"{topic}-value").id, client.version(f"{topic}-key").id
    assert kpipe(*options, topic, stdin='{"x":6}|{"name":"éva"}\n'.encode(), config=settings) == Result(0, b"", "")
    assert [(r.key, r.value) for r in kafka.read(topic)] == [
        (framed(key_id, b"\0\x08\x05"), framed(value_id, avro(USER, {"name": "bo"}))),
        (framed(key_id, b"\0\x08\x06"), framed(value_id, avro(USER, {"name": "éva"}))),
    ]


def test_a_schema_by_subject_version_and_id(kafka: Cluster, kpipe: Kpipe, registry_url: str) -> None:
    topic, settings = kafka.topic(), config(kafka, registry_url)
    number = register(registry_url, f"{topic}-x", USER)
    for name in (f"{topic}-x", f"{topic}-x:1", f"{topic}-x:latest", f"id:{number}"):
        options = ("produce", "--encode", "avro", "--schema", name, "--trace", "none")
        assert kpipe(*options, topic, stdin=b'{"name":"bo"}\n', config=settings) == Result(0, b"", "")
    assert [r.value for r in kafka.read(topic)] == [framed(number, avro(USER, {"name": "bo"}))] * 4
    for name in (f"{topic}-y", f"{topic}-x:9", "id:99999"):
        result = kpipe("produce", "--encode", "avro", "--schema", name, topic, stdin=b"{}\n", config=settings)
        assert result.code == 2, result.err
        assert "the schema registry has none" in result.err
    result = kpipe("produce", "--encode", "json", "--schema", f"{topic}-x", topic, stdin=b"{}\n", config=settings)
    assert (result.code, "is avro, not json" in result.err) == (2, True)


def test_what_does_not_fit_is_stopped_at_skipped_or_a_dead_letter(
    kafka: Cluster, kpipe: Kpipe, registry_url: str
) -> None:
    topic, letters, settings = kafka.topic(), kafka.topic(), config(kafka, registry_url)
    number = register(registry_url, f"{topic}-value", USER)
    lines = b'{"name":"a"}\n{"name":7}\n{"name":"b"}\n'
    options = ("produce", "--encode", "avro", "--schema", f"{topic}-value", "--trace", "none")
    stopped = kpipe(*options, topic, stdin=lines, config=settings)
    assert stopped.code == 3
    assert (
        "encode: stdin:2: the value does not fit its schema: .name: the number 7, where a string belongs" in stopped.err
    )
    dead = kpipe(*options, "--on-error", f"dlq:{letters}", topic, stdin=lines, config=settings)
    assert dead.code == 0, dead.err
    (letter,) = kafka.read(letters)
    assert letter.value == b'{"name":7}'
    skipped = kpipe(*options, "--on-error", "skip", topic, stdin=lines, config=settings)
    assert skipped.code == 1
    good = [framed(number, avro(USER, {"name": name})) for name in ("a", "b")]
    assert [r.value for r in kafka.read(topic)] == [good[0], *good, *good]


def test_a_guid_in_a_header_and_no_framing_at_all(kafka: Cluster, kpipe: Kpipe, fake_registry, tmp_path: Path) -> None:
    fake: FakeRegistry = fake_registry()
    topic, settings = kafka.topic(), config(kafka, fake.url)
    number = fake.add(f"{topic}-value", PROTO, "PROTOBUF")
    options = (
        "produce",
        "--encode",
        "protobuf",
        "--schema",
        f"{topic}-value",
        "--trace",
        "none",
        "--message",
        "shop.B",
    )
    lines = b'{"y":"z"}\n'
    assert kpipe(*options, "--framing", "header", topic, stdin=lines, config=settings) == Result(0, b"", "")
    assert kpipe(*options, "--framing", "none", topic, stdin=lines, config=settings) == Result(0, b"", "")
    header = ("__value_schema_id", b"\x01" + UUID(fake.guid(number)).bytes + b"\x02\x02")
    assert [(r.value, r.headers) for r in kafka.read(topic)] == [(b"\x0a\x01z", (header,)), (b"\x0a\x01z", ())]
    schema = tmp_path / "user.avsc"
    schema.write_text(json.dumps(USER))
    run = kpipe.at(kafka.bootstrap)
    refused = run("produce", "--encode", "avro", "--schema", str(schema), topic, stdin=b'{"name":"a"}\n')
    assert refused.code == 2
    assert "set schema.registry.url, or give --framing none" in refused.err
    plain = ("--encode", "avro", "--schema", str(schema), "--framing", "none", "--trace", "none")
    assert run("produce", *plain, topic, stdin=b'{"name":"a"}\n') == Result(0, b"", "")
    assert kafka.read(topic)[-1].value == avro(USER, {"name": "a"})


def test_a_json_schema_is_checked_and_the_text_stays(kafka: Cluster, kpipe: Kpipe, registry_url: str) -> None:
    topic, settings = kafka.topic(), config(kafka, registry_url)
    text = '{"type":"object","properties":{"a":{"type":"number"}},"required":["a"]}'
    number = register(registry_url, f"{topic}-value", text, "JSON")
    options = ("produce", "--encode", "json", "--schema", f"{topic}-value", "--trace", "none", "--on-error", "skip")
    result = kpipe(*options, topic, stdin=b'{"a": 1.10}\n{"a":"x"}\n', config=settings)
    assert result.code == 1
    assert '.a: "x" is not of type "number"' in result.err
    assert [r.value for r in kafka.read(topic)] == [framed(number, b'{"a": 1.10}')]


# Two registries


def two(kafka: Cluster, one: str, other: str) -> str:
    """Two names for one Kafka, each with a registry of its own."""
    return "\n".join([
        'default = "a"', "[clusters.a]", f'"bootstrap.servers" = "{kafka.bootstrap}"', f'"schema.registry.url" = "{one}"',
        "[clusters.b]", f'"bootstrap.servers" = "{kafka.bootstrap}"', f'"schema.registry.url" = "{other}"',
    ]) + "\n"  # fmt: skip


def test_ids_are_translated_with_references_and_history(
    kafka: Cluster, kpipe: Kpipe, apicurio: Apicurio, fake_registry
) -> None:
    """From the real registry to the fake and back: the data stay, the ids are those of the other side."""
    fake: FakeRegistry = fake_registry(first_id=900)
    source, target, home = kafka.topic(4), kafka.topic(4), kafka.topic(4)
    old = {"type": "record", "name": "Line", "namespace": source.replace("-", "_"), "fields": []}
    with closing(Registry([apicurio.url])) as client:
        line = f"{source}.Line"
        client.register(line, SchemaText("AVRO", json.dumps(old)))
        price = {"name": "price", "type": "int", "default": 0}
        client.register(line, SchemaText("AVRO", json.dumps({**old, "fields": [price]})))
        name = f"{old['namespace']}.Line"
        values = [
            {"type": "record", "name": "Order", "namespace": old["namespace"], "fields": fields}
            for fields in ([{"name": "line", "type": name}],
                           [{"name": "line", "type": name}, {"name": "n", "type": "int", "default": 0}])
        ]  # fmt: skip
        reference = (SchemaReference(name, line, 2),)
        ids = [
            client.register(f"{source}-value", SchemaText("AVRO", json.dumps(each), reference)).id for each in values
        ]
    key_id = register(apicurio.url, f"{source}-key", USER)
    records = [
        Rec(framed(ids[1], bytes([2 * n, 2])), framed(key_id, avro(USER, {"name": f"u{n}"})), (("h", b"1"),))
        for n in range(20)
    ]
    records += [Rec(None, framed(key_id, avro(USER, {"name": "u3"}))), Rec(b"text", b"plain"), Rec(b"", None)]
    kafka.write(source, records)
    settings = two(kafka, apicurio.url, fake.url)
    run = ("forward", "-e", "--translate-schemas")
    done = kpipe(*run, "register", f"a:{source}", f"b:{target}", config=settings)
    assert done.code == 0, done.err
    assert "name no schema and passed as they are" in done.err
    assert [len(fake.subjects[each]) for each in (line, f"{target}-value", f"{target}-key")] == [2, 2, 1]
    new_value, new_key = fake.subjects[f"{target}-value"][1], fake.subjects[f"{target}-key"][0]
    assert fake.schemas[new_value]["references"] == [{"name": name, "subject": line, "version": 2}]

    def of(topic: str) -> dict[tuple[int, bytes | None], list[bytes | None]]:
        found: dict[tuple[int, bytes | None], list[bytes | None]] = {}
        for record in kafka.read(topic):
            key = record.key and (b"-" + record.key[5:] if record.key[:1] == b"\0" else record.key)
            value = record.value and (record.value[5:] if record.value[:1] == b"\0" else record.value)
            found.setdefault((record.partition if record.key else -1, key), []).append(value)
        return found

    assert of(target) == of(source)  # also the partitions, though the bytes of the keys are others
    assert {r.value[:5] for r in kafka.read(target) if r.value and r.value[:1] == b"\0"} == {framed(new_value, b"")}
    assert {r.key[:5] for r in kafka.read(target) if r.key and r.key[:1] == b"\0"} == {framed(new_key, b"")}
    verdict = kpipe("verify", f"a:{source}", f"b:{target}", config=settings)
    assert verdict.code == 5
    assert kpipe("verify", "--translated-schemas", f"a:{source}", f"b:{target}", config=settings).code == 0
    back = kpipe(*run, "lookup", f"b:{target}", f"a:{home}", config=settings)
    assert back.code == 3
    assert "does not have as" in back.err
    asked = len(fake.asked)
    again = kpipe(*run, "lookup", "--trace", "none", f"a:{source}", f"b:{target}", config=settings)
    assert again.code == 0, again.err
    assert not any(each.startswith("POST") and each.endswith("/versions") for each in fake.asked[asked:])


def test_an_unknown_id_is_never_passed_on(kafka: Cluster, kpipe: Kpipe, fake_registry) -> None:
    one, other = fake_registry(), fake_registry(first_id=50)
    source, target, letters = kafka.topic(), kafka.topic(), kafka.topic()
    number = one.add(f"{source}-value", USER if isinstance(USER, str) else json.dumps(USER))
    good = avro(USER, {"name": "a"})
    bad = [framed(77, good), b"\0\0\0\0\0" + number.to_bytes(4, "big") + good]
    kafka.write(source, [framed(number, good), *bad, framed(number, good)])
    settings = two(kafka, one.url, other.url)
    run = ("forward", "-e", "--translate-schemas", "register", "--trace", "none")
    stopped = kpipe(*run, f"a:{source}", f"b:{target}", config=settings)
    assert stopped.code == 3
    assert "names a schema that its registry does not have (Confluent, id 77" in stopped.err
    dead = kpipe(*run, "--on-error", f"dlq:a:{letters}", f"a:{source}", f"b:{target}", config=settings)
    assert dead.code == 0, dead.err
    assert [r.value for r in kafka.read(letters)] == bad
    assert [r.value for r in kafka.read(target)] == [framed(50, good)] * 3


def test_a_guid_in_a_header_is_brought_over_and_stays(kafka: Cluster, kpipe: Kpipe, fake_registry) -> None:
    one, other = fake_registry(), fake_registry(first_id=50)
    source, target = kafka.topic(), kafka.topic()
    number = one.add(f"{source}-value", PROTO, "PROTOBUF")
    headers = (("x", b"y"), ("__value_schema_id", b"\x01" + UUID(one.guid(number)).bytes + b"\x02\x02"))
    by_id = (("__value_schema_id", b"\0" + number.to_bytes(4, "big") + b"\x02\x02"), ("x", None))
    kafka.write(source, [Rec(b"\x0a\x01z", None, headers), Rec(b"\x0a\x01z", None, by_id)])
    run = ("forward", "-e", "--translate-schemas", "register", "--trace", "none")
    assert kpipe(*run, f"a:{source}", f"b:{target}", config=two(kafka, one.url, other.url)).code == 0
    assert other.subjects == {f"{target}-value": [50]}
    new = (("__value_schema_id", b"\0\0\0\0\x32\x02\x02"), ("x", None))
    assert [(r.value, r.headers) for r in kafka.read(target)] == [(b"\x0a\x01z", headers), (b"\x0a\x01z", new)]


def test_keys_apart_and_a_refusal_with_the_words_of_the_registry(
    kafka: Cluster, kpipe: Kpipe, apicurio: Apicurio, fake_registry
) -> None:
    fake: FakeRegistry = fake_registry(first_id=5000)
    source, target = kafka.topic(), kafka.topic()
    number = fake.add(f"{source}-value", json.dumps(USER))
    key = framed(123, b"unknown")
    kafka.write(source, [Rec(framed(number, avro(USER, {"name": "a"})), key)])
    settings = two(kafka, fake.url, apicurio.url)
    run = ("forward", "-e", "--translate-schemas", "register", "--translate-key-schemas", "none", "--trace", "none")
    done = kpipe(*run, f"a:{source}", f"b:{target}", config=settings)
    assert done.code == 0, done.err
    assert [r.key for r in kafka.read(target)] == [key]
    fake.refuses = ["reader field 'x' has no default"]
    register(apicurio.url, f"{target}-value", {**USER, "doc": "another"})
    other = kafka.topic()
    back = kpipe(*run, f"b:{target}", f"a:{other}", config=settings)
    assert back.code == 1
    assert "the schema registry refuses the schema" in back.err
    assert "reader field 'x' has no default" in back.err
    assert kafka.read(other) == []


def test_without_translation_two_registries_are_told_once(kafka: Cluster, kpipe: Kpipe, fake_registry) -> None:
    one, other = fake_registry(), fake_registry()
    source, target = kafka.topic(), kafka.topic()
    records = [framed(7, b"x"), framed(7, b"y")]
    kafka.write(source, records)
    done = kpipe("forward", "-e", f"a:{source}", f"b:{target}", config=two(kafka, one.url, other.url))
    assert done.code == 0
    assert done.err.count("see --translate-schemas") == 1
    assert [r.value for r in kafka.read(target)] == records
    same = kpipe("forward", "-e", f"a:{source}", f"b:{target}", config=two(kafka, one.url, one.url))
    assert (same.code, same.err) == (0, "")


def test_what_translation_cannot_do_is_a_usage_error(kafka: Cluster, kpipe: Kpipe, fake_registry) -> None:
    one = fake_registry()
    topic = kafka.topic()
    settings = two(kafka, one.url, one.url)
    run = ("forward", "-e", "--translate-schemas", "register")
    for more, told in (
        ((), "one registry serves both clusters"),
        (("--also", "a:x"), "--also"),
        (("--partitioner", "fnv1a"), "kpipe cannot tell it for this hash"),
    ):
        result = kpipe(*run, *more, f"a:{topic}", "b:other", config=settings)
        assert (result.code, told in result.err) == (2, True), result.err
    result = kpipe.at(kafka.bootstrap)(*run, topic, kafka.topic())
    assert (result.code, "names no registry; set schema.registry.url" in result.err) == (2, True)


# `kpipe schema`


def test_list_show_diff_and_register(kafka: Cluster, kpipe: Kpipe, registry_url: str, tmp_path: Path) -> None:
    settings, name = config(kafka, registry_url), kafka.topic()

    def run(*words: str) -> Result:
        return kpipe("schema", *words, config=settings)

    one, two, ref = tmp_path / "a.avsc", tmp_path / "b.avsc", tmp_path / "c.avsc"
    one.write_text(json.dumps(USER))
    two.write_text(json.dumps({**USER, "fields": [*USER["fields"], {"name": "n", "type": "int", "default": 0}]}))
    ref.write_text(json.dumps({"type": "record", "name": "Holder", "fields": [{"name": "user", "type": "User"}]}))
    assert run("register", f"{name}-value", str(one)).out.startswith(f"{name}-value: version 1, id ".encode())
    assert run("register", f"{name}-value", str(one)).out.endswith(b", which was there\n")
    assert json.loads(run("register", "-J", f"{name}-value", str(two)).out)["schema_version"] == 2
    referring = run("register", f"{name}-holder", str(ref), "--reference", f"User={name}-value:1")
    assert referring.code == 0, referring.err
    listed = run("list", f"{name}*").out.decode().split()
    assert [each for each in listed if each.startswith(name)] == [f"{name}-holder", f"{name}-value"]
    rows = [json.loads(line) for line in run("list", "-J", f"{name}*").out.splitlines()]
    assert [(row["subject"], row["versions"], row["format"]) for row in rows] == [
        (f"{name}-holder", [1], "avro"),
        (f"{name}-value", [1, 2], "avro"),
    ]
    number = rows[1]["id"]
    assert json.loads(run("show", f"{name}-value:1").out) == USER
    assert run("show", f"id:{number}").out == run("show", f"{name}-value").out
    assert json.loads(run("show", f"{name}-holder").out)["fields"] == [{"name": "user", "type": USER}]
    assert json.loads(json.loads(run("show", "-J", f"{name}-holder").out)["texts"]["User"]) == USER
    assert run("diff", f"{name}-value:1", str(one)) == Result(0, b"", "")
    differing = run("diff", f"a:{name}-value:1", f"a:{name}-value")
    assert differing.code == 5
    assert b'+      "name": "n",' in differing.out
    for words, code, told in (
        (("show", f"{name}-none"), 1, "has none"),
        (("show", f"{name}-value:9"), 1, "has none"),
        (("list", "no-such-*"), 2, "no subject matches"),
        (("register", name, str(tmp_path / "none.avsc")), 2, "check the path"),
        (("register", name, str(ref)), 1, "refuses") if "apis" in registry_url else (("show", "id:x"), 2, "write id:N"),
    ):
        result = run(*words)
        assert (result.code, told in result.err) == (code, True), result
    guarded = config(kafka, registry_url).replace("[clusters.a]", "[clusters.a]\nread_only = true")
    refused = kpipe("schema", "register", name, str(one), config=guarded)
    assert (refused.code, "read_only" in refused.err) == (2, True)
    none = kpipe.at(kafka.bootstrap)("schema", "list")
    assert (none.code, "names no schema registry" in none.err) == (2, True)


def test_check_asks_the_registry_and_reads_records_through_the_new_schema(
    kafka: Cluster, kpipe: Kpipe, apicurio: Apicurio, tmp_path: Path
) -> None:
    topic, settings = kafka.topic(2), config(kafka, apicurio.url)
    kind = {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}
    old = {
        "type": "record",
        "name": "R",
        "fields": [
            {"name": "x", "type": "int"},
            {"name": "gone", "type": "string"},
            {"name": "kind", "type": kind},
            {"name": "maybe", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}]},
        ],
    }
    number = register(apicurio.url, f"{topic}-value", old)
    values = [{"x": n, "gone": "g", "kind": "A", "maybe": None} for n in range(5)]
    values[3] |= {"kind": "B", "maybe": 5}
    plain = json.loads(json.dumps(old).replace(', "logicalType": "timestamp-millis"', ""))
    kafka.write(topic, [*(framed(number, avro(plain, each)) for each in values), b"text", Rec(None)])
    good, narrow = tmp_path / "good.avsc", tmp_path / "narrow.avsc"
    fields = [
        {"name": "x", "type": "long"},
        {"name": "kind", "type": kind},
        {"name": "maybe", "type": ["null", "long"]},
        {"name": "new", "type": "string", "default": ""},
    ]
    good.write_text(json.dumps({**old, "fields": fields}))
    narrow.write_text(json.dumps({**old, "fields": [fields[0], {"name": "kind", "type": {**kind, "symbols": ["A"]}}]}))
    subject = f"{topic}-value"
    fine = kpipe("schema", "check", subject, str(good), config=settings)
    assert (fine.code, fine.err) == (0, "")
    assert f"{topic}: 7 records read; 0 cannot be read with it" in fine.out.decode()
    assert "1 name no schema and were not judged" in fine.out.decode()
    bad = kpipe("schema", "check", "-J", subject, str(narrow), config=settings)
    found = json.loads(bad.out)
    assert (bad.code, found["records"]["misfits"], found["records"]["read"]) == (5, 1, 7)
    assert "'B' is no symbol of Kind" in found["records"]["examples"][0][1]
    last = kpipe("schema", "check", "-J", "--records", "2", subject, str(narrow), config=settings)
    assert json.loads(last.out)["records"]["read"] == 2
    key = tmp_path / "key.avsc"
    key.write_text('"string"')
    absent = kpipe("schema", "check", "-J", f"{topic}-key", str(key), config=settings)
    assert (absent.code, json.loads(absent.out)["records"]["unframed"]) == (0, 0)


def test_check_prints_the_words_of_the_registry(kafka: Cluster, kpipe: Kpipe, fake_registry, tmp_path: Path) -> None:
    fake: FakeRegistry = fake_registry()
    fake.add("t-value", json.dumps(USER))
    fake.refuses = ["READER_FIELD_MISSING_DEFAULT_VALUE: x"]
    file = tmp_path / "a.avsc"
    file.write_text(json.dumps({**USER, "doc": "x"}))
    result = kpipe("schema", "check", "--records", "0", "t-value", str(file), config=config(kafka, fake.url))
    assert result.code == 5
    assert result.out.decode() == "t-value: not compatible (BACKWARD)\n  READER_FIELD_MISSING_DEFAULT_VALUE: x\n"
    refused = kpipe("schema", "register", "t-value", str(file), config=config(kafka, fake.url))
    assert (refused.code, "READER_FIELD_MISSING_DEFAULT_VALUE" in refused.err) == (1, True)


def test_tail_and_find_decode_as_consume_does(kafka: Cluster, kpipe: Kpipe, apicurio: Apicurio) -> None:
    topic, settings = kafka.topic(), config(kafka, apicurio.url)
    number = register(apicurio.url, f"{topic}-value", USER)
    key_id = register(apicurio.url, f"{topic}-key", USER)
    key = framed(key_id, avro(USER, {"name": "k"}))
    records = [Rec(framed(number, avro(USER, {"name": name})), key) for name in ("a", "b", "c")]
    kafka.write(topic, [*records, Rec(b"text", b"plain")])
    tail = kpipe("tail", "--no-follow", "-J", "--decode", "auto", topic, config=settings)
    assert (tail.code, tail.err) == (0, "")
    rows = [json.loads(line) for line in tail.out.splitlines()]
    assert [row["value"] for row in rows] == [{"name": "a"}, {"name": "b"}, {"name": "c"}, "text"]
    assert [row["key"] for row in rows] == [{"name": "k"}] * 3 + ["plain"]
    assert rows[0]["value_schema"]["id"] == number
    shown = kpipe("tail", "--no-follow", "--decode", "auto", topic, config=settings)
    assert (shown.code, b'{"name":"b"}' in shown.out) == (0, True)
    found = kpipe("find", "-J", "-q", "--decode", "auto", "--where", '.name == "b"', topic, config=settings)
    assert found.code == 0, found.err
    assert [json.loads(line)["value"] for line in found.out.splitlines()] == [{"name": "b"}]
    kafka.write(topic, [framed(number, b"\x05")])
    broken = kpipe("find", "-J", "-q", "--decode", "auto", topic, f"0@{len(records) + 1}", config=settings)
    assert (broken.code, "decode_error" in json.loads(broken.out)) == (1, True)
    assert "shown as it is" in broken.err


# A registry that is away, or does not let us in


def test_a_registry_that_is_away_is_waited_for_and_a_signal_is_answered(
    kafka: Cluster, kpipe: Kpipe, fake_registry
) -> None:
    fake: FakeRegistry = fake_registry()
    topic = kafka.topic()
    number = fake.add(f"{topic}-value", json.dumps(USER))
    kafka.write(topic, [framed(number, avro(USER, {"name": "a"}))])
    fake.fails = [503] * 8
    settings = config(kafka, fake.url)
    running = kpipe.start("consume", "-G", topic, "-o", "beginning", "--decode", "auto", topic, config=settings)
    running.wait_for_stderr("the schema registry does not answer (it answers 503")
    running.wait_for_stdout(b'{"name":"a"}')
    running.signal(signal.SIGTERM)
    assert running.wait().code == -signal.SIGTERM
    assert kafka.committed(topic, topic) == {0: 1}
    fake.fails = [503] * 10_000
    waiting = kpipe.start("consume", "--no-schema-cache", "--decode", "auto", "-o", "beginning", topic, config=settings)
    waiting.wait_for_stderr("the schema registry does not answer")
    waiting.signal(signal.SIGINT)
    ended = waiting.wait(15)
    assert (ended.code != 0, ended.out) == (True, b"")


def test_a_member_of_a_group_that_waits_for_a_registry_stays_in_it_and_loses_nothing(
    kafka: Cluster, kpipe: Kpipe, fake_registry
) -> None:
    """Away for longer than the session and the poll interval last: the member that waits is the one that goes on."""
    fake: FakeRegistry = fake_registry()
    source, target = kafka.topic(), kafka.topic()
    number = fake.add(f"{source}-value", json.dumps(USER))
    kafka.write(source, [framed(number, avro(USER, {"name": f"u{n}"})) for n in range(50)])
    group, settings = f"g-{source}", config(kafka, fake.url)
    fake.fails = [503] * 10_000
    times = ("-X", "source.max.poll.interval.ms=1500", "-X", "source.session.timeout.ms=1500")
    running = kpipe.start(
        "forward", "-G", group, "--group-protocol", "classic", *times, "-X", "source.heartbeat.interval.ms=300", "-e",
        "--decode", "auto", "--filter", '.name != "u7"', "--no-schema-cache", source, target, config=settings,
    )  # fmt: skip
    running.wait_for_stderr("the schema registry does not answer (it answers 503")
    (member,) = members(kafka, group)
    asked = len(fake.asked)
    # Its questions come at double distances, so the fourth from here is past both limits.
    running.wait_for(lambda: len(fake.asked) >= asked + 4, timeout=60, what="it asks on")
    assert members(kafka, group) == [member]
    fake.fails = []
    ended = running.wait(30)
    assert (ended.code, ended.err.count("does not answer")) == (0, 1), ended
    assert kafka.committed(group, source) == {0: 50}
    assert len(kafka.read(target)) == 49


def test_a_registry_that_refuses_the_login_ends_the_run_and_shows_no_secret(
    kafka: Cluster, kpipe: Kpipe, fake_registry
) -> None:
    fake: FakeRegistry = fake_registry(user="me:right")
    topic = kafka.topic()
    kafka.write(topic, [framed(1, b"x")])
    settings = config(kafka, fake.url)
    settings += 'registry_password_command = ["echo", "hunter2"]\n'
    settings += '"schema.registry.username" = "me"\n'
    for command in (
        ("consume", "-e", "--decode", "auto", topic),
        ("tail", "--no-follow", "--decode", "auto", topic),
        ("produce", "--encode", "avro", "--schema", "s", topic),
        ("schema", "list"),
        ("check",),
    ):
        result = kpipe(*command, stdin=b"{}\n", config=settings)
        assert result.code == 4, (command, result)
        assert "refuses the login (401" in result.err + result.out.decode()
        assert "hunter2" not in result.err + result.out.decode()


def test_check_asks_the_registry(kafka: Cluster, kpipe: Kpipe, fake_registry) -> None:
    fake: FakeRegistry = fake_registry()
    fake.add("a", '"int"')
    fine = kpipe("check", config=config(kafka, fake.url))
    assert (fine.code, f"registry: {fake.url} answers, with 1 subject" in fine.out.decode()) == (0, True)
    away = kpipe("check", config=config(kafka, "http://127.0.0.1:1"))
    assert (away.code, "the schema registry does not answer: connection refused" in away.out.decode()) == (4, True)


def test_auto_tells_once_of_an_id_that_the_registry_does_not_have(kafka: Cluster, kpipe: Kpipe, fake_registry) -> None:
    topic, settings = kafka.topic(), config(kafka, fake_registry().url)
    kafka.write(topic, [framed(5, b"x"), framed(6, b"y")])
    result = kpipe("consume", "-e", "-J", "--decode", "auto", topic, config=settings)
    assert result.code == 0
    assert result.err.count("names a schema (Confluent, id 5)") == 1
    assert [json.loads(line)["value"] for line in result.out.splitlines()] == ["\0\0\0\0\x05x", "\0\0\0\0\x06y"]
