"""What can be wrong with a schema, with data that are read by it, and with JSON that is to be written by it.

Each says in people's words what and where; none of them names a format.
"""

from __future__ import annotations


class SchemaError(ValueError):
    """The text is no schema of its kind; the message says what and where."""


class DataError(ValueError):
    """The bytes cannot be read with the schema."""


class NoFit(ValueError):
    """JSON that does not fit the schema, at a `path` such as `.items[2].price`, which grows on the way out."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.path, self.what = "", what

    def inside(self, step: str) -> NoFit:
        """The same, seen from one level above."""
        self.path = f"{step}{self.path}"
        return self

    def __str__(self) -> str:
        return f"{self.path or '.'}: {self.what}"
