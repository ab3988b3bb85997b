"""Routes and further targets: order, acknowledgements, and whose error it was."""

from __future__ import annotations

import pytest
from chain_fakes import FakeSink, ListSource, rows, run

from kpipe.errors import Interrupted, KpipeError, UnreachableError
from kpipe.sinks.branch import FanOut, RoutedSink, Routes, Tally


def routed(batch):
    batch.targets = [{b"x": "x", b"y": "y"}.get((value or b"")[:1]) for value in batch.values]


def test_routed_records_go_to_their_topics_in_order():
    sinks = {"x": FakeSink("x"), "y": FakeSink("y")}
    main = FakeSink()
    done = run(
        ListSource(rows(b"x1", b"1", b"y1", b"x2", b"2", b"y2")), [routed], RoutedSink(main, "main", sinks.__getitem__)
    )
    assert (main.values, sinks["x"].values, sinks["y"].values) == ([b"1", b"2"], [b"x1", b"x2"], [b"y1", b"y2"])
    assert done.ledger.delivered == 6
    assert done.committed == {("t", 0): 6}


def test_without_targets_the_batch_goes_on_untouched():
    main = FakeSink()
    run(ListSource(rows(b"1", b"2")), [], RoutedSink(main, "main", pytest.fail))
    assert len(main.batches) == 1
    assert main.batches[0].index is None


def test_a_failure_names_the_topic_it_was_for():
    sinks = {"x": FakeSink("x", fails=[b"x2"]), "y": FakeSink("y")}
    done = run(ListSource(rows(b"x1", b"1", b"x2", b"y")), [routed], RoutedSink(FakeSink(), "main", sinks.__getitem__))
    assert str(done.error) == "send: t[0]@2: x says refused"
    assert done.committed == {("t", 0): 2}
    assert (done.ledger.delivered, done.ledger.failed) == (3, 1)


def test_places_with_one_sink_keep_the_order_of_the_batch():
    main, far = FakeSink(), FakeSink("x")
    sinks = {"x": far, "c:x": far, "c:main": main}

    def to(batch):
        batch.targets = ["x", "c:x", "c:main", None, "c:x"]

    run(ListSource(rows(b"1", b"2", b"3", b"4", b"5")), [to], RoutedSink(main, "main", sinks.__getitem__))
    assert (main.values, far.values) == ([b"3", b"4"], [b"1", b"2", b"5"])


def test_a_route_with_a_client_of_its_own_is_flushed_and_closed_and_holds_the_commit():
    own = []
    far = FakeSink("x", acks=False)

    def open_topic(place):
        own.append(far)
        return far

    sink = RoutedSink(FakeSink(), "main", open_topic, own=own)
    done = run(ListSource(rows(b"1", b"x1", b"2")), [routed], sink)
    assert done.committed == {("t", 0): 1}
    assert (done.ledger.delivered, done.ledger.unknown) == (2, 1)
    assert far.closed == 1


def test_records_are_counted_by_cluster():
    near, far = Tally(), Tally()
    main, x = FakeSink(), FakeSink("x", fails=[b"x2"])
    tallies = {main: near, x: far}
    sink = RoutedSink(main, "main", {"x": x}.__getitem__, tally_of=tallies.get)
    done = run(ListSource(rows(b"x1", b"1", b"x2", b"2")), [routed], sink, on_error="skip")
    assert near.counts() == {"delivered": 2, "failed": 0, "unknown": 0}
    assert far.counts() == {"delivered": 1, "failed": 1, "unknown": 0}
    assert (done.ledger.delivered, done.ledger.failed) == (3, 1)


def test_what_every_target_gets_is_counted_by_cluster_too():
    near, far = Tally(), Tally()
    one, two = FakeSink("one"), FakeSink("two", acks=False)
    run(ListSource(rows(b"a", b"b")), [], FanOut(one, [(two, True)], {one: near, two: far}.get))
    assert near.counts() == {"delivered": 2, "failed": 0, "unknown": 0}
    assert far.sent == 2


def find_with(calls):
    def find(topic):
        calls.append(topic)
        if topic == "nowhere":
            raise KpipeError("no such topic; create it", where="c:nowhere")
        if topic == "down":
            raise UnreachableError("down")

    return find


def test_an_unknown_target_is_a_bad_record_with_its_position_and_is_looked_up_once():
    calls, now = [], [0.0]
    routes = Routes("main", find_with(calls), clock=lambda: now[0])
    for _ in range(2):
        batch = rows(b"1", b"2", b"3")
        batch.targets = [None, "nowhere", "x"]
        routes.admit(batch)
        assert batch.values == [b"1", b"3"]
        (bad,) = batch.bad
        assert str(bad.error) == "send: t[0]@1: routed to c:nowhere: no such topic; create it"
    assert calls == ["nowhere", "x"]
    now[0] = 11.0
    batch = rows(b"2")
    batch.targets = ["nowhere"]
    routes.admit(batch)
    assert calls == ["nowhere", "x", "nowhere"]


def test_an_unreachable_cluster_is_no_records_fault():
    batch = rows(b"1")
    batch.targets = ["down"]
    with pytest.raises(UnreachableError):
        Routes("main", find_with([])).admit(batch)


def test_a_record_is_settled_when_every_target_has_it():
    one, two = FakeSink("one"), FakeSink("two", acks=False)
    done = run(ListSource(rows(b"a", b"b")), [], FanOut(one, [(two, True)]))
    assert (one.values, two.values) == ([b"a", b"b"], [b"a", b"b"])
    assert done.committed == {}
    assert done.ledger.unknown == 2


def test_every_target_gets_everything_also_of_a_split_record():
    def twice(batch):
        batch.index = [place for place in range(len(batch)) for _ in range(2)]
        for name in ("values", "topics", "partitions", "offsets"):
            column = getattr(batch, name)
            setattr(batch, name, [entry for entry in column for _ in range(2)])

    one, two, three = FakeSink("one"), FakeSink("two"), FakeSink("three")
    done = run(ListSource(rows(b"a", b"b")), [twice], FanOut(one, [(two, True), (three, False)]))
    assert one.values == two.values == three.values == [b"a", b"a", b"b", b"b"]
    assert (done.ledger.delivered, done.committed) == (2, {("t", 0): 2})
    assert (one.closed, two.closed, three.closed) == (1, 1, 0)  # the third shares a client


def test_a_failure_at_a_further_target_is_told_in_its_words():
    done = run(ListSource(rows(b"a", b"b")), [], FanOut(FakeSink("one"), [(FakeSink("two", fails=[b"b"]), True)]))
    assert "two says refused" in str(done.error)
    assert done.committed == {("t", 0): 1}


def test_a_look_that_a_signal_ended_is_no_judgement_on_the_record():
    """With --on-error skip it was passed by and committed."""

    def stopped(_topic):
        raise Interrupted("stopped before the cluster answered")

    batch = rows(b"1")
    batch.targets = ["elsewhere"]
    with pytest.raises(Interrupted):
        Routes("main", stopped).admit(batch)
    assert (batch.bad, len(batch)) == ([], 1)
