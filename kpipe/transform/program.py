"""Compiles jq programs and runs them over the values of a batch, one result row per record.

Never lets jq swallow a record: no result, several results, `halt` and errors all become a bad record.
"""

from __future__ import annotations

import re
import time
from base64 import b64encode
from functools import cached_property
from typing import TYPE_CHECKING, Any

import orjson

from kpipe.errors import Stage, UndeliveredError
from kpipe.formats.header_names import bytes_of
from kpipe.record import TIMESTAMP_NONE, TIMESTAMP_TYPES
from kpipe.transform.columns import headers_of, key_column
from kpipe.transform.document import NotJson

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from kpipe.errors import BadRecord
    from kpipe.record import Batch
    from kpipe.transform.context import Context
    from kpipe.transform.document import Documents
    from kpipe.transform.results import Evaluator, JqAnswer, Rows
    from kpipe.transform.step import Step

PAUSE = 0.5
"""Seconds of work after which the run is asked whether to go on: one match of jq's own may take a second."""
_LOOPS = re.compile(r"\b(?:def|while|until|repeat|range|combinations|infinite|limit|recurse(?=\s*\())\b")
_STRINGS = re.compile(r'"(?:\\.|[^"\\])*"', re.DOTALL)
_SPEAKS = re.compile(r"(?<![.$@\w])(debug|stderr)\b(?!\s*:)")

# What would stop the program without a word, read other records, or read files; `import` and `include` cannot stand
# behind a definition, so they are syntax errors.
_TRAPS = """
def _trap(name): error(name + " is not for records");
def halt: _trap("halt"); def halt_error: _trap("halt_error"); def halt_error(code): _trap("halt_error");
def input: _trap("input"); def inputs: _trap("inputs"); def modulemeta: _trap("modulemeta");
"""
_LONGEST_MESSAGE = 200


def mentions_meta(text: str) -> bool:
    """Whether a program reads `$meta`; a mention in a string costs time only."""
    return "$meta" in text


def may_loop(text: str) -> bool:
    """Whether a program has a word by which it can go on for ever; a mention in a string costs time only."""
    return _LOOPS.search(text) is not None


def says_nothing(text: str) -> str:
    """The first word of a program that writes on stderr in the command jq, and nowhere in the library; "" for none."""
    plain = _STRINGS.sub('""', text)
    found = next((word for word in _SPEAKS.findall(plain) if not re.search(rf"\bdef\s+{word}\b", plain)), "")
    return str(found)


def check(step: Step, text: str) -> None:
    """Refuse what is no jq program by itself: `1) , (2` is one inside the parentheses of a fused program."""
    _compile(step, f"{_TRAPS}null as $meta |\n{text}\n", text)


def one_result(number: int, text: str) -> str:
    """Text in jq for the one result of program `text` on `$v`; errors are told as `number message`."""
    # reduce costs half of [limit(2; …)].
    return (
        f"($v | try (reduce (\n{text}\n) as $one "
        '([]; if length == 0 then [$one] else error("it gives more than one result") end) '
        '| if length == 0 then error("it gives no result") else .[0] end) '
        f'catch error("{number} \\(.)"))'
    )


def all_results(number: int, text: str) -> str:
    """Text in jq for every result of program `text` on `$v`, as an array of JSON texts."""
    return f'($v | try [(\n{text}\n) | tojson] catch error("{number} \\(.)"))'


