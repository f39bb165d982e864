from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from madeupruns import make_run

from dnntrain.compare.watching import FRESH, Watched
from dnntrain.store import RunDirectory, SweepDirectory


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        self.time += 2 * FRESH
        return self.time


def watched(folder: Path, **options: Any) -> Watched:
    return Watched(folder, clock=Clock(), **options)


def test_a_folder_that_comes_later(tmp_path: Path) -> None:
    folder = watched(tmp_path / "runs")
    assert "no runs in" in folder.now().data["notice"]
    make_run(tmp_path / "runs")
    assert len(folder.now().data["runs"]) == 1


@pytest.mark.parametrize("place", [".", "sweep", "sweep/runs"])
def test_runs_are_found_where_compare_finds_them(tmp_path: Path, place: str) -> None:
    folder = watched(tmp_path)
    assert folder.now().data["runs"] == []
    make_run(tmp_path / place)
    assert len(folder.now().data["runs"]) == 1


def test_the_version_changes_with_the_runs_and_only_then(tmp_path: Path) -> None:
    directory = make_run(tmp_path)
    folder = watched(tmp_path)
    before = folder.now()
    assert folder.now() is before
    directory.append_metrics({"epoch": 4, "valid/loss": 0.5})
    directory.close()
    after = folder.now()
    assert after.version != before.version
    assert after.data["runs"][0]["curves"]["valid/loss"] == [3.0, 2.0, 1.0, 0.5]
    directory.write_notes({"tags": ["paper"]})
    assert folder.now().data["runs"][0]["tags"] == ["paper"]
    make_run(tmp_path, "other", spec={"optimizer.lr": 1.0})
    assert len(folder.now().data["groups"]) == 2
    assert json.loads(folder.now().text) == folder.now().data


def test_a_run_that_ends_without_a_word_is_seen(tmp_path: Path) -> None:
    directory = make_run(tmp_path, status="running")
    folder = watched(tmp_path)
    with directory.lock():
        assert folder.now().data["runs"][0]["status"] == "running"
    assert folder.now().data["runs"][0]["status"] == "interrupted"


def test_only_what_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directories = [make_run(tmp_path, seed=seed) for seed in range(3)]
    folder = watched(tmp_path)
    folder.now()
    read: list[str] = []
    original = RunDirectory._read
    monkeypatch.setattr(RunDirectory, "_read", lambda self, name: read.append(self.name) or original(self, name))
    directories[1].append_metrics({"epoch": 4, "valid/loss": 0.5})
    directories[1].close()
    folder.now()
    assert read == [directories[1].name]


def test_the_folder_is_not_looked_at_for_every_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path)
    time = 0.0
    folder = Watched(tmp_path, clock=lambda: time)
    before = folder.now()
    make_run(tmp_path, seed=1)
    assert folder.now() is before
    time = FRESH
    assert folder.now() is not before


DAMAGE = {
    "summary.json": ["", "[]", "{", '{"schema": 99}', '{"schema": 1, "status": "completed"}'],
    "metrics.jsonl": [
        '{"epoch": 1}\nbroken\n{"epoch": 2}\n',
        '{"epoch": "one"}\n',
        '{"loss": 1}\n',
        '{"epoch": 1, "seconds": "x"}\n',
    ],
    "notes.json": ["{", "[]"],
    "environment.json": ['{"data": []}'],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in DAMAGE.items() for text in texts])
def test_a_run_that_is_damaged_is_left_out_and_told(tmp_path: Path, name: str, text: str) -> None:
    make_run(tmp_path, seed=0)
    damaged = make_run(tmp_path, seed=1)
    folder = watched(tmp_path)
    assert len(folder.now().data["runs"]) == 2
    (damaged.path / "log.txt").touch()
    (damaged.path / name).write_text(text)
    damaged.write_notes({}) if name == "environment.json" else None  # whose change alone is not looked for
    shown = folder.now().data
    assert len(shown["runs"]) == 1
    assert any(remark.startswith("left out:") and damaged.name in remark for remark in shown["remarks"])


def test_all_runs_damaged(tmp_path: Path) -> None:
    directory = make_run(tmp_path)
    (directory.path / "summary.json").write_text("{")
    assert "left out" in watched(tmp_path).now().data["notice"]


def test_a_metric_that_nothing_has_measured_yet(tmp_path: Path) -> None:
    make_run(tmp_path)
    folder = watched(tmp_path, metric="test/loss")
    assert "no run has the metric 'test/loss'" in folder.now().data["notice"]
    make_run(tmp_path, seed=1, test={"test/loss": 1.0})
    assert folder.now().data["metric"] == "test/loss"


def test_a_run_that_vanishes(tmp_path: Path) -> None:
    directory = make_run(tmp_path)
    make_run(tmp_path, seed=1)
    folder = watched(tmp_path)
    assert len(folder.now().data["runs"]) == 2
    directory.path.rename(tmp_path.parent / f"{tmp_path.name}-gone")
    assert len(folder.now().data["runs"]) == 1


def test_a_sweep_that_found_its_runs_elsewhere_shows_them(tmp_path: Path) -> None:
    found = make_run(tmp_path / "runs" / "earlier" / "runs")
    sweep = SweepDirectory(tmp_path / "runs" / "later")
    sweep.runs.mkdir(parents=True)
    folder = watched(sweep.path)
    assert "no runs in" in folder.now().data["notice"]
    sweep.write_runs([{"run": sweep.relative(found), "reused": True}])
    assert [run["id"] for run in folder.now().data["runs"]] == [found.name]


def test_a_damaged_table_of_a_sweep_is_told(tmp_path: Path) -> None:
    make_run(tmp_path / "sweep" / "runs")
    (tmp_path / "sweep" / SweepDirectory.RUNS).write_text("{")
    folder = watched(tmp_path)
    assert "runs.jsonl is damaged" in folder.now().data["notice"]
    (tmp_path / "sweep" / SweepDirectory.RUNS).unlink()
    assert len(folder.now().data["runs"]) == 1
