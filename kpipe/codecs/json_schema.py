"""JSON Schema: data are JSON already, and are checked when they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from kpipe.codecs.errors import DataError, NoFit, SchemaError
from kpipe.codecs.schema import Codec, Read, refuse_reader
from kpipe.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kpipe.codecs.registry import SchemaText
    from kpipe.codecs.schema import ValueStyle, Write


class Json(Codec):
    """A schema in JSON Schema: the data are JSON already, and are checked only when they are written."""

    format = "json"

    def __init__(self, text: str, others: Mapping[str, str], view: ValueStyle | None = None) -> None:
        if view is not None:
            refuse_reader(view, self.format)
        self._text, self._others = text, others
        self._reader = view.reader if view is not None else None
        self._validator: Any = None

    def read(self, data: bytes, start: int, beside: bytes | None = None) -> Read:
        """The JSON text as it stands."""
        try:
            orjson.loads(data[start:])
            if self._reader is not None:
                self._reader.writer()(data[start:])
        except orjson.JSONDecodeError as error:
            raise DataError(f"it is not JSON ({error})") from None
        except NoFit as error:
            raise DataError(str(error)) from None
        return Read(orjson.Fragment(data[start:]), self._write_text)

    def writer(
        self, message: str = "", *, indexed: bool = True, as_read: bool = False, tagged: bool | None = None
    ) -> Write:
        """The text itself, if it is valid: numbers keep their digits."""
        return self._write_text

    def _write_text(self, text: bytes) -> bytes:
        found = next(iter(self._valid().iter_errors(orjson.loads(text))), None)
        if found is not None:
            error = NoFit(found.message[:300])
            for step in reversed(list(found.instance_path)):
                error = error.inside(f"[{step}]" if isinstance(step, int) else f".{step}")
            raise error
        return text

    def _valid(self) -> Any:
        if self._validator is None:
            try:
                import jsonschema_rs
            except ImportError:
                what = "writing by a JSON Schema needs a library: pip install 'kpipe-cli[schemas]'"
                raise UsageError(what) from None

            def fetch(uri: str) -> Any:
                name = next((each for each in self._others if uri == each or uri.endswith("/" + each)), None)
                if name is None:
                    raise SchemaError(f"$ref to {uri}, which is not among its references")
                return orjson.loads(self._others[name])

            try:
                schema = orjson.loads(self._text)
                self._validator = jsonschema_rs.validator_for(schema, retriever=fetch)
            except (ValueError, TypeError) as error:
                raise SchemaError(str(error).partition("\n")[0][:300]) from None
        return self._validator


def from_registry(schema: SchemaText, others: Mapping[str, str], view: ValueStyle, _descriptor: bytes | None) -> Json:
    """A registry's schema."""
    return Json(schema.text, others, view)


def from_file(_path: str, text: str, view: ValueStyle) -> Json:
    """A .json file; its references are not looked for."""
    return Json(text, {}, view)


def nameless() -> Json:
    """Data that name no schema: any JSON."""
    return Json("true", {})
