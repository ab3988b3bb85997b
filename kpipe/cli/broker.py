"""`kpipe broker [-- COMMAND…]`."""

from __future__ import annotations

import signal
import sys

from kpipe.cli import tell
from kpipe.cli.command import build_command
from kpipe.options import FILE, BrokerOptions, Operand

HELP = (
    "Serve an embedded broker on 127.0.0.1, in memory: for a first try, a demo or a test. With a COMMAND, run it with "
    "KPIPE_BROKERS and KAFKA_BOOTSTRAP_SERVERS pointing at the broker, and stop with it. Its data is gone at the end."
)
EXAMPLES = (
    ("serve on a fixed port, with two topics", "kpipe broker --port 9092 --topics orders:3,audit:1"),
    (
        "a round trip that needs nothing",
        "kpipe broker -- sh -c 'echo hi | kpipe produce --create t; kpipe consume -e t'",
    ),
)
ARGUMENTS = {
    "command": Operand("[-- COMMAND…]", "Run this against the broker.", many=True, required=False, completion=FILE)
}


def broker(command: list[str], options: BrokerOptions) -> int:
    """Serve until a signal, or run the command."""
    from kpipe.broker import EmbeddedBroker, parse_topics, run_command, serve
    from kpipe.broker.command import announcement
    from kpipe.plan.places import hide_configured_secrets
    from kpipe.shutdown import Stop, die_by

    hide_configured_secrets()
    stop = Stop()
    stop.install()
    with EmbeddedBroker(port=options.port, topics=parse_topics(options.topics)) as embedded:
        if not command:
            serve(embedded, stop, tell)
            code = 0
        else:
            if sys.stderr.isatty():  # somebody who types commands may want to come from another window
                tell(announcement(embedded.bootstrap, embedded.topics))
            code = run_command(command, embedded, stop, tell)
    if code < 0:
        die_by(signal.Signals(-code))
    if not command and stop.signal is not None:
        die_by(stop.signal)
    return code


app = build_command(
    broker, name="broker", help=HELP, examples=EXAMPLES, arguments=ARGUMENTS, groups=(BrokerOptions,), transforms=False
)
