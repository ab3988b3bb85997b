"""kpipe for Python programs: a producer that can be used from anywhere, and the commands as functions.

Nothing here prints, ends the process or touches signals unless it is asked to. docs/api.md shows it in web servers,
task queues and scripts. What is not named here may change without notice.
"""

from __future__ import annotations

from kpipe.api.producer import ClusterError, Delivery, Message, Producer, finish_on_signals
from kpipe.api.runs import Result, consume, forward, produce
from kpipe.errors import BadRecord, KpipeError, UndeliveredError, UnreachableError, UsageError
from kpipe.record import Record
from kpipe.shutdown import Stop

__all__ = [
    "BadRecord",
    "ClusterError",
    "Delivery",
    "KpipeError",
    "Message",
    "Producer",
    "Record",
    "Result",
    "Stop",
    "UndeliveredError",
    "UnreachableError",
    "UsageError",
    "consume",
    "finish_on_signals",
    "forward",
    "produce",
]
