"""A folder per case: `cmd` is run by sh, with `stdin` if there is one; `out`, `err` and `code` are what must come.

KPIPE_REGEN=1 writes what came instead; git diff is the review. A new case is a folder with a `cmd`.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Kpipe

CASES = sorted(path.parent for path in Path(__file__).parent.glob("*/cmd"))
REPLACED = (
    (re.compile(r"127\.0\.0\.1:\d{4,5}"), "127.0.0.1:PORT"),
    (re.compile(r"mockCluster[0-9a-f]+"), "CLUSTER"),
    (re.compile(r'"(timestamp|seconds)":[0-9.]+'), r'"\1":0'),
    (re.compile(r'(_timestamp",)"\d+"'), r'\1"0"'),
    (re.compile(r" in [0-9.]+ s \([^)]*\)"), " in N s (N/s)"),
)
"""What differs from run to run."""


def run(case: Path, kpipe: Kpipe) -> dict[str, str]:
    """out, err and code of the case's command."""
    given = case / "stdin"
    done = subprocess.run(
        ["sh", "-c", (case / "cmd").read_text()],
        input=given.read_bytes() if given.exists() else b"",
        capture_output=True,
        cwd=kpipe.home,
        env=kpipe.environment(),
        timeout=60,
        check=False,
    )
    found = {"out": done.stdout.decode(errors="backslashreplace"), "err": done.stderr.decode(errors="backslashreplace")}
    for pattern, replacement in REPLACED:
        found = {name: pattern.sub(replacement, text) for name, text in found.items()}
    return {**found, "code": f"{done.returncode}\n"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Path, kpipe: Kpipe) -> None:
    found = run(case, kpipe)
    assert "internal error" not in found["err"], found["err"]
    if os.environ.get("KPIPE_REGEN"):
        for name, text in found.items():
            (case / name).write_text(text) if text else (case / name).unlink(missing_ok=True)
    expected = {name: (case / name).read_text() if (case / name).exists() else "" for name in found}
    assert found == expected


def test_there_are_cases() -> None:
    assert len(CASES) > 20
