"""Checks one cluster step by step, as `kpipe check` tells it: names, ports, TLS, login, answer, listeners, rights.

It changes nothing on the cluster, joins no group, and reads and writes no record.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from kpipe.clusters.properties import is_encrypted, is_sasl, mechanism
from kpipe.errors import Exit, KpipeError, UsageError
from kpipe.kafka.client import EMBEDDED, label, open_admin
from kpipe.kafka.diagnosis import (
    ClusterFaultError,
    Fault,
    Finding,
    certificate_names,
    denied,
    diagnose,
)
from kpipe.kafka.errors import Cause, cause_of, is_unauthorised
from kpipe.kafka.metadata import fetch_metadata
from kpipe.kafka.probe import Sighting, look, split_address
from kpipe.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kpipe.clusters.profiles import Cluster
    from kpipe.kafka.troubles import Troubles

SOON_DAYS = 30
"""A certificate that ends within so many days is worth a warning."""
MAX_LISTENERS = 50
AT_ONCE = 8
SHARE = 0.5
"""The part of the time that the look at bootstrap addresses may take; the login needs the rest."""


class State(StrEnum):
    """How a step went."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class CheckStep:
    """One line of the answer. `advice` and `fault` are empty for what is fine."""

    name: str
    state: State
    text: str
    advice: str = ""
    fault: str = ""
    milliseconds: float | None = None


@dataclass(slots=True)
class Checkup:
    """What was found for one cluster."""

    cluster: str
    brokers: str = ""
    steps: list[CheckStep] = field(default_factory=list)
    exit_code: Exit = Exit.OK

    def passed(self, name: str, text: str, seconds: float | None = None) -> None:
        """A step that is fine."""
        took = None if seconds is None else round(seconds * 1000, 1)
        self.steps.append(CheckStep(name, State.OK, text, milliseconds=took))

    def failed(self, name: str, finding: Finding) -> None:
        """A step that is not; the worst class of all decides the exit code."""
        self.steps.append(CheckStep(name, State.FAILED, finding.what, finding.advice, finding.fault.value))
        self.exit_code = max(self.exit_code, finding.exit_code)

    def warned(self, name: str, text: str, advice: str = "", fault: str = "") -> None:
        """Something worth knowing that stops nobody."""
        self.steps.append(CheckStep(name, State.WARNING, text, advice, fault))


def examine(
    find: Callable[[], Cluster], name: str, topics: Sequence[str], groups: Sequence[str], timeout: float
) -> Checkup:
    """Everything about one cluster within about `timeout` seconds; `find` resolves it. Never raises KpipeError."""
    deadline = time.monotonic() + timeout
    checkup = Checkup(name)
    try:
        cluster = find()
        checkup.cluster, checkup.brokers = label(cluster), cluster.brokers
        client, troubles = open_admin(cluster)
    except UsageError as error:
        what, _, advice = str(error).rpartition("; ")
        checkup.failed("configuration", Finding(Fault.CONFIGURATION, what or advice, advice if what else "correct it"))
        return checkup
    addresses = [text for text in cluster.brokers.split(",") if text.strip()]
    if not _look_at_bootstrap(checkup, addresses, troubles.properties, timeout * SHARE / len(addresses)):
        return checkup
    metadata = _log_in(checkup, client, troubles, deadline)
    if metadata is not None:
        rights = _Rights(client, checkup, metadata, deadline)
        rights.measure()
        left = max(1.0, deadline - time.monotonic())
        _look_at_listeners(checkup, metadata, addresses, troubles.properties, left)
        rights.check(topics, groups)
    return checkup


def _log_in(checkup: Checkup, client: Any, troubles: Troubles, deadline: float) -> Any:
    """The cluster's metadata; None when it does not let us in or does not answer."""
    started = time.monotonic()
    sasl = is_sasl(troubles.properties)
    try:
        metadata = fetch_metadata(client, troubles, max(1.0, deadline - started))
    except ClusterFaultError as error:
        checkup.failed("login" if sasl else "answer", error.finding)
        return None
    except KpipeError as error:
        checkup.failed("answer", Finding(Fault.SILENT, error.what, "try again, or with a longer --timeout"))
        return None
    if sasl:
        checkup.passed("login", _who(troubles.properties), time.monotonic() - started)
    return metadata


