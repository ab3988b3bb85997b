"""Plugins of other distributions, by entry point: listed without being imported, loaded only when they are named.

An entry point is a factory. It is called once, with what stands behind the name (None where nothing does), and gives:

- `kpipe.transforms`: a function that takes a Record and gives None, a Record or several;
- `kpipe.decoders`: an object with `decode(data: bytes)`, which gives a JSON value, and, if it can, `encode(value)`;
- `kpipe.secrets`: a function without arguments, which gives a password or a token as text.

A ValueError of the factory is its word about the argument. docs/plugins.md has an example of each.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from kpipe.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.metadata import Distribution, EntryPoint

LEVEL = 1
"""Of the contract above. A factory with an attribute `kpipe_level` above it was written for a newer kpipe."""
KINDS = ("transforms", "decoders", "secrets")
"""Each is a group of entry points, `kpipe.KIND`."""
TYPED = {"transforms": "--call {}", "decoders": "--decode plugin:{}", "secrets": 'password_plugin = "{}"'}
"""How a plugin of a kind is named."""


_foreign: list[str] = []
"""Code of the user's, or of a plugin, that this process has loaded."""


class Plugin(NamedTuple):
    """What a distribution offers; `reference` is `module:object`, `problem` why it cannot be used, or ""."""

    kind: str
    name: str
    distribution: str
    version: str
    reference: str
    problem: str = ""

    @property
    def title(self) -> str:
        """How messages speak of it."""
        return f"{self.name} of {self.distribution} {self.version}"


def offered() -> list[Plugin]:
    """Every plugin that is installed beside kpipe, sorted; nothing of them is imported."""
    found = sorted(plugin for plugin, _ in _found())
    rivals: dict[tuple[str, str], set[str]] = {}
    for each in found:
        rivals.setdefault((each.kind, each.name), set()).add(each.distribution)
    return [each._replace(problem=each.problem or _rivalry(rivals[each.kind, each.name])) for each in found]


def load(kind: str, name: str, argument: str | None, *, where: str = "") -> Any:
    """What a plugin's factory makes of `argument`; UsageError, which names its distribution, for all that fails."""
    found = [(plugin, entry) for plugin, entry in _found() if entry and (plugin.kind, plugin.name) == (kind, name)]
    if not found:
        raise UsageError(_unknown(kind, name), where=where)
    if problem := _rivalry({plugin.distribution for plugin, _ in found}):
        raise UsageError(f"the plugin {name}: {problem}", where=where)
    plugin, entry = found[0]
    note_foreign(plugin.title)
    try:
        factory = entry.load() if entry else None
    except BaseException as error:
        raise UsageError(f"the plugin {plugin.title} does not load: {said(error)}", where=where) from error
    if not callable(factory):
        raise UsageError(f"the plugin {plugin.title} is no factory: {plugin.reference} cannot be called", where=where)
    level = getattr(factory, "kpipe_level", LEVEL)
    if level != LEVEL:
        raise UsageError(
            f"the plugin {plugin.title} is for plugin level {level}, and this kpipe has {LEVEL}; upgrade the older one",
            where=where,
        )
    try:
        return factory(argument)
    except ValueError as error:
        raise UsageError(f"the plugin {plugin.title}: {said(error, plain=True)}", where=where) from error
    except BaseException as error:
        raise UsageError(f"the plugin {plugin.title} does not start: {said(error)}", where=where) from error


def note_foreign(what: str) -> None:
    """Code of others is about to be loaded: `finish` has something to do."""
    _foreign.append(what)


def finish() -> None:
    """For code of others what an interpreter does at its end, which a process of kpipe's does not come to.

    Its atexit functions run, and what its open files hold back is written.
    """
    if not _foreign:
        return
    _foreign.clear()
    import atexit
    import gc
    import io

    atexit._run_exitfuncs()  # noqa: SLF001 - there is no public way, and the process ends next
    gc.unfreeze()  # what was there when records began to move
    for each in gc.get_objects():
        if issubclass(type(each), io.IOBase):
            with suppress(Exception):  # closed, or its disk is full: as an interpreter at its end
                each.flush()


def split(text: str, sign: str) -> tuple[str, str | None]:
    """`NAME` or `NAME` and an argument behind a sign: the name, and the argument or None."""
    name, found, argument = text.partition(sign)
    return name, argument if found else None


def said(error: BaseException, *, plain: bool = False) -> str:
    """What code of others raised, in one line: its kind and its words, or `plain` its words alone.

    It may be anything (a cancelled task of asyncio is no Exception), and may fail at its own words. Ctrl-C in a program
    that uses kpipe is no fault: it is raised again.
    """
    if isinstance(error, KeyboardInterrupt):
        raise error
    try:
        words = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 - its kind says enough
        words = ""
    kind = type(error).__name__
    return (words if plain else f"{kind}: {words}") if words else kind


def _found() -> Iterator[tuple[Plugin, EntryPoint | None]]:
    """Entry points by distribution; the first of a name on the path is the one that is imported.

    Not `importlib.metadata.entry_points`, which fails as a whole where one distribution's file is broken.
    """
    from importlib.metadata import distributions

    seen: set[str] = set()
    for distribution in distributions():
        name = str(distribution.metadata["Name"] or "")
        key = re.sub(r"[-_.]+", "-", name).lower()
        if not name or key in seen:
            continue
        seen.add(key)
        yield from _of(distribution, name)


def _of(distribution: Distribution, name: str) -> Iterator[tuple[Plugin, EntryPoint | None]]:
    version = str(distribution.metadata["Version"] or "?")
    try:
        entries = list(distribution.entry_points)
    except Exception as error:  # noqa: BLE001 - the file of entry points is another project's
        # Only what may have been meant for us is our business.
        text = distribution.read_text("entry_points.txt") or ""
        for kind in KINDS:
            if f"kpipe.{kind}" in text:
                yield Plugin(kind, "?", name, version, "?", f"its entry_points.txt is broken ({said(error)})"), None
        return
    for entry in entries:
        group, _, kind = entry.group.partition(".")
        if group == "kpipe" and kind in KINDS:
            yield Plugin(kind, entry.name, name, version, entry.value), entry


def _rivalry(distributions: set[str]) -> str:
    names = sorted(distributions)
    return f"{' and '.join(names)} both offer it; uninstall one" if len(names) > 1 else ""


def _unknown(kind: str, name: str) -> str:
    import difflib

    names = sorted({plugin.name for plugin, _ in _found() if plugin.kind == kind})
    near = difflib.get_close_matches(name, names, n=1)
    there = "`kpipe plugins` lists those that are installed"
    if kind == "transforms":
        there += ", and a function is MODULE:FUNCTION"
    hint = f"did you mean {near[0]}?" if near else there
    return f"no plugin of kpipe.{kind} is called {name!r}; {hint}"
