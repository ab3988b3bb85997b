"""Registries for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kpipe.codecs.registry import Registry
from tests.registry.fake import FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def fake_registry() -> Iterator[Callable[..., FakeRegistry]]:
    """Makes registries, and closes them."""
    made: list[FakeRegistry] = []

    def make(**options: object) -> FakeRegistry:
        made.append(FakeRegistry(**options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def client() -> Iterator[Callable[..., Registry]]:
    """Makes clients of registries, and closes their connections."""
    made: list[Registry] = []

    def make(urls: list[str], *arguments: object, **options: object) -> Registry:
        made.append(Registry(urls, *arguments, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()
