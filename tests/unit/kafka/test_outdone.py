"""A client is given up only when a new one is answered twice while ours is not, and nothing was heard for a while."""

from __future__ import annotations

import pytest

from kpipe.kafka.outdone import AGAIN, PROOFS, QUIET, Outdone


class Waiting:
    """Somebody who waits for 60 s, and looks ten times a second."""

    def __init__(self, *, answered: bool, anew: bool) -> None:
        self.now, self.answered, self.anew, self.asked = 0.0, answered, anew, 0
        self.outdone = Outdone(self._ask, lambda: self.anew, clock=lambda: self.now)

    def _ask(self) -> bool:
        self.asked += 1
        return self.answered

    def until_given_up(self, heard: int = 0, seconds: float = 60.0) -> float | None:
        began = self.now
        while self.now < began + seconds:
            if self.outdone(heard):
                return self.now - began
            self.now += 0.1
        return None


def test_a_lost_client_is_given_up_after_two_proofs() -> None:
    waiting = Waiting(answered=False, anew=True)
    took = waiting.until_given_up()
    assert took == pytest.approx(QUIET + AGAIN * (PROOFS - 1), abs=0.3)
    assert waiting.until_given_up() == pytest.approx(took, abs=0.3), "the next client has as much time"


@pytest.mark.parametrize(
    ("answered", "anew"), [(True, True), (False, False), (True, False)], ids=["slow", "away", "a new one is refused"]
)
def test_no_other_client_is_given_up(answered: bool, anew: bool) -> None:
    assert Waiting(answered=answered, anew=anew).until_given_up() is None


def test_who_hears_something_is_not_asked() -> None:
    waiting = Waiting(answered=False, anew=True)
    for heard in range(20):
        assert waiting.until_given_up(heard, QUIET - 1) is None
    assert waiting.asked == 0


def test_one_answer_in_between_begins_anew() -> None:
    waiting = Waiting(answered=False, anew=True)
    assert waiting.until_given_up(0, QUIET + AGAIN / 2) is None
    waiting.answered = True
    assert waiting.until_given_up(0, AGAIN) is None
    waiting.answered = False
    assert waiting.until_given_up(0, AGAIN / 2) is None
