"""Files of other tools as they are in real life: understood, left out with a note that names it, or refused."""

from __future__ import annotations

import sys

import pytest

from kpipe.clusters.config import import_files
from kpipe.clusters.foreign import find_foreign
from kpipe.clusters.profiles import Flags, load_profiles
from kpipe.clusters.properties import REFUSED_PROPERTIES
from kpipe.errors import UsageError

SECRET = "s3cr3t-VALUE"
PEM = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"
MSK = "b-1.msk.x.c2.kafka.eu-west-1.amazonaws.com:9098"
APPLICATION = (
    "group.id", "auto.offset.reset", "enable.auto.commit", "buffer.memory", "max.request.size",
    "default.api.timeout.ms", "interceptor.classes", "partitioner.class", "send.buffer.bytes", "metric.reporters",
    "group.instance.id", "transactional.id", "basic.auth.user.info", "max.block.ms",
)  # fmt: skip
NAMES = ("client.properties", "client.config", "client.conf", "client")


@pytest.fixture
def read(client_file):
    """Read a client file, and give its table, properties and notes."""

    def read(text, name="client.properties"):
        table, notes = client_file(text, name)
        return table, {key: setting.value for key, setting in table.settings.items()}, notes

    return read


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", APPLICATION)
def test_what_an_application_says_of_itself_is_left_out_by_name(read, name, key):
    _, properties, notes = read(f"bootstrap.servers=a:1\nlinger.ms=7\n{key}=x\n", name)
    assert properties == {"bootstrap.servers": "a:1", "linger.ms": "7"}
    (note,) = notes
    assert key in note
    assert "left out" in note


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_application_in_one_note(read, name):
    text = "".join(f"{key}=x\n" for key in APPLICATION)
    _, properties, notes = read(f"bootstrap.servers=a:1\n{text}", name)
    assert properties == {"bootstrap.servers": "a:1"}
    (note,) = notes
    assert all(key in note for key in APPLICATION)


def test_kafkas_own_sample_is_understood(read):
    _, properties, _ = read(
        """\
        # list of brokers used for bootstrapping knowledge about the rest of the cluster
        bootstrap.servers=localhost:9092
        # consumer group id
        group.id=test-consumer-group
        #auto.offset.reset=
        """,
        "consumer.properties",
    )
    assert properties == {"bootstrap.servers": "localhost:9092"}


def test_no_property_that_kpipe_refuses_comes_out_of_a_file(read):
    for name in NAMES:
        _, properties, _ = read("".join(f"{key}=1\n" for key in REFUSED_PROPERTIES), name)
        assert properties == {}


