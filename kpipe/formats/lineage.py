"""Reads the trace in a record's headers: which of them are a trace, and what the next hop makes of them.

It changes no record. Everything that looks at a trace asks here, so that all understand its three forms: the short one,
the one that tells everything at every hop (`--trace full`), and Karafka's, which knows no cluster.
"""

from __future__ import annotations

from itertools import compress
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kpipe.record import Headers

Header: TypeAlias = tuple[str, bytes | None]

FIELDS = ("topic", "partition", "offset", "consumer_group", "cluster", "timestamp", "host", "file", "line")
HOPS = "trace_hops"
NUMBERS = ("partition", "offset", "line")
SHAPES = 4096
"""Sequences of header names that are remembered; the records of a topic have few."""
SECOND_HOP = 2
_name, _value = itemgetter(0), itemgetter(1)


class Shape(NamedTuple):
    """What the names of a record's headers tell, whatever their values; places count from 0, the last of a name's."""

    traced: bool
    moved: tuple[str, ...] = ()
    """The names that a first hop's headers have behind the next one."""
    counts: tuple[int, ...] = ()
    """Where hops are counted, the last first."""
    source: tuple[int, ...] = ()
    origin: tuple[int, ...] = ()
    numbers: tuple[int, ...] = ()
    """The places of `source` that hold a number when a hop wrote them; () when one is missing."""
    origin_numbers: tuple[int, ...] = ()
    homes: tuple[tuple[str, int, int], ...] = ()
    """(what it is, cluster, topic) where a record has been."""
    rest: tuple[tuple[str, int], ...] = ()
    """What is no trace (name, place), when all of `certain` hold the numbers that a hop writes."""
    certain: tuple[int, ...] = ()


class TraceNames:
    """The names of trace headers behind `prefix`, and what they say in a record's headers."""

    def __init__(self, prefix: str = "") -> None:
        self.source = {field: f"{prefix}source_{field}" for field in FIELDS}
        self.origin = {field: f"{prefix}origin_{field}" for field in FIELDS}
        self.hops = prefix + HOPS
        self.all = frozenset((*self.source.values(), *self.origin.values(), self.hops))
        self._moved = dict(zip(self.source.values(), self.origin.values(), strict=True))
        self._shapes: dict[tuple[str, ...], Shape] = {}

    def shape_of(self, headers: Headers) -> Shape:
        """What the names tell. Kept for the next record: looking each name up again costs 1 us a record."""
        names = tuple(map(_name, headers))
        return self._shapes.get(names) or self._learn(names)

    def carry_on(self, headers: Headers, shape: Shape) -> tuple[Headers, int]:
        """What a further hop keeps of a record's headers, and the hops made so far (0: nothing was traced).

        The first hop's `source_*` become `origin_*` in their place, byte for byte, duplicates included. Once the hops
        are counted there is an origin, and the last hop's `source_*` make room for those to come. Headers that only
        have such a name (an application's own) count as a first hop: none of them vanishes.
        """
        if not shape.traced:
            return headers, 0
        kept = list(zip(shape.moved, map(_value, headers), strict=False))  # strict costs 170 ns
        counted, hops = _count(headers, shape)
        if counted is None:
            return kept, 1 if shape.source else 0
        leaving = {counted}
        if shape.origin and _is_place(headers, shape.numbers):
            leaving.update(shape.source)
        return list(compress(kept, [place not in leaving for place in range(len(kept))])), hops

    def been_at(self, headers: Headers, shape: Shape, cluster: bytes, topic: bytes) -> str:
        """`origin` or `previous source` when the record was made from one of this topic, else empty."""
        for kind, cluster_at, topic_at in shape.homes:
            if headers[topic_at][1] == topic and headers[cluster_at][1] == cluster:
                return kind
        return ""

    def without_trace(self, headers: Headers) -> Headers:
        """The headers by which a copy is compared with its original: those of a trace are left out.

        What only has such a name counts, under the name that the copy has it by.
        """
        shape = self.shape_of(headers)
        if not shape.traced:
            return headers
        if is_certain(headers, shape):
            return [(name, headers[place][1]) for name, place in shape.rest]
        return self._strip(headers, shape)

    def _strip(self, headers: Headers, shape: Shape) -> Headers:
        # What a further hop would keep, so that a copy and its original are looked at alike, and no origin in it.
        rest, _ = self.carry_on(headers, shape)
        while True:
            shape = self.shape_of(rest)
            if not _is_place(rest, shape.origin_numbers):
                return rest
            rest = [header for place, header in enumerate(rest) if place not in shape.origin]

    def added_by_hop(self, headers: Headers) -> int:
        """How many bytes of these headers the last hop has added; from the third on it replaces as much as it adds."""
        shape = self.shape_of(headers)
        counted, hops = _count(headers, shape)
        if not shape.traced or hops > SECOND_HOP:
            return 0
        own = {*shape.source, *(shape.origin if hops == 1 else ())} | ({counted} if counted is not None else set())
        return sum(len(headers[place][0].encode()) + len(headers[place][1] or b"") + 2 for place in own)

    def as_origin(self, source: Headers) -> Headers:
        """A hop's `source_*` as those of the first one; who read it is not told twice."""
        group = self.source["consumer_group"]
        return [(self._moved[name], value) for name, value in source if name != group]

    def _learn(self, names: tuple[str, ...]) -> Shape:
        if len(self._shapes) >= SHAPES:
            self._shapes.clear()
        last = {name: place for place, name in enumerate(names)}
        found = Shape(traced=False)
        if not self.all.isdisjoint(last):
            source, origin = _hop(self.source, names, last), _hop(self.origin, names, last)
            # A record that made one hop has its origin for a source.
            previous = "previous source" if origin or not _numbers(self.source, source) else "origin"
            found = Shape(
                traced=True,
                moved=tuple(self._moved.get(name, name) for name in names),
                counts=tuple(place for place in range(len(names) - 1, -1, -1) if names[place] == self.hops),
                source=tuple(source.values()),
                origin=tuple(origin.values()),
                numbers=_numbers(self.source, source),
                origin_numbers=_numbers(self.origin, origin),
                homes=tuple(
                    (kind, last[names["cluster"]], last[names["topic"]])
                    for kind, names in (("origin", self.origin), (previous, self.source))
                    if names["cluster"] in last and names["topic"] in last
                ),
            )
        self._shapes[names] = found
        if not found.traced:
            found = self._shapes[names] = found._replace(rest=tuple((name, at) for at, name in enumerate(names)))
            return found
        # As if every value were a number: its own place, by which to see what is left and where that stood.
        numbered: Headers = [(name, b"%d" % (place + 1)) for place, name in enumerate(names)]
        rest = tuple((name, int(value or b"") - 1) for name, value in self._strip(numbered, found))
        leaving = set(range(len(names))).difference(place for _, place in rest)
        counted = {self.hops, *(side[field] for side in (self.source, self.origin) for field in NUMBERS)}
        certain = tuple(place for place in sorted(leaving) if names[place] in counted)
        self._shapes[names] = found = found._replace(rest=rest, certain=certain)
        return found


