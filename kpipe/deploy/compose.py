"""A service for a compose file (the Compose Specification)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kpipe.deploy.kubernetes import USER, to_yaml

if TYPE_CHECKING:
    from kpipe.deploy.commandline import CommandLine


def compose(line: CommandLine, version: str, *, image: str) -> str:
    """The file: one service, its configuration, its secrets as files."""
    service: dict[str, Any] = {
        "image": image,
        # A dollar sign is a variable to compose unless it is doubled.
        "command": [argument.replace("$", "$$") for argument in line.arguments],
        "environment": {"KPIPE_CONFIG": "/etc/kpipe/config.toml"},
        "configs": [{"source": "kpipe", "target": "/etc/kpipe/config.toml"}],
        "restart": "no" if line.bounded else "on-failure",
        "stop_grace_period": f"{line.stop_seconds}s",
        "user": f"{USER}:{USER}",
        "read_only": True,
        "tmpfs": ["/tmp"],  # noqa: S108 - the container's own
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "mem_limit": f"{line.memory >> 20}m",
    }
    document: dict[str, Any] = {
        "services": {line.name: service},
        "configs": {"kpipe": {"file": "./config.toml"}},
    }
    if line.credentials:
        service["secrets"] = list(line.credentials)
        document["secrets"] = {name: {"file": path} for name, path in line.credentials.items()}
    head = [f"# kpipe {version}: {line.typed}"]
    head += [
        f'# In the configuration the secret {name} is password_file = "/run/secrets/{name}".'
        for name in line.credentials
    ]
    return "\n".join(head) + "\n" + to_yaml(document)
