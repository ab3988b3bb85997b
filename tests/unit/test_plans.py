"""What each command wires, by its options: which way, which stages in which order, which producer, which refusal.

Nothing is sent or read: the cluster is one in this process's memory, which answers the questions of a start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kpipe.broker import EmbeddedBroker
from kpipe.errors import KpipeError, UsageError
from kpipe.kafka import client
from kpipe.options import (
    ConnectionOptions,
    EncodeOptions,
    ForwardOptions,
    InputOptions,
    Options,
    OutputOptions,
    RecordOptions,
    ReencodeOptions,
    RunOptions,
    SchemaOptions,
    SelectionOptions,
    TargetOptions,
    TraceOptions,
    VerifyOptions,
    ViewOptions,
    declared,
)
from kpipe.plan import Planned
from kpipe.plan.consume import plan_consume
from kpipe.plan.forward import plan_forward
from kpipe.plan.produce import plan_produce
from kpipe.plan.verify import plan_verify
from kpipe.shutdown import Stop
from kpipe.transform.step import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def brokers() -> Iterator[str]:
    with EmbeddedBroker(topics={"a": 3, "b": 3, "c": 2, "letters": 1, "__consumer_offsets": 1}) as broker:
        yield broker.bootstrap
    client._ADMINS.clear()  # their threads would look for the broker as long as this process lives


class Wired:
    """A run that was planned, as it would go on."""

    def __init__(self, planned: Planned, said: list[str]) -> None:
        self.planned, self.said = planned, said
        self.pipeline: Any = planned.pipeline

    @property
    def stages(self) -> list[str]:
        return [name_of(stage) for stage in self.pipeline.stages]

    @property
    def sinks(self) -> list[str]:
        """The sink, and those behind it."""
        found, sink = [], self.pipeline.sink
        while sink is not None:
            found.append(type(sink).__name__)
            sink = getattr(sink, "inner", None)
        return found

    @property
    def committer(self) -> str:
        return type(self.pipeline.committer).__name__

    @property
    def choice(self) -> str:
        """What chooses the partition of a record; empty: the client's partitioner."""
        choose = self.pipeline.sink._partition_of
        return "" if choose is None else name_of(choose)


def name_of(stage: object) -> str:
    return str(getattr(stage, "__qualname__", type(stage).__name__)).partition(".<locals>")[0]


class Planner:
    """Plans commands on one cluster, and lets go of what they opened."""

    def __init__(self, brokers: str) -> None:
        self._connection = {"brokers": brokers}
        self._open: list[Any] = []

    def _groups(self, typed: dict[str, Any], *classes: type[Options]) -> list[Any]:
        given = {**typed, **self._connection}
        assert set(given) <= set().union(*(names(each) for each in classes))
        return [each(**{name: given[name] for name in names(each) & given.keys()}) for each in classes]

    def _plan(
        self, plan: Callable[..., Planned], first: list[Any], steps: tuple[Step, ...], groups: list[Any]
    ) -> Wired:
        said: list[str] = []
        planned = plan(*first, *groups, list(steps), Stop(1), said.append)
        self._open.append(planned)
        return Wired(planned, said)

    def produce(self, target: str, *files: str, steps: tuple[Step, ...] = (), **typed: Any) -> Wired:
        groups = (
            ConnectionOptions,
            InputOptions,
            RecordOptions,
            TargetOptions,
            TraceOptions,
            EncodeOptions,
            RunOptions,
        )
        return self._plan(plan_produce, [target, files], steps, self._groups(typed, *groups))

    def consume(self, *sources: str, steps: tuple[Step, ...] = (), **typed: Any) -> Wired:
        groups = (ConnectionOptions, SelectionOptions, OutputOptions, SchemaOptions, RunOptions)
        return self._plan(plan_consume, [sources], steps, self._groups(typed, *groups))

    def forward(self, *places: str, steps: tuple[Step, ...] = (), **typed: Any) -> Wired:
        groups = (
            ConnectionOptions, SelectionOptions, ForwardOptions, TargetOptions, TraceOptions, SchemaOptions,
            ReencodeOptions, RunOptions,
        )  # fmt: skip
        return self._plan(plan_forward, [places], steps, self._groups(typed, *groups))

    def verify(self, source: str, target: str, **typed: Any) -> Any:
        connection, options, schemas = self._groups(typed, ConnectionOptions, VerifyOptions, ViewOptions)
        verification = plan_verify(source, target, connection, options, schemas, Stop(1), lambda _line: None)
        self._open.append(verification)
        return verification

    def close(self) -> None:
        for opened in self._open:
            if isinstance(opened, Planned):
                if opened.pipeline.committer is not None:
                    opened.pipeline.committer.finish(opened.pipeline.ledger, 1.0)
                opened.pipeline.source.close(1.0)
                opened.pipeline.sink.close(1.0)
            else:
                opened.close()


def names(group: type[Options]) -> set[str]:
    return {name for name, *_ in declared(group)}


