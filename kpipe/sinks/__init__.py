"""Sinks: where records go (stdout, topics, a spill file); they report outcomes and never commit.

What consume can write to is a row in SINKS, and imported when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.record import Batch

STDOUT = "stdout"
SINKS = {
    STDOUT: ("stdout", "StdoutSink"),
}
"""What consume writes to: module and class, which takes the encoder of the output format.

A further row is a word of `--output` for what is no stream of bytes; its records are envelopes unless it encodes them.
"""
OUTPUTS = tuple(name for name in SINKS if name != STDOUT)


def open_sink(name: str, encode: Callable[[Batch], bytes]) -> Any:
    """The sink of that name; stdout for the name of a format."""
    module, class_name = SINKS.get(name, SINKS[STDOUT])
    return getattr(import_module(f"{__name__}.{module}"), class_name)(encode)
