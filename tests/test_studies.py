"""The studies of docs/: what they declare, what is kept of their runs, and that results.md is made from that."""

from __future__ import annotations

import importlib.util
import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dnntrain import spec, yamltext
from dnntrain.errors import StoreError, UsageError
from dnntrain.registry import plain
from dnntrain.store import RunDirectory, flatten

SCRIPT = Path(__file__).parent.parent / "docs" / "studies.py"
LARGEST_RECORD = 40_000

TINY = """
name: tiny
data: {dataset: digits, limit: 100}
model:
  architecture: {name: mlp, hidden: [8]}
  dropout: {name: dropout, rate: 0.2}
training: {epochs: 2}
"""


def loaded() -> ModuleType:
    found = importlib.util.spec_from_file_location("studies", SCRIPT)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules["studies"] = module  # where dataclasses look for the module of a class
    found.loader.exec_module(module)
    return module


STUDIES = loaded()
ENTRIES = [(study, entry) for study in STUDIES.STUDIES for entry in study.everything]
KEPT = [(study, path) for study in STUDIES.STUDIES for path in sorted((STUDIES.KEPT / study.name).glob("*"))]


@pytest.fixture
def studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script with one small study of its own, and folders of its own."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "tiny.yaml").write_text(TINY)
    entries = (
        STUDIES.Entry("steady", "tiny", "a steady one", passes=3),
        STUDIES.Entry("wild", "tiny", overrides=("optimizer={name: sgd, lr: 1.0e+18}", "model.dropout=none")),
    )
    monkeypatch.setattr(STUDIES, "STUDIES", (STUDIES.Study("small", entries, seeds=(1, 2), curve=True),))
    monkeypatch.setattr(STUDIES, "CONFIGS", tmp_path / "configs")
    monkeypatch.setattr(STUDIES, "KEPT", tmp_path / "kept")
    yield STUDIES


PAGE = (
    "before\n<!-- small: begin -->\nold\n<!-- small: end -->\n<!-- small curve: begin -->\n<!-- small curve: end -->\n"
)


def trained(studies: ModuleType, runs: Path, *seeds: int) -> Path:
    studies.run(studies.STUDIES[0], runs, data=None, threads=1, seeds=seeds)
    return runs


def record(folder: Path, name: str) -> Path:
    return next(path for path in sorted((folder / "small").iterdir()) if path.name.startswith(name))


def rewritten(path: Path, **changes: Any) -> None:
    """Change what a run's summary says."""
    directory = RunDirectory(path)
    directory.write_summary(directory.summary() | changes)


@pytest.mark.parametrize("study, entry", ENTRIES, ids=[f"{study.name}-{entry.name}" for study, entry in ENTRIES])
def test_an_entry_is_a_valid_experiment(study: Any, entry: Any) -> None:
    if not (STUDIES.CONFIGS / f"{entry.config}.yaml").exists():
        assert not [path for kept, path in KEPT if kept is study], "runs are kept of a file that is not there"
        pytest.skip(f"configs/{entry.config}.yaml is not written yet")
    made = STUDIES.experiment(entry, None, 1, 42)
    assert (made.name, made.seed, made.training.threads) == (entry.name, 42, 1)


def test_names_identify_studies_and_entries() -> None:
    names = [study.name for study in STUDIES.STUDIES]
    assert len(set(names)) == len(names)
    for study in STUDIES.STUDIES:
        assert len({entry.name for entry in study.entries}) == len(study.entries)


def test_data_of_ones_own_goes_to_cifar10_alone(tmp_path: Path) -> None:
    exercise = STUDIES.experiment(STUDIES.Entry("a", "cifar_selu"), tmp_path / "my data.npz", 1, 42)
    assert exercise.data.dataset.name == "npz"
    assert exercise.data.dataset.plain()["path"] == str(tmp_path / "my data.npz")
    digits = STUDIES.experiment(STUDIES.Entry("a", "digits_mlp"), tmp_path / "my data.npz", 1, 42)
    assert digits.data.dataset.name == "digits"


