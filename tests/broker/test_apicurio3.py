"""The second real registry: Apicurio 3, whose ids are those of contents and which hands out broken descriptors."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.broker.lab.apicurio import THREE, Apicurio
from tests.broker.lab.cluster import Rec
from tests.broker.test_schemas import ORDER, PROTO, USER, avro, config, framed, order, pipe, register, two
from tests.registry.conftest import fake_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe

__all__ = ["fake_registry", "pipe"]


@pytest.fixture(scope="module")
def apicurio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apicurio]:
    registry = Apicurio(tmp_path_factory.mktemp("apicurio3"), THREE)
    yield registry
    registry.end()


def test_what_it_has_is_decoded_encoded_again_and_brought_elsewhere(
    kafka: Cluster, kpipe: Kpipe, apicurio: Apicurio, pipe, fake_registry
) -> None:
    source, target, other = kafka.topic(), kafka.topic(), kafka.topic()
    number = register(apicurio.url, f"{source}-value", ORDER)
    key_id = register(apicurio.url, f"{source}-key", USER)
    proto = register(apicurio.url, f"{source}-other", PROTO.replace("shop;", f"shop{number};"), "PROTOBUF")
    long_prefix = b"\0" + number.to_bytes(8, "big")
    key = framed(key_id, avro(USER, {"name": "éva"}))
    records = [
        Rec(framed(number, order(1)), key),
        Rec(framed(proto, b"\x02\x02\x0a\x01z"), b"k"),
        Rec(None, key),
        Rec(b"\0\0\0\xff\xffno schema", b"\0\0\0\0"),
    ]
    kafka.write(source, records)
    read, written = pipe(apicurio.url, source, target)
    assert (read.code, written.code, written.err) == (0, 0, "")
    shown = [json.loads(line)["value"] for line in read.out.splitlines()[:2]]
    assert (shown[0]["price"], shown[1]) == ("12.34", {"y": "z"})
    assert [(r.value, r.key) for r in kafka.read(target)] == [(r.value, r.key) for r in records]
    kafka.write(target, [Rec(long_prefix + order(7))])
    through = ("consume", "-e", "-o", str(len(records)), "--decode", "auto")
    assert json.loads(kpipe(*through, target, config=config(kafka, apicurio.url)).out)["id"] == 7
    fake = fake_registry(first_id=700)
    settings = two(kafka, apicurio.url, fake.url)
    run = ("forward", "-e", "--on-error", "skip", "--translate-schemas", "register")
    done = kpipe(*run, f"a:{source}", f"b:{other}", config=settings)
    assert (done.code, "(Confluent, id 65535: " in done.err) == (1, True), done.err  # the last one starts like a frame
    assert (f"{other}-value" in fake.subjects, f"{source}-other" in fake.subjects) == (True, True)
    assert (
        kpipe("verify", "--allow-missing", "--decode", "auto", f"a:{source}", f"b:{other}", config=settings).code == 0
    )
    assert kpipe("schema", "show", f"id:{number}", config=settings).code == 0
