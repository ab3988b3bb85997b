"""`kpipe groups [[CLUSTER:]GLOB…]`."""

from __future__ import annotations

import sys
import textwrap
import time
from typing import TYPE_CHECKING, Any

from kpipe.cli import tell
from kpipe.cli.command import build_command
from kpipe.cli.looking import conclude, json_line, look_of, pause, refuse_verb, tell_none, write
from kpipe.errors import Exit, UsageError, visible
from kpipe.ops.options import GroupsOptions, LookingOptions
from kpipe.options import GROUP, ConnectionOptions, Operand
from kpipe.units import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kpipe.kafka.connection import Connection as Cluster
    from kpipe.ops.exporter import Exporter
    from kpipe.ops.groups import Group, PartitionLag
    from kpipe.ops.places import Asked
    from kpipe.ops.trend import Trends

HELP = (
    "Show how far consumer groups are behind, worst first: records (to the end of the log) and time, exactly: the age "
    "of the first record that was not read, which is looked up. One name shows its partitions with their members. A "
    "dash is what nobody knows, as where nothing was committed. Nothing is changed, committed or joined. Exit code 1: "
    "something could not be asked, and is marked; 5: --max-lag or --max-behind is broken, or no group matches."
)
EXAMPLES = (
    ("all groups of the current cluster, worst first", "kpipe groups"),
    ("one group, partition by partition", "kpipe groups prod:billing"),
    ("rates, time to catch up, and what stands still, every 5 seconds", "kpipe groups billing --watch 5"),
    ("who reads this topic?", "kpipe groups --topic orders"),
    ("a check for cron and monitoring", "kpipe groups billing --max-behind 10m --max-lag 100000"),
)
ARGUMENTS = {
    "names": Operand(
        "[GROUP]…",
        "Groups: [CLUSTER:]NAME, GLOB or ^regex; prod: is all of prod.",
        many=True,
        required=False,
        completion=GROUP,
    )
}


def groups(names: list[str], connection: ConnectionOptions, options: GroupsOptions, looking: LookingOptions) -> int:
    """Ask and show, once or again and again."""
    from kpipe.ops.places import Clusters, is_pattern
    from kpipe.units import parse_duration

    if options.no_times and options.max_behind:
        raise UsageError("--max-behind needs the time behind; drop --no-times")
    behind_ms = parse_duration(options.max_behind, "--max-behind") * 1000 if options.max_behind else None
    clusters = Clusters(connection, tell)
    topic = options.topic
    if topic and ":" in topic:
        prefix, _, topic = topic.partition(":")
        names = [f"{prefix}:{name}" for name in names] or [f"{prefix}:"]
    asked = clusters.asked(names, free_names=True)
    refuse_verb(names, (), "groups")
    single = len(asked) == 1 and len(asked[0].patterns) == 1 and not is_pattern(asked[0].patterns[0])
    view = GroupsView(asked, options, looking, topic, single=single, behind_ms=behind_ms)
    if options.metrics:
        from kpipe.cli.groups_exporter import EVERY, export

        if options.max_lag is not None or options.max_behind or looking.json:
            raise UsageError("--metrics serves numbers; drop --json, --max-lag and --max-behind")
        export(view, options.metrics, max(1.0, parse_duration(options.watch, "--watch")) if options.watch else EVERY)
    if not options.watch:
        return view.once()
    return view.watch(max(0.2, parse_duration(options.watch, "--watch")))


