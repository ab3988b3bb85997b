"""The example package in examples/plugins, installed as any other and used by kpipe as a person would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plugins")
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--no-build-isolation", "--quiet"]
    subprocess.run([*pip, "--target", str(folder), str(ROOT / "examples" / "plugins")], check=True, timeout=120)
    return folder


@pytest.fixture
def run(installed: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*argv: str, input: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(installed), **environ}
        command = [sys.executable, "-P", "-m", "kpipe", *argv]
        return subprocess.run(
            command, input=input, capture_output=True, text=True, timeout=30, check=False, env=environment, cwd=tmp_path
        )

    return run


def test_they_are_listed(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = run("plugins", "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {(row["version"], row["kind"], row["name"]) for row in rows} == {
        (1, "transforms", "pick"),
        (1, "decoders", "csv"),
        (1, "secrets", "credential"),
    }
    assert {row["distribution_version"] for row in rows} == {"1.0"}
    table = run("plugins")
    assert (table.returncode, done.returncode) == (0, 0)
    assert "--decode plugin:csv" in table.stdout


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("pick", "--call pick: the plugin pick of kpipe-example-plugins 1.0: name the fields that stay: pick=id,name"),
        ("pikc=id", "--call pikc=id: no plugin of kpipe.transforms is called 'pikc'; did you mean pick?"),
    ],
)
def test_a_wrong_name_or_argument_is_one_line(
    run: Callable[..., subprocess.CompletedProcess[str]], call: str, said: str
) -> None:
    done = run("produce", "--call", call, "t", input="x")
    assert (done.returncode, done.stderr, done.stdout) == (2, f"kpipe: {said}\n", "")


def test_a_secret_and_how_little_is_told_when_it_fails(
    run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text(
        '[clusters.c]\nbootstrap.servers = "127.0.0.1:1"\nsecurity.protocol = "SASL_PLAINTEXT"\n'
        'sasl.mechanism = "PLAIN"\nsasl.username = "me"\npassword_plugin = "credential:kafka"\n'
    )
    where = {"KPIPE_CONFIG": str(tmp_path / "config.toml"), "CREDENTIALS_DIRECTORY": str(tmp_path)}
    missing = run("check", "c", **where)
    assert missing.returncode == 2
    assert "sasl.password: the plugin credential failed: FileNotFoundError" in missing.stdout
    (tmp_path / "kafka").write_text("s3cret\n")
    refused = run("check", "c", **where)
    assert refused.returncode == 4, "the secret was there, and the broker is not"
    shown = run("config", "show", "c", **where)
    assert "credential" in shown.stdout
    assert "s3cret" not in missing.stdout + missing.stderr + refused.stdout + refused.stderr + shown.stdout


def test_a_transform_and_a_decoder_there_and_back(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """Shown as JSON, what is no CSV as it is; in a forward what was changed is written back, the rest as it was read."""
    script = """
        printf '1,"a"\\n2,b\\nodd\\n' | kpipe produce in
        kpipe consume -e --decode plugin:csv=id,name in; echo $?
        kpipe forward -e --on-error skip --decode plugin:csv=id,name \\
          --map 'if .id == "2" then .name = "x,y" else . end' in out; echo $?
        kpipe consume -e out
        printf '{"id":1,"no":2}\\n{"no":3}\\n{\\n' | kpipe produce --on-error skip --call pick=id out; echo $?
        kpipe consume -e -o -1 out
    """
    kpipe = f'kpipe() {{ {sys.executable} -P -m kpipe "$@"; }}'
    done = run("broker", "--topics", "in:1,out:1", "--", "sh", "-c", kpipe + script)
    assert done.stdout.splitlines() == [
        *('{"id":"1","name":"a"}', '{"id":"2","name":"b"}', "odd", "1", "1"),
        *('1,"a"', '2,"x,y"', "1", '{"id": 1}'),
    ], done.stderr
    assert "is not csv (ValueError: 2 columns are expected)" in done.stderr
    assert "--call pick=id: JSONDecodeError: " in done.stderr
