"""`kpipe admin create-topic`, `alter-topic`, `delete-records` and `delete-topic`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kpipe.cli import tell
from kpipe.cli.change import conclude_change, confirmed, open_cluster, print_plan
from kpipe.cli.looking import look_of, write
from kpipe.errors import KpipeError, Stage, UsageError
from kpipe.ops.options import AlterOptions, ChangeOptions, CreateOptions, DeleteRecordsOptions, LookingOptions
from kpipe.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kpipe.kafka.connection import Connection
    from kpipe.options import ConnectionOptions


# --- topics --------------------------------------------------------------------------------------------------------


def create_topic(text: str, connection: ConnectionOptions, options: CreateOptions, change: ChangeOptions) -> int:
    """A new topic, maybe like another one."""
    from kpipe.clusters.address import parse_target
    from kpipe.kafka import blueprints, changes
    from kpipe.ops import changing
    from kpipe.ops.places import Clusters

    prefix, colon, rest = text.partition(":")
    clusters = Clusters(connection, tell)
    named = colon and prefix in clusters.profiles.names
    name, partitions = changing.parse_new_topic(rest if named else text)
    parse_target(name)
    cluster = clusters.open(prefix if named else None)
    changes.refuse_read_only(cluster)
    if name in cluster.metadata().topics:
        raise KpipeError(
            "the topic exists already; alter-topic changes it", where=cluster.where(name), stage=Stage.CONFIG
        )
    config: dict[str, str] = {}
    if options.like:
        model = blueprints.like(*clusters.one(options.like))
        partitions, config = (model.partitions if partitions < 0 else partitions), dict(model.config)
    for key, value in blueprints.parse_settings(options.config).items():
        if value is None:
            config.pop(key, None)
        else:
            config[key] = value
    replication = options.replication if options.replication is not None else -1
    count = counted(partitions, "partition") if partitions > 0 else "the cluster's default number of partitions"
    copies = counted(replication, "replica") if replication > 0 else "the cluster's default replication"
    settings = ", ".join(f"{key}={value}" for key, value in sorted(config.items()))
    print_plan(
        change,
        f"create {cluster.where(name)}: {count}, {copies}{f', {settings}' if settings else ''}",
        action="create-topic",
        cluster=cluster.label,
        topic=name,
        partitions=partitions if partitions > 0 else None,
        replication=replication if replication > 0 else None,
        config=config,
    )
    changes.create_topic(cluster, name, partitions, replication, config, only_check=True)
    if not confirmed(name, change):
        return 0
    changes.create_topic(cluster, name, partitions, replication, config)
    return _read_back(cluster, name, lambda entry: len(entry.partitions) > 0, "created")


def _read_back(cluster: Connection, name: str, holds: Callable[[Any], bool], done: str) -> int:
    """Ask until the cluster's metadata shows the change; a broker hears of it a moment later."""
    deadline = cluster.deadline()
    while True:
        entry = cluster.metadata(fresh=True).topics.get(name)
        if entry is not None and entry.error is None and holds(entry):
            tell(f"{cluster.where(name)}: {done}, {counted(len(entry.partitions), 'partition')}")
            return 0
        if time.monotonic() > deadline:
            raise KpipeError(
                "it was accepted, but is not to be seen yet", where=cluster.where(name), stage=Stage.CONFIG
            )
        time.sleep(0.05)


def alter_topic(text: str, connection: ConnectionOptions, options: AlterOptions, change: ChangeOptions) -> int:
    """Settings, and more partitions."""
    from kpipe.kafka import blueprints, changes, questions
    from kpipe.kafka.questions import Failure

    if not options.config and options.partitions is None:
        raise UsageError("alter what? Give --config KEY=VALUE or --partitions N")
    _, cluster, name = open_cluster(connection, text)
    entry = _existing(cluster, name)
    settings = blueprints.parse_settings(options.config)
    answer = questions.configurations(cluster, [name])[name]
    if isinstance(answer, Failure):
        raise answer.error(cluster.where(name), Stage.CONFIG)
    for key, value in settings.items():
        if key not in answer:
            import difflib

            near = difflib.get_close_matches(key, answer, n=1)
            raise UsageError(
                f"--config {key}: topics have no such setting" + (f"; did you mean {near[0]}?" if near else "")
            )
        before = str(answer[key].value)
        after = "its default" if value is None else value
        print_plan(
            change, f"{cluster.where(name)}: {key}: {before} -> {after}",
            action="alter-topic", cluster=cluster.label, topic=name, setting=key, before=before, after=value,
        )  # fmt: skip
    if options.partitions is not None:
        _plan_partitions(cluster, name, len(entry.partitions), options.partitions, change)
    _check_plan(cluster, name, settings, options.partitions)
    if not confirmed(name, change):
        return 0
    if settings:
        changes.alter_topic(cluster, name, settings)
        _check_settings(cluster, name, settings)
    if options.partitions is not None:
        wanted = options.partitions
        changes.add_partitions(cluster, name, wanted)
        return _read_back(cluster, name, lambda found: len(found.partitions) == wanted, "altered")
    tell(f"{cluster.where(name)}: altered, and read back")
    return 0