def test_java_trims_what_it_reads(read):
    _, properties, _ = read(
        f"security.protocol = SASL_PLAINTEXT  \nsasl.mechanism=PLAIN\t\n"
        f'sasl.jaas.config=PlainLoginModule required username="u" password="{SECRET}";  \n'
    )
    assert properties == {
        "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN",
        "sasl.username": "u", "sasl.password": SECRET,
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("prefix", ["", "schema.registry."])
def test_a_schema_registry_and_its_login_are_understood(read, name, prefix):
    _, properties, notes = read(
        f"bootstrap.servers=a:1\nschema.registry.url=https://r\n{prefix}basic.auth.credentials.source=USER_INFO\n"
        f"{prefix}basic.auth.user.info=me:{SECRET}\n",
        name,
    )
    assert properties == {
        "bootstrap.servers": "a:1", "schema.registry.url": "https://r",
        "schema.registry.username": "me", "schema.registry.password": SECRET,
    }  # fmt: skip
    assert notes == []
    _, properties, notes = read("schema.registry.url=https://r\nbasic.auth.credentials.source=SASL_INHERIT\n", name)
    assert properties == {"schema.registry.url": "https://r"}
    assert "basic.auth.credentials.source" in notes[0]


STRIMZI = """\
security.protocol=SASL_SSL
sasl.mechanism=OAUTHBEARER
sasl.login.callback.handler.class=io.strimzi.kafka.oauth.client.JaasClientOauthLoginCallbackHandler
"""
CLIENT = f'oauth.client.id="me" oauth.client.secret="{SECRET}" oauth.token.endpoint.uri="https://idp/token"'
LOGIN = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required"
OIDC = {
    "security.protocol": "SASL_SSL",
    "sasl.mechanism": "OAUTHBEARER",
    "sasl.oauthbearer.method": "oidc",
    "sasl.oauthbearer.client.id": "me",
    "sasl.oauthbearer.client.secret": SECRET,
    "sasl.oauthbearer.token.endpoint.url": "https://idp/token",
}


@pytest.mark.parametrize("name", NAMES)
def test_strimzis_oauth_is_a_login(read, tmp_path, name):
    (tmp_path / "ca.pem").write_text(PEM)
    _, properties, notes = read(
        f"{STRIMZI}sasl.jaas.config={LOGIN} {CLIENT} oauth.scope=kafka oauth.username.claim=sub "
        f'oauth.ssl.truststore.location="{tmp_path}/ca.pem" oauth.ssl.truststore.type=PEM;\n',
        name,
    )
    assert properties == OIDC | {"sasl.oauthbearer.scope": "kafka", "https.ca.location": f"{tmp_path}/ca.pem"}
    (note,) = notes
    assert "oauth.username.claim" in note


def test_strimzis_oauth_as_keys_of_the_file(read):
    _, properties, _ = read(
        f"{STRIMZI}sasl.jaas.config={LOGIN} ;\n" + CLIENT.replace('"', "").replace(" ", "\n") + "\n"
    )
    assert properties == OIDC


@pytest.mark.parametrize(
    "options",
    [
        'oauth.client.id="me" oauth.token.endpoint.uri="https://idp/token"',
        'oauth.client.id="me" oauth.client.secret="x"',
        'oauth.refresh.token="x" oauth.client.id="me" oauth.token.endpoint.uri="https://idp/token"',
        'oauth.access.token="x"',
        f'{CLIENT} oauth.audience="kafka"',
        f'{CLIENT} oauth.client.assertion.location="/x"',
        'unsecuredLoginStringClaim_sub="me"',
        "",
    ],
)
def test_half_an_oauth_login_is_refused(read, options):
    with pytest.raises(UsageError, match="token_command"):
        read(f"{STRIMZI}sasl.jaas.config={LOGIN} {options};\n")


def test_a_login_by_a_class_that_only_java_has_is_refused(read):
    text = "sasl.mechanism=OAUTHBEARER\nsasl.login.callback.handler.class=com.example.GcpLoginCallbackHandler\n"
    with pytest.raises(UsageError, match=r"client.conf:2: only Java has the class com\.example\.Gcp.*token_command"):
        read(text, "client.conf")


@pytest.mark.parametrize(
    "mechanism",
    [
        "sasl.mechanism=AWS_MSK_IAM \nsasl.client.callback.handler.class=software.amazon.msk.auth.iam.IAMClientCallbackHandler",
        "sasl.mechanism=OAUTHBEARER\n"
        "sasl.login.callback.handler.class=software.amazon.msk.auth.iam.IAMOAuthBearerLoginCallbackHandler",
    ],
)
@pytest.mark.parametrize(
    ("options", "target"),
    [
        ("", ("eu-west-1", "")),
        ('awsProfileName="ops"', ("eu-west-1", "ops")),
        ('awsRoleArn="arn:aws:iam::1:role/x"', ("eu-west-1", "", "arn:aws:iam::1:role/x", "")),
        (
            'awsRoleArn="arn:aws:iam::1:role/x" awsRoleSessionName="me" awsDebugCreds=true',
            ("eu-west-1", "", "arn:aws:iam::1:role/x", "me"),
        ),
    ],
)
def test_amazons_login_and_its_role(read, mechanism, options, target):
    text = f"bootstrap.servers={MSK}\n{mechanism}\nsasl.jaas.config=software.amazon.msk.auth.iam.IAMLoginModule required {options};\n"
    table, properties, notes = read(text)
    assert table.references[""][0].target == target
    assert "sasl.mechanism" not in properties
    assert ("awsDebugCreds" in str(notes)) == ("awsDebugCreds" in options)


def test_a_part_of_amazons_login_that_is_not_understood_is_refused(read):
    with pytest.raises(UsageError, match="awsRoleExternalId is not understood"):
        read(f'bootstrap.servers={MSK}\nsasl.mechanism=AWS_MSK_IAM\nsasl.jaas.config=IAMLoginModule required awsRoleArn="a" '
             'awsRoleExternalId="x";\n')  # fmt: skip


def test_javas_own_authorities_are_the_systems(read):
    _, properties, notes = read(
        "ssl.truststore.location=/usr/lib/jvm/java-17/lib/security/cacerts\nssl.truststore.password=changeit\n"
    )
    assert properties == {"ssl.ca.location": "probe"}
    assert "the system's is used" in notes[0]


def test_a_role_in_a_profile(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text(f'[clusters.m]\nbootstrap.servers = "{MSK}"\naws_region = "eu-west-1"\naws_role_arn = "arn:x"\n')
    cluster = load_profiles(Flags(config_path=str(file)), {}, tmp_path).resolve("m")
    assert cluster.token is not None
    assert cluster.token.target == ("eu-west-1", "", "arn:x", "")
    file.write_text(file.read_text() + 'aws_profile = "p"\n')
    with pytest.raises(UsageError, match="two logins"):
        load_profiles(Flags(config_path=str(file)), {}, tmp_path)


# --- imports -----------------------------------------------------------------------------------------------------


def imported(tmp_path, *files):
    """The clusters of what an import prints, read by kpipe itself, and the notes."""
    text, notes, faults = import_files(files)
    assert SECRET not in text + str(notes)
    config = tmp_path / "imported.toml"
    config.write_text(text)
    profiles = load_profiles(Flags(config_path=str(config)), {}, tmp_path)
    return {name: profiles.resolve(name) for name in profiles.names}, notes, faults


def test_an_import_of_an_application_works(tmp_path):
    file = tmp_path / "app.conf"
    file.write_text("bootstrap.servers=a:1\ngroup.id=g\nenable.auto.commit=false\nschema.registry.url=http://r\n")
    clusters, notes, _ = imported(tmp_path, file)
    assert clusters["app"].properties == {"bootstrap.servers": "a:1"}
    assert "group.id" in str(notes)


KAF = f"""\
current-cluster: msk
clusters:
- name: msk
  brokers: ["{MSK}"]
  SASL: {{mechanism: AWS_MSK_IAM}}
  TLS: {{}}
- name: nowhere
  brokers: ["b:9098"]
  SASL: {{mechanism: AWS_MSK_IAM}}
- name: token
  brokers: ["t:1"]
  SASL: {{mechanism: OAUTHBEARER, token: {SECRET}}}
- name: half
  brokers: ["h:1"]
  SASL: {{mechanism: SCRAM-SHA-256, username: me}}
"""
KAFKACTL = f"""\
contexts:
  default:
    brokers: ["k:9092 ", "l:9092"]
  prod:
    brokers: p:9093
    tls: {{enabled: true, ca: /ca.pem, cert: /c.pem, certKey: /k.pem}}
    sasl: {{enabled: true, username: me, password: {SECRET}, mechanism: scram-sha512}}
    clientID: mine
  idle:
    brokers: [o:1]
    tls: {{enabled: false, ca: /ca.pem}}
    sasl: {{enabled: false, username: me, password: {SECRET}}}
  plugin:
    brokers: [q:1]
    sasl: {{enabled: true, mechanism: oauth, tokenprovider: {{plugin: azure}}}}
current-context: prod
"""


def test_an_import_of_kaf_keeps_whole_logins_only(tmp_path):
    file = tmp_path / "kaf"
    file.write_text(KAF)
    clusters, notes, _ = imported(tmp_path, file)
    assert clusters.keys() == {"msk", "token"}
    assert clusters["msk"].token.target == ("eu-west-1", "")
    assert clusters["token"].token.target == ("KPIPE_TOKEN_TOKEN",)
    assert clusters["token"].properties["sasl.mechanism"] == "OAUTHBEARER"
    assert "'nowhere': left out" in str(notes)
    assert "'half': left out" in str(notes)


def test_an_import_of_kafkactl(tmp_path):
    file = tmp_path / "config.yml"
    file.write_text(KAFKACTL)
    clusters, notes, _ = imported(tmp_path, file)
    assert clusters.keys() == {"default", "prod", "idle"}
    assert clusters["default"].brokers == "k:9092,l:9092"
    assert clusters["prod"].properties == {
        "bootstrap.servers": "p:9093", "security.protocol": "SASL_SSL", "ssl.ca.location": "/ca.pem",
        "ssl.certificate.location": "/c.pem", "ssl.key.location": "/k.pem", "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "me", "client.id": "mine",
    }  # fmt: skip
    assert clusters["prod"].references[0].target == ("KPIPE_PROD_PASSWORD",)
    assert clusters["idle"].properties == {"bootstrap.servers": "o:1", "security.protocol": "PLAINTEXT"}
    assert "'plugin': left out" in str(notes)


def test_kafkactls_file_is_found(tmp_path):
    file = tmp_path / ".config" / "kafkactl" / "config.yml"
    file.parent.mkdir(parents=True)
    file.write_text(KAFKACTL)
    assert find_foreign({"HOME": str(tmp_path)}) == [file]


def test_one_file_that_cannot_be_read_does_not_lose_the_others(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    kaf, kcat = tmp_path / "kaf", tmp_path / "kcat.conf"
    kaf.write_text(KAF)
    kcat.write_text("bootstrap.servers=k:1\n")
    clusters, _, faults = imported(tmp_path, kaf, kcat)
    assert clusters.keys() == {"kcat"}
    assert "PyYAML" in str(faults[0])


def test_paths_of_an_import_do_not_depend_on_where_kpipe_runs(tmp_path):
    (tmp_path / "ca.pem").write_text(PEM)
    file = tmp_path / "k.conf"
    file.write_text("bootstrap.servers=k:1\nssl.ca.location=ca.pem\n")
    clusters, notes, _ = imported(tmp_path, file)
    assert clusters["k"].properties["ssl.ca.location"] == str(tmp_path / "ca.pem")
    assert notes == []
