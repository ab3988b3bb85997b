"""The environment of this process: secrets are taken out of it once they are read, so that nothing we start sees them.

It interprets no variable. `given` is what the process was started with; `os.environ`, which children inherit and jq
programs read, lacks what was hidden; and so does /proc/PID/environ, which every process of the same user may read.
"""

from __future__ import annotations

import os
import sys
from collections import ChainMap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PASSWORD = "KPIPE_SASL_PASSWORD"  # noqa: S105 - a variable's name
WORKER = "KPIPE_WORKER"
"""Environment of a worker: its slot, and three pipes: for its balance, one that ends with the supervisor, and for
secrets, which an environment would show to everything that the worker starts."""
VOICE = "\x02"
"""Before each line that a worker says itself, for its supervisor: what stands without it, a function of the user's or a
program that it called has said."""
LAUNCHER = "KPIPE_SELF"
_hidden: dict[str, str] = {}
_shared: list[bool] = []


def given() -> Mapping[str, str]:
    """All variables, the hidden ones too."""
    return ChainMap(_hidden, os.environ)


def share() -> None:
    """From now on nothing is taken out: the environment is that of an application, which we are only a part of."""
    _shared.append(True)


def hide(names: Iterable[str]) -> None:
    """Take variables out of the environment; those that are not there are no error."""
    if _shared:
        return
    for name in names:
        if name in os.environ:
            _wipe(name)
            _hidden[name] = os.environ.pop(name)


def hidden() -> dict[str, str]:
    """What was taken out, for a process that is to know it, too."""
    return dict(_hidden)


def add_hidden(variables: Mapping[str, str]) -> None:
    """Variables that were handed over elsewhere than in the environment."""
    _hidden.update(variables)


def without_hidden(environ: Mapping[str, str]) -> dict[str, str]:
    """What a child may see of `environ`."""
    return {name: value for name, value in environ.items() if name not in _hidden}


def _wipe(name: str) -> None:
    """Overwrite the value where the kernel put it: unsetenv(3) only forgets it, and /proc/PID/environ shows it."""
    import ctypes

    getenv = ctypes.CDLL(None).getenv
    getenv.restype, getenv.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
    address = getenv(os.fsencode(name))
    if address:
        ctypes.memset(address, 0, len(ctypes.string_at(address)))


_launcher = os.environ.pop(LAUNCHER, "")
"""Not left to children: another kpipe among them would start its workers with this one."""


def self_command() -> list[str]:
    """What starts this same kpipe again, from any directory: its workers, and jq in a process of its own.

    A launcher for which the interpreter alone would not do (it sets a path first) names itself in KPIPE_SELF. Else it
    is this interpreter, and not what stands in the current directory (-P).
    """
    return [_launcher] if _launcher else [sys.executable, "-P", "-m", "kpipe"]


def installed_command() -> list[str]:
    """What a service, which is another user, starts kpipe with.

    The one file itself (it says its path in PEX): what it has unpacked lies in the home of who started it now.
    """
    one_file = os.environ.get("PEX")
    if one_file and os.path.exists(os.path.join(sys.prefix, "PEX-INFO")):
        return [os.path.abspath(one_file)]
    return self_command()
