"""Reads `./kpipe.toml`: a file that came with a directory, perhaps with a checkout of somebody else's repository.

Never believes more of it than the user could lose by it. It counts only where nobody but the user (or root) could have
written it; it names no secret, and of a cluster that the user's own file defines it lowers nothing. What is left out is
told. A file that the user names (--config, KPIPE_CONFIG) is the user's own, wherever it lies.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from kpipe.clusters.configfile import MAX_BYTES, ConfigFile, Settings, decode, parse_config

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

PROJECT_FILE = "kpipe.toml"

TUNING = frozenset(
    """
    batch.num.messages batch.size client.id client.rack compression.level compression.type fetch.max.bytes
    fetch.min.bytes fetch.wait.max.ms linger.ms max.partition.fetch.bytes queued.max.messages.kbytes
    queued.min.messages
    """.split()
)
"""What changes how fast records travel, and nothing else."""

ADDRESS = frozenset(
    """
    bootstrap.servers broker.address.family client.dns.lookup enable.ssl.certificate.verification sasl.mechanism
    sasl.username security.protocol socket.connection.setup.timeout.ms socket.keepalive.enable
    socket.nagle.disable socket.timeout.ms ssl.ca.location ssl.ca.pem ssl.cipher.suites ssl.crl.location
    ssl.curves.list ssl.endpoint.identification.algorithm ssl.sigalgs.list
    schema.registry.url schema.registry.ssl.ca.location
    """.split()
)
"""How to reach a cluster; said only of clusters that the user's own file does not have."""

RAISES = {
    "acks": ("all", "-1"),
    "enable.idempotence": ("true",),
    "isolation.level": ("read_committed",),
    "enable.ssl.certificate.verification": ("true",),
    "ssl.endpoint.identification.algorithm": ("https",),
}
"""Values that promise no less than kpipe's defaults do."""

SHOWN = 8
"""How many of the keys that were left out are named."""


def current_folder() -> Path:
    """Where kpipe runs; a relative path where that folder was deleted meanwhile: topics can be read all the same."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return Path()


def read_project(cwd: Path, home: Path | None, users: Collection[str]) -> tuple[ConfigFile | None, list[str]]:
    """What `cwd`'s project file may say, and what people are to know; None when there is none that counts.

    `users` are the clusters of the user's own file. UsageError, as for any configuration file, for what is wrong in it.
    """
    path = cwd / PROJECT_FILE
    content, reason = _read_trusted(cwd)
    if reason:
        return None, [f"{path}: ignored: {reason}; if you trust it, name it: --config {path}"]
    if content is None:
        return None, []
    return _restrict(parse_config(decode(content, path), path, home=home), users)


def why_ignored(cwd: Path) -> str:
    """Why the project file does not count; empty when it does, or is not there."""
    return _read_trusted(cwd)[1]


def _read_trusted(cwd: Path) -> tuple[bytes | None, str]:
    """The file's content, or why it is not read. What is checked is what was opened: no name is looked up twice."""
    try:
        folder = os.open(cwd, getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None, ""
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            fd = os.open(PROJECT_FILE, flags, dir_fd=folder)
        except FileNotFoundError:
            return None, ""
        except OSError as error:
            link = error.errno == errno.ELOOP
            return None, "it is a symbolic link" if link else f"it cannot be read ({error.strerror})"
        status = os.fstat(fd)
        reason = _why_not(os.fstat(folder), "its directory") or _why_not(status, "it")
        if not stat.S_ISREG(status.st_mode):
            reason = "it is no plain file"
        if reason:
            os.close(fd)
            return None, reason
        with open(fd, "rb") as file:
            return file.read(MAX_BYTES + 1), ""
    finally:
        os.close(folder)


def _why_not(status: os.stat_result, what: str) -> str:
    """Why others could have written this. An ACL that lets them shows in the group's bits, as its mask (acl(5))."""
    if status.st_uid not in (os.geteuid(), 0):
        return f"{what} belongs to {_user(status.st_uid)}"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others may write to {what} (mode {stat.S_IMODE(status.st_mode):04o})"
    return ""


def others_write(path: Path) -> list[str]:
    """A warning about the user's own file, which may run commands, when everybody or another user may change it."""
    try:
        status = os.stat(path)
    except OSError:
        return []
    if not stat.S_ISREG(status.st_mode) or (not status.st_mode & stat.S_IWOTH and status.st_uid in (os.geteuid(), 0)):
        return []
    return [f"{path}: {_why_not(status, 'it')}, and it may run commands; make it yours: chmod 600 {path}"]


def _user(number: int) -> str:
    from pwd import getpwuid

    with suppress(KeyError):
        return getpwuid(number).pw_name
    return f"user {number}"


def _restrict(file: ConfigFile, users: Collection[str]) -> tuple[ConfigFile, list[str]]:
    """The file without what it may not say, and a line on what that was."""
    clusters, of_users, others = {}, list[str](), list[str]()
    for name, table in file.clusters.items():
        allowed = TUNING if name in users else TUNING | ADDRESS
        clusters[name] = Settings(read_only=table.read_only)
        clusters[name].settings = {key: setting for key, setting in table.settings.items() if _may(key, table, allowed)}
        (of_users if name in users else others).extend(_left_out(file.path, name, table, allowed))
    left_out = [
        *(_told(f"{file.path}: ignored, because your own config has the cluster", of_users) if of_users else []),
        *(_told(f"{file.path}: ignored, because a project file may not say it", others) if others else []),
    ]
    return file._replace(clusters=clusters, warnings=[]), left_out


def _may(key: str, table: Settings, allowed: Collection[str]) -> bool:
    return key in allowed or table.settings[key].value in RAISES.get(key, ())


def _left_out(path: Path, name: str, table: Settings, allowed: Collection[str]) -> Iterator[str]:
    for key, setting in table.settings.items():
        if not _may(key, table, allowed):
            yield f"{name}'s {key}{_line(setting.origin, path)}"
    for reference, origin in table.references.values():
        yield f"{name}'s {reference.property or 'token'} from {reference.source.value}{_line(origin, path)}"


def _line(origin: str, path: Path) -> str:
    number = origin.removeprefix(f"{path}:")
    return f" (line {number})" if number.isdigit() else ""


def _told(what: str, keys: list[str]) -> list[str]:
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return [f"{what}: {', '.join(keys[:SHOWN])}{more}; write it into your own config (kpipe config path)"]
