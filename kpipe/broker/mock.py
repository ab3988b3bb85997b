"""Runs librdkafka's mock cluster, through ctypes on the very library that the Python client is linked to.

It never prints: the library's log lines are switched off at their source.

The mock API is marked experimental in rdkafka_mock.h: a function that a later library lacks is said in one line.
"""

from __future__ import annotations

import ctypes
from ctypes import c_char_p, c_int, c_int32, c_size_t, c_void_p
from typing import Any

from kpipe.broker.errors import BrokerError

RD_KAFKA_PRODUCER = 0

# Return type, then argument types. Without them ctypes cuts 64-bit pointers down to int.
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "rd_kafka_conf_new": (c_void_p,),
    "rd_kafka_conf_destroy": (None, c_void_p),
    "rd_kafka_conf_set_log_cb": (None, c_void_p, c_void_p),
    "rd_kafka_new": (c_void_p, c_int, c_void_p, c_char_p, c_size_t),
    "rd_kafka_destroy": (None, c_void_p),
    "rd_kafka_err2str": (c_char_p, c_int),
    "rd_kafka_mock_cluster_new": (c_void_p, c_void_p, c_int),
    "rd_kafka_mock_cluster_destroy": (None, c_void_p),
    "rd_kafka_mock_cluster_bootstraps": (c_char_p, c_void_p),
    "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, c_void_p, c_int32),
    "rd_kafka_mock_set_group_consumer_heartbeat_interval_ms": (None, c_void_p, c_int),
    "rd_kafka_mock_topic_create": (c_int, c_void_p, c_char_p, c_int, c_int),
    "rd_kafka_mock_broker_set_host_port": (None, c_void_p, c_int32, c_char_p, c_int),
}


def load_library() -> ctypes.CDLL:
    """Find the librdkafka that confluent_kafka uses and declare SIGNATURES on it; BrokerError if it lacks one of them.

    A symbol looked up in the extension module is searched in its dependencies too (dlsym(3)), so this finds the
    library bundled in a wheel and one installed by the system alike, and never a second copy with another state.
    """
    from confluent_kafka import cimpl, version

    name = str(cimpl.__file__)
    try:
        library = ctypes.CDLL(name)
        for name, (result, *arguments) in SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError):
        message = (
            f"the librdkafka of confluent-kafka {version()} offers no mock cluster ({name} cannot be loaded); "
            "install the confluent-kafka wheel from PyPI, or use a real broker with -b"
        )
        raise BrokerError(message) from None
    return library


class MockCluster:
    """A mock cluster of `brokers` brokers (ids from 1), each on a free port of 127.0.0.1, served by a C thread."""

    def __init__(self, brokers: int) -> None:
        self._library = load_library()
        self._client = self._open_client()
        self._cluster: int | None = self._library.rd_kafka_mock_cluster_new(self._client, brokers)
        if not self._cluster:
            self._library.rd_kafka_destroy(self._client)
            raise BrokerError(f"no mock cluster of {brokers} brokers could be made; look at the limits (ulimit -n)")
        self._hasten_groups()
        self.replicas = min(3, brokers)
        # rd_kafka_mock_cluster_new() names the cluster after its own address.
        self.cluster_id = f"mockCluster{self._cluster >> 2:x}"

    def _open_client(self) -> int:
        library = self._library
        conf = library.rd_kafka_conf_new()
        library.rd_kafka_conf_set_log_cb(conf, None)
        reason = ctypes.create_string_buffer(512)
        client: int | None = library.rd_kafka_new(RD_KAFKA_PRODUCER, conf, reason, len(reason))
        if not client:
            library.rd_kafka_conf_destroy(conf)
            raise BrokerError(f"librdkafka did not start: {reason.value.decode(errors='replace')}; look at ulimit -u")
        return client

    def _hasten_groups(self) -> None:
        """Take out the waits that make sense between machines: nobody tries a group with minutes to spare.

        Measured, with and without: 0.2 s and 3.2 s until the first member of a classic group has its partitions;
        0.2 s and 3.0 s until a second member of a KIP-848 group has its share.
        """
        self.tell("rd_kafka_mock_group_initial_rebalance_delay_ms", 0)
        self.tell("rd_kafka_mock_set_group_consumer_heartbeat_interval_ms", 200)

    def addresses(self) -> list[tuple[str, int]]:
        """Host and port where each broker listens, in the order of their ids."""
        text: bytes = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster)
        pairs = (address.rpartition(":") for address in text.decode().split(","))
        return [(host, int(port)) for host, _, port in pairs]

    def create_topic(self, name: str, partitions: int) -> None:
        """Make a topic before its first use."""
        self.ask("rd_kafka_mock_topic_create", name.encode(), partitions, self.replicas)

    def advertise(self, broker_id: int, host: str, port: int) -> None:
        """Tell clients another address than the one where the broker listens."""
        self.tell("rd_kafka_mock_broker_set_host_port", broker_id, host.encode(), port)

    def ask(self, function: str, *arguments: object) -> None:
        """Call a mock function that answers with an error code; BrokerError when that is not 0."""
        code: int = self.tell(function, *arguments)
        if code:
            reason: bytes = self._library.rd_kafka_err2str(code)
            raise BrokerError(f"{function.removeprefix('rd_kafka_mock_')}: {reason.decode()}")

    def tell(self, function: str, *arguments: object) -> Any:
        """Call a mock function on this cluster; BrokerError after `close`, where librdkafka would crash."""
        if self._cluster is None:
            raise BrokerError("already closed; open a new one")
        return getattr(self._library, function)(self._cluster, *arguments)

    def close(self) -> None:
        """Drop all connections and all records; a second call does nothing."""
        if self._cluster is None:
            return
        cluster, self._cluster = self._cluster, None
        self._library.rd_kafka_mock_cluster_destroy(cluster)
        self._library.rd_kafka_destroy(self._client)
