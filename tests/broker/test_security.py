"""A locked-down cluster: every way in works, every way to fail is said in one clear line, and no secret is ever seen."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)
from cryptography.hazmat.primitives import serialization

from tests.broker.lab.cluster import Cluster, until
from tests.broker.lab.security import Fortress

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.conftest import Kpipe, Result

TIMEOUT = 5.0
WITHIN = 20.0
"""Far more than a run takes (about 1 s), far less than a client that retries for ever."""


@pytest.fixture(scope="module")
def fortress(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fortress]:
    locked = Fortress(tmp_path_factory.mktemp("fortress"))
    locked.broker.start()
    lab = Cluster(locked.broker)
    for topic in ("t-open", "denied", "secret", "no-read", "no-write"):
        lab.topic(name=topic)
    rules = [
        allow(ResourceType.TOPIC, "t-", AclOperation.ALL, ResourcePatternType.PREFIXED),
        allow(ResourceType.GROUP, "g-", AclOperation.ALL, ResourcePatternType.PREFIXED),
        allow(ResourceType.GROUP, "peek", AclOperation.DESCRIBE),
        allow(ResourceType.TOPIC, "denied", AclOperation.ALL),
        allow(ResourceType.TOPIC, "denied", AclOperation.READ, permission=AclPermissionType.DENY),
        allow(ResourceType.TOPIC, "denied", AclOperation.WRITE, permission=AclPermissionType.DENY),
        allow(ResourceType.TOPIC, "denied", AclOperation.DESCRIBE_CONFIGS, permission=AclPermissionType.DENY),
        allow(ResourceType.TOPIC, "no-read", AclOperation.WRITE),
        allow(ResourceType.TOPIC, "no-write", AclOperation.READ),
    ]
    for done in lab.admin.create_acls(rules).values():
        done.result(20)
    until(lambda: _answers_for_groups(lab), "a coordinator for groups")
    yield locked
    locked.close()


def _answers_for_groups(lab: Cluster) -> bool:
    try:
        return lab.committed("g-none", "t-open") == {}
    except KafkaException:
        return False


@pytest.fixture
def lab(fortress: Fortress) -> Cluster:
    return Cluster(fortress.broker)


def allow(
    kind: ResourceType,
    name: str,
    operation: AclOperation,
    pattern: ResourcePatternType = ResourcePatternType.LITERAL,
    *,
    permission: AclPermissionType = AclPermissionType.ALLOW,
) -> AclBinding:
    return AclBinding(kind, name, pattern, "User:*", "*", operation, permission)


def ways_in(fortress: Fortress) -> dict[str, dict[str, str]]:
    """Clusters that work, by how one gets in; `password_env` names a variable of `secrets_of`."""
    tls = {"security.protocol": "SASL_SSL", "ssl.ca.location": str(fortress.authority.file)}
    sasl = {**tls, "bootstrap.servers": fortress.address("SASL")}
    user = {**sasl, "sasl.username": "alice", "password_env": "LAB_PASSWORD"}
    return {
        "scram256": {**user, "sasl.mechanism": "SCRAM-SHA-256"},
        "scram512": {**user, "sasl.mechanism": "SCRAM-SHA-512"},
        "plain": {**user, "sasl.mechanism": "PLAIN"},
        "mtls": {
            "security.protocol": "SSL",
            "bootstrap.servers": fortress.address("MTLS"),
            "ssl.ca.location": str(fortress.authority.file),
            "ssl.certificate.location": str(fortress.client_file),
            "ssl.key.location": str(fortress.client_file),
        },
        "oidc": {
            **sasl,
            "sasl.mechanism": "OAUTHBEARER",
            "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.client.id": "service",
            "client_secret_env": "LAB_CLIENT_SECRET",
            "sasl.oauthbearer.token.endpoint.url": f"{fortress.tokens.url}/token",
        },
        "token": {**sasl, "token_env": "LAB_TOKEN"},
    }


def ways_to_fail(fortress: Fortress) -> dict[str, tuple[dict[str, str], str, str]]:
    """Clusters that do not work: settings, the word of `check --json`, and what the one line says."""
    good = ways_in(fortress)
    scram, ssl = good["scram256"], {"security.protocol": "SSL", "ssl.ca.location": str(fortress.authority.file)}
    return {
        "password": ({**scram, "password_env": "LAB_WRONG"}, "credentials", "wrong username or password for 'alice'"),
        "plain-password": (
            {**good["plain"], "password_env": "LAB_WRONG"},
            "credentials",
            "wrong username or password for 'alice' (PLAIN)",
        ),
        "client-secret": ({**good["oidc"], "client_secret_env": "LAB_WRONG"}, "token", "gave no token"),
        "expired": ({**ssl, "bootstrap.servers": fortress.address("EXPIRED")}, "certificate-expired", "expired on"),
        "name": (
            {**ssl, "bootstrap.servers": fortress.address("WRONGNAME")},
            "certificate-name",
            "is for elsewhere.example, not for 127.0.0.1",
        ),
        "authority": (
            {**scram, "ssl.ca.location": str(fortress.stranger.file)},
            "certificate-authority",
            "which is not trusted here",
        ),
        "no-certificate": (
            {**ssl, "bootstrap.servers": fortress.address("MTLS")},
            "client-certificate",
            "wants a client certificate, and none is set",
        ),
        "plaintext-to-tls": ({"bootstrap.servers": fortress.address("SASL")}, "tls-expected", "speaks TLS"),
        "tls-to-plaintext": (
            {**ssl, "bootstrap.servers": fortress.address("PLAINTEXT")},
            "tls-not-expected",
            "speaks plaintext, and TLS was tried",
        ),
        "no-login": ({"bootstrap.servers": fortress.address("CLEAR")}, "login-expected", "wants a login (PLAIN)"),
        "mechanism": (
            {**scram, "security.protocol": "SASL_PLAINTEXT", "bootstrap.servers": fortress.address("CLEAR")},
            "mechanism",
            "does not know SCRAM-SHA-256",
        ),
        "needless-login": (
            {**scram, "security.protocol": "SASL_PLAINTEXT", "bootstrap.servers": fortress.address("PLAINTEXT")},
            "login-not-expected",
            "takes no login",
        ),
    }


def secrets_of(fortress: Fortress) -> dict[str, str]:
    return {
        "LAB_PASSWORD": fortress.password,
        "LAB_CLIENT_SECRET": fortress.client_secret,
        "LAB_WRONG": "wRoNg-secret-of-the-test",
        "LAB_TOKEN": fortress.tokens.token(),
    }


def toml(clusters: Mapping[str, Mapping[str, str]]) -> str:
    blocks = []
    for name, settings in clusters.items():
        lines = [f"[clusters.{name}]"]
        for key, value in settings.items():
            if key == "token_env":
                lines.append(f'token_command = ["printenv", "{value}"]')
            else:
                lines.append(f'"{key}" = "{value}"')
        blocks.append("\n".join(lines))
    return "\n".join(blocks) + "\n"


class Guarded:
    """kpipe with all clusters configured; whatever it prints is searched for every secret."""

    def __init__(self, kpipe: Kpipe, fortress: Fortress) -> None:
        self._kpipe = kpipe
        self._secrets = secrets_of(fortress)
        failing = {name: settings for name, (settings, _, _) in ways_to_fail(fortress).items()}
        lost = {"lost": {"bootstrap.servers": fortress.address("LOST")}}
        self._config = toml({**ways_in(fortress), **failing, **lost})

    def __call__(self, command: str, *args: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Result:
        timeout = ["--timeout", str(TIMEOUT)] if command != "config" else []
        started = time.monotonic()
        done = self._kpipe(
            command, *args, *timeout, stdin=stdin, env={**self._secrets, **(env or {})}, config=self._config
        )
        assert time.monotonic() - started < WITHIN
        for name, secret in self._secrets.items():
            assert secret.encode() not in done.out + done.err.encode(), f"{name} leaked"
        assert "Traceback" not in done.err, done.err
        return done


@pytest.fixture
def guarded(kpipe: Kpipe, fortress: Fortress) -> Guarded:
    return Guarded(kpipe, fortress)


@pytest.mark.parametrize("way", ["scram256", "scram512", "plain", "mtls", "oidc", "token"])
def test_a_record_goes_there_and_back(guarded: Guarded, lab: Cluster, way: str) -> None:
    topic = lab.topic(name=f"t-{way}")

    sent = guarded("produce", f"{way}:{topic}", "-v", "-X", "debug=all", stdin=b"there\n", env={"KPIPE_DEBUG": "1"})
    read = guarded("consume", "-e", "-G", f"g-{way}", f"{way}:{topic}", "-v", env={"KPIPE_DEBUG": "1"})

    assert (sent.code, read.code, read.out) == (0, 0, b"there\n"), sent.err + read.err
    assert lab.committed(f"g-{way}", topic) == {0: 1}


def test_a_topic_is_read_without_a_right_on_any_group(guarded: Guarded, lab: Cluster) -> None:
    topic = lab.topic(name="t-without-group")
    lab.write(topic, [b"one"])

    assert guarded("consume", "-e", f"scram512:{topic}").out == b"one\n"


FAILURES = [
    "password", "plain-password", "client-secret", "expired", "name", "authority", "no-certificate",
    "plaintext-to-tls", "tls-to-plaintext", "no-login", "mechanism", "needless-login",
]  # fmt: skip


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_is_one_clear_line_within_the_timeout(guarded: Guarded, fortress: Fortress, failure: str) -> None:
    _, fault, says = ways_to_fail(fortress)[failure]

    sent = guarded("produce", f"{failure}:t-open", stdin=b"x\n")
    checked = guarded("check", failure, "--json")

    assert (sent.code, sent.err.count("\n")) == (4, 1), sent.err
    assert sent.err.startswith("kpipe: connect: ")
    assert says in sent.err
    assert checked.code == 4, checked.out
    (failed,) = [step for step in json.loads(checked.out)["clusters"][0]["steps"] if step["state"] == "failed"]
    assert failed["fault"] == fault
    assert failed["advice"]


@pytest.mark.parametrize("failure", ["password", "name", "plaintext-to-tls"])
def test_a_reader_fails_in_the_same_words(guarded: Guarded, fortress: Fortress, failure: str) -> None:
    _, _, says = ways_to_fail(fortress)[failure]

    done = guarded("consume", "-e", "-v", f"{failure}:t-open", env={"KPIPE_DEBUG": "1"})

    assert (done.code, done.out) == (4, b"")
    assert says in done.err


def test_a_refused_login_ends_at_once_and_not_with_the_timeout(kpipe: Kpipe, fortress: Fortress) -> None:
    config = toml({"password": ways_to_fail(fortress)["password"][0]})
    started = time.monotonic()

    done = kpipe("produce", "password:t-open", "--timeout", "60", env=secrets_of(fortress), config=config)

    assert done.code == 4
    assert time.monotonic() - started < 30


def test_a_topic_that_may_not_be_written_loses_nothing_silently(guarded: Guarded, lab: Cluster, tmp_path) -> None:
    summary, spill = tmp_path / "summary.json", tmp_path / "spill"

    done = guarded("produce", "scram512:denied", "--summary", str(summary), "--spill", str(spill), stdin=b"one\ntwo\n")

    assert done.code == 4
    assert "not authorised: no ACL allows WRITE on topic denied" in done.err
    told = json.loads(summary.read_text())
    assert (told["read"], told["delivered"]) == (2, 0)
    assert [json.loads(line)["value"] for line in spill.read_text().splitlines()] == ["one", "two"]
    assert lab.read("denied") == []


def test_a_topic_that_may_not_be_read_is_named(guarded: Guarded, lab: Cluster) -> None:
    lab.write("denied", [b"not for you"])

    for topic, right in (("denied", "READ"), ("no-read", "READ"), ("secret", "DESCRIBE")):
        done = guarded("consume", "-e", f"scram512:{topic}")
        if topic == "no-read":  # empty: there is nothing to fetch
            assert done.out == b""
            continue
        assert (done.code, done.out) == (4, b"")
        assert f"not authorised: no ACL allows {right} on topic {topic}" in done.err


@pytest.mark.parametrize("group", ["nobody", "peek"])
def test_a_group_that_may_not_be_joined_commits_nothing(guarded: Guarded, lab: Cluster, group: str) -> None:
    topic = lab.topic(name=f"t-group-{group}")
    lab.write(topic, [b"kept for later"])

    done = guarded("consume", "-e", "-G", group, f"scram512:{topic}")

    assert (done.code, done.out) == (4, b""), done.err
    assert f"not authorised: no ACL allows READ on group {group}" in done.err
    assert lab.committed(group, topic) == {}


def test_a_forward_with_a_denied_target_commits_nothing(guarded: Guarded, lab: Cluster) -> None:
    source = lab.topic(name="t-source")
    lab.write(source, [b"one", b"two"])

    done = guarded("forward", "-e", "-G", "g-forward", f"scram512:{source}", "mtls:no-write")

    assert done.code == 4
    assert "not authorised: no ACL allows WRITE" in done.err
    assert lab.committed("g-forward", source).get(0, 0) == 0
    assert lab.read("no-write") == []


def test_a_dead_letter_topic_that_denies_the_letter_stops_before_the_record(guarded: Guarded, lab: Cluster) -> None:
    source, target = lab.topic(name="t-letters-source"), lab.topic(name="t-letters-target")
    lab.write(source, [b'{"k":1}', b"not json", b'{"k":2}'])

    done = guarded(
        "forward", "-e", "-G", "g-letters", "--key-field", ".k", "--on-error", "dlq:mtls:no-write",
        f"scram512:{source}", f"scram512:{target}",
    )  # fmt: skip

    assert done.code == 4, done.err
    assert "the dead-letter topic did not take a record: not authorised: no ACL allows WRITE" in done.err
    assert f"the record had failed with: transform: scram512:{source}[0]@1" in done.err
    assert lab.committed("g-letters", source) == {0: 1}
    assert lab.read("no-write") == []


def test_a_transactional_id_that_may_not_be_used_moves_nothing(guarded: Guarded, lab: Cluster) -> None:
    source, target = lab.topic(name="t-eos-source"), lab.topic(name="t-eos-target")
    lab.write(source, [b"one"])

    done = guarded("forward", "--exactly-once", "-e", "-G", "g-eos", f"scram512:{source}", f"scram512:{target}")

    assert done.code == 4, done.err
    assert "not authorised" in done.err
    assert "transactional id" in done.err
    assert lab.read(target) == []
    assert lab.committed("g-eos", source).get(0, 0) == 0


def test_configs_that_may_not_be_described_do_not_stop_a_producer(guarded: Guarded, lab: Cluster) -> None:
    done = guarded("produce", "scram512:no-read", stdin=b"written\n")

    assert done.code == 0, done.err
    assert [each.value for each in lab.read("no-read")] == [b"written"]


def test_check_tells_what_is_fine_and_what_may_be_done(guarded: Guarded) -> None:
    done = guarded("check", "scram512", "mtls", "--topic", "t-open", "--topic", "no-write", "--group", "g-x")

    assert done.code == 0, done.out
    text = done.out.decode()
    assert "SCRAM-SHA-512 as 'alice'" in text
    assert "encryption: TLSv1.3, certificate for 127.0.0.1, localhost" in text
    assert "round trip" in text
    assert "topic t-open: may READ, WRITE" in text
    assert "warning topic no-write: may READ, DESCRIBE, but not WRITE" in text
    assert "group g-x: may READ" in text
    assert "\x1b" not in text


def test_check_names_the_right_that_is_missing(guarded: Guarded) -> None:
    done = guarded("check", "scram512", "--json", "--topic", "denied", "--topic", "t-none", "--group", "nobody")

    steps = {step["name"]: step for step in json.loads(done.out)["clusters"][0]["steps"]}
    assert done.code == 4
    assert steps["topic denied"]["text"] == "not authorised: no ACL allows READ or WRITE on topic denied"
    assert steps["topic t-none"]["fault"] == "unknown-topic"
    assert steps["group nobody"]["fault"] == "denied"


def test_check_finds_an_address_that_the_cluster_advertises_and_nobody_can_reach(guarded: Guarded) -> None:
    done = guarded("check", "lost", "--json")

    assert done.code == 4
    (failed,) = [step for step in json.loads(done.out)["clusters"][0]["steps"] if step["state"] == "failed"]
    assert failed["fault"] == "advertised-listener"
    assert "127.0.0.1:1" in failed["text"]


def test_an_advertised_address_that_nobody_can_reach_is_told_of_while_records_wait(guarded: Guarded) -> None:
    # The client may find what has timed out only after it has waited to connect again: by default up to 10 s later.
    often = ("-X", "reconnect.backoff.max.ms=1000")
    command = ("produce", "lost:t-open", "-X", "delivery.timeout.ms=14000", *often)
    done = guarded(*command, stdin=b"one\n")
    if done.code == 4:  # on a busy machine the client drops its first connection before it has answered us
        done = guarded(*command, stdin=b"one\n")

    told = [line for line in done.err.splitlines() if "broker 1 sends clients to" in line]
    assert done.code == 1
    assert len(told) == 1, done.err
    assert told[0].startswith("kpipe: connect: lost: broker 1 sends clients to 127.0.0.1:1: ")
    assert told[0].endswith("; make that address reachable, or correct advertised.listeners; still trying")


def test_the_worst_cluster_decides_and_all_are_told(guarded: Guarded) -> None:
    done = guarded("check", "scram512", "nosuch", "expired")

    assert done.code == 4
    assert all(name in done.out.decode() for name in ("scram512", "no cluster 'nosuch'", "expired on"))
    assert guarded("check", "nosuch").code == 2


def test_config_show_knows_every_cluster_and_tells_no_secret(guarded: Guarded) -> None:
    shown = guarded("config", "show", "--origin", "--json", "-X", f"sasl.password={'p' * 12}")

    assert shown.code == 0
    assert "p" * 12 not in shown.out.decode()
    rows = {(row["cluster"], row["key"]): row for row in json.loads(shown.out)["settings"]}
    assert rows["oidc", "sasl.oauthbearer.client.secret"]["value"] == "(from env LAB_CLIENT_SECRET)"
    assert rows["scram512", "sasl.mechanism"]["origin"].endswith("kpipe-test.toml:14")


def test_a_token_command_that_fails_ends_the_run_before_a_client_waits(kpipe: Kpipe, fortress: Fortress) -> None:
    settings = {**ways_in(fortress)["token"], "token_env": "NOT_SET"}
    started = time.monotonic()

    done = kpipe("produce", "token:t-open", stdin=b"x\n", config=toml({"token": settings}))

    assert done.code == 2
    assert "token from command: printenv failed with exit code 1" in done.err
    assert time.monotonic() - started < 8  # the client itself would wait 10 s


def test_a_password_command_runs_once_and_without_a_shell(
    kpipe: Kpipe, fortress: Fortress, lab: Cluster, tmp_path
) -> None:
    script, count = tmp_path / "pass", tmp_path / "count"
    script.write_text(f'#!/bin/sh\necho called >> {count}\n[ "$1" = \'$(id);`id`\' ] && echo "$LAB_PASSWORD"\n')
    script.chmod(0o755)
    settings = {key: value for key, value in ways_in(fortress)["scram512"].items() if key != "password_env"}
    config = toml({"c": settings}) + f"password_command = [\"{script}\", '$(id);`id`']\n"

    done = kpipe("produce", "c:t-open", stdin=b"x\n", env=secrets_of(fortress), config=config)

    assert done.code == 0, done.err
    assert count.read_text() == "called\n"
    assert fortress.password not in done.err


@pytest.mark.parametrize("way", ["scram256", "plain", "mtls", "oidc", "token"])
def test_debug_lines_are_shown_and_hold_no_secret(guarded: Guarded, lab: Cluster, way: str) -> None:
    """As kcat's -d: what the client says of itself, all of it, without the secrets of this and of every other login."""
    topic = lab.topic(name=f"t-debug-{way}")
    debug = {"KPIPE_DEBUG": "1"}
    sent = guarded("produce", f"{way}:{topic}", "-X", "debug=all", stdin=b"there\n", env=debug)
    read = guarded("consume", "-e", "-G", f"g-{way}", f"{way}:{topic}", "-X", "debug=all", env=debug)
    for done in (sent, read):
        assert done.code == 0, done.err[-3000:]
        assert len(re.findall(r"^\w+ ?\[\w+|rdkafka#|SASL|CONNECT", done.err, re.MULTILINE)) > 20, done.err[-3000:]
        assert done.err.count("\n") > 100
    quiet = guarded("consume", "-e", f"{way}:{topic}", "-X", "debug=all")
    assert (quiet.out, quiet.err) == (b"there\n", "")


