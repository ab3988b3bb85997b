"""Key stores and trust stores that a Java configuration names: what kind of file each is, and how to convert one.

It converts nothing and reads no more of a store than its first bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpipe.clusters.configfile import Setting
from kpipe.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

Entries = dict[str, Setting]
"""Keys as in the file; the origin of each is `FILE:LINE`."""


def store_type(store: Setting, declared: Setting | None, base: Path) -> str:
    """PEM, PKCS12 or JKS, by the file's first bytes: Java itself reads either of the last two whatever is declared."""
    try:
        with (base / store.value).open("rb") as file:
            start = file.read(4096)
    except OSError as error:
        raise UsageError(
            f"{store.value}: {error.strerror}; check the path and its rights", where=store.origin
        ) from None
    if start.startswith((b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce")):
        return "JKS"
    if b"-----BEGIN " in start:
        return "PEM"
    if start.startswith(b"0"):  # a DER sequence
        return "PKCS12"
    return declared.value.upper() if declared is not None else "JKS"


def no_trust_store(store: Setting, key: str) -> str:
    """What to do about a trust store that is no PEM."""
    return (
        "librdkafka reads a trust store only as PEM; convert it with keytool -list -rfc -keystore "
        f"{store.value} > ca.pem and write {key}=ca.pem"
    )
