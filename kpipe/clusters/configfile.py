"""Reads one configuration file: TOML with a table of librdkafka properties, and kpipe's own keys, per cluster.

Never fetches a secret and never mixes two files: which file wins is decided in `profiles`.

    default = "dev"                          # the current cluster

    [clusters.prod]
    bootstrap.servers = "a:9092,b:9092"      # bare or quoted ("bootstrap.servers"), a string or a list
    security.protocol = "SASL_SSL"
    read_only = true
    password_command = ["pass", "show", "kafka/prod"]
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from kpipe.clusters.address import check_cluster_name
from kpipe.clusters.properties import canonical, did_you_mean
from kpipe.clusters.secrets import Reference, SecretSource, file_warning, holds_secret
from kpipe.errors import UsageError

if TYPE_CHECKING:
    import tomllib
    from collections.abc import Iterator
    from pathlib import Path

MAX_BYTES = 1 << 20
TOP_KEYS = ("default", "clusters")
SECRET_KEYS = {
    "password": "sasl.password",
    "key_password": "ssl.key.password",
    "keystore_password": "ssl.keystore.password",
    "client_secret": "sasl.oauthbearer.client.secret",
    "key_pem": "ssl.key.pem",
    "oauth_extensions": "sasl.oauthbearer.extensions",
    "oauth_config": "sasl.oauthbearer.config",
    "assertion_key": "sasl.oauthbearer.assertion.private.key.pem",
    "assertion_passphrase": "sasl.oauthbearer.assertion.private.key.passphrase",
    "registry_password": "schema.registry.password",
    "registry_token": "schema.registry.bearer.auth.token",
    "registry_key_password": "schema.registry.ssl.key.password",
}
"""What a key of a cluster starts with when it says where a secret is (`key_password_file`), and what it fills."""

AWS_KEYS = ("aws_region", "aws_profile", "aws_role_arn", "aws_role_session")
"""Amazon MSK with IAM, in the order of a reference's target."""

OWN_KEYS: dict[str, Any] = {
    "read_only": bool,
    "shell": bool,
    "token_command": list[str] | str,
    "token_env": str,
    "token_file": str,
    "token_plugin": str,
    "aws_region": str,
    "aws_profile": str,
    "aws_role_arn": str,
    "aws_role_session": str,
    **{
        f"{prefix}_{source}": list[str] | str if source is SecretSource.COMMAND else str
        for prefix in SECRET_KEYS
        for source in SecretSource
        if source is not SecretSource.AWS
    },
}
"""kpipe's own keys of a cluster and the type of each."""


@dataclass(frozen=True, slots=True)
class Setting:
    """The value of a property and where it came from."""

    value: str = field(repr=False)
    """Left out of the representation: it may be a secret."""
    origin: str


@dataclass(slots=True)
class Settings:
    """Settings from one origin: properties by canonical name, and references to secrets by the property they fill."""

    settings: dict[str, Setting] = field(default_factory=dict)
    references: dict[str, tuple[Reference, str]] = field(default_factory=dict)
    """The key "" is the token's."""
    read_only: str = ""
    """Where `read_only = true` stands; empty when it does not."""


class ConfigFile(NamedTuple):
    """One file: the name of the current cluster ("" = not said), and the clusters."""

    path: Path
    default: str
    clusters: dict[str, Settings]
    warnings: list[str]


def read_config(path: Path, *, home: Path | None) -> ConfigFile:
    """The file as it is; UsageError with file and line for what is wrong in it. OSError when it cannot be opened."""
    return parse_config(read_text(path), path, home=home)


def parse_config(text: str, path: Path, *, home: Path | None) -> ConfigFile:
    """The text of the file at `path`; UsageError with file and line for what is wrong in it."""
    import tomllib  # only now: most starts find no file

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(error, path, text) from None
    except RecursionError:
        raise UsageError("is nested too deep; it needs no more than [clusters.NAME]", where=str(path)) from None
    reader = _Reader(path, _find_lines(text), home)
    for key in document:
        if key not in TOP_KEYS:
            raise UsageError(f"no such key {key!r}; {did_you_mean(key, TOP_KEYS)}", where=reader.where(key))
    default, clusters = document.get("default", ""), document.get("clusters", {})
    if not isinstance(default, str):
        raise UsageError('default is the name of a cluster; write default = "NAME"', where=reader.where("default"))
    if not isinstance(clusters, dict):
        raise UsageError("clusters is a table; write [clusters.NAME]", where=reader.where("clusters"))
    tables = {name: reader.read_cluster(name, table) for name, table in clusters.items()}
    in_clear = any(holds_secret(name) for table in tables.values() for name in table.settings)
    return ConfigFile(path, default, tables, file_warning(path) if in_clear else [])


