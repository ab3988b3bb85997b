"""The wheel carries the command, its manual and its completions to where a shell and man look for them."""

from __future__ import annotations

import re
import subprocess
import sys
import venv
from typing import TYPE_CHECKING

from kpipe import __version__
from tests.meta.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

CARRIED = {
    "completions/kpipe.bash": "share/bash-completion/completions/kpipe",
    "completions/_kpipe": "share/zsh/site-functions/_kpipe",
    "completions/kpipe.fish": "share/fish/vendor_completions.d/kpipe.fish",
    **{f"man/{page.name}": f"share/man/man1/{page.name}" for page in (ROOT / "man").glob("*.1")},
}


def test_an_installed_wheel_has_it_all(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (wheel,) = tmp_path.glob("*.whl")
    prefix = tmp_path / "env"
    venv.create(prefix, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--python", str(prefix / "bin" / "python")]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--quiet", str(wheel)], check=True, timeout=60)
    assert len(CARRIED) > 5
    assert {there: (prefix / there).read_bytes() for there in CARRIED.values()} == {
        there: (ROOT / here).read_bytes() for here, there in CARRIED.items()
    }
    (metadata,) = prefix.rglob("kpipe_cli-*/METADATA")
    links = re.findall(r"\]\(([^)]+)\)", metadata.read_text())
    assert len(links) > 10
    assert [link for link in links if not link.startswith("https://")] == []  # the index has no docs/
    done = subprocess.run(
        [prefix / "bin" / "kpipe", "--version"], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == f"kpipe {__version__}\n"
