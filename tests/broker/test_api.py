"""kpipe from a Python program: each is a process of its own, as a server, a worker or a script would be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.broker.lab.cluster import Cluster, Rec, until
from tests.broker.lab.runs import group

if TYPE_CHECKING:
    from tests.broker.conftest import NewKafka
    from tests.conftest import Kpipe


FORKS = "ignore:This process:DeprecationWarning"
"""From 3.12 on Python warns of every fork of a process with threads, which a producer that was used has."""


def program(text: str, *words: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run a script to its end."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text), *words],
        capture_output=True, text=True, timeout=90, check=False, cwd=home,
        env={"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONWARNINGS": FORKS},
    )  # fmt: skip


def good(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def values(kafka: Cluster, topic: str) -> list[bytes | None]:
    return [record.value for record in kafka.read(topic)]


END = {
    "the end of the script": "",
    "sys.exit": "import sys; sys.exit(0)",
    "a thread that goes on": "import threading, time; threading.Thread(target=time.sleep, args=(0.5,)).start()",
}


@pytest.mark.parametrize("end", END.values(), ids=END)
def test_what_is_in_flight_at_the_end_is_delivered_without_being_asked(
    kafka: Cluster, tmp_path: Path, end: str
) -> None:
    topic = kafka.topic(1)
    text = """
        import sys
        from kpipe.api import Producer
        producer = Producer(brokers=sys.argv[1], linger_ms=5000)
        for number in range(100):
            producer.produce(sys.argv[2], str(number))
    """
    good(program(textwrap.dedent(text) + end, kafka.bootstrap, topic, home=tmp_path))
    assert values(kafka, topic) == [b"%d" % number for number in range(100)]


def test_an_exception_that_nobody_caught_loses_nothing(kafka: Cluster, tmp_path: Path) -> None:
    topic = kafka.topic(1)
    text = """
        import sys
        from kpipe.api import Producer
        Producer(brokers=sys.argv[1], linger_ms=5000).produce(sys.argv[2], "a")
        1 / 0
    """
    assert program(text, kafka.bootstrap, topic, home=tmp_path).returncode == 1
    assert values(kafka, topic) == [b"a"]


FORK = {
    "fork": """
        import os
        pid = os.fork()
        if not pid:
            work("child")
            sys.exit(0)
        os.waitpid(pid, 0)
    """,
    "multiprocessing": """
        import multiprocessing
        child = multiprocessing.get_context("fork").Process(target=work, args=("child",))
        child.start()
        child.join()
    """,
}


@pytest.mark.parametrize("before", [True, False], ids=["used before", "made before"])
@pytest.mark.parametrize("how", FORK.values(), ids=FORK)
def test_a_child_of_a_fork_produces_and_ends_as_its_parent_does(
    kafka: Cluster, tmp_path: Path, how: str, before: bool
) -> None:
    topic = kafka.topic(1)
    text = """
        import sys
        from kpipe.api import Producer
        producer = Producer(brokers=sys.argv[1], linger_ms=1000)
        def work(name):
            for number in range(50):
                producer.produce(sys.argv[2], f"{name} {number}")
    """
    use = "work('parent')\n" if before else ""
    last = "work('last')\n"
    good(program(textwrap.dedent(text) + use + textwrap.dedent(how) + last, kafka.bootstrap, topic, home=tmp_path))
    found = values(kafka, topic)
    names = ["child", "last", *(["parent"] if before else [])]
    assert sorted(map(str, found)) == sorted(str(f"{name} {number}".encode()) for name in names for number in range(50))


def test_a_child_of_a_fork_leaves_the_clients_of_all_runs_alone(kafka: Cluster, tmp_path: Path) -> None:
    """What `produce` and `consume` opened in the parent is not destroyed in the child, which would end it by SIGSEGV."""
    topic = kafka.topic(1)
    text = """
        import os, sys
        from kpipe import api
        brokers, topic = sys.argv[1:]
        api.produce(topic, ["parent"], brokers=brokers)
        next(api.consume(topic, brokers=brokers))
        left_open = api.consume(topic, brokers=brokers)
        next(left_open)
        producer = api.Producer(brokers=brokers, linger_ms=1000)
        pid = os.fork()
        if not pid:
            producer.produce(topic, "child")
            api.produce(topic, ["run of a child"], brokers=brokers)
            sys.exit(0)
        print(os.waitpid(pid, 0)[1])
    """
    assert good(program(text, kafka.bootstrap, topic, home=tmp_path)) == "0\n"
    assert sorted(map(str, values(kafka, topic))) == ["b'child'", "b'parent'", "b'run of a child'"]


def test_an_iterator_that_was_left_open_is_closed_at_the_end(kafka: Cluster, tmp_path: Path) -> None:
    """At the end of the interpreter no thread can be started: the process hung, and nothing was committed."""
    topic, name = kafka.topic(1), group()
    kafka.write(topic, [Rec(b"a"), Rec(b"b"), Rec(b"c")])
    text = """
        import sys
        from kpipe import api
        left_open = api.consume(sys.argv[2], brokers=sys.argv[1], group=sys.argv[3])
        print([next(left_open).value for _ in range(2)])
    """
    assert good(program(text, kafka.bootstrap, topic, name, home=tmp_path)) == "[b'a', b'b']\n"
    assert kafka.committed(name, topic) == {0: 1}


def test_sigterm_flushes_when_it_is_asked_to(kafka: Cluster, tmp_path: Path) -> None:
    topic = kafka.topic(1)
    text = """
        import sys, time
        from kpipe import api
        api.finish_on_signals()
        api.Producer(brokers=sys.argv[1], linger_ms=60000).produce(sys.argv[2], "a")
        print("sent", flush=True)
        time.sleep(60)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text), kafka.bootstrap, topic], stdout=subprocess.PIPE, cwd=tmp_path
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"sent\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
    assert values(kafka, topic) == [b"a"]


