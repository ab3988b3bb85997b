"""What a dump's folder must hold before a later run goes on behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kpipe.archive.manifest import Segment, check_sizes
from kpipe.errors import KpipeError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("there", "said"), [(None, "is missing"), (b"x\n", "is damaged: 2 bytes"), (b"x" * 9, "is damaged: 9 bytes")]
)
def test_a_dump_goes_on_only_behind_segments_that_are_there_in_their_size(
    tmp_path: Path, there: bytes | None, said: str
) -> None:
    segment = Segment("00000-0.jsonl.gz", 0, 0, 4, 5, 7, "")
    (tmp_path / segment.file).write_bytes(b"x" * segment.bytes)
    check_sizes(tmp_path, [segment])

    (tmp_path / segment.file).unlink()
    if there is not None:
        (tmp_path / segment.file).write_bytes(there)
    with pytest.raises(KpipeError, match=said):
        check_sizes(tmp_path, [segment])
