"""Runs one command line and says what it cost: wall time, CPU time and the largest resident memory of its processes."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from dataclasses import dataclass

TIMEOUT_S = 180.0


@dataclass(frozen=True)
class Cost:
    """Seconds of wall and CPU (user + system, all processes of the pipeline), and MiB of the largest process."""

    wall: float
    cpu: float
    peak_mib: float


def run(command: str, env: dict[str, str]) -> Cost:
    """Run `command` in bash with pipefail; RuntimeError with the end of its stderr when it fails or takes too long.

    The CPU time is what bash waited for: the whole pipeline and nothing else.
    """
    began = time.monotonic()
    process = subprocess.Popen(
        ["bash", "-o", "pipefail", "-c", command],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    usage, status = _wait(process, began)
    wall = time.monotonic() - began
    errors = process.stderr.read() if process.stderr is not None else b""
    if process.stderr is not None:
        process.stderr.close()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        message = f"{command}\nexit {process.returncode}: {errors[-2000:].decode(errors='replace')}"
        raise RuntimeError(message)
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def _wait(process: subprocess.Popen[bytes], began: float) -> tuple[resource.struct_rusage, int]:
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            return usage, status
        if time.monotonic() - began > TIMEOUT_S:
            os.killpg(process.pid, signal.SIGKILL)
        time.sleep(0.002)
