"""What several workers tell at once is told once."""

from __future__ import annotations

from types import SimpleNamespace

from kpipe.run.workers import Supervisor


def test_what_both_find_before_they_read_is_told_once_and_of_records_each_is_heard() -> None:
    told: list[str] = []
    supervisor = Supervisor(["kpipe"], 2, SimpleNamespace(), told.append)  # type: ignore[arg-type]
    one, two = supervisor.members
    for member in (one, two):
        supervisor._hear(member, "kpipe: dr:copy: has 1 partition, the source has 4; add some or drop `same`")
    one.last = two.last = {"read": 7}
    for member in (one, two):
        supervisor._hear(member, "kpipe: decode: 3 keys or values could not be decoded and are shown as they are")
    assert told == [
        "worker 1: dr:copy: has 1 partition, the source has 4; add some or drop `same`",
        "worker 1: decode: 3 keys or values could not be decoded and are shown as they are",
        "worker 2: decode: 3 keys or values could not be decoded and are shown as they are",
    ]


def test_what_a_filter_or_a_function_says_is_never_taken_for_an_echo() -> None:
    told: list[str] = []
    supervisor = Supervisor(["kpipe"], 2, SimpleNamespace(), told.append)  # type: ignore[arg-type]
    for member in supervisor.members:
        for _ in range(2):
            supervisor._hear(member, "kpipe: through: no rate for EUR")
            supervisor._hear(member, "a print of a --call function")
    assert sorted(told) == [
        f"worker {slot}: {words}"
        for slot in (1, 2)
        for words in ["a print of a --call function"] * 2 + ["through: no rate for EUR"] * 2
    ]
