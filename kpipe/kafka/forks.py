"""The clients of this process, so that the child of a fork leaves those of its parent alone.

A fork copies no threads. To destroy a client whose threads are not there waits for ever, or ends the child by SIGSEGV
(seen with an admin client that was still referred to at the child's end), and with it what the child had not sent.
"""

from __future__ import annotations

import os
import weakref
from functools import cache
from typing import Any, TypeVar

Client = TypeVar("Client", bound=type)

_alive: dict[int, weakref.ref[Any]] = {}


@cache
def known(kind: Client) -> Client:
    """The same class, of whose objects this file knows; the client's own cannot be referred to weakly."""
    slots = () if kind.__weakrefoffset__ else ("__weakref__",)

    def begin(self: Any, *properties: object, **more: object) -> None:
        kind.__init__(self, *properties, **more)  # type: ignore[misc]
        number = id(self)
        _alive[number] = weakref.ref(self, lambda _gone: _alive.pop(number, None))

    return type(kind.__name__, (kind,), {"__slots__": slots, "__init__": begin})  # type: ignore[return-value]


def _leave_alone() -> None:
    """In the child: what nobody refers to any more must not be destroyed either."""
    import ctypes

    clients = [client for client in (reference() for reference in list(_alive.values())) if client is not None]
    for client in clients:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(client))
    _alive.clear()


os.register_at_fork(after_in_child=_leave_alone)
