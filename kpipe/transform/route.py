"""Chooses the target topic of a record: from its content within what is allowed, or from the name of its source.

Never lets the content of a record choose a topic, or a cluster, that the command line did not allow. What it writes
among a batch's targets is `TOPIC`, on the target's cluster, or `CLUSTER:TOPIC`: no topic's name holds a colon.
"""

from __future__ import annotations

import re
from fnmatch import translate
from functools import lru_cache
from typing import TYPE_CHECKING

from kpipe.record import split_target
from kpipe.transform.patterns import LIMIT, TOO_SLOW, TookTooLong, run_within
from kpipe.transform.regex import compile_bytes, compile_replacement
from kpipe.transform.step import reject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kpipe.record import Batch
    from kpipe.transform.context import Context
    from kpipe.transform.step import Step, TransformStage

_LEGAL = re.compile(r"(?!\.{1,2}$)[a-zA-Z0-9._-]{1,249}")
_CLUSTER = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]*")
ALLOW, ROUTE = "route-allow", "route"


class Router:
    """Writes the results of a `--route` into the targets of a batch."""

    def __init__(self, step: Step, context: Context) -> None:
        allowed = context.settings.get(ALLOW, [])
        if not allowed:
            raise step.usage('no topic is allowed yet; add --route-allow GLOB, for example --route-allow "orders-*"')
        globs = [(cluster, re.compile(translate(glob))) for cluster, glob in map(_allowed_place, allowed)]
        shown = ", ".join(setting.text for setting in allowed)

        @lru_cache(maxsize=1024)
        def refusal(place: str) -> str | None:
            cluster, topic = split_target(place)
            if not any(cluster == its and glob.match(topic) for its, glob in globs):
                return f"topic {place[:250]!r} is not allowed (--route-allow {shown}); allow it or change the route"
            return why_illegal(topic)

        self._refusal = refusal

    def write(self, batch: Batch, column: Sequence[bytes | None]) -> dict[int, str]:
        """Targets from names; None leaves a target as it is."""
        old = _targets(batch)
        names = [None if name is None else name.decode() for name in column]
        batch.targets = [before if name is None else name for before, name in zip(old, names, strict=True)]
        refusals = {place: self._refusal(name) for place, name in enumerate(names) if name is not None}
        return {place: why for place, why in refusals.items() if why is not None}


def rename_topic(step: Step, _context: Context) -> TransformStage:
    """`--rename-topic REGEX=REPL`: the source topic, or what a route chose, with the first match replaced.

    A topic that does not match leaves the target as it is; the cluster that a route chose stays.
    """
    regex, sign, text = step.text.rpartition("=")  # a topic cannot hold "=", a regex can
    if not sign or not regex:
        raise step.usage(r'no REGEX and "="; write REGEX=REPL, for example --rename-topic "^(.*)$=copy.\1"')
    pattern = compile_bytes(step, regex)
    replacement = compile_replacement(step, text, pattern)

    @lru_cache(maxsize=1024)
    def rename(topic: str) -> tuple[str | None, str | None]:
        """The target (None: as it is) and what is wrong with it."""
        try:
            renamed, matches = run_within(LIMIT, lambda: pattern.subn(replacement, topic.encode(), count=1))
        except TookTooLong:
            return None, TOO_SLOW
        name = renamed.decode(errors="replace")
        return (name, why_illegal(name)) if matches else (None, None)

    def stage(batch: Batch) -> None:
        targets = _targets(batch)
        topics = batch.topics or [None] * len(batch)
        reasons: dict[int, str] = {}
        chosen: list[str | None] = []
        for place, (target, topic) in enumerate(zip(targets, topics, strict=True)):
            cluster, name = (None, topic) if target is None else split_target(target)
            new, wrong = (None, "it has no source topic to rename") if name is None else rename(name)
            renamed = new if new is None or cluster is None else f"{cluster}:{new}"
            chosen.append(target if renamed is None else renamed)
            if wrong is not None:
                reasons[place] = wrong
        batch.targets = chosen
        reject(batch, step, reasons)

    return stage


def clusters_in(steps: Sequence[Step]) -> list[str]:
    """The clusters that routes may choose beside the target's, in the order given; none without a `--route`."""
    if not any(step.name == ROUTE for step in steps):
        return []
    places = [_allowed_place(step) for step in steps if step.name == ALLOW]
    return list(dict.fromkeys(cluster for cluster, _ in places if cluster is not None))


def _allowed_place(setting: Step) -> tuple[str | None, str]:
    """The cluster (None: the target's) and the glob of a `--route-allow`; UsageError for a cluster that is no name."""
    cluster, glob = split_target(setting.text)
    if cluster is not None and not _CLUSTER.fullmatch(cluster):
        raise setting.usage(f"{cluster!r} cannot name a cluster; write CLUSTER:GLOB, a glob stands for topics only")
    return cluster, glob


def why_illegal(topic: str) -> str | None:
    """What keeps `topic` from being the name of a topic: Kafka takes 1 to 249 of these characters."""
    if _LEGAL.fullmatch(topic):
        return None
    return f"{topic[:250]!r} is no topic name; names are 1 to 249 of a-z A-Z 0-9 . _ -"


def _targets(batch: Batch) -> Sequence[str | None]:
    return [None] * len(batch) if batch.targets is None else batch.targets
