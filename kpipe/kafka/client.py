"""Clients of one cluster: their properties, their errors in a person's words, and the first answer of the cluster.

It sends no records. The client's own log lines never reach stderr: they are kept to explain a failure.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
import sys
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from kpipe.clusters.address import place_name, plain_addresses
from kpipe.clusters.environment import given
from kpipe.clusters.properties import KERBEROS, REFUSED_PROPERTIES, for_admin, for_consumer, for_producer
from kpipe.clusters.secrets import Reference, Token, fetch_token, reveal, scrub, secret_values
from kpipe.errors import Interrupted, KpipeError, Stage, UnreachableError, UsageError, visible
from kpipe.kafka.diagnosis import denied, from_complaints, from_listeners, plain_reason
from kpipe.kafka.errors import NO_CONNECTION, NO_TOPIC, NOBODY_UP, is_unauthorised, name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from confluent_kafka import Consumer, KafkaError, Producer
    from confluent_kafka.admin import AdminClient

    from kpipe.clusters.profiles import Cluster
    from kpipe.kafka.diagnosis import Finding
    from kpipe.kafka.librdkafka import ColumnProducer

CLIENT_DEFAULTS: dict[str, Any] = {
    "socket.keepalive.enable": True,  # idle connections die silently behind load balancers after 350 s
    "allow.auto.create.topics": False,  # auto-creation must not hide a typo
    "log_level": 6,
    # The default of 30,000 keeps an address that never answers unreported for so long; a TLS handshake takes < 1 s.
    "socket.connection.setup.timeout.ms": 10_000,
    # Twice the time for which librdkafka connects to no second broker: the first is the bootstrap address, which it
    # leaves for the broker behind it. With the default of 100 every start waits 50 ms there.
    "reconnect.backoff.ms": 20,
    "reconnect.backoff.max.ms": 5_000,  # how long after its return a cluster may go unnoticed; the default is 10,000
    # With all brokers away librdkafka 2.16 starts from its bootstrap list again and again, each time with its shortest
    # backoff, and leaves a thread behind that never rests: a group took 6-9 % of a core, and 0.3 % with this. What it
    # costs: brokers that all come back under other names are not found (kpipe.kafka.presence tells of that).
    "metadata.recovery.strategy": "none",
}

CONSUMER_DEFAULTS: dict[str, Any] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",  # kpipe resolves where to start; a silent jump hides records lost to retention
    "isolation.level": "read_committed",
    "partition.assignment.strategy": "cooperative-sticky",
    "fetch.queue.backoff.ms": 10,  # default 1000 stalls the fetcher: 500k records took 2.2-3.3 s instead of 0.97 s
    "queued.max.messages.kbytes": 8192,  # consume: 57 MB resident; 16384: 80, and no faster; the default is 65536
}

PRODUCER_DEFAULTS: dict[str, Any] = {
    # A producer does not spin there, and its bootstrap address may be the only one of a cluster that answers.
    "metadata.recovery.strategy": "rebootstrap",
    "enable.idempotence": True,
    "acks": "all",
    "linger.ms": 5,
    "partitioner": "murmur2_random",  # what Java clients compute, so co-partitioned topics stay so
    "message.max.bytes": 1_000_000_000,  # checked before compression: the topic's own limit decides, not the client's
    # So long after a client first used a topic, `unknown topic` may mean that a broker has not heard of it yet, and
    # the records wait; later they fail at once. kpipe has seen the topic before, and a target that is deleted in the
    # first half minute of a run ended it after 31-37 s with the default of 30,000.
    "topic.metadata.propagation.max.ms": 10_000,
    # Headers are not counted in kbytes: 1 kB records with a trace took 161 MiB with 50,000, 140 MiB with this.
    "queue.buffering.max.messages": 20_000,
}

COLUMN_DEFAULTS: dict[str, Any] = {
    **PRODUCER_DEFAULTS,
    # Records of values and keys only are counted in kbytes to within 250 bytes each. 100 B lines fill 20,000 in 10 ms,
    # and the sending thread runs dry: 1 M of them took 0.85 s, and 0.80 s with this (kcat: 0.57 s).
    "queue.buffering.max.messages": 100_000,
}

NEVER_CREATE: dict[str, Any] = {"allow.auto.create.topics": False}
"""For clients that ask: a topic that is asked for by name must not come into being, whatever the user has set."""

EMBEDDED = "mockCluster"
"""What the embedded broker's cluster id begins with."""

SLICE = 0.5
"""Seconds of one wait for metadata."""
LOOK = 3.0
"""Seconds that a look at one address may take, to explain why the client cannot connect."""
ADDRESSES = 3
"""How many bootstrap addresses are looked at for an explanation."""


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
            self.hear(NO_CONNECTION, told[1])

    def _scrubbed(self, name: str, text: str) -> tuple[str, str]:
        return name, scrub(text, secret_values(self.properties))

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
            if name != NOBODY_UP:
                return text
        return ""


