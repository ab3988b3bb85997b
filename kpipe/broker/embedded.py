"""The embedded broker: a mock cluster, its fixed port if one was asked for, and proof that it is who answers there.

It never keeps a record beyond its own life, and refuses to start where somebody else would be reached.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from kpipe.broker.errors import BrokerError
from kpipe.broker.front import Front, own_port
from kpipe.broker.mock import MockCluster
from kpipe.errors import UsageError
from kpipe.kafka.metadata import ask_cluster_id

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

NO_TOPICS: Mapping[str, int] = MappingProxyType({})
ANSWER_SECONDS = 5.0


class EmbeddedBroker:
    """A Kafka cluster on 127.0.0.1 that lives as long as this object; use it in a `with`.

    `port` 0 takes any free port. `topics` (name -> partitions) exist from the start, others get 4 partitions when a
    client creates them by use. With more than one of `brokers` only the first has the fixed port; clients learn the
    addresses of the others from it. Raises UsageError for a port outside 0..65535 or fewer than 1 broker, and
    BrokerError (exit 1) when the port is not free or the library has no mock cluster.
    """

    def __init__(self, port: int = 0, topics: Mapping[str, int] = NO_TOPICS, brokers: int = 1) -> None:
        if not 0 <= port <= 65535:
            raise UsageError(f"{port} is no port; use 0 to 65535, 0 means any free one", where="--port")
        if not 1 <= brokers <= 100:
            raise UsageError(f"{brokers} brokers cannot be served; use 1 to 100", where="--brokers")
        self.topics = dict(topics)
        self.front: Front | None = None
        listener = own_port(port) if port else None
        try:
            self.mock = MockCluster(brokers)
        except BaseException:
            if listener is not None:
                listener.close()
            raise
        first = self.mock.addresses()[0]
        if listener is not None:
            self.front = Front(listener, first)
            first = ("127.0.0.1", port)
            self.mock.advertise(1, *first)
        self.bootstrap = f"{first[0]}:{first[1]}"
        """`127.0.0.1:PORT`, the address to give to clients."""
        try:
            for name, partitions in self.topics.items():
                self.mock.create_topic(name, partitions)
            self._prove_identity()
        except BaseException:
            self.close()
            raise

    def _prove_identity(self) -> None:
        answered = ask_cluster_id(self.bootstrap, ANSWER_SECONDS)
        if answered != self.mock.cluster_id:
            found = "nothing" if answered is None else f"cluster {answered}"
            raise BrokerError(
                f"{found} answers here instead of the embedded broker; choose another --port (0 = any free one)",
                where=self.bootstrap,
            )

    def close(self) -> None:
        """Stop serving and forget all records; a second call does nothing."""
        front, self.front = self.front, None
        if front is not None:
            front.close()
        self.mock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
