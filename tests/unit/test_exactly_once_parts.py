"""What each side of a transaction may rely on: the sink, the group's listener, the letters, and the last commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from exactly_once_lab import PLACE, FakeSink, FakeSource, Lab

from kpipe.delivery.commit import Commits
from kpipe.delivery.exactly_once import ATTEMPTS, GATHERING, ExactlyOnce
from kpipe.delivery.transaction import FencedError, Outcome
from kpipe.errors import Exit, KpipeError, Stage, UndeliveredError
from kpipe.ledger import Ledger
from kpipe.record import Batch
from kpipe.run_state import RunState
from kpipe.sinks.topic import NotSent
from tests.fakes import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.flight import DeliveryReport, Flight

OTHER = ("orders", 1)


def once_of(lab: Lab, **more: Any) -> ExactlyOnce:
    """Another one on the same fakes."""
    given: dict[str, Any] = {
        "records": 2,
        "interval": 100.0,
        "on_error": "stop",
        "stopped": lambda: lab.stop.requested,
        "forced": lambda: lab.stop.forced,
        "clock": lambda: lab.now,
    }
    state = RunState(Ledger(keeps_offsets=True))
    return ExactlyOnce(lab.line, lambda: FakeSink(lab), lab.source, lab.member, state, **(given | more))  # type: ignore[arg-type,return-value]


class HoldingSink(FakeSink):
    """Reports only when it is flushed, and only when `lets_go`; each flush takes the time it may."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self.held: list[tuple[DeliveryReport, Any]] = []
        self.lets_go = True
        self.purged = self.closed = 0

    def send(self, batch: Batch, flight: Flight, _idle: Any) -> None:
        for value, report in zip(batch.values, flight.take_reports(batch), strict=False):
            self.lab.sent.append(value)
            self.held.append((report, self.lab.refuse.get(value)))

    def flush(self, timeout: float) -> bool:
        if not self.lets_go:
            self.lab.now += timeout
            return not self.held
        held, self.held = self.held, []
        for report, error in held:
            report(error, None)
        return True

    def purge(self) -> None:
        self.purged += 1

    def close(self, timeout: float) -> None:
        self.closed += 1


def holding(*values: bytes, **more: Any) -> tuple[Lab, HoldingSink]:
    lab = Lab(*values, **more)
    sink = HoldingSink(lab)
    lab.once._make_sink = lambda: sink
    lab.once._sink = sink
    lab.pipeline.sleep = lambda seconds: setattr(lab, "now", lab.now + seconds)
    return lab, sink


# --- the sink ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("culprit", [0, 5, 39])
def test_the_culprit_of_a_refused_batch_is_found_over_transactions_and_all_others_arrive(culprit: int) -> None:
    """A broker refuses a batch whole: its records are sent in ever smaller parts until one is refused alone."""
    values = [b"%02d" % number for number in range(40)]
    lab, sink = holding(*values, records=1000, on_error="skip")
    lab.source.read = lambda: whole(lab.source)  # type: ignore[method-assign]
    bad = values[culprit]
    seen: list[list[bytes | None]] = []

    def send(batch: Batch, flight: Flight, idle: Any) -> None:
        seen.append(list(batch.values))
        refused = ClientError("INVALID_RECORD") if bad in batch.values else None
        lab.refuse = dict.fromkeys(batch.values, refused) if refused else {}
        HoldingSink.send(sink, batch, flight, idle)

    sink.send = send  # type: ignore[method-assign]
    lab.run()
    assert (lab.ledger.delivered, lab.ledger.failed, lab.commits) == (39, 1, [40])
    assert [bad] in seen
    assert lab.line.log.count("abort") <= 3
    assert lab.sent[-39:] == [value for value in values if value != bad]


def whole(source: FakeSource) -> Batch | None:
    """All that is left in one batch."""
    source.finished = True
    offsets: list[int | None] = list(range(source.position, len(source.values)))
    source.position = len(source.values)
    if not offsets:
        return None
    columns: dict[str, Any] = {"topics": ["orders"] * len(offsets), "partitions": [0] * len(offsets)}
    return Batch([source.values[offset or 0] for offset in offsets], offsets=offsets, **columns)


def test_suspects_are_sent_each_part_only_when_the_one_before_is_written() -> None:
    lab, sink = holding(b"0", b"1", records=100)
    flight = lab.ledger.track(*two_batches())
    lab.once._suspects.accuse([(flight, 0, None), (flight, 1, None)])
    sink.lets_go = False
    batch, _ = two_batches()
    lab.once.send(batch, flight, lambda: True)
    assert lab.sent == [b"0"]
    assert lab.line.timeout <= lab.now <= lab.line.timeout + 0.5


