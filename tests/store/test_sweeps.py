from __future__ import annotations

import math
from pathlib import Path

import pytest

from dnntrain.errors import StoreError, UsageError
from dnntrain.store import RunDirectory, SweepDirectory


@pytest.fixture
def sweep(tmp_path: Path) -> SweepDirectory:
    return SweepDirectory.create(tmp_path / "runs", "lr_grid")


def test_a_new_sweep_has_a_folder_for_its_runs(sweep: SweepDirectory) -> None:
    assert sweep.name.startswith("lr_grid-")
    assert [path.name for path in sweep.path.iterdir()] == ["runs"]


def test_what_is_searched_and_found_is_written_and_read(sweep: SweepDirectory) -> None:
    with pytest.raises(UsageError, match=r"is no directory of a sweep: it has no sweep.yaml"):
        SweepDirectory.find(sweep.path)
    sweep.write_sweep("name: ä\n")
    sweep.write_best("name: best\n")
    assert SweepDirectory.find(sweep.path).sweep_text() == "name: ä\n"
    assert (sweep.path / "best.yaml").read_text() == "name: best\n"


def test_the_table_of_runs_knows_no_infinity(sweep: SweepDirectory) -> None:
    assert sweep.read_runs() == []
    sweep.write_runs([{"value": math.nan, "run": "runs/ä"}, {"value": 0.5}])
    assert sweep.read_runs() == [{"value": None, "run": "runs/ä"}, {"value": 0.5}]


def test_where_the_state_is(sweep: SweepDirectory) -> None:
    assert sweep.storage() is None
    sweep.write_storage("postgresql://me@host/db", "lr_grid")
    assert sweep.storage() == ("postgresql://me@host/db", "lr_grid")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"url": "x"}', "null"])
def test_a_damaged_word_on_where_the_state_is(sweep: SweepDirectory, content: str) -> None:
    (sweep.path / sweep.STORAGE).write_text(content)
    with pytest.raises(StoreError, match=r"storage.json is damaged"):
        sweep.storage()


def test_damaged_files_are_said(sweep: SweepDirectory) -> None:
    with pytest.raises(StoreError, match=r"cannot read .*sweep.yaml"):
        sweep.sweep_text()
    (sweep.path / sweep.RUNS).write_text("{\n")
    with pytest.raises(StoreError, match=r"runs.jsonl is damaged"):
        sweep.read_runs()


def test_runs_are_named_from_here(sweep: SweepDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert sweep.relative(RunDirectory(sweep.runs / "a")) == "runs/a"
    assert sweep.relative(RunDirectory(Path("runs/b"))) == "../b"
    here = SweepDirectory(Path("runs") / sweep.name)
    assert here.relative(RunDirectory(tmp_path / "elsewhere" / "c")) == "../../elsewhere/c"
