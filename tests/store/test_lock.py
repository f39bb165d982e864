from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest

from dnntrain.errors import LockedError, StoreError
from dnntrain.store import lock

_HOLDER = """
import os, sys, time
from pathlib import Path
from dnntrain.store.lock import hold
with hold(Path(sys.argv[1])):
    if sys.argv[2] == "alone" or os.fork() == 0:
        print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def holder(path: Path, mode: str = "alone") -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(path), mode], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


@pytest.fixture
def without_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(descriptor: int, operation: int) -> NoReturn:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unsupported)


def test_the_lock_is_held_for_its_context_and_then_gone(path: Path) -> None:
    assert not lock.is_held(path)
    with lock.hold(path):
        assert lock.is_held(path)
        content = json.loads(path.read_text())
        assert (content["pid"], content["host"]) == (os.getpid(), socket.gethostname())
        assert content["started"]
    assert not lock.is_held(path)
    assert not path.exists()


def test_a_second_holder_is_told_about_the_first(path: Path) -> None:
    with (
        holder(path) as process,
        pytest.raises(LockedError, match=f"in use by process {process.pid} on {socket.gethostname()}"),
        lock.hold(path),
    ):
        pass


def test_one_process_cannot_hold_it_twice(path: Path) -> None:
    with lock.hold(path):
        with pytest.raises(LockedError, match=f"process {os.getpid()} "), lock.hold(path):
            pass
        assert lock.is_held(path)


def test_the_kernel_drops_the_lock_of_a_killed_process(path: Path) -> None:
    with holder(path) as process:
        assert lock.is_held(path)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert path.exists()
        assert not lock.is_held(path)
        with lock.hold(path):
            assert json.loads(path.read_text())["pid"] == os.getpid()


def test_a_forked_worker_does_not_hold_the_lock_of_its_dead_parent(path: Path) -> None:
    with holder(path, "fork") as process:
        assert lock.is_held(path)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not lock.is_held(path)


def test_an_error_inside_releases_the_lock(path: Path) -> None:
    with pytest.raises(ValueError, match="inside"), lock.hold(path):
        raise ValueError("inside")
    assert not lock.is_held(path)


def test_what_a_killed_holder_wrote_is_replaced(path: Path) -> None:
    path.write_text("x" * 500)
    with lock.hold(path):
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_a_lock_on_a_file_that_its_last_holder_removed_does_not_count(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    original = os.open

    def open_and_lose(*arguments: Any) -> int:
        descriptor = original(*arguments)
        if not opened:
            path.unlink()
        opened.append(descriptor)
        return descriptor

    monkeypatch.setattr(os, "open", open_and_lose)
    with lock.hold(path):
        assert path.exists()
        assert lock.is_held(path)


def test_asking_does_not_get_into_the_way(path: Path) -> None:
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            lock.is_held(path)

    askers = [threading.Thread(target=ask) for _ in range(2)]
    for asker in askers:
        asker.start()
    try:
        for _ in range(20):
            with lock.hold(path):
                pass
    finally:
        stop.set()
        for asker in askers:
            asker.join()


def test_only_one_of_many_holds_at_a_time(path: Path) -> None:
    inside: list[int] = []
    overlaps: list[int] = []
    turns: list[int] = []

    def take(number: int) -> None:
        deadline = time.monotonic() + 10
        done = 0
        while done < 10 and time.monotonic() < deadline:
            try:
                with lock.hold(path):
                    inside.append(number)
                    overlaps.extend([number] * (len(inside) > 1))
                    time.sleep(0.0005)
                    inside.remove(number)
                    turns.append(number)
                    done += 1
            except LockedError:
                continue

    threads = [threading.Thread(target=take, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlaps == []
    assert len(turns) == 40


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"), lock.hold(tmp_path / "no" / "lock"):
        pass


@pytest.mark.usefixtures("without_flock")
class TestWithoutFlock:
    def test_the_file_is_the_lock(self, path: Path) -> None:
        with lock.hold(path):
            assert lock.is_held(path)
            with pytest.raises(LockedError, match=f"process {os.getpid()} .*remove {path}"), lock.hold(path):
                pass
        assert not lock.is_held(path)
        assert not path.exists()

    def test_a_dead_process_of_this_host_holds_nothing(self, path: Path) -> None:
        process = subprocess.Popen([sys.executable, "-c", ""])
        process.wait()
        path.write_text(json.dumps({"pid": process.pid, "host": socket.gethostname()}))
        assert not lock.is_held(path)
        with lock.hold(path):
            assert json.loads(path.read_text())["pid"] == os.getpid()

    @pytest.mark.parametrize("content", ['{"pid": 1, "host": "elsewhere"}', "", "[]", "{"])
    def test_a_process_that_cannot_be_asked_may_be_alive(self, path: Path, content: str) -> None:
        path.write_text(content)
        assert lock.is_held(path)
        with pytest.raises(LockedError), lock.hold(path):
            pass
