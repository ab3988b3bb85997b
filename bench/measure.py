"""Runs one command line and says what it cost: wall time, CPU time and the largest resident memory of its processes.

python -I -S bench/measure.py COMMAND    (the same, printed as JSON)
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import NamedTuple

TIMEOUT_S = 180


class Cost(NamedTuple):
    """Seconds of wall and CPU (user + system, all processes of the pipeline), and MiB of the largest process."""

    wall: float
    cpu: float
    peak_mib: float


def run(command: str, env: dict[str, str]) -> Cost:
    """Run `command` in bash with pipefail; RuntimeError with the end of its stderr when it fails or takes too long.

    A small process of its own starts and measures it: a child's peak begins with the memory of whoever started it.
    """
    launch = [sys.executable, "-I", "-S", __file__, command]
    done = subprocess.run(launch, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        message = f"{command}\nexit {done.returncode}: {done.stderr[-2000:].decode(errors='replace')}"
        raise RuntimeError(message)
    return Cost(*json.loads(done.stdout))


def _measure(command: str) -> int:
    """The CPU time is what bash waited for: the whole pipeline and nothing else."""
    silence = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
    began = time.monotonic()
    words = ["bash", "-o", "pipefail", "-c", command]
    pid = os.posix_spawnp(words[0], words, os.environ, file_actions=[silence], setpgroup=0)
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(pid, signal.SIGKILL))
    signal.alarm(TIMEOUT_S)
    _, status, usage = os.wait4(pid, 0)
    wall = time.monotonic() - began
    print(json.dumps(Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)))
    return abs(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    sys.exit(_measure(sys.argv[1]))
