"""Keys hash as in Kafka's own tests (org.apache.kafka.common.utils.UtilsTest) and as in librdkafka."""

from __future__ import annotations

import pytest

from kpipe.kafka.hashing import java_partition, librdkafka_partition, murmur2, partitions_for

JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "signed"), JAVA.items())
def test_murmur2_is_javas(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed & 0xFFFFFFFF


def test_a_partition_is_never_negative() -> None:
    assert all(0 <= java_partition(key, 7) < 7 for key in JAVA)
    assert all(0 <= librdkafka_partition(key, 7) < 7 for key in JAVA)


def test_the_likelier_home_comes_first_and_each_once() -> None:
    assert partitions_for(b"abc", 1) == [0]
    assert partitions_for(b"abc", 100)[0] == java_partition(b"abc", 100)
    assert len(partitions_for(b"abc", 100)) == len({java_partition(b"abc", 100), librdkafka_partition(b"abc", 100)})