def test_behind_a_part_that_was_refused_nothing_is_sent() -> None:
    lab, _ = holding(b"0", b"1", records=100)
    flight = lab.ledger.track(*two_batches())
    lab.once._suspects.accuse([(flight, 0, None), (flight, 1, None)])
    lab.refuse[b"0"] = ClientError("INVALID_RECORD")
    batch, _ = two_batches()
    lab.once.send(batch, flight, lambda: True)
    assert lab.sent == [b"0"]
    assert lab.now == 0.0


def test_a_second_signal_ends_the_wait_between_two_parts() -> None:
    lab, sink = holding(b"0", b"1", records=100)
    flight = lab.ledger.track(*two_batches())
    lab.once._suspects.accuse([(flight, 0, None), (flight, 1, None)])
    sink.lets_go = False
    lab.once._forced = lambda: True
    batch, _ = two_batches()
    lab.once.send(batch, flight, lambda: True)
    assert lab.sent == [b"0"]
    assert lab.now <= 0.5


def two_batches() -> tuple[Batch, Batch]:
    batch = Batch([b"0", b"1"], topics=["orders"] * 2, partitions=[0, 0], offsets=[0, 1])
    return batch, batch.snapshot()


def test_a_transaction_that_is_open_too_long_is_given_up_while_there_is_no_room() -> None:
    lab = Lab(b"0")
    lab.once.ensure_open()
    assert lab.once._has_patience()
    lab.now = lab.line.timeout * 0.75
    assert lab.once._has_patience()
    lab.now += 0.1
    assert not lab.once._has_patience()
    lab.once.tick(lab.ledger)
    assert lab.line.log == ["begin", "abort"]


def test_without_a_transaction_or_after_a_second_signal_nobody_waits_for_room() -> None:
    lab = Lab(b"0")
    assert not lab.once._has_patience()
    lab = Lab(b"0")
    lab.once.ensure_open()
    lab.once._forced = lambda: True
    assert not lab.once._has_patience()
    assert not lab.once._broken


def test_reports_are_served_with_each_poll() -> None:
    lab = Lab(b"0")
    served: list[float] = []
    lab.line.serve = lambda timeout=0: served.append(timeout)  # type: ignore[method-assign]
    lab.once.poll()
    assert served == [0]


def test_nothing_of_a_transaction_is_sent_again_within_it() -> None:
    lab = Lab(b"0")
    flight = lab.ledger.track(*two_batches())
    failures = [(flight, 0, ClientError("INVALID_RECORD"))]
    assert lab.once.took_along(failures, lambda: True) is False
    assert lab.once.resend(failures, lambda *_: True, lambda: True) == failures


def test_a_brokers_word_about_a_batch_judges_a_record_only_when_it_was_alone() -> None:
    lab = Lab(b"0")
    refusal, timed_out, own = ClientError("INVALID_RECORD"), ClientError("_MSG_TIMED_OUT"), NotSent("too large")
    assert [lab.once.refused(each) for each in (refusal, timed_out, own)] == [False, False, True]
    lab.once._isolated = True
    assert [lab.once.refused(each) for each in (refusal, timed_out, own)] == [True, False, True]
    assert lab.once.unwritten(refusal)
    assert not lab.once.unwritten(timed_out)


def test_a_flush_ends_where_nothing_better_can_come() -> None:
    lab, sink = holding(b"0", b"1", records=100)
    lab.pipeline.turn()
    sink.lets_go = False
    assert lab.once.flush(0.1) is False
    lab.once._broken = True
    assert lab.once.flush(0.1)
    lab.once._broken = False
    sink.held[0][0](ClientError("INVALID_RECORD"), None)
    assert lab.once.flush(0.1)
    sink.lets_go = True


@pytest.mark.parametrize("state", ["open", "fenced", "stuck", "idle"])
def test_a_producer_is_closed_in_peace_only_without_a_transaction(state: str) -> None:
    lab, sink = holding(b"0")
    let_go: list[float] = []
    lab.line.discard = let_go.append  # type: ignore[method-assign,assignment]
    lab.line.opened = 0.0 if state == "open" else None
    lab.line.fenced, lab.line.stuck = state == "fenced", state == "stuck"
    lab.once.close(3.0)
    assert (let_go, sink.closed) == (([], 1) if state == "idle" else ([3.0], 0))


