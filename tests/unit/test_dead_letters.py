"""Dead letters: counted when acknowledged, never dropped when refused, and always acceptable to a default topic."""

from __future__ import annotations

from itertools import repeat
from types import SimpleNamespace
from typing import Any

import pytest

from kpipe.errors import GO_ON, BadRecord, Exit, KpipeError, Stage, UndeliveredError, UnreachableError
from kpipe.flight import Flight
from kpipe.ledger import Ledger
from kpipe.record import TIMESTAMP_CREATE, Batch
from kpipe.sinks.dead_letters import (
    DEFAULT_AFTER_MS,
    MARGIN,
    DeadLetterTopic,
    attempts_so_far,
    takes_time,
    with_error,
    with_time,
)  # fmt: skip
from tests.fakes import ClientError

TIME = 1_700_000_000_000


class Client:
    """Keeps rows until they are reported on; `full` times there is no room first."""

    def __init__(self, full: int = 0, error: Exception | None = None) -> None:
        self.rows: list[Any] = []
        self.waiting: list[Any] = []
        self.full, self.error, self.purged, self.closed = full, error, 0, 0

    def __len__(self) -> int:
        return len(self.waiting)

    def produce(self, *row: Any) -> None:
        if self.full:
            self.full -= 1
            raise BufferError
        if self.error is not None:
            raise self.error
        self.rows.append(row)
        self.waiting.append(row[4])

    def report(self, error: object = None) -> None:
        while self.waiting:
            self.waiting.pop(0)(error, None)

    def purge(self) -> None:
        self.purged += 1

    def close(self) -> None:
        self.closed += 1


def letters(client: Client, **more: Any) -> DeadLetterTopic:
    return DeadLetterTopic(
        "dead",
        "c/dead",
        lambda: client,  # type: ignore[arg-type,return-value]
        more.pop("serve", lambda _timeout: None),
        explain=more.pop("explain", lambda report: UndeliveredError(f"because of {report.name()}; advice")),
        stamp=lambda _batch: None,
        partition_of=lambda batch: repeat(-1, len(batch)),
        **more,
    )


def flight_of(*values: bytes, **columns: Any) -> Flight:
    batch = Batch(list(values), file="f", lines=list(range(1, len(values) + 1)), **columns)
    return Ledger().track(batch, batch.snapshot())


def bad(what: str = "is bad") -> BadRecord:
    return BadRecord(what, stage=Stage.TRANSFORM)


def test_a_letter_counts_when_it_is_acknowledged_and_not_before() -> None:
    client = Client()
    flight, sink = flight_of(b"0", b"1"), letters(client)
    sink.send(flight, 1, bad(), lambda: True)
    assert (flight.dead_lettered, flight.settled, sink.flush(0.0)) == (0, [], False)
    client.report()
    sink.poll()
    assert (flight.dead_lettered, flight.settled, sink.flush(0.0), sink.refused) == (1, [1], True, [])


def test_copies_of_a_record_are_one_letter_in_the_balance() -> None:
    client = Client()
    flight, sink = flight_of(b"0"), letters(client)
    sink.send(flight, 0, bad(), lambda: True)
    sink.send(flight, 0, bad(), lambda: True)
    client.report()
    assert (flight.dead_lettered, flight.settled) == (1, [0, 0])


def test_a_refused_letter_ends_the_run_once_and_says_why_without_the_advice() -> None:
    client = Client()
    flight, sink = flight_of(b"0", b"1"), letters(client)
    sink.send(flight, 0, bad(), lambda: True)
    sink.send(flight, 1, bad(), lambda: True)
    client.report(ClientError("MSG_SIZE_TOO_LARGE"))
    assert sink.flush(0.0), "nobody waits for what was refused"
    with pytest.raises(
        UndeliveredError, match="did not take a record: because of MSG_SIZE_TOO_LARGE; the record had"
    ) as told:
        sink.poll()
    assert "advice" not in str(told.value)
    assert sink.refused == [(flight, 0), (flight, 1)]
    assert (flight.dead_lettered, flight.settled) == (0, [])
    sink.poll()


@pytest.mark.parametrize(
    ("cause", "code"), [(UnreachableError, Exit.UNREACHABLE), (UndeliveredError, Exit.UNDELIVERED)]
)
def test_a_missing_right_keeps_its_exit_code(cause: type[KpipeError], code: Exit) -> None:
    client = Client()
    sink = letters(client, explain=lambda _report: cause("no"))
    sink.send(flight_of(b"0"), 0, bad(), lambda: True)
    client.report(ClientError("x"))
    with pytest.raises(KpipeError) as told:
        sink.poll()
    assert (told.value.exit_code, told.value.stage) == (code, Stage.SEND)


