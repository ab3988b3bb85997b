"""A service, or a timer with its service, for systemd; hardened to below 3.0 of `systemd-analyze security`.

Sources of the rules: systemd.service(5), systemd.exec(5), systemd.timer(5), systemd.resource-control(5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpipe.deploy.commandline import PERMANENT
from kpipe.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kpipe.deploy.commandline import CommandLine

HARDENING = """\
DynamicUser=yes
UMask=0077
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProcSubset=pid
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
"""

HIDDEN = tuple(f"/{folder}/" for folder in ("home", "root", "run/user", "tmp", "var/tmp"))
"""What ProtectHome and PrivateTmp hide from a service (systemd.exec(5))."""
CONFIG = "/etc/kpipe/config.toml"
WATCHDOG = 60
"""Seconds without a turn of the main loop after which systemd starts the service again."""


def hidden(command: Sequence[str]) -> str:
    """What the service could not see of what starts kpipe; empty when all is well."""
    return next((part for part in command if part.startswith(HIDDEN)), "")


def service(line: CommandLine, command: Sequence[str], version: str) -> str:
    """The unit of a run that goes on; `command` is what starts kpipe on this machine."""
    if line.bounded:
        raise UsageError("the command line ends by itself; use kpipe unit timer, or leave -e and the like out")
    return _join(
        _head(line, version, f"/etc/systemd/system/{line.name}.service", f"systemctl enable --now {line.name}"),
        "[Unit]",
        f"Description={_plain(line.typed)}",
        "Wants=network-online.target",
        "After=network-online.target",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=notify",
        "NotifyAccess=main",
        f"ExecStart={_exec(line, command)}",
        *_shared(line),
        "# SIGTERM: what was read is delivered and committed first; then kpipe dies by the signal: a clean end.",
        "Restart=on-failure",
        "RestartSec=5",
        "# A wrong command line, bad data and a difference found are not cured by starting again.",
        f"RestartPreventExitStatus={' '.join(map(str, PERMANENT))}",
        f"WatchdogSec={WATCHDOG}",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    )


def timer(line: CommandLine, command: Sequence[str], version: str, schedule: str) -> str:
    """A timer and its service, for a run that ends by itself."""
    if not line.bounded:
        raise UsageError("the command line does not end by itself; add -e, or use kpipe unit systemd")
    return _join(
        _head(
            line,
            version,
            f"/etc/systemd/system/{line.name}.service and .timer",
            f"systemctl enable --now {line.name}.timer",
        ),
        f"# --- {line.name}.service",
        "[Unit]",
        f"Description={_plain(line.typed)}",
        "Wants=network-online.target",
        "After=network-online.target",
        "",
        "[Service]",
        "Type=oneshot",
        f"ExecStart={_exec(line, command)}",
        *_shared(line),
        "",
        f"# --- {line.name}.timer",
        "[Unit]",
        f"Description=When to run {_plain(line.typed)}",
        "",
        "[Timer]",
        f"OnCalendar={schedule or 'daily'}",
        "# A run that was missed while the machine was off is made up for.",
        "Persistent=yes",
        "",
        "[Install]",
        "WantedBy=timers.target",
    )


def _shared(line: CommandLine) -> list[str]:
    credentials = [f"LoadCredential={name}:{path}" for name, path in line.credentials.items()]
    return [
        f"StateDirectory={line.name}",
        f"CacheDirectory={line.name}",
        *([f"LoadCredential=config.toml:{CONFIG}", "Environment=KPIPE_CONFIG=%d/config.toml"] if line.config else []),
        f"Environment=XDG_CACHE_HOME=/var/cache/{line.name} PEX_ROOT=/var/cache/{line.name}/pex",
        *credentials,
        *([f"ReadWritePaths={' '.join(line.writes)}"] if line.writes else []),
        f"# --drain-timeout is {line.drain:g} s.",
        f"TimeoutStopSec={line.stop_seconds}",
        f"MemoryMax={line.memory >> 20}M",
        *HARDENING.splitlines(),
    ]


def _head(line: CommandLine, version: str, where: str, then: str) -> str:
    credentials = [
        f'# The configuration finds the secret {name} as password_file = "/run/credentials/{line.name}.service/{name}".'
        for name in line.credentials
    ]
    config = [
        f"# The configuration, with absolute paths in it: install -D -m 600 {line.config} {CONFIG}",
        "# It stays root's; systemd gives the service a copy that it alone can read.",
    ]
    return "\n".join(
        [
            f"# kpipe {version}: {line.typed}",
            f"# Into {where}, then: systemctl daemon-reload; {then}",
            *(config if line.config else []),
            *credentials,
        ]
    )


def _exec(line: CommandLine, command: Sequence[str]) -> str:
    return " ".join(quoted(part) for part in (*command, *line.arguments))


def quoted(text: str) -> str:
    """A word for ExecStart=: quoted where it must be, with % and $ doubled (systemd.service(5), Command lines)."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    escaped = escaped.replace("\n", "\\n").replace("\t", "\\t")
    plain = text and all(char.isalnum() or char in "@:,./_=+-^*?" for char in text)
    return escaped if plain else f'"{escaped}"'


def _plain(text: str) -> str:
    return text.replace("%", "%%").replace("\n", " ")[:200]


def _join(*parts: str) -> str:
    return "\n".join(parts) + "\n"
