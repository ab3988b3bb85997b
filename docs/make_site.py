"""Builds the pages of docs/, and the README, into build/site, and fails on a link that leads nowhere.

The pages are plain Markdown that also reads well beside the code. What they link to elsewhere comes along as files.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build"
PAGES, SITE = BUILD / "pages", BUILD / "site"
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)")


def main() -> int:
    """Build; the exit code."""
    stage()
    shutil.rmtree(SITE, ignore_errors=True)
    settings = BUILD / "zensical.toml"
    text = (ROOT / "zensical.toml").read_text()
    settings.write_text(text.replace('"docs"', '"pages"').replace('"build/site"', '"site"'))
    command = [Path(sys.executable).with_name("zensical"), "build", "--clean", "--strict", "-f", settings]
    done = subprocess.run(command, check=False, env={**os.environ, "NO_COLOR": "1"})
    broken = [f"{page.relative_to(SITE)}: {link}" for page in sorted(SITE.rglob("*.html")) for link in dead_links(page)]
    for line in broken:
        sys.stderr.write(f"leads nowhere: {line}\n")
    return done.returncode or int(bool(broken))


def stage() -> None:
    """Lay the pages out as the site has them."""
    shutil.rmtree(PAGES, ignore_errors=True)
    PAGES.mkdir(parents=True)
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        name = "readme.md" if page.name == "README.md" else page.name
        (PAGES / name).write_text(LINK.sub(lambda link, page=page: moved(page, link), page.read_text()))
    for picture in (ROOT / "docs").glob("*.svg"):
        shutil.copy(picture, PAGES)


def moved(page: Path, link: re.Match[str]) -> str:
    """The link as it is on the site."""
    if not link[1]:
        return link[0]
    there = (page.parent / link[1]).resolve()
    anchor = link[2] or ""
    if there == ROOT / "README.md":
        return f"](readme.md{anchor})"
    if there.parent == ROOT / "docs":
        return f"]({there.name}{anchor})"
    copy = PAGES / "files" / there.relative_to(ROOT)
    if copy.suffix == ".md":  # it is no page of the site
        copy = copy.with_suffix(".md.txt")
    copy.parent.mkdir(parents=True, exist_ok=True)
    if there.is_dir():
        return f"]({listing(there, copy)}/index.html)"
    shutil.copy(there, copy)
    return f"]({copy.relative_to(PAGES)})"


def listing(there: Path, copy: Path) -> Path:
    """A folder, with a page that lists its files."""
    shutil.copytree(there, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    files = sorted(path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file())
    rows = "".join(f'<li><a href="{name}">{name}</a></li>' for name in files if name != "index.html")
    (copy / "index.html").write_text(f"<!doctype html><title>{there.name}</title><ul>{rows}</ul>\n")
    return copy.relative_to(PAGES)


class Links(HTMLParser):
    """What a page links to, and the names that others can link to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.names: set[str] = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note them."""
        for name, value in attrs:
            if name == "id" and value:
                self.names.add(value)
            if name in {"href", "src"} and value:
                self.links.add(value)


@cache
def links_of(page: Path) -> Links:
    """Read once, however many others lead to it."""
    return Links(page.read_text())


def dead_links(page: Path) -> list[str]:
    """The links of a page to files or names of this site that are not there."""
    dead = []
    for link in sorted(links_of(page).links):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc or parts.path.startswith("/") or page.name == "404.html":
            continue
        there = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        there = there / "index.html" if there.is_dir() else there
        found = there.exists() and (
            not parts.fragment or there.suffix != ".html" or unquote(parts.fragment) in links_of(there).names
        )
        if not found:
            dead.append(link)
    return dead


if __name__ == "__main__":
    raise SystemExit(main())
