from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder, in memory where there is such a place: runs that sync after every few steps are quick there."""
    made = Path(tempfile.mkdtemp(prefix="dnntrain-faults-", dir=MEMORY if MEMORY.is_dir() else None))
    yield made
    shutil.rmtree(made)
