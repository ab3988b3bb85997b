"""What `--schema` names: a file, a subject of the registry with or without a version, or an id.

It asks the registry once, and registers nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kpipe.codecs.errors import SchemaError
from kpipe.codecs.files import SUFFIXES, load_file, schema_text
from kpipe.codecs.registry import NotFound
from kpipe.errors import UsageError

if TYPE_CHECKING:
    from kpipe.codecs.library import Library
    from kpipe.codecs.registry import SchemaText
    from kpipe.codecs.schema import Codec, ValueStyle


class Named(NamedTuple):
    """A schema with its codec. `text` has its id where the registry gave it."""

    codec: Codec
    text: SchemaText | None
    path: str = ""


def is_file(name: str) -> bool:
    """Whether the name is that of a file; one with another end is a subject, unless it starts as a path."""
    return name.endswith(SUFFIXES) or name.startswith(("/", "./", "../", "~"))


def load_named(name: str, view: ValueStyle, library: Library | None, *, option: str = "--schema") -> Named:
    """The schema of that name; UsageError where there is none, or no registry to ask for it."""
    if is_file(name):
        return Named(load_file(name, view, option), schema_text(name, option), name)
    if library is None:
        what = f"{option} {name} names a schema of the registry, and none is set; set schema.registry.url"
        raise UsageError(f"{what}, or name a file ({', '.join(SUFFIXES)})")
    try:
        text = _ask(name, library, option)
    except NotFound as error:
        raise UsageError(f"{option} {name}: {error.what}; kpipe schema list shows the subjects") from None
    try:
        return Named(library.hold(text).codec, text)
    except SchemaError as error:
        raise UsageError(f"{option} {name}: {error}") from None


def _ask(name: str, library: Library, option: str) -> SchemaText:
    if name.startswith("id:"):
        number = name.removeprefix("id:")
        if not number.isdecimal():
            raise UsageError(f"{option} {name}: write id:N, with a number")
        return library.registry.by_id(int(number))
    subject, colon, version = name.rpartition(":")
    if colon and (version.isdecimal() or version == "latest"):
        return library.registry.version(subject, version)
    return library.registry.version(name)
