from __future__ import annotations

import errno
import os
from contextlib import closing
from io import FileIO
from pathlib import Path

import pytest

from dnntrain.errors import StoreError
from dnntrain.store.lines import LineFile


@pytest.mark.parametrize(
    ("before", "after"),
    [(b"", b"new\n"), (b"one\n", b"one\nnew\n"), (b"one\nto", b"one\nnew\n"), (b"one\nwhole", b"one\nwhole\nnew\n")],
)
def test_a_torn_tail_is_mended_before_the_next_line(tmp_path: Path, before: bytes, after: bytes) -> None:
    path = tmp_path / "lines"
    path.write_bytes(before)
    with closing(LineFile(path, is_whole=lambda tail: tail == b"whole")) as lines:
        lines.append("new")
        assert path.read_bytes() == after


def test_nothing_is_made_without_a_line(tmp_path: Path) -> None:
    lines = LineFile(tmp_path / "lines", is_whole=bool)
    lines.sync()
    lines.close()
    assert os.listdir(tmp_path) == []


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lines"
    write = FileIO.write
    room = [4]

    class SmallDisk(FileIO):
        def write(self, content: bytes) -> int:  # type: ignore[override]
            if not room[0]:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            taken = write(self, content[: room[0]])
            room[0] -= taken
            return taken

    monkeypatch.setattr("dnntrain.store.lines.FileIO", SmallDisk)
    with closing(LineFile(path, is_whole=bool)) as lines:
        lines.append("1")
        with pytest.raises(StoreError, match="No space left"):
            lines.append("2345")
        assert path.read_bytes() == b"1\n"
        room[0] = 100
        lines.append("6")
        assert path.read_bytes() == b"1\n6\n"


def test_sync_reaches_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    with closing(LineFile(tmp_path / "lines", is_whole=bool)) as lines:
        lines.append("1")
        assert synced == []
        lines.sync()
        assert synced == [str(tmp_path / "lines")]


def test_a_sync_that_fails_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with closing(LineFile(tmp_path / "lines", is_whole=bool)) as lines:
        lines.append("1")
        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(StoreError, match="Input/output error"):
            lines.sync()


def test_a_folder_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "lines").mkdir()
    with pytest.raises(StoreError, match="cannot write"):
        LineFile(tmp_path / "lines", is_whole=bool).append("1")
