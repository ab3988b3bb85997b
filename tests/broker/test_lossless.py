"""`consume -J A | produce --input json B`: whatever a broker can hold goes through the pipe unchanged."""

from __future__ import annotations

import random
import subprocess
from typing import TYPE_CHECKING

import pytest

from kpipe.formats.header_names import name_of
from tests.broker.lab.cluster import Rec
from tests.conftest import COMMAND

if TYPE_CHECKING:
    from pathlib import Path

    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe

BASE_MS = 1_700_000_000_000
ANY_TIME = {"retention_ms": -1, "message_timestamp_after_max_ms": 2**63 - 1}
TRACE = ("source_", "origin_", "trace_hops")
NAMES = (
    "h",
    "h",
    "",
    "ü",
    "content-type",
    "with space",
    'quote"',
    "new\nline",
    "🦀",
    name_of(b"caf\xe9"),
    name_of(b"\xff\xed\xa0\x80"),
)  # no NUL: the client cuts a name there, in both directions
BYTES = (
    None, b"", b"\0", b"\n", b"\r\n", b'"', b"\\", b"null", b"-1", b"{}", b'{"a": 1.0}', b"\xff", b"\xc3\x28", b"\xed\xa0\x80",
    "é".encode(), "\u2028\ufeff\ufffd🦀".encode(), bytes(range(256)), b"\x7f\x80", b"a" * 70_000,
)  # fmt: skip


def any_bytes(rng: random.Random) -> bytes | None:
    return rng.choice(BYTES) if rng.random() < 0.7 else rng.randbytes(rng.randrange(40))


def any_record(rng: random.Random, partitions: int) -> Rec:
    headers = tuple((rng.choice(NAMES), any_bytes(rng)) for _ in range(rng.choice((0, 0, 1, 2, 5))))
    stamp = rng.choice((1, BASE_MS, BASE_MS + rng.randrange(10**9), 253402300799999))
    return Rec(any_bytes(rng), any_bytes(rng), headers, stamp, partition=rng.randrange(partitions))


def pipe(kpipe: Kpipe, source: tuple[str, ...], target: tuple[str, ...]) -> tuple[int, int, bytes, bytes]:
    """Run both ends as a shell would; exit codes and stderr of both."""
    environment = kpipe.environment()
    reader = subprocess.Popen(
        [COMMAND, "consume", *source],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    writer = subprocess.Popen(
        [COMMAND, "produce", *target], stdin=reader.stdout, stderr=subprocess.PIPE, env=environment
    )
    assert reader.stdout is not None
    reader.stdout.close()
    try:
        _, written = writer.communicate(timeout=60)
        _, read = reader.communicate(timeout=60)
    finally:
        for process in (reader, writer):
            process.kill()
            process.wait(10)
    return reader.returncode, writer.returncode, read, written


def own(record: Rec) -> tuple[object, ...]:
    headers = tuple(header for header in record.headers if not header[0].startswith(TRACE))
    return (record.partition, record.value, record.key, headers, record.timestamp)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("form", ["json", "binary"])
def test_every_record_goes_through_the_pipe_unchanged(
    kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, form: str, seed: int
) -> None:
    rng = random.Random(seed)
    source, target = kafka.topic(3, **ANY_TIME), kafka_b.topic(3, **ANY_TIME)
    records = [any_record(rng, 3) for _ in range(400)]
    records.append(Rec(rng.randbytes(900_000), b"large and binary", (), BASE_MS, partition=0))
    records.append(Rec(b'\\"\n' * 300_000, b"large and escaped", (), BASE_MS, partition=1))
    written = kafka.write(source, records)

    ends = pipe(
        kpipe,
        ("-b", kafka.bootstrap, "--output", form, "-e", source),
        ("-b", kafka_b.bootstrap, "--input", form, "-p", "same", target),
    )

    assert ends == (0, 0, b"", b"")
    arrived = kafka_b.read(target)
    assert [own(r) for r in arrived] == [own(r) for r in sorted(written, key=lambda r: (r.partition, r.offset))]
    for offset_in_partition, record in enumerate(r for r in arrived if r.partition == 2):
        trace = {name: value for name, value in record.headers if name.startswith(TRACE)}
        assert trace == {
            "source_topic": source.encode(), "source_partition": b"2", "source_offset": b"%d" % offset_in_partition,
        }  # fmt: skip


def test_a_second_trip_keeps_the_origin(kafka: Cluster, kpipe: Kpipe) -> None:
    topics = [kafka.topic(retention_ms=-1) for _ in range(3)]
    kafka.write(topics[0], [Rec(b"skipped"), Rec(b"\xff", None, (("mine", None),), BASE_MS)])

    for source, target, start in ((topics[0], topics[1], "1"), (topics[1], topics[2], "0")):
        ends = pipe(
            kpipe,
            ("-b", kafka.bootstrap, "-J", "-e", "-o", start, source),
            ("-b", kafka.bootstrap, "--input", "json", target),
        )
        assert ends == (0, 0, b"", b"")

    (record,) = kafka.read(topics[2])
    headers = dict(record.headers)
    assert (record.value, record.key, record.headers[0]) == (b"\xff", None, ("mine", None))
    assert (headers["source_topic"], headers["source_offset"]) == (topics[1].encode(), b"0")
    assert (headers["origin_topic"], headers["origin_offset"]) == (topics[0].encode(), b"1")
    assert headers["trace_hops"] == b"2"


def test_binary_files_of_0_1_and_appended_ones_are_read(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    source, target, stored = kafka.topic(), kafka.topic(), tmp_path / "stored"
    kafka.write(source, [Rec(b"new", None, (("h", b"v"),), BASE_MS)])
    stored.write_bytes(b"\0\0\0\1k\0\0\0\3old" + b"\xff\xff\xff\xff" * 2)
    for _ in range(2):
        with stored.open("ab") as file:
            file.write(kpipe.at(kafka.bootstrap)("consume", "-e", "--output", "binary", source).out)

    done = kpipe.at(kafka.bootstrap)("produce", "--input", "binary", "--trace", "none", target, stored)

    assert (done.code, done.err) == (0, "")
    new = (None, b"new", (("h", b"v"),))
    assert [(r.key, r.value, r.headers) for r in kafka.read(target)] == [(b"k", b"old", ()), (None, None, ()), new, new]
