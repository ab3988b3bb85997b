"""An Avro schema as a tree of nodes, with every name resolved; what its types may do to a reader is known.

It reads no data. Names follow the specification (1.12): a namespace is inherited, a dot makes a name whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from kpipe.codecs.errors import SchemaError

PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
_NAMED = ("record", "error", "enum", "fixed")
DEEPEST_SCHEMA = 100
"""Types nested in types: real schemas stay far below, and a hostile one must not exhaust the stack."""


@dataclass(slots=True, eq=False)
class RecordField:
    """A field of a record; `default` is JSON, `has_default` tells null from none."""

    name: str
    node: Node
    default: Any = None
    has_default: bool = False
    aliases: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Node:
    """One type. `kind` is a primitive, record, enum, fixed, array, map or union.

    `items` is what an array or map holds; `branches` are a union's types; `logical` is a logical type that fits the
    type below it (an unknown one is left out, as the specification wants); `connect` is what Kafka Connect calls it.
    `aliases` are a named type's other full names; `default` is an enum's symbol for those that a reader does not know.
    """

    kind: str
    name: str = ""
    fields: list[RecordField] = field(default_factory=list)
    symbols: list[str] = field(default_factory=list)
    branches: list[Node] = field(default_factory=list)
    items: Node | None = None
    size: int = 0
    logical: str = ""
    precision: int = 0
    scale: int = 0
    connect: str = ""
    aliases: tuple[str, ...] = ()
    default: str = ""

    @property
    def tag(self) -> str:
        """The name of this type as a branch of a union, as Avro's JSON encoding writes it."""
        return self.name or self.kind

    @property
    def inner(self) -> Node:
        """What an array or map holds."""
        if self.items is None:
            raise SchemaError(f"{self.kind} of nothing")
        return self.items


def parse(text: str | bytes, named: dict[str, Node] | None = None) -> Node:
    """The schema's tree; `named` are types of referenced schemas, and what this schema defines is added to it."""
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        written = text.decode(errors="replace") if isinstance(text, bytes) else text
        if written.strip() in PRIMITIVES:  # registries hand out "string" with and without its quotes
            return Node(written.strip())
        raise SchemaError(f"not JSON: {error}") from None
    return _Parser({} if named is None else named).parse(document, "", 0)


class _Parser:
    def __init__(self, named: dict[str, Node]) -> None:
        self._named = named

    def parse(self, schema: Any, namespace: str, depth: int) -> Node:
        if depth > DEEPEST_SCHEMA:
            raise SchemaError(f"types nested deeper than {DEEPEST_SCHEMA}")
        match schema:
            case str():
                return self._by_name(schema, namespace)
            case list():
                return self._union(schema, namespace, depth)
            case {"type": dict() | list() as inner}:
                return self.parse(inner, namespace, depth + 1)
            case {"type": str() as kind}:
                return self._typed(kind, schema, namespace, depth)
        raise SchemaError(f"no type: {_short(schema)}")

    def _typed(self, kind: str, schema: dict[str, Any], namespace: str, depth: int) -> Node:
        if kind in PRIMITIVES:
            return _logical(Node(kind), schema)
        if kind in ("array", "map"):
            inner = "items" if kind == "array" else "values"
            if inner not in schema:
                raise SchemaError(f"{kind} without {inner!r}")
            return Node(kind, items=self.parse(schema[inner], namespace, depth + 1))
        if kind in _NAMED:
            return self._define(kind, schema, namespace, depth)
        return self._by_name(kind, namespace)

    def _by_name(self, name: str, namespace: str) -> Node:
        if name in PRIMITIVES:
            return Node(name)
        full = name if "." in name or not namespace else f"{namespace}.{name}"
        found = self._named.get(full) or self._named.get(name)
        if found is None:
            raise SchemaError(f"unknown type {name!r}")
        return found

    def _union(self, schema: list[Any], namespace: str, depth: int) -> Node:
        branches = [self.parse(each, namespace, depth + 1) for each in schema]
        tags = [branch.tag for branch in branches]
        twins = {tag for tag in tags if tags.count(tag) > 1}
        if twins:
            raise SchemaError(f"a union holds {min(twins)} twice")
        if any(branch.kind == "union" for branch in branches):
            raise SchemaError("a union directly inside a union")
        if not branches:
            raise SchemaError("an empty union")
        return Node("union", branches=branches)

    def _define(self, kind: str, schema: dict[str, Any], namespace: str, depth: int) -> Node:
        name = schema.get("name")
        if not isinstance(name, str) or not name:
            raise SchemaError(f"a {kind} without a name")
        name = _full_name(name, schema, namespace)
        inside = name.rpartition(".")[0]
        aliases = tuple(f"{inside}.{each}" if inside and "." not in each else each for each in _aliases(schema))
        node = Node("record" if kind == "error" else kind, name, aliases=aliases)
        self._named[name] = node
        if node.kind == "record":
            for each in _listed(schema, "fields", name):
                if not isinstance(each, dict) or not isinstance(each.get("name"), str) or "type" not in each:
                    raise SchemaError(f"{name}: a field without name or type: {_short(each)}")
                inner = self.parse(each["type"], inside, depth + 1)
                node.fields.append(
                    RecordField(each["name"], inner, each.get("default"), "default" in each, _aliases(each))
                )
        elif kind == "enum":
            node.symbols = [str(symbol) for symbol in _listed(schema, "symbols", name)]
            node.default = str(schema.get("default") or "")
        else:
            size = schema.get("size")
            if not isinstance(size, int) or size < 0:
                raise SchemaError(f"{name}: fixed without a size")
            node.size = size
        return _logical(node, schema)


def _full_name(name: str, schema: dict[str, Any], namespace: str) -> str:
    own = schema.get("namespace", namespace)
    return f"{own}.{name}" if own and "." not in name else name


