from __future__ import annotations

import os
from textwrap import dedent

import pytest

from kpipe.clusters.profiles import Flags, load_profiles, user_config_path
from kpipe.clusters.secrets import Reference, SecretSource
from kpipe.errors import UsageError

SECRET = "s3cr3t-VALUE"


@pytest.fixture
def house(tmp_path):
    """A home, a working directory, and what writes their config files and loads the profiles."""
    return House(tmp_path)


class House:
    def __init__(self, root):
        self.home, self.cwd = root / "home", root / "work"
        self.user, self.project = self.home / ".config/kpipe/config.toml", self.cwd / "kpipe.toml"
        self.user.parent.mkdir(parents=True)
        self.cwd.mkdir()

    def write(self, path, text):
        path.write_text(dedent(text))
        path.chmod(0o600)
        return path

    def load(self, *properties, environ=None, **flags):
        environ = {"HOME": str(self.home), **(environ or {})}
        return load_profiles(Flags(properties=properties, **flags), environ, self.cwd)


def test_without_anything_it_is_localhost(house):
    cluster = house.load().resolve(None)
    assert cluster.name == ""
    assert cluster.properties == {"bootstrap.servers": "localhost:9092"}
    assert cluster.origins == {"bootstrap.servers": "default"}
    assert not cluster.read_only


def test_precedence_of_the_current_cluster_step_by_step(house):
    house.write(house.user, 'default = "u"\n[clusters.u]\nbootstrap.servers = "user:1"\n')
    environ = {}
    assert house.load().resolve(None).brokers == "user:1"
    house.write(house.project, 'default = "p"\n[clusters.p]\nbootstrap.servers = "project:1"\n')
    assert house.load().resolve(None).brokers == "project:1"
    environ["KAFKA_BOOTSTRAP_SERVERS"] = "kafka-env:1"
    assert house.load(environ=environ).resolve(None).brokers == "kafka-env:1"
    environ["KPIPE_CLUSTER"] = "u"
    assert house.load(environ=environ).resolve(None).brokers == "user:1"
    environ["KPIPE_BROKERS"] = "env:1"
    assert house.load(environ=environ).resolve(None).brokers == "env:1"
    assert house.load(environ=environ, cluster="p").resolve(None).brokers == "project:1"
    assert house.load(environ=environ, brokers="flag:1").resolve(None).brokers == "flag:1"
    assert house.load("bootstrap.servers=x:1", environ=environ).resolve(None).brokers == "x:1"


@pytest.mark.parametrize("name", ["KPIPE_BROKERS", "KPIPE_CLUSTER", "KAFKA_BOOTSTRAP_SERVERS", "KPIPE_SASL_PASSWORD"])
@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_variable_does_not_choose_another_cluster_or_login(house, name, value):
    with pytest.raises(UsageError, match=f"environment {name}: is set, but empty"):
        house.load(environ={name: value}).resolve(None)


def test_an_empty_variable_that_nothing_asks_is_no_fault(house):
    environ = {"KPIPE_BROKERS": "", "KAFKA_BOOTSTRAP_SERVERS": ""}
    assert house.load(environ=environ, brokers="a:1").resolve(None).brokers == "a:1"
    assert house.load(environ={"KAFKA_BOOTSTRAP_SERVERS": "", "KPIPE_BROKERS": "a:1"}).resolve(None).brokers == "a:1"


def test_properties_are_written_bare_quoted_nested_or_as_lists(house):
    house.write(
        house.user,
        """\
        [clusters.prod]
        bootstrap.servers = ["a:1", "b:2"]
        "security.protocol" = "SSL"
        acks = -1
        enable.idempotence = true
        [clusters.prod.ssl]
        endpoint.identification.algorithm = "none"
        [clusters."eu.prod"]
        metadata.broker.list = "c:3"
        """,
    )
    profiles = house.load()
    assert profiles.names == ["eu.prod", "prod"]
    assert profiles.resolve("eu.prod").brokers == "c:3"
    prod = profiles.resolve("prod")
    assert prod.properties == {
        "bootstrap.servers": "a:1,b:2",
        "security.protocol": "SSL",
        "acks": "-1",
        "enable.idempotence": "true",
        "ssl.endpoint.identification.algorithm": "none",
    }
    assert {key: origin.removeprefix(f"{house.user}:") for key, origin in prod.origins.items()} == {
        "bootstrap.servers": "2",
        "security.protocol": "3",
        "acks": "4",
        "enable.idempotence": "5",
        "ssl.endpoint.identification.algorithm": "7",
    }


