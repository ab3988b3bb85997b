"""`kpipe unit`: what it prints is accepted by the programs that will read it, and does what it says."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from kpipe.broker import EmbeddedBroker
from kpipe.deploy.systemd import hidden

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Kpipe

FORWARD = ("forward", "-b", "kafka:9092", "-G", "mirror", "orders", "copy")
NIGHTLY = ("consume", "-b", "kafka:9092", "-G", "nightly", "-e", "-J", "orders")
ODD = ("forward", "-b", "kafka:9092", "-G", "g", "--grep", '50% of $HOME; "it\'s" \\d', "orders", "copy")


def unit(kpipe: Kpipe, *words: str) -> str:
    run = kpipe("unit", *words)
    assert run.code == 0, run.err
    return run.out.decode()


def analyze(*words: str | Path) -> str:
    program = shutil.which("systemd-analyze")
    assert program, "the package systemd is missing"
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def split_timer(text: str) -> dict[str, str]:
    """A timer and its service, as the comments before each say."""
    parts = re.split(r"^# --- (\S+)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize(
    "line", [FORWARD, ODD, (*FORWARD[:-2], "--spill", "spill.jsonl", "--buffer", "256M", "a", "b")]
)
def test_systemd_takes_a_service_and_finds_it_well_confined(
    kpipe: Kpipe, tmp_path: Path, line: tuple[str, ...]
) -> None:
    path = tmp_path / "kpipe-test.service"
    path.write_text(unit(kpipe, "systemd", "--", *line))
    told = analyze("verify", "--man=no", path)
    assert "kpipe-test" not in told, told
    exposure = analyze("security", "--offline=true", "--threshold=30", path)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", exposure)
    assert found, exposure
    assert float(found[1]) <= 3.0


def test_systemd_takes_a_timer_and_its_service(kpipe: Kpipe, tmp_path: Path) -> None:
    for name, text in split_timer(unit(kpipe, "timer", "--schedule", "*-*-* 03:00", "--", *NIGHTLY)).items():
        (tmp_path / name).write_text(text)
    for path in sorted(tmp_path.glob("*.*")):
        assert path.name not in analyze("verify", "--man=no", path)


def test_the_time_to_stop_is_longer_than_the_drain(kpipe: Kpipe) -> None:
    line = ("forward", "-b", "k:1", "-G", "g", "--drain-timeout", "40s", "a", "b")
    assert "TimeoutStopSec=50\n" in unit(kpipe, "systemd", "--", *line)
    (deployment,) = yaml.safe_load_all(unit(kpipe, "k8s", "--", *line))
    assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 50
    (service,) = yaml.safe_load(unit(kpipe, "compose", "--", *line))["services"].values()
    assert service["stop_grace_period"] == "50s"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ((), FORWARD),
        ((), ODD),
        (("--replicas", "3", "--credential", "password=kafka/password"), FORWARD),
        (("--scale", "hpa"), FORWARD),
        (("--schedule", "0 3 * * *"), NIGHTLY),
    ],
)
def test_kubernetes_takes_the_manifests(kpipe: Kpipe, options: tuple[str, ...], line: tuple[str, ...]) -> None:
    import kubernetes_validate

    objects = list(yaml.safe_load_all(unit(kpipe, "k8s", *options, "--", *line)))
    assert objects
    for each in objects:
        kubernetes_validate.validate(each, "1.33", strict=True)


def test_what_runs_in_a_pod_is_the_command_line_that_was_given(kpipe: Kpipe) -> None:
    (deployment,) = yaml.safe_load_all(unit(kpipe, "k8s", "--", *ODD))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["args"] == [*ODD, "--metrics", "0.0.0.0:9400"]
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        assert container[probe]["httpGet"]["path"] in ("/healthz", "/readyz")
    assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]


KEDA_KAFKA = frozenset(
    [
        "bootstrapServers",
        "consumerGroup",
        "topic",
        "lagThreshold",
        "activationLagThreshold",
        "offsetResetPolicy",
        "allowIdleConsumers",
        "excludePersistentLag",
        "scaleToZeroOnInvalidOffset",
        "limitToPartitionsWithLag",
        "ensureEvenDistributionOfPartitions",
        "partitionLimitation",
        "version",
        "sasl",
        "tls",
    ]
)
"""What KEDA's Apache Kafka scaler reads (kedacore/keda 8b4f083, pkg/scalers/apache_kafka_scaler.go)."""


def test_keda_is_told_what_it_understands(kpipe: Kpipe) -> None:
    _, scaled = yaml.safe_load_all(unit(kpipe, "k8s", "--scale", "keda", "--", *FORWARD))
    (trigger,) = scaled["spec"]["triggers"]
    assert set(trigger["metadata"]) <= KEDA_KAFKA
    assert trigger["metadata"]["offsetResetPolicy"] == "earliest", "what the group does without an offset"
    assert scaled["spec"]["minReplicaCount"] == 1
    assert all(isinstance(value, str) for value in trigger["metadata"].values())


@pytest.mark.parametrize("line", [FORWARD, ODD, NIGHTLY])
def test_compose_takes_the_file(kpipe: Kpipe, tmp_path: Path, line: tuple[str, ...]) -> None:
    from compose_spec import ComposeSpecification

    text = unit(kpipe, "compose", "--credential", "password=./password", "--", *line)
    parsed = ComposeSpecification.model_validate(yaml.safe_load(text))
    (service,) = (parsed.services or {}).values()
    assert [word.replace("$$", "$") for word in yaml.safe_load(text)["services"].popitem()[1]["command"]] == list(line)
    assert service.read_only


