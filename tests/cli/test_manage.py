from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dnntrain.cli import app
from dnntrain.store import RunDirectory


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    monkeypatch.chdir(tmp_path)
    return made("one")


def made(name: str, best: float = 1.0) -> RunDirectory:
    directory = RunDirectory.create(Path("runs"), name)
    directory.write_spec("name: one\n")
    directory.write_summary(
        {
            "name": name,
            "seed": 0,
            "status": "completed",
            "stop_reason": None,
            "epochs": 1,
            "seconds": 1.0,
            "test": None,
            "error": None,
            "best": {"epoch": 1, "metrics": {"valid/loss": best}},
            "spec": {"training.monitor.metric": "valid/loss", "training.monitor.mode": "min"},
        }
    )
    directory.save_checkpoint(directory.LAST, lambda file: file.write(b"x" * 5000))
    return directory


def test_tags_and_notes_are_shown(run: RunDirectory) -> None:
    assert call("tag", "one", "paper", "best").stdout == f"{run.name}: paper, best\n"
    assert call("tag", "last", "best", "--remove").stdout == f"{run.name}: paper\n"
    assert call("note", "one", "a [red]careful[/red] look").exit_code == 0
    shown = call("show", "one").stdout
    assert "tags: paper" in shown
    assert "a [red]careful[/red] look" in shown
    assert "5.0 KB  checkpoints/last.pt" in shown
    (row,) = json.loads(call("ls", "--json").stdout)
    assert row["tags"] == ["paper"]
    assert row["size"] > 5000
    assert 0 <= row["age"] < 600
    assert "paper" in call("ls").stdout
    assert call("tag", "one", "a b").exit_code == 2


def test_nothing_is_removed_unasked(run: RunDirectory) -> None:
    result = call("rm", "one")
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert run.path.exists()


@pytest.mark.parametrize(("answer", "code", "stays"), [("n\n", 1, True), ("\n", 1, True), ("y\n", 0, False)])
def test_the_answer_counts(
    answer: str, code: int, stays: bool, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dnntrain.cli.manage.confirmed", lambda question: answer.strip() == "y")
    assert call("rm", "one").exit_code == code
    assert run.path.exists() is stays


def test_runs_are_removed(run: RunDirectory) -> None:
    other = made("other")
    result = call("rm", "one", "one", str(other.path), "--yes")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "removed 2"
    assert list(Path("runs").iterdir()) == []
    assert call("rm", "one", "--yes").exit_code == 2


def test_a_running_run_is_not_removed(run: RunDirectory) -> None:
    with run.lock():
        result = call("rm", "one", "--yes")
    assert result.exit_code == 1
    assert "is in use by process" in result.stderr
    assert run.path.exists()


def test_checkpoints_of_poor_runs_are_dropped(run: RunDirectory) -> None:
    worse = made("worse", best=2.0)
    tried = call("gc", "--keep", "1", "--dry-run")
    assert "5.0 KB of checkpoints of 1 runs could go" in tried.stdout
    assert "2 of 2 by valid/loss" in tried.stdout
    assert worse.checkpoint("last.pt").exists()
    assert call("gc", "--keep", "1").exit_code == 2, "nobody can be asked here"
    (found,) = json.loads(call("gc", "--keep", "1", "--yes", "--json").stdout)
    assert (found["run"], found["bytes"]) == (worse.name, 5000)
    assert not worse.checkpoint("last.pt").exists()
    assert run.checkpoint("last.pt").exists()
    assert call("gc", "--keep", "1").stdout == "nothing to drop\n"
