"""Unix filters as child processes: what comes back, what is settled, and what happens when they misbehave."""

from __future__ import annotations

import random
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "unit" / "chain"))
from chain_fakes import FakeSink, ListSource, rows, run

from kpipe.errors import BadRecord, UsageError
from kpipe.through.child import LONGEST_LINE
from kpipe.through.envelopes import Envelopes
from kpipe.through.filtering import Filter, FilterError, FilterMismatch
from kpipe.through.lines import Lines, refuse_newlines
from kpipe.trace import Hop, Tracer
from kpipe.transform.chain import build
from kpipe.transform.step import Step

PY = sys.executable


def python(program):
    return f"{PY} -c '{program}'"


EACH = "import sys\nfor line in sys.stdin: "


class Following(ListSource):
    """Has no end: after its batches nothing comes, for as long as the test may take."""

    finished = property(lambda self: time.monotonic() > self.until, lambda _self, _value: None)

    def __init__(self, *batches):
        self.until = time.monotonic() + 10
        super().__init__(*batches)

    def read(self):
        if self.batches:
            return super().read()
        time.sleep(0.02)
        return None


def through(kind, command, *batches, sink=None, stages=(), jobs=1, timeout=20.0, on_error="stop", source=ListSource):
    said = []
    target = sink or FakeSink()
    filtering = kind(Filter(command, f"--through {command}", timeout, jobs), target, list(stages), said.append)
    done = run(
        source(*batches),
        [refuse_newlines("--through")] if kind is Lines else [],
        filtering,
        on_error=on_error,
        flush_timeout=60,
    )
    assert done.ledger.balanced
    assert not filtering.children
    done.values, done.told, done.sink = target.values, said, target
    return done


# --- lines -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        "sed -u s/v/w/",
        'jq -Rr --unbuffered \'sub("v"; "w")\'',
        python(EACH + 'print(line.rstrip().replace("v", "w"), flush=True)'),
    ],
)
def test_a_line_for_a_line(command):
    batches = [rows(*[b"v%d" % (500 * n + i) for i in range(500)], first=500 * n) for n in range(4)]
    done = through(Lines, command, *batches)
    assert done.error is None
    assert done.values == [b"w%d" % i for i in range(2000)]
    assert done.committed == {("t", 0): 2000}


def test_null_values_pass_by_and_empty_ones_are_lines():
    done = through(Lines, "sed -u 's/^/x/'", rows(None, b"a", None, b"", b"b", None))
    assert done.values == [None, b"xa", None, b"x", b"xb", None]


def test_only_null_values_need_no_filter():
    assert through(Lines, "exit 1", rows(None, None)).values == [None, None]


def test_a_value_with_a_newline_is_a_bad_record():
    done = through(Lines, "cat", rows(b"a", b"b\nc", b"d"))
    assert isinstance(done.error, BadRecord)
    assert "t[0]@1" in str(done.error)
    assert done.values == [b"a"]
    assert through(Lines, "cat", rows(b"a", b"b\nc", b"d"), on_error="skip").values == [b"a", b"d"]


@pytest.mark.parametrize("kind", [Lines, Envelopes])
@pytest.mark.parametrize("size", [1, 70_000, 1_000_000])
def test_sizes_make_no_deadlock(kind, size):
    values = [bytes([97 + n % 26]) * size for n in range(24)]
    done = through(kind, "cat", rows(*values))
    assert done.error is None
    assert done.values == values


def test_a_filter_that_answers_late_makes_no_deadlock():
    program = "import sys\\nwhile True:\\n  one = sys.stdin.readline()\\n  if not one: break\\n  sys.stdout.write(one*1); sys.stdout.flush()"
    values = [b"x" * 200_000] * 30
    assert through(Lines, f"{PY} -c \"exec('''{program}''')\"", rows(*values)).values == values


