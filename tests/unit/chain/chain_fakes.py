"""What chain tests share: a source of batches, a sink that acknowledges when told, and a run over them."""

from __future__ import annotations

from types import SimpleNamespace

from kpipe.errors import UndeliveredError
from kpipe.ledger import Ledger
from kpipe.pipeline import Pipeline
from kpipe.record import Batch


def rows(*values, topic="t", partition=0, first=0, **more):
    count = len(values)
    return Batch(
        list(values),
        topics=[topic] * count,
        partitions=[partition] * count,
        offsets=list(range(first, first + count)),
        **more,
    )


class ListSource:
    def __init__(self, *batches):
        self.batches = list(batches)
        self.finished = not self.batches

    def read(self):
        batch = self.batches.pop(0)
        self.finished = not self.batches
        return batch

    def keep_alive(self):
        pass

    def leave(self):
        pass

    def close(self, timeout):
        pass


class FakeSink:
    """Takes every record; `acks` decides whether it says so at once. `fails` are values that it refuses."""

    def __init__(self, name="main", *, acks=True, fails=()):
        self.name, self.acks, self.fails = name, acks, set(fails)
        self.values, self.waiting, self.batches, self.closed = [], [], [], 0

    def send(self, batch, flight, idle):
        self.batches.append(batch)
        reports = flight.take_reports(batch)
        for value, report in zip(batch.values, reports, strict=False):
            self.values.append(value)
            self.waiting.append((value, report))
        if self.acks:
            self.acknowledge()

    def acknowledge(self):
        for value, report in self.waiting:
            report("refused" if value in self.fails else None, None)
        self.waiting.clear()

    def poll(self):
        pass

    def explain(self, error, where, _record=None):
        return UndeliveredError(f"{self.name} says {error}", where=where)

    def refused(self, error):
        return True

    def unwritten(self, error):
        return True

    def took_along(self, failures, idle):
        return False

    def resend(self, failures, judge, idle):
        return failures

    def flush(self, timeout):
        return not self.waiting

    def purge(self):
        self.waiting.clear()

    def close(self, timeout):
        self.closed += 1


class Committer:
    def __init__(self):
        self.offsets = {}

    def tick(self, ledger):
        pass

    def finish(self, ledger, timeout):
        self.offsets = ledger.prefix()


class Calm:
    requested = forced = False
    signal = None

    def remaining(self, otherwise, *, grace=0.0):
        return otherwise


def run(source, stages, sink, *, on_error="stop", limit=None, flush_timeout=0.2):
    committer, said = Committer(), []
    ledger = Ledger(keeps_offsets=True)
    pipeline = Pipeline(
        source,
        stages,
        sink,
        committer,
        ledger,
        Calm(),
        on_error=on_error,
        limit=limit,
        say=said.append,
        flush_timeout=flush_timeout,
    )
    binder = sink
    while binder is not None:
        if hasattr(binder, "ending"):
            binder.ending = lambda: pipeline.state.draining
        binder = getattr(binder, "inner", None)
    pipeline.run()
    return SimpleNamespace(
        ledger=ledger, error=pipeline.error, committed=committer.offsets, said=said, lost=pipeline.lost
    )
