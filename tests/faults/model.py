"""What options of `forward` make of a record, in a few lines each: a second opinion that whole runs are held against.

It knows nothing of kpipe but the manual. Each option comes with values that meet what others leave: null keys, values that
are no JSON, headers of one name, records that were split.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Sequence

    from tests.broker.lab.cluster import Rec

    Step = Callable[["Draft"], Iterable["Draft"]]

Headers = tuple[tuple[str, bytes | None], ...]


class BadRecordError(Exception):
    """An option cannot be applied to a record, which is then bad as a whole."""


@dataclass(frozen=True)
class Draft:
    """A record on its way: what was read, and what it is by now; `topic` is empty until it is routed."""

    read: Rec
    key: bytes | None
    value: bytes | None
    headers: Headers
    topic: str = ""


@dataclass(frozen=True)
class Option:
    """The words of a command line, and what they do."""

    words: tuple[str, ...]
    step: Step

    @property
    def name(self) -> str:
        return self.words[0].partition("=")[0]


def results(options: Sequence[Option], read: Rec) -> list[Draft]:
    """What becomes of a record: none when it is filtered; BadRecordError when one option cannot take it."""
    drafts = [Draft(read, read.key, read.value, read.headers)]
    for option in options:
        drafts = [result for draft in drafts for result in option.step(draft)]
    return drafts


def options(chance: random.Random, other: str) -> list[Option]:
    """Up to five in any order; `other` is a topic to route to."""
    makers = [_grep, _drop_key, _set_key, _key_field, _set_header, _add_header, _drop_header, _map, _split, _replace]
    makers += [_tombstone_if, _value_null, _value_empty, _drop_field, _filter, _through]
    makers.append(lambda chance: _route(chance, other))
    return [chance.choice(makers)(chance) for _ in range(chance.choice([0, 1, 1, 2, 3, 5]))]


def _grep(chance: random.Random) -> Option:
    pattern, where = chance.choice(["[0-4]$", "^$", "a"]), chance.choice(["", "key:", "h"])
    is_kept = chance.random() < 0.5

    def found(draft: Draft) -> bool:
        places = {"": [draft.value], "key:": [draft.key]}.get(where, [v for name, v in draft.headers if name == where])
        return any(place is not None and re.search(pattern.encode(), place) for place in places)

    prefix = f"header[{where}]:" if where == "h" else where
    words = ("--grep" if is_kept else "--grep-not", prefix + pattern)
    return Option(words, lambda draft: [draft] if found(draft) == is_kept else [])


def _drop_key(_chance: random.Random) -> Option:
    return Option(("--drop-key",), lambda draft: [replace(draft, key=None)])


def _set_key(chance: random.Random) -> Option:
    fields: dict[str, Callable[[Draft], bytes | None]] = {
        "{value}": lambda draft: draft.value,
        "{key}": lambda draft: draft.key,
        "{offset}": lambda draft: b"%d" % draft.read.offset,
        "{header[h]}": lambda draft: dict(draft.headers).get("h"),
        "{json[.id]}": lambda draft: _field(draft.value, "id"),
    }
    name = chance.choice(list(fields))
    return Option(("--set-key", f"{name}-x"), lambda draft: [replace(draft, key=_there(fields[name](draft)) + b"-x")])


def _key_field(_chance: random.Random) -> Option:
    return Option(("--key-field", ".id"), lambda draft: [replace(draft, key=_there(_field(draft.value, "id")))])


def _set_header(chance: random.Random) -> Option:
    name = chance.choice(["h", "new"])

    def step(draft: Draft) -> list[Draft]:
        value, places = _there(draft.key), [place for place, (each, _) in enumerate(draft.headers) if each == name]
        at = places[0] if places else len(draft.headers)
        before, behind = draft.headers[:at], tuple(each for each in draft.headers[at:] if each[0] != name)
        return [replace(draft, headers=(*before, (name, value), *behind))]

    return Option(("--set-header", f"{name}={{key}}"), step)


def _add_header(_chance: random.Random) -> Option:
    return Option(
        ("--add-header", "h={offset}"),
        lambda draft: [replace(draft, headers=(*draft.headers, ("h", b"%d" % draft.read.offset)))],
    )


def _drop_header(chance: random.Random) -> Option:
    words, is_kept = chance.choice([("h", lambda name: name != "h"), ("h*", lambda name: not name.startswith("h"))])
    return Option(
        ("--drop-header", words),
        lambda draft: [replace(draft, headers=tuple(each for each in draft.headers if is_kept(each[0])))],
    )


def _map(chance: random.Random) -> Option:
    programs: dict[str, Callable[[Any], Any]] = {
        "[.]": lambda value: [value],
        ".n": lambda value: _get(value, "n"),
        "{id, m: [.n]}": lambda value: {"id": _get(value, "id"), "m": [_get(value, "n")]},
    }
    program = chance.choice(list(programs))

    def step(draft: Draft) -> list[Draft]:
        if draft.value is None:
            return [draft]
        return [replace(draft, value=_compact(programs[program](_parsed(draft.value))))]

    return Option(("--map", program), step)


def _split(_chance: random.Random) -> Option:
    def step(draft: Draft) -> list[Draft]:
        if draft.value is None:
            return [draft]
        items = _get(_parsed(draft.value), "items")
        found = list(items.values()) if isinstance(items, dict) else items if isinstance(items, list) else []
        return [replace(draft, value=_compact(item)) for item in found]

    return Option(("--split", ".items[]?"), step)


def _replace(chance: random.Random) -> Option:
    where, flags = chance.choice(["", "key:"]), chance.choice(["", "g", "i"])
    pattern = re.compile(b"[ab]", re.IGNORECASE if flags == "i" else 0)

    def changed(value: bytes | None) -> bytes | None:
        return None if value is None else pattern.sub(b"<>", value, count=0 if flags == "g" else 1)

    def step(draft: Draft) -> list[Draft]:
        return [replace(draft, key=changed(draft.key)) if where else replace(draft, value=changed(draft.value))]

    return Option(("--regex-replace", f"{where}s/[ab]/<>/{flags}"), step)


def _tombstone_if(_chance: random.Random) -> Option:
    return Option(
        ("--tombstone-if", "7"), lambda draft: [replace(draft, value=None) if b"7" in (draft.value or b"") else draft]
    )


def _value_null(chance: random.Random) -> Option:
    marker = chance.choice(["", "null", "text"])
    return Option(
        (f"--value-null={marker}",),
        lambda draft: [replace(draft, value=None) if draft.value == marker.encode() else draft],
    )


def _value_empty(_chance: random.Random) -> Option:
    return Option(("--value-empty",), lambda draft: [replace(draft, value=draft.value or b"")])


def _drop_field(_chance: random.Random) -> Option:
    def step(draft: Draft) -> list[Draft]:
        value = None if draft.value is None else _parsed(draft.value)
        if not isinstance(value, dict) or "id" not in value:
            return [draft]
        return [replace(draft, value=_compact({name: each for name, each in value.items() if name != "id"}))]

    return Option(("--drop-field", ".id"), step)


def _filter(chance: random.Random) -> Option:
    programs: dict[str, Callable[[Draft], bool]] = {
        ".n > 3": _is_more,
        "$meta.tombstone": lambda draft: draft.value is None,
        "$meta.partition == 0": lambda draft: draft.read.partition == 0,
    }
    program = chance.choice(list(programs))
    return Option(("--filter", program), lambda draft: [draft] if programs[program](draft) else [])


def _route(_chance: random.Random, other: str) -> Option:
    words = ("--route", f'if .n > 3 then "{other}" else null end', "--route-allow", other)
    return Option(words, lambda draft: [replace(draft, topic=other if _is_more(draft) else "")])


def _through(_chance: random.Random) -> Option:
    def step(draft: Draft) -> list[Draft]:
        if draft.value is None:
            return [draft]
        if b"\n" in draft.value:
            raise BadRecordError
        return [replace(draft, value=draft.value.replace(b"a", b"A"))]

    return Option(("--through", "sed -u s/a/A/g"), step)


def _is_more(draft: Draft) -> bool:
    """jq's order: null < false < true < numbers < strings < arrays < objects."""
    value = _get(None if draft.value is None else _parsed(draft.value), "n")
    if isinstance(value, bool) or value is None:
        return False
    return value > 3 if isinstance(value, int | float) else True


def _field(value: bytes | None, name: str) -> bytes | None:
    found = None if value is None else _parsed(value)
    field = found.get(name) if isinstance(found, dict) else None
    return field.encode() if isinstance(field, str) else None if field is None else _compact(field)


def _get(value: Any, name: str) -> Any:
    """jq's `.name`, which null has, too."""
    if value is None or isinstance(value, dict):
        return (value or {}).get(name)
    raise BadRecordError


def _there(value: bytes | None) -> bytes:
    if value is None:
        raise BadRecordError
    return value


def _parsed(value: bytes) -> Any:
    try:
        return json.loads(value.decode())
    except ValueError:
        raise BadRecordError from None


def _compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
