"""Which protocol a group's members speak now: a newcomer joins as they do, for not every cluster converts a group.

It joins nothing. A dead member counts until its session has ended.
"""

from __future__ import annotations

from typing import Any

TIMEOUT = 3.0
"""Seconds for the answer; without one the group is taken for one that can be joined either way."""
ASSIGNORS = ("range", "roundrobin")
"""What a classic group may have agreed on that the client can do, beside its default."""


def classic_assignor(client: Any, group: str) -> str | None:
    """The assignor of a group that has classic members, "" for the client's default; None when it has none.

    With `group.consumer.migration.policy=disabled` or `downgrade` the coordinator tells a member of the newer protocol
    (KIP-848) that such a group does not exist, which is fatal to the client.
    """
    from confluent_kafka import ConsumerGroupState, ConsumerGroupType, KafkaException

    try:
        asked = client.describe_consumer_groups([group], request_timeout=TIMEOUT)
        found = asked[group].result(TIMEOUT)
    except (KafkaException, TimeoutError):
        return None
    idle = (ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD)
    if found.type != ConsumerGroupType.CLASSIC or found.state in idle:
        return None
    return found.partition_assignor if found.partition_assignor in ASSIGNORS else ""