def label(cluster: Cluster) -> str:
    """How a cluster is called in messages: its profile's name, or its brokers, as a place takes them."""
    return cluster.name or plain_addresses(str(cluster.properties.get("bootstrap.servers", "")))


def client_id() -> str:
    """`kpipe-HOST-PID`, so that brokers' logs and quotas can tell processes apart."""
    return f"kpipe-{os.uname().nodename}-{os.getpid()}"


def silent_logger(properties: Mapping[str, Any]) -> logging.Logger:
    """A logger that swallows the client's raw lines; KPIPE_DEBUG=1 shows them without the properties' secrets.

    All of them: what `debug` asks for is of level DEBUG, which a logger leaves out unless it is told otherwise.
    """
    logger = logging.getLogger("kpipe.client")
    logger.propagate = False
    _SECRETS.update(secret_values({name: value for name, value in properties.items() if isinstance(value, str)}))
    if not logger.handlers:
        shown = bool(os.environ.get("KPIPE_DEBUG"))
        handler = logging.StreamHandler() if shown else logging.NullHandler()
        logger.setLevel(logging.DEBUG if shown else logging.WARNING)
        handler.addFilter(_strike_secrets)
        logger.addHandler(handler)
    return logger


def _overhearing(troubles: Troubles) -> logging.Logger:
    """A logger that hands on what the client logs but never gives to its error callback: an address without answer."""
    logger = logging.Logger("kpipe.client.producer")  # noqa: LOG001  # a registered one would outlive the client
    logger.parent = silent_logger(troubles.properties)
    logger.setLevel(min(logger.parent.level, logging.INFO))  # what is overheard is of level INFO

    def hear(record: logging.LogRecord) -> bool:
        troubles.overhear(record.getMessage())
        return True

    logger.addFilter(hear)
    return logger


_SECRETS: set[str] = set()
"""All that this process must not print; one process serves one command."""


def _strike_secrets(record: logging.LogRecord) -> bool:
    record.msg, record.args = visible(scrub(record.getMessage(), _SECRETS)), ()
    return True


