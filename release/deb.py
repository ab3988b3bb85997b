"""Debian packages: one for each distribution's Python and machine, for the wheels hold native modules.

Everything stands in /usr/lib/kpipe, apart from the system's own Python packages; only the launcher's path finds it.
"""

from __future__ import annotations

import gzip
import os
import shutil
import sys
from typing import TYPE_CHECKING, NamedTuple

from release.tree import run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


class Suite(NamedTuple):
    """A distribution: what its packages' versions end in, and the minor version of its python3."""

    name: str
    minor: int


SUITES = (Suite("deb12", 11), Suite("deb13", 13))
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
HOME = "usr/lib/kpipe"
LAUNCHER = """\
#!{python} -I
\"\"\"Starts the kpipe in {home}, and tells it how to start itself again.\"\"\"

import os
import sys

sys.path[:0] = {paths}
os.environ["KPIPE_SELF"] = os.path.abspath(__file__)

from kpipe.__main__ import main  # noqa: E402

main()
"""
CONTROL = """\
Package: kpipe
Version: {version}-1~{suite}
Architecture: {architecture}
Maintainer: {maintainer}
Installed-Size: {size}
Depends: python3 (>= 3.{minor}), python3 (<< 3.{next}), libc6 (>= 2.28)
Suggests: man-db
Section: net
Priority: optional
Description: pipe fitting between Unix and Apache Kafka
 kpipe sends lines to topics, prints topics, and forwards from topic to topic,
 here or to another cluster. Nothing is lost, nothing is silently changed, and
 every record says where it came from.
"""
# What python3's own packaging helpers write: byte code is made at installation, since only root may write there.
POSTINST = """\
#!/bin/sh
set -e
if [ "$1" = configure ] && command -v py3compile >/dev/null 2>&1; then
    py3compile -p kpipe /usr/lib/kpipe
fi
"""
PRERM = """\
#!/bin/sh
set -e
if command -v py3clean >/dev/null 2>&1; then
    py3clean -p kpipe
else
    find /usr/lib/kpipe -name __pycache__ -type d -prune -exec rm -rf {} +
fi
"""
OVERRIDES = """\
# The wheels of the lock as their authors built them: stripped or not, with the libraries that they bring along. Their
# modules start with lines for interpreters, and are not executable.
kpipe: unusual-interpreter
kpipe: embedded-library
kpipe: library-not-linked-against-libc
kpipe: unstripped-binary-or-object
kpipe: hardening-no-fortify-functions
kpipe: hardening-no-relro
kpipe: hardening-no-bindnow
kpipe: shared-library-lacks-prerequisites
kpipe: custom-library-search-path
kpipe: package-contains-documentation-outside-usr-share-doc
kpipe: extra-license-file
# It is no package of the archive.
kpipe: initial-upload-closes-no-bugs
"""


def launcher(python: str, home: str, paths: Iterable[str]) -> str:
    """The text of an executable that starts the kpipe that stands in `paths`, whatever the caller's environment."""
    return LAUNCHER.format(python=python, home=home, paths=list(paths))


def build(into: Path, suite: Suite, architecture: str, *, wheels: Path, tree: Path, about: dict[str, str]) -> Path:
    """One package. `wheels` holds the wheels of this Python and machine; `about` has version, epoch and maintainer."""
    root = into / f"deb-{suite.name}-{architecture}"
    _install(root / HOME, suite, architecture, wheels)
    _share(root, tree, about)
    executable = root / "usr/bin/kpipe"
    executable.parent.mkdir(parents=True)
    executable.write_text(launcher("/usr/bin/python3", f"/{HOME}", [f"/{HOME}"]))
    _describe(root, suite, architecture, about)
    _settle(root, int(about["epoch"]))
    target = into / f"kpipe_{about['version']}-1~{suite.name}_{architecture}.deb"
    environment = {**os.environ, "SOURCE_DATE_EPOCH": about["epoch"]}
    run(["dpkg-deb", "--root-owner-group", "--threads-max=1", "-Zxz", "--build", root, target], env=environment)
    shutil.rmtree(root)
    return target