def test_a_line_too_many_that_comes_late_is_waited_for():
    """The answers are enough before the last one comes: each behind the surplus would be that of another record."""
    surplus = python(
        "import sys, time\nfor n, x in enumerate(sys.stdin):\n if n == 10: print(1, flush=True)\n if n == 19:\n"
        '  end = time.monotonic() + 0.01\n  while time.monotonic() < end: pass\n print(x, end="", flush=True)'
    )
    done = through(Lines, surplus, rows(*[b"%d" % n for n in range(20)]))
    assert isinstance(done.error, FilterMismatch)
    assert done.values == []


@pytest.mark.parametrize("jobs", [2, 3])
def test_several_processes_keep_the_order(jobs):
    keys = [b"k%d" % (n % 7) for n in range(700)]
    batch = rows(*[b"%d" % n for n in range(700)], keys=keys)
    done = through(Lines, "sed -u s/$/!/", batch, jobs=jobs)
    assert done.values == [b"%d!" % n for n in range(700)]


@pytest.mark.parametrize(
    ("command", "kind", "text"),
    [
        ("sed -u p", FilterMismatch, "more lines than it was given"),
        ("jq . --unbuffered", FilterMismatch, "more lines than it was given"),
        ("exit 3", FilterError, "failed with exit code 3"),
        ("kill -9 $$", FilterError, "died by signal 9"),
        ("no-such-command-x", FilterError, "exit code 127"),
        ("cat >/dev/null", FilterError, "no answer for 0.5 s"),
        ("sleep 30", FilterError, "no answer for 0.5 s"),
        ("grep --line-buffered 1", FilterError, "answered 11 of 20 lines"),
        ("head -c 0", FilterError, "the filter ended"),
    ],
)
def test_a_filter_that_misbehaves_stops_the_run_before_anything_is_sent(command, kind, text):
    values = [b'{"a":%d}' % n for n in range(1, 21)] if "jq" in command else [b"%d" % n for n in range(1, 21)]
    began = time.monotonic()
    done = through(Lines, command, rows(*values), timeout=0.5, on_error="skip")
    assert isinstance(done.error, kind)
    assert text in str(done.error)
    assert "t[0]@0" in str(done.error)
    assert done.values == []
    assert done.committed == {}
    assert done.ledger.unknown == 20
    assert time.monotonic() - began < 10


def test_a_surplus_at_the_end_is_found_too():
    done = through(Lines, python(EACH + 'print(line, end="", flush=True)\nprint("one more")'), rows(b"a", b"b"))
    assert isinstance(done.error, FilterMismatch)


def test_what_was_delivered_before_the_filter_died_is_committed_and_nothing_behind():
    program = (
        'import sys\nfor n, line in enumerate(sys.stdin):\n  if n == 5: sys.exit(9)\n  print(line, end="", flush=True)'
    )
    done = through(Lines, python(program), rows(b"a", b"b", b"c"), rows(b"d", b"e", b"f", first=3))
    assert done.values == [b"a", b"b", b"c"]
    assert done.committed == {("t", 0): 3}
    assert "exit code 9" in str(done.error)


@pytest.mark.parametrize("kind", [Lines, Envelopes])
def test_its_stderr_is_shown_and_cannot_drive_a_terminal(kind):
    done = through(kind, "printf 'careful \\033[31m\\nlast words' >&2; exec cat", rows(b"a"))
    assert done.values == [b"a"]
    assert done.told == ["through: careful \\x1b[31m", "through: last words"]


def test_stages_behind_the_filter_see_its_answers():
    stages = build([Step("grep-not", "drop"), Step("map", ".+1")])
    done = through(Lines, "sed -u s/2/drop/", rows(b"1", b"2", b"3", b"x"), stages=stages, on_error="skip")
    assert done.values == [b"2", b"4"]
    assert (done.ledger.delivered, done.ledger.filtered, done.ledger.failed) == (2, 1, 1)
    assert done.committed == {("t", 0): 4}
    assert "t[0]@3" in done.said[0]


