from __future__ import annotations

import json
import shlex
import signal
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result
from warmprocesses import Command

from dnntrain.cli import app
from dnntrain.store import SweepDirectory

CONFIG = """\
name: tiny
seed: 5
data: {dataset: digits, limit: 64, batch_size: 16}
model:
  architecture: {name: mlp, hidden: [8]}
training: {epochs: 2, device: cpu}
"""


PLUGIN = ["--plugin", str(Path(__file__).with_name("gate.py"))]


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False, env={"COLUMNS": "120"})


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG)
    return path


def only_sweep(runs: Path) -> SweepDirectory:
    (path,) = runs.iterdir()
    return SweepDirectory.find(path)


def test_a_sweep_ranks_and_compare_reads_it(config: Path) -> None:
    grid = ["--grid", "optimizer.lr=0.001,0.03", "--grid", "model.activation=relu,swish", "--seeds", "2"]
    shown = call("sweep", str(config), *grid)
    assert shown.exit_code == 0
    lines = shown.stdout.splitlines()
    assert lines[0].startswith("[1/8] optimizer.lr=0.001, model.activation=relu, seed 5: valid/loss ")
    assert sum(line.startswith("[") for line in lines) == 8
    assert "by valid/loss, lower is better" in shown.stdout
    assert "the best beside the second best: " in shown.stdout
    sweep = only_sweep(Path("runs"))
    assert len(list(sweep.runs.iterdir())) == 8
    assert (sweep.path / "best.yaml").is_file()

    ranked = json.loads(call("compare", str(sweep.path), "--json").stdout)
    assert [len(group["runs"]) for group in ranked["groups"]] == [2, 2, 2, 2]
    best = json.loads(call("sweep", "--resume", str(sweep.path), "--json").stdout)
    assert ranked["groups"][0]["quality"]["value"] == pytest.approx(best["ranking"][0]["value"])
    assert best["ranking"][0]["labels"].items() >= {"optimizer.lr": "0.03"}.items()

    again = call("sweep", str(config), *grid)
    assert again.stdout.count("(there already)") == 8
    assert "8 runs, 8 of them reused" in again.stdout
    (second,) = (path for path in Path("runs").iterdir() if path != sweep.path)
    assert not list((second / "runs").iterdir()), "referenced, never copied"
    referenced = json.loads(call("compare", str(second), "--json").stdout)
    assert [group["runs"] for group in referenced["groups"]] == [group["runs"] for group in ranked["groups"]]
    by_name = json.loads(call("compare", second.name, "--json").stdout)
    assert by_name["groups"] == referenced["groups"]
    both = json.loads(call("compare", "runs", "--json").stdout)
    assert [len(group["runs"]) for group in both["groups"]] == [2, 2, 2, 2], "a run that two sweeps have counts once"

    fresh = call("sweep", str(config), "--grid", "optimizer.lr=0.03", "--fresh")
    assert "there already" not in fresh.stdout


def test_the_best_file_runs_by_itself(config: Path) -> None:
    shown = call("sweep", str(config), "--grid", "optimizer.lr=0.001,0.03", "--runs-dir", "my runs").stdout
    sweep = only_sweep(Path("my runs"))
    assert f"to compare them: dnntrain compare '{sweep.path}'" in shown
    text = (sweep.path / "best.yaml").read_text()
    assert text.startswith("# The best of 2 configurations by valid/loss: ")
    assert "sweep" not in text
    assert call("run", str(sweep.path / "best.yaml"), "-q", "--runs-dir", "again").exit_code == 0