def test_threads_and_an_event_loop_share_one_producer(kafka: Cluster, tmp_path: Path) -> None:
    topic = kafka.topic(2)
    text = """
        import asyncio, sys, threading
        from kpipe.api import Message, Producer
        producer, topic = Producer(brokers=sys.argv[1], queue_buffering_max_messages=100), sys.argv[2]
        def work(name):
            for number in range(1000):
                producer.produce(topic, f"{name} {number}", key=name)
        threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(4)]
        for thread in threads: thread.start()
        async def main():
            found = await producer.produce_many_async([Message(topic, f"async {n}") for n in range(500)])
            one = await producer.produce_async(topic, "one", headers={"h": "v"}, timestamp=1763884800000)
            return len(found), one.topic
        print(*asyncio.run(main()))
        for thread in threads: thread.join()
        print(producer.flush())
    """
    assert good(program(text, kafka.bootstrap, topic, home=tmp_path)) == f"500 {topic}\n0\n"
    records = kafka.read(topic)
    assert len(records) == 4501
    for name in (b"t0", b"t1", b"t2", b"t3"):
        assert [record.value for record in records if record.key == name] == [b"%s %d" % (name, n) for n in range(1000)]
    (one,) = [record for record in records if record.value == b"one"]
    assert (one.headers, one.timestamp) == ((("h", b"v"),), 1763884800000)


def test_what_is_refused_raises_where_it_was_sent_and_the_producer_goes_on(kafka: Cluster, tmp_path: Path) -> None:
    topic = kafka.topic(1, **{"max.message.bytes": "2000"})
    text = """
        import logging, sys
        logging.disable()
        from kpipe.api import Producer, UndeliveredError
        producer = Producer(brokers=sys.argv[1])
        for value, topic in ((b"x" * 5000, sys.argv[2]), (b"a", sys.argv[2] + "-missing")):
            try:
                producer.produce_sync(topic, value)
            except UndeliveredError as error:
                print(error)
        producer.produce_sync(sys.argv[2], "after")
    """
    said = good(program(text, kafka.bootstrap, topic, home=tmp_path)).splitlines()
    assert "larger than the topic's max.message.bytes" in said[0]
    assert f"{topic}-missing" in said[1]
    assert values(kafka, topic) == [b"after"]


def test_each_cluster_has_its_own_producer_and_its_own_listener(
    kafka: Cluster, new_kafka: NewKafka, tmp_path: Path
) -> None:
    other = new_kafka()
    topic, gone = kafka.topic(1), other.topic(1)
    other.broker.kill()
    text = """
        import logging, sys, threading
        logging.disable()
        from kpipe.api import Producer
        heard, told = set(), threading.Event()
        def listen(error):
            heard.add(error.cluster)
            told.set()
        good = Producer(brokers=sys.argv[1], on_error=listen)
        bad = Producer(brokers=sys.argv[2], exit_timeout=0.5)
        bad.on_error(listen)
        bad.produce(sys.argv[4], "lost")
        good.produce_sync(sys.argv[3], "a")
        assert told.wait(30)
        print(*heard)
    """
    done = program(text, kafka.bootstrap, other.bootstrap, topic, gone, home=tmp_path)
    assert good(done) == f"{other.bootstrap}\n"
    assert values(kafka, topic) == [b"a"]


def test_a_profile_of_the_configuration_is_a_cluster(kafka: Cluster, tmp_path: Path) -> None:
    folder = tmp_path / ".config" / "kpipe"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(
        f'[clusters.prod]\n"bootstrap.servers" = "{kafka.bootstrap}"\n[clusters.safe]\n"bootstrap.servers" = "{kafka.bootstrap}"\nread_only = true\n'
    )
    topic = kafka.topic(1)
    text = """
        import sys
        from kpipe import api
        api.Producer("prod").produce(sys.argv[1], "a")
        print(api.produce(f"prod:{sys.argv[1]}", ["b", None]).delivered)
        try:
            api.Producer("safe")
        except api.UsageError as error:
            print(error)
    """
    assert "read_only" in good(program(text, topic, home=tmp_path)).splitlines()[1]
    assert sorted(map(str, values(kafka, topic))) == ["None", "b'a'", "b'b'"]


