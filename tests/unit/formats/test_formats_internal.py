"""Kafka's own records: what fits a layout is read, what does not keeps its bytes."""

from __future__ import annotations

import json
from struct import pack

import pytest

from kpipe.formats.internal import decode
from kpipe.record import Batch


def text(value: str) -> bytes:
    return pack(">h", len(value)) + value.encode()


def shown(key: bytes, value: bytes | None, topic: str = "__consumer_offsets") -> tuple[bytes | None, bytes | None]:
    batch = Batch([value], keys=[key], topics=[topic], partitions=[0], offsets=[0])
    decode(batch)
    assert batch.keys is not None
    return batch.keys[0], batch.values[0]


KEY = pack(">h", 1) + text("g") + text("orders") + pack(">i", 3)


@pytest.mark.parametrize(
    ("value", "more"),
    [
        (pack(">hq", 1, 42) + text("m") + pack(">qq", 1000, 2000), {}),
        (pack(">hqi", 3, 42, 7) + text("m") + pack(">q", 1000), {"leader_epoch": 7}),
        (pack(">hqi", 4, 42, 7) + b"\x02m" + pack(">q", 1000) + b"\x00", {"leader_epoch": 7}),
    ],
)
def test_commits_of_all_versions(value: bytes, more: dict[str, int]) -> None:
    key, read = shown(KEY, value)
    assert json.loads(key or b"") == {"group": "g", "topic": "orders", "partition": 3}
    assert json.loads(read or b"") == {
        "group": "g", "topic": "orders", "partition": 3, "offset": 42, **more, "metadata": "m", "committed_ms": 1000,
    }  # fmt: skip


def test_a_tombstone_stays_one_and_other_records_name_their_group() -> None:
    assert shown(KEY, None)[1] is None
    key, value = shown(pack(">h", 8) + text("g") + text("member"), b"\x00\x00opaque")
    assert json.loads(key or b"") == {"group": "g", "record": "ConsumerGroupCurrentMemberAssignment"}
    assert value == b"\x00\x00opaque"


@pytest.mark.parametrize("key", [b"", b"\x00", pack(">h", 99), KEY[:-2], pack(">h", 1) + b"\x7f\xff"])
def test_what_does_not_fit_keeps_its_bytes(key: bytes) -> None:
    assert shown(key, b"value") == (key, b"value")
    good, value = shown(KEY, pack(">h", 9) + b"tomorrow")
    assert (json.loads(good or b"")["group"], value) == ("g", pack(">h", 9) + b"tomorrow")
    assert shown(KEY, b"value", topic="orders") == (KEY, b"value")


def test_transactions() -> None:
    key = pack(">h", 0) + text("tx")
    value = pack(">hqhib", 0, 5, 1, 60_000, 1) + pack(">i", 1) + text("t") + pack(">iii", 2, 0, 4) + pack(">qq", 11, 10)
    assert json.loads(shown(key, value, "__transaction_state")[1] or b"") == {
        "transactional_id": "tx", "producer_id": 5, "producer_epoch": 1, "timeout_ms": 60000, "state": "Ongoing",
        "partitions": ["t[0]", "t[4]"], "updated_ms": 11, "started_ms": 10,
    }  # fmt: skip
