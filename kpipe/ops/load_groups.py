"""`kpipe load --groups`: the groups of a dump go on among its copies at the records that they had to read next.

Where they stood is in the manifest; the copies say by their trace which record each was. It sends no record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpipe.delivery.resume import MARK as FLOOR
from kpipe.errors import KpipeError, Stage, UsageError
from kpipe.kafka.topic_ids import PREFIX as TOPIC_ID
from kpipe.ops.places import choose, is_pattern
from kpipe.ops.reset import Reset, Scope
from kpipe.ops.translate import Copies, translate
from kpipe.sources.offsets import PARTITIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kpipe.archive.manifest import Contents
    from kpipe.flight import TopicPartition
    from kpipe.kafka.connection import Connection

NOTES = (TOPIC_ID, PARTITIONS, FLOOR)
"""What kpipe leaves with an offset about the topic that was dumped: it is wrong of any other topic."""


def chosen_groups(contents: Contents, patterns: Sequence[str]) -> list[str]:
    """The groups of a dump that are meant, all without a pattern; UsageError for a name that it does not have."""
    known = sorted({str(each["group"]) for each in contents.groups})
    if not known:
        raise UsageError("the dump has no positions of groups; load it without --groups")
    try:
        chosen = choose(patterns or ["*"], known, "the dump", "group")
    except KpipeError as error:
        raise UsageError(f"{error.where}: {error.what}") from None
    chosen += [] if patterns else [name for name in known if name not in chosen]  # also those named as Kafka's own
    if not chosen:
        raise UsageError(f"no group of the dump matches {' '.join(filter(is_pattern, patterns))}")
    return chosen


def stood_at(contents: Contents, groups: Sequence[str]) -> dict[str, dict[TopicPartition, int]]:
    """What each group had committed, by partition of the topic that was dumped."""
    found: dict[str, dict[TopicPartition, int]] = {group: {} for group in groups}
    for each in contents.groups:
        if each["group"] in found:
            found[each["group"]][contents.topic, int(each["partition"])] = int(each["offset"])
    return found


def plan_groups(
    connection: Connection, topic: str, contents: Contents, groups: Sequence[str], tick: Callable[[int], None]
) -> list[Reset]:
    """A plan for each group: where it goes on in `topic`, whose copies are read once.

    A group is put only on partitions where it had committed. KpipeError when one has members, or nothing is a copy.
    """
    numbers = connection.metadata(fresh=True).topics[topic].partitions
    places = [(topic, number) for number in sorted(numbers)]
    stood = stood_at(contents, groups)
    copies = Copies(contents.cluster_id, {contents.topic})
    spots, _ = translate(connection, places, stood, copies, tick)
    texts = {(each["group"], int(each["partition"])): own_text(str(each["metadata"] or "")) for each in contents.groups}
    plans = []
    for group in groups:
        own = {(topic, number): spots[group][topic, number] for _, number in stood[group] if (topic, number) in places}
        reset = Reset(connection, group, Scope((topic,), new=True))
        reset.plan("", {place: spot.position for place, spot in own.items()}, own)
        for move in reset.moves:
            move.metadata = texts[group, move.partition]
            dumped = stood[group][contents.topic, move.partition]
            if dumped > contents.ends[move.partition]:
                move.notes.append(f"stood at {dumped}, beyond the end of the dump")
        plans.append(reset)
    return plans


def own_text(metadata: str) -> str:
    """The text that an application left with its offset; what kpipe noted there about the topic is left out."""
    words = metadata.rstrip("\0").split(" ")
    return "" if all(word.startswith(NOTES) for word in words) else " ".join(words)


def execute_groups(plans: Sequence[Reset]) -> list[str]:
    """Write them, and read them back; what failed, in words, one group spoiling no other."""
    problems = []
    for reset in plans:
        try:
            failed = reset.execute()
        except KpipeError as error:
            problems.append(str(error) if error.where else f"{Stage.CONFIG}: {reset.group}: {error.what}")
            continue
        problems += [f"config: {reset.group}: {problem}" for problem in [*failed, *reset.problems]]
    return problems
