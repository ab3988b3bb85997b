"""Stands in for a cluster: librdkafka's mock brokers on loopback, in memory, for first runs, demos and tests.

It never writes to disk, never listens beyond 127.0.0.1, and never poses as a cluster that is already on its port.

What it has: topics, groups, headers, compression, idempotence. What it lacks: topic administration, offsets by time
(kpipe finds them by reading), the isolation of transactions, and more than the newest 5 MiB of a partition. What needs
these is tested on real Kafka.
Groups: KIP-848 members (`group.protocol=consumer`) get their partitions in 0.2 s, always; a classic member that
joins after another one joined or left waits for the session timeout less 1 s (44 s by default), for the mock cluster
does not look whether all have rejoined (rdkafka_mock_cgrp.c, the state JOINING).
"""

from __future__ import annotations

from kpipe.broker.command import run_command, serve
from kpipe.broker.embedded import EmbeddedBroker
from kpipe.broker.errors import BrokerError
from kpipe.broker.topics import parse_topics

__all__ = ["BrokerError", "EmbeddedBroker", "parse_topics", "run_command", "serve"]
