"""Segment files as streams of bytes, compressed as their names say: `.gz`, `.zst`, or plain.

gzip is in every Python; zstd is in Python 3.14, and before that in the packages `backports.zstd` and `zstandard`.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import IO, TYPE_CHECKING, Any, cast

from kpipe.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

EXTENSIONS = {"gzip": ".gz", "zstd": ".zst", "none": ""}
LEVEL = 6
ZSTD = ("compression.zstd", "backports.zstd", "zstandard")
"""Modules whose `open` reads and writes zstd, the first that is there is used."""


def check_codec(codec: str) -> str:
    """The extension of a codec; UsageError where this Python cannot write it."""
    if codec == "zstd":
        _zstd("--codec zstd")
    return EXTENSIONS[codec]


def write_to(file: IO[bytes], codec: str) -> Any:
    """What is written to this goes compressed to `file`, which stays open when it is closed."""
    if codec == "gzip":
        from gzip import GzipFile

        return GzipFile(filename="", mode="wb", compresslevel=LEVEL, fileobj=file, mtime=0)
    if codec == "zstd":
        module = _zstd("--codec zstd")
        if hasattr(module, "ZstdFile"):
            return module.ZstdFile(file, "wb")
        return module.ZstdCompressor().stream_writer(file, closefd=False)
    return file


def open_segment(path: Path) -> IO[bytes]:
    """The content of a segment file."""
    if path.suffix == ".gz":
        import gzip

        return cast("IO[bytes]", gzip.open(path, "rb"))
    if path.suffix == ".zst":
        return cast("IO[bytes]", _zstd(str(path)).open(path, "rb"))
    return path.open("rb")


def _zstd(what: str) -> Any:
    for name in ZSTD:
        root, _, inner = name.partition(".")
        if find_spec(root) is not None and (not inner or find_spec(name) is not None):
            return import_module(name)
    raise UsageError("this Python has no zstd; pip install zstandard, or dump with gzip", where=what)
