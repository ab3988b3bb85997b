"""What a new part costs, by adding one: a copy of the package gets the files and rows that ARCHITECTURE.md names.

The copy is then used as a person would, on the embedded broker. A part that needed a further file would not work.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from kpipe.ledger import Ledger
from kpipe.pipeline import Pipeline
from kpipe.record import Batch
from kpipe.shutdown import Stop
from tests.fakes import ListCommitter, ListSink, ListSource
from tests.meta.conftest import ROOT
from tests.registry.fake import FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FORMAT = '''"""Every byte backwards: a format for a test."""

from kpipe.record import Batch


class BackwardDecoder:
    """A line a record, read from its end."""

    def __init__(self, file: str, **_options: object) -> None:
        self._file, self._held, self.pending = file, b"", 0

    def feed(self, block: bytes) -> Batch:
        """Keep it for the end."""
        self._held += block
        return Batch([], file=self._file, lines=[])

    def finish(self) -> Batch:
        """All lines."""
        values = [line[::-1] for line in self._held.splitlines()]
        return Batch(values, file=self._file, lines=list(range(1, len(values) + 1)))


class BackwardEncoder:
    """The other way."""

    def __call__(self, batch: Batch) -> bytes:
        """A line each."""
        return b"".join((value or b"")[::-1] + b"|\\n" for value in batch.values)
'''
SINK = '''"""A file for each partition: a sink for a test."""

from pathlib import Path

from kpipe.sinks.stdout import StdoutSink


class FolderSink(StdoutSink):
    """Writes envelopes into `folder`."""

    prints = False

    def send(self, batch, flight, idle):
        """Each record into the file of its partition."""
        for place, partition in enumerate(batch.partitions):
            part = batch.snapshot()
            part.keep([each == place for each in range(len(batch))])
            folder = Path("folder")
            folder.mkdir(exist_ok=True)
            with (folder / str(partition)).open("ab") as file:
                file.write(self._encode(part))
        flight.settle_sent(batch)
'''
OBSERVER = '''"""What was heard of a run: an observer for a test."""

from pathlib import Path


class Diary:
    """Writes a word for whatever is called."""

    def __init__(self, run, stop, say):
        self._file, self._heard = Path(run.diary), ["opened"]

    def begin(self, planned, summary):
        """With the run."""
        self._heard.append("begun")

    begin_workers = begin

    def __call__(self):
        """A turn."""
        self._heard.append("turn")

    def finish(self, code):
        """All of it."""
        self._file.write_text(" ".join([*self._heard, str(code)]))
'''
CODEC = '''"""JSON backwards: a codec for a test."""


def turn(data: bytes) -> bytes:
    """Both ways."""
    if data[:1] not in b"{}":
        raise ValueError("it is no object")
    return data[::-1]
'''
BY_SCHEMA = '''"""Columns with a bar between, whose names are a schema's: a codec for a test."""

import orjson

from kpipe.codecs.errors import DataError, NoFit
from kpipe.codecs.schema import Codec, Read


class Columns(Codec):
    """A schema is the names, with commas between."""

    format = "columns"

    def __init__(self, text):
        self._names = text.strip().split(",")

    def read(self, data, start, beside=None):
        """All are texts."""
        found = data[start:].decode().split("|")
        if len(found) != len(self._names):
            raise DataError(f"it has {len(found)} columns of {len(self._names)}")
        return Read(dict(zip(self._names, found)), self._write)

    def writer(self, message="", **_how):
        """One type a schema."""
        return self._write

    def _write(self, text):
        value = orjson.loads(text)
        if list(value) != self._names:
            raise NoFit(f"the columns are {self._names}")
        return "|".join(value.values()).encode()


def from_registry(schema, others, view, descriptor):
    """Its text."""
    return Columns(schema.text)


def from_file(path, text, view):
    """Its text."""
    return Columns(text)
'''
QUESTION = '''"""How many partitions a cluster has."""


def count(connection: object) -> int:
    """Of all its topics."""
    return sum(len(topic.partitions) for topic in connection.metadata().topics.values())
'''
COMMAND = '''"""`kpipe partitions`."""

import sys

