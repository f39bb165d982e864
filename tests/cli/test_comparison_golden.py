"""What a reader is shown of real runs, by heart: the five variants of the exercise with three seeds each."""

from __future__ import annotations

from pathlib import Path

import golden
import pytest
from typer.testing import CliRunner

from dnntrain.cli import app

HERE = Path(__file__).parent / "golden"
EXERCISE = str(Path(__file__).parent.parent.parent / "docs" / "runs" / "exercise")


def shown(width: int, colour: bool, *arguments: str) -> str:
    environment = {"COLUMNS": str(width), "NO_COLOR": None, "TERM": "xterm", "COLORTERM": None, "FORCE_COLOR": None}
    environment |= {"FORCE_COLOR": "1"} if colour else {"NO_COLOR": "1"}
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False, env=environment).stdout


@pytest.mark.parametrize("colour", [False, True], ids=["plain", "colour"])
@pytest.mark.parametrize("width", [60, 100, 200])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("compare", ["compare", EXERCISE]),
        ("columns", ["compare", EXERCISE, "--columns", "optimizer.lr,test/accuracy,median,median_interval,verdict"]),
        ("each_run", ["compare", EXERCISE, "--where=schedule=one_cycle", "--each-run", "--metric=test/accuracy"]),
        ("diff", ["diff", "cifar_selu-20261122-01", "cifar_batchnorm-20261122-01", "--runs-dir", EXERCISE]),
    ],
)  # fmt: skip
def test_what_is_shown(name: str, arguments: list[str], width: int, colour: bool) -> None:
    text = shown(width, colour, *arguments)
    golden.check(HERE / f"{name}_{width}{'_colour' if colour else ''}.txt", text)
    assert ("\x1b[" in text) == colour
