"""Avro's leaves <-> JSON: decimals, times, durations, UUIDs, bytes and numbers that JSON has no word for.

Decimals are text ("12.30"), times ISO 8601 with exactly their unit's digits; what ISO cannot say (a year 10000) stays
the integer, and bytes are {"base64": ...} also when they are printable, for a form must not flip with the data.
"""

from __future__ import annotations

import math
from base64 import b64decode, b64encode
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

from kpipe.codecs.avro_schema import connect_logical
from kpipe.codecs.errors import NoFit
from kpipe.units import counted

if TYPE_CHECKING:
    from kpipe.codecs.avro_schema import Node

_EPOCH = date(1970, 1, 1)
_MIDNIGHT_1900 = datetime(1900, 1, 1, tzinfo=UTC)
_DAY = 86_400
_UNITS = {"millis": 3, "micros": 6, "nanos": 9}
_RANGE = {"int": 31, "long": 63}
_CONSTANTS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_EXACT_DOUBLE = 2**53


def to_json(node: Node, *, tagged: bool, big_ints_as_text: bool) -> Any:
    """A function from a leaf's value to what orjson writes; None where the value is that already."""
    match node.kind:
        case "float" | "double":
            return _float
        case "bytes" | "fixed":
            return _code_points if tagged else _OCTETS.get(node.logical, _base64)(node)
        case "int" | "long":
            times = _times(node.logical) if node.logical and not tagged else None
            return _big_as_text(times) if big_ints_as_text and node.kind == "long" else times
    return None


def _big_as_text(convert: Any) -> Any:
    def render(value: int) -> Any:
        shown = value if convert is None else convert(value)
        return shown if type(shown) is str or abs(shown) <= _EXACT_DOUBLE else str(shown)

    return render


def forms_of(node: Node) -> set[str]:
    """The forms in JSON that values of this type are shown in; some more are taken where no other type claims them."""
    match node.kind:
        case "null":
            return {"null"}
        case "boolean":
            return {"boolean"}
        case "int" | "long":
            return {"number", "string"} if node.logical else {"number"}
        case "float" | "double":
            return {"number", "string"}
        case "array":
            return {"array"}
        case "bytes" | "fixed":
            return {"object", "string"} if node.logical else {"object"}
        case "record" | "map":
            return {"object"}
    return {"string"}


def form(value: Any) -> str:
    """The form of parsed JSON, as in `forms_of`."""
    return _FORMS.get(type(value), "number")


_FORMS = {type(None): "null", bool: "boolean", str: "string", list: "array", dict: "object"}


def _float(value: float) -> Any:
    if value - value == 0:  # finite; asking math takes twice as long
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _code_points(value: bytes) -> str:
    return value.decode("latin-1")


def _base64(_node: Node) -> Any:
    return lambda value: {"base64": b64encode(value).decode()}


def _decimal(node: Node) -> Any:
    scale, fixed = node.scale, node.size if node.kind == "fixed" else None

    def render(value: bytes) -> Any:
        number = int.from_bytes(value, "big", signed=True)
        if (
            value != _decimal_bytes(number, fixed) or len(value) > 1024
        ):  # longer than it need be: its bytes, to keep them
            return {"base64": b64encode(value).decode()}
        digits = str(abs(number)).rjust(scale + 1, "0")
        text = f"{digits[: len(digits) - scale]}.{digits[len(digits) - scale :]}" if scale else digits
        return f"-{text}" if number < 0 else text

    return render


def _decimal_bytes(number: int, fixed: int | None) -> bytes:
    size = fixed if fixed is not None else (number + (number < 0)).bit_length() // 8 + 1
    return number.to_bytes(size, "big", signed=True)


def _duration(_node: Node) -> Any:
    def render(value: bytes) -> Any:
        months, days, millis = (int.from_bytes(value[at : at + 4], "little") for at in (0, 4, 8))
        return f"P{months}M{days}DT{millis // 1000}.{millis % 1000:03}S"

    return render


def _uuid(_node: Node) -> Any:
    return lambda value: str(UUID(bytes=value))


_OCTETS: dict[str, Any] = {"decimal": _decimal, "duration": _duration, "uuid": _uuid}


