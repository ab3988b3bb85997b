"""`--call pick=id,name`: only these fields of a JSON object stay; a record that has none of them is dropped."""

import json
from collections.abc import Callable
from dataclasses import replace

from kpipe.api import Record


def pick(argument: str | None) -> Callable[[Record], Record | None]:
    """Called once, at the start; what it returns is called for every record."""
    fields = [name for name in (argument or "").split(",") if name]
    if not fields:
        raise ValueError("name the fields that stay: pick=id,name")

    def transform(record: Record) -> Record | None:
        if record.value is None:
            return record  # a tombstone says that its key is gone
        value = json.loads(record.value)  # an exception makes this record a bad one; --on-error decides
        kept = {name: value[name] for name in fields if name in value}
        return replace(record, value=json.dumps(kept).encode()) if kept else None

    return transform
