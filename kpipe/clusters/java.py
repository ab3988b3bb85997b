"""Reads a Java client.properties, so that what the Kafka tools use can be used as it is.

Never converts a key store: for a format that librdkafka cannot read it says the command that converts it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kpipe.clusters.configfile import Setting, Table
from kpipe.clusters.properties import ALL, CANONICAL
from kpipe.clusters.secrets import Reference, Source
from kpipe.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Entries = dict[str, Setting]
"""Keys as in the file; the origin of each is `FILE:LINE`."""

_ONLY_JAVA = ("sasl.jaas.config", "sasl.login.", "ssl.truststore.", "ssl.keystore.type", "key.", "value.")
_LOGIN_KEYS = ("sasl.jaas.config", "sasl.login.callback.handler.class", "sasl.client.callback.handler.class")
_OTHER_MEANING = {
    "ssl.cipher.suites": "Java's names of cipher suites differ from OpenSSL's",
    "partition.assignment.strategy": "it names Java classes",
    "auto.offset.reset": "kpipe's --offset says it",
}
_INLINE_PEM = {"ssl.keystore.key": "ssl.key.pem", "ssl.keystore.certificate.chain": "ssl.certificate.pem"}
_STORE_KEYS = ("ssl.truststore.", "ssl.keystore.", "ssl.key.password")
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_ENTRY = re.compile(r"((?:[^\\=:\s]|\\.)*)[ \t\f]*[=:]?[ \t\f]*(.*)", re.DOTALL)
_JAAS_OPTION = re.compile(r"""([\w.-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([^\s;"']+))""")
_OIDC_OPTIONS = {
    "clientId": "sasl.oauthbearer.client.id",
    "clientSecret": "sasl.oauthbearer.client.secret",
    "scope": "sasl.oauthbearer.scope",
}


def is_java(path: Path, entries: Entries) -> bool:
    """Whether a file of `key=value` lines is Java's: by its name, or by keys that librdkafka has no use for."""
    return path.suffix == ".properties" or any(key.startswith(_ONLY_JAVA) for key in entries)


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


def from_java(entries: Entries, base: Path) -> tuple[Table, list[str]]:
    """What the entries mean to librdkafka, and a note on what was left out; `base` is where relative paths start."""
    table = Table()
    _add_trust(table.settings, entries, base)
    _add_key(table.settings, entries, base)
    _add_login(table, entries)
    ignored = []
    for key, setting in entries.items():
        if key.startswith(_STORE_KEYS) or key in _LOGIN_KEYS:
            continue
        if setting.value == "AWS_MSK_IAM":
            continue
        if key not in ALL or key in _OTHER_MEANING:
            ignored.append(key)
        elif key == "ssl.endpoint.identification.algorithm" and not setting.value:
            table.settings[key] = Setting("none", setting.origin)
        else:
            table.settings[CANONICAL.get(key, key)] = setting
    names = ", ".join(key if key.isprintable() else repr(key) for key in ignored)
    reasons = "".join(f"; {key}: {_OTHER_MEANING[key]}" for key in ignored if key in _OTHER_MEANING)
    return table, [f"left out what librdkafka does not have: {names}{reasons}"] if ignored else []


def _add_trust(settings: Entries, entries: Entries, base: Path) -> None:
    """The trust store: whose certificates are believed."""
    if inline := entries.get("ssl.truststore.certificates"):
        settings["ssl.ca.pem"] = inline
    if store := entries.get("ssl.truststore.location"):
        if _store_type(store, entries.get("ssl.truststore.type"), base) != "PEM":
            raise UsageError(
                "librdkafka reads a trust store only as PEM; convert it with "
                f"keytool -list -rfc -keystore {store.value} > ca.pem and write ssl.truststore.location=ca.pem",
                where=store.origin,
            )
        settings["ssl.ca.location"] = store


def _add_key(settings: Entries, entries: Entries, base: Path) -> None:
    """The key store: the client's own key and certificate. In PKCS12 the key has the store's password."""
    for java, ours in _INLINE_PEM.items():
        if java in entries:
            settings[ours] = entries[java]
    store = entries.get("ssl.keystore.location")
    kind = "PEM" if store is None else _store_type(store, entries.get("ssl.keystore.type"), base)
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


def _store_type(store: Setting, declared: Setting | None, base: Path) -> str:
    """PEM, PKCS12 or JKS, by the file's first bytes: Java itself reads either of the last two whatever is declared."""
    try:
        with (base / store.value).open("rb") as file:
            start = file.read(4096)
    except OSError as error:
        raise UsageError(
            f"{store.value}: {error.strerror}; check the path and its rights", where=store.origin
        ) from None
    if start.startswith((b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce")):
        return "JKS"
    if b"-----BEGIN " in start:
        return "PEM"
    if start.startswith(b"0"):  # a DER sequence
        return "PKCS12"
    return declared.value.upper() if declared is not None else "JKS"


def _add_login(table: Table, entries: Entries) -> None:
    """The login line of JAAS, and the mechanisms that only Java has."""
    settings = table.settings
    mechanism = entries.get("sasl.mechanism")
    if mechanism is not None and mechanism.value == "AWS_MSK_IAM":
        _add_aws(table, entries, mechanism)
        return
    if "sasl.oauthbearer.token.endpoint.url" in entries:
        settings["sasl.oauthbearer.method"] = Setting("oidc", entries["sasl.oauthbearer.token.endpoint.url"].origin)
    if jaas := entries.get("sasl.jaas.config"):
        settings.update({name: Setting(value, jaas.origin) for name, value in _parse_jaas(jaas).items()})


def _add_aws(table: Table, entries: Entries, mechanism: Setting) -> None:
    """Amazon's own mechanism, by its token form; the region is part of the brokers' names."""
    brokers = entries.get("bootstrap.servers", Setting("", "")).value
    region = re.search(r"\.kafka(?:-serverless)?\.([a-z0-9-]+)\.amazonaws\.com", brokers)
    if region is None:
        raise UsageError(
            "AWS_MSK_IAM: the brokers' names do not tell the region; write a profile with aws_region",
            where=mechanism.origin,
        )
    profile = re.search(r'awsProfileName\s*=\s*"?([^";\s]+)', entries.get("sasl.jaas.config", Setting("", "")).value)
    table.references[""] = (Reference("", Source.AWS, (region[1], profile[1] if profile else "")), mechanism.origin)


def _parse_jaas(jaas: Setting) -> dict[str, str]:
    """`MODULE required username="..." password="...";` → properties, by the module's kind."""
    module = jaas.value.split(maxsplit=1)[0].rpartition(".")[2] if jaas.value.strip() else ""
    options = {
        name: re.sub(r"\\(.)", r"\1", double or single) or bare
        for name, double, single, bare in _JAAS_OPTION.findall(jaas.value)
    }
    if any(value.startswith("${") for value in options.values()):
        raise UsageError("sasl.jaas.config asks a ConfigProvider (${...}), which only Java has", where=jaas.origin)
    match module:
        case "PlainLoginModule" | "ScramLoginModule":
            if not {"username", "password"} <= options.keys():
                raise UsageError("sasl.jaas.config has no username and password; add both", where=jaas.origin)
            return {"sasl.username": options["username"], "sasl.password": options["password"]}
        case "OAuthBearerLoginModule":
            extensions = [f"{name[10:]}={value}" for name, value in options.items() if name.startswith("extension_")]
            login = {name: options[option] for option, name in _OIDC_OPTIONS.items() if option in options}
            return login | ({"sasl.oauthbearer.extensions": ",".join(extensions)} if extensions else {})
        case _:
            raise UsageError(
                f"sasl.jaas.config: {module or 'empty'} is not known; PLAIN, SCRAM and OAUTHBEARER logins are",
                where=jaas.origin,
            )
