"""Command lines as other tools want them: what a hand types out of habit, and the line to type instead.

Read only when a command line was refused, so it costs a start nothing. It runs nothing.
"""

from __future__ import annotations

import difflib
import shlex
from typing import TYPE_CHECKING, Any, NamedTuple

from kpipe.cli.commands import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class Habit(NamedTuple):
    """What stands for an option of another tool: an option of ours, an operand (""), or nothing (None)."""

    ours: str | None
    why: str = ""
    takes_value: bool = True


TOPIC = Habit("", "the topic is a word of its own")
DEFAULT = Habit(None, "that is what happens without it", takes_value=False)
OPTIONS: dict[str, Habit] = {
    **dict.fromkeys(("-t", "--topic", "--topics", "--from", "--to", "--source", "--target"), TOPIC),
    **dict.fromkeys(
        (
            "--bootstrap-servers",
            "--bootstrap-server",
            "--bootstrap",
            "--broker-list",
            "--broker",
            "--servers",
            "--server",
        ),
        Habit("-b"),
    ),
    **dict.fromkeys(("-g", "--group", "--consumer-group", "--group-id", "--group.id"), Habit("-G")),
    **dict.fromkeys(("--max-messages", "--limit", "--num", "--messages", "--count", "-n"), Habit("-c")),
    **dict.fromkeys(("--from-beginning", "--follow", "--tail", "--sync", "--lines", "-l", "-u"), DEFAULT),
    **dict.fromkeys(("-C", "-P"), Habit(None, "the command is a word", takes_value=False)),
    **dict.fromkeys(("--earliest", "--oldest"), Habit("-o beginning", takes_value=False)),
    **dict.fromkeys(("--latest", "--newest", "--from-end"), Habit("-o end", takes_value=False)),
    **dict.fromkeys(("--timeout-ms", "--exit-on-last", "--once"), Habit("-e", takes_value=False)),
    **dict.fromkeys(("--print-key", "--print-headers", "--headers", "--envelope"), Habit("-J", takes_value=False)),
    **dict.fromkeys(
        ("--consumer.config", "--producer.config", "--consumer-config", "--producer-config", "--command-property-file"),
        Habit("-F"),
    ),
    **dict.fromkeys(("--consumer-property", "--producer-property", "--command-property"), Habit("-X")),
    **dict.fromkeys(("--separator", "--key-separator"), Habit("-K")),
    **dict.fromkeys(("--compression-codec", "--codec"), Habit("-z")),
    **dict.fromkeys(("--partitions",), Habit("-p")),
    "-T": Habit("--tee", takes_value=False),
    "-d": Habit(None, "KPIPE_DEBUG=1 -X debug=all shows the client's log lines"),
    "--formatter": Habit("-f"),
    "--since": Habit("-o", "a time is written @TIME"),
    "--request-required-acks": Habit("-X", "acks is a property: -X acks=1"),
    "--profile": Habit("--cluster"),
    "--context": Habit("--cluster"),
}
"""By the option that was typed; looked at only where the command does not know it."""

PROPERTIES = {
    "print.key": ("-J", "prints keys, headers and all else; -K TEXT prints keys alone"),
    "print.headers": ("-J", "prints headers"),
    "print.timestamp": ("-J", "prints timestamps"),
    "print.partition": ("-J", "prints partitions"),
    "print.offset": ("-J", "prints offsets"),
    "print.value": ("-f FORMAT", "says what is printed"),
    "parse.key": ("-K TEXT", "reads a key before TEXT"),
    "parse.headers": ("--input json", "reads records with headers"),
    "key.separator": ("-K TEXT", "is what ends a key"),
}
"""Of Kafka's console tools, whose `--property` is for their formatters."""