def properties_for(cluster: Cluster, defaults: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Merge kpipe's defaults, the user's properties, and what this run cannot do without; secrets are fetched here."""
    for name, reason in REFUSED_PROPERTIES.items():
        if name in cluster.properties:
            raise UsageError(f"{name} cannot be set: {reason}", where=cluster.origins.get(name, label(cluster)))
    merged: dict[str, Any] = {
        "client.id": client_id(),
        **CLIENT_DEFAULTS,
        **defaults,
        **cluster.properties,
        **_revealed(label(cluster), cluster.properties.get("sasl.username", ""), cluster.references),
        **own,
    }
    if cluster.token is not None:
        first = _first_token(label(cluster), cluster.token)
        merged["oauth_cb"] = _token_callback(cluster.token, label(cluster), first)
    for name, value in merged.items():
        if isinstance(value, str) and ("\0" in value or not value.isascii()):
            _check_text(name, value, cluster.origins.get(name, label(cluster)))
    return merged


def _check_text(name: str, value: str, where: str) -> None:
    """The client cuts a text at a NUL, and bytes of the command line that are no UTF-8 end the process."""
    try:
        if "\0" not in value.encode().decode():
            return
    except UnicodeEncodeError:
        pass
    raise UsageError(f"{name}: its value is no UTF-8 text; correct it", where=where)


@cache
def _revealed(where: str, username: str, references: tuple[Reference, ...]) -> dict[str, str]:
    """The referenced secrets, fetched once: a run has several clients, and a password command may want a finger."""
    secrets, warnings = reveal({"sasl.username": username}, references, given(), where=where)
    for warning in warnings:
        sys.stderr.write(f"kpipe: {visible(warning)}\n")
    del secrets["sasl.username"]
    return secrets


@cache
def _first_token(where: str, reference: Reference) -> Token:
    """The first token, before a client is made: the client would wait 10 s for a callback that fails."""
    return fetch_token(reference, given(), time.time(), where=where)


def _token_callback(reference: Reference, where: str, first: Token) -> Callable[[str], tuple[str, float]]:
    """Gives the first token, then new ones; the client asks again when 80 % of a token's time are over."""
    waiting = [first]

    def fetch(_config: str) -> tuple[str, float]:
        token = waiting.pop() if waiting else fetch_token(reference, given(), time.time(), where=where)
        _SECRETS.add(token.value)
        return token.value, token.expires_s

    return fetch


def open_consumer(cluster: Cluster, own: Mapping[str, Any]) -> tuple[Consumer, Troubles]:
    """A consumer that commits and stores nothing by itself."""
    from confluent_kafka import Consumer

    merged = properties_for(cluster, CONSUMER_DEFAULTS, {"enable.partition.eof": True, **own})
    troubles = Troubles(label(cluster), merged)
    if merged.get("group.protocol") == "consumer" and "partition.assignment.strategy" not in cluster.properties:
        del merged["partition.assignment.strategy"]  # the broker assigns (KIP-848), and the client refuses both
    properties: dict[str, Any] = {**for_consumer(merged), **_callbacks(merged, troubles)}
    return _construct(Consumer, properties, cluster), troubles


def _callbacks(properties: Mapping[str, Any], troubles: Troubles) -> dict[str, Any]:
    statistics = {"stats_cb": troubles.on_statistics} if str(properties.get("statistics.interval.ms", 0)) != "0" else {}
    return {"error_cb": troubles.on_error, **statistics}


def open_producer(cluster: Cluster, own: Mapping[str, Any]) -> tuple[Producer, Troubles]:
    """A producer; refused for a cluster that is marked `read_only`."""
    from confluent_kafka import Producer

    merged = _producer_properties(cluster, own)
    troubles = Troubles(label(cluster), merged)
    properties: dict[str, Any] = {**for_producer(merged), **_callbacks(merged, troubles)}
    return _construct(Producer, properties, cluster, _overhearing(troubles)), troubles


def open_column_producer(
    cluster: Cluster, own: Mapping[str, Any], topic: str
) -> tuple[ColumnProducer | Producer, Troubles]:
    """A producer for values and keys of one topic, or a usual one where the library cannot be called directly."""
    from kpipe.kafka.librdkafka import ColumnProducer, can_send_columns

    merged = _producer_properties(cluster, own, COLUMN_DEFAULTS)
    if not can_send_columns(merged):
        return open_producer(cluster, own)
    troubles = Troubles(label(cluster), merged)

    def construct(properties: dict[str, Any], **_logger: object) -> ColumnProducer:
        return ColumnProducer(properties, topic, troubles.on_error, troubles.overhear, troubles.on_statistics)

    return _construct(construct, for_producer(merged), cluster), troubles


def _producer_properties(
    cluster: Cluster, own: Mapping[str, Any], defaults: Mapping[str, Any] = PRODUCER_DEFAULTS
) -> dict[str, Any]:
    if cluster.read_only:
        message = f"cluster {label(cluster)} is read_only; remove read_only from its profile to produce to it"
        raise UsageError(message)
    return properties_for(cluster, defaults, own)


def admin_of(cluster: Cluster) -> AdminClient:
    """The admin client of this run for a cluster: one for all its questions, for each costs 18-50 ms."""
    return watched_admin_of(cluster)[0]


def watched_admin_of(cluster: Cluster) -> tuple[AdminClient, Troubles]:
    """The same, and what it complained about. Asking creates nothing, whatever the configuration says."""
    key = (cluster.name, tuple(sorted(cluster.properties.items())), cluster.references)
    if key not in _ADMINS:
        _ADMINS[key] = open_admin(cluster, NEVER_CREATE)
    return _ADMINS[key]


_ADMINS: dict[tuple[object, ...], tuple[AdminClient, Troubles]] = {}
"""One process serves one command."""


def open_admin(
    cluster: Cluster, own: Mapping[str, Any] = MappingProxyType({}), logger: logging.Logger | None = None
) -> tuple[AdminClient, Troubles]:
    """A new admin client and what it complains about; it works on a `read_only` cluster too."""
    from confluent_kafka.admin import AdminClient

    merged = properties_for(cluster, {}, own)
    troubles = Troubles(label(cluster), merged)
    properties: dict[str, Any] = {**for_admin(merged), "error_cb": troubles.on_error}
    client: AdminClient = _construct(AdminClient, properties, cluster, logger)
    return client, troubles


def _construct(
    client: Callable[..., Any], properties: dict[str, Any], cluster: Cluster, logger: logging.Logger | None = None
) -> Any:
    from confluent_kafka import KafkaException

    silent = silent_logger(properties)
    try:
        return client(properties, logger=logger or silent)
    except KafkaException as error:
        reason = str(error.args[0].str())
    except (TypeError, ValueError) as error:
        reason = str(error)
    reason = re.sub(r"^Failed to create \w+: ", "", scrub(reason, _SECRETS))
    if "No provider for SASL mechanism GSSAPI" in reason:
        asked = "sasl.mechanism" in properties
        reason = KERBEROS if asked else "a SASL cluster without sasl.mechanism means Kerberos; name the mechanism"
        raise UsageError(reason, where=cluster.origins.get("sasl.mechanism", label(cluster)))
    named = re.search(r'for configuration property "([^"]+)"', reason)
    where = cluster.origins.get(named[1], label(cluster)) if named else label(cluster)
    raise UsageError(_file_fault(reason, properties) or f"{plain_reason(reason)}; correct it", where=where)


def _file_fault(reason: str, properties: Mapping[str, Any]) -> str:
    """Why a file of keys or certificates cannot be used; librdkafka only says which property failed."""
    name = reason.split(" failed: ", 1)[0]
    path = str(properties.get(name, ""))
    if " failed: " not in reason or not path or not name.startswith("ssl.") or not name.endswith(".location"):
        return ""
    try:
        with Path(path).open("rb") as file:
            start = file.read(65_536)
    except IsADirectoryError:
        return ""
    except OSError as error:
        return f"{name}: {path}: {error.strerror}; check the path and its rights"
    if start.startswith((b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce")):
        return f"{name}: {path} is a Java key store, which librdkafka cannot read; convert it to PEM or PKCS12"
    if b"ENCRYPTED" in start:
        return f"{name}: {path} is encrypted, and its password is missing or wrong; set key_password_command"
    wanted = "key" if name == "ssl.key.location" else "certificate"
    return f"{name}: {path} holds no {wanted} that can be read; it must be PEM (or PKCS12 for ssl.keystore.location)"


def fetch_metadata(
    client: Consumer | Producer | AdminClient | ColumnProducer,
    troubles: Troubles,
    timeout: float,
    topic: str | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Any:
    """The cluster's metadata (of one topic, or of all); UnreachableError within `timeout` seconds.

    Waits in slices, because the client tells a refused login only through its error callback, and a signal must not
    wait for the network.
    """
    from confluent_kafka import KafkaException

    deadline = time.monotonic() + timeout
    looked = False
    while True:
        left = max(0.05, deadline - time.monotonic())
        try:
            if topic is None:
                return client.list_topics(timeout=min(left, SLICE))
            return client.list_topics(topic, timeout=min(left, SLICE))
        except KafkaException as error:
            if stopped():
                raise Interrupted("stopped before the cluster answered") from None
            client.poll(0)
            if troubles.errors and not looked:
                looked = True
                finding = find_fault(troubles, min(LOOK, left))
                if finding is not None and finding.is_definite:
                    raise finding.error(troubles.cluster) from None
            elif (finding := troubles.finding()) is not None:
                raise finding.error(troubles.cluster) from None
            if time.monotonic() >= deadline:
                raise_unreachable(troubles, troubles.latest() or str(error.args[0].str()), timeout)
        time.sleep(0.02)


def find_fault(troubles: Troubles, timeout: float) -> Finding | None:
    """Why the client cannot connect: what it was told, else what a look at its addresses shows."""
    from kpipe.kafka.diagnosis import diagnose
    from kpipe.kafka.probe import look, split_address

    if (told := troubles.finding()) is not None:
        return told
    addresses = [text for text in str(troubles.properties.get("bootstrap.servers", "")).split(",") if text.strip()]
    findings = []
    for text in addresses[:ADDRESSES]:
        seen = look(*split_address(text), troubles.properties, timeout / min(len(addresses), ADDRESSES))
        findings.append(diagnose(seen, troubles.properties))
    if None in findings:
        return from_listeners(troubles.errors)  # one address is good: the client comes through it, or is sent elsewhere
    return next((finding for finding in findings if finding and finding.is_definite), findings[0] if findings else None)


def raise_unreachable(troubles: Troubles, reason: str, timeout: float) -> NoReturn:
    """Say that the cluster cannot be used, and why the client thinks so."""
    finding = find_fault(troubles, 1.0)
    if finding is not None:
        raise finding.error(troubles.cluster)
    message = f"cannot use the cluster within {timeout:.3g} s: {plain_reason(reason)}; check -b and the network"
    raise UnreachableError(message, where=troubles.cluster, stage=Stage.CONNECT)


def check_topic(metadata: Any, topic: str, where: str, advice: str = "") -> int:
    """The number of partitions of a topic; KpipeError (exit 1) when it does not exist, naming the nearest match."""
    entry = metadata.topics.get(topic)
    error = entry.error if entry is not None else None
    if entry is not None and error is None:
        return len(entry.partitions)
    if is_unauthorised(error):
        raise denied(f"topic {topic}", "DESCRIBE").error(place_name(where, topic))
    if error is not None and name_of(error) not in NO_TOPIC:
        raise KpipeError(str(error.str()), where=place_name(where, topic))
    raise unknown_topic(topic, where, list(metadata.topics), advice)


def unknown_topic(topic: str, where: str, known: list[str], advice: str = "") -> KpipeError:
    """The error for a topic that the cluster does not have."""
    near = difflib.get_close_matches(topic, [name for name in known if name != topic], n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else advice or "check the name and the cluster"
    if near and advice:
        hint = f"{hint} ({advice})"
    return KpipeError(f"no such topic; {hint}", where=place_name(where, topic), stage=Stage.CONFIG)
