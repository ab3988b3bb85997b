"""Says in a person's words what is wrong between kpipe and a cluster, and what to try, from what was seen and heard.

Pure: it opens no connection (`probe` looks, the client complains), and it never repeats a secret it is not given.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from kpipe.clusters.properties import is_encrypted, is_sasl, mechanism
from kpipe.errors import Exit, KpipeError, Stage, UnreachableError
from kpipe.kafka.errors import is_login

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kpipe.kafka.probe import Sighting

ILLEGAL_SASL_STATE = 34
"""The broker's answer to a SASL handshake on a listener without SASL (Kafka protocol, error codes)."""

# X509_V_ERR_* of OpenSSL's x509_vfy.h, as ssl.SSLCertVerificationError.verify_code gives them.
_EXPIRED, _NOT_YET, _NAME = 10, 9, (62, 64)


class Fault(StrEnum):
    """What can be wrong; the word in `kpipe check --json`."""

    CONFIGURATION = "configuration"
    DNS = "dns"
    REFUSED = "connection-refused"
    SILENT = "no-answer"
    TLS_EXPECTED = "tls-expected"
    TLS_UNEXPECTED = "tls-not-expected"
    CERTIFICATE_EXPIRED = "certificate-expired"
    CERTIFICATE_EARLY = "certificate-not-yet-valid"
    CERTIFICATE_NAME = "certificate-name"
    CERTIFICATE_AUTHORITY = "certificate-authority"
    CLIENT_CERTIFICATE = "client-certificate"
    TLS = "tls"
    LOGIN_EXPECTED = "login-expected"
    LOGIN_UNEXPECTED = "login-not-expected"
    MECHANISM = "mechanism"
    CREDENTIALS = "credentials"
    TOKEN = "token"  # noqa: S105 - the name of a fault
    LISTENER = "advertised-listener"
    DENIED = "denied"
    UNKNOWN_TOPIC = "unknown-topic"


PASSING = frozenset((Fault.DNS, Fault.REFUSED, Fault.SILENT, Fault.LISTENER))
"""What waiting may mend: a broker that is starting, a name that is being made. Anything else ends the wait at once."""


class Finding(NamedTuple):
    """One thing that is wrong: `what`, and the `advice` to try."""

    fault: Fault
    what: str
    advice: str

    @property
    def is_definite(self) -> bool:
        """Whether no retry will change it."""
        return self.fault not in PASSING

    @property
    def text(self) -> str:
        """`WHAT; WHAT TO DO`."""
        return f"{self.what}; {self.advice}"

    @property
    def exit_code(self) -> Exit:
        """2 for the configuration, 1 for an unknown topic, 4 for the rest."""
        if self.fault is Fault.UNKNOWN_TOPIC:
            return Exit.UNDELIVERED
        return Exit.USAGE if self.fault is Fault.CONFIGURATION else Exit.UNREACHABLE

    def error(self, where: str, stage: Stage = Stage.CONNECT) -> KpipeError:
        """The finding as the error that ends a run."""
        return ClusterFaultError(self, "" if self.what.startswith(where) else where, stage)


class ClusterFaultError(UnreachableError):
    """The cluster cannot be used, and why."""

    def __init__(self, finding: Finding, where: str, stage: Stage) -> None:
        super().__init__(finding.text, where=where, stage=stage)
        self.finding = finding


def diagnose(seen: Sighting, properties: Mapping[str, Any]) -> Finding | None:
    """What the look at one address shows to be wrong; None when nothing is, or nobody can tell."""
    return _network_fault(seen) or _encryption_fault(seen, properties) or _login_fault(seen, properties)


def _network_fault(seen: Sighting) -> Finding | None:
    if seen.unresolved:
        return Finding(Fault.DNS, f"no address for {seen.host}: {seen.unresolved}", "check the name, and DNS or VPN")
    if not seen.unconnected:
        return None
    if seen.timed_out:
        what = f"{seen.address} does not answer ({seen.unconnected})"
        return Finding(Fault.SILENT, what, "check the port, and firewalls, security groups or VPN on the way")
    what = f"{seen.address}: {seen.unconnected[:1].lower()}{seen.unconnected[1:]}"
    return Finding(Fault.REFUSED, what, "check the port, and that the broker runs and listens there")


