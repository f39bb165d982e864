from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import pytest

from dnntrain.errors import StoreError, UsageError
from dnntrain.store.naming import new_folder, new_name, started

NOW = datetime(2026, 11, 22, 6, 30, 57)


def test_a_name_tells_when_it_was_started() -> None:
    name = new_name("a-b_c", now=NOW)
    assert name[:-4] == "a-b_c-20261122-063057-"
    assert started(name) == NOW


@pytest.mark.parametrize("folder", ["a", "a-20261122-063057", "a-20261322-063057-0a1b", "-20261122-063057-0a1b"])
def test_other_names_tell_nothing(folder: str) -> None:
    assert started(folder) is None


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "ä", "a\n", "a" * 201])
def test_a_name_that_no_folder_shall_have(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a name has letters"):
        new_name(name)
    with pytest.raises(UsageError, match="a name has letters"):
        new_folder(tmp_path / "runs", name)
    assert not (tmp_path / "runs").exists()


def test_many_of_one_second(tmp_path: Path) -> None:
    made = {new_folder(tmp_path / "runs", "a", now=NOW) for _ in range(50)}
    assert len(made) == 50
    assert all(path.is_dir() for path in made)


def test_no_free_name_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "urandom", lambda count: bytes(count))
    new_folder(tmp_path, "a", now=NOW)
    with pytest.raises(StoreError, match="too many runs named a started in this second"):
        new_folder(tmp_path, "a", now=NOW)


def test_a_file_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(StoreError, match="a file is in the way"):
        new_folder(tmp_path / "runs", "a")
