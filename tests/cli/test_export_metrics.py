from __future__ import annotations

import csv
import io
import subprocess
import sys
from pathlib import Path

import pytest
from madeupruns import make_run
from pyarrow import parquet
from typer.testing import CliRunner

from dnntrain.cli import app


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    make_run(tmp_path / "runs", "a", seed=0)
    make_run(tmp_path / "runs", "b", seed=1, spec={"optimizer.lr": 0.5}, tags=["kept"], minutes=1)
    return tmp_path / "runs"


def test_csv_goes_to_stdout_or_a_file_and_parquet_beside_it(runs: Path, tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["export-metrics", str(runs), "--csv", "-"])
    assert shown.exit_code == 0, shown.stderr
    rows = list(csv.DictReader(io.StringIO(shown.stdout)))
    assert [(row["name"], row["spec.optimizer.lr"]) for row in rows] == [("a", "0.1")] * 3 + [("b", "0.5")] * 3
    paths = tmp_path / "a.csv", tmp_path / "a.parquet"
    done = CliRunner().invoke(app, ["export-metrics", str(runs), "--csv", str(paths[0]), "--parquet", str(paths[1])])
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr.splitlines() == [f"wrote {paths[1]}", f"wrote {paths[0]}"]
    assert paths[0].read_text() == shown.stdout
    assert parquet.read_table(paths[1]).num_rows == 6


def test_filters_and_all_keys(runs: Path) -> None:
    shown = CliRunner().invoke(app, ["export-metrics", str(runs), "--csv", "-", "--tag", "kept", "--spec"]).stdout
    rows = list(csv.DictReader(io.StringIO(shown)))
    assert {row["name"] for row in rows} == {"b"}
    assert rows[0]["spec.data.dataset.name"] == "digits"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--csv FILE, --parquet FILE or --track mlflow"),
        (["--csv", "-", "--tag", "none"], "meets the conditions: look at --tag"),
        (["--csv", "-", "--where", "x"], "is no condition"),
        (["--track", "mlfow"], "did you mean 'mlflow'"),
    ],
)
def test_mistakes_are_explained(arguments: list[str], said: str, runs: Path) -> None:
    result = CliRunner().invoke(app, ["export-metrics", str(runs), *arguments])
    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.process
def test_a_table_needs_no_torch(runs: Path, tmp_path: Path) -> None:
    code = (
        "import sys, dnntrain.cli\n"
        f"sys.argv = ['dnntrain', 'export-metrics', {str(runs)!r}, '--csv', '-', '--parquet', 'a.parquet']\n"
        "try:\n    dnntrain.cli.main()\n"
        "except SystemExit as stop:\n    assert stop.code in (0, None), stop.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=tmp_path)