def _check_plan(cluster: Connection, name: str, settings: Mapping[str, str | None], partitions: int | None) -> None:
    """KpipeError for a plan that the broker would refuse: it is asked before anybody confirms."""
    from kpipe.kafka import changes

    if settings:
        changes.alter_topic(cluster, name, settings, only_check=True)
    if partitions is not None:
        changes.add_partitions(cluster, name, partitions, only_check=True)


def _plan_partitions(cluster: Connection, name: str, before: int, after: int, change: ChangeOptions) -> None:
    from kpipe.ops.changing import moved_share

    if after <= before:
        what = f"it has {counted(before, 'partition')}, and Kafka only adds some; give more than {before}"
        raise UsageError(what, where=cluster.where(name))
    share = moved_share(before, after)
    print_plan(
        change,
        f"{cluster.where(name)}: {before} -> {counted(after, 'partition')}: {share:.0%} of keys go to another partition"
        " from then on, so their order holds no longer across that moment; groups begin in the new ones where "
        "auto.offset.reset says",
        action="add-partitions", cluster=cluster.label, topic=name, before=before, after=after,
        moved_keys=round(share, 4),
    )  # fmt: skip


def _check_settings(cluster: Connection, name: str, settings: dict[str, str | None]) -> None:
    """Read back; KpipeError for a setting that is not as it was asked for."""
    from kpipe.kafka.questions import Failure, client_names, configurations

    own = client_names().ConfigSource.DYNAMIC_TOPIC_CONFIG.value
    deadline = cluster.deadline()
    while True:
        answer = configurations(cluster, [name])[name]
        if isinstance(answer, Failure):
            raise answer.error(cluster.where(name), Stage.CONFIG)
        wrong = [
            key
            for key, value in settings.items()
            if (answer[key].source == own if value is None else str(answer[key].value) != value)
        ]
        if not wrong:
            return
        if time.monotonic() > deadline:
            raise KpipeError(f"read back, {wrong[0]} is not as asked", where=cluster.where(name), stage=Stage.CONFIG)
        time.sleep(0.1)


def delete_topic(text: str, connection: ConnectionOptions, change: ChangeOptions) -> int:
    """Delete a topic, after telling what is in it and who reads it."""
    from kpipe.kafka import changes
    from kpipe.ops import changing

    _, cluster, name = open_cluster(connection, text)
    entry = _existing(cluster, name)
    records = changing.records_of(cluster, [name])
    groups, troubles = changing.readers(cluster, name)
    shown = (
        f"read by {', '.join(groups[:5])}{f' and {len(groups) - 5} more' if len(groups) > 5 else ''}"
        if groups
        else "read by no group"
    )
    count = "an unknown number of records" if records is None else f"{counted(records, 'record')} at most"
    print_plan(
        change,
        f"delete {cluster.where(name)}: {counted(len(entry.partitions), 'partition')}, {count}, {shown}; "
        "this cannot be undone",
        action="delete-topic", cluster=cluster.label, topic=name, partitions=len(entry.partitions),
        records=records, groups=groups,
    )  # fmt: skip
    for trouble in troubles:
        tell(f"who reads it is not wholly known: {trouble}")
    if not confirmed(name, change):
        return 0
    changes.delete_topic(cluster, name)
    deadline = cluster.deadline()
    while name in cluster.metadata(fresh=True).topics:
        if time.monotonic() > deadline:
            raise KpipeError(
                "it was accepted, but the topic is still to be seen", where=cluster.where(name), stage=Stage.CONFIG
            )
        time.sleep(0.05)
    tell(f"{cluster.where(name)}: deleted")
    return 0


