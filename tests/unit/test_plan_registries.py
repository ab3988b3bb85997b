"""Whether two clusters share a schema registry, as far as their addresses tell."""

from __future__ import annotations

import pytest

from kpipe.clusters.profiles import Cluster
from kpipe.errors import UsageError
from kpipe.options import ForwardOptions
from kpipe.plan.encoding import check_further_registries, check_registries


def cluster(url: str) -> Cluster:
    return Cluster("c", {"bootstrap.servers": "b:9092"}, registry={"schema.registry.url": url} if url else {})


TARGET = "https://one:8081,https://two:8081"
SAME = ("https://one:8081", "https://two:8081/", "https://user:secret@one:8081", "HTTPS://ONE:8081", TARGET)
OTHERS = ("https://three:8081", "http://one:8081", "")


@pytest.mark.parametrize("url", SAME)
def test_one_registry_is_told_however_it_is_written(url: str) -> None:
    check_further_registries(cluster(TARGET), [cluster(url)])
    with pytest.raises(UsageError, match="one registry serves both clusters"):
        check_registries(ForwardOptions(translate_schemas="lookup"), cluster(TARGET), cluster(url))


@pytest.mark.parametrize("url", OTHERS)
def test_ids_go_to_no_cluster_with_another_registry(url: str) -> None:
    with pytest.raises(UsageError, match="a further target has another registry"):
        check_further_registries(cluster(TARGET), [cluster(TARGET), cluster(url)])


def test_translation_needs_a_registry_at_both_ends() -> None:
    wanted = ForwardOptions(translate_schemas="lookup")
    check_registries(wanted, cluster(TARGET), cluster("https://three:8081"))
    check_registries(ForwardOptions(), cluster(""), cluster(""))
    for ends, side in ((("", TARGET), "source"), ((TARGET, ""), "target")):
        with pytest.raises(UsageError, match=f"the {side} cluster names no registry"):
            check_registries(wanted, *map(cluster, ends))
