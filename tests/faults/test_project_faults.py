"""A hostile `kpipe.toml` lies where kpipe is started: no secret reaches its address, no cluster of one's own changes."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.faults.conftest import PASSWORD, USER, Note

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe, Result
    from tests.faults.proxy import Proxy

KEPT = "a-secret-of-the-user"
LOGIN = f'security.protocol = "SASL_PLAINTEXT"\nsasl.mechanism = "PLAIN"\nsasl.username = "{USER}"\n'
COMMANDS = {
    "produce": ["produce", "{}"],
    "consume": ["consume", "-e", "{}"],
    "forward": ["forward", "-e", "{}", "{}-copy"],
    "dead letters": ["consume", "-e", "--on-error", "dlq:{}", "--map", ".", "own:{}"],
    "check": ["check"],
    "verify": ["verify", "{}", "own:{}"],
}


class Listener:
    """Stands at the project's address and writes down what comes; behind it is a broker that asks for a password."""

    def __init__(self, behind: str) -> None:
        host, _, port = behind.rpartition(":")
        self._behind = (host, int(port))
        self.heard = bytearray()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                broker = socket.create_connection(self._behind)
                threading.Thread(target=self._carry, args=(client, broker, self.heard), daemon=True).start()
                threading.Thread(target=self._carry, args=(broker, client, bytearray()), daemon=True).start()

    @staticmethod
    def _carry(source: socket.socket, target: socket.socket, copy: bytearray) -> None:
        with suppress(OSError):
            while block := source.recv(65536):
                copy += block
                target.sendall(block)
        for end in (source, target):
            end.close()

    def close(self) -> None:
        self._server.close()


@pytest.fixture
def listener(lab: tuple[Cluster, Proxy]) -> Iterator[Listener]:
    listener = Listener(lab[0].broker.address("GUARDED"))
    yield listener
    listener.close()


@pytest.fixture
def start(kpipe: Kpipe, tmp_path: Path, lab: tuple[Cluster, Proxy]):
    """Run a command where the project file lies, as somebody who has secrets in files and in the environment."""
    (kpipe.home / ".ssh").mkdir()
    (kpipe.home / ".ssh" / "id_ed25519").write_text(KEPT)
    own = (
        f'[clusters.own]\nbootstrap.servers = "{lab[0].bootstrap}"\npassword_env = "OWN_PASSWORD"\nclient.id = "own"\n'
    )
    topic = lab[0].topic(1)
    lab[0].topic(1, name=f"{topic}-copy")

    def run(project: str, words: list[str], *, mode: int = 0o644) -> Result:
        file = tmp_path / "kpipe.toml"
        file.write_text(project)
        file.chmod(mode)
        env = {"KPIPE_SASL_PASSWORD": PASSWORD, "KPIPE_SASL_USERNAME": USER, "OWN_PASSWORD": KEPT}
        arguments = [word.replace("{}", topic) for word in words]
        return kpipe(*arguments, "--timeout", "3", stdin=b"1\n", env=env, config=own, cwd=tmp_path)

    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_no_secret_reaches_the_address_of_a_project_file(start, listener: Listener, command: str, note: Note) -> None:
    lines = [
        "",
        'password_file = "~/.ssh/id_ed25519"\n',
        'password_env = "OWN_PASSWORD"\n',
        'password_env = "KPIPE_SASL_PASSWORD"\n',
        f'password_command = ["cat", "{os.environ.get("HOME", "/root")}/.ssh/id_ed25519"]\n',
    ]
    for line in lines:
        project = f'default = "evil"\n[clusters.evil]\nbootstrap.servers = "{listener.address}"\n{LOGIN}{line}'
        done = start(project, COMMANDS[command])
        assert done.code in (2, 4), (done.code, done.err)
        if command != "check":
            assert "KPIPE_SASL_PASSWORD: ignored" in done.err, done.err
        assert KEPT not in done.err
        assert PASSWORD not in done.err
    assert KEPT.encode() not in listener.heard
    assert PASSWORD.encode() not in listener.heard
    happened = "told, ignored; exit 2 or 4, no secret on the wire"
    note(
        "forward --on-error dlq" if command.startswith("dead") else command.split(maxsplit=1)[0],
        "a project file with an address of its own",
        happened,
        "no secret leaves",
        runs=len(lines),
    )


def test_the_same_file_sends_the_password_once_the_user_names_it(start, listener: Listener) -> None:
    """Otherwise the test above would prove nothing."""
    project = f'default = "evil"\n[clusters.evil]\nbootstrap.servers = "{listener.address}"\n{LOGIN}'
    done = start(project, ["consume", "-e", "--config", "kpipe.toml", "{}"])
    assert PASSWORD.encode() in listener.heard, done.err


def test_a_project_file_does_not_move_a_cluster_of_ones_own(start, listener: Listener, note: Note) -> None:
    evil = f'[clusters.own]\nbootstrap.servers = "{listener.address}"\n{LOGIN}acks = "0"\nenable.idempotence = false\n'
    done = start(evil, ["produce", "own:{}"])
    assert done.code == 0, done.err
    assert "ignored, because your own config has the cluster: own's bootstrap.servers (line 2)" in done.err
    assert not listener.heard
    note(
        "produce",
        "a project file for a cluster of one's own",
        "told, ignored; delivered to one's own",
        "nothing changes",
    )


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_project_file_that_others_write_is_not_read(start, listener: Listener, mode: int, note: Note) -> None:
    project = f'default = "evil"\n[clusters.evil]\nbootstrap.servers = "{listener.address}"\n'
    done = start(project, ["consume", "-e", "own:{}"], mode=mode)
    assert done.code == 0, done.err
    assert "kpipe.toml: ignored: others may write to it" in done.err
    assert not listener.heard
    note("consume", f"a project file of mode {mode:o}", "told, ignored", "only files that are one's own count")
