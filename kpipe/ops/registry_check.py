"""The part of `kpipe check` that looks at a cluster's schema registry; it registers nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kpipe.codecs.connect import open_registry
from kpipe.errors import KpipeError, UsageError
from kpipe.kafka.client import label
from kpipe.kafka.diagnosis import Fault, Finding
from kpipe.units import counted

if TYPE_CHECKING:
    from kpipe.clusters.profiles import Cluster
    from kpipe.kafka.checkup import Checkup


def look_at_registry(checkup: Checkup, cluster: Cluster) -> None:
    """Whether the registry answers and lets us in; nothing where the cluster names none."""
    started = time.monotonic()
    try:
        registry = open_registry(
            cluster,
            where=label(cluster),
            patience=0,
            stopped=lambda: False,
            waiting=lambda _why: None,
            sleep=time.sleep,
        )
        if registry is None:
            return
        count = len(registry.subjects())
        registry.close()
    except KpipeError as error:
        what, _, advice = error.what.partition("; ")
        fault = Fault.CONFIGURATION if isinstance(error, UsageError) else Fault.SILENT
        if "refuses the login" in what:
            fault = Fault.CREDENTIALS
        checkup.failed("registry", Finding(fault, f"{error.where}: {what}", advice or "check schema.registry.url"))
        return
    checkup.passed(
        "registry", f"{registry.where} answers, with {counted(count, 'subject')}", time.monotonic() - started
    )