def test_a_split_behind_the_filter_settles_with_its_last_child():
    stages = build([Step("split", ".[]")])
    done = through(Lines, "sed -u s/0/9/", rows(b"[0,1]", b"[]", b"[2]"), stages=stages)
    assert done.values == [b"9", b"1", b"2"]
    assert (done.ledger.delivered, done.ledger.filtered) == (2, 1)


def test_a_filter_behind_a_filter():
    target = FakeSink()
    inner = Lines(Filter("sed -u s/b/c/", "--through 2"), target, [], print)
    outer = Envelopes(Filter("cat", "--through-json cat"), inner, [], print)
    done = run(ListSource(rows(b"b", b"x")), [], outer, flush_timeout=60)
    assert target.values == [b"c", b"x"]
    assert done.committed == {("t", 0): 2}


@pytest.mark.parametrize(
    ("kind", "command", "what", "end"),
    [
        (Lines, "sed -u 3q", "the filter ended before its input did; it must read on", 3),
        (Lines, "sed -u 3q; exit 7", "the filter failed with exit code 7 before its input did", 3),
        (Envelopes, "sed -u 3q", "the filter ended before its input did; what it owes", 2),
    ],
)
def test_a_filter_that_ends_while_the_source_is_idle_ends_the_run(kind, command, what, end):
    began = time.monotonic()
    done = through(kind, command, rows(b"a", b"b", b"c"), source=Following)
    assert time.monotonic() - began < 8
    assert isinstance(done.error, FilterError)
    assert what in str(done.error)
    assert done.values == [b"a", b"b", b"c"]
    assert done.committed == {("t", 0): end}  # an envelope may have another copy to come


def test_a_filter_that_ends_with_the_input_is_no_error():
    done = through(Lines, "sed -u 3q", rows(b"a", b"b", b"c"))
    assert done.error is None
    assert done.committed == {("t", 0): 3}


@pytest.mark.parametrize("kind", [Lines, Envelopes])
def test_a_stage_behind_the_filter_that_raises_leaves_the_rest_unsent(kind):
    def refuse(batch):
        if b"c" in batch.values:
            raise UsageError("routed to where none may go")

    done = through(kind, "sed -u s/x/y/", rows(b"a", b"b"), rows(b"c", b"d", first=2), stages=[refuse], on_error="skip")
    assert isinstance(done.error, UsageError)
    assert done.values == [b"a", b"b"]
    assert done.ledger.failed >= 1
    assert done.ledger.delivered + done.ledger.failed + done.ledger.unknown == 4
    assert max(done.committed.values()) <= 2


# --- envelopes -------------------------------------------------------------------------------------------------


def test_everything_of_a_record_survives():
    batch = rows(
        b"v\n\x00\xff",
        None,
        b"",
        keys=[None, b"\xfe", b""],
        headers=[[("h", None), ("h", b"\xff")], None, [("", b"")]],
        timestamps=[(1, 5), (2, 6), (0, -1)],
    )
    batch.targets = ["x", None, "y"]
    sink = FakeSink()
    done = through(Envelopes, "cat", batch, sink=sink)
    got = [
        row
        for b in sink.batches
        for row in zip(
            b.values,
            b.keys,
            b.headers or [None] * len(b),
            b.timestamps,
            b.topics,
            b.partitions,
            b.offsets,
            b.targets,
            strict=True,
        )
    ]
    assert [row[:2] for row in got] == [(b"v\n\x00\xff", None), (None, b"\xfe"), (b"", b"")]
    assert [list(row[2] or []) for row in got] == [[("h", None), ("h", b"\xff")], [], [("", b"")]]
    assert [row[3] for row in got][:2] == [(1, 5), (2, 6)]
    assert [row[4:] for row in got] == [("t", 0, 0, "x"), ("t", 0, 1, None), ("t", 0, 2, "y")]
    assert done.committed == {("t", 0): 3}


