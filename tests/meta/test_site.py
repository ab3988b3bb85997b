"""The site's own rules: links keep leading somewhere when pages move, and one that does not is found."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from typing import TYPE_CHECKING, Any

from tests.meta.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def make_site() -> Any:
    spec = importlib.util.spec_from_file_location("make_site", ROOT / "docs" / "make_site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_of_staged_pages_lead_somewhere(tmp_path: Path) -> None:
    site = make_site()
    site.PAGES = tmp_path
    site.stage()
    assert (tmp_path / "readme.md").exists()
    for page in tmp_path.glob("*.md"):
        for link in site.LINK.finditer(page.read_text()):
            assert not link[1] or (tmp_path / link[1]).exists(), (page.name, link[0])


def anchors(text: str) -> set[str]:
    """The names of a page's headings, as GitHub makes them: letters, digits, - and _ stay, a space becomes -."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    titles = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title) for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_to_headings_lead_to_one() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
    names = {page: anchors(page.read_text()) for page in pages}
    dead, led = [], 0
    for page in pages:
        for link in make_site().LINK.finditer(page.read_text()):
            there = (page.parent / link[1]).resolve() if link[1] else page
            if link[2] and there in names:
                led += 1
                dead += [] if link[2][1:] in names[there] else [f"{page.name}: {link[1]}{link[2]}"]
    assert dead == []
    assert led > 3


def test_every_page_is_in_the_navigation() -> None:
    nav = (ROOT / "zensical.toml").read_text()
    assert tomllib.loads(nav)["project"]["site_dir"] == "build/site"
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f'"{page.name}"' not in nav] == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    site = make_site()
    (tmp_path / "b.html").write_text('<h2 id="here">x</h2>')
    page = tmp_path / "a.html"
    page.write_text(
        '<a href="b.html#here">1</a><a href="b.html#gone">2</a><a href="gone.html">3</a>'
        '<a href="https://example.com/">4</a><a href="#own" id="own">5</a><img src="gone.svg">'
    )
    assert site.dead_links(page) == ["b.html#gone", "gone.html", "gone.svg"]
