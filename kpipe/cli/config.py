"""`kpipe config show|path|init|import`."""

from __future__ import annotations

import json as json_text
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from kpipe.cli import tell
from kpipe.cli.subcommands import Subcommand, build_group
from kpipe.clusters.profiles import Flags
from kpipe.clusters.project import current_folder
from kpipe.errors import Exit, UsageError, visible
from kpipe.options import (
    CLUSTER,
    FILE,
    ConnectionOptions,
    ImportOptions,
    Operand,
    PathOptions,
    ShowOptions,
    WhereOptions,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kpipe.clusters.config import ShownSetting

HELP = "Show, find, start and import the configuration of clusters. Secrets are never shown and never copied."
EXAMPLES = (
    ("what is in force, and which file, variable or flag said so", "kpipe config show --origin"),
    ("edit the user's file", 'kpipe config init; "$EDITOR" "$(kpipe config path)"'),
    ("clusters of kcat, kaf, rpk and kafkactl found on this machine", "kpipe config import"),
    ("a Java file as a cluster", "kpipe config import client.properties"),
)


def show(clusters: list[str], connection: ConnectionOptions, shown: ShowOptions) -> int:
    """Print what is in force; without names, for every cluster, the current one first."""
    from kpipe.clusters import config
    from kpipe.plan.places import read_profiles

    profiles = read_profiles(connection)
    names: list[str | None] = [*clusters] or [None, *(name for name in profiles.names if name != profiles.current)]
    found = [config.show(profiles, name) for name in names]
    for warning in profiles.warnings:
        tell(warning)
    if shown.json:
        settings = [asdict(row) for rows in found for row in rows]
        _print(json_text.dumps({"current": profiles.current, "settings": settings}, indent=2))
        return 0
    for place, rows in enumerate(found):
        _print(_block(rows, names[place] is None or names[place] == profiles.current, origin=shown.origin))
    return 0


def _block(rows: Iterable[ShownSetting], current: bool, *, origin: bool) -> str:
    """One cluster: its name, then a line a setting, in columns."""
    rows = list(rows)
    name = rows[0].cluster if rows else ""
    table = [(visible(row.key), visible(row.value), visible(row.origin)) for row in rows]
    widths = [max(len(line[column]) for line in table) for column in (0, 1)]
    lines = [visible(name or "(no name)") + (" (current)" if current else "")]
    for key, value, place in table:
        columns = (key.ljust(widths[0]), value.ljust(widths[1]), place) if origin else (key.ljust(widths[0]), value)
        lines.append("  " + "  ".join(columns).rstrip())
    return "\n".join(lines)


def path(looked: PathOptions, where: WhereOptions) -> int:
    """Print where the user's file is, or would be."""
    from kpipe.clusters.config import paths

    if not looked.all:
        _print(str(_user_path(where)))
        return 0
    for whose, file, state in paths(Flags(config_path=where.config), os.environ, current_folder()):
        _print(f"{whose:8} {state:8} {visible(str(file))}")
    return 0


def init(where: WhereOptions) -> int:
    """Write a starter file and print its path."""
    from kpipe.clusters import config

    file = _user_path(where)
    config.init(file)
    _print(str(file))
    return 0


def import_(files: list[str], imported: ImportOptions) -> int:
    """Print other tools' clusters as TOML, and notes on stderr."""
    from kpipe.clusters.config import import_files, write_new
    from kpipe.clusters.foreign import find_foreign

    found = [Path(file) for file in files] or find_foreign(os.environ)
    if not found:
        raise UsageError("no configuration of kcat, kaf, rpk or kafkactl was found here; name a FILE")
    text, notes, faults = import_files(found)
    for note in [*notes, *map(str, faults)]:
        tell(note)
    if faults and not text:
        return int(Exit.USAGE)
    if imported.output:
        write_new(Path(imported.output), text)
    else:
        sys.stdout.write(text)
    return int(Exit.USAGE) if faults and files else 0


def _user_path(where: WhereOptions) -> Path:
    from kpipe.clusters.profiles import user_config_path

    file, _ = user_config_path(Flags(config_path=where.config), os.environ, current_folder())
    if file is None:
        raise UsageError("there is no place for the user's config: KPIPE_CONFIG is empty, or HOME is not set")
    return file


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")


CLUSTERS = {
    "clusters": Operand("[CLUSTER]…", "Which clusters; all without one.", many=True, required=False, completion=CLUSTER)
}
FILES = {
    "files": Operand(
        "[FILE]…",
        "Files of kcat, kaf, rpk, kafkactl or Java; without one, those found here.",
        many=True,
        required=False,
        completion=FILE,
    )
}
SUBCOMMANDS = {
    "show": Subcommand(
        show,
        "Print what is in force for each cluster; secrets are stars.",
        CLUSTERS,
        (ConnectionOptions, ShowOptions),
    ),
    "path": Subcommand(path, "Print the path of the user's configuration file.", {}, (PathOptions, WhereOptions)),
    "init": Subcommand(
        init,
        "Write a starter file, readable by you alone; a file that exists is left as it is.",
        {},
        (WhereOptions,),
    ),
    "import": Subcommand(
        import_,
        "Print other tools' clusters as TOML for kpipe's file. Passwords become references to variables.",
        FILES,
        (ImportOptions,),
    ),
}

app = build_group(HELP, EXAMPLES, SUBCOMMANDS)
