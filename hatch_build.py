"""The README as the package index shows it: its links lead to the repository, for the index has none of the files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

INSIDE = re.compile(r"\]\((?!https?:|#)([^)]+)\)")


class Readme(MetadataHookInterface):
    """What hatchling looks for in this file."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Give `metadata` its readme."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        there = f"{metadata['urls']['Source']}/blob/HEAD/"
        metadata["readme"] = {"content-type": "text/markdown", "text": INSIDE.sub(rf"]({there}\1)", text)}