def _times(logical: str) -> Any:
    if logical == "date":
        return _date
    digits = _UNITS[logical.rpartition("-")[2]]
    if logical.startswith("time-"):
        return lambda value: _clock(value, digits) if 0 <= value < _DAY * 10**digits else value
    zone = "" if logical.startswith("local-") else "Z"
    unit, form = 10**digits, f"%s%02d.%0{digits}d{zone}"
    minute_units = 60 * unit

    def instant(value: int) -> Any:
        minute, rest = divmod(value, minute_units)
        start = _minute(minute)
        return form % (start, *divmod(rest, unit)) if start else value

    return instant


@lru_cache(4096)
def _minute(number: int) -> str:
    """What a moment of that minute since 1970 begins with, empty beyond the calendar: most records share a few."""
    days, minutes = divmod(number, 1440)
    day = _date(days)
    return f"{day}T{minutes // 60:02}:{minutes % 60:02}:" if type(day) is str else ""


def _date(days: int) -> Any:
    try:
        return (_EPOCH + timedelta(days=days)).isoformat()
    except OverflowError:
        return days


def _clock(value: int, digits: int) -> str:
    seconds, fraction = divmod(value, 10**digits)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{fraction:0{digits}}"


def from_json(node: Node, *, tagged: bool = False, as_read: bool = False) -> Any:
    """A function from parsed JSON to a leaf's value; NoFit where it does not fit.

    `tagged`: it is Avro's own JSON, where the text "12" of a decimal is two bytes, no number. `as_read`: it is what was
    read, and a decimal may have more digits than its schema says, as some have.
    """
    return (
        _octets(node, tagged=tagged, as_read=as_read) if node.kind in ("bytes", "fixed") else _SCALARS[node.kind](node)
    )