# --- when it commits -----------------------------------------------------------------------------------------------


def test_a_transaction_ends_after_so_many_records_or_so_much_time() -> None:
    lab = Lab(b"0", b"1", b"2", b"3", records=3)
    lab.pipeline.turn()
    assert lab.line.log == ["begin"]
    lab.pipeline.turn()
    assert lab.line.log == ["begin", ("commit", {PLACE: 4})]
    lab = Lab(b"0", b"1", records=100)
    lab.pipeline.turn()
    lab.now = 99.9
    lab.once.tick(lab.ledger)
    assert lab.line.log == ["begin"]
    lab.now = 100.0
    lab.once.tick(lab.ledger)
    assert lab.line.log == ["begin", ("commit", {PLACE: 2})]


def test_the_time_of_a_transaction_runs_from_its_first_record() -> None:
    lab = Lab(b"0", b"1", records=100)
    lab.now = 90.0
    lab.pipeline.turn()
    lab.now = 110.0
    lab.once.tick(lab.ledger)
    assert lab.line.log == ["begin"]


def test_commits_are_counted_and_an_aborted_one_is_none() -> None:
    lab = Lab(b"0", b"1")
    lab.once.commits = commits = Commits()
    lab.line.outcomes = [Outcome.ABORTED]
    lab.run()
    assert (commits.made, commits.failed) == (1, 1)
    assert once_of(lab, commits=commits).commits is commits


def test_an_interval_without_records_commits_nothing_and_is_a_new_start() -> None:
    lab = Lab()
    lab.ledger.next_offsets["t", 0] = 3
    lab.once.state.told |= {("t", 0, 2)}
    lab.now = 200.0
    lab.once.tick(lab.ledger)
    assert (lab.line.log, lab.once.state.told) == ([], set())


def test_of_partitions_that_went_away_nothing_is_committed() -> None:
    lab = Lab(b"0", b"1", records=100)
    lab.pipeline.turn()
    lab.source.owned = set()
    assert lab.once.commit_all() is False
    assert lab.line.log == ["begin", "abort"]
    assert lab.source.rewound == [({}, 2)]


def test_offsets_that_the_group_has_already_are_no_news() -> None:
    lab = Lab()
    lab.once.began({PLACE: 5, OTHER: 0})
    lab.source.owned = {PLACE, OTHER}
    assert lab.once._news({PLACE: 5, OTHER: 0, ("theirs", 0): 7}) == {}
    assert lab.once._news({PLACE: 6, OTHER: 0}) == {PLACE: 6}
    lab.once._forget([OTHER])
    assert lab.once._news({OTHER: 0}) == {OTHER: 0}, "of a new stay nothing is known yet"
    lab.source.at_eof = {PLACE: 4}
    assert lab.once._news({PLACE: 6}) == {PLACE: 6}, "an end that was passed since"


def test_the_wait_for_reports_leaves_the_commit_its_time() -> None:
    lab, sink = holding(b"0", b"1", records=100)
    lab.pipeline.turn()
    sink.lets_go = False
    lab.once.tick(lab.ledger)
    lab.now = 2.0
    assert lab.once._time_left() == lab.line.timeout - 2.0
    lab.once._due = 0.0
    lab.once.tick(lab.ledger)
    assert 8.0 <= lab.now <= 8.3  # three quarters of the 8 s that were left of 10
    lab.now = 99.0
    assert lab.once._time_left() == 1.0
    lab.line.opened = None
    assert lab.once._time_left() == lab.line.timeout


def test_a_failure_ends_the_wait_for_reports_at_once() -> None:
    lab, sink = holding(b"0", b"1", records=100)
    lab.pipeline.turn()
    sink.lets_go = False
    sink.held[0][0](ClientError("_MSG_TIMED_OUT"), None)
    assert lab.once.commit_all() is False
    assert (lab.now, lab.once._broken) == (pytest.approx(0.1), False)
    assert lab.line.log == ["begin"]  # the pipeline looks at the failure first


def test_a_producer_that_does_not_find_back_is_replaced_in_the_wait_for_reports() -> None:
    """Aborting would take as long as its transaction may last."""
    lab, sink = holding(b"0", b"1", records=100)
    lab.once._outdone = lambda _heard: lab.now > 3.0
    lab.pipeline.turn()
    sink.lets_go = False
    assert lab.once.commit_all() is False
    assert (lab.line.log, lab.line.lost) == (["begin", "replace"], False)
    assert (lab.source.rewound, lab.now) == ([({PLACE: 0}, 2)], pytest.approx(3.1, abs=0.2))


