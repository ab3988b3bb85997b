"""What was seen and heard becomes one finding in plain words; the rest is never guessed."""

from __future__ import annotations

import socket
import threading

import pytest

from kpipe.errors import Exit
from kpipe.kafka.diagnosis import Fault, diagnose, from_complaints, from_listeners, plain_reason
from kpipe.kafka.metadata import find_fault
from kpipe.kafka.probe import Sighting, look, split_address
from kpipe.kafka.troubles import Troubles

SASL_SSL = {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.username": "me"}


def seen(**facts: object) -> Sighting:
    return Sighting("b1", 9093, **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "properties", "fault"),
    [
        ({"unresolved": "Name or service not known"}, {}, Fault.DNS),
        ({"unconnected": "Connection refused"}, {}, Fault.REFUSED),
        ({"unconnected": "timed out", "timed_out": True}, {}, Fault.SILENT),
        ({"speaks_tls": True}, {}, Fault.TLS_EXPECTED),
        ({"speaks_plain": True}, SASL_SSL, Fault.TLS_UNEXPECTED),
        ({"verify_code": 10}, SASL_SSL, Fault.CERTIFICATE_EXPIRED),
        ({"verify_code": 9}, SASL_SSL, Fault.CERTIFICATE_EARLY),
        ({"verify_code": 62}, SASL_SSL, Fault.CERTIFICATE_NAME),
        ({"verify_code": 64}, SASL_SSL, Fault.CERTIFICATE_NAME),
        ({"verify_code": 18}, SASL_SSL, Fault.CERTIFICATE_AUTHORITY),
        ({"verify_code": 20}, SASL_SSL, Fault.CERTIFICATE_AUTHORITY),
        ({"tls_alert": "TLSV13_ALERT_CERTIFICATE_REQUIRED"}, SASL_SSL, Fault.CLIENT_CERTIFICATE),
        ({"tls_alert": "TLSV1_ALERT_UNKNOWN_CA"}, SASL_SSL, Fault.CLIENT_CERTIFICATE),
        ({"tls_alert": "TLSV1_ALERT_PROTOCOL_VERSION"}, SASL_SSL, Fault.TLS),
        ({"login_error": 33, "mechanisms": ("PLAIN",)}, {}, Fault.LOGIN_EXPECTED),
        ({"login_error": 34}, SASL_SSL, Fault.LOGIN_UNEXPECTED),
        ({"login_error": 33, "mechanisms": ("GSSAPI",)}, SASL_SSL, Fault.MECHANISM),
    ],
)
def test_every_fault_has_words_and_advice(facts, properties, fault):
    finding = diagnose(seen(**facts), properties)

    assert finding is not None
    assert finding.fault is fault
    assert "b1" in finding.what
    assert finding.advice
    assert finding.exit_code is Exit.UNREACHABLE
    assert "\n" not in str(finding.error("prod"))


@pytest.mark.parametrize(
    ("facts", "properties"),
    [
        ({}, {}),
        ({"speaks_plain": True, "login_error": 34}, {}),
        ({"speaks_tls": True, "login_error": 0, "mechanisms": ("PLAIN",)}, SASL_SSL),
        ({"speaks_plain": True, "login_error": 35}, {}),
    ],
)
def test_what_is_fine_or_unknown_is_no_finding(facts, properties):
    assert diagnose(seen(**facts), properties) is None


@pytest.mark.parametrize(
    ("text", "fault", "says"),
    [
        ("SASL authentication error: Authentication failed: Invalid username or password", Fault.CREDENTIALS, "'me'"),
        (
            "SASL PLAIN mechanism handshake failed: Broker: Unsupported SASL mechanism: broker's supported mechanisms: A,B",
            Fault.MECHANISM,
            "offers A, B",
        ),
        ("Broker: Request not valid in current SASL state: broker's supported", Fault.LOGIN_UNEXPECTED, "no login"),
        ("Failed to acquire SASL OAUTHBEARER token: {}", Fault.TOKEN, "no token: {}"),
        ("something new", Fault.CREDENTIALS, "something new"),
    ],
)
def test_what_the_cluster_told_the_client(text, fault, says):
    complaints = [("_AUTHENTICATION", f"sasl_ssl://b1:9093/bootstrap: {text} (after 3ms in state AUTH_REQ)")]

    finding = from_complaints([*complaints, ("_ALL_BROKERS_DOWN", "1/1 brokers are down")], SASL_SSL)

    assert finding is not None
    assert (finding.fault, finding.is_definite) == (fault, True)
    assert says in finding.what


def test_a_broken_line_is_no_refused_login():
    assert from_complaints([("_TRANSPORT", "b1:9093/bootstrap: Connection refused")], SASL_SSL) is None


def test_an_advertised_address_is_told_from_one_that_was_typed():
    typed = ("_TRANSPORT", "b1:9093/bootstrap: Connect to ipv4#10.0.0.1:9093 failed: Connection refused")
    sent_to = (
        "_TRANSPORT",
        "ssl://inner:9093/7: Connect to ipv4#10.0.0.7:9093 failed: timed out (after 30ms in state)",
    )

    assert from_listeners([typed]) is None
    finding = from_listeners([typed, sent_to])
    assert finding is not None
    assert "broker 7 sends clients to inner:9093" in finding.what
    assert not finding.is_definite


def test_reasons_lose_the_clients_own_marks():
    text = (
        "ssl://b:1/bootstrap: SSL handshake failed: error:0A000086:SSL routines::certificate verify failed (after 5ms)"
    )
    assert plain_reason(text) == "SSL handshake failed: SSL routines::certificate verify failed"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("b1:9093", ("b1", 9093)),
        ("b1", ("b1", 9092)),
        ("SASL_SSL://b1:1", ("b1", 1)),
        ("[::1]:9093", ("::1", 9093)),
        ("[::1]", ("::1", 9092)),
        (" b1:x", ("b1:x", 9092)),
    ],
)
def test_addresses_are_split_as_the_client_does(text, address):
    assert split_address(text) == address


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"\0\0\0\x0b" + b"\xff" * 11, b"\x7f\xff\xff\xff"]
)
def test_a_port_that_is_no_kafka_neither_hangs_nor_breaks_the_look(answer):
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    port = server.getsockname()[1]
    try:
        for properties in ({}, SASL_SSL):
            sighting = look("127.0.0.1", port, properties, 3.0)
            assert not sighting.unconnected
            assert sighting.login_error is None
            assert diagnose(sighting, properties) is None
    finally:
        server.close()


def test_a_port_that_says_nothing_is_left_in_time():
    with socket.create_server(("127.0.0.1", 0)) as server:
        sighting = look("127.0.0.1", server.getsockname()[1], {}, 0.3)

    finding = diagnose(sighting, {})
    assert finding is not None
    assert finding.fault is Fault.SILENT


def test_one_good_address_keeps_the_client_waiting():
    troubles = Troubles("c", {"bootstrap.servers": "127.0.0.1:1,127.0.0.1:2"})
    finding = find_fault(troubles, 2.0)
    assert finding is not None
    assert finding.fault is Fault.REFUSED
    assert not finding.is_definite


class ClientError:
    def name(self):
        return "_AUTHENTICATION"

    def str(self):
        return "token hunter2hunter2 was refused"

    def fatal(self):
        return False


def test_complaints_never_keep_a_secret():
    troubles = Troubles("c", {"sasl.password": "hunter2hunter2"})
    troubles.on_error(ClientError())
    assert "hunter2" not in repr(troubles)
    assert troubles.errors[0][1] == "token ******** was refused"
