"""The container image, built with buildah as the release workflow builds it with docker, and used as it will be used.

No daemon, no network, no registry: the wheels lie beside it, and pip checks them against the lock. Where the base image
cannot be had, a Debian with the same Python stands in for it, and that is told: then the base itself is not checked.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

from release import locked
from release.tree import run

BASE = "docker.io/library/python:3.13-slim"
MINOR = 13
SUITE = "deb13"
"""The Debian that has the base image's Python."""
USER = "65532:65532"
BEFORE = """\
set -e
mount --bind "$0" "$0"; mount -o remount,bind,ro "$0"; cd "$0"
mount -t proc proc proc; mount -t tmpfs -o mode=755 tmpfs dev
for name in null zero full random urandom; do : >dev/$name; mount --bind /dev/$name dev/$name; done
ln -s /proc/self/fd dev/fd
ip link set lo up 2>/dev/null || :
"""
"""What a container runtime does before it starts a command with `--read-only`: nothing can be written, /tmp neither."""


class Builder:
    """buildah, with images of its own in a scratch folder."""

    def __init__(self, scratch: Path) -> None:
        self._buildah: list[str | Path] = ["buildah", "--root", scratch / "images", "--runroot", scratch / "run"]
        self._buildah += ["--storage-driver", "vfs"]
        self._scratch = scratch

    def __call__(self, *words: str | Path) -> str:
        """What buildah says."""
        return run([*self._buildah, *words]).strip()

    def base(self, root: Path) -> str:
        """The base image's name: the real one, or a stand-in that is made of `root`."""
        pulled = subprocess.run([*map(str, self._buildah), "pull", "-q", BASE], capture_output=True, check=False)
        if pulled.returncode == 0:
            return BASE
        name = f"localhost/{BASE.rpartition('/')[2]}"
        container = self("from", "scratch")
        self("add", "--quiet", container, root, "/")
        self("run", "--isolation", "chroot", container, "ln", "-sf", "python3", "/usr/bin/python")
        self("commit", "--quiet", "--rm", container, name)
        return name

    def build(self, dist: Path, wheels: Path, base: str) -> str:
        """The image's name; `wheels` are those that the lock names, of the base image's Python."""
        context = self._scratch / "context"
        shutil.copytree(dist, context / "dist")
        settings = self._scratch / "pip.conf"
        settings.write_text("[global]\nno-index = true\nfind-links = /wheels\n")
        mounts = [f"{wheels}:/wheels:ro", f"{settings}:/etc/pip.conf:ro"]
        volumes = [word for mount in mounts for word in ("--volume", mount)]
        arguments = ["--build-arg", f"BASE={base}", "--build-arg", "VERSION=v0", "--build-arg", "REVISION=0"]
        where = ["--pull=never", "--isolation", "chroot", "--file", dist / "Containerfile", "--tag", "localhost/kpipe"]
        self("build", "--quiet", *where, *arguments, *volumes, context)
        return "localhost/kpipe"


def check(dist: Path, scratch: Path, root: Path, smoke: Path) -> tuple[str, list[str]]:
    """What was done, in one line, and what is wrong; `root` is a Debian of `SUITE`."""
    if shutil.which("buildah") is None:
        return "image: not built", ["image: buildah is not installed, so it was not built"]
    wheels = scratch / "wheels"
    wheels.mkdir(parents=True)
    locked.download(dist / "requirements.txt", wheels, MINOR, run(["uname", "-m"]).strip())
    builder = Builder(scratch)
    base = builder.base(root)
    image = builder.build(dist, wheels, base)
    problems = [f"image: {problem}" for problem in described(json.loads(builder("inspect", "--type", "image", image)))]
    place = Path(builder("mount", builder("from", "--pull-never", image)))
    kpipe = "/opt/kpipe/bin/kpipe"
    shutil.copy2(smoke, place / "smoke.sh")
    (place / "home").mkdir(exist_ok=True)
    said = use(place, f"sh /smoke.sh {kpipe}", "mount -t tmpfs tmpfs tmp")
    problems += [] if "smoke: ok" in said else [f"image: the smoke test failed: {said}"]
    # Nothing at all can be written: two workers still start, and the manual is shown.
    bare = f"{kpipe} broker --topics in:4,out:2 -- sh -c {shlex.quote(READ_ONLY.format(kpipe=kpipe))}"
    said = use(place, bare)
    problems += [] if said == "9" else [f"image: without any place to write: {said}"]
    return f"image on {base}{'' if base == BASE else ' (a stand-in)'}: {'FAILED' if problems else 'ok'}", problems


READ_ONLY = (
    "seq 9 | {kpipe} produce in; {kpipe} forward -q --workers 2 -G g -e in out; {kpipe} man forward >/dev/null; "
    "{kpipe} consume -e out | wc -l"
)


def described(image: dict[str, Any]) -> list[str]:
    """What is wrong with what the image says of itself."""
    config = image["OCIv1"]["config"]
    labels = config.get("Labels", {})
    wanted = {"User": USER, "Entrypoint": ["/opt/kpipe/bin/kpipe"], "Cmd": ["--help"], "WorkingDir": "/"}
    problems = [f"{key} is {config.get(key)}, not {value}" for key, value in wanted.items() if config.get(key) != value]
    names = ("title", "description", "licenses", "version", "revision")
    return problems + [f"no label {name}" for name in names if not labels.get(f"org.opencontainers.image.{name}")]


def use(place: Path, command: str, before: str = "") -> str:
    """What the image's user sees of a command in a read-only root without a network; or how it failed."""
    inside = f"{BEFORE}{before}\nexec chroot --userspec={USER} --groups= . /usr/bin/env -i "
    inside += f"PATH=/opt/kpipe/bin:/usr/local/bin:/usr/bin:/bin HOME=/nonexistent sh -c {shlex.quote(command)}"
    isolated = ["unshare", "--net", "--pid", "--mount", "--fork", "--kill-child", "sh", "-c", inside, str(place)]
    done = subprocess.run(isolated, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0 or done.stderr:
        return f"exit {done.returncode}: {' / '.join((done.stdout + done.stderr).strip().splitlines()[-12:])}"
    return done.stdout.strip().rpartition("\n")[2]
