"""Every error that the library knows has a kind, and only a judgement on a record is one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError

from kpipe.kafka import errors
from kpipe.kafka.errors import KINDS, Cause, Kind, cause_of, is_lasting, is_passing, is_unwritten, kind_of, name_of

CODES = range(-400, 1000)
"""librdkafka's own errors are negative, the brokers' positive; a number without a name is answered with `ERR_n?`."""


def library_names() -> set[str]:
    return {name for code in CODES if not (name := KafkaError(code).name()).startswith("ERR_")}


def test_every_name_of_the_library_is_in_the_table() -> None:
    known = library_names()
    assert len(known) > 180
    assert known - KINDS.keys() == set()
    constants = {name for name in dir(KafkaError) if name.isupper() and isinstance(getattr(KafkaError, name), int)}
    assert constants - KINDS.keys() == set()


def test_no_name_is_in_the_table_twice_or_unknown_to_the_library() -> None:
    listed = [name for names in errors._TABLE.values() for name in names.split()]
    assert len(listed) == len(set(listed))
    assert set(listed) - library_names() == set()


@pytest.mark.parametrize(
    ("name", "kind", "unwritten"),
    [
        ("INVALID_RECORD", Kind.REFUSED, True),
        ("INVALID_TIMESTAMP", Kind.REFUSED, True),
        ("MSG_SIZE_TOO_LARGE", Kind.REFUSED, True),
        ("_INVALID_DIFFERENT_RECORD", Kind.UNWRITTEN, True),
        ("_PURGE_QUEUE", Kind.UNWRITTEN, True),
        ("_PURGE_INFLIGHT", Kind.UNKNOWN, False),
        ("_MSG_TIMED_OUT", Kind.UNKNOWN, False),
        ("NOT_ENOUGH_REPLICAS_AFTER_APPEND", Kind.UNKNOWN, False),
        ("NOT_LEADER_FOR_PARTITION", Kind.AWAY, False),
        ("_TRANSPORT", Kind.AWAY, False),
        ("_TIMED_OUT", Kind.AWAY, False),
        ("REQUEST_TIMED_OUT", Kind.AWAY, False),
        ("NETWORK_EXCEPTION", Kind.AWAY, False),
        ("OUT_OF_ORDER_SEQUENCE_NUMBER", Kind.DEAD, False),
        ("UNKNOWN_PRODUCER_ID", Kind.DEAD, False),
        ("INVALID_PRODUCER_EPOCH", Kind.DEAD, False),
        ("_FATAL", Kind.DEAD, False),
        ("_DESTROY", Kind.UNKNOWN, False),
        ("TOPIC_AUTHORIZATION_FAILED", Kind.DENIED, True),
        ("_AUTHENTICATION", Kind.DENIED, False),
        ("UNKNOWN_TOPIC_OR_PART", Kind.GONE, True),
        ("A_NAME_OF_TOMORROW", Kind.UNKNOWN, False),
    ],
)
def test_what_a_delivery_report_says(name: str, kind: Kind, unwritten: bool) -> None:
    report = SimpleNamespace(name=lambda: name)
    assert (kind_of(report), is_unwritten(report)) == (kind, unwritten)
    assert (kind_of(name), is_unwritten(name)) == (kind, unwritten)


def test_what_has_no_name_has_no_kind_of_its_own() -> None:
    assert (name_of(object()), kind_of(object()), is_unwritten(object())) == ("", Kind.UNKNOWN, False)


def test_only_what_the_record_earned_is_refused() -> None:
    """`--on-error` acts on these, so a name that strikes whole producers, clusters or topics must not be among them."""
    assert {name for name, kind in KINDS.items() if kind is Kind.REFUSED} == {
        "MSG_SIZE_TOO_LARGE",
        "RECORD_LIST_TOO_LARGE",
        "INVALID_MSG_SIZE",
        "INVALID_RECORD",
        "INVALID_TIMESTAMP",
        "_KEY_SERIALIZATION",
        "_VALUE_SERIALIZATION",
    }


@pytest.mark.parametrize(
    "cause", [each for each in Cause if each not in (Cause.PURGED, Cause.ANOTHER)], ids=lambda cause: cause.name
)
def test_the_names_of_a_cause_are_of_one_kind(cause: Cause) -> None:
    """But for a purge: what was on its way may have been written, what waited was not."""
    names = cause.value.split()
    assert len({KINDS[name] for name in names}) == 1
    assert {cause_of(name) for name in names} == {cause}


def test_what_has_no_cause_of_its_own_is_another() -> None:
    assert {cause_of(error) for error in ("", "UNKNOWN_SERVER_ERROR", object(), None)} == {Cause.ANOTHER}
    assert {KINDS[name] for name in Cause.PURGED.value.split()} == {Kind.UNWRITTEN, Kind.UNKNOWN}


def test_what_passes_is_asked_again_and_what_lasts_is_not() -> None:
    passing = (
        "NOT_COORDINATOR",
        "_UNKNOWN_PARTITION",
        "_TIMED_OUT_QUEUE",
        "UNSTABLE_OFFSET_COMMIT",
        "GROUP_ID_NOT_FOUND",
    )
    assert [is_passing(name) for name in passing] == [True, True, True, True, False]
    lasting = ("TOPIC_AUTHORIZATION_FAILED", "POLICY_VIOLATION", "_TRANSPORT")
    assert [is_lasting(name) for name in lasting] == [True, True, False]
