"""Configuration files of other programs, for tests of what is made of them."""

from __future__ import annotations

from textwrap import dedent

import pytest

from kpipe.clusters.foreign import read_client_file


@pytest.fixture
def client_file(tmp_path):
    """Read the text of a client file that only its owner may read; gives its table and notes."""

    def read(text, name):
        path = tmp_path / name
        path.write_text(dedent(text))
        path.chmod(0o600)
        return read_client_file(path)

    return read
