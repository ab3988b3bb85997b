"""A producer for applications: usable from any thread and after a fork, flushed and closed at exit without being asked.

One client for each process, opened at the first record. It installs no signal handler, prints nothing and ends nothing:
what goes wrong is an exception, or is told to whoever listens.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import sys
import threading
import time
import weakref
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias

from kpipe.errors import KpipeError, Stage, UndeliveredError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from kpipe.clusters.profiles import Cluster
    from kpipe.record import Headers

log = logging.getLogger("kpipe")

Bytes: TypeAlias = "bytes | str | None"
"""Text is sent as UTF-8; None is null, which is not empty."""
HeadersLike: TypeAlias = "Mapping[str, Bytes] | Iterable[tuple[str, Bytes]] | None"

DELIVERY_TIMEOUT_MS = 120_000
"""For how long a record is tried, as everywhere in kpipe where the input ends."""
POLL = 0.1
"""Seconds of one wait for delivery reports."""
UNFINISHED = "not acknowledged before the producer was closed"
FULL = 0.01
"""Seconds between looks at a full queue."""


class Delivery(NamedTuple):
    """Where a record is: acknowledged by all in-sync replicas. `offset` is -1 where acks=0 keeps it unknown."""

    topic: str
    partition: int
    offset: int


class ClusterError(NamedTuple):
    """What a client complains about while it goes on trying. `name` is librdkafka's, as `_ALL_BROKERS_DOWN`."""

    cluster: str
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Message:
    """A record to produce. `headers` keep their order and duplicates; `timestamp` is in ms since 1970 (None: now)."""

    topic: str
    value: Bytes = None
    key: Bytes = None
    headers: HeadersLike = None
    partition: int | None = None
    timestamp: int | None = None