def test_consume_commits_what_was_worked_on_and_repeats_the_rest(kafka: Cluster, tmp_path: Path) -> None:
    topic, name = kafka.topic(1), group()
    kafka.write(topic, [Rec(b"%d" % number) for number in range(10)])
    text = """
        import sys
        from kpipe import api
        try:
            for record in api.consume(sys.argv[2], brokers=sys.argv[1], group=sys.argv[3], exit=True):
                if record.value == b"4" and sys.argv[4] == "fail":
                    raise ValueError
                print(record.offset, record.value.decode())
        except ValueError:
            pass
    """
    first = good(program(text, kafka.bootstrap, topic, name, "fail", home=tmp_path))
    assert first.splitlines() == [f"{n} {n}" for n in range(4)]
    until(lambda: kafka.committed(name, topic) == {0: 4}, "the commit")
    rest = good(program(text, kafka.bootstrap, topic, name, "", home=tmp_path))
    assert rest.splitlines() == [f"{n} {n}" for n in range(4, 10)]
    assert kafka.committed(name, topic) == {0: 10}


def test_forward_gives_each_record_to_a_function(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    source, target, letters, name = kafka.topic(1), kafka.topic(1), kafka.topic(1), group()
    kafka.write(source, [Rec(b"%d" % number, key=b"k") for number in range(6)])
    function = "def transform(r):\n    n = int(r.value)\n    if n == 5: raise ValueError('five')\n    return None if n == 0 else [r] * n if n < 3 else r\n"
    text = function + textwrap.dedent("""
        import sys
        from kpipe import api
        print(api.forward(sys.argv[2], sys.argv[3], group=sys.argv[4], brokers=sys.argv[1], transform=transform,
                          on_error=f"dlq:{sys.argv[5]}", exit=True))
    """)
    said = good(program(text, kafka.bootstrap, source, target, name, letters, home=tmp_path))
    assert said == "Result(read=6, delivered=4, filtered=1, dead_lettered=1, failed=0, unknown=0)\n"
    assert values(kafka, target) == [b"1", b"2", b"2", b"3", b"4"]
    assert values(kafka, letters) == [b"5"]
    assert kafka.committed(name, source) == {0: 6}
    plugin = tmp_path / "p.py"
    plugin.write_text(function)
    run = kpipe.at(kafka.bootstrap)("forward", "-e", "--plugin", plugin, "--on-error", "skip", source, target)
    assert run.code == 1
    assert "ValueError: five; skipped" in run.err
    assert values(kafka, target) == [b"1", b"2", b"2", b"3", b"4"] * 2


def test_a_run_in_a_thread_stops_when_it_is_asked_to_and_no_signal_is_touched(kafka: Cluster, tmp_path: Path) -> None:
    source, target, name = kafka.topic(1), kafka.topic(1), group()
    kafka.write(source, [Rec(b"a")])
    text = """
        import signal, sys, threading
        from kpipe import api
        before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
        stop, results = api.Stop(), []
        run = lambda: results.append(api.forward(sys.argv[2], sys.argv[3], group=sys.argv[4], brokers=sys.argv[1], stop=stop))
        thread = threading.Thread(target=run)
        thread.start()
        next(api.consume(sys.argv[3], brokers=sys.argv[1]))
        stop.ask()
        thread.join(30)
        print(results[0].delivered, [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)] == before)
    """
    assert good(program(text, kafka.bootstrap, source, target, name, home=tmp_path)) == "1 True\n"
    assert kafka.committed(name, source) == {0: 1}


def test_produce_takes_transforms_dead_letters_and_traces_as_the_command_line_does(
    kafka: Cluster, tmp_path: Path
) -> None:
    source, target, letters = kafka.topic(1), kafka.topic(1), kafka.topic(1)
    kafka.write(source, [Rec(b'{"n":1}'), Rec(b"no"), Rec(b'{"n":3}')])
    text = """
        import sys
        from kpipe import api
        brokers, source, target, letters = sys.argv[1:]
        read = api.consume(source, brokers=brokers, exit=True)
        double = lambda record: [record, record]
        print(api.produce(target, read, brokers=brokers, map=".n", transform=double, on_error=f"dlq:{letters}"))
        def fails():
            yield "last"
            raise RuntimeError("mine")
        try:
            api.produce(target, fails(), brokers=brokers, spill="left.jsonl")
        except RuntimeError as error:
            print(error, error.result.delivered)
    """
    said = good(program(text, kafka.bootstrap, source, target, letters, home=tmp_path))
    assert said == "Result(read=3, delivered=2, filtered=0, dead_lettered=1, failed=0, unknown=0)\nmine 1\n"
    assert values(kafka, target) == [b"1", b"1", b"3", b"3", b"last"]
    assert values(kafka, letters) == [b"no"]
    assert dict(kafka.read(target)[2].headers)["source_offset"] == b"2"
