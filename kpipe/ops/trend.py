"""Rates and forecasts of groups from repeated looks: in, out, time to catch up, what stands still. Pure.

Commits come in steps (every 5 s by default), so rates are taken over SMOOTH seconds and not between two looks.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kpipe.flight import TopicPartition
    from kpipe.ops.groups import Group, PartitionLag

SMOOTH = 15.0
"""Seconds of history that a rate is taken over."""


class Rates(NamedTuple):
    """Records a second in and out, and what follows from them.

    `catch_up_s` is None when the lag does not shrink; `still`: nothing is committed although records wait.
    """

    incoming: float
    outgoing: float
    catch_up_s: float | None
    still: bool


@dataclass(slots=True)
class Trend:
    """The last looks at one partition of one group."""

    looks: deque[tuple[float, int, int]] = field(default_factory=deque)

    def add(self, at: float, committed: int, end: int) -> None:
        """One look; what is older than SMOOTH goes, but for the look just before."""
        self.looks.append((at, committed, end))
        while len(self.looks) > 2 and self.looks[1][0] <= at - SMOOTH:
            self.looks.popleft()

    def rates(self) -> Rates | None:
        """None before the second look, or when an offset went back: the group was reset, or the topic made anew."""
        if len(self.looks) < 2:
            return None
        (first, was, began), (last, committed, end) = self.looks[0], self.looks[-1]
        seconds = last - first
        if seconds <= 0 or committed < was or end < began:
            return None
        incoming, outgoing = (end - began) / seconds, (committed - was) / seconds
        lag = max(0, end - committed)
        catch_up = lag / (outgoing - incoming) if outgoing > incoming else None
        return Rates(incoming, outgoing, 0.0 if not lag else catch_up, bool(lag) and committed == was)


class Trends:
    """The trends of all partitions that were looked at."""

    def __init__(self) -> None:
        self._trends: dict[tuple[str, TopicPartition], Trend] = {}

    def look(self, group: Group, at: float) -> None:
        """Take note of one group as it is at `at` (seconds, of a clock that never goes back)."""
        for row in group.rows:
            if row.committed is not None and row.end is not None:
                self._trends.setdefault((group.group, row.place), Trend()).add(at, row.committed, row.end)

    def of(self, group: str, row: PartitionLag) -> Rates | None:
        """The rates of one partition."""
        trend = self._trends.get((group, row.place))
        return trend.rates() if trend is not None else None

    def sum(self, group: Group) -> Rates | None:
        """The rates of a whole group; it stands still when each partition that lags does."""
        known = [(row, rates) for row in group.rows if (rates := self.of(group.group, row)) is not None]
        if not known:
            return None
        incoming, outgoing = sum(rates.incoming for _, rates in known), sum(rates.outgoing for _, rates in known)
        lag = sum(row.lag or 0 for row, _ in known)
        catch_up = lag / (outgoing - incoming) if outgoing > incoming else None
        lagging = [rates for row, rates in known if row.lag]
        return Rates(
            incoming, outgoing, 0.0 if not lag else catch_up, bool(lagging) and all(rates.still for rates in lagging)
        )


def margin_ms(row: PartitionLag, settings: Mapping[str, str], now_ms: int) -> int | None:
    """How long until the record that waits may be deleted; 0 when it may be already, None when nobody knows.

    Kafka deletes whole segments, by the newest record in them: the margin is what is sure, never more. A limit in
    bytes (retention.bytes) has no time.
    """
    if row.waiting_ms is None or "delete" not in settings.get("cleanup.policy", "delete"):
        return None
    retention = int(settings.get("retention.ms", -1))
    if retention < 0 or int(settings.get("retention.bytes", -1)) >= 0:
        return None
    return max(0, row.waiting_ms + retention - now_ms)


def smallest(margins: Sequence[int | None]) -> int | None:
    """The one that runs out first."""
    return min((margin for margin in margins if margin is not None), default=None)
