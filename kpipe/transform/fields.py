"""Changes fields of JSON values: masks, hashes, drops, renames, casts, flattens; neighbours share a parse.

Never changes the number text of what it leaves alone, and never touches a value in which it finds nothing to change.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from kpipe.transform.document import NotJson, Number, dump, parse_exact
from kpipe.transform.path import EACH, Path, kind, parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kpipe.errors import BadRecord
    from kpipe.record import Batch
    from kpipe.transform.context import Context
    from kpipe.transform.step import Step, TransformStage

Change: TypeAlias = Callable[[list[Any]], bool]
"""Changes a document, given as the only element of a list; True if it did. A ValueError makes the record bad."""

_MASKED: dict[str, object] = {"string": "***", "number": 0, "boolean": False}
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_TYPES = ("int", "float", "string", "bool")


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of the values, as long as neighbours may still join it."""

    step: Step
    change: Change

    @classmethod
    def fuse(cls, parts: Sequence[Self], context: Context) -> list[TransformStage]:
        """One stage for all of them: a value is parsed and written once."""
        return [lambda batch: _apply(batch, parts, context)]


def mask(step: Step, _context: Context) -> Edit:
    """`--mask PATH`: ***, 0, false, [] or {} instead, by type; null stays."""

    def masked(value: Any) -> object:
        if isinstance(value, list | dict):
            return type(value)()
        return _MASKED.get(kind(value))

    return Edit(step, _replace(_path(step, step.text), masked))


def hash_(step: Step, context: Context) -> Edit:
    """`--hash PATH`: HMAC-SHA256 in hexadecimal of a string's UTF-8 or of the compact JSON; null stays."""
    salt = _read_salt(step, context)

    def hashed(value: Any) -> object:
        if value is None:
            return None
        text = value.encode() if isinstance(value, str) else dump(value)
        return hmac.digest(salt, text, "sha256").hex()

    return Edit(step, _replace(_path(step, step.text), hashed))


def drop_field(step: Step, _context: Context) -> Edit:
    """`--drop-field PATH`: absent is fine."""
    path = _path(step, step.text)

    def change(root: list[Any]) -> bool:
        places = list(_places(root, path))
        for holder, name in reversed(places):  # from the end, so that indexes stay right
            del holder[name]
        return bool(places)

    return Edit(step, change)


def rename_field(step: Step, _context: Context) -> Edit:
    """`--rename-field PATH=NAME`: in its place within the object; absent is fine, a second NAME is not."""
    path, new = _split_rename(step)

    def change(root: list[Any]) -> bool:
        places = [place for place in _places(root, path) if place[1] != new]
        for holder, name in places:
            if new in holder:
                raise ValueError(f"the object has a field {new} already")
            renamed = [(new if key == name else key, value) for key, value in holder.items()]
            holder.clear()
            holder.update(renamed)
        return bool(places)

    return Edit(step, change)


def flatten(step: Step, _context: Context) -> Edit:
    """`--flatten [SEP]`: nested objects into one, names joined by SEP; arrays and empty objects stay as they are."""
    separator = "." if step.argument is None else step.argument

    def change(root: list[Any]) -> bool:
        (document,) = root
        if not isinstance(document, dict):
            raise ValueError(f"the value is not an object ({kind(document)})")  # noqa: TRY004 - the data is wrong
        flat: dict[str, object] = {}
        for name, value in _flat(document, "", separator):
            if name in flat:
                raise ValueError(f"two fields would be called {name}")
            flat[name] = value
        root[0] = flat
        return any(isinstance(value, dict) and value for value in document.values())

    return Edit(step, change)


def cast(step: Step, _context: Context) -> Edit:
    """`--cast PATH=int|float|string|bool`: what cannot be cast without a loss is bad; null and absent stay."""
    text, sign, wanted = step.text.rpartition("=")
    if not sign or wanted not in _TYPES:
        raise step.usage(f"write PATH=TYPE with TYPE one of {', '.join(_TYPES)}, for example --cast .amount=int")
    convert = {"int": _to_int, "float": _to_float, "string": _to_string, "bool": _to_bool}[wanted]

    def casted(value: Any) -> object:
        if value is None:
            return None
        if isinstance(value, list | dict):
            raise ValueError(f"{text} cannot become {wanted} ({kind(value)})")  # noqa: TRY004 - the data is wrong
        try:
            return convert(value)
        except ValueError:
            raise ValueError(f"{text} cannot become {wanted} without a loss") from None

    return Edit(step, _replace(_path(step, text), casted))


def _apply(batch: Batch, edits: Sequence[Edit], context: Context) -> None:
    documents = context.documents.column(batch)
    values: list[bytes | None] = []
    bad: dict[int, BadRecord] = {}
    for place, (value, document) in enumerate(zip(batch.values, documents, strict=True)):
        if value is None or isinstance(document, NotJson):
            values.append(value)
            if isinstance(document, NotJson) and value is not None:
                bad[place] = edits[0].step.bad(document.reason)
            continue
        edit, changed, new = edits[0], False, value
        try:
            # A document that is written as it was read has no number text to lose.
            root = [document if dump(document) == value else parse_exact(value)]
            for edit in edits:
                changed |= edit.change(root)
            if changed:
                new = dump(root[0])
        except (ValueError, RecursionError) as error:
            bad[place] = edit.step.bad(str(error))
        values.append(new)
    batch.values = values
    batch.reject(bad)


