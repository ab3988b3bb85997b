"""A spill file is sent home once: what was not delivered stays in it, and no other file is touched."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

import pytest

from kpipe.delivery.restore import BLOCK, SpillRest, check_spill
from kpipe.errors import BadRecord, KpipeError, Stage, UsageError
from kpipe.flight import Flight
from kpipe.ledger import Ledger
from kpipe.record import Batch

if TYPE_CHECKING:
    from pathlib import Path


class Lines:
    """A decoder: each line is a record, `bad` is none; it keeps what it was given."""

    def __init__(self) -> None:
        self.fed = b""
        self.left = b""

    def feed(self, block: bytes) -> Batch:
        self.fed += block
        *lines, self.left = (self.left + block).split(b"\n")
        return self._batch(lines)

    def finish(self) -> Batch:
        return self._batch([self.left])

    def _batch(self, lines: list[bytes]) -> Batch:
        batch = Batch([line for line in lines if line.strip()])
        batch.reject(
            {place: BadRecord("no envelope", where="f:9") for place, v in enumerate(batch.values) if v == b"bad"}
        )
        return batch


@pytest.fixture
def spill(tmp_path: Path) -> Path:
    path = tmp_path / "spill.jsonl"
    path.write_bytes(b"a\nb\nc\nd\n")
    path.chmod(0o640)
    return path


def opened(path: Path) -> SpillRest:
    rest = SpillRest(str(path))
    rest.check(Lines())  # type: ignore[arg-type]
    return rest


def lost(*lines: int) -> list[tuple[Flight, int]]:
    batch = Batch([b"v"] * 9, lines=list(range(1, 10)))
    flight = Ledger().track(batch, batch.snapshot())
    return [(flight, line - 1) for line in lines]


def finish(rest: SpillRest, read: int) -> str:
    rest.finish(Ledger(read=read), 1.0)
    return rest.note.removeprefix(f"restore: {rest.path}: ")


def names(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir())


# --- what is checked before the first record is sent ---------------------------------------------------------------


def test_the_whole_file_is_read_before_anything_is_sent(spill: Path) -> None:
    line = b"x" * 1000 + b"\n"
    count = BLOCK // len(line) + 10
    spill.write_bytes(line * count + b"last")
    decoder = Lines()
    rest = SpillRest(str(spill))
    assert rest.check(decoder) == count + 1  # type: ignore[arg-type]
    assert decoder.fed == spill.read_bytes()
    assert finish(rest, 0) == f"{count + 1:,} records are left in it; run again to send the rest"


def test_a_damaged_spill_is_refused_whole(spill: Path) -> None:
    spill.write_bytes(b"a\nbad\n")
    rest = SpillRest(str(spill))
    made: list[str] = []

    def make(path: str) -> Any:
        made.append(path)
        return Lines()

    with pytest.raises(BadRecord, match="no envelope; the spill is damaged there, and nothing of it was sent") as told:
        check_spill(rest, make)
    assert (told.value.where, told.value.stage, made) == ("f:9", Stage.READ, [str(spill)])


def test_what_was_checked_is_what_is_sent_whatever_has_its_name_by_then(spill: Path) -> None:
    rest = opened(spill)
    spill.rename(spill.with_name("moved"))
    spill.write_bytes(b"another\n")
    with open(rest.reopen(), "rb") as file:
        assert file.read() == b"a\nb\nc\nd\n"


def test_two_runs_cannot_send_it_at_once(spill: Path) -> None:
    first = opened(spill)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(UsageError, match="is being restored by another process"):
        SpillRest(str(spill))
    assert len(os.listdir("/proc/self/fd")) == before
    finish(first, 0)
    opened(spill)


def test_only_a_plain_file_is_taken(spill: Path) -> None:
    link, fifo = spill.with_name("link"), spill.with_name("fifo")
    link.symlink_to(spill)
    os.mkfifo(fifo)
    before = len(os.listdir("/proc/self/fd"))
    for path, words in (
        (link, "is a symbolic link"),
        (fifo, "is no plain file; --restore takes a file that --spill wrote"),
        (spill.parent, "is no plain file; --restore takes"),
        (spill.with_name("gone"), "cannot open: No such file or directory"),
    ):
        with pytest.raises(UsageError, match=words) as told:
            SpillRest(str(path))
        assert told.value.where == str(path)
    assert len(os.listdir("/proc/self/fd")) == before


# --- what is left of it --------------------------------------------------------------------------------------------


def test_a_spill_that_was_delivered_whole_gets_another_name(spill: Path) -> None:
    assert finish(opened(spill), 4) == "all was delivered; it is spill.jsonl.restored now"
    assert names(spill) == ["spill.jsonl.restored"]
    assert spill.with_name("spill.jsonl.restored").read_bytes() == b"a\nb\nc\nd\n"


def test_an_older_restored_file_is_kept(spill: Path) -> None:
    content = spill.read_bytes()
    spill.with_name("spill.jsonl.restored").symlink_to("nowhere")  # also what leads nowhere is somebody's
    for number in (2, 3):
        spill.write_bytes(content)
        assert finish(opened(spill), 4) == f"all was delivered; it is spill.jsonl.restored.{number} now"
    assert spill.with_name("spill.jsonl.restored").is_symlink()


def test_what_was_lost_and_what_was_not_read_stay_in_order(spill: Path) -> None:
    rest = opened(spill)
    assert rest.write(lost(2)) == 1
    assert finish(rest, 3) == "2 records are left in it; run again to send the rest"
    assert spill.read_bytes() == b"b\nd\n"
    assert names(spill) == ["spill.jsonl"]
    assert stat.S_IMODE(spill.stat().st_mode) == 0o640
    assert opened(spill).check(Lines()) == 2  # type: ignore[arg-type]


def test_a_spill_of_which_nothing_was_delivered_stays_as_it_is(spill: Path) -> None:
    rest = opened(spill)
    assert rest.note == "", "nothing is said of what has not ended"
    rest.write(lost(1, 2, 3, 4))
    finish(rest, 4)
    assert spill.read_bytes() == b"a\nb\nc\nd\n"


def test_empty_lines_are_no_records_and_the_last_line_gets_its_end(spill: Path) -> None:
    spill.write_bytes(b"\na\n \nb\nc\nd")
    rest = opened(spill)
    rest.write(lost(2))  # a line, as the decoder counts them: `a`
    assert finish(rest, 2) == "3 records are left in it; run again to send the rest"
    assert spill.read_bytes() == b"a\nc\nd\n"


def test_records_that_came_from_no_line_are_counted_and_leave_nothing(spill: Path) -> None:
    batch = Batch([b"v"])
    flight = Ledger().track(batch, batch.snapshot())
    rest = opened(spill)
    assert rest.write([(flight, 0), (Flight(), 0)]) == 2
    assert finish(rest, 4).startswith("all was delivered")


def test_a_file_that_was_changed_is_left_as_it_is(spill: Path) -> None:
    rest = opened(spill)
    spill.write_bytes(b"a\nX\nc\nd\n")
    with pytest.raises(KpipeError, match="was changed while it was sent") as told:
        finish(rest, 4)
    assert (told.value.stage, told.value.where) == (Stage.COMMIT, str(spill))
    assert spill.read_bytes() == b"a\nX\nc\nd\n"
    assert names(spill) == ["spill.jsonl"]


def test_a_file_that_was_cut_is_left_as_it_is(spill: Path) -> None:
    rest = opened(spill)
    spill.write_bytes(b"a\n")
    with pytest.raises(KpipeError, match="was changed while it was sent"):
        finish(rest, 4)


def test_what_was_appended_meanwhile_is_left(spill: Path) -> None:
    rest = opened(spill)
    with spill.open("ab") as file:
        file.write(b"e\n")
    assert finish(rest, 4) == "1 record is left in it; run again to send the rest"
    assert spill.read_bytes() == b"e\n"


class Growing(SpillRest):
    """Another process appends to the file while what is left of it is written."""

    times = 0

    def _write_rest(self, read: int) -> tuple[Path, int]:
        found = super()._write_rest(read)
        self.times += 1
        if self.times == 1:
            with self.path.open("ab") as file:
                file.write(b"late\n")
        return found


def test_what_is_appended_in_the_last_moment_is_left_too(spill: Path) -> None:
    rest = Growing(str(spill))
    rest.check(Lines())  # type: ignore[arg-type]
    assert finish(rest, 4) == "1 record is left in it; run again to send the rest"
    assert (spill.read_bytes(), rest.times) == (b"late\n", 2)


def test_another_file_that_has_its_name_is_not_touched(spill: Path) -> None:
    rest = opened(spill)
    spill.rename(spill.with_name("moved"))
    spill.write_bytes(b"another\n")
    assert finish(rest, 4) == "all was delivered; another file has its name now, and is left as it is"
    assert spill.read_bytes() == b"another\n"
    assert names(spill) == ["moved", "spill.jsonl"]


def test_what_is_left_goes_beside_another_file_that_has_its_name(spill: Path) -> None:
    rest = opened(spill)
    rest.write(lost(3))
    spill.rename(spill.with_name("moved"))
    spill.write_bytes(b"another\n")
    assert finish(rest, 4) == "another file has its name now; 1 record is left in spill.jsonl.rest"
    assert spill.read_bytes() == b"another\n"
    assert spill.with_name("spill.jsonl.rest").read_bytes() == b"c\n"
    assert names(spill) == ["moved", "spill.jsonl", "spill.jsonl.rest"]


def test_what_is_left_of_a_file_that_was_deleted_is_kept(spill: Path) -> None:
    rest = opened(spill)
    spill.unlink()
    assert "records are left in spill.jsonl.rest" in finish(rest, 1)
    assert spill.with_name("spill.jsonl.rest").read_bytes() == b"b\nc\nd\n"


def test_when_what_is_left_cannot_be_written_nothing_is_gone(spill: Path) -> None:
    rest = opened(spill)
    rest.write(lost(1))
    spill.with_name(f".{spill.name}.{os.getpid()}").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(KpipeError, match=r"cannot write what is left: .*; the file still has all its records") as told:
        finish(rest, 4)
    assert (told.value.stage, told.value.where) == (Stage.COMMIT, str(spill))
    assert spill.read_bytes() == b"a\nb\nc\nd\n"
    assert len(os.listdir("/proc/self/fd")) == before - 1


def test_the_file_changes_only_at_the_end(spill: Path) -> None:
    rest = opened(spill)
    rest.tick(Ledger(read=4))
    assert names(spill) == ["spill.jsonl"]
    finish(rest, 4)