@pytest.fixture
def plan(brokers: str) -> Iterator[Planner]:
    planner = Planner(brokers)
    yield planner
    planner.close()


@pytest.fixture
def lines(tmp_path: Path) -> str:
    path = tmp_path / "lines"
    path.write_bytes(b"one\ntwo\n")
    return str(path)


GREP, FILTER, SPLIT = Step("grep", "x"), Step("through", "cat"), Step("split", ".items")
ROUTED = (Step("route", ".to"), Step("route-allow", "c*"))


# --- produce ------------------------------------------------------------------------------------------------------


def test_plain_lines_go_by_the_column(plan: Planner, lines: str) -> None:
    wired = plan.produce("a", lines)
    assert wired.sinks == ["ColumnSink"]
    assert wired.stages == ["Tracer"]
    assert plan.produce("a", lines, trace="none").stages == []


@pytest.mark.parametrize(
    "typed",
    [{"headers": ("a=b",)}, {"timestamp": "now"}, {"trace": "full"}, {"spill": "f"}, {"format": "%s\\n"}, {"report": True},
     {"input": "json"}, {"also": ("b",)}, {"on_error": "dlq:letters"}],
    ids=lambda typed: next(iter(typed)),
)  # fmt: skip
def test_what_a_column_cannot_carry_goes_by_the_record(plan: Planner, lines: str, typed: dict[str, Any]) -> None:
    assert plan.produce("a", lines, **typed).sinks[0] in {"TopicSink", "FanOut"}


def test_the_order_of_what_produce_does_to_a_record(plan: Planner, lines: str) -> None:
    wired = plan.produce(
        "a", lines, input="json", key="k", headers=("a=b",), timestamp="now", also=("b",), partition="same",
        steps=(GREP, *ROUTED),
    )  # fmt: skip
    assert wired.stages == [
        "refuse_cut_names", "_key_setter", "_header_adder", "grep", "_stage",
        "Routes.admit", "_guard", "Tracer", "_drop_timestamps", "refuse_unfit", "refuse_missing",
    ]  # fmt: skip
    assert wired.sinks == ["FanOut"]


def test_a_filter_stands_between_the_stages_and_the_throttle(plan: Planner, lines: str) -> None:
    wired = plan.produce("a", lines, rate=("5/s",), count=3, steps=(GREP, FILTER))
    assert wired.sinks == ["Lines", "LimitedSink", "Throttle", "TopicSink"]
    assert wired.stages == ["grep", "refuse_newlines"]
    assert wired.pipeline.limit is None, "it is counted behind the filter"
    assert not wired.pipeline.enough()


def test_a_dry_run_of_produce_sends_nothing(plan: Planner, lines: str) -> None:
    wired = plan.produce("a", lines, dry_run=True, create=True, on_error="dlq:letters")
    assert wired.sinks == ["Preview"]
    assert (wired.stages[0], wired.stages[-1]) == ("Preview.enter", "Preview.leave")
    assert wired.pipeline.dead_letters is None
    assert wired.said == ["dry run: nothing is produced, committed or joined"]
    with pytest.raises(KpipeError, match="new"):
        plan.produce("new", lines, dry_run=True, create=True)


@pytest.mark.parametrize(
    ("typed", "choice"),
    [({}, "stick_keyless"), ({"keyless": "spread"}, ""), ({"partition": "2"}, "choose_partition"),
     ({"partition": "same"}, "keep_partitions")],
)  # fmt: skip
def test_who_chooses_the_partition(plan: Planner, lines: str, typed: dict[str, Any], choice: str) -> None:
    assert plan.produce("a", lines, input="json", **typed).choice == choice


def test_a_partition_that_the_topic_does_not_have(plan: Planner, lines: str) -> None:
    with pytest.raises(KpipeError, match="no partition 3; the topic has 3"):
        plan.produce("a", lines, input="json", partition="3")


# --- consume ------------------------------------------------------------------------------------------------------


def test_consume_without_a_group_commits_nothing(plan: Planner) -> None:
    wired = plan.consume("a", json=True)
    assert (wired.sinks, wired.stages, wired.committer) == (["StdoutSink"], [], "NoneType")
    assert wired.planned.outcome == "written"


def test_consume_in_a_group_commits_what_it_printed(plan: Planner) -> None:
    wired = plan.consume("a", group="g", json=True, count=5)
    assert (wired.committer, wired.pipeline.limit) == ("GroupCommitter", 5)


def test_consume_for_the_far_end_of_a_pipe_commits_what_that_acknowledges(plan: Planner, tmp_path: Path) -> None:
    wired = plan.consume("a", group="g", json=True, commit_acked=str(tmp_path / "acks"))
    assert wired.committer == "AckedCommitter"
    assert wired.planned.outcome == "delivered"


def test_dead_letters_of_consume_go_to_no_topic_that_is_read(plan: Planner) -> None:
    assert type(plan.consume("a", on_error="dlq:letters").pipeline.dead_letters).__name__ == "DeadLetterTopic"
    with pytest.raises(UsageError, match="the dead-letter topic is the source"):
        plan.consume("a", on_error="dlq:a")


