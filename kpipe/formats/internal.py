"""Kafka's own topics as JSON: who committed what and when (`__consumer_offsets`), transactions (`__transaction_state`).

The layouts are those of Kafka's group and transaction coordinators (common/message/*.json of their modules). What does
not fit them keeps its bytes: a layout of tomorrow is shown as it is, never guessed at.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.record import Batch

OFFSETS, TRANSACTIONS = "__consumer_offsets", "__transaction_state"
TOPICS = (OFFSETS, TRANSACTIONS)
STATES = (
    "Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort", "Dead", "PrepareEpochFence",
)  # fmt: skip
RECORDS = {
    3: "ConsumerGroupMetadata", 4: "ConsumerGroupPartitionMetadata", 5: "ConsumerGroupMemberMetadata",
    6: "ConsumerGroupTargetAssignmentMetadata", 7: "ConsumerGroupTargetAssignmentMember",
    8: "ConsumerGroupCurrentMemberAssignment", 9: "ShareGroupPartitionMetadata", 10: "ShareGroupMemberMetadata",
    11: "ShareGroupMetadata", 12: "ShareGroupTargetAssignmentMetadata", 13: "ShareGroupTargetAssignmentMember",
    14: "ShareGroupCurrentMemberAssignment", 15: "ShareGroupStatePartitionMetadata",
    16: "ConsumerGroupRegularExpression",
}  # fmt: skip
"""Records of groups by the version of their keys (KIP-848 and later), whose values are left as they are."""
_SHORT, _INT, _LONG = Struct(">h"), Struct(">i"), Struct(">q")


class Misfit(ValueError):
    """Bytes that are not of the layout."""


class FieldReader:
    """Reads the fields of Kafka's messages one after the other; Misfit when there are too few bytes."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0
        self.version = self.short()
        self.flexible = False
        """Whether lengths are variable numbers (KIP-482)."""

    def _take(self, size: int) -> bytes:
        if size < 0 or self._at + size > len(self._content):
            raise Misfit(size)
        self._at += size
        return self._content[self._at - size : self._at]

    def byte(self) -> int:
        """int8."""
        return self._take(1)[0]

    def short(self) -> int:
        """int16."""
        return int(_SHORT.unpack(self._take(2))[0])

    def integer(self) -> int:
        """int32."""
        return int(_INT.unpack(self._take(4))[0])

    def long(self) -> int:
        """int64."""
        return int(_LONG.unpack(self._take(8))[0])

    def varint(self) -> int:
        """An unsigned variable number."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 28:
                raise Misfit(value)

    def text(self) -> str | None:
        """A string, or null."""
        size = self.varint() - 1 if self.flexible else self.short()
        return None if size < 0 else self._take(size).decode()

    def count(self) -> int:
        """The length of an array; -1 for null."""
        return self.varint() - 1 if self.flexible else self.integer()

    def blob(self) -> bytes:
        """Bytes."""
        return self._take(self.varint() - 1 if self.flexible else self.integer())

    def tags(self) -> None:
        """Skip tagged fields."""
        for _ in range(self.varint() if self.flexible else 0):
            self.varint()
            self._take(self.varint())


def decode(batch: Batch) -> None:
    """Make keys and values of Kafka's own topics JSON, in place; all others keep their bytes."""
    if batch.topics is None or batch.keys is None or not any(topic in TOPICS for topic in batch.topics):
        return
    keys, values = list(batch.keys), list(batch.values)
    for place, topic in enumerate(batch.topics):
        if topic in TOPICS and keys[place] is not None:
            keys[place], values[place] = _decode_one(str(topic), keys[place] or b"", values[place])
    batch.keys, batch.values = keys, values


def _decode_one(topic: str, key: bytes, value: bytes | None) -> tuple[bytes, bytes | None]:
    try:
        named, read = (_offset_key if topic == OFFSETS else _transaction_key)(FieldReader(key))
        shown = orjson.dumps(named)
    except (Misfit, UnicodeDecodeError, IndexError):
        return key, value
    if value is None or read is None:
        return shown, value
    try:
        return shown, orjson.dumps({**named, **read(FieldReader(value))})
    except (Misfit, UnicodeDecodeError, IndexError):
        return shown, value


Named = tuple[dict[str, Any], "Callable[[FieldReader], dict[str, Any]] | None"]


def _offset_key(key: FieldReader) -> Named:
    if key.version in (0, 1):
        return {"group": key.text(), "topic": key.text(), "partition": key.integer()}, _commit
    if key.version == 2:
        return {"group": key.text(), "record": "GroupMetadata"}, _group
    if key.version in RECORDS:
        return {"group": key.text(), "record": RECORDS[key.version]}, None
    raise Misfit(key.version)


def _commit(value: FieldReader) -> dict[str, Any]:
    if value.version > 4:
        raise Misfit(value.version)
    value.flexible = value.version >= 4
    found: dict[str, Any] = {"offset": value.long()}
    if value.version >= 3:
        found["leader_epoch"] = value.integer()
    found["metadata"] = value.text()
    found["committed_ms"] = value.long()
    return found


def _group(value: FieldReader) -> dict[str, Any]:
    if value.version > 4:
        raise Misfit(value.version)
    value.flexible = value.version >= 4
    found: dict[str, Any] = {
        "protocol_type": value.text(), "generation": value.integer(), "protocol": value.text(), "leader": value.text(),
    }  # fmt: skip
    if value.version >= 2:
        found["state_ms"] = value.long()
    found["members"] = [_member(value) for _ in range(value.count())]
    return found


def _member(value: FieldReader) -> dict[str, Any]:
    member: dict[str, Any] = {"member": value.text()}
    if value.version >= 3:
        member["instance"] = value.text()
    member |= {"client": value.text(), "host": value.text()}
    if value.version >= 1:
        value.integer()  # rebalance timeout
    value.integer()  # session timeout
    value.blob()  # subscription
    value.blob()  # assignment
    value.tags()
    return member


def _transaction_key(key: FieldReader) -> Named:
    if key.version != 0:
        raise Misfit(key.version)
    return {"transactional_id": key.text()}, _transaction


def _transaction(value: FieldReader) -> dict[str, Any]:
    if value.version > 1:
        raise Misfit(value.version)
    value.flexible = value.version >= 1
    found: dict[str, Any] = {
        "producer_id": value.long(), "producer_epoch": value.short(), "timeout_ms": value.integer(),
        "state": STATES[value.byte()],
    }  # fmt: skip
    places = []
    for _ in range(max(0, value.count())):
        topic = value.text()
        places += [f"{topic}[{value.integer()}]" for _ in range(value.count())]
        value.tags()
    return {**found, "partitions": places, "updated_ms": value.long(), "started_ms": value.long()}
