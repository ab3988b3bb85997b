"""Which partition a record goes to, and what becomes of records without a key.

It sends no record.
"""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Protocol

from kpipe.errors import BadRecord, Exit, KpipeError, Stage, UsageError
from kpipe.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kpipe.pipeline import PipelineStage
    from kpipe.record import Batch

    Choice = Callable[[Batch], Iterable[int]]
    """Gives the partition column of a batch; -1 leaves a record to the partitioner."""


class Partitioned(Protocol):
    """A target topic: how many partitions it is known to have, and a look at how many there are by now."""

    partitions: int

    @property
    def where(self) -> str:
        """Its name for messages."""

    def look_again(self) -> int:
        """How many there are now; what was known when nobody answers."""


def check_partition_word(text: str, option: str) -> None:
    """What can be said of a target partition before any cluster is asked."""
    if text not in ("", "same") and not (text.isascii() and text.isdigit()):
        raise UsageError(f"{option} {text!r}: not a partition; write a number or `same`")


def check_partition(text: str, partitions: int, where: str) -> int:
    """A fixed target partition that exists."""
    if int(text) >= partitions:
        raise KpipeError(
            f"no partition {text}; the topic has {partitions} (0 to {partitions - 1})", where=where, stage=Stage.CONFIG
        )
    return int(text)


def keep_partitions(batch: Batch) -> Iterable[int]:
    """The same number as at the source; a record without one goes by its key."""
    if batch.partitions is None:
        return [-1] * len(batch)
    return [-1 if number is None else number for number in batch.partitions]


class MissingPartition(BadRecord):
    """A record for a partition that its target does not have; nothing is wrong with its data."""

    exit_code = Exit.UNDELIVERED
    stage = Stage.SEND


def refuse_missing(word: str, targets_of: Callable[[str | None], Sequence[Partitioned]]) -> list[PipelineStage]:
    """`same`: take records out whose partition is not there: elsewhere they would stand among those of other keys.

    `targets_of` gives where a record goes, by the topic that a route chose. Partitions that were added are seen.
    """
    if word != "same":
        return []

    def refuse(batch: Batch) -> None:
        routes = [None] * len(batch) if batch.targets is None else batch.targets
        errors: dict[int, BadRecord] = {}
        for place, (number, route) in enumerate(zip(batch.partitions or (), routes, strict=False)):
            if number is None:
                continue
            for target in targets_of(route):
                if number >= target.partitions and number >= target.look_again():
                    count = counted(target.partitions, "partition")
                    what = f"{target.where} has {count}, so none has the number {number}"
                    errors[place] = MissingPartition(f"{what}; add some, or drop `same`")
        batch.reject(errors)

    return [refuse]


def stick_keyless(partitions: int) -> Callable[[Batch], Iterable[int]]:
    """By key; all records without a key of one source partition go to one target partition, so their order is kept."""

    def choose(batch: Batch) -> Iterable[int]:
        keys, numbers = batch.keys, batch.partitions
        if numbers is None or (keys is not None and None not in keys):
            return [-1] * len(batch)
        if keys is None:
            return [-1 if number is None else number % partitions for number in numbers]
        return [
            -1 if key is not None or number is None else number % partitions
            for key, number in zip(keys, numbers, strict=True)
        ]

    return choose


def choose_partition(word: str, keyless: str, ready: Partitioned) -> Callable[[Batch], Iterable[int]] | None:
    """What gives the partition column; None leaves it to the partitioner. KpipeError: there is no such partition."""
    if word == "same":
        return keep_partitions
    if word:
        number = check_partition(word, ready.partitions, ready.where)
        return lambda _batch: repeat(number)
    return stick_keyless(ready.partitions) if keyless == "sticky" else None


def key_keyless(batch: Batch) -> None:
    """`--keyless key`: the source partition's number becomes the key of a record that has none (as Karafka pipes)."""
    if batch.partitions is None:
        return
    keys = batch.keys if batch.keys is not None else [None] * len(batch)
    batch.keys = [
        key if key is not None or number is None else b"%d" % number
        for key, number in zip(keys, batch.partitions, strict=True)
    ]


def by_key_as_it_was(choice: Choice | None, partitions: int, partitioner: str) -> Choice | None:
    """A translated key goes to the partition of the key as it was, where its hash is known; else as without."""
    from kpipe.kafka.hashing import java_partition, librdkafka_partition

    hashed = {
        "murmur2": java_partition,
        "murmur2_random": java_partition,
        "consistent": librdkafka_partition,
        "consistent_random": librdkafka_partition,
    }.get(partitioner)
    if hashed is None:
        return choice

    def choose(batch: Batch) -> Iterable[int]:
        numbers: Sequence[int] = list(choice(batch)) if choice is not None else [-1] * len(batch)
        if batch.partition_keys is None:
            return numbers
        return [
            number if key is None or number >= 0 else hashed(key, partitions)
            for number, key in zip(numbers, batch.partition_keys, strict=True)
        ]

    return choose