class Producer:
    """Sends records to one cluster: `cluster` is a profile of the configuration, or `brokers` are addresses.

    Further properties are librdkafka's, with _ for the dots: `Producer(brokers="kafka:9092", linger_ms=50)`. What
    nobody sets is as on the command line: idempotent, acks=all, keys placed as by Java clients. UsageError for
    what is wrong with them. At the end of the process what is in flight has `exit_timeout` seconds; what is left is
    logged and lost.
    """

    def __init__(
        self,
        cluster: str = "",
        *,
        brokers: str = "",
        config: str = "",
        exit_timeout: float = 30.0,
        on_error: Callable[[ClusterError], None] | None = None,
        **properties: object,
    ) -> None:
        self._cluster = _resolve(cluster, brokers, config, properties)
        self._exit_timeout = exit_timeout
        self._listeners = [on_error] if on_error is not None else []
        self._lock = threading.Lock()
        self._line: _Line | None = None
        self._closed = False
        _producers.add(self)

    # --- one record ----------------------------------------------------------------------------------------------

    def produce(
        self,
        topic: str,
        value: Bytes = None,
        *,
        key: Bytes = None,
        headers: HeadersLike = None,
        partition: int | None = None,
        timestamp: int | None = None,
    ) -> Future[Delivery]:
        """Queue a record and return at once; waits only while the queue is full.

        The future gives the Delivery, or raises UndeliveredError. Nobody needs to look at it: what was not delivered is
        logged, too. UsageError when the producer is closed, TypeError for what is neither bytes, text nor None.
        """
        return self._send(Message(topic, value, key, headers, partition, timestamp))

    def produce_sync(
        self,
        topic: str,
        value: Bytes = None,
        *,
        key: Bytes = None,
        headers: HeadersLike = None,
        partition: int | None = None,
        timestamp: int | None = None,
    ) -> Delivery:
        """Send a record and wait until it is acknowledged; UndeliveredError when it is not."""
        return self._send(Message(topic, value, key, headers, partition, timestamp)).result()

    async def produce_async(
        self,
        topic: str,
        value: Bytes = None,
        *,
        key: Bytes = None,
        headers: HeadersLike = None,
        partition: int | None = None,
        timestamp: int | None = None,
    ) -> Delivery:
        """The same for an event loop, which goes on meanwhile, also while the queue is full."""
        message = Message(topic, value, key, headers, partition, timestamp)
        return await asyncio.wrap_future(await self._send_from_loop(message))

    # --- many ----------------------------------------------------------------------------------------------------

    def produce_many(self, messages: Iterable[Message]) -> list[Future[Delivery]]:
        """Queue records in their order; a future for each."""
        return [self._send(message) for message in messages]

    def produce_many_sync(self, messages: Iterable[Message]) -> list[Delivery]:
        """Send records and wait for all; UndeliveredError for the first that failed, once all are known."""
        futures = self.produce_many(messages)
        for future in futures:
            future.exception()
        return [future.result() for future in futures]

    async def produce_many_async(self, messages: Iterable[Message]) -> list[Delivery]:
        """The same for an event loop."""
        sent = [await self._send_from_loop(message) for message in messages]
        found = await asyncio.gather(*map(asyncio.wrap_future, sent), return_exceptions=True)
        for each in found:
            if isinstance(each, BaseException):
                raise each
        return [each for each in found if isinstance(each, Delivery)]

    def _send(self, message: Message) -> Future[Delivery]:
        arguments = _arguments(message)
        while True:
            future = self._open().send(arguments)
            if future is not None:
                return future
            time.sleep(FULL)

    async def _send_from_loop(self, message: Message) -> Future[Delivery]:
        arguments, loop = _arguments(message), asyncio.get_running_loop()
        while True:
            line = self._line
            if line is None or line.beyond_repair or self._closed:  # to open one takes a moment
                line = await loop.run_in_executor(None, self._open)
            future = line.send(arguments)
            if future is not None:
                return future
            await asyncio.sleep(FULL)

    # --- the whole -----------------------------------------------------------------------------------------------

    def on_error(self, listener: Callable[[ClusterError], None]) -> None:
        """Tell `listener`, in a thread of the producer's, what its cluster complains about."""
        self._listeners.append(listener)

    def flush(self, timeout: float | None = None) -> int:
        """Wait until all is acknowledged or given up, at most `timeout` seconds; how many records are left."""
        line = self._line
        return line.flush(timeout) if line is not None else 0

    def close(self, timeout: float | None = None) -> None:
        """Flush, and let go of the client; what is left after `timeout` seconds is given up, and its futures raise.

        Without a timeout each record has its `delivery.timeout.ms` (120 s). A closed producer takes no more records.
        """
        with self._lock:
            self._closed = True
            line, self._line = self._line, None
        if line is not None:
            line.close(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> _Line:
        line = self._line
        if line is not None and not line.beyond_repair and not self._closed:
            return line
        with self._lock:
            if self._closed:
                raise UsageError("the producer is closed; make another one")
            if self._line is None or self._line.beyond_repair:
                if self._line is not None:
                    self._line.close(0)
                self._line = _Line(self._cluster, self._tell)
                _finish_with_process()
            return self._line

    def _tell(self, error: ClusterError) -> None:
        for listener in self._listeners:
            try:
                listener(error)
            except Exception:
                log.exception("kpipe: a listener failed")

    def _forget(self) -> None:
        """In the child of a fork: the client belongs to the parent, and its threads are not here."""
        self._lock = threading.Lock()
        line, self._line = self._line, None
        if line is not None:
            line.abandon()

    def _finish(self) -> None:
        self.close(self._exit_timeout)


_Arguments: TypeAlias = "tuple[str, bytes | None, bytes | None, int, int, Headers | None]"


class _Line:
    """A client and the thread that collects its delivery reports."""

    def __init__(self, cluster: Cluster, tell: Callable[[ClusterError], None]) -> None:
        from kpipe.kafka.client import label, open_producer
        from kpipe.sinks.producing import Producing
        from kpipe.sinks.topic import TopicSink

        own: dict[str, Any] = {"delivery.timeout.ms": DELIVERY_TIMEOUT_MS}
        own = {name: value for name, value in own.items() if name not in cluster.properties}
        self._name = label(cluster)
        self._client, self._troubles = open_producer(cluster, own)
        self._troubles.listener = lambda name, text: tell(ClusterError(self._name, name, text))
        self._words = TopicSink(Producing(self._client, self._troubles), "", self._name)
        self._ended = threading.Event()
        self._closing = False
        self._waiting: set[Future[Delivery]] = set()
        self._thread = threading.Thread(target=self._collect, name="kpipe-producer", daemon=True)
        self._thread.start()

    @property
    def beyond_repair(self) -> bool:
        """Whether no record gets through this client any more."""
        return self._troubles.fatal is not None

    def _collect(self) -> None:
        while not self._ended.is_set():
            self._troubles.serve(self._client.poll, POLL)

    def send(self, arguments: _Arguments) -> Future[Delivery] | None:
        """Queue it; None while there is no room."""
        topic, value, key, partition, timestamp, headers = arguments
        future: Future[Delivery] = Future()
        future.set_running_or_notify_cancel()

        def report(error: Any, message: Any) -> None:
            self._waiting.discard(future)
            if error is None:
                future.set_result(Delivery(message.topic(), message.partition(), message.offset()))
            else:
                self._fail(future, topic, error)

        self._waiting.add(future)
        try:
            self._client.produce(topic, value, key, partition, report, None, timestamp, headers)  # type: ignore[arg-type]
        except BufferError:
            self._waiting.discard(future)
            return None
        except Exception as error:  # noqa: BLE001 - the client raises its own exceptions and Python's alike
            self._waiting.discard(future)
            self._fail(future, topic, getattr(error, "args", [error])[0])
        return future

    def _fail(self, future: Future[Delivery], topic: str, error: Any) -> None:
        from kpipe.kafka.errors import Cause, cause_of

        self._words.topic = topic
        failure = self._words.explain(error, "") if hasattr(error, "name") else None
        if self._closing and cause_of(error) is Cause.PURGED:  # an application knows nothing of --drain-timeout
            failure = UndeliveredError(UNFINISHED, where=f"{self._name}/{topic}", stage=Stage.SEND)
        failure = failure or UndeliveredError(str(error), where=f"{self._name}/{topic}", stage=Stage.SEND)
        log.error("kpipe: %s", failure)
        future.set_exception(failure)

    def flush(self, timeout: float | None) -> int:
        """How many records are left."""
        deadline = None if timeout is None else time.monotonic() + timeout
        self._troubles.serve(self._client.flush, 0)  # what lingers goes now
        while self._waiting:
            left = POLL if deadline is None else min(POLL, deadline - time.monotonic())
            if left <= 0:
                break
            self._troubles.serve(self._client.flush, left)
        return len(self._waiting)

    def close(self, timeout: float | None) -> None:
        """Flush, give up what is left, and end; never waits for the client's own close."""
        left = self.flush(timeout)
        if left:
            log.error("kpipe: %s: %d records were not acknowledged in time", self._name, left)
            self._closing = True
            self._client.purge()
            self.flush(1.0)
        self._ended.set()
        if self._thread is not threading.current_thread():
            self._thread.join(5)
        for future in list(self._waiting):
            self._waiting.discard(future)
            with suppress(Exception):
                future.set_exception(UndeliveredError(UNFINISHED))
        closer = threading.Thread(target=self._client.close, daemon=True)
        closer.start()
        closer.join(1.0)

    def abandon(self) -> None:
        """Leave the client as it is, for good: to destroy it would wait for threads that a fork did not copy."""
        import ctypes

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._client))


