"""What is measured: each case is one job, done by kpipe and by whoever else can do it."""

from __future__ import annotations

from dataclasses import dataclass

KCAT = "kcat -q -b {brokers}"
BARE = "{python} -m bench.bare"
FORWARD = "kpipe forward -b {brokers} -e -G bench-$RANDOM$RANDOM"
AVRO = "KPIPE_SCHEMA_REGISTRY_URL={registry} kpipe consume -b {brokers}"
SLOW_S = 8
"""Seconds that a slow target is written to; SIGTERM then, which timeout(1) tells by its exit code."""
MORE = 5
"""Times the lines, for the speed at which they go when the start, some 0.1 s, is little beside it."""
WORKERS = "forward, two workers"
KEYED_PARTITIONS, TWICE, GROUPS = 8, 2, 1000
"""Of the topic in which a key is looked for, which holds the records twice; and how many groups are asked for."""
PARTITIONS = (1, 10, 100, 1000)
HEADERS = (0, 5, 20)
MEGABYTES = 200
"""Partitions that hold two records of 1 MB each."""


@dataclass(frozen=True)
class Case:
    """`commands` maps a tool to its command line; the ratios are kpipe's cost over each other tool's.

    `records` turns a cost into microseconds per record (0: a start-up time). `fresh` topics are made for each run.
    A tool in `once` is so slow that it runs only once, before the others.
    """

    name: str
    records: int
    commands: dict[str, str]
    fresh: int = 0
    once: tuple[str, ...] = ()


def cases(lines: int, records: int, few: int) -> list[Case]:
    """All cases, for `lines` lines of 100 B, `records` records of 300 B, and `few` of them where many rows are shown."""
    return [*_starts(), *_basics(lines, records), *_answers(records), *_schemas(few), *_scale(few)]


def _starts() -> list[Case]:
    return [
        Case(
            "version",
            0,
            {"kpipe": "kpipe --version", "import typer": "{python} -c 'import typer'", "kcat": "kcat -V"},
        ),
        Case("help", 0, {"kpipe": "kpipe produce --help", "import typer": "{python} -c 'import typer'"}),
        Case(
            "completion",
            0,
            {
                "kpipe": "COMP_WORDS='kpipe produce --in' COMP_CWORD=2 _KPIPE_COMPLETE=complete_bash kpipe || true",
                "import typer": "{python} -c 'import typer'",
            },
        ),
        Case(
            "one line to delivered",
            0,
            {
                "kpipe": "echo hello | kpipe produce -b {brokers} {target}",
                "kcat": "echo hello | " + KCAT + " -P -t {target}",
            },
            fresh=1,
        ),
        Case(
            "first record consumed",
            0,
            {
                "kpipe": "kpipe consume -b {brokers} -c 1 {topic}",
                "kcat": KCAT + " -C -c 1 -o beginning -t {topic}",
            },
        ),
        Case(
            "tail to first record",
            0,
            {
                "kpipe": "kpipe tail -b {brokers} --no-follow -n 1 {topic} > {out}",
                "kcat": KCAT + " -C -e -o -1 -t {topic} > {out}",
            },
        ),
    ]


