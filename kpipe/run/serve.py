"""A small HTTP server beside the run: what Prometheus scrapes, and what a supervisor probes.

It changes nothing, reads no body, and listens on loopback unless it is told otherwise.
"""

from __future__ import annotations

import errno
import json
import re
import socket
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from kpipe.errors import UsageError
from kpipe.run.threads import start_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

IDLE = 10.0
"""Seconds that a connection may say nothing."""


class Answer(NamedTuple):
    """What a path says; 200 is good, 503 is not."""

    status: int
    body: bytes
    kind: str = "text/plain; charset=utf-8"


Page: TypeAlias = "Callable[[Mapping[str, str]], Answer]"
"""Makes the answer, of the request's headers."""


def import_client(option: str) -> Any:
    """The official client, which is an extra; UsageError where it is not installed."""
    try:
        import prometheus_client
    except ImportError:
        raise UsageError(f"{option} needs prometheus-client: pip install 'kpipe-cli[metrics]'") from None
    return prometheus_client


def parse_address(text: str) -> tuple[str, int]:
    """`9400`, `0.0.0.0:9400`, `[::]:9400`."""
    found = re.fullmatch(r"(?:(\[[0-9a-fA-F:.%\w]+\]|[^:\[\]\s]+):)?(\d{1,5})", text)
    if not found or int(found[2]) > 65_535:
        raise UsageError(f"--metrics {text!r}: write [HOST:]PORT, as in 9400 or 0.0.0.0:9400")
    return (found[1] or "127.0.0.1").strip("[]"), int(found[2])


def serve(address: str, pages: Mapping[str, Page]) -> str:
    """Answer from now on, in threads of its own; returns where, as `127.0.0.1:9400`. UsageError when that is taken."""
    host, port = parse_address(address)
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise UsageError(f"--metrics {address}: {error.strerror or error}; name another host") from None

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        address_family = family

        def server_bind(self) -> None:  # without the look-up of a name that the usual one does
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind(self.server_address)
            self.server_address = self.socket.getsockname()

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A reader that went away is none of our business."""

    try:
        server = Server(where[:2], _handler(pages))  # type: ignore[arg-type]
    except OSError as error:
        why = "the port is taken" if error.errno == errno.EADDRINUSE else str(error.strerror)
        raise UsageError(f"--metrics {address}: {why}; name another one, or 0 for a free one") from None
    start_thread(server.serve_forever)
    bound = server.socket.getsockname()
    return f"[{bound[0]}]:{bound[1]}" if ":" in bound[0] else f"{bound[0]}:{bound[1]}"


def _handler(pages: Mapping[str, Page]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = IDLE
        server_version, sys_version = "kpipe", ""

        def do_GET(self) -> None:
            page: Any = pages.get(self.path.partition("?")[0])
            answer = Answer(404, b"not found\n") if page is None else _answer(page, self.headers)
            with suppress(OSError):
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.kind)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer.body)

        do_HEAD = do_GET  # noqa: N815 - the library's name

        def log_message(self, *_arguments: Any) -> None:
            """A scrape is no news."""

    return Handler


def _answer(page: Any, headers: Any) -> Answer:
    try:
        return Answer(*page(headers))
    except Exception as error:  # noqa: BLE001 - a fault here must not touch the run; the reader is told
        return Answer(500, f"{type(error).__name__}: {error}\n".encode())


def metrics_page(collector: Any) -> Page:
    """What `/metrics` says, in the format that the reader asks for."""
    client = import_client("--metrics")
    registry = client.CollectorRegistry(auto_describe=False)
    registry.register(collector)
    from prometheus_client.exposition import choose_encoder

    def page(headers: Mapping[str, str]) -> Answer:
        encode, kind = choose_encoder(headers.get("Accept", ""))
        return Answer(200, encode(registry), kind)

    return page


def json_answer(value: Mapping[str, Any]) -> Answer:
    """An object, as JSON."""
    return Answer(200, json.dumps(value).encode() + b"\n", "application/json")
