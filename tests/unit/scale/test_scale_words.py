"""What several workers tell at once is told once."""

from __future__ import annotations

from types import SimpleNamespace

from kpipe.run.workers import Supervisor


def test_what_both_find_before_they_read_is_told_once_and_of_records_each_is_heard() -> None:
    told: list[str] = []
    supervisor = Supervisor(["kpipe"], 2, SimpleNamespace(), told.append)  # type: ignore[arg-type]
    one, two = supervisor.members
    for member in (one, two):
        supervisor._hear(member, "dr:copy: has 1 partition, the source has 4; add some or drop `same`")
    one.last = two.last = {"read": 7}
    for member in (one, two):
        supervisor._hear(member, "decode: 3 keys or values could not be decoded and are shown as they are")
    assert told == [
        "worker 1: dr:copy: has 1 partition, the source has 4; add some or drop `same`",
        "worker 1: decode: 3 keys or values could not be decoded and are shown as they are",
        "worker 2: decode: 3 keys or values could not be decoded and are shown as they are",
    ]
