"""How deep JSON may nest: one limit for whatever reads or writes it, so that no value goes in and cannot come out.

It changes nothing and judges nothing but the depth.
"""

from __future__ import annotations

import re

MAX_DEPTH = 254
"""Levels of arrays and objects in a value. orjson reads 1,024 and writes 254, jq reads 10,000 and writes a remark."""

TOO_DEEP = f"nests deeper than {MAX_DEPTH} levels"

SHORTEST = 2 * MAX_DEPTH
"""Bytes up to which no JSON can be too deep: each level opens and closes."""

_MARKS = re.compile(rb'"(?:[^"\\]+|\\.)*+"|[{}\[\]]', re.DOTALL)


def is_too_deep(value: bytes) -> bool:
    """Whether JSON text nests deeper than the limit."""
    if len(value) <= SHORTEST or value.count(b"[") + value.count(b"{") <= MAX_DEPTH:
        return False
    depth = 0
    for match in _MARKS.finditer(value):
        mark = match[0]
        if mark in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif mark in b"]}":
            depth -= 1
    return False
