"""Lock a broker down as companies do: TLS with certificates of the test's own authority, SASL users, tokens, ACLs.

It never contacts anything but loopback, and its passwords are made up for each run.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import jwt
import oauthlib.oauth2
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from tests.broker.lab.broker import HOST, Broker, Listener

if TYPE_CHECKING:
    from pathlib import Path

SECURITY = "org.apache.kafka.common.security"
KEY_ID = "lab"


class Authority:
    """A certificate authority, and PEM files of what it has signed, below `home`."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._authority = trustme.CA()
        self.file = home / "ca.pem"
        home.mkdir(parents=True, exist_ok=True)
        self._authority.cert_pem.write_to_path(str(self.file))

    def sign(self, *names: str, expired: bool = False) -> Path:
        """Give a PEM file with a key and the chain of a new certificate for these names or addresses."""
        yesterday = datetime.now(UTC) - timedelta(days=1)
        issued = self._authority.issue_cert(*names, common_name=names[0], not_after=yesterday if expired else None)
        key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), password=None)
        plain = serialization.NoEncryption()
        pkcs8 = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        path = self._home / f"{names[0]}{'-expired' if expired else ''}.pem"
        path.write_bytes(pkcs8 + b"".join(each.bytes() for each in issued.cert_chain_pems))
        path.chmod(0o600)
        return path


class TokenServer:
    """An OAuth 2 server (RFC 6749, client credentials) on loopback: POST /token gives a JWT, GET /keys its JWKS."""

    def __init__(self, client_id: str, client_secret: str) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._clients = {client_id: client_secret}
        self._oauth = oauthlib.oauth2.BackendApplicationServer(_Clients(self._clients), token_generator=self.token)
        self.granted = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(200, json.dumps(server._keys()))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                _, text, status = server._oauth.create_token_response(self.path, "POST", body, dict(self.headers))
                server.granted += status == 200
                self._answer(status, text)

            def _answer(self, status: int, text: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing: requests carry secrets."""

        self._http = ThreadingHTTPServer((HOST, 0), Handler)
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._http.server_port}"

    def token(self, _request: object = None, *, lasts_s: int = 3600) -> str:
        """Give a signed token for the subject `service`."""
        now = int(time.time())
        claims = {"sub": "service", "iss": self.url, "aud": "kafka", "iat": now, "exp": now + lasts_s}
        return jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": KEY_ID})

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _keys(self) -> dict[str, Any]:
        public = RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return {"keys": [{**public, "kid": KEY_ID, "use": "sig", "alg": "RS256"}]}


class _Clients(oauthlib.oauth2.RequestValidator):
    """Who may have a token: the client's id and secret come with HTTP basic authentication."""

    def __init__(self, clients: dict[str, str]) -> None:
        super().__init__()
        self._clients = clients

    def authenticate_client(self, request: Any, *args: object, **kwargs: object) -> bool:
        import base64

        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        name, _, secret = base64.b64decode(given).decode().partition(":")
        if scheme != "Basic" or not secrets.compare_digest(self._clients.get(name, ""), secret):
            return False
        request.client = _Client(name)
        return True

    def validate_grant_type(self, client_id: str, grant_type: str, *args: object, **kwargs: object) -> bool:
        return grant_type == "client_credentials"

    def get_default_scopes(self, *args: object, **kwargs: object) -> list[str]:
        return ["kafka"]

    def validate_scopes(self, *args: object, **kwargs: object) -> bool:
        return True

    def save_bearer_token(self, *args: object, **kwargs: object) -> None:
        """Tokens are signed, not stored."""


@dataclass(frozen=True)
class _Client:
    client_id: str


@dataclass
class Fortress:
    """A broker with an authorizer that denies what no ACL allows, and these ways in:

    SASL (SASL_SSL: SCRAM, PLAIN, OAUTHBEARER), MTLS (SSL, client certificate required), EXPIRED and WRONGNAME (SSL with
    such certificates), LOST (plaintext, advertises a port where nobody listens), CLEAR (SASL_PLAINTEXT, PLAIN).
    """

    home: Path
    password: str = field(default_factory=lambda: f"sEcReT-{secrets.token_hex(8)}")
    client_secret: str = field(default_factory=lambda: f"cLiEnT-{secrets.token_hex(8)}")

    def __post_init__(self) -> None:
        self.authority = Authority(self.home / "certificates")
        self.stranger = Authority(self.home / "stranger")
        self.tokens = TokenServer("service", self.client_secret)
        self.client_file = self.authority.sign("client.example")
        self.broker = Broker(
            self.home / "broker",
            properties=self._properties(),
            listeners=[
                Listener("SASL", "SASL_SSL"),
                Listener("MTLS", "SSL"),
                Listener("EXPIRED", "SSL"),
                Listener("WRONGNAME", "SSL"),
                Listener("LOST", "PLAINTEXT", advertised_port=1),
                Listener("CLEAR", "SASL_PLAINTEXT"),
            ],
            format_args=[
                word
                for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
                for user in ("alice", "bob")
                for word in ("--add-scram", f"{mechanism}=[name={user},password={self.password}]")
            ],
            java_flags=[f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={self.tokens.url}/keys"],
        )

    def address(self, listener: str) -> str:
        return self.broker.address(listener)

    def close(self) -> None:
        self.broker.kill()
        self.tokens.close()

    def _properties(self) -> dict[str, str]:
        users = " ".join(f'user_{name}="{self.password}"' for name in ("alice", "bob"))
        sasl, bearer = "listener.name.sasl", "listener.name.sasl.oauthbearer.sasl"
        return {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            **self._tls("SASL", self.authority.sign(HOST, "localhost")),
            **self._tls("MTLS", self.authority.sign(HOST, "localhost")),
            "listener.name.mtls.ssl.client.auth": "required",
            **self._tls("EXPIRED", self.authority.sign(HOST, expired=True)),
            **self._tls("WRONGNAME", self.authority.sign("elsewhere.example")),
            f"{sasl}.sasl.enabled.mechanisms": "SCRAM-SHA-256,SCRAM-SHA-512,PLAIN,OAUTHBEARER",
            f"{sasl}.scram-sha-256.sasl.jaas.config": f"{SECURITY}.scram.ScramLoginModule required;",
            f"{sasl}.scram-sha-512.sasl.jaas.config": f"{SECURITY}.scram.ScramLoginModule required;",
            f"{sasl}.plain.sasl.jaas.config": f"{SECURITY}.plain.PlainLoginModule required {users};",
            "listener.name.clear.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.clear.plain.sasl.jaas.config": f"{SECURITY}.plain.PlainLoginModule required {users};",
            f"{bearer}.jaas.config": f"{SECURITY}.oauthbearer.OAuthBearerLoginModule required;",
            f"{bearer}.server.callback.handler.class": f"{SECURITY}.oauthbearer.OAuthBearerValidatorCallbackHandler",
            f"{bearer}.oauthbearer.jwks.endpoint.url": f"{self.tokens.url}/keys",
            f"{bearer}.oauthbearer.expected.audience": "kafka",
            f"{bearer}.oauthbearer.expected.issuer": self.tokens.url,
        }

    def _tls(self, listener: str, certificate: Path) -> dict[str, str]:
        prefix = f"listener.name.{listener.lower()}.ssl"
        return {
            f"{prefix}.keystore.type": "PEM",
            f"{prefix}.keystore.location": str(certificate),
            f"{prefix}.truststore.type": "PEM",
            f"{prefix}.truststore.location": str(self.authority.file),
        }
