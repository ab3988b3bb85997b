"""Shows what would be sent (`--dry-run`): each record before and after, as a diff or as a JSON line.

It never sends anything, and lets no record drive the terminal.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

import orjson

from kpipe.errors import BadRecord, KpipeError, Stage, visible
from kpipe.formats.envelope_output import EnvelopeEncoder
from kpipe.parts import SinkAtOnce
from kpipe.sinks.stdout import Stdout

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.flight import Flight
    from kpipe.parts import Sent
    from kpipe.record import Batch
    from kpipe.shutdown import Stop

MOST_LINES = 400
"""Lines of one record that a diff looks at; a difference costs quadratic time."""
WIDEST = 2000
"""Characters of one line that are shown."""


class Preview(SinkAtOnce):
    """A sink that writes to `write` instead of sending. `target` is the topic of records without one of their own.

    `enter` and `leave` are the first and the last stage: what left between them was filtered or bad.
    """

    prints = True

    def __init__(self, target: str, write: Callable[[bytes], None], *, terminal: bool, color: bool = True) -> None:
        self._target = target
        self._write = write
        self._encode = EnvelopeEncoder()
        self._show = self._diff if terminal else self._json
        self._color = color
        self._origin: Batch | None = None
        self._left: Batch | None = None
        self._encoded: deque[tuple[Batch, list[bytes], dict[int, int]]] = deque(maxlen=8)
        self._waiting: list[tuple[int, bytes]] = []

    def enter(self, batch: Batch) -> None:
        """Note the records as they were read."""
        self._origin = batch.snapshot()

    def leave(self, batch: Batch) -> None:
        """Remember what is left; who was filtered or bad is noted once it is known where the run ends."""
        self._left = batch

    def _note_left(self) -> None:
        batch, self._left = self._left, None
        if batch is None:
            return
        bad = {each.index: each.error for each in reversed(batch.bad)}
        kept = range(batch.read) if batch.index is None else batch.index
        for index in sorted(set(range(batch.read)).difference(kept, bad)):
            self.note(self._origin, index, None)
        for index, error in bad.items():
            self.note(self._origin, index, error)

    def note(self, origin: Batch | None, index: int, error: KpipeError | None) -> None:
        """A record that will not be sent: it was filtered, or is bad."""
        self._waiting.append((index, self._show(self._before(origin, index, error), None, error)))

    def _flush_notes(self) -> None:
        self._waiting.sort(key=lambda entry: entry[0])
        block = b"".join(text for _, text in self._waiting)
        self._waiting.clear()
        self._write(block)

    def send(self, batch: Batch, flight: Flight, idle: Callable[[], bool]) -> None:
        """Show the batch in the order it was read, and settle it."""
        self._note_left()
        index = range(len(batch)) if batch.index is None else batch.index
        lines = self._encode(batch).split(b"\n")
        for row, own in enumerate(index):
            before = self._before(flight.origin, own, None)
            after: dict[str, object] = orjson.loads(lines[row])
            target = (batch.targets[row] if batch.targets is not None else None) or self._target
            for name in ("topic", "partition", "offset"):
                after.pop(name, None)
            self._waiting.append((own, self._show(before, {"topic": target, **after}, None)))
        self._flush_notes()
        flight.settle_sent(batch)

    def _before(self, origin: Batch | None, index: int, error: KpipeError | None) -> dict[str, object]:
        """The record as it was read; of one that could not be decoded only its position is known."""
        if origin is None:
            return {}
        lines, rows = self._lines_of(origin)
        row = index if origin.index is None else rows.get(index)
        if row is None:
            return {"at": error.where if error is not None else ""}
        record: dict[str, object] = orjson.loads(lines[row])
        return record if origin.lines is None else {"at": origin.where(row), **record}

    def _lines_of(self, origin: Batch) -> tuple[list[bytes], dict[int, int]]:
        """Its records as envelopes, and the row of each place in the batch as read; made once for all of them."""
        for known, lines, rows in self._encoded:
            if known is origin:
                return lines, rows
        lines = self._encode(origin).split(b"\n")
        rows = {index: row for row, index in enumerate(origin.index or ())}
        self._encoded.append((origin, lines, rows))
        return lines, rows

    @staticmethod
    def _json(before: dict[str, object], after: dict[str, object] | None, error: KpipeError | None) -> bytes:
        outcome = "bad" if error is not None else "sent" if after is not None else "filtered"
        line: dict[str, object] = {"before": before, "after": after, "outcome": outcome}
        if error is not None:
            line["error"] = str(error)
        return orjson.dumps(line) + b"\n"

    def _diff(self, before: dict[str, object], after: dict[str, object] | None, error: KpipeError | None) -> bytes:
        from rich.style import Style

        names = ("red", "green", "dim", "bold") if self._color else ("none",) * 4
        red, green, dim, bold = map(Style.parse, names)
        where = before.get("at") or f"{before.get('topic')}[{before.get('partition')}]@{before.get('offset')}"
        if after is None:
            outcome = f"bad: {error}" if error is not None else "filtered"
            lines = [bold.render(visible(f"--- {where}  {outcome}"))]
            lines += [red.render(f"- {text}") for text in _lines(before)]
        else:
            lines = [bold.render(visible(f"--- {where}  -> {after['topic']}"))]
            for text in difflib.ndiff(_lines(before), _lines(after)):
                if text[:1] != "?":
                    style = {"-": red, "+": green}.get(text[:1], dim)
                    lines.append(style.render(text))
        return "\n".join([*lines, ""]).encode()

    def poll(self) -> None:
        """Show what was dropped, before or behind a filter."""
        self._note_left()
        if self._waiting:
            self._flush_notes()

    def explain(self, error: object, where: str, _record: Sent | None = None) -> KpipeError:
        """Nothing is sent, so nothing is refused."""
        return BadRecord(str(error), where=where, stage=Stage.SEND)

    def refused(self, error: object) -> bool:
        """Nothing is sent, so nothing is refused."""
        return True

    def flush(self, timeout: float) -> bool:
        """Show what is left to be shown."""
        self.poll()
        return True


def _lines(record: dict[str, object]) -> list[str]:
    """A record as lines for a diff: a field each, a JSON value spread out; every control character is escaped."""
    lines: list[str] = []
    for name, field in record.items():
        if name in ("topic", "partition", "offset", "at"):
            continue
        texts = [orjson.dumps(field).decode()]
        if name == "value" and isinstance(field, str) and field[:1] in ("{", "["):
            with suppress(orjson.JSONDecodeError, orjson.JSONEncodeError):  # not JSON, or too deep to be written
                texts = orjson.dumps(orjson.loads(field), option=orjson.OPT_INDENT_2).decode().splitlines()
        elif name == "headers" and isinstance(field, list):
            texts = [orjson.dumps(header).decode() for header in field]
        lines += [f"{name}: {visible(text)[:WIDEST]}" for text in texts[:MOST_LINES]]
    return lines


def open_preview(topic: str, stop: Stop) -> Preview:
    """To stdout: a diff on a terminal, and JSON lines otherwise."""
    stdout = Stdout()

    def write(block: bytes) -> None:
        stdout.write(block, lambda: not stop.forced)

    color = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Preview(topic, write, terminal=sys.stdout.isatty(), color=color)