class GroupsView:
    """One command's groups, looked at once or repeatedly."""

    def __init__(
        self,
        asked: Sequence[Asked],
        options: GroupsOptions,
        looking: LookingOptions,
        topic: str,
        *,
        single: bool,
        behind_ms: float | None,
    ) -> None:
        self._asked = asked
        self._options = options
        self._looking = looking
        self._topic = topic
        self._single = single
        self._behind_ms = behind_ms
        self._trends: Trends | None = None
        self._settings: dict[tuple[str, str], Mapping[str, str]] = {}

    def once(self) -> int:
        """One look."""
        found, problems = self._look()
        code = self._nobody(found) if not problems else 0
        if not self._looking.json and found:
            write(self._text(found))
        return conclude(problems + self._unknown(found), broken=bool(code) or self._broken(found))

    def _nobody(self, found: Sequence[tuple[Cluster, Group]]) -> int:
        """Whether something that was asked about is not there."""
        from kpipe.ops.places import choose

        if not self._topic:
            names = [[group.group for cluster, group in found if cluster is each.connection] for each in self._asked]
            return tell_none(zip(self._asked, names, strict=True), "group")
        if found:
            return 0
        for entry in self._asked:
            choose([self._topic], entry.connection.metadata().topics, entry.connection.label, "topic")
        tell(f"read: {self._asked[0].connection.where(self._topic)}: no group reads it")
        return int(Exit.DIFFERENCE)

    def watch(self, seconds: float) -> int:
        """A look every `seconds`; a terminal is drawn over, a pipe gets one look behind the other."""
        from kpipe.ops.trend import Trends

        self._trends = Trends()
        terminal = sys.stdout.isatty()
        while True:
            began = time.monotonic()
            found, problems = self._look()
            if not self._looking.json:
                text = f"{time.strftime('%Y-%m-%d %H:%M:%S')}\n{self._text(found)}"
                text += "".join(f"kpipe: {visible(problem)}\n" for problem in problems)
                write(f"\x1b[H\x1b[2J{text}" if terminal else f"{text}\n")
            if self._broken(found):
                return conclude(problems, broken=True)
            pause(seconds - (time.monotonic() - began))

    @property
    def labels(self) -> list[str]:
        """The clusters that are asked, as they are called."""
        return [entry.connection.label for entry in self._asked]

    def show_in(self, exporter: Exporter) -> str:
        """A look, for whoever scrapes; returns what could not be asked, in one line."""
        began = time.monotonic()
        found, problems = self._look()
        margins: dict[tuple[str, str, int], int | None] = {}
        for cluster, group in found:
            self._ask_settings(cluster, group)
            for row in group.rows:
                place = (cluster.label, row.topic, row.partition)
                known = [each for each in (margins.get(place), self._margin(cluster, row)) if each is not None]
                margins[place] = min(known, default=None)
        seconds = time.monotonic() - began
        took = {label: (seconds, sum(f": {label}" in problem for problem in problems)) for label in self.labels}
        exporter.show([(cluster.label, group) for cluster, group in found], margins, took)
        return "; ".join(problems)

    def _look(self) -> tuple[list[tuple[Cluster, Group]], list[str]]:
        problems: list[str] = []
        found = []
        for entry in self._asked:
            entry.connection.begin_look()
            for group in self._groups(entry, problems):
                found.append((entry.connection, group))
                if self._trends is not None:
                    self._trends.look(group, time.monotonic())
                    self._ask_settings(entry.connection, group)
                if self._looking.json:
                    write(json_line(self._as_json(entry.connection, group)))
                problems += [
                    f"read: {entry.connection.where(group.group)}: {problem}"
                    for problem in group.problems
                    if group.kind in ("", "consumer", "simple")
                ]
        found.sort(key=lambda pair: pair[1].worst)
        return found, problems

    def _groups(self, entry: Asked, problems: list[str]) -> Iterator[Group]:
        from kpipe.ops.groups import Survey, one

        if self._single:
            yield one(
                entry.connection,
                entry.patterns[0],
                topic=self._topic,
                times=not self._options.no_times,
                widen=self._options.all_partitions,
            )
            return
        survey = Survey(entry.connection)
        listed = survey.find(entry.patterns)
        problems += [f"read: {entry.connection.label}: {trouble}" for trouble in survey.troubles]
        found = survey.run(
            listed, topic=self._topic, times=not self._options.no_times, widen=self._options.all_partitions
        )
        for count, group in enumerate(found, 1):
            if survey.total > 100 and sys.stderr.isatty() and not self._looking.json:
                sys.stderr.write(
                    f"\r\x1b[K{count:,} of {counted(survey.total, 'group')}" if count < survey.total else "\r\x1b[K"
                )
            yield group

    def _ask_settings(self, cluster: Cluster, group: Group) -> None:
        """How long topics keep their records: asked once for each topic."""
        from kpipe.kafka.questions import Failure, configurations
        from kpipe.ops.groups import readers_of

        new = sorted(topic for topic in readers_of(group.rows) if (cluster.label, topic) not in self._settings)
        for topic, answer in (configurations(cluster, new) if new else {}).items():
            entries = {} if isinstance(answer, Failure) else answer
            self._settings[cluster.label, topic] = {name: str(entry.value) for name, entry in entries.items()}

    def _margin(self, cluster: Cluster, row: PartitionLag) -> int | None:
        from kpipe.ops.trend import margin_ms

        return margin_ms(row, self._settings.get((cluster.label, row.topic), {}), int(time.time() * 1000))

    # --- thresholds ----------------------------------------------------------------------------------------------

    def _broken(self, found: Sequence[tuple[Cluster, Group]]) -> bool:
        from kpipe.ops.groups import breaks

        return any(breaks(group, self._options.max_lag, self._behind_ms) for _, group in found)

    def _unknown(self, found: Sequence[tuple[Cluster, Group]]) -> list[str]:
        """A check cannot call good what it does not know."""
        if self._options.max_lag is None and self._behind_ms is None:
            return []
        told = []
        for cluster, group in found:
            count = sum(row.committed is None and (row.end or 0) > (row.start or 0) for row in group.rows)
            if count or (not group.rows and not group.problem):
                what = (
                    f"{counted(count, 'partition')} with records, without a committed offset"
                    if count
                    else "nothing was committed"
                )
                told.append(f"read: {cluster.where(group.group)}: {what}: how far it is behind is not known")
        return told

    # --- text ----------------------------------------------------------------------------------------------------

    def _text(self, found: Sequence[tuple[Cluster, Group]]) -> str:
        if self._single and found:
            return self._one(*found[0])
        return self._list(found)

    def _list(self, found: Sequence[tuple[Cluster, Group]]) -> str:
        from kpipe.ops.table import Table, duration, number

        watched = (">IN/S?", ">OUT/S?", ">CATCH UP?", ">MARGIN?") if self._trends is not None else ()
        lag = (">BEHIND", ">TIME BEHIND|TIME")
        columns = ("GROUP", "STATE", "KIND", "PROTOCOL", ">MEMBERS|MEM", *lag, *watched, "NOTE?")
        table = Table(columns, spare=("KIND", "PROTOCOL"))
        for cluster, group in found:
            table.add(
                cluster.where(group.group) if len(self._asked) > 1 else group.group,
                group.state or "-",
                group.kind or "-",
                group.protocol or "-",
                number(None if group.members is None else len(group.members)),
                number(group.lag),
                duration(group.behind_ms),
                *(self._group_trend(cluster, group) if self._trends is not None else ()),
                ", ".join(_group_notes(group)),
                styles={
                    5: "warn" if group.lag else "",
                    6: "warn" if group.behind_ms else "",
                    len(table.columns) - 1: "bad",
                },
            )
        return table.text(look_of(self._looking))

    def _group_trend(self, cluster: Cluster, group: Group) -> list[str]:
        from kpipe.ops.table import duration
        from kpipe.ops.trend import smallest

        assert self._trends is not None  # noqa: S101 - asked for only while watching
        margin = duration(smallest([self._margin(cluster, row) for row in group.rows]))
        return [*_rates(self._trends.sum(group), lag=group.lag), margin if margin != "-" else ""]

    def _one(self, cluster: Cluster, group: Group) -> str:
        from kpipe.ops.table import Table, duration, number

        look = look_of(self._looking)
        members = "-" if group.members is None else f"{len(group.members)}"
        records = "-" if group.lag is None else counted(group.lag, "record")
        head = (
            f"group {visible(cluster.where(group.group))}: {group.state or 'state unknown'}, "
            f"{group.protocol or 'unknown'} protocol{f', {group.assignor}' if group.assignor else ''}, "
            f"members: {members}, behind: {records}, {duration(group.behind_ms)}"
        )
        notes = _group_notes(group)
        head += f" ({', '.join(notes)})" if notes else ""
        lines = [head] if look.header else []
        if look.width is not None:
            lines = [part for line in lines for part in textwrap.wrap(line, look.width, subsequent_indent="  ")]
        watched = (">IN/S", ">OUT/S", ">CATCH UP", ">MARGIN") if self._trends is not None else ()
        table = Table(
            ("TOPIC", ">PARTITION|PART", ">COMMITTED", ">END", ">BEHIND", ">TIME BEHIND|TIME", *watched, ">LOST?",
             "MEMBER?", "HOST?", "METADATA?", "NOTE?"),
            spare=("METADATA", "HOST"),
        )  # fmt: skip
        for row in group.rows:
            table.add(
                row.topic,
                row.partition,
                number(row.committed),
                number(row.end),
                number(row.lag),
                duration(row.behind_ms),
                *(self._row_trend(cluster, group, row) if self._trends is not None else ()),
                number(row.lost) if row.lost else "",
                row.member.client_id if row.member else "",
                row.member.host if row.member else "",
                row.metadata,
                ", ".join(_row_notes(row)),
                styles={
                    4: "warn" if row.lag else "",
                    5: "warn" if row.behind_ms else "",
                    len(table.columns) - 1: "bad",
                },
            )
        return "".join(f"{line}\n" for line in lines) + (table.text(look) if table.rows else "")

    def _row_trend(self, cluster: Cluster, group: Group, row: PartitionLag) -> list[str]:
        from kpipe.ops.table import duration

        assert self._trends is not None  # noqa: S101 - asked for only while watching
        return [*_rates(self._trends.of(group.group, row), lag=row.lag), duration(self._margin(cluster, row))]

    # --- JSON ----------------------------------------------------------------------------------------------------

    def _as_json(self, cluster: Cluster, group: Group) -> dict[str, Any]:
        trend = self._trends.sum(group) if self._trends is not None else None
        return {
            "cluster": cluster.label,
            "group": group.group,
            "state": group.state or None,
            "kind": group.kind or None,
            "protocol": group.protocol or None,
            "assignor": group.assignor or None,
            "members": None if group.members is None else len(group.members),
            "lag": group.lag,
            "behind_ms": group.behind_ms,
            "lost": group.lost,
            "partitions_without_offset": group.without_offset,
            "sampled": group.sampled,
            **({} if self._trends is None else {"timestamp": int(time.time() * 1000), **_rates_as_json(trend)}),
            "partitions": [self._row_as_json(cluster, group, row) for row in group.rows],
            "problems": group.problems,
        }

    def _row_as_json(self, cluster: Cluster, group: Group, row: PartitionLag) -> dict[str, Any]:
        watched = {}
        if self._trends is not None:
            rates = self._trends.of(group.group, row)
            watched = {**_rates_as_json(rates), "margin_ms": self._margin(cluster, row)}
        return {
            "topic": row.topic,
            "partition": row.partition,
            "committed": row.committed,
            "start": row.start,
            "end": row.end,
            "stable_end": row.stable_end,
            "lag": row.lag,
            "lost": row.lost,
            "behind_ms": row.behind_ms,
            "behind_newest_ms": row.behind_newest_ms,
            "only_markers": row.only_markers,
            "member": row.member.member_id if row.member else None,
            "client": row.member.client_id if row.member else None,
            "host": row.member.host if row.member else None,
            "metadata": row.metadata,
            "notes": row.notes,
            "problem": row.problem or None,
            **watched,
        }


