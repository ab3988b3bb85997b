"""Reads how a Java client logs in (JAAS, and classes that only Java has) as what librdkafka and kpipe do for it.

Never takes half of a login over: an option that changes who logs in, and is not understood, is refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kpipe.clusters.configfile import Setting, Settings
from kpipe.clusters.properties import KERBEROS
from kpipe.clusters.secrets import Reference, SecretSource
from kpipe.clusters.stores import no_trust_store, store_type
from kpipe.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from kpipe.clusters.stores import Entries


JAAS, HANDLER = "sasl.jaas.config", "sasl.login.callback.handler.class"
_KEYS = (JAAS, HANDLER, "sasl.client.callback.handler.class", "sasl.login.class")
_AWS = "AWS_MSK_IAM"
_AWS_HANDLERS = ("IAMLoginModule", "IAMClientCallbackHandler", "IAMOAuthBearerLoginCallbackHandler")
_HANDLERS = (*_AWS_HANDLERS, "OAuthBearerLoginCallbackHandler", "JaasClientOauthLoginCallbackHandler")
"""The last is Strimzi's."""

_JAAS_OPTION = re.compile(r"""([\w.-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([^\s;"']+))""")
_OIDC = {
    "clientId": "sasl.oauthbearer.client.id",
    "clientSecret": "sasl.oauthbearer.client.secret",
    "scope": "sasl.oauthbearer.scope",
    "oauth.client.id": "sasl.oauthbearer.client.id",
    "oauth.client.secret": "sasl.oauthbearer.client.secret",
    "oauth.scope": "sasl.oauthbearer.scope",
    "oauth.token.endpoint.uri": "sasl.oauthbearer.token.endpoint.url",
    "oauth.ssl.truststore.certificates": "https.ca.pem",
}
"""Options of Kafka's own login module and of Strimzi's."""
_TRUST = "oauth.ssl.truststore.location"
_NEEDED = ("sasl.oauthbearer.client.id", "sasl.oauthbearer.client.secret", "sasl.oauthbearer.token.endpoint.url")
_EXTENSIONS = ("extension_", "oauth.sasl.extension.")
_NO_MATTER = (
    "oauth.access.token.is.jwt", "oauth.check.", "oauth.connect.timeout", "oauth.enable.metrics", "oauth.fallback.",
    "oauth.http.", "oauth.include.accept.header", "oauth.max.token.expiry", "oauth.metrics.", "oauth.read.timeout",
    "oauth.ssl.secure.random.", "oauth.ssl.truststore.password", "oauth.ssl.truststore.type", "oauth.tokens.not.jwt",
    "oauth.username.", "unsecuredLogin.never",
)  # fmt: skip
"""Strimzi's, about the token's content and the HTTP connection: they change no login."""
_AWS_KNOWN = ("awsProfileName", "awsRoleArn", "awsRoleSessionName")
_AWS_NO_MATTER = ("awsDebugCreds", "awsMaxRetries", "awsMaxBackOffTimeMs", "awsStsRegion")
_TOKEN_COMMAND = "let a token_command in a profile get the token (kpipe config init)"  # noqa: S105 - advice


def login_keys(entries: Entries) -> set[str]:
    """The keys that `add_login` has taken care of."""
    keys = {*_KEYS, *(key for key in entries if key.startswith("oauth."))}
    return keys | ({"sasl.mechanism"} if _is_aws(entries) else set())


def add_login(table: Settings, entries: Entries, base: Path) -> list[str]:
    """Put the login into the table; notes on what was left out of it. UsageError for one that only Java can do."""
    if _is_aws(entries):
        return _add_aws(table, entries)
    handler = entries.get(HANDLER)
    if handler is not None and handler.value.rpartition(".")[2] not in _HANDLERS:
        raise UsageError(f"only Java has the class {handler.value}; {_TOKEN_COMMAND}", where=handler.origin)
    jaas, mechanism = entries.get(JAAS), entries.get("sasl.mechanism", Setting("", ""))
    options = _parse_jaas(jaas) if jaas is not None else {}
    module = _module(jaas)
    if module in ("PlainLoginModule", "ScramLoginModule") and jaas is not None:
        if not {"username", "password"} <= options.keys():
            raise UsageError("sasl.jaas.config has no username and password; add both", where=jaas.origin)
        for name in ("username", "password"):
            table.settings[f"sasl.{name}"] = Setting(options[name], jaas.origin)
        return []
    if module == "OAuthBearerLoginModule" or (not module and mechanism.value.upper() == "OAUTHBEARER"):
        return _add_oauth(table, entries, options, jaas or mechanism, base)
    if jaas is None:
        return []
    if module == "Krb5LoginModule":
        raise UsageError(f"sasl.jaas.config: {KERBEROS}", where=jaas.origin)
    raise UsageError(
        f"sasl.jaas.config: {module or 'empty'} is not known; PLAIN, SCRAM and OAUTHBEARER logins are",
        where=jaas.origin,
    )


