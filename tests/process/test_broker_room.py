"""The embedded broker over real sockets: other processes, fixed ports, commands, signals, faults."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress

import pexpect
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition

from kpipe.broker import BrokerError, EmbeddedBroker
from kpipe.broker.front import RelayEnd
from kpipe.errors import Exit
from tests import broker_faults as faults

HEADERS = [("h", b"1"), ("h", None), ("h", b""), ("", b"\xff\x00")]

WRITE_ELSEWHERE = """
import sys
from confluent_kafka import Producer
producer = Producer({"bootstrap.servers": sys.argv[1]})
headers = [("h", b"1"), ("h", None), ("h", b""), ("", b"\\xff\\x00")]
producer.produce("orders", b"full", b"key", 0, None, None, 1763884800000, headers)
producer.produce("orders", None, None, 0)
producer.produce("orders", b"", b"", 0)
assert producer.flush(10) == 0
"""

RUN = """
import socket, sys
from kpipe.broker import EmbeddedBroker, run_command
from kpipe.shutdown import Stop
stop = Stop()
stop.install()
broker = EmbeddedBroker()
code = run_command(sys.argv[1:], broker, stop, lambda line: print(line, file=sys.stderr))
try:
    socket.create_connection(("127.0.0.1", int(broker.bootstrap.rpartition(":")[2]))).close()
    print("still open", file=sys.stderr)
except ConnectionRefusedError:
    print("code", code, file=sys.stderr)
"""

SERVE = """
import sys
from kpipe.broker import EmbeddedBroker, serve
from kpipe.shutdown import Stop
stop = Stop()
stop.install()
with EmbeddedBroker(topics={"orders": 2}) as broker:
    serve(broker, stop, lambda line: print(line, flush=True))
print("stopped by", stop.signal.name)
"""

COUNT_SIGNALS = """
import signal, sys, time
seen = []
signal.signal(getattr(signal, sys.argv[1]), lambda number, frame: seen.append(number))
print("ready", flush=True)
deadline = time.monotonic() + 10
while not seen and time.monotonic() < deadline:
    time.sleep(0.01)
time.sleep(0.3)
sys.exit(40 + len(seen))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def open_producer(broker, **properties):
    return Producer({"bootstrap.servers": broker.bootstrap, "log_level": 0, "linger.ms": 0, **properties})


@contextmanager
def open_consumer(broker, group="reader", **properties):
    consumer = Consumer(
        {
            "bootstrap.servers": broker.bootstrap,
            "log_level": 0,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 10,
            "fetch.queue.backoff.ms": 10,
        }
        | properties
    )
    try:
        yield consumer
    finally:
        consumer.close()


def take(consumer, count, seconds=8.0):
    messages, deadline = [], time.monotonic() + seconds
    while len(messages) < count and time.monotonic() < deadline:
        messages += consumer.consume(count - len(messages), 0.05)
    assert [message.error() for message in messages] == [None] * count
    return messages


def send(producer, value=b"v", topic="orders", partition=0):
    """Produce one record and wait; the delivery report's error, or None."""
    reports = []
    producer.produce(topic, value, None, partition, lambda error, _message: reports.append(error))
    producer.flush(8)
    assert len(reports) == 1
    return reports[0]


