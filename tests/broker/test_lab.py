"""The lab itself: the oracle must lose and change nothing, or it cannot judge kpipe."""

from __future__ import annotations

import json
import resource
import select
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType

from tests.broker.lab import LabError
from tests.broker.lab.broker import Broker, Listener, free_port
from tests.broker.lab.cluster import Cluster, Rec, until
from tests.broker.lab.processes import is_running
from tests.conftest import Kpipe, Result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.broker.conftest import NewKafka


def test_a_record_comes_back_as_it_was_written(kafka: Cluster) -> None:
    topic = kafka.topic()
    odd = [
        Rec(value=None, key=None),
        Rec(value=b"", key=b""),
        Rec(value=b"\x00\n\xff", key=b"k", headers=(("h", b"1"), ("h", None), ("a", b""), ("h", b"1"))),
        Rec(value=b"then", timestamp=1_000_000_000_123),
    ]
    started = time.time()
    written = kafka.write(topic, odd)

    read = kafka.read(topic)

    assert read == written
    assert [(each.value, each.key, each.headers) for each in read] == [(o.value, o.key, o.headers) for o in odd]
    assert [(each.topic, each.partition, each.offset) for each in read] == [(topic, 0, n) for n in range(4)]
    assert read[3].timestamp == 1_000_000_000_123
    assert {each.timestamp_type for each in read} == {"create"}
    assert abs(read[0].timestamp / 1000 - started) < 60


def test_the_brokers_own_timestamp_is_told_from_the_writers(kafka: Cluster) -> None:
    topic = kafka.topic(message_timestamp_type="LogAppendTime")
    kafka.write(topic, [Rec(b"v", timestamp=1_000_000_000_123)])

    (read,) = kafka.read(topic)

    assert read.timestamp_type == "append"
    assert read.timestamp > 1_000_000_000_123


def test_partitions_are_read_apart_and_together(kafka: Cluster) -> None:
    topic = kafka.topic(partitions=3)
    written = kafka.write(topic, [Rec(b"%d" % n, partition=n % 2) for n in range(1000)])

    assert kafka.read(topic) == sorted(written, key=lambda each: (each.partition, each.offset))
    assert kafka.read(topic, 1) == [each for each in written if each.partition == 1]
    assert kafka.read(topic, 2) == []


def test_an_aborted_transaction_is_read_only_when_asked_for(kafka: Cluster) -> None:
    topic = kafka.topic()
    kafka.write(topic, [b"aborted"], transaction="abort")
    kafka.write(topic, [b"committed"], transaction="commit")

    assert [each.value for each in kafka.read(topic)] == [b"committed"]
    assert [each.value for each in kafka.read(topic, isolation="read_uncommitted")] == [b"aborted", b"committed"]


def test_a_refused_record_is_an_error_of_the_lab(kafka: Cluster) -> None:
    topic = kafka.topic(partitions=2, max_message_bytes=1000)

    with pytest.raises(LabError, match=r"1 of 2 records not acknowledged.*too large"):
        kafka.write(topic, [Rec(b"x" * 5000, partition=0), Rec(b"x", partition=1)])

    assert [each.value for each in kafka.read(topic)] == [b"x"]


def test_committed_offsets_are_seen(kafka: Cluster) -> None:
    topic, group = kafka.topic(partitions=2), "lab-committer"
    kafka.write(topic, [Rec(b"v", partition=1)])
    assert kafka.committed(group, topic) == {}
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group, "enable.auto.commit": False})
    consumer.commit(offsets=[TopicPartition(topic, 1, 1)], asynchronous=False)
    consumer.close()

    assert kafka.committed(group, topic) == {1: 1}


def test_two_clusters_share_nothing(kafka: Cluster, kafka_b: Cluster) -> None:
    topic = kafka.topic()
    kafka_b.topic(name=f"{topic}-b")

    assert kafka.cluster_id == kafka.admin.describe_cluster(request_timeout=10).result(15).cluster_id
    assert kafka_b.cluster_id == kafka_b.admin.describe_cluster(request_timeout=10).result(15).cluster_id
    assert kafka.cluster_id != kafka_b.cluster_id
    assert topic in kafka.topics()
    assert topic not in kafka_b.topics()


def test_a_killed_broker_comes_back_with_its_data(kafka: Cluster) -> None:
    topic, bootstrap = kafka.topic(), kafka.bootstrap
    before = kafka.write(topic, [b"before"])
    kafka.broker.kill()
    assert not kafka.broker.running

    kafka.broker.start()

    assert kafka.bootstrap == bootstrap
    after = kafka.write(topic, [b"after"])
    assert kafka.read(topic) == before + after


def test_a_paused_broker_answers_nothing_until_it_is_resumed(kafka: Cluster) -> None:
    topic = kafka.topic()
    impatient = AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    kafka.broker.pause()
    with pytest.raises(KafkaException):
        impatient.list_topics(timeout=0.5)

    kafka.broker.resume()

    written = kafka.write(topic, [b"v"])
    assert kafka.read(topic) == written


