"""How forward delivers: at least once, `--exactly-once` or `--resume-by-trace`; what each needs is checked here.

It only wires; the records move in `kpipe.pipeline`.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kpipe.clusters.address import place_name
from kpipe.delivery.resume import Resume, TargetTail
from kpipe.delivery.transaction import LEAST, SLICE, TransactionLine
from kpipe.errors import Stage, UnreachableError, UsageError
from kpipe.kafka.client import EMBEDDED, label, open_consumer, open_producer
from kpipe.kafka.errors import HELD_UP, name_of
from kpipe.plan.identity import knows_topics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from confluent_kafka import Consumer

    from kpipe.clusters.profiles import Cluster
    from kpipe.kafka.client import Troubles
    from kpipe.ledger import Ledger, TopicPartition
    from kpipe.options import ForwardOptions, SelectionOptions
    from kpipe.parts import Committer
    from kpipe.plan.source import OpenSource
    from kpipe.plan.target import Target
    from kpipe.shutdown import Stop
    from kpipe.sources.topic import Hooks, Selection
    from kpipe.transform.step import Step

TRANSACTION_TIMEOUT_MS = 60_000  # librdkafka's default; a broker allows up to transaction.max.timeout.ms, 15 min
INIT_TIMEOUT = 30.0
"""Seconds for the first transaction of a cluster: it makes the topic __transaction_state."""

ANSWER_TIMEOUT = 30.0
"""Seconds in which the group's offsets must be told; an open transaction on them holds the answer up."""
RETRY = 0.1
"""Seconds between two questions to a coordinator that is away."""

SLOT = "KPIPE_SLOT"
"""Environment: the number of this worker on this machine; part of the default instance."""


def check_modes(
    options: ForwardOptions, selection: SelectionOptions, trace: str, spill: str, steps: Sequence[Step]
) -> None:
    """Contradictions that can be seen before anything is opened."""
    if options.exactly_once:
        if options.resume_by_trace:
            raise UsageError("--exactly-once needs no --resume-by-trace; drop it")
        if not selection.group:
            raise UsageError("--exactly-once commits the offsets of a group; add -G GROUP")
        if [text for text in selection.partitions if text != "same"]:
            raise UsageError("--exactly-once needs the group to share the partitions out; drop -p")
        if spill:
            raise UsageError(
                "--exactly-once leaves nothing to spill: what is not committed is read again; drop --spill"
            )
    if options.resume_by_trace:
        if trace == "none":
            raise UsageError("--resume-by-trace reads the trace headers; drop --trace none")
        if options.to_origin:
            raise UsageError("--resume-by-trace looks at one target; --to-origin has many")
        many = next(
            (step.name for step in steps if step.name in ("split", "route", "rename-topic", "through-json")), None
        )
        if many is not None:
            raise UsageError(f"--resume-by-trace needs one record in TARGET for each source record; drop --{many}")


# --- exactly once ------------------------------------------------------------------------------------------------


def transactional_id(group: str, instance: str) -> str:
    """`kpipe:GROUP:INSTANCE`: the same for a restarted process, so that it ends what its predecessor left open."""
    slot = os.environ.get(SLOT, "0")
    return f"kpipe:{group}:{instance or f'{os.uname().nodename}-{slot}'}"


def membership(selection: Selection) -> Selection:
    """How a named instance is in its group: so that it can come back at once after a kill -9.

    A static member of a classic group takes over from itself. One of a KIP-848 group is refused until the session of
    the process that died has ended (UNRELEASED_INSTANCE_ID), so there the name is only that of the transactions.
    """
    if selection.protocol == "consumer":
        return replace(selection, instance="")
    return replace(selection, protocol="classic")


