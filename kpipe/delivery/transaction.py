"""Makes records and the offsets they came from visible together, or neither: one transaction after another.

It never leaves an outcome to chance: after a doubtful one the producer is replaced, because librdkafka lacks KIP-890
and a late answer could otherwise end the next transaction (Jepsen, Bufstream 0.1.3).

    idle --begin--> open --commit--> committed | aborted (nothing is visible; go back) | unknown (ask the group)
"""

from __future__ import annotations

import sys
import threading
import time
from enum import Enum
from typing import TYPE_CHECKING, Any

from kpipe.errors import KpipeError, Stage, UndeliveredError, UnreachableError
from kpipe.kafka.errors import Cause, cause_of, is_unauthorised
from kpipe.shutdown import run_bounded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from confluent_kafka import Producer

    from kpipe.flight import TopicPartition
    from kpipe.kafka.troubles import Troubles

SLICE = 2.0
"""Seconds of one call: a signal handler runs only between calls, and a call that timed out is called again."""

GRACE = 0.3
"""Seconds that an answer is still waited for after the deadline of a signal."""
LEAST = 0.1
"""Seconds of a call when all time is used up."""

MAGIC = b"CGMDv2:"
"""What librdkafka's group metadata begins with; the generation follows as an int32 in the machine's byte order."""


class Outcome(Enum):
    """How a transaction ended."""

    COMMITTED = "committed"
    ABORTED = "aborted"
    UNKNOWN = "unknown"


class FencedError(UndeliveredError):
    """Kafka lets this producer write no more; it cannot tell the two causes apart."""

    stage = Stage.COMMIT
    code = "FENCED"


def generation(metadata: bytes) -> int:
    """The group generation in a consumer's metadata, -1 when it is no member.

    A coordinator takes offsets with generation -1 without any check (ClassicGroup.validateOffsetCommit), so they must
    never be sent. Metadata in an unknown layout is left to the broker.
    """
    if not metadata.startswith(MAGIC):
        return 0
    return int.from_bytes(metadata[len(MAGIC) : len(MAGIC) + 4], sys.byteorder, signed=True)