from kpipe.cli import tell
from kpipe.cli.command import build_command
from kpipe.options import ConnectionOptions


def partitions(connection: ConnectionOptions) -> int:
    """Say how many there are."""
    from kpipe.ops.partitions import count
    from kpipe.ops.places import Clusters

    sys.stdout.write(f"{count(Clusters(connection, tell).open(None))} partitions\\n")
    return 0


app = build_command(
    partitions, name="partitions", help="Count partitions.", examples=(), arguments={},
    groups=(ConnectionOptions,), transforms=False,
)
'''


class Copy:
    """A copy of the package: `add` writes a new file, `row` puts a line before another one of a table."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "kpipe", folder / "kpipe", ignore=shutil.ignore_patterns("__pycache__"))

    def add(self, path: str, text: str) -> None:
        target = self.folder / "kpipe" / path
        assert not target.exists()
        target.write_text(text)

    def row(self, path: str, before: str, row: str) -> None:
        target = self.folder / "kpipe" / path
        text = target.read_text()
        assert text.count(before) == 1
        target.write_text(text.replace(before, f"{row}\n{before}"))

    def run(self, script: str) -> str:
        """What a shell prints in which `k` is this copy, on an embedded broker with the topic `t` of 3 partitions."""
        program = self.folder / "k"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m kpipe "$@"\n')
        program.chmod(0o755)
        environment = {
            "PATH": f"{self.folder}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder),
            "HOME": str(self.folder),
        }
        done = subprocess.run(
            [program, "broker", "--topics", "t:3", "--", "sh", "-c", script],
            capture_output=True, cwd=self.folder, env=environment, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)


def test_a_format_is_one_file_and_one_row(copy: Copy) -> None:
    copy.add("formats/backward.py", FORMAT)
    copy.row(
        "formats/__init__.py", '    "whole": ("whole", "WholeDecoder"),', '    "b": ("backward", "BackwardDecoder"),'
    )
    copy.row(
        "formats/__init__.py",
        '    "format": ("template", "FormatEncoder"),',
        '    "b": ("backward", "BackwardEncoder"),',
    )
    shown = copy.run(
        "printf 'abc\\ndef\\n' | k produce -q --input b t && k consume -q -e t | sort && k consume -q -e --output b t | sort"
    )
    assert shown.split() == ["cba", "fed", "abc|", "def|"]
    assert copy.run("k produce --help; k consume --help").count("|b") == 2


def test_a_codec_is_one_file_and_one_row(copy: Copy) -> None:
    copy.add("codecs/turned.py", CODEC)
    copy.row(
        "codecs/__init__.py",
        '    "cbor": CodecRow("CBOR", "plain", decode="read_cbor"),',
        '    "turned": CodecRow("turned JSON", "turned", decode="turn", encode="turn"),',
    )
    shown = copy.run(
        """printf '{"a":1}' | k produce -q --encode turned t && k consume -q -e t && k consume -q -e --decode turned t && """
        "k consume -q -e -J --decode turned t | k produce -q --input json --encode same t && k consume -q -e t && "
        "echo 1 | k produce -q --encode turned t 2>&1 || k consume -q -e --decode turned t"
    )
    lines = shown.split("\n")
    assert lines[:4] == ['}1:"a"{', '{"a":1}', '}1:"a"{', '}1:"a"{']
    assert "stdin:1: the value does not fit its schema" in shown
    assert "turned JSON: it is no object" in shown
    assert lines[-3:] == ['{"a":1}', '{"a":1}', ""]
    assert "turned" in copy.run("k produce --help schemas; k consume --help schemas")


def test_a_codec_by_a_schema_is_one_file_and_one_row(copy: Copy) -> None:
    copy.add("codecs/columns.py", BY_SCHEMA)
    copy.row(
        "codecs/__init__.py",
        '    "cbor": CodecRow("CBOR", "plain", decode="read_cbor"),',
        '    "columns": CodecRow("columns", "columns", kind="COLUMNS", suffixes=(".cols",)),',
    )
    (copy.folder / "ab.cols").write_text("a,b\n")
    shown = copy.run(
        """printf '{"a":"1","b":"2"}' | k produce -q --encode columns --schema ab.cols --framing none t && """
        "k consume -q -e t && k consume -q -e --decode columns --schema ab.cols t && "
        "k consume -q -e -J --decode columns --schema ab.cols t | k produce -q --input json --encode same --schema ab.cols t && "
        "k consume -q -e t && echo '{\"a\":1}' | k produce -q --encode columns --schema ab.cols --framing none t 2>&1 || true"
    )
    lines = shown.split("\n")
    assert lines[:4] == ["1|2", '{"a":"1","b":"2"}', "1|2", "1|2"]
    assert "does not fit its schema: .: the columns are ['a', 'b']" in shown
    registry = FakeRegistry()
    shown = copy.run(
        f"""R="-X schema.registry.url={registry.url}"; printf '{{"a":"1","b":"2"}}' | """
        "k produce -q $R --encode columns --schema ab.cols --register t && k consume -q -e $R --decode auto t && "
        "k forward -q $R -e --decode auto --map '.b = \"3\"' --encode columns --schema t-value --create t u && "
        "k consume -q -e $R --decode auto u && k schema list $R | tail -1"
    )
    registry.close()
    assert shown.splitlines()[:2] == ['{"a":"1","b":"2"}', '{"a":"1","b":"3"}']
    assert shown.splitlines()[2].split() == ["t-value", "1", "1", "1", "columns", "BACKWARD"]
    assert [each["schemaType"] for each in registry.schemas.values()] == ["COLUMNS"]


def test_a_sink_is_one_file_and_one_row(copy: Copy) -> None:
    copy.add("sinks/folder.py", SINK)
    copy.row("sinks/__init__.py", '    STDOUT: ("stdout", "StdoutSink"),', '    "folder": ("folder", "FolderSink"),')
    printed = copy.run(
        "printf '%s\\n' a b c | k produce -q --partition 2 t && printf 'd\\n' | k produce -q --partition 0 t && "
        "k consume -q -e -G g --output folder --grep '[abd]' t && k consume -q -e -G g t && wc -l folder/*"
    )
    assert printed.split() == ["1", "folder/0", "2", "folder/2", "3", "total"], "and the group got its commits"
    assert (copy.folder / "folder" / "0").read_text().count('"value":"d"') == 1
    assert "|folder" in copy.run("k consume --help output")


def test_a_command_about_a_cluster_is_two_files_and_a_row(copy: Copy) -> None:
    copy.add("ops/partitions.py", QUESTION)
    copy.add("cli/partitions.py", COMMAND)
    copy.row("cli/commands.py", '    "check": ', '    "partitions": "Count partitions.",')
    assert copy.run("k partitions") == "3 partitions\n"
    assert "partitions  " in copy.run("k --help")


def test_an_observer_is_one_file_one_option_and_one_row(copy: Copy) -> None:
    copy.add("run/diary.py", OBSERVER)
    copy.row(
        "options.py",
        "    metrics: str = option(\n",
        '    diary: str = option(MESSAGES, "--diary", default="", metavar="FILE", help="Keep a diary.")',
    )
    copy.row(
        "run/observers.py",
        '    ObserverRow((), "notify", "open_notifier"),',
        '    ObserverRow(("diary",), "diary", "Diary"),',
    )
    copy.run("echo a | k produce -q --diary one t && k consume -q -e --diary two t && k consume -q -e t >rest")
    for name in ("one", "two"):
        opened, begun, *turns, code = (copy.folder / name).read_text().split()
        assert (opened, begun, set(turns), code) == ("opened", "begun", {"turn"}, "0")


def test_an_observer_is_anything_that_can_be_called() -> None:
    """It hears of every turn, and the loop knows no more of it."""
    ledger, seen = Ledger(), []
    observer: Callable[[], None] = lambda: seen.append(ledger.delivered)  # noqa: E731
    batches = [Batch([b"a"]), Batch([b"b"])]
    pipeline = Pipeline(ListSource(batches), [], ListSink(), ListCommitter(), ledger, Stop(1), observers=[observer])
    pipeline.run()
    assert len(seen) >= len(batches)
    assert ledger.delivered == 2
