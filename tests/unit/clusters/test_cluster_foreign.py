from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpipe.clusters.foreign import find_foreign, read_client_file, read_foreign
from kpipe.clusters.java import parse_properties
from kpipe.errors import UsageError

SECRET = "s3cr3t-VALUE"
PEM = b"-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"
PKCS12 = b"0\x82\x01\x00\x02\x01\x03"
JKS = b"\xfe\xed\xfe\xed\x00\x00\x00\x02"


@pytest.fixture
def read(client_file):
    """Read a client file, and give its properties and notes."""

    def read(text, name="client.properties"):
        table, notes = client_file(text, name)
        return {key: setting.value for key, setting in table.settings.items()}, notes

    return read


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("a=b", "a", "b"),
        ("a = b ", "a", "b "),
        ("a:b=c", "a", "b=c"),
        ("a b c", "a", "b c"),
        ("a", "a", ""),
        ("a=", "a", ""),
        ("  a\t:\tb", "a", "b"),
        (r"a\=b\:c\ d=e", "a=b:c d", "e"),
        (r"a=\u0041\t\q\\", "a", "A\tq\\"),
        (r"a=\ud83d\ude00", "a", "😀"),
        ("a=b\\\n   c", "a", "bc"),
        ("a=b\\\\\nc=d", "a", "b\\"),
        ("a=b\\\n#c", "a", "b#c"),
        ("a=b\\", "a", "b"),
    ],
)
def test_javas_format(line, key, value):
    entries = parse_properties(f"# comment\n! comment\n\n{line}\n", Path("f"))
    assert entries[key].value == value
    assert entries[key].origin == "f:4"


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=12), max_size=5))
def test_what_java_would_store_is_read_back(properties):
    def escape(text):  # as java.util.Properties.store may write it: every UTF-16 unit as \uXXXX
        units = text.encode("utf-16-be", "surrogatepass")
        return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))

    text = "".join(f"{escape(key)}={escape(value)}\n" for key, value in properties.items())
    assert {key: setting.value for key, setting in parse_properties(text, Path("f")).items()} == properties


def test_scram_over_tls(read, tmp_path):
    (tmp_path / "ca.pem").write_bytes(PEM)
    properties, notes = read(
        f"""\
        bootstrap.servers=a:1,b:2
        security.protocol=SASL_SSL
        sasl.mechanism=SCRAM-SHA-512
        sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \\
            username="al\\\\"ice" \\
            password="{SECRET};=";
        ssl.truststore.location={tmp_path}/ca.pem
        ssl.truststore.type=PEM
        ssl.endpoint.identification.algorithm=
        key.serializer=org.apache.kafka.common.serialization.StringSerializer
        auto.offset.reset=earliest
        request.required.acks=all
        """
    )
    assert properties == {
        "bootstrap.servers": "a:1,b:2",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": 'al"ice',
        "sasl.password": f"{SECRET};=",
        "ssl.ca.location": f"{tmp_path}/ca.pem",
        "ssl.endpoint.identification.algorithm": "none",
        "acks": "all",
    }
    (note,) = notes
    assert note.startswith(f"{tmp_path}/client.properties: left out")
    assert "key.serializer; what kpipe does by itself or cannot take over: auto.offset.reset" in note
    assert "say where to start with -o" in note
    assert SECRET not in note


@pytest.mark.parametrize(
    "login",
    [
        'org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="p";',
        "PlainLoginModule required username=u password=p;",
        "PlainLoginModule required password='p' username='u' ;",
    ],
)
def test_login_lines(read, login):
    properties, _ = read(f"sasl.jaas.config={login}\n", name="x.conf")
    assert properties == {"sasl.username": "u", "sasl.password": "p"}


def test_an_oauthbearer_login_is_oidc(read):
    properties, notes = read(
        f"""\
        sasl.mechanism=OAUTHBEARER
        sasl.login.callback.handler.class=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler
        sasl.oauthbearer.token.endpoint.url=https://idp/token
        sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required \\
          clientId="me" clientSecret="{SECRET}" scope="kafka" extension_logicalCluster="lkc-1" extension_pool="p";
        """
    )
    assert properties == {
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.token.endpoint.url": "https://idp/token",
        "sasl.oauthbearer.client.id": "me",
        "sasl.oauthbearer.client.secret": SECRET,
        "sasl.oauthbearer.scope": "kafka",
        "sasl.oauthbearer.extensions": "logicalCluster=lkc-1,pool=p",
    }
    assert notes == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sasl.mechanism=AWS_MSK_IAM", "client.properties:1: AWS_MSK_IAM: the brokers' names do not tell the region"),
        (
            "sasl.jaas.config=com.sun.security.auth.module.Krb5LoginModule required;",
            "GSSAPI (Kerberos) is not in the wheels of confluent-kafka",
        ),
        ("sasl.jaas.config=", "empty is not known"),
        ("sasl.jaas.config=PlainLoginModule required username=u;", "no username and password"),
        ('sasl.jaas.config=PlainLoginModule required username=u password="${file:/s:p}";', "ConfigProvider"),
        ("ssl.truststore.location=/no/such.jks", "client.properties:1: /no/such.jks: No such file"),
    ],
)
def test_what_librdkafka_cannot_do_says_so(read, text, says):
    with pytest.raises(UsageError) as caught:
        read(text)
    assert says in str(caught.value)


