"""Which decoder or encoder the options ask for.

It decodes nothing itself.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from kpipe import formats, sinks
from kpipe.options import DUMPS
from kpipe.plan.rules import check_input, check_output
from kpipe.units import parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kpipe.options import InputOptions, OutputOptions


def make_decoder(options: InputOptions, encoded: Sequence[str] = ()) -> Callable[[str], formats.Decoder]:
    """A constructor of decoders, one per file; `encoded` are the sides that a later stage writes by their schema."""
    check_input(options)
    limit = parse_size(options.max_record_bytes, "--max-record-bytes")
    name, arguments, more = _input_format(options)
    more["max_record_bytes"] = limit
    if encoded and name == "json":
        more["encoded"] = encoded
    formats.make_decoder(name, "stdin", *arguments, **more)  # a wrong option is found before anything is opened
    return lambda file: formats.make_decoder(name, file, *arguments, **more)


def _input_format(options: InputOptions) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """The format's name, and what its constructor takes besides the file's name."""
    if options.whole_file:
        return "whole", (), {}
    if options.format:
        return "format", (options.format,), {"null_marker": _null_marker(options)}
    if options.input in ("json", *DUMPS):
        return options.input, (), {"lenient": options.lenient}
    if options.input != "lines":
        return options.input, (), {}
    return "lines", (), _framing(options)


def make_encoder(options: OutputOptions, *, shown: bool = False) -> formats.Encoder:
    """The encoder of consume; `shown`: for a terminal, which no record is to drive."""
    check_output(options)
    if options.output in sinks.OUTPUTS:
        return formats.make_encoder("json")
    as_json = options.json or options.output == "json"
    if options.format:
        from kpipe.formats.shown import show

        marker = _null_marker(options)
        return formats.make_encoder("format", options.format, null_marker=marker, show=show if shown else None)
    if options.output == "pretty":
        return _make_pretty()
    if as_json or options.json_value:
        encoder = formats.make_encoder("json", json_value=options.json_value)
    elif options.output != "lines":
        encoder = formats.make_encoder(options.output)
    else:
        encoder = formats.make_encoder("lines", **_framing(options))
    return _show(encoder, options, is_json=as_json or options.json_value) if shown else encoder


def _show(encoder: formats.Encoder, options: OutputOptions, *, is_json: bool) -> formats.Encoder:
    from kpipe.formats.shown import ShownLines, ShownWhole, show, show_json

    if is_json:
        return ShownWhole(encoder, show_json)
    return ShownLines(encoder) if options.output == "lines" else ShownWhole(encoder, show)


def _framing(options: InputOptions | OutputOptions) -> dict[str, Any]:
    """The delimiters and the null marker, as bytes."""
    from kpipe.formats.escapes import parse_escapes

    return {
        "delimiter": b"\0" if options.null else parse_escapes(options.delimiter or "\n"),
        "key_delimiter": parse_escapes(options.key_delimiter) if options.key_delimiter else None,
        "null_marker": _null_marker(options),
    }


def _null_marker(options: InputOptions | OutputOptions) -> bytes | None:
    return None if options.null_marker is None else os.fsencode(options.null_marker)


def _make_pretty() -> formats.Encoder:
    """For the terminal that stdout is, or for a pipe."""
    import sys

    from kpipe.sinks.terminal import wants_color, width_of

    color = wants_color("auto", os.environ, is_terminal=sys.stdout.isatty())
    return formats.make_encoder("pretty", width=width_of(sys.stdout), color=color)
