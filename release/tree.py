"""The tree that is built: what is committed, and nothing else; its version, and the time that every file gets."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[1]
PROJECT = "kpipe-cli"


def run(command: Sequence[str | Path], **options: object) -> str:
    """A command's stdout; when it fails its stderr is shown and the build ends."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode != 0:
        sys.exit(f"release: {' '.join(map(str, command))[:300]}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return str(done.stdout)


def require_clean() -> None:
    """A release is of a commit; what is not in it would be missing from every package built elsewhere."""
    if dirty := run(["git", "status", "--porcelain"], cwd=ROOT):
        sys.exit(f"release: commit or remove these first (or --allow-dirty, which builds HEAD all the same):\n{dirty}")


def version() -> str:
    """As `kpipe --version` says it; a tag on HEAD that says otherwise ends the build."""
    text = run(["git", "show", "HEAD:kpipe/__init__.py"], cwd=ROOT)
    found = re.search(r'__version__ = "([^"]+)"', text)
    if found is None:
        sys.exit("release: kpipe/__init__.py has no __version__")
    tags = [tag for tag in run(["git", "tag", "--points-at", "HEAD"], cwd=ROOT).split() if tag.startswith("v")]
    if tags and f"v{found[1]}" not in tags:
        sys.exit(f"release: HEAD is tagged {', '.join(tags)}, and kpipe/__init__.py says {found[1]}")
    return found[1]


def project() -> dict[str, Any]:
    """What pyproject.toml says of it."""
    found: dict[str, Any] = tomllib.loads(run(["git", "show", "HEAD:pyproject.toml"], cwd=ROOT))["project"]
    return found


def maintainer(found: dict[str, Any]) -> str:
    """`Name <address>`, as Debian writes it."""
    first = found["maintainers"][0]
    return f"{first['name']} <{first['email']}>"


def unnamed(found: dict[str, Any], repository: str | None) -> list[str]:
    """Why this must not be published: what in pyproject.toml is a placeholder still, or somebody else's.

    `repository` is owner/name of where the release is made, as GITHUB_REPOSITORY has it; None elsewhere.
    """
    source = found["urls"]["Source"]
    problems = []
    if "OWNER" in source:
        problems.append(f"project.urls.Source is {source}: put the owner there, then `make gen`")
    elif repository and not source.endswith(f"/{repository}"):
        problems.append(f"project.urls.Source is {source}, and this is {repository}")
    if re.search(r"@example\.\w+>$", maintainer(found)):
        problems.append(f"project.maintainers is {maintainer(found)}: put an address there at which somebody reads")
    return [f"pyproject.toml: {problem}" for problem in problems]


def epoch() -> str:
    """SOURCE_DATE_EPOCH: the commit's time in seconds, so that two builds of it are equal."""
    return os.environ.get("SOURCE_DATE_EPOCH") or run(["git", "log", "-1", "--format=%ct"], cwd=ROOT).strip()


def export(folder: Path) -> Path:
    """HEAD's files in a folder, as anybody gets them who clones it."""
    archive = folder / "tree.tar"
    run(["git", "archive", "--output", archive, "HEAD"], cwd=ROOT)
    with tarfile.open(archive) as tar:
        # Debian 12 has Python 3.11.2; filters came with 3.11.4.
        tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, _path: member)
        tar.extractall(folder / "tree")  # noqa: S202 - filtered where Python can
    archive.unlink()
    return folder / "tree"
