"""`dnntrain compare --plot`: which curves are drawn, for which terminal, and what is refused."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from madeupruns import make_run
from typer.testing import CliRunner, Result

from dnntrain.cli import app, plotting
from dnntrain.store import RunDirectory

EXERCISE = Path(__file__).parents[2] / "docs" / "runs" / "exercise"


def call(*arguments: str, **environment: str) -> Result:
    env = {"COLUMNS": "100", **environment}
    return CliRunner().invoke(app, ["compare", *arguments], catch_exceptions=False, env=env)


def titles(text: str) -> list[str]:
    """Return the metrics whose curves are drawn."""
    return re.findall(r"^([a-z/]+)\n(?: *\d\S*(?: %)?┤| *│|  no figures)", text, flags=re.MULTILINE)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for seed in (0, 1, 2):
        make_run(tmp_path, "base", seed=seed, losses=[3 + seed, 2, 1 + seed], minutes=seed, test={"test/accuracy": 0.5})
        make_run(
            tmp_path, "other", seed=seed, losses=[2, 1.5], spec={"optimizer.lr": 1.0}, minutes=9 + seed,
            test={"test/accuracy": 0.4}, seconds=90,
        )  # fmt: skip
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "metrics"),
    [
        ([], []),
        (["--plot"], ["valid/loss"]),
        (["--plot", "--metric", "valid/accuracy"], ["valid/accuracy"]),
        (["--plot", "--metric", "test/accuracy"], ["valid/accuracy"]),
        (["--curve", "seconds", "--curve", "valid/loss", "--curve", "seconds"], ["seconds", "valid/loss"]),
        (["--x", "time"], ["valid/loss"]),
        (["--smooth", "0"], ["valid/loss"]),
        (["--log"], ["valid/loss"]),
    ],
    ids=str,
)
def test_which_curves_are_drawn(runs: Path, arguments: list[str], metrics: list[str]) -> None:
    result = call(str(runs), *arguments)
    assert result.exit_code == 0
    assert titles(result.stdout) == metrics
    assert ("curves of each group" in result.stdout) is bool(metrics)
    assert "quality: is the model better?" in result.stdout, "the tables stay"


def test_training_is_drawn_beside_validation_unless_a_metric_is_named() -> None:
    assert titles(call(str(EXERCISE), "--plot").stdout) == ["valid/loss", "train/loss"]
    assert titles(call(str(EXERCISE), "--plot", "--metric", "valid/loss").stdout) == ["valid/loss"]


@pytest.mark.parametrize("columns", ["60", "100", "200"])
def test_the_recorded_exercise_is_drawn_as_wide_as_the_terminal(columns: str) -> None:
    text = call(str(EXERCISE), "--plot", COLUMNS=columns).stdout
    curves = text[text.index("curves of each group") :].splitlines()
    assert max(map(len, curves)) == int(columns)
    assert "\x1b" not in text
    for letter, name in zip("ABCDE", ("batchnorm", "selu", "one_cycle", "swish", "alpha_dropout"), strict=True):
        assert sum(line.startswith(f"   {letter} cifar_{name} ") for line in curves) == 2


def test_options_reach_the_curves(runs: Path) -> None:
    legend = [line.split() for line in call(str(runs), "--plot").stdout.splitlines() if line.startswith("   B base")]
    assert legend == [["B", "base", "3", "2.000", "2.000", "2"]]
    smoothed = call(str(runs), "--smooth", "0.5").stdout
    assert "smoothed by 0.5" in smoothed
    # The medians of 3, 4, 5, then of these halved and once 2, and so on: (x1 / 4 + x2 / 2 + x3) / (7 / 4).
    assert ["B", "base", "3", f"{(4 / 4 + 2 / 2 + 2) / (7 / 4):.3f}"] == next(
        line.split()[:4] for line in smoothed.splitlines() if line.startswith("   B base")
    )
    assert "minutes of training" in call(str(runs), "--x", "time").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--curve", "valid/los"], "no run measured 'valid/los' at its epochs: did you mean 'valid/loss'?"),
        (["--curve", "test/accuracy"], "no run measured 'test/accuracy' at its epochs"),
        (["--x", "step"], "curves go over 'epoch' or 'time', not over 'step'"),
        (["--smooth", "1"], "the smoothing must be from 0 to less than 1, not 1"),
        (["--plot", "--json"], "leave out --json, --csv and --markdown"),
        (["--log", "--csv"], "leave out --json, --csv and --markdown"),
        (["--curve", "valid/loss", "--markdown"], "leave out --json, --csv and --markdown"),
    ],
    ids=str,
)
def test_mistakes_are_told_before_anything_is_printed(runs: Path, arguments: list[str], message: str) -> None:
    result = call(str(runs), *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_of_many_groups_the_best_and_the_baseline_are_drawn(tmp_path: Path) -> None:
    for number in range(11):
        loss = 100.0 if number == 0 else 12.0 - number
        make_run(tmp_path, f"g{number}", losses=[loss], spec={"optimizer.lr": float(number)}, minutes=number)
    text = call(str(tmp_path), "--plot", "--sort", "age").stdout
    assert "the best 8 of 11 groups" in " ".join(text.split())
    curves = text[text.index("curves of each group") :]
    assert re.findall(r"^   [A-Z] (g\d+)", curves, flags=re.MULTILINE) == [
        "g0",
        "g4",
        "g5",
        "g6",
        "g7",
        "g8",
        "g9",
        "g10",
    ]


def test_runs_without_figures_are_said_to_have_none(tmp_path: Path) -> None:
    make_run(tmp_path, losses=[], status="failed")
    result = call(str(tmp_path), "--plot")
    assert result.exit_code == 0
    assert "no figures to draw" in result.stdout


def test_a_name_that_would_command_the_terminal_is_harmless(runs: Path) -> None:
    for summary in runs.glob("other-*/summary.json"):
        content = json.loads(summary.read_text())
        summary.write_text(json.dumps({**content, "name": "\x1b[2J[red]x"}))
    text = call(str(runs), "--plot").stdout
    assert "\x1b" not in text
    assert "A \\x1b[2J[red]x" in text


def show(directory: RunDirectory) -> str:
    result = CliRunner().invoke(app, ["show", str(directory.path)], catch_exceptions=False, env={"COLUMNS": "80"})
    assert result.exit_code == 0
    return result.stdout


def test_a_run_is_shown_with_its_curve(tmp_path: Path) -> None:
    (directory,) = map(RunDirectory, EXERCISE.glob("cifar_selu-20261122-005952-*"))
    legend = [line.split() for line in show(directory).splitlines() if line.startswith("   ")]
    assert [row for row in legend if row[0] in "AB" or row[0] == "metric"] == [
        ["metric", "last", "best", "at", "epoch"],
        ["A", "train/loss", "0.9502", "0.9502", "32"],
        ["B", "valid/loss", "1.532", "1.454", "12"],
    ]


def test_a_run_without_a_curve_is_shown_all_the_same(tmp_path: Path) -> None:
    nothing = make_run(tmp_path, losses=[], status="failed")
    nothing.write_spec("name: nothing\n")
    assert "name: nothing" in show(nothing)
    assert "epoch" not in show(nothing).splitlines()[-1]
    broken = make_run(tmp_path, "broken")
    broken.write_spec("name: broken\n")
    with (broken.path / RunDirectory.METRICS).open("r+") as file:
        file.write("###")
    assert "no curve: " in show(broken)
    assert "this line is broken" in show(broken)
    assert "name: broken" in show(broken)


class Terminal(io.TextIOWrapper):
    """A stdout that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what makes stdout a terminal with an encoding, and what has been written to it."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "CLICOLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")

    def shown(runs: Path, *, encoding: str = "utf-8", **environment: str) -> str:
        from dnntrain.compare.comparison import compare_runs
        from dnntrain.compare.records import collect

        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", Terminal(written, encoding=encoding, write_through=True))
        options = plotting.plotting(True, None, None, None, False)
        assert options is not None
        plotting.print_curves(plotting.draw_curves(compare_runs(collect([str(runs)])), options, metric_given=False))
        return written.getvalue().decode(encoding)

    return shown


def test_colours_are_those_that_the_terminal_has(runs: Path, terminal: Any) -> None:
    assert "\x1b[1;38;5;" in terminal(runs), "256 colours"
    assert "\x1b" not in terminal(runs, NO_COLOR="1")


def test_a_dumb_terminal_gets_no_escape_codes(runs: Path, terminal: Any) -> None:
    assert "\x1b" not in terminal(runs, TERM="dumb")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_another_encoding_gets_ascii(runs: Path, terminal: Any, encoding: str) -> None:
    text = re.sub("\x1b[^m]*m", "", terminal(runs, encoding=encoding))
    assert text.isascii()
    assert "AAAA" in text
