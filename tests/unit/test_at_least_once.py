"""A group's listener: what was read of partitions is delivered and committed before they go, for a minute at most."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from kpipe.delivery.at_least_once import REVOKE_TIMEOUT, AtLeastOnceGroup, both, group_committer
from kpipe.delivery.backchannel.gate import Gate, GatedLedger
from kpipe.delivery.commit import Commits, LetGo
from kpipe.errors import KpipeError
from kpipe.ledger import Ledger
from kpipe.record import Batch

if TYPE_CHECKING:
    from collections.abc import Callable

PLACE = ("orders", 0)


class Committer:
    def __init__(self, error: KpipeError | None = None) -> None:
        self.commits: list[dict[Any, int]] = []
        self.forgotten: list[Any] = []
        self.answers: list[Any] = []
        self.hastened = 0
        self.error = error

    def hasten(self) -> None:
        self.hastened += 1

    def commit_now(self, offsets: Any) -> None:
        self.commits.append(dict(offsets))
        if self.error is not None:
            raise self.error

    def forget(self, places: list[Any]) -> None:
        self.forgotten += places

    def note_answer(self, error: Any, partitions: list[Any]) -> None:
        self.answers.append((error, partitions))


class Sink:
    """Each flush takes a second; `settle` runs in the flush with this number."""

    def __init__(self, lab: Lab, *, flushed: bool, settle_at: int = 10**9) -> None:
        self.lab, self.flushed, self.settle_at, self.flushes = lab, flushed, settle_at, 0

    def flush(self, timeout: float) -> bool:
        self.flushes += 1
        self.lab.now += 1
        if self.flushes == self.settle_at:
            self.lab.settle()
        return self.flushed


class Lab:
    def __init__(self, *, error: KpipeError | None = None, flushed: bool = False, settle_at: int = 10**9) -> None:
        self.ledger, self.now, self.said = Ledger(keeps_offsets=True), 0.0, []
        self.committer, self.sink = Committer(error), Sink(self, flushed=flushed, settle_at=settle_at)
        self.stop = SimpleNamespace(forced=False)
        self.group = self.listening(self.ledger)
        self.reports: list[Callable[[Any, Any], None]] = []

    def listening(self, ledger: Any) -> AtLeastOnceGroup:
        said: list[str] = self.said
        return AtLeastOnceGroup(ledger, self.sink, self.committer, self.stop, said.append, lambda: self.now)  # type: ignore[arg-type]

    def read(self, *offsets: int) -> None:
        count = len(offsets)
        batch = Batch([b"v"] * count, topics=["orders"] * count, partitions=[0] * count, offsets=list(offsets))
        flight = self.ledger.track(batch, batch.snapshot())
        self.reports += list(flight.take_reports(batch))

    def settle(self) -> None:
        for report in self.reports:
            report(None, None)
        self.ledger.settle()


def test_what_is_in_flight_is_delivered_and_committed_before_partitions_go() -> None:
    lab = Lab(settle_at=3)
    lab.group.began({PLACE: 5})
    lab.read(5, 6)
    lab.group.revoked([PLACE])
    assert lab.sink.flushes == 3
    assert lab.committer.commits == [{PLACE: 7}]
    assert lab.committer.forgotten == [PLACE]
    assert lab.ledger.prefix() == {}


def test_only_partitions_that_go_are_committed_and_forgotten() -> None:
    lab = Lab()
    lab.group.began({PLACE: 5, ("orders", 1): 9})
    assert lab.committer.hastened == 1, "and soon: the run may be killed"
    lab.read(5)
    lab.settle()
    lab.group.revoked([("orders", 1)])
    assert lab.committer.commits == [{("orders", 1): 9}], "where it began is committed, too"
    assert lab.committer.forgotten == [("orders", 1)]
    assert lab.ledger.prefix() == {PLACE: 6}


def test_a_rebalance_waits_for_a_minute_and_commits_what_is_settled() -> None:
    lab = Lab()
    lab.read(5)
    lab.settle()
    lab.reports.clear()
    lab.read(6)
    lab.group.revoked([PLACE])
    assert lab.sink.flushes == REVOKE_TIMEOUT
    assert lab.committer.commits == [{PLACE: 6}]


def test_a_rebalance_in_mid_batch_does_not_wait_for_what_is_not_sent_yet() -> None:
    lab = Lab(flushed=True)
    lab.read(5)
    lab.group.revoked([PLACE])
    assert lab.sink.flushes == 1


def test_a_second_signal_ends_the_wait() -> None:
    lab = Lab()
    lab.stop.forced = True
    lab.read(5)
    lab.group.revoked([PLACE])
    assert lab.sink.flushes == 0


@pytest.mark.parametrize("gated", [False, True], ids=["plain", "commit-acked"])
def test_a_commit_that_came_too_late_is_told_and_ends_nothing(gated: bool) -> None:
    lab = Lab(error=LetGo("another member took over"))
    group = lab.listening(GatedLedger(lab.ledger, Gate())) if gated else lab.group
    lab.read(5)
    lab.settle()
    group.revoked([PLACE])
    assert [text for text in lab.said if "another member took over" in text]
    assert lab.committer.forgotten == [PLACE]


def test_a_commit_that_came_too_late_is_not_told_when_nothing_was_read() -> None:
    lab = Lab(error=LetGo("another member took over"))
    lab.group.revoked([PLACE])
    assert lab.said == []


def test_a_commit_that_is_refused_is_raised_and_the_partitions_are_forgotten_all_the_same() -> None:
    lab = Lab(error=KpipeError("not authorised"))
    lab.read(5)
    lab.settle()
    with pytest.raises(KpipeError):
        lab.group.revoked([PLACE])
    assert lab.committer.forgotten == [PLACE]


def test_what_was_lost_is_not_committed() -> None:
    lab = Lab()
    lab.read(5)
    lab.settle()
    lab.group.lost([PLACE])
    assert (lab.committer.commits, lab.committer.forgotten, lab.ledger.prefix()) == ([], [PLACE], {})


def test_the_answer_to_a_commit_reaches_the_committer() -> None:
    lab = Lab()
    lab.group.committed("error", ["entry"])  # type: ignore[list-item]
    assert lab.committer.answers == [("error", ["entry"])]


def test_letters_are_waited_for_too_and_without_them_nothing_stands_between() -> None:
    done, waiting = SimpleNamespace(flush=lambda _t: True), SimpleNamespace(flush=lambda _t: False)
    assert both(done, None) is done
    assert both(done, done).flush(0.1)
    assert not both(done, waiting).flush(0.1)
    assert not both(waiting, done).flush(0.1)


def test_a_rebalance_sees_a_signal_within_a_moment() -> None:
    lab = Lab()
    slices: list[float] = []

    def flush(timeout: float) -> bool:
        slices.append(timeout)
        lab.now += 30
        return False

    lab.sink.flush = flush  # type: ignore[method-assign]
    lab.read(5)
    lab.group.revoked([PLACE])
    assert 0 < max(slices) <= 0.5


def test_the_commits_of_a_group_carry_what_the_source_and_the_target_say() -> None:
    """A topic's id tells a re-created one apart, the tail where a resumed run must look."""
    sent: list[Any] = []

    class Consumer:
        def commit(self, *, offsets: list[Any], asynchronous: bool) -> None:
            sent.extend((each.topic, each.partition, each.offset, each.metadata) for each in offsets)

    source = SimpleNamespace(at_eof={PLACE: 9}, note=lambda topic: f"id-of-{topic}", share_is_done=True)
    commits = Commits()
    committer = group_committer(Consumer(), source, "prod:group g", commits, lambda place: f"tail-of-{place[1]}")  # type: ignore[arg-type]
    assert committer.commits is commits
    ledger = Ledger(keeps_offsets=True)
    committer.tick(ledger)  # at once: the others of the group wait for this member
    assert sent == [("orders", 0, 9, "id-of-orders tail-of-0")]
    group_committer(Consumer(), source, "prod:group g", commits).finish(ledger, 1.0)  # type: ignore[arg-type]
    assert sent[1:] == [("orders", 0, 9, "id-of-orders")]
