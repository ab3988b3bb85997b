"""What a release is made of, as far as it can be told without building one; `make dist-check` builds and uses it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename

from kpipe.cli.markdown import fill_blocks
from release import checks, formula, locked, onefile, sbom, tree
from tests.meta.conftest import ROOT

FOUND = locked.packages()
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_the_lock_holds_what_kpipe_asks_for() -> None:
    versions = {each.name: each.version for each in FOUND}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for text in [*project["dependencies"], *project["optional-dependencies"]["metrics"]]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(versions[wanted.name]), f"{text}: run make lock"


@pytest.mark.parametrize("machine", locked.MACHINES)
@pytest.mark.parametrize("minor", locked.PYTHONS)
def test_every_package_has_a_wheel_for_every_python_and_machine(minor: int, machine: str) -> None:
    tags = set(onefile.platform(minor, machine)["compatible_tags"])
    for each in tomllib.loads((ROOT / "pylock.toml").read_text())["packages"]:
        names = [wheel["url"].rpartition("/")[2] for wheel in each["wheels"]]
        fitting = [name for name in names if tags & {str(tag) for tag in parse_wheel_filename(name)[3]}]
        assert fitting, f"{each['name']} {each['version']} has no wheel for 3.{minor} on {machine}"


def test_every_file_of_the_lock_has_a_hash_and_an_address_that_everybody_can_reach() -> None:
    text = locked.requirements(FOUND)
    assert checks.uncovered(text) == []
    assert checks.uncovered("x==1\n") == ["requirements.txt: no hash: x==1"]
    assert text.count("==") == len(FOUND) > 5
    hosts = set(re.findall(r"https?://([^/\"]+)", (ROOT / "pylock.toml").read_text()))
    assert hosts == {"files.pythonhosted.org"}


def test_the_formula_has_every_dependency_by_hash() -> None:
    text = formula.formula(FOUND, "kpipe_cli-1.0.tar.gz", "0" * 64, "https://example.org/kpipe")
    assert re.findall(r'  resource "(.*)" do', text) == [each.name for each in FOUND]
    assert len(re.findall(r'sha256 "[0-9a-f]{64}"', text)) == len(FOUND) + 1
    with pytest.raises(ValueError, match="no sdist in the lock: x"):
        formula.formula([locked.Package("x", "1", (), None)], "", "", "")


def test_the_libraries_inside_the_client_are_found_in_it() -> None:
    folder = Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs"
    (library,) = folder.glob("librdkafka*.so*")
    found = sbom.native(library.read_bytes())
    assert list(found) == ["openssl", "zlib", "zstd", "lz4", "libcurl"]
    assert all(re.fullmatch(r"\d+\.\d+[\d.]*[a-z]?", found[name]) for name in sbom.PATTERNS)
    assert sbom.librdkafka(library) == confluent_kafka.libversion()[0]


def test_a_library_that_cannot_be_told_ends_the_build() -> None:
    """An SBOM that leaves one out would say that there is none."""
    with pytest.raises(ValueError, match="openssl: 0 versions found"):
        sbom.native(b"nothing")
    with pytest.raises(ValueError, match="openssl: 2 versions found"):
        sbom.native(b"OpenSSL 3.5.8 25 Aug 2026\0OpenSSL 3.0.1 1 May 2020\0")


def named(source: str, email: str = "us@kpipe.dev") -> dict[str, Any]:
    return {"urls": {"Source": source}, "maintainers": [{"name": "we", "email": email}]}


@pytest.mark.parametrize(
    ("project", "repository", "found"),
    [
        (
            named("https://github.com/OWNER/kpipe"),
            None,
            ["Source is https://github.com/OWNER/kpipe: put the owner there"],
        ),
        (named("https://github.com/OWNER/kpipe"), "ada/kpipe", ["Source is https://github.com/OWNER/kpipe: put"]),
        (
            named("https://github.com/ada/kpipe"),
            "bob/kpipe",
            ["Source is https://github.com/ada/kpipe, and this is bob/"],
        ),
        (
            named("https://github.com/ada/kpipe", "x@example.org"),
            "ada/kpipe",
            ["maintainers is we <x@example.org>: put"],
        ),
        (named("https://github.com/ada/kpipe"), "ada/kpipe", []),
        (named("https://github.com/ada/kpipe"), None, []),
    ],
)
def test_what_belongs_to_nobody_or_to_others_is_not_published(
    project: dict[str, Any], repository: str | None, found: list[str]
) -> None:
    problems = tree.unnamed(project, repository)
    assert len(problems) == len(found)
    assert all(part in problem for part, problem in zip(found, problems, strict=True))


def test_the_release_asks_for_that_before_it_builds() -> None:
    (release,) = [yaml.safe_load(path.read_text()) for path in WORKFLOWS if path.name == "release.yml"]
    commands = [step["run"] for step in release["jobs"]["build"]["steps"] if "run" in step]
    assert commands[0] == "python -m release publishable"


def test_the_owner_stands_in_one_place() -> None:
    """Elsewhere it is written by `make gen`."""
    text = "ghcr.io/OWNER/kpipe:v1 | brew install OWNER/tap/kpipe | gh attestation verify x --repo OWNER/kpipe"
    assert fill_blocks(text, "ada") == text.replace("OWNER", "ada")
    folders = [("", "*.md"), ("docs", "*.md"), ("release", "*.*"), (".github/workflows", "*"), ("examples", "*.*")]
    pages = [path for folder, names in folders for path in (ROOT / folder).glob(names) if path.is_file()]
    left = [page.name for page in pages if "OWNER" in fill_blocks(page.read_text(), "ada")]
    assert left == ["tree.py"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_do_nothing_by_default_and_runs_only_what_is_pinned(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {}
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert all(re.search(r"@[0-9a-f]{40}$", step["uses"]) for step in steps if "uses" in step)
    assert all(job.get("timeout-minutes") or job.get("needs") for job in workflow["jobs"].values())


def test_ci_runs_what_kpipe_says_it_runs_on() -> None:
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    said = [each.rpartition(" ")[2] for each in classifiers if "Python :: 3." in each]
    (ci,) = [yaml.safe_load(path.read_text()) for path in WORKFLOWS if path.name == "ci.yml"]
    assert ci["jobs"]["all"]["strategy"]["matrix"]["python"] == said == [f"3.{minor}" for minor in locked.PYTHONS]


def test_the_container_file_is_clean() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    command = [hadolint, "--failure-threshold", "style", ROOT / "Containerfile"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = (ROOT / "Containerfile").read_text()
    assert len(re.findall(r"^FROM ", text, re.MULTILINE)) == 2
    assert "\nUSER 65532:65532\n" in text
