"""Run one real Kafka broker (KRaft, controller included) on loopback: start, stop, kill, pause, resume.

It never changes ports, cluster id or data between two starts, and never reads or writes a record.
"""

from __future__ import annotations

import base64
import os
import random
import shutil
import signal
import socket
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.broker.lab import LabError
from tests.broker.lab.jvm import CACHE, KAFKA, java
from tests.broker.lab.leash import leashed
from tests.broker.lab.processes import is_frozen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from confluent_kafka.admin import AdminClient

HOST = "127.0.0.1"

SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "super.users": "User:ANONYMOUS",  # who the lab is on the plaintext listener, should a test set an authorizer
    "auto.create.topics.enable": "true",  # a typo must be caught by kpipe, not by the broker
    # Retention looks 30 s after the start, then every 5 minutes, and took the records of tests that write old times.
    "log.initial.task.delay.ms": "86400000",
    "log.retention.check.interval.ms": "86400000",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "1000",  # KIP-848: lets a test set consumer.session.timeout.ms of a group
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.consumer.heartbeat.interval.ms": "500",  # the default makes who joins a group again wait for 5 s
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    "broker.heartbeat.interval.ms": "1000",
    "broker.session.timeout.ms": "3600000",  # one that was frozen shall not be fenced for a moment when it thaws
    # Eight brokers wait side by side, and each thread looks around a few times a second: 1.7 % of a core each, not 4 %.
    "metadata.max.idle.interval.ms": "0",
    "num.io.threads": "3",
    "num.network.threads": "1",
    "group.coordinator.threads": "1",
    "share.coordinator.threads": "1",
    "log.cleaner.dedupe.buffer.size": "16777216",  # the default takes 128 MiB of a heap of 400
    "log.cleaner.backoff.ms": "1000",
}


SHORT_SESSION = {"broker.session.timeout.ms": "2000", "broker.heartbeat.interval.ms": "250"}


@dataclass(frozen=True)
class Listener:
    """One more way in: `name` is upper case, `protocol` a security protocol such as SASL_SSL.

    `advertised_port` is where clients are sent after their first connection: the port of a proxy before this listener.
    """

    name: str
    protocol: str = "PLAINTEXT"
    advertised_port: int | None = None


