"""Uses an embedded broker: serves until told to stop, or runs one command against it and stops with it.

It never touches a record, and never installs a signal handler: `kpipe.shutdown.Stop` has them.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
from typing import TYPE_CHECKING

from kpipe.shutdown import STOPPING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kpipe.broker.embedded import EmbeddedBroker
    from kpipe.shutdown import Stop

EXIT_NOT_FOUND, EXIT_NOT_EXECUTABLE = 127, 126
"""As in env(1), nohup(1) and the shell."""

OF_ANOTHER_CLUSTER = ("KPIPE_CLUSTER", "KPIPE_SECURITY_", "KPIPE_SSL_", "KPIPE_SASL_")
"""Beginnings of variables that say which cluster kpipe uses and how it gets in."""

FROM_THE_TERMINAL = (signal.SIGINT, signal.SIGHUP)


def serve(broker: EmbeddedBroker, stop: Stop, say: Callable[[str], None]) -> None:
    """Say where the broker is, then serve until `stop` is requested; the caller closes the broker."""
    say(announcement(broker.bootstrap, broker.topics))
    while not stop.requested:
        select.select([stop.fd], [], [])


def announcement(bootstrap: str, topics: Mapping[str, int]) -> str:
    """Put into one line for people where the broker serves; topics are in the form that `--topics` takes."""
    names = ",".join(f"{name}:{partitions}" for name, partitions in topics.items())
    return f"broker: {bootstrap} (in memory: gone when it stops), topics: {names or 'none yet'}"


def run_command(argv: Sequence[str], broker: EmbeddedBroker, stop: Stop, say: Callable[[str], None]) -> int:
    """Run a command against the broker, close the broker, and return the command's exit code.

    -n when signal n ended the command, 127 when it was not found, 126 when it cannot be executed; both are said in
    one line. `argv` is not empty. The command has our stdin, stdout, stderr and process group. Signals that `stop` has
    taken over are passed on, and we wait: the command decides when it ends.
    """
    try:
        child = subprocess.Popen(argv, env=environment(os.environ, broker.bootstrap))
    except FileNotFoundError:
        # Also an interpreter that the first line of a script names, as the shell has it.
        say(f"broker: {argv[0]}: command not found; check the spelling and PATH")
        return EXIT_NOT_FOUND
    except OSError as error:
        say(f"broker: {argv[0]}: cannot be executed ({error.strerror}); check its mode and its first line")
        return EXIT_NOT_EXECUTABLE
    else:
        # What came before there was a child was meant for it, and did not reach it through the terminal.
        for number in _arrived(stop):
            child.send_signal(number)
        return _wait(child, stop)
    finally:
        broker.close()


def environment(inherited: Mapping[str, str], bootstrap: str) -> dict[str, str]:
    """Make the command see the embedded broker as its only cluster.

    KPIPE_BROKERS for kpipe, KAFKA_BOOTSTRAP_SERVERS for others; no KPIPE_CLUSTER, and no login or TLS for another
    cluster. KPIPE_CONFIG is empty, which means no user's config: a trial must not reach production through a profile.
    A command that needs profiles sets it itself (`kpipe broker -- env KPIPE_CONFIG=FILE kpipe ...`).
    """
    own = {"KPIPE_BROKERS": bootstrap, "KAFKA_BOOTSTRAP_SERVERS": bootstrap, "KPIPE_CONFIG": ""}
    return {name: value for name, value in inherited.items() if not name.startswith(OF_ANOTHER_CLUSTER)} | own


def _wait(child: subprocess.Popen[bytes], stop: Stop) -> int:
    ended, ending = os.pipe()

    def wait_and_tell() -> None:
        child.wait()
        os.close(ending)

    # A thread, because pidfd_open(2) is Linux only and SIGCHLD is not ours to take.
    waiter = threading.Thread(target=wait_and_tell, name="kpipe-broker-command", daemon=True)
    waiter.start()
    while True:
        ready, _, _ = select.select([stop.fd, ended], [], [])
        if ended in ready:
            break
        for number in _arrived(stop):
            _pass_on(child, number)
    waiter.join()
    os.close(ended)
    return child.returncode


def _arrived(stop: Stop) -> list[signal.Signals]:
    """Take the stopping signals that have arrived since the last call, in order."""
    try:
        numbers = os.read(stop.fd, 64)
    except BlockingIOError:
        return []
    return [signal.Signals(number) for number in numbers if number in STOPPING]


def _pass_on(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Give the command a signal that it does not have yet.

    In the foreground of a terminal Ctrl-C and a hang-up go to the whole process group; a second INT would be taken
    for impatience.
    """
    if number in FROM_THE_TERMINAL and _in_foreground():
        return
    child.send_signal(number)


def _in_foreground() -> bool:
    try:
        terminal = os.open(os.ctermid(), os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