def test_internal_decodes_internal_topics_only(plan: Planner) -> None:
    assert plan.consume("__consumer_offsets", decode="internal").stages == ["decode"]
    with pytest.raises(UsageError, match="and a is neither"):
        plan.consume("a", decode="internal")


# --- forward ------------------------------------------------------------------------------------------------------


def test_forward_without_options(plan: Planner) -> None:
    wired = plan.forward("a", "b", exit=True)
    assert (wired.stages, wired.sinks, wired.committer) == (["PartitionGrowth", "Tracer"], ["TopicSink"], "NoneType")
    assert wired.choice == "stick_keyless"


def test_the_order_of_what_forward_does_to_a_record(plan: Planner) -> None:
    wired = plan.forward(
        "a", "b", group="g", also=("c",), on_error="dlq:letters", keyless="key", timestamp="now", steps=(GREP, *ROUTED)
    )
    assert wired.stages == [
        "grep", "_stage", "PartitionGrowth", "key_keyless", "Routes.admit", "_refuse_routes_to",
        "_guard", "Tracer", "_drop_timestamps", "refuse_unfit",
    ]  # fmt: skip
    assert (wired.sinks, wired.committer) == (["FanOut"], "GroupCommitter")


def test_what_is_in_the_target_is_left_out_before_all_else(plan: Planner) -> None:
    wired = plan.forward("a", "b", group="g", resume_by_trace=True, steps=(GREP,))
    assert wired.stages[:2] == ["Resume.leave_out", "grep"]
    assert type(wired.pipeline.source).__name__ == "ResumingSource"
    assert wired.committer == "ResumingCommitter"


def test_the_same_partition_needs_as_many_of_them(plan: Planner) -> None:
    wired = plan.forward("a", "b", to_partition="same")
    assert (wired.choice, wired.stages) == ("keep_partitions", ["Tracer", "refuse_missing"])
    assert plan.forward("a", "b", group="g", partitions=("same",)).choice == "keep_partitions"
    with pytest.raises(KpipeError, match="has 2 partitions, the source has 3"):
        plan.forward("a", "c", to_partition="same")


def test_a_way_home_has_no_target(plan: Planner) -> None:
    wired = plan.forward("letters", to_origin=True)
    assert (wired.stages, wired.sinks) == (["ToOrigin"], ["HomesSink"])


def test_a_dry_run_of_forward_sends_nothing_and_would_join_no_group(plan: Planner) -> None:
    wired = plan.forward("a", "b", dry_run=True)
    assert (wired.sinks, wired.committer, wired.planned.outcome) == (["Preview"], "NoneType", "shown")
    assert not wired.pipeline.source._selection.joins


def test_no_trace_no_tracer(plan: Planner) -> None:
    assert plan.forward("a", "b", trace="none").stages == ["PartitionGrowth"]


@pytest.mark.parametrize(
    ("places", "typed", "told"),
    [
        (("a",), {}, "forward needs SOURCE"),
        (("a", "a"), {}, "source and target are the same topic"),
        (("a", "b"), {"also": ("a",)}, "source and target are the same topic"),
        (("a", "b"), {"also": ("b",)}, "records go there already"),
        (("a", "b"), {"on_error": "dlq:b"}, "the dead-letter topic is the target"),
        (("a", "b"), {"on_error": "dlq:c", "also": ("c",)}, "the dead-letter topic is one of --also"),
        (("a", "b"), {"exactly_once": True, "group": "g"}, "the embedded broker does not isolate transactions"),
        (("a", "b"), {"translate_schemas": "lookup"}, "the source cluster names no registry"),
        (("a", "new"), {}, "new"),
        (("nowhere", "b"), {}, "nowhere"),
        (("letters", "x:"), {"to_origin": True, "to_partition": "1"}, "drop --to-partition"),
    ],
)
def test_forward_says_no(plan: Planner, places: tuple[str, ...], typed: dict[str, Any], told: str) -> None:
    with pytest.raises(KpipeError) as caught:
        plan.forward(*places, **typed)
    assert told in str(caught.value)


def test_a_pattern_does_not_mean_what_is_written_to(plan: Planner) -> None:
    wired = plan.forward("^[ab]$", "b", exit=True)
    assert any("the pattern matches it, too; it is not read" in line for line in wired.said)


# --- verify -------------------------------------------------------------------------------------------------------


def test_verify_opens_both_and_asks_for_two_topics(plan: Planner) -> None:
    verification = plan.verify("a", "b")
    assert (verification.source.topic, verification.target.topic, verification.total()) == ("a", "b", 0)
    for source, target, told in (("a", "a", "the same topic"), ("^a", "b", "name them")):
        with pytest.raises(UsageError, match=told):
            plan.verify(source, target)
    with pytest.raises(UsageError, match="too little"):
        plan.verify("a", "b", memory="1K")