def _install(home: Path, suite: Suite, architecture: str, wheels: Path) -> None:
    from release.locked import platforms

    wanted = [word for name in platforms(MACHINES[architecture]) for word in ("--platform", name)]
    run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--no-index"]
        + ["--no-compile", "--only-binary", ":all:", *wanted, "--python-version", f"3.{suite.minor}"]
        + ["--implementation", "cp", "--target", home, *sorted(wheels.glob("*.whl"))]
    )
    for unwanted in ("bin", "share"):
        shutil.rmtree(home / unwanted, ignore_errors=True)
    for left in [*home.rglob("RECORD"), *home.rglob("REQUESTED"), *home.rglob("direct_url.json")]:
        left.unlink()  # pip's notes of where it stood when it installed


def _share(root: Path, tree: Path, about: dict[str, str]) -> None:
    """What lies beside the program: manual, completions, an example of a unit, licence, changelog."""
    for source, target in _files(tree):
        place = root / target
        place.parent.mkdir(parents=True, exist_ok=True)
        content = source.read_bytes()
        if place.suffix == ".gz":
            content = gzip.compress(content, 9, mtime=int(about["epoch"]))
        place.write_bytes(content)
    notice = (
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"
        "Upstream-Name: kpipe\n\nFiles: *\nCopyright: 2026 kpipe's contributors\nLicense: Apache-2.0\n"
        " On Debian systems the full text is in /usr/share/common-licenses/Apache-2.0.\n"
        "Comment: the packages in /usr/lib/kpipe have licences of their own, each in its .dist-info folder;\n"
        " the SBOM of the release lists them.\n"
    )
    (root / "usr/share/doc/kpipe/copyright").write_text(notice)
    stamp = run(["date", "--utc", "--rfc-email", f"--date=@{about['epoch']}"]).strip()
    entry = f"kpipe ({about['version']}-1) unstable; urgency=medium\n\n  * See changelog.gz.\n\n"
    entry += f" -- {about['maintainer']}  {stamp}\n"
    (root / "usr/share/doc/kpipe/changelog.Debian.gz").write_bytes(
        gzip.compress(entry.encode(), 9, mtime=int(about["epoch"]))
    )
    overrides = root / "usr/share/lintian/overrides/kpipe"
    overrides.parent.mkdir(parents=True)
    overrides.write_text(OVERRIDES)


def _files(tree: Path) -> Iterator[tuple[Path, str]]:
    for page in sorted((tree / "man").glob("*.1")):
        yield page, f"usr/share/man/man1/{page.name}.gz"
    yield tree / "completions/kpipe.bash", "usr/share/bash-completion/completions/kpipe"
    yield tree / "completions/_kpipe", "usr/share/zsh/vendor-completions/_kpipe"
    yield tree / "completions/kpipe.fish", "usr/share/fish/vendor_completions.d/kpipe.fish"
    yield tree / "examples/kpipe-forward.service", "usr/share/doc/kpipe/examples/kpipe-forward.service"
    yield tree / "examples/prometheus-rules.yml", "usr/share/doc/kpipe/examples/prometheus-rules.yml"
    yield tree / "CHANGELOG.md", "usr/share/doc/kpipe/changelog.gz"


def _describe(root: Path, suite: Suite, architecture: str, about: dict[str, str]) -> None:
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) // 1024
    control = root / "DEBIAN"
    control.mkdir()
    fields = {"version": about["version"], "suite": suite.name, "architecture": architecture, "size": size}
    text = CONTROL.format(**fields, minor=suite.minor, next=suite.minor + 1, maintainer=about["maintainer"])
    (control / "control").write_text(text)
    for name, script in (("postinst", POSTINST), ("prerm", PRERM)):
        (control / name).write_text(script)
        (control / name).chmod(0o755)
    sums = [
        f"{run(['md5sum', path]).split()[0]}  {path.relative_to(root)}\n"
        for path in sorted(root.rglob("*"))
        if path.is_file() and control not in path.parents
    ]
    (control / "md5sums").write_text("".join(sums))


def _settle(root: Path, epoch: int) -> None:
    """Modes and times that do not depend on who builds."""
    for path in [root, *root.rglob("*")]:
        own = path.parent.name in ("DEBIAN", "bin") and path.name in ("kpipe", "postinst", "prerm")
        executable = path.is_dir() or own
        path.chmod(0o755 if executable else 0o644)
        os.utime(path, (epoch, epoch))