def test_a_producer_that_does_not_find_back_is_replaced_in_the_wait_for_room() -> None:
    lab = Lab(b"0", b"1")
    lab.waits = 3
    lab.once._outdone = lambda _heard: True
    lab.pipeline.turn()
    assert lab.line.log == ["begin", "replace"]


def test_a_producer_that_dies_in_the_wait_for_reports_is_replaced() -> None:
    lab, sink = holding(b"0", b"1", records=100)
    lab.pipeline.turn()
    sink.lets_go, lab.line.unfit = False, True
    assert lab.once.commit_all() is False
    assert lab.line.log == ["begin", "replace"]
    assert lab.source.rewound == [({PLACE: 0}, 2)]


def test_a_second_signal_ends_the_wait_for_reports() -> None:
    lab, sink = holding(b"0", b"1", records=100)
    lab.pipeline.turn()
    sink.lets_go = False
    lab.once._forced = lambda: True
    lab.once.commit_all()
    assert lab.now == pytest.approx(0.1)


# --- the group -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["revoked", "lost"])
def test_after_the_last_commit_partitions_go_without_one(call: str) -> None:
    lab = Lab(b"0", b"1", records=100)
    lab.pipeline.turn()
    lab.once.conclude(1.0)
    log = list(lab.line.log)
    getattr(lab.once, call)([PLACE])
    assert lab.line.log == log
    assert (lab.source.rewound, lab.ledger.next_offsets) == ([], {})


def test_a_loss_between_transactions_takes_nothing_back() -> None:
    lab = Lab(b"0", b"1")
    lab.pipeline.turn()
    lab.once.lost([PLACE])
    assert lab.line.log == ["begin", ("commit", {PLACE: 2})]
    assert lab.source.rewound == []


def test_a_revoke_that_cannot_commit_goes_back_without_what_went() -> None:
    lab = Lab(b"0", b"1", records=100)
    lab.source.owned = {PLACE, OTHER}
    lab.once.began({OTHER: 7})
    lab.pipeline.turn()
    lab.ledger.track(*two_batches())
    lab.once.revoked([PLACE])
    assert lab.line.log == ["begin", "abort"]
    assert [places for places, _ in lab.source.rewound] == [{OTHER: 7}]
    assert lab.once._base == {OTHER: 7}


def test_a_revoke_without_a_generation_cannot_wait_for_one() -> None:
    lab = Lab(b"0", b"1", records=100)
    lab.pipeline.turn()
    lab.member.generation = -1
    lab.once.revoked([PLACE])
    assert lab.line.log == ["begin", "abort"]
    assert (len(lab.source.rewound), lab.once._failures) == (1, 1)


def test_a_signal_waits_for_no_generation() -> None:
    lab = Lab(b"0", b"1", records=100)
    lab.pipeline.turn()
    lab.member.generation = -1
    assert lab.once.commit_all() is False
    assert lab.line.log == ["begin"]
    lab.once._stopped = lambda: True
    assert lab.once.commit_all() is False
    assert lab.line.log == ["begin", "abort"]


def test_what_is_told_of_commits_beside_transactions_changes_nothing() -> None:
    lab = Lab(b"0", b"1")
    lab.once.committed(ClientError("x"), [])
    lab.once.finish(lab.ledger, 1.0)
    lab.run()
    assert lab.commits == [2]


# --- dead letters --------------------------------------------------------------------------------------------------


class Letters:
    def __init__(self) -> None:
        self.given: list[Any] = []
        self.forgotten = 0
        self.left = 0

    def send_with(self, producer: Callable[[], Any], serve: Any, join: Callable[[], None]) -> None:
        self.given.append((producer, serve, join))

    def flush(self, _timeout: float) -> bool:
        self.left = max(0, self.left - 1)
        return not self.left

    def forget(self) -> None:
        self.forgotten += 1


def test_letters_on_the_same_cluster_are_part_of_the_transaction() -> None:
    lab, letters = Lab(), Letters()
    once = once_of(lab, letters=letters, takes_letters=True)
    ((producer, serve, join),) = letters.given
    assert (producer(), serve) == (lab.line.producer, lab.line.serve)
    join()
    join()
    assert (lab.line.log, once._sent) == (["begin"], 2)
    once_of(lab, letters=letters)
    assert len(letters.given) == 1