class TransactionLine:
    """Transactions of one producer after another, under one transactional id. Times are in seconds.

    `open_producer` makes a producer; `timeout` is how long a transaction may be open (transaction.timeout.ms).
    Raises FencedError when another process took the id, UnreachableError when the coordinator does not answer.
    """

    def __init__(  # noqa: PLR0913 - one for each side it touches
        self,
        producer: Producer,
        troubles: Troubles,
        open_producer: Callable[[], tuple[Producer, Troubles]],
        where: str,
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        given_up: Callable[[], bool] = lambda: False,
        remaining: Callable[[float], float] = lambda otherwise: otherwise,
    ) -> None:
        self.producer = producer
        self.troubles = troubles
        self.timeout = timeout
        self.opened: float | None = None
        self.fenced = False
        self.lost = False
        """Its producer does not find back to the cluster: it can neither send nor abort."""
        self.stuck = False
        """A call never came back: the producer must not be used or closed any more, only left behind."""
        self.in_doubt = False
        """Whether nobody knows how the last transaction ended; cleared by whoever finds out."""
        self.reason = ""
        """Why the last transaction was not committed."""
        self.given_up = given_up
        """Whether nobody waits for an answer any longer: the deadline of a signal has passed."""
        self.remaining = remaining
        """Seconds until then; as many as it is given when no signal came."""
        self.progress: Callable[[], None] = lambda: None
        """Called between the slices of a wait: a service manager that hears nothing for so long would end the run."""
        self._open_producer = open_producer
        self._where = where
        self._clock = clock
        self._doubtful = False

    @property
    def is_open(self) -> bool:
        """Whether a transaction has begun and not ended."""
        return self.opened is not None

    def start(self, timeout: float) -> None:
        """Take the id over: an open transaction of a process before us is aborted, and that process is fenced."""
        from confluent_kafka import KafkaException

        try:
            self._persist(self.producer.init_transactions, timeout)
        except KafkaException as error:
            raise self._explain(error) from None
        self._doubtful = False

    def begin(self) -> None:
        """Open a transaction; called for the first record, because an idle open one times out and reads as fenced."""
        from confluent_kafka import KafkaException

        if self._doubtful or self.troubles.fatal is not None:
            self.replace(self.timeout)
        try:
            self.producer.begin_transaction()
        except KafkaException as error:
            self._refuse_if_fenced(error)
            self.replace(self.timeout)
            try:
                self.producer.begin_transaction()
            except KafkaException as again:
                raise self._explain(again) from None
        self.opened = self._clock()

    def commit(
        self,
        offsets: Mapping[TopicPartition, int],
        metadata: bytes,
        timeout: float,
        note: Callable[[str], str] = lambda _topic: "",
    ) -> Outcome:
        """End the transaction with these next offsets in it; everything sent must have been reported.

        `metadata` is the group's, `note` what is committed beside the offsets of a topic.
        """
        from confluent_kafka import KafkaException, TopicPartition

        deadline = self._clock() + timeout
        wanted = [
            TopicPartition(topic, partition, offset, metadata=note(topic))
            for (topic, partition), offset in sorted(offsets.items())
        ]
        send = self.producer.send_offsets_to_transaction
        try:
            self._persist(lambda slice_s: self._wait_for(lambda: send(wanted, metadata, slice_s)), timeout)
        except KafkaException as error:
            return self._give_up(error, Outcome.ABORTED, deadline)
        try:
            self._persist(self.producer.commit_transaction, max(SLICE, deadline - self._clock()))
        except KafkaException as error:
            return self._give_up(error, Outcome.UNKNOWN, deadline)
        self.opened = None
        return Outcome.COMMITTED

    def _wait_for(self, call: Callable[[], object]) -> None:
        """Call what minds no time limit, and leave it behind when the deadline of a signal passes first.

        librdkafka waits for the answer to AddOffsetsToTxn as long as for any (socket.timeout.ms, 60 s), whatever limit
        it is given: 1 of 95 runs that were ended while the broker was frozen. Without that answer nothing is committed.
        """
        failure: list[Exception] = []

        def run() -> None:
            try:
                call()
            except Exception as error:  # noqa: BLE001 - it is raised again below, in the thread that asked
                failure.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        while thread.is_alive() and not self.given_up():
            thread.join(LEAST)
            self.progress()
        thread.join(GRACE)
        if thread.is_alive():
            self.stuck, self.opened = True, None
            what = "the transaction coordinator did not answer in time, so nothing was committed; run again"
            raise UnreachableError(what, where=self._where, stage=Stage.COMMIT)
        if failure:
            raise failure[0]

    def _give_up(self, error: Exception, otherwise: Outcome, deadline: float) -> Outcome:
        """A call failed for good: abort if Kafka says so, else nobody knows what became of it."""
        cause = error.args[0]
        self.reason = str(cause.str())
        may_have_ended = otherwise is Outcome.UNKNOWN and (self._doubtful or not cause.txn_requires_abort())
        self.in_doubt = may_have_ended and (self._doubtful or not self._is_fenced(error))
        self._refuse_if_fenced(error)
        if cause.txn_requires_abort() and not may_have_ended:
            self.abort(max(SLICE, deadline - self._clock()))
            return Outcome.ABORTED
        self.replace(self.timeout)
        return Outcome.UNKNOWN if may_have_ended else Outcome.ABORTED

    def abort(self, timeout: float) -> None:
        """End the transaction without a trace; what is in flight is purged. A producer that cannot is replaced."""
        from confluent_kafka import KafkaException

        self.opened = None
        try:
            self._persist(self.producer.abort_transaction, timeout)
        except KafkaException as error:
            self._refuse_if_fenced(error)
            self.replace(timeout)
        self.serve()

    def serve(self, timeout: float = 0) -> None:
        """Serve delivery reports; a fatal error is kept for `check`."""
        self.troubles.serve(self.producer.poll, timeout)

    def replace(self, timeout: float) -> None:
        """A new producer under the same id: its epoch is higher, so nothing late of the old one can do harm."""
        old = self.producer
        self.opened = None
        old.purge()
        self.serve()
        self.producer, self.troubles = self._open_producer()
        self.lost = False
        run_bounded(lambda: _close_quietly(old), 1.0)
        self.start(timeout)

    def discard(self, timeout: float) -> None:
        """Let go of a producer that cannot end its transaction any more; the next one under its id does that."""
        if not self.stuck:
            run_bounded(lambda: _close_quietly(self.producer), timeout)

    def _persist(self, call: Callable[[float], object], timeout: float) -> None:
        """Call again while Kafka says that this is right; such an answer is remembered as doubtful."""
        from confluent_kafka import KafkaException

        deadline = self._clock() + timeout
        while True:
            left = deadline - self._clock()
            try:
                call(max(LEAST, min(SLICE, left, self.remaining(SLICE))))
            except KafkaException as error:
                if not error.args[0].retriable():
                    raise
                self._doubtful = True
                self.progress()
                if self._clock() >= deadline or self.given_up():
                    raise
            else:
                return

    def _refuse_if_fenced(self, error: Exception) -> None:
        if self._is_fenced(error):
            self.fenced = True
            self.opened = None
            raise self._explain(error) from None

    def _is_fenced(self, error: Exception) -> bool:
        fatal = self.troubles.fatal[0] if self.troubles.fatal is not None else ""
        return Cause.FENCED in (cause_of(error.args[0]), cause_of(fatal))

    def check(self) -> bool:
        """Whether the producer is fit to go on; False when it must be replaced. Raises FencedError."""
        if self.troubles.fatal is None:
            return True
        name, text = self.troubles.fatal
        self.reason = text
        if cause_of(name) is Cause.FENCED:
            self.fenced = True
            self.opened = None
            raise self._fenced()
        return False

    def _fenced(self) -> FencedError:
        what = (
            "the transaction was fenced: another process uses this transactional id, or the transaction timed out; "
            "give each process its own --instance, or raise transaction.timeout.ms with -X"
        )
        return FencedError(what, where=self._where)

    def _explain(self, error: Exception) -> KpipeError:
        cause: Any = error.args[0]
        if self._is_fenced(error):
            return self._fenced()
        text = str(cause.str())
        if is_unauthorised(cause):
            what = f"not authorised for this transactional id: {text}; ask for an ACL with WRITE on it"
            return UnreachableError(what, where=self._where, stage=Stage.COMMIT)
        kind = UnreachableError if cause.retriable() else UndeliveredError
        return kind(f"the transaction coordinator: {text}; run again", where=self._where, stage=Stage.COMMIT)


def _close_quietly(producer: Producer) -> None:
    """The client tries an abort when it is closed, and warns on stderr when that cannot be done."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        producer.close()
