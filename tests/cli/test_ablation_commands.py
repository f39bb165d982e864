from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dnntrain.cli import app
from dnntrain.store import SweepDirectory, listing

CONFIG = """\
name: tiny
seed: 5
data: {dataset: digits, limit: 64, batch_size: 16}
model:
  architecture: {name: mlp, hidden: [8]}
  activation: relu
  initializer: glorot_uniform
  dropout: {name: dropout, rate: 0.9}
optimizer: {name: sgd, lr: 0.1}
schedule: constant
training: {epochs: 2, device: cpu, clip: {norm: 1.0}}
"""


def call(*arguments: str, code: int = 0) -> Result:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False, env={"COLUMNS": "160"})
    assert done.exit_code == code, done.output
    return done


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG)
    return path


def test_what_would_be_taken_away_is_shown_and_nothing_trained(config: Path) -> None:
    shown = call("ablate", "tiny.yaml", "--dry-run").stdout
    assert [line.split()[:2] for line in shown.splitlines()[1:3]] == [
        ["dropout", "model.dropout"],
        ["clipping", "training.clip"],
    ]
    assert "plain already: activation, initializer, normalization, regularizers, weight_decay, schedule" in shown
    assert "3 configurations, each with 3 seeds: 9 runs" in shown
    told = json.loads(call("ablate", "tiny.yaml", "--dry-run", "--json", "--seeds", "2").stdout)
    assert (told["sweep"], told["runs"], told["seeds"]) == (None, 6, [5, 6])
    assert [each["technique"] for each in told["without"]] == ["dropout", "clipping"]
    assert told["without"][0]["difference"] is None
    assert not Path("runs").exists()


@pytest.mark.process
def test_an_ablation_says_what_each_technique_buys_and_is_a_sweep(config: Path) -> None:
    shown = call("ablate", "tiny.yaml", "--without", "dropout, clipping").stdout
    assert "[9/9] without=clipping, seed 7: valid/loss " in shown
    assert "valid/loss, lower is better; as it is: " in shown
    rows = [line for line in shown.splitlines() if line.startswith(("dropout  ", "clipping  "))][2:]
    assert all("paired by 3 seeds" in row and "corrected for 2 comparisons" in row for row in rows)
    assert rows[-1].startswith("dropout"), "such a lot of dropout harms, so taking it away comes last"
    (path,) = Path("runs").iterdir()
    assert shown.splitlines()[-1] == f"to look closer: dnntrain compare {path}"
    compared = json.loads(call("compare", str(path), "--json").stdout)
    assert sorted(len(group["runs"]) for group in compared["groups"]) == [3, 3, 3]

    again = json.loads(call("ablate", "tiny.yaml", "--without", "dropout", "--json").stdout)
    assert (again["reused"], again["runs"], again["failed"]) == (6, 6, 0)
    assert again["without"][0]["difference"]["value"] < 0
    assert again["without"][0]["difference"]["comparisons"] == 1
    assert len(listing(path / "runs")) == 9
    other = json.loads(call("ablate", "--resume", path.name, "--json").stdout)
    assert other["sweep"] == str(path)
    assert {each["technique"]: each["mean"] for each in other["without"]}["dropout"] == again["without"][0]["mean"]


@pytest.mark.process
def test_runs_that_fail_without_a_technique_are_told(config: Path) -> None:
    # With clipping a step has length 1; without it there is no end of it.
    wild = ["--set", "optimizer.lr=1.0e+18", "--set", "training.clip={norm: 1.0e-18}", "--set", "model.dropout=none"]
    shown = call("ablate", "tiny.yaml", *wild, code=1).stdout
    assert "every run fails (3 of 3, and none of 3 before)" in shown
    assert "worth having, beyond luck: clipping, for every run without it failed" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name an experiment file or, after --resume, an ablation that was begun"),
        (["tiny.yaml", "--resume", "x"], "name an experiment file or"),
        (["--resume", "x", "--seeds", "2"], "an ablation goes on as it was begun"),
        (["--resume", "x"], "there is no sweep x"),
        (["tiny.yaml", "--without", "dropuot"], "did you mean 'dropout'"),
        (["tiny.yaml", "--without", "schedule"], "already plain: schedule"),
        (["tiny.yaml", "--metric", "loss"], "does not measure 'loss' in training: did you mean"),
        (["tiny.yaml", "--workers", "none"], "a whole number from 1 on, or auto"),
        (["nowhere.yaml"], "there is no file nowhere.yaml"),
    ],
)
def test_a_wrong_ablation_is_explained(config: Path, arguments: list[str], message: str) -> None:
    done = call("ablate", *arguments, code=2)
    assert message in done.stderr
    assert not Path("runs").exists()


def test_a_sweep_of_another_kind_is_no_ablation(config: Path) -> None:
    directory = SweepDirectory.create(Path("runs"), "other")
    directory.write_sweep(f"{CONFIG}sweep: {{space: {{optimizer.lr: [0.1, 0.2]}}}}\n")
    assert "is no ablation, but another sweep" in call("ablate", "--resume", directory.name, code=2).stderr


@pytest.mark.process
def test_bisect_names_the_key_and_uses_runs_that_are_there(config: Path) -> None:
    call("run", "tiny.yaml", "-q", "--set", "model.dropout=none")
    Path("b.yaml").write_text(
        "extends: tiny.yaml\nname: b\nmodel: {dropout: none}\noptimizer: {lr: 1.0e-6}\ntraining: {clip: {norm: 50.0}}\n"
    )
    shown = call("bisect", "last", "b.yaml").stdout
    assert shown.splitlines()[0].split() == ["what", "differs", "A", "B"]
    assert "[1] A, seed 5: valid/loss " in shown
    assert "(there already)" in shown.split("[2]")[0]
    assert "A with optimizer.lr of B, seed 5" in shown
    assert "optimizer.lr (" in shown
    assert ") explains the gap" in shown
    assert "3 configurations, 8 runs trained for it" in shown
    told = json.loads(call("bisect", "last", "b.yaml", "--json", "--max-runs", "1").stdout)
    assert told["trained"] == 0
    assert [[key["key"] for key in share["keys"]] for share in told["shares"] if share["stands_out"]] == [
        ["optimizer.lr"]
    ]
    assert (told["metric"], told["real"], told["cut_short"]) == ("valid/loss", True, False)


def test_settings_hold_for_both(config: Path) -> None:
    Path("b.yaml").write_text("extends: tiny.yaml\noptimizer: {lr: 0.2}\ntraining: {epochs: 1}\n")
    shown = call("bisect", "tiny.yaml", "b.yaml", "--set", "training.epochs=1", "--seeds", "1").stdout
    assert "training.epochs" not in shown
    assert "optimizer.lr" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tiny.yaml", "tiny.yaml"], "the two are the same experiment, so there is no gap to explain"),
        (["tiny.yaml", "nowhere"], "no run 'nowhere'"),
        (["tiny.yaml", "b.yaml", "--max-runs", "5"], "A and B alone take 6 runs, and no more than 5 are allowed"),
        (["tiny.yaml", "b.yaml", "--metric", "x"], "does not measure 'x' in training"),
    ],
)
def test_a_wrong_bisection_is_explained(config: Path, arguments: list[str], message: str) -> None:
    Path("b.yaml").write_text("extends: tiny.yaml\noptimizer: {lr: 0.2}\n")
    done = call("bisect", *arguments, code=2)
    assert message in done.stderr
    assert not Path("runs").exists()
