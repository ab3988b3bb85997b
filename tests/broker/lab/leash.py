"""Put a command on a leash: the kernel kills it when the thread that started it ends, so also when pytest is killed.

It never adds a process: `setpriv` (util-linux) sets PR_SET_PDEATHSIG and becomes the command, under the same pid.
"""

from __future__ import annotations

import shutil
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@cache
def _leash() -> tuple[str, ...]:
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "KILL", "--") if setpriv else ()


def leashed(command: Sequence[str]) -> list[str]:
    """Give the command line that dies with its starter; without setpriv (not Linux) the command as it is.

    Start it from a thread that lives as long as the child shall (the main one), see PR_SET_PDEATHSIG in prctl(2);
    a starter that dies within the first millisecond, before setpriv has asked the kernel, leaves the child alive.
    """
    return [*_leash(), *command]
