"""What other projects' checkers say of the artefacts; one that is not installed is told, not passed over in silence."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from release.locked import PYTHONS
from release.tree import ROOT, run

FOREIGN = re.compile(r"https?://(?!files\.pythonhosted\.org/|github\.com/)[^\s\"']+")


def lint(dist: Path) -> list[str]:
    """What is wrong, in one line each."""
    problems = []
    tools = Path(sys.executable).parent
    commands = {
        "Containerfile": [tools / "hadolint", "--failure-threshold", "style", ROOT / "Containerfile"],
        "workflows": [tools / "zizmor", "--offline", "--quiet", ROOT / ".github" / "workflows"],
    }
    commands |= {
        deb.name: ["lintian", "--allow-root", "--fail-on", "error,warning", "--no-tag-display-limit", deb]
        for deb in sorted(dist.glob("*.deb"))
    }
    for name, command in commands.items():
        if shutil.which(str(command[0])) is None:
            problems.append(f"{name}: {command[0]} is not installed, so it was not checked")
            continue
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            problems.append(f"{name}: {' / '.join((done.stdout + done.stderr).strip().splitlines()[:20])}")
    for name in ("pylock.toml", "requirements.txt", "kpipe.rb"):
        problems += [f"{name}: names {found}" for found in set(FOREIGN.findall((dist / name).read_text()))]
    problems += uncovered((dist / "requirements.txt").read_text())
    return problems


def uncovered(requirements: str) -> list[str]:
    """A line of the lock without a hash, which pip would refuse at every user's."""
    entries = requirements.replace("\\\n", " ").splitlines()
    return [f"requirements.txt: no hash: {entry}" for entry in entries if "--hash=sha256:" not in entry]


def build_backend(into: Path) -> None:
    """What an sdist is built with, for a root that has no network."""
    environment = {**os.environ}
    run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--dest", into]
        + ["--python-version", f"3.{PYTHONS[0]}", "--only-binary", ":all:", "hatchling"],
        env=environment,
    )