def _look_at_bootstrap(checkup: Checkup, addresses: Sequence[str], properties: Any, timeout: float) -> bool:
    """Whether one address at least is good. With another that is good, a bad one is a warning."""
    seen = [look(*split_address(text), properties, timeout) for text in addresses]
    findings = [diagnose(each, properties) for each in seen]
    usable = None in findings
    for each, finding in zip(seen, findings, strict=True):
        _tell_progress(checkup, each, finding)
        if finding is not None and usable:
            checkup.warned(_step_of(finding), finding.what, finding.advice, finding.fault.value)
        elif finding is not None:
            checkup.failed(_step_of(finding), finding)
    return usable


def _tell_progress(checkup: Checkup, seen: Sighting, finding: Finding | None) -> None:
    """The steps that one look got through."""
    if seen.resolved and seen.host not in seen.resolved:
        checkup.passed("name", f"{seen.host} is {', '.join(seen.resolved)}")
    if not seen.unresolved and not seen.unconnected:
        checkup.passed("connection", f"{seen.address} accepts connections", seen.connected_s)
    if seen.tls_version and finding is None:
        names = ", ".join(certificate_names(seen.certificate)) or "no name that was checked"
        until = seen.certificate.get("notAfter", "")
        checkup.passed(
            "encryption", f"{seen.tls_version}, certificate for {names}" + (f", until {until}" if until else "")
        )
        if until and (days := _days_until(str(until))) < SOON_DAYS:
            checkup.warned(
                "encryption", f"the certificate of {seen.address} ends in {days} days", "renew it on the broker"
            )


def _days_until(text: str) -> int:
    """Days from now to a certificate's date."""
    import ssl

    return (datetime.fromtimestamp(ssl.cert_time_to_seconds(text), UTC) - datetime.now(UTC)).days


def _step_of(finding: Finding) -> str:
    """The step that a finding belongs to."""
    if finding.fault is Fault.DNS:
        return "name"
    if finding.fault in (Fault.REFUSED, Fault.SILENT):
        return "connection"
    if finding.fault in (Fault.LOGIN_EXPECTED, Fault.LOGIN_UNEXPECTED, Fault.MECHANISM):
        return "login"
    return "encryption"


def _who(properties: Any) -> str:
    """`SCRAM-SHA-512 as 'alice'`, and whether the password went in the clear."""
    how = mechanism(properties)
    user = properties.get("sasl.username") or properties.get("sasl.oauthbearer.client.id")
    text = f"{how} as {user!r}" if user and how != "OAUTHBEARER" else f"{how} with a token"
    return text if is_encrypted(properties) or how != "PLAIN" else f"{text}; the password went unencrypted"


