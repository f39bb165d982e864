from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from madeupruns import make_run
from typer.testing import CliRunner, Result

from dnntrain.cli import app


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["compare", *arguments], catch_exceptions=False, env={"COLUMNS": "140"})


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for seed, shift in enumerate((0.0, 0.1, 0.2)):
        make_run(tmp_path, "base", seed=seed, losses=[3 + shift, 1 + shift], minutes=seed)
        make_run(
            tmp_path, "better", seed=seed, losses=[2 + shift, 0.51 + 1.1 * shift], minutes=10 + seed,
            spec={"optimizer.lr": 1.0, "model.dropout": [], "model.activation": "[red]x"},
        )  # fmt: skip
    return tmp_path


def test_the_three_answers_are_printed(runs: Path) -> None:
    shown = call(str(runs))
    assert shown.exit_code == 0
    assert shown.stdout.startswith("valid/loss, lower is better; compared with base, over seeds\n")
    for title in ("what differs", "quality: is", "convergence: does", "speed: what"):
        assert f"\n{title}" in shown.stdout
    assert "better by 0.48" in " ".join(shown.stdout.split())
    assert "[red]x" in shown.stdout, "what comes from a file is no markup"
    assert "a little too good" in shown.stdout


def test_programs_get_json_or_csv(runs: Path) -> None:
    told = json.loads(call(str(runs), "--json").stdout)
    assert [group["label"] for group in told["groups"]] == ["better", "base"]
    better, base = csv.DictReader(io.StringIO(call(str(runs), "--csv").stdout))
    assert (better["label"], better["optimizer.lr"], better["verdict"]) == ("better", "1.0", "better")
    assert float(better["value"]) == pytest.approx(0.62)
    assert (base["verdict"], base["seeds"]) == ("baseline", "0 1 2")


def test_markdown_tables_are_whole(runs: Path) -> None:
    text = call(str(runs), "--markdown").stdout
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 4
    for block in tables:
        assert len({line.count("|") for line in block.splitlines()}) == 1


def test_conditions_and_mistakes(runs: Path) -> None:
    only = call(str(runs), "--where", "optimizer.lr=1.0")
    assert "what differs" not in only.stdout
    assert "better" in only.stdout
    for arguments, message in (
        (["--where", "optimizer.lr=77"], "no runs are left to compare"),
        (["--metric", "valid/los"], "did you mean 'valid/loss'"),
        (["--status", "done"], "is no status"),
        (["--json", "--csv"], "exclude each other"),
    ):
        result = call(str(runs), *arguments)
        assert result.exit_code == 2
        assert message in result.stderr
