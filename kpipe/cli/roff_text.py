"""Manual pages as plain text, for systems without man: containers have none.

It reads the few requests of roff that `kpipe.cli.manual` writes, and no others.
"""

from __future__ import annotations

import re
import textwrap

ESCAPES = {"\\-": "-", "\\(aq": "'", "\\(ga": "`", "\\(ha": "^", "\\(ti": "~", "\\e": "\\", "\\&": ""}
ESCAPE = re.compile(r"\\f[BIR]|\\\((?:aq|ga|ha|ti)|\\[-e&]")
TEXT, INSIDE = " " * 4, " " * 8
WIDTH = 78


def plain(page: str) -> str:
    """The text of a page, for 80 columns."""
    lines: list[str] = []
    words: list[str] = []
    margin, verbatim = TEXT, False

    def end_paragraph() -> None:
        if words:
            filled = textwrap.wrap(" ".join(words), WIDTH - len(margin), break_long_words=False, break_on_hyphens=False)
            lines.extend(margin + line for line in filled)
            words.clear()

    source = iter(page.splitlines())
    for line in source:
        request, _, rest = line.partition(" ")
        if not line.startswith("."):
            if verbatim:
                lines.append(margin + _set(line))
            else:
                words.append(_set(line))
            continue
        if request in {".B", ".BR"}:
            words.append(_set(rest).replace(" (", "("))
            continue
        end_paragraph()
        verbatim = request == ".EX"
        if request in {".SH", ".SS"}:
            lines += ["", ("" if request == ".SH" else "  ") + _set(rest.strip('"'))]
            margin = TEXT
        elif request == ".TP":
            margin = INSIDE
            lines += ["", TEXT + _set(next(source))]
        elif request == ".PP":
            lines.append("")
    end_paragraph()
    return re.sub(r"(?m)^(\S.*|  \S.*)\n\n", r"\1\n", "\n".join(lines).lstrip("\n")) + "\n"


def _set(text: str) -> str:
    return ESCAPE.sub(lambda found: ESCAPES.get(found[0], ""), text)
