"""The schema registry of a cluster, as its properties and secrets describe it; nothing is asked of it yet."""

from __future__ import annotations

import os
import ssl
import time
from functools import partial
from typing import TYPE_CHECKING

from kpipe.clusters.environment import given
from kpipe.clusters.secrets import Token, fetch_token, reveal
from kpipe.codecs.registry import Login, Registry
from kpipe.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.clusters.profiles import Cluster

_PREFIX = "schema.registry."
_SHORT = 30.0
"""Seconds before its end at which a bearer token is fetched anew."""


def open_registry(
    cluster: Cluster,
    *,
    where: str,
    patience: float | None,
    stopped: Callable[[], bool],
    waiting: Callable[[str], None],
    sleep: Callable[[float], None],
    timeout: float = 10,
) -> Registry | None:
    """The registry's client, None where the cluster names none; UsageError for what its properties say wrongly.

    `patience` and the rest are as in `Registry`.
    """
    urls = [url.strip() for url in cluster.registry.get(f"{_PREFIX}url", "").split(",") if url.strip()]
    if not urls:
        for name in (*cluster.registry, *(each.property for each in cluster.registry_references)):
            raise UsageError(f"{name} without {_PREFIX}url; add it", where=cluster.origins.get(name, where))
        return None
    login = _login(cluster, where)
    return Registry(urls, login, timeout=timeout, patience=patience, stopped=stopped, waiting=waiting, sleep=sleep)


def _login(cluster: Cluster, where: str) -> Login:
    token_name = f"{_PREFIX}bearer.auth.token"
    tokens = [each for each in cluster.registry_references if each.property == token_name]
    others = [each for each in cluster.registry_references if each.property != token_name]
    revealed = reveal(cluster.registry, others, given(), where=where)
    named = {name.removeprefix(_PREFIX): value for name, value in revealed.items()}
    user, password = named.get("username", ""), named.get("password", "")
    if bool(user) != bool(password):
        there, missing = ("username", "password") if user else ("password", "username")
        what = f"{_PREFIX}{there} without {_PREFIX}{missing}; add it (registry_password_command and the like)"
        raise UsageError(what, where=where)
    fetch: Callable[[], str] | None = None
    if tokens:
        fetch = _kept(lambda: fetch_token(tokens[0], given(), time.time(), where=where))
    elif "bearer.auth.token" in named:
        fetch = partial(str, named["bearer.auth.token"])
    return Login(user, password, fetch, _tls(named, where))


def _kept(fetch: Callable[[], Token]) -> Callable[[], str]:
    """The token until shortly before its end."""
    kept: list[Token] = []

    def token() -> str:
        if not kept or kept[0].expires_s - time.time() < _SHORT:
            kept[:] = [fetch()]
        return kept[0].value

    return token


def _tls(named: dict[str, str], where: str) -> ssl.SSLContext | None:
    """TLS settings of the registry's own; None where there are none, and the system's are used."""
    authority, certificate = named.get("ssl.ca.location", ""), named.get("ssl.certificate.location", "")
    if not (authority or certificate):
        return None
    try:
        context = ssl.create_default_context(
            cafile=authority if authority and not os.path.isdir(authority) else None,
            capath=authority if authority and os.path.isdir(authority) else None,
        )
        if certificate:
            key = named.get("ssl.key.location") or certificate
            context.load_cert_chain(certificate, key, named.get("ssl.key.password") or "")
    except (OSError, ssl.SSLError) as error:
        what = f"the TLS files of {_PREFIX}* cannot be used ({error.strerror or error}); check their paths"
        raise UsageError(what, where=where) from None
    return context


def cache_folder() -> str | None:
    """Where schemas are kept between runs: $XDG_CACHE_HOME/kpipe/schemas; None without a home."""
    base = given().get("XDG_CACHE_HOME") or (os.path.join(given()["HOME"], ".cache") if given().get("HOME") else "")
    return os.path.join(base, "kpipe", "schemas") if base and os.path.isabs(base) else None
