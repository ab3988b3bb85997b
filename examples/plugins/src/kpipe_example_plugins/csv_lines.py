"""`--decode plugin:csv=id,name`: a value that is a line of CSV, as a JSON object."""

import csv
import io


class CsvLines:
    """Made once, at the start, with what stands behind the name; its methods are called for every value."""

    def __init__(self, argument: str | None) -> None:
        self._names = (argument or "").split(",")
        if not all(self._names):
            raise ValueError("name the columns: csv=id,name")

    def decode(self, data: bytes) -> dict[str, str]:
        """What JSON can hold; an exception says that this value is no such line."""
        rows = list(csv.reader([data.decode()], strict=True))
        if len(rows) != 1 or len(rows[0]) != len(self._names):
            raise ValueError(f"{len(self._names)} columns are expected")
        return dict(zip(self._names, rows[0], strict=True))

    def encode(self, value: dict[str, str]) -> bytes:
        """The other way, for records that a transform has changed; without it they would be refused."""
        if list(value) != self._names:
            raise ValueError(f"the columns are {', '.join(self._names)}")
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(value.values())
        return line.getvalue().encode()
