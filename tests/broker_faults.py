"""Makes an embedded broker misbehave on purpose, so that tests can show what kpipe does about it.

Error codes are librdkafka's numbers: `KafkaError.NOT_LEADER_FOR_PARTITION` and the like. Brokers are numbered from 1.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_int, c_int16, c_int32, c_size_t, c_void_p
from typing import TYPE_CHECKING

from kpipe.broker.mock import SIGNATURES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kpipe.broker.embedded import EmbeddedBroker

PRODUCE = 0
"""The API key of a produce request."""

SIGNATURES.update(  # read when a broker starts, and no test starts one before it has imported this
    {
        "rd_kafka_mock_push_request_errors_array": (None, c_void_p, c_int16, c_size_t, POINTER(c_int)),
        "rd_kafka_mock_broker_set_rtt": (c_int, c_void_p, c_int32, c_int),
        "rd_kafka_mock_broker_set_down": (c_int, c_void_p, c_int32),
        "rd_kafka_mock_broker_set_up": (c_int, c_void_p, c_int32),
        "rd_kafka_mock_partition_set_leader": (c_int, c_void_p, c_char_p, c_int32, c_int32),
    }
)


def push_request_errors(broker: EmbeddedBroker, request: int, errors: Sequence[int]) -> None:
    """Answer the next requests of a kind (an API key) with these errors, one each, in order, on whichever broker.

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
    """Move a partition to another broker; BrokerError when there is no such partition or broker."""
    broker.mock.ask("rd_kafka_mock_partition_set_leader", topic.encode(), partition, broker_id)
