"""Fetches passwords and tokens from where a profile says they are, and keeps them out of everything people see.

Never stores, prints or logs a secret: a value is fetched when a client is made, and handed to that client.
"""

from __future__ import annotations

import os
import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kpipe.clusters.environment import without_hidden
from kpipe.errors import UsageError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable, Mapping

COMMAND_TIMEOUT_S = 10.0
SECRET_MAX_BYTES = 65_536
MASK = "********"
DEFAULT_TOKEN_S = 300
"""How long a token is taken for good when neither the command nor the token itself says so."""


class SecretSource(StrEnum):
    """Where a secret is; the ending of the key in a profile (`password_command`)."""

    COMMAND = "command"
    FILE = "file"
    ENV = "env"
    KEYRING = "keyring"
    PLUGIN = "plugin"
    """One of `kpipe.secrets`, as `NAME` or `NAME:TEXT`."""
    AWS = "aws"
    """Amazon MSK with IAM: no secret of ours, a token signed with what the AWS SDK finds. The target is the region,
    and, where they are named, a profile of the SDK's, a role to assume and that session's name."""


class Reference(NamedTuple):
    """Where the value of one property is to be fetched.

    `target` is the argv of a command, or one entry: a path, a variable's name, `service/username` of a keyring, or a
    plugin's name and what it is given.
    `shell` is true for a command given as one string with `shell = true`. `property` is "" for `token_command`.
    """

    property: str
    source: SecretSource
    target: tuple[str, ...]
    shell: bool = False

    def __str__(self) -> str:
        shown = self.target[0]
        if self.source is SecretSource.COMMAND:  # its arguments may hold a secret themselves, and so may a plugin's
            shown = shown.split(maxsplit=1)[0]
        elif self.source is SecretSource.PLUGIN:
            shown = shown.partition(":")[0]
        return f"(from {self.source.value} {shown})"


class Token(NamedTuple):
    """A bearer token for SASL OAUTHBEARER; `expires_s` is in seconds since the epoch, as the client wants it."""

    value: str
    expires_s: float

    def __repr__(self) -> str:
        return f"Token({MASK}, {self.expires_s})"


def reveal(
    properties: Mapping[str, str], references: Iterable[Reference], environ: Mapping[str, str], *, where: str
) -> dict[str, str]:
    """The properties with every referenced secret filled in, ready for a client.

    UsageError when a secret cannot be had; its text never holds what a command printed on stdout.
    """
    revealed = dict(properties)
    for reference in references:
        if reference.property:
            revealed[reference.property] = fetch(
                reference, environ, where=where, username=properties.get("sasl.username", "")
            )
    return revealed


def warnings_of(references: Iterable[Reference]) -> list[str]:
    """What people should know of the files that hold secrets; nothing is fetched."""
    files = dict.fromkeys(each.target[0] for each in references if each.source is SecretSource.FILE)
    return [warning for file in files for warning in file_warning(Path(file))]


def fetch(
    reference: Reference,
    environ: Mapping[str, str],
    *,
    where: str,
    username: str = "",
    timeout_s: float = COMMAND_TIMEOUT_S,
) -> str:
    """One secret. One newline at its end is not part of it. A command has `timeout_s` to print it."""
    what = reference.property or "token"
    match reference.source:
        case SecretSource.COMMAND:
            value = _run(reference, environ, where, timeout_s)
        case SecretSource.FILE:
            value = _read(Path(reference.target[0]), what, where)
        case SecretSource.ENV:
            if reference.target[0] not in environ:
                raise UsageError(f"{what}: the variable {reference.target[0]} is not set; export it", where=where)
            value = environ[reference.target[0]]
        case SecretSource.KEYRING:
            value = _from_keyring(reference.target[0], username, where)
        case SecretSource.PLUGIN:
            value = _from_plugin(reference.target[0], what, where)
        case SecretSource.AWS:
            value = _sign_for_aws(*reference.target, where=where).value
    if not value:
        raise UsageError(f"{what} is empty {reference}; a secret cannot be empty", where=where)
    if "\0" in value:
        raise UsageError(f"{what} has a NUL byte {reference}; it cannot be a secret", where=where)
    return value


def fetch_token(reference: Reference, environ: Mapping[str, str], now_s: float, *, where: str) -> Token:
    """What `token_command` printed, as a Token: the token, or JSON with `access_token` and `expires_in` (seconds)."""
    if reference.source is SecretSource.AWS:
        return _sign_for_aws(*reference.target, where=where)
    return parse_token(fetch(reference, environ, where=where), now_s, where=where)


