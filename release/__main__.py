"""`python -m release build|check|lock|publishable`."""

from __future__ import annotations

import argparse
import filecmp
import hashlib
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from release import deb, formula, locked, onefile, sbom, tree

BEGAN = time.monotonic()


def main() -> int:
    """Do what was asked for; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m release")
    parser.add_argument("action", choices=("build", "check", "lock", "publishable"))
    parser.add_argument("--out", type=Path, default=tree.ROOT / "dist")
    parser.add_argument("--allow-dirty", action="store_true", help="build HEAD although files differ from it")
    parser.add_argument("--no-smoke", action="store_true", help="compare two builds, install nothing")
    options = parser.parse_args()
    os.umask(0o022)
    if options.action == "lock":
        locked.write()
        return 0
    problems = tree.unnamed(tree.project(), os.environ.get("GITHUB_REPOSITORY"))
    for problem in problems:
        tell(f"not to be published: {problem}")
    if options.action == "publishable":
        return 1 if problems else 0
    if not options.allow_dirty:
        tree.require_clean()
    return build(options.out) if options.action == "build" else check(options.out, smoke=not options.no_smoke)


def build(out: Path) -> int:
    """Everything, into an empty folder."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    project = tree.project()
    about = {"version": tree.version(), "epoch": tree.epoch(), "maintainer": tree.maintainer(project)}
    with tempfile.TemporaryDirectory(prefix="kpipe-dist-") as folder:
        scratch = Path(folder)
        source = tree.export(scratch)
        tell("sdist and wheel")
        environment = {**os.environ, "SOURCE_DATE_EPOCH": about["epoch"]}
        tree.run([sys.executable, "-m", "hatchling", "build", "-d", out], cwd=source, env=environment)
        (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
        found = locked.packages(source / "pylock.toml")
        requirements = out / "requirements.txt"
        requirements.write_text(locked.requirements(found))
        shutil.copy(source / "pylock.toml", out)
        tell("the lock's wheels")
        wheels = collect(scratch, requirements, wheel)
        tell("one file for all Pythons")
        named = [*(f"{each.name}=={each.version}" for each in found), f"{tree.PROJECT}=={about['version']}"]
        onefile.build(out / f"kpipe-{about['version']}.pex", wheels / "all", named, about["epoch"], scratch)
        for suite in deb.SUITES:
            for architecture, machine in deb.MACHINES.items():
                tell(f"deb for {suite.name} on {architecture}")
                deb.build(
                    out, suite, architecture, wheels=wheels / f"{suite.minor}-{machine}", tree=source, about=about
                )
        tell("formula, bill of materials, sums")
        digest = hashlib.sha256(sdist.read_bytes()).hexdigest()
        (out / "kpipe.rb").write_text(formula.formula(found, sdist.name, digest, project["urls"]["Source"]))
        own = wheels / f"{sys.version_info.minor}-{os.uname().machine}"
        text = sbom.build(sorted(own.glob("*.whl")), tree.PROJECT, about["version"])
        (out / f"kpipe-{about['version']}.cdx.json").write_text(text)
        shutil.copy(source / "Containerfile", out)
    files = sorted(path for path in out.iterdir())
    sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)
    (out / "SHA256SUMS").write_text(sums)
    for path in sorted(out.iterdir()):
        path.chmod(0o755 if path.suffix == ".pex" else 0o644)
        tell(f"{path.stat().st_size:>12,}  {path.name}")
    return 0


def collect(scratch: Path, requirements: Path, wheel: Path) -> Path:
    """Wheels by Python and machine, each folder with kpipe's own, and `all` of them."""
    wheels = scratch / "wheels"
    (wheels / "all").mkdir(parents=True)
    for minor in locked.PYTHONS:
        for machine in locked.MACHINES:
            place = wheels / f"{minor}-{machine}"
            place.mkdir()
            locked.download(requirements, place, minor, machine)
            shutil.copy(wheel, place)
            for each in place.glob("*.whl"):
                shutil.copy(each, wheels / "all")
    return wheels


def check(out: Path, *, smoke: bool) -> int:
    """Build twice, in two places; compare; lint what can be linted; install and use each artefact."""
    from release import checks

    build(out)
    problems = []
    with tempfile.TemporaryDirectory(prefix="kpipe-again-") as folder:
        again = Path(folder) / "elsewhere"
        build(again)
        names = sorted(path.name for path in out.iterdir())
        _, differing, failed = filecmp.cmpfiles(out, again, names, shallow=False)
        problems += [f"{name}: two builds differ" for name in (*differing, *failed)]
        tell(f"{len(names) - len(problems)} of {len(names)} files are equal, byte for byte")
    problems += checks.lint(out)
    if smoke:
        from release import image
        from release import smoke as smoking

        with tempfile.TemporaryDirectory(prefix="kpipe-wheels-") as folder:
            place = Path(folder) / "wheels"
            place.mkdir()
            locked.download(out / "requirements.txt", place, 11, os.uname().machine)
            checks.build_backend(place)
            problems += [f"{name}: the smoke test failed" for name in smoking.check(out, place)]
            told, found = image.check(out, Path(folder) / "image", smoking.base(image.SUITE), smoking.SCRIPT)
            tell(told)
            problems += found
    for problem in problems:
        tell(f"FAILED {problem}")
    return 1 if problems else 0


def tell(text: str) -> None:
    """Say how it goes, after how many seconds."""
    sys.stdout.write(f"release: {time.monotonic() - BEGAN:4.0f} s: {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
