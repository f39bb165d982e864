from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import pytest

from dnntrain.errors import LockedError, UsageError
from dnntrain.store import RunDirectory
from dnntrain.store.housekeeping import drop_checkpoints, files, garbage, note, remove, size, tag


def make(runs: Path, name: str, best: float | None = 1.0, status: str = "completed", mode: str = "min") -> RunDirectory:
    directory = RunDirectory.create(runs, name)
    metric = "valid/loss" if mode == "min" else "valid/accuracy"
    directory.write_summary(
        {
            "name": name,
            "seed": 0,
            "status": status,
            "stop_reason": None,
            "epochs": 1,
            "seconds": 1.0,
            "test": None,
            "error": None,
            "best": {"epoch": 1, "metrics": {metric: best}},
            "spec": {"training.monitor.metric": metric, "training.monitor.mode": mode},
        }
    )
    for checkpoint in (directory.LAST, directory.BEST):
        directory.save_checkpoint(checkpoint, lambda file: file.write(b"x" * 1000))
    directory.append_metrics({"epoch": 1})
    directory.close()
    return directory


def test_tags_come_and_go(tmp_path: Path) -> None:
    run = make(tmp_path, "a")
    assert tag(run, ["paper", "v1.0"]) == ["paper", "v1.0"]
    assert tag(run, ["paper", "x-2"]) == ["paper", "v1.0", "x-2"]
    assert tag(run, ["v1.0", "never"], remove=True) == ["paper", "x-2"]
    assert run.notes()["tags"] == ["paper", "x-2"]


@pytest.mark.parametrize("wrong", ["", "a b", "../x", "[red]", "a\n", "a=b"])
def test_what_is_no_tag(wrong: str, tmp_path: Path) -> None:
    run = make(tmp_path, "a")
    with pytest.raises(UsageError, match="is no tag"):
        tag(run, ["good", wrong])
    assert run.notes() == {}


def test_notes_are_kept_in_order_beside_the_tags(tmp_path: Path) -> None:
    run = make(tmp_path, "a")
    tag(run, ["t"])
    note(run, "first", now=datetime(2026, 1, 2, 3, 4, 5))
    written = note(run, "second\nline")
    assert [each["text"] for each in written] == ["first", "second\nline"]
    assert written[0]["time"].startswith("2026-01-02T03:04:05")
    assert run.notes()["tags"] == ["t"]
    with pytest.raises(UsageError, match="empty"):
        note(run, " \n")


def test_size_counts_a_file_with_two_names_once(tmp_path: Path) -> None:
    run = make(tmp_path, "a")
    before = size(run)
    os.link(run.checkpoint("last.pt"), run.path / "checkpoints" / "step-00000001.pt")
    assert size(run) == before
    assert dict(files(run))["checkpoints/last.pt"] == 1000
    assert {"summary.json", "metrics.jsonl"} <= set(dict(files(run)))


def test_a_run_is_removed_whole_and_alone(tmp_path: Path) -> None:
    one, other = make(tmp_path, "a"), make(tmp_path, "b")
    remove(one, tmp_path)
    assert list(tmp_path.iterdir()) == [other.path]


def test_a_run_that_is_being_trained_is_not_removed(tmp_path: Path) -> None:
    run = make(tmp_path, "a")
    with run.lock(), pytest.raises(LockedError):
        remove(run, tmp_path)
    assert run.summary()["status"] == "completed"
    with run.lock(), pytest.raises(LockedError):
        drop_checkpoints(run, tmp_path)
    assert run.checkpoint("last.pt").exists()


def test_nothing_outside_the_runs_folder_is_removed(tmp_path: Path) -> None:
    outside = make(tmp_path / "elsewhere", "a")
    runs = tmp_path / "runs"
    runs.mkdir()
    link = runs / outside.name
    link.symlink_to(outside.path)
    for wrong in (outside, RunDirectory(link), RunDirectory(runs / ".." / "elsewhere" / outside.name)):
        for action in (remove, drop_checkpoints):
            with pytest.raises(UsageError, match="does not lie in"):
                action(wrong, runs)
    assert outside.checkpoint("last.pt").exists()


def test_a_link_to_another_run_is_not_that_run(tmp_path: Path) -> None:
    run = make(tmp_path, "a")
    link = tmp_path / "link"
    link.symlink_to(run.path)
    with pytest.raises(UsageError, match="does not lie in"):
        remove(RunDirectory(link), tmp_path)
    assert run.checkpoint("last.pt").exists()


def test_a_link_in_a_run_is_removed_and_not_followed(tmp_path: Path) -> None:
    run = make(tmp_path / "runs", "a")
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("kept")
    (run.path / "link").symlink_to(precious)
    remove(run, tmp_path / "runs")
    assert (precious / "file").read_text() == "kept"


@pytest.mark.parametrize(("keep", "dropped"), [(0, 7), (1, 5), (2, 3), (9, 1)])
def test_the_best_of_each_metric_keep_their_checkpoints(keep: int, dropped: int, tmp_path: Path) -> None:
    for name, best in (("a", 3.0), ("b", 1.0), ("c", 2.0), ("d", 4.0), ("nan", None)):
        make(tmp_path, name, best)
    for name, best in (("x", 0.5), ("y", 0.9)):
        make(tmp_path, name, best, mode="max")
    for name, status in (("stopped-in-between", "interrupted"), ("broken", "failed")):
        make(tmp_path, name, 9.0, status)
    (tmp_path / "no-run").mkdir()
    found = garbage(tmp_path, keep=keep)
    assert len(found) == dropped
    assert all(each.bytes == 2000 for each in found)
    names = {each.directory.name.split("-")[0] for each in found}
    order = {"min": ["b", "c", "a", "d"], "max": ["y", "x"]}
    assert names == {"nan", *order["min"][keep:], *order["max"][keep:]}
    reasons = {each.directory.name.split("-")[0]: each.reason for each in found}
    assert reasons["nan"] == "it has no best epoch"
    if keep < 4:
        assert reasons["d"] == "4 of 4 by valid/loss"


def test_dropping_checkpoints_leaves_the_rest(tmp_path: Path) -> None:
    run = make(tmp_path, "a")
    drop_checkpoints(run, tmp_path)
    assert not (run.path / "checkpoints").exists()
    assert len(run.metrics()) == 1
    assert garbage(tmp_path, keep=0) == []
