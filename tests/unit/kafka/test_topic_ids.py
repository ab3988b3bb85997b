"""A look at the topics' ids asks nothing of a cluster that does not answer: waiting requests keep the client busy."""

from __future__ import annotations

from concurrent.futures import Future

import pytest
from confluent_kafka import KafkaError, KafkaException

from kpipe.kafka.topic_ids import FIRST_LOOK, TopicIds


class Description:
    """What the admin client says of a topic."""

    def __init__(self, topic_id: str) -> None:
        self.topic_id = topic_id


class Admin:
    """Answers at once; counts what it is asked."""

    def __init__(self, error: int | None = None) -> None:
        self.asked = 0
        self._error = error

    def describe_topics(self, _topics: object, request_timeout: float) -> dict[str, Future[Description]]:
        assert request_timeout > 0
        self.asked += 1
        answer: Future[Description] = Future()
        if self._error is None:
            answer.set_result(Description("one"))
        else:
            answer.set_exception(KafkaException(KafkaError(self._error)))
        return {"orders": answer}


def test_a_cluster_that_is_away_is_asked_again_only_when_it_is_back() -> None:
    admin, now, away = Admin(), [0.0], [True]
    ids = TopicIds(lambda: admin, clock=lambda: now[0])
    ids.is_away = lambda: away[0]
    for second in range(60):
        now[0] = FIRST_LOOK + second
        assert ids.look(["orders"]) == (set(), set())
    assert admin.asked == 0
    away[0] = False
    ids.look(["orders"])
    ids.look(["orders"])
    assert admin.asked == 1
    assert ids.known == {"orders": "one"}


def test_an_answer_that_is_on_its_way_is_taken_although_the_cluster_went() -> None:
    admin, now, away = Admin(), [0.0], [False]
    ids = TopicIds(lambda: admin, clock=lambda: now[0])
    ids.is_away = lambda: away[0]
    now[0] = FIRST_LOOK
    ids.look(["orders"])
    away[0] = True
    ids.look(["orders"])
    assert ids.known == {"orders": "one"}


def test_the_client_of_the_start_is_let_go_before_the_first_look() -> None:
    """One that asked for a group's coordinator would keep a thread busy while its cluster is away."""
    clients, now, retired = [Admin(), Admin()], [0.0], [0]

    def retire() -> None:
        clients.pop(0)
        retired[0] += 1

    first, second = clients
    ids = TopicIds(lambda: clients[0], clock=lambda: now[0], retire=retire)
    ids.learn(["orders"])
    assert (first.asked, retired) == (1, [0])
    for turn in range(3):
        now[0] = 20.0 * (turn + 1)
        ids.look(["orders"])
        ids.look(["orders"])
    assert (first.asked, second.asked, retired) == (1, 3, [1])


@pytest.mark.parametrize(
    ("error", "opened"),
    [(KafkaError._TIMED_OUT, 2), (KafkaError._TRANSPORT, 2), (KafkaError.TOPIC_AUTHORIZATION_FAILED, 1)],
)
def test_a_client_that_nobody_answers_is_let_go(error: int, opened: int) -> None:
    """It may have been told of no broker once, and then it never finds one again."""
    clients, now = [Admin(error), Admin()], [0.0]
    unused = iter(clients)
    ids = TopicIds(lambda: next(unused), clock=lambda: now[0])
    for turn in range(3):
        now[0] = 20.0 * (turn + 1)
        ids.look(["orders"])
        ids.look(["orders"])
    assert [client.asked for client in clients] == ([1, 2] if opened == 2 else [3, 0])
    assert ids.known == ({"orders": "one"} if opened == 2 else {})
