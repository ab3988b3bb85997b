"""The shapes in which jq programs answer: for one text, for several, and for a batch of records.

It holds no code: programs, expressions and what is made of them share these words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kpipe.errors import BadRecord
    from kpipe.record import Batch

JqAnswer: TypeAlias = "list[str | None] | str | None"
"""What jq says of one text: its results, or `number message` about what is wrong."""
Evaluator: TypeAlias = "Callable[[Sequence[bytes]], Iterable[JqAnswer]]"
"""The answers to several texts, in order."""

Rows: TypeAlias = "list[Sequence[bytes | None] | None]"
"""What a program says about each record: its results in order, or None (a fused program: filtered)."""
Evaluate: TypeAlias = "Callable[[Batch], tuple[Rows, dict[int, BadRecord]]]"
"""A row of results per record (None: filtered, or left alone), and the bad records by place."""
