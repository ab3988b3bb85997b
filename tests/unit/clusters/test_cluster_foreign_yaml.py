from __future__ import annotations

from textwrap import dedent

import pytest

from kpipe.clusters.foreign import read_foreign
from kpipe.errors import UsageError

KAF = """\
current-cluster: prod
clusters:
- name: local
  version: ""
  brokers:
  - localhost:9092
  SASL: null
  TLS: null
  security-protocol: ""
- name: prod
  brokers: [a:1, b:2]
  SASL:
    mechanism: SCRAM-SHA-512
    username: me
    password: s3cr3t
  TLS:
    cafile: /ca.pem
    clientfile: /cert.pem
    clientkeyfile: /key.pem
    insecure: true
  security-protocol: SASL_SSL
  schema-registry-url: https://registry
- name: oidc
  brokers: [c:1]
  SASL: {mechanism: OAUTHBEARER, clientID: me, clientSecret: s3cr3t, tokenURL: "https://idp/t", scopes: [a, b]}
  TLS: {}
- name: empty
  brokers: []
"""

RPK = """\
version: 7
current_profile: prod
profiles:
  - name: prod
    kafka_api:
      brokers: [a:1]
      tls: {}
      sasl: {user: me, password: s3cr3t, mechanism: SCRAM-SHA-256}
  - name: old
    kafka_api:
      brokers: [b:1]
      tls: {truststore_file: /ca.pem, cert_file: /c.pem, key_file: /k.pem}
  - name: plain
    kafka_api:
      brokers: [127.0.0.1:9092]
"""


@pytest.fixture
def read(tmp_path):
    def read(text, name="rpk.yaml"):
        path = tmp_path / name
        path.write_text(dedent(text))
        return read_foreign(path)

    return read


def test_kaf(read):
    foreign = read(KAF, name="config")
    assert foreign.default == "prod"
    assert foreign.clusters == {
        "local": {"bootstrap.servers": "localhost:9092", "security.protocol": "PLAINTEXT"},
        "prod": {
            "bootstrap.servers": "a:1,b:2",
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": "/ca.pem",
            "ssl.certificate.location": "/cert.pem",
            "ssl.key.location": "/key.pem",
            "enable.ssl.certificate.verification": "false",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": "me",
            "sasl.password": "s3cr3t",
            "schema.registry.url": "https://registry",
        },
        "oidc": {
            "bootstrap.servers": "c:1",
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "OAUTHBEARER",
            "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.token.endpoint.url": "https://idp/t",
            "sasl.oauthbearer.client.id": "me",
            "sasl.oauthbearer.client.secret": "s3cr3t",
            "sasl.oauthbearer.scope": "a b",
        },
    }
    assert [note.partition(":")[0] for note in foreign.notes] == ["'prod'", "'empty'"]


def test_rpk_where_an_empty_tls_section_means_tls(read):
    foreign = read(RPK)
    assert foreign.default == "prod"
    assert foreign.clusters == {
        "prod": {
            "bootstrap.servers": "a:1",
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-256",
            "sasl.username": "me",
            "sasl.password": "s3cr3t",
        },
        "old": {
            "bootstrap.servers": "b:1",
            "security.protocol": "SSL",
            "ssl.ca.location": "/ca.pem",
            "ssl.certificate.location": "/c.pem",
            "ssl.key.location": "/k.pem",
        },
        "plain": {"bootstrap.servers": "127.0.0.1:9092", "security.protocol": "PLAINTEXT"},
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [1", "rpk.yaml:1: not YAML"),
        ("- 1", "not a table"),
        ("", "not a table"),
        ("a: 1", "neither kaf's"),
        ("profiles: !!python/object/apply:os.system [id]", "not YAML"),
    ],
)
def test_what_is_not_understood_says_so(read, text, says):
    with pytest.raises(UsageError) as caught:
        read(text)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "text", ["profiles: 1", "profiles: [1, null]", "profiles: [{kafka_api: {brokers: {a: 1}, sasl: x}}]"]
)
def test_odd_shapes_give_no_cluster(read, text):
    assert read(text).clusters == {}
