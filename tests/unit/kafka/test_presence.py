"""A cluster that goes is told of after a few seconds, then once a minute at most, and when it is back."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from kpipe.errors import UnreachableError
from kpipe.kafka.presence import AFTER, ANEW, IDLE, LATER, PROOFS, QUIET, Presence

REFUSED = "10.0.0.1:9092/1: Connect to ipv4#10.0.0.1:9092 failed: Connection refused (after 0ms in state CONNECT)"
SILENT = "b:9092/2: Connection setup timed out in state CONNECT (after 10037ms in state CONNECT)"
BOOTSTRAP = REFUSED.replace("/1:", "/bootstrap:")
NOON = 43_200.0


class Run:
    """A run of turns of 0.1 s beside a cluster that answers or not; `said` has (second, line)."""

    def __init__(self, *, there: bool = True, anew: bool = False) -> None:
        self.now = 0.0
        self.there = there
        self.moved = self.waiting = 0
        self.asked = 0
        self.said: list[tuple[float, str]] = []
        self.presence = Presence(
            "prod", self.ask, lambda line: self.said.append((self.now, line)), "kpipe check prod", lambda: anew,
            clock=lambda: self.now, wall=lambda: NOON + self.now,
        )  # fmt: skip
        self.presence.moved, self.presence.waiting = lambda: self.moved, lambda: self.waiting

    def ask(self, _timeout: float) -> bool:
        self.asked += 1
        return self.there

    def until(self, second: float, *complaints: tuple[float, str]) -> list[str]:
        """Turn until then, with these complaints on the way; what was said since the last call."""
        before, left = len(self.said), sorted(complaints)
        while self.now < second:
            while left and left[0][0] <= self.now:
                self.presence.hear("_TRANSPORT", left.pop(0)[1])
            self.presence()
            self.now = round(self.now + 0.1, 1)
        return [line for _, line in self.said[before:]]


def test_it_is_told_when_it_goes_while_it_is_away_and_when_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    run = Run(there=False)
    run.waiting = 1234
    (gone,) = run.until(30, (0.1, REFUSED), (5, REFUSED))
    assert gone.startswith("connect: prod: not reachable since ")
    assert gone.endswith(
        " (Connect to ipv4#10.0.0.1:9092 failed: Connection refused), 1,234 records wait for it; "
        "still trying, kpipe check prod says more"
    )
    assert AFTER <= run.said[0][0] <= AFTER + 2
    assert run.presence.away.startswith("prod away for ")
    assert run.presence.is_doubted
    run.there = True
    (back,) = run.until(60)
    assert back.startswith("connect: prod: reachable again after 3")
    assert run.presence.away == ""
    assert not run.presence.is_doubted
    assert run.until(600) == []


def test_it_is_told_again_once_a_minute_at_most() -> None:
    run = Run(there=False)
    run.until(3600, *((float(second), REFUSED) for second in range(0, 3600, 10)))
    times = [second for second, _ in run.said]
    assert all(later - earlier >= 60 for earlier, later in pairwise(times))
    assert times[1] < 70
    assert 8 <= len(times) <= 12
    assert "still not reachable, since " in run.said[1][1]
    assert "trying for 1:" in run.said[1][1]


def test_a_client_that_does_not_find_back_to_a_cluster_that_is_there_is_given_up() -> None:
    """Else a forwarder would wait for ever beside a cluster that works; its service manager can start it again."""
    run = Run(there=False, anew=True)
    run.until(AFTER + ANEW, (0.1, BOOTSTRAP))
    run.presence.check()
    run.until(AFTER + ANEW + LATER)
    assert run.said[1][1].endswith("; a new connection reaches it; if ours does not soon, the run ends")
    run.presence.check()
    run.until(AFTER + ANEW + (PROOFS + 1) * LATER)
    with pytest.raises(UnreachableError, match=r"^connect: prod: our client does not find back .*; start kpipe again$"):
        run.presence.check()


def test_a_client_that_finds_back_in_time_is_not_given_up() -> None:
    run = Run(there=False, anew=True)
    run.until(AFTER + ANEW + 3, (0.1, BOOTSTRAP))
    run.there = True
    run.until(200)
    run.presence.check()


def test_a_cluster_that_comes_and_goes_for_new_clients_too_is_waited_for() -> None:
    run = Run(there=False)
    run.until(3600, (0.1, REFUSED))
    run.presence.check()


def test_a_frozen_cluster_that_breaks_no_connection_is_found_by_what_waits_for_it() -> None:
    run = Run(there=False)
    run.waiting = 7
    (gone,) = run.until(QUIET + 10)
    assert "(no answer), 7 records wait for it" in gone
    run.moved += 1
    assert run.until(run.now + 1)[0].startswith("connect: prod: reachable again after ")


def test_what_comes_or_is_acknowledged_says_that_it_is_there_also_where_answers_take_long() -> None:
    run = Run(there=False)
    run.until(10, (0.1, REFUSED))
    run.moved = 500
    assert run.until(10.3)[0].startswith("connect: prod: reachable again")


@pytest.mark.parametrize(
    "complaints",
    [[(0.1, REFUSED)], [(float(second), REFUSED) for second in (0, 60, 61, 1800)], [(0.1, BOOTSTRAP), (9, BOOTSTRAP)]],
    ids=["a short while", "now and then", "what was typed"],
)
def test_a_cluster_that_answers_is_not_told_of(complaints: list[tuple[float, str]]) -> None:
    run = Run()
    assert run.until(1900, *complaints) == []
    assert run.asked <= 2 * len(complaints) + run.now / IDLE


def test_a_cluster_that_gives_nothing_is_asked_once_a_minute_and_one_that_does_is_not() -> None:
    run = Run()
    assert run.until(10 * IDLE) == []
    assert 5 <= run.asked <= 10
    asked = run.asked
    while run.now < 20 * IDLE:
        run.moved += 1
        run.until(run.now + 1)
    assert run.asked == asked


def test_a_record_behind_a_long_pause_has_its_time_before_anybody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    run = Run(there=False)
    pause = IDLE - QUIET - 1
    run.until(pause)
    run.waiting = 1
    run.until(pause + 0.5)
    assert run.asked == 0
    (gone,) = run.until(pause + 2 * QUIET + AFTER)
    (second,) = re.findall(r"since 12:00:(\d+)", gone)
    assert int(second) >= pause - QUIET, "it was not away while nothing was asked of it"


def test_an_idle_client_that_has_forgotten_its_brokers_is_found_without_a_complaint_and_given_up() -> None:
    """librdkafka says nothing when it forgets them, and no record waits for what is not read."""
    run = Run(there=False, anew=True)
    (gone,) = run.until(IDLE + 10)
    assert gone.startswith("connect: prod: not reachable since ")
    run.presence.check()
    run.until(2 * IDLE + 30)
    with pytest.raises(UnreachableError, match="our client does not find back to it"):
        run.presence.check()


@pytest.mark.parametrize(
    ("complaints", "words"),
    [
        ([(second, REFUSED) for second in (0.1, 1, 3, 5, 7, 9, 40)], "broker 1 sends clients to 10.0.0.1:9092: "),
        ([(10.1, SILENT), (21, SILENT)], "broker 2 sends clients to b:9092: Connection setup timed out"),
    ],
)
def test_an_address_that_only_its_cluster_knows_is_told_of_once(
    complaints: list[tuple[float, str]], words: str
) -> None:
    (line,) = Run().until(60, *complaints)
    assert line.startswith(f"connect: prod: {words}")
    assert line.endswith("; make that address reachable, or correct advertised.listeners; still trying")


def test_an_address_that_only_its_cluster_knows_is_told_of_also_when_our_client_knows_no_other() -> None:
    """Once it has the list of brokers, the client forgets the address that was typed, and asks at theirs alone.

    It is waited for without limit: what goes on trying is not lost.
    """
    run = Run(there=False, anew=True)
    (line,) = run.until(3600, (0.1, REFUSED), *((float(second), REFUSED) for second in range(15, 3600, 30)))
    assert line.startswith("connect: prod: broker 1 sends clients to 10.0.0.1:9092: ")
    assert run.said[0][0] <= AFTER + 2
    run.presence.check()