@pytest.mark.parametrize("fixed", [False, True], ids=["random port", "fixed port"])
def test_records_of_another_process_arrive_whole(fixed):
    port = free_port() if fixed else 0
    with EmbeddedBroker(port=port, topics={"orders": 3}) as broker:
        assert broker.bootstrap.startswith("127.0.0.1:")
        assert not fixed or broker.bootstrap == f"127.0.0.1:{port}"
        writer = subprocess.run(
            [sys.executable, "-c", WRITE_ELSEWHERE, broker.bootstrap], capture_output=True, timeout=20, check=False
        )
        assert (writer.returncode, writer.stderr) == (0, b"")
        with open_consumer(broker) as consumer:
            brokers = consumer.list_topics(timeout=5).brokers.values()
            assert [f"{entry.host}:{entry.port}" for entry in brokers] == [broker.bootstrap]
            assert len(consumer.list_topics("orders", timeout=5).topics["orders"].partitions) == 3
            consumer.assign([TopicPartition("orders", 0, OFFSET_BEGINNING)])
            full, null, empty = take(consumer, 3)
    assert (full.key(), full.value(), full.timestamp()) == (b"key", b"full", (1, 1763884800000))
    assert full.headers() == HEADERS
    assert (null.key(), null.value(), null.headers()) == (None, None, None)
    assert (empty.key(), empty.value()) == (b"", b"")


@pytest.mark.parametrize(
    ("fixed", "protocol"),
    [
        (False, {"group.protocol": "consumer"}),
        (True, {"group.protocol": "consumer"}),
        (True, {"session.timeout.ms": 2000, "heartbeat.interval.ms": 300}),
    ],
)
def test_a_group_continues_where_it_committed(fixed, protocol):
    with EmbeddedBroker(port=free_port() if fixed else 0, topics={"orders": 1}) as broker:
        producer = open_producer(broker)
        for number in range(10):
            producer.produce("orders", b"%d" % number)
        assert producer.flush(8) == 0
        read = []
        for count in (4, 6):
            with open_consumer(broker, "workers", **protocol) as consumer:
                consumer.subscribe(["orders"])
                started = time.monotonic()
                for message in take(consumer, count):
                    read.append(int(message.value()))
                    consumer.commit(message=message, asynchronous=False)
                assert time.monotonic() - started < 3.0  # 3 s is the delay of a first member that is switched off
    assert read == list(range(10))


def test_large_values_pass_the_fixed_port_unchanged():
    values = [bytes([number]) * 900_000 for number in range(5)]
    with EmbeddedBroker(port=free_port(), topics={"orders": 1}) as broker:
        producer = open_producer(broker, **{"linger.ms": 50})
        for value in values:
            producer.produce("orders", value)
        assert producer.flush(8) == 0
        with open_consumer(broker) as consumer:
            consumer.assign([TopicPartition("orders", 0, OFFSET_BEGINNING)])
            assert [message.value() for message in take(consumer, len(values))] == values


def test_a_slow_reader_of_the_fixed_port_loses_nothing_and_stalls_nobody():
    """One connection asks a lot and reads nothing for a while: the relay must hold it, and serve the others."""
    version_request = bytes.fromhex("0000000e" + "0012" + "0000" + "00000001" + "0004") + b"slow"
    count = 20_000  # answers of about 500 bytes each: more than the sockets between the two can hold
    with EmbeddedBroker(port=free_port(), topics={"orders": 1}) as broker, socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.settimeout(8)
        slow.connect(("127.0.0.1", int(broker.bootstrap.rpartition(":")[2])))
        slow.sendall(version_request * count)
        assert holds_back(broker.front, seconds=8)
        assert send(open_producer(broker)) is None
        size = 4 + int.from_bytes(slow.recv(4, socket.MSG_PEEK | socket.MSG_WAITALL), "big")
        received = bytearray()
        while len(received) < size * count:
            block = slow.recv(1 << 20)
            assert block
            received += block
        assert received == received[:size] * count


