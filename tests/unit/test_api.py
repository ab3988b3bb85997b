"""The Python interface: what is public stays as it is, and what is wrong is said before anything is sent."""

from __future__ import annotations

import asyncio
import inspect
import json
from dataclasses import replace
from pathlib import Path

import pytest

from kpipe import api
from kpipe.api.producer import _arguments, to_bytes
from kpipe.api.runs import _as_record, _build, _split
from kpipe.errors import UsageError
from kpipe.options import ConnectionOptions, RunOptions, SelectionOptions
from kpipe.record import Batch, Record, records_of
from kpipe.sources.given import MOST, GivenSource
from kpipe.transform.call import offer
from kpipe.transform.chain import build
from kpipe.transform.step import Step

FROZEN = Path(__file__).with_name("api_signatures.json")


def signature(thing: object) -> str:
    """Names, kinds and defaults; how an annotation is printed differs from Python to Python."""
    read = inspect.signature(thing)  # type: ignore[arg-type]
    plain = [
        each.replace(
            annotation=each.empty,
            default="a function" if callable(each.default) and each.default is not each.empty else each.default,
        )
        for each in read.parameters.values()
    ]
    return str(read.replace(parameters=plain, return_annotation=read.empty))


def signatures() -> dict[str, str]:
    found = {}
    for name in sorted(api.__all__):
        thing = getattr(api, name)
        found[name] = signature(thing)
        if name == "Producer":
            methods = inspect.getmembers(thing, inspect.isfunction)
            found |= {f"Producer.{each}": signature(method) for each, method in methods if each[0] != "_"}
    return found


def test_the_signatures_are_those_that_programs_were_written_for() -> None:
    """To change them on purpose, write the new ones into api_signatures.json and into the changelog."""
    assert signatures() == json.loads(FROZEN.read_text())


@pytest.mark.parametrize(
    ("value", "sent"),
    [(b"a", b"a"), ("ä", b"\xc3\xa4"), (None, None), ("", b""), (bytearray(b"x"), b"x"), (memoryview(b"y"), b"y")],
)
def test_bytes_text_and_null_are_sent(value: object, sent: bytes | None) -> None:
    assert to_bytes(value, "value") == sent


@pytest.mark.parametrize("value", [{"a": 1}, 1, 1.5, ["a"], True])
def test_nothing_else_is_guessed_at(value: object) -> None:
    with pytest.raises(TypeError, match="encode it"):
        to_bytes(value, "value")


def test_headers_keep_order_and_duplicates_and_may_be_a_mapping() -> None:
    assert _arguments(api.Message("t", headers=[("a", "1"), ("a", None)]))[5] == [("a", b"1"), ("a", None)]
    assert _arguments(api.Message("t", headers={"a": b"1"}))[5] == [("a", b"1")]
    assert _arguments(api.Message("t"))[5] is None


def test_what_cannot_be_a_record_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="topic"):
        _arguments(api.Message(""))
    with pytest.raises(UsageError, match="partition -2"):
        _arguments(api.Message("t", partition=-2))


def test_a_property_that_there_is_not_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="linger"):
        api.Producer(brokers="127.0.0.1:1", lingr_ms=5)


def test_a_closed_producer_takes_nothing() -> None:
    producer = api.Producer(brokers="127.0.0.1:1")
    producer.close()
    with pytest.raises(UsageError, match="closed"):
        producer.produce("t", b"a")
    assert producer.flush() == 0


def test_options_are_those_of_the_command_line() -> None:
    groups = (ConnectionOptions, SelectionOptions, RunOptions)
    _, selection, run = _build(groups, {"offset": "end", "drain_timeout": "1m", "partitions": ["0", "1"], "exit": True})
    assert (selection.offset, selection.partitions, selection.exit, run.drain_timeout) == (
        ("end",),
        ("0", "1"),
        True,
        60.0,
    )
    with pytest.raises(UsageError, match="did you mean 'offset'"):
        _build(groups, {"offfset": "end"})
    with pytest.raises(UsageError, match="no option 'metrics'"):
        _build(groups, {"metrics": "9400"})


# --- functions as transforms ----------------------------------------------------------------------------------------


def batch() -> Batch:
    made = Batch([b"a", b"b", None], keys=[b"1", None, b"3"], headers=[[("h", b"x")], None, None])
    made.topics, made.partitions, made.offsets, made.cluster = ["t"] * 3, [0] * 3, [5, 6, 7], "c"
    made.timestamps = [(1, 100), (0, -1), (1, 300)]
    return made


def test_a_record_is_what_was_read() -> None:
    first, second, third = records_of(batch())
    assert first == Record(b"a", b"1", (("h", b"x"),), "t", 0, 5, 100)
    assert (second.key, second.timestamp) == (None, None)
    assert third.value is None


def run(function: object) -> Batch:
    (stage,) = build([Step("call", offer(function))])  # type: ignore[arg-type]
    found = batch()
    stage(found)
    return found


def test_none_drops_one_replaces_and_many_split() -> None:
    def change(record: Record) -> object:
        if record.value == b"a":
            return replace(record, value=b"A", key=None, headers=())
        return None if record.value == b"b" else [record, replace(record, value=b"copy")]

    found = run(change)
    assert found.values == [b"A", None, b"copy"]
    assert found.keys == [None, b"3", b"3"]
    assert found.headers is None
    assert found.index == [0, 2, 2]
    assert found.offsets == [5, 7, 7]
    assert found.timestamps == [(1, 100), (1, 300), (1, 300)]