def test_a_named_cluster_keeps_its_brokers_and_is_untouched_by_the_environment(house):
    house.write(house.user, '[clusters.prod]\nbootstrap.servers = "prod:1"\n')
    environ = {"KPIPE_BROKERS": "env:1", "KPIPE_SASL_PASSWORD": SECRET, "KPIPE_SASL_USERNAME": "me"}
    prod = house.load(environ=environ, brokers="flag:1").resolve("prod")
    assert prod.properties == {"bootstrap.servers": "prod:1"}
    assert prod.references == ()


def test_brokers_given_elsewhere_leave_the_default_profile_and_its_secrets_behind(house):
    house.write(
        house.user,
        f"""\
        default = "prod"
        [clusters.prod]
        bootstrap.servers = "prod:1"
        sasl.password = "{SECRET}"
        read_only = true
        """,
    )
    for profiles in (house.load(brokers="x:1"), house.load(environ={"KAFKA_BOOTSTRAP_SERVERS": "x:1"})):
        cluster = profiles.resolve(None)
        assert (cluster.name, cluster.properties) == ("", {"bootstrap.servers": "x:1"})


def test_brokers_and_a_cluster_named_together_are_the_profile_at_another_address(house):
    house.write(house.user, '[clusters.prod]\nbootstrap.servers = "prod:1"\nacks = "1"\nread_only = true\n')
    for profiles in (
        house.load(cluster="prod", brokers="tunnel:1"),
        house.load(environ={"KPIPE_CLUSTER": "prod", "KPIPE_BROKERS": "tunnel:1"}),
    ):
        cluster = profiles.resolve(None)
        assert (cluster.name, cluster.read_only) == ("prod", True)
        assert cluster.properties == {"bootstrap.servers": "tunnel:1", "acks": "1"}
        assert profiles.resolve("prod").brokers == "prod:1"


def test_minus_x_for_both_or_one_side_beats_the_files(house):
    house.write(house.user, '[clusters.prod]\nbootstrap.servers = "p:1"\nlinger.ms = 5\nacks = "1"\n')
    profiles = house.load("queue.buffering.max.ms=7", "target.acks=all", "source.fetch.min.bytes=9", "client.id=a=b")
    target, source = profiles.resolve("prod", "target"), profiles.resolve(None, "source")
    assert target.properties == {"bootstrap.servers": "p:1", "linger.ms": "7", "acks": "all", "client.id": "a=b"}
    assert target.origins["linger.ms"] == "-X queue.buffering.max.ms"
    assert target.origins["acks"] == "-X target.acks"
    assert source.properties["fetch.min.bytes"] == "9"
    assert "acks" not in source.properties
    assert profiles.resolve("prod").properties["acks"] == "1"


def test_minus_x_can_give_one_side_its_brokers(house):
    profiles = house.load("target.bootstrap.servers=b:1", brokers="a:1")
    assert profiles.resolve(None, "source").brokers == "a:1"
    assert profiles.resolve(None, "target").brokers == "b:1"


@pytest.mark.parametrize(
    ("properties", "flags", "says"),
    [
        (["acks"], {}, "write -X NAME=VALUE"),
        (["=1"], {}, "write -X NAME=VALUE"),
        (["ack=1"], {}, "-X ack: no such property 'ack'; did you mean 'acks'?"),
        (["target.ack=1"], {}, "-X target.ack: no such property 'ack'; did you mean 'acks'?"),
        (["bootstrap.servers=b:1"], {"brokers": "a:1"}, "differ; drop one"),
        ([], {"cluster": "prod"}, "no cluster 'prod': there is no config file"),
    ],
)
def test_wrong_flags(house, properties, flags, says):
    with pytest.raises(UsageError) as caught:
        house.load(*properties, **flags)
    assert says in str(caught.value)


def test_a_password_in_minus_x_is_warned_about_and_not_repeated(house):
    profiles = house.load(f"sasl.password={SECRET}", f"source.ssl.key.password={SECRET}")
    assert [warning.partition(":")[0] for warning in profiles.warnings] == [
        "-X sasl.password",
        "-X source.ssl.key.password",
    ]
    assert SECRET not in str(profiles.warnings)
    assert SECRET not in repr(profiles.resolve(None, "source"))
    with pytest.raises(UsageError) as caught:
        house.load(f"sasl.passwrd={SECRET}")
    assert SECRET not in str(caught.value)


