"""What a program costs that waits for records: CPU time and wake-ups of all its processes, while nothing comes.

All of them wait side by side, for the machine has nothing else to do then; the cluster goes away at the end.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cases import KCAT

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.inputs import Inputs

SETTLE_S, WATCH_S = 12.0, 20.0
"""Until groups have given out their partitions and readers have found out that nothing comes; and what is measured."""
AWAY_SETTLE_S = 8.0
FORWARD = "kpipe forward -b {brokers} -G bench-idle-"
WAITING = {
    "kcat -C": KCAT + " -C -o end -t {idle}",
    "kcat -G": KCAT + " -G bench-idle-kcat {idle}",
    "kpipe consume": "kpipe consume -b {brokers} {idle}",
    "kpipe consume -G": "kpipe consume -b {brokers} -G bench-idle-0 {idle}",
    "kpipe forward -G": FORWARD + "1 {idle} {aside}",
    "kpipe forward -G --workers 4": FORWARD + "4 --workers 4 {idle} {aside}",
}
AWAY = {
    "kcat -C, cluster away": "kcat -q -b {slow} -C -o end -t {idle}",
    "kpipe forward -G, cluster away": "kpipe forward -b {slow} -G bench-idle-away {idle} {aside}",
}


def measure(inputs: Inputs, env: dict[str, str], cut: Callable[[], None]) -> list[dict[str, Any]]:
    """A row for each program; `cut` takes the cluster away from those of AWAY."""
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, command in (WAITING | AWAY).items():
            running[name] = subprocess.Popen(
                shlex.split(command.format_map(inputs)),
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        time.sleep(SETTLE_S)
        rows = _watch({name: running[name] for name in WAITING})
        for name in WAITING:
            _end(running.pop(name))
        cut()
        time.sleep(AWAY_SETTLE_S)
        return rows + _watch(running)
    finally:
        for process in running.values():
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _watch(running: dict[str, subprocess.Popen[bytes]]) -> list[dict[str, Any]]:
    before = {name: _spent(process.pid) for name, process in running.items()}
    began = time.monotonic()
    time.sleep(WATCH_S)
    after = {name: _spent(process.pid) for name, process in running.items()}
    seconds = time.monotonic() - began
    rows = []
    for name, process in running.items():
        row: dict[str, Any] = {"tool": name}
        if process.poll() is None:
            cpu, wakes = (late - early for late, early in zip(after[name], before[name], strict=True))
            row |= {"core_percent": 100 * cpu / seconds, "wakes_per_s": wakes / seconds}
        else:
            row["error"] = f"ended with {process.returncode}"
        rows.append(row)
    return rows


def _spent(pid: int) -> tuple[float, int]:
    """Seconds of CPU, and wake-ups, of all threads of a process and its descendants that live."""
    nanoseconds = wakes = 0
    for member in _family(pid):
        for task in Path(f"/proc/{member}/task").glob("*"):
            try:
                nanoseconds += int((task / "schedstat").read_text().split()[0])
                status = (task / "status").read_text()
            except OSError:
                continue
            wakes += int(status.split("voluntary_ctxt_switches:")[1].split()[0])
    return nanoseconds / 1e9, wakes


def _family(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    family = [pid]
    for member in family:
        family += parents.get(member, [])
    return family