def _places(root: list[Any], path: Path) -> Iterator[tuple[Any, Any]]:
    """Holder and name or index of everything that `path` leads to."""
    found: list[tuple[Any, Any]] = [(root, 0)]
    for step in path:
        inner = [holder[name] for holder, name in found]
        if step is EACH:
            found = [(holder, index) for holder in inner if isinstance(holder, list) for index in range(len(holder))]
        elif isinstance(step, int):
            found = [
                (holder, step % len(holder))
                for holder in inner
                if isinstance(holder, list) and -len(holder) <= step < len(holder)
            ]
        else:
            found = [(holder, step) for holder in inner if isinstance(holder, dict) and step in holder]
    yield from found


def _replace(path: Path, new: Callable[[Any], object]) -> Change:
    def change(root: list[Any]) -> bool:
        places = list(_places(root, path))
        for holder, name in places:
            holder[name] = new(holder[name])
        return bool(places)

    return change


def _path(step: Step, text: str) -> Path:
    try:
        path = parse(text, each=True)
    except ValueError as error:
        raise step.usage(str(error)) from None
    if not path:
        raise step.usage(". is the whole value; write the path of a field, for example .user.email")
    return path


def _split_rename(step: Step) -> tuple[Path, str]:
    """`PATH=NAME` at the first `=` with a path before and a name behind it: quoted names may hold one."""
    form = "write PATH=NAME, for example --rename-field .user.mail=email"
    at = step.text.find("=")
    while at >= 0:
        try:
            old, new = parse(step.text[:at], each=True), parse(step.text[at + 1 :])
        except ValueError:
            at = step.text.find("=", at + 1)
            continue
        if not old or not isinstance(old[-1], str):
            raise step.usage(f"the path does not end in the name of a field; {form}")
        if len(new) != 1 or not isinstance(new[0], str):
            raise step.usage(f"a field keeps its place and gets a name, not a path; {form}")
        return old, new[0]
    raise step.usage(f'no path, "=" and name; {form}')


def _read_salt(step: Step, context: Context) -> bytes:
    """The salt by reference, `env:NAME` or `file:PATH` (without a line end at its end); it is never in a message."""
    setting = context.setting("hash-salt")
    if setting is None:
        raise step.usage("a hash without a salt can be guessed; add --hash-salt env:NAME or --hash-salt file:PATH")
    scheme, _, name = setting.text.partition(":")
    if scheme == "env" and name:
        salt = context.environ.get(name, "").encode(errors="surrogateescape")
    elif scheme == "file" and name:
        try:
            salt = context.read_file(name).removesuffix(b"\n").removesuffix(b"\r")
        except OSError as error:
            raise step.usage(f"the salt file {name} cannot be read ({error.strerror}); check its path") from None
    else:
        # Not setting.usage: the argument may be the salt itself.
        raise setting._replace(argument=None).usage("a salt is given by reference; write env:NAME or file:PATH")
    if not salt:
        raise step.usage(f"the salt {setting.text} is empty or not set; set it to 16 random bytes or more")
    return salt


def _flat(document: dict[str, Any], prefix: str, separator: str) -> Iterator[tuple[str, object]]:
    for name, value in document.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}{separator}", separator)
        else:
            yield f"{prefix}{name}", value


def _to_int(value: Any) -> object:
    """An integer of any length; 1.0 and 1e3 are integers, 1.5 is none."""
    text = _literal(value)
    whole = re.fullmatch(r"(-?\d+)(?:\.0+)?", text)
    if whole:
        return Number(whole[1])
    number = float(text)  # with an exponent: exact up to 2**53
    if abs(number) > 2**53 or number != int(number):
        raise ValueError
    return int(number)


def _to_float(value: Any) -> object:
    """The same digits, as a number that shows that it is no integer."""
    text = _literal(value)
    return Number(text if re.search("[.eE]", text) else f"{text}.0")


def _to_string(value: Any) -> object:
    return value if isinstance(value, str) else dump(value).decode()


def _to_bool(value: Any) -> object:
    """Take true and false, 1 and 0, as themselves or as strings."""
    if isinstance(value, bool):
        return value
    text = value if isinstance(value, str) else dump(value).decode()
    if text not in _BOOLEANS:
        raise ValueError
    return _BOOLEANS[text]


def _literal(value: Any) -> str:
    """The JSON text of a number, or of a string that is one; booleans are 1 and 0."""
    if isinstance(value, bool):
        return "1" if value else "0"
    text = value if isinstance(value, str) else dump(value).decode()
    if not _NUMBER.fullmatch(text):
        raise ValueError
    return text