def transaction_properties(group: str, instance: str, cluster: Cluster) -> dict[str, Any]:
    """What makes a producer transactional; a record may wait no longer than its transaction."""
    timeout = int(cluster.properties.get("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS))
    own: dict[str, Any] = {
        "transactional.id": transactional_id(group, instance),
        "transaction.timeout.ms": timeout,
    }
    if "delivery.timeout.ms" not in cluster.properties:
        own["delivery.timeout.ms"] = timeout
    # When all connections break, librdkafka forgets its brokers, but not that one of them was the group's coordinator,
    # and offsets sent to it hang until the transaction times out (confluentinc/librdkafka#5511).
    if "metadata.recovery.strategy" not in cluster.properties:
        own["metadata.recovery.strategy"] = "none"
    return own


def check_one_cluster(opened: OpenSource, ready: Target, topics: Sequence[str]) -> None:
    """A transaction cannot span two clusters; the live cluster ids decide, and that the target knows the topics."""
    if ready.cluster_id.startswith(EMBEDDED):
        raise UsageError("--exactly-once: the embedded broker does not isolate transactions", where=ready.where)
    one = bool(ready.cluster_id) and opened.cluster_id == ready.cluster_id
    if not (one and knows_topics(opened, ready, opened.names(topics))):
        what = "--exactly-once: source and target are different clusters, which no transaction spans"
        raise UsageError(f"{what}; use --resume-by-trace", where=ready.where)


def open_line(ready: Target) -> TransactionLine:
    """Take the transactional id over; before the group is joined, so that committed offsets are stable when read."""
    properties = ready.properties
    timeout = int(properties["transaction.timeout.ms"]) / 1000

    def reopen() -> tuple[Any, Troubles]:
        producer, troubles = open_producer(ready.cluster, properties)
        troubles.listener = ready.troubles.listener
        return producer, troubles

    where = place_name(label(ready.cluster), properties["transactional.id"])
    line = TransactionLine(ready.producer, ready.troubles, reopen, where, timeout)
    line.start(INIT_TIMEOUT)
    return line


@dataclass(slots=True)
class GroupMember:
    """The consumer, as transactions see it."""

    consumer: Consumer
    where: str
    stop: Stop

    def metadata(self) -> bytes:
        """Who we are in the group, now."""
        found: Any = self.consumer.consumer_group_metadata()
        return bytes(found)

    def committed(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The group's offsets; an open transaction on them is waited for."""
        return {place: offset for place, (offset, _) in self._ask(places).items()}

    def notes(self, places: Iterable[TopicPartition]) -> Mapping[TopicPartition, str]:
        """What was committed beside the offsets."""
        return {place: note for place, (_, note) in self._ask(places).items()}

    def _ask(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, tuple[int, str]]:
        from confluent_kafka import KafkaException, TopicPartition

        asked = [TopicPartition(topic, partition) for topic, partition in places]
        answers: list[Any] = []
        deadline = time.monotonic() + ANSWER_TIMEOUT
        while asked and not answers:
            try:
                answers = self.consumer.committed(asked, timeout=max(LEAST, self.stop.remaining(SLICE)))
            except KafkaException as error:
                cause = error.args[0]
                if name_of(cause) in HELD_UP and time.monotonic() < deadline and not self.stop.forced:
                    time.sleep(RETRY)
                    continue
                message = f"cannot read the group's offsets: {cause.str()}; run again"
                raise UnreachableError(message, where=self.where, stage=Stage.COMMIT) from None
        for answer in answers:
            if answer.error is not None:
                raise UnreachableError(str(answer.error.str()), where=self.where, stage=Stage.COMMIT)
        return {(a.topic, a.partition): (a.offset, a.metadata or "") for a in answers}


# --- resume by trace ---------------------------------------------------------------------------------------------


def open_resume(
    opened: OpenSource,
    ready: Target,
    selection: Selection,
    limit: int,
    prefix: str,
    stop: Stop,
    properties: Mapping[str, Any] = {},
) -> Resume:
    """The reader of the target's tail; UsageError where the trace cannot tell sources apart."""
    if not (opened.cluster_id and ready.cluster_id):
        raise UsageError("--resume-by-trace needs the clusters' ids, and one of them has none", where=ready.where)

    def consumer(isolation: str) -> Consumer:
        own = {"group.id": "kpipe-without-group", "isolation.level": isolation, **properties}
        return open_consumer(ready.cluster, own)[0]

    tail = TargetTail(ready.topic, ready.where, consumer, limit, lambda: stop.requested, stop.remaining)
    grouped = GroupMember(opened.consumer, f"group {selection.group}", stop)
    notes = grouped.notes if selection.group is not None else _no_notes
    ends = tail.ends()  # first: a partition that is not there afterwards is younger than these
    known = opened.consumer.list_topics(timeout=ANSWER_TIMEOUT).topics
    places = frozenset((name, number) for name, topic in known.items() for number in topic.partitions)
    there = (places, ends)
    return Resume(tail, opened.cluster_id, _word(ready.cluster_id), notes, prefix=prefix, there_at_start=there)


def _no_notes(_places: Iterable[TopicPartition]) -> Mapping[TopicPartition, str]:
    return {}


def _word(text: str) -> str:
    """Cluster ids are base64 words; anything else must not break the metadata's syntax."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", text)


@dataclass(slots=True)
class ResumingCommitter:
    """Commits as `inner` does, and keeps the floor up to date."""

    inner: Committer
    resume: Resume

    def tick(self, ledger: Ledger) -> None:
        """The floor first: a commit carries it."""
        self.resume.tick(ledger)
        self.inner.tick(ledger)

    def finish(self, ledger: Ledger, timeout: float) -> None:
        """Commit, then let go of the target's tail."""
        deadline = time.monotonic() + timeout
        try:
            self.resume.end(ledger, timeout / 2)
            self.inner.finish(ledger, max(LEAST, deadline - time.monotonic()))
        finally:
            self.resume.close()


def wire_resume(hooks: Hooks, resume: Resume) -> None:
    """Look at the target whenever partitions are assigned: another member may have sent what it could not commit."""
    began, lost, revoked = hooks.began, hooks.lost, hooks.revoked

    def look(starts: dict[TopicPartition, int]) -> None:
        began(starts)
        resume.look(starts)

    def after(hook: Callable[[list[TopicPartition]], None]) -> Callable[[list[TopicPartition]], None]:
        def let_go(places: list[TopicPartition]) -> None:
            try:
                hook(places)
            finally:
                resume.forget(places)

        return let_go

    hooks.began, hooks.lost, hooks.revoked = look, after(lost), after(revoked)
