"""A schema registry over HTTP: schemas by id and GUID, subjects and versions, registration, compatibility.

Standard library only, connections kept alive. It never skips: what cannot be reached is tried again at every address
until the caller's patience ends, and only the registry's own word "not found" is an answer. The API is Confluent's,
which Apicurio (`/apis/ccompat/v7`), Karapace and Redpanda speak, too.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from base64 import b64decode, b64encode
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

import orjson

from kpipe.errors import KpipeError, Stage, UnreachableError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
_REFUSED_LOGIN = (401, 403)
_TRY_AGAIN = (408, 429, 500, 502, 503, 504)
_LONGEST_ANSWER = 64 * 1024 * 1024


class RegistryError(KpipeError):
    """The registry refused a question; `number` is its error code (40403, 409, ...)."""

    stage = Stage.DECODE

    def __init__(self, what: str, *, where: str, number: int) -> None:
        super().__init__(what, where=where)
        self.number = number


class NotFound(RegistryError):
    """The registry answered, and has no such schema, subject or version."""


class Incompatible(RegistryError):
    """The registry refuses a schema for its subject; the message has its reasons."""


class SchemaReference(NamedTuple):
    """A schema that another one uses: `name` is how it is named there (an import path, a type, a `$ref`)."""

    name: str
    subject: str
    version: int


class SchemaText(NamedTuple):
    """A schema as the registry has it. `kind` is AVRO, PROTOBUF or JSON; `id`, `subject`, `version` where known."""

    kind: str
    text: str
    references: tuple[SchemaReference, ...] = ()
    id: int | None = None
    subject: str = ""
    version: int | None = None
    guid: str = ""
    has_rules: bool = False


class Login(NamedTuple):
    """How to log in: a user and password, or a function that gives a bearer token; and what TLS needs."""

    user: str = ""
    password: str = ""
    token: Callable[[], str] | None = None
    tls: ssl.SSLContext | None = None


class Registry:
    """One registry, at one or several addresses of the same data.

    `patience` is how many seconds a question is tried again while no address answers (None: for ever, until `stopped`);
    `waiting` is told once a minute at most why it waits.
    """

    def __init__(  # noqa: PLR0913  # clock and sleep are for tests
        self,
        urls: Sequence[str],
        login: Login = Login(),  # noqa: B008  # a named tuple
        *,
        timeout: float = 10,
        patience: float | None = 30,
        stopped: Callable[[], bool] = lambda: False,
        waiting: Callable[[str], None] = lambda _why: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not urls:
            raise UsageError("a schema registry without an address; set schema.registry.url")
        self._addresses = [_Address(url, login, timeout) for url in urls]
        self.addresses = tuple(each.where for each in self._addresses)
        """The URLs as they were given, without logins."""
        self._patience, self._stopped, self._waiting = patience, stopped, waiting
        self._clock, self._sleep = clock, sleep

    @property
    def where(self) -> str:
        """The registry in messages, in its cache and in envelopes: the first address given, whichever one answers."""
        return self.addresses[0]

    def by_id(self, number: int, subject: str = "") -> SchemaText:
        """The schema with this id; NotFound where the registry has none."""
        found = self.ask("GET", f"/schemas/ids/{number}", {"subject": subject} if subject else {})
        with self._reading():
            return _schema(found, id=number, subject=subject)

    def by_guid(self, guid: str) -> SchemaText:
        """The schema with this GUID (Schema Registry 8)."""
        found = self.ask("GET", f"/schemas/guids/{guid}")
        with self._reading():
            return _schema(found, guid=guid)

    def descriptor(self, number: int) -> bytes | None:
        """The serialised FileDescriptorProto (base64) of a Protobuf schema; None where the registry cannot say.

        Registries that do not know `format` answer with the source text; Apicurio 3.3 with 500, or with the bytes as if
        they were text, which breaks some of them, and with types that the file does not have. It is asked once, for the
        text is there anyway.
        """
        address = self._addresses[0]
        try:
            found = self._answer(address, *address.exchange("GET", f"/schemas/ids/{number}?format=serialized", None))
        except (RegistryError, _NoAnswer):
            return None
        text = found.get("schema") if isinstance(found, dict) else None
        try:
            return text.encode() if isinstance(text, str) and b64decode(text, validate=True) else None
        except ValueError:
            return None

    def versions_of_id(self, number: int) -> list[tuple[str, int]]:
        """The subjects that have this schema, each with its version."""
        found = self.ask("GET", f"/schemas/ids/{number}/versions")
        with self._reading():
            return [(str(each["subject"]), int(each["version"])) for each in _listed(found)]

    def subjects(self) -> list[str]:
        """Every subject, sorted."""
        found = self.ask("GET", "/subjects")
        with self._reading():
            return sorted(map(str, _listed(found)))

    def versions(self, subject: str) -> list[int]:
        """The versions of a subject, oldest first."""
        found = self.ask("GET", f"/subjects/{_name(subject)}/versions")
        with self._reading():
            return sorted(int(each) for each in _listed(found))

    def version(self, subject: str, version: int | str = "latest") -> SchemaText:
        """A version of a subject."""
        found = self.ask("GET", f"/subjects/{_name(subject)}/versions/{version}")
        with self._reading():
            return _schema(found, id=_number(found.get("id")), subject=subject)

    def lookup(self, subject: str, schema: SchemaText) -> SchemaText:
        """The subject's version that holds just this schema; NotFound where none does. Registers nothing."""
        found = self.ask("POST", f"/subjects/{_name(subject)}", body=_body(schema))
        with self._reading():
            guid = str(found.get("guid") or "")
            return schema._replace(id=int(found["id"]), subject=subject, version=int(found["version"]), guid=guid)

    def register(self, subject: str, schema: SchemaText) -> SchemaText:
        """Add a schema to a subject, or find it there; Incompatible where the registry refuses it."""
        found = self.ask("POST", f"/subjects/{_name(subject)}/versions", body=_body(schema))
        with self._reading():
            return schema._replace(id=int(found["id"]), subject=subject, guid=str(found.get("guid") or ""))

    def compatibility(self, subject: str, schema: SchemaText, version: str = "latest") -> tuple[bool, list[str]]:
        """Whether a schema may follow the versions of a subject, and the registry's words where it may not."""
        path = f"/compatibility/subjects/{_name(subject)}/versions"
        if version != "all":
            path += f"/{version}"
        found = self.ask("POST", path, {"verbose": "true"}, _body(schema))
        with self._reading():
            return found["is_compatible"] is True, [str(each) for each in found.get("messages") or ()]

    def level(self, subject: str) -> str:
        """The compatibility that the registry asks of a subject (its own, or the registry's)."""
        try:
            found = self.ask("GET", f"/config/{_name(subject)}", {"defaultToGlobal": "true"})
        except NotFound:
            found = self.ask("GET", "/config")
        with self._reading():
            return str(found.get("compatibilityLevel") or found.get("compatibility") or "")

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Another program may sit at the address, or answer in a form that no registry has."""
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError):
            what = "it answers in a form that no schema registry has; is schema.registry.url right?"
            raise KpipeError(what, where=self.where, stage=Stage.CONNECT) from None

    def ask(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: dict[str, Any] | None = None
    ) -> Any:
        """The parsed answer; an address that does not answer is left for the next one, then all are tried again."""
        text = path + (
            "?" + "&".join(f"{key}={quote(value, safe='')}" for key, value in query.items()) if query else ""
        )
        started, pause = self._clock(), 0.1
        while True:
            why = ""
            for _ in self._addresses:
                address = self._addresses[0]
                try:
                    return self._answer(address, *address.exchange(method, text, body))
                except _NoAnswer as error:
                    why = str(error)
                    self._addresses.append(self._addresses.pop(0))
            if self._stopped() or (self._patience is not None and self._clock() - started >= self._patience):
                raise UnreachableError(
                    f"the schema registry does not answer: {why}", where=self.where, stage=Stage.CONNECT
                )
            self._waiting(f"{self.where}: the schema registry does not answer ({why}); waiting for it")
            self._sleep(pause)
            pause = min(pause * 2, 5.0)

    def _answer(self, address: _Address, status: int, content: bytes) -> Any:
        where = address.where
        try:
            found = orjson.loads(content) if content else {}
        except orjson.JSONDecodeError:
            found = None
        if status in _TRY_AGAIN:
            raise _NoAnswer(f"it answers {status}{_reason(found)}")
        if 200 <= status < 300:
            if found is None:
                what = "it answers with something that is not JSON; is the path of schema.registry.url right?"
                raise KpipeError(what, where=where, stage=Stage.CONNECT)
            return found
        number = (_number(found.get("error_code")) if isinstance(found, dict) else None) or status
        told = _reason(found)
        if 300 <= status < 400:
            what = f"it answers {status}, which leads elsewhere; set schema.registry.url to where it leads"
            raise KpipeError(what, where=where, stage=Stage.CONNECT)
        if status in _REFUSED_LOGIN:
            what = f"the schema registry refuses the login ({status}{told}); check its user, password or token"
            raise UnreachableError(what, where=where, stage=Stage.CONNECT)
        if status == 404:
            if not isinstance(found, dict):  # a page of a proxy is no word on a schema
                what = "it answers 404 with something that is not JSON; is the path of schema.registry.url right?"
                raise KpipeError(what, where=where, stage=Stage.CONNECT)
            raise NotFound(f"the schema registry has none ({number}{told})", where=where, number=number)
        if status == 409:
            raise Incompatible(f"the schema registry refuses the schema{told}", where=where, number=number)
        raise RegistryError(f"the schema registry refuses ({number}{told})", where=where, number=number)

    def close(self) -> None:
        """Close the kept connections."""
        for address in self._addresses:
            address.close()


class _NoAnswer(Exception):
    """The address did not answer, or asks to be tried again."""


class _Address:
    """One URL with its kept connection."""

    def __init__(self, url: str, login: Login, timeout: float) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"schema.registry.url {_without_login(url)!r}: write http://HOST:PORT or https://HOST")
        self._path = parts.path.rstrip("/")
        self._host, self._port, self._tls = parts.hostname, parts.port, parts.scheme == "https"
        self._login, self._timeout = login, timeout
        if parts.username and not login.user:
            self._login = login._replace(user=unquote(parts.username), password=unquote(parts.password or ""))
        self._connection: http.client.HTTPConnection | None = None
        self.where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{self._path}"

    def exchange(self, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, bytes]:
        """One question; a kept connection that the other side has closed is opened once more."""
        headers = {"Accept": f"{CONTENT_TYPE}, application/json", **self._authorization()}
        content = None if body is None else orjson.dumps(body)
        if content is not None:
            headers["Content-Type"] = CONTENT_TYPE
        for fresh in (self._connection is None, True):
            try:
                connection = self._connect()
                connection.request(method, self._path + path, content, headers)
                answer = connection.getresponse()
                found = answer.read(_LONGEST_ANSWER + 1)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if fresh or isinstance(error, TimeoutError):
                    raise _NoAnswer(_spoken(error)) from None
                continue
            if len(found) > _LONGEST_ANSWER:
                self.close()
                raise _NoAnswer("its answer is longer than 64 MiB")
            return answer.status, found
        raise _NoAnswer("it closed the connection")

    def _connect(self) -> http.client.HTTPConnection:
        if self._connection is None:
            if self._tls:
                context = self._login.tls or ssl.create_default_context()
                self._connection = http.client.HTTPSConnection(
                    self._host, self._port, timeout=self._timeout, context=context
                )
            else:
                self._connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        return self._connection

    def _authorization(self) -> dict[str, str]:
        if self._login.token is not None:
            return {"Authorization": f"Bearer {self._login.token()}"}
        if self._login.user:
            pair = f"{self._login.user}:{self._login.password}".encode()
            return {"Authorization": f"Basic {b64encode(pair).decode()}"}
        return {}

    def close(self) -> None:
        """Close the kept connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _spoken(error: Exception) -> str:
    match error:
        case TimeoutError():
            return "no answer in time"
        case ConnectionRefusedError():
            return "connection refused"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted ({error.verify_message})"
        case socket.gaierror():
            return "its name cannot be resolved"
    return str(error) or type(error).__name__