WORDS: dict[str, str] = {
    "--help": "help man usage",
    "--version": "version",
    "produce": "send write publish pub put push producer producing tee input",
    "consume": "read cat tail head subscribe sub get fetch listen consumer consuming kcat dump print",
    "forward": "copy cp mirror replicate pipe move mv sync bridge mirrormaker forwarding",
    "verify": "compare diff cmp validate",
    "check": "ping doctor test status diagnose health acl acls connect whoami",
    "config": "clusters cluster profile profiles context login configure init settings",
    "topics": "topic list ls metadata describe create partitions",
    "groups": "group lag offsets offset consumer-groups reset",
    "transforms": "transform smt smts filters map",
    "broker": "server start serve mock sandbox demo",
}
"""What is meant by a word that is no command."""
ON_TOPICS = ("produce", "consume", "forward", "verify")


def command_of(word: str) -> str:
    """The command (or root option) that a word means, by meaning and then by spelling; empty when nothing is near."""
    for ours, words in WORDS.items():
        if word.lower() in words.split() and (ours in COMMANDS or ours.startswith("-")):
            return ours
    near = difflib.get_close_matches(word, COMMANDS, n=1)
    return near[0] if near else ""


def instead_of_word(words: Sequence[str]) -> str:
    """One line for a first word that is no command."""
    word, *rest = words
    ours = command_of(word)
    if not ours:
        return f"no command {word!r}; see kpipe --help"
    if ours.startswith("--"):
        return (
            f"no command {word!r}; type: {line_of([*rest[:1], ours] if rest[:1] and rest[0] in COMMANDS else [ours])}"
        )
    means = word.lower() in WORDS.get(ours, "").split()
    if rest and (ours in ON_TOPICS or not means):
        return f"no command {word!r}; did you mean {line_of([ours, *rest])}?"
    return f"no command {word!r}; did you mean kpipe {ours}? See kpipe {ours} --help"


def instead_of_options(words: Sequence[str], options_of: Callable[[str], Any]) -> str:
    """One line for options before the command, as in kcat: which command is meant, and where they go."""
    place = next((place for place, word in enumerate(words) if word in COMMANDS), None)
    if place is not None and not {"-C", "-P", "-L", "-Q"} & set(words):
        command, rest = words[place], [*words[:place], *words[place + 1 :]]
        return f"options come behind the command; type: {line_of([command, *translate(rest, options_of(command))])}"
    if "-L" in words or "-Q" in words:
        ours = "topics" if "topics" in COMMANDS else "check"
        told = "asks for offsets by time" if "-Q" in words else "lists topics"
        keep = _brokers(words)
        if "-Q" in words:
            return f"-Q {told} in kcat; type: {line_of(['topics', *keep, '--at', 'TIME', 'TOPIC'])}"
        return f"-L {told} in kcat; type: {line_of([ours, *keep])}"
    command = "produce" if "-P" in words else "consume"
    if not _is_known(words[0], options_of(command)):
        near = difflib.get_close_matches(words[0], ("--help", "--version", "--completion"), n=1, cutoff=0.75)
        return f"kpipe has no {words[0]}; {f'did you mean {near[0]}?' if near else 'see kpipe --help'}"
    rest = [word for word in words if word != command]
    changed = translate(rest, options_of(command))
    if not any(word in ("-t", "--topic", "-G") or word.startswith("-t") for word in words):
        changed.append("TOPIC")
    return f"kpipe's commands are words; type: {line_of([command, *changed])}"


def _is_known(word: str, known: Iterable[str]) -> bool:
    """Whether some tool, or the command that is meant, has this option."""
    name, _ = _split(word, set(known))
    return name in OPTIONS or _base(name) in known or name[:2] in known


def _brokers(words: Sequence[str]) -> list[str]:
    for place, word in enumerate(words):
        if word.startswith("-b"):
            return ["-b", word[2:]] if len(word) > 2 else ["-b", *words[place + 1 : place + 2]]
    return []


