"""What the kernel tells about processes that are not ours to wait for; one that ends while it is looked at is no failure."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """The processes that a living process has started, whichever of its threads did it, in the order of their start."""
    return sorted(int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in _text(path).split())


def is_running(pid: int) -> bool:
    """Whether it lives; a zombie does not."""
    return _stat(f"{pid}/stat")[:1] not in ([], ["Z"])


def is_frozen(pid: int) -> bool:
    """Whether every thread of it is stopped (or gone)."""
    threads = (_stat(f"{pid}/task/{path.name}/stat") for path in Path(f"/proc/{pid}/task").glob("*"))
    return all(thread[0] in "TtZX" for thread in threads if thread)


def cpu_s(pid: int) -> float:
    """CPU seconds that it has used so far; 0 when it is gone."""
    fields = _stat(f"{pid}/stat")
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND if fields else 0.0


def _stat(path: str) -> list[str]:
    """The fields behind the name, from the state on (proc_pid_stat(5)); none when it is gone."""
    return _text(Path("/proc", path)).rpartition(")")[2].split()


def _text(path: Path) -> str:
    # Between the listing and the reading a thread may end: ENOENT when it ended before the opening, ESRCH behind it.
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