def test_flags_that_nothing_can_use_are_errors(house):
    house.write(house.user, '[clusters.prod]\nbootstrap.servers = "p:1"\n[clusters.dev]\nbootstrap.servers = "d:1"\n')
    profiles = house.load(brokers="x:1")
    profiles.refuse_unused([("prod", "source"), (None, "target")])
    with pytest.raises(UsageError, match="-b gives the current cluster's brokers, but prod:, dev: has its own"):
        profiles.refuse_unused([("prod", "source"), ("dev", "target")])
    with pytest.raises(UsageError, match="no source cluster"):
        house.load("source.client.id=a").refuse_unused([(None, "target")])
    with pytest.raises(UsageError, match="prod: has brokers of its own"):
        house.load("target.bootstrap.servers=b:1").resolve("prod", "target")


def test_an_unknown_cluster_names_the_nearest_and_the_file(house):
    house.write(house.user, '[clusters.staging]\nbootstrap.servers = "p:1"\n')
    with pytest.raises(UsageError) as caught:
        house.load().resolve("stagin")
    assert str(caught.value) == f"no cluster 'stagin' in {house.user}; did you mean 'staging'?"
    with pytest.raises(UsageError, match="KPIPE_CLUSTER: no cluster 'prod'"):
        house.load(environ={"KPIPE_CLUSTER": "prod"})
    house.write(house.project, 'default = "prod"\n')
    with pytest.raises(UsageError, match="no cluster 'prod' in"):
        house.load()


def test_a_cluster_without_brokers_says_where_to_add_them(house):
    house.write(house.user, '[clusters.prod]\nacks = "1"\n')
    with pytest.raises(UsageError) as caught:
        house.load().resolve("prod")
    assert str(caught.value) == f"{house.user}: cluster 'prod' has no brokers; add bootstrap.servers = \"HOST:9092\""


def test_references_replace_values_and_the_reverse(house):
    house.write(house.user, f'[clusters.dev]\nbootstrap.servers = "d:1"\nsasl.password = "{SECRET}"\n')
    environ = {"KPIPE_CLUSTER": "dev", "KPIPE_SASL_PASSWORD": "x"}
    cluster = house.load(environ=environ).resolve("dev")
    assert cluster.references == (Reference("sasl.password", SecretSource.ENV, ("KPIPE_SASL_PASSWORD",)),)
    assert "sasl.password" not in cluster.properties
    cluster = house.load("sasl.password=typed", environ=environ).resolve(None)
    assert cluster.references == ()
    assert cluster.properties["sasl.password"] == "typed"


def test_the_environment_sets_security_of_the_current_cluster(house):
    cluster = house.load(
        environ={
            "KPIPE_BROKERS": "b:1",
            "KPIPE_SECURITY_PROTOCOL": "SASL_SSL",
            "KPIPE_SASL_MECHANISM": "PLAIN",
            "KPIPE_SASL_USERNAME": "me",
            "KPIPE_SSL_CA_LOCATION": "/ca.pem",
            "KPIPE_SASL_PASSWORD_FILE": "/run/secrets/kafka",
        }
    ).resolve(None)
    assert cluster.properties == {
        "bootstrap.servers": "b:1",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "me",
        "ssl.ca.location": "/ca.pem",
    }
    assert cluster.references == (Reference("sasl.password", SecretSource.FILE, ("/run/secrets/kafka",)),)
    assert cluster.origins["sasl.password"] == "environment KPIPE_SASL_PASSWORD_FILE"


def test_a_token_command_means_oauthbearer(house):
    house.write(house.user, '[clusters.dev]\nbootstrap.servers = "d:1"\ntoken_command = ["mint", "token"]\n')
    cluster = house.load().resolve("dev")
    assert cluster.token == Reference("", SecretSource.COMMAND, ("mint", "token"))
    assert cluster.properties["sasl.mechanism"] == "OAUTHBEARER"
    assert cluster.references == ()


def test_minus_f_is_the_current_cluster(house):
    house.write(house.user, '[clusters.dev]\nbootstrap.servers = "d:1"\n')
    house.write(house.cwd / "kcat.conf", "# mine\nbootstrap.servers=k:1\ntopic.acks = 1\n")
    profiles = house.load("linger.ms=3", config_file="kcat.conf")
    cluster = profiles.resolve(None)
    assert cluster.properties == {"bootstrap.servers": "k:1", "acks": "1", "linger.ms": "3"}
    assert cluster.origins["acks"] == f"{house.cwd / 'kcat.conf'}:3"
    assert profiles.resolve("dev").properties == {"bootstrap.servers": "d:1", "linger.ms": "3"}
    assert house.load(config_file="kcat.conf", brokers="b:1").resolve(None).brokers == "b:1"