class Broker:
    """A broker whose files are below `home`: server.properties, data/, broker.log and broker.pid.

    `properties` win over the lab's settings; `listeners` come on top of PLAINTEXT, which `bootstrap` names;
    `format_args` go to `StorageTool format` (`--add-scram …`), `java_flags` to the broker's JVM.
    """

    def __init__(
        self,
        home: Path,
        *,
        properties: Mapping[str, str] | None = None,
        listeners: Sequence[Listener] = (),
        format_args: Sequence[str] = (),
        cluster_id: str = "",
        java_flags: Sequence[str] = (),
    ) -> None:
        self.home = home
        self.log = home / "broker.log"
        self.cluster_id = cluster_id or _cluster_id()
        self._listeners = [Listener("PLAINTEXT"), *listeners, Listener("CONTROLLER")]
        self._ports = {listener.name: free_port() for listener in self._listeners}
        self._properties = dict(properties or {})
        self._format_args = list(format_args)
        self._java_flags = list(java_flags)
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False
        self._was_killed = False
        self._admin: AdminClient | None = None

    @property
    def bootstrap(self) -> str:
        """The `host:port` of the plaintext listener."""
        return self.address("PLAINTEXT")

    def address(self, listener: str) -> str:
        """Give the `host:port` on which a listener really listens."""
        return f"{HOST}:{self._ports[listener]}"

    @property
    def pid(self) -> int:
        """The process id of the running broker; LabError when it does not run."""
        return self._running().pid

    @property
    def running(self) -> bool:
        """Whether the process lives, paused or not."""
        return self._process is not None and self._process.poll() is None

    def start(self, properties: Mapping[str, str] | None = None, *, timeout: float = 60) -> None:
        """Start on the same ports and data, until an API call is answered; `properties` stay for later starts."""
        if self.running:
            raise LabError(f"start: {self.bootstrap}: the broker runs already")
        self._properties.update(properties or {})
        deadline = time.monotonic() + timeout
        self.home.mkdir(parents=True, exist_ok=True)
        config = self.home / "server.properties"
        config.write_text("".join(f"{key}={_escaped(value)}\n" for key, value in self._settings().items()))
        if not (self.home / "data" / "meta.properties").exists():
            self._format(config, timeout)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                leashed(java("kafka.Kafka", [str(config)], flags=self._java_flags)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is pytest's: its fixtures still need a broker while they tidy up
            )
        (self.home / "broker.pid").write_text(f"{self._process.pid}\n")
        try:
            self._wait_ready(deadline)
        except BaseException:
            self.kill()
            raise

    def stop(self, *, timeout: float = 30) -> None:
        """Stop cleanly (SIGTERM, controlled shutdown); nothing to do when it does not run."""
        if not self.running:
            return
        process = self._running()
        self.resume()
        process.terminate()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired as slow:
            self.kill()
            raise LabError(f"stop: {self.bootstrap}: still running after {timeout:g} s{self._tail()}") from slow

    def kill(self) -> None:
        """Kill with SIGKILL, also a paused one; acknowledged records survive in the page cache."""
        self._paused = False
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._was_killed = True

    def pause(self) -> None:
        """Freeze the process (SIGSTOP): connections stay open, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)
        self._paused = True
        while not is_frozen(self.pid):  # on a busy machine its other threads went on, and answered a record more
            time.sleep(0.001)

    def resume(self) -> None:
        """Thaw the process (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)
        self._paused = False

    def heal(self) -> None:
        """Bring a paused or dead broker back, whatever a test did to it."""
        if not self.running:
            self.start()
        elif self._paused:
            self.resume()
            self._wait_ready(time.monotonic() + 30)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise LabError(f"broker: {self.bootstrap}: not running{self._tail()}")
        return self._process

    def _settings(self) -> dict[str, str]:
        def addresses(listeners: Sequence[Listener], *, advertised: bool) -> str:
            return ",".join(
                f"{each.name}://{HOST}:{(advertised and each.advertised_port) or self._ports[each.name]}"
                for each in listeners
            )

        return {
            **SETTINGS,
            # A killed broker is let in again only when its old session is over.
            **(SHORT_SESSION if self._was_killed else {}),
            "controller.quorum.voters": f"1@{self.address('CONTROLLER')}",
            "listeners": addresses(self._listeners, advertised=False),
            "advertised.listeners": addresses(self._listeners[:-1], advertised=True),
            "listener.security.protocol.map": ",".join(f"{each.name}:{each.protocol}" for each in self._listeners),
            "log.dirs": str(self.home / "data"),
            **self._properties,
        }

    def _format(self, config: Path, timeout: float) -> None:
        """As StorageTool does it, a second of CPU; what it writes but for names and ids is kept for the next broker."""
        data, kept = self.home / "data", CACHE / f"bootstrap-{KAFKA}.checkpoint"
        is_plain = not self._format_args and self._settings()["node.id"] == SETTINGS["node.id"]
        if is_plain and kept.exists():
            data.mkdir()
            shutil.copy(kept, data / "bootstrap.checkpoint")
            ids = {"cluster.id": self.cluster_id, "directory.id": _cluster_id(), "node.id": "1", "version": "1"}
            (data / "meta.properties").write_text("".join(f"{key}={value}\n" for key, value in ids.items()))
            return
        args = ["format", "--config", str(config), "--cluster-id", self.cluster_id, *self._format_args]
        done = subprocess.run(
            leashed(java("kafka.tools.StorageTool", args)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode != 0:
            raise LabError(f"format: {config}: {done.stdout}{done.stderr}")
        if is_plain:
            made = kept.with_suffix(f".{os.getpid()}")
            shutil.copy(data / "bootstrap.checkpoint", made)
            made.replace(kept)  # another run may make it at the same time

    def _wait_ready(self, deadline: float) -> None:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        quick = {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 100, "log_level": 0}
        # One client for the broker's life: destroying one right behind its answer has aborted the whole process once.
        if self._admin is None:
            self._admin = AdminClient({"bootstrap.servers": self.bootstrap, **quick})
        admin = self._admin
        last = "no answer"
        while time.monotonic() < deadline:
            self._running()
            try:
                # Not describe_cluster: an admin request that times out and is answered later (a broker that thaws)
                # aborts the process (librdkafka 2.16, rd_kafka_admin_response_parse: `rko_result`).
                metadata = admin.list_topics(timeout=1)
            except KafkaException as error:
                last = str(error)
                continue
            if metadata.cluster_id != self.cluster_id:
                raise LabError(f"start: {self.bootstrap}: another cluster answers there: {metadata.cluster_id}")
            # A broker is listed once it has caught up with the metadata and is unfenced; before that it leads nothing.
            if metadata.brokers:
                return
            last = "the broker is still fenced"
            time.sleep(0.02)
        raise LabError(f"start: {self.bootstrap}: not ready in time: {last}{self._tail()}")

    def _tail(self) -> str:
        if not self.log.exists():
            return ""
        return "\n".join(["", f"the end of {self.log}:", *self.log.read_text(errors="replace").splitlines()[-20:]])


def free_port() -> int:
    """Find a port that nobody listens on, below those the kernel hands out to outgoing connections.

    From that range a stopped broker's port could be taken by any client before it is back, and a client that keeps
    trying to connect there on loopback can even end up connected to itself.
    """
    bounds = Path("/proc/sys/net/ipv4/ip_local_port_range")
    first_ephemeral = int(bounds.read_text().split()[0]) if bounds.exists() else 32768
    for _attempt in range(100):
        port = random.randrange(10_000, max(first_ephemeral, 20_000))
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        return port
    raise LabError(f"ports: {HOST}: found none free below {first_ephemeral}")


def _cluster_id() -> str:
    # Kafka's form of an id is a UUID in base64; one that starts with "-" looks like an option to StorageTool.
    while True:
        written = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        if not written.startswith("-"):
            return written


def _escaped(value: str) -> str:
    # java.util.Properties: a backslash escapes, a line end ends the value.
    return value.replace("\\", "\\\\").replace("\n", "\\n")
