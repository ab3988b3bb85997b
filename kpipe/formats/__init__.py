"""Formats: bytes <-> records, pure; one file per format, both directions in it.

Nothing here reads or writes a file. A format is named in DECODERS and ENCODERS, and imported when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from kpipe.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kpipe.record import Batch


class Decoder(Protocol):
    """Takes the blocks of one file, gives the records in them; a bad record is in `Batch.bad`, with its position."""

    @property
    def pending(self) -> int:
        """Bytes of the unfinished record held now; a signal reports them instead of calling `finish`."""

    def feed(self, block: bytes) -> Batch:
        """Return the records that `block` completes; there may be none."""

    def finish(self) -> Batch:
        """End of input: what is left is a record, or a bad one."""


class Encoder(Protocol):
    """Gives the bytes of a batch as one block."""

    def __call__(self, batch: Batch) -> bytes:
        """Return the batch as one block."""


DECODERS = {
    "lines": ("lines", "LineDecoder"),
    "json": ("envelope", "EnvelopeDecoder"),
    "binary": ("binary", "BinaryDecoder"),
    "kcat": ("foreign", "KcatDecoder"),
    "kcl": ("foreign", "KclDecoder"),
    "rpk": ("foreign", "RpkDecoder"),
    "kaf": ("foreign", "KafDecoder"),
    "whole": ("whole", "WholeDecoder"),
    "format": ("template_input", "FormatDecoder"),
}
"""Input formats by name: module and class. The class takes the file's name for people first, then its options.

A row is all that `--input NAME` needs; a format with options of its own is given them in `kpipe.plan.formats`.
"""

ENCODERS = {
    "lines": ("lines", "LineEncoder"),
    "json": ("envelope_output", "EnvelopeEncoder"),
    "format": ("template", "FormatEncoder"),
    "binary": ("binary", "BinaryEncoder"),
    "pretty": ("pretty", "PrettyEncoder"),
}
"""Output formats by name: module and class; the same for `--output NAME`."""

BY_OPTION = ("whole", "format")
"""Formats that an option of their own asks for (`--whole-file`, `--format`)."""
INPUTS = tuple(name for name in DECODERS if name not in BY_OPTION)
OUTPUTS = tuple(name for name in ENCODERS if name not in BY_OPTION)


def make_decoder(name: str, file: str, *arguments: Any, **options: Any) -> Decoder:
    """Return the decoder `name` for one file; UsageError for an unknown name or an impossible option."""
    decoder: Decoder = _find(name, DECODERS, "input")(file, *arguments, **options)
    return decoder


def make_encoder(name: str, *arguments: Any, **options: Any) -> Encoder:
    """Return the encoder `name`; UsageError for an unknown name or an impossible option."""
    encoder: Encoder = _find(name, ENCODERS, "output")(*arguments, **options)
    return encoder


def _find(name: str, registry: dict[str, tuple[str, str]], direction: str) -> Any:
    if name not in registry:
        raise UsageError(f"unknown {direction} format {name}; {_near(name, registry)}")
    module, class_name = registry[name]
    return getattr(import_module(f"{__name__}.{module}"), class_name)


def _near(name: str, names: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, names, 1)
    return f"did you mean {near[0]}?" if near else f"use one of {', '.join(names)}"
