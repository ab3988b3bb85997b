"""How much memory a process has taken at most, by the kernel's own account."""

from __future__ import annotations

from pathlib import Path

LIMIT_MIB = 150
"""What no run may exceed, with kpipe's default buffers."""


def peak_mib(pid: int) -> int:
    """The largest resident memory of a living process so far."""
    return _kib(pid, "VmHWM") // 1024


def resident_mib(pid: int) -> float:
    """Its resident memory now."""
    return _kib(pid, "VmRSS") / 1024


def _kib(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])