def test_minus_f_without_brokers_lies_over_the_current_cluster(house):
    house.write(house.user, 'default = "dev"\n[clusters.dev]\nbootstrap.servers = "d:1"\nacks = "1"\n')
    house.write(house.cwd / "more.conf", "acks=all\n")
    cluster = house.load(config_file="more.conf").resolve(None)
    assert cluster.properties == {"bootstrap.servers": "d:1", "acks": "all"}


def test_which_file_is_the_users(house, tmp_path):
    home = {"HOME": "/h"}
    assert user_config_path(Flags(), home, tmp_path)[0].as_posix() == "/h/.config/kpipe/config.toml"
    assert user_config_path(Flags(), home | {"XDG_CONFIG_HOME": "/x"}, tmp_path)[0].as_posix() == "/x/kpipe/config.toml"
    relative = user_config_path(Flags(), home | {"XDG_CONFIG_HOME": "x"}, tmp_path)[0]
    assert relative.as_posix() == "/h/.config/kpipe/config.toml"
    assert user_config_path(Flags(), home | {"KPIPE_CONFIG": "a.toml"}, tmp_path) == (
        tmp_path / "a.toml",
        "KPIPE_CONFIG",
    )
    assert user_config_path(Flags(), home | {"KPIPE_CONFIG": ""}, tmp_path)[0] is None
    assert user_config_path(Flags(config_path="b"), home | {"KPIPE_CONFIG": "a"}, tmp_path) == (
        tmp_path / "b",
        "--config",
    )
    assert user_config_path(Flags(), {}, tmp_path)[0] is None


def test_kpipe_config_replaces_the_users_file_and_empty_means_none(house):
    house.write(house.user, 'default = "u"\n[clusters.u]\nbootstrap.servers = "user:1"\n')
    other = house.write(house.home / "other.toml", 'default = "o"\n[clusters.o]\nbootstrap.servers = "other:1"\n')
    profiles = house.load(environ={"KPIPE_CONFIG": str(other)})
    assert (profiles.names, profiles.current) == (["o"], "o")
    assert house.load(environ={"KPIPE_CONFIG": ""}).resolve(None).brokers == "localhost:9092"


@pytest.mark.parametrize("flags", [{"config_path": "no.toml"}, {"environ": {"KPIPE_CONFIG": "no.toml"}}])
def test_a_named_file_must_exist(house, flags):
    with pytest.raises(UsageError, match=r"no.toml: (--config|KPIPE_CONFIG): no such file"):
        house.load(**flags)


def test_a_file_that_cannot_be_read_is_an_error(house):
    house.user.mkdir()
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        house.load()


def test_a_secret_in_a_file_that_others_read_is_warned_about(house):
    house.write(house.user, f'[clusters.dev]\nbootstrap.servers = "d:1"\nsasl.password = "{SECRET}"\n')
    assert house.load().warnings == []
    house.user.chmod(0o644)
    (warning,) = house.load().warnings
    assert f"chmod 600 {house.user}" in warning
    house.write(house.user, '[clusters.dev]\nbootstrap.servers = "d:1"\npassword_env = "P"\n').chmod(0o644)
    assert house.load().warnings == []


def test_a_file_of_ones_own_that_everybody_may_change_is_warned_about(house):
    house.write(house.user, '[clusters.dev]\nbootstrap.servers = "d:1"\n').chmod(0o664)
    assert house.load().warnings == []
    house.user.chmod(0o646)
    (warning,) = house.load().warnings
    assert "others may write to it (mode 0646), and it may run commands" in warning


def test_what_holds_secrets_does_not_show_them(house):
    house.write(house.user, f'[clusters.dev]\nbootstrap.servers = "d:1"\nsasl.password = "{SECRET}"\n')
    profiles = house.load()
    assert profiles.resolve("dev").properties["sasl.password"] == SECRET
    assert SECRET not in repr(profiles.resolve("dev"))
    assert SECRET not in repr(profiles.files)


def test_loading_does_not_look_at_the_real_environment(house, monkeypatch):
    monkeypatch.setenv("KPIPE_BROKERS", "real:1")
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "real:1")
    assert os.environ["KPIPE_BROKERS"] == "real:1"
    assert house.load().resolve(None).brokers == "localhost:9092"
