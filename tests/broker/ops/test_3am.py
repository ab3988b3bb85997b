"""The page "3 a.m.": its sessions are run on two real clusters, and print what it shows."""

from __future__ import annotations

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from tests.broker.lab.cluster import Rec
from tests.broker.ops.scenes import commit, name
from tests.conftest import COMMAND

if TYPE_CHECKING:
    from tests.broker.conftest import NewKafka
    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe

PAGE = (Path(__file__).parents[3] / "docs" / "3am.md").read_text()
SCENE = """
kpipe admin create-topic prod:orders:1 --execute --yes
printf 'ada:{"amount":12}\\nbob:{"amount":700}\\nada:{"amount":950}\\neve:{"amount":5}\\n' | kpipe produce -K : prod:orders
kpipe consume -G billing -c 3 prod:orders > /dev/null
kpipe forward -e -G mirror --create prod:orders dr:orders
"""
MARK = "--- next ---"
ROW = re.compile(r"^\\| .* \\| `(.*)` \\|$", re.MULTILINE)


def sessions() -> list[tuple[str, str]]:
    """(command line, what it prints)."""
    pairs = []
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, printed = part.partition("\n")
            pairs.append((line, printed))
    return pairs


def plain(text: str) -> str:
    """Without what differs from run to run: times, durations, and so the width of columns."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{3})?", "TIME", text)
    text = re.sub(r"\b(\d+h )?(\d+m )?\d+(\.\d)?s\b", "DURATION", text)
    text = re.sub(r"searched \d+ records", "searched N records", text)  # those of the same millisecond count
    text = re.sub(r"topic-id=\S+", "topic-id=ID", text)
    return "\n".join(re.sub(r" +", " ", line).rstrip() for line in text.splitlines())


def test_sessions_print_what_they_show(new_kafka: NewKafka, kpipe: Kpipe) -> None:
    prod, dr = new_kafka(), new_kafka()
    config = f'[clusters.prod]\n"bootstrap.servers" = "{prod.bootstrap}"\n[clusters.dr]\n"bootstrap.servers" = "{dr.bootstrap}"\n'
    (kpipe.home / "scene.sh").write_text(f"set -e\n{SCENE}")
    (kpipe.home / "session.sh").write_text("".join(f"{line}\necho '{MARK}'\n" for line, _ in sessions()))
    script = kpipe.home / "all.sh"
    script.write_text(f"exec 2>&1; sh {kpipe.home}/scene.sh || exit 9; echo '{MARK}'; . {kpipe.home}/session.sh")
    done = subprocess.run(
        ["sh", str(script)],
        env=kpipe.environment(config=config),
        cwd=kpipe.home,
        capture_output=True,
        timeout=170,
        check=False,
    )
    assert COMMAND.exists()
    assert done.returncode == 0, done.stdout[-3000:]
    printed = done.stdout.decode().split(f"{MARK}\n")[1:-1]
    shown = [(line, plain(text)) for line, text in sessions()]
    assert [(line, plain(text)) for (line, _), text in zip(sessions(), printed, strict=True)] == shown


def test_every_line_from_your_script_to_kpipe_works(kafka: Cluster, kpipe: Kpipe) -> None:
    lines = [line.replace("\\|", "|") for line in ROW.findall(PAGE.partition("## From your script to kpipe")[2])]
    assert len(lines) > 20
    words = {"K=V": "retention.ms=3600000", "KEY": "k"}

    def run(line: str) -> tuple[str, int, bytes]:
        own = {**words, "T": kafka.topic(), "G": name(), "N": name("new")}
        kafka.write(own["T"], [Rec(b"1", b"k"), Rec(b"2", b"k")])
        commit(kafka, own["G"], {(own["T"], 0): 1})
        line = re.sub(r"\b(K=V|KEY|[TGN])\b", lambda found: own[found[0]], line)
        done = subprocess.run(
            ["sh", "-c", line], env=kpipe.environment({"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap}), cwd=kpipe.home,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        return line, done.returncode, done.stderr

    with ThreadPoolExecutor(2) as pool:
        failed = [(line, code, told) for line, code, told in pool.map(run, lines) if code]
    assert failed == []
