"""The text of a .proto file and of those it imports -> descriptors, by the real protoc inside grpcio-tools.

Needed only where a registry cannot hand out descriptors, and for --schema FILE.proto; `kpipe[proto]` installs it.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING

from kpipe.codecs.errors import SchemaError
from kpipe.codecs.proto import built_in
from kpipe.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.descriptor_pb2 import FileDescriptorProto

_IMPORT = re.compile(r'^\s*import\s+(?:public\s+|weak\s+)?"([^"]+)"\s*;', re.MULTILINE)


def imports(text: str) -> list[str]:
    """The files that a .proto text imports."""
    return _IMPORT.findall(text)


def compile_text(name: str, text: str, others: Mapping[str, str]) -> list[FileDescriptorProto]:
    """The descriptors of `text` and all it imports, its own last; `others` are texts by import path."""
    try:
        from grpc_tools import protoc
    except ImportError:
        what = "the schema is a .proto text, and reading it needs a compiler: pip install 'kpipe-cli[proto]'"
        raise UsageError(what) from None
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    with tempfile.TemporaryDirectory(prefix="kpipe-proto-") as folder:
        for path, content in {**others, name: text}.items():
            _write(folder, path, content)
        known = [os.path.join(os.path.dirname(protoc.__file__), "_proto")]
        target = os.path.join(folder, ".set")
        arguments = ["protoc", *(f"-I{each}" for each in (folder, *known)), "--include_imports"]
        if given := _built_in_set({**others, name: text}):
            with open(os.path.join(folder, ".given"), "wb") as file:
                file.write(given)
            arguments.append(f"--descriptor_set_in={file.name}")
        code, errors = _run(protoc.main, [*arguments, f"--descriptor_set_out={target}", name])
        if code != 0:
            raise SchemaError(errors.replace(f"{folder}/", "").strip().partition("\n")[0][:300] or "protoc failed")
        with open(target, "rb") as made:
            files = list(FileDescriptorSet.FromString(made.read()).file)
    return sorted(files, key=lambda each: each.name == name)


def compile_file(path: str) -> list[FileDescriptorProto]:
    """The descriptors of a .proto file; what it imports is looked for beside it and in the folders above."""
    own, folder = os.path.basename(path), os.path.dirname(os.path.abspath(path))
    with open(path, encoding="utf-8") as file:
        text = file.read()
    others: dict[str, str] = {}
    waiting = imports(text)
    while waiting:
        name = waiting.pop()
        if name in others or name.startswith("google/protobuf/"):
            continue
        found = _beside(name, folder)
        if found is not None:
            others[name] = found
            waiting += imports(found)
    return compile_text(own, text, others)


def _beside(name: str, folder: str) -> str | None:
    while True:
        with suppress(OSError), open(os.path.join(folder, name), encoding="utf-8") as file:
            return file.read()
        above = os.path.dirname(folder)
        if above == folder:
            return None
        folder = above


def _write(folder: str, path: str, content: str) -> None:
    place = os.path.realpath(os.path.join(folder, path))
    if not place.startswith(os.path.realpath(folder) + os.sep):
        raise SchemaError(f"an import of {path!r} leads out of its folder")
    os.makedirs(os.path.dirname(place), exist_ok=True)
    with open(place, "w", encoding="utf-8") as file:
        file.write(content)


def _built_in_set(texts: Mapping[str, str]) -> bytes:
    """What is imported and neither a text of ours nor one of protoc's own, as a FileDescriptorSet; empty if nothing."""
    from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

    found: dict[str, FileDescriptorProto] = {}
    waiting = [each for text in texts.values() for each in imports(text) if each not in texts]
    while waiting:
        name = waiting.pop()
        if name not in found and not name.startswith("google/protobuf/"):
            found[name] = FileDescriptorProto.FromString(built_in(name))
            waiting += found[name].dependency
    for file in list(found.values()):  # a set must hold whatever its files import
        for each in file.dependency:
            found.setdefault(each, FileDescriptorProto.FromString(built_in(each)))
    return bytes(FileDescriptorSet(file=found.values()).SerializeToString()) if found else b""


def _run(main: object, arguments: list[str]) -> tuple[int, str]:
    """Protoc writes its errors to file descriptor 2; they are caught there."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            code = main(arguments)  # type: ignore[operator]
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        caught.seek(0)
        return code, caught.read().decode(errors="replace")
