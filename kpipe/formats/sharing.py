"""What comes again in a stream of records and is not made anew: words, and whole headers, shared by all that have them.

It decides nothing: what is read is the same as without it. A new object costs more than the reading of it, above all
because thousands of records are kept until they are acknowledged, and memory that was not touched for a while is slow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from kpipe.record import Headers

Loader: TypeAlias = "Callable[[bytes], list[Any]]"

MOST_WORDS = 64
"""Topics, or names of headers, that are known by their type; with more of them each is read as the text it is."""
REMEMBERED = 1 << 18
"""Bytes of different headers, as they were written, that are kept to be shared."""


class FewWords:
    """Loads what holds the same few words again and again: a word that is known by the type is not made anew.

    `make` gives what loads words of a type, `words_of` those in what was loaded; both are asked for a new word only.
    """

    def __init__(self, make: Callable[[Any], Loader], words_of: Callable[[list[Any]], Iterable[str]]) -> None:
        self._make, self._words_of = make, words_of
        self._any = make(str)
        self._few: Loader | None = None
        self._seen: set[str] = set()

    def __call__(self, data: bytes) -> list[Any]:
        """What stands there; msgspec.DecodeError if that is something else."""
        if self._few is not None:
            try:
                return self._few(data)
            except msgspec.ValidationError:
                pass
        found = self._any(data)
        if len(self._seen) <= MOST_WORDS:
            self._seen.update(self._words_of(found))
            self._few = self._make(Literal[tuple(self._seen)]) if 0 < len(self._seen) <= MOST_WORDS else None
        return found


class SharedHeaders:
    """The headers of records by how they were written: one list for all that are the same. `read` makes them."""

    def __init__(self, read: Callable[[Collection[bytes]], list[Headers | None]]) -> None:
        self._read = read
        self._known: dict[bytes, Headers | None] = {}
        self._known_bytes = 0

    def __call__(self, texts: Sequence[bytes]) -> list[Headers | None]:
        """The headers of each record; raises what `read` raises."""
        known, new = self._known, set(texts).difference(self._known)
        if 2 * len(new) > len(texts):
            return self._read(texts)
        if new:
            self._known_bytes += sum(map(len, new))
            if self._known_bytes > REMEMBERED:
                known.clear()
                new = set(texts)
                self._known_bytes = sum(map(len, new))
            known.update(zip(new, self._read(new), strict=True))
        return [known[text] for text in texts]
