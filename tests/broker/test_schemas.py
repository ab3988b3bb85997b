"""Schemas on a real Kafka: with a real registry (Apicurio), and with a fake one for what no real one can be made to do.

What is read and written is compared with fastavro and with bytes put together here, never with kpipe itself.
"""

from __future__ import annotations

import io
import json
from contextlib import closing
from typing import TYPE_CHECKING
from uuid import UUID

import fastavro
import pytest

from kpipe.codecs.registry import Registry, SchemaText
from tests.broker.lab.apicurio import Apicurio
from tests.broker.lab.cluster import Rec
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
