from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dnntrain.parts.datasets import Arrays, Decoded, datasets, open_dataset


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test away from the user's cache and data."""
    monkeypatch.setenv("DNNTRAIN_CACHE", str(tmp_path / "user-cache"))
    monkeypatch.setenv("DNNTRAIN_DATA", str(tmp_path / "user-data"))


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Arrays]:
    """Open a data set by what a file would write, with a cache of the test's own."""

    def open_it(value: Any, **options: Any) -> Arrays:
        written = {"name": value, **options} if options else value
        return open_dataset(datasets.choose(written), cache=tmp_path / "cache")

    return open_it


@pytest.fixture
def decoded() -> Callable[..., Decoded]:
    """Decode a data set without the cache."""

    def decode(name: str, **options: Any) -> Decoded:
        return datasets.choose({"name": name, **options}).build().load()

    return decode


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """The folder of real sample data, or a skip."""
    named = os.environ.get("DNNTRAIN_TEST_DATA")
    if not named:
        pytest.skip("DNNTRAIN_TEST_DATA does not name the folder of sample data")
    return Path(named)
