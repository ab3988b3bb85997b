"""A TCP proxy that the broker advertises, with the faults a network has: delay, little bandwidth, resets, silence.

It never looks into what it carries.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.broker.lab.cluster import Cluster

CHUNK = 16384


class Proxy:
    """Listens on a free port of 127.0.0.1 from the start; `upstream` is set before the first connection comes."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.upstream = 0
        self.latency_s = 0.0
        self.bytes_per_s = 0
        self.answered = 0
        """Bytes of answers since the start: what was fetched."""
        self.silent = False
        self.cuts = 0
        self._cut_next = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Where clients connect."""
        return f"127.0.0.1:{self.port}"

    def reset_all(self) -> None:
        """Break every connection with a RST."""
        self._loop.call_soon_threadsafe(self._reset_all)

    def cut_answers(self, count: int) -> None:
        """Take the next answer of the broker and break the connection instead: the request was done, nobody knows."""
        self._cut_next = count

    def heal(self) -> None:
        """Be a wire again."""
        self.latency_s, self.bytes_per_s, self.silent, self._cut_next = 0.0, 0, False, 0

    def close(self) -> None:
        """Stop and let go of the port."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(5)
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._carry, sock=self._listener)
        await self._stop.wait()
        server.close()
        self._reset_all()
        await asyncio.sleep(0.05)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0.05)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.upstream)
        except OSError:
            self._reset(writer)
            return
        self._writers |= {writer, back}
        with suppress(asyncio.CancelledError):
            await asyncio.gather(
                self._pump(reader, back, answers=False), self._pump(there, writer, answers=True), return_exceptions=True
            )
        for end in (writer, back):
            self._writers.discard(end)
            end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        while data := await reader.read(CHUNK):
            while self.silent:
                await asyncio.sleep(0.02)
            if self.latency_s:
                await asyncio.sleep(self.latency_s)
            if self.bytes_per_s:
                await asyncio.sleep(len(data) / self.bytes_per_s)
            if answers and self._cut_next > 0 and len(data) > 20:
                self._cut_next -= 1
                self.cuts += 1
                self._reset(writer)
                return
            if answers:
                self.answered += len(data)
            writer.write(data)
            await writer.drain()
        writer.close()

    def _reset_all(self) -> None:
        for writer in list(self._writers):
            self._reset(writer)

    @staticmethod
    def _reset(writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, AttributeError):
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


@contextmanager
def disturbed(cluster: Cluster, proxy: Proxy, how: str) -> Iterator[None]:
    """A target that is `silent`, `thin` or `frozen` for a while; the last one is the whole broker."""
    if how == "silent":
        proxy.silent = True
    elif how == "thin":
        proxy.bytes_per_s = 300_000
    else:
        cluster.broker.pause()
    yield
    proxy.heal()
    cluster.broker.heal()
