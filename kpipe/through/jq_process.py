"""Runs a jq program that may never end in a process of its own, which can be ended: jq itself cannot.

It never gives an answer to another text than its own, and asks the run whether to go on while it waits.

jq holds the interpreter and hears no signal: a loop of 12 s in it kept a process from everything else for as long. Only
programs with words that can loop go this way: a record costs some 10 us more, and a start some 0.1 s.
"""

from __future__ import annotations

import shlex
import signal
from collections import deque
from typing import TYPE_CHECKING

import orjson

from kpipe.clusters.environment import self_command
from kpipe.errors import KpipeError, Stage, UndeliveredError
from kpipe.through.child import Child, pump

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kpipe.transform.patterns import Patience
    from kpipe.transform.results import JqAnswer

LIMIT = 5.0
"""Seconds of CPU time for one record."""
TURN = 0.05
"""Seconds of one wait for answers; then the run is asked whether to go on."""
TOO_SLOW = f"0 it was still running after {LIMIT:g} s of CPU time"
JQ_WORKER = "--jq-worker"
"""What `kpipe.__main__` hands on to `kpipe.through.jq_worker`."""
NOT_TRIED = "0 not tried: the one before took too long"


class JqProcess:
    """Answers of one program, by a process that is started with the first text and ends with this one."""

    def __init__(self, source: str, patience: Patience, limit: float = LIMIT) -> None:
        self._source = source
        self._patience = patience
        self._limit = limit
        self._child: Child | None = None
        self._said: deque[str] = deque(maxlen=1)

    def __call__(self, texts: Sequence[bytes]) -> list[JqAnswer]:
        """What the program says of each text. Raises KpipeError when the run must end before."""
        answers: list[JqAnswer] = []
        while len(answers) < len(texts):
            self._ask(texts[len(answers) :], answers)
            if len(answers) < len(texts):  # it ended at the next one
                answers.append(self._bury())
                if self._patience.first_bad_ends:
                    answers += [NOT_TRIED] * (len(texts) - len(answers))
        return answers

    def _ask(self, texts: Sequence[bytes], answers: list[JqAnswer]) -> None:
        """Take answers until all are there or the process has ended."""
        child = self._child = self._child or self._start()
        wanted = len(answers) + len(texts)
        child.write(b"".join(_line(text) for text in texts))
        while len(answers) < wanted and not (child.ended and not child.lines):
            pump([child], TURN)
            while child.lines:
                answers.append(orjson.loads(child.lines.popleft()))
            if not self._patience.go_on():
                self.end()
                raise UndeliveredError("the run ended while jq was at work", stage=Stage.TRANSFORM)

    def _start(self) -> Child:
        command = f"exec {shlex.join([*self_command(), JQ_WORKER])}"
        try:
            child = Child(command, self._said.append)
        except OSError as error:
            raise KpipeError(f"cannot start jq: {error.strerror}", stage=Stage.TRANSFORM) from None
        child.write(orjson.dumps([self._source, self._limit]) + b"\n")
        return child

    def _bury(self) -> JqAnswer:
        """The process has ended without an answer; why."""
        code = None if self._child is None else self._child.reap(1.0)
        self.end()
        if code == -signal.SIGVTALRM:
            return TOO_SLOW
        how = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
        return f"0 jq ended {how} {' '.join(self._said)}".rstrip()

    def end(self) -> None:
        """End the process; the next text starts another."""
        if self._child is not None:
            self._child.kill()
            self._child = None


def _line(text: bytes) -> bytes:
    """A text in hexadecimal, so that it is one line whatever it holds."""
    return text.hex().encode() + b"\n"
