"""Start kpipe from a process that has imported it already: a start costs 40 ms of CPU instead of 150.

The tests start kpipe thousands of times, and half of the CPU of a whole run went into imports. Here a server imports
what every run of the pipe imports, once, and each start is a fork of it: a process of its own with its own pid, a child
of who asked (CLONE_PARENT), with the files, the directory, the environment and the limits that it was given.

It changes nothing of what kpipe does from `kpipe.__main__.main` on. Where what happens before that is tested (the
interpreter, the script, the imports, the memory they take), the mark `cold` has the installed command started, and so
has a variable that the interpreter, the loader or libc reads at its start; KPIPE_TESTS_COLD=1 has it for all tests.

    server = Server([sys.executable, warm.__file__, "bin"])
    WarmPopen(server, ["bin/kpipe", "--help"], env=env, cwd=home)  # unless is_start_special(env)
"""

from __future__ import annotations

import array
import ctypes
import gc
import importlib
import os
import pickle
import pkgutil
import platform
import resource
import signal
import socket
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Limits = Mapping[int, tuple[int, int]]

CLONE_PARENT = 0x8000
CLONE = {"x86_64": 56, "aarch64": 220}.get(platform.machine(), 0) if sys.platform == "linux" else 0
"""The number of clone(2), 0 where each start is a cold one. Raw, for the C library has no fork with flags; the server has
one thread, so no lock is held."""
PR_SET_PDEATHSIG = 1
NUMBER_OF_LIMITS = 16  # RLIM_NLIMITS
LENGTH, ANSWER = struct.Struct("!I"), struct.Struct("!i")
AT_THE_START = ("PYTHON", "LC_", "LD_", "MALLOC_", "GLIBC_", "OPENSSL_", "COVERAGE_", "_KPIPE", "KPIPE_SELF", "TZ")
"""How variables begin that are read before kpipe runs, or while it is imported."""
LANG = "C.UTF-8"

COMMANDS = ("produce", "consume", "forward", "run")
ROOMS = ("clusters", "delivery", "formats", "kafka", "plan", "run", "sinks", "sources", "transform")
LEFT_COLD = {"kpipe.run.serve"}
"""It brings Python's own OpenSSL, which a usual run never has beside that of the client."""


def is_start_special(env: Mapping[str, str]) -> bool:
    """Whether a process with this environment must be started from nothing to be what it would be."""
    return env.get("LANG") != LANG or any(name.startswith(AT_THE_START) for name in env)


class Server:
    """What forks: a child of this process, which ends with it."""

    def __init__(self, command: list[str]) -> None:
        """`command` runs this file with the directory of the installed script; the number of a socket is put behind."""
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno())], env={"LANG": LANG}, pass_fds=[theirs.fileno()]
            )

    def fork(self, argv: list[str], cwd: str, env: Mapping[str, str], files: tuple[int, int, int]) -> int:
        """Give the pid of a new child of this process that runs kpipe; OSError as of a start that fails."""
        request = pickle.dumps((argv, cwd, dict(env), _limits()))
        # A message of its own: descriptors come with the first byte of what is read.
        self._socket.sendmsg(
            [LENGTH.pack(len(request))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))]
        )
        self._socket.sendall(request)
        answer = self._socket.recv(ANSWER.size)
        if not answer:
            raise EOFError("what forks kpipe has died")
        (pid,) = ANSWER.unpack(answer)
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        return pid

    def end(self) -> None:
        """Let it go: without its other end it ends."""
        self._socket.close()
        self._process.wait(10)


class WarmPopen(subprocess.Popen[bytes]):
    """As `subprocess.Popen` of the command, from the pipes to `communicate`; only the start itself is the server's."""

    def __init__(self, server: Server, command: list[str], **how: Any) -> None:
        self._server = server
        super().__init__(command, **how)

    def _execute_child(self, *given: Any) -> None:
        names = subprocess.Popen._execute_child.__code__.co_varnames  # type: ignore[attr-defined]
        call = dict(zip(names[1:], given, strict=False))
        files = (call["p2cread"], call["c2pwrite"], call["errwrite"])
        inherited = tuple(place if file == -1 else file for place, file in enumerate(files))
        try:
            self.pid = self._server.fork(call["args"], os.fspath(call["cwd"]), call["env"], inherited)  # type: ignore[arg-type]
            self._child_created = True
        finally:
            pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
            self._close_pipe_fds(*(call[name] for name in pipes))  # type: ignore[attr-defined]


def _warm_up(scripts: str) -> None:
    """Import what every run of the pipe imports."""
    sys.path[0] = scripts  # where an installed script has its own directory
    importlib.import_module("kpipe.cli.startup").put_off("asyncio")
    importlib.import_module("confluent_kafka")
    for name in ("kpipe.__main__", "kpipe.cli", *(f"kpipe.cli.{command}" for command in COMMANDS), *_modules()):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a look for garbage would copy every page


def _modules() -> Iterator[str]:
    for room in ROOMS:
        package = importlib.import_module(f"kpipe.{room}")
        for module in pkgutil.walk_packages(package.__path__, f"kpipe.{room}."):
            if module.name not in LEFT_COLD:
                yield module.name


def _serve(connection: socket.socket) -> None:
    """Fork for each request; come back in each child, with its files, directory, environment and arguments in place."""
    # Calls of both keep the interpreter's lock, and the child comes back with it.
    python, libc = ctypes.pythonapi, ctypes.PyDLL(None, use_errno=True)
    while True:
        head, control, _flags, _address = connection.recvmsg(LENGTH.size, socket.CMSG_SPACE(12))
        if not head:
            os._exit(0)
        files = array.array("i", control[0][2])
        argv, cwd, env, limits = pickle.loads(connection.recv(*LENGTH.unpack(head), socket.MSG_WAITALL))
        try:
            os.chdir(cwd)
        except OSError as error:
            answer = -(error.errno or 0)
        else:
            python.PyOS_BeforeFork()
            answer = libc.syscall(CLONE, CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
            if answer == 0:
                python.PyOS_AfterFork_Child()
                libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                connection.close()
                _become(argv, env, limits, files)
                return
            python.PyOS_AfterFork_Parent()
            answer = answer if answer > 0 else -ctypes.get_errno()
        for file in files:
            os.close(file)
        connection.sendall(ANSWER.pack(answer))


def _limits() -> Limits:
    return {number: resource.getrlimit(number) for number in range(NUMBER_OF_LIMITS)}


def _become(argv: list[str], env: Mapping[str, str], limits: Limits, files: array.array[int]) -> None:
    for place, file in enumerate(files):
        os.dup2(file, place)
    for file in set(files):
        os.close(file)
    os.environ.clear()
    os.environ.update(env)
    for number, limit in limits.items():
        resource.setrlimit(number, limit)
    sys.argv[:] = argv
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # As the interpreter makes them: those that it made know the files of the server.
    sys.stdin = sys.__stdin__ = _stream(0, "r", sys.stdin)
    sys.stdout = sys.__stdout__ = _stream(1, "w", sys.stdout)
    sys.stderr = sys.__stderr__ = _stream(2, "w", sys.stderr)


def _stream(place: int, mode: str, like: TextIO) -> Any:
    return open(place, mode, encoding=like.encoding, errors=like.errors, closefd=False)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which then let it go
    _warm_up(sys.argv[1])
    _serve(socket.socket(fileno=int(sys.argv[2])))
    from kpipe.__main__ import main

    sys.exit(main())
