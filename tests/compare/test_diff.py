from __future__ import annotations

import json
from pathlib import Path

import pytest
from madeupruns import make_run
from typer.testing import CliRunner, Result

from dnntrain.cli import app
from dnntrain.compare.diff import Difference, diff_runs


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["diff", *arguments], catch_exceptions=False, env={"COLUMNS": "160"})


def test_only_what_differs_is_told(tmp_path: Path) -> None:
    one = make_run(tmp_path, "one", losses=[2.0, 1.0], test={"test/loss": 1.5})
    spec = {"optimizer.lr": 1.0, "optimizer.momentum": 0.0}
    other = make_run(tmp_path, "other", seed=3, losses=[2.0, 0.5], spec=spec)
    other.write_environment({"data": {"train": 100, "valid": 50}, "threads": 2, "command": ["else"], "identity": "a"})
    found = diff_runs(one, other)
    assert found.spec == [Difference("seed", 0, 3), Difference("optimizer.lr", 0.1, 1.0)], (
        "the default of a new option is no news"
    )
    assert found.environment == [Difference("threads", None, 2)]
    assert found.metrics == [
        Difference("best valid/loss", 1.0, 0.5),
        Difference("best valid/accuracy", 0.9, 0.95),
        Difference("test/loss", 1.5, None),
    ]
    assert found


def test_equal_runs_differ_in_times_alone(tmp_path: Path) -> None:
    one, other = make_run(tmp_path, "one", seconds=1.0), make_run(tmp_path, "other", seconds=2.0)
    assert not diff_runs(one, other)
    result = call("one", "other", "--runs-dir", str(tmp_path))
    assert (result.exit_code, result.stdout) == (0, "no difference but times\n")


@pytest.mark.parametrize("json_", [False, True])
def test_a_difference_exits_with_1(json_: bool, tmp_path: Path) -> None:
    make_run(tmp_path, "one")
    make_run(tmp_path, "other", spec={"model.activation": "[b]elu"})
    result = call("one", "other", "--runs-dir", str(tmp_path), *(["--json"] if json_ else []))
    assert result.exit_code == 1
    if json_:
        told = json.loads(result.stdout)
        assert told["spec"] == [{"key": "model.activation", "one": "relu", "other": "[b]elu"}]
    else:
        assert "[b]elu" in result.stdout
        assert "environment" not in result.stdout
    assert call("one", "nothing", "--runs-dir", str(tmp_path)).exit_code == 2