def parse_token(text: str, now_s: float, *, where: str) -> Token:
    """The token and its end: as the JSON answer says (RFC 6749, 5.1), else the claim `exp` of a JWT, else 5 minutes."""
    import json

    text = text.strip()
    if not text.startswith("{"):
        return Token(text, _jwt_end(text) or now_s + DEFAULT_TOKEN_S)
    try:
        answer = json.loads(text)
        token = answer["access_token"]
        lasts = float(answer["expires_in"]) if "expires_in" in answer else None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UsageError(
            "token_command printed JSON without access_token; print the token, or such JSON", where=where
        ) from None
    if not isinstance(token, str) or not token:
        raise UsageError("token_command printed an empty access_token; print the token, or JSON with it", where=where)
    return Token(token, now_s + lasts if lasts is not None else _jwt_end(token) or now_s + DEFAULT_TOKEN_S)


def _sign_for_aws(region: str, profile: str = "", role: str = "", session: str = "", *, where: str) -> Token:
    """A token for Amazon MSK (SigV4 of a `kafka-cluster:Connect`); the signer tells its end in milliseconds."""
    from importlib import import_module

    try:
        signer = import_module("aws_msk_iam_sasl_signer.MSKAuthTokenProvider")
    except ImportError:
        raise UsageError(
            "AWS_MSK_IAM needs the aws-msk-iam-sasl-signer-python package; pip install 'kpipe-cli[aws]'", where=where
        ) from None
    try:
        if role:
            value, expires_ms = signer.generate_auth_token_from_role_arn(region, role, session or None)
        elif profile:
            value, expires_ms = signer.generate_auth_token_from_profile(region, profile)
        else:
            value, expires_ms = signer.generate_auth_token(region)
    except Exception as error:  # noqa: BLE001 - the AWS SDK raises classes of its own, and names no secret in them
        raise UsageError(
            f"the AWS SDK gave no credentials ({type(error).__name__}); check AWS_PROFILE, aws sso login or the role",
            where=where,
        ) from None
    return Token(str(value), float(expires_ms) / 1000)


def _jwt_end(token: str) -> float | None:
    """The claim `exp` of a JWT (RFC 7519, 4.1.4), unverified: the broker verifies. None when there is none."""
    import base64
    import json

    try:
        body = token.split(".")[1]
        return float(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["exp"])
    except (IndexError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _run(reference: Reference, environ: Mapping[str, str], where: str, timeout_s: float) -> str:
    """Run a command without a shell, stdin closed, its stderr passed through; at most 10 s and 64 KiB."""
    import subprocess

    name = reference.target[0].split(maxsplit=1)[0]
    what = f"{_key(reference)}: {name}"
    try:
        process = subprocess.Popen(
            reference.target[0] if reference.shell else reference.target,
            shell=reference.shell,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=without_hidden(environ),
        )
    except FileNotFoundError:
        raise UsageError(f"{what}: no such command; check the name and PATH", where=where) from None
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{what}: {getattr(error, 'strerror', None) or error}; check the command", where=where
        ) from None
    with process:
        try:
            output = _read_until_end(process, what, where, timeout_s)
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise UsageError(f"{what} did not end; check the command", where=where) from None
        finally:
            process.kill()
    if code != 0:
        ended = f"was killed by signal {-code}" if code < 0 else f"failed with exit code {code}"
        raise UsageError(f"{what} {ended}; run it by hand to see why", where=where)
    return _text(output, what, where)


def _read_until_end(process: subprocess.Popen[bytes], what: str, where: str, timeout_s: float) -> bytes:
    """All of a command's stdout. communicate() is not used: it waits for grandchildren that keep the pipe open."""
    import select
    import time

    pipe = process.stdout
    if pipe is None:
        raise ValueError(what)
    deadline = time.monotonic() + timeout_s
    output = b""
    while select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
        chunk = os.read(pipe.fileno(), SECRET_MAX_BYTES)
        output += chunk
        if not chunk:
            return output
        if len(output) > SECRET_MAX_BYTES:
            raise UsageError(
                f"{what} printed more than {SECRET_MAX_BYTES} bytes; it must print only the secret", where=where
            )
    raise UsageError(f"{what} took longer than {timeout_s:g} s; it cannot ask questions here", where=where)