def _row_notes(row: PartitionLag) -> list[str]:
    return [*row.notes, *(["only markers"] if row.only_markers else []), *([row.problem] if row.problem else [])]


def _group_notes(group: Group) -> list[str]:
    notes = list(group.problems)
    if group.lost:
        notes.append(f"{counted(group.lost, 'record')} lost")
    if group.without_offset:
        notes.append(f"{group.without_offset} without offset")
    others = {note for row in group.rows for note in row.notes} - {"no offset", "data lost"}
    notes += sorted(others)
    if group.sampled:
        notes.append("time of the worst partitions only")
    return notes


def _rates(rates: Any, *, lag: int | None) -> list[str]:
    """In, out, time to catch up; `stands still`, `grows` where there is none."""
    from kpipe.ops.table import duration

    if rates is None:
        return ["", "", ""]
    if rates.still:
        forecast = "stands still"
    elif not lag:
        forecast = ""
    else:
        forecast = duration(rates.catch_up_s * 1000) if rates.catch_up_s is not None else "never"
    return [f"{rates.incoming:,.0f}", f"{rates.outgoing:,.0f}", forecast]


def _rates_as_json(rates: Any) -> dict[str, Any]:
    known = rates is not None
    return {
        "in_per_s": round(rates.incoming, 3) if known else None,
        "out_per_s": round(rates.outgoing, 3) if known else None,
        "catch_up_s": round(rates.catch_up_s, 3) if known and rates.catch_up_s is not None else None,
        "stands_still": rates.still if known else None,
    }


app = build_command(
    groups,
    name="groups",
    help=HELP,
    examples=EXAMPLES,
    arguments=ARGUMENTS,
    groups=(ConnectionOptions, GroupsOptions, LookingOptions),
    transforms=False,
)
