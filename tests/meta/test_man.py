"""The manual pages are well-formed, by the tool that knows."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from kpipe.cli.manual import roff
from tests.meta.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("path", sorted((ROOT / "man").glob("*.1")), ids=lambda path: path.name)
def test_mandoc_finds_nothing(path: Path) -> None:
    if shutil.which("mandoc") is None:
        pytest.skip("mandoc is not installed; .ci/run installs it")
    done = subprocess.run(["mandoc", "-Tlint", path], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("text", "set_text"),
    [(".PP", r"\&.PP"), ("'x", r"\&\(aqx"), ("a\\n", r"a\en"), ("--input", r"\-\-input"), ("^a~", r"\(haa\(ti")],
)
def test_text_is_never_a_request(text: str, set_text: str) -> None:
    assert roff(text) == set_text
