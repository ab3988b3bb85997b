"""Reads what other Kafka tools are configured with: kcat and Java files for -F, also kaf's and rpk's for an import.

Never writes to any of these files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kpipe.clusters.configfile import MAX_BYTES, Setting, Table, read_text
from kpipe.clusters.java import from_java, is_java, parse_properties
from kpipe.clusters.properties import canonical
from kpipe.clusters.secrets import file_warning, holds_secret
from kpipe.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(slots=True)
class Foreign:
    """Clusters from a file of another tool: librdkafka properties by cluster, and notes for people."""

    clusters: dict[str, dict[str, str]] = field(default_factory=dict)
    default: str = ""
    notes: list[str] = field(default_factory=list)


def read_client_file(path: Path) -> tuple[Table, list[str]]:
    """-F: a Java client.properties, or a kcat configuration of librdkafka properties; and notes for people.

    Relative paths inside are as the other tool takes them: from the working directory.
    """
    text = _open(path)
    entries = parse_properties(text, path)
    if is_java(path, entries):
        table, notes = from_java(entries, Path())
    else:
        table, notes = Table(settings=_parse_kcat(text, path)), []
    notes = [f"{path}: {note}" for note in notes]
    return table, notes + (file_warning(path) if any(map(holds_secret, table.settings)) else [])


def read_foreign(path: Path) -> Foreign:
    """A file of kaf (`clusters:`), rpk (`profiles:`), Java or kcat, told apart by what is in it."""
    text = _open(path)
    if not _is_yaml(path, text):
        table, notes = read_client_file(path)
        properties = {name: setting.value for name, setting in table.settings.items()}
        if token := table.references.get(""):
            properties |= dict(zip(("aws_region", "aws_profile"), filter(None, token[0].target), strict=False))
        return Foreign({path.stem.lstrip(".") or "imported": properties}, "", notes)
    document = _load_yaml(text, path)
    if "profiles" in document:
        return _from_rpk(document)
    if "clusters" in document:
        return _from_kaf(document)
    raise UsageError(
        "neither kaf's (clusters:) nor rpk's (profiles:) configuration; name another file", where=str(path)
    )


def find_foreign(environ: Mapping[str, str]) -> list[Path]:
    """The configuration files of other tools that exist where those tools look for them."""
    home = Path(environ.get("HOME") or "/nonexistent")
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    named = [Path(environ[name]) for name in ("KCAT_CONFIG", "KAFKACAT_CONFIG") if environ.get(name)]
    usual = [config / "kcat.conf", config / "kafkacat.conf", home / ".kaf" / "config", config / "rpk" / "rpk.yaml"]
    return [path for path in dict.fromkeys(named + usual) if path.is_file()]


def _open(path: Path) -> str:
    """The text of a file that the user named."""
    try:
        return read_text(path)
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}; check the path", where=str(path)) from None


def _parse_kcat(text: str, path: Path) -> dict[str, Setting]:
    """`name=value` lines and # comments; the later of two for one property wins."""
    settings = {}
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{path}:{number}"
        name, equals, value = line.partition("=")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not equals:
            raise UsageError("not a property; write NAME=VALUE", where=where)
        settings[canonical(name.strip(), where=where)] = Setting(value.strip(), where)
    return settings


def _is_yaml(path: Path, text: str) -> bool:
    """Whether a file is YAML: by its name, or as kaf's, which has no ending, by its first keys."""
    if path.suffix in (".yaml", ".yml"):
        return True
    keys = ("current-cluster:", "clusters:", "current_profile:", "profiles:")
    return any(line.startswith(keys) for line in text.splitlines())


def _load_yaml(text: str, path: Path) -> dict[str, Any]:
    """The top table of a YAML file."""
    from importlib import import_module

    try:
        yaml = import_module("yaml")
    except ImportError:
        raise UsageError(
            "reading YAML needs the PyYAML package; pip install 'kpipe[import]'", where=str(path)
        ) from None
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        raise UsageError(f"not YAML: {getattr(error, 'problem', None) or 'broken'}; correct it", where=where) from None
    if not isinstance(document, dict):
        raise UsageError(
            f"not a table of settings (at most {MAX_BYTES} bytes of YAML); name another file", where=str(path)
        )
    return document


