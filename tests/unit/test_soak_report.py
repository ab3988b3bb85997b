"""The soak's rule: what grows is found, what goes up and down is not."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from bench.soak_report import Sample, growth, plot, table

RESTS = [(50.0, 0.2), (100.0, 0.4), (300.0, 0.3)]


def samples(**each: float) -> list[Sample]:
    """Five minutes; `each` names what grows, from its start to this, beside a saw tooth."""
    found = []
    for number in range(60):
        base = {"memory": 80.0, "files": 30, "threads": 12, "cpu": 20.0, "lag": 100}
        for name, end in each.items():
            base[name] += (end - base[name]) * number / 59
        found.append(Sample(number * 5.0, **{name: value + number % 3 for name, value in base.items()}))
    return found


@pytest.mark.parametrize(("grows", "found"), [({}, []), ({"memory": 84.0}, []), ({"cpu": 90.0, "lag": 9e6}, [])])
def test_what_is_flat(grows: dict[str, float], found: list[str]) -> None:
    assert growth(samples(**grows), 5.0) == found


@pytest.mark.parametrize(("what", "end"), [("memory", 110.0), ("files", 60), ("threads", 20)])
def test_what_grows_is_named(what: str, end: float) -> None:
    (found,) = growth(samples(**{what: end}), 5.0)
    assert found.startswith(f"{what} grew from ")


def test_too_few_samples_are_no_proof() -> None:
    assert growth(samples()[:12], 5.0) == ["too few samples to see growth"]


def test_the_plot_is_a_picture_of_all_curves_and_the_table_has_a_row_for_each() -> None:
    curves = [each for each in ET.fromstring(plot(samples(), RESTS)).iter() if each.tag.endswith("polyline")]
    assert [len(curve.attrib["points"].split()) for curve in curves] == [60] * 5 + [3]
    *rows, idle = table(samples(), RESTS, 5.0)
    assert len(rows) == 2 + 5
    assert idle == "| CPU without work, % of a core | 0.2 | 0.3 | 0.4 | ≤ 5 |"


def test_a_run_that_never_rested_has_no_such_curve() -> None:
    curves = [each for each in ET.fromstring(plot(samples(), [])).iter() if each.tag.endswith("polyline")]
    assert len(curves) == 5
