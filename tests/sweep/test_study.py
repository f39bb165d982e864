from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import dnntrain
from dnntrain import spec, yamltext
from dnntrain.errors import StoreError, UsageError
from dnntrain.store import RunDirectory, SweepDirectory
from dnntrain.sweep import study as studying
from dnntrain.sweep.conductor import Event
from dnntrain.sweep.engines.inline import Inline
from dnntrain.sweep.engines.local import Local
from dnntrain.sweep.study import Study

CONTENT: dict[str, Any] = {
    "name": "tiny",
    "data": {"dataset": "digits", "limit": 100},
    "model": {"architecture": {"name": "mlp", "hidden": [4]}, "dropout": {"name": "dropout", "rate": 0.2}},
    "training": {"epochs": 4, "threads": 1},
    "callbacks": [],
}
GRID = {"space": {"optimizer.lr": [0.003, 0.03], "model.activation": ["relu", "swish"]}, "seeds": 2}
TIMES = ("seconds", "samples_per_second", "epoch_seconds")


class Telling:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event, /) -> None:
        self.events.append(event)

    def on_tick(self, conductor: Any, /) -> None: ...


def begin(runs: Path, sweep: dict[str, Any] | None = None, *, storage: str | None = None, **changed: Any) -> Study:
    content = {**CONTENT, **changed, "sweep": sweep or GRID}
    return Study.begin(spec.drafts(yamltext.dump(content), source="sweep.yaml"), runs=runs, storage=storage)


def figures(study: Study) -> list[tuple[Any, ...]]:
    return [(row["configuration"], row["seed"], row["value"]) for row in study.directory.read_runs()]


