"""A directory that travels arrives whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dnntrain.errors import StoreError
from dnntrain.sweep.engines import parcels
from dnntrain.sweep.engines.parcels import bring_home, mend, pack, unpack


class Lost(Exception):
    """A piece that cannot be had any more."""


class Postbox(list[bytes]):
    """Keeps pieces as an object store does."""

    def put(self, piece: bytes) -> int:
        self.append(piece)
        return len(self) - 1

    def get(self, reference: int) -> bytes:
        return self[reference]

    def lose(self, reference: int) -> bytes:
        if reference == len(self) - 1:
            raise Lost
        return self[reference]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with a file larger than a piece, an empty one, a nested one, and a lock."""
    made = tmp_path / "node" / "run"
    (made / "checkpoints").mkdir(parents=True)
    (made / "checkpoints" / "last.pt").write_bytes(os.urandom(2 * 1000 + 7))
    (made / "metrics.jsonl").write_bytes(b"{}\n")
    (made / "log.txt").touch()
    (made / "lock").write_bytes(b"held")
    return made


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch) -> Postbox:
    monkeypatch.setattr(parcels, "_CHUNK", 1000)
    return Postbox()


def test_it_arrives_as_it_was_without_the_lock(folder: Path, box: Postbox, tmp_path: Path) -> None:
    parcel = pack(folder, box.put)
    assert [len(pieces) for pieces in parcel.values()] == [3, 0, 1] and max(map(len, box)) == 1000
    bring_home(parcel, box.get, tmp_path / "runs" / "run")
    expected = content(folder)
    del expected["lock"]
    assert content(tmp_path / "runs" / "run") == expected
    assert os.listdir(tmp_path / "runs") == ["run"]


def test_what_is_not_there_is_an_empty_parcel(tmp_path: Path, box: Postbox) -> None:
    assert pack(tmp_path / "nothing", box.put) == {}
    unpack({}, box.get, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_it_takes_the_place_of_what_was_there(folder: Path, box: Postbox, tmp_path: Path) -> None:
    home = tmp_path / "runs" / "run"
    home.mkdir(parents=True)
    (home / "old").touch()
    bring_home(pack(folder, box.put), box.get, home)
    assert not (home / "old").exists() and (home / "metrics.jsonl").exists()
    assert os.listdir(home.parent) == ["run"]


def test_what_is_lost_on_its_way_leaves_what_was_there(folder: Path, box: Postbox, tmp_path: Path) -> None:
    home = tmp_path / "runs" / "run"
    home.mkdir(parents=True)
    (home / "old").touch()
    with pytest.raises(Lost):
        bring_home(pack(folder, box.put), box.lose, home)
    assert content(home) == {"old": b""}
    assert os.listdir(home.parent) == ["run"]


def test_one_that_died_between_the_two_renames_is_taken_back(
    folder: Path, box: Postbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "runs" / "run"
    home.mkdir(parents=True)
    (home / "old").touch()
    with monkeypatch.context() as patch:
        rename = Path.rename
        patch.setattr(parcels, "mend", lambda directory: None)  # a dead process mends nothing

        def once(path: Path, target: Path) -> Path:
            if target == home:
                raise KeyboardInterrupt
            return rename(path, target)

        patch.setattr(Path, "rename", once)
        with pytest.raises(KeyboardInterrupt):
            bring_home(pack(folder, box.put), box.get, home)
    assert not home.exists()
    mend(home)
    assert content(home) == {"old": b""} and os.listdir(home.parent) == ["run"]


def test_a_file_that_leads_out_is_refused(box: Postbox, tmp_path: Path) -> None:
    box.put(b"x")
    with pytest.raises(StoreError, match="leads out of its run"):
        bring_home({"../../stray": [0]}, box.get, tmp_path / "runs" / "run")
    assert os.listdir(tmp_path) == ["runs"] and os.listdir(tmp_path / "runs") == []


def test_a_home_that_cannot_be_written_is_said(folder: Path, box: Postbox, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(StoreError, match="cannot bring home"):
        bring_home(pack(folder, box.put), box.get, tmp_path / "runs" / "run")
