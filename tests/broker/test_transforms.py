"""The first transforms through all three commands: one stage, the same answer wherever it runs."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.broker.lab.cluster import Rec
from tests.conftest import Result

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe

    Shape = tuple[bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]
    Through = Callable[[str, tuple[str, ...], list[Rec]], list[Shape]]

BASE_MS = 1_700_000_000_000
RECORDS = [
    Rec(
        b'{"id":7,"user":{"name":"\xc3\xa9va"},"tags":["a"]}',
        b"old",
        (("type", b"order"), ("x-1", b"1"), ("x-2", None)),
        BASE_MS,
    ),
    Rec(b'{"id":"s","user":{"name":"bo"}}', None, (("type", b"test"), ("type", b"order")), BASE_MS),
]


def envelope(record: Rec) -> bytes:
    """The record as JSON; all of these hold text only."""
    fields = {
        "key": record.key and record.key.decode(), "value": (record.value or b"").decode(), "timestamp": record.timestamp,
        "headers": [(name, value and value.decode()) for name, value in record.headers],
    }  # fmt: skip
    return json.dumps(fields).encode()


@pytest.fixture
def through(kafka: Cluster, kpipe: Kpipe) -> Through:
    """Take records through one of the commands; give key, value and headers of what came out."""
    run = kpipe.at(kafka.bootstrap)

    def shapes(envelopes: bytes) -> list[Shape]:
        return [
            (_text(each["key"]), _text(each["value"]), tuple((name, _text(value)) for name, value in each["headers"]))
            for each in map(json.loads, envelopes.splitlines())
        ]

    def take(command: str, options: tuple[str, ...], records: list[Rec]) -> list[Shape]:
        source, target = kafka.topic(retention_ms=-1), kafka.topic(retention_ms=-1)
        if command != "produce":
            kafka.write(source, records)
        if command == "consume":
            result = run("consume", "-J", "-e", *options, source)
            assert (result.code, result.err) == (0, "")
            return shapes(result.out)
        if command == "forward":
            assert run("forward", "-e", "--trace", "none", *options, source, target) == Result(0, b"", "")
        else:
            dump = b"\n".join(map(envelope, records))
            assert run("produce", "--input", "json", "--trace", "none", *options, target, stdin=dump) == Result(
                0, b"", ""
            )
        return [(r.key, r.value, r.headers) for r in kafka.read(target)]

    return take


def _text(entry: str | None) -> bytes | None:
    return None if entry is None else entry.encode()


def keys(shapes: list[Shape]) -> list[bytes | None]:
    return [shape[0] for shape in shapes]


@pytest.mark.parametrize("command", ["produce", "consume", "forward"])
def test_the_transforms_do_the_same_everywhere(through: Through, command: str) -> None:
    first, second = RECORDS
    options = (
        "--set-header", "who={json[.user.name]}/{key}/{timestamp}", "--set-key", "{header[type]}-{json[.id]}",
        "--drop-header", "x-*", "--rename-header", "type=kind", "--grep-not", "key:^never",
    )  # fmt: skip
    second = Rec(second.value, b"k2", second.headers, second.timestamp)  # {key} of a null key would be a bad record
    shapes = through(command, options, [first, second])

    assert shapes == [
        (b"order-7", first.value, (("kind", b"order"), ("who", "éva/old/1700000000000".encode()))),
        (b"order-s", second.value, (("kind", b"test"), ("kind", b"order"), ("who", b"bo/k2/1700000000000"))),
    ]


@pytest.mark.parametrize(
    ("command", "options", "expected"),
    [
        ("produce", ("--key-field", ".id"), [b"7", b"s"]),
        ("consume", ("--key-field", ".user.name"), ["éva".encode(), b"bo"]),
        ("forward", ("--drop-key",), [None, None]),
        ("produce", ("--grep", '"id":7'), [b"old"]),
        ("consume", ("--grep-not", '"id":7'), [None]),
        ("forward", ("--grep", "key:^o"), [b"old"]),
        ("produce", ("--grep", "header[type]:^test$"), [None]),
        ("consume", ("--key-field", ".id", "--grep", "key:s"), [b"s"]),
        ("forward", ("--grep", "key:s", "--key-field", ".id"), []),
    ],
)
def test_keys_and_filters(
    through: Through, command: str, options: tuple[str, ...], expected: list[bytes | None]
) -> None:
    assert keys(through(command, options, RECORDS)) == expected


@pytest.mark.parametrize("command", ["produce", "consume", "forward"])
def test_a_missing_field_is_a_bad_record_with_its_position(kafka: Cluster, kpipe: Kpipe, command: str) -> None:
    source, target = kafka.topic(), kafka.topic()
    values = [b'{"id":1}', b"not json", b'{"id":3}']
    kafka.write(source, values)
    run = kpipe.at(kafka.bootstrap)
    words = {
        "produce": ("produce", target),
        "consume": ("consume", "-e", source),
        "forward": ("forward", "-e", source, target),
    }[command]
    (kpipe.home / "input").write_bytes(b"\n".join(values))
    files = ("input",) if command == "produce" else ()
    where = "input:2" if command == "produce" else f"{source}[0]@1"

    stopped = run(*words, *files, "--set-key", "{json[.id]}")
    skipped = run(*words, *files, "--set-key", "{json[.id]}", "--on-error", "skip")

    assert (stopped.code, skipped.code) == (3, 1)
    assert f"transform: {where}: " in stopped.err
    assert f"{where}: " in skipped.err
    assert f"3 read, 2 {'written' if command == 'consume' else 'delivered'}, 1 failed" in skipped.err
    if command == "consume":
        assert (stopped.out, skipped.out) == (b'{"id":1}\n', b'{"id":1}\n{"id":3}\n')
    else:
        assert [r.key for r in kafka.read(target)] == [b"1", b"1", b"3"]


def test_templates_see_where_a_record_came_from(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target = kafka.topic(2), kafka.topic()
    kafka.write(source, [Rec(b"a", partition=1), Rec(b"b", partition=1)])

    result = kpipe.at(kafka.bootstrap)(
        "forward", "-e", "--set-key", "{topic}/{partition}@{offset}={value} {{}}", source, target
    )

    assert result == Result(0, b"", "")
    assert [r.key for r in kafka.read(target)] == [f"{source}/1@{n}={v} {{}}".encode() for n, v in enumerate("ab")]


def test_trace_headers_stand_after_the_transforms(kafka: Cluster, kpipe: Kpipe) -> None:
    """What a transform drops is what was there before: this hop's own trace is not lost to `--drop-header '*'`."""
    source, target, name = kafka.topic(), kafka.topic(), f"g-{uuid.uuid4().hex[:8]}"
    kafka.write(source, [Rec(b"a", headers=(("h", b"1"),))])

    assert kpipe.at(kafka.bootstrap)("forward", "-e", "-G", name, "--drop-header", "*", source, target) == Result(
        0, b"", ""
    )

    (record,) = kafka.read(target)
    assert "h" not in dict(record.headers)
    assert dict(record.headers)["source_offset"] == b"0"