def test_the_password_of_a_key_is_in_no_debug_line(kpipe: Kpipe, fortress: Fortress, tmp_path: Path) -> None:
    key, word = tmp_path / "key.pem", "pA55-of-the-key"
    loaded = serialization.load_pem_private_key(fortress.client_file.read_bytes(), password=None)
    locked = serialization.BestAvailableEncryption(word.encode())
    key.write_bytes(loaded.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    settings = {**ways_in(fortress)["mtls"], "ssl.key.location": str(key), "key_password_env": "KEY_PASSWORD"}
    env = {"KPIPE_DEBUG": "1", "KEY_PASSWORD": word}
    done = kpipe("consume", "-e", "mtls:t-open", "-X", "debug=all", env=env, config=toml({"mtls": settings}))
    assert done.code == 0, done.err[-3000:]
    assert done.err.count("\n") > 100
    assert word not in done.err
    assert word.encode() not in done.out


@pytest.mark.parametrize("way", ["scram512", "plain", "environment"])
def test_workers_log_in_with_the_password_that_no_child_sees(
    kpipe: Kpipe, fortress: Fortress, lab: Cluster, way: str
) -> None:
    source, target = lab.topic(name=f"t-workers-{way}"), lab.topic(name=f"t-workers-{way}-copy")
    lab.write(source, [b"one", b"two"])
    clusters = ways_in(fortress)
    clusters["environment"] = {key: clusters["plain"][key] for key in clusters["plain"] if key != "password_env"}
    env = {"LAB_PASSWORD": fortress.password, "KPIPE_SASL_PASSWORD": fortress.password}
    done = kpipe(
        "forward", "--workers", "2", "-e", "-G", f"g-workers-{way}", "--cluster", way, "--through-json",
        "env >&2; tr '\\0' '\\n' < /proc/$PPID/environ >&2; cat", source, target, env=env, config=toml(clusters),
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "KPIPE_CONFIG=" in done.err
    assert fortress.password not in done.err
    assert len(lab.read(target)) == 2


def test_kerberos_says_how_to_get_it(guarded: Guarded) -> None:
    for options in (
        ["-X", "sasl.mechanism=GSSAPI"],
        ["-X", "sasl.mechanism=GSSAPI", "-X", "sasl.kerberos.principal=me"],
    ):
        done = guarded("consume", "-e", "-b", "127.0.0.1:1", "-X", "security.protocol=SASL_PLAINTEXT", *options, "t")
        assert (done.code, done.err.count("\n")) == (2, 1), done.err
        assert "--no-binary confluent-kafka" in done.err
    unnamed = guarded("consume", "-e", "-b", "127.0.0.1:1", "-X", "security.protocol=SASL_PLAINTEXT", "t")
    assert (unnamed.code, "name the mechanism" in unnamed.err) == (2, True), unnamed.err