@pytest.mark.parametrize("declared", ["PEM", "PKCS12", "JKS", None])
def test_a_store_is_what_it_contains_whatever_is_declared(read, tmp_path, declared):
    store = tmp_path / "store"
    kind = f"ssl.keystore.type={declared}\n" if declared else ""
    text = f"ssl.keystore.location={store}\n{kind}ssl.keystore.password=s\nssl.key.password=k\n"
    store.write_bytes(b"Bag Attributes\n" + PEM)
    assert read(text)[0] == {
        "ssl.key.location": str(store),
        "ssl.certificate.location": str(store),
        "ssl.key.password": "k",
    }
    store.write_bytes(PKCS12)
    assert read(text)[0] == {"ssl.keystore.location": str(store), "ssl.keystore.password": "s"}
    store.write_bytes(JKS)
    with pytest.raises(UsageError, match=f"keytool -importkeystore -srckeystore {store}"):
        read(text)


@pytest.mark.parametrize("content", [PKCS12, JKS, b""])
def test_a_trust_store_that_is_not_pem_says_the_command(read, tmp_path, content):
    (tmp_path / "trust").write_bytes(content)
    with pytest.raises(UsageError, match=f"keytool -list -rfc -keystore {tmp_path}/trust > ca.pem"):
        read(f"ssl.truststore.location={tmp_path}/trust\n")


def test_pem_inside_the_properties(read):
    properties, _ = read(
        """\
        ssl.keystore.type=PEM
        ssl.keystore.key=KEY
        ssl.keystore.certificate.chain=CHAIN
        ssl.truststore.certificates=CA
        ssl.key.password=k
        """
    )
    assert properties == {
        "ssl.ca.pem": "CA",
        "ssl.key.pem": "KEY",
        "ssl.certificate.pem": "CHAIN",
        "ssl.key.password": "k",
    }


def test_a_kcat_file(read):
    properties, notes = read(
        "# kcat\n\n  bootstrap.servers = a:1 \nsasl.mechanisms=PLAIN\nsasl.password=a=b#c\\d\n", name="kcat.conf"
    )
    assert properties == {"bootstrap.servers": "a:1", "sasl.mechanism": "PLAIN", "sasl.password": "a=b#c\\d"}
    assert notes == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("bootstrap.servers\n", "kcat.conf:1: not a property"),
        ("\nack=1\n", "kcat.conf:2: no such property 'ack'; did you mean 'acks'?"),
    ],
)
def test_a_wrong_kcat_file(read, text, says):
    with pytest.raises(UsageError) as caught:
        read(text, name="kcat.conf")
    assert says in str(caught.value)


def test_a_client_file_with_a_secret_that_others_read_is_warned_about(tmp_path):
    path = tmp_path / "kcat.conf"
    path.write_text(f"sasl.password={SECRET}\n")
    path.chmod(0o644)
    (warning,) = read_client_file(path)[1]
    assert "chmod 600" in warning
    assert SECRET not in warning


def test_a_missing_client_file():
    with pytest.raises(UsageError, match=r"/no/such.conf: cannot be read: No such file"):
        read_client_file(Path("/no/such.conf"))


def test_what_is_found_on_the_machine(tmp_path):
    files = [".config/kcat.conf", ".kaf/config", ".config/rpk/rpk.yaml", "mine.conf"]
    for name in files:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    environ = {"HOME": str(tmp_path), "KCAT_CONFIG": str(tmp_path / "mine.conf")}
    assert find_foreign(environ) == [tmp_path / name for name in ("mine.conf", *files[:3])]
    assert find_foreign({"HOME": str(tmp_path / "none")}) == []


def test_yaml_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "yaml", None)
    path = tmp_path / "rpk.yaml"
    path.write_text("profiles: []\n")
    with pytest.raises(UsageError, match=r"pip install 'kpipe-cli\[import\]'"):
        read_foreign(path)