OF_GROUPS = {
    "--reset-offsets": "kpipe admin reset-offsets -G GROUP --to POSITION",
    "--delete": "kpipe admin delete-group GROUP",
    "--describe": "kpipe groups GROUP",
    "--members": "kpipe groups GROUP",
    "--list": "kpipe groups",
    "--all-groups": "kpipe groups",
}
OF_TOPICS = {
    "--create": "kpipe admin create-topic NAME:PARTITIONS",
    "--alter": "kpipe admin alter-topic TOPIC",
    "--delete": "kpipe admin delete-topic TOPIC",
    "--describe": "kpipe topics --partitions TOPIC",
    "--list": "kpipe topics",
    "--under-replicated-partitions": "kpipe topics --health",
    "--unavailable-partitions": "kpipe topics --health",
}
ACTIONS = {"groups": OF_GROUPS, "topics": OF_TOPICS}
"""What Kafka's own tools do by an option of theirs."""


def instead_of_option(command: str, words: Sequence[str], name: str, known: Any) -> str:
    """One line for an option that a command does not have."""
    if ours := ACTIONS.get(command, {}).get(_base(name)):
        return f"{command} has no {name}; type: {ours}"
    changed = translate(words, known)
    if changed != list(words) and (habit := OPTIONS.get(_base(name))):
        why = f": {habit.why}" if habit.why else ""
        return f"{command} has no {name}{why}; type: {line_of([command, *changed])}"
    names = [each for each in known if each.startswith("--")]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.7) if name.startswith("--") else []
    near = near or [each for each in names if len(name) > 4 and each.startswith(name)][:1]
    if command == "unit":
        return f"{command} has no {name}; write -- before the command line: kpipe unit systemd -- forward -G g a:t b:t"
    hint = f"did you mean {near[0]}?" if near else f"see kpipe {command} --help"
    return f"{command} has no {name}; {hint}"


def instead_of_property(command: str, words: Sequence[str]) -> str:
    """One line for a property of Kafka's console tools, empty when there is none among the words."""
    for place, word in enumerate(words):
        text = word.partition("=")[2] if word.startswith("--property=") else "".join(words[place + 1 : place + 2])
        name = text.partition("=")[0]
        if word.startswith("--property") and name in PROPERTIES:
            ours, does = PROPERTIES[name]
            return f"{command}: --property sets librdkafka's properties, and {name} is none; {ours} {does}"
    return ""


def translate(words: Sequence[str], known: Iterable[str]) -> list[str]:
    """The words with other tools' options replaced by ours; topics come first, for files and further topics follow."""
    rest, topics, known = [], [], set(known)
    left = list(words)
    while left:
        word = left.pop(0)
        name, value = _split(word, known)
        habit = OPTIONS.get(name) if name not in known else None
        if habit is None:
            rest.append(word)
            continue
        if habit.takes_value and value is None:
            value = left.pop(0) if left else "TOPIC" if habit is TOPIC else "VALUE"
        if habit is TOPIC and "--topic" in known:
            rest += ["--topic", value or "TOPIC"]
        elif habit is TOPIC:
            topics.append(value or "TOPIC")
        elif habit.ours is not None:
            rest += [*habit.ours.split(), *([value] if habit.takes_value and value is not None else [])]
    return [*topics, *rest]


def _base(name: str) -> str:
    return name.partition("=")[0]


def _split(word: str, known: set[str]) -> tuple[str, str | None]:
    """`--topic=t` and `-tt` as name and value."""
    if word.startswith("--") and "=" in word:
        name, _, value = word.partition("=")
        return name, value
    if len(word) > 2 and word[0] == "-" and word[1] != "-" and word[:2] in OPTIONS and word[:2] not in known:
        return word[:2], word[2:]
    return word, None


def line_of(words: Sequence[str]) -> str:
    """A command line as it is typed; placeholders stay as they are."""
    return " ".join(["kpipe", *(word if word.isupper() else shlex.quote(word) for word in words)])
