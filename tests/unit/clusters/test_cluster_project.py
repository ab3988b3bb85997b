"""A `kpipe.toml` came with a directory, perhaps with somebody else's repository."""

from __future__ import annotations

import os
from textwrap import dedent

import pytest

from kpipe.clusters.config import paths
from kpipe.clusters.profiles import Flags, load_profiles
from kpipe.clusters.secrets import Reference, SecretSource
from kpipe.errors import UsageError

OWN = """\
default = "dev"
[clusters.dev]
bootstrap.servers = "dev:1"
[clusters.prod]
bootstrap.servers = "prod:1"
security.protocol = "SASL_SSL"
sasl.username = "me"
password_command = ["pass", "kafka"]
read_only = true
"""
LOGIN = {"KPIPE_SASL_PASSWORD": "s3cret", "KPIPE_SASL_USERNAME": "me"}


class Place:
    """A home with a configuration of its own, and a directory with a project file."""

    def __init__(self, root):
        self.home, self.cwd = root / "home", root / "work"
        self.own, self.project = self.home / ".config/kpipe/config.toml", self.cwd / "kpipe.toml"
        self.own.parent.mkdir(parents=True)
        self.cwd.mkdir(mode=0o755)
        self.own.write_text(OWN)
        self.own.chmod(0o600)

    def write(self, text):
        self.project.write_text(dedent(text))
        self.project.chmod(0o644)

    def load(self, *properties, environ=None, **flags):
        environ = {"HOME": str(self.home), **(environ or {})}
        return load_profiles(Flags(properties=properties, **flags), environ, self.cwd)


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    place.write('default = "team"\n[clusters.team]\nbootstrap.servers = "team:1"\n')
    return place


def test_a_project_names_clusters_and_which_is_current(place):
    profiles = place.load()
    assert profiles.resolve(None).brokers == "team:1"
    assert profiles.warnings == []
    place.write('default = "prod"\n')
    assert place.load().resolve(None).brokers == "prod:1"


@pytest.mark.parametrize("what", ["file", "directory"])
@pytest.mark.parametrize("mode", [0o020, 0o002, 0o022])
def test_a_project_that_others_may_write_to_does_not_count(place, what, mode):
    path = place.project if what == "file" else place.cwd
    path.chmod(path.stat().st_mode | mode)
    profiles = place.load()
    assert profiles.resolve(None).brokers == "dev:1"
    (warning,) = profiles.warnings
    assert warning.startswith(f"{place.project}: ignored: others may write to it")
    assert f"--config {place.project}" in warning
    assert ("project", place.project, "ignored") in paths(Flags(), {"HOME": str(place.home)}, place.cwd)
    assert place.load(config_path="kpipe.toml").resolve(None).brokers == "team:1"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("what", ["file", "directory"])
def test_a_project_of_another_user_does_not_count(place, what):
    os.chown(place.project if what == "file" else place.cwd, 12345, -1)
    profiles = place.load()
    assert profiles.resolve(None).brokers == "dev:1"
    assert "belongs to user 12345" in profiles.warnings[0]


def test_a_project_behind_a_link_does_not_count(place):
    place.project.rename(place.cwd / "real.toml")
    place.project.symlink_to("real.toml")
    profiles = place.load()
    assert profiles.resolve(None).brokers == "dev:1"
    assert "it is a symbolic link" in profiles.warnings[0]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_project_that_is_no_file_does_not_hold_us_up(place, make):
    place.project.unlink()
    make(place.project)
    place.project.chmod(0o700)
    profiles = place.load()
    assert profiles.resolve(None).brokers == "dev:1"
    assert "it is no plain file" in profiles.warnings[0]


SECRETS = [
    'password_file = "~/.ssh/id_ed25519"',
    'password_env = "AWS_SECRET_ACCESS_KEY"',
    'password_command = ["id"]',
    'password_keyring = "a/b"',
    'key_password_file = "/etc/passwd"',
    'keystore_password_env = "HOME"',
    'client_secret_file = "/etc/passwd"',
    'token_command = ["id"]',
    'aws_region = "eu-west-1"',
    'sasl.password = "x"',
    'ssl.key.password = "x"',
    'ssl.key.location = "~/.ssh/id_ed25519"',
    'ssl.key.pem = "x"',
    'ssl.keystore.location = "~/keys.p12"',
    'ssl.certificate.location = "~/cert.pem"',
    'sasl.oauthbearer.client.secret = "x"',
    'sasl.oauthbearer.token.endpoint.url = "http://evil/"',
    'sasl.oauthbearer.assertion.private.key.file = "~/.ssh/id_rsa"',
    'sasl.kerberos.keytab = "/etc/krb5.keytab"',
    'plugin.library.paths = "evil.so"',
    'ssl.engine.location = "evil.so"',
    'ssl.providers = "evil"',
    'sasl.kerberos.kinit.cmd = "id"',
    'offset.store.path = "~/.bashrc"',
    'acks = "0"',
    "enable.idempotence = false",
    'isolation.level = "read_uncommitted"',
    'debug = "all"',
]