def say(value: Any) -> str:
    """What stands there, for a message."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case dict():
            return "an object"
        case list():
            return "an array"
        case str():
            return f"the string {value[:40]!r}"
    return f"the number {value}"


def _null(_node: Node) -> Any:
    def build(value: Any) -> Any:
        if value is not None:
            raise NoFit(f"{say(value)}, where null belongs")

    return build


def _boolean(_node: Node) -> Any:
    def build(value: Any) -> Any:
        if type(value) is not bool:
            raise NoFit(f"{say(value)}, where true or false belongs")
        return value

    return build


def _whole(node: Node) -> Any:
    bits = _RANGE[node.kind]
    low, high = -(1 << bits), (1 << bits) - 1
    logical = node.logical or connect_logical(node)  # as --connect-types writes it
    parse = _from_text(logical) if logical else None

    def build(value: Any) -> Any:
        if type(value) is str:
            if _is_big(value) and node.kind == "long":
                value = int(value)  # as --big-ints string writes it
            elif parse is not None:
                value = parse(value)
        if type(value) is float and value.is_integer() and abs(value) <= 2**53:
            value = int(value)
        if type(value) is not int:
            raise NoFit(f"{say(value)}, where {_article(node.logical or node.kind)} belongs")
        if not low <= value <= high:
            raise NoFit(f"{value} is beyond the range of {node.kind}")
        return value

    return build


def _is_big(text: str) -> bool:
    digits = text.removeprefix("-")
    return len(digits) < 20 and digits.isascii() and digits.isdecimal() and abs(int(text)) > _EXACT_DOUBLE


def _article(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def _real(node: Node) -> Any:
    def build(value: Any) -> Any:
        if type(value) is str and value in _CONSTANTS:
            return _CONSTANTS[value]
        if type(value) not in (int, float):
            raise NoFit(f"{say(value)}, where a {node.kind} belongs")
        try:
            number = float(value)
        except OverflowError:
            raise NoFit(f"{value} is beyond the range of {node.kind}") from None
        if node.kind == "float" and math.isfinite(number) and abs(number) > 3.4028235677973366e38:
            raise NoFit(f"{value} is beyond the range of float")
        return number

    return build


def _string(_node: Node) -> Any:
    def build(value: Any) -> Any:
        if type(value) is not str:
            raise NoFit(f"{say(value)}, where a string belongs")
        return value

    return build


def _enum(node: Node) -> Any:
    known = set(node.symbols)

    def build(value: Any) -> Any:
        if type(value) is not str or value not in known:
            raise NoFit(f"{say(value)} is no symbol of {node.name} ({', '.join(node.symbols[:10])})")
        return value

    return build


def _octets(node: Node, *, tagged: bool, as_read: bool) -> Any:
    parse = {"decimal": _parse_decimal, "duration": _parse_duration, "uuid": _parse_uuid}.get(node.logical)
    parse = None if tagged else parse

    def build(value: Any) -> Any:
        if type(value) is dict and value.keys() == {"base64"} and type(value["base64"]) is str:
            try:
                found = b64decode(value["base64"], validate=True)
            except ValueError:
                raise NoFit("it is not base64") from None
        elif type(value) is str and parse is not None:
            found = parse(node, value)
            if node.logical == "decimal" and not as_read:
                _check_precision(node, value, found)
        elif type(value) is str and all(ord(char) < 256 for char in value):
            found = value.encode("latin-1")  # as Avro's own JSON encoding writes bytes
        else:
            raise NoFit(f'{say(value)}, where {node.logical or node.kind} belongs; write {{"base64": "…"}}')
        if node.kind == "fixed" and len(found) != node.size:
            raise NoFit(f"{counted(len(found), 'byte')}, where {node.name} has {node.size}")
        return found

    return build


def _parse_decimal(node: Node, text: str) -> bytes:
    whole, dot, fraction = text.removeprefix("-").partition(".")
    if not (whole.isascii() and whole.isdecimal() and (not dot or (fraction.isascii() and fraction.isdecimal()))):
        raise NoFit(f"{text[:40]!r} is no decimal number")
    if len(fraction) > node.scale:
        if fraction[node.scale :].strip("0"):
            raise NoFit(f"{text[:40]} has more than {node.scale} digits behind the point")
        fraction = fraction[: node.scale]
    if len(whole) + node.scale > 2500:
        raise NoFit("a decimal number too long")
    number = int(whole + fraction.ljust(node.scale, "0")) * (-1 if text.startswith("-") else 1)
    try:
        return _decimal_bytes(number, node.size if node.kind == "fixed" else None)
    except OverflowError:
        raise NoFit(f"{text[:40]} does not fit into {node.size} bytes") from None


def _check_precision(node: Node, text: str, found: bytes) -> None:
    if len(str(abs(int.from_bytes(found, "big", signed=True)))) > node.precision:
        raise NoFit(f"{text[:40]} has more than {node.precision} digits")


def _parse_duration(_node: Node, text: str) -> bytes:
    import re

    found = re.fullmatch(r"P(\d{1,10})M(\d{1,10})DT(\d{1,10})\.(\d{3})S", text)
    if found is None:
        raise NoFit(f"{text[:40]!r} is no duration as P1M2DT0.003S")
    months, days, seconds, millis = map(int, found.groups())
    try:
        return b"".join(number.to_bytes(4, "little") for number in (months, days, seconds * 1000 + millis))
    except OverflowError:
        raise NoFit(f"{text[:40]} is beyond the range of a duration") from None


def _parse_uuid(_node: Node, text: str) -> bytes:
    try:
        return UUID(text).bytes
    except ValueError:
        raise NoFit(f"{text[:40]!r} is no UUID") from None


def _from_text(logical: str) -> Any:
    """The integer of a date or time written as text; exact, or NoFit."""
    digits = _UNITS.get(logical.rpartition("-")[2], 0)

    def parse(text: str) -> Any:
        try:
            if logical == "date":
                return (date.fromisoformat(text) - _EPOCH).days
            main, zone = (text[:-1], "Z") if text.endswith(("Z", "z")) else (text, "")
            main, _, fraction = main.partition(".")
            if len(fraction) > digits or (fraction and not fraction.isdecimal()):
                raise NoFit(f"{text[:40]!r} has more than {digits} digits of a second")
            parts = int(fraction.ljust(digits, "0")) if fraction else 0
            if logical.startswith("time-"):
                since = datetime.strptime(main, "%H:%M:%S").replace(tzinfo=UTC) - _MIDNIGHT_1900
                return since.seconds * 10**digits + parts
            if zone != ("" if logical.startswith("local-") else "Z"):
                raise NoFit(f"{text[:40]!r}: {'leave out' if zone else 'end it with'} Z")
            moment = datetime.strptime(main, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
        except ValueError as error:
            if isinstance(error, NoFit):
                raise
            raise NoFit(f"{text[:40]!r} is no {logical}") from None
        since = moment - datetime(1970, 1, 1, tzinfo=UTC)
        return (since.days * _DAY + since.seconds) * 10**digits + parts

    return parse


_SCALARS: dict[str, Any] = {
    "null": _null,
    "boolean": _boolean,
    "int": _whole,
    "long": _whole,
    "float": _real,
    "double": _real,
    "string": _string,
    "enum": _enum,
}