def test_a_generator_and_an_empty_list_are_results_too() -> None:
    assert run(lambda record: iter([record])).values == [b"a", b"b", None]
    assert len(run(lambda _record: [])) == 0


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda _record: 1 // 0, "ZeroDivisionError"),
        (lambda _record: "text", "gave a str, not a Record"),
        (lambda _record: 5, "TypeError"),
        (lambda record: replace(record, value="text"), "gave a value of type str"),
        (lambda record: replace(record, headers=(("h", 1),)), "gave a header h of type int"),
        (lambda _record: exec("raise SystemError('x')"), "SystemError: x"),
    ],
)
def test_an_exception_and_a_wrong_answer_are_a_bad_record(function: object, said: str) -> None:
    found = run(function)
    assert len(found) == 0
    assert [bad.index for bad in found.bad] == [0, 1, 2]
    assert said in str(found.bad[0].error)
    assert found.bad[0].error.where == "c:t[0]@5"


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("json", "MODULE:FUNCTION"),
        ("no_such_module_xyz:f", "cannot import"),
        ("json:nothing", "no function nothing"),
        ("json:__name__", "no function"),
    ],
)
def test_a_function_that_is_not_there_is_told_at_the_start(argument: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        build([Step("call", argument)])


def test_a_plugin_is_a_file_with_a_transform(tmp_path: Path) -> None:
    path = tmp_path / "p.py"
    path.write_text("from dataclasses import replace\ndef transform(r):\n    return replace(r, value=b'!')\n")
    (stage,) = build([Step("plugin", str(path))], read_file=lambda name: Path(name).read_bytes())
    found = batch()
    stage(found)
    assert found.values == [b"!"] * 3


def test_a_function_that_exits_is_about_its_record_and_ends_no_run() -> None:
    def transform(record: Record) -> Record:
        if record.value == b"2":
            raise SystemExit(0)  # without this the run ended as if all went well, and said nothing
        return record

    (stage,) = build([Step("call", offer(transform))])
    found = Batch([b"1", b"2", b"3"])
    stage(found)
    assert found.values == [b"1", b"3"]
    assert [bad.index for bad in found.bad] == [1]
    assert "SystemExit: 0" in found.bad[0].error.what


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize(
    ("error", "said"),
    [(asyncio.CancelledError(), "CancelledError"), (GeneratorExit("late"), "GeneratorExit: late"), (Mute(), "Mute")],
)
def test_whatever_a_function_raises_is_about_its_record(error: BaseException, said: str) -> None:
    def transform(record: Record) -> Record:
        if record.value == b"2":
            raise error
        return record

    (stage,) = build([Step("call", offer(transform))])
    found = Batch([b"1", b"2", b"3"])
    stage(found)
    assert found.values == [b"1", b"3"]
    assert f": {said}; use --on-error" in found.bad[0].error.what


def test_ctrl_c_in_a_function_of_a_program_is_the_programs() -> None:
    def transform(record: Record) -> Record:
        raise KeyboardInterrupt

    (stage,) = build([Step("call", offer(transform))])
    with pytest.raises(KeyboardInterrupt):
        stage(Batch([b"1"]))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\n", "has no function transform"),
        ("1/0\n", "ZeroDivisionError"),
        ("def :\n", "SyntaxError"),
        ("import sys; sys.exit()\n", "SystemExit"),
        (None, "No such file"),
    ],
)
def test_a_plugin_that_does_not_load_is_told_at_the_start(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "p.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=said):
        build([Step("plugin", str(path))], read_file=lambda name: Path(name).read_bytes())


def test_two_functions_of_one_name_stay_two() -> None:
    first, second = (lambda record: [record]), (lambda _record: None)
    assert offer(first) != offer(second)
    assert offer(first) == offer(first)


def test_transforms_are_options_in_their_order_and_before_the_function() -> None:
    steps, others = _split(
        {"grep": "x", "rate": "5/s", "drop_key": True, "value_empty": False, "map": [".a", ".b"]}, str
    )
    assert [(step.name, step.argument) for step in steps[:-1]] == [
        ("grep", "x"), ("drop-key", None), ("map", ".a"), ("map", ".b"),
    ]  # fmt: skip
    assert steps[-1].name == "call"
    assert others == {"rate": "5/s"}
    with pytest.raises(UsageError, match="switch"):
        _split({"drop_key": "yes"}, None)


def given(entries: object) -> GivenSource:
    return GivenSource(entries, _as_record)  # type: ignore[arg-type]


def test_given_records_come_as_they_are() -> None:
    full = Record(b"v", b"k", (("h", None), ("h", b"")), "t", 3, 42, 1000)
    source = given(["ä", None, b"", full, Record("text", timestamp=0)])  # type: ignore[arg-type]
    batch = source.read()
    assert batch is not None
    assert source.finished
    assert batch.values == ["ä".encode(), None, b"", b"v", b"text"]
    assert list(records_of(batch))[3] == full
    assert [record.timestamp for record in records_of(batch)] == [None, None, None, 1000, 0]
    assert (batch.where(0), batch.where(4)) == ("records:1", "records:5")


def test_an_exception_of_the_iterable_ends_it_behind_what_came_before() -> None:
    def entries() -> object:
        yield from ["a", "b"]
        raise RuntimeError("mine")

    source = given(entries())
    assert source.read().values == [b"a", b"b"]  # type: ignore[union-attr]
    assert (source.finished, str(source.failure)) == (True, "mine")
    source = given(["a", 7])
    assert source.read().values == [b"a"]  # type: ignore[union-attr]
    assert isinstance(source.failure, TypeError)
    source = given([])
    assert (source.read(), source.finished, source.failure) == (None, True, None)


def test_given_records_are_read_in_batches_that_end() -> None:
    source = given(b"x" for _ in range(MOST + 1))
    assert [len(source.read() or []), len(source.read() or [])] == [MOST, 1]
    assert source.finished