def test_a_client_that_raises_took_nothing() -> None:
    client = Client(error=ValueError("odd"))
    flight, sink = flight_of(b"0"), letters(client)
    with pytest.raises(UndeliveredError, match="did not take a record: odd"):
        sink.send(flight, 0, bad(), lambda: True)
    assert (sink.refused, sink.flush(0.0)) == ([(flight, 0)], True)


def test_what_the_client_says_at_once_counts_as_what_it_reports_later() -> None:
    """The last batch of a transaction may break it before the next letter is sent: librdkafka takes no more then."""
    client = Client(error=Exception(ClientError("_STATE")))
    flight, sink = flight_of(b"0"), letters(client)
    sink.send_with(lambda: client, lambda _timeout: None, lambda: None)  # type: ignore[arg-type,return-value]
    sink.send(flight, 0, bad(), lambda: True)
    sink.poll()
    assert [(index, report.name()) for index, report in flight.failures] == [(0, "_STATE")], "it is read again"  # type: ignore[attr-defined]
    assert (sink.refused, sink.flush(0.0)) == ([], True)


def test_outside_of_a_transaction_such_a_word_ends_the_run_in_our_words() -> None:
    client = Client(error=Exception(ClientError("_FATAL")))
    flight, sink = flight_of(b"0"), letters(client)
    sink.send(flight, 0, bad(), lambda: True)
    with pytest.raises(UndeliveredError, match="did not take a record: because of _FATAL; the record had failed with"):
        sink.poll()
    assert (sink.refused, flight.failures) == ([(flight, 0)], [])


def test_a_full_queue_is_waited_for() -> None:
    client, waits = Client(full=3), []
    sink = letters(client, serve=waits.append)
    sink.send(flight_of(b"0"), 0, bad(), lambda: True)
    assert (len(waits), len(client.rows)) == (3, 1)


def test_what_an_abort_purged_is_forgotten() -> None:
    client = Client()
    flight, sink = flight_of(b"0"), letters(client)
    sink.send(flight, 0, bad(), lambda: True)
    sink.forget()
    client.report(ClientError("_PURGE_QUEUE"))
    sink.poll()
    assert (sink.refused, flight.settled, sink.flush(0.0)) == ([], [], True)
    sink.send(flight, 0, bad(), lambda: True)
    client.report()
    assert flight.settled == [0]


@pytest.mark.parametrize(
    ("name", "ends"), [("_PURGE_QUEUE", False), ("MSG_SIZE_TOO_LARGE", True), ("TOPIC_AUTHORIZATION_FAILED", True)]
)
def test_a_letter_that_went_down_with_its_transaction_is_read_again(name: str, ends: bool) -> None:
    client, joined = Client(), []
    flight, sink = flight_of(b"0"), letters(client)
    sink.send_with(lambda: client, lambda _timeout: None, lambda: joined.append(1))  # type: ignore[arg-type,return-value]
    sink.send(flight, 0, bad(), lambda: True)
    client.report(ClientError(name))
    assert joined == [1]
    assert bool(flight.failures) is not ends
    if ends:
        with pytest.raises(KpipeError):
            sink.poll()
    else:
        sink.poll()


def test_the_letter_is_the_record_as_it_was_read_with_its_error_behind() -> None:
    client = Client()
    flight = flight_of(
        b"0",
        b"v",
        keys=[None, b"k"],
        headers=[None, [("h", b"1"), ("h", None)]],
        timestamps=[(TIMESTAMP_CREATE, 1), (TIMESTAMP_CREATE, TIME)],
    )
    letters(client).send(flight, 1, bad(), lambda: True)
    topic, value, key, partition, _report, _none, timestamp, headers = client.rows[0]
    assert (topic, value, key, partition, timestamp) == ("dead", b"v", b"k", -1, TIME)
    assert headers == [
        ("h", b"1"),
        ("h", None),
        ("error_code", b"BAD_RECORD"),
        ("error_message", b"is bad"),
        ("error_stage", b"transform"),
        ("source_attempts", b"1"),
    ]


@pytest.mark.parametrize(("takes", "timestamp", "said"), [(True, TIME, None), (False, 0, b"%d" % TIME)])
def test_a_time_that_the_topic_would_refuse_becomes_now_and_stands_in_a_header(
    takes: bool, timestamp: int, said: bytes | None
) -> None:
    client = Client()
    flight = flight_of(b"v", timestamps=[(TIMESTAMP_CREATE, TIME)])
    letters(client, takes_time=lambda _ms: takes).send(flight, 0, bad(), lambda: True)
    assert client.rows[0][6] == timestamp
    assert dict(client.rows[0][7]).get("source_timestamp") == said


