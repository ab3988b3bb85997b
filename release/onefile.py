"""One executable file for every Python and machine of the lock: a PEX that unpacks itself into a venv, once.

It needs a python3 and nothing else. `--venv` keeps real files, so that the client's library is loaded as ever, workers
start, and plugins are found; `--sh-boot` finds the venv again without a second interpreter (17 ms instead of 99).
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from release.locked import MACHINES, PYTHONS, platforms
from release.tree import run

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def build(target: Path, wheels: Path, requirements: Iterable[str], epoch: str, scratch: Path) -> None:
    """`wheels` holds everything, kpipe's own wheel too; nothing is resolved or fetched."""
    command = [sys.executable, "-m", "pex", "--pre-resolved-dists", wheels, *requirements]
    for minor in PYTHONS:
        for machine in MACHINES:
            file = scratch / f"platform-{minor}-{machine}.json"
            file.write_text(json.dumps(platform(minor, machine)))
            command += ["--complete-platform", file]
    command += ["--venv", "--sh-boot", "--no-compile", "--include-tools", "--console-script", "kpipe"]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": epoch, "PEX_ROOT": str(scratch / "pex")}
    run([*command, "--output-file", target], env=environment)


def platform(minor: int, machine: str) -> dict[str, Any]:
    """A Python on a Linux, as PEX wants to know it: PEP 508's markers and PEP 425's tags, the best first."""
    own, places = f"cp3{minor}", platforms(machine)
    version = f"3.{minor}.0"
    tags = [f"{own}-{abi}-{place}" for abi in (own, "abi3", "none") for place in places]
    tags += [f"cp3{older}-abi3-{place}" for older in range(minor - 1, 1, -1) for place in places]
    tags += [f"py3-none-{place}" for place in places]
    tags += [f"{own}-none-any", "py3-none-any", *(f"py3{older}-none-any" for older in range(minor, -1, -1))]
    markers = {
        "implementation_name": "cpython",
        "implementation_version": version,
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": version,
        "python_version": f"3.{minor}",
        "sys_platform": "linux",
    }
    return {"marker_environment": markers, "compatible_tags": tags}
