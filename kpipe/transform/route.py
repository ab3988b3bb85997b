"""Chooses the target topic of a record: from its content within what is allowed, or from the name of its source.

Never lets the content of a record choose a topic that the command line did not allow.
"""

from __future__ import annotations

import re
from fnmatch import translate
from functools import lru_cache
from typing import TYPE_CHECKING

from kpipe.patterns import LIMIT, TOO_SLOW, TookTooLong, run_within
from kpipe.transform.regex import compile_bytes, compile_replacement
from kpipe.transform.step import reject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kpipe.record import Batch
    from kpipe.transform.context import Context
    from kpipe.transform.step import Stage, Step

_LEGAL = re.compile(r"(?!\.{1,2}$)[a-zA-Z0-9._-]{1,249}")


class Router:
    """Writes the results of a `--route` into the targets of a batch."""

    def __init__(self, step: Step, context: Context) -> None:
        allowed = context.settings.get("route-allow", [])
        if not allowed:
            raise step.usage('no topic is allowed yet; add --route-allow GLOB, for example --route-allow "orders-*"')
        globs = [re.compile(translate(setting.text)) for setting in allowed]
        shown = ", ".join(setting.text for setting in allowed)

        @lru_cache(maxsize=1024)
        def refusal(topic: str) -> str | None:
            if not any(glob.match(topic) for glob in globs):
                return f"topic {topic[:250]!r} is not allowed (--route-allow {shown}); allow it or change the route"
            return why_illegal(topic)

        self._refusal = refusal

    def write(self, batch: Batch, column: Sequence[bytes | None]) -> dict[int, str]:
        """Targets from names; None leaves a target as it is."""
        old = _targets(batch)
        names = [None if name is None else name.decode() for name in column]
        batch.targets = [before if name is None else name for before, name in zip(old, names, strict=True)]
        refusals = {place: self._refusal(name) for place, name in enumerate(names) if name is not None}
        return {place: why for place, why in refusals.items() if why is not None}


def rename_topic(step: Step, _context: Context) -> Stage:
    """`--rename-topic REGEX=REPL`: the source topic, or what a route chose, with the first match replaced.

    A topic that does not match leaves the target as it is.
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
            name = topic if target is None else target
            new, wrong = (None, "it has no source topic to rename") if name is None else rename(name)
            chosen.append(target if new is None else new)
            if wrong is not None:
                reasons[place] = wrong
        batch.targets = chosen
        reject(batch, step, reasons)

    return stage


def why_illegal(topic: str) -> str | None:
    """What keeps `topic` from being the name of a topic: Kafka takes 1 to 249 of these characters."""
    if _LEGAL.fullmatch(topic):
        return None
    return f"{topic[:250]!r} is no topic name; names are 1 to 249 of a-z A-Z 0-9 . _ -"


def _targets(batch: Batch) -> Sequence[str | None]:
    return [None] * len(batch) if batch.targets is None else batch.targets