def _encryption_fault(seen: Sighting, properties: Mapping[str, Any]) -> Finding | None:
    sasl = "SASL_" if is_sasl(properties) else ""
    if is_encrypted(properties):
        if seen.verify_code is not None:
            return _certificate_fault(seen, seen.verify_code, properties)
        if seen.speaks_plain:
            what = f"{seen.address} speaks plaintext, and TLS was tried"
            advice = f"use the TLS port, or set security.protocol={sasl}PLAINTEXT where nobody listens in"
            return Finding(Fault.TLS_UNEXPECTED, what, advice)
        if seen.tls_alert:
            return _alert_fault(seen, properties)
        return None
    if seen.speaks_tls:
        what = f"{seen.address} speaks TLS, and plaintext was tried"
        return Finding(Fault.TLS_EXPECTED, what, f"set security.protocol={sasl}SSL, or use the plaintext port")
    return None


def _certificate_fault(seen: Sighting, code: int, properties: Mapping[str, Any]) -> Finding:
    certificate = seen.certificate
    until, since = certificate.get("notAfter", "an unknown date"), certificate.get("notBefore", "an unknown date")
    if code == _EXPIRED:
        what = f"the certificate of {seen.address} expired on {until}"
        return Finding(Fault.CERTIFICATE_EXPIRED, what, "renew it on the broker, and check this machine's clock")
    if code == _NOT_YET:
        what = f"the certificate of {seen.address} is not valid before {since}"
        return Finding(Fault.CERTIFICATE_EARLY, what, "check this machine's clock")
    if code in _NAME:
        names = ", ".join(certificate_names(certificate)) or "other names"
        what = f"the certificate of {seen.address} is for {names}, not for {seen.host}"
        return Finding(Fault.CERTIFICATE_NAME, what, "use one of its names in bootstrap.servers, or renew it")
    trusted = properties.get("ssl.ca.location") or ("ssl.ca.pem" if properties.get("ssl.ca.pem") else "")
    by = certificate_issuer(certificate)
    what = f"the certificate of {seen.address} is signed by {by}, which is not trusted here"
    advice = f"{trusted} lacks that authority; add it there" if trusted else "set ssl.ca.location to its PEM file"
    return Finding(Fault.CERTIFICATE_AUTHORITY, what, advice)


def _alert_fault(seen: Sighting, properties: Mapping[str, Any]) -> Finding:
    alert = seen.tls_alert.upper()
    has_own = any(
        properties.get(name) for name in ("ssl.certificate.location", "ssl.certificate.pem", "ssl.keystore.location")
    )
    if not has_own and re.search(r"CERTIFICATE_REQUIRED|BAD_CERTIFICATE|HANDSHAKE_FAILURE", alert):
        what = f"{seen.address} wants a client certificate, and none is set"
        return Finding(Fault.CLIENT_CERTIFICATE, what, "set ssl.certificate.location and ssl.key.location")
    if re.search(r"CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED", alert):
        what = f"{seen.address} refused our client certificate ({seen.tls_alert.lower().replace('_', ' ')})"
        return Finding(Fault.CLIENT_CERTIFICATE, what, "check who signed it and until when it is valid")
    what = f"{seen.address} and kpipe found no common way to encrypt ({seen.tls_alert.lower().replace('_', ' ')})"
    return Finding(Fault.TLS, what, "check ssl.cipher.suites and the broker's TLS versions")


def _login_fault(seen: Sighting, properties: Mapping[str, Any]) -> Finding | None:
    if seen.login_error is None:
        return None
    wants_login = seen.login_error != ILLEGAL_SASL_STATE
    tls = "SSL" if is_encrypted(properties) else "PLAINTEXT"
    offered = ", ".join(sorted(seen.mechanisms))
    if wants_login and seen.mechanisms and not is_sasl(properties):
        what = f"{seen.address} wants a login ({offered}), and none is configured"
        return Finding(Fault.LOGIN_EXPECTED, what, f"set security.protocol=SASL_{tls}, sasl.mechanism and a user")
    if not wants_login and is_sasl(properties):
        what = f"{seen.address} takes no login, and one was tried"
        return Finding(Fault.LOGIN_UNEXPECTED, what, f"set security.protocol={tls}, or use the port with SASL")
    if is_sasl(properties) and seen.mechanisms and mechanism(properties) not in seen.mechanisms:
        what = f"{seen.address} does not know {mechanism(properties)}; it offers {offered}"
        return Finding(Fault.MECHANISM, what, "set sasl.mechanism to one of these")
    return None