def aws_region(brokers: str) -> str:
    """The region that the names of Amazon's brokers tell; empty when they do not."""
    found = re.search(r"\.kafka(?:-serverless)?\.([a-z0-9-]+)\.amazonaws\.com", brokers)
    return found[1] if found else ""


def _is_aws(entries: Entries) -> bool:
    """Amazon's own mechanism, or its tokens by OAUTHBEARER, which is the same login."""
    handler = entries.get(HANDLER, Setting("", "")).value.rpartition(".")[2]
    return entries.get("sasl.mechanism", Setting("", "")).value == _AWS or handler in _AWS_HANDLERS


def _add_aws(table: Settings, entries: Entries) -> list[str]:
    """A token signed by the AWS SDK; the region is part of the brokers' names."""
    jaas = entries.get(JAAS)
    where = entries.get("sasl.mechanism", jaas or entries.get(HANDLER, Setting("", ""))).origin
    options = _parse_jaas(jaas) if jaas is not None else {}
    unknown = [name for name in options if name.startswith("aws") and name not in (*_AWS_KNOWN, *_AWS_NO_MATTER)]
    region = aws_region(entries.get("bootstrap.servers", Setting("", "")).value)
    if unknown:
        raise UsageError(f"{_AWS}: {unknown[0]} is not understood; {_TOKEN_COMMAND}", where=where)
    if not region:
        raise UsageError(
            f"{_AWS}: the brokers' names do not tell the region; write a profile with aws_region", where=where
        )
    profile, role, session = (options.get(name, "") for name in _AWS_KNOWN)
    if profile and role:
        raise UsageError(f"{_AWS}: awsProfileName and awsRoleArn together; {_TOKEN_COMMAND}", where=where)
    target = (region, "", role, session) if role else (region, profile)
    table.references[""] = (Reference("", SecretSource.AWS, target), where)
    ignored = [name for name in options if name in _AWS_NO_MATTER]
    return [f"left out of the login: {', '.join(ignored)}"] if ignored else []


def _add_oauth(table: Settings, entries: Entries, options: dict[str, str], origin: Setting, base: Path) -> list[str]:
    """Client credentials for a token endpoint (OIDC), from Kafka's names or Strimzi's."""
    where = origin.origin
    options = {**{key: each.value for key, each in entries.items() if key.startswith("oauth.")}, **options}
    ignored, extensions = [], []
    for name, value in options.items():
        prefix = next((prefix for prefix in _EXTENSIONS if name.startswith(prefix)), "")
        if prefix:
            extensions.append(f"{name.removeprefix(prefix)}={value}")
        elif name in _OIDC:
            table.settings[_OIDC[name]] = Setting(value, where)
        elif name == _TRUST:
            table.settings["https.ca.location"] = _trust(value, options, where, base)
        elif name.startswith(_NO_MATTER):
            ignored.append(name)
        else:
            raise UsageError(f"OAUTHBEARER: {name} is not understood; {_TOKEN_COMMAND}", where=where)
    if extensions:
        table.settings["sasl.oauthbearer.extensions"] = Setting(",".join(extensions), where)
    found = {_CANONICAL_ID.get(key, key) for key in (*entries, *table.settings)}
    missing = [key for key in _NEEDED if key not in found]
    grant = entries.get("sasl.oauthbearer.grant.type", Setting("", "")).value
    if missing and not grant.endswith("jwt-bearer"):
        raise UsageError(f"OAUTHBEARER without {missing[0]}; {_TOKEN_COMMAND}", where=where)
    table.settings["sasl.oauthbearer.method"] = Setting("oidc", where)
    return [f"left out of the login: {', '.join(ignored)}"] if ignored else []


_CANONICAL_ID = {
    "sasl.oauthbearer.client.credentials.client.id": "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.credentials.client.secret": "sasl.oauthbearer.client.secret",
}


def _trust(value: str, options: dict[str, str], where: str, base: Path) -> Setting:
    """The authorities that the token endpoint is believed by."""
    store, declared = Setting(value, where), options.get("oauth.ssl.truststore.type")
    if store_type(store, Setting(declared, where) if declared else None, base) != "PEM":
        raise UsageError(no_trust_store(store, _TRUST), where=where)
    return store


def _module(jaas: Setting | None) -> str:
    """The class that logs in, without its package."""
    return jaas.value.split(maxsplit=1)[0].rpartition(".")[2] if jaas is not None and jaas.value.strip() else ""


def _parse_jaas(jaas: Setting) -> dict[str, str]:
    """`MODULE required username="..." password="...";` → its options."""
    options = {
        name: re.sub(r"\\(.)", r"\1", double or single) or bare
        for name, double, single, bare in _JAAS_OPTION.findall(jaas.value)
    }
    if any(value.startswith("${") for value in options.values()):
        raise UsageError("sasl.jaas.config asks a ConfigProvider (${...}), which only Java has", where=jaas.origin)
    return options