def test_a_filter_may_change_drop_and_add():
    done = through(
        Envelopes,
        'jq -c \'if .offset == 1 then empty elif .offset == 2 then .,(.value="new"|.key="k") else . end\'',
        rows(b"a", b"b", b"c", b"d", b"e"),
    )
    assert done.values == [b"a", b"c", b"new", b"d", b"e"]
    assert (done.ledger.delivered, done.ledger.filtered) == (4, 1)
    assert done.committed == {("t", 0): 5}


@pytest.mark.parametrize("dropped", [[0], [4], [0, 1, 2, 3, 4], [2, 3]])
def test_dropped_records_are_filtered_wherever_they_stand(dropped):
    which = ",".join(str(offset) for offset in dropped)
    done = through(
        Envelopes,
        f"jq -c --unbuffered 'select(.offset as $o | [{which}] | index([$o]) | not)'",
        rows(b"0", b"1", b"2", b"3", b"4"),
    )
    assert done.error is None
    assert done.values == [b"%d" % n for n in range(5) if n not in dropped]
    assert done.ledger.filtered == len(dropped)
    assert done.committed == {("t", 0): 5}


def test_the_trace_tells_the_time_at_the_source_whatever_the_filter_writes():
    sink = FakeSink()
    batch = rows(b"a", b"b", timestamps=[(1, 5), (1, 6)])
    through(Envelopes, "jq -c '.timestamp = 99'", batch, sink=sink, stages=[Tracer(Hop())])
    sent = [
        (time, dict(headers)["source_timestamp"])
        for each in sink.batches
        for time, headers in zip(each.timestamps, each.headers, strict=True)
    ]
    assert sent == [((1, 99), b"5"), ((1, 99), b"6")]


def test_what_was_not_given_to_a_dying_filter_is_known_to_be_unsent():
    done = through(partial(Envelopes, window=100), "sleep 0.3; exit 5", rows(*[b"%d" % n for n in range(300)]))
    assert "exit code 5" in str(done.error)
    assert (done.ledger.unknown, done.ledger.failed) == (100, 200)
    assert done.lost[-1] == ("t[0]@299", "the run ended before it was sent")


def test_a_copy_keeps_its_record_open_until_it_is_acknowledged():
    sink = FakeSink(acks=False)
    filtering = Envelopes(Filter("jq -c '.,.'", "--through-json"), sink, [], print)
    done = run(ListSource(rows(b"a")), [], filtering, flush_timeout=1)
    assert sink.values == [b"a", b"a"]
    assert done.committed == {}


def test_a_full_window_of_dropped_records_restarts_the_filter():
    quick = partial(Envelopes, window=100, stall=0.2)
    batches = [rows(*[b"v"] * 50, first=50 * n) for n in range(7)]
    done = through(quick, "jq -c --unbuffered 'select(.offset > 340)'", *batches)
    assert done.error is None
    assert (done.ledger.filtered, done.ledger.delivered) == (341, 9)


@pytest.mark.parametrize("jobs", [1, 3])
def test_order_is_kept_per_key(jobs):
    keys = [b"k%d" % (n % 5) for n in range(1000)]
    batch = rows(*[b"%d" % n for n in range(1000)], keys=keys)
    done = through(Envelopes, "jq -c --unbuffered .", batch, jobs=jobs)
    for key in range(5):
        assert [v for v in done.values if int(v) % 5 == key] == [b"%d" % n for n in range(key, 1000, 5)]
    assert done.committed == {("t", 0): 1000}


def test_lines_of_a_file_have_coordinates_for_the_filter_only():
    from kpipe.record import Batch

    sink = FakeSink()
    done = through(
        Envelopes, "jq -c '.value = (.offset|tostring)'", Batch([b"a", b"b"], file="stdin", lines=[1, 2]), sink=sink
    )
    assert done.error is None
    assert sink.values == [b"0", b"1"]
    assert sink.batches[0].topics is None
    assert list(sink.batches[0].lines) == [1, 2]