def test_a_commit_waits_for_letters_and_an_abort_forgets_them() -> None:
    lab, letters = Lab(b"0", b"1"), Letters()
    lab.once._letters = letters
    letters.left = 3
    lab.line.outcomes = [Outcome.ABORTED]
    lab.pipeline.turn()
    assert (letters.left, letters.forgotten) == (0, 1)
    lab.run()
    assert lab.commits == [2, 2]


# --- what failed ---------------------------------------------------------------------------------------------------


def failing(lab: Lab, *reports: Any) -> list[Any]:
    flight = lab.ledger.track(*two_batches())
    lab.once.ensure_open()
    return [(flight, index, report) for index, report in enumerate(reports)]


def test_what_the_client_refused_itself_is_left_to_the_policy() -> None:
    lab = Lab()
    assert lab.once.take_back(failing(lab, NotSent("too large"))) is False
    assert lab.line.log == ["begin"]


def test_what_the_client_refused_beside_what_fell_is_noted_and_all_is_read_again() -> None:
    lab = Lab(on_error="skip")
    assert lab.once.take_back(failing(lab, NotSent("too large"), ClientError("_PURGE_QUEUE"))) is True
    assert lab.line.log == ["begin", "abort"]
    batch, _ = two_batches()
    lab.once.leave_out_refused(batch)
    (bad,) = batch.bad
    assert (batch.values, bad.index, bad.error.exit_code, bad.error.stage) == ([b"1"], 0, Exit.UNDELIVERED, Stage.SEND)
    assert "too large" in bad.error.what or "NotSent" in bad.error.what


def test_records_that_nobody_can_name_are_not_left_out() -> None:
    lab = Lab(on_error="skip")
    lab.once.take_back(failing(lab, NotSent("too large"), ClientError("_PURGE_QUEUE")))
    batch = Batch([b"0"])
    lab.once.leave_out_refused(batch)
    assert (batch.values, batch.bad) == ([b"0"], [])


def test_a_record_that_was_refused_alone_under_stop_is_the_policys() -> None:
    lab = Lab()
    failures = failing(lab, ClientError("INVALID_RECORD"))
    assert lab.once.take_back(failures) is False
    assert lab.once.refused(failures[0][2])
    two = failing(lab, ClientError("INVALID_RECORD"), ClientError("INVALID_RECORD"))
    assert lab.once.take_back(two) is True, "one of two: nobody knows which"
    assert not lab.once.refused(two[0][2])


def test_fewer_suspects_are_a_way_forward_and_as_many_are_none() -> None:
    lab = Lab()
    for count in range(1, 3):
        lab.once.take_back(failing(lab, ClientError("INVALID_RECORD"), ClientError("INVALID_RECORD")))
        assert lab.once._failures == count
    lab.once._on_error = "skip"
    lab.once.take_back(failing(lab, ClientError("INVALID_RECORD")))
    assert lab.once._failures == 1, "it will be left out: that is a way forward"


def test_the_reason_names_the_refusal_and_not_what_fell_with_it() -> None:
    lab = Lab()
    lab.once._failures = ATTEMPTS - 1
    with pytest.raises(UndeliveredError, match="5 transactions failed in a row: _PURGE_QUEUE; nothing of them"):
        lab.once.take_back(failing(lab, ClientError("_PURGE_QUEUE"), ClientError("_MSG_TIMED_OUT")))


def test_other_reports_of_a_broken_transaction_are_waited_for_a_moment() -> None:
    """What stood in the queue is told before the batch for which the transaction broke."""
    lab, sink = holding()
    flight = lab.ledger.track(*two_batches())
    lab.once.ensure_open()
    sink.held.append((flight.take_reports(flight.origin)[1], ClientError("INVALID_RECORD")))  # type: ignore[arg-type]
    lab.once._on_error = "skip"
    lab.once.take_back([(flight, 0, ClientError("_PURGE_QUEUE"))])
    batch, _ = two_batches()
    lab.once.leave_out_refused(batch)
    assert [bad.index for bad in batch.bad] == [1]

    lab, sink = holding()
    sink.lets_go = False
    sink.held.append((lambda _error, _message: None, None))
    lab.once._gather()
    assert GATHERING <= lab.now <= GATHERING + 0.3
    began = lab.now
    lab.once._forced = lambda: True
    lab.once._gather()
    assert lab.now <= began + 0.2


# --- the last commit -----------------------------------------------------------------------------------------------


def at_the_end(*values: bytes) -> Lab:
    lab = Lab(*values, records=100)
    lab.pipeline.turn()
    return lab


