"""What options mean together, as one table: this needs that, this excludes that, and the sentence that is shown.

It opens nothing: a contradiction is found before anything else is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kpipe.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kpipe.options import (
        ForwardOptions,
        InputOptions,
        OutputOptions,
        RecordOptions,
        SelectionOptions,
        TargetOptions,
        TraceOptions,
    )
    from kpipe.transform.step import Step

FILTERS = ("through", "through-json")
ROUTES = ("route", "rename-topic")
SPREADING = ("split", *ROUTES, "through-json")
"""Transforms after which one record of the source is none, several, or one elsewhere."""

EXCLUDES, NEEDS = "excludes", "needs"
TOGETHER = "{option} and {other} do not go together; drop one"


class Rule(NamedTuple):
    """`option` needs or excludes `other`; `{option}` and `{other}` in the sentence stand for what was typed."""

    option: str
    verb: str
    other: str
    sentence: str = TOGETHER


FORWARD = (
    Rule(
        "--to-origin",
        EXCLUDES,
        "--to-partition",
        "--to-origin: a record goes to the partition it came from; drop --to-partition",
    ),
    Rule("--exactly-once", EXCLUDES, "--also"),
    Rule("--exactly-once", EXCLUDES, "--dry-run"),
    Rule("--exactly-once", EXCLUDES, "a filter"),
    Rule("--exactly-once", EXCLUDES, "--rate"),
    Rule("--resume-by-trace", EXCLUDES, "--also"),
    Rule("--resume-by-trace", EXCLUDES, "--dry-run"),
    Rule("--resume-by-trace", EXCLUDES, "a filter"),
    Rule("--to-origin", EXCLUDES, "--also"),
    Rule("--to-origin", EXCLUDES, "a route"),
    Rule("--exactly-once", EXCLUDES, "--resume-by-trace", "--exactly-once needs no --resume-by-trace; drop it"),
    Rule("--exactly-once", NEEDS, "-G", "--exactly-once commits the offsets of a group; add -G GROUP"),
    Rule("--exactly-once", EXCLUDES, "-p", "--exactly-once needs the group to share the partitions out; drop -p"),
    Rule(
        "--exactly-once",
        EXCLUDES,
        "--spill",
        "--exactly-once leaves nothing to spill: what is not committed is read again; drop --spill",
    ),
    Rule("--resume-by-trace", NEEDS, "a trace", "--resume-by-trace reads the trace headers; drop --trace none"),
    Rule("--resume-by-trace", EXCLUDES, "--to-origin", "--resume-by-trace looks at one target; --to-origin has many"),
    Rule(
        "--resume-by-trace",
        EXCLUDES,
        "a spread",
        "--resume-by-trace needs one record in TARGET for each source record; drop {other}",
    ),
)

CONSUME = (
    Rule("--acks", NEEDS, "--commit-acked", "--acks and --trust-end belong to --commit-acked PATH; add it"),
    Rule("--trust-end", NEEDS, "--commit-acked", "--acks and --trust-end belong to --commit-acked PATH; add it"),
    Rule("--commit-acked", NEEDS, "-G", "--commit-acked needs a group to commit to; add -G GROUP"),
    Rule(
        "--commit-acked",
        NEEDS,
        "envelopes",
        "--commit-acked needs envelopes, which carry topic, partition and offset; add -J",
    ),
    Rule("consume", EXCLUDES, "a route", "{other}: consume has no target; use kpipe forward"),
    Rule("--commit-acked", EXCLUDES, "a filter"),
    Rule("consume", EXCLUDES, "-p same", "-p same: consume has no target; name partitions by number"),
)

PRODUCE = (
    Rule("--tee", EXCLUDES, "--report", "--tee and --report both print to stdout; give one"),
    Rule(
        "--ack",
        NEEDS,
        "envelopes on stdin",
        "--ack answers a kpipe consume -J at the start of the pipe; read stdin with --input json",
    ),
    Rule("--dry-run", EXCLUDES, "--tee"),
    Rule("--dry-run", EXCLUDES, "--report"),
    Rule("--dry-run", EXCLUDES, "--ack"),
    Rule("--dry-run", EXCLUDES, "--restore"),
)


def check(rules: Sequence[Rule], given: Mapping[str, object]) -> None:
    """UsageError with the sentence of the first rule that is broken.

    `given` says of each word of the rules whether it was typed; a text stands for it in the sentence.
    """
    for rule in rules:
        if given.get(rule.option) and bool(given.get(rule.other)) is (rule.verb == EXCLUDES):
            words = {
                name: text if isinstance(text := given.get(word), str) else word
                for name, word in (("option", rule.option), ("other", rule.other))
            }
            raise UsageError(rule.sentence.format(**words))


def first_step(steps: Sequence[Step], names: Sequence[str]) -> str:
    """The first transform of these that was typed, as `--name`; empty when there is none."""
    return next((f"--{step.name}" for step in steps if step.name in names), "")


def check_forward(
    forward: ForwardOptions,
    selection: SelectionOptions,
    sending: TargetOptions,
    trace: TraceOptions,
    steps: Sequence[Step],
) -> None:
    """What forward's options mean together."""
    given = {
        "--exactly-once": forward.exactly_once,
        "--resume-by-trace": forward.resume_by_trace,
        "--to-origin": forward.to_origin,
        "--to-partition": bool(forward.to_partition),
        "--also": bool(sending.also or forward.tee),
        "--dry-run": sending.dry_run,
        "--rate": bool(sending.rate),
        "--spill": bool(sending.spill),
        "-G": bool(selection.group),
        "-p": any(text != "same" for text in selection.partitions),
        "a trace": trace.trace != "none",
        "a filter": first_step(steps, FILTERS),
        "a route": first_step(steps, ROUTES),
        "a spread": first_step(steps, SPREADING),
    }
    check(FORWARD, given)


