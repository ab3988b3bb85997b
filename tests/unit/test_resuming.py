"""How resume stands in a run: the floor goes with each commit, and a rebalance asks anew what is in the target."""

from __future__ import annotations

import time
from typing import Any

import pytest

from kpipe.delivery.resuming import LEAST, ResumingCommitter, ResumingGroup, ResumingSource
from kpipe.errors import KpipeError
from kpipe.ledger import Ledger
from kpipe.record import Batch

PLACE, OTHER = ("t", 0), ("t", 1)


class Log:
    """Stands for resume, source, committer or group alike: it notes what was called on whom, in order."""

    def __init__(self, name: str, log: list[Any], *, fails: bool = False) -> None:
        self._name, self._log, self._fails = name, log, fails
        self.finished = False
        self.pending = False
        self.owned = {PLACE, OTHER}
        self.at_eof = {PLACE: 5, OTHER: 6}

    def __getattr__(self, called: str) -> Any:
        def call(*given: Any) -> None:
            self._log.append((self._name, called, *given))
            if self._fails:
                raise KpipeError(f"{self._name} failed")

        return call


def test_the_floor_is_brought_up_to_date_before_the_commit_that_carries_it() -> None:
    log: list[Any] = []
    ledger = Ledger()
    ResumingCommitter(Log("resume", log), Log("group", log)).tick(ledger)  # type: ignore[arg-type]
    assert log == [("resume", "tick", ledger), ("group", "tick", ledger)]


def test_the_end_leaves_the_commit_its_time_and_lets_go_of_the_target() -> None:
    log: list[Any] = []
    ledger = Ledger()
    ResumingCommitter(Log("resume", log), Log("group", log)).finish(ledger, 10.0)  # type: ignore[arg-type]
    assert [entry[:2] for entry in log] == [("resume", "end"), ("group", "finish"), ("resume", "close")]
    assert log[0][3] == 5.0
    assert 9.0 < log[1][3] <= 10.0


def test_a_target_that_took_all_the_time_leaves_the_commit_a_moment() -> None:
    log: list[Any] = []

    class Slow(Log):
        def end(self, _ledger: Ledger, timeout: float) -> None:
            time.sleep(2 * timeout)

    ResumingCommitter(Slow("resume", log), Log("group", log)).finish(Ledger(), 0.01)  # type: ignore[arg-type]
    assert log[0][3] == LEAST > 0


def test_without_a_group_there_is_only_the_target() -> None:
    log: list[Any] = []
    committer = ResumingCommitter(Log("resume", log))  # type: ignore[arg-type]
    committer.tick(Ledger())
    committer.finish(Ledger(), 1.0)
    assert [entry[1] for entry in log] == ["tick", "end", "close"]


def test_a_commit_that_fails_lets_go_of_the_target_too() -> None:
    log: list[Any] = []
    with pytest.raises(KpipeError, match="group failed"):
        ResumingCommitter(Log("resume", log), Log("group", log, fails=True)).finish(Ledger(), 1.0)  # type: ignore[arg-type]
    assert log[-1] == ("resume", "close")


def test_partitions_that_come_are_looked_for_and_those_that_go_are_forgotten() -> None:
    log: list[Any] = []
    group = ResumingGroup(Log("resume", log), Log("group", log))  # type: ignore[arg-type]
    group.began({PLACE: 3})
    group.revoked([PLACE])
    group.lost([OTHER])
    group.committed(None, [])
    assert log == [
        ("group", "began", {PLACE: 3}),
        ("resume", "look", {PLACE: 3}),
        ("group", "revoked", [PLACE]),
        ("resume", "forget", [PLACE]),
        ("group", "lost", [OTHER]),
        ("resume", "forget", [OTHER]),
        ("group", "committed", None, []),
    ]


@pytest.mark.parametrize("call", ["revoked", "lost"])
def test_what_could_not_be_committed_is_forgotten_all_the_same(call: str) -> None:
    log: list[Any] = []
    group = ResumingGroup(Log("resume", log), Log("group", log, fails=True))  # type: ignore[arg-type]
    with pytest.raises(KpipeError):
        getattr(group, call)([PLACE])
    assert log[-1] == ("resume", "forget", [PLACE])


def test_a_run_without_a_group_hears_of_nothing_but_its_own_look() -> None:
    log: list[Any] = []
    group = ResumingGroup(Log("resume", log))  # type: ignore[arg-type]
    group.began({PLACE: 0})
    group.revoked([PLACE])
    group.lost([PLACE])
    group.committed(None, [])
    assert [entry[1] for entry in log] == ["look", "forget", "forget"]