def test_the_last_commit_takes_what_is_settled() -> None:
    lab = at_the_end(b"0", b"1")
    lab.once.conclude(1.0)
    assert lab.line.log == ["begin", ("commit", {PLACE: 2})]
    assert (lab.ledger.delivered, lab.once.state.error) == (2, None)


def test_with_nothing_to_commit_nothing_begins() -> None:
    lab = Lab(b"0", b"1")
    lab.once.conclude(1.0)
    assert (lab.line.log, lab.once.state.error) == ([], None)


def test_records_that_were_filtered_are_committed_at_the_end_too() -> None:
    lab = Lab(b"0", b"1", records=100, stages=[lambda batch: batch.keep([False] * len(batch))])
    lab.pipeline.turn()
    lab.once.conclude(1.0)
    assert lab.line.log == ["begin", ("commit", {PLACE: 2})]


@pytest.mark.parametrize("trouble", ["fenced", "broken", "forced", "closed", "failed", "hole", "no member", "nothing"])
def test_the_last_transaction_is_aborted_unless_it_holds_all_before_its_offsets(trouble: str) -> None:
    lab = at_the_end(b"0", b"1")
    if trouble == "fenced":
        lab.line.fenced = True
    elif trouble == "broken":
        lab.once._broken = True
    elif trouble == "forced":
        lab.once._forced = lambda: True
    elif trouble == "closed":
        lab.line.opened = None
    elif trouble == "failed":
        lab.ledger.track(*two_batches()).failures.append((0, ClientError("x")))
    elif trouble == "hole":
        lab.ledger.track(*two_batches())
        lab.ledger.track(*two_batches()).settled.append(0)
    elif trouble == "no member":
        lab.member.generation = -1
    else:
        lab.source.owned = set()
    lab.once.conclude(1.0)
    assert lab.commits == []
    assert lab.line.log == (["begin"] if trouble == "closed" else ["begin", "abort"])
    assert lab.ledger.delivered == 0
    assert "it was aborted" in str(lab.once.state.error)


@pytest.mark.parametrize(("found", "delivered"), [(2, 2), (0, 0)])
def test_where_nobody_knows_the_group_is_asked_for_the_last_one_too(found: int, delivered: int) -> None:
    lab = at_the_end(b"0", b"1")
    lab.line.outcomes, lab.member.group = [Outcome.UNKNOWN], {PLACE: found}
    lab.once.conclude(1.0)
    assert (lab.ledger.delivered, lab.ledger.failed) == (delivered, 2 - delivered)


def test_a_last_commit_that_raises_is_written_off_and_told() -> None:
    lab = at_the_end(b"0", b"1")
    lab.line.outcomes = [FencedError("fenced")]
    with pytest.raises(KpipeError, match="fenced"):
        lab.once.conclude(1.0)
    assert (lab.ledger.delivered, lab.ledger.failed) == (0, 2)


def test_the_last_abort_has_the_time_that_is_left_and_never_none() -> None:
    lab = at_the_end(b"0", b"1")
    limits: list[float] = []

    def abort(timeout: float) -> None:
        limits.append(timeout)
        lab.line.opened = None

    def metadata() -> bytes:
        lab.now += 2.5
        return b"CGMDv2:\xff\xff\xff\xff"

    lab.line.abort = abort  # type: ignore[method-assign]
    lab.member.metadata = metadata  # type: ignore[method-assign]
    lab.once.conclude(5.0)
    assert limits == [2.5]
    lab.line.opened = lab.now
    lab.once._sent = 1
    lab.once.conclude(1.0)
    assert limits == [2.5, 0.3]


def test_the_last_commit_has_the_time_that_is_left() -> None:
    lab = at_the_end(b"0", b"1")
    limits: list[float] = []

    def commit(_offsets: Any, _metadata: bytes, timeout: float, _note: Any = None) -> Outcome:
        limits.append(timeout)
        lab.line.opened = None
        return Outcome.COMMITTED

    lab.line.commit = commit  # type: ignore[method-assign,assignment]
    lab.once.conclude(5.0)
    assert limits == [5.0]


# --- a transaction that may not be committed -----------------------------------------------------------------------


def test_the_first_generation_of_a_group_is_one() -> None:
    lab = Lab(b"0", b"1")
    lab.member.generation = 0
    lab.run()
    assert lab.commits == [2]


def test_a_producer_that_was_fenced_while_it_sent_commits_nothing() -> None:
    lab = Lab(b"0", b"1", records=100)
    lab.pipeline.turn()

    def check() -> bool:
        raise FencedError("fenced")

    lab.line.check = check  # type: ignore[method-assign]
    with pytest.raises(FencedError):
        lab.once.commit_all()
    assert lab.commits == []


