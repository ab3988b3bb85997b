"""pylock.toml (PEP 751): every package that kpipe needs, with the hashes of its files; the one source of all builds.

Metrics are in it: a unit for Kubernetes asks for them, and nothing can be added to an image or a package.

`make lock` writes it for all platforms at once. The files come from the index that the installer is set up for; the
addresses in the lock are those of the files themselves.
"""

from __future__ import annotations

import os
import sys
import tomllib
from typing import TYPE_CHECKING, Any, NamedTuple

from release.tree import ROOT, run

if TYPE_CHECKING:
    from pathlib import Path

LOCK = ROOT / "pylock.toml"
PYTHONS = (11, 12, 13, 14)
"""Minor versions of Python 3 that are built for."""
MACHINES = ("x86_64", "aarch64")
GLIBC = 28
"""Of manylinux_2_28, which is what the Kafka client's wheels are for."""


class Package(NamedTuple):
    """One line of the lock that a Linux system needs; `sdist` is (address, SHA-256)."""

    name: str
    version: str
    hashes: tuple[str, ...]
    sdist: tuple[str, str] | None


def packages(lock: Path = LOCK) -> list[Package]:
    """What kpipe needs at run time on Linux and macOS, sorted by name."""
    found = []
    for each in tomllib.loads(lock.read_text())["packages"]:
        if "win32" in each.get("marker", ""):
            continue
        sdist: dict[str, Any] | None = each.get("sdist")
        files = [*each.get("wheels", ()), *([sdist] if sdist else ())]
        hashes = tuple(sorted(file["hashes"]["sha256"] for file in files))
        source = (sdist["url"], sdist["hashes"]["sha256"]) if sdist else None
        found.append(Package(each["name"], each["version"], hashes, source))
    return sorted(found)


def requirements(found: list[Package]) -> str:
    """The lock for a pip that does not read pylock.toml: `pip install --require-hashes -r`."""
    lines = []
    for each in found:
        hashes = "".join(f" \\\n    --hash=sha256:{digest}" for digest in each.hashes)
        lines.append(f"{each.name}=={each.version}{hashes}\n")
    return "".join(lines)


def platforms(machine: str) -> list[str]:
    """The names of a machine for wheels, the newest glibc first."""
    return [f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC, 16, -1)] + [f"manylinux2014_{machine}"]


def download(requirements: Path, into: Path, minor: int, machine: str) -> None:
    """The wheels of one Python on one machine, each checked against its hash."""
    wanted = [word for name in platforms(machine) for word in ("--platform", name)]
    run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
        + ["--require-hashes", "--only-binary", ":all:", *wanted, "--python-version", f"3.{minor}"]
        + ["--requirement", requirements, "--dest", into]
    )


def write() -> None:
    """Resolve anew. Without the header, which would name the command's paths."""
    environment = {**os.environ}
    if os.path.exists("/etc/ssl/certs/ca-certificates.crt"):
        environment.setdefault("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
    command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "--extra", "metrics"]
    command += ["--universal", "--quiet", "--no-header"]
    run([*command, "--python-version", "3.11", "--upgrade", "--output-file", "pylock.toml"], cwd=ROOT, env=environment)
