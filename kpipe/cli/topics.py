"""`kpipe topics [[CLUSTER:]GLOB…]`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from kpipe.cli import tell
from kpipe.cli.command import build_command
from kpipe.cli.looking import conclude, json_line, look_of, refuse_verb, tell_none, write
from kpipe.errors import UsageError
from kpipe.ops.options import LookingOptions, TopicsOptions
from kpipe.options import PLACE, ConnectionOptions, Operand

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kpipe.kafka.connection import Connection as Cluster
    from kpipe.ops.places import Asked
    from kpipe.ops.topics import Partition, Topic

HELP = (
    "List topics: partitions, replicas, records (≤ where the number is a bound: compaction and transactions leave "
    "offsets without a record), how long they are kept, and the newest timestamp. Names are [CLUSTER:]GLOB or ^regex; "
    "without one, all but Kafka's own. Nothing is changed or created. Exit code 1: something could not be asked, and "
    "is marked; 5: --health found something, or no topic matches."
)
EXAMPLES = (
    ("all topics of the current cluster", "kpipe topics"),
    ("some topics of another, with their partitions", "kpipe topics --partitions 'prod:orders*'"),
    ("is anything wrong? for cron", "kpipe topics --health prod:"),
    ("what is set on it", "kpipe topics --config orders"),
    ("the offsets at a time", "kpipe topics --at 'yesterday 03:10' orders"),
)
ARGUMENTS = {
    "names": Operand(
        "[SOURCE]…",
        "Topics: [CLUSTER:]NAME, GLOB or ^regex; prod: is all of prod.",
        many=True,
        required=False,
        completion=PLACE,
    )
}


def topics(names: list[str], connection: ConnectionOptions, options: TopicsOptions, looking: LookingOptions) -> int:
    """Ask each cluster and show its topics."""
    from kpipe.ops.places import Clusters

    views = [name for name in ("partitions", "health", "config", "at") if getattr(options, name)]
    if len(views) > 1:
        raise UsageError(f"--{views[0]} and --{views[1]} are different tables; ask for one")
    asked = Clusters(connection, tell).asked(names)
    refuse_verb(names, asked[0].connection.metadata().topics, "topics")
    if options.at:
        return _tell_offsets(asked, options.at, looking)
    problems: list[str] = []
    ill = False
    found = []
    for entry in asked:
        topics = _ask(entry, options)
        found.append((entry.connection, topics))
        ill = ill or any(topic.health for topic in topics)
        problems += [
            f"read: {entry.connection.where(topic.topic)}: {problem}" for topic in topics for problem in topic.problems
        ]
    names_by_entry = [[topic.topic for topic in topics] for _, topics in found]
    code = tell_none(zip(asked, names_by_entry, strict=True), "topic")
    if not any(names_by_entry):
        return code
    if looking.json:
        for cluster, topics in found:
            write("".join(json_line(_as_json(cluster, topic, options)) for topic in topics))
    else:
        view = VIEWS[views[0] if views else ""]
        write(view(found, looking))
    return conclude(problems, broken=bool(code) or (options.health and ill))


def _ask(entry: Asked, options: TopicsOptions) -> list[Topic]:
    from kpipe.ops import topics as asking

    cluster = entry.connection
    topics = asking.find(cluster, entry.patterns)
    asking.add_settings(cluster, topics)
    asking.add_offsets(cluster, topics, times=options.partitions)
    if options.health:
        asking.add_open_transactions(cluster, topics)
    elif options.count_records:
        asking.count(cluster, topics)
    else:
        asking.prove_exact(cluster, topics)
    return topics


Found: TypeAlias = "list[tuple[Cluster, list[Topic]]]"


def _name(cluster: Cluster, topic: Topic, found: Found) -> str:
    return cluster.where(topic.topic) if len(found) > 1 else topic.topic


def _list(found: Found, looking: LookingOptions) -> str:
    from kpipe.ops.table import Table, moment, number

    table = Table(("TOPIC", ">PARTITIONS|PART", ">REPLICAS|REPL", ">RECORDS", "KEPT", "CLEANUP", "NEWEST", "HEALTH?"))
    for cluster, topics in found:
        for topic in topics:
            bound = "" if topic.exact or topic.records is None else "≤ "
            table.add(
                _name(cluster, topic, found),
                number(len(topic.partitions)),
                number(topic.replication),
                f"{bound}{number(topic.records)}",
                _kept(topic),
                topic.cleanup or "-",
                moment(topic.newest_ms),
                ", ".join([*topic.health, *topic.problems]),
                styles={7: "bad"},
            )
    return table.text(look_of(looking))


def _kept(topic: Topic) -> str:
    """How long, and how much of a partition; `forever` for neither limit."""
    from kpipe.ops.table import duration, size

    if topic.retention_ms is None:
        return "-"
    if "delete" not in (topic.cleanup or ""):
        return "latest of key"
    limit = int(topic.settings.get("retention.bytes", -1))
    parts = [duration(topic.retention_ms)] if topic.retention_ms >= 0 else []
    parts += [size(limit)] if limit >= 0 else []
    return ", ".join(parts) or "forever"


def _partitions(found: Found, looking: LookingOptions) -> str:
    from kpipe.ops.table import Table, moment, number

    table = Table(
        (
            "TOPIC",
            ">PART",
            ">LEADER|LEAD",
            "REPLICAS|REPL",
            "ISR",
            ">START",
            ">END",
            ">STABLE",
            "FIRST",
            "NEWEST",
            "HEALTH?",
        ),
        spare=("FIRST",),
    )
    for cluster, topics in found:
        for topic in topics:
            for each in topic.partitions:
                held = each.stable_end is not None and each.end is not None and each.stable_end < each.end
                table.add(
                    _name(cluster, topic, found),
                    each.partition,
                    "-" if each.leader is None else each.leader,
                    ",".join(map(str, each.replicas)),
                    ",".join(map(str, each.isr)),
                    number(each.start),
                    number(each.end),
                    number(each.stable_end),
                    moment(each.first_ms),
                    moment(each.newest_ms),
                    ", ".join([*each.health, *([each.problem] if each.problem and not each.health else [])]),
                    styles={7: "warn" if held else "", 10: "bad"},
                )
    return table.text(look_of(looking))


def _health(found: Found, looking: LookingOptions) -> str:
    from kpipe.ops.table import Table, number

    table = Table(("TOPIC", ">PARTITION", "HEALTH", ">LEADER", "REPLICAS", "ISR", ">STABLE", ">END"))
    for cluster, topics in found:
        for topic in topics:
            for each in topic.partitions:
                if each.health:
                    table.add(
                        _name(cluster, topic, found),
                        each.partition,
                        ", ".join(each.health),
                        "-" if each.leader is None else each.leader,
                        ",".join(map(str, each.replicas)),
                        ",".join(map(str, each.isr)),
                        number(each.stable_end),
                        number(each.end),
                        styles={2: "bad"},
                    )
    return table.text(look_of(looking)) if table.rows else ""


def _settings(found: Found, looking: LookingOptions) -> str:
    from kpipe.ops.table import Table

    table = Table(("TOPIC", "SETTING", "VALUE"))
    for cluster, topics in found:
        for topic in topics:
            for name, value in (topic.configuration or {}).items():
                table.add(_name(cluster, topic, found), name, value)
    return table.text(look_of(looking))


VIEWS = {"": _list, "partitions": _partitions, "health": _health, "config": _settings}


def _as_json(cluster: Cluster, topic: Topic, options: TopicsOptions) -> dict[str, Any]:
    return {
        "cluster": cluster.label,
        "topic": topic.topic,
        "partitions": len(topic.partitions),
        "replication": topic.replication,
        "records": topic.records,
        "exact": topic.exact,
        "retention_ms": topic.retention_ms,
        "cleanup_policy": topic.cleanup,
        "newest_ms": topic.newest_ms,
        "config": topic.configuration,
        "health": topic.health,
        "problems": topic.problems,
        **({"details": [_partition_as_json(each) for each in topic.partitions]} if options.partitions else {}),
    }


def _partition_as_json(each: Partition) -> dict[str, Any]:
    return {
        "partition": each.partition,
        "leader": each.leader,
        "replicas": each.replicas,
        "isr": each.isr,
        "start": each.start,
        "end": each.end,
        "stable_end": each.stable_end,
        "first_ms": each.first_ms,
        "newest_ms": each.newest_ms,
        "health": each.health,
        "problem": each.problem or None,
    }


def _tell_offsets(asked: Sequence[Asked], text: str, looking: LookingOptions) -> int:
    """`--at`: a row a partition, also as `TOPIC PARTITION OFFSET` for scripts."""
    import time

    from kpipe.kafka.questions import Failure
    from kpipe.ops import topics as asking
    from kpipe.ops.table import Table, moment, number, rfc3339
    from kpipe.units import parse_time

    ms = parse_time(text.removeprefix("@"), int(time.time() * 1000), name="--at")
    table = Table(("TOPIC", ">PARTITION", ">OFFSET", "TIME OF THAT RECORD"))
    problems = []
    lines = []
    code = 0
    for entry in asked:
        cluster = entry.connection
        topics = asking.find(cluster, entry.patterns)
        code |= tell_none([(entry, [each.topic for each in topics])], "topic")
        found = asking.offsets_at(cluster, topics, ms)
        for (topic, partition), answer in sorted(found.items()):
            failed = answer.text if isinstance(answer, Failure) else ""
            offset = None if isinstance(answer, Failure) else answer.offset
            record_ms = None if isinstance(answer, Failure) or answer.timestamp < 0 else answer.timestamp
            if failed:
                problems.append(f"read: {cluster.where(topic, partition)}: {failed}")
            name = cluster.where(topic) if len(asked) > 1 else topic
            told = failed or (moment(record_ms) if record_ms is not None else "no record since; this is the end")
            table.add(name, partition, number(offset) if look_of(looking).width else offset, told)
            lines.append(
                {
                    "cluster": cluster.label,
                    "topic": topic,
                    "partition": partition,
                    "offset": offset,
                    "timestamp": record_ms,
                    "time": rfc3339(record_ms),
                    "problem": failed or None,
                }
            )
    if not lines:
        return code
    write("".join(map(json_line, lines)) if looking.json else table.text(look_of(looking)))
    return conclude(problems, broken=bool(code))


app = build_command(
    topics,
    name="topics",
    help=HELP,
    examples=EXAMPLES,
    arguments=ARGUMENTS,
    groups=(ConnectionOptions, TopicsOptions, LookingOptions),
    transforms=False,
    without=("config",),  # KPIPE_CONFIG names the file here
)
