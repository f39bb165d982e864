from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import JournalStorage
from optuna.study import StudyDirection

from dnntrain.errors import StoreError, UsageError
from dnntrain.store import lines
from dnntrain.sweep import storage as storages
from dnntrain.sweep.storage import Journal, open_storage, studies, study_of, without_password

MINIMIZE = [StudyDirection.MINIMIZE]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.log"


def test_a_study_is_made_once_and_found_again(path: Path) -> None:
    first = study_of(open_storage(path), "a", MINIMIZE)
    assert study_of(open_storage(path), "a", MINIMIZE) == first
    assert study_of(open_storage(path), "b", MINIMIZE) != first
    assert studies(open_storage(path)) == ["a", "b"]


@pytest.mark.parametrize("torn", [b'{"op_code": 4, "wor', b"\0" * 100, b"x" * 200_000])
def test_half_a_line_is_mended_by_the_next_writer(path: Path, torn: bytes) -> None:
    storage = open_storage(path)
    study_of(storage, "a", MINIMIZE)
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    assert studies(open_storage(path)) == ["a"], "who only reads passes over it"
    study_of(storage, "b", MINIMIZE)
    assert path.read_bytes().startswith(whole + b"{")
    assert [json.loads(line)["study_name"] for line in path.read_text().splitlines()] == ["a", "b"]
    assert studies(open_storage(path)) == ["a", "b"]


def test_half_a_line_alone_is_mended(path: Path) -> None:
    path.write_bytes(b'{"op')
    study_of(open_storage(path), "a", MINIMIZE)
    assert studies(open_storage(path)) == ["a"]


def test_a_full_disk_leaves_the_journal_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = open_storage(path)
    study_of(storage, "a", MINIMIZE)
    before = path.read_bytes()

    class Full(lines.FileIO):
        """Takes ten bytes, and then no more."""

        taken = False

        def write(self, content: Any) -> int:
            if self.taken:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.taken = True
            return super().write(bytes(content)[:10])

    with monkeypatch.context() as patch:
        patch.setattr(storages, "FileIO", Full)
        with pytest.raises(StoreError, match=r"cannot write .*journal.log: No space left on device"):
            study_of(storage, "b", MINIMIZE)
    assert path.read_bytes() == before
    study_of(storage, "b", MINIMIZE)
    assert studies(open_storage(path)) == ["a", "b"]


def test_the_lock_of_a_killed_holder_is_taken_after_its_grace(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(path, grace=3)
    Path(f"{path}.lock").touch()
    began = time.monotonic()
    study_of(JournalStorage(journal), "a", MINIMIZE)
    assert 3 < time.monotonic() - began < 60
    assert not Path(f"{path}.lock").exists()
    assert studies(open_storage(path)) == ["a"]


def test_a_lock_that_was_taken_away_harms_nobody(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mend = storages._mend

    def stolen(file: Any) -> None:
        Path(f"{path}.lock").unlink()
        mend(file)

    monkeypatch.setattr(storages, "_mend", stolen)
    study_of(open_storage(path), "a", MINIMIZE)
    assert studies(open_storage(path)) == ["a"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg://me:s3cret@host/db", "postgresql+psycopg://me@host/db"),
        ("mysql://me:s3/cr:et@host:3306/db?x=@", "mysql://me@host:3306/db?x=@"),
        ("postgresql://host/db?user=me&password=s3cret&sslmode=require", "postgresql://host/db?user=me&password=&sslmode=require"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("sqlite:////tmp/a.db", "sqlite:////tmp/a.db"),
    ],
)  # fmt: skip
def test_a_password_is_never_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_what_is_wrong_with_a_database_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nonsense names no database"):
        open_storage(tmp_path, "nonsense")
    with pytest.raises(UsageError, match="nosuch://me@host/db names no database") as caught:
        open_storage(tmp_path, "nosuch://me:s3cret@host/db")
    assert "s3cret" not in str(caught.value)
    with pytest.raises(StoreError, match="cannot open sqlite:////no/such/folder/a.db"):
        open_storage(tmp_path, "sqlite:////no/such/folder/a.db")
    with pytest.raises(StoreError, match=r"cannot open /no/such/folder/journal.log"):
        open_storage(Path("/no/such/folder/journal.log"))


def test_each_connection_to_sqlite_takes_its_turn(tmp_path: Path) -> None:
    opened: Any = open_storage(tmp_path / "journal", f"sqlite:///{tmp_path}/state.db")
    engine = opened._backend.engine
    for _ in range(3):
        assert engine.raw_connection().driver_connection.isolation_level is None, "also one that was there before"