def test_a_study_trains_what_is_not_there_yet(studies: ModuleType, tmp_path: Path) -> None:
    runs = trained(studies, tmp_path / "runs", 1)
    assert set(studies.finished(runs / "small")) == {("steady", 1), ("wild", 1)}
    rewritten(record(runs, "steady"), status="interrupted")
    trained(studies, runs, 1, 2)
    assert sorted(path.name.split("-")[0] for path in (runs / "small").iterdir()) == [*["steady"] * 3, *["wild"] * 2]


def test_a_failure_that_is_no_divergence_is_no_result(studies: ModuleType, tmp_path: Path) -> None:
    runs = trained(studies, tmp_path / "runs", 1)
    rewritten(record(runs, "wild"), error="OSError: disk full")
    assert set(studies.finished(runs / "small")) == {("steady", 1)}


def test_two_runs_for_one_figure_are_refused(studies: ModuleType, tmp_path: Path) -> None:
    runs = trained(studies, tmp_path / "runs", 1, 2)
    second = max(studies.finished(runs / "small").items())[1].directory.path
    rewritten(second, seed=1)
    with pytest.raises(StoreError, match="two runs of wild with seed 1"):
        studies.finished(runs / "small")


def test_the_table_has_a_row_an_entry_and_a_figure_a_seed(studies: ModuleType, tmp_path: Path) -> None:
    runs = trained(studies, tmp_path / "runs", 2, 1)
    steady = record(runs, "steady")
    rewritten(steady, seed=2, test={"test/accuracy": 0.5})
    rewritten(next(path for path in (runs / "small").glob("steady-*") if path != steady), seed=1, test={})
    before, begin, head, rule, first, second, end, *curve = studies.tabulated(PAGE, runs).splitlines()
    assert (before, begin, end) == ("before", "<!-- small: begin -->", "<!-- small: end -->")
    cells = dict(zip(head.split(" | "), first.split(" | "), strict=True))
    assert (cells["| variant"], cells["seeds"], cells["test accuracy"]) == ("| a steady one", "1 / 2", "- / 50.0 %")
    assert second.startswith("| wild | 1 / 2 | - | - |")
    assert head.count("|") == rule.count("|") == second.count("|")
    assert [line.split(" | ")[0] for line in curve[1:-1]] == ["| epoch", "| ---", "| 1", "| 2"]


def test_what_has_no_runs_says_so_and_marks_must_be_there(studies: ModuleType, tmp_path: Path) -> None:
    page = studies.tabulated(PAGE, tmp_path / "nowhere")
    assert page.count("No run has ended yet.") == 2
    assert studies.tabulated(page, tmp_path / "nowhere") == page
    with pytest.raises(UsageError, match="lacks the lines <!-- small: begin -->"):
        studies.tabulated("nothing", tmp_path / "nowhere")


def test_how_a_run_ended(studies: ModuleType, tmp_path: Path) -> None:
    runs = trained(studies, tmp_path / "runs", 1)
    wild, steady = record(runs, "wild"), record(runs, "steady")
    assert studies.ending(studies.Run(RunDirectory(wild))) == "not finite in 1"
    assert studies.ending(studies.Run(RunDirectory(steady))) == "2"
    rewritten(steady, status="stopped", stop_reason="training diverged: the loss of step 7 (epoch 2) is not finite")
    assert studies.ending(studies.Run(RunDirectory(steady))) == "not finite in 2"


def test_monte_carlo_dropout_is_measured_once_where_it_is_asked_for(studies: ModuleType, tmp_path: Path) -> None:
    runs = trained(studies, tmp_path / "runs", 1)
    studies.measure_dropout(runs)
    measured = record(runs, "steady") / studies.MC_DROPOUT
    content = json.loads(measured.read_text())
    assert content["passes"] == 3
    assert 0 <= content["test"]["test/accuracy"] <= 1
    assert not (record(runs, "wild") / studies.MC_DROPOUT).exists()
    measured.write_text(json.dumps({"passes": 3, "test": {"test/accuracy": 0.125}}))
    studies.measure_dropout(runs)
    studies.keep(runs)
    assert "| 12.5 % |" in studies.tabulated(PAGE, tmp_path / "kept").splitlines()[4]