def test_a_time_in_the_trace_stays_as_it_is() -> None:
    assert with_time([("source_timestamp", b"5")], TIME) == [("source_timestamp", b"5")]
    assert with_time([("h", b"1")], TIME, "x_") == [("h", b"1"), ("x_source_timestamp", b"%d" % TIME)]


def test_bytes_that_could_not_be_decoded_become_a_record_of_their_own() -> None:
    client = Client()
    error = BadRecord("no JSON", where="in.jsonl:7")
    error.raw = b"{bro"
    letters(client).send(Flight(), 0, error, lambda: True)
    assert client.rows[0][1] == b"{bro"


def test_without_bytes_nothing_is_made_up() -> None:
    client = Client()
    with pytest.raises(UndeliveredError, match="its bytes are gone"):
        letters(client).send(Flight(), 0, bad(), lambda: True)
    assert client.rows == []


def test_an_earlier_failure_is_replaced_and_its_attempts_are_kept() -> None:
    again = with_error([("error_code", b"OLD"), ("h", b"1"), ("source_attempts", b"3")], bad())
    assert [name for name, _ in again] == ["h", "error_code", "error_message", "error_stage", "source_attempts"]
    assert dict(again)["source_attempts"] == b"3"
    assert dict(again)["error_code"] == b"BAD_RECORD"


@pytest.mark.parametrize(
    ("value", "count"), [(b"3", 3), (b"x", 0), (b"", 0), (None, 0), (b"1" * 10, 0), (b"999999999", 999_999_999)]
)
def test_attempts_are_counted_by_what_a_header_says(value: bytes | None, count: int) -> None:
    assert attempts_so_far([("source_attempts", value)]) == count
    assert attempts_so_far([]) == 0


def test_what_is_in_flight_at_the_end_is_given_up() -> None:
    client = Client()
    sink = letters(client)
    sink.send(flight_of(b"0"), 0, bad(), lambda: True)
    sink.close(1.0)
    assert client.purged == 1
    idle = Client()
    letters(idle).close(1.0)
    assert idle.purged == 0


def test_when_nobody_waits_any_longer_the_letter_was_not_taken() -> None:
    client = Client(full=100)
    flight, sink = flight_of(b"0", b"1"), letters(client)
    sink.send(flight, 0, bad(), lambda: False)
    sink.send(flight, 1, bad(), lambda: False)
    assert (sink.refused, client.rows, sink.flush(0.0)) == ([(flight, 0), (flight, 1)], [], True)


# --- what waits, what is given up, what is forgotten ---------------------------------------------------------------


def test_an_earlier_failure_leaves_none_of_its_words() -> None:
    earlier = with_error([("h", b"1")], BadRecord("first", stage=Stage.DECODE))
    again = with_error(earlier, bad("second"))
    assert [name for name, _ in again] == [name for name, _ in earlier]
    assert dict(again)["error_message"] == b"second"
    assert dict(again)["error_stage"] == b"transform"


def test_the_trace_is_written_on_the_record_alone_as_it_was_read() -> None:
    client, seen = Client(), []

    def stamp(letter: Batch) -> None:
        seen.append((letter.values, list(letter.lines or ())))
        letter.headers = [[("source_line", b"2")]]

    sink = DeadLetterTopic(
        "dead",
        "c/dead",
        lambda: client,  # type: ignore[arg-type,return-value]
        lambda _timeout: None,
        explain=lambda _report: UndeliveredError("no"),
        stamp=stamp,
        partition_of=lambda batch: repeat(-1, len(batch)),
    )
    sink.send(flight_of(b"0", b"1", b"2"), 1, bad(), lambda: True)
    assert seen == [([b"1"], [2])]
    assert client.rows[0][7][0] == ("source_line", b"2")
    for where, line in (("in.jsonl:7", 7), ("in.jsonl", 0), ("", 0)):
        error = BadRecord("no JSON", where=where)
        error.raw = b"{bro"
        sink.send(Flight(), 0, error, lambda: True)
        assert seen[-1] == ([b"{bro"], [line])


def test_a_record_without_a_time_is_sent_without_one() -> None:
    client = Client()
    letters(client, takes_time=lambda _ms: False).send(flight_of(b"v"), 0, bad(), lambda: True)
    assert client.rows[0][6] == 0
    assert "source_timestamp" not in dict(client.rows[0][7])


