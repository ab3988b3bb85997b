"""kpipe starts itself again (workers, jq in a process of its own) however it was started, and only itself."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from release.deb import launcher

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
PATHS = [str(ROOT), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
"""What a Debian package has in one folder: kpipe and all that it needs."""
BARE = f"{sys.base_prefix}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
"""An interpreter that cannot import kpipe by itself."""


def executable(path: Path, text: bytes) -> str:
    path.write_bytes(text)
    path.chmod(0o755)
    return str(path)


def deb(folder: Path) -> str:
    return executable(folder / "kpipe", launcher(BARE, "a folder of its own", PATHS).encode())


def zipapp(folder: Path) -> str:
    """kpipe itself in a zip file; the client's library cannot be loaded from one."""
    place = folder / "kpipe.pyz"
    with zipfile.ZipFile(place, "w") as file:
        for path in sorted((ROOT / "kpipe").rglob("*.py")):
            file.write(path, path.relative_to(ROOT))
        main = launcher(BARE, "a zip file", PATHS[1:]).replace(
            "os.path.abspath(__file__)", "os.path.abspath(sys.argv[0])"
        )
        file.writestr("__main__.py", main.replace("sys.path[:0]", "sys.path[1:1]"))
    return executable(folder / "kpipe", f"#!{BARE} -I\n".encode() + place.read_bytes())


def console_script(_folder: Path) -> str:
    return str(Path(sys.executable).parent / "kpipe")


@pytest.mark.parametrize("layout", [deb, zipapp, console_script])
def test_a_jq_program_runs_in_a_process_of_its_own(layout: Callable[[Path], str], tmp_path: Path) -> None:
    kpipe = layout(tmp_path)
    script = 'echo 3 | "$0" produce --map "def f: if . > 0 then . - 1 | f else . end; [f]" t; exec "$0" consume -e t'
    command = [kpipe, "broker", "--topics", "t:1", "--", "sh", "-c", script, kpipe]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=environment, cwd="/")
    assert (done.stdout, done.stderr) == ("[0]\n", "")


def test_workers_of_a_launcher_are_started_by_it(tmp_path: Path) -> None:
    kpipe = deb(tmp_path)
    script = 'seq 9 | "$0" produce in; "$0" forward -q -G g -e --workers 2 in out; exec "$0" consume -e out'
    command = [kpipe, "broker", "--topics", "in:2,out:1", "--", "sh", "-c", script, kpipe]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment, cwd="/")
    assert sorted(done.stdout.split()) == sorted(map(str, range(1, 10))), done.stderr


def test_the_launcher_is_no_variable_of_children(tmp_path: Path) -> None:
    """Else a kpipe of another installation, in a filter, would start this one as its workers."""
    kpipe = deb(tmp_path)
    command = [kpipe, "broker", "--", "sh", "-c", 'echo "<$KPIPE_SELF>"']
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=environment)
    assert done.stdout == "<>\n"


def test_a_unit_starts_the_one_file_and_not_what_it_has_unpacked(tmp_path: Path) -> None:
    """As a PEX lays it out: a venv in the user's home, and the file's path in the environment."""
    venv.create(tmp_path / "unpacked", with_pip=False)
    python = tmp_path / "unpacked" / "bin" / "python"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(PATHS),
        "PEX": "kpipe",
    }
    started = []
    for _ in range(2):
        command = [python, "-P", "-m", "kpipe", "unit", "systemd", "--", "forward", "-G", "g", "a", "b:9092/b"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        started.append(next(line for line in done.stdout.splitlines() if line.startswith("ExecStart=")).split()[0])
        (tmp_path / "unpacked" / "PEX-INFO").touch()
    assert started == [f"ExecStart={python}", f"ExecStart={tmp_path}/kpipe"]


def test_started_by_hand_the_worker_is_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "kpipe", "--jq-worker"], input="", capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "kpipe: --jq-worker is how kpipe starts itself; see kpipe --help\n"
