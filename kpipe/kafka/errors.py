"""Every error name of the Kafka client by its kind: what it says of a record, of a cluster, of the one who asks.

It opens nothing and knows no client: names come in, a kind goes out. No other file compares names: a
test sees to it.

A kind says what may be done. `--on-error` acts on REFUSED only: every other kind says nothing about the record itself.
The names are those of librdkafka 2.16 (`rd_kafka_err2name`); a test fails when the library knows one that is not here.
"""

from __future__ import annotations

from enum import Enum
from typing import Any


class Kind(Enum):
    """What an error is about."""

    REFUSED = "refused"
    """The broker looked at the record and does not take it: a judgement. Or at its batch, when nobody says which."""
    UNWRITTEN = "certainly not written"
    """Not written, and nothing is said about the record: the request was turned down, or it never left the queue."""
    UNKNOWN = "unknown"
    """It may or may not have been written (KAFKA-13574, Jepsen)."""
    DEAD = "the producer is dead"
    """The producer can write no more; what became of the record is unknown."""
    AWAY = "away"
    """A broker, a leader or a coordinator does not answer now; it comes back. A record may have been written."""
    DENIED = "denied"
    """A right or a login is missing: the same for every record."""
    GONE = "gone"
    """The topic, partition, group or offset does not exist (any more)."""
    TAKEN_OVER = "taken over"
    """The partitions are, or soon will be, another member's."""
    NEWS = "no error"
    """An event that the client tells as an error."""