def test_what_is_still_open_is_not_committed() -> None:
    """A dead letter on its way: every report of the target is in, and the record has not arrived anywhere."""
    lab = Lab(b"0", b"1", records=100)
    lab.pipeline.turn()
    lab.ledger.track(*two_batches())
    assert lab.once.commit_all() is False
    assert lab.line.log == ["begin"]


def test_records_whose_transaction_is_gone_are_not_committed_without_it() -> None:
    lab = Lab(b"0", b"1", records=100)
    lab.pipeline.turn()
    lab.line.opened = None
    assert lab.once.commit_all() is False
    assert lab.line.log == ["begin"]


@pytest.mark.parametrize("looked_at", [True, False])
def test_a_failure_ends_the_wait_whether_or_not_somebody_has_looked_at_it(looked_at: bool) -> None:
    lab, sink = holding(b"0", b"1", records=100)
    lab.pipeline.turn()
    sink.lets_go = False
    flight = lab.ledger.flights[0]
    flight.failures.append((0, ClientError("x")))
    if looked_at:
        list(lab.ledger.failures())
    else:
        flight.settled.append(0)  # settled otherwise, and nobody has heard of it yet
    assert lab.once.commit_all() is False
    assert (lab.now, lab.once._broken) == (pytest.approx(0.1), False)


def test_failures_in_a_row_are_counted_from_the_last_commit() -> None:
    lab = Lab(b"0", b"1", b"2", b"3")
    lab.line.outcomes = [*[Outcome.ABORTED] * (ATTEMPTS - 1), Outcome.COMMITTED, *[Outcome.ABORTED] * (ATTEMPTS - 1)]
    lab.run()
    assert (lab.ledger.delivered, lab.pipeline.error) == (4, None)


def test_suspicion_ends_with_a_commit() -> None:
    lab = Lab(b"0", b"1", records=100)
    lab.pipeline.turn()
    lab.once._suspects.accuse([(lab.ledger.track(*two_batches()), 0, None)])
    lab.ledger.flights.pop()
    assert lab.once.commit_all()
    assert not lab.once._suspects


def test_with_nothing_to_commit_it_is_looked_at_once_an_interval() -> None:
    lab, sink = holding()
    flushes: list[float] = []
    sink.flush = lambda timeout: bool(flushes.append(timeout)) or True  # type: ignore[method-assign]
    for now in (100.0, 100.1, 150.0, 199.9):
        lab.now = now
        lab.once.tick(lab.ledger)
    assert len(flushes) == 1
    assert max(flushes) <= 0.2
    lab.now = 200.0
    lab.once.tick(lab.ledger)
    assert len(flushes) == 2


def test_an_empty_partition_is_committed_where_it_ends() -> None:
    lab = Lab()
    lab.once._base.clear()
    lab.source.at_eof = {PLACE: 0}
    assert lab.once._news({}) == {PLACE: 0}


@pytest.mark.parametrize(("is_open", "sent"), [(True, 0), (False, 1)])
def test_a_loss_takes_back_whatever_was_begun(is_open: bool, sent: int) -> None:
    lab = Lab()
    lab.line.opened = 0.0 if is_open else None
    lab.once._sent = sent
    lab.once.lost([PLACE])
    assert len(lab.source.rewound) == 1
    assert (lab.once._base, lab.once._sent) == ({}, 0)


@pytest.mark.parametrize(("reason", "said"), [("", "the producer could not go on"), ("epoch", "epoch")])
def test_why_it_gives_up_is_what_the_client_said_or_what_is_known(reason: str, said: str) -> None:
    lab = Lab()
    lab.line.reason = reason
    lab.once._broken, lab.once._failures = True, ATTEMPTS - 1
    with pytest.raises(UndeliveredError, match=f"in a row: {said}; nothing"):
        lab.once.tick(lab.ledger)


@pytest.mark.parametrize(
    ("reason", "said"), [("", "records failed while partitions were given up"), ("epoch", "epoch")]
)
def test_why_partitions_went_without_a_commit_is_said(reason: str, said: str) -> None:
    lab = Lab()
    lab.line.reason = reason
    lab.once._failures = ATTEMPTS - 1
    lab.ledger.track(*two_batches())
    with pytest.raises(UndeliveredError, match=f"in a row: {said}; nothing"):
        lab.once.revoked([PLACE])
    assert lab.once._base == {}, "they went all the same"


