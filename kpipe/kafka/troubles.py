"""What a client complains about in the background, kept to explain a failure; its own log lines never reach stderr.

It opens no client and prints nothing, but for the raw lines that KPIPE_DEBUG=1 asks for, without secrets.
"""

from __future__ import annotations

import logging
import os
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kpipe.clusters.secrets import scrub, secret_values
from kpipe.errors import visible
from kpipe.kafka.diagnosis import from_complaints
from kpipe.kafka.errors import Cause, cause_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from confluent_kafka import KafkaError

    from kpipe.kafka.diagnosis import Finding

CAUSE, CAUSE_SLICE = 1.0, 0.05
"""Seconds that are waited for why a producer died, and of each look."""
SECRETS: set[str] = set()
"""All that this process must not print; one process serves one command."""


@dataclass(slots=True)
class Troubles:
    """What a client complained about in the background, newest last; bounded."""

    cluster: str
    properties: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The client's own, secrets included: they explain a failure, and are struck out of every message."""
    errors: list[tuple[str, str]] = field(default_factory=list)
    fatal: tuple[str, str] | None = None
    listener: Callable[[str, str], None] | None = None
    statistics: str = ""
    """The client's last statistics (librdkafka's STATISTICS.md), as JSON; only with `statistics.interval.ms`."""

    def on_statistics(self, text: str) -> None:
        """Kept as they are: they are read when somebody asks."""
        self.statistics = text

    def on_error(self, error: KafkaError) -> None:
        """The client's error callback: it takes notes and never raises."""
        if error.fatal():
            self.fatal = self._scrubbed(str(error.name()), str(error.str()))
        self.hear(str(error.name()), str(error.str()))

    def hear(self, name: str, text: str) -> None:
        """Take down one complaint."""
        entry = self._scrubbed(name, text)
        del self.errors[:-20]
        self.errors.append(entry)
        if self.listener is not None:
            self.listener(*entry)

    def overhear(self, log: str) -> None:
        """Take down what the client logs but never gives to its error callback: an address without an answer."""
        told = re.search(r"\]: (\S+:\d+/\w+: Connection setup timed out .*)", log)
        if told:
            self.hear(Cause.NO_CONNECTION.value, told[1])

    def _scrubbed(self, name: str, text: str) -> tuple[str, str]:
        return name, scrub(text, secret_values(self.properties))

    def learn_cause(self, poll: Callable[[float], object]) -> None:
        """Wait for why a producer died: its `produce` says that it is dead before a poll says why."""
        deadline = time.monotonic() + CAUSE
        while self.fatal is None and time.monotonic() < deadline:
            self.serve(poll, CAUSE_SLICE)

    def serve(self, call: Callable[[float], object], timeout: float) -> None:
        """Call a producer's poll or flush: the client raises a fatal error there, and never gives it to `on_error`.

        When a delivery report follows in the same call, the report does its work, and Python tells of an exception
        that was there before it: a SystemError, with the client's own behind it.
        """
        from confluent_kafka import KafkaException

        try:
            call(timeout)
        except (KafkaException, SystemError) as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, KafkaException):
                cause = cause.__cause__ or cause.__context__
            if cause is None or not cause.args[0].fatal():
                raise
            self.on_error(cause.args[0])

    def finding(self) -> Finding | None:
        """What the cluster itself told us to be wrong: a refused login, which no retry will change."""
        return from_complaints(self.errors, self.properties)

    def latest(self) -> str:
        """The most telling recent complaint: a broker's own words before `all brokers are down`."""
        for name, text in reversed(self.errors):
            if cause_of(name) is not Cause.NOBODY_UP:
                return text
        return ""


def silent_logger(properties: Mapping[str, Any]) -> logging.Logger:
    """A logger that swallows the client's raw lines; KPIPE_DEBUG=1 shows them without the properties' secrets.

    All of them: what `debug` asks for is of level DEBUG, which a logger leaves out unless it is told otherwise.
    """
    logger = logging.getLogger("kpipe.client")
    logger.propagate = False
    SECRETS.update(secret_values({name: value for name, value in properties.items() if isinstance(value, str)}))
    if not logger.handlers:
        shown = bool(os.environ.get("KPIPE_DEBUG"))
        handler = logging.StreamHandler() if shown else logging.NullHandler()
        logger.setLevel(logging.DEBUG if shown else logging.WARNING)
        handler.addFilter(_strike_secrets)
        logger.addHandler(handler)
    return logger


def overhearing_logger(troubles: Troubles) -> logging.Logger:
    """A logger that hands on what the client logs but never gives to its error callback: an address without answer."""
    logger = logging.Logger("kpipe.client.producer")  # noqa: LOG001  # a registered one would outlive the client
    logger.parent = silent_logger(troubles.properties)
    logger.setLevel(min(logger.parent.level, logging.INFO))  # what is overheard is of level INFO

    def hear(record: logging.LogRecord) -> bool:
        troubles.overhear(record.getMessage())
        return True

    logger.addFilter(hear)
    return logger


def _strike_secrets(record: logging.LogRecord) -> bool:
    record.msg, record.args = visible(scrub(record.getMessage(), SECRETS)), ()
    return True
