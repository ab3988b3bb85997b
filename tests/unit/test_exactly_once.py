"""The transactional sink and committer over fakes: what is committed, what is read again, and when the run gives up."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from kpipe.delivery.exactly_once import ATTEMPTS, ExactlyOnce
from kpipe.delivery.transaction import FencedError, Outcome
from kpipe.errors import BadRecord, KpipeError, UndeliveredError
from kpipe.ledger import Flight, Ledger
from kpipe.pipeline import Pipeline
from kpipe.record import Batch
from kpipe.run_state import RunState
from kpipe.shutdown import Stop
from kpipe.sinks.topic import NotSent

PLACE = ("orders", 0)


class Error:
    """A client's error with a name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def name(self) -> str:
        return self._name

    def str(self) -> str:
        return self._name


class FakeLine:
    timeout = 10.0

    def __init__(self) -> None:
        self.opened: float | None = None
        self.fenced = self.stuck = self.in_doubt = self.unfit = False
        self.reason = "scripted"
        self.outcomes: list[Any] = []
        self.log: list[Any] = []
        self.producer = self

    @property
    def is_open(self) -> bool:
        return self.opened is not None

    def serve(self, _timeout: float = 0) -> None: ...

    def check(self) -> bool:
        return not self.unfit

    def begin(self) -> None:
        self.log.append("begin")
        self.opened = 0.0

    def commit(self, offsets: Any, _metadata: bytes, _timeout: float, _note: Any = None) -> Outcome:
        self.log.append(("commit", dict(offsets)))
        self.opened = None
        outcome = self.outcomes.pop(0) if self.outcomes else Outcome.COMMITTED
        if isinstance(outcome, Exception):
            raise outcome
        self.in_doubt = outcome is Outcome.UNKNOWN
        return outcome

    def abort(self, _timeout: float) -> None:
        self.log.append("abort")
        self.opened = None

    def replace(self, _timeout: float) -> None:
        self.log.append("replace")
        self.opened, self.unfit = None, False

    def discard(self, _timeout: float) -> None: ...