def batch(*places: tuple[str, int]) -> Batch:
    count = len(places)
    return Batch(
        [b"v"] * count,
        topics=[topic for topic, _ in places],
        partitions=[partition for _, partition in places],
        offsets=list(range(count)),
    )


class Source(Log):
    """Its reads bring `batches`, and a rebalance with the first: until `resume` has looked, they wait."""

    def __init__(self, log: list[Any], resume: Log, *batches: Batch) -> None:
        super().__init__("source", log)
        self._batches, self._resume = list(batches), resume

    def read(self) -> Batch | None:
        self._log.append(("source", "read"))
        self._resume.pending = True
        return self._batches.pop(0) if self._batches else None


def waiting(*places: tuple[str, int]) -> tuple[ResumingSource, Source, Log, list[Any]]:
    log: list[Any] = []
    resume = Log("resume", log)
    source = Source(log, resume, batch(*places))
    reader = ResumingSource(source, resume)  # type: ignore[arg-type]
    assert reader.read() is None
    assert reader.read() is None  # one step of the look-up
    assert log[-2:] == [("source", "keep_alive"), ("resume", "step")]
    return reader, source, resume, log


def test_what_waited_is_given_out_once_without_reading_more() -> None:
    reader, _, resume, log = waiting(PLACE, OTHER)
    resume.pending = False
    taken = reader.read()
    assert taken is not None
    assert (taken.offsets, taken.read, taken.index) == ([0, 1], 2, None)
    assert log.count(("source", "read")) == 1
    assert reader.read() is None
    assert log.count(("source", "read")) == 2


def test_of_what_waited_the_part_that_went_to_another_member_was_never_read() -> None:
    reader, source, resume, _ = waiting(PLACE, OTHER, PLACE)
    source.owned = {PLACE}
    resume.pending = False
    taken = reader.read()
    assert taken is not None
    assert (taken.offsets, taken.read, taken.index) == ([0, 2], 2, None)


def test_what_waits_keeps_the_end_of_its_partitions_from_being_committed() -> None:
    reader, source, _, log = waiting(OTHER)
    reader.leave()
    assert source.at_eof == {PLACE: 5}
    assert log[-1] == ("source", "leave")


def test_with_nothing_waiting_the_ends_stay() -> None:
    log: list[Any] = []
    source = Log("source", log)
    reader = ResumingSource(source, Log("resume", log))  # type: ignore[arg-type]
    reader.leave()
    reader.keep_alive()
    reader.close(3.0)
    assert source.at_eof == {PLACE: 5, OTHER: 6}
    assert log == [("source", "leave"), ("source", "keep_alive"), ("source", "close", 3.0)]


def test_the_source_is_not_finished_while_something_waits_or_is_looked_for() -> None:
    reader, source, resume, _ = waiting(PLACE)
    source.finished = True
    assert not reader.finished
    resume.pending = False
    reader.read()
    assert reader.finished


@pytest.mark.parametrize("missing", ["topics", "partitions"])
def test_what_waited_without_a_place_is_given_out_as_it_is(missing: str) -> None:
    log: list[Any] = []
    resume = Log("resume", log)
    odd = batch(PLACE)
    setattr(odd, missing, None)
    reader = ResumingSource(Source(log, resume, odd), resume)  # type: ignore[arg-type]
    assert reader.read() is None
    resume.pending = False
    assert reader.read() is odd


class Plain(Log):
    """A source whose read brings nothing, and a rebalance where `rebalances`."""

    def __init__(self, log: list[Any], resume: Log, *, rebalances: bool) -> None:
        super().__init__("source", log)
        self._resume, self._rebalances = resume, rebalances

    def read(self) -> Batch | None:
        self._resume.pending = self._rebalances
        return None


@pytest.mark.parametrize(
    ("at_the_end", "rebalances", "finished"), [(True, False, True), (False, False, False), (True, True, False)]
)
def test_it_has_finished_with_the_source_and_nothing_to_look_for(
    at_the_end: bool, rebalances: bool, finished: bool
) -> None:
    log: list[Any] = []
    resume = Log("resume", log)
    source = Plain(log, resume, rebalances=rebalances)
    source.finished = at_the_end
    reader = ResumingSource(source, resume)  # type: ignore[arg-type]
    assert reader.read() is None
    assert reader.finished is finished
