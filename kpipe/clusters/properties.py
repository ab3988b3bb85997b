"""Knows the names of librdkafka's properties, so that a typing error is found before a connection is.

Never judges a value: librdkafka does that when a client is made.

The names are those that librdkafka 2.16 (`rd_kafka_conf_properties_show`) lists, without callbacks and pointers.
A name that a newer librdkafka may have added is not refused: see `known_to_client`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kpipe.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

SHARED = frozenset(
    """
    allow.auto.create.topics api.version.fallback.ms api.version.request api.version.request.timeout.ms
    bootstrap.servers broker.address.family broker.address.ttl broker.version.fallback builtin.features
    client.dns.lookup client.id client.rack connections.max.idle.ms debug enable.metrics.push enable.random.seed
    enable.sasl.oauthbearer.unsecure.jwt enable.ssl.certificate.verification https.ca.location https.ca.pem
    internal.termination.signal log.connection.close log.queue log.thread.name log_level max.in.flight
    max.in.flight.requests.per.connection message.copy.max.bytes message.max.bytes metadata.broker.list
    metadata.max.age.ms metadata.recovery.rebootstrap.trigger.ms metadata.recovery.strategy plugin.library.paths
    receive.message.max.bytes reconnect.backoff.jitter.ms reconnect.backoff.max.ms reconnect.backoff.ms
    retry.backoff.max.ms retry.backoff.ms sasl.kerberos.keytab sasl.kerberos.kinit.cmd
    sasl.kerberos.min.time.before.relogin sasl.kerberos.principal sasl.kerberos.service.name sasl.mechanism
    sasl.mechanisms sasl.oauthbearer.assertion.algorithm sasl.oauthbearer.assertion.claim.aud
    sasl.oauthbearer.assertion.claim.exp.seconds sasl.oauthbearer.assertion.claim.iss
    sasl.oauthbearer.assertion.claim.jti.include sasl.oauthbearer.assertion.claim.nbf.seconds
    sasl.oauthbearer.assertion.claim.sub sasl.oauthbearer.assertion.file
    sasl.oauthbearer.assertion.jwt.template.file sasl.oauthbearer.assertion.private.key.file
    sasl.oauthbearer.assertion.private.key.passphrase sasl.oauthbearer.assertion.private.key.pem
    sasl.oauthbearer.client.credentials.client.id sasl.oauthbearer.client.credentials.client.secret
    sasl.oauthbearer.client.id sasl.oauthbearer.client.secret sasl.oauthbearer.config
    sasl.oauthbearer.extensions sasl.oauthbearer.grant.type sasl.oauthbearer.metadata.authentication.type
    sasl.oauthbearer.method sasl.oauthbearer.scope sasl.oauthbearer.sub.claim.name
    sasl.oauthbearer.token.endpoint.url sasl.password sasl.username security.protocol socket.blocking.max.ms
    socket.connection.setup.timeout.ms socket.keepalive.enable socket.max.fails socket.nagle.disable
    socket.receive.buffer.bytes socket.send.buffer.bytes socket.timeout.ms ssl.ca.certificate.stores
    ssl.ca.location ssl.ca.pem ssl.certificate.location ssl.certificate.pem ssl.cipher.suites ssl.crl.location
    ssl.curves.list ssl.endpoint.identification.algorithm ssl.engine.id ssl.engine.location ssl.key.location
    ssl.key.password ssl.key.pem ssl.keystore.location ssl.keystore.password ssl.providers ssl.sigalgs.list
    statistics.interval.ms topic.blacklist topic.metadata.propagation.max.ms topic.metadata.refresh.fast.cnt
    topic.metadata.refresh.fast.interval.ms topic.metadata.refresh.interval.ms topic.metadata.refresh.sparse
    """.split()
)
"""Understood by both clients."""

CONSUMER_ONLY = frozenset(
    """
    auto.commit.enable auto.commit.interval.ms auto.offset.reset check.crcs consume.callback.max.messages
    coordinator.query.interval.ms enable.auto.commit enable.auto.offset.store enable.partition.eof
    fetch.error.backoff.ms fetch.max.bytes fetch.message.max.bytes fetch.min.bytes fetch.queue.backoff.ms
    fetch.wait.max.ms group.id group.instance.id group.protocol group.protocol.type group.remote.assignor
    heartbeat.interval.ms isolation.level max.partition.fetch.bytes max.poll.interval.ms max.poll.records
    offset.store.method offset.store.path offset.store.sync.interval.ms partition.assignment.strategy
    queued.max.messages.kbytes queued.min.messages session.timeout.ms share.acknowledgement.mode
    """.split()
)
"""Only a consumer understands these; librdkafka gives a producer a warning for each."""

PRODUCER_ONLY = frozenset(
    """
    acks batch.num.messages batch.size compression.codec compression.level compression.type
    delivery.report.only.error delivery.timeout.ms enable.gapless.guarantee enable.idempotence linger.ms
    message.send.max.retries message.timeout.ms partitioner produce.offset.report
    queue.buffering.backpressure.threshold queue.buffering.max.kbytes queue.buffering.max.messages
    queue.buffering.max.ms queuing.strategy request.required.acks request.timeout.ms retries
    sticky.partitioning.linger.ms transaction.timeout.ms transactional.id
    """.split()
)
"""Only a producer understands these."""

TOPIC_LEVEL = frozenset(
    """
    acks auto.commit.enable auto.commit.interval.ms auto.offset.reset compression.codec compression.level
    compression.type consume.callback.max.messages delivery.timeout.ms enable.auto.commit message.timeout.ms
    offset.store.method offset.store.path offset.store.sync.interval.ms partitioner produce.offset.report
    queuing.strategy request.required.acks request.timeout.ms
    """.split()
)
"""Also known to kcat with the prefix `topic.`; librdkafka takes them without it."""

ALL = SHARED | CONSUMER_ONLY | PRODUCER_ONLY

CANONICAL = {
    "metadata.broker.list": "bootstrap.servers",
    "sasl.mechanisms": "sasl.mechanism",
    "max.in.flight": "max.in.flight.requests.per.connection",
    "sasl.oauthbearer.client.credentials.client.id": "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.credentials.client.secret": "sasl.oauthbearer.client.secret",
    "fetch.message.max.bytes": "max.partition.fetch.bytes",
    "queue.buffering.max.ms": "linger.ms",
    "message.send.max.retries": "retries",
    "compression.codec": "compression.type",
    "request.required.acks": "acks",
    "message.timeout.ms": "delivery.timeout.ms",
    "auto.commit.enable": "enable.auto.commit",
}
"""Two names for one property: with both set librdkafka takes the later, so kpipe knows each by the one in use today."""


REFUSED_PROPERTIES = {
    "enable.auto.commit": "kpipe commits what was delivered, never more",
    "enable.auto.offset.store": "kpipe commits what was delivered, never more",
    "auto.offset.reset": "say where to start with -o, and what to do about a gap with --on-gap",
    "enable.partition.eof": "kpipe needs it to know where a partition ends",
    "group.id": "use -G GROUP",
    "transactional.id": "kpipe chooses it",
    "delivery.report.only.error": "kpipe counts every delivery report",
}
"""Properties that would break a promise when changed under it."""


KERBEROS = (
    "GSSAPI (Kerberos) is not in the wheels of confluent-kafka; install librdkafka with its development files and "
    "libsasl2, then pip install --force-reinstall --no-binary confluent-kafka confluent-kafka"
)
"""What to do where a cluster wants Kerberos (confluent-kafka's INSTALL.md)."""


REGISTRY = "schema.registry."
"""What the names of a schema registry's properties start with; they are kpipe's, and no client of Kafka's sees them."""

REGISTRY_PROPERTIES = frozenset(
    f"{REGISTRY}{name}"
    for name in """
    url username password bearer.auth.token ssl.ca.location ssl.certificate.location ssl.key.location ssl.key.password
    """.split()
)


def canonical(name: str, *, where: str, also: Collection[str] = ()) -> str:
    """The one name of a property; UsageError naming the nearest match when there is no such property.

    `also` are kpipe's own keys that could have been meant at this place.
    """
    if name.startswith("topic.") and name.removeprefix("topic.") in TOPIC_LEVEL:
        name = name.removeprefix("topic.")
    if name in ALL or name in REGISTRY_PROPERTIES:
        return CANONICAL.get(name, name)
    if name.startswith(REGISTRY):
        raise UsageError(f"no such property {name!r}; {did_you_mean(name, REGISTRY_PROPERTIES)}", where=where)
    if not known_to_client(name):
        raise UsageError(f"no such property {name!r}; {did_you_mean(name, ALL.union(also))}", where=where)
    return name


def known_to_client(name: str) -> bool:
    """Whether this librdkafka has a property that the list above does not. 50 ms, and only asked before an error.

    A client is never made: the second name is unknown for certain, and librdkafka reports the first it does not know.
    """
    import confluent_kafka

    certain = "kpipe.no.such.property"
    try:
        confluent_kafka.Producer({name: "", certain: ""})
    except confluent_kafka.KafkaException as error:
        return f'No such configuration property: "{name}"' not in str(error)
    except (TypeError, ValueError):  # a callback of the Python client, which wants a function
        return False
    return False


def for_consumer(properties: Mapping[str, str]) -> dict[str, str]:
    """What a consumer understands of these."""
    return {name: value for name, value in properties.items() if name not in PRODUCER_ONLY}


def for_producer(properties: Mapping[str, str]) -> dict[str, str]:
    """What a producer understands of these."""
    return {name: value for name, value in properties.items() if name not in CONSUMER_ONLY}


def for_admin(properties: Mapping[str, str]) -> dict[str, str]:
    """What an admin client understands of these: it neither consumes nor produces."""
    return for_consumer(for_producer(properties))


def protocol(properties: Mapping[str, Any]) -> str:
    """security.protocol, in capitals."""
    return str(properties.get("security.protocol", "PLAINTEXT")).upper()


def is_encrypted(properties: Mapping[str, Any]) -> bool:
    """Whether TLS is configured."""
    return protocol(properties).endswith("SSL")


def is_sasl(properties: Mapping[str, Any]) -> bool:
    """Whether a login is configured."""
    return protocol(properties).startswith("SASL")


def mechanism(properties: Mapping[str, Any]) -> str:
    """sasl.mechanism; GSSAPI is librdkafka's default."""
    return str(properties.get("sasl.mechanism", "GSSAPI")).upper()


BY_MEANING = {
    **dict.fromkeys(("brokers", "broker", "bootstrap", "hosts", "host", "servers", "server"), "bootstrap.servers"),
    **dict.fromkeys(("user", "username", "sasl.user", "login"), "sasl.username"),
    **dict.fromkeys(("password", "pass"), "sasl.password"),
    **dict.fromkeys(("mechanism", "sasl"), "sasl.mechanism"),
    **dict.fromkeys(("protocol", "tls", "ssl"), "security.protocol"),
    **dict.fromkeys(("ca", "cafile", "ssl.ca", "truststore"), "ssl.ca.location"),
    **dict.fromkeys(("compression", "codec"), "compression.type"),
    **dict.fromkeys(("linger", "batch.time"), "linger.ms"),
    **dict.fromkeys(("group", "consumer.group"), "group.id"),
    **dict.fromkeys(("registry", "schema.registry"), "schema.registry.url"),
    "offset.reset": "auto.offset.reset",
    "isolation": "isolation.level",
    "timeout": "socket.timeout.ms",
}
"""What people write for a property whose name is spelt quite differently."""


def did_you_mean(word: str, candidates: Collection[str]) -> str:
    """Advice with the nearest match: `did you mean 'acks'?`; without one, the few candidates there are."""
    from difflib import get_close_matches

    if (meant := BY_MEANING.get(word.lower().replace("_", ".").replace("-", "."), "")) in candidates:
        return f"did you mean {meant!r}?"
    if matches := get_close_matches(word.lower(), sorted(candidates), n=1, cutoff=0.6):
        return f"did you mean {matches[0]!r}?"
    if not candidates:
        return "there are none"
    if len(candidates) <= 8:
        return f"there is {', '.join(sorted(candidates))}"
    return "see kpipe config show, or librdkafka's CONFIGURATION.md"