_TABLE: dict[Kind, str] = {
    Kind.REFUSED: """
        MSG_SIZE_TOO_LARGE RECORD_LIST_TOO_LARGE INVALID_MSG_SIZE INVALID_RECORD INVALID_TIMESTAMP
        _KEY_SERIALIZATION _VALUE_SERIALIZATION
    """,
    Kind.UNWRITTEN: """
        _INVALID_DIFFERENT_RECORD _PURGE_QUEUE _QUEUE_FULL _INVALID_ARG _BAD_MSG _BAD_COMPRESSION _CRIT_SYS_RESOURCE
        _FS _ISR_INSUFF _IN_PROGRESS _PREV_IN_PROGRESS _EXISTING_SUBSCRIPTION _CONFLICT _STATE _UNKNOWN_PROTOCOL
        _NOT_IMPLEMENTED _UNSUPPORTED_FEATURE _KEY_DESERIALIZATION _VALUE_DESERIALIZATION _READ_ONLY _UNDERFLOW
        _INVALID_TYPE _INCONSISTENT _NOT_CONFIGURED _APPLICATION _OUTDATED
        INVALID_MSG NOT_ENOUGH_REPLICAS INVALID_REQUIRED_ACKS OFFSET_METADATA_TOO_LARGE
        INVALID_COMMIT_OFFSET_SIZE INVALID_GROUP_ID INVALID_SESSION_TIMEOUT INCONSISTENT_GROUP_PROTOCOL
        UNSUPPORTED_VERSION TOPIC_EXCEPTION TOPIC_ALREADY_EXISTS INVALID_PARTITIONS INVALID_REPLICATION_FACTOR
        INVALID_REPLICA_ASSIGNMENT INVALID_CONFIG INVALID_REQUEST UNSUPPORTED_FOR_MESSAGE_FORMAT POLICY_VIOLATION
        UNSUPPORTED_COMPRESSION_TYPE INVALID_TRANSACTION_TIMEOUT OPERATION_NOT_ATTEMPTED INVALID_PRINCIPAL_TYPE
        NON_EMPTY_GROUP GROUP_MAX_SIZE_REACHED GROUP_SUBSCRIBED_TO_TOPIC TOPIC_DELETION_DISABLED
        FETCH_SESSION_ID_NOT_FOUND INVALID_FETCH_SESSION_EPOCH ELECTION_NOT_NEEDED NO_REASSIGNMENT_IN_PROGRESS
        DUPLICATE_RESOURCE UNACCEPTABLE_CREDENTIAL INCONSISTENT_VOTER_SET INVALID_UPDATE_VERSION FEATURE_UPDATE_FAILED
        PRINCIPAL_DESERIALIZATION_FAILURE UNSUPPORTED_ASSIGNOR MISMATCHED_ENDPOINT_TYPE UNSUPPORTED_ENDPOINT_TYPE
        UNKNOWN_CONTROLLER_ID UNKNOWN_SUBSCRIPTION_ID TELEMETRY_TOO_LARGE INVALID_REGISTRATION INVALID_RECORD_STATE
        SHARE_SESSION_NOT_FOUND INVALID_SHARE_SESSION_EPOCH SHARE_SESSION_LIMIT_REACHED INVALID_VOTER_KEY
        DUPLICATE_VOTER VOTER_NOT_FOUND INVALID_REGULAR_EXPRESSION STREAMS_INVALID_TOPOLOGY
        STREAMS_INVALID_TOPOLOGY_EPOCH
    """,
    Kind.UNKNOWN: """
        _MSG_TIMED_OUT _TIMED_OUT_QUEUE _PURGE_INFLIGHT _DESTROY _DESTROY_BROKER _FAIL _INTR _PARTIAL _RETRY
        UNKNOWN NOT_ENOUGH_REPLICAS_AFTER_APPEND KAFKA_STORAGE_ERROR DUPLICATE_SEQUENCE_NUMBER
        UNSTABLE_OFFSET_COMMIT CONCURRENT_TRANSACTIONS TRANSACTION_ABORTABLE
    """,
    Kind.DEAD: """
        _FATAL _FENCED _GAPLESS_GUARANTEE OUT_OF_ORDER_SEQUENCE_NUMBER UNKNOWN_PRODUCER_ID INVALID_PRODUCER_EPOCH
        INVALID_PRODUCER_ID_MAPPING INVALID_TXN_STATE PRODUCER_FENCED TRANSACTION_COORDINATOR_FENCED
    """,
    Kind.AWAY: """
        _TRANSPORT _RESOLVE _SSL _ALL_BROKERS_DOWN _TIMED_OUT _WAIT_COORD _WAIT_CACHE _NODE_UPDATE _UNKNOWN_BROKER
        LEADER_NOT_AVAILABLE NOT_LEADER_FOR_PARTITION REQUEST_TIMED_OUT BROKER_NOT_AVAILABLE REPLICA_NOT_AVAILABLE
        STALE_CTRL_EPOCH NETWORK_EXCEPTION COORDINATOR_LOAD_IN_PROGRESS COORDINATOR_NOT_AVAILABLE NOT_COORDINATOR
        NOT_CONTROLLER REASSIGNMENT_IN_PROGRESS FENCED_LEADER_EPOCH UNKNOWN_LEADER_EPOCH STALE_BROKER_EPOCH
        OFFSET_NOT_AVAILABLE PREFERRED_LEADER_NOT_AVAILABLE ELIGIBLE_LEADERS_NOT_AVAILABLE THROTTLING_QUOTA_EXCEEDED
        REBOOTSTRAP_REQUIRED
    """,
    Kind.DENIED: """
        _AUTHENTICATION TOPIC_AUTHORIZATION_FAILED GROUP_AUTHORIZATION_FAILED CLUSTER_AUTHORIZATION_FAILED
        TRANSACTIONAL_ID_AUTHORIZATION_FAILED DELEGATION_TOKEN_AUTHORIZATION_FAILED SASL_AUTHENTICATION_FAILED
        UNSUPPORTED_SASL_MECHANISM ILLEGAL_SASL_STATE SECURITY_DISABLED DELEGATION_TOKEN_AUTH_DISABLED
        DELEGATION_TOKEN_NOT_FOUND DELEGATION_TOKEN_OWNER_MISMATCH DELEGATION_TOKEN_REQUEST_NOT_ALLOWED
        DELEGATION_TOKEN_EXPIRED
    """,
    Kind.GONE: """
        _UNKNOWN_TOPIC _UNKNOWN_PARTITION _UNKNOWN_GROUP _NO_OFFSET _NOENT _AUTO_OFFSET_RESET _LOG_TRUNCATION
        UNKNOWN_TOPIC_OR_PART UNKNOWN_TOPIC_ID INCONSISTENT_TOPIC_ID OFFSET_OUT_OF_RANGE GROUP_ID_NOT_FOUND
        RESOURCE_NOT_FOUND LISTENER_NOT_FOUND LOG_DIR_NOT_FOUND
    """,
    Kind.TAKEN_OVER: """
        _ASSIGNMENT_LOST _MAX_POLL_EXCEEDED ILLEGAL_GENERATION UNKNOWN_MEMBER_ID REBALANCE_IN_PROGRESS
        STALE_MEMBER_EPOCH FENCED_MEMBER_EPOCH FENCED_INSTANCE_ID UNRELEASED_INSTANCE_ID MEMBER_ID_REQUIRED
        FENCED_STATE_EPOCH STREAMS_TOPOLOGY_FENCED
    """,
    Kind.NEWS: "NO_ERROR _PARTITION_EOF _ASSIGN_PARTITIONS _REVOKE_PARTITIONS _NOOP",
}
KINDS: dict[str, Kind] = {name: kind for kind, names in _TABLE.items() for name in names.split()}
"""The kind of each name."""