def _read(path: Path, what: str, where: str) -> str:
    """A secret's file."""
    try:
        with path.open("rb") as file:
            content = file.read(SECRET_MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{what}: {path}: {error.strerror}; check the path and its rights", where=where) from None
    if len(content) > SECRET_MAX_BYTES:
        raise UsageError(
            f"{what}: {path} has more than {SECRET_MAX_BYTES} bytes; it must hold only the secret", where=where
        )
    return _text(content, f"{what}: {path}", where)


def _text(content: bytes, what: str, where: str) -> str:
    """A secret's bytes as text, without one newline at the end; it may end in blanks that belong to it."""
    try:
        return content.removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise UsageError(f"{what}: the secret is not UTF-8 text; librdkafka takes only text", where=where) from None


def _from_keyring(entry: str, username: str, where: str) -> str:
    """A secret of the desktop's keyring, by `service/username`, or `service` and the profile's sasl.username."""
    from importlib import import_module

    try:
        keyring = import_module("keyring")
    except ImportError:
        raise UsageError(
            "password_keyring needs the keyring package; pip install 'kpipe-cli[keyring]'", where=where
        ) from None
    service, slash, user = entry.rpartition("/")
    if not slash:
        service, user = entry, username
    try:
        value = keyring.get_password(service, user)
    except Exception as error:  # noqa: BLE001 - back ends raise classes of their own
        raise UsageError(
            f"the keyring failed: {type(error).__name__}; unlock it, or use password_command", where=where
        ) from None
    if value is None:
        raise UsageError(f"the keyring has no {service}/{user}; keyring set {service} {user}", where=where)
    return str(value)


def _from_plugin(named: str, what: str, where: str) -> str:
    """What a plugin of `kpipe.secrets` gives; of its exceptions only the kind is told: words may hold a secret."""
    from kpipe.plugins import load, split

    name, argument = split(named, ":")
    fetch_it = load("secrets", name, argument, where=where)
    try:
        value = fetch_it()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a plugin may raise anything
        raise UsageError(f"{what}: the plugin {name} failed: {type(error).__name__}", where=where) from None
    if not isinstance(value, str):
        raise UsageError(f"{what}: the plugin {name} gave a {type(value).__name__}, not text", where=where)
    return value


def _key(reference: Reference) -> str:
    """How a profile names this reference, for messages."""
    return f"{reference.property or 'token'} from {reference.source.value}"


def file_warning(path: Path) -> list[str]:
    """A warning when everybody may read a file with a secret in it, or its group may change it; a pipe has no rights.

    A group that may read is no fault: mode 0440 is how Kubernetes and systemd give a secret to a user that is not root.
    """
    import stat

    try:
        status = path.stat()
    except OSError:
        return []
    if not stat.S_ISREG(status.st_mode) or not status.st_mode & 0o027:
        return []
    what = "read" if status.st_mode & 0o004 else "change"
    return [
        f"{path}: holds a secret and others may {what} it (mode {stat.S_IMODE(status.st_mode):04o}); chmod 600 {path}"
    ]


_SECRET = re.compile(
    r"password|passphrase|secret|token|jaas|key\.pem|private|credential|oauthbearer\.config|extensions", re.IGNORECASE
)
_NOT_SECRET = re.compile(r"\.(?:location|file|url)$|client\.id$|_cb$")


def holds_secret(name: str) -> bool:
    """Whether a property of this name can hold a secret: a path to one, a client's id or an address is none."""
    return bool(_SECRET.search(name)) and not _NOT_SECRET.search(name)


_KEYS = frozenset(
    """
    sasl.kerberos.keytab sasl.oauthbearer.assertion.file sasl.oauthbearer.assertion.private.key.file
    ssl.key.location ssl.keystore.location
    schema.registry.ssl.key.location
    """.split()
)


def gives_login(name: str) -> bool:
    """Whether a property is a secret, or says where the client finds its own key: what must not follow an address."""
    return name in _KEYS or holds_secret(name)


def mask(properties: Mapping[str, str]) -> dict[str, str]:
    """The properties as they may be shown: secrets are stars, and so are a user and password inside an address."""
    return {name: MASK if holds_secret(name) and value else _mask_url(value) for name, value in properties.items()}


def _mask_url(value: str) -> str:
    """`https://user:password@host/` without the part before the @."""
    return re.sub(r"(?<=://)[^/@\s]+(?=@)", MASK, value) if "://" in value else value


def secret_values(properties: Mapping[str, str]) -> set[str]:
    """The secrets among the properties' values, to be scrubbed from messages."""
    return {value for name, value in properties.items() if holds_secret(name) and value}


def scrub(text: str, secrets: Iterable[str]) -> str:
    """A message without the known secrets, also where a line of them or their form in a URL shows."""
    from urllib.parse import quote

    forms = set()
    for secret in secrets:
        forms |= {
            secret,
            quote(secret, safe=""),
            *(line for line in secret.splitlines() if len(line) >= 8 and not line.startswith("-----")),
        }
    for form in sorted(forms - {""}, key=len, reverse=True):
        text = text.replace(form, MASK)
    return text
