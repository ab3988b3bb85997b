"""What `kpipe config` answers: what is in force and from where, a starter file, where files are, and imports.

Never prints, and never changes a file that exists.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kpipe.clusters.configfile import SECRET_KEYS, parse_config
from kpipe.clusters.foreign import Foreign, read_foreign
from kpipe.clusters.profiles import user_config_path
from kpipe.clusters.project import PROJECT_FILE, why_ignored
from kpipe.clusters.secrets import holds_secret, mask
from kpipe.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from kpipe.clusters.profiles import Flags, Profiles

STARTER = """\
# kpipe's clusters. `kpipe config show --origin` tells what is in force and where it came from.
# A place is written [cluster:]topic: kpipe forward prod:orders dev:orders

# The cluster of a topic without a cluster's name:
default = "local"

[clusters.local]
bootstrap.servers = "localhost:9092"

# Any property of librdkafka can stand in a cluster, and these keys of kpipe's own:
# [clusters.prod]
# bootstrap.servers = "broker-1.example.com:9093,broker-2.example.com:9093"
# security.protocol = "SASL_SSL"
# ssl.ca.location = "prod-ca.pem"            # relative to this file
# sasl.mechanism = "SCRAM-SHA-512"
# sasl.username = "me"
# password_command = ["pass", "show", "kafka/prod"]
# # or one of: password_file = "…", password_env = "…", password_keyring = "service/username",
# # password_plugin = "name"
# # the same for ssl.key.password (key_password_…), ssl.keystore.password (keystore_password_…)
# # and OIDC's client secret (client_secret_…); token_command prints a bearer token
# schema.registry.url = "https://registry.example"
# schema.registry.username = "me"            # and registry_password_command, …, or registry_token_command, …
# read_only = true                           # refuse to produce to this cluster
# compression.type = "zstd"
"""


@dataclass(frozen=True, slots=True)
class ShownSetting:
    """One line of `config show`; `value` is masked where it is a secret."""

    cluster: str
    key: str
    value: str
    origin: str


def show(profiles: Profiles, name: str | None = None) -> list[ShownSetting]:
    """What is in force for one cluster: None is the current one. Secrets are never fetched for this."""
    cluster = profiles.resolve(name)
    values = mask({**cluster.properties, **cluster.registry})
    values |= {each.property: str(each) for each in (*cluster.references, *cluster.registry_references)}
    if cluster.token is not None:
        values["token"] = str(cluster.token)
    if cluster.read_only:
        values["read_only"] = "true"
    return [ShownSetting(cluster.name, key, values[key], cluster.origins[key]) for key in sorted(values)]


def paths(flags: Flags, environ: Mapping[str, str], cwd: Path) -> list[tuple[str, Path, str]]:
    """Where configuration is looked for, the strongest first: (whose, path, `exists`, `absent` or `ignored`)."""
    user, _ = user_config_path(flags, environ, cwd)
    places = [("project", cwd / PROJECT_FILE)] + ([("user", user)] if user is not None else [])
    ignored = why_ignored(cwd) and cwd / PROJECT_FILE
    return [
        (whose, path, "ignored" if path == ignored else "exists" if path.exists() else "absent")
        for whose, path in places
    ]


def init(path: Path) -> None:
    """Write the starter file, readable by the owner only; UsageError when something is there already."""
    write_new(path, STARTER)


def write_new(path: Path, text: str) -> None:
    """Write a new file with mode 0600 and its folders with 0700; UsageError when the path exists, also as a link."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise UsageError(
            "exists already and is left as it is; edit it, or name another path", where=str(path)
        ) from None
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror}; check the folder's rights", where=str(path)) from None
    with os.fdopen(number, "w", encoding="utf-8") as file:
        file.write(text)


