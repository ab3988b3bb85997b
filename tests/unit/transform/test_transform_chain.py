from __future__ import annotations

import subprocess
import sys

import pytest

from kpipe.errors import UsageError
from kpipe.record import Batch
from kpipe.transform import document
from kpipe.transform.chain import Step, build
from kpipe.transform.registry import BY_NAME, CATEGORIES, TRANSFORMS


def test_no_steps_no_stages():
    assert build([]) == []


def test_order_is_the_order_given(run):
    assert run(Batch([b"v"], keys=[b"k"]), Step("set-header", "k={key}"), Step("drop-key")).headers == [[("k", b"k")]]
    batch = run(Batch([b"v"], keys=[b"k"]), Step("drop-key"), Step("set-header", "k={key}"))
    assert len(batch.bad) == 1


def test_an_emptied_batch_goes_through_every_stage(run):
    batch = run(
        Batch([b"{}"], keys=[b"k"], headers=[None]),
        Step("grep", "nothing"),
        *(Step("set-key", "{json[a]}"), Step("set-header", "a={key}"), Step("key-field", "x")),
    )
    assert len(batch) == 0
    assert batch.index == []


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Step("set-keys", "x"), "transforms: no transform is called set-keys; did you mean set-key?"),
        (Step("xyzzy"), "`kpipe transforms` lists them"),
        (Step("drop-key", "x"), "takes no argument; write --drop-key"),
        (Step("set-key"), "needs an argument; write --set-key TEMPLATE"),
        (Step("set-key", "{", "f.toml: transform 2"), "f.toml: transform 2: set-key {: "),
    ],
)
def test_usage(step, message):
    with pytest.raises(UsageError) as caught:
        build([step])
    assert message in str(caught.value)


def test_a_chain_without_json_never_parses(monkeypatch, run):
    def refuse(_value):
        raise AssertionError("parsed")

    monkeypatch.setattr(document.orjson, "loads", refuse)
    batch = run(
        Batch([b"{}"], keys=[b"k"]),
        *(Step("set-key", "{value}"), Step("set-header", "a={key}"), Step("grep", "{"), Step("drop-key")),
    )
    assert batch.headers == [[("a", b"{}")]]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda transform: transform.name)
def test_every_row_is_complete_and_its_example_builds(transform, tmp_path):
    import shlex

    assert transform.category in CATEGORIES
    assert transform.help.endswith(".")
    assert (transform.metavar is None) == (transform.example == "")
    arguments = shlex.split(transform.example) or [None]
    assert len(arguments) == 1
    steps = [Step(transform.name, arguments[0])]
    needs = {"hash": Step("hash-salt", "env:SALT"), "route": Step("route-allow", "*")}
    if transform.name in needs:
        steps.append(needs[transform.name])
    content = {"plugin": b"def transform(record): return record"}.get(transform.name, b"s")
    stages = build(steps, environ={"SALT": "s"}, read_file=lambda _path: content)
    assert (stages == []) == (transform.category == "setting")


def test_names_are_unique():
    assert len(BY_NAME) == len(TRANSFORMS)


def test_the_table_loads_nothing_heavy():
    code = "import sys, kpipe.transform.registry; print(sorted({'orjson','jq','re'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False, cwd=".")
    if done.returncode:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "orjson" not in done.stdout
    assert "jq" not in done.stdout
