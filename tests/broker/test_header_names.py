"""A header whose name is not UTF-8, as clients in C, PHP or Go write it: it goes every way byte for byte.

kcat writes such names and shows them raw, so neither end of these tests is kpipe's own.
"""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from typing import TYPE_CHECKING

import pytest

from kpipe.formats.header_names import bytes_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe

NAME = b"caf\xe9"
BASE64 = {"base64": "Y2Fm6Q=="}


def run_kcat(cluster: Cluster, *args: str | bytes, stdin: bytes = b"") -> bytes:
    command = [os.fsencode(part) for part in ("kcat", "-q", "-b", cluster.bootstrap, *args)]
    return subprocess.run(command, input=stdin, check=True, capture_output=True, timeout=60).stdout


def odd_topic(kafka: Cluster) -> str:
    """`before`, then `odd` with the header, then `after`."""
    topic = kafka.topic()
    run_kcat(kafka, "-P", "-t", topic, stdin=b"before")
    run_kcat(kafka, "-P", "-t", topic, "-H", b"a=1", "-H", NAME + b"=x", "-H", b"z=2", stdin=b"odd")
    run_kcat(kafka, "-P", "-t", topic, stdin=b"after")
    return topic


def names(kafka: Cluster, topic: str) -> list[list[bytes]]:
    """The names of each record's headers without the trace, as kcat shows them."""
    shown = run_kcat(kafka, "-C", "-e", "-t", topic, "-f", "%h\\n").splitlines()
    own = [[header.partition(b"=")[0] for header in each.split(b",") if header] for each in shown]
    return [
        [name for name in each if not name.startswith((b"source_", b"origin_", b"trace_", b"error_"))] for each in own
    ]


ODD = [[], [b"a", NAME, b"z"], []]


@pytest.mark.parametrize("form", [(), ("-J",), ("-f", "%h|%s\\n"), ("--output", "binary"), ("-0",)])
@pytest.mark.parametrize("group", [False, True])
def test_every_format_of_consume_prints_the_record_and_its_neighbours(
    kafka: Cluster, kpipe: Kpipe, form: tuple[str, ...], group: bool
) -> None:
    topic = odd_topic(kafka)
    who = ("-G", f"odd-{uuid.uuid4()}") if group else ()

    run = kpipe.at(kafka.bootstrap)("consume", "-e", *who, *form, topic)

    assert (run.code, run.err) == (0, "")
    assert [value in run.out for value in (b"before", b"odd", b"after")] == [True] * 3
    if form == ("-J",):
        assert json.loads(run.out.splitlines()[1])["headers"] == [["a", "1"], [BASE64, "x"], ["z", "2"]]
    if "%h|%s\\n" in form:
        assert b"a=1," + NAME + b"=x,z=2|odd\n" in run.out


@pytest.mark.parametrize(
    "way",
    [
        (),
        ("-G", "GROUP"),
        ("-G", "GROUP", "--exactly-once"),
        ("-G", "GROUP", "--resume-by-trace"),
        ("-G", "GROUP", "--workers", "2"),
        ("--trace", "full"),
        ("--through-json", "cat"),
        ("--through", "cat"),
        ("--add-header", "late=1", "--drop-header", "late"),
        ("--filter", '$meta.header.a != "9"'),
    ],
)
def test_every_way_of_forward_brings_the_name(kafka: Cluster, kpipe: Kpipe, way: tuple[str, ...]) -> None:
    topic, target = odd_topic(kafka), kafka.topic()
    way = tuple(f"odd-{uuid.uuid4()}" if each == "GROUP" else each for each in way)

    for _ in range(2 if "--resume-by-trace" in way else 1):
        run = kpipe.at(kafka.bootstrap)("forward", "-e", *way, topic, target)
        assert (run.code, run.err) == (0, "")

    assert names(kafka, target) == ODD
    assert kpipe.at(kafka.bootstrap)("verify", topic, target).code == 0


def test_a_lost_name_is_a_difference(kafka: Cluster, kpipe: Kpipe) -> None:
    topic, target = odd_topic(kafka), kafka.topic()
    kpipe.at(kafka.bootstrap)("forward", "-e", "--rename-header", "a=b", topic, target)
    assert kpipe.at(kafka.bootstrap)("verify", topic, target).code == 5


def test_the_envelope_brings_it_back(kafka: Cluster, kpipe: Kpipe) -> None:
    topic, target = odd_topic(kafka), kafka.topic()
    envelopes = kpipe.at(kafka.bootstrap)("consume", "-e", "-J", topic).out

    run = kpipe.at(kafka.bootstrap)("produce", "--input", "json", target, stdin=envelopes)

    assert (run.code, names(kafka, target)) == (0, ODD)


def test_transforms_name_it_as_it_is_typed(kafka: Cluster, kpipe: Kpipe) -> None:
    topic, dropped, renamed, made = odd_topic(kafka), kafka.topic(), kafka.topic(), kafka.topic()
    name = os.fsdecode(NAME)
    at = kpipe.at(kafka.bootstrap)

    runs = [
        at("forward", "-e", "--drop-header", name, topic, dropped),
        at("forward", "-e", "--rename-header", f"{name}=b\udcff", topic, renamed),
        at("produce", "-H", f"{name}=x", "--set-header", f"{name}2=y", made, stdin=b"line\n"),
    ]

    assert [(run.code, run.err) for run in runs] == [(0, "")] * 3
    assert names(kafka, dropped)[1] == [b"a", b"z"]
    assert names(kafka, renamed)[1] == [b"a", b"b\xff", b"z"]
    assert names(kafka, made) == [[NAME, NAME + b"2"]]


def test_dead_letters_and_their_way_home_keep_it(kafka: Cluster, kpipe: Kpipe) -> None:
    topic, target, letters = odd_topic(kafka), kafka.topic(), kafka.topic()
    at = kpipe.at(kafka.bootstrap)
    bad = at("forward", "-e", "--filter", ".a", "--on-error", f"dlq:{letters}", topic, target)
    assert names(kafka, letters)[1][:3] == [b"a", NAME, b"z"], bad.err

    at("forward", "-e", "--to-origin", letters)

    assert names(kafka, topic)[4][:3] == [b"a", NAME, b"z"]


def test_a_spill_and_its_restore_keep_it(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    topic, target, spill = odd_topic(kafka), kafka.topic(), tmp_path / "spill"
    at = kpipe.at(kafka.bootstrap)
    spill.write_bytes(at("consume", "-e", "-J", topic).out)

    run = at("produce", "--restore", str(spill), target)

    assert (run.code, names(kafka, target)) == (0, ODD)


def test_the_preview_shows_it(kafka: Cluster, kpipe: Kpipe) -> None:
    topic, target = odd_topic(kafka), kafka.topic()
    run = kpipe.at(kafka.bootstrap)("forward", "-e", "--dry-run", topic, target)
    shown = [json.loads(line) for line in run.out.splitlines()]
    assert [BASE64, "x"] in shown[1]["after"]["headers"]


def test_the_lab_reads_the_same(kafka: Cluster) -> None:
    (_, odd, _) = kafka.read(odd_topic(kafka))
    assert [bytes_of(name) for name, _ in odd.headers] == [b"a", NAME, b"z"]
