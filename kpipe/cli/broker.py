"""`kpipe broker [-- COMMAND…]`."""

import signal
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from kpipe.cli import tell
from kpipe.cli.command import build_command
from kpipe.cli.options import option

HELP = (
    "Serve an embedded broker on 127.0.0.1, in memory: for a first try, a demo or a test. With a COMMAND, run it with "
    "KPIPE_BROKERS and KAFKA_BOOTSTRAP_SERVERS pointing at the broker, and stop with it. Its data is gone at the end."
)
EXAMPLES = (
    ("serve on a fixed port, with two topics", "kpipe broker --port 9092 --topics orders:3,audit:1"),
    (
        "a round trip that needs nothing",
        "kpipe broker -- sh -c 'echo hi | kpipe produce --create t && kpipe consume -e t'",
    ),
)
ARGUMENTS: dict[str, Any] = {
    "command": (Annotated[list[str], typer.Argument(metavar="[-- COMMAND…]", help="Run this against the broker.")], [])
}
PANEL = "Broker"


@dataclass(slots=True, kw_only=True)
class Broker:
    """What the embedded broker serves."""

    port: Annotated[
        int,
        option(
            PANEL, "--port", metavar="PORT", min=0, max=65535, show_default=True, help="The port; 0 takes a free one."
        ),
    ] = 0  # fmt: skip
    topics: Annotated[
        str, option(PANEL, "--topics", metavar="NAME:PARTITIONS,…", help="Topics to have from the start.")
    ] = ""


def broker(command: list[str], options: Broker) -> int:
    """Serve until a signal, or run the command."""
    from kpipe.broker import EmbeddedBroker, parse_topics, run_command, serve
    from kpipe.shutdown import Stop, die_by

    stop = Stop()
    stop.install()
    with EmbeddedBroker(port=options.port, topics=parse_topics(options.topics)) as embedded:
        if not command:
            serve(embedded, stop, tell)
            code = 0
        else:
            code = run_command(command, embedded, stop, tell)
    if code < 0:
        die_by(signal.Signals(-code))
    if not command and stop.signal is not None:
        die_by(stop.signal)
    return code


app = build_command(
    broker, name="broker", help=HELP, examples=EXAMPLES, arguments=ARGUMENTS, groups=(Broker,), transforms=False
)
