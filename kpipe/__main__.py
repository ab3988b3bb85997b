"""The way in: `kpipe` and `python -m kpipe`."""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """Answer `--version` and TAB at once; everything else is the porch's."""
    complain = sys.excepthook
    # Ctrl-C while modules are imported: the interpreter dies by the signal, but would print a traceback first.
    sys.excepthook = lambda kind, error, trace: kind is KeyboardInterrupt or complain(kind, error, trace)
    if sys.argv[1:] in (["--version"], ["-V"]):
        _print_version()
        return
    if sys.argv[1:] == ["--jq-worker"]:  # how kpipe starts itself to run one jq program: kpipe.through.jq_process
        from kpipe.through.jq_worker import main as run_jq

        run_jq()
        return
    if "_KPIPE_COMPLETE" in os.environ:
        from kpipe.cli.tab import answer

        answer(os.environ, sys.argv[1:])
        sys.stdout.flush()
        os._exit(0)  # a client that waits for a dead broker must not hold the prompt up
    gc.set_threshold(50_000, 20, 100)  # imports make no garbage: looking for some took 9 of 170 ms
    from kpipe.shutdown import die_at_once_by_interrupt

    die_at_once_by_interrupt()
    from kpipe.cli import main as run

    run(sys.argv[1:])


def _print_version() -> None:
    from kpipe import __version__

    try:
        os.write(1, f"kpipe {__version__}\n".encode())
    except OSError as error:
        raise SystemExit(f"kpipe: send: stdout: cannot write: {error.strerror}") from None


if __name__ == "__main__":
    main()
