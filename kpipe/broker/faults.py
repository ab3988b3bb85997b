"""Makes an embedded broker misbehave on purpose, so that tests can show what kpipe does about it.

It never runs in production: only the test suites import it.

Error codes are librdkafka's numbers: `KafkaError.NOT_LEADER_FOR_PARTITION` and the like. Brokers are numbered from 1.
"""

from __future__ import annotations

import ctypes
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kpipe.broker.embedded import EmbeddedBroker

NO_BROKER = -1


class Request(IntEnum):
    """The kinds of requests that can be made to fail (API keys of the Kafka protocol)."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28


def push_request_errors(broker: EmbeddedBroker, request: Request, errors: Sequence[int]) -> None:
    """Answer the next requests of a kind with these errors, one each, in order, on whichever broker they arrive.

    `KafkaError._TRANSPORT` cuts the connection instead of answering; 0 lets one request pass.
    """
    codes = (ctypes.c_int * len(errors))(*errors)
    broker.mock.tell("rd_kafka_mock_push_request_errors_array", request, len(errors), codes)


def set_rtt(broker: EmbeddedBroker, milliseconds: int, broker_id: int = 1) -> None:
    """Delay every answer of a broker; 0 ends it."""
    broker.mock.ask("rd_kafka_mock_broker_set_rtt", broker_id, milliseconds)


def set_down(broker: EmbeddedBroker, broker_id: int = 1) -> None:
    """Cut a broker's connections and refuse new ones; its topics and records stay."""
    broker.mock.ask("rd_kafka_mock_broker_set_down", broker_id)


def set_up(broker: EmbeddedBroker, broker_id: int = 1) -> None:
    """Let a broker that was set down take connections again, on the same port."""
    broker.mock.ask("rd_kafka_mock_broker_set_up", broker_id)


def set_leader(broker: EmbeddedBroker, topic: str, partition: int, broker_id: int) -> None:
    """Move a partition to another broker; NO_BROKER leaves it without a leader.

    BrokerError when there is no such partition or broker.
    """
    broker.mock.ask("rd_kafka_mock_partition_set_leader", topic.encode(), partition, broker_id)
