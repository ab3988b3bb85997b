"""`password_plugin = "credential:kafka"`: a file of systemd's LoadCredential=, which only the service can read."""

import os
from collections.abc import Callable
from pathlib import Path


def credential(argument: str | None) -> Callable[[], str]:
    """Called when a client is made; what it returns is called whenever the secret is needed, and gives the secret."""
    if not argument or "/" in argument:
        raise ValueError("name a credential: credential:kafka")
    folder = Path(os.environ.get("CREDENTIALS_DIRECTORY", "/run/credentials"))
    return lambda: (folder / argument).read_text().rstrip("\n")
