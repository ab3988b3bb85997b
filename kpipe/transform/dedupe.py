"""Drops records whose identity was seen among the last N identities.

Never grows beyond its window, and never takes a record that is read again, after a rewind, for a duplicate of itself.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.record import Batch
    from kpipe.transform.context import Context
    from kpipe.transform.results import Evaluate
    from kpipe.transform.step import TransformStage

DEFAULT_WINDOW = 100_000

Origin: TypeAlias = tuple[str | None, int | None, int | None] | None
"""Topic, partition and offset in the cluster a record was read from; None for lines, which are read once."""


class Window:
    """The last `size` identities, the longest unseen first; 16 bytes of each and where it was first seen."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._seen: dict[bytes, Origin] = {}

    def admit(self, identity: bytes, origin: Origin) -> bool:
        """Remember `identity`, and say whether it is new or came from `origin` the first time, too."""
        digest = blake2b(identity, digest_size=16).digest()
        new = digest not in self._seen
        first = self._seen.pop(digest, origin)
        self._seen[digest] = first
        if len(self._seen) > self._size:
            del self._seen[next(iter(self._seen))]
        return new or (origin is not None and first == origin)


def dedupe_stage(context: Context) -> Callable[[Evaluate], TransformStage]:
    """How to make the stage of a `--dedupe` from its evaluation, with the window of the chain."""
    setting = context.setting("dedupe-window")
    size = DEFAULT_WINDOW
    if setting is not None:
        if not (setting.text.isdecimal() and int(setting.text) > 0):
            raise setting.usage("not a number of identities; write a positive integer, for example 100000")
        size = int(setting.text)

    def make(evaluate: Evaluate) -> TransformStage:
        window = Window(size)

        def stage(batch: Batch) -> None:
            rows, bad = evaluate(batch)
            rows = [row for place, row in enumerate(rows) if place not in bad]
            batch.reject(bad)
            identities = [row[0] if row else None for row in rows]
            batch.keep(_mask(identities, batch, window))

        return stage

    return make


def _mask(identities: list[bytes | None], batch: Batch, window: Window) -> list[bool]:
    """Within one batch an identity comes once, also when a split made both records from one."""
    here: set[bytes] = set()
    mask: list[bool] = []
    for identity, origin in zip(identities, _origins(batch), strict=True):
        keep = identity is None or (window.admit(identity, origin) and identity not in here)
        if identity is not None:
            here.add(identity)
        mask.append(keep)
    return mask


def _origins(batch: Batch) -> list[Origin]:
    if batch.lines is not None or batch.topics is None or batch.partitions is None or batch.offsets is None:
        return [None] * len(batch)
    return list(zip(batch.topics, batch.partitions, batch.offsets, strict=True))
