"""One source record is one outcome, however many children a split made of it."""

from __future__ import annotations

from chain_fakes import FakeSink, ListSource, rows, run

from kpipe.errors import BadRecord
from kpipe.transform.chain import build
from kpipe.transform.step import Step

SPLIT = [Step("split", ".[]"), Step("filter", '. != "drop"'), Step("map", "tonumber")]


def test_a_record_with_one_bad_child_is_not_sent_at_all():
    sink = FakeSink()
    done = run(ListSource(rows(b'["1"]', b'["2","x","3"]', b'["4"]')), build(SPLIT), sink)
    assert sink.values == [b"1"]
    assert isinstance(done.error, BadRecord)
    assert done.error.where == "t[0]@1"
    assert done.committed == {("t", 0): 1}
    assert (done.ledger.read, done.ledger.delivered, done.ledger.failed) == (2, 1, 1)


def test_skipping_counts_a_record_with_many_bad_children_once():
    sink = FakeSink()
    done = run(ListSource(rows(b'["1"]', b'["x","2","y"]', b'["4","5"]')), build(SPLIT), sink, on_error="skip")
    assert sink.values == [b"1", b"4", b"5"]
    assert done.ledger.balanced
    assert (done.ledger.delivered, done.ledger.failed) == (2, 1)
    assert done.committed == {("t", 0): 3}
    assert len(done.said) == 1


def test_a_split_record_is_settled_by_its_last_child():
    sink = FakeSink(acks=False)
    source = ListSource(rows(b'["1","2"]', b'["drop"]'))
    done = run(source, build(SPLIT), sink)  # the drain gives up: nothing was acknowledged
    assert done.ledger.unknown == 1
    assert done.committed == {}


def test_a_record_refused_by_two_targets_is_skipped_once():
    from kpipe.sinks.branch import FanOut

    sink = FanOut(FakeSink("one", fails=[b"b"]), [(FakeSink("two", fails=[b"b"]), True)])
    done = run(ListSource(rows(b"a", b"b", b"c")), [], sink, on_error="skip")
    assert (done.ledger.delivered, done.ledger.failed, done.ledger.balanced) == (2, 1, True)
    assert len(done.said) == 1
    assert done.committed == {("t", 0): 3}
