"""What docs/schemas.md shows is what happens: its sessions are run, with a registry and an embedded broker."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.meta.conftest import ROOT
from tests.meta.test_readme import BLOCK, MARK

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Kpipe


def test_sessions_print_what_they_show(kpipe: Kpipe, tmp_path: Path, fake_registry) -> None:
    text = (ROOT / "docs" / "schemas.md").read_text()
    session = []
    for kind, block in BLOCK.findall(text):
        if kind == "console":
            for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                line, _, printed = part.partition("\n")
                session.append((line, printed))
    opening = re.search(r"`kpipe (broker [^`]*) -- sh`", text)
    assert opening is not None
    script = tmp_path / "session.sh"
    script.write_text("".join(f"{line}\necho '{MARK}'\n" for line, _ in session))
    environment = {"KPIPE_SCHEMA_REGISTRY_URL": fake_registry().url}
    result = kpipe(*opening[1].split(), "--", "sh", "-c", f"exec 2>&1; . {script}", env=environment, timeout=120)
    printed = result.out.decode().split(f"{MARK}\n")[:-1]
    assert list(zip([line for line, _ in session], printed, strict=True)) == session
    assert result.err == ""
