from __future__ import annotations

import csv
import gc
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
        (["--where", "optimizer.lr=77"], "no run of 6 meets the conditions: look at --where"),
        (["--metric", "valid/los"], "did you mean 'valid/loss'"),
        (["--status", "done"], "is no status"),
        (["--json", "--csv"], "exclude each other"),
    ):
        result = call(str(runs), *arguments)
        assert result.exit_code == 2
        assert message in result.stderr


def test_columns_are_chosen_by_name(runs: Path) -> None:
    names = "optimizer.lr,valid/accuracy,difference,pace,verdict"
    better, base = csv.DictReader(io.StringIO(call(str(runs), "--csv", "--columns", names).stdout))
    assert list(better) == ["label", *names.split(",")]
    assert (better["optimizer.lr"], base["optimizer.lr"]) == ("1.0", "0.1")
    assert float(better["valid/accuracy"]) == pytest.approx(1 - 0.062)
    assert float(better["difference"]) == pytest.approx(-0.48)
    assert (better["pace"], better["verdict"], base["verdict"]) == ("not distinguishable", "better", "baseline")

    shown = call(str(runs), "--columns", names).stdout
    assert "quality" not in shown and "convergence" not in shown
    assert "better by 0.48" in " ".join(shown.split()), "the last column has room for a sentence"

    wrong = call(str(runs), "--columns", "valeu")
    assert (wrong.exit_code, wrong.stdout, "did you mean 'value'" in wrong.stderr) == (2, "", True)
    assert "leave out --columns" in call(str(runs), "--json", "--columns", "value").stderr


def test_a_part_is_a_column_by_its_sections_name(runs: Path) -> None:
    better, base = csv.DictReader(io.StringIO(call(str(runs), "--csv", "--columns", "optimizer,model.dropout").stdout))
    assert (better["optimizer"], better["model.dropout"], base["model.dropout"]) == ("sgd", "[]", "[]")


def test_each_run_can_stand_for_itself(runs: Path) -> None:
    assert call(str(runs)).stdout.splitlines()[0].endswith("over seeds")
    assert call(str(runs), "--each-run").stdout.splitlines()[0].endswith(min(path.name for path in runs.glob("base*")))
    rows = list(csv.DictReader(io.StringIO(call(str(runs), "--csv", "--each-run").stdout)))
    assert len(rows) == 6
    assert {row["label"] for row in rows} == {path.name for path in runs.iterdir()}
    assert {row["verdict"] for row in rows} == {"baseline", "one seed: no verdict"}
    assert sorted(row["seeds"] for row in rows) == ["0", "0", "1", "1", "2", "2"]


def test_the_luck_of_the_best_is_told_from_three_groups_on(runs: Path) -> None:
    assert "best of" not in call(str(runs)).stdout
    for seed, loss in enumerate((1.0, 1.1, 1.2)):
        make_run(runs, "third", seed=seed, losses=[loss], spec={"optimizer.lr": 7.0}, minutes=30)
    # Deviations of 0.1, 0.11 and 0.1 over 3 seeds: E[max of 3] = 0.8463 times the root of their mean variance of means.
    expected = 0.8463 * ((0.1**2 + 0.11**2 + 0.1**2) / 3 / 3) ** 0.5
    assert f"the best of 3 was chosen by these very figures: if all were equal, it would still look {expected:.2g}" in (
        " ".join(call(str(runs)).stdout.split())
    )


def test_looking_for_garbage_goes_on_afterwards(runs: Path) -> None:
    call(str(runs))
    assert gc.isenabled()


def test_text_of_runs_neither_moves_the_cursor_nor_is_markup(tmp_path: Path) -> None:
    evil = "\x1b[2J<b>&|x"
    directory = make_run(tmp_path, "evil", spec={"model.activation": evil})
    directory.write_summary({**directory.summary(), "name": evil})
    make_run(tmp_path, "other", minutes=1)
    for form, shown in (("--csv", "\\x1b[2J<b>&|x"), ("--markdown", "\\x1b[2J&lt;b>&amp;\\|x")):
        printed = call(str(tmp_path), form).stdout
        assert "\x1b" not in printed
        assert printed.count(shown) >= 2


def test_csv_leaves_the_remarks_to_stderr(runs: Path) -> None:
    (make_run(runs, "hurt").path / "summary.json").write_text("{")
    result = call(str(runs), "--csv")
    assert "\r" not in result.stdout
    assert len(list(csv.reader(io.StringIO(result.stdout)))) == 3
    assert "left out: " in result.stderr and "hurt" in result.stderr