def _without_login(url: str) -> str:
    start, sign, rest = url.partition("://")
    return f"{start}{sign}{rest.rpartition('@')[2]}"


def _reason(found: Any) -> str:
    message = found.get("message") if isinstance(found, dict) else None
    return f": {' '.join(str(message).split())[:500]}" if message else ""


def _name(subject: str) -> str:
    return quote(subject, safe="")


def _listed(found: Any) -> list[Any]:
    if not isinstance(found, list):
        raise TypeError
    return found


def _number(found: Any) -> int | None:
    return found if type(found) is int else None


def _body(schema: SchemaText) -> dict[str, Any]:
    body: dict[str, Any] = {"schema": schema.text}
    if schema.kind != "AVRO":
        body["schemaType"] = schema.kind
    if schema.references:
        body["references"] = [reference._asdict() for reference in schema.references]
    return body


def _schema(found: Any, **known: Any) -> SchemaText:
    if not isinstance(found, dict) or not isinstance(found.get("schema"), str):
        raise KpipeError("the schema registry answers without a schema", stage=Stage.DECODE)
    references = tuple(
        SchemaReference(str(each.get("name")), str(each.get("subject")), int(each.get("version", 0)))
        for each in found.get("references") or ()
    )
    return SchemaText(
        str(found.get("schemaType") or "AVRO").upper(),
        found["schema"],
        references,
        **{
            "version": _number(found.get("version")),
            "guid": str(found.get("guid") or ""),
            "has_rules": bool(found.get("ruleSet")),
            **{key: value for key, value in known.items() if value},
        },
    )
