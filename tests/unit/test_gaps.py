"""What each policy of --on-gap does where the log is not what it was: it goes on somewhere and says so, or ends the run."""

from __future__ import annotations

import pytest

from kpipe.errors import KpipeError
from kpipe.kafka.lookups import Bounds
from kpipe.sources.gaps import Gaps

PLACE = ("orders", 3)
BOUND = Bounds(100, 200)


def gaps(policy: str) -> tuple[Gaps, list[str]]:
    said: list[str] = []
    return Gaps(policy, "prod", said.append), said


@pytest.mark.parametrize(
    ("policy", "target", "missing"), [("warn", 100, 60), ("earliest", 100, 60), ("latest", 200, 160)]
)
def test_records_that_were_deleted_are_passed_counted_and_told(policy: str, target: int, missing: int) -> None:
    found, said = gaps(policy)
    assert found.cross(PLACE, 40, BOUND) == target
    assert (found.missing, found.crossed) == (missing, 1)
    assert said == [
        f"read: prod:orders[3]@40: 60 offsets (40 to 99) were deleted before they were read; going on at {target} "
        f"(--on-gap {policy})"
    ]
    assert found.cross(("orders", 0), 99, BOUND) == target
    assert "1 offset (99) was deleted before it was read" in said[1]
    assert (found.missing, found.crossed) == (missing + target - 99, 2)
    assert found.facts() == {"gaps": 2, "missing": missing + target - 99}


@pytest.mark.parametrize(("policy", "target"), [("earliest", 100), ("latest", 200)])
@pytest.mark.parametrize("created_again", [True, False])
def test_an_offset_past_the_end_loses_nothing_that_could_be_counted(
    policy: str, target: int, created_again: bool
) -> None:
    found, said = gaps(policy)
    assert found.cross(PLACE, 201, BOUND, created_again=created_again) == target
    assert (found.missing, found.crossed) == (0, 1)
    assert ("deleted and created again (offsets 100 to 200 exist now)" in said[0]) == created_again
    assert ("the next offset is past the end (200)" in said[0]) == (not created_again)


def test_a_topic_that_was_created_again_has_a_gap_wherever_the_offset_lies() -> None:
    for offset in (-1, 40, 150, 900):
        found, _ = gaps("earliest")
        assert found.cross(PLACE, offset, BOUND, created_again=True) == 100
        assert found.missing == 0


@pytest.mark.parametrize(
    ("policy", "offset", "created_again", "advice"),
    [
        ("stop", 40, False, "warn|earliest|latest"),
        ("stop", 201, False, "warn|earliest|latest"),
        ("stop", 40, True, "earliest|latest"),
        ("warn", 201, False, "earliest|latest"),
        ("warn", 40, True, "earliest|latest"),
        ("warn", -1, True, "earliest|latest"),
    ],
)
def test_what_only_a_person_can_decide_ends_the_run(policy: str, offset: int, created_again: bool, advice: str) -> None:
    found, said = gaps(policy)
    with pytest.raises(KpipeError) as caught:
        found.cross(PLACE, offset, BOUND, created_again=created_again)
    at = f"prod:orders[3]@{offset}" if offset >= 0 else "prod:orders[3]"
    assert str(caught.value).startswith(f"read: {at}: ")
    assert str(caught.value).endswith(f"; go on with --on-gap {advice}")
    assert (said, found.missing, found.crossed, found.facts()) == ([], 0, 0, {})


def test_the_first_offset_that_exists_is_no_reason_to_pass_it() -> None:
    """`warn` behind retention goes on exactly at the first record; at the end of the log nothing is past it."""
    found, _ = gaps("warn")
    assert found.cross(PLACE, 99, BOUND) == 100
    assert found.missing == 1


def test_the_very_first_offset_is_named_like_any_other() -> None:
    found, said = gaps("warn")
    assert found.cross(PLACE, 0, BOUND) == 100
    assert said[0].startswith("read: prod:orders[3]@0: 100 offsets (0 to 99) were deleted")
