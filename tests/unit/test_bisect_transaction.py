"""A refused batch is narrowed down from transaction to transaction, and always ends at a record that is alone."""

from __future__ import annotations

from typing import Any

import pytest

from kpipe.ledger import Ledger
from kpipe.record import Batch
from kpipe.sinks.bisect_transaction import GROUPS, Suspects, positions_in


def batch_of(count: int, partitions: int = 1) -> Batch:
    columns: dict[str, Any] = {
        "topics": ["t"] * count,
        "partitions": [number % partitions for number in range(count)],
        "offsets": [number // partitions for number in range(count)],
    }
    return Batch([b"%d" % number for number in range(count)], **columns)


def failures(batch: Batch, numbers: Any) -> list[Any]:
    flight = Ledger().track(batch, batch.snapshot())
    return [(flight, number, None) for number in numbers]


@pytest.mark.parametrize("count", [2, 31, 33, 1000, 5000])
@pytest.mark.parametrize("at", [0.0, 0.5, 1.0])
def test_a_culprit_is_alone_after_few_transactions(count: int, at: float) -> None:
    culprit = b"%d" % int(at * (count - 1))
    suspects, batch = Suspects(), batch_of(count)
    assert suspects.accuse(failures(batch, range(count)))
    for _ in range(4):
        sent: list[bytes | None] = []
        for part in suspects.parts(batch):
            sent += part.values
            if culprit in part.values:
                break
        assert sent == batch.values[: len(sent)], "in their order, each once"
        if part.values == [culprit]:
            return
        assert suspects.accuse(failures(batch, [int(value or b"") for value in part.values]))
    pytest.fail("it was never alone")


def test_all_parts_together_are_the_batch_and_each_partition_keeps_its_order() -> None:
    suspects, batch = Suspects(), batch_of(300, partitions=3)
    suspects.accuse(failures(batch, range(0, 300, 3)))
    sent = [
        (p, o) for part in suspects.parts(batch) for p, o in zip(part.partitions or [], part.offsets or [], strict=True)
    ]
    assert sorted(sent) == sorted(zip(batch.partitions or [], batch.offsets or [], strict=True))
    for partition in range(3):
        offsets = [offset for number, offset in sent if number == partition]
        assert offsets == sorted(offsets, key=lambda offset: offset or 0)
    first = next(suspects.parts(batch))
    assert set(first.partitions or []) == {1, 2}, "what is not concerned goes first, and together"


def test_partitions_are_narrowed_down_each_for_itself() -> None:
    suspects, batch = Suspects(), batch_of(400, partitions=2)
    assert suspects.accuse(failures(batch, range(0, 400, 2)))
    assert suspects.accuse(failures(batch, range(1, 400, 2))), "another partition is news"
    assert not suspects.accuse(failures(batch, range(1, 400, 2))), "the same again is no way forward"
    assert suspects.accuse(failures(batch, range(1, 200, 2)))
    largest = max(len(part) for part in list(suspects.parts(batch))[1:])
    assert largest <= 2 * -(-200 // GROUPS), "groups of two partitions may stand together"
    suspects.forget({("t", 0): 200, ("t", 1): 200})
    assert not suspects


def test_a_commit_among_the_suspects_clears_those_that_are_in_it_only() -> None:
    """A transaction may end before all is read again: the others are as suspect as before."""
    suspects, batch = Suspects(), batch_of(64)
    suspects.accuse(failures(batch, range(64)))
    suspects.forget({("t", 0): 40})
    sizes = [len(part) for part in suspects.parts(batch)]
    assert sizes == [0, 40] + [2] * 12


def test_a_record_that_failed_twice_is_one_suspect() -> None:
    assert positions_in(failures(batch_of(3), [2, 1, 2])) == [("t", 0, 1), ("t", 0, 2)]


def test_suspects_of_one_partition_stay_under_suspicion_while_another_is_accused() -> None:
    suspects, batch = Suspects(), batch_of(40, partitions=2)
    suspects.accuse(failures(batch, range(0, 40, 2)))
    suspects.accuse(failures(batch, range(1, 40, 2)))
    parts = list(suspects.parts(batch))
    assert len(parts[0]) == 0, "none of them is clear"
    assert max(len(part) for part in parts[1:]) <= 2, "one of each may stand together"