def from_complaints(complaints: Iterable[tuple[str, str]], properties: Mapping[str, Any]) -> Finding | None:
    """What the client itself was told, (error name, text) newest last: a refused login; None when it says less."""
    for name, text in reversed(list(complaints)):
        if not is_login(name):
            continue
        reason = plain_reason(text)
        if "acquire SASL OAUTHBEARER token" in reason:
            return _token_fault(reason, properties)
        if offered := re.search(r"Unsupported SASL mechanism: broker's supported mechanisms: ?(.*)", reason):
            what = f"the cluster does not know {mechanism(properties)}; it offers {offered[1].replace(',', ', ')}"
            return Finding(Fault.MECHANISM, what, "set sasl.mechanism to one of these")
        if "current SASL state" in reason:
            what = "the cluster takes no login on this port, and one was tried"
            tls = "SSL" if is_encrypted(properties) else "PLAINTEXT"
            return Finding(Fault.LOGIN_UNEXPECTED, what, f"set security.protocol={tls}, or use the port with SASL")
        return _credentials_fault(reason, properties)
    return None


def from_listeners(complaints: Iterable[tuple[str, str]]) -> Finding | None:
    """An address that the cluster advertises and the client cannot reach; it names such a broker `HOST:PORT/ID`."""
    for _, text in reversed(list(complaints)):
        if told := re.match(r"(?:\w+://)?(\S+:\d+)/(\d+): ", text):
            what = f"broker {told[2]} sends clients to {told[1]}: {plain_reason(text)}"
            return Finding(Fault.LISTENER, what, "make that address reachable, or correct advertised.listeners")
    return None


def _token_fault(reason: str, properties: Mapping[str, Any]) -> Finding:
    source = properties.get("sasl.oauthbearer.token.endpoint.url")
    told = reason.split("token: ", 1)[-1]
    if not source:
        return Finding(Fault.TOKEN, f"no token: {told}", "run token_command by hand to see why")
    what = f"{source} gave no token: {told}"
    return Finding(Fault.TOKEN, what, "check sasl.oauthbearer.client.id, the client secret, scope and the address")


def _credentials_fault(reason: str, properties: Mapping[str, Any]) -> Finding:
    how = mechanism(properties)
    if how == "OAUTHBEARER":
        return Finding(
            Fault.CREDENTIALS, f"the cluster refused the token ({reason})", "check its issuer, audience and end"
        )
    user = properties.get("sasl.username", "")
    if re.search(r"invalid (credentials|username)", reason, re.IGNORECASE):
        what = f"wrong username or password for {user!r} ({how})"
        return Finding(Fault.CREDENTIALS, what, "check sasl.username, the password and sasl.mechanism")
    return Finding(Fault.CREDENTIALS, f"the cluster refused the login: {reason}", "check sasl.* of this cluster")


def denied(resource: str, operations: str) -> Finding:
    """A right that is missing: `topic orders`, `READ`. The same words wherever an ACL says no."""
    what = f"not authorised: no ACL allows {operations} on {resource}"
    return Finding(Fault.DENIED, what, "ask for that ACL, or check as whom you log in")


def plain_reason(text: str) -> str:
    """The client's sentence without its thread prefix and its timing remarks."""
    words = text.split(": ", 1)
    if len(words) == 2 and "/" in words[0] and " " not in words[0].strip():
        text = words[1]
    text = text.split(" (after ", 1)[0].removeprefix("SASL authentication error: ").strip().rstrip(".")
    return re.sub(r"error:[0-9A-F]{8}:", "", text)


def certificate_names(certificate: Mapping[str, Any]) -> list[str]:
    """The names and addresses that a certificate is for, as `ssl.getpeercert` gives it."""
    names = [str(value) for _, value in certificate.get("subjectAltName", ())]
    return names or [
        str(value) for part in certificate.get("subject", ()) for name, value in part if name == "commonName"
    ]


def certificate_issuer(certificate: Mapping[str, Any]) -> str:
    """Who signed a certificate: the common name, or the organisation."""
    fields = {name: value for part in certificate.get("issuer", ()) for name, value in part}
    return str(fields.get("commonName") or fields.get("organizationName") or "an authority without a name")
