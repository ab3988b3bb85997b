"""How the embedded broker says that it cannot serve.

It never blames a record: no record has been read when one of these is raised.
"""

from __future__ import annotations

from kpipe.errors import KpipeError


class BrokerError(KpipeError):
    """The embedded broker cannot start or refuses to; exit code 1."""

    def __str__(self) -> str:
        return ": ".join(part for part in ("broker", self.where, self.what) if part)
