"""Places named on the command line become clusters and topics.

It reads configuration and connects to nothing.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from kpipe.clusters.address import Place, check_cluster_name, parse_place, parse_target
from kpipe.clusters.environment import given, hide
from kpipe.clusters.profiles import Cluster, Flags, Profiles, Role, load_profiles
from kpipe.clusters.project import current_folder
from kpipe.errors import UsageError
from kpipe.options import check_choice

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kpipe.options import ConnectionOptions


def read_profiles(options: ConnectionOptions) -> Profiles:
    """The profiles in force; no child and no jq program sees the variables that they name as secrets from now on.

    A value that came from KPIPE_BROKERS is left to the environment's place in the order.
    """
    brokers = "" if options.brokers == os.environ.get("KPIPE_BROKERS") else options.brokers
    flags = Flags(brokers, options.cluster, tuple(options.properties), options.config_file, options.config)
    profiles = load_profiles(flags, given(), current_folder())
    hide([*profiles.secret_variables, *_addresses_with_login()])
    return profiles


def _addresses_with_login() -> list[str]:
    """The variable of the registry's address, where a login stands in it."""
    name = "KPIPE_SCHEMA_REGISTRY_URL"
    return [name] if "@" in given().get(name, "") else []


def hide_configured_secrets() -> None:
    """For a command that uses no cluster of the configuration: what it starts is still not to see those secrets."""
    with suppress(UsageError):  # a broken file is told by the commands that need it
        hide([*load_profiles(Flags(), given(), current_folder()).secret_variables, *_addresses_with_login()])


def source_places(texts: Sequence[str]) -> tuple[str | None, list[str]]:
    """The one cluster and the topics of SOURCE…; UsageError when the places are on different clusters."""
    places = [parse_place(text) for text in texts]
    for place in places:
        if place.is_stdio:
            raise UsageError("'-' is stdin; use kpipe produce to send stdin to a topic")
    clusters = {place.cluster for place in places}
    if len(clusters) > 1:
        names = ", ".join(sorted(name or "the current cluster" for name in clusters))
        raise UsageError(f"the sources are on different clusters ({names}); run one kpipe for each")
    return places[0].cluster, [place.topic for place in places]


def target_place(text: str) -> Place:
    """The one topic to write to."""
    place = parse_target(text)
    if place.is_stdio:
        raise UsageError("'-' is stdout; use kpipe consume to print records")
    return place


def split_home(places: Sequence[str]) -> tuple[list[str], str | None]:
    """The dead-letter topics and the home cluster's name: `DLQ… [CLUSTER:]`, else the cluster of the dead letters."""
    if places[-1].endswith(":") and len(places[-1]) > 1:
        if len(places) < 2:
            raise UsageError("--to-origin: the dead-letter topic is missing: kpipe forward DLQ CLUSTER: --to-origin")
        return list(places[:-1]), check_cluster_name(places[-1][:-1], where=repr(places[-1]))
    return list(places), None


def also_places(texts: Sequence[str], main: Place) -> list[Place]:
    """The places of `--also`; each is named once, and none is the target itself."""
    places = [target_place(text) for text in texts]
    for number, place in enumerate(places):
        if place == main or place in places[:number]:
            raise UsageError(f"--also {texts[number]}: records go there already; name another topic")
    return places


def also_sides(places: Sequence[Place]) -> list[tuple[str | None, Role]]:
    """The clusters of `--also`, to be resolved with the other places."""
    return [(place.cluster, "target") for place in places]


def open_profiles(
    profiles: Profiles, places: Sequence[tuple[str | None, Role]], warn: Callable[[str], None]
) -> list[Cluster]:
    """The clusters of the places, in order; a flag that no place can use is refused.

    What is wrong but works (a secret on the command line) is said at once, also when nothing comes of the run.
    """
    for warning in profiles.warnings:
        warn(warning)
    profiles.adopt(name for name, _ in places)
    profiles.refuse_unused(places)
    clusters = [profiles.resolve(name, side) for name, side in places]
    for warning in dict.fromkeys(warning for cluster in clusters for warning in cluster.warnings):
        warn(warning)
    return clusters


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
