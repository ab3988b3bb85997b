"""How a run ends: by its signal when nothing was lost, with 1 and the positions when something was; on a real Kafka."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import subprocess
import termios
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.broker.lab.cluster import Rec, until
from tests.broker.lab.leash import leashed
from tests.broker.lab.runs import OUTCOMES, WATCHED, balance, close_pipe, wait_until_delivered
from tests.conftest import COMMAND, Result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.broker.conftest import NewKafka
    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe, Running

TERM, INT, HUP = signal.SIGTERM, signal.SIGINT, signal.SIGHUP
SIGNALS = pytest.mark.parametrize("number", [TERM, INT, HUP], ids=lambda number: number.name)
SLOW = ("-X", "target.queue.buffering.max.messages=500", "-X", "target.linger.ms=20")  # some 25,000 records a second
FROZEN = 1.0  # --drain-timeout of the runs whose broker does not answer


def lines(count: int, first: int = 0) -> list[bytes]:
    return [b"%07d" % number for number in range(first, first + count)]


def values(cluster: Cluster, topic: str) -> list[bytes | None]:
    return [record.value for record in cluster.read(topic)]


def high(cluster: Cluster, topic: str) -> int:
    """Give the end offset of partition 0, cheaply."""
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import OffsetSpec

    place = TopicPartition(topic, 0)
    return int(cluster.admin.list_offsets({place: OffsetSpec.latest()}, request_timeout=5)[place].result(10).offset)


@contextmanager
def flowing(running: Running) -> Iterator[None]:
    """Feed numbered lines to a process for as long as it takes them."""
    over = threading.Event()

    def feed() -> None:
        number = 0
        with suppress(OSError):
            while not over.is_set():
                running.write(b"".join(line + b"\n" for line in lines(200, number)))
                number += 200

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        yield
    finally:
        over.set()
        running.process.wait(30)
        feeder.join(30)
    assert not feeder.is_alive()


def drained(pipe: int) -> bytes:
    """Read what is left in a pipe whose writer ended."""
    found = b""
    while block := os.read(pipe, 1 << 20):
        found += block
    os.close(pipe)
    return found


@pytest.fixture
def slow_pipe() -> Iterator[tuple[int, int]]:
    """Give both ends of a pipe; nobody reads it unless the test does."""
    ends = os.pipe()
    inode = os.fstat(ends[0]).st_ino
    yield ends
    close_pipe(ends, inode)


def start_piped(kpipe: Kpipe, pipe: tuple[int, int], *args: str) -> Running:
    running = kpipe.start(*args, stdout=pipe[1])
    os.close(pipe[1])
    return running


# --- everything that was read was delivered: death by the signal ------------------------------------------------


@SIGNALS
def test_produce_with_blocked_stdin_dies_by_the_signal(kafka: Cluster, kpipe: Kpipe, number: signal.Signals) -> None:
    topic = kafka.topic()
    running = kpipe.at(kafka.bootstrap).start("produce", topic)
    running.write(b"a\nb\n")
    kafka.read(topic, at_least=2)
    running.signal(number)
    assert running.wait(5) == ending(-number)


def ending(code: int, err: str = "") -> Result:
    return Result(code, b"", err)


@SIGNALS
def test_produce_with_flowing_stdin_sends_what_it_read(
    kafka: Cluster, kpipe: Kpipe, tmp_path: Path, number: signal.Signals
) -> None:
    topic = kafka.topic()
    running = kpipe.at(kafka.bootstrap).start("produce", topic, "--summary", tmp_path / "summary")
    with flowing(running):
        running.wait_for(lambda: high(kafka, topic) > 1000)
        running.signal(number)
        assert running.wait(15).code == -number
    written = values(kafka, topic)
    counts = balance(tmp_path / "summary")
    assert written == lines(len(written))
    assert counts["read"] == counts["delivered"] == len(written)
    assert counts["signal"] == number.name


def test_produce_reports_the_fragment_that_a_signal_cut_off(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic()
    running = kpipe.at(kafka.bootstrap).start("produce", topic)
    running.write(b"whole\nfragm")
    kafka.read(topic, at_least=1)
    running.signal(TERM)
    ended = running.wait(5)
    assert ended.code == -TERM
    assert "5 bytes of an unfinished record" in ended.err
    assert ended.err.count("\n") == 1
    assert values(kafka, topic) == [b"whole"]


@SIGNALS
@pytest.mark.parametrize("group", ["", "in-a-group"])
def test_consume_dies_by_the_signal_and_commits_what_it_wrote(
    kafka: Cluster, kpipe: Kpipe, slow_pipe: tuple[int, int], number: signal.Signals, group: str
) -> None:
    topic = kafka.topic()
    written = lines(40_000)
    kafka.write(topic, written)
    group = f"{group}-{topic}" if group else ""
    membership = ("-G", group) if group else ()
    running = start_piped(kpipe.at(kafka.bootstrap), slow_pipe, "consume", topic, *membership)
    found = os.read(slow_pipe[0], 10_000)
    running.signal(number)
    found += drained(slow_pipe[0])
    assert running.wait(15) == ending(-number)
    count = found.count(b"\n")
    assert 0 < count < 40_000
    assert found == b"".join(line + b"\n" for line in written[:count])
    if group:
        assert kafka.committed(group, topic) == {0: count}


@SIGNALS
def test_forward_in_a_group_neither_loses_nor_repeats_after_a_signal(
    kafka: Cluster, kpipe: Kpipe, tmp_path: Path, number: signal.Signals
) -> None:
    source, target = kafka.topic(), kafka.topic()
    kafka.write(source, lines(40_000))
    group = f"g-{source}"
    command = ("forward", source, target, "-G", group, *SLOW, "--trace", "none")
    running = kpipe.at(kafka.bootstrap).start(*command, "--summary", tmp_path / "summary")
    running.wait_for(lambda: high(kafka, target) > 500)
    running.signal(number)
    assert running.wait(15) == ending(-number)
    counts = balance(tmp_path / "summary")
    assert counts["read"] == counts["delivered"] == high(kafka, target) < 40_000
    assert kafka.committed(group, source) == {0: counts["read"]}
    assert kpipe.at(kafka.bootstrap)(*command, "-e") == ending(0)
    assert values(kafka, target) == lines(40_000)


@SIGNALS
def test_forward_without_a_group_delivers_what_it_read(
    kafka: Cluster, kpipe: Kpipe, tmp_path: Path, number: signal.Signals
) -> None:
    source, target = kafka.topic(), kafka.topic()
    kafka.write(source, lines(40_000))
    running = kpipe.at(kafka.bootstrap).start(
        "forward", source, target, *SLOW, "--trace", "none", "--summary", tmp_path / "summary"
    )
    running.wait_for(lambda: high(kafka, target) > 500)
    running.signal(number)
    assert running.wait(15) == ending(-number)
    found = values(kafka, target)
    assert found == lines(len(found))
    assert balance(tmp_path / "summary")["read"] == len(found) < 40_000


def test_the_same_signal_twice_at_once_is_one_wish(kafka: Cluster, kpipe: Kpipe) -> None:
    """timeout(1) signals its child, and then the group that the child is in."""
    source, target = kafka.topic(), kafka.topic()
    kafka.write(source, lines(20_000))
    running = kpipe.at(kafka.bootstrap).start("forward", source, target, *SLOW, "--trace", "none")
    running.wait_for(lambda: high(kafka, target) > 500)
    running.signal(TERM)
    running.signal(TERM)
    assert running.wait(15) == ending(-TERM)
    found = values(kafka, target)
    assert found == lines(len(found))


def test_signals_that_were_ignored_at_the_start_stay_ignored(kafka: Cluster, kpipe: Kpipe) -> None:
    """`nohup` ignores HUP, a shell without job control ignores INT for what it puts in the background."""
    topic = kafka.topic()
    shell = ["sh", "-c", 'trap "" HUP INT; exec "$0" "$@"', str(COMMAND), "produce", "-b", kafka.bootstrap, topic]
    with subprocess.Popen(leashed(shell), stdin=subprocess.PIPE, env=kpipe.environment()) as process:
        assert process.stdin is not None
        try:
            for line in (b"before\n", b"after\n"):
                process.stdin.write(line)
                process.stdin.flush()
                until(lambda line=line: line[:-1] in values(kafka, topic), "the line is there")
                process.send_signal(HUP)
                process.send_signal(INT)
            process.send_signal(TERM)
            assert process.wait(5) == -TERM
        finally:
            process.kill()
    assert values(kafka, topic) == [b"before", b"after"]


def test_a_stopped_and_continued_process_goes_on(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic()
    running = kpipe.at(kafka.bootstrap).start("produce", topic)
    running.write(b"before\n")
    kafka.read(topic, at_least=1)
    running.signal(signal.SIGTSTP)
    running.write(b"meanwhile\n")
    running.signal(signal.SIGCONT)
    running.write(b"after\n")
    running.close_stdin()
    assert running.wait(10) == ending(0)
    assert values(kafka, topic) == [b"before", b"meanwhile", b"after"]


# --- something was lost: exit 1, positions, spill ------------------------------------------------------------


@pytest.mark.parametrize("second", [INT, TERM], ids=["another", "the same again"])
def test_a_second_signal_gives_up_and_spills(
    kafka: Cluster, kpipe: Kpipe, tmp_path: Path, second: signal.Signals
) -> None:
    topic = kafka.topic()
    spill, summary = tmp_path / "spill", tmp_path / "summary"
    running = kpipe.at(kafka.bootstrap).start("produce", topic, "-K:", "--spill", spill, "--summary", summary, *WATCHED)
    running.write(b"k:0\n")
    wait_until_delivered(running, 1)
    kafka.broker.pause()
    running.write(b"k:1\nk:\nnokey\xff\n")
    running.wait_until_read()
    running.signal(TERM)
    running.wait_for_stderr("waiting for 3 records that were read")
    asked = time.monotonic()
    running.signal(second)
    ended = running.wait(10)
    assert time.monotonic() - asked < 3
    assert ended.code == 1
    for number in (2, 3, 4):
        assert f": stdin:{number}" in ended.err
    assert "4 read, 1 delivered, 0 failed, 3 unknown" in ended.err
    counts = balance(summary)
    assert (counts["read"], counts["delivered"], counts["unknown"], counts["signal"]) == (4, 1, 3, "SIGTERM")
    kafka.broker.heal()
    again = kafka.topic()
    assert kpipe.at(kafka.bootstrap)("produce", "--input", "json", again, spill).code == 0
    assert [(record.key, record.value) for record in kafka.read(again)] == [
        (b"k", b"1"),
        (b"k", b""),
        (None, b"nokey\xff"),
    ]


def test_the_drain_deadline_holds_while_the_broker_is_frozen(
    kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, tmp_path: Path
) -> None:
    """Commits, flushes and closes of the client hang for more than a minute then: the whole exit has a limit."""
    source, target, lonely = kafka.topic(), kafka_b.topic(), kafka.topic()
    kafka.write(source, lines(1))
    group, summary = f"g-{source}", tmp_path / "summary"
    config = f"""
        [clusters.a]
        "bootstrap.servers" = "{kafka.bootstrap}"
        [clusters.b]
        "bootstrap.servers" = "{kafka_b.bootstrap}"
    """
    drain = ("--drain-timeout", str(FROZEN))
    forward = kpipe.start(
        "forward", f"a:{source}", f"b:{target}", "-G", group, "--summary", summary, *drain, *WATCHED, config=config
    )
    wait_until_delivered(forward, 1)
    consume = kpipe.at(kafka.bootstrap).start("consume", source, "-G", f"c-{source}", *drain)
    consume.wait_for_stdout(b"0000000\n")
    produce = kpipe.at(kafka.bootstrap).start("produce", lonely, *drain, *WATCHED)
    produce.write(b"a\n")
    wait_until_delivered(produce, 1)

    kafka_b.broker.pause()
    kafka.write(source, lines(99, 1))
    forward.wait_for(lambda: consume.out.count(b"\n") == 100)
    time.sleep(0.5)  # the same records need not be read by now
    ended = ended_in_time(forward)
    assert ended.code == 1
    counts = balance(summary)
    assert counts["delivered"] == 1
    assert counts["unknown"] == counts["read"] - 1 > 0
    assert f": a:{source}[0]@1" in ended.err
    assert f"to a:{source}[0]@{counts['read'] - 1}" in ended.err
    assert f"{counts['unknown']:,} unknown" in ended.err
    assert kafka.committed(group, source) == {0: 1}

    kafka.broker.pause()
    produce.write(b"b\n")
    produce.wait_until_read()
    ended = ended_in_time(produce)
    assert ended.code == 1
    assert ": stdin:2" in ended.err
    assert ended_in_time(consume).code in (-TERM, 4)  # all is written; 4 when its last commit was not answered


def ended_in_time(running: Running) -> Result:
    asked = time.monotonic()
    running.signal(TERM)
    ended = running.wait(20)
    assert time.monotonic() - asked < FROZEN + 2.5  # 2 s by contract, and what a busy machine takes to start a thread
    assert "Traceback" not in ended.err
    return ended


def test_produce_gives_up_records_after_the_delivery_timeout(new_kafka: NewKafka, kpipe: Kpipe, tmp_path: Path) -> None:
    cluster = new_kafka()
    topic = cluster.topic()
    cluster.write(cluster.topic(), [b"the first record that a broker takes may take it seconds"])
    spill, summary = tmp_path / "spill", tmp_path / "summary"
    limit = ("-X", "delivery.timeout.ms=4000")
    running = kpipe.at(cluster.bootstrap).start(
        "produce", topic, *limit, "--spill", spill, "--summary", summary, *WATCHED
    )
    running.write(b"delivered\n")
    wait_until_delivered(running, 1)
    cluster.broker.kill()
    running.write(b"lost\nlost too\n")
    ended = running.wait(20)
    assert ended.code == 1
    for number in (2, 3):
        assert f": stdin:{number}" in ended.err
    counts = balance(summary)
    assert (counts["read"], counts["delivered"], counts["failed"] + counts["unknown"]) == (3, 1, 2)
    assert [json.loads(line)["value"] for line in spill.read_text().splitlines()] == ["lost", "lost too"]


def test_a_full_disk_for_spill_and_summary_still_tells_what_was_lost(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic()
    running = kpipe.at(kafka.bootstrap).start(
        "produce", topic, "--spill", "/dev/full", "--summary", "/dev/full", "--drain-timeout", "0.2", *WATCHED
    )
    running.write(b"a\n")
    wait_until_delivered(running, 1)
    kafka.broker.pause()
    running.write(b"b\n")
    running.wait_until_read()
    running.signal(TERM)
    ended = running.wait(10)
    assert ended.code == 1
    assert "/dev/full: cannot spill 1 undelivered record: No space left on device" in ended.err
    assert "/dev/full: cannot write the summary: No space left on device" in ended.err
    assert ": stdin:2" in ended.err
    assert "Traceback" not in ended.err


def test_a_full_disk_for_the_summary_alone_is_a_failure(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic()
    ended = kpipe.at(kafka.bootstrap)("produce", topic, "--summary", "/dev/full", stdin=b"a\n")
    assert ended.code == 1
    assert ended.err == "kpipe: --summary /dev/full: cannot write the summary: No space left on device\n"
    assert values(kafka, topic) == [b"a"]


# --- the end of the input ------------------------------------------------------------------------------------


def test_success_is_silent_and_tells_on_request(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    topic, other = kafka.topic(), kafka.topic()
    at = kpipe.at(kafka.bootstrap)
    assert at("produce", topic, stdin=b"a\nb\nunterminated") == ending(0)
    assert at("forward", "-e", topic, other) == ending(0)
    told = at("consume", "-e", other, "-v", "--grep", "unterm", "--summary", tmp_path / "summary")
    assert (told.code, told.out) == (0, b"unterminated\n")
    assert told.err.startswith("kpipe: 3 read, 1 written, 2 filtered, 0 failed in ")
    counts = balance(tmp_path / "summary")
    assert [counts[name] for name in ("read", *OUTCOMES)] == [3, 1, 2, 0, 0, 0]
    assert counts["seconds"] > 0
    assert counts["signal"] is None
    assert at("produce", topic, stdin=b"") == ending(0)


def test_the_summary_is_written_also_when_the_run_fails(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    summary = tmp_path / "summary"
    topic = kafka.topic()
    at = kpipe.at(kafka.bootstrap)
    ended = at("produce", topic, "--input", "json", "--summary", summary, stdin=b'{"value":"a"}\n{"valeu":1}\n{}\n')
    assert ended.code == 3
    counts = balance(summary)
    assert (counts["read"], counts["delivered"], counts["failed"]) == (2, 1, 1)
    assert values(kafka, topic) == [b"a"]
    assert at("consume", "no-such-topic", "--summary", summary).code == 1
    assert balance(summary)["read"] == 0


# --- stdout --------------------------------------------------------------------------------------------------


def test_a_reader_that_had_enough_ends_it_silently(kafka: Cluster, kpipe: Kpipe, slow_pipe: tuple[int, int]) -> None:
    topic = kafka.topic()
    kafka.write(topic, lines(40_000))
    running = start_piped(kpipe.at(kafka.bootstrap), slow_pipe, "consume", topic, "-G", f"g-{topic}")
    assert os.read(slow_pipe[0], 8) == b"0000000\n"
    os.close(slow_pipe[0])
    assert running.wait(15) == ending(-signal.SIGPIPE)
    # A pipe holds 64 KiB, 8,192 of these records; nobody else took any.
    assert kafka.committed(f"g-{topic}", topic).get(0, 0) <= 8193


def test_a_full_disk_stops_consume_before_it_commits(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic()
    kafka.write(topic, lines(10))
    with Path("/dev/full").open("wb") as full:
        running = kpipe.at(kafka.bootstrap).start("consume", topic, "-G", f"g-{topic}", stdout=full)
    error = "kpipe: send: stdout: cannot write: No space left on device; free space and run again\n"
    assert running.wait(15) == ending(1, error)
    assert kafka.committed(f"g-{topic}", topic).get(0, 0) == 0


def test_a_file_size_limit_commits_whole_records_only(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    topic = kafka.topic()
    kafka.write(topic, lines(1000))
    shell = ["bash", "-c", 'ulimit -f 1; trap "" XFSZ; exec "$0" "$@"', str(COMMAND), "consume"]
    command = [*shell, "-b", kafka.bootstrap, topic, "-G", f"g-{topic}", "-f", "%s\n"]
    out = tmp_path / "out"
    with out.open("wb") as file:
        ended = subprocess.run(
            leashed(command),
            stdout=file,
            stderr=subprocess.PIPE,
            # Python would cut its own .pyc files at the limit, without an error, and every later import would fail.
            env=kpipe.environment({"PYTHONDONTWRITEBYTECODE": "1"}),
            timeout=30,
            check=False,
        )
    assert ended.returncode == 1
    assert ended.stderr == b"kpipe: send: stdout: cannot write: File too large; free space and run again\n"
    assert kafka.committed(f"g-{topic}", topic) == {0: out.read_bytes().count(b"\n")}


def test_a_reader_that_sleeps_does_not_hold_a_signal_up(
    kafka: Cluster, kpipe: Kpipe, slow_pipe: tuple[int, int]
) -> None:
    """Exactly the records that got out whole are committed; the rest comes again."""
    topic = kafka.topic()
    written = lines(40_000)
    kafka.write(topic, written)
    running = start_piped(
        kpipe.at(kafka.bootstrap),
        slow_pipe,
        "consume",
        topic,
        "-G",
        f"g-{topic}",
        "--drain-timeout",
        "1",
        "-f",
        "%o:%s\n",
    )
    wait_until_full(slow_pipe[0])
    ended = ended_in_time(running)
    assert ended.code == 1
    whole = drained(slow_pipe[0]).split(b"\n")[:-1]
    assert whole == [b"%d:%s" % (offset, value) for offset, value in enumerate(written[: len(whole)])]
    assert kafka.committed(f"g-{topic}", topic) == {0: len(whole)}
    assert f"not delivered: {topic}[0]@{len(whole)}: " in ended.err.replace(f"{kafka.bootstrap}/", "")


def wait_until_full(pipe: int) -> None:
    """Wait until a pipe holds something and its writer writes no more; how much fits depends on its writes."""
    held = [0, 0, 0]

    def is_full() -> bool:
        held.append(int(struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))[0]))
        time.sleep(0.1)
        return held[-1] > 30_000 and len(set(held[-4:])) == 1

    until(is_full, "the pipe is full")


@pytest.mark.parametrize("option", ["--tee", "--report"])
def test_a_sleeping_reader_of_produce_does_not_hold_a_signal_up(
    kafka: Cluster, kpipe: Kpipe, slow_pipe: tuple[int, int], option: str
) -> None:
    topic = kafka.topic()
    running = start_piped(kpipe.at(kafka.bootstrap), slow_pipe, "produce", topic, option, "--drain-timeout", "3")
    with flowing(running):
        wait_until_full(slow_pipe[0])
        running.signal(TERM)
        ended = running.wait(12)
    written = values(kafka, topic)
    assert ended == ending(-TERM), ended.err
    assert written == lines(len(written))


@pytest.mark.parametrize("option", ["--tee", "--report"])
def test_produce_sends_what_it_read_when_the_reader_of_its_output_goes(
    kafka: Cluster, kpipe: Kpipe, slow_pipe: tuple[int, int], option: str
) -> None:
    topic = kafka.topic()
    running = start_piped(kpipe.at(kafka.bootstrap), slow_pipe, "produce", topic, option)
    os.close(slow_pipe[0])
    running.write(b"a\nb\n")
    assert running.wait(10) == ending(-signal.SIGPIPE)
    assert values(kafka, topic) == [b"a", b"b"]


def test_closed_standard_streams_are_errors_and_never_taken_for_sockets(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic()
    kafka.write(topic, [Rec(b"v")])

    def run(redirection: str, *args: str) -> Result:
        shell = ["sh", "-c", f'exec "$0" "$@" {redirection}', str(COMMAND), args[0], "-b", kafka.bootstrap, *args[1:]]
        done = subprocess.run(
            leashed(shell), input=b"x\n", capture_output=True, env=kpipe.environment(), timeout=30, check=False
        )
        return Result(done.returncode, done.stdout, done.stderr.decode())

    assert run(">&-", "consume", "-e", topic) == ending(1, "kpipe: send: stdout: cannot write: Bad file descriptor\n")
    assert run("<&-", "produce", topic) == ending(2, "kpipe: stdin: cannot open: Bad file descriptor\n")
    closed = run("2>&-", "consume", "-e", "-v", topic)
    assert (closed.code, closed.out) == (0, b"v\n")
    assert run("2>&-", "consume", "-e", "no-such-topic") == ending(1)
    assert run("2>/dev/full", "consume", "-e", "-v", topic).code == 0
    assert run(">&- 2>&- <&-", "consume", "-e", topic) == ending(1)
    assert run(">&- 2>&-", "produce", topic) == ending(0)
    assert values(kafka, topic) == [b"v", b"x"]
