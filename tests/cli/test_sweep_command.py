from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

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
    assert call("sweep", str(config), "--grid", "optimizer.lr=0.001,0.03", "-q").exit_code == 0
    sweep = only_sweep(Path("runs"))
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
        (["--resume", "nowhere"], "is no directory of a sweep"),
        (["--resume", ".", "--seeds", "2"], "leave out what changes it"),
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
    command = [sys.executable, "-c", "from dnntrain.cli import main; main()", "sweep", str(config)]
    command += ["--grid", "optimizer.lr=0.001,0.01,0.03"]
    command += ["--set", "training.epochs=40", "--workers", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        deadline = time.monotonic() + 60
        while not list(Path("runs").glob("*/runs/*/checkpoints/last.pt")) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    sweep = only_sweep(Path("runs"))
    assert process.returncode == 143
    assert f"to go on: dnntrain sweep --resume {sweep.path}" in errors
    assert call("sweep", "--resume", str(sweep.path)).exit_code == 0
    assert [row["status"] for row in sweep.read_runs()] == ["done"] * 3
    assert len(list(sweep.runs.iterdir())) == 3, "each run was taken up where it was left"


def test_ls_shows_sweeps_and_their_runs(config: Path) -> None:
    call("sweep", str(config), "--grid", "optimizer.lr=0.001,0.03", "--set", "training.epochs=1", "-q")
    sweep = only_sweep(Path("runs"))
    assert call("ls", "runs").stdout.split() == ["sweep", "runs", sweep.name, "2"]
    assert call("ls", str(sweep.path)).stdout.count("completed") == 2
    assert len(json.loads(call("ls", str(sweep.path), "--json").stdout)) == 2


def test_what_a_sweep_takes_is_told_before_it_begins(config: Path) -> None:
    shown = call("sweep", str(config), "--grid", "optimizer.lr=0.001,0.03", "--seeds", "2", "--dry-run")
    assert shown.exit_code == 0
    assert "1  optimizer.lr=0.001\n2  optimizer.lr=0.03\n2 configurations, 4 runs, 8 epochs\n" in shown.stdout
    assert "measured on " in shown.stdout
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