def holds_back(front, seconds) -> bool:
    """Whether, within so many seconds, the relay has bytes that the other side does not take."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(RuntimeError, KeyError):  # the relay's thread changes the map while we look
            if any(key.data.unsent for key in front._selector.get_map().values() if isinstance(key.data, RelayEnd)):
                return True
        time.sleep(0.01)
    return False


def test_many_clients_at_once_are_all_served_soon():
    version_request = bytes.fromhex("0000000e" + "0012" + "0000" + "00000001" + "0004") + b"many"
    with EmbeddedBroker(port=free_port()) as broker, ExitStack() as open_sockets:
        started = time.monotonic()
        clients = [open_sockets.enter_context(socket.socket()) for _ in range(100)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", int(broker.bootstrap.rpartition(":")[2])))
        for client in clients:
            client.settimeout(8)
            client.sendall(version_request)
        assert all(client.recv(1) for client in clients)
        assert time.monotonic() - started < 3.0  # 5.5 s when the system repeats what overflowed the broker's queue


@contextmanager
def listening(host, port=0, listen=True):
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as holder:
        holder.bind((host, port))
        if listen:
            holder.listen()
        yield holder.getsockname()[1]


def has_ipv6() -> bool:
    try:
        with listening("::1"):
            return True
    except OSError:
        return False


@pytest.mark.parametrize("host", ["0.0.0.0", "::1"] if has_ipv6() else ["0.0.0.0"])
def test_refuses_a_port_where_another_program_answers(host):
    with listening(host) as port, pytest.raises(BrokerError) as refused:
        EmbeddedBroker(port=port)
    assert refused.value.exit_code == Exit.UNDELIVERED
    assert str(refused.value) == (
        f"broker: 127.0.0.1:{port}: another program listens here (not Kafka, or too slow to tell); "
        "stop it, or choose another --port (0 = any free one)"
    )


def test_refuses_a_port_that_is_bound_but_silent():
    with listening("127.0.0.1", listen=False) as port, pytest.raises(BrokerError, match="in use by another program"):
        EmbeddedBroker(port=port)


def test_refuses_the_port_of_another_embedded_broker_and_harms_it_not():
    with EmbeddedBroker(port=free_port(), topics={"orders": 1}) as first:
        port = int(first.bootstrap.rpartition(":")[2])
        with pytest.raises(BrokerError, match="another embedded broker serves here; stop it, or choose another --port"):
            EmbeddedBroker(port=port)
        assert send(open_producer(first)) is None


def test_refuses_to_go_on_when_another_cluster_answers_at_its_address():
    with EmbeddedBroker() as mine, EmbeddedBroker() as other:
        mine._prove_identity()
        mine.bootstrap = other.bootstrap
        with pytest.raises(BrokerError, match=f"cluster {other.mock.cluster_id} answers here instead"):
            mine._prove_identity()


def test_a_fixed_port_can_be_taken_again_at_once_and_is_empty():
    port = free_port()
    with EmbeddedBroker(port=port, topics={"orders": 1}) as broker:
        producer = open_producer(broker)
        assert send(producer) is None
    with EmbeddedBroker(port=port) as broker:
        assert open_producer(broker).list_topics(timeout=5).topics == {}


def test_close_is_final_and_may_be_repeated():
    broker = EmbeddedBroker()
    broker.close()
    broker.close()
    with pytest.raises(BrokerError, match="already closed"):
        faults.set_down(broker)


def run_driver(*argv, **options):
    return subprocess.run(
        [sys.executable, "-c", RUN, *argv], capture_output=True, text=True, timeout=20, check=False, **options
    )


def test_a_command_sees_the_broker_and_keeps_the_streams():
    script = "import json, os, sys; print(json.dumps([dict(os.environ), sys.stdin.read()])); sys.exit(3)"
    inherited = os.environ | {"KPIPE_CLUSTER": "prod", "KPIPE_CONFIG": "/prod.toml", "KPIPE_BROKERS": "prod:9092"}
    done = run_driver(sys.executable, "-c", script, input="from stdin", env=inherited)
    assert (done.returncode, done.stderr) == (0, "code 3\n")
    environment, text = json.loads(done.stdout)
    assert text == "from stdin"
    assert environment["KPIPE_BROKERS"] == environment["KAFKA_BOOTSTRAP_SERVERS"]
    assert environment["KPIPE_BROKERS"].startswith("127.0.0.1:")
    assert (environment["KPIPE_CONFIG"], "KPIPE_CLUSTER" in environment) == ("", False)


def test_a_command_can_produce():
    script = WRITE_ELSEWHERE.replace("sys.argv[1]", "__import__('os').environ['KPIPE_BROKERS']")
    done = run_driver(sys.executable, "-c", script)
    assert (done.stdout, done.stderr) == ("", "code 0\n")


def test_a_command_killed_by_a_signal():
    done = run_driver("sh", "-c", "kill -KILL $$")
    assert done.stderr == "code -9\n"


def test_a_command_that_cannot_be_run(tmp_path):
    missing = run_driver("no-such-command-of-kpipe")
    assert (
        missing.stderr == "broker: no-such-command-of-kpipe: command not found; check the spelling and PATH\ncode 127\n"
    )
    plain = tmp_path / "plain"
    plain.write_text("echo\n")
    refused = run_driver(str(plain))
    assert refused.stderr == (
        f"broker: {plain}: cannot be executed (Permission denied); check its mode and its first line\ncode 126\n"
    )


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_to_us_alone_reaches_the_command_once(name):
    driver = subprocess.Popen(
        [sys.executable, "-c", RUN, sys.executable, "-c", COUNT_SIGNALS, name],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with driver:
        assert driver.stdout.readline() == "ready\n"
        driver.send_signal(getattr(signal, name))
        _, errors = driver.communicate(timeout=15)
    assert errors == "code 41\n"


def test_control_c_at_a_terminal_reaches_the_command_once():
    driver = pexpect.spawn(sys.executable, ["-c", RUN, sys.executable, "-c", COUNT_SIGNALS, "SIGINT"], timeout=15)
    try:
        driver.expect_exact("ready")
        driver.sendintr()
        driver.expect_exact("code 41")
        driver.expect(pexpect.EOF)
    finally:
        driver.close(force=True)


def test_serve_says_where_it_is_and_stops_at_a_signal():
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    with server:
        line = server.stdout.readline()
        server.send_signal(signal.SIGTERM)
        rest, errors = server.communicate(timeout=15)
    assert line.startswith("broker: 127.0.0.1:")
    assert line.endswith(" (in memory: gone when it stops), topics: orders:2\n")
    assert (rest, errors, server.returncode) == ("stopped by SIGTERM\n", "", 0)


def test_a_pushed_error_that_can_be_retried_is_retried():
    with EmbeddedBroker(topics={"orders": 1}) as broker:
        producer = open_producer(broker, **{"retry.backoff.ms": 10})
        errors = [KafkaError.NOT_ENOUGH_REPLICAS, KafkaError._TRANSPORT, KafkaError.MSG_SIZE_TOO_LARGE]
        faults.push_request_errors(broker, faults.PRODUCE, errors)
        assert send(producer).code() == KafkaError.MSG_SIZE_TOO_LARGE  # the third: two were retried
        faults.push_request_errors(broker, faults.PRODUCE, errors[:2])
        assert send(producer) is None
        with open_consumer(broker) as consumer:
            assert consumer.get_watermark_offsets(TopicPartition("orders", 0), timeout=5) == (0, 1)


@pytest.mark.parametrize("fixed", [False, True], ids=["random port", "fixed port"])
def test_a_broker_that_is_down_keeps_its_records(fixed):
    with EmbeddedBroker(port=free_port() if fixed else 0, topics={"orders": 1}) as broker:
        assert send(open_producer(broker), b"before") is None
        faults.set_down(broker)
        with pytest.raises(KafkaException) as failed:
            open_producer(broker).list_topics(timeout=0.3)
        assert failed.value.args[0].code() == KafkaError._TRANSPORT
        faults.set_up(broker)
        assert send(open_producer(broker), b"after") is None
        with open_consumer(broker) as consumer:
            consumer.assign([TopicPartition("orders", 0, OFFSET_BEGINNING)])
            assert [message.value() for message in take(consumer, 2)] == [b"before", b"after"]


@pytest.mark.parametrize("header", [["-H", "h=1"], []], ids=["records", "columns"])
def test_an_address_that_never_answers_is_told_of_before_half_a_minute_is_over(kpipe, header):
    """A firewall that drops packets: here a listener whose backlog is full, so that the kernel drops them."""
    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            with suppress(BlockingIOError):
                client.connect(silent.getsockname())
        broker = stack.enter_context(EmbeddedBroker(topics={"orders": 1}, brokers=2))
        faults.set_leader(broker, "orders", 0, 2)
        broker.mock.advertise(2, *silent.getsockname())
        done = kpipe.at(broker.bootstrap)(
            "produce", "-X", "delivery.timeout.ms=16000", *header, "orders", stdin=b"one\n"
        )
    assert done.code == 1
    assert "Connection setup timed out" in done.err.splitlines()[0]
    assert "still trying" in done.err.splitlines()[0]


def test_a_round_trip_can_be_made_slow():
    with EmbeddedBroker(topics={"orders": 1}) as broker:
        producer = open_producer(broker)
        assert send(producer) is None
        faults.set_rtt(broker, 250)
        started = time.monotonic()
        assert send(producer) is None
        assert time.monotonic() - started >= 0.25


def test_a_partition_can_move_and_records_follow():
    with EmbeddedBroker(port=free_port(), topics={"orders": 1}, brokers=2) as broker:
        producer = open_producer(broker, **{"retry.backoff.ms": 10})
        for leader in (1, 2, 1):
            faults.set_leader(broker, "orders", 0, leader)
            assert send(producer) is None
            assert producer.list_topics("orders", timeout=5).topics["orders"].partitions[0].leader == leader
        with pytest.raises(BrokerError, match="partition_set_leader: Broker: Unknown topic or partition"):
            faults.set_leader(broker, "orders", 1, 1)
        with pytest.raises(BrokerError, match="partition_set_leader: Broker: Broker not available"):
            faults.set_leader(broker, "orders", 0, 3)


def test_a_second_member_of_a_group_gets_its_share_at_once():
    with (
        EmbeddedBroker(topics={"orders": 4}) as broker,
        open_consumer(broker, "workers", **{"group.protocol": "consumer"}) as first,
        open_consumer(broker, "workers", **{"group.protocol": "consumer"}) as second,
    ):
        deadline = time.monotonic() + 2.5
        first.subscribe(["orders"])
        while len(first.assignment()) < 4 and time.monotonic() < deadline:
            first.poll(0.02)
        assert len(first.assignment()) == 4
        second.subscribe(["orders"])
        while len(second.assignment()) < 2 and time.monotonic() < deadline:
            first.poll(0.02)
            second.poll(0.02)
        assert (len(first.assignment()), len(second.assignment())) == (2, 2)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("-o", "@{middle}"), [b"3", b"4"]),
        (("--until", "@{middle}"), [b"1", b"2"]),
        (("-o", "@1"), [b"1", b"2", b"3", b"4"]),
        (("-o", "@{late}"), []),
        (("-o", "-15m"), [b"4"]),
    ],
)
def test_times_are_found_though_the_embedded_broker_does_not_know_them(kpipe, args, expected):
    now = int(time.time() * 1000)
    times = (now - 7_200_000, now - 7_100_000, now - 3_600_000, now - 1000)
    text = b"".join(b'{"value":"%d","timestamp":%d}\n' % (number, ms) for number, ms in enumerate(times, 1))
    args = [word.format(middle=times[2], late=now + 60_000) for word in args]
    with EmbeddedBroker(topics={"orders": 1, "empty": 3}) as broker:
        at = kpipe.at(broker.bootstrap)
        assert at("produce", "--input", "json", "orders", stdin=text).code == 0
        run = at("consume", "-e", *args, "orders")
        assert (run.code, run.out.split()) == (0, expected), run.err
        assert at("consume", "-e", *args, "empty").out == b""
