"""Knows which keys only files of Java's clients have, so that a file is known by its content.

Never judges a value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpipe.clusters.configfile import Setting
from kpipe.clusters.properties import REGISTRY as OURS
from kpipe.clusters.properties import REGISTRY_PROPERTIES

if TYPE_CHECKING:
    from collections.abc import Mapping

KEYS = frozenset(
    """
    auto.include.jmx.reporter auto.register.schemas bootstrap.controllers buffer.memory compression.gzip.level
    compression.lz4.level compression.zstd.level config.providers default.api.timeout.ms exclude.internal.topics
    fetch.max.wait.ms interceptor.classes internal.leave.group.on.close max.block.ms max.request.size
    metadata.max.idle.ms metric.reporters metrics.num.samples metrics.recording.level metrics.sample.window.ms
    partitioner.adaptive.partitioning.enable partitioner.availability.timeout.ms partitioner.class
    partitioner.ignore.keys receive.buffer.bytes security.providers send.buffer.bytes specific.avro.reader
    transaction.two.phase.commit.enable
    """.split()
)
"""Of ConsumerConfig, ProducerConfig and AdminClientConfig (Kafka 4), what librdkafka does not have; and of serdes."""

PREFIXES = (
    "key.", "value.", "oauth.", "sasl.jaas.config", "sasl.login.", "sasl.client.callback.", "sasl.oauthbearer.jwks.",
    "sasl.oauthbearer.expected.", "sasl.oauthbearer.clock.", "sasl.oauthbearer.jwt.", "sasl.server.", "ssl.truststore.",
    "ssl.keystore.type", "ssl.keystore.key", "ssl.keystore.certificate.", "ssl.protocol", "ssl.enabled.protocols",
    "ssl.engine.factory.", "ssl.keymanager.", "ssl.trustmanager.", "ssl.secure.random.", "ssl.provider",
    "sasl.kerberos.ticket.", "sasl.kerberos.kinit.cmd.",
)  # fmt: skip

REGISTRY = ("schema.registry.", "basic.auth.", "bearer.auth.", "confluent.")
"""A schema registry's client; its keys stand beside librdkafka's as well as beside Java's."""


def is_java_key(key: str) -> bool:
    """Whether only a Java client has a use for it; `ssl.providers` is librdkafka's."""
    return key in KEYS or (key.startswith(PREFIXES) and key != "ssl.providers")


def is_registry_key(key: str) -> bool:
    """Whether it is of a schema registry's client."""
    return key.startswith(REGISTRY)


def take_registry(entries: Mapping[str, Setting]) -> tuple[dict[str, Setting], set[str]]:
    """How the file reaches its schema registry, and which keys said so; nothing without its address.

    `basic.auth.user.info` is USER:PASSWORD, for `basic.auth.credentials.source=USER_INFO`; another source is not taken.
    """
    if f"{OURS}url" not in entries:
        return {}, set()
    taken: dict[str, Setting] = {}
    known = set()
    for key, setting in entries.items():
        name = key.removeprefix(OURS)
        if f"{OURS}{name}" in REGISTRY_PROPERTIES and (key.startswith(OURS) or name == "bearer.auth.token"):
            taken[f"{OURS}{name}"] = setting
        elif name == "basic.auth.user.info" and ":" in setting.value:
            user, _, password = setting.value.partition(":")
            taken[f"{OURS}username"] = Setting(user, setting.origin)
            taken[f"{OURS}password"] = Setting(password, setting.origin)
        elif not (name == "basic.auth.credentials.source" and setting.value.strip() == "USER_INFO"):
            continue
        known.add(key)
    return taken, known