def test_partitions_begin_in_the_ledger_too() -> None:
    """A group that dies before its first record must not decide anew where it begins."""
    lab = Lab()
    lab.once.began({OTHER: 7})
    assert lab.ledger.prefix() == {PLACE: 0, OTHER: 7}


def test_purged_is_what_the_sink_had() -> None:
    lab, sink = holding(b"0")
    lab.once.purge()
    assert (sink.purged, lab.once._broken) == (1, True)


def test_an_abort_in_a_revoke_is_one_failure() -> None:
    lab = Lab(b"0", b"1", records=100)
    lab.pipeline.turn()
    lab.line.outcomes = [Outcome.ABORTED]
    lab.once.revoked([PLACE])
    assert (len(lab.source.rewound), lab.once._failures, lab.source.rewound[0][0]) == (1, 1, {})


def test_a_generation_is_waited_for_half_the_time_of_a_transaction() -> None:
    lab = Lab(b"0", b"1", records=100)
    lab.pipeline.turn()
    lab.member.generation = -1
    lab.now = 4.9
    lab.once.commit_all()
    assert lab.line.log == ["begin"]
    lab.now = 5.0
    lab.once.commit_all()
    assert lab.line.log == ["begin", "abort"]


def test_what_was_not_tried_is_read_again_and_blamed_on_nobody() -> None:
    lab = Lab()
    assert lab.once.take_back(failing(lab, NotSent("no time", judged=False))) is True
    batch, _ = two_batches()
    lab.once.leave_out_refused(batch)
    assert batch.bad == []


def test_under_stop_a_record_that_the_client_refused_ends_the_run_whatever_fell_with_it() -> None:
    lab = Lab()
    assert lab.once.take_back(failing(lab, NotSent("too large"), ClientError("_PURGE_QUEUE"))) is False
    assert lab.line.log == ["begin"]


def test_of_two_refused_records_both_are_suspects_and_none_is_left_out() -> None:
    lab = Lab(on_error="skip")
    lab.once._failures = ATTEMPTS - 2
    lab.once.take_back(failing(lab, ClientError("INVALID_RECORD"), ClientError("INVALID_RECORD")))
    assert lab.once._suspects
    assert (lab.once._refused, lab.once._failures) == ({}, 1)


def test_the_reason_of_an_abort_is_the_refusal_however_late_it_was_told() -> None:
    lab = Lab(on_error="skip")
    lab.once._failures = ATTEMPTS - 1
    lab.once._suspects.accuse(failing(lab, ClientError("INVALID_RECORD"), ClientError("INVALID_RECORD")))
    flight = lab.ledger.flights[0]
    reports = [ClientError("_PURGE_QUEUE"), ClientError("INVALID_RECORD"), ClientError("INVALID_RECORD")]
    with pytest.raises(UndeliveredError, match="in a row: INVALID_RECORD; nothing"):
        lab.once.take_back([(flight, index % 2, report) for index, report in enumerate(reports)])


def test_without_suspects_nothing_is_waited_for_between_two_batches() -> None:
    """Throughput: a transaction is filled while its first reports are still on their way."""
    lab, sink = holding(b"0", b"1", b"2", b"3", records=100)
    sink.lets_go = False
    lab.pipeline.turn()
    lab.pipeline.turn()
    assert (lab.sent, lab.now) == ([b"0", b"1", b"2", b"3"], 0.0)


def test_a_refusal_ends_the_wait_between_two_parts_at_once() -> None:
    lab, sink = holding(b"0", b"1", records=100)
    flight = lab.ledger.track(*two_batches())
    lab.once._suspects.accuse([(flight, 0, None), (flight, 1, None)])
    sink.lets_go = False
    flight.failures.append((0, ClientError("x")))
    sink.held.append((lambda _error, _message: None, None))
    batch, _ = two_batches()
    lab.once.send(batch, flight, lambda: True)
    assert lab.now <= 0.5


def test_a_record_that_is_left_out_keeps_the_code_of_its_refusal() -> None:
    lab = Lab(on_error="skip")

    def explain(_error: object, where: str, _record: object = None) -> KpipeError:
        error = UndeliveredError("too large", where=where)
        error.code = "MSG_SIZE_TOO_LARGE"
        return error

    failures = failing(lab, ClientError("MSG_SIZE_TOO_LARGE"))
    lab.once._sink.explain = explain  # type: ignore[method-assign]
    lab.once.take_back(failures)
    batch, _ = two_batches()
    lab.once.leave_out_refused(batch)
    assert batch.bad[0].error.code == "MSG_SIZE_TOO_LARGE"
