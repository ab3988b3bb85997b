"""Whether a jq program looks at its input, told from its text: only then must a value be JSON.

It never says "no" of a program that looks: what it does not know counts as looking. Nothing is evaluated.
"""

from __future__ import annotations

import re

_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_NUMBER = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_NAME = re.compile(r"[a-zA-Z_]\w*")
_VARIABLE = re.compile(r"\$(?:__loc__|[a-zA-Z_]\w*)")
_FORMAT = re.compile(r"@[a-zA-Z]\w*")
_FIELD = re.compile(r"\.[ \t]*[a-zA-Z_]\w*")
_OPERATOR = re.compile(r"//(?!=)|==|!=|<=|>=|<|>|[+\-*/%](?!=)|,|\b(?:and|or)\b")

_CONSTANTS = frozenset(("null", "true", "false", "empty", "now", "infinite", "nan", "env"))
_OF_ARGUMENTS = frozenset(("error", "first", "last", "limit", "skip", "range", "isempty", "any", "all", "add"))
"""Functions that with arguments use nothing but those."""
_ON_RESULTS = frozenset(("any", "all"))
"""Functions whose second argument is run on what the first one gives."""


class _LooksError(Exception):
    """The program looks at its input, or is written in a way that this reader does not know."""


def looks_at_input(program: str) -> bool:
    """Whether `program` may look at `.`; False is certain."""
    reader = _Reader(program)
    try:
        reader.pipe(on_input=True)
    except (_LooksError, RecursionError):
        return True
    return reader.rest() != ""


class _Reader:
    """Reads a program from left to right. `on_input`: what is read next is run on the program's own input."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def rest(self) -> str:
        """What was not read."""
        self._take(_BLANK)
        return self._text[self._at :]

    def pipe(self, *, on_input: bool) -> None:
        """Terms and operators; behind a `|` the input is what stood before it, but for the body of `as`."""
        self._term(on_input=on_input)
        while self._sees(_OPERATOR):
            self._term(on_input=on_input)
        if self._word("as"):
            self._need(_VARIABLE)
            self._expect("|")
            self.pipe(on_input=on_input)
        elif not self.rest().startswith("|=") and self._mark("|"):
            self.pipe(on_input=False)

    def _term(self, *, on_input: bool) -> None:
        self._mark("-")
        rest = self.rest()
        if self._mark("("):
            self.pipe(on_input=on_input)
            self._expect(")")
        elif self._mark("["):
            if not self._mark("]"):
                self.pipe(on_input=on_input)
                self._expect("]")
        elif self._mark("{"):
            self._object(on_input=on_input)
        elif rest.startswith('"'):
            self._string(on_input=on_input)
        elif self._sees(_FORMAT):
            if self.rest().startswith('"'):
                self._string(on_input=on_input)
            else:
                self._look(on_input)
        elif not (self._sees(_NUMBER) or self._sees(_VARIABLE)):
            self._named(on_input=on_input)
        self._suffixes(on_input=on_input)

    def _named(self, *, on_input: bool) -> None:
        if self._word("if"):
            self._branches(on_input=on_input)
        elif self._word("try"):
            self._term(on_input=on_input)
            if self._word("catch"):
                self._term(on_input=False)
        elif self._sees(_NAME):
            name = self._last
            if name in ("def", "reduce", "foreach", "label", "import", "include", "then", "else", "end"):
                raise _LooksError
            if name not in _CONSTANTS and not (name in _OF_ARGUMENTS and self.rest().startswith("(")):
                self._look(on_input)
            if self._mark("("):
                self._arguments(name, on_input=on_input)
        elif self._mark("."):
            self._look(on_input)
            self._mark(".")
            self._sees(_NAME)
            if self.rest().startswith('"'):
                self._string(on_input=on_input)
        else:
            raise _LooksError

    def _arguments(self, name: str, *, on_input: bool) -> None:
        self.pipe(on_input=on_input)
        many = False
        while self._mark(";"):
            many = True
            self.pipe(on_input=on_input and name not in _ON_RESULTS)
        if name in _ON_RESULTS and not many:  # of one argument: a condition on the items of the input
            self._look(on_input)
        self._expect(")")

    def _branches(self, *, on_input: bool) -> None:
        has_else = False
        while True:
            self.pipe(on_input=on_input)
            if not self._word("then"):
                raise _LooksError
            self.pipe(on_input=on_input)
            if not self._word("elif"):
                break
        if self._word("else"):
            has_else = True
            self.pipe(on_input=on_input)
        if not self._word("end"):
            raise _LooksError
        if not has_else:  # what it gives then is the input
            self._look(on_input)

    def _object(self, *, on_input: bool) -> None:
        if self._mark("}"):
            return
        while True:
            variable = self._sees(_VARIABLE)
            if variable:
                pass
            elif self.rest().startswith('"'):
                self._string(on_input=on_input)
            elif self._mark("("):
                self.pipe(on_input=on_input)
                self._expect(")")
            else:
                self._need(_NAME)
            if self._mark(":"):
                self._term(on_input=on_input)
                while self._mark("|"):
                    self._term(on_input=False)
            elif not variable:
                self._look(on_input)
            if not self._mark(","):
                break
        self._expect("}")

    def _string(self, *, on_input: bool) -> None:
        self._expect('"')
        while True:
            char = self._text[self._at : self._at + 1]
            self._at += 1
            if char == '"':
                return
            if char == "\\":
                escaped = self._text[self._at : self._at + 1]
                self._at += 1
                if escaped == "(":
                    self.pipe(on_input=on_input)
                    self._expect(")")
            elif not char:
                raise _LooksError

    def _suffixes(self, *, on_input: bool) -> None:
        while True:
            if self._sees(_FIELD) or self._mark("?"):
                continue
            if self.rest().startswith('."'):
                self._expect(".")
                self._string(on_input=on_input)
            elif self.rest().startswith((".[", "[")):
                self._mark(".")
                self._expect("[")
                self._index(on_input=on_input)
            else:
                return

    def _index(self, *, on_input: bool) -> None:
        """`[]`, `[e]`, `[e:]`, `[:e]` and `[e:e]`; e is run on the input of the whole term."""
        while not self._mark("]"):
            if not self._mark(":"):
                self.pipe(on_input=on_input)

    # --- the text ----------------------------------------------------------------------------------------------

    def _look(self, on_input: bool) -> None:
        if on_input:
            raise _LooksError

    def _take(self, pattern: re.Pattern[str]) -> bool:
        match = pattern.match(self._text, self._at)
        if match is None:
            return False
        self._at, self._last = match.end(), match[0]
        return True

    def _sees(self, pattern: re.Pattern[str]) -> bool:
        self._take(_BLANK)
        return self._take(pattern)

    def _need(self, pattern: re.Pattern[str]) -> None:
        if not self._sees(pattern):
            raise _LooksError

    def _mark(self, mark: str) -> bool:
        self._take(_BLANK)
        if not self._text.startswith(mark, self._at):
            return False
        self._at += len(mark)
        return True

    def _expect(self, mark: str) -> None:
        if not self._mark(mark):
            raise _LooksError

    def _word(self, word: str) -> bool:
        self._take(_BLANK)
        match = _NAME.match(self._text, self._at)
        if match is None or match[0] != word:
            return False
        self._at = match.end()
        return True
