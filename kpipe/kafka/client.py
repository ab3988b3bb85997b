"""Clients of one cluster: their properties, and why one cannot be made.

It asks nothing and sends nothing: see `kpipe.kafka.metadata` for a cluster's first answer.
"""

from __future__ import annotations

import os
import re
import time
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from kpipe.clusters.address import plain_addresses
from kpipe.clusters.environment import given
from kpipe.clusters.properties import KERBEROS, REFUSED_PROPERTIES, for_admin, for_consumer, for_producer
from kpipe.clusters.secrets import Reference, Token, fetch_token, reveal, scrub
from kpipe.errors import UsageError
from kpipe.kafka.diagnosis import plain_reason
from kpipe.kafka.forks import known
from kpipe.kafka.troubles import SECRETS, Troubles, overhearing_logger, silent_logger

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Mapping

    from confluent_kafka import Consumer, Producer
    from confluent_kafka.admin import AdminClient

    from kpipe.clusters.profiles import Cluster
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
    # With `none`, a single broker that comes back and tells of no brokers for a moment (fenced after a freeze of 3 s)
    # makes the client forget it for ever: 5 of 20 runs. kpipe.kafka.presence gives up a client that is still lost.
    "metadata.recovery.strategy": "rebootstrap",
}

WAITING: dict[str, Any] = {"reconnect.backoff.ms": 250}
"""Of who waits for records. With all brokers away librdkafka starts from its bootstrap list again
and again, each time with its shortest backoff, and leaves a thread behind that never rests: with 20 ms 7.0 % of a core,
with 100 ms 2.6 %, 250 ms 1.8 %, 1000 ms 1.3 % (on a busy machine). A start takes some 0.2 s longer for it."""

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


def label(cluster: Cluster) -> str:
    """How a cluster is called in messages: its profile's name, or its brokers, as a place takes them."""
    return cluster.name or plain_addresses(str(cluster.properties.get("bootstrap.servers", "")))


def client_id() -> str:
    """`kpipe-HOST-PID`, so that brokers' logs and quotas can tell processes apart."""
    return f"kpipe-{os.uname().nodename}-{os.getpid()}"


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
    secrets = reveal({"sasl.username": username}, references, given(), where=where)
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
        SECRETS.add(token.value)
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
    return _construct(known(Consumer), properties, cluster), troubles


def _callbacks(properties: Mapping[str, Any], troubles: Troubles) -> dict[str, Any]:
    statistics = {"stats_cb": troubles.on_statistics} if str(properties.get("statistics.interval.ms", 0)) != "0" else {}
    return {"error_cb": troubles.on_error, **statistics}


def open_producer(cluster: Cluster, own: Mapping[str, Any]) -> tuple[Producer, Troubles]:
    """A producer; refused for a cluster that is marked `read_only`."""
    from confluent_kafka import Producer

    merged = _producer_properties(cluster, own)
    troubles = Troubles(label(cluster), merged)
    properties: dict[str, Any] = {**for_producer(merged), **_callbacks(merged, troubles)}
    return _construct(known(Producer), properties, cluster, overhearing_logger(troubles)), troubles


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
    key = _key(cluster)
    if key not in _ADMINS:
        _ADMINS[key] = open_admin(cluster, NEVER_CREATE)
    return _ADMINS[key]


def share_admin(cluster: Cluster, client: AdminClient, troubles: Troubles) -> None:
    """An admin client that was opened for a reason of its own serves this run's other questions, too."""
    _ADMINS.setdefault(_key(cluster), (client, troubles))


def forget_admin(client: object) -> None:
    """Whoever asks from now on gets another one, if this one was shared."""
    for key, (shared, _) in list(_ADMINS.items()):
        if shared is client:
            del _ADMINS[key]


def _key(cluster: Cluster) -> tuple[object, ...]:
    return cluster.name, tuple(sorted(cluster.properties.items())), cluster.references


_ADMINS: dict[tuple[object, ...], tuple[AdminClient, Troubles]] = {}
"""One process serves one command, or a program; the child of a fork opens its own."""
os.register_at_fork(after_in_child=_ADMINS.clear)  # behind that of `forks`, which keeps them from being destroyed


def open_admin(
    cluster: Cluster, own: Mapping[str, Any] = MappingProxyType({}), logger: logging.Logger | None = None
) -> tuple[AdminClient, Troubles]:
    """A new admin client and what it complains about; it works on a `read_only` cluster too."""
    from confluent_kafka.admin import AdminClient

    merged = properties_for(cluster, {}, own)
    troubles = Troubles(label(cluster), merged)
    properties: dict[str, Any] = {**for_admin(merged), "error_cb": troubles.on_error}
    client: AdminClient = _construct(known(AdminClient), properties, cluster, logger)
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
    reason = re.sub(r"^Failed to create \w+: ", "", scrub(reason, SECRETS))
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