def test_a_record_is_a_slim_run_that_makes_the_same_table(studies: ModuleType, tmp_path: Path) -> None:
    runs = trained(studies, tmp_path / "runs", 1)
    steady = record(runs, "steady")
    summary = RunDirectory(steady).summary()
    rewritten(steady, spec=summary["spec"] | {"data.dataset.path": "/data/of mine/cifar10.npz"})
    text = (steady / "spec.yaml").read_text()
    (steady / "spec.yaml").write_text(text.replace("dataset: digits", "dataset: {name: npz, path: /data/x.npz}"))
    studies.keep(runs)
    kept = record(tmp_path / "kept", "steady")
    assert {path.name for path in kept.iterdir()} == {"summary.json", "metrics.jsonl", "spec.yaml", "environment.json"}
    assert RunDirectory(kept).summary()["spec"]["data.dataset.path"] == "cifar10.npz"
    assert "{name: npz, path: x.npz}" in (kept / "spec.yaml").read_text()
    assert not {"command", "folder", "git", "platform"} & set(RunDirectory(kept).environment())
    assert studies.tabulated(PAGE, tmp_path / "kept") == studies.tabulated(PAGE, runs)
    before = {path: path.read_bytes() for path in (tmp_path / "kept").rglob("*.*") if path.is_file()}
    studies.keep(runs)
    assert {path: path.read_bytes() for path in (tmp_path / "kept").rglob("*.*") if path.is_file()} == before


@pytest.mark.parametrize("text", ["cannot read /home/me/x.npz", f"on {socket.gethostname()}: no", "~/x", "C:\\x"])
def test_what_tells_about_the_machine_is_not_kept(studies: ModuleType, tmp_path: Path, text: str) -> None:
    runs = trained(studies, tmp_path / "runs", 1)
    rewritten(record(runs, "steady"), stop_reason=text)
    with pytest.raises(UsageError, match="tells about this machine or its user"):
        studies.keep(runs)


def test_another_run_does_not_replace_a_record(studies: ModuleType, tmp_path: Path) -> None:
    studies.keep(trained(studies, tmp_path / "runs", 1))
    with pytest.raises(StoreError, match="is kept for steady with seed 1"):
        studies.keep(trained(studies, tmp_path / "again", 1))


def test_the_page_is_made_from_the_records() -> None:
    page = STUDIES.PAGE.read_text(encoding="utf-8")
    assert STUDIES.tabulated(page, STUDIES.KEPT) == page, "make results"


@pytest.mark.parametrize("study, path", KEPT, ids=[path.name for _, path in KEPT])
def test_a_record_is_small_and_of_a_shipped_file(study: Any, path: Path) -> None:
    assert sum(file.stat().st_size for file in path.iterdir()) < LARGEST_RECORD
    directory = RunDirectory(path)
    summary = directory.summary()
    entry = next(entry for entry in study.everything if entry.name == summary["name"])
    STUDIES.refuse_private([summary, directory.environment()], path)
    text = yamltext.read(directory.spec_text(), source="spec.yaml", folder=path)
    STUDIES.refuse_private(text.value, path)
    # What is `auto` in the file was resolved, and the data and the threads are the machine's.
    wanted = flatten(plain(STUDIES.experiment(entry, None, 1, summary["seed"])))
    machines = ("data.dataset", "training.threads", "model.reuse.from")
    own = {key for key in wanted if not key.startswith(machines) and wanted[key] != "auto"}
    shared = own & set(summary["spec"])
    assert len(shared) > 15
    assert {key: summary["spec"][key] for key in shared} == {key: wanted[key] for key in shared}


def test_a_record_can_be_read_as_an_experiment() -> None:
    assert KEPT
    for _, path in KEPT:
        spec.load(path / "spec.yaml")
