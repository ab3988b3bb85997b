"""What kpipe starts, and what a jq program reads, never sees a secret that was given in the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Kpipe, Result

pytestmark = pytest.mark.cold

SECRET = "s3cret-of-the-test"
CONFIG = """
[clusters.own]
bootstrap.servers = "unused:1"
password_env = "OWN_PASSWORD"
"""
GIVEN = f"KPIPE_SASL_PASSWORD={SECRET} OWN_PASSWORD={SECRET} KEPT=yes"


@pytest.fixture
def shell(kpipe: Kpipe):
    """Run a shell command with an embedded broker, and a configuration that names a variable as a secret."""

    def run(command: str) -> Result:
        config = kpipe.home / "own.toml"
        config.touch(mode=0o600)
        config.write_text(CONFIG)
        prepare = f"export KPIPE_CONFIG={config}; seq 2 | kpipe produce s; "
        done = kpipe("broker", "--topics", "s:1,t:1", "--", "sh", "-c", prepare + command)
        assert done.code == 0, done.err
        return done

    return run


@pytest.mark.parametrize("program", ["env", "$ENV"])
def test_a_jq_program_sees_no_secret(shell, program: str) -> None:
    done = shell(f"{GIVEN} SALT={SECRET} kpipe consume -e --hash-salt env:SALT --map '{program}' s")
    assert done.out.count(b'"KEPT":"yes"') == 2
    assert SECRET.encode() not in done.out


@pytest.mark.parametrize("where", ["env", 'tr "\\0" "\\n" < /proc/$PPID/environ'])
def test_a_filter_sees_no_secret(shell, where: str) -> None:
    count = (
        f'while read -r line; do printf "%s:%s\\n" "$({where} | grep -c {SECRET})" "$({where} | grep -c KEPT)"; done'
    )
    done = shell(f"{GIVEN} kpipe consume -e --through '{count}' s")
    assert done.out == b"0:1\n0:1\n"


def test_a_filter_sees_no_login_in_the_address_of_a_registry(shell) -> None:
    url = f"KPIPE_SCHEMA_REGISTRY_URL=http://me:{SECRET}@127.0.0.1:1"
    done = shell(f"KEPT=yes {url} kpipe consume -e -J --through-json 'env >&2; cat' s")
    assert "KEPT=yes" in done.err
    assert SECRET not in done.err
    plain = shell("KPIPE_SCHEMA_REGISTRY_URL=http://127.0.0.1:1 kpipe consume -e -J --through-json 'env >&2; cat' s")
    assert "KPIPE_SCHEMA_REGISTRY_URL=http://127.0.0.1:1" in plain.err


def test_a_filter_of_envelopes_sees_no_secret(shell) -> None:
    done = shell(f"{GIVEN} kpipe consume -e -J --through-json 'env >&2; cat' s")
    assert "KEPT=yes" in done.err
    assert SECRET not in done.err


def test_the_filters_of_workers_see_no_secret(shell) -> None:
    command = 'kpipe forward --workers 1 -G g -e --through-json \'env >&2; tr "\\0" "\\n" < /proc/$PPID/environ >&2; cat\' s t'
    done = shell(f"{GIVEN} {command}")
    assert done.err.count("KEPT=yes") >= 2
    assert SECRET not in done.err


def test_a_password_command_sees_no_other_secret(kpipe: Kpipe, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    config = f"""
[clusters.own]
bootstrap.servers = "127.0.0.1:1"
security.protocol = "SASL_PLAINTEXT"
sasl.mechanism = "PLAIN"
sasl.username = "me"
password_command = ["sh", "-c", "env > {seen}; echo x"]
[clusters.other]
bootstrap.servers = "unused:1"
password_env = "OWN_PASSWORD"
"""
    env = {"KPIPE_SASL_PASSWORD": SECRET, "OWN_PASSWORD": SECRET, "KEPT": "yes"}
    done = kpipe("consume", "-e", "--timeout", "1", "own:t", env=env, config=config)
    assert done.code == 4, done.err
    assert "KEPT=yes" in seen.read_text()
    assert SECRET not in seen.read_text()


def test_the_command_of_an_embedded_broker_sees_no_secret(kpipe: Kpipe) -> None:
    config = '[clusters.own]\nbootstrap.servers = "unused:1"\npassword_env = "OWN_PASSWORD"\n'
    env = {"KPIPE_SASL_PASSWORD": SECRET, "OWN_PASSWORD": SECRET, "KEPT": "yes"}
    done = kpipe("broker", "--", "sh", "-c", "env; tr '\\0' '\\n' < /proc/$PPID/environ", env=env, config=config)
    assert done.out.count(b"KEPT=yes") == 2
    assert SECRET.encode() not in done.out