def _basics(lines: int, records: int) -> list[Case]:
    return [
        Case(
            f"{lines:,} lines of 100 B in",
            lines,
            {
                "kpipe": "kpipe produce -b {brokers} {target} < {lines}",
                "kcat": KCAT + " -P -t {target} < {lines}",
                "kcat, idempotent as kpipe": KCAT + " -P -X enable.idempotence=true -t {target} < {lines}",
                "bare loop": BARE + " produce {brokers} {target} < {lines}",
                "java": "{producer} --bootstrap-server {brokers} --topic {target} < {lines}",
            },
            fresh=4,
        ),
        Case(
            f"{MORE * lines:,} lines of 100 B in",
            MORE * lines,
            {
                "kpipe": "kpipe produce -b {brokers} {target} < {morelines}",
                "kcat": KCAT + " -P -t {target} < {morelines}",
                "kcat, idempotent as kpipe": KCAT + " -P -X enable.idempotence=true -t {target} < {morelines}",
            },
            fresh=4,
        ),
        Case(
            f"{records:,} values of 300 B out",
            records,
            {
                "kpipe": "kpipe consume -b {brokers} -e {topic} > {out}",
                "kcat": KCAT + " -C -e -o beginning -t {topic} > {out}",
                "bare loop": BARE + " consume {brokers} {topic} > {out}",
                "java": "{consumer} --bootstrap-server {brokers} --topic {topic} --from-beginning "
                "--max-messages {records} > {out} 2> {out}.err",
            },
        ),
        Case(
            f"{records:,} envelopes out",
            records,
            {
                "kpipe": "kpipe consume -b {brokers} -e -J {topic} > {out}",
                "kcat": KCAT + " -C -e -J -o beginning -t {topic} > {out}",
                "bare loop": BARE + " envelope {brokers} {topic} > {out}",
            },
        ),
        Case(
            "consume -J | produce --input json",
            records,
            {
                "kpipe": "kpipe consume -b {brokers} -e -J {topic} | kpipe produce -b {brokers} --input json {target}",
                "kcat -C | kcat -P (values)": KCAT + " -C -e -o beginning -t {topic} | " + KCAT + " -P -t {target}",
                "bare loop": BARE + " envelope {brokers} {topic} | " + BARE + " embed {brokers} {target}",
            },
            fresh=4,
        ),
        Case(
            "consume --output binary | produce --input binary",
            records,
            {
                "kpipe": "kpipe consume -b {brokers} -e --output binary {topic}"
                " | kpipe produce -b {brokers} --input binary {target}",
                "kcat -C | kcat -P (values)": KCAT + " -C -e -o beginning -t {topic} | " + KCAT + " -P -t {target}",
            },
            fresh=4,
        ),
        Case(
            "forward, trace, gated commits",
            records,
            {
                "kpipe": FORWARD + " {topic} {target}",
                "kcat -C | kcat -P (values)": KCAT + " -C -e -o beginning -t {topic} | " + KCAT + " -P -t {target}",
                "bare loop": BARE + " forward {brokers} {topic} {target}",
                "librdkafka in C": "{floor} {brokers} {topic} {target} {records} 4",
                "MirrorMaker 2": "{mirror}",
            },
            fresh=4,
            once=("MirrorMaker 2",),
        ),
        Case(
            WORKERS,
            records,
            {
                "kpipe": FORWARD + " --workers 2 {topic} {target}",
                "one": FORWARD + " {topic} {target}",
                "two, of nothing": FORWARD + " --workers 2 {empty} {target}",
                "one, of nothing": FORWARD + " {empty} {target}",
            },
            fresh=4,
        ),
        Case(
            "forward, a backlog and a slow target",
            0,
            {
                "kpipe": f"timeout {SLOW_S} {FORWARD} -X target.bootstrap.servers={{slow}} {{topic}} {{target}}"
                " || [ $? = 124 ]",
            },
            fresh=4,
        ),
        Case(
            "forward, filter and key transform",
            records,
            {
                "kpipe": "kpipe forward -b {brokers} -e --grep 'user-[0-9]*[02468]\"' --key-field .user {topic} {target}",
                "kpipe without": "kpipe forward -b {brokers} -e {topic} {target}",
            },
            fresh=4,
        ),
    ]


def _answers(records: int) -> list[Case]:
    return [
        Case(
            f"find by key in {TWICE * records:,} records over {KEYED_PARTITIONS} partitions",
            TWICE * records,
            {
                "kpipe": "kpipe find -b {brokers} {keyed} user-4242 > {out}",
                "kpipe, all of the key": "kpipe find --all -b {brokers} {keyed} user-4242 > {out}",
                "kcat -C | grep": KCAT + " -C -e -o beginning -f '%k %s\\n' -t {keyed} | grep '^user-4242 ' > {out}",
            },
        ),
        Case(f"lag of {GROUPS:,} groups", 0, {"kpipe": "kpipe groups -b {brokers} '{groups}*' > {out}"}),
    ]


def _schemas(few: int) -> list[Case]:
    return [
        Case(
            f"{few:,} Avro values decoded",
            few,
            {
                "kpipe": AVRO + " -e --decode avro {avro} > {out}",
                "kpipe, raw bytes": AVRO + " -e {avro} > {out}",
                "kcat -s value=avro": "{kcatavro} -q -b {brokers} -C -e -o beginning -s value=avro -r {registry}"
                " -t {avro} > {out}",
            },
        ),
        Case(
            f"{few:,} Avro values decoded and filtered",
            few,
            {
                "kpipe": AVRO + " -e --decode avro --filter '.id > 1000' {avro} > {out}",
                "kpipe, decoded only": AVRO + " -e --decode avro {avro} > {out}",
            },
        ),
    ]


def _scale(few: int) -> list[Case]:
    """The same work over more partitions, with more headers, with larger records; the target is made once."""
    sources = [(f"{number:,} partitions", "partitions", number, number) for number in PARTITIONS]
    sources += [(f"{number} headers", "headers", number, 4) for number in HEADERS]
    rows = [
        Case(
            f"forward, {what}",
            few,
            {
                "kpipe": f"{FORWARD} {{{kind}_{number}}} {{copy_{partitions}}}",
                "librdkafka in C": f"{{floor}} {{brokers}} {{{kind}_{number}}} {{copy_{partitions}}} {{few}} {partitions}",
            },
        )
        for what, kind, number, partitions in sources
    ]
    return [
        *rows,
        Case(
            f"consume, {MEGABYTES} partitions of 1 MB records",
            2 * MEGABYTES,
            {
                "kpipe": "kpipe consume -b {brokers} -e {large} > {out}",
                "kcat": KCAT + " -C -e -o beginning -t {large} > {out}",
            },
        ),
        Case(
            f"forward, {MEGABYTES} partitions of 1 MB records",
            2 * MEGABYTES,
            {"kpipe": f"{FORWARD} {{large}} {{copy_4}}"},
        ),
    ]
