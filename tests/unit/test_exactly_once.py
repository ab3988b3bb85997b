"""The transactional sink and committer over fakes: what is committed, what is read again, and when the run gives up."""

from __future__ import annotations

import pytest
from exactly_once_lab import PLACE, FakeSink, Lab

from kpipe.delivery.exactly_once import ATTEMPTS
from kpipe.delivery.transaction import FencedError, Outcome
from kpipe.errors import BadRecord, KpipeError
from kpipe.record import Batch
from tests.fakes import ClientError


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


def test_a_start_that_only_an_option_gives_is_committed_before_there_is_a_record() -> None:
    """A run that begins at the end and dies before its first transaction would begin at a later end the next time."""
    lab = Lab()
    lab.source.undecided = {PLACE}
    lab.once.began({PLACE: 7})
    for _ in range(2):
        lab.once.tick(lab.ledger)
    assert lab.line.log == ["begin", ("commit", {PLACE: 7})]


def test_a_start_is_committed_by_a_run_that_ends_at_once_too() -> None:
    lab = Lab()
    lab.source.undecided = {PLACE}
    lab.once.conclude(1.0)
    assert lab.line.log == ["begin", ("commit", {PLACE: 0})]


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
    lab.refuse[b"1"] = ClientError("_MSG_TIMED_OUT")
    lab.source.hook = lambda: lab.refuse.clear() if lab.source.rewound else None
    lab.run()
    assert lab.line.log == ["begin", "abort", "begin", ("commit", {PLACE: 2})]
    assert (lab.ledger.delivered, lab.ledger.unknown) == (2, 0)


def test_a_refused_record_is_left_out_of_the_next_transaction() -> None:
    lab = Lab(b"0", b"1", on_error="skip")
    lab.refuse[b"1"] = ClientError("MSG_SIZE_TOO_LARGE")
    lab.run()
    assert lab.sent == [b"0", b"1", b"0"]
    assert (lab.ledger.delivered, lab.ledger.failed, lab.commits) == (1, 1, [2])


def test_a_neighbour_of_a_bad_record_is_not_blamed() -> None:
    lab = Lab(b"0", b"1", on_error="skip")
    lab.refuse = {b"0": ClientError("_INVALID_DIFFERENT_RECORD"), b"1": ClientError("INVALID_RECORD")}
    lab.source.hook = lambda: lab.refuse.pop(b"0", None) if lab.source.rewound else None
    lab.run()
    assert (lab.ledger.delivered, lab.ledger.failed) == (1, 1)


def test_a_refused_record_under_stop_aborts_and_writes_everything_of_it_off() -> None:
    lab = Lab(b"0", b"1", b"2", b"3")
    lab.refuse[b"3"] = ClientError("MSG_SIZE_TOO_LARGE")
    lab.run()
    assert lab.line.log[-1] == "abort"
    assert (lab.ledger.delivered, lab.ledger.failed, lab.commits) == (2, 2, [2])


def test_what_every_transaction_would_meet_ends_the_run() -> None:
    lab = Lab(b"0", on_error="skip")
    lab.refuse[b"0"] = ClientError("TOPIC_AUTHORIZATION_FAILED")
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


def test_a_queue_that_stays_full_is_waited_for_in_the_sight_of_observers() -> None:
    """A watchdog of 60 s ended a run that was only waiting for its transaction."""
    lab = Lab(b"0", b"1")
    heard: list[int] = []
    lab.waits = 3
    lab.pipeline.observers.append(lambda: heard.append(len(lab.sent)))
    lab.run()
    assert heard.count(0) >= 3  # before the first record is sent
