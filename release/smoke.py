"""Every artefact of a release is installed into a root that has nothing but Debian's python3, and used by another user.

The roots are made by mmdebstrap (one a Debian release, kept in .cache/ of the tree); this needs root and Linux.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from release.tree import ROOT, run

USER = 65532
BASES = {"deb12": "bookworm", "deb13": "trixie"}
PACKAGES = "python3,python3-venv,python3-pip,man-db"
SCRIPT = Path(__file__).with_name("smoke.sh")


def base(suite: str) -> Path:
    """The root of a Debian release, made once."""
    place = ROOT / ".cache" / "roots" / suite
    if not (place / "usr/bin/python3").exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(place, ignore_errors=True)
        # It can be made anew: nothing needs to be on the disk before the next package.
        run(
            [
                "mmdebstrap",
                "--variant=minbase",
                "--dpkgopt=force-unsafe-io",
                f"--include={PACKAGES}",
                BASES[suite],
                place,
            ]
        )
    return place


def check(dist: Path, wheelhouse: Path) -> list[str]:
    """The failures; what is done is told on stdout."""
    failures = []
    for name, suite, install in _artefacts(dist):
        with tempfile.TemporaryDirectory(prefix="kpipe-smoke-") as folder:
            root = Path(folder) / "root"
            run(["cp", "-a", "--reflink=auto", base(suite), root])
            (root / "dist").mkdir()
            for file in dist.iterdir():
                shutil.copy2(file, root / "dist")
            shutil.copytree(wheelhouse, root / "wheels")
            shutil.copy2(SCRIPT, root / "smoke.sh")
            said = _use(root, install)
        sys.stdout.write(f"{name} on {BASES[suite]}: {said}\n")
        sys.stdout.flush()
        if "smoke: ok" not in said:
            failures.append(name)
    return failures


def _artefacts(dist: Path) -> list[tuple[str, str, str]]:
    """Name, suite, and what root does in the new root; kpipe is then at $K."""
    pip = "/opt/k/bin/pip install -q --no-index --find-links /wheels "
    venv = f"python3 -m venv /opt/k && {pip}"
    (wheel,), (sdist,), (onefile,) = (dist.glob(name) for name in ("*.whl", "kpipe_cli-*.tar.gz", "*.pex"))
    locked = f"--require-hashes -r /dist/requirements.txt && {pip} --no-deps /dist/{wheel.name}"
    copy = f"install -m755 /dist/{onefile.name} /usr/local/bin/kpipe; K=/usr/local/bin/kpipe"
    found = [
        (wheel.name, "deb12", f"{venv} {locked}; K=/opt/k/bin/kpipe"),
        (sdist.name, "deb12", f"{venv} '/dist/{sdist.name}[metrics]'; K=/opt/k/bin/kpipe"),
        *((onefile.name, suite, copy) for suite in BASES),
    ]
    architecture = run(["dpkg", "--print-architecture"]).strip()
    for suite in BASES:
        (deb,) = dist.glob(f"*{suite}_{architecture}.deb")
        found.append((deb.name, suite, f"dpkg -i /dist/{deb.name} >/dev/null; K=/usr/bin/kpipe"))
    return found


def _use(root: Path, install: str) -> str:
    """Install as root, then run the smoke test as a user who owns nothing there; its last line, or why it failed.

    It has processes and a network of its own: nothing is fetched, and nothing that it starts stays.
    """
    script = (
        "set -e; export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; mount -t proc proc /proc; "
        f"{install}; cd /; exec setpriv --reuid {USER} --regid {USER} --clear-groups --no-new-privs "
        "env -i PATH=$PATH TMPDIR=/tmp HOME=/nonexistent sh /smoke.sh $K"
    )
    command = ["unshare", "--net", "--pid", "--mount", "--fork", "--kill-child", "sh", "-c"]
    inside = f"ip link set lo up 2>/dev/null; exec chroot {shlex.quote(str(root))} sh -c {shlex.quote(script)}"
    done = subprocess.run([*command, inside], capture_output=True, text=True, check=False, timeout=600)
    words = (done.stdout + done.stderr).strip().splitlines()
    told = next((line for line in words if line.startswith("smoke: ok")), "")
    return told or f"exit {done.returncode}: {' / '.join(words[-12:])}"
