"""Turns what a person typed for a delimiter or a literal into its bytes.

It never guesses: an escape that it does not know is a usage error, not the letter itself.
"""

from __future__ import annotations

import re

from kpipe.errors import UsageError

_PLAIN = {"n": b"\n", "t": b"\t", "r": b"\r", "\\": b"\\"}
# `\0`, `\012`: octal as in C and printf(1). `\12` is decimal in kcat's formats and octal in C, so it is refused.
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|(0[0-7]{0,2})|([ntr\\]))")


def shown(text: str) -> str:
    """Return what a person typed in one printable line, between quotes."""
    line = text.replace("\n", "\\n").replace("\r", "\\r")
    return f'"{line}"'.encode("utf-8", "backslashreplace").decode()


def parse_escapes(text: str, *, where: str = "") -> bytes:
    r"""Return the bytes of `text` with `\n \t \r \0 \\ \xNN` and octal `\0NN` resolved; other characters are UTF-8.

    UsageError for any other escape; `where` names the option in it. Bytes of the command line that are not UTF-8
    (surrogates, in Python) come out as they were typed.
    """
    pieces: list[bytes] = []
    place = 0
    while (at := text.find("\\", place)) >= 0:
        pieces.append(text[place:at].encode("utf-8", "surrogateescape"))
        match = _ESCAPE.match(text, at)
        if match is None:
            escape = text[at : at + (4 if text[at + 1 : at + 2] == "x" else 2)]
            raise UsageError(
                f"unknown escape {shown(escape)[1:-1]} at character {at + 1} of {shown(text)}; "
                "use \\n \\t \\r \\0 \\xNN, or \\\\ for a backslash",
                where=where,
            )
        code, octal, letter = match.groups()
        pieces.append(_PLAIN[letter] if letter else bytes([int(code, 16) if code else int(octal, 8)]))
        place = match.end()
    pieces.append(text[place:].encode("utf-8", "surrogateescape"))
    return b"".join(pieces)
