"""What a unit has to know of the command line that it runs; refused here is what no unit can run well."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kpipe.clusters.secrets import holds_secret
from kpipe.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GRACE = 10.0
"""Seconds that a unit gives beyond the drain: exit, and a summary on a slow disk."""
PERMANENT = (2, 3, 5)
"""Exit codes that starting again does not cure: usage, bad data under `stop`, a difference. 4 may be an outage."""
RUNS = ("produce", "consume", "forward")


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A kpipe command line, checked. `drain` is in seconds, `buffer` in bytes; `writes` are folders it writes to."""

    arguments: tuple[str, ...]
    name: str
    bounded: bool
    group: str = ""
    sources: tuple[str, ...] = ()
    brokers: str = ""
    drain: float = 9.0
    buffer: int = 32 << 20
    workers: int = 1
    from_beginning: bool = True
    files: tuple[str, ...] = ()
    """Files that it reads and that must be there: configuration, transforms, schemas."""
    writes: tuple[str, ...] = ()
    credentials: Mapping[str, str] = field(default_factory=dict)
    repeats: bool = False
    """Whether it sends everything again when it is started again."""
    config: str = ""
    """The user's configuration that the line needs and does not name with --config."""

    @property
    def typed(self) -> str:
        """The command line as one types it."""
        return shlex.join(["kpipe", *self.arguments])

    @property
    def stop_seconds(self) -> int:
        """How long it may take to stop."""
        return int(self.drain + GRACE + 0.999)

    @property
    def memory(self) -> int:
        """Bytes it may take, each process: records in flight twice (ours, the client's), and 192 MiB for the rest."""
        return (self.buffer * 2 + (192 << 20)) * self.workers


def refuse_secrets(properties: Sequence[str]) -> None:
    """A literal secret in a unit would be read by everyone who may read units."""
    for text in properties:
        name, sign, _value = text.partition("=")
        name = re.sub(r"^(source|target)\.", "", name)
        if sign and holds_secret(name):
            raise UsageError(
                f'-X {name}: a secret has no place in a unit; write password_file = "…" into the configuration and '
                "hand the file over with --credential"
            )


def names_cluster(place: str) -> bool:
    """Whether a place is on a cluster that a configuration names, not on the current one or at addresses."""
    return re.match(r"[A-Za-z0-9][\w.-]*:", place) is not None and "/" not in place


def parse_credentials(texts: Sequence[str]) -> dict[str, str]:
    """`NAME=WHERE` pairs."""
    found: dict[str, str] = {}
    for text in texts:
        name, sign, where = text.partition("=")
        if not (sign and where and re.fullmatch(r"[A-Za-z0-9._-]+", name)):
            raise UsageError(f"--credential {text!r}: write NAME=PATH, or NAME=SECRET/KEY for k8s")
        found[name] = where
    return found


def unit_name(command: str, group: str, places: Sequence[str], given: str) -> str:
    """A name of letters, digits and dashes: the one given, or made of the command and its group or topic."""
    if given:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?", given):
            raise UsageError(f"--name {given!r}: small letters, digits and dashes, 52 at most")
        return given
    what = group or (places[0] if places else "")
    plain = re.sub(r"[^a-z0-9]+", "-", what.lower()).strip("-")
    return f"kpipe-{command}-{plain}"[:52].strip("-") if plain else f"kpipe-{command}"


def absolute(path: str) -> str:
    """A path as a unit needs it: from the root on."""
    return os.path.abspath(os.path.expanduser(path))
