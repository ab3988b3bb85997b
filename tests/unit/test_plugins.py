"""Plugins: found without an import, loaded by name, and every way to be broken is one line that names who is."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING

import pytest

from kpipe import plugins
from kpipe.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


class Shelf:
    """A folder on the path, in which distributions are put."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, distribution: str, entries: str, module: str = "", code: str = "") -> None:
        info = self._folder / f"{distribution.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(entries)
        if module:
            (self._folder / f"{module}.py").write_text(code)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    monkeypatch.syspath_prepend(tmp_path)
    return Shelf(tmp_path)


def mine() -> list[plugins.Plugin]:
    return [each for each in plugins.offered() if each.distribution.startswith("test-")]


def test_a_list_imports_nothing(shelf: Shelf) -> None:
    shelf.put("test-bomb", "[kpipe.transforms]\nboom = plugin_bomb:make\n", "plugin_bomb", "raise SystemExit('boom')")
    assert mine() == [plugins.Plugin("transforms", "boom", "test-bomb", "1.2", "plugin_bomb:make")]
    assert "plugin_bomb" not in sys.modules


def test_a_plugin_is_made_with_what_stands_behind_its_name(shelf: Shelf) -> None:
    shelf.put("test-good", "[kpipe.secrets]\nok = plugin_good:make\n", "plugin_good", "make = lambda text: [text]")
    assert plugins.load("secrets", "ok", "x") == ["x"]
    assert plugins.load("secrets", "ok", None) == [None]


BROKEN = {
    "does not load: ModuleNotFoundError: No module named 'nowhere_at_all'": "import nowhere_at_all",
    "does not load: SyntaxError": "def (",
    "does not load: SystemExit: 3": "raise SystemExit(3)",
    "does not load: AttributeError": "",
    "is no factory: plugin_broken:make cannot be called": "make = 7",
    "does not start: TypeError": "make = lambda: None",
    "does not start: SystemExit": "def make(text): raise SystemExit",
    "name the fields; one line": "def make(text): raise ValueError('name the fields;\\n  one line')",
    "is for plugin level 99, and this kpipe has 1": "def make(text): pass\nmake.kpipe_level = 99",
}


@pytest.mark.parametrize(("said", "code"), BROKEN.items(), ids=BROKEN)
def test_a_broken_one_is_one_line_that_names_its_distribution(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, said: str, code: str
) -> None:
    monkeypatch.delitem(sys.modules, "plugin_broken", raising=False)
    shelf.put("test-broken", "[kpipe.decoders]\nbad = plugin_broken:make\n", "plugin_broken", code)
    with pytest.raises(UsageError) as caught:
        plugins.load("decoders", "bad", None, where="--decode plugin:bad")
    message = str(caught.value)
    assert said in message
    assert "bad of test-broken 1.2" in message
    assert "\n" not in message
    monkeypatch.delitem(sys.modules, "plugin_broken", raising=False)


def test_a_name_that_two_offer_is_nobodys(shelf: Shelf) -> None:
    for name in ("test-one", "test-two"):
        shelf.put(name, "[kpipe.transforms]\nsame = json:dumps\n")
    assert {each.problem for each in mine()} == {"test-one and test-two both offer it; uninstall one"}
    with pytest.raises(UsageError, match="test-one and test-two both offer it"):
        plugins.load("transforms", "same", None)


def test_a_kind_does_not_stand_for_another(shelf: Shelf) -> None:
    shelf.put("test-kind", "[kpipe.transforms]\nkind = json:dumps\n")
    with pytest.raises(UsageError, match=r"no plugin of kpipe\.decoders is called 'kind'"):
        plugins.load("decoders", "kind", None)


def test_the_nearest_name_is_told(shelf: Shelf) -> None:
    shelf.put("test-near", "[kpipe.transforms]\nredact-it = json:dumps\n")
    with pytest.raises(UsageError, match="did you mean redact-it"):
        plugins.load("transforms", "redact", None)


def test_a_broken_file_of_entry_points_is_told_and_breaks_no_other(shelf: Shelf) -> None:
    shelf.put("test-garbage", "[kpipe.transforms]\nthis is no entry\n")
    shelf.put("test-good", "[kpipe.transforms]\ngood = json:dumps\n")
    problems = {each.distribution: each.problem for each in mine()}
    assert problems["test-good"] == ""
    assert problems["test-garbage"].startswith("its entry_points.txt is broken")
    assert plugins.load("transforms", "good", "x") == '"x"'


def test_the_contract_is_the_one_that_plugins_were_written_for() -> None:
    """To change it on purpose, raise LEVEL, and write it into docs/plugins.md and the changelog."""
    assert plugins.LEVEL == 1
    assert [f"kpipe.{kind}" for kind in plugins.KINDS] == ["kpipe.transforms", "kpipe.decoders", "kpipe.secrets"]
    assert (
        str(inspect.signature(plugins.load))
        == "(kind: 'str', name: 'str', argument: 'str | None', *, where: 'str' = '') -> 'Any'"
    )
    assert set(plugins.Plugin._fields) >= {"kind", "name", "distribution", "version", "reference", "problem"}
