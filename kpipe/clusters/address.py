"""Reads and writes where records come from and go to: `[cluster:]topic`, `HOST:PORT/topic`, `-`, `^regex`, `-p 0-2`.

Never asks a cluster: whether a topic exists is not known here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from kpipe.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

STDIO = "-"
MAX_PARTITIONS = 200_000
"""How many partitions one command line may name: no topic has more, and `0-2147483647` must not eat the memory."""

_MAX_PARTITION = 2**31 - 1
_TOPIC_MAX = 249
_STRING_MAX = 2**15 - 1  # of Kafka's protocol: lengths are int16
_TOPIC = re.compile(r"[a-zA-Z0-9._-]+")
_CLUSTER = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]*")
_ADDRESS = re.compile(r"(?P<host>[a-zA-Z0-9._-]+|\[[0-9a-fA-F:.]+(?:%[a-zA-Z0-9._-]+)?\]):(?P<port>[0-9]{1,5})")
_ADDRESSED = re.compile(r"(?P<brokers>[^/^]*)/(?P<topic>.*)", re.DOTALL)
_DEFAULT_PORT = 9092  # librdkafka's, for an address without one
_PARTITIONS = re.compile(r"([0-9]+)(?:-([0-9]+))?")


class Place(NamedTuple):
    """One place. `topic` is a name, a pattern with its `^`, or `-`.

    `cluster` is a profile's name, or brokers' addresses (a name has no colon, an address has one); None: the current.
    """

    cluster: str | None
    topic: str

    @property
    def is_stdio(self) -> bool:
        """`-`: stdin or stdout."""
        return self.topic == STDIO

    @property
    def is_pattern(self) -> bool:
        """`^regex`: every topic whose name it matches."""
        return self.topic.startswith("^")

    def __str__(self) -> str:
        return self.topic if self.cluster is None else place_name(self.cluster, self.topic)


def place_name(cluster: str, rest: str) -> str:
    """A topic (or what else a cluster has) with its cluster, as it is read: `prod:orders`, `a:9092/orders`."""
    return f"{cluster}{'/' if is_address(cluster) else ':'}{rest}"


def is_address(cluster: str) -> bool:
    """Whether a place's cluster is given by its brokers' addresses, not by a profile's name."""
    return ":" in cluster


def plain_addresses(brokers: str) -> str:
    """Brokers as `parse_place` reads them: every address with its port, without blanks and `PLAINTEXT://`."""
    hosts = [host.strip().rpartition("://")[2] for host in brokers.split(",")]
    return ",".join(host if re.search(r":\d+$", host) else f"{host}:{_DEFAULT_PORT}" for host in hosts if host)


def parse_place(text: str) -> Place:
    """`[cluster:]topic`, `HOST:PORT[,HOST:PORT]/topic`, both also with a `^regex`, or `-`; else UsageError.

    No name of a cluster or topic has a slash, so one before a `^` ends addresses; an IPv6 host stands in brackets. The
    first colon ends a cluster's name, so a pattern keeps its own colons; a bare pattern has no cluster.
    """
    if text == STDIO:
        return Place(None, STDIO)
    if addressed := _ADDRESSED.fullmatch(text):
        return Place(check_addresses(addressed["brokers"], where=repr(text)), _check_topic(addressed["topic"], text))
    cluster, colon, topic = text.partition(":")
    if not colon or text.startswith("^"):
        return Place(None, _check_topic(text, text))
    if not cluster:
        raise UsageError(
            "the cluster's name before ':' is empty; leave the colon out for the current cluster", where=repr(text)
        )
    if topic == STDIO:
        raise UsageError("'-' is stdin or stdout and belongs to no cluster; write '-' alone", where=repr(text))
    return Place(check_cluster_name(cluster, where=repr(text)), _check_topic(topic, text))


def split_addresses(text: str) -> tuple[str, str] | None:
    """`HOST:PORT[,HOST:PORT]/REST` as the addresses and the rest; None when no addresses stand before a slash."""
    addressed = _ADDRESSED.fullmatch(text)
    if addressed is None or not all(_ADDRESS.fullmatch(each) for each in addressed["brokers"].split(",")):
        return None
    return check_addresses(addressed["brokers"], where=repr(text)), addressed["topic"]


def parse_target(text: str) -> Place:
    """A place to write to: like parse_place, but one topic, not a pattern."""
    place = parse_place(text)
    if place.is_pattern:
        raise UsageError("a target is one topic, not a pattern; name the topic", where=repr(text))
    return place


def check_addresses(brokers: str, *, where: str) -> str:
    """The addresses themselves, if each is HOST:PORT or [IPV6]:PORT."""
    for text in brokers.split(","):
        match = _ADDRESS.fullmatch(text)
        if match is None or not 0 < int(match["port"]) < 1 << 16:
            raise UsageError(
                f"{text!r} is no address; write HOST:PORT/TOPIC, [IPV6]:PORT/TOPIC, or CLUSTER:TOPIC with a name from "
                "the config",
                where=where,
            )
    return brokers


