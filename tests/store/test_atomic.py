from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import pytest

from dnntrain.errors import StoreError
from dnntrain.store import write_atomic


def put(content: bytes) -> Callable[[BinaryIO], int]:
    return lambda file: file.write(content)


def full_disk(*_: Any, **__: Any) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_is_made_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_atomic(path, put(b"one"))
    write_atomic(path, put(b"two"))
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_writer_that_fails_half_way_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def fail(file: BinaryIO) -> None:
        file.write(b"new" * 100_000)
        raise error

    with pytest.raises(error):
        write_atomic(path, fail)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, call, full_disk)
    with pytest.raises(StoreError, match=r"cannot write .*/a: No space left on device"):
        write_atomic(path, put(b"new"))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_the_content_is_durable_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def spy_fsync(descriptor: int) -> None:
        calls.append(f"sync {os.readlink(f'/proc/self/fd/{descriptor}')[len(str(tmp_path)) :]}"[:8])
        fsync(descriptor)

    def spy_replace(source: Path, target: Path) -> None:
        calls.append("rename")
        assert source.read_bytes() == b"new"
        replace(source, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "replace", spy_replace)
    write_atomic(tmp_path / "a", put(b"new"))
    assert calls == ["sync /.a", "rename", "sync "]


def test_a_missing_folder_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file or directory"):
        write_atomic(tmp_path / "no" / "a", put(b""))


@pytest.mark.parametrize("linkable", [True, False])
def test_the_replaced_content_is_kept_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linkable: bool
) -> None:
    if not linkable:
        monkeypatch.setattr(os, "link", full_disk)
    path, previous = tmp_path / "last", tmp_path / "previous"
    for content in (b"1", b"2", b"3"):
        write_atomic(path, put(content), previous=previous)
    assert (path.read_bytes(), previous.read_bytes()) == (b"3", b"2")
    assert sorted(os.listdir(tmp_path)) == ["last", "previous"]


def test_a_crash_between_keeping_and_replacing_is_harmless(tmp_path: Path) -> None:
    path, previous = tmp_path / "last", tmp_path / "previous"
    path.write_bytes(b"1")
    os.link(path, previous)
    write_atomic(path, put(b"2"), previous=previous)
    assert (path.read_bytes(), previous.read_bytes()) == (b"2", b"1")
    assert sorted(os.listdir(tmp_path)) == ["last", "previous"]


def test_a_file_system_without_folder_sync_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def only_files(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    write_atomic(tmp_path / "a", put(b"new"))
    assert (tmp_path / "a").read_bytes() == b"new"
