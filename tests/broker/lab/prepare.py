"""Get the lab ready before the tests, outside their time limits: `python -m tests.broker.lab.prepare`.

It never runs during a test; without it brokers start too, in about 4 s instead of 2.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests.broker.lab import LabError
from tests.broker.lab.broker import Broker
from tests.broker.lab.jvm import KAFKA, archive, jars, locked


def prepare() -> None:
    """Download Kafka's jars and archive its loaded classes, where this has not been done."""
    started = time.monotonic()
    jars()
    if archive().exists():
        return
    say(f"Kafka {KAFKA}: {len(jars())} jars; archiving its classes, once, for faster starts (about 15 s) ...")
    with locked():
        if not archive().exists():
            _train()
    say(f"Kafka {KAFKA}: ready in {time.monotonic() - started:.0f} s")


def say(line: str) -> None:
    """Tell the person who waits."""
    sys.stderr.write(f"lab: {line}\n")


def _train() -> None:
    """Run a broker once, recording; the JVM writes the archive when it stops (JEP 514)."""
    with tempfile.TemporaryDirectory() as home:
        unfinished = Path(home) / "kafka.aot"
        broker = Broker(Path(home) / "broker", java_flags=[f"-XX:AOTCacheOutput={unfinished}"])
        broker.start()
        broker.stop(timeout=120)
        if not unfinished.exists():
            raise LabError(f"archive: {unfinished}: the JVM did not write it:\n{broker.log.read_text()}")
        beside = archive().with_suffix(".part")
        beside.write_bytes(unfinished.read_bytes())
        beside.replace(archive())


if __name__ == "__main__":
    prepare()
