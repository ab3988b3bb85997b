"""Reads a Java client.properties, so that what the Kafka tools use can be used as it is.

Never converts a key store: for a format that librdkafka cannot read it says the command that converts it. What it does
not understand of a login is refused: half a login would be none.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from kpipe.clusters.configfile import Setting, Settings
from kpipe.clusters.javakeys import is_java_key, take_registry
from kpipe.clusters.logins import add_login, login_keys
from kpipe.clusters.properties import ALL, CANONICAL, REFUSED_PROPERTIES
from kpipe.clusters.stores import Entries, no_trust_store, store_type
from kpipe.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MEMBERSHIP = {"group.instance.id": "use --instance NAME", "group.protocol": "use --group-protocol"}
"""What an application says of its own place in a group, and kpipe on its command line."""

_OTHER_MEANING = {
    "ssl.cipher.suites": "Java's names of cipher suites differ from OpenSSL's",
    "partition.assignment.strategy": "it names Java classes",
}
_INLINE_PEM = {"ssl.keystore.key": "ssl.key.pem", "ssl.keystore.certificate.chain": "ssl.certificate.pem"}
_STORE_KEYS = ("ssl.truststore.", "ssl.keystore.", "ssl.key.password")
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_ENTRY = re.compile(r"((?:[^\\=:\s]|\\.)*)[ \t\f]*[=:]?[ \t\f]*(.*)", re.DOTALL)


def is_java(path: Path, entries: Entries) -> bool:
    """Whether a file of `key=value` lines is Java's: by keys that only Java has, or else by its name."""
    return any(map(is_java_key, entries)) or path.suffix == ".properties"


def parse_properties(text: str, path: Path) -> Entries:
    r"""Java's format (java.util.Properties.load): `=`, `:` or a blank after the key, `\` goes on, `\uXXXX`."""
    entries: Entries = {}
    for number, line in _logical_lines(text):
        if match := _ENTRY.fullmatch(line):
            entries[_unescape(match[1])] = Setting(_unescape(match[2]), f"{path}:{number}")
    return entries


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their continuations, without comments and empty ones, and the number of the first."""
    start, joined = 0, ""
    for number, natural in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        line = natural.lstrip(" \t\f")
        if not joined:
            if not line or line[0] in "#!":
                continue
            start = number
        if (len(line) - len(line.rstrip("\\"))) % 2:
            joined += line[:-1]
            continue
        yield start, joined + line
        joined = ""
    if joined:
        yield start, joined


def _unescape(text: str) -> str:
    r"""`\t`, `\n`, `\r`, `\f`, `\uXXXX`; a backslash before anything else is dropped, as Java does."""
    plain = re.sub(r"\\(?:u([0-9a-fA-F]{4})|(.))", _unescape_one, text)
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # \ud83d\ude00 is one character


def _unescape_one(match: re.Match[str]) -> str:
    """One escape."""
    return chr(int(match[1], 16)) if match[1] else _ESCAPES.get(match[2], match[2])


def from_java(entries: Entries, base: Path) -> tuple[Settings, list[str]]:
    """What the entries mean to librdkafka, and notes on what was left out; `base` is where relative paths start.

    Java trims the values of its own settings (org.apache.kafka.common.config.ConfigDef.parseType), so they are trimmed.
    """
    entries = {key: Setting(setting.value.strip(" \t\r\n\f"), setting.origin) for key, setting in entries.items()}
    table = Settings()
    notes = _add_trust(table.settings, entries, base)
    _add_key(table.settings, entries, base)
    notes += add_login(table, entries, base)
    registry, known = take_registry(entries)
    table.settings |= registry
    ignored = []
    for key, setting in entries.items():
        if key.startswith(_STORE_KEYS) or key in login_keys(entries) or key in known:
            continue
        if key not in ALL or key in _OTHER_MEANING or key in REFUSED_PROPERTIES or key in MEMBERSHIP:
            ignored.append(key)
        elif key == "ssl.endpoint.identification.algorithm" and not setting.value:
            table.settings[key] = Setting("none", setting.origin)
        else:
            table.settings[CANONICAL.get(key, key)] = setting
    return table, notes + left_out(ignored)


def left_out(keys: Iterable[str]) -> list[str]:
    """A note that names what was left out, and why where that helps; none when there is nothing."""
    reasons = {**REFUSED_PROPERTIES, **MEMBERSHIP, **_OTHER_MEANING}
    names = [key if key.isprintable() else repr(key) for key in keys if key not in reasons]
    told = [f"{key} ({reasons[key]})" for key in keys if key in reasons]
    parts = [f"what librdkafka does not have: {', '.join(names)}"] if names else []
    parts += [f"what kpipe does by itself or cannot take over: {', '.join(told)}"] if told else []
    return [f"left out {'; '.join(parts)}"] if parts else []


def _add_trust(settings: Entries, entries: Entries, base: Path) -> list[str]:
    """The trust store: whose certificates are believed. Notes for people."""
    if inline := entries.get("ssl.truststore.certificates"):
        settings["ssl.ca.pem"] = inline
    store = entries.get("ssl.truststore.location")
    if store is None:
        return []
    if Path(store.value).name == "cacerts":
        settings["ssl.ca.location"] = Setting("probe", store.origin)
        return [f"{store.value} is Java's own list of authorities; the system's is used in its place"]
    if store_type(store, entries.get("ssl.truststore.type"), base) != "PEM":
        raise UsageError(no_trust_store(store, "ssl.truststore.location"), where=store.origin)
    settings["ssl.ca.location"] = store
    return []


def _add_key(settings: Entries, entries: Entries, base: Path) -> None:
    """The key store: the client's own key and certificate. In PKCS12 the key has the store's password."""
    for java, ours in _INLINE_PEM.items():
        if java in entries:
            settings[ours] = entries[java]
    store = entries.get("ssl.keystore.location")
    kind = "PEM" if store is None else store_type(store, entries.get("ssl.keystore.type"), base)
    if kind == "PEM" and store is not None:
        settings["ssl.key.location"] = settings["ssl.certificate.location"] = store
    elif kind == "PKCS12" and store is not None:
        settings["ssl.keystore.location"] = store
    elif store is not None:
        raise UsageError(
            "librdkafka cannot read a JKS key store; convert it with keytool -importkeystore -srckeystore "
            f"{store.value} -destkeystore keystore.p12 -deststoretype PKCS12",
            where=store.origin,
        )
    password = "ssl.key.password" if kind == "PEM" else "ssl.keystore.password"
    if password in entries:
        settings[password] = entries[password]
