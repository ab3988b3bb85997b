"""The page about speed is what was measured: it is written from the results, with its pictures."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench.report import PASSING, STARTS, write_page

ROOT = Path(__file__).parents[2]
RESULTS = json.loads((ROOT / "bench" / "results" / "latest.json").read_text())
FILES = ("speed.md", "speed.svg", "speed-start.svg")


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write_page(RESULTS, tmp_path / "speed.md")
    return tmp_path


@pytest.mark.parametrize("name", FILES)
def test_it_is_fresh(written: Path, name: str) -> None:
    assert (written / name).read_text() == (ROOT / "docs" / name).read_text(), 'make bench ARGS="--page"'


def test_the_pictures_have_a_bar_for_every_tool_of_their_cases(written: Path) -> None:
    shown = {
        "speed.svg": lambda case: any(part in case["name"] for part in PASSING),
        "speed-start.svg": lambda case: case["name"] in STARTS,
    }
    for file, among in shown.items():
        tools = [tool for case in RESULTS["cases"] if among(case) for tool in case["tools"]]
        bars = [each for each in ET.parse(written / file).iter() if each.tag.endswith("rect")][1:]
        assert len(bars) == len(tools) > 10
        assert all(0 < float(bar.attrib["width"]) <= 400 for bar in bars)


def test_the_readme_says_the_same(written: Path) -> None:
    (case,) = (case for case in RESULTS["cases"] if case["name"] == "one line to delivered")
    times = [f"{case['tools'][tool]['wall']:.2f} s" for tool in ("kpipe", "kcat")]
    (row,) = (line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| one record sent"))
    assert [cell.strip(" *") for cell in row.split("|")[2:4]] == times


def test_the_table_has_all_cases(written: Path) -> None:
    page = (written / "speed.md").read_text()
    assert [
        case["name"] for case in RESULTS["cases"] if f"| {case['name'].replace('|', chr(92) + '|')} |" not in page
    ] == []
