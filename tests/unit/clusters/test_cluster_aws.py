"""Amazon MSK with IAM: a stub stands for the signer's package, which must not be imported before it is needed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kpipe.clusters.configfile import read_config
from kpipe.clusters.foreign import read_client_file, read_foreign
from kpipe.clusters.profiles import Flags, load_profiles
from kpipe.clusters.secrets import Reference, SecretSource, fetch_token
from kpipe.errors import UsageError

BROKER = "b-1.demo.abc.c2.kafka.eu-west-1.amazonaws.com:9098"
STUB = """
def generate_auth_token(region, aws_debug_creds=False):
    return f"signed-{region}", 1_900_000_000_123

def generate_auth_token_from_profile(region, aws_profile):
    if aws_profile == "expired":
        raise RuntimeError("AKIASECRET")
    return f"signed-{region}-{aws_profile}", 1_900_000_000_123
"""


@pytest.fixture
def signer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "aws_msk_iam_sasl_signer"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "MSKAuthTokenProvider.py").write_text(STUB)
    monkeypatch.syspath_prepend(str(package.parent))
    for name in [name for name in sys.modules if name.startswith("aws_msk_iam")]:
        monkeypatch.delitem(sys.modules, name)


def profile(tmp_path: Path, text: str):
    file = tmp_path / "config.toml"
    file.write_text(f'[clusters.msk]\nbootstrap.servers = "{BROKER}"\n{text}')
    return load_profiles(Flags(config_path=str(file)), {}, tmp_path).resolve("msk")


def test_a_region_in_a_profile_is_enough(tmp_path: Path, signer: None) -> None:
    cluster = profile(tmp_path, 'aws_region = "eu-west-1"\n')

    assert cluster.properties["sasl.mechanism"] == "OAUTHBEARER"
    assert cluster.properties["security.protocol"] == "SASL_SSL"
    assert cluster.token is not None
    token = fetch_token(cluster.token, {}, 0.0, where="msk")
    assert (token.value, token.expires_s) == ("signed-eu-west-1", 1_900_000_000.123)  # the signer tells milliseconds
    assert "signed" not in repr(token)


def test_a_profile_of_the_sdk(tmp_path: Path, signer: None) -> None:
    cluster = profile(tmp_path, 'aws_region = "eu-west-1"\naws_profile = "ops"\n')
    assert cluster.token is not None
    assert fetch_token(cluster.token, {}, 0.0, where="msk").value == "signed-eu-west-1-ops"


def test_an_sdk_without_credentials_says_so_and_tells_nothing_else(signer: None) -> None:
    with pytest.raises(UsageError, match="AWS SDK gave no credentials") as caught:
        fetch_token(Reference("", SecretSource.AWS, ("eu-west-1", "expired")), {}, 0.0, where="msk")
    assert "AKIA" not in str(caught.value)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aws_msk_iam_sasl_signer", None)
    monkeypatch.setitem(sys.modules, "aws_msk_iam_sasl_signer.MSKAuthTokenProvider", None)
    with pytest.raises(UsageError, match=r"pip install 'kpipe-cli\[aws\]'"):
        fetch_token(Reference("", SecretSource.AWS, ("eu-west-1", "")), {}, 0.0, where="msk")


def test_a_region_and_a_token_command_are_one_too_many(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[clusters.x]\ntoken_command = ["t"]\naws_region = "eu-west-1"\n')
    with pytest.raises(UsageError, match=r"config.toml:3: .*keep one"):
        read_config(file, home=None)


def test_a_java_file_of_amazon_works_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "client.properties"
    file.write_text(
        f"bootstrap.servers={BROKER}\nsecurity.protocol=SASL_SSL\nsasl.mechanism=AWS_MSK_IAM\n"
        'sasl.jaas.config=software.amazon.msk.auth.iam.IAMLoginModule required awsProfileName="ops";\n'
        "sasl.client.callback.handler.class=software.amazon.msk.auth.iam.IAMClientCallbackHandler\n"
    )
    file.chmod(0o600)

    table, notes = read_client_file(file)
    cluster = load_profiles(Flags(config_file=str(file)), {}, tmp_path).resolve(None)

    assert notes == []
    assert table.references[""][0] == Reference("", SecretSource.AWS, ("eu-west-1", "ops"))
    assert cluster.properties["sasl.mechanism"] == "OAUTHBEARER"
    assert read_foreign(file).clusters["client"]["aws_region"] == "eu-west-1"