def test_listeners_for_sasl_with_acls_and_for_a_proxy(new_kafka: NewKafka) -> None:
    proxy_port = free_port()
    jaas = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_alice="secret";'
    cluster = new_kafka(
        {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "listener.name.sasl.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl.plain.sasl.jaas.config": jaas,
        },
        listeners=[Listener("SASL", "SASL_PLAINTEXT"), Listener("PROXIED", advertised_port=proxy_port)],
    )
    topic = cluster.topic()
    alice = AdminClient(
        {
            "bootstrap.servers": cluster.broker.address("SASL"),
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": "alice",
            "sasl.password": "secret",
            "log_level": 0,
        }
    )
    assert topic not in alice.list_topics(timeout=10).topics
    allowed = AclBinding(
        ResourceType.TOPIC,
        topic,
        ResourcePatternType.LITERAL,
        "User:alice",
        "*",
        AclOperation.DESCRIBE,
        AclPermissionType.ALLOW,
    )
    cluster.admin.create_acls([allowed])[allowed].result(10)
    until(lambda: topic in alice.list_topics(timeout=10).topics, "alice sees the topic")

    with _relay(proxy_port, cluster.broker.address("PROXIED")):
        proxied = AdminClient({"bootstrap.servers": f"127.0.0.1:{proxy_port}", "log_level": 0})
        told = proxied.list_topics(timeout=10)
        assert [each.port for each in told.brokers.values()] == [proxy_port]
        assert topic in told.topics


@contextmanager
def _relay(port: int, address: str) -> Iterator[None]:
    """Pass bytes both ways between connections to `port` and `address`."""
    host, _, target = address.rpartition(":")

    class Relay(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection((host, int(target)), 5) as far:
                other = {self.request: far, far: self.request}
                while True:
                    for ready in select.select(list(other), [], [], 30)[0]:
                        data = ready.recv(65536)
                        if not data:
                            return
                        other[ready].sendall(data)

    with socketserver.ThreadingTCPServer(("127.0.0.1", port), Relay) as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield
        server.shutdown()


def test_a_broker_that_cannot_start_says_why(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "kafka", properties={"log.segment.bytes": "not a number"})

    with pytest.raises(LabError, match="not a number"):
        broker.start()


def test_a_leashed_process_dies_with_its_starter() -> None:
    code = """
        import subprocess, time
        from tests.broker.lab.leash import leashed
        subprocess.Popen(leashed(["sh", "-c", "echo $$; exec sleep 60"]))
        time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", dedent(code)], stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        child = int(starter.stdout.readline())
        assert is_running(child)
        starter.kill()

    until(lambda: not is_running(child), "the child is gone", timeout=5)


def test_kpipe_runs_in_a_home_of_its_own(kpipe: Kpipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KPIPE_TIMEOUT", "nonsense")
    monkeypatch.setenv("NO_COLOR", "1")

    env = kpipe.environment({"EXTRA": "1"}, config="x = 1\n")

    assert not {"KPIPE_TIMEOUT", "NO_COLOR"} & set(env)
    assert env["EXTRA"] == "1"
    assert Path(env["KPIPE_CONFIG"]).stat().st_mode & 0o077 == 0
    assert env["HOME"].startswith(str(kpipe.home))


def test_a_started_process_tells_how_it_died(kpipe: Kpipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kpipe, "_server", None)
    monkeypatch.setattr(kpipe, "_command", lambda args: ["sh", "-c", *map(str, args)])
    running = kpipe.start("echo ready >&2; cat")
    running.wait_for_stderr("ready")
    running.write(b"line\n")
    running.wait_for_stdout(b"line\n")
    running.signal(signal.SIGTERM)

    assert running.wait() == Result(-signal.SIGTERM, b"line\n", "ready\n")
    with pytest.raises(AssertionError, match="ended with -15"):
        running.wait_for_stderr("never")


STATE = """
import ctypes, json, os, resource, signal, sys, threading
from dataclasses import replace

leash = ctypes.c_int()
ctypes.CDLL(None).prctl(2, ctypes.byref(leash))  # PR_GET_PDEATHSIG

def transform(record):
    return replace(record, value=json.dumps({
        "arguments": sys.argv,
        "environment": dict(os.environ),
        "directory": os.getcwd(),
        "files": [os.readlink(f"/proc/self/fd/{place}").split(":")[0] for place in range(3)],
        "parent": [os.getppid(), os.getpgrp(), os.getsid(0)],
        "path": sys.path,
        "umask": os.umask(0o022),
        "limits": [resource.getrlimit(each) for each in range(16)],
        "signals": [str(signal.getsignal(each)).split(" at ")[0] for each in sorted(signal.valid_signals())],
        "blocked": list(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "leash": leash.value,
        "threads": [each.name for each in threading.enumerate()],
        "streams": [[each.encoding, each.errors, each.line_buffering] for each in (sys.stdin, sys.stdout, sys.stderr)],
    }).encode())
"""


def test_a_warm_start_is_a_cold_one_to_all_that_runs(kafka: Cluster, kpipe: Kpipe) -> None:
    plugin = kpipe.home / "state.py"
    plugin.write_text(STATE)
    topic = kafka.topic()
    seen: dict[bool, Any] = {}
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files[0] - 1, files[1]))
    for is_cold in (True, False):
        # PYTHONHASHSEED is one of those that are read at the start.
        env = {"A": "b"} | ({"PYTHONHASHSEED": "1"} if is_cold else {})
        done = kpipe("produce", "-b", kafka.bootstrap, "--plugin", plugin, topic, stdin=b"v\n", env=env)
        assert done.code == 0, done.err
        seen[is_cold] = json.loads(kafka.read(topic)[-1].value or b"")
    resource.setrlimit(resource.RLIMIT_NOFILE, files)

    assert seen[True]["environment"].pop("PYTHONHASHSEED") == "1"
    assert seen[False] == seen[True]
