"""Reads what other Kafka tools are configured with: kcat and Java for -F; for an import kaf, rpk and kafkactl, too.

Never writes to any of these files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kpipe.clusters.configfile import AWS_KEYS, MAX_BYTES, Setting, Settings, read_text
from kpipe.clusters.java import MEMBERSHIP, from_java, is_java, left_out, parse_properties
from kpipe.clusters.javakeys import is_registry_key, take_registry
from kpipe.clusters.logins import aws_region
from kpipe.clusters.properties import REFUSED_PROPERTIES, canonical
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


def read_client_file(path: Path) -> tuple[Settings, list[str]]:
    """-F: a Java client.properties, or a kcat configuration of librdkafka properties; and notes for people.

    Relative paths inside are as the other tool takes them: from the working directory.
    """
    text = _open(path)
    entries = parse_properties(text, path)
    if is_java(path, entries):
        table, notes = from_java(entries, Path())
    else:
        settings, ignored = _parse_kcat(text, path)
        table, notes = Settings(settings=settings), left_out(ignored)
    notes = [f"{path}: {note}" for note in notes]
    return table, notes + (file_warning(path) if any(map(holds_secret, table.settings)) else [])


def read_foreign(path: Path) -> Foreign:
    """A file of kaf (`clusters:`), rpk (`profiles:`), kafkactl (`contexts:`), Java or kcat, known by its content."""
    text = _open(path)
    if not _is_yaml(path, text):
        table, notes = read_client_file(path)
        properties = {name: setting.value for name, setting in table.settings.items()}
        if token := table.references.get(""):
            properties |= {key: named for key, named in zip(AWS_KEYS, token[0].target, strict=False) if named}
        return Foreign({path.stem.lstrip(".") or "imported": properties}, "", notes)
    document = _load_yaml(text, path)
    if "profiles" in document:
        return _from_rpk(document)
    if "clusters" in document:
        return _from_kaf(document)
    if "contexts" in document:
        return _from_kafkactl(document)
    raise UsageError(
        "neither kaf's (clusters:), rpk's (profiles:) nor kafkactl's (contexts:) configuration; name another file",
        where=str(path),
    )


def find_foreign(environ: Mapping[str, str]) -> list[Path]:
    """The configuration files of other tools that exist where those tools look for them."""
    home = Path(environ.get("HOME") or "/nonexistent")
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    variables = ("KCAT_CONFIG", "KAFKACAT_CONFIG", "KAFKA_CTL_CONFIG")
    named = [Path(environ[name]) for name in variables if environ.get(name)]
    usual = [
        config / "kcat.conf", config / "kafkacat.conf", home / ".kaf" / "config", config / "rpk" / "rpk.yaml",
        config / "kafkactl" / "config.yml", home / ".kafkactl" / "config.yml",
    ]  # fmt: skip
    return [path for path in dict.fromkeys(named + usual) if path.is_file()]


def _open(path: Path) -> str:
    """The text of a file that the user named."""
    try:
        return read_text(path)
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}; check the path", where=str(path)) from None


def _parse_kcat(text: str, path: Path) -> tuple[dict[str, Setting], list[str]]:
    """`name=value` lines and # comments; the later of two for one property wins. And what kpipe has no use for."""
    settings, ignored, registry = {}, [], dict[str, Setting]()
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{path}:{number}"
        name, equals, value = line.partition("=")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not equals:
            raise UsageError("not a property; write NAME=VALUE", where=where)
        name = name.strip()
        if is_registry_key(name):
            registry[name] = Setting(value.strip(), where)
            continue
        name = canonical(name, where=where)
        if name in REFUSED_PROPERTIES or name in MEMBERSHIP:
            ignored.append(name)
        else:
            settings[name] = Setting(value.strip(), where)
    taken, known = take_registry(registry)
    return settings | taken, [*ignored, *(name for name in registry if name not in known)]


def _is_yaml(path: Path, text: str) -> bool:
    """Whether a file is YAML: by its name, or as kaf's, which has no ending, by its first keys."""
    if path.suffix in (".yaml", ".yml"):
        return True
    keys = ("current-cluster:", "clusters:", "current_profile:", "profiles:", "contexts:", "current-context:")
    return any(line.startswith(keys) for line in text.splitlines())


def _load_yaml(text: str, path: Path) -> dict[str, Any]:
    """The top table of a YAML file."""
    from importlib import import_module

    try:
        yaml = import_module("yaml")
    except ImportError:
        raise UsageError(
            "reading YAML needs the PyYAML package; pip install 'kpipe-cli[import]'", where=str(path)
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
            "bootstrap.servers": _brokers(entry.get("brokers")),
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
            "token": _text(sasl.get("token")),
            "schema.registry.url": _text(entry.get("schema-registry-url")),
            **_credentials(_table(entry.get("schema-registry-credentials"))),
        }
        _add(foreign, name, properties)
    return foreign


