"""Says, while kpipe keeps trying, that a cluster does not answer, how much waits for it, and when it is back.

It moves nothing: records wait for their delivery timeout, or for the cluster. It gives up only a client of ours that
does not find back to a cluster that is there.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from kpipe.errors import Stage, UnreachableError
from kpipe.kafka.diagnosis import from_listeners, plain_reason
from kpipe.kafka.errors import Cause, cause_of
from kpipe.units import clock_time, counted

if TYPE_CHECKING:
    from collections.abc import Callable

AFTER = 4.0
"""Seconds without an answer after which it is told; a leader moves and a connection is made again in less."""
SOON, LATER = 1.0, 5.0
"""Seconds between two questions, before and after it was told that the cluster is away."""
PATIENCE = 0.5
"""Seconds that the answer to one question may take. The run stands still meanwhile, and has nothing else to do."""
QUIET = 10.0
"""Seconds in which records wait and none is acknowledged, after which the cluster is asked: one that is frozen breaks
no connection, and librdkafka complains of it after 60 s only (socket.timeout.ms)."""
IDLE = 60.0
"""Seconds in which nothing moves, although nothing waits either, after which the cluster is asked: a client that has
forgotten its brokers (see PROOFS) complains of nothing, and one that only reads would stand still without a word."""
AGAIN, LONGEST = 60.0, 600.0
"""Seconds until it is told again; doubled each time, up to the second."""
ANEW = 60.0
"""Seconds between two questions, through a new client, to a cluster that ours does not reach."""
SILENT = 40.0
"""Seconds without a complaint after which a client tries no address any more: librdkafka tells of the same error again
after 30 s (`rkb_suppress.fail_error`), and a try comes every few seconds (reconnect.backoff.max.ms)."""
PROOFS = 3
"""Answers to new clients in a row, LATER seconds apart, after which a silent one of ours is given up. A broker that has
just come back and tells of no brokers makes librdkafka forget all that it knew (confluentinc/librdkafka#5301): seen
after 3 s of a frozen single broker with `metadata.recovery.strategy=none`; with `rebootstrap` it takes several brokers.
"""
GAP = 15.0
"""Seconds between two complaints of one address after which it has answered in between: a client that needs a broker
tries again at least every 10 s (reconnect.backoff.max.ms)."""


class Presence:
    """One cluster, as its clients complain of it (`hear`) and as it answers when it is asked.

    `ask` takes seconds and says whether the cluster answered a client of this run within them, `ask_anew` whether it
    answers a new one; `advice` is the command that says more.
    """

    def __init__(
        self,
        cluster: str,
        ask: Callable[[float], bool],
        say: Callable[[str], None],
        advice: str = "kpipe check",
        ask_anew: Callable[[], bool] = bool,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._cluster, self._ask, self._say, self._advice = cluster, ask, say, advice
        self._ask_anew = ask_anew
        self._clock, self._wall = clock, wall
        self.moved: Callable[[], int] = int
        """How many records this cluster has given or acknowledged: when the number grows, it is there."""
        self.waiting: Callable[[], int] = int
        """How many records wait for it now."""
        self._since: float | None = None
        """Since when there may be no answer."""
        self._told = False
        self._failures = 0
        self._next = 0.0
        self._again, self._pause = 0.0, AGAIN
        self._anew, self._proofs = 0.0, 0
        self._reason = ""
        self._complained = clock()
        """When a client told of something that it tried."""
        self._life: tuple[int, float] = (0, clock())
        self._sign = clock()
        """When it last gave, acknowledged or answered something."""
        self._heard: dict[str, tuple[float, float, str]] = {}
        """Of each address: since when there was no answer, when that was complained of last, and how."""
        self._address_told = False

    @property
    def away(self) -> str:
        """`prod away for 2:05`, empty while it is there."""
        if self._since is None or not self._told:
            return ""
        return f"{self._cluster} away for {clock_time(self._clock() - self._since)}"

    def check(self) -> None:
        """UnreachableError once a client of ours is lost: it tries nothing, and a new one reaches the cluster."""
        if self._proofs < PROOFS or self._since is None:
            return
        what = f"our client does not find back to it since {self._time(self._since, self._clock())}, and a new one does"
        raise UnreachableError(f"{what}; start kpipe again", where=self._cluster, stage=Stage.CONNECT)

    @property
    def is_doubted(self) -> bool:
        """Whether a client complained, or records wait, and no answer came since."""
        return self._since is not None

    def hear(self, name: str, text: str) -> None:
        """Take down one complaint; called by the client while it is polled, so it neither raises nor asks."""
        now = self._clock()
        tried = now - _seconds_tried(text)
        if cause_of(name) is not Cause.NOBODY_UP:
            self._reason, self._complained = plain_reason(text), now
        if from_listeners([(name, text)]) is not None:
            address = text.partition(": ")[0]
            since, last, _ = self._heard.get(address, (tried, now, ""))
            self._heard[address] = (tried if tried - last > GAP else since), now, text
        if self._since is None:
            self._since, self._next = tried, now + SOON

    def __call__(self) -> None:
        """Ask when it is time to; called once a turn."""
        now = self._clock()
        moved, since = self._life
        if (count := self.moved()) != moved:
            self._life, self._sign = (count, now), now
            if self._told:
                self._is_back(now)
        elif self._since is None and now - since >= QUIET:
            self._life = moved, now
            if self.waiting():
                self._since, self._next, self._reason = since, now, "no answer"
            elif now - self._sign >= IDLE:
                self._since, self._next, self._reason = now, now, "no answer"
        if self._since is not None and now >= self._next:
            self._look()

    def _look(self) -> None:
        answered = self._ask(PATIENCE)
        now = self._clock()
        if answered:
            self._is_back(now)
            self._tell_of_an_address(now)
            return
        self._failures += 1
        self._next = now + (LATER if self._told else SOON)
        since = self._since if self._since is not None else now
        if not self._told and self._failures > 1 and now - since >= AFTER:
            if self._heard and self._ask_anew() and self._tell_of_an_address(now, lasting=True):
                self._next = now + ANEW
                return
            self._told, self._again, self._anew = True, now + self._pause, now + ANEW
            reason = f" ({self._reason})" if self._reason else ""
            self._tell(
                f"not reachable since {self._time(since, now)}{reason}", f"still trying, {self._advice} says more"
            )
        elif self._told:
            self._look_anew(now)
            if now >= self._again:
                self._pause = min(LONGEST, 2 * self._pause)
                self._again = now + self._pause
                then = f"trying for {clock_time(now - since)}"
                if self._proofs:
                    then = "a new connection reaches it; if ours does not soon, the run ends"
                self._tell(f"still not reachable, since {self._time(since, now)}", then)

    def _look_anew(self, now: float) -> None:
        if now - self._complained < SILENT:  # it tries: an address that only its cluster knows, say, is waited for
            self._proofs = 0
            return
        if not self._proofs and now < self._anew:
            return
        self._anew = now + ANEW
        self._proofs = self._proofs + 1 if self._ask_anew() else 0

    def _is_back(self, now: float) -> None:
        if self._told and self._since is not None:
            self._say(f"connect: {self._cluster}: reachable again after {clock_time(now - self._since)}")
        self._since, self._told, self._failures, self._pause, self._proofs = None, False, 0, AGAIN, 0
        self._sign = now

    def _tell(self, what: str, then: str) -> None:
        count = self.waiting()
        waiting = f", {counted(count, 'record waits', 'records wait')} for it" if count else ""
        self._say(f"connect: {self._cluster}: {what}{waiting}; {then}")

    def _time(self, since: float, now: float) -> str:
        return time.strftime("%H:%M:%S", time.localtime(self._wall() - (now - since)))

    def _tell_of_an_address(self, now: float, *, lasting: bool = False) -> bool:
        """The cluster answers, but sends us to an address that does not: told once; whether that is so.

        `lasting`: our own client has not been answered all the while.
        """
        for since, last, text in self._heard.values():
            finding = from_listeners([("", text)])
            if finding is not None and (now - last < SILENT if lasting else now - last < GAP and last - since >= AFTER):
                if not self._address_told:
                    self._address_told = True
                    self._say(f"connect: {self._cluster}: {finding.text}; still trying")
                return True
        return False


def _seconds_tried(text: str) -> float:
    """How long the attempt took that is complained of: `... (after 10037ms in state CONNECT)`."""
    told = re.search(r"\(after (\d+)ms", text)
    return int(told[1]) / 1000 if told else 0.0
