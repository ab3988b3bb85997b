"""The face of a schema that is ready to read and write, whatever its format; the formats are rows of `kpipe.codecs`.

It is given texts; it asks nobody for them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from kpipe.codecs import CODECS
from kpipe.codecs.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kpipe.codecs.registry import SchemaText


Write: TypeAlias = "Callable[[bytes], bytes]"
"""Makes the data of a schema of JSON text."""


class Read(NamedTuple):
    """What was read: `value` is what orjson writes, `note` what that does not show (empty: nothing).

    `write` makes JSON text bytes of the same type: NoFit where it does not fit (None: it is only read). `message` is
    the type's name.
    """

    value: Any
    write: Write | None
    note: str = ""
    message: str = ""


class Codec(ABC):
    """Reads and writes the data of one schema; framing is not its business, but Protobuf's message index is.

    What is not abstract is for the formats that have it.
    """

    format: str = ""
    """The word of its row."""
    types: Sequence[str] = ()
    """The names of its message types, where a schema has several."""
    fingerprint: bytes = b""
    """What data name it by that carry no id."""
    has_index: bool = False
    """Whether a message index stands behind an id."""
    about: Mapping[str, Any] = {}
    """What an envelope says of the form of its JSON."""
    read_value: Callable[[bytes, int], tuple[Any, int]] | None = None
    """Reads a value of which there is nothing more to say, and where it ends; for the shortest way."""

    @abstractmethod
    def read(self, data: bytes, start: int, beside: bytes | None = None) -> Read:
        """The value at `start`, which takes all the bytes; DataError otherwise.

        `beside` is a Protobuf message index from a header.
        """

    @abstractmethod
    def writer(
        self, message: str = "", *, indexed: bool = True, as_read: bool = False, tagged: bool | None = None
    ) -> Write:
        """Makes bytes of JSON text; NoFit where it does not fit, orjson's error where it is no JSON.

        A Protobuf schema has several types, `message` names one (empty: the first), and `indexed` puts its message
        index before the data. `as_read`: the JSON is what was read; `tagged`: it is Avro's own (None: as the view is).
        SchemaError where there is no such type.
        """

    def index(self, message: str = "") -> bytes:
        """Confluent's message index of that type, as it stands before data or in a header; empty but for Protobuf."""
        return b""


class ValueStyle:
    """How values are shown: see the options `--avro-json`, `--big-ints`, `--defaults` and `--connect-types`.

    `reader` is the schema of `--reader-schema`, called `reader_name`, through which all others are seen.
    """

    def __init__(
        self,
        *,
        tagged: bool = False,
        big_ints_as_text: bool = False,
        defaults: bool = False,
        message: str = "",
        connect_types: bool = False,
        reader: Codec | None = None,
        reader_name: str = "",
    ) -> None:
        self.tagged, self.big_ints_as_text, self.defaults, self.message = tagged, big_ints_as_text, defaults, message
        self.connect_types, self.reader, self.reader_name = connect_types, reader, reader_name


def refuse_reader(view: ValueStyle, own: str) -> None:
    """The schema of --reader-schema is one of the same format; SchemaError."""
    if view.reader is not None and view.reader.format != own:
        raise SchemaError(f"it is {own}, and the reader's schema is {view.reader.format}")


def load(schema: SchemaText, others: Mapping[str, str], view: ValueStyle, descriptor: bytes | None = None) -> Codec:
    """The codec of a registry's schema; `others` are texts of its references by name, in the order of their use.

    `descriptor` is the registry's own descriptor of the schema, where the row asks for one. SchemaError otherwise.
    """
    row = next((row for row in CODECS.values() if row.kind == schema.kind), None)
    if row is None:
        raise SchemaError(f"a schema of the kind {schema.kind}, which kpipe cannot read")
    codec: Codec = row.part("from_registry")(schema, others, view, descriptor)
    return codec