def test_a_failed_run_fails_its_configuration_alone(config: Path) -> None:
    grid = "optimizer={name: sgd, lr: 1.0e+18},{name: sgd, lr: 0.01}"
    shown = call("sweep", str(config), "--grid", grid, "--set", "schedule=constant")
    assert shown.exit_code == 1
    assert "failed: configuration 1, seed 5: " in shown.stdout
    assert " ".join(shown.stdout.split()).count(" failed ") >= 1
    rows = only_sweep(Path("runs")).read_runs()
    assert [row["status"] for row in rows] == ["failed", "done"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name an experiment file, or a sweep to go on with"),
        (["tiny.yaml", "--grid", "model.activation=relu,sellu"], "did you mean 'selu'"),
        (["tiny.yaml", "--grid", "optimizer.lr=0.1", "--workers", "none"], "a whole number from 1 on, or auto"),
        (["tiny.yaml", "--grid", "optimizer.lr=0.1", "--engine", "remote"], "there is no engine 'remote'"),
        (["--resume", "nowhere"], "there is no sweep nowhere"),
        (["--resume", ".", "--seeds", "2"], "leave out what changes it"),
        (
            ["tiny.yaml", "--grid", "optimizer.lr=0.1", "--metric", "valid/acuracy"],
            "does not measure 'valid/acuracy' in training: did you mean 'valid/accuracy'",
        ),
        (
            ["tiny.yaml", "--grid", "optimizer.lr=0.1,0.2", "--set", "sweep.exclude=[{optimizer.lr: [0.1, 0.2]}]"],
            "--set:1:15: all configurations of the sweep are excluded",
        ),
        (["tiny.yaml", "--grid", "optimizer.lr=0.1", "--cpus", "2"], "are asked of a Ray cluster"),
        (["tiny.yaml", "--grid", "optimizer.lr=0.1", "--gpus", "0.5"], "are asked of a Ray cluster"),
        (["tiny.yaml", "--grid", "optimizer.lr=0.1", "--bring-home"], "are asked of a Ray cluster"),
    ],
)
def test_mistakes_are_told_before_anything_is_made(config: Path, arguments: list[str], message: str) -> None:
    result = call("sweep", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not list(Path("runs").glob("*/runs/*"))


def test_an_unknown_sweep_cannot_be_joined(config: Path) -> None:
    result = call("worker", "nowhere")
    assert (result.exit_code, "there is no sweep nowhere" in result.stderr) == (2, True)


@pytest.mark.process
def test_a_sweep_that_is_interrupted_goes_on(config: Path) -> None:
    arguments = ["--grid", "optimizer.lr=0.001,0.01,0.03", "--set", "callbacks=[gate]", "--workers", "2", *PLUGIN]
    process = Command(["sweep", str(config), *arguments], config.parent, environment={"OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 60
    while len(list(Path("runs").glob("*/runs/*/metrics.jsonl"))) < 2:  # each then waits before its second epoch
        assert time.monotonic() < deadline, process.errors()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    sweep = only_sweep(Path("runs"))
    assert process.returncode == 143
    assert f"to go on: dnntrain sweep --resume {sweep.path} {shlex.join(PLUGIN)}\n" in errors
    Path("seen-1").touch()
    assert not any(row["status"] == "done" for row in sweep.read_runs())
    resumed = call("sweep", "--resume", sweep.name, "--workers", "1", *PLUGIN)
    assert resumed.exit_code == 0
    assert [row["status"] for row in sweep.read_runs()] == ["done"] * 3
    assert len(list(sweep.runs.iterdir())) == 3, "each run was taken up where it was left"


def test_ls_shows_sweeps_and_their_runs(config: Path) -> None:
    call("sweep", str(config), "--grid", "optimizer.lr=0.001,0.03", "--set", "training.epochs=1", "-q")
    sweep = only_sweep(Path("runs"))
    assert call("ls", "runs").stdout.split() == ["sweep", "runs", sweep.name, "2"]
    assert call("ls", str(sweep.path)).stdout.count("completed") == 2
    assert len(json.loads(call("ls", str(sweep.path), "--json").stdout)) == 2


def test_what_a_sweep_takes_is_told_before_it_begins(config: Path) -> None:
    # That it is short does not take away what was asked for.
    shown = call("sweep", str(config), "--grid", "optimizer.lr=0.001,0.03", "--seeds", "2", "--dry-run", "-q")
    assert shown.exit_code == 0
    assert "1  optimizer.lr=0.001\n2  optimizer.lr=0.03\n2 configurations, 4 runs, 8 epochs\n" in shown.stdout
    assert f" s, with {torch.get_num_threads()} thread" in shown.stdout, "as many as it would be trained with"
    assert not Path("runs").exists()
    short = call(
        "sweep", str(config), "--grid", "optimizer.lr=0.001,0.03", "--budget", "1s", "--set", "training.epochs=10000"
    )
    assert short.exit_code == 2
    assert "a budget of 1.0 s is too little" in short.stderr
    assert not Path("runs").exists()


def test_a_search_may_end_by_patience_alone(config: Path) -> None:
    space = "{optimizer.lr: {log: [1.0e-18, 1.0e-17]}}"  # nothing is learnt, so hardly one is better than the first
    search = ["--set", f"sweep.space={space}", "--set", "sweep.patience=2", "--search", "random"]
    shown = call("sweep", str(config), *search, "--set", "training.epochs=1", "-q")
    assert shown.exit_code == 0
    assert 3 <= len(only_sweep(Path("runs")).read_runs()) < 12


def test_a_program_reads_what_a_sweep_takes(config: Path) -> None:
    search = ["--set", "sweep.space={optimizer.lr: {log: [1.0e-3, 1.0e-2]}}", "--search", "tpe"]
    told = json.loads(call("sweep", str(config), *search, "--budget", "30s", "--dry-run", "--json").stdout)
    assert (told["search"], told["trials"]) == ("tpe", [])
    assert told["changed"] == [f"sweep.trials is {told['configurations']:,}, as many as the budget allows"]
    assert told["epochs"] == 2 * told["runs"]


def test_what_the_budget_changed_is_said_where_stdout_is_taken(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dnntrain.sweep.budget.MOST_TRIALS", 2)
    search = ["--set", "sweep.space={optimizer.lr: {log: [1.0e-3, 1.0e-2]}}", "--search", "random"]
    shown = call("sweep", str(config), *search, "--budget", "10m", "-q", "--set", "training.epochs=1")
    assert shown.stderr == "sweep.trials is 2, as many as the budget allows\n"
    assert shown.stdout == f"{only_sweep(Path('runs')).path}\n"


def test_where_nobody_knows_how_many_runs_there_will_be_none_is_said(config: Path) -> None:
    search = ["--set", "sweep.space={optimizer.lr: {log: [1.0e-18, 1.0e-17]}}", "--set", "sweep.patience=1"]
    lines = call("sweep", str(config), *search, "--search", "random", "--set", "training.epochs=1").stdout.splitlines()
    assert lines[0].startswith("[1] optimizer.lr=")


def test_the_way_to_go_on_has_all_that_is_needed(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("own parts.py").write_text("")

    def interrupted(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dnntrain.sweep.study.Study.work", interrupted)
    given = ["--storage", "sqlite:///state.db", "--plugin", "own parts.py"]
    shown = call("sweep", str(config), "--grid", "optimizer.lr=0.1", *given)
    assert shown.exit_code == 130
    path = only_sweep(Path("runs")).path
    assert f"dnntrain sweep --resume {path} --storage sqlite:///state.db --plugin 'own parts.py'\n" in shown.stderr


def test_only_bisect_goes_on_with_a_bisection(config: Path) -> None:
    Path("other.yaml").write_text("extends: tiny.yaml\noptimizer: {lr: 1.0e-9}\ntraining: {epochs: 1}\n")
    call("bisect", "tiny.yaml", "other.yaml", "--seeds", "1", "--set", "training.epochs=1")
    name = only_sweep(Path("runs")).name
    for command in (["sweep", "--resume", name], ["worker", name]):
        shown = call(*command)
        assert shown.exit_code == 2
        assert f"runs/{name} is of a dnntrain bisect, which alone knows what to train next" in shown.stderr