_LOGICAL = {
    "date": ("int",),
    "time-millis": ("int",),
    "time-micros": ("long",),
    "timestamp-millis": ("long",),
    "timestamp-micros": ("long",),
    "timestamp-nanos": ("long",),
    "local-timestamp-millis": ("long",),
    "local-timestamp-micros": ("long",),
    "local-timestamp-nanos": ("long",),
    "decimal": ("bytes", "fixed"),
    "uuid": ("string", "fixed"),
    "duration": ("fixed",),
}
_SIZES = {"duration": 12, "uuid": 16}


def _logical(node: Node, schema: dict[str, Any]) -> Node:
    name = schema.get("connect.name")
    node.connect = name if isinstance(name, str) else ""
    logical = schema.get("logicalType")
    if not isinstance(logical, str) or node.kind not in _LOGICAL.get(logical, ()):
        return node
    if node.kind == "fixed" and node.size != _SIZES.get(logical, node.size):
        return node
    if logical == "decimal":
        precision, scale = schema.get("precision"), schema.get("scale", 0)
        if not isinstance(precision, int) or not isinstance(scale, int) or not 0 <= scale <= precision:
            return node
        node.precision, node.scale = precision, scale
    node.logical = logical
    return node


CONNECT_TYPES = {
    "org.apache.kafka.connect.data.Date": ("int", "date"),
    "org.apache.kafka.connect.data.Time": ("int", "time-millis"),
    "org.apache.kafka.connect.data.Timestamp": ("long", "timestamp-millis"),
    "io.debezium.time.Date": ("int", "date"),
    "io.debezium.time.Time": ("int", "time-millis"),
    "io.debezium.time.MicroTime": ("long", "time-micros"),
    "io.debezium.time.NanoTime": ("long", "time-nanos"),
    "io.debezium.time.Timestamp": ("long", "local-timestamp-millis"),
    "io.debezium.time.MicroTimestamp": ("long", "local-timestamp-micros"),
    "io.debezium.time.NanoTimestamp": ("long", "local-timestamp-nanos"),
}
"""What Kafka Connect and Debezium mean by a plain number: the type below, and the logical type that shows it.

Debezium's timestamps have no zone (its documentation, "Temporal types"), so they are shown without one.
"""


def connect_logical(node: Node) -> str:
    """The logical type that a number's Connect name stands for; empty where it stands for none."""
    kind, logical = CONNECT_TYPES.get(node.connect, ("", ""))
    return logical if node.kind == kind else ""


def with_connect_types(node: Node, seen: set[int] | None = None) -> Node:
    """The same tree, with logical types where Connect's names mean them."""
    seen = set() if seen is None else seen
    if id(node) not in seen:
        seen.add(id(node))
        node.logical = node.logical or connect_logical(node)
        for inner in (*(each.node for each in node.fields), *node.branches, *([node.items] if node.items else ())):
            with_connect_types(inner, seen)
    return node


def _listed(schema: dict[str, Any], member: str, name: str) -> list[Any]:
    found = schema.get(member)
    if not isinstance(found, list):
        raise SchemaError(f"{name}: no list of {member}")
    return found


def _aliases(schema: dict[str, Any]) -> tuple[str, ...]:
    found = schema.get("aliases")
    return tuple(each for each in found if isinstance(each, str)) if isinstance(found, list) else ()


def _short(schema: Any) -> str:
    text = orjson.dumps(schema).decode()
    return text if len(text) < 80 else text[:77] + "..."


def fingerprint(text: str) -> bytes:
    """The CRC-64-AVRO of a schema's Parsing Canonical Form, as it stands in single objects: 8 bytes, little-endian."""
    value = _EMPTY
    for byte in _canonical(orjson.loads(text), ""):
        value = (value >> 8) ^ _TABLE[(value ^ byte) & 0xFF]
    return value.to_bytes(8, "little")


_EMPTY = 0xC15D213AA4D7A795


def _crc_entry(number: int) -> int:
    for _ in range(8):
        number = (number >> 1) ^ (_EMPTY & -(number & 1))
    return number


_TABLE = [_crc_entry(number) for number in range(256)]


def _canonical(schema: Any, namespace: str) -> bytes:
    """The Parsing Canonical Form (specification, "Transforming into Parsing Canonical Form")."""
    if isinstance(schema, str):
        whole = schema if schema in PRIMITIVES or "." in schema or not namespace else f"{namespace}.{schema}"
        return orjson.dumps(whole)
    if isinstance(schema, list):
        return b"[" + b",".join(_canonical(each, namespace) for each in schema) + b"]"
    kind = schema["type"]
    if isinstance(kind, dict | list) or (kind not in _NAMED and kind not in ("array", "map")):
        return _canonical(kind, namespace)
    members: list[bytes] = []
    if kind in _NAMED:
        name = _full_name(schema["name"], schema, namespace)
        namespace = name.rpartition(".")[0]
        members.append(b'"name":' + orjson.dumps(name))
    members.append(b'"type":' + orjson.dumps(kind))
    if "fields" in schema:
        fields = [
            b'{"name":%b,"type":%b}' % (orjson.dumps(each["name"]), _canonical(each["type"], namespace))
            for each in schema["fields"]
        ]
        members.append(b'"fields":[' + b",".join(fields) + b"]")
    if kind == "enum":
        members.append(b'"symbols":' + orjson.dumps(schema["symbols"]))
    members += [
        b'"%b":%b' % (inner.encode(), _canonical(schema[inner], namespace))
        for inner in ("items", "values")
        if inner in schema
    ]
    if kind == "fixed":
        members.append(b'"size":%d' % schema["size"])
    return b"{" + b",".join(members) + b"}"
