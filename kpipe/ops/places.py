"""Which clusters a looking command asks, and which names there: `[CLUSTER:][GLOB]…` becomes connections and patterns.

It connects to nothing yet.
"""

from __future__ import annotations

import difflib
import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from kpipe.clusters.address import place_name, split_addresses
from kpipe.errors import KpipeError, Stage, UsageError
from kpipe.kafka.connection import Connection
from kpipe.plan.places import read_profiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kpipe.clusters.profiles import Profiles
    from kpipe.options import ConnectionOptions


ALL = "*"
"""What a cluster without a pattern is asked for."""


class Asked(NamedTuple):
    """One cluster, and the patterns it is asked for; none means all."""

    connection: Connection
    patterns: list[str]


class Clusters:
    """The clusters of one command, each connected once."""

    def __init__(self, options: ConnectionOptions, say: Callable[[str], None]) -> None:
        self.profiles: Profiles = read_profiles(options)
        self._say = say
        for warning in self.profiles.warnings:
            say(warning)
        self._timeout = options.timeout
        self._open: dict[str, Connection] = {}

    def open(self, name: str | None) -> Connection:
        """The cluster of a name; None is the current one."""
        key = self.profiles.current if name is None else name
        if key not in self._open:
            cluster = self.profiles.resolve(name)
            for warning in cluster.warnings:
                self._say(warning)
            self._open[key] = Connection(cluster, self._timeout)
        return self._open[key]

    def every(self) -> list[Connection]:
        """All configured clusters, and the current one where somebody named it."""
        named = [self.open(name) for name in self.profiles.names]
        if self.profiles.current:
            return named
        current = self.open(None)
        return named if current.cluster.origins.get("bootstrap.servers") == "default" and named else [*named, current]

    def asked(self, texts: Sequence[str], *, free_names: bool = False) -> list[Asked]:
        """`[CLUSTER:][GLOB]…` by cluster. `free_names`: names may hold colons; a cluster is one that is configured."""
        wanted: dict[int, Asked] = {}
        for text in texts or [""]:
            name, pattern = self._split(text, free_names=free_names)
            connection = self.open(name)
            entry = wanted.setdefault(id(connection), Asked(connection, []))
            entry.patterns.append(pattern or ALL)
            check_pattern(pattern, text)
        return list(wanted.values())

    def one(self, text: str, *, free_names: bool = False) -> tuple[Connection, str]:
        """The cluster and the name of `[CLUSTER:]NAME`; UsageError without a name, which means everything elsewhere."""
        name, found = self._split(text, free_names=free_names)
        if not found:
            raise UsageError("the name is empty; write NAME or CLUSTER:NAME", where=repr(text))
        check_pattern(found, text)
        return self.open(name), found

    def _split(self, text: str, *, free_names: bool) -> tuple[str | None, str]:
        if (addressed := split_addresses(text)) is not None:
            return addressed
        name, colon, rest = text.partition(":")
        if not colon or text.startswith("^") or (free_names and name not in self.profiles.names):
            return None, text
        if not name:
            raise UsageError("the cluster's name before ':' is empty; leave the colon out", where=repr(text))
        return name, rest


def check_pattern(pattern: str, text: str) -> None:
    """UsageError for a `^regex` that is none."""
    if pattern.startswith("^"):
        try:
            re.compile(pattern)
        except re.error as error:
            raise UsageError(f"not a regular expression: {error}", where=repr(text)) from None


def is_pattern(text: str) -> bool:
    """Whether it stands for several names: `*`, `?`, `[…]` or `^regex`."""
    return text.startswith("^") or any(letter in text for letter in "*?[")


def matches(pattern: str, name: str) -> bool:
    """Whether a name is meant; Kafka's own (`__…`) only by a pattern that starts like them."""
    if pattern == name:
        return True
    if name.startswith("__") and not pattern.startswith(("__", "^__")):
        return False
    return bool(re.search(pattern, name)) if pattern.startswith("^") else fnmatchcase(name, pattern)


def choose(patterns: Iterable[str], known: Iterable[str], where: str, what: str) -> list[str]:
    """The names that are meant; KpipeError (exit 1) for a plain name that is not there, naming the nearest."""
    names = sorted(known)
    chosen: dict[str, None] = {}
    for pattern in patterns:
        if not is_pattern(pattern) and pattern not in names:
            raise unknown(pattern, names, where, what)
        chosen.update(dict.fromkeys(name for name in names if matches(pattern, name)))
    return list(chosen)


def unmatched(patterns: Iterable[str], known: Iterable[str]) -> list[str]:
    """The patterns that match none of the names."""
    names = list(known)
    return [pattern for pattern in patterns if not any(matches(pattern, name) for name in names)]


def unknown(name: str, known: Sequence[str], where: str, what: str) -> KpipeError:
    """The error for a name that the cluster does not have, or does not let us see."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else "check the name, the cluster, and whether you may see it"
    return KpipeError(f"no such {what}; {hint}", where=place_name(where, name), stage=Stage.READ)