def test_of_a_batch_with_gaps_the_very_record_becomes_the_letter() -> None:
    """What could not be decoded left the batch before it was tracked: places and indexes differ behind it."""
    batch = Batch([b"0", b"1", b"2"], file="f", lines=[1, 2, 3])
    batch.keep([True, False, True])
    flight = Ledger().track(batch, batch.snapshot())
    client = Client()
    sink = letters(client)
    sink.send(flight, 2, bad(), lambda: True)
    assert client.rows[0][1] == b"2"
    error = bad()
    error.raw = b"its own bytes"
    sink.send(flight, 1, error, lambda: True)
    assert client.rows[1][1] == b"its own bytes"


def test_a_letter_that_arrives_is_heard_of_at_the_next_turn_without_waiting() -> None:
    client, waits = Client(), []

    def serve(timeout: float) -> None:
        waits.append(timeout)
        client.report()

    flight = flight_of(b"0")
    sink = letters(client, serve=serve)
    sink.poll()
    assert waits == []  # with nothing under way nothing is asked
    sink.send(flight, 0, bad(), lambda: True)
    sink.poll()
    assert (waits, flight.settled) == ([0], [0])


def test_a_flush_waits_for_what_is_under_way_and_no_longer() -> None:
    client, waits = Client(), []

    def serve(timeout: float) -> None:
        waits.append(timeout)
        if len(waits) == 3:
            client.report()

    sink = letters(client, serve=serve)
    sink.send(flight_of(b"0"), 0, bad(), lambda: True)
    assert sink.flush(60.0)
    assert len(waits) == 3
    assert max(waits) < 0.1


def test_nobody_waits_for_other_letters_when_one_was_refused() -> None:
    client = Client()
    flight, sink = flight_of(b"0", b"1"), letters(client)
    sink.send(flight, 0, bad(), lambda: True)
    sink.send(flight, 1, bad(), lambda: True)
    client.waiting.pop(0)(ClientError("x"), None)
    assert sink.flush(0.0)


def test_with_its_transaction_a_refusal_is_forgotten_too() -> None:
    """The record is read again: were it still refused, it would be counted as lost while its letter arrives."""
    client = Client()
    sink = letters(client)
    sink.send(flight_of(b"0"), 0, bad(), lambda: True)
    client.report(ClientError("x"))
    sink.forget()
    sink.poll()
    assert sink.refused == []


def test_what_is_given_up_is_told_of_at_once() -> None:
    client, waits = Client(), []
    sink = letters(client, serve=waits.append)
    sink.send(flight_of(b"0"), 0, bad(), lambda: True)
    sink.purge()
    assert (client.purged, waits) == (1, [0])


def test_after_a_second_signal_no_letter_waits_for_room() -> None:
    client, waits = Client(full=100), []
    sink = letters(client, serve=waits.append, forced=lambda: True)
    sink.send(flight_of(b"0"), 0, bad(), lambda: True)
    assert (waits, len(sink.refused)) == ([], 1)


def test_while_there_is_no_room_the_group_is_heard_often() -> None:
    client, waits = Client(full=2), []
    letters(client, serve=waits.append).send(flight_of(b"0"), 0, bad(), lambda: True)
    assert max(waits) <= 0.1


def test_the_client_is_closed() -> None:
    client = Client()
    letters(client).close(1.0)
    assert client.closed == 1


def test_a_letter_does_not_advise_what_has_been_done() -> None:
    headers = dict(with_error([], BadRecord(f"--map .a: the value is not JSON; {GO_ON}")))
    assert headers["error_message"] == b"--map .a: the value is not JSON"


@pytest.mark.parametrize(
    ("after", "before", "taken", "refused"),
    [
        (None, None, (0, TIME, TIME + DEFAULT_AFTER_MS - MARGIN), (TIME + DEFAULT_AFTER_MS - MARGIN + 1,)),
        (0, None, (0, TIME - MARGIN), (TIME - MARGIN + 1,)),
        (MARGIN, 2 * MARGIN, (TIME - MARGIN, TIME), (TIME - MARGIN - 1, TIME + 1)),
        (MARGIN, 0, (), (TIME, TIME - MARGIN)),
    ],
)
def test_a_time_is_within_the_limits_of_the_topic_by_a_margin(
    after: int | None, before: int | None, taken: tuple[int, ...], refused: tuple[int, ...]
) -> None:
    """Clocks differ; where the topic says nothing, the limit into the future is that of Kafka 4, an hour."""
    ready: Any = SimpleNamespace(after_ms=after, before_ms=before)
    takes = takes_time(ready, lambda: TIME / 1000)
    assert [takes(ms) for ms in taken] == [True] * len(taken)
    assert [takes(ms) for ms in refused] == [False] * len(refused)
