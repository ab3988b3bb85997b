"""`kpipe config` and `kpipe check` as a person calls them, and what hostile names and files can do to a terminal."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Kpipe

EVIL = "\x1b]0;owned\x07\x1b[2J\u202e"
CONTROLS = (b"\x1b", b"\x07", "\u202e".encode())


def test_init_writes_a_private_file_that_works_and_is_never_written_over(kpipe: Kpipe) -> None:
    made = kpipe("config", "init")
    path = kpipe.home / "config" / "kpipe" / "config.toml"

    assert (made.code, made.out.decode().strip()) == (0, str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert kpipe("config", "path").out.decode().strip() == str(path)
    assert b"local (current)" in kpipe("config", "show").out
    path.write_text("# mine\n")
    again = kpipe("config", "init")
    assert (again.code, path.read_text()) == (2, "# mine\n")
    assert "exists already" in again.err


def test_path_tells_all_places(kpipe: Kpipe) -> None:
    (kpipe.home / "kpipe.toml").write_text("")
    lines = kpipe("config", "path", "--all").out.decode().splitlines()
    assert [line.split()[:2] for line in lines] == [["project", "exists"], ["user", "absent"]]


def test_show_tells_where_each_value_comes_from(kpipe: Kpipe) -> None:
    config = '[clusters.prod]\nbootstrap.servers = "a:1"\nacks = "all"\npassword_env = "X"\n'
    env = {"KPIPE_SASL_USERNAME": "me"}

    done = kpipe("config", "show", "--origin", "--cluster", "prod", "-X", "acks=1", env=env, config=config)

    lines = {line.split()[0]: line for line in done.out.decode().splitlines()[1:]}
    assert lines["acks"].split()[1:] == ["1", "-X", "acks"]
    assert lines["bootstrap.servers"].endswith("kpipe-test.toml:2")
    assert lines["sasl.username"].endswith("environment KPIPE_SASL_USERNAME")
    assert "(from env X)" in lines["sasl.password"]


def test_import_copies_no_secret(kpipe: Kpipe, tmp_path: Path) -> None:
    java = tmp_path / "client.properties"
    java.touch(mode=0o600)
    java.write_text(
        "bootstrap.servers=a:1\nsecurity.protocol=SASL_SSL\nsasl.mechanism=PLAIN\n"
        'sasl.jaas.config=PlainLoginModule required username="u" password="hunter2hunter2";\n'
    )
    target = tmp_path / "new.toml"

    done = kpipe("config", "import", str(java), "--output", str(target))

    assert done.code == 0
    assert "KPIPE_CLIENT_PASSWORD" in done.err
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert "hunter2" not in done.out.decode() + done.err + target.read_text()
    shown = kpipe("config", "show", "--config", str(target))
    assert (shown.code, b"(from env KPIPE_CLIENT_PASSWORD)" in shown.out) == (0, True)
    assert kpipe("config", "import", str(java), "--output", str(target)).code == 2
    assert kpipe("config", "import").code == 2


def test_a_secret_that_others_may_read_gives_a_warning(kpipe: Kpipe, tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('[clusters.c]\nbootstrap.servers = "a:1"\nsasl.password = "hunter2hunter2"\n')
    file.chmod(0o644)

    done = kpipe("config", "show", "--config", str(file))

    assert "others may read it (mode 0644); chmod 600" in done.err
    assert b"sasl.password      ********" in done.out
    assert "hunter2" not in done.out.decode() + done.err


@pytest.mark.parametrize(
    "args",
    [
        ("produce", f"t{EVIL}"),
        ("consume", f"c{EVIL}:t"),
        ("check", f"c{EVIL}"),
        ("check", "-b", f"h{EVIL}:1", "--timeout", "1"),
        ("check", "-b", f"h{EVIL}:1", "--timeout", "1", "--json"),
        ("config", "show", "-X", f"client.id={EVIL}"),
        ("config", "show", "-X", f"client.id={EVIL}", "--json"),
        ("config", "show", "--config", f"/nowhere{EVIL}"),
        ("produce", "t", f"/nowhere{EVIL}", "-b", "127.0.0.1:1", "--timeout", "0.5"),
        ("produce", "t", "-H", f"={EVIL}", "-b", "127.0.0.1:1", "--timeout", "0.5"),
    ],
)
def test_no_name_can_drive_the_terminal(kpipe: Kpipe, args: tuple[str, ...]) -> None:
    done = kpipe(*args, env={"FORCE_COLOR": ""})
    shown = done.out + done.err.encode()
    assert not [control for control in CONTROLS if control in shown]


def test_a_header_of_a_record_cannot_drive_the_terminal_from_an_error(kpipe: Kpipe) -> None:
    envelope = json.dumps({"value": "v", "headers": [[EVIL, 7]], EVIL: 1})
    done = kpipe("broker", "--", "kpipe", "produce", "--create", "--input", "json", "t", stdin=f"{envelope}\n".encode())
    assert done.code == 3
    assert not [control for control in CONTROLS if control in done.err.encode()]


def test_an_absurd_config_is_refused_early(kpipe: Kpipe) -> None:
    done = kpipe("config", "show", "--config", "/dev/zero")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "larger than 1048576 bytes" in done.err


def test_an_endless_line_is_refused_and_not_collected(kpipe: Kpipe) -> None:
    script = "head -c 400000000 /dev/zero | tr '\\0' x | (ulimit -v 3000000; kpipe produce --create --input json t)"
    done = kpipe("broker", "--", "sh", "-c", script)
    assert done.code == 3, done.err
    assert "larger than" in done.err or "longer than" in done.err


def test_colour_only_where_it_is_wanted(kpipe: Kpipe) -> None:
    check = ("check", "-b", "127.0.0.1:1", "--timeout", "1")
    assert b"\x1b[" not in kpipe(*check).out
    assert b"\x1b[1;31mfailed" in kpipe(*check, env={"FORCE_COLOR": "1", "TERM": "xterm-256color"}).out
    assert b"31m" not in kpipe(*check, env={"FORCE_COLOR": "1", "NO_COLOR": "1", "TERM": "xterm-256color"}).out


def test_check_of_the_embedded_broker_is_fine(kpipe: Kpipe) -> None:
    done = kpipe("broker", "--topics", "orders:2", "--", "kpipe", "check", "--topic", "orders", "--group", "g")
    assert done.code == 0, done.out
    assert b"failed" not in done.out
    missing = kpipe("broker", "--", "kpipe", "check", "--topic", "nothing")
    assert (missing.code, b"no such topic nothing" in missing.out) == (1, True)


@pytest.mark.parametrize("command", ["admin", "config", "schema"])
def test_an_option_before_the_verb_is_one_line(kpipe: Kpipe, command: str) -> None:
    result = kpipe(command, "-b", "x", "show")
    assert result.code == 2
    assert result.err.count("\n") == 1