@pytest.mark.parametrize(
    ("command", "kind", "text"),
    [
        ("jq -c '.offset += 100'", FilterMismatch, "t[0]@100, which it was not given"),
        ("jq -c 'del(.offset)'", FilterMismatch, "without topic, partition or offset"),
        ("sed s/^/x/", FilterMismatch, "no envelope"),
        ("tac", FilterMismatch, "out of order"),
        ("exit 4", FilterError, "exit code 4"),
        ("cat >/dev/null; exit 4", FilterError, "exit code 4"),
        ("cat >/dev/null; sleep 30", FilterError, "no answer for 1 s"),
    ],
)
def test_an_envelope_filter_that_misbehaves_stops_the_run(command, kind, text):
    done = through(Envelopes, command, rows(b"a", b"b", b"c"), timeout=1.0, on_error="skip")
    assert isinstance(done.error, kind)
    assert text in str(done.error)
    assert done.committed in ({}, {("t", 0): 1}, {("t", 0): 2})
    assert done.ledger.unknown > 0


def test_what_a_dying_filter_owes_is_not_committed():
    done = through(Envelopes, "head -2; exit 5", rows(*[b"%d" % n for n in range(2000)]))
    assert "exit code 5" in str(done.error)
    assert done.values == [b"0", b"1"]
    assert done.committed == {("t", 0): 1}  # the second may have had another copy to come


# --- filters without limits --------------------------------------------------------------------------------------


def peak_memory() -> int:
    """Bytes that this process has held at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@pytest.mark.parametrize("kind", [Lines, Envelopes])
@pytest.mark.parametrize("command", ["tr '\\n' x </dev/zero", "exec cat /dev/zero", "cat; yes | tr -d '\\n'"])
def test_a_line_without_an_end_fills_no_memory(kind, command):
    """2.8 GB in 9 s, until the machine had none left."""
    before = peak_memory()
    done = through(kind, command, rows(b"a"), rows(b"b", first=1))
    assert isinstance(done.error, FilterError | FilterMismatch), done.error
    assert "\n" not in str(done.error)
    assert peak_memory() - before < 4 * LONGEST_LINE
    assert done.ledger.delivered + done.ledger.unknown + done.ledger.failed == done.ledger.read


@pytest.mark.parametrize("kind", [Lines, Envelopes])
def test_lines_without_number_fill_no_memory(kind):
    before = peak_memory()
    done = through(kind, "yes", rows(b"a"), rows(b"b", first=1))
    assert isinstance(done.error, FilterError | FilterMismatch), done.error
    assert peak_memory() - before < LONGEST_LINE


@pytest.mark.parametrize("kind", [Lines, Envelopes])
def test_a_long_line_is_one(kind):
    value = b"x" * (8 << 20)
    done = through(kind, "exec cat", rows(value))
    assert (done.error, done.values) == (None, [value])


def alive(mark: str) -> bool:
    return subprocess.run(["pgrep", "-f", mark], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("kind", [Lines, Envelopes])
@pytest.mark.parametrize("end", ["exec cat", "cat; exit 3", "sed -u 1q", "kill -9 $$"])
def test_what_a_filter_started_ends_with_it(kind, end):
    """The shell had ended, so nobody looked for what it had left in the background."""
    mark = f"600.{random.randrange(10**9)}"
    through(kind, f"sleep {mark} >/dev/null 2>&1 </dev/null & {end}", rows(b"a"), rows(b"b", first=1))
    deadline = time.monotonic() + 5
    while alive(f"sleep {mark}") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(f"sleep {mark}")


def test_what_a_filter_started_may_finish_its_work(tmp_path):
    """`tee >(gzip >file)`: the file is written a moment after the filter has ended."""
    late = tmp_path / "late"
    done = through(Lines, f"(sleep 0.3; echo whole >{late}) >/dev/null 2>&1 </dev/null & exec cat", rows(b"a"))
    assert (done.error, done.values, late.read_text()) == (None, [b"a"], "whole\n")
