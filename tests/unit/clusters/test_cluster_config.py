from __future__ import annotations

import stat
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpipe.clusters.config import STARTER, ShownSetting, _quote, import_files, init, paths, show
from kpipe.clusters.configfile import read_config
from kpipe.clusters.profiles import Flags, load_profiles
from kpipe.clusters.secrets import MASK
from kpipe.errors import UsageError

SECRET = "s3cr3t-VALUE"


def write(path, text):
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_show_tells_what_is_in_force_and_from_where_without_secrets(tmp_path):
    config = write(
        tmp_path / "c.toml",
        f"""\
[clusters.prod]
bootstrap.servers = "p:1"
ssl.key.password = "{SECRET}"
password_command = ["vault", "-token={SECRET}"]
token_command = ["mint", "{SECRET}"]
read_only = true
""",
    )
    environ = {"KPIPE_CONFIG": str(config), "KPIPE_CLUSTER": "prod", "KPIPE_SASL_USERNAME": "me"}
    rows = show(load_profiles(Flags(properties=["acks=1"]), environ, tmp_path))
    assert rows == [
        ShownSetting("prod", "acks", "1", "-X acks"),
        ShownSetting("prod", "bootstrap.servers", "p:1", f"{config}:2"),
        ShownSetting("prod", "read_only", "true", f"{config}:6"),
        ShownSetting("prod", "sasl.mechanism", "OAUTHBEARER", f"{config}:5"),
        ShownSetting("prod", "sasl.password", "(from command vault)", f"{config}:4"),
        ShownSetting("prod", "sasl.username", "me", "environment KPIPE_SASL_USERNAME"),
        ShownSetting("prod", "ssl.key.password", MASK, f"{config}:3"),
        ShownSetting("prod", "token", "(from command mint)", f"{config}:5"),
    ]
    assert SECRET not in str(rows)


def test_init_writes_a_private_file_that_is_valid(tmp_path):
    path = tmp_path / "config" / "kpipe" / "config.toml"
    init(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.read_text() == STARTER
    environ = {"KPIPE_CONFIG": str(path)}
    assert load_profiles(Flags(), environ, tmp_path).resolve(None).brokers == "localhost:9092"


def test_the_examples_of_the_starter_are_valid(tmp_path):
    before, _, after = STARTER.partition("# [clusters.prod]")
    example = "\n".join(line.removeprefix("# ") for line in f"# [clusters.prod]{after}".splitlines())
    file = read_config(write(tmp_path / "c.toml", before + example), home=None)
    prod = file.clusters["prod"]
    assert prod.read_only
    assert "sasl.password" in prod.references
    assert prod.settings["ssl.ca.location"].value == str(tmp_path / "prod-ca.pem")


def test_init_never_overwrites_not_even_through_a_link(tmp_path):
    path = write(tmp_path / "config.toml", "mine")
    with pytest.raises(UsageError, match="exists already"):
        init(path)
    assert path.read_text() == "mine"
    link = tmp_path / "link.toml"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="exists already"):
        init(link)
    with pytest.raises(UsageError, match="cannot be written: Not a directory"):
        init(path / "below" / "config.toml")


def test_paths(tmp_path):
    write(tmp_path / "kpipe.toml", "")
    assert paths(Flags(), {"HOME": str(tmp_path)}, tmp_path) == [
        ("project", tmp_path / "kpipe.toml", "exists"),
        ("user", tmp_path / ".config/kpipe/config.toml", "absent"),
    ]
    assert paths(Flags(), {"KPIPE_CONFIG": ""}, tmp_path) == [("project", tmp_path / "kpipe.toml", "exists")]


def test_an_import_copies_no_secret_and_is_valid_configuration(tmp_path):
    kcat = write(
        tmp_path / "my kcat.conf",
        f"bootstrap.servers=k:1\nsasl.username=me\nsasl.password={SECRET}\nssl.key.pem={SECRET}\nssl.ca.location=ca.pem\n",
    )
    java = write(
        tmp_path / "prod.properties",
        "bootstrap.servers=j:1\n"
        f'sasl.jaas.config=PlainLoginModule required username=u password="{SECRET}";\n'
        "key.serializer=x\n",
    )
    (tmp_path / "other").mkdir()
    same = write(tmp_path / "other" / "prod.properties", 'bootstrap.servers=o:1\nclient.id=a"b\\u0009\\u007f\n')
    text, notes, _ = import_files([kcat, java, same])
    assert SECRET not in text + str(notes)
    config = write(tmp_path / "config.toml", text)
    profiles = load_profiles(Flags(), {"KPIPE_CONFIG": str(config)}, tmp_path)
    assert profiles.names == ["my-kcat", "prod", "prod-2"]
    assert profiles.resolve("prod").properties == {"bootstrap.servers": "j:1", "sasl.username": "u"}
    assert profiles.resolve("prod").references[0].target == ("KPIPE_PROD_PASSWORD",)
    assert profiles.resolve("prod-2").properties == {"bootstrap.servers": "o:1", "client.id": 'a"b\t\x7f'}
    assert [note.removeprefix(f"{tmp_path}/") for note in notes] == [
        "my kcat.conf: 'my kcat' is called 'my-kcat' here",
        "my kcat.conf: my-kcat: sasl.password was not copied; set KPIPE_MY_KCAT_PASSWORD, or use password_command",
        "my kcat.conf: my-kcat: ssl.key.pem was not copied; set KPIPE_MY_KCAT_KEY_PEM, or use key_pem_command",
        f'my kcat.conf: my-kcat: ssl.ca.location = "{Path("ca.pem").absolute()}": there is no such file here; correct the path',
        "prod.properties: left out what librdkafka does not have: key.serializer",
        "prod.properties: prod: sasl.password was not copied; set KPIPE_PROD_PASSWORD, or use password_command",
        "other/prod.properties: 'prod' is called 'prod-2' here",
    ]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_text_survives_toml(text):
    assert tomllib.loads(f"a = {_quote(text)}")["a"] == text


def test_importing_a_missing_file_names_it():
    text, _, (fault,) = import_files([Path("/no/such/file")])
    assert text == ""
    assert "/no/such/file" in str(fault)
