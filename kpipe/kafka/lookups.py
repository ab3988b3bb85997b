"""Look-ups with a consumer that is open anyway: where partitions start and end, and what its group has committed.

Nothing is changed. Each takes one request for all partitions where the protocol has one; what may be asked without a
consumer is in `kpipe.kafka.questions`, by the admin client.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kpipe.clusters.address import place_name
from kpipe.errors import KpipeError, Stage, UnreachableError
from kpipe.kafka.diagnosis import denied
from kpipe.kafka.errors import is_passing, is_unauthorised
from kpipe.kafka.metadata import try_metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from confluent_kafka import Consumer

    from kpipe.flight import TopicPartition

EARLIEST, LATEST = -2, -1
"""Timestamps with a special meaning in a list-offsets request (KIP-79); latest is the last stable offset under
`read_committed` (KIP-98)."""
PAUSE = 0.1
"""Seconds between tries: a rebalance in a network that breaks must not end a run that goes on for months."""
LEAST = 0.1
"""Seconds for an answer whose time is over."""
REFRESH = 1.0
"""Seconds for the metadata of a partition that the client has not heard of yet."""

Committed = tuple[int, str]
"""The next offset a group reads (negative: it has none), and what was committed beside it."""


@dataclass(slots=True, frozen=True)
class Bounds:
    """The first and the end offset (exclusive) of a partition, as the cluster had them at one moment."""

    low: int
    high: int


def find_bounds(
    consumer: Consumer, places: Iterable[TopicPartition], timeout: float, cluster: str
) -> dict[TopicPartition, Bounds]:
    """Low and high (under `read_committed`: last stable) offset of each partition; errors as of `find_offsets`."""
    wanted = list(places)
    low = find_offsets(consumer, wanted, EARLIEST, timeout, cluster)
    high = find_offsets(consumer, wanted, LATEST, timeout, cluster)
    return {place: Bounds(max(0, low[place]), max(0, high[place])) for place in wanted}


def find_offsets(
    consumer: Consumer, places: Iterable[TopicPartition], timestamp_ms: int, timeout: float, cluster: str
) -> dict[TopicPartition, int]:
    """The first offset at or after a time, per partition; -1 where every record is older.

    Asked again while a leader moves. UnreachableError without an answer within `timeout` seconds; `cluster` names it.
    """
    from confluent_kafka import KafkaException
    from confluent_kafka import TopicPartition as Asked

    asked = [Asked(topic, partition, timestamp_ms) for topic, partition in places]
    if not asked:
        return {}
    deadline = time.monotonic() + timeout
    while True:
        try:
            answers = consumer.offsets_for_times(asked, timeout=max(LEAST, deadline - time.monotonic()))
        except KafkaException as error:
            if is_passing(error.args[0]) and time.monotonic() < deadline:
                time.sleep(PAUSE)
                continue
            message = f"no answer to a list-offsets request: {error.args[0].str()}; kpipe check says why"
            raise UnreachableError(message, where=cluster, stage=Stage.READ) from None
        moving = {answer.topic for answer in answers if answer.error is not None and is_passing(answer.error)}
        if not moving or time.monotonic() >= deadline:
            break
        for topic in moving:  # a group may assign a partition that was added since the client last looked (KIP-848)
            try_metadata(consumer, REFRESH, topic)
        time.sleep(PAUSE)
    for answer in answers:
        if answer.error is not None:
            where = place_name(cluster, f"{answer.topic}[{answer.partition}]")
            if is_unauthorised(answer.error):
                raise denied(f"topic {answer.topic}", "DESCRIBE").error(where, Stage.READ)
            raise KpipeError(f"cannot list offsets: {answer.error.str()}", where=where, stage=Stage.READ)
    return {(answer.topic, answer.partition): answer.offset for answer in answers}


def find_committed(
    consumer: Consumer,
    places: Iterable[TopicPartition],
    timeout: float,
    *,
    slice_s: Callable[[], float] = lambda: float("inf"),
    again: Callable[[], bool] = lambda: True,
) -> dict[TopicPartition, Committed]:
    """What the consumer's group has committed. KafkaException for the first answer that is an error.

    While a coordinator moves or an open transaction holds the offsets up, it is asked again for `timeout` seconds, as
    long as `again` says so; one question waits at most `slice_s` of them.
    """
    from confluent_kafka import KafkaException
    from confluent_kafka import TopicPartition as Asked

    asked = [Asked(*place) for place in places]
    if not asked:
        return {}
    left, deadline = timeout, time.monotonic() + timeout
    while True:
        try:
            answers = consumer.committed(asked, timeout=max(LEAST, min(slice_s(), left)))
            break
        except KafkaException as error:
            if not is_passing(error.args[0]) or time.monotonic() >= deadline or not again():
                raise
        time.sleep(PAUSE)
        left = deadline - time.monotonic()
    for answer in answers:
        if answer.error is not None:
            raise KafkaException(answer.error)
    return {(answer.topic, answer.partition): (answer.offset, answer.metadata or "") for answer in answers}


def find_watermarks(consumer: Consumer, place: TopicPartition, timeout: float) -> Bounds:
    """The first and the end offset of a partition, open transactions included; KafkaException without an answer."""
    from confluent_kafka import TopicPartition as Asked

    low, high = consumer.get_watermark_offsets(Asked(*place), timeout=timeout) or (0, 0)
    return Bounds(low, high)


def fetched_end(consumer: Consumer, place: TopicPartition) -> int:
    """The end of all records of a partition as the last fetch told it; negative before the first one. Asks nobody."""
    from confluent_kafka import KafkaException
    from confluent_kafka import TopicPartition as Asked

    try:
        known = consumer.get_watermark_offsets(Asked(*place), cached=True)
    except KafkaException:
        return -1
    return known[1] if known else -1
