"""What the two ends of a pipe say to each other: a line of JSON a message, written here and read here.

It opens no socket, and believes nothing that kpipe did not write.

    {"acks":[["orders",0,[42,43,45]]]}      these coordinates were delivered, in the order in which they were read
    {"end":true}                            produce has read its input to the end and delivered all of it
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kpipe.flight import TopicPartition

END = b'{"end":true}\n'
MOST = 10_000
"""Offsets of one message."""
LONGEST = 1 << 18
"""Bytes of one message: so many offsets of 19 digits, and a topic's name. What is longer was not written here."""


def write_acks(offsets: Mapping[TopicPartition, list[int]]) -> bytes:
    """Messages for what was delivered of each partition, none longer than LONGEST."""
    messages = []
    for (topic, partition), numbers in offsets.items():
        for start in range(0, len(numbers), MOST):
            acks = [[topic, partition, numbers[start : start + MOST]]]
            messages.append(json.dumps({"acks": acks}, separators=(",", ":")).encode() + b"\n")
    return b"".join(messages)


def read_message(line: bytes) -> tuple[list[tuple[TopicPartition, list[int]]], bool]:
    """What was delivered, and whether that is all; ValueError for what is no message of kpipe's."""
    try:
        message = json.loads(line)
        acks = [
            ((str(topic), int(partition)), [int(offset) for offset in offsets])
            for topic, partition, offsets in message.get("acks", ())
        ]
        return acks, bool(message.get("end"))
    except (TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError("not a message of kpipe's") from error
