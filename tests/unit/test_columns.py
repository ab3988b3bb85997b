"""The column sink: what is settled, what is not, and in which order, with a client that a test can fill and fail."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from kpipe.kafka.troubles import Troubles
from kpipe.ledger import Ledger
from kpipe.pipeline import Pipeline
from kpipe.record import Batch
from kpipe.shutdown import Stop
from kpipe.sinks.columns import NO_ROOM, OPEN_BYTES, ColumnSink
from kpipe.sinks.producing import Producing
from kpipe.sinks.topic import NotSent
from tests.fakes import ListCommitter, ListSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.flight import Flight


@dataclass
class Client:
    """Holds up to `room` records until `deliver` is called; refuses the values in `refused`."""

    room: int = 1_000_000
    refused: dict[bytes, Any] = field(default_factory=dict)
    on_poll: Callable[[], None] = lambda: None
    on_failure: Callable[[int, int, Any], None] = lambda _batch, _place, _error: None
    taken: list[bytes | None] = field(default_factory=list)
    queue: list[tuple[int, int]] = field(default_factory=list)
    value_bytes: int = 0

    def __len__(self) -> int:
        return len(self.queue)

    def produce(self, values: list[bytes | None], _keys: Any, _partition: int, batch: int, first: int = 0) -> Any:
        refused = []
        self.value_bytes = sum(len(value or b"") for value in values)
        for place, value in enumerate(values):
            if value in self.refused:
                refused.append((place, self.refused[value]))
            elif len(self.queue) >= self.room:
                return place, refused
            else:
                self.taken.append(value)
                self.queue.append((batch, first + place))
        return len(values), refused

    def poll(self, _timeout: float = 0.0) -> None:
        self.on_poll()

    def flush(self, _timeout: float) -> int:
        self.on_poll()
        return len(self)

    def purge(self) -> None:
        for batch, place in self.queue:
            self.on_failure(batch, place, "purged")
        self.queue.clear()

    def close(self) -> None:
        pass

    def deliver(self, count: int | None = None) -> None:
        del self.queue[: len(self.queue) if count is None else count]

    def fail(self, number: int) -> None:
        self.on_failure(*self.queue.pop(number), "failed")


class Run:
    """A sink on such a client, with the ledger that it settles in."""

    def __init__(self, *, most: dict[str, int] | None = None, **client: Any) -> None:
        self.client, self.ledger = Client(**client), Ledger()
        producing = Producing(self.client, Troubles("cluster"))  # type: ignore[arg-type]
        self.sink = ColumnSink(producing, "t", "cluster", ledger=self.ledger, **(most or {}))

    def send(self, *values: bytes, keep: list[bool] | None = None, idle: Callable[[], bool] = lambda: True) -> Flight:
        batch = Batch(list(values), file="stdin", lines=range(1, len(values) + 1))
        flight = self.ledger.track(batch, batch.snapshot())
        if keep is not None:
            batch.keep(keep)
            flight.settle_filtered(batch)
        self.sink.send(batch, flight, idle)
        return flight


def test_nothing_is_settled_before_the_queue_is_empty() -> None:
    run = Run()
    run.send(b"a", b"b")
    run.client.deliver(1)
    run.sink.poll()
    run.ledger.settle()
    assert (run.ledger.delivered, run.ledger.in_flight, run.ledger.waiting) == (0, 2, 1)
    run.client.deliver()
    run.sink.poll()
    run.ledger.settle()
    assert (run.ledger.delivered, run.ledger.in_flight, run.ledger.waiting) == (2, 0, 0)


def test_batches_of_so_many_bytes_are_waited_for_before_more_are_kept() -> None:
    run = Run()
    run.send(b"x" * (OPEN_BYTES + 1))
    waited: list[int] = []

    def answer() -> None:
        waited.append(len(run.client))
        run.client.deliver()

    run.client.on_poll = answer
    run.send(b"small")
    assert waited == [1]
    run.send(b"small")
    assert waited == [1]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_failed_record_is_never_delivered(number: int) -> None:
    run = Run()
    flight = run.send(b"a", b"b", b"c")
    run.client.fail(number)
    run.client.deliver()
    run.sink.poll()
    run.ledger.settle()
    assert flight.failures == [(number, "failed")]
    assert sorted(flight.settled) == [index for index in range(3) if index != number]
    assert run.ledger.delivered == 0
    assert [index for _, index in run.ledger.close([(flight, number)])] == [number]
    assert (run.ledger.delivered, run.ledger.failed, run.ledger.unknown) == (2, 1, 0)
    assert run.ledger.balanced


def test_places_are_those_of_the_batch_as_read() -> None:
    run = Run()
    flight = run.send(b"a", b"b", b"c", b"d", keep=[False, True, False, True])
    run.client.fail(1)
    run.client.deliver()
    run.sink.poll()
    assert flight.failures == [(3, "failed")]
    assert sorted(flight.settled) == [0, 1, 2]


def test_a_full_queue_keeps_the_order() -> None:
    run = Run(room=3)
    run.client.on_poll = lambda: run.client.deliver(2)
    values = [b"%d" % number for number in range(20)]
    flight = run.send(*values)
    assert run.client.taken == values
    run.client.deliver()
    run.sink.poll()
    assert sorted(flight.settled) == list(range(20))


def test_a_refused_record_is_named_and_its_neighbours_go_on() -> None:
    run = Run(room=2, refused={b"c": "too large"})
    run.client.on_poll = run.client.deliver
    flight = run.send(b"a", b"b", b"c", b"d", b"e")
    assert run.client.taken == [b"a", b"b", b"d", b"e"]
    assert flight.failures == [(2, "too large")]
    run.client.deliver()
    run.sink.poll()
    assert sorted(flight.settled) == [0, 1, 3, 4]


def test_a_record_larger_than_the_buffer_is_refused() -> None:
    run = Run(room=0)
    flight = run.send(b"a")
    ((index, error),) = flight.failures
    assert index == 0
    assert isinstance(error, NotSent)
    assert "--buffer" in error.reason
    run.sink.poll()
    assert flight.settled == []


def test_what_found_no_room_until_the_end_was_not_sent() -> None:
    run = Run(room=2)
    flight = run.send(b"a", b"b", b"c", b"d", idle=lambda: False)
    assert [(index, error.reason) for index, error in flight.failures] == [(2, NO_ROOM), (3, NO_ROOM)]  # type: ignore[attr-defined]
    run.sink.purge()
    assert [index for index, _ in flight.failures] == [2, 3, 0, 1]
    assert flight.settled == []


@pytest.mark.parametrize("limit", ["open_records", "open_flights"])
def test_a_queue_that_never_runs_empty_is_waited_for(limit: str) -> None:
    """What is open must not grow with the input."""
    run = Run(most={limit: 3})
    run.client.on_poll = lambda: run.client.deliver(1)
    for _ in range(4):
        run.send(b"a", b"b")
    run.ledger.settle()
    assert run.ledger.delivered >= 4
    assert run.ledger.in_flight <= 4


def test_contents_are_let_go_unless_they_may_be_wanted() -> None:
    run = Run()
    source = ListSource([Batch([value], file="stdin", lines=[1]) for value in (b"a", b"b")])
    pipeline = Pipeline(source, [], run.sink, ListCommitter(), run.ledger, Stop())
    pipeline.turn()
    run.ledger.keeps_records = True
    pipeline.turn()
    gone, kept = run.ledger.flights
    assert gone.origin is not None
    assert kept.origin is not None
    assert (gone.origin.values, kept.origin.values) == ([], [b"b"])
    assert gone.origin.where_read(0) == "stdin:1"


def test_numbers_of_batches_begin_again() -> None:
    """They are 32 bits of the mark that comes back with a failure: at a thousand batches a second, 49 days."""
    run = Run()
    run.sink._number = 0xFFFFFFFF
    flight = run.send(b"a", b"b")
    run.client.fail(1)
    assert flight.failures == [(1, "failed")]


def test_a_failure_behind_a_full_queue_has_its_place_in_the_whole_batch() -> None:
    run = Run(room=2)
    run.client.on_poll = run.client.deliver
    flight = run.send(b"a", b"b", b"c", b"d", b"e")
    run.client.fail(0)
    run.sink.poll()
    assert flight.failures == [(4, "failed")]
    assert sorted(flight.settled) == [0, 1, 2, 3]


def test_failures_of_open_batches_are_told_apart_and_the_next_ones_start_afresh() -> None:
    run = Run()
    flights = [run.send(b"a", b"b") for _ in range(3)]
    for number in (4, 1):  # the last batch's first, the first batch's second
        run.client.fail(number)
    run.client.deliver(2)
    run.sink.poll()
    assert run.ledger.landed == 4  # of six, two are still there
    assert [flight.settled for flight in flights] == [[], [], []]
    run.client.deliver()
    run.sink.poll()
    assert [list(flight.settled) for flight in flights] == [[0], [0, 1], [1]]
    assert run.ledger.landed == 0
    run.send(b"a")
    run.sink.poll()
    assert run.ledger.landed == 0


def test_complaints_that_wait_in_the_queue_put_settling_off_and_never_for_good() -> None:
    """The client counts what it has to tell as if it were records."""
    run = Run()
    flight = run.send(b"a")
    run.client.deliver()
    run.client.queue.append((0, 0))
    run.sink.poll()
    assert flight.settled == []
    run.client.queue.clear()
    run.sink.poll()
    assert flight.settled == [0]


@pytest.mark.parametrize("on_error", ["stop", "skip"])
@pytest.mark.parametrize("seed", range(20))
def test_whatever_fails_the_books_balance(seed: int, on_error: str) -> None:
    """Full queues, refusals and failures at random: what is delivered is what neither failed nor was refused."""
    chance, failed = random.Random(seed), set[bytes | None]()
    sources = [
        Batch([b"%d.%d" % (n, i) for i in range(chance.randrange(1, 40))], file="f", lines=range(1, 41))
        for n in range(30)
    ]
    total = sum(map(len, sources))
    rate = chance.choice([0, 0.002, 0.05])
    refused = {value for batch in sources for value in batch.values if chance.random() < rate}
    client = Client(room=chance.randrange(1, 60), refused={value or b"": Refused() for value in refused})
    values: dict[tuple[int, int], bytes | None] = {}

    def work() -> None:
        values.update(zip(client.queue, client.taken[len(client.taken) - len(client.queue) :], strict=True))
        for _ in range(chance.randrange(len(client.queue) + 1)):
            mark = client.queue.pop(0)
            if chance.random() < rate:
                failed.add(values[mark])
                client.on_failure(*mark, Refused())

    client.on_poll = work
    ledger = Ledger()
    sink = ColumnSink(Producing(client, Troubles("c")), "t", "c", ledger=ledger)  # type: ignore[arg-type]
    pipeline = Pipeline(ListSource(sources), [], sink, ListCommitter(), ledger, Stop(), on_error=on_error)
    pipeline.run()
    assert ledger.balanced
    assert ledger.in_flight == ledger.unknown == 0
    assert (
        client.taken
        == [value for batch in sources for value in batch.values if value not in refused][: len(client.taken)]
    )
    assert ledger.delivered == len(client.taken) - len(failed)
    assert ledger.failed == ledger.read - ledger.delivered
    if on_error == "skip":
        assert (ledger.read, ledger.failed) == (total, len(refused) + len(failed))
    assert (pipeline.error is None) == (on_error == "skip" or not ledger.failed)


class Refused:
    """The client's error for a record that was certainly not written."""

    def name(self) -> str:
        return "MSG_SIZE_TOO_LARGE"