def _look_at_listeners(
    checkup: Checkup, metadata: Any, addresses: Sequence[str], properties: Any, timeout: float
) -> None:
    """Look at where the cluster sends its clients: often other addresses than those they started from."""
    known = {split_address(text) for text in addresses}
    brokers = sorted(metadata.brokers.values(), key=lambda broker: broker.id)
    others = [broker for broker in brokers if (broker.host, broker.port) not in known][:MAX_LISTENERS]
    rounds = -(-len(others) // AT_ONCE) or 1
    pool = ThreadPoolExecutor(AT_ONCE)
    asked = [(broker, pool.submit(look, broker.host, broker.port, properties, timeout / rounds)) for broker in others]
    bad = 0
    for broker, answer in asked:
        finding = diagnose(answer.result(), properties)
        if finding is not None:
            bad += 1
            what = f"broker {broker.id} sends clients to {broker.host}:{broker.port}: {finding.what}"
            advice = f"{finding.advice}; or correct the broker's advertised.listeners"
            checkup.failed("listeners", Finding(Fault.LISTENER, what, advice))
    if not bad:
        count = len(brokers) - len(others) + len(asked)
        addresses = counted(count, "advertised address", "advertised addresses")
        checkup.passed("listeners", f"{addresses} can be reached from here")


def unknown_topic(topic: str) -> Finding:
    """A topic that is not there."""
    return Finding(Fault.UNKNOWN_TOPIC, f"no such topic {topic}", "check the name; kpipe produce --create makes it")


class _Rights:
    """What the cluster answers, and what its ACLs allow whom we log in as."""

    def __init__(self, client: Any, checkup: Checkup, metadata: Any, deadline: float) -> None:
        self._client = client
        self._checkup = checkup
        self._metadata = metadata
        self._deadline = deadline

    def _wait(self) -> float:
        return max(1.0, self._deadline - time.monotonic())

    def measure(self) -> None:
        """The round trip of one small request; it may go to an advertised address, which is looked at next."""
        from confluent_kafka import KafkaException

        metadata = self._metadata
        brokers, topics = counted(len(metadata.brokers), "broker"), counted(len(metadata.topics), "topic")
        text = f"cluster {metadata.cluster_id}, {brokers}, {topics}"
        started = time.monotonic()
        try:
            self._client.list_topics("__consumer_offsets", timeout=min(2.0, self._wait()))
        except KafkaException as error:
            self._checkup.warned("answer", f"{text}, then none: {error.args[0].str()}", "see the listeners below")
            return
        took = time.monotonic() - started
        self._checkup.passed("answer", f"{text}, round trip {took * 1000:.1f} ms", took)

    def check(self, topics: Sequence[str], groups: Sequence[str]) -> None:
        """What is allowed on each of these."""
        embedded = str(self._metadata.cluster_id).startswith(EMBEDDED)
        for topic in topics:
            if not embedded:
                self.check_topic(topic)
            elif topic in self._metadata.topics:
                self._checkup.passed(f"topic {topic}", "the embedded broker allows everything")
            else:
                self._checkup.failed(f"topic {topic}", unknown_topic(topic))
        for group in groups:
            if embedded:
                self._checkup.passed(f"group {group}", "the embedded broker allows everything")
            else:
                self.check_group(group)

    def check_topic(self, topic: str) -> None:
        """Whether the topic is there, and which operations are allowed on it."""
        from confluent_kafka import TopicCollection

        wait = self._wait()
        asked = self._client.describe_topics(
            TopicCollection([topic]), include_authorized_operations=True, request_timeout=wait
        )
        self._conclude(f"topic {topic}", asked[topic], wait, ("READ", "WRITE"))

    def check_group(self, group: str) -> None:
        """Which operations are allowed on the group; it need not exist."""
        wait = self._wait()
        asked = self._client.describe_consumer_groups([group], include_authorized_operations=True, request_timeout=wait)
        self._conclude(f"group {group}", asked[group], wait, ("READ",))

    def _conclude(self, resource: str, future: Any, wait: float, wanted: tuple[str, ...]) -> None:
        from confluent_kafka import KafkaException

        try:
            operations = future.result(wait + 1).authorized_operations
        except KafkaException as error:
            self._refuse(resource, error.args[0], str(error.args[0].str()))
            return
        except TimeoutError:
            self._refuse(resource, None, "no answer in time")
            return
        if operations is None:
            self._checkup.passed(resource, "is there; the brokers do not tell what is allowed")
            return
        allowed = [operation.name for operation in operations]
        missing = [name for name in wanted if name not in allowed]
        if missing == list(wanted):
            self._checkup.failed(resource, denied(resource, " or ".join(wanted)))
        elif missing:
            what = f"may {', '.join(allowed)}, but not {', '.join(missing)}"
            self._checkup.warned(
                resource, what, f"ask for an ACL with {', '.join(missing)} if that is needed", Fault.DENIED
            )
        else:
            self._checkup.passed(resource, f"may {', '.join(allowed)}")

    def _refuse(self, resource: str, error: object, text: str) -> None:
        if is_unauthorised(error):
            self._checkup.failed(resource, denied(resource, "DESCRIBE"))
        elif cause_of(error) is Cause.NO_TOPIC:
            self._checkup.failed(resource, unknown_topic(resource.removeprefix("topic ")))
        elif cause_of(error) is Cause.NO_GROUP:
            self._checkup.passed(resource, "is not there yet, and may be looked for")
        else:
            self._checkup.warned(resource, f"nobody can tell: {text}", "an old or embedded broker does not say")
