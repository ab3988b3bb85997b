"""`--on-error stop|skip|dlq:[cluster:]topic`: what a record that failed does.

It opens nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kpipe.clusters.address import Place, parse_target
from kpipe.errors import UsageError
from kpipe.options import check_choice

if TYPE_CHECKING:
    from kpipe.clusters.profiles import Role


class Policy(NamedTuple):
    """`stop` the run, `skip` the record, or send it to the dead letters' place (`name` is skip then, too)."""

    name: str
    letters: Place | None = None

    @property
    def places(self) -> list[tuple[str | None, Role]]:
        """The cluster of the dead letters, if there are any, to be resolved with the other places."""
        return [] if self.letters is None else [(self.letters.cluster, "target")]


def parse_policy(text: str) -> Policy:
    """`stop`, `skip` or `dlq:[cluster:]topic`."""
    word, colon, rest = text.partition(":")
    if word != "dlq":
        return Policy(check_choice("--on-error", text, ("stop", "skip", "dlq:TOPIC")))
    if not colon or not rest:
        raise UsageError("--on-error dlq: the topic is missing; write dlq:TOPIC or dlq:CLUSTER:TOPIC")
    place = parse_target(rest)
    if place.is_stdio:
        raise UsageError("--on-error dlq:-: dead letters go to a topic; name one")
    return Policy("skip", place)
