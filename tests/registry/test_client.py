"""The registry's client: what it asks, how it waits, and what it says when it is refused."""

from __future__ import annotations

import socket

import pytest

from kpipe.codecs.registry import Incompatible, Login, NotFound, SchemaReference, SchemaText
from kpipe.errors import KpipeError, UnreachableError, UsageError

INT = SchemaText("AVRO", '"int"')


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_schemas_by_id_guid_and_subject(fake_registry, client) -> None:
    fake = fake_registry(path="/apis/ccompat/v7")
    number = fake.add("t/x value", '"int"')
    registry = client([fake.url])
    assert registry.by_id(number).text == '"int"'
    assert registry.by_guid(fake.guid(number)).kind == "AVRO"
    assert registry.subjects() == ["t/x value"]
    assert registry.version("t/x value").id == number
    assert registry.versions("t/x value") == [1]
    assert registry.versions_of_id(number) == [("t/x value", 1)]
    assert registry.lookup("t/x value", INT).version == 1
    assert registry.register("other", INT).id == number
    assert fake.asked[0] == f"GET /apis/ccompat/v7/schemas/ids/{number}"
    assert "GET /apis/ccompat/v7/subjects/t%2Fx%20value/versions/latest" in fake.asked


def test_what_is_not_there_is_told_by_the_registrys_number(fake_registry, client) -> None:
    registry = client([fake_registry().url])
    with pytest.raises(NotFound) as told:
        registry.by_id(7)
    assert told.value.number == 40403
    with pytest.raises(NotFound, match="40401"):
        registry.version("t")


def test_references_and_kinds_come_through(fake_registry, client) -> None:
    fake = fake_registry()
    fake.add("common", 'syntax = "proto3";', "PROTOBUF")
    number = fake.add("t", "x", "PROTOBUF", [{"name": "common.proto", "subject": "common", "version": 1}])
    found = client([fake.url]).by_id(number)
    assert found.references == (SchemaReference("common.proto", "common", 1),)
    assert found.kind == "PROTOBUF"


def test_the_next_address_is_asked_when_one_is_away(fake_registry, client) -> None:
    fake = fake_registry()
    number = fake.add("t", '"int"')
    registry = client([f"http://127.0.0.1:{closed_port()}", fake.url])
    assert registry.by_id(number).text == '"int"'
    assert registry.by_id(number).text == '"int"'


def test_5xx_is_tried_again_and_then_told(fake_registry, client) -> None:
    fake = fake_registry()
    number = fake.add("t", '"int"')
    fake.fails = [503, 500]
    slept: list[float] = []
    registry = client([fake.url], sleep=slept.append)
    assert registry.by_id(number).text == '"int"'
    assert slept == [0.1, 0.2]


def test_patience_ends_with_exit_code_4(client) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    waits: list[str] = []
    url = f"http://127.0.0.1:{closed_port()}"
    registry = client([url], patience=3, clock=lambda: now[0], sleep=sleep, waiting=waits.append)
    with pytest.raises(UnreachableError, match="connection refused") as told:
        registry.by_id(1)
    assert told.value.exit_code == 4
    assert now[0] < 8
    assert "waiting for it" in waits[0]


def test_without_patience_it_waits_until_it_is_stopped(client) -> None:
    rounds = iter(range(20))
    url = f"http://127.0.0.1:{closed_port()}"
    registry = client([url], patience=None, stopped=lambda: next(rounds) == 19, sleep=lambda _seconds: None)
    with pytest.raises(UnreachableError):
        registry.by_id(1)
    assert next(rounds, None) is None


def test_a_slow_answer_is_no_answer(fake_registry, client) -> None:
    fake = fake_registry()
    fake.delay = 0.3
    with pytest.raises(UnreachableError, match="no answer in time"):
        client([fake.url], timeout=0.05, patience=0).by_id(1)


@pytest.mark.parametrize(
    ("option", "login"),
    [({"user": "ann:s3cret"}, Login("ann", "s3cret")), ({"token": "abc"}, Login(token=lambda: "abc"))],
)
def test_logins_and_their_refusal(fake_registry, option, login, client) -> None:
    fake = fake_registry(**option)
    number = fake.add("t", '"int"')
    assert client([fake.url], login).by_id(number).text == '"int"'
    with pytest.raises(UnreachableError, match="refuses the login") as told:
        client([fake.url], Login("ann", "wr0ng")).by_id(number)
    assert told.value.exit_code == 4
    assert "wr0ng" not in str(told.value)