def _from_kaf(document: dict[str, Any]) -> Foreign:
    """Kaf: a list of clusters with name, brokers, SASL, TLS and security-protocol."""
    foreign = Foreign(default=_text(document.get("current-cluster")))
    for entry in map(_table, _list(document.get("clusters"))):
        name, sasl, tls = _text(entry.get("name")), _table(entry.get("SASL")), _table(entry.get("TLS"))
        properties = {
            "bootstrap.servers": ",".join(map(_text, _list(entry.get("brokers")))),
            "security.protocol": _text(entry.get("security-protocol"))
            or _protocol(sasl=entry.get("SASL") is not None, tls=entry.get("TLS") is not None),
            "ssl.ca.location": _text(tls.get("cafile")),
            "ssl.certificate.location": _text(tls.get("clientfile")),
            "ssl.key.location": _text(tls.get("clientkeyfile")),
            "enable.ssl.certificate.verification": "false" if tls.get("insecure") else "",
            "sasl.mechanism": _text(sasl.get("mechanism")) or ("PLAIN" if sasl else ""),
            "sasl.username": _text(sasl.get("username")),
            "sasl.password": _text(sasl.get("password")),
            "sasl.oauthbearer.method": "oidc" if sasl.get("tokenURL") else "",
            "sasl.oauthbearer.token.endpoint.url": _text(sasl.get("tokenURL")),
            "sasl.oauthbearer.client.id": _text(sasl.get("clientID")),
            "sasl.oauthbearer.client.secret": _text(sasl.get("clientSecret")),
            "sasl.oauthbearer.scope": " ".join(map(_text, _list(sasl.get("scopes")))),
        }
        _add(foreign, name, properties)
        if sasl.get("token"):
            foreign.notes.append(f"{name!r}: its token was not copied; add token_command")
        if entry.get("schema-registry-url"):
            foreign.notes.append(f"{name!r}: its schema registry was left out")
    return foreign


def _from_rpk(document: dict[str, Any]) -> Foreign:
    """Rpk: a list of profiles with name and kafka_api; an empty `tls: {}` means TLS with the usual authorities."""
    foreign = Foreign(default=_text(document.get("current_profile")))
    for entry in map(_table, _list(document.get("profiles"))):
        api = _table(entry.get("kafka_api"))
        sasl, tls = _table(api.get("sasl")), _table(api.get("tls"))
        properties = {
            "bootstrap.servers": ",".join(map(_text, _list(api.get("brokers")))),
            "security.protocol": _protocol(sasl=bool(sasl), tls=api.get("tls") is not None),
            "ssl.ca.location": _text(tls.get("ca_file")) or _text(tls.get("truststore_file")),
            "ssl.certificate.location": _text(tls.get("cert_file")),
            "ssl.key.location": _text(tls.get("key_file")),
            "enable.ssl.certificate.verification": "false" if tls.get("insecure_skip_verify") else "",
            "sasl.mechanism": _text(sasl.get("mechanism")) or ("SCRAM-SHA-256" if sasl else ""),
            "sasl.username": _text(sasl.get("user")) or _text(sasl.get("username")),
            "sasl.password": _text(sasl.get("password")),
        }
        _add(foreign, _text(entry.get("name")), properties)
    return foreign


def _add(foreign: Foreign, name: str, properties: dict[str, str]) -> None:
    """Take a cluster over, without what it does not say."""
    properties = {key: value for key, value in properties.items() if value}
    if "bootstrap.servers" not in properties:
        foreign.notes.append(f"{name!r}: left out, it names no brokers")
        return
    if properties.get("enable.ssl.certificate.verification") == "false":
        foreign.notes.append(
            f"{name!r}: does not verify the brokers' certificates, as before; better set ssl.ca.location"
        )
    foreign.clusters[name] = properties


def _protocol(*, sasl: bool, tls: bool) -> str:
    """security.protocol, as librdkafka spells it."""
    return ("SASL_" if sasl else "") + ("SSL" if tls else "PLAINTEXT")


def _table(value: object) -> dict[str, Any]:
    """A YAML mapping; anything else counts as empty."""
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    """A YAML sequence; a single text is a sequence of one, anything else counts as empty."""
    return value if isinstance(value, list) else [value] if isinstance(value, str) else []


def _text(value: object) -> str:
    """A YAML scalar as text; null and tables are empty."""
    return str(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else ""