def check_consume(options: OutputOptions, selection: SelectionOptions, steps: Sequence[Step]) -> None:
    """What consume's options mean together."""
    given = {
        "consume": True,
        "--commit-acked": bool(options.commit_acked),
        "--acks": options.acks != "in-order",
        "--trust-end": options.trust_end,
        "-G": bool(selection.group),
        "-p same": "same" in selection.partitions,
        "envelopes": bool(options.json or options.json_value or options.output == "json"),
        "a filter": first_step(steps, FILTERS),
        "a route": first_step(steps, ROUTES),
    }
    check(CONSUME, given)


def check_produce(options: InputOptions, record: RecordOptions, sending: TargetOptions, paths: Sequence[str]) -> None:
    """What produce's options mean together."""
    given = {
        "--tee": record.tee,
        "--report": record.report,
        "--ack": bool(record.ack),
        "--restore": bool(record.restore),
        "--dry-run": sending.dry_run,
        "envelopes on stdin": options.input == "json" and not record.restore and list(paths) == ["-"],
    }
    check(PRODUCE, given)


def check_modes(
    options: ForwardOptions, selection: SelectionOptions, trace: str, spill: str, steps: Sequence[Step]
) -> None:
    """Contradictions that can be seen before anything is opened."""
    if options.exactly_once:
        if options.resume_by_trace:
            raise UsageError("--exactly-once needs no --resume-by-trace; drop it")
        if not selection.group:
            raise UsageError("--exactly-once commits the offsets of a group; add -G GROUP")
        if [text for text in selection.partitions if text != "same"]:
            raise UsageError("--exactly-once needs the group to share the partitions out; drop -p")
        if spill:
            raise UsageError(
                "--exactly-once leaves nothing to spill: what is not committed is read again; drop --spill"
            )
    if options.resume_by_trace:
        if trace == "none":
            raise UsageError("--resume-by-trace reads the trace headers; drop --trace none")
        if options.to_origin:
            raise UsageError("--resume-by-trace looks at one target; --to-origin has many")
        many = next(
            (step.name for step in steps if step.name in ("split", "route", "rename-topic", "through-json")), None
        )
        if many is not None:
            raise UsageError(f"--resume-by-trace needs one record in TARGET for each source record; drop --{many}")