def test_a_login_in_the_url_is_used_and_never_shown(fake_registry, client) -> None:
    fake = fake_registry(user="ann:s3cret")
    number = fake.add("t", '"int"')
    registry = client([fake.url.replace("http://", "http://ann:s3cret@")])
    assert registry.by_id(number).text == '"int"'
    assert "s3cret" not in registry.where


def test_an_incompatible_schema_is_refused_in_the_registrys_words(fake_registry, client) -> None:
    fake = fake_registry()
    fake.add("t", '"string"')
    fake.refuses = ["reader type: INT not compatible with writer type: STRING"]
    registry = client([fake.url])
    with pytest.raises(Incompatible, match="reader type: INT"):
        registry.register("t", INT)
    assert registry.compatibility("t", INT) == (False, fake.refuses)


def test_another_kind_of_server_is_told(fake_registry, client) -> None:
    registry = client([fake_registry(path="/apis/ccompat/v7").url.removesuffix("/apis/ccompat/v7")])
    with pytest.raises(NotFound):
        registry.by_id(1)
    with pytest.raises(UsageError, match="write http"):
        client(["ftp://x"])
    with pytest.raises(UsageError):
        client([])


def test_one_connection_serves_many_questions_and_a_closed_one_is_opened_again(fake_registry, client) -> None:
    fake = fake_registry()
    number = fake.add("t", '"int"')
    registry = client([fake.url])
    registry.by_id(number)
    connection = registry._addresses[0]._connection
    registry.by_id(number)
    assert registry._addresses[0]._connection is connection
    connection.sock.shutdown(socket.SHUT_RDWR)
    assert registry.by_id(number).text == '"int"'
    registry.close()


def test_an_answer_without_a_schema_is_told(fake_registry, client) -> None:
    fake = fake_registry()
    fake.fails = [200]
    with pytest.raises(KpipeError, match="without a schema"):
        client([fake.url]).by_id(1)


@pytest.mark.parametrize(
    ("status", "answer", "told"),
    [
        (200, b"<html>", "not JSON; is the path"),
        (404, b"<html>", "404 with something that is not JSON"),
        (302, b"", "leads elsewhere"),
        (200, b"[1]", "without a schema"),
        (200, b'{"schema":"x","references":[1]}', "a form that no schema registry has"),
        (200, b'{"schema":"x","references":[{"version":"new"}]}', "a form that no schema registry has"),
    ],
)
def test_what_is_no_answer_of_a_registry_is_told_and_is_no_not_found(
    fake_registry, client, status, answer, told
) -> None:
    fake = fake_registry()
    fake.raw = [(status, answer)]
    with pytest.raises(KpipeError, match=told) as error:
        client([fake.url]).by_id(1)
    assert not isinstance(error.value, NotFound)


@pytest.mark.parametrize(
    ("ask", "answer"),
    [
        (lambda registry: registry.lookup("t", INT), b"{}"),
        (lambda registry: registry.register("t", INT), b'{"id":"many"}'),
        (lambda registry: registry.versions("t"), b'["new"]'),
        (lambda registry: registry.versions_of_id(1), b'[{"subject":"t"}]'),
        (lambda registry: registry.subjects(), b"{}"),
        (lambda registry: registry.level("t"), b"[]"),
        (lambda registry: registry.compatibility("t", INT), b"{}"),
    ],
)
def test_an_answer_of_another_form_is_told(fake_registry, client, ask, answer) -> None:
    fake = fake_registry()
    fake.raw = [(200, answer)]
    with pytest.raises(KpipeError, match="a form that no schema registry has"):
        ask(client([fake.url]))


def test_the_name_of_a_registry_stays_when_another_address_answers(fake_registry, client) -> None:
    fake = fake_registry()
    fake.add("t", '"int"')
    away = f"http://127.0.0.1:{closed_port()}"
    registry = client([away, fake.url])
    registry.by_id(1)
    assert (registry.where, registry.addresses) == (away, (away, fake.url))


def test_a_descriptor_is_taken_only_in_base64(fake_registry, client) -> None:
    fake = fake_registry()
    fake.raw = [(200, b'{"schema":"CgFh"}'), (200, b'{"schema":"\\n\\u0001A"}'), (200, b'{"schema":"syntax = 3;"}')]
    fake.raw += [(500, b'{"error_code":500,"message":"expected a.proto to have a path"}'), (404, b"<html>"[:0])]
    registry = client([fake.url], patience=None)
    assert [registry.descriptor(1) for _ in range(5)] == [b"CgFh", None, None, None, None]
