from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpipe.clusters.configfile import MAX_BYTES, OWN_KEYS, SECRET_KEYS, read_config
from kpipe.clusters.secrets import Reference, SecretSource
from kpipe.errors import UsageError


@pytest.fixture
def read(tmp_path):
    def read(text):
        path = tmp_path / "config.toml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return read_config(path, home=Path("/home/me"))

    return read


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("default = 1", "config.toml:1: default is the name of a cluster"),
        ("\ndefalt = 'x'", "config.toml:2: no such key 'defalt'; did you mean 'default'?"),
        ("\n\n[cluster.x]\nacks=1", "config.toml:3: no such key 'cluster'; did you mean 'clusters'?"),
        ("clusters = 1", "config.toml:1: clusters is a table"),
        ("[clusters]\nprod = 'a:1'", "config.toml:2: clusters.prod is a table; write [clusters.prod]"),
        ("[clusters.'a:b']\nacks=1", "config.toml:1: 'a:b' cannot name a cluster"),
        (
            "[clusters.x]\nacks=1\nread_olny=true",
            "config.toml:3: no such property 'read_olny'; did you mean 'read_only'?",
        ),
        (
            "[clusters.x]\npasword_command=['a']",
            "config.toml:2: no such property 'pasword_command'; did you mean 'password_command'?",
        ),
        (
            "[clusters.x]\nssl.ca.loction='a'",
            "config.toml:2: no such property 'ssl.ca.loction'; did you mean 'ssl.ca.location'?",
        ),
        ("[clusters.x.ssl]\n'ca.loction'='a'", "config.toml:2: no such property 'ssl.ca.loction'"),
        ("[clusters.x]\nread_only='true'", "config.toml:2: read_only: expected bool, got str"),
        ("[clusters.x]\nread_only=1", "config.toml:2: read_only: expected bool, got int"),
        ("[clusters.x]\npassword_env=7", "config.toml:2: password_env: expected str, got int"),
        ("[clusters.x]\npassword_command=['a', 1]", "config.toml:2: password_command: expected str, got int"),
        ("[clusters.x]\npassword_command='pass kafka'", 'config.toml:2: a command is a list, as ["pass"'),
        ("[clusters.x]\npassword_command=[]", "config.toml:2: the command is empty"),
        ("[clusters.x]\npassword_file=''", "config.toml:2: the file is empty"),
        (
            "[clusters.x]\npassword_env='A'\npassword_file='b'",
            "config.toml:3: password_file: sasl.password is already given",
        ),
        (
            "[clusters.x]\npassword_env='A'\nsasl.password='b'",
            "config.toml:2: password_env: sasl.password is already given",
        ),
        ("[clusters.x]\nacks=1\nrequest.required.acks=1", "config.toml:3: request.required.acks and acks are the same"),
        ("[clusters.x]\nacks=2025-01-01", "config.toml:2: acks: date is no value"),
        ("[clusters.x]\nacks=[]", "config.toml:2: acks: list is no value"),
        ("[clusters.x]\nacks=[[1]]", "config.toml:2: acks: list is no value"),
        ("a = 1\nb = \n", "config.toml:2: not TOML: invalid value"),
        ("a = 1\na = 2\n", "config.toml:2: not TOML: cannot overwrite a value"),
        ("a = 1\nb = [1,\n", "config.toml:3: not TOML:"),
        (b"a = 1\nb = '\xff'\n", "config.toml:2: is not UTF-8"),
        ("a = " + "[" * 100_000, "config.toml: is nested too deep"),
        ("#" * (MAX_BYTES + 1), f"config.toml: is larger than {MAX_BYTES} bytes"),
    ],
)
def test_an_error_names_file_line_and_nearest_match(read, text, says):
    with pytest.raises(UsageError) as caught:
        read(text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_without_end_is_refused():
    with pytest.raises(UsageError, match="larger than"):
        read_config(Path("/dev/zero"), home=None)


def test_every_secret_key_becomes_a_reference(read, tmp_path):
    for prefix, filled in SECRET_KEYS.items():
        for source, value, target in (
            (SecretSource.COMMAND, '["a", "b c"]', ("a", "b c")),
            (SecretSource.FILE, '"s/x"', (str(tmp_path / "s/x"),)),
            (SecretSource.ENV, '"NAME"', ("NAME",)),
            (SecretSource.KEYRING, '"service/me"', ("service/me",)),
            (SecretSource.PLUGIN, '"name:text"', ("name:text",)),
        ):
            table = read(f"[clusters.x]\n{prefix}_{source} = {value}\n").clusters["x"]
            assert [reference for reference, _ in table.references.values()] == [Reference(filled, source, target)]
    assert len(OWN_KEYS) == 10 + len(SECRET_KEYS) * (len(SecretSource) - 1)  # all but AWS, which has keys of its own


def test_a_string_command_needs_shell(read):
    table = read('[clusters.x]\nshell = true\npassword_command = "pass kafka | head -1"\n').clusters["x"]
    assert table.references["sasl.password"][0] == Reference(
        "sasl.password", SecretSource.COMMAND, ("pass kafka | head -1",), shell=True
    )
    table = read('[clusters.x]\nshell = true\npassword_command = ["pass"]\n').clusters["x"]
    assert not table.references["sasl.password"][0].shell


@pytest.mark.parametrize(
    ("written", "path"),
    [("/etc/ca.pem", "/etc/ca.pem"), ("~/ca.pem", "/home/me/ca.pem"), ("probe", "probe"), ("", "")],
)
def test_paths(read, written, path):
    table = read(f'[clusters.x]\nssl.ca.location = "{written}"\nclient.id = "ca.pem"\n').clusters["x"]
    assert table.settings["ssl.ca.location"].value == path
    assert table.settings["client.id"].value == "ca.pem"


def test_a_relative_path_starts_at_the_file(read, tmp_path):
    table = read('[clusters.x]\nssl.ca.location = "tls/ca.pem"\n').clusters["x"]
    assert table.settings["ssl.ca.location"].value == str(tmp_path / "tls/ca.pem")


def test_lines_are_found_in_every_way_to_write_a_key(read):
    file = read(
        "# head\n"
        'default = "x"\n'
        "\n"
        '[ clusters . "x" ] # comment\n'
        '  "client.id" = "a"\n'
        "bootstrap . servers = 'b:1'\n"
        "clusters.y = 1\n".replace("clusters.y = 1\n", "")
        + "[clusters.x.'ssl']\n"
        "ca.pem = '''\n"
        "acks = text inside\n"
        "'''\n"
        "[clusters.z]\n"
        "acks = 1\n"
    )
    lines = {name: setting.origin.rpartition(":")[2] for name, setting in file.clusters["x"].settings.items()}
    assert lines == {"client.id": "5", "bootstrap.servers": "6", "ssl.ca.pem": "8"}
    assert file.clusters["z"].settings["acks"].origin.endswith(":12")


def test_a_byte_order_mark_is_no_error(read):
    assert read("\ufeffdefault = 'x'\n").default == "x"


@given(st.text(alphabet="[]{}=\"'.,#ab1 \n\\", max_size=60))
def test_any_text_is_read_or_a_usage_error(text):
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        path = Path(folder, "c.toml")
        path.write_text("[clusters.a]\n" + text)
        with suppress(UsageError):
            assert read_config(path, home=None).path == path
