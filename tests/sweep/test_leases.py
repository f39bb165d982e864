from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.storages import InMemoryStorage

from dnntrain.errors import StoreError
from dnntrain.sweep import leases
from dnntrain.sweep.board import Board, Stretch
from dnntrain.sweep.leases import Beats, FileBeats, Heart, Owner, StorageBeats, Watch


@pytest.fixture(params=["file", "storage"])
def beats(request: pytest.FixtureRequest, tmp_path: Path) -> Beats:
    if request.param == "file":
        return FileBeats(tmp_path / "leases")
    board = Board(InMemoryStorage(), "sweep", better="min")
    for number in range(3):
        board.add_ticket(Stretch(0, number, 0))
    return StorageBeats(board)


def test_an_owner_is_written_and_read() -> None:
    me = Owner.me()
    assert Owner.parse(str(me)) == me
    assert me.gone is False
    for nonsense in ("", "a b c", "a b x d", "a b -1 d", "a b 1 d e"):
        assert Owner.parse(nonsense) is None


def test_a_process_that_has_ended_is_gone_and_so_is_one_whose_number_was_used_again() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = leases._started(child.pid)
    assert started is not None
    owner = replace(Owner.me(), pid=child.pid, started=started)
    assert owner.gone is False
    assert replace(owner, started="1").gone is True
    child.kill()
    # Dead, though nobody has asked for its exit code yet.
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert owner.gone is True
    child.communicate()
    assert owner.gone is True


@pytest.mark.parametrize("where", ["host", "boot"])
def test_what_cannot_be_seen_is_not_judged(where: str) -> None:
    assert replace(Owner.me(), **{where: "elsewhere"}, pid=2**22 + 1).gone is None


def test_silence_is_judged_by_the_own_clock(beats: Beats, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(leases.time, "monotonic", lambda: now[0])
    far = Owner("elsewhere", "0", 1, "0")
    watch = Watch(beats, grace=60.0)
    beats.beat(0, 0)
    assert not watch.is_dead(0, far)
    for count in (1, 2):
        now[0] += 59
        beats.beat(0, count)
        assert not watch.is_dead(0, far)
    now[0] += 60
    assert not watch.is_dead(0, far)
    now[0] += 1
    assert watch.is_dead(0, far)
    assert not watch.is_dead(1, None), "nothing was ever said, and it is looked at for the first time"
    now[0] += 61
    assert watch.is_dead(1, None)


def test_a_heart_beats_for_what_it_holds_and_for_nothing_else(beats: Beats) -> None:
    with Heart(beats, every=0.01) as heart:
        heart.hold(0)
        heart.hold(1)
        first = beats.last(0)
        deadline = time.monotonic() + 10
        while beats.last(0) == first:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        heart.drop(1)
        said = beats.last(1)
        time.sleep(0.05)
        assert beats.last(1) == said
    said = beats.last(0)
    time.sleep(0.05)
    assert beats.last(0) == said
    beats.forget(0)


def test_a_lease_is_removed(tmp_path: Path) -> None:
    beats = FileBeats(tmp_path / "leases")
    beats.beat(7, 0)
    beats.forget(7)
    beats.forget(7)
    assert beats.last(7) == ""
    assert list((tmp_path / "leases").iterdir()) == []


def test_a_beat_that_fails_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "elsewhere").touch()
    beats = FileBeats(tmp_path / "leases")
    with caplog.at_level(logging.WARNING), Heart(beats, every=0.01) as heart:
        heart.hold(0)
        beats._folder = tmp_path / "elsewhere" / "leases"
        deadline = time.monotonic() + 60
        while not caplog.text and time.monotonic() < deadline:
            time.sleep(0.01)
    assert "this worker cannot say that it lives: cannot make" in caplog.text
    with pytest.raises(StoreError, match="cannot make .*leases"):
        beats.beat(0, 1)