def _from_rpk(document: dict[str, Any]) -> Foreign:
    """Rpk: a list of profiles with name and kafka_api; an empty `tls: {}` means TLS with the usual authorities."""
    foreign = Foreign(default=_text(document.get("current_profile")))
    for entry in map(_table, _list(document.get("profiles"))):
        api = _table(entry.get("kafka_api"))
        sasl, tls = _table(api.get("sasl")), _table(api.get("tls"))
        properties = {
            "bootstrap.servers": _brokers(api.get("brokers")),
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


def _credentials(registry: dict[str, Any]) -> dict[str, str]:
    return {f"schema.registry.{name}": _text(registry.get(name)) for name in ("username", "password")}


_KAFKACTL_MECHANISMS = {
    "": "PLAIN", "plaintext": "PLAIN", "scram-sha256": "SCRAM-SHA-256", "scram-sha512": "SCRAM-SHA-512"
}  # fmt: skip


def _from_kafkactl(document: dict[str, Any]) -> Foreign:
    """Kafkactl: a table of contexts with brokers, tls and sasl, each of which counts only when it is enabled."""
    foreign = Foreign(default=_text(document.get("current-context")))
    for name, entry in _table(document.get("contexts")).items():
        context = _table(entry)
        sasl, tls = (_enabled(context.get(part)) for part in ("sasl", "tls"))
        wanted = _text(sasl.get("mechanism")).lower()
        provider = _table(sasl.get("tokenprovider") or sasl.get("tokenProvider"))
        if provider or (sasl and wanted not in _KAFKACTL_MECHANISMS):
            foreign.notes.append(f"{name!r}: left out, its login ({wanted or 'a plugin'}) needs a token_command")
            continue
        properties = {
            "bootstrap.servers": _brokers(context.get("brokers")),
            "security.protocol": _protocol(sasl=bool(sasl), tls=bool(tls)),
            "ssl.ca.location": _text(tls.get("ca")),
            "ssl.certificate.location": _text(tls.get("cert")),
            "ssl.key.location": _text(tls.get("certKey") or tls.get("certkey")),
            "enable.ssl.certificate.verification": "false" if tls.get("insecure") else "",
            "sasl.mechanism": _KAFKACTL_MECHANISMS[wanted] if sasl else "",
            "sasl.username": _text(sasl.get("username")),
            "sasl.password": _text(sasl.get("password")),
            "client.id": _text(context.get("clientID") or context.get("clientid")),
        }
        _add(foreign, str(name), properties)
        if _table(context.get("schemaRegistry")) or _table(context.get("avro")):
            foreign.notes.append(f"{name!r}: its schema registry was left out")
    return foreign


def _enabled(value: object) -> dict[str, Any]:
    """A section that has to be switched on; empty when it is not."""
    section = _table(value)
    return section if section.get("enabled") else {}


def _add(foreign: Foreign, name: str, properties: dict[str, str]) -> None:
    """Take a cluster over, without what it does not say; left out with a note when its login is not all there."""
    properties = {key: value if holds_secret(key) else value.strip() for key, value in properties.items() if value}
    if properties.get("sasl.mechanism") == "AWS_MSK_IAM":
        region = aws_region(properties.get("bootstrap.servers", ""))
        properties = {key: value for key, value in properties.items() if not key.startswith("sasl.")}
        if not region:
            foreign.notes.append(f"{name!r}: left out, its brokers' names do not tell the region; write aws_region")
            return
        properties["aws_region"] = region
    elif "sasl.mechanism" in properties and not _logs_in(properties):
        foreign.notes.append(f"{name!r}: left out, its login by {properties['sasl.mechanism']} is not in the file")
        return
    if "bootstrap.servers" not in properties:
        foreign.notes.append(f"{name!r}: left out, it names no brokers")
        return
    if properties.get("enable.ssl.certificate.verification") == "false":
        foreign.notes.append(
            f"{name!r}: does not verify the brokers' certificates, as before; better set ssl.ca.location"
        )
    foreign.clusters[name] = properties


def _logs_in(properties: Mapping[str, str]) -> bool:
    """Whether what its mechanism needs is there."""
    if properties["sasl.mechanism"].upper() == "OAUTHBEARER":
        client = {"sasl.oauthbearer.client.id", "sasl.oauthbearer.client.secret", "sasl.oauthbearer.token.endpoint.url"}
        return "token" in properties or client <= properties.keys()
    return {"sasl.username", "sasl.password"} <= properties.keys()


def _protocol(*, sasl: bool, tls: bool) -> str:
    """security.protocol, as librdkafka spells it."""
    return ("SASL_" if sasl else "") + ("SSL" if tls else "PLAINTEXT")


def _brokers(value: object) -> str:
    """A list of addresses, or one."""
    return ",".join(_text(each).strip() for each in _list(value))


def _table(value: object) -> dict[str, Any]:
    """A YAML mapping; anything else counts as empty."""
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    """A YAML sequence; a single text is a sequence of one, anything else counts as empty."""
    return value if isinstance(value, list) else [value] if isinstance(value, str) else []


def _text(value: object) -> str:
    """A YAML scalar as text; null and tables are empty."""
    return str(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else ""