class FakeSink:
    """Acknowledges at once, but for the values that `refuse` maps to an error."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def send(self, batch: Batch, flight: Flight, _idle: Any) -> None:
        for value, report in zip(batch.values, flight.take_reports(batch), strict=False):
            error = self.lab.refuse.get(value)
            self.lab.sent.append(value)
            report(error, None)

    def explain(self, error: Any, where: str, _record: Any = None) -> KpipeError:
        return UndeliveredError(getattr(error, "reason", None) or error.name(), where=where)

    def refused(self, error: Any) -> bool:
        return isinstance(error, NotSent) or not error.name().startswith("_MSG_TIMED_OUT")

    def unwritten(self, error: Any) -> bool:
        return self.refused(error)

    def flush(self, _timeout: float) -> bool:
        return True

    def poll(self) -> None: ...
    def purge(self) -> None: ...
    def close(self, _timeout: float) -> None: ...


class FakeSource:
    """One partition of values; reading starts again where it is sent back to."""

    def __init__(self, values: list[bytes]) -> None:
        self.values = values
        self.position = 0
        self.finished = False
        self.owned = {PLACE}
        self.at_eof: dict[Any, int] = {}
        self.rewound: list[Any] = []
        self.hook: Any = lambda: None
        self.slow_again = False
        """Whether there is nothing at the first look after each way back."""
        self._looks = 0

    def read(self) -> Batch | None:
        self.hook()
        if self.slow_again and self._looks < len(self.rewound):
            self._looks += 1
            return None
        start, self.position = self.position, min(self.position + 2, len(self.values))
        self.finished = self.position == len(self.values)
        offsets = list(range(start, self.position))
        if not offsets:
            return None
        columns: dict[str, Any] = {
            "topics": ["orders"] * len(offsets),
            "partitions": [0] * len(offsets),
            "offsets": offsets,
        }
        return Batch(list(self.values[start : self.position]), **columns)

    def rewind(self, offsets: dict[Any, int], count: int) -> None:
        self.rewound.append((dict(offsets), count))
        self.position = offsets.get(PLACE, self.position)
        self.finished = False

    def keep_alive(self) -> None: ...
    def leave(self) -> None: ...
    def close(self, _timeout: float) -> None: ...


class FakeMember:
    generation = 3
    group: dict[Any, int]

    def metadata(self) -> bytes:
        return b"CGMDv2:" + self.generation.to_bytes(4, sys.byteorder, signed=True)

    def committed(self, _places: Any) -> dict[Any, int]:
        return self.group


class Lab:
    def __init__(self, *values: bytes, on_error: str = "stop", records: int = 2, stages: Any = ()) -> None:
        self.refuse: dict[bytes | None, Any] = {}
        self.sent: list[bytes | None] = []
        self.line, self.source, self.member = FakeLine(), FakeSource(list(values)), FakeMember()
        self.stop = Stop()
        self.now = 0.0
        self.once = ExactlyOnce(
            self.line,  # type: ignore[arg-type]
            lambda: FakeSink(self),  # type: ignore[arg-type,return-value]
            self.source,
            self.member,
            RunState(Ledger(keeps_offsets=True)),
            records=records,
            interval=100.0,
            on_error=on_error,
            stopped=lambda: self.stop.requested,
            forced=lambda: self.stop.forced,
            clock=lambda: self.now,
        )
        self.ledger = self.once.ledger
        self.pipeline = Pipeline(
            self.source,  # type: ignore[arg-type]
            [*stages, self.once.leave_out_refused],
            self.once,
            self.once,
            self.ledger,
            self.stop,
            on_error=on_error,
            transaction=self.once,
            state=self.once.state,
        )
        self.once.began({PLACE: 0})

    def run(self) -> None:
        self.pipeline.run()
        assert self.ledger.balanced

    @property
    def commits(self) -> list[int]:
        return [entry[1][PLACE] for entry in self.line.log if isinstance(entry, tuple)]


def test_each_batch_is_a_transaction_with_its_offsets() -> None:
    lab = Lab(b"0", b"1", b"2", b"3")
    lab.run()
    assert lab.line.log == ["begin", ("commit", {PLACE: 2}), "begin", ("commit", {PLACE: 4})]
    assert (lab.ledger.delivered, lab.pipeline.error) == (4, None)


def test_filtered_records_alone_are_a_transaction() -> None:
    lab = Lab(b"0", b"1", stages=[lambda batch: batch.keep([False] * len(batch))])
    lab.run()
    assert lab.line.log == ["begin", ("commit", {PLACE: 2})]
    assert (lab.ledger.filtered, lab.sent) == (2, [])


def test_an_aborted_transaction_is_read_again_and_counted_once() -> None:
    lab = Lab(b"0", b"1", b"2", b"3")
    lab.line.outcomes = [Outcome.COMMITTED, Outcome.ABORTED]
    lab.run()
    assert lab.commits == [2, 4, 4]
    assert lab.source.rewound == [({PLACE: 2}, 2)]
    assert lab.sent == [b"0", b"1", b"2", b"3", b"2", b"3"]
    assert (lab.ledger.read, lab.ledger.delivered) == (4, 4)


@pytest.mark.parametrize(("found", "times"), [(2, 1), (0, 2)])
def test_an_unknown_outcome_is_looked_up_in_the_group(found: int, times: int) -> None:
    lab = Lab(b"0", b"1")
    lab.line.outcomes, lab.member.group = [Outcome.UNKNOWN], {PLACE: found}
    lab.run()
    assert lab.sent.count(b"0") == times
    assert lab.ledger.delivered == 2


def test_it_gives_up_after_so_many_in_a_row() -> None:
    lab = Lab(b"0", b"1")
    lab.line.outcomes = [Outcome.ABORTED] * 99
    lab.run()
    assert "5 transactions failed in a row: scripted" in str(lab.pipeline.error)
    assert lab.sent.count(b"0") == ATTEMPTS
    assert lab.ledger.delivered == 0


def test_a_way_back_that_takes_longer_than_the_interval_is_no_new_start() -> None:
    """A look with nothing read yet and the interval over forgot the suspects and the count of failures, for ever."""
    lab = Lab(b"0", b"1")
    lab.line.outcomes = [Outcome.ABORTED] * 20
    lab.source.slow_again = True

    def later() -> None:
        lab.now += 1000

    lab.source.hook = later
    lab.run()
    assert lab.sent.count(b"0") == ATTEMPTS
    assert "5 transactions failed in a row: scripted" in str(lab.pipeline.error)


def test_a_transient_failure_aborts_and_reads_again() -> None:
    lab = Lab(b"0", b"1")
    lab.refuse[b"1"] = Error("_MSG_TIMED_OUT")
    lab.source.hook = lambda: lab.refuse.clear() if lab.source.rewound else None
    lab.run()
    assert lab.line.log == ["begin", "abort", "begin", ("commit", {PLACE: 2})]
    assert (lab.ledger.delivered, lab.ledger.unknown) == (2, 0)


def test_a_refused_record_is_left_out_of_the_next_transaction() -> None:
    lab = Lab(b"0", b"1", on_error="skip")
    lab.refuse[b"1"] = Error("MSG_SIZE_TOO_LARGE")
    lab.run()
    assert lab.sent == [b"0", b"1", b"0"]
    assert (lab.ledger.delivered, lab.ledger.failed, lab.commits) == (1, 1, [2])


def test_a_neighbour_of_a_bad_record_is_not_blamed() -> None:
    lab = Lab(b"0", b"1", on_error="skip")
    lab.refuse = {b"0": Error("_INVALID_DIFFERENT_RECORD"), b"1": Error("INVALID_RECORD")}
    lab.source.hook = lambda: lab.refuse.pop(b"0", None) if lab.source.rewound else None
    lab.run()
    assert (lab.ledger.delivered, lab.ledger.failed) == (1, 1)


def test_a_refused_record_under_stop_aborts_and_writes_everything_of_it_off() -> None:
    lab = Lab(b"0", b"1", b"2", b"3")
    lab.refuse[b"3"] = Error("MSG_SIZE_TOO_LARGE")
    lab.run()
    assert lab.line.log[-1] == "abort"
    assert (lab.ledger.delivered, lab.ledger.failed, lab.commits) == (2, 2, [2])


def test_what_every_transaction_would_meet_ends_the_run() -> None:
    lab = Lab(b"0", on_error="skip")
    lab.refuse[b"0"] = Error("TOPIC_AUTHORIZATION_FAILED")
    lab.run()
    assert lab.sent == [b"0"]
    assert (lab.ledger.failed, lab.line.log) == (1, ["begin", "abort"])


def test_a_bad_record_under_stop_commits_what_lies_before_it() -> None:
    def stage(batch: Batch) -> None:
        batch.reject({place: BadRecord("bad") for place, value in enumerate(batch.values) if value == b"bad"})

    lab = Lab(b"0", b"bad", b"2", stages=[stage])
    lab.run()
    assert (lab.sent, lab.commits) == ([b"0"], [1])
    assert (lab.ledger.delivered, lab.ledger.failed) == (1, 1)


def test_fenced_ends_the_run_and_nothing_of_it_counts() -> None:
    lab = Lab(b"0", b"1")
    lab.line.outcomes = [FencedError("fenced")]
    lab.line.fenced = True
    lab.run()
    assert isinstance(lab.pipeline.error, FencedError)
    assert (lab.ledger.delivered, lab.ledger.failed) == (0, 2)


def test_an_error_with_the_outcome_in_doubt_is_unknown_not_failed() -> None:
    lab = Lab(b"0", b"1")
    lab.line.outcomes = [KpipeError("the coordinator is away")]
    lab.line.in_doubt = True
    lab.run()
    assert (lab.ledger.unknown, lab.ledger.failed) == (2, 0)
    assert lab.commits == [2]  # offsets never go without their records


def test_offsets_without_a_generation_wait_and_are_given_up_in_time() -> None:
    lab = Lab(b"0", b"1", b"2", b"3")
    lab.member.generation = -1
    for _ in range(2):
        lab.pipeline.turn()
    assert lab.line.is_open
    lab.now = 8.0
    lab.once.tick(lab.ledger)
    assert lab.line.log == ["begin", "abort"]
    assert lab.source.rewound == [({PLACE: 0}, 4)]


def test_a_revoke_commits_first() -> None:
    lab = Lab(b"0", b"1", b"2", records=100)
    lab.pipeline.turn()
    lab.once.revoked([PLACE])
    assert lab.line.log == ["begin", ("commit", {PLACE: 2})]
    assert PLACE not in lab.ledger.next_offsets


def test_a_loss_aborts_and_leaves_the_partition_to_its_new_owner() -> None:
    lab = Lab(b"0", b"1", b"2", records=100)
    lab.pipeline.turn()
    lab.once.lost([PLACE])
    assert lab.line.log == ["begin", "abort"]
    assert lab.source.rewound == [({}, 2)]
    assert lab.ledger.read == 0


def test_a_broken_producer_is_replaced() -> None:
    lab = Lab(b"0", b"1", b"2", b"3", records=100)
    lab.pipeline.turn()
    lab.line.unfit = True
    lab.once.poll()
    lab.once.tick(lab.ledger)
    assert lab.line.log == ["begin", "replace"]
    lab.run()
    assert lab.commits == [4]
    assert lab.ledger.delivered == 4


class PatientSource(FakeSource):
    """Counts how often it is polled while nothing can be read; `on_poll` is what a poll brings."""

    def __init__(self, values: list[bytes]) -> None:
        super().__init__(values)
        self.polls = 0
        self.on_poll: Any = lambda _polls: None

    def keep_alive(self) -> None:
        self.polls += 1
        self.on_poll(self.polls)


def without_a_generation(*values: bytes) -> tuple[Lab, PatientSource, list[float]]:
    lab = Lab(*values, records=100)
    source = PatientSource(list(values))
    lab.source = lab.pipeline.source = lab.once._source = source  # type: ignore[assignment]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        lab.now += seconds

    lab.pipeline.sleep = sleep
    lab.member.generation = -1
    return lab, source, slept


def test_the_end_of_the_input_without_a_generation_polls_and_waits_for_one() -> None:
    """It asked 397,000 times in 12 s, and never polled the consumer whose rebalance it waited for."""
    lab, source, slept = without_a_generation(b"0", b"1")

    def rejoin(polls: int) -> None:
        if polls == 10:
            lab.member.generation = 4

    source.on_poll = rejoin
    lab.run()
    assert lab.commits == [2]
    assert (lab.ledger.delivered, lab.pipeline.error) == (2, None)
    assert len(slept) == 10
    assert min(slept) >= 0.2  # a few turns a second


def test_the_end_of_the_input_without_a_generation_is_given_up_in_time() -> None:
    lab, source, slept = without_a_generation(b"0", b"1")
    lab.run()
    assert lab.commits == []
    assert isinstance(lab.pipeline.error, UndeliveredError)
    assert source.polls == len(slept) > 0
    assert (lab.ledger.delivered, lab.ledger.read) == (0, lab.ledger.failed + lab.ledger.unknown)


def test_a_partition_that_went_away_meanwhile_is_read_on_by_its_new_owner() -> None:
    lab, source, _ = without_a_generation(b"0", b"1")

    def lose(polls: int) -> None:
        if polls == 2:
            source.owned = set()
            lab.once.lost([PLACE])
            source.finished = True

    source.on_poll = lose
    lab.run()
    assert (lab.commits, lab.ledger.read, lab.pipeline.error) == ([], 0, None)


# --- what a change of one word would break -----------------------------------------------------------------------


def test_each_transaction_sends_by_the_producer_that_is_in_use() -> None:
    """The sink of a producer that was replaced would send into the void."""
    lab = Lab(b"0", b"1", b"2", b"3", records=100)
    made: list[FakeSink] = []

    def make() -> FakeSink:
        made.append(FakeSink(lab))
        return made[-1]

    lab.once._make_sink = make  # type: ignore[assignment]
    lab.pipeline.turn()
    assert lab.once._sink is made[-1]
    lab.line.unfit = True
    lab.once.poll()
    before = len(made)
    lab.once.tick(lab.ledger)
    assert lab.line.log[-1] == "replace"
    assert len(made) > before
    assert lab.once._sink is made[-1]


def test_a_fenced_producer_is_not_flushed_for_ever() -> None:
    lab = Lab(b"0", b"1", records=100)
    lab.pipeline.turn()
    lab.once._sink.flush = lambda _timeout: False  # type: ignore[method-assign]
    assert not lab.once.flush(0.1)
    lab.line.fenced = True
    assert lab.once.flush(0.1)


@pytest.mark.parametrize("held_back", ["in flight", "cut short", "nothing"])
def test_the_end_of_a_partition_is_committed_only_with_nothing_before_it_open(held_back: str) -> None:
    lab = Lab(b"0", b"1", records=100)
    lab.source.at_eof = {PLACE: 9}
    if held_back == "in flight":
        lab.ledger.track(Batch([b"x"], topics=["orders"], partitions=[0], offsets=[0]), Batch([b"x"]))
    lab.ledger.cut_short = held_back == "cut short"
    assert lab.once._news({PLACE: 2}) == {PLACE: 9 if held_back == "nothing" else 2}


def test_an_answer_of_the_group_ends_the_doubt() -> None:
    lab = Lab(b"0", b"1")
    lab.line.in_doubt = True
    lab.member.group = {PLACE: 2}
    assert lab.once._ask_group({PLACE: 2}) is Outcome.COMMITTED
    assert not lab.line.in_doubt
    assert lab.once._ask_group({PLACE: 3}) is Outcome.ABORTED


def test_a_broken_producer_commits_nothing_at_the_end() -> None:
    lab = Lab(b"0", b"1", records=100)
    lab.pipeline.turn()
    lab.once.purge()
    lab.once.conclude(1.0)
    assert lab.commits == []
    assert "abort" in lab.line.log
    assert lab.ledger.delivered == 0
