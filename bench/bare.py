"""The floor for Python: what a bare confluent-kafka loop costs, written as well as we can, without any of kpipe's promises.

python -m bench.bare produce|consume|envelope|embed|forward BROKERS TOPIC [TARGET]
"""

from __future__ import annotations

import gc
import os
import sys
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, Producer, TopicPartition

CONSUMER = {
    "group.id": "bare",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "fetch.queue.backoff.ms": 10,
    "queued.max.messages.kbytes": 16384,
}
PRODUCER = {
    "enable.idempotence": True,
    "linger.ms": 5,
    "partitioner": "murmur2_random",
    "queue.buffering.max.kbytes": 32768,
}


class Countdown:
    """One shared delivery callback per batch, for a loop that gates its commits on delivery."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left

    def __call__(self, error: object, _message: object) -> None:
        if error is None:
            self.left -= 1


def produce(brokers: str, topic: str) -> None:
    """Lines of stdin to a topic."""
    producer = Producer({"bootstrap.servers": brokers, **PRODUCER, "delivery.report.only.error": True})
    send, tail = producer.produce, b""
    while block := os.read(0, 65536):
        lines = (tail + block).split(b"\n")
        tail = lines.pop()
        for line in lines:
            while True:
                try:
                    send(topic, line)
                    break
                except BufferError:
                    producer.poll(0.05)
        producer.poll(0)
    if tail:
        send(topic, tail)
    while producer.flush(0.2):
        pass


def read(brokers: str, topic: str) -> Any:
    """Batches of messages from the beginning to the end as it is now."""
    consumer = Consumer({"bootstrap.servers": brokers, **CONSUMER})
    numbers = list(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
    ends = consumer.offsets_for_times([TopicPartition(topic, n, OFFSET_END) for n in numbers], timeout=10)
    starts = consumer.offsets_for_times([TopicPartition(topic, n, OFFSET_BEGINNING) for n in numbers], timeout=10)
    left = sum(end.offset for end in ends) - sum(start.offset for start in starts)
    consumer.assign(starts)
    while left > 0:
        batch = consumer.consume(500, 0) or consumer.consume(1, 0.1)
        batch = [message for message in batch if message.error() is None]
        left -= len(batch)
        if batch:
            yield consumer, batch


def consume(brokers: str, topic: str) -> None:
    """Values to stdout."""
    for _, batch in read(brokers, topic):
        os.write(1, b"\n".join([*[message.value() for message in batch], b""]))


def envelope(brokers: str, topic: str) -> None:
    """Envelopes to stdout, as a dict per record through orjson."""
    import orjson

    for _, batch in read(brokers, topic):
        lines = [
            orjson.dumps(
                {
                    "topic": m.topic(),
                    "partition": m.partition(),
                    "offset": m.offset(),
                    "timestamp": m.timestamp()[1],
                    "timestamp_type": "create",
                    "key": None if m.key() is None else m.key().decode(),
                    "value": m.value().decode(),
                    "headers": [(name, value.decode()) for name, value in m.headers() or ()],
                }
            )
            for m in batch
        ]
        os.write(1, b"\n".join([*lines, b""]))


def embed(brokers: str, topic: str) -> None:
    """Envelopes of stdin to a topic, with the trace that kpipe writes and a count of what was delivered."""
    import orjson

    producer = Producer({"bootstrap.servers": brokers, **PRODUCER})
    cluster = producer.list_topics(topic, timeout=10).cluster_id.encode()
    send, tail = producer.produce, b""
    while block := os.read(0, 262144):
        *lines, tail = (tail + block).split(b"\n")
        done = Countdown(len(lines))
        for entry in map(orjson.loads, lines):
            headers = [(name, value.encode()) for name, value in entry["headers"]]
            headers.append(("source_topic", entry["topic"].encode()))
            headers.append(("source_partition", b"%d" % entry["partition"]))
            headers.append(("source_cluster", cluster))
            headers.append(("source_offset", b"%d" % entry["offset"]))
            key = None if entry["key"] is None else entry["key"].encode()
            arguments = (topic, entry["value"].encode(), key, -1, done, None, entry["timestamp"], headers)
            while True:
                try:
                    send(*arguments)
                    break
                except BufferError:
                    producer.poll(0.05)
        producer.poll(0)
    while producer.flush(0.2):
        pass


def forward(brokers: str, topic: str, target: str) -> None:
    """Everything of each record plus the same trace headers, commits gated on delivery."""
    producer = Producer({"bootstrap.servers": brokers, **PRODUCER})
    cluster = producer.list_topics(topic, timeout=10).cluster_id.encode()
    name = topic.encode()
    fixed = ("source_topic", name), ("source_consumer_group", b"bare"), ("source_cluster", cluster)
    send, batches = producer.produce, []
    for consumer, batch in read(brokers, topic):
        done = Countdown(len(batch))
        for m in batch:
            partition, offset = b"%d" % m.partition(), b"%d" % m.offset()
            trace = [*fixed, ("source_partition", partition), ("source_offset", offset)]
            headers, time = m.headers(), m.timestamp()[1]
            arguments = (target, m.value(), m.key(), -1, done, None, time, headers + trace if headers else trace)
            while True:
                try:
                    send(*arguments)
                    break
                except BufferError:
                    producer.poll(0.05)
        producer.poll(0)
        batches.append((done, batch[-1]))
        while batches and not batches[0][0].left:
            _, last = batches.pop(0)
            if len(batches) % 100 == 0:
                consumer.commit(offsets=[TopicPartition(topic, last.partition(), last.offset() + 1)], asynchronous=True)
    while producer.flush(0.2):
        pass


if __name__ == "__main__":
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    ways = {"produce": produce, "consume": consume, "envelope": envelope, "embed": embed, "forward": forward}
    ways[sys.argv[1]](*sys.argv[2:])
    os._exit(0)