class Cause(Enum):
    """What one place must tell from other errors of its kind: the names that mean it."""

    PARTITION_END = "_PARTITION_EOF"
    NO_START = "_AUTO_OFFSET_RESET"
    """The offset to read from is not in the log: with `auto.offset.reset=error` the client asks instead of jumping."""
    FATAL = "_FATAL"
    TORN = "_GAPLESS_GUARANTEE"
    """A batch was refused, and the producer stopped so that nothing behind it overtakes it
    (`enable.gapless.guarantee`)."""
    OUT_OF_ORDER = "OUT_OF_ORDER_SEQUENCE_NUMBER"
    NEIGHBOUR = "_INVALID_DIFFERENT_RECORD"
    """In a batch with two or more bad records the good ones are told so (KIP-467); with a single one all fail alike."""
    TIMED_OUT = "_MSG_TIMED_OUT"
    PURGED = "_PURGE_QUEUE _PURGE_INFLIGHT"
    """After a drain that ended; librdkafka purges the queue by itself, too, when a producer is beyond repair
    (`rd_kafka_set_fatal_error0`)."""
    FENCED = "_FENCED PRODUCER_FENCED INVALID_PRODUCER_EPOCH"
    """Another producer with the same id, and a higher epoch, is there."""
    REBALANCING = "ILLEGAL_GENERATION REBALANCE_IN_PROGRESS STALE_MEMBER_EPOCH"
    """A member that has not heard of its new generation yet; the same commit succeeds a moment later."""
    POLLED_TOO_LATE = "_MAX_POLL_EXCEEDED"
    TOO_LARGE = "MSG_SIZE_TOO_LARGE RECORD_LIST_TOO_LARGE INVALID_MSG_SIZE"
    BAD_TIME = "INVALID_TIMESTAMP"
    BAD_RECORD = "INVALID_RECORD"
    NOBODY_UP = "_ALL_BROKERS_DOWN"
    NO_CONNECTION = "_TRANSPORT"
    SLOW = "_TIMED_OUT REQUEST_TIMED_OUT"
    LOGIN = "_AUTHENTICATION SASL_AUTHENTICATION_FAILED"
    GROUP_DENIED = "GROUP_AUTHORIZATION_FAILED"
    CLUSTER_DENIED = "CLUSTER_AUTHORIZATION_FAILED"
    ID_DENIED = "TRANSACTIONAL_ID_AUTHORIZATION_FAILED"
    NO_TOPIC = "UNKNOWN_TOPIC_OR_PART _UNKNOWN_TOPIC UNKNOWN_TOPIC_ID"
    NO_PARTITION = "_UNKNOWN_PARTITION"
    NO_GROUP = "GROUP_ID_NOT_FOUND"
    OTHER_PROTOCOL = "INCONSISTENT_GROUP_PROTOCOL"
    EXISTS = "TOPIC_ALREADY_EXISTS"
    ANOTHER = ""
    """None of these."""


CAUSES: dict[str, Cause] = {name: cause for cause in Cause for name in cause.value.split()}
"""The cause that each name means."""
LASTING = frozenset(name for name, kind in KINDS.items() if kind in (Kind.DENIED, Kind.GONE)) | {"POLICY_VIOLATION"}
PASSING = frozenset(name for name, kind in KINDS.items() if kind is Kind.AWAY) | {
    "_TIMED_OUT_QUEUE",  # the question never left us; of a record it says nothing, for that may have been sent before
    "_UNKNOWN_PARTITION",  # one that was just added: a broker may not have heard of it yet
    "UNSTABLE_OFFSET_COMMIT",  # an open transaction holds the group's offsets up
}


def name_of(error: object) -> str:
    """The client's name of an error (`_MSG_TIMED_OUT`), of an error object or as it is; empty when it has none."""
    if isinstance(error, str):
        return error
    name: Any = getattr(error, "name", None)
    return str(name()) if callable(name) else ""


def client_error(error: Exception) -> Any | None:
    """The client's error in an exception that it raised, as a delivery report has it; None in any other exception."""
    told = error.args[0] if error.args else None
    return told if hasattr(told, "name") else None


def kind_of(error: object) -> Kind:
    """The kind of an error object or of its name; a name that nobody knows (a newer library's) says nothing."""
    return KINDS.get(name_of(error), Kind.UNKNOWN)


def cause_of(error: object) -> Cause:
    """The cause that an error object or its name means."""
    return CAUSES.get(name_of(error), Cause.ANOTHER)


def is_unwritten(error: object) -> bool:
    """Whether this delivery report proves that the record was not written."""
    if cause_of(error) is Cause.LOGIN:  # the connection broke first
        return False
    return kind_of(error) in (Kind.REFUSED, Kind.UNWRITTEN, Kind.DENIED, Kind.GONE)


def is_passing(error: object) -> bool:
    """Whether the same question may be answered a moment later."""
    return name_of(error) in PASSING


def is_moved(error: object) -> bool:
    """Whether another broker was to be asked: who asked knows an older leader, or who was asked does not lead yet."""
    return name_of(error) in ("NOT_LEADER_FOR_PARTITION", "FENCED_LEADER_EPOCH", "UNKNOWN_LEADER_EPOCH")


def is_unauthorised(error: object) -> bool:
    """Whether an ACL says no."""
    return name_of(error).endswith("AUTHORIZATION_FAILED")


def is_login(error: object) -> bool:
    """Whether the cluster did not accept who we are."""
    return cause_of(error) is Cause.LOGIN


def is_gone(error: object) -> bool:
    """Whether there is no such topic or partition."""
    return cause_of(error) in (Cause.NO_TOPIC, Cause.NO_PARTITION)


def is_lasting(error: object) -> bool:
    """Whether the next try would meet it again, and no record is to blame for it."""
    return name_of(error) in LASTING
