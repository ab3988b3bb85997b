"""The other side of `kpipe.through.jq_process`: a process that runs one jq program over what it is given, line by line.

It reads nothing else and ends with its input. A program that takes too long ends it, whatever it is busy with: the
timer of its CPU time has the system's own effect, so neither jq nor the death of its parent can hold that up.
"""

from __future__ import annotations

import signal
import sys

import jq
import orjson

from kpipe.transform.program import answer


def main() -> None:
    """First line: the program and its limit in seconds, as JSON. Then a text in hexadecimal a line, an answer each."""
    try:
        source, limit = orjson.loads(sys.stdin.buffer.readline())
    except ValueError:
        sys.stderr.write("kpipe: --jq-worker is how kpipe starts itself; see kpipe --help\n")
        raise SystemExit(2) from None
    signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
    run, out = jq.compile(source).input_text, sys.stdout.buffer
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_VIRTUAL, limit)
        out.write(orjson.dumps(answer(run, bytes.fromhex(line.decode()))) + b"\n")
        out.flush()
