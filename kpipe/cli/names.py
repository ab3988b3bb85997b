"""Names of clusters, topics and properties for TAB, in well under a second.

Never asks for a secret: a cluster whose password comes from a command or a keyring is not connected to, and neither
is an address that only a file of the current directory gives.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kpipe.clusters.environment import given
from kpipe.clusters.profiles import Cluster, Flags, Profiles, load_profiles
from kpipe.clusters.project import PROJECT_FILE, current_folder
from kpipe.clusters.properties import ALL
from kpipe.clusters.secrets import SecretSource
from kpipe.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PATIENCE_S = 0.7
TOPIC = re.compile(r"[A-Za-z0-9._-]+")
ASKING = (SecretSource.COMMAND, SecretSource.KEYRING, SecretSource.PLUGIN)


def properties() -> list[str]:
    """The librdkafka properties that `-X` sets."""
    return sorted(ALL)


def clusters(values: Mapping[str, Sequence[str]]) -> list[str]:
    """The clusters of the configuration; `values` are the options typed so far, by parameter name."""
    return _profiles(values).names


def places(incomplete: str, values: Mapping[str, Sequence[str]]) -> list[str]:
    """`[cluster:]topic`: the topics of the current cluster and the other clusters' names, or the topics of one."""
    profiles = _profiles(values)
    name, colon, _ = incomplete.partition(":")
    if colon and "/" not in incomplete:
        return [f"{name}:{topic}" for topic in _topics(profiles.resolve(name))]
    named = [f"{other}:" for other in profiles.names]
    try:
        return named + _topics(profiles.resolve(None))
    except UsageError:
        return named


def groups(incomplete: str, values: Mapping[str, Sequence[str]]) -> list[str]:
    """`[cluster:]group`: as `places`, with the groups of a cluster in place of its topics."""
    return _of_cluster(incomplete, values, _groups)


def subjects(incomplete: str, values: Mapping[str, Sequence[str]]) -> list[str]:
    """`[cluster:]subject`: as `places`, with the subjects of a cluster's registry in place of its topics."""
    return _of_cluster(incomplete, values, _subjects)


def _of_cluster(
    incomplete: str, values: Mapping[str, Sequence[str]], find: Callable[[Cluster], list[str]]
) -> list[str]:
    profiles = _profiles(values)
    name, colon, _ = incomplete.partition(":")
    if colon and name in profiles.names:
        return [f"{name}:{found}" for found in find(profiles.resolve(name))]
    named = [f"{other}:" for other in profiles.names]
    try:
        return named + find(profiles.resolve(None))
    except UsageError:
        return named


def _profiles(values: Mapping[str, Sequence[str]]) -> Profiles:
    def last(name: str) -> str:
        return (values.get(name) or [""])[-1]

    flags = Flags(
        last("brokers"), last("cluster"), tuple(values.get("properties", ())), last("config_file"), last("config")
    )
    return load_profiles(flags, given(), current_folder())


def _may_ask(cluster: Cluster) -> bool:
    """Whether TAB may connect: not where a secret would be fetched, or a file of this directory names the address."""
    if cluster.token is not None or any(reference.source in ASKING for reference in cluster.references):
        return False
    return not cluster.origins.get("bootstrap.servers", "").startswith(f"{current_folder() / PROJECT_FILE}:")


def _subjects(cluster: Cluster) -> list[str]:
    """Subjects of the cluster's registry; nothing when it does not answer in time, or a secret would be fetched."""
    url = "schema.registry.url"
    if cluster.registry_references and any(each.source in ASKING for each in cluster.registry_references):
        return []
    if not cluster.registry.get(url) or cluster.origins.get(url, "").startswith(f"{current_folder() / PROJECT_FILE}:"):
        return []
    from kpipe.codecs.connect import open_registry
    from kpipe.errors import KpipeError

    try:
        registry = open_registry(
            cluster,
            where=cluster.name,
            patience=0,
            stopped=lambda: True,
            waiting=lambda _why: None,
            sleep=lambda _seconds: None,
            timeout=PATIENCE_S,
        )
        return registry.subjects() if registry is not None else []
    except KpipeError:
        return []


def _groups(cluster: Cluster) -> list[str]:
    """Names of consumer groups; nothing when the cluster does not answer in time."""
    if not _may_ask(cluster):
        return []
    from kpipe.kafka.client import admin_of
    from kpipe.kafka.groups import try_group_names

    return try_group_names(admin_of(cluster), PATIENCE_S)


def _topics(cluster: Cluster) -> list[str]:
    """Topic names, those of Kafka itself left out; nothing when the cluster does not answer in time."""
    if not _may_ask(cluster):
        return []
    from kpipe.kafka.client import admin_of
    from kpipe.kafka.metadata import try_metadata

    found = try_metadata(admin_of(cluster), PATIENCE_S)
    names = found.topics if found is not None else ()
    return sorted(name for name in names if TOPIC.fullmatch(name) and not name.startswith("__"))
