"""Prints one JSON line per delivered record (`--report`): where the broker put it.

It prints only what a delivery report confirmed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from kpipe.errors import KpipeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.flight import DeliveryReport


class DeliveryLines:
    """Collects confirmed deliveries in the callbacks and writes them between polls: a callback must never raise."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._lines: list[bytes] = []
        self._broken = False

    def noting(self, report: DeliveryReport) -> Callable[[object | None, Any], None]:
        """The delivery report, which also notes where the record went."""
        lines = self._lines

        def note(error: object | None, message: Any) -> None:
            report(error, message)
            if error is None:
                place = {"topic": message.topic(), "partition": message.partition(), "offset": message.offset()}
                lines.append(orjson.dumps(place))

        return note

    def flush(self) -> None:
        """Write what was noted since the last call; raises once when nobody reads it, then keeps quiet."""
        if not self._lines:
            return
        block = b"\n".join([*self._lines, b""])
        self._lines.clear()
        if self._broken:
            return
        try:
            self._write(block)
        except KpipeError:
            self._broken = True
            raise
