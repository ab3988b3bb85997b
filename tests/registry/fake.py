"""A schema registry in this process, for what no real one can be made to do: GUIDs, slowness, lies, errors, logins.

It keeps subjects and versions as a registry does, and counts what it is asked.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import UUID


class FakeRegistry:
    """Listens on loopback; `url` is where. `fails` gives the next answers' status codes; `delay` is in seconds."""

    def __init__(self, *, path: str = "", user: str = "", token: str = "", first_id: int = 1) -> None:
        self.schemas: dict[int, dict] = {}
        self.subjects: dict[str, list[int]] = {}
        self.asked: list[str] = []
        self.fails: list[int] = []
        self.raw: list[tuple[int, bytes]] = []
        """The next answers, whatever was asked: a status and a body."""
        self.delay = 0.0
        self.refuses: list[str] = []
        """Reasons for which every new version is incompatible."""
        self._path, self._user, self._token, self._next = path, user, token, first_id
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_arguments: object) -> None:
                pass

            def do_GET(self) -> None:
                registry._serve(self, None)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                registry._serve(self, json.loads(body))

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}{path}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, subject: str, text: str, kind: str = "AVRO", references: list[dict] | None = None) -> int:
        """Register, past all checks."""
        body = {"schema": text, "schemaType": kind, "references": references or []}
        found = next((number for number, each in self.schemas.items() if each == body), None)
        if found is None:
            found, self._next = self._next, self._next + 1
            self.schemas[found] = body
        versions = self.subjects.setdefault(subject, [])
        if found not in versions:
            versions.append(found)
        return found

    def guid(self, number: int) -> str:
        """As Confluent makes it: of the content alone."""
        return str(UUID(bytes=hashlib.md5(json.dumps(self.schemas[number]).encode()).digest()))

    def _serve(self, handler: BaseHTTPRequestHandler, body: dict | None) -> None:
        parts = urlsplit(handler.path)
        self.asked.append(f"{handler.command} {handler.path}")
        time.sleep(self.delay)
        if self.raw:
            status, content = self.raw.pop(0)
        else:
            status, answer = self._answer(handler, parts.path.removeprefix(self._path), parse_qs(parts.query), body)
            content = json.dumps(answer).encode()
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(content)))
        handler.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        handler.end_headers()
        handler.wfile.write(content)

    def _answer(self, handler, path: str, query: dict, body: dict | None) -> tuple[int, object]:
        if self.fails:
            return self.fails.pop(0), {"error_code": 50001, "message": "made to fail"}
        wanted = f"Bearer {self._token}" if self._token else ""
        if self._user:
            wanted = f"Basic {b64encode(self._user.encode()).decode()}"
        if wanted and handler.headers.get("Authorization") != wanted:
            return 401, {"error_code": 401, "message": "Unauthorized"}
        if not handler.path.startswith(self._path):
            return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}
        return self._route([unquote(part) for part in path.split("/") if part], query, body)

    def _route(self, steps: list[str], query: dict, body: dict | None) -> tuple[int, object]:  # noqa: PLR0911
        match steps:
            case ["schemas", "ids", number]:
                found = self.schemas.get(int(number))
                if found is None:
                    return 404, {"error_code": 40403, "message": f"Schema {number} not found"}
                return 200, self._shown(found)
            case ["schemas", "ids", number, "versions"]:
                return 200, [
                    {"subject": subject, "version": ids.index(int(number)) + 1}
                    for subject, ids in self.subjects.items()
                    if int(number) in ids
                ]
            case ["schemas", "guids", guid]:
                found = next((each for number, each in self.schemas.items() if self.guid(number) == guid), None)
                return (200, self._shown(found)) if found else (404, {"error_code": 40403, "message": "no such GUID"})
            case ["subjects"]:
                return 200, list(self.subjects)
            case ["config", *_]:
                return 200, {"compatibilityLevel": "BACKWARD"}
            case ["compatibility", "subjects", *_]:
                return 200, {"is_compatible": not self.refuses, "messages": self.refuses}
            case ["subjects", subject, *rest]:
                return self._subject(subject, rest, body)
        return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}

    def _subject(self, subject: str, rest: list[str], body: dict | None) -> tuple[int, object]:
        ids = self.subjects.get(subject)
        wanted = body and {
            "schema": body["schema"],
            "schemaType": body.get("schemaType", "AVRO"),
            "references": body.get("references", []),
        }
        if body is not None and rest == ["versions"]:
            known = [each for each in ids or () if self.schemas[each] == wanted]
            if self.refuses and not known:
                return 409, {"error_code": 409, "message": "; ".join(self.refuses)}
            number = self.add(subject, wanted["schema"], wanted["schemaType"], wanted["references"])
            return 200, {"id": number, "guid": self.guid(number)}
        if ids is None:
            return 404, {"error_code": 40401, "message": f"Subject '{subject}' not found."}
        if body is not None:
            for version, number in enumerate(ids, 1):
                if self.schemas[number] == wanted:
                    return 200, {"subject": subject, "id": number, "version": version}
            return 404, {"error_code": 40403, "message": "Schema not found"}
        if rest == ["versions"]:
            return 200, list(range(1, len(ids) + 1))
        version = len(ids) if rest[-1] == "latest" else int(rest[-1])
        if not 1 <= version <= len(ids):
            return 404, {"error_code": 40402, "message": f"Version {version} not found."}
        number = ids[version - 1]
        shown = {**self._shown(self.schemas[number]), "subject": subject, "version": version, "id": number}
        return 200, {**shown, "guid": self.guid(number)}

    @staticmethod
    def _shown(found: dict) -> dict:
        shown = dict(found)
        if shown["schemaType"] == "AVRO":
            del shown["schemaType"]
        if not shown["references"]:
            del shown["references"]
        return shown