def delete_records(
    text: str, connection: ConnectionOptions, options: DeleteRecordsOptions, change: ChangeOptions
) -> int:
    """Delete what is before an offset or a time."""
    from kpipe.kafka import changes
    from kpipe.kafka.questions import Failure
    from kpipe.ops import changing

    if not options.before:
        raise UsageError("delete-records needs --before OFFSET, @TIME or end")
    _, cluster, name = open_cluster(connection, text)
    entry = _existing(cluster, name)
    befores = _plan_deletion(cluster, name, sorted(entry.partitions), options, change)
    lost, troubles = changing.losses(cluster, befores)
    for loss in lost:
        tell(f"group {loss.group} has not read {loss.records:,} of these records in {loss.topic}[{loss.partition}]")
    for trouble in troubles:
        tell(f"who would lose records is not wholly known: {trouble}")
    if not befores:
        tell("nothing to delete")
        return 0
    if not confirmed(name, change):
        return 0
    done = changes.delete_records(cluster, befores)
    failed = [
        f"{topic}[{number}]: {answer.text}" for (topic, number), answer in done.items() if isinstance(answer, Failure)
    ]
    return conclude_change(failed, f"{cluster.where(name)}: deleted; disks are freed by whole segments, later")


def _plan_deletion(
    cluster: Connection, name: str, numbers: Sequence[int], options: DeleteRecordsOptions, change: ChangeOptions
) -> dict[tuple[str, int], int]:
    """Print a row a partition; the offsets to delete to, where there is something before them."""
    from kpipe.clusters.address import parse_partitions
    from kpipe.kafka import questions
    from kpipe.kafka.questions import Failure
    from kpipe.ops.reset import times_of_first
    from kpipe.ops.table import Table, moment, number

    chosen = parse_partitions(options.partitions) if options.partitions else list(numbers)
    if missing := sorted(set(chosen) - set(numbers)):
        raise UsageError(f"no partition {missing[0]}; the topic has {len(numbers)}", where=cluster.where(name))
    places = [(name, each) for each in chosen]
    extents = questions.extents(cluster, places)
    at = _deletion_offsets(cluster, places, options.before)
    table = Table((">PARTITION", ">FIRST", ">NEW FIRST", ">END", ">DELETED", "FIRST KEPT RECORD OF"))
    befores: dict[tuple[str, int], int] = {}
    bounds: dict[tuple[str, int], tuple[int, int]] = {}
    lows: dict[tuple[str, int], int] = {}
    for place, extent in extents.items():
        found = at[place]
        for answer in (extent, found):
            if isinstance(answer, Failure):
                raise answer.error(cluster.where(*place), Stage.CONFIG)
        assert not isinstance(extent, Failure)  # noqa: S101 - raised above
        wanted = extent.end if found.offset < 0 else found.offset
        bounds[place] = (min(max(wanted, extent.start), extent.end), extent.end)
        lows[place] = extent.start
        if bounds[place][0] > extent.start:
            befores[place] = bounds[place][0]
    kept = times_of_first(cluster, bounds)
    for place, (before, end) in bounds.items():
        low, ms = lows[place], kept.get(place)
        table.add(place[1], number(low), number(before), number(end), number(before - low), moment(ms))
        if change.json:
            print_plan(
                change, "", action="delete-records", cluster=cluster.label, topic=name, partition=place[1],
                first=low, before=before, end=end, deleted=before - low, kept_ms=ms,
            )  # fmt: skip
    if not change.json:
        write(table.text(look_of(LookingOptions())))
    return befores


def _deletion_offsets(cluster: Connection, places: Sequence[tuple[str, int]], text: str) -> dict[tuple[str, int], Any]:
    """Where `--before` is in each partition; -1 stands for the end."""
    from kpipe.kafka import questions
    from kpipe.kafka.questions import Listed
    from kpipe.units import parse_time

    if text.startswith("@"):
        return questions.at_time(cluster, places, parse_time(text[1:], int(time.time() * 1000), name="--before"))
    if text == "end":
        return dict.fromkeys(places, Listed(-1, -1))
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"--before {text!r}: write an offset, @TIME or end")
    return dict.fromkeys(places, Listed(int(text), -1))


def _existing(cluster: Connection, name: str) -> Any:
    """The metadata of a topic; KpipeError when it is not there. A pattern names no topic to change."""
    from kpipe.ops.places import choose, is_pattern

    if is_pattern(name):
        raise UsageError("a change is for one topic, not a pattern; name it", where=repr(name))
    topics = cluster.metadata().topics
    choose([name], topics, cluster.label, "topic")
    return topics[name]
