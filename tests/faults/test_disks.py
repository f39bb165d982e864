"""Full disks, and files in the way, damaged or gone: it is said, nothing earlier is lost, and the run goes on."""

from __future__ import annotations

import errno
import logging
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import datetime as real_datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from faultruns import EXPERIMENT, Child, check_readable, die, leftovers, started, unlike

import dnntrain
from dnntrain import yamltext
from dnntrain.errors import StoreError
from dnntrain.store import RunDirectory, atomic, directory
from dnntrain.training.hooks import Hook, RunView

CONFIG = ["run", "short.yaml", "-q"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Return the run that nothing disturbs."""
    return RunDirectory(dnntrain.train(EXPERIMENT, runs=tmp_path_factory.mktemp("whole")).path)


class At(Hook):
    """Does something after an optimizer step."""

    def __init__(self, step: int, action: Callable[[], object]) -> None:
        self.step, self.action = step, action

    def on_step_end(self, run: RunView, /) -> None:
        if run.step == self.step:
            self.action()


def left_at(step: int, runs: Path) -> RunDirectory:
    """Train up to a step, where power fails; return the run."""
    with pytest.raises(PowerCut):
        dnntrain.train(EXPERIMENT, runs=runs, observers=[At(step, cut)])
    run = started(runs)
    assert run is not None
    return run


class PowerCut(BaseException):
    """Nothing is saved any more."""


def cut() -> None:
    raise PowerCut


def only_run(runs: Path) -> RunDirectory:
    run = started(runs)
    assert run is not None
    return run


def ends_like(whole: RunDirectory, run: RunDirectory) -> dnntrain.RunRecord:
    record = dnntrain.resume(run.path)
    assert unlike(whole, run) == []
    assert leftovers(run) == []
    return record


class SmallFiles:
    """Forbids this process files past a size, as a quota would; for `Child(before=...)`."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.size))


def limits(whole: RunDirectory) -> list[int]:
    """Return sizes that stop the first checkpoint, the best one or the last, at its start, middle and end."""
    last, best = (whole.checkpoint(name).stat().st_size for name in (whole.LAST, whole.BEST))
    return [8192, best - 1, last // 2, last - 5000, last - 1]


@pytest.mark.process
@pytest.mark.parametrize("which", range(5))
def test_a_file_that_cannot_grow_ends_the_run_with_a_word(which: int, whole: RunDirectory, folder: Path) -> None:
    (folder / "short.yaml").write_text(yamltext.dump(EXPERIMENT))
    child = Child(folder, CONFIG, before=SmallFiles(limits(whole)[which]))
    assert child.wait() == 1, child.said()
    said, told = child.said()
    run = only_run(folder / "runs")
    assert said == ""
    assert "Traceback" not in told
    assert f"cannot write runs/{run.name}/checkpoints/" in told
    assert "File too large" in told
    assert told.splitlines()[-1] == f"what was recorded until then: runs/{run.name}"
    assert len(told.splitlines()) == 2, told
    assert run.summary()["status"] == "failed"
    assert "File too large" in run.summary()["error"]
    check_readable(run)
    assert leftovers(run) == []
    ends_like(whole, run)


@pytest.fixture
def small_disk(folder: Path) -> Iterator[Callable[[int], Path]]:
    """Mount file systems of a few kilobytes."""
    mounted: list[Path] = []

    def mount(kilobytes: int) -> Path:
        place = folder / "disk"
        place.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
        mounted.append(place)
        return place

    if shutil.which("mount") is None:
        pytest.skip("there is no command mount")
    yield mount
    for place in mounted:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.process
@pytest.mark.parametrize("kilobytes", [60, 110, 150, 190])
def test_a_full_disk_ends_the_run_with_a_word(
    kilobytes: int, small_disk: Callable[[int], Path], whole: RunDirectory, folder: Path
) -> None:
    disk = small_disk(kilobytes)
    (folder / "short.yaml").write_text(yamltext.dump(EXPERIMENT))
    child = Child(folder, [*CONFIG, "--runs-dir", str(disk)])
    assert child.wait() == 1, child.said()
    told = child.said()[1]
    assert "No space left on device" in told
    assert "Traceback" not in told
    run = only_run(disk)
    assert told.splitlines()[-1] == f"what was recorded until then: {run.path}"
    check_readable(run)
    assert leftovers(run) == []
    subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
    ends_like(whole, run)


@pytest.mark.parametrize("name", ["log.txt", "tensorboard"])
def test_what_is_only_told_beside_may_fail(
    name: str, whole: RunDirectory, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # A folder in place of the file, or a file in place of the folder: not even root can write there.
    run = left_at(9, folder / "runs")
    place = run.path / name
    if name == "log.txt":
        place.unlink()
        place.mkdir()
    else:
        shutil.rmtree(place)
        place.write_text("in the way\n")
    with caplog.at_level(logging.WARNING):
        record = ends_like(whole, run)
    assert record.status == "completed"
    (remark,) = [each for each in record.remarks if "not everything was written" in each]
    assert name in remark
    assert len(caplog.records) == 1, "it is said once"
    assert "training goes on without it" in caplog.text


def test_a_vanished_run_folder_is_said(folder: Path) -> None:
    with pytest.raises(StoreError, match="No such file or directory") as caught:
        dnntrain.train(
            EXPERIMENT, runs=folder / "runs", observers=[At(17, lambda: shutil.rmtree(only_run(folder / "runs").path))]
        )
    assert str(folder / "runs") in str(caught.value)
    assert not list((folder / "runs").iterdir()), "nothing is made again"


def test_a_read_only_disk_is_said_and_leaves_what_was_there(
    small_disk: Callable[[int], Path], whole: RunDirectory
) -> None:
    disk = small_disk(4096)
    run = left_at(17, disk)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    try:
        with pytest.raises(StoreError, match="Read-only file system"):
            dnntrain.resume(run.path)
        with pytest.raises(StoreError, match="Read-only file system"):
            dnntrain.train(EXPERIMENT, runs=disk)
        check_readable(run)
        assert run.status() == "failed"
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    ends_like(whole, run)


def test_a_file_system_without_links_keeps_both_checkpoints_all_the_same(
    whole: RunDirectory, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: Any, **named: Any) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(atomic.os, "link", refused)
    run = left_at(17, folder)
    assert run.checkpoint(run.PREVIOUS).exists()
    check_readable(run)
    ends_like(whole, run)


@pytest.mark.process
def test_killed_between_the_renames_of_a_file_system_without_links(whole: RunDirectory, folder: Path) -> None:
    runs = folder / "runs"
    child = Child(folder, partial(dnntrain.train, EXPERIMENT, runs=runs), before=DieWithoutLast())
    assert child.wait() == -9
    run = only_run(runs)
    assert not run.checkpoint(run.LAST).exists()
    assert run.checkpoint(run.PREVIOUS).exists()
    check_readable(run)
    ends_like(whole, run)


class DieWithoutLast:
    """Knows no hard links, and dies when the last checkpoint has only its other name."""

    def __call__(self) -> None:
        def refused(*arguments: Any, **named: Any) -> None:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

        replace, seen = os.replace, []

        def once(source: Any, target: Any) -> None:
            replace(source, target)
            if str(target).endswith(RunDirectory.PREVIOUS):
                seen.append(target)
                if len(seen) == 2:
                    die()

        os.link, os.replace = refused, once


def test_cut_off_before_the_last_step_was_kept_it_is_kept_later(
    whole: RunDirectory, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = RunDirectory.keep_checkpoint

    def until_the_end(run: RunDirectory, step: int, kept: int) -> None:
        if step == 40:
            cut()
        keep(run, step, kept)

    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        patch.setattr(RunDirectory, "keep_checkpoint", until_the_end)
        dnntrain.train(EXPERIMENT, runs=folder)
    run = only_run(folder)
    assert "step-00000040.pt" not in [path.name for path in run.step_checkpoints()]
    ends_like(whole, run)


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def zeroed(content: bytes) -> bytes:
    return bytes(len(content))


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0x10]) + content[middle + 1 :]


def emptied(content: bytes) -> bytes:
    return b""


def damage(path: Path, how: Callable[[bytes], bytes]) -> None:
    """Damage a file, but not others that share its content."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(how(content))


@pytest.mark.parametrize("how", [truncated, zeroed, flipped, emptied], ids=lambda how: how.__name__)
def test_a_damaged_checkpoint_is_passed_over(
    how: Callable[[bytes], bytes], whole: RunDirectory, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = left_at(24, folder)
    damage(run.checkpoint(run.LAST), how)
    with caplog.at_level(logging.WARNING):
        ends_like(whole, run)
    assert f"{run.checkpoint(run.LAST)}" in caplog.text
    assert "trying the one before it" in caplog.text
    assert "from previous.pt" in (run.path / run.LOG).read_text()


def test_where_every_checkpoint_is_damaged_that_is_said_and_nothing_is_touched(folder: Path) -> None:
    run = left_at(24, folder)
    for path in run.resumable():
        damage(path, truncated)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(StoreError, match="no checkpoint of .* can be read; to start anew: dnntrain run ") as caught:
        dnntrain.resume(run.path)
    for path in (run.LAST, run.PREVIOUS):
        assert path in str(caught.value)
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("torn", [b'{"epoch": 3, "st', b"\0\0\0\0", b'{"epoch": 3}'])
def test_a_torn_last_line_of_the_metrics_is_nothing(torn: bytes, whole: RunDirectory, folder: Path) -> None:
    run = left_at(24, folder)
    with (run.path / run.METRICS).open("ab") as file:
        file.write(torn)
    assert [row["epoch"] for row in run.metrics()][:2] == [1, 2]
    ends_like(whole, run)


def test_a_clock_that_goes_backwards_changes_nothing(
    whole: RunDirectory, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(2_000_000_000, 0, -1000))

    class Backwards(real_datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return cls.fromtimestamp(next(clock), tz)

    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    monkeypatch.setattr(directory, "datetime", Backwards)
    run = left_at(17, folder)
    record = ends_like(whole, run)
    assert 0 < record.summary["seconds"] < 60
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.tensorboard))
    events.Reload()
    assert [event.step for event in events.Scalars("valid/loss")] == [1, 2, 3, 4]


@pytest.mark.parametrize("move", [shutil.move, shutil.copytree], ids=["renamed", "copied"])
def test_a_run_that_was_moved_goes_on(move: Callable[[Path, Path], object], whole: RunDirectory, folder: Path) -> None:
    run = left_at(24, folder / "runs")
    moved = RunDirectory(folder / "elsewhere" / "another name")
    moved.path.parent.mkdir()
    move(run.path, moved.path)
    ends_like(whole, moved)