def is_certain(headers: Headers, shape: Shape) -> bool:
    """Whether `shape.rest` is what is no trace; else each value has to be looked at."""
    for place in shape.certain:
        value = headers[place][1]
        if value is None or not value.isdigit() or len(value) >= 20:
            return False
        if place in shape.counts and (len(value) >= 10 or not int(value)):
            return False
    return True


def _hop(names: Mapping[str, str], found: Sequence[str], last: Mapping[str, int]) -> dict[str, int]:
    """The headers of one hop by name, with their places.

    A hop writes them in a row that begins with the topic (or the host); where other programs have changed the order, it
    is the last header of each name.
    """
    own = frozenset(names.values())
    row: dict[str, int] = {}
    for place in range(last.get(names["topic"], last.get(names["host"], len(found))), len(found)):
        if found[place] not in own or found[place] in row:
            break
        row[found[place]] = place
    return row if _numbers(names, row) else {name: last[name] for name in names.values() if name in last}


def _numbers(names: Mapping[str, str], hop: Mapping[str, int]) -> tuple[int, ...]:
    """Where a hop wrote numbers: which record of a topic it read, or which line of a file; () when one is missing."""
    wanted = ("topic", "partition", "offset") if names["topic"] in hop else ("file", "line")
    if any(names[field] not in hop for field in wanted):
        return ()
    return tuple(hop[names[field]] for field in wanted[1:])


def _is_place(headers: Headers, numbers: Sequence[int]) -> bool:
    """Whether these headers tell a place that was read, as a hop writes it."""
    return bool(numbers) and all(_number(headers[place][1]) is not None for place in numbers)


def _count(headers: Headers, shape: Shape) -> tuple[int | None, int]:
    """Where the hops are counted, and how many they are; a value that is no number was not written by a hop."""
    for place in shape.counts:
        value = headers[place][1]
        if value is not None and len(value) < 10 and (hops := _number(value)):
            return place, hops
    return None, 0


def _number(value: bytes | None) -> int | None:
    """A decimal number as kpipe and Karafka write it, None for anything else."""
    return int(value) if value is not None and value.isdigit() and len(value) < 20 else None