def read_text(path: Path) -> str:
    """A configuration file's text; refused beyond 1 MiB and when it is not UTF-8. OSError when it cannot be opened."""
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    return decode(content, path)


def decode(content: bytes, path: Path) -> str:
    """What was read of the file at `path`, at most MAX_BYTES + 1 bytes, as text."""
    if len(content) > MAX_BYTES:
        raise UsageError(f"is larger than {MAX_BYTES} bytes; this is no configuration file", where=str(path))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError("is not UTF-8 text; save it as UTF-8", where=f"{path}:{line}") from None


def _syntax_error(error: tomllib.TOMLDecodeError, path: Path, text: str) -> UsageError:
    """TOML's error with its line where people and editors look for it."""
    what, place = re.subn(r" \(at (?:line \d+, column \d+|end of document)\)$", "", str(error))
    found = re.search(r"\(at line (\d+), column \d+\)$", str(error))
    line = int(found[1]) if found else text.count("\n") + 1 if place else 1
    return UsageError(f"not TOML: {what[:1].lower()}{what[1:]}; correct this line", where=f"{path}:{line}")


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the clusters of one file."""

    path: Path
    lines: dict[str, int]
    home: Path | None

    def where(self, *keys: str) -> str:
        """`FILE:LINE` of a key, of the innermost table known otherwise."""
        names = [".".join(keys[:length]) for length in range(len(keys), 0, -1)]
        line = next((self.lines[name] for name in names if name in self.lines), None)
        return str(self.path) if line is None else f"{self.path}:{line}"

    def read_cluster(self, name: str, entries: object) -> Settings:
        """One `[clusters.NAME]`."""
        where = self.where("clusters", name)
        check_cluster_name(name, where=where)
        if not isinstance(entries, dict):
            raise UsageError(f"clusters.{name} is a table; write [clusters.{name}]", where=where)
        own = {key: value for key, value in entries.items() if key in OWN_KEYS}
        table = Settings()
        for key, value in _flatten({key: value for key, value in entries.items() if key not in OWN_KEYS}):
            place = self.where("clusters", name, key)
            self._add_property(table, key, value, place)
        if own:
            self._check_types(name, own)
            self._add_own(table, name, own)
        return table

    def _add_property(self, table: Settings, key: str, value: object, where: str) -> None:
        """One librdkafka property."""
        name = canonical(key, where=where, also=OWN_KEYS)
        if name in table.settings:
            raise UsageError(f"{key} and {name} are the same property; keep one", where=where)
        text = _as_text(key, value, where)
        table.settings[name] = Setting(self._resolve_path(text) if _is_path(name, text) else text, where)

    def _check_types(self, name: str, own: dict[str, object]) -> None:
        """Check kpipe's own keys against OWN_KEYS, by msgspec (strict: a quoted "true" is no boolean)."""
        import msgspec

        shape = msgspec.defstruct("Cluster", [(key, type_ | None, None) for key, type_ in OWN_KEYS.items()])
        try:
            msgspec.convert(own, shape)
        except msgspec.ValidationError as error:
            what, _, place = str(error).partition(" - at `$.")
            key = re.split(r"[`\[]", place)[0]
            what = what.replace(" | null", "").replace("`", "")
            raise UsageError(
                f"{key}: {what[:1].lower()}{what[1:]}; correct it", where=self.where("clusters", name, key)
            ) from None

    def _add_own(self, table: Settings, name: str, own: dict[str, Any]) -> None:
        """Take kpipe's own keys, their types already right."""
        if own.get("read_only"):
            table.read_only = self.where("clusters", name, "read_only")
        for key, value in own.items():
            prefix, _, source = key.rpartition("_")
            if key in ("read_only", "shell", *AWS_KEYS[1:]):
                continue
            where = self.where("clusters", name, key)
            if key == "aws_region":
                self._add_aws(table, own, where)
                continue
            filled = SECRET_KEYS.get(prefix, "")
            if filled in table.references or filled in table.settings:
                raise UsageError(
                    f"{key}: {filled or 'the token'} is already given in this cluster; keep one", where=where
                )
            reference = self._refer(filled, SecretSource(source), value, shell=bool(own.get("shell")), where=where)
            table.references[filled] = (reference, where)

    def _add_aws(self, table: Settings, own: dict[str, Any], where: str) -> None:
        """`aws_region`: Amazon MSK with IAM, which is always behind TLS."""
        named = [str(own.get(key) or "") for key in AWS_KEYS]
        if "" in table.references or not named[0]:
            raise UsageError("aws_region is the one source of the token; name a region and keep one", where=where)
        if named[1] and named[2]:
            raise UsageError("aws_profile and aws_role_arn are two logins; keep one", where=where)
        table.references[""] = (Reference("", SecretSource.AWS, tuple(named if named[2] else named[:2])), where)
        table.settings.setdefault("security.protocol", Setting("SASL_SSL", where))

    def _refer(
        self, filled: str, source: SecretSource, value: str | list[str], *, shell: bool, where: str
    ) -> Reference:
        """A key that says where a secret is, as a Reference."""
        if not value or not value[0]:
            raise UsageError(f"the {source.value} is empty; say where the secret is, or remove the line", where=where)
        if source is SecretSource.COMMAND and isinstance(value, str) and not shell:
            raise UsageError(
                'a command is a list, as ["pass", "show", "kafka"]; a string needs shell = true', where=where
            )
        if source is SecretSource.FILE:
            value = self._resolve_path(str(value))
        target = (value,) if isinstance(value, str) else tuple(value)
        return Reference(filled, source, target, shell=isinstance(value, str) and source is SecretSource.COMMAND)

    def _resolve_path(self, path: str) -> str:
        """A path as written in this file: `~/` is the home directory, a relative path starts where the file is."""
        if path.startswith("~/") and self.home is not None:
            return str(self.home / path[2:])
        return str(self.path.absolute().parent / path)


