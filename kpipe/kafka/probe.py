"""Looks at one address as a client would meet it: name, port, TLS, and whether a login is wanted.

Never sends a password, a token or a record: one SASL handshake, which only asks for a mechanism, and it hangs up.
"""

from __future__ import annotations

import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kpipe.clusters.properties import is_encrypted, is_sasl, mechanism
from kpipe.shutdown import run_bounded

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

SASL_HANDSHAKE, VERSION = 17, 1
MAX_ANSWER = 65_536
_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL's x509_vfy.h; Python has no name for it."""


@dataclass(slots=True)
class Sighting:
    """What was seen at one address; a field keeps its default where the look did not get so far."""

    host: str
    port: int
    unresolved: str = ""
    """The resolver's words."""
    resolved: list[str] = field(default_factory=list)
    unconnected: str = ""
    """The system's words."""
    timed_out: bool = False
    connected_s: float = 0.0
    tls_version: str = ""
    verify_code: int | None = None
    """Why OpenSSL does not believe the certificate (X509_V_ERR_*)."""
    certificate: dict[str, Any] = field(default_factory=dict)
    """As `ssl.SSLSocket.getpeercert` gives it, also of a certificate that was not believed."""
    tls_alert: str = ""
    """OpenSSL's word for how the other side ended TLS: TLSV13_ALERT_CERTIFICATE_REQUIRED."""
    speaks_plain: bool = False
    speaks_tls: bool = False
    login_error: int | None = None
    """The broker's answer to a SASL handshake; None without an answer."""
    mechanisms: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def split_address(text: str) -> tuple[str, int]:
    """`[PROTOCOL://]host[:port]` as librdkafka reads it; the port is 9092 without one."""
    bare = text.strip().rpartition("://")[2]
    host, colon, port = bare.rpartition(":")
    if not colon or "]" in port or not port.isdigit():
        return bare.strip("[]"), 9092
    return host.strip("[]"), int(port)


def look(host: str, port: int, properties: Mapping[str, Any], timeout: float) -> Sighting:
    """Look at one address within `timeout` seconds; whatever happens is in the answer."""
    seen = Sighting(host, port)
    deadline = time.monotonic() + timeout
    if not _resolve(seen, timeout):
        return seen
    started = time.monotonic()
    try:
        plain = _connect(seen, deadline)
    except OSError as error:
        seen.timed_out = isinstance(error, TimeoutError)
        seen.unconnected = error.strerror or str(error)
        return seen
    seen.connected_s = time.monotonic() - started
    wanted = mechanism(properties) if is_sasl(properties) else "PLAIN"
    with suppress(OSError):
        if is_encrypted(properties):
            plain.close()
            _look_through_tls(seen, properties, wanted, deadline)
        else:
            _look_in_the_clear(seen, plain, wanted, deadline)
    return seen


def _resolve(seen: Sighting, timeout: float) -> bool:
    """Ask the resolver, which has no timeout of its own."""

    def ask() -> None:
        try:
            found = socket.getaddrinfo(seen.host, seen.port, type=socket.SOCK_STREAM)
            seen.resolved = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        except (OSError, UnicodeError) as error:
            seen.unresolved = getattr(error, "strerror", None) or str(error)

    if not run_bounded(ask, timeout):
        seen.unresolved = "the resolver does not answer"
    return not seen.unresolved


def _connect(seen: Sighting, deadline: float) -> socket.socket:
    return socket.create_connection((seen.host, seen.port), timeout=max(0.05, deadline - time.monotonic()))


def _look_in_the_clear(seen: Sighting, connection: socket.socket, wanted: str, deadline: float) -> None:
    """Ask in plaintext; an answer that is no Kafka, or none, may be a TLS port."""
    with connection:
        try:
            seen.login_error, seen.mechanisms = _shake_hands(connection, wanted)
            seen.speaks_plain = True
        except TimeoutError:
            _note_silence(seen)
        except (OSError, ValueError):
            seen.speaks_tls = bool(_certificate_of(seen, deadline))


