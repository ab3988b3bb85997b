"""How forward's records are made to count: at least once, resumed by the trace, or in transactions.

It only wires; the records move in `kpipe.pipeline`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kpipe.clusters.address import place_name
from kpipe.delivery.commit import NoCommit
from kpipe.kafka.client import label
from kpipe.plan.groups import BothFlushed, group_committer, wire_group
from kpipe.plan.wiring import read_topics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kpipe.clusters.profiles import Cluster
    from kpipe.delivery.exactly_once import ExactlyOnce
    from kpipe.delivery.resume import Resume
    from kpipe.ledger import Ledger, TopicPartition
    from kpipe.options import ForwardOptions
    from kpipe.parts import Committer, Sink
    from kpipe.pipeline import Stage
    from kpipe.plan.source import OpenSource
    from kpipe.plan.target import Target
    from kpipe.plan.wiring import Reading, Wiring
    from kpipe.sources.topic import Hooks, Selection


@dataclass(slots=True)
class Way:
    """The last stages, the sink, and what commits behind it."""

    stages: Sequence[Stage]
    sink: Sink
    committer: Committer
    transaction: ExactlyOnce | None = None


@dataclass(slots=True)
class Delivery:
    """What the ways of delivering have in common."""

    wiring: Wiring
    opened: OpenSource
    source: Cluster
    ready: Target
    hooks: Hooks
    chosen: Selection
    options: ForwardOptions
    prefix: str
    ledger: Ledger
    resume: Resume | None = None

    def way(self, stages: list[Stage], make_sink: Callable[[], Sink]) -> Way:
        """In transactions, not at all (a preview), or at least once; `make_sink` takes the producer of that moment."""
        if self.options.exactly_once:
            transaction = self._exactly_once(make_sink)
            return Way([*stages, transaction.leave_out_refused], transaction, transaction, transaction)
        if self.wiring.sending.dry_run:
            return Way(*self.wiring.preview(stages, self.ready.topic), NoCommit())
        stages, sink = self.wiring.through_filters(stages, make_sink(), waits=False)
        first = self._leave_out() if self.options.resume_by_trace else []
        return Way([*first, *stages], sink, self._at_least_once(sink))

    def reading(self) -> Reading:
        """The source; with --resume-by-trace it gives nothing before it is known what is in the target."""
        reading = read_topics(self.opened)
        if self.resume is not None:
            from kpipe.delivery.resume import ResumingSource

            reading.source = ResumingSource(self.opened.source, self.resume)
        return reading

    def notes(self) -> list[str]:
        """What --resume-by-trace left out."""
        if self.resume is None or not self.resume.skipped:
            return []
        return [f"resume: {self.ready.where}: {self.resume.skipped:,} records were there already and were left out"]

    def _exactly_once(self, make_sink: Callable[[], Sink]) -> ExactlyOnce:
        """Transactions; dead letters of the same cluster go into them."""
        from kpipe.delivery.exactly_once import ExactlyOnce
        from kpipe.plan.modes import GroupMember, check_one_cluster, open_line

        opened, ready, stop, letters = self.opened, self.ready, self.wiring.stop, self.wiring.letters
        check_one_cluster(opened, ready, self.chosen.topics)
        line = open_line(ready)

        def sink_now() -> Sink:
            ready.producing.producer, ready.producing.troubles = line.producer, line.troubles
            return make_sink()

        transaction = ExactlyOnce(
            line,
            sink_now,
            opened.source,
            GroupMember(opened.consumer, place_name(label(ready.cluster), f"group {self.chosen.group}"), stop),
            records=self.options.txn_records,
            interval=self.options.txn_interval,
            on_error=self.wiring.policy.name,
            stopped=self.wiring.stopped,
            forced=lambda: stop.forced,
            remaining=stop.remaining,
            also_flush=letters.flush if letters is not None else lambda _timeout: True,
            on_abort=letters.forget if letters is not None else lambda: None,
            note=opened.source.note,
            commits=opened.commits,
        )
        topic = self.wiring.letter_topic
        if letters is not None and topic is not None and topic.cluster_id == ready.cluster_id:
            letters.send_with(lambda: line.producer, line.serve, transaction.join)

        def began(starts: dict[TopicPartition, int]) -> None:
            self.ledger.begin(starts)
            transaction.began(starts)

        self.hooks.began, self.hooks.revoked, self.hooks.lost = began, transaction.revoked, transaction.lost
        return transaction

    def _leave_out(self) -> list[Stage]:
        """The stage of --resume-by-trace: what is in the target already goes no further."""
        from kpipe.plan.modes import open_resume

        self.resume = open_resume(
            self.opened, self.ready, self.chosen, self.options.resume_limit, self.prefix, self.wiring.stop
        )
        return [self.resume.leave_out]

    def _at_least_once(self, sink: Sink) -> Committer:
        """Commits of the group, if there is one; with --resume-by-trace they carry how far the target has come."""
        committer: Committer = NoCommit()
        resume, group = self.resume, self.chosen.group
        if group is not None:
            tail = resume.note if resume is not None else lambda _place: ""
            committer = group_committer(self.opened, group, self.source, tail)
            wire_group(self.hooks, self.ledger, BothFlushed(sink, self.wiring.letters), committer, self.wiring.stop)
        if resume is not None:
            from kpipe.plan.modes import ResumingCommitter, wire_resume

            wire_resume(self.hooks, resume)
            committer = ResumingCommitter(committer, resume)
        return committer