def metrics(run: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in TIMES} for row in RunDirectory(run).metrics()]


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Return a finished sweep, whose folder is not to be changed."""
    study = begin(tmp_path_factory.mktemp("runs"))
    study.work(Inline(), observer=Telling())
    return study


@pytest.mark.process
def test_two_processes_come_to_the_same_figures(grid: Study, tmp_path: Path) -> None:
    other = begin(tmp_path)
    found = other.work(Local(2, threads=1), observer=Telling())
    assert figures(other) == figures(grid)
    assert len(figures(grid)) == 8
    assert [(each.number, each.value) for each in found.ranking] == [
        (each.number, each.value) for each in grid.result().ranking
    ]
    assert not list(other.directory.leases.iterdir())


def test_what_is_there_already_is_named_and_not_copied(grid: Study) -> None:
    again = begin(grid.directory.path.parent)
    told = Telling()
    found = again.work(Inline(), observer=told)
    assert found.reused == 8
    assert {event.kind for event in told.events} == {"reused", "concluded"}
    assert figures(again) == figures(grid)
    assert not list(again.directory.runs.iterdir())
    for row in again.directory.read_runs():
        assert row["run"].startswith(f"../{grid.directory.name}/runs/")
        assert (again.directory.path / row["run"] / RunDirectory.SUMMARY).exists()


def test_a_run_by_itself_is_there_already_too_unless_all_shall_be_fresh(tmp_path: Path) -> None:
    dnntrain.train({**CONTENT, "optimizer": {"lr": 0.03}}, runs=tmp_path)
    sweep = {"space": {"optimizer.lr": [0.003, 0.03]}}
    assert begin(tmp_path, sweep).work(Inline(), observer=Telling()).reused == 1
    assert begin(tmp_path, sweep).work(Inline(), observer=Telling(), fresh=True).reused == 0


def test_a_damaged_earlier_run_is_trained_anew(tmp_path: Path) -> None:
    record = dnntrain.train({**CONTENT, "optimizer": {"lr": 0.03}}, runs=tmp_path)
    (record.path / RunDirectory.METRICS).write_text("[\n{}\n")
    found = begin(tmp_path, {"space": {"optimizer.lr": [0.03]}}).work(Inline(), observer=Telling())
    assert (found.reused, len(found.failed)) == (0, 0)


def test_the_survivor_of_asha_equals_an_undisturbed_run_to_the_last_bit(tmp_path: Path) -> None:
    space = {"optimizer.lr": [0.001, 0.003, 0.03, 0.1]}
    study = begin(tmp_path, {"space": space, "prune": {"name": "asha", "eta": 2}})
    told = Telling()
    found = study.work(Inline(), observer=told)
    best = found.ranking[0]
    assert best.state == "done"
    assert "paused" in {event.kind for event in told.events}
    assert any(each.state == "pruned" for each in found.ranking)
    (run,) = [row["run"] for row in study.directory.read_runs() if row["configuration"] == best.number]
    alone = dnntrain.train(
        {**CONTENT, "optimizer": {"lr": float(best.labels["optimizer.lr"])}}, runs=tmp_path / "alone"
    )
    assert metrics(study.directory.path / run) == metrics(alone.path)
    assert best.value == alone.best["valid/loss"]


def test_folds_of_evenly_spread_configurations_are_trained_as_each_by_itself(tmp_path: Path) -> None:
    training = {"epochs": 1, "threads": 1}
    space = {"optimizer.lr": {"log": [0.001, 0.1]}}
    study = begin(tmp_path, {"space": space, "search": "qmc", "trials": 2, "folds": 2}, training=training)
    found = study.work(Inline(), observer=Telling())
    rows = study.directory.read_runs()
    assert [(row["configuration"], row["seed"], row["fold"]) for row in rows] == [
        (0, 0, 0),
        (0, 0, 1),
        (1, 0, 0),
        (1, 0, 1),
    ]
    assert len({row["labels"]["optimizer.lr"] for row in rows}) == 2
    for row in rows:
        data = {**CONTENT["data"], "validation": {"folds": 2, "fold": row["fold"]}}
        spec = {**CONTENT, "data": data, "training": training, "optimizer": {"lr": row["labels"]["optimizer.lr"]}}
        alone = dnntrain.train(spec, runs=tmp_path / "alone")
        assert metrics(study.directory.path / row["run"]) == metrics(alone.path)
    means = {n: (rows[2 * n]["value"] + rows[2 * n + 1]["value"]) / 2 for n in range(2)}
    assert {each.number: each.value for each in found.ranking} == pytest.approx(means)
    assert found.verdict.endswith("folds share samples to train on, so it is less sure than it seems")


def test_a_diverging_run_fails_its_configuration_and_the_sweep_goes_on(tmp_path: Path) -> None:
    study = begin(tmp_path, {"space": {"optimizer.lr": [1e18, 0.01]}}, optimizer={"name": "sgd"})
    found = study.work(Inline(), observer=Telling())
    assert [each.state for each in found.ranking] == ["done", "failed"]
    (failed,) = found.failed
    assert failed["configuration"] == 0
    assert "not finite" in failed["message"]


def test_a_sweep_can_be_renamed(grid: Study, tmp_path: Path) -> None:
    moved = tmp_path / "another name"
    shutil.copytree(grid.directory.path, moved)
    told = Telling()
    found = Study(SweepDirectory(moved)).work(Inline(), observer=told)
    assert told.events == []
    assert found.ranking == grid.result().ranking


def test_a_database_keeps_the_state_and_its_password_is_written_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = f"sqlite:///{tmp_path}/state.db"
    url = f"{database}?password=s3cret"
    opened = studying.open_storage
    monkeypatch.setattr(studying, "open_storage", lambda journal, url=None: opened(journal, url and database))
    study = begin(tmp_path / "here", {"space": {"optimizer.lr": [0.003, 0.03]}}, storage=url)
    for path in filter(Path.is_file, study.directory.path.rglob("*")):
        assert "s3cret" not in path.read_text()
    assert not study.directory.journal.exists()
    with pytest.raises(UsageError, match=r"is kept in a database: add --storage sqlite:///.*state.db\?password=$"):
        Study(study.directory)
    elsewhere = Study.join(url, study.directory.name, runs=tmp_path / "there")
    found = elsewhere.work(Inline(), observer=Telling())
    assert [each.state for each in found.ranking] == ["done", "done"]
    assert len(list((tmp_path / "there" / study.directory.name / "runs").iterdir())) == 2
    assert study.result().ranking == found.ranking
    assert not study.directory.leases.exists()
    with pytest.raises(UsageError, match=f"holds no sweep tiny: .*{study.directory.name}"):
        Study.join(url, "tiny", runs=tmp_path)
    monkeypatch.setattr(studying, "open_storage", lambda journal, url=None: opened(journal, f"{database}2"))
    with pytest.raises(UsageError, match=f"holds no sweep {study.directory.name}"):
        Study(study.directory, storage=url)


def test_a_directory_with_a_journal_needs_no_database(grid: Study) -> None:
    with pytest.raises(UsageError, match=r"keeps its state itself, in journal.log: leave out --storage"):
        Study(grid.directory, storage="sqlite:///nothing.db")


def test_a_plugin_that_the_sweep_was_begun_with_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(studying.Plan, "plugins", {"/a/parts.py": "0123"}, raising=False)
        patch.setattr(studying, "_refuse_missing", lambda wanted, loaded: None)
        study = begin(tmp_path)
        study.board.note("plugins", {"/a/parts.py": "0123"})
    with pytest.raises(UsageError, match=r"begun with the plugin /a/parts.py, which is not loaded here, or changed"):
        Study(study.directory)


def test_a_mistake_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="unknown activation"):
        begin(tmp_path / "runs", {"space": {"model.activation": ["relu", "sellu"]}})
    assert not (tmp_path / "runs").exists()


def test_damaged_state_is_said(tmp_path: Path) -> None:
    study = begin(tmp_path)
    study.directory.write_storage("sqlite:///a.db", "tiny")
    (study.directory.path / "storage.json").write_text("{")
    with pytest.raises(StoreError, match=r"storage.json is damaged"):
        Study(study.directory)


def test_a_sweep_keeps_the_source_that_it_began_with(tmp_path: Path) -> None:
    source = {**CONTENT, "name": "source", "training": {"epochs": 1, "threads": 1}}
    first = dnntrain.train(source, runs=tmp_path)
    model = {**CONTENT["model"], "reuse": {"from": "source"}}
    study = begin(tmp_path, {"space": {"optimizer.lr": [0.01]}}, model=model, training=source["training"])
    dnntrain.train({**source, "seed": 1}, runs=tmp_path)
    Study(study.directory).work(Inline(), observer=Telling())
    (row,) = study.directory.read_runs()
    assert f"from: {first.path}" in RunDirectory(study.directory.path / row["run"]).spec_text()
