"""`kpipe groups --metrics PORT`: looks at the groups again and again, and serves what it saw last."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NoReturn, Protocol

from kpipe.cli import tell
from kpipe.errors import KpipeError
from kpipe.ops.exporter import Exporter
from kpipe.run.serve import Answer, metrics_page, serve

if TYPE_CHECKING:
    from collections.abc import Iterable

EVERY = 30.0
"""Seconds between looks, where --watch says nothing."""


class Groups(Protocol):
    """The groups of a command, to be looked at again."""

    @property
    def labels(self) -> Iterable[str]:
        """How their clusters are called."""

    def show_in(self, exporter: Exporter) -> str:
        """Look, and show what was found; what went wrong, empty when nothing did."""


def export(view: Groups, address: str, every: float) -> NoReturn:
    """Until a signal; a look that fails is told once, and the one before vanishes: it would be a guess by then."""
    exporter = Exporter()
    looked = [time.monotonic()]

    def alive(_headers: object) -> Answer:
        still = time.monotonic() - looked[0]
        good = still < 3 * every + 60
        return Answer(200 if good else 503, f"last look {still:.0f} s ago\n".encode())

    pages = {"/metrics": metrics_page(exporter), "/healthz": alive, "/readyz": alive}
    where = serve(address, pages)
    tell(f"metrics: http://{where}/metrics")
    told = ""
    while True:
        began = time.monotonic()
        try:
            problem = view.show_in(exporter)
        except KpipeError as error:
            problem = str(error)
            exporter.show([], {}, {label: (time.monotonic() - began, 1) for label in view.labels})
        if problem and problem != told:
            tell(problem)
        told = problem
        looked[0] = time.monotonic()
        time.sleep(max(0.0, every - (time.monotonic() - began)))