@pytest.mark.parametrize("line", SECRETS)
def test_a_project_names_no_secret_and_lowers_no_promise(place, line):
    place.write(f'default = "team"\n[clusters.team]\nbootstrap.servers = "team:1"\nsasl.username = "u"\n{line}\n')
    profiles = place.load()
    cluster = profiles.resolve(None)
    assert cluster.properties.keys() <= {"bootstrap.servers", "sasl.username", "security.protocol"}
    assert (cluster.references, cluster.token) == ((), None)
    assert cluster.brokers == "team:1"
    (warning,) = profiles.warnings
    assert warning.startswith(f"{place.project}: ignored, because a project file may not say it: team's ")
    assert "(line 5)" in warning


@pytest.mark.parametrize(
    "line",
    [
        *SECRETS,
        'bootstrap.servers = "evil:1"',
        'security.protocol = "PLAINTEXT"',
        "enable.ssl.certificate.verification = false",
        'ssl.endpoint.identification.algorithm = "none"',
        'ssl.ca.location = "evil.pem"',
        'ssl.ca.pem = "x"',
        'ssl.cipher.suites = "NULL"',
        'sasl.mechanism = "PLAIN"',
        'sasl.username = "evil"',
        "retries = 0",
        "message.timeout.ms = 1",
        'partitioner = "random"',
        "max.in.flight = 1000",
    ],
)
def test_a_project_changes_no_guarantee_of_a_cluster_of_ones_own(place, line):
    before = place.load(cluster="prod").resolve(None)
    place.write(f"[clusters.prod]\n{line}\n")
    profiles = place.load(cluster="prod")
    after = profiles.resolve(None)
    assert (after.properties, after.references, after.token) == (before.properties, before.references, before.token)
    assert profiles.warnings[0].startswith(
        f"{place.project}: ignored, because your own config has the cluster: prod's "
    )


def test_a_project_may_tune_and_guard_a_cluster_of_ones_own(place):
    place.write('[clusters.dev]\nlinger.ms = 50\ncompression.type = "zstd"\nacks = "all"\nread_only = true\n')
    profiles = place.load()
    dev = profiles.resolve("dev")
    assert dev.properties == {
        "bootstrap.servers": "dev:1", "linger.ms": "50", "compression.type": "zstd", "acks": "all",
    }  # fmt: skip
    assert dev.read_only
    assert dev.origins["linger.ms"] == f"{place.project}:2"
    assert profiles.warnings == []
    place.write("[clusters.prod]\nread_only = false\n")
    assert place.load().resolve("prod").read_only


def test_the_environments_login_does_not_go_to_an_address_of_the_project(place):
    profiles = place.load(environ=LOGIN)
    cluster = profiles.resolve(None)
    assert cluster.references == ()
    assert cluster.properties == {"bootstrap.servers": "team:1"}
    assert profiles.resolve("team").references == ()
    (warning,) = profiles.warnings
    assert warning.startswith("KPIPE_SASL_USERNAME, KPIPE_SASL_PASSWORD: ignored")
    assert "s3cret" not in warning


def test_the_environments_login_goes_where_the_user_said(place):
    wanted = (Reference("sasl.password", SecretSource.ENV, ("KPIPE_SASL_PASSWORD",)),)
    assert place.load(environ=LOGIN, brokers="team:1").resolve(None).references == wanted
    assert place.load(environ=LOGIN, cluster="dev").resolve(None).references == wanted
    place.write('default = "dev"\n')
    assert place.load(environ=LOGIN).resolve(None).references == wanted


@pytest.mark.parametrize("cluster", [None, "team"])
@pytest.mark.parametrize(
    "property_",
    ["sasl.password=x", "ssl.key.location=k.pem", "source.sasl.password=x", "sasl.oauthbearer.client.secret=x"],
)
def test_no_other_login_goes_to_an_address_of_the_project(place, cluster, property_):
    with pytest.raises(UsageError, match=r"would go to the address of 'team', which only .*kpipe\.toml gives"):
        place.load(property_).resolve(cluster, "source")
    assert place.load(property_).resolve("prod", "source").brokers == "prod:1"


def test_no_login_goes_to_a_registry_of_the_project(place):
    place.write('[clusters.team]\nbootstrap.servers = "team:1"\nschema.registry.url = "http://evil"\n')
    with pytest.raises(UsageError, match="would go to the address of 'team'"):
        place.load("schema.registry.password=x", cluster="team", brokers="mine:1").resolve(None)
    assert place.load("sasl.password=x", cluster="team", brokers="mine:1").resolve(None).registry


def test_a_login_of_minus_f_does_not_go_to_an_address_of_the_project(place):
    (place.cwd / "login.conf").write_text("sasl.username=me\nsasl.password=x\n")
    with pytest.raises(UsageError, match=r"login\.conf:2: sasl\.password would go"):
        place.load(config_file="login.conf").resolve(None)


def test_many_keys_are_told_in_one_line(place):
    place.write("[clusters.x]\n" + "".join(f'{name} = "1"\n' for name in ("acks", "debug", "retries", "group.id",
        "partitioner", "plugin.library.paths", "statistics.interval.ms", "log_level", "retry.backoff.ms", "max.in.flight")))  # fmt: skip
    (warning,) = place.load().warnings
    assert "and 2 more; write it into your own config" in warning