def check_cluster_name(name: str, *, where: str) -> str:
    """The name itself if it can stand before a colon: letters, digits, '.', '_', '-', first a letter or digit."""
    if not _CLUSTER.fullmatch(name):
        raise UsageError(f"{name!r} cannot name a cluster; use letters, digits, '.', '_' and '-'", where=where)
    return name


def check_group(name: str, option: str) -> str:
    """The name itself, if it can be a group's; UsageError naming the option otherwise.

    Kafka asks only that some of it is no blank, but librdkafka drops blanks at its ends without a word, and ends the
    process for bytes that are no text (confluent-kafka 2.16).
    """
    shown = repr(name if len(name) <= _TOPIC_MAX else f"{name[:40]}...")
    if name != name.strip() or not name.isprintable():
        raise UsageError(
            "a group's name is text without control characters, and has no blanks at its ends",
            where=f"{option} {shown}",
        )
    if len(name.encode()) > _STRING_MAX:
        raise UsageError(f"a group's name has at most {_STRING_MAX} bytes", where=f"{option} {shown}")
    return name


def check_instance(name: str, option: str) -> str:
    """The name of a member of a group, for which Kafka has the rule of topics."""
    if not _TOPIC.fullmatch(name) or len(name) > _TOPIC_MAX:
        raise UsageError(
            f"a member's name is 1 to {_TOPIC_MAX} letters, digits, '.', '_' and '-'",
            where=f"{option} {name[:_TOPIC_MAX]!r}",
        )
    return name


def _check_topic(topic: str, text: str) -> str:
    """Kafka's rule for topic names (org.apache.kafka.common.internals.Topic): 1-249 of [a-zA-Z0-9._-], not . or .."""
    if topic.startswith("^"):
        return _check_pattern(topic, text)
    if not topic:
        raise UsageError("the topic's name is empty; write [cluster:]topic", where=repr(text))
    if len(topic) > _TOPIC_MAX:
        raise UsageError(
            f"the topic's name has {len(topic)} characters; Kafka allows {_TOPIC_MAX}", where=repr(text[:40] + "...")
        )
    if topic in (".", ".."):
        raise UsageError("'.' and '..' cannot be topics; write [cluster:]topic", where=repr(text))
    if not _TOPIC.fullmatch(topic):
        bad = _TOPIC.sub("", topic)[0]
        advice = "a pattern starts with '^'" if bad in "*?[](){}|\\^$+" else "write [cluster:]topic"
        if bad == ":":
            advice = "brokers by their address end with a slash: HOST:PORT/TOPIC"
        raise UsageError(
            f"{bad!r} cannot be in a topic's name, only letters, digits, '.', '_' and '-'; {advice}", where=repr(text)
        )
    return topic


def _check_pattern(pattern: str, text: str) -> str:
    """A pattern is a Python regular expression."""
    from kpipe.transform.patterns import compile_pattern

    try:
        compile_pattern(pattern)
    except ValueError as error:
        raise UsageError(f"{error}; mind the shell's quoting", where=repr(text)) from None
    return pattern


def parse_partitions(texts: Iterable[str]) -> list[int]:
    """`["0", "2-5,7"]` → [0, 2, 3, 4, 5, 7]: the order as written, each number once; UsageError for anything else."""
    chosen: dict[int, None] = {}
    for text in texts:
        for part in text.split(","):
            first, last = _parse_range(part.strip(), text)
            if last - first >= MAX_PARTITIONS or len(chosen) >= MAX_PARTITIONS:
                raise UsageError(
                    f"more than {MAX_PARTITIONS} partitions; leave -p out to read all", where=f"-p {text!r}"
                )
            chosen.update(dict.fromkeys(range(first, last + 1)))
    return list(chosen)


def _parse_range(part: str, text: str) -> tuple[int, int]:
    """`7` → (7, 7), `2-5` → (2, 5)."""
    match = _PARTITIONS.fullmatch(part)
    if match is None:
        raise UsageError("not a partition; write a number or a range: 0, 2-5 or 0,2-5,7", where=f"-p {text!r}")
    first, last = match[1], match[2] or match[1]
    if max(len(first.lstrip("0")), len(last.lstrip("0"))) > 10 or max(int(first), int(last)) > _MAX_PARTITION:
        raise UsageError(f"a partition is at most {_MAX_PARTITION}; write a number or a range", where=f"-p {text!r}")
    if int(last) < int(first):
        raise UsageError(f"the range runs backwards; write {last}-{first}", where=f"-p {text!r}")
    return int(first), int(last)
