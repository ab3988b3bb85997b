"""A producer's poll or flush tells of a fatal error by raising it; the run must hear of it and go on to its end."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException

from kpipe.kafka.troubles import Troubles


def fatal() -> KafkaException:
    return KafkaException(KafkaError(KafkaError.INVALID_PRODUCER_EPOCH, "fenced", fatal=True))


def serving(error: Exception) -> Troubles:
    troubles = Troubles("c")

    def call(_timeout: float) -> None:
        raise error

    troubles.serve(call, 0.0)
    return troubles


def test_a_fatal_error_is_kept() -> None:
    assert serving(fatal()).fatal == ("INVALID_PRODUCER_EPOCH", "fenced")


def test_a_fatal_error_that_a_delivery_report_ran_into_is_kept_too() -> None:
    """Seen with librdkafka 2.16: `<method 'name' of KafkaError> returned a result with an exception set`."""
    error = SystemError("returned a result with an exception set")
    error.__cause__ = fatal()
    assert serving(error).fatal == ("INVALID_PRODUCER_EPOCH", "fenced")
    error = SystemError("returned a result with an exception set")
    error.__context__ = fatal()
    assert serving(error).fatal == ("INVALID_PRODUCER_EPOCH", "fenced")


@pytest.mark.parametrize(
    "error", [SystemError("another"), KafkaException(KafkaError(KafkaError._TRANSPORT, "away")), ValueError("x")]
)
def test_any_other_error_is_raised_as_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as raised:
        serving(error)
    assert raised.value is error