def _resolve(cluster: str, brokers: str, config: str, properties: Mapping[str, object]) -> Cluster:
    """The cluster as the command line would find it; nothing is taken out of the environment of an application."""
    from kpipe.clusters.environment import given
    from kpipe.clusters.profiles import Flags, load_profiles
    from kpipe.clusters.project import current_folder

    given_properties = tuple(f"{name.replace('_', '.')}={_word(value)}" for name, value in properties.items())
    profiles = load_profiles(Flags(brokers, "", given_properties, "", config), given(), current_folder())
    places: list[Any] = [(cluster or None, "target")]
    profiles.adopt(name for name, _ in places)
    profiles.refuse_unused(places)
    found = profiles.resolve(cluster or None, "target")
    for warning in (*profiles.warnings, *found.warnings):
        log.warning("kpipe: %s", warning)
    if found.read_only:
        raise UsageError(
            f"cluster {cluster or brokers} is read_only; remove read_only from its profile to produce to it"
        )
    return found


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _arguments(message: Message) -> _Arguments:
    headers: Any = message.headers
    rows: Any = headers.items() if hasattr(headers, "items") else headers
    if not isinstance(message.topic, str) or not message.topic:
        raise TypeError("the topic is text, and not empty")
    if message.partition is not None and message.partition < 0:
        raise UsageError(f"there is no partition {message.partition}")
    return (
        message.topic,
        to_bytes(message.value, "value"),
        to_bytes(message.key, "key"),
        -1 if message.partition is None else message.partition,
        message.timestamp or 0,
        None if rows is None else [(str(name), to_bytes(value, f"header {name}")) for name, value in rows],
    )


def to_bytes(value: Any, what: str) -> bytes | None:
    """Bytes as they are, text as UTF-8, None as null; nothing else is guessed at."""
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    raise TypeError(f"a {what} is bytes, text or None, not {type(value).__name__}; encode it, as with json.dumps")


# --- the end of the process, and its children ----------------------------------------------------------------------

_producers: weakref.WeakSet[Producer] = weakref.WeakSet()
_finishing_in = 0


def _finish_all() -> None:
    for producer in list(_producers):
        try:
            producer._finish()  # noqa: SLF001 - the same module
        except KpipeError as error:
            log.error("kpipe: %s", error)  # noqa: TRY400 - one line is enough


def _finish_with_process() -> None:
    """Once a process: at its exit, also of a `multiprocessing` or billiard (Celery) child, which skips atexit."""
    global _finishing_in  # noqa: PLW0603 - one process, one end
    if _finishing_in == os.getpid():
        return
    _finishing_in = os.getpid()
    for name in ("multiprocessing.util", "billiard.util"):
        module: Any = sys.modules.get(name)
        if module is not None:
            module.Finalize(None, _finish_all, exitpriority=10)


def _forget_all() -> None:
    for producer in list(_producers):
        producer._forget()  # noqa: SLF001 - the same module


atexit.register(_finish_all)
os.register_at_fork(after_in_child=_forget_all)


def finish_on_signals() -> None:
    """Make SIGTERM end the process as `sys.exit` does, so that what is in flight is flushed; only if you ask."""
    import signal

    def end(number: int, _frame: object) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)
