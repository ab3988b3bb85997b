"""What the transforms of one chain are built with: shared documents, settings, and the outside as parameters.

Never opens a file or reads the environment itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kpipe.transform.document import Documents
from kpipe.transform.patterns import Patience

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kpipe.transform.results import Evaluator
    from kpipe.transform.step import Step


@dataclass(slots=True)
class Context:
    """`settings` are the steps that set something for others, by name, in the order given."""

    settings: dict[str, list[Step]]
    environ: Mapping[str, str]
    read_file: Callable[[str], bytes]
    documents: Documents = field(default_factory=Documents)
    patience: Patience = field(default_factory=Patience)
    run_apart: Callable[[str, Patience], Evaluator] | None = None
    """Runs a jq program where it can be ended; None: nowhere else than here."""

    def setting(self, name: str) -> Step | None:
        """The last one given."""
        return self.settings[name][-1] if name in self.settings else None


def setting(_step: Step, _context: Context) -> None:
    """Build nothing: another transform reads it."""