def import_files(files: Iterable[Path]) -> tuple[str, list[str], list[UsageError]]:
    """Other tools' files as TOML for kpipe's config, notes for people, and what is wrong with files that were left out.

    No secret is copied: a reference to a variable stands where it was, and a note says which to set. What is given is
    read once more by kpipe's own reader: a cluster that it would refuse is left out, with a note.
    """
    blocks, notes, taken, default, faults = [], [], set[str](), "", []
    for path in files:
        try:
            foreign = read_foreign(path)
        except UsageError as error:
            faults.append(error)
            continue
        notes += [note if note.startswith(str(path)) else f"{path}: {note}" for note in foreign.notes]
        names = _free_names(foreign, taken)
        for old, new in names.items():
            if old != new:
                notes.append(f"{path}: {old!r} is called {new!r} here")
            block, secrets = _to_toml(new, _in_full(foreign.clusters[old], path.parent))
            if why := _fault_of(block):
                notes.append(f"{path}: {old!r} was left out: {why}")
                continue
            if old == foreign.default:
                default = default or new
            blocks.append(f"# from {_quote(str(path))}\n{block}")
            notes += [f"{path}: {secret}" for secret in secrets]
    head = [f"default = {_quote(default)}\n"] if default else []
    return "\n".join(head + blocks), notes, faults


def _fault_of(block: str) -> str:
    """Why kpipe itself would not read this; empty when it does."""
    from pathlib import Path

    if block.startswith("#"):
        return block.removeprefix("# ").strip()
    try:
        (table,) = parse_config(block, Path("import"), home=None).clusters.values()
    except UsageError as error:
        return error.what
    return "" if "bootstrap.servers" in table.settings else "it names no brokers"


def _free_names(foreign: Foreign, taken: set[str]) -> dict[str, str]:
    """Names that can stand before a colon and that no other imported cluster has."""
    names = {}
    for old in foreign.clusters:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", old).lstrip("._-") or "imported"
        new = next(name for name in (plain, *(f"{plain}-{n}" for n in range(2, 10_000))) if name not in taken)
        taken.add(new)
        names[old] = new
    return names


def _in_full(properties: dict[str, str], folder: Path) -> dict[str, str]:
    """Paths that do not depend on where kpipe runs: beside the file that named them, else as that tool takes them."""

    def full(value: str) -> str:
        if value.startswith("~/"):
            return os.path.expanduser(value)
        beside = os.path.abspath(folder / value)
        return beside if os.path.exists(beside) else os.path.abspath(value)

    return {
        key: full(value) if key.endswith((".location", ".file")) and value != "probe" else value
        for key, value in properties.items()
    }


def _to_toml(name: str, properties: dict[str, str]) -> tuple[str, list[str]]:
    """One `[clusters.NAME]`, and a note for each secret that was not copied."""
    lines, notes = [f"[clusters.{_quote(name) if '.' in name else name}]"], []
    for key, value in properties.items():
        if not holds_secret(key):
            if key.endswith((".location", ".file")) and not os.path.exists(value) and value != "probe":
                notes.append(f"{name}: {key} = {_quote(value)}: there is no such file here; correct the path")
            lines.append(f"{_quote(key)} = {_quote(value)}")
            continue
        prefix = (
            "token" if key == "token" else next((each for each, filled in SECRET_KEYS.items() if filled == key), "")
        )
        if not prefix:
            return f"# {key} is a secret that kpipe takes only from a file of properties (-F)", []
        variable = re.sub(r"[^A-Z0-9]", "_", f"KPIPE_{name}_{prefix}".upper())
        if prefix == "token":
            lines.append(f"token_env = {_quote(variable)}  # or token_file, token_command")
        else:
            lines.append(f"{prefix}_env = {_quote(variable)}  # or {prefix}_command, {prefix}_file, {prefix}_keyring")
        notes.append(f"{name}: {key} was not copied; set {variable}, or use {prefix}_command")
    if (
        properties.get("sasl.mechanism", "").upper().startswith(("PLAIN", "SCRAM"))
        and "sasl.password" not in properties
    ):
        notes.append(f"{name}: has no password in the file; add password_command, or give it by KPIPE_SASL_PASSWORD")
    return "\n".join(lines) + "\n", notes


def _quote(text: str) -> str:
    """A TOML basic string: JSON's escapes are TOML's, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
