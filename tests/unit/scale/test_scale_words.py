"""What several workers tell at once is told once."""

from __future__ import annotations

from types import SimpleNamespace

from kpipe.clusters.environment import VOICE
from kpipe.run.workers import Supervisor
from kpipe.through.words import LONGEST, Words


def test_what_both_find_before_they_read_is_told_once_and_of_records_each_is_heard() -> None:
    told: list[str] = []
    supervisor = Supervisor(["kpipe"], 2, SimpleNamespace(), told.append)  # type: ignore[arg-type]
    one, two = supervisor.members
    for member in (one, two):
        supervisor._hear(member, f"{VOICE}kpipe: dr:copy: has 1 partition, the source has 4; add some or drop `same`")
    one.last = two.last = {"read": 7}
    for member in (one, two):
        supervisor._hear(
            member, f"{VOICE}kpipe: decode: 3 keys or values could not be decoded and are shown as they are"
        )
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
            supervisor._hear(member, f"{VOICE}kpipe: through: no rate for EUR")
            supervisor._hear(member, "a print of a --call function")
            supervisor._hear(member, "kpipe: said by a kpipe that the function called")
    assert sorted(told) == [
        f"worker {slot}: {words}"
        for slot in (1, 2)
        for words in ["a print of a --call function"] * 2
        + ["kpipe: said by a kpipe that the function called"] * 2
        + ["through: no rate for EUR"] * 2
    ]


def test_a_cluster_that_goes_twice_is_told_twice_and_each_time_once() -> None:
    told: list[str] = []
    supervisor = Supervisor(["kpipe"], 2, SimpleNamespace(), told.append)  # type: ignore[arg-type]
    one, two = supervisor.members
    one.last = two.last = {"read": 7}
    lines = [
        (one, "connect: prod: not reachable since 12:00:01 (refused); still trying"),
        (two, "connect: prod: not reachable since 12:00:02 (refused); still trying"),
        (two, "connect: prod: reachable again after 9 s"),
        (one, "connect: prod: reachable again after 10 s"),
        (one, "connect: prod: not reachable since 12:00:15 (refused); still trying"),
        (two, "connect: prod: not reachable since 12:00:15 (refused); still trying"),
    ]
    for member, words in lines:
        supervisor._hear(member, f"{VOICE}kpipe: {words}")
    assert told == [f"worker {lines[place][0].slot}: {lines[place][1]}" for place in (0, 2, 4)]


def test_an_echo_is_the_whole_line_where_it_says_more_than_a_time() -> None:
    told: list[str] = []
    supervisor = Supervisor(["kpipe"], 2, SimpleNamespace(), told.append)  # type: ignore[arg-type]
    for member, number in zip(supervisor.members, (3, 4), strict=True):
        supervisor._hear(
            member, f"{VOICE}kpipe: read: g: its offset was reset after it was past the end of t[{number}]"
        )
    assert len(told) == 2


def test_a_line_that_never_ends_is_told_in_pieces_and_nothing_of_it_is_kept_for_ever() -> None:
    words = Words()
    said = b"".join(f"{number} \u00e4 ".encode() for number in range(40_000))
    pieces = [line for place in range(0, len(said), 9_999) for line in words.take(said[place : place + 9_999])]
    assert len(pieces) >= 5
    assert max(len(piece.encode()) for piece in pieces) <= LONGEST
    assert "".join(pieces + words.take(b"")) == said.decode()
    assert words.take(b"") == []


def test_a_long_line_is_told_whole() -> None:
    words = Words()
    assert words.take(b"a" * 10_000 + b"\nrest") == ["a" * 10_000]
    assert words.take(b"\n\n") == ["rest", ""]
