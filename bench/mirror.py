"""Runs MirrorMaker 2 until it has copied all records of one topic, then ends it.

python -m bench.mirror BROKERS TOPIC RECORDS JAVA [JVM ARGUMENTS]

Its defaults, without what it does beside copying (heartbeats, checkpoints, ACLs). It never ends by itself, so the copy
is looked at five times a second; the time that its start takes is in the figures, as kpipe's is in kpipe's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, TopicPartition

LIMIT_S = 120
MAIN = "org.apache.kafka.connect.mirror.MirrorMaker"
SETTINGS = """
clusters = {alias}, copy
{alias}.bootstrap.servers = {brokers}
copy.bootstrap.servers = {brokers}
{alias}->copy.enabled = true
{alias}->copy.topics = {topic}
copy->{alias}.enabled = false
tasks.max = 1
replication.factor = 1
checkpoints.topic.replication.factor = 1
heartbeats.topic.replication.factor = 1
offset-syncs.topic.replication.factor = 1
offset.storage.replication.factor = 1
status.storage.replication.factor = 1
config.storage.replication.factor = 1
emit.heartbeats.enabled = false
emit.checkpoints.enabled = false
sync.topic.acls.enabled = false
sync.topic.configs.enabled = false
copy.producer.compression.type = lz4
{alias}.consumer.auto.offset.reset = earliest
"""


def main(brokers: str, topic: str, records: int, java: list[str]) -> int:
    """0 when all records are in the copy."""
    alias = f"bench{os.getpid()}"
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "mm2.properties"
        settings.write_text(SETTINGS.format(alias=alias, brokers=brokers, topic=topic))
        with (Path(folder) / "log").open("w+") as log:
            mirror = subprocess.Popen([*java, MAIN, str(settings)], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
            try:
                if _wait(mirror, brokers, f"{alias}.{topic}", records):
                    return 0
                log.seek(0)
                sys.stderr.write(log.read()[-1500:])
                return 1
            finally:
                mirror.kill()
                mirror.wait()


def _wait(mirror: subprocess.Popen[bytes], brokers: str, copy: str, records: int) -> bool:
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "bench-mirror", "log_level": 0})
    deadline, count = time.monotonic() + LIMIT_S, 0
    while count < records and mirror.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
        try:
            topic = consumer.list_topics(timeout=5).topics.get(copy)
            places = [TopicPartition(copy, number) for number in (topic.partitions if topic else ())]
            count = sum(consumer.get_watermark_offsets(place, timeout=5)[1] for place in places)
        except KafkaException:
            continue
    consumer.close()
    return count >= records


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]))