def _look_through_tls(seen: Sighting, properties: Mapping[str, Any], wanted: str, deadline: float) -> None:
    """Shake hands as the client would; what is not believed is read again without belief."""
    import ssl

    try:
        with (
            _connect(seen, deadline) as plain,
            make_context(properties).wrap_socket(plain, server_hostname=seen.host) as tls,
        ):
            seen.speaks_tls = True
            seen.tls_version, seen.certificate = tls.version() or "", tls.getpeercert() or {}
            seen.login_error, seen.mechanisms = _shake_hands(tls, wanted)
    except ssl.SSLCertVerificationError as error:
        seen.verify_code = error.verify_code
        seen.certificate = _certificate_of(seen, deadline)
    except TimeoutError:
        _note_silence(seen)
    except (OSError, ValueError) as error:
        reason = str(getattr(error, "reason", None) or "")
        if "ALERT" in reason:
            seen.tls_alert = reason
        elif not seen.speaks_tls:
            seen.speaks_plain = _answers_in_the_clear(seen, wanted, deadline)


def _note_silence(seen: Sighting) -> None:
    seen.timed_out, seen.unconnected = True, "it accepts the connection and then is silent"


def _answers_in_the_clear(seen: Sighting, wanted: str, deadline: float) -> bool:
    try:
        with _connect(seen, deadline) as plain:
            _shake_hands(plain, wanted)
    except (OSError, ValueError):
        return False
    return True


def make_context(properties: Mapping[str, Any]) -> ssl.SSLContext:
    """Python's TLS set as the client's is, as far as it can be: a PKCS12 key store is left out."""
    import ssl

    context = ssl.create_default_context(cadata=properties.get("ssl.ca.pem") or None)
    location = properties.get("ssl.ca.location", "")
    if location and location != "probe":
        from pathlib import Path

        path = Path(location)
        context = (
            ssl.create_default_context(capath=location)
            if path.is_dir()
            else ssl.create_default_context(cafile=location)
        )
    if properties.get("ssl.endpoint.identification.algorithm", "https") == "none":
        context.check_hostname = False
    if str(properties.get("enable.ssl.certificate.verification", "true")) == "false":
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    certificate = properties.get("ssl.certificate.location")
    if certificate:
        password = str(properties.get("ssl.key.password", ""))
        with suppress(OSError):
            context.load_cert_chain(certificate, properties.get("ssl.key.location"), lambda: password)
    return context


def _certificate_of(seen: Sighting, deadline: float) -> dict[str, Any]:
    """The other side's certificate, believed or not; {} when it has none.

    Python decodes only what it believes: the second handshake trusts exactly the certificate that the first one saw.
    """
    import ssl

    try:
        shown, _ = _handshake(seen, _unbelieving_context(), deadline)
        context = _unbelieving_context()
        context.load_verify_locations(cadata=shown)
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
        return _handshake(seen, context, deadline)[1]
    except (OSError, ValueError):
        return {}


def _unbelieving_context() -> ssl.SSLContext:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _handshake(seen: Sighting, context: ssl.SSLContext, deadline: float) -> tuple[bytes, dict[str, Any]]:
    """The certificate that the other side shows: as DER, and decoded where it is believed."""
    with _connect(seen, deadline) as plain, context.wrap_socket(plain, server_hostname=seen.host) as tls:
        return tls.getpeercert(binary_form=True) or b"", tls.getpeercert() or {}


def _shake_hands(connection: socket.socket, wanted: str) -> tuple[int, tuple[str, ...]]:
    """SaslHandshake v1 (KIP-152): the broker's error code and the mechanisms it offers. ValueError: no Kafka."""
    body = struct.pack(">hhih5sh", SASL_HANDSHAKE, VERSION, 1, 5, b"kpipe", len(wanted)) + wanted.encode()
    connection.sendall(struct.pack(">i", len(body)) + body)
    size = int.from_bytes(_receive(connection, 4))
    if not 10 <= size <= MAX_ANSWER:
        raise ValueError(size)
    answer = _receive(connection, size)
    correlation, error, count = struct.unpack_from(">ihi", answer)
    if correlation != 1:
        raise ValueError(correlation)
    names, at = [], 10
    for _ in range(count):
        length = int.from_bytes(answer[at : at + 2])
        names.append(answer[at + 2 : at + 2 + length].decode("ascii", "replace"))
        at += 2 + length
        if at > size:
            raise ValueError(size)
    return error, tuple(names)


def _receive(connection: socket.socket, size: int) -> bytes:
    """Exactly `size` bytes; ConnectionResetError when the other side hangs up before."""
    received = b""
    while len(received) < size:
        chunk = connection.recv(size - len(received))
        if not chunk:
            raise ConnectionResetError
        received += chunk
    return received