def test_cron_runs_one_at_a_time_and_the_words_survive_the_shell(kpipe: Kpipe, tmp_path: Path) -> None:
    line = ("consume", "-b", "127.0.0.1:1", "--timeout", "100ms", "-e", "--grep", "5% 'of' $HOME", "orders")
    (entry,) = [row for row in unit(kpipe, "cron", "--", *line).splitlines() if not row.startswith("#")]
    fields = entry.split(None, 5)
    assert fields[5].startswith("flock -n ")
    command = fields[5].replace("\\%", "%")  # as cron does
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False, cwd="/",
                          env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)})  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert "127.0.0.1:1" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("systemd", "--", "forward", "-X", "sasl.password=hunter2", "-G", "g", "a", "b"),
            "a secret has no place in a unit",
        ),
        (
            ("k8s", "--", "forward", "-X", "source.ssl.key.password=hunter2", "-G", "g", "a", "b"),
            "a secret has no place",
        ),
        (("systemd", "--", "consume", "-e", "a"), "use kpipe unit timer"),
        (("timer", "--", "forward", "-G", "g", "a", "b"), "use kpipe unit systemd"),
        (("systemd", "--", "forward", "--no-such", "a", "b"), "kpipe unit: forward: No such option: --no-such"),
        (("systemd", "--", "topics"), "a unit runs produce, consume, forward"),
        (("k8s", "--replicas", "2", "--", "forward", "a", "b"), "add -G GROUP"),
        (("nomad", "--", "forward", "a", "b"), "kpipe unit"),
    ],
)
def test_what_no_unit_can_run_well_is_refused(kpipe: Kpipe, words: tuple[str, ...], said: str) -> None:
    run = kpipe("unit", *words)
    assert (run.code, run.out) == (2, b"")
    assert said in run.err
    assert "hunter2" not in run.err
    assert run.err.count("\n") == 1


class Manager:
    """A service manager, as far as a service can tell: a datagram socket."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(20)

    def hear(self, text: str) -> str:
        """The first message that holds `text`."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            told = self.socket.recv(4096).decode()
            if text in told.splitlines():
                return told
        raise AssertionError(f"{text} was not told")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "n")
    yield made
    made.socket.close()


@pytest.fixture
def embedded() -> Iterator[str]:
    with EmbeddedBroker(topics={"orders": 2, "copy": 2}) as started:
        yield started.bootstrap


@pytest.mark.parametrize("workers", [(), ("--workers", "1")], ids=["alone", "workers"])
def test_a_service_of_type_notify_is_ready_alive_and_stopping(
    kpipe: Kpipe, manager: Manager, embedded: str, workers: tuple[str, ...]
) -> None:
    env: dict[str, Any] = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "400000"}
    run = kpipe.start("forward", "-b", embedded, "-G", "g" + "".join(workers), *workers, "orders", "copy", env=env)
    assert "STATUS=0 read" in manager.hear("READY=1")
    manager.hear("WATCHDOG=1")
    manager.hear("WATCHDOG=1")
    run.signal(signal.SIGTERM)
    assert "EXTEND_TIMEOUT_USEC=19000000" in manager.hear("STOPPING=1")
    assert run.wait().code == -signal.SIGTERM


NAMED = ("forward", "-G", "mirror", "prod:orders", "staging:orders")


@pytest.mark.parametrize(
    ("line", "home", "read"),
    [
        (NAMED, "", True),
        (("forward", "-b", "kafka:9092", "-G", "g", "orders", "prod:copy"), "", True),
        (("forward", "-b", "kafka:9092", "-G", "g", "--on-error", "dlq:prod:bad", "orders", "copy"), "", True),
        (FORWARD, "x", True),
        (FORWARD, "", False),
        (("forward", "-G", "g", "kafka:9092/orders", "kafka:9092/copy"), "", False),
        (("forward", "--config", "/etc/my.toml", "-G", "g", "prod:orders", "prod:copy"), "", False),
    ],
)
def test_a_service_reads_the_configuration_that_its_line_needs(
    kpipe: Kpipe, line: tuple[str, ...], home: str, read: bool
) -> None:
    """It is another user, whose home has none: every name of a cluster was unknown to it."""
    config = kpipe.home / "config" / "kpipe" / "config.toml"
    if home:
        config.parent.mkdir(parents=True)
        config.write_text('[clusters.prod]\nbootstrap.servers = "kafka:9092"\n')
    text = unit(kpipe, "systemd", "--", *line)
    assert (
        "LoadCredential=config.toml:/etc/kpipe/config.toml\nEnvironment=KPIPE_CONFIG=%d/config.toml\n" in text
    ) == read
    assert (f"install -D -m 600 {config} /etc/kpipe/config.toml\n" in text) == read
    path = kpipe.home / "kpipe-test.service"
    path.write_text(text)
    told = analyze("verify", "--man=no", path)
    assert "kpipe-test" not in told, told


def test_what_a_service_could_not_start_or_would_repeat_is_told(kpipe: Kpipe) -> None:
    told = kpipe("unit", "systemd", "--", "forward", "-b", "k:1", "a", "b")
    assert told.code == 0
    assert "forward without -G starts from the beginning" in told.err
    said = kpipe("unit", "systemd", "--", *FORWARD).err.splitlines()
    # The tests themselves may run in somebody's home.
    assert [line for line in said if "the service sees no home and no /tmp" not in line] == []
    assert hidden(["/home/ada/.local/bin/python", "-m", "kpipe"]) == "/home/ada/.local/bin/python"
    assert (hidden(["/usr/bin/kpipe"]), hidden(["/opt/home/kpipe"])) == ("", "")


def test_the_dashes_that_are_missing_are_named(kpipe: Kpipe) -> None:
    told = kpipe("unit", "systemd", *FORWARD)
    assert (told.code, told.err.count("\n")) == (2, 1)
    assert "write -- before the command line" in told.err