class Program:
    """A program over `$v` (the parsed value) and `$meta`, whose result is an array of strings and nulls, or null.

    `for_null` is run for records without a value (`$v` is null); None: they get the row None.
    Only one that `looks` at `$v` needs a value that is JSON.
    """

    def __init__(
        self, steps: Sequence[Step], body: str, for_null: str | None, context: Context, *, meta: bool, looks: bool
    ) -> None:
        self._steps = steps
        self._meta = meta
        self._looks = looks
        self._head = f"{_TRAPS}{'. as {$meta, value: $v}' if meta else '. as $v'} | "
        self._for_null = for_null
        self._context = context
        self._run = self._evaluator(body)

    @cached_property
    def _run_null(self) -> Evaluator | None:
        """Compiled when the first tombstone comes: 1 ms that most runs do not need."""
        return None if self._for_null is None else self._evaluator(self._for_null)

    def _evaluator(self, body: str) -> Evaluator:
        """Here, or where a program without an end can be ended."""
        source, apart = self._head + body, self._context.run_apart
        run = _compile(self._steps[0], source).input_text
        if apart is not None and may_loop(body):
            return apart(source, self._context.patience)

        def evaluate(texts: Sequence[bytes]) -> Iterator[JqAnswer]:
            due = time.monotonic() + PAUSE
            for text in texts:
                yield answer(run, text)
                if time.monotonic() >= due:
                    due = time.monotonic() + PAUSE
                    if not self._context.patience.go_on():
                        raise UndeliveredError("the run ended while jq was at work", stage=Stage.TRANSFORM)

        return evaluate

    def rows(self, batch: Batch, documents: Documents) -> tuple[Rows, dict[int, BadRecord]]:
        """A row per record, and the bad ones by place (their row is None)."""
        rows: Rows = []
        bad: dict[int, BadRecord] = {}
        values = batch.values if self._looks else [None] * len(batch)
        texts = _envelopes(batch, values) if self._meta else ((value or b"null") for value in values)
        # The documents are not jq's input. They are the same verdict on what is JSON for every transform, at a tenth of
        # jq's cost: jq alone takes NaN, and no value or several values in one.
        verdicts = documents.column(batch) if self._looks else values
        columns = list(zip(batch.values, texts, verdicts, strict=True))
        asked = [text for value, text, document in columns if value is not None and not isinstance(document, NotJson)]
        answers = iter(self._run(asked))
        nulls = iter(self._nulls([text for value, text, _ in columns if value is None]))
        for place, (value, _, document) in enumerate(columns):
            result: JqAnswer
            if value is None:
                result = next(nulls, None)
            else:
                result = f"0 {document.reason}" if isinstance(document, NotJson) else next(answers)
            if isinstance(result, str):
                bad[place] = self._told(result)
                rows.append(None)
            else:
                rows.append(None if result is None else [None if one is None else one.encode() for one in result])
        return rows, bad

    def _nulls(self, texts: Sequence[bytes]) -> Iterable[JqAnswer]:
        """The answers for records without a value; none when they are left alone."""
        return self._run_null(texts) if texts and self._run_null is not None else ()

    def _told(self, message: str) -> BadRecord:
        """A bad record from `number message`, by the step of that number."""
        number, _, what = message.partition(" ")
        if not number.isdecimal():  # none of ours: the program as a whole
            number, what = "0", message
        return self._steps[int(number)].bad(" ".join(what.split())[:_LONGEST_MESSAGE])


def answer(run: Any, text: bytes) -> JqAnswer:
    """What a compiled program (its `input_text`) says of one text."""
    try:
        result: JqAnswer = run(text.decode()).first()
    except StopIteration:
        return "0 it stopped without a result"
    except ValueError as error:  # caught here and not in jq, where an outer try costs 4 us per record
        return str(error)
    return result


def _compile(step: Step, source: str, typed: str = "") -> Any:
    import jq

    try:
        return jq.compile(source)
    except ValueError as error:
        what = str(error).partition("\n")[0].removeprefix("jq: error: ").partition(" at <top-level>")[0]
        advice = "leave out import and include" if "import" in what or "include" in what else "try it with jq first"
        if not typed.strip():
            advice = "write . for the value as it is"
        raise step.usage(f"not a jq program ({what}); {advice}") from None


def _envelopes(batch: Batch, values: Sequence[bytes | None]) -> Iterator[bytes]:
    """The input of a program that mentions `$meta`: `{"meta": …, "value": …}` around the text of each of `values`."""
    nothing = [None] * len(batch)
    columns = zip(
        batch.values,
        values,
        key_column(batch),
        headers_of(batch),
        nothing if batch.timestamps is None else batch.timestamps,
        nothing if batch.topics is None else batch.topics,
        nothing if batch.partitions is None else batch.partitions,
        nothing if batch.offsets is None else batch.offsets,
        strict=True,
    )
    for own, value, key, headers, timestamp, topic, partition, offset in columns:
        kind, ms = timestamp or (TIMESTAMP_NONE, -1)
        named = [(_text(bytes_of(name)), _text(content)) for name, content in headers or ()]
        meta: dict[str, object] = {
            "topic": topic,
            "partition": partition,
            "offset": offset,
            "timestamp": None if kind == TIMESTAMP_NONE else ms,
            "timestamp_type": TIMESTAMP_TYPES[kind],
            "tombstone": own is None,
            "key": _text(key),
            "headers": named,
            "header": {name: content for name, content in named if type(name) is str},
        }
        yield b'{"meta":%b,"value":%b}' % (orjson.dumps(meta), b"null" if value is None else value)


def _text(content: bytes | None) -> str | dict[str, str] | None:
    """Bytes for jq: text, or what the envelope has for a header that is not UTF-8."""
    if content is None:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(content).decode()}