def _is_path(name: str, value: str) -> bool:
    """Whether a property's value is a path; `probe` is librdkafka's word for looking in the usual places."""
    return name.endswith((".location", ".file", ".keytab")) and value not in ("", "probe")


def _flatten(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Bare dotted keys are nested tables to TOML: back to `bootstrap.servers`."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _as_text(key: str, value: object, where: str) -> str:
    """A property's value as librdkafka takes it: all are text there, lists joined by commas."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case int() | float():
            return str(value)
        case list() if value and not any(isinstance(entry, (list, dict)) for entry in value):
            return ",".join(_as_text(key, entry, where) for entry in value)
    raise UsageError(f"{key}: {type(value).__name__} is no value for a property; write a string", where=where)


_KEY = r"""(?:"(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)"""
_DOTTED = rf"{_KEY}(?:[ \t]*\.[ \t]*{_KEY})*"
_LINE = re.compile(rf"[ \t]*(?:\[\[?[ \t]*(?P<table>{_DOTTED})[ \t]*\]|(?P<key>{_DOTTED})[ \t]*=)")


def _find_lines(text: str) -> dict[str, int]:
    """Where each key and table stands, by its dotted name; tomllib does not tell. Inline tables are not searched."""
    lines: dict[str, int] = {}
    table: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        match = _LINE.match(line)
        if match is None:
            continue
        if match["table"] is not None:
            path = table = _split_dotted(match["table"])
        else:
            path = table + _split_dotted(match["key"])
        for length in range(1, len(path) + 1):
            lines.setdefault(".".join(path[:length]), number)
    return lines


def _split_dotted(dotted: str) -> list[str]:
    """`a."b.c".d` → ["a", "b.c", "d"]."""
    return [part[1:-1] if part[0] in "\"'" else part for part in re.findall(_KEY, dotted)]
