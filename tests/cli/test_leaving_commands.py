"""predict, evaluate and export as commands: what they print, write, refuse and exit with."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image
from sklearn.datasets import load_digits
from typer.testing import CliRunner

from dnntrain.cli import app

CONFIG = """\
name: tiny
data: {dataset: digits, limit: 300}
model:
  architecture: {name: mlp, hidden: [16]}
  normalization: batch
  dropout: {name: dropout, rate: 0.2}
training: {epochs: 2, device: cpu, threads: 1}
"""
RED = "\x1b[31mred"


def call(*arguments: str, stdin: str | bytes | None = None, columns: int = 120) -> Result:
    # Wide enough for every line, whatever figures a training came to.
    return CliRunner().invoke(app, list(arguments), input=stdin, env={"COLUMNS": str(columns)})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    (folder / "tiny.yaml").write_text(CONFIG)
    made = call("run", str(folder / "tiny.yaml"), "-q", "--runs-dir", str(folder / "runs"))
    assert made.exit_code == 0, made.stderr
    np.save(folder / "some.npy", load_digits().images[:5].astype(np.uint8))
    (folder / "pictures").mkdir()
    for name, picture in zip(("a.png", f"{RED}.png"), load_digits().images, strict=False):
        Image.fromarray((picture * 15).astype(np.uint8)).save(folder / "pictures" / name)
    return folder


@pytest.fixture(autouse=True)
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


def test_csv_and_json_lines_say_the_same_as_json() -> None:
    listed = json.loads(call("predict", "last", "some.npy", "--mc-samples", "3", "--json").stdout)
    lines = call("predict", "last", "some.npy", "--mc-samples", "3", "--format", "jsonl").stdout.splitlines()
    assert [json.loads(line) for line in lines] == listed
    header, *rows = csv.reader(
        call("predict", "last", "some.npy", "--mc-samples", "3", "--format", "csv").stdout.splitlines()
    )
    assert header[:3] == ["name", "label", "probability 0"]
    assert header[12:] == [*(f"spread {k}" for k in range(10)), "entropy", "mutual_information"]
    for each, row in zip(listed, rows, strict=True):
        values = [*each["values"].values(), *each["spread"].values(), each["entropy"], each["mutual_information"]]
        assert row == [each["name"], each["label"], *map(str, values)]
    shown = call("predict", "last", "some.npy", "--mc-samples", "3").stdout
    assert shown.split("\n")[0].split("  ")[-1].strip() == "mutual information"


@pytest.mark.parametrize("name", ["made.csv", "made.jsonl"])
def test_a_file_holds_what_would_be_printed_and_is_never_replaced(name: str, here: Path) -> None:
    made = call("predict", "last", "some.npy", "--output", name)
    assert (made.exit_code, made.stdout, made.stderr) == (0, "", f"wrote 5 predictions to {name}\n")
    printed = call("predict", "last", "some.npy", "--format", name.split(".")[1]).stdout
    assert (here / name).read_text() == printed
    again = call("predict", "last", "some.npy", "--output", name)
    assert (again.exit_code, again.stderr) == (2, f"{name} is there already; remove it, or name another file\n")


def test_no_half_file_is_left(here: Path) -> None:
    before = sorted(here.iterdir())
    made = call("predict", "last", "some.npy", "missing.png", "--output", "half.csv", "--batch-size", "2")
    assert (made.exit_code, made.stderr) == (1, "there is no file missing.png\n")
    assert sorted(here.iterdir()) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--json", "--format", "csv"], "--json prints one list"),
        (["--json", "-o", "x.csv"], "--json prints one list"),
        (["-o", "x.txt"], "x.txt must end in .csv or .jsonl"),
        (["-o", "x.csv", "--format", "table"], "x.csv must end in .csv or .jsonl"),
        (["-o", "x.csv", "--format", "jsonl"], "x.csv ends as csv, but --format says jsonl"),
        (["--batch-size", "0"], "greater than or equal to 1"),
    ],
)
def test_options_of_predict_that_contradict_each_other(options: list[str], message: str) -> None:
    made = call("predict", "last", "some.npy", *options)
    assert made.exit_code == 2
    assert message in made.stderr


def test_paths_come_from_stdin_too() -> None:
    made = call("predict", "last", "some.npy", "-", "--format", "jsonl", stdin="pictures/a.png\n\nsome.npy\r\n")
    assert made.exit_code == 0, made.stderr
    names = [json.loads(line)["name"] for line in made.stdout.splitlines()]
    assert names == [f"some.npy[{i}]" for i in range(5)] + ["pictures/a.png"] + [f"some.npy[{i}]" for i in range(5)]
    nothing = call("predict", "last", "-", stdin="\n  \n")
    assert (nothing.exit_code, nothing.stderr) == (1, "there is nothing to predict in the list on stdin\n")
    odd = call("predict", "last", "-", stdin=b"no\x00such\nn\xff\n")
    assert (odd.exit_code, odd.stderr) == (1, "there is no file no\\x00such\n")


def test_errors_can_be_skipped_and_are_still_failures() -> None:
    made = call("predict", "last", "-", "--skip-errors", stdin=f"pictures/a.png\nnowhere\n{RED}\npictures\n")
    assert made.exit_code == 1
    assert made.stderr.splitlines() == [
        "there is no file nowhere", "there is no file \\x1b[31mred", "2 inputs could not be predicted, 3 could",
    ]  # fmt: skip
    assert made.stdout.count("pictures/") == 3


@pytest.mark.parametrize("format_", ["table", "csv", "jsonl"])
def test_a_name_does_not_command_the_terminal(format_: str) -> None:
    made = call("predict", "last", "pictures", "--format", format_)
    assert made.exit_code == 0, made.stderr
    assert "\x1b" not in made.stdout
    assert "red.png" in made.stdout


def test_long_tables_come_in_parts(here: Path) -> None:
    np.save(here / "many.npy", np.repeat(load_digits().images[:1].astype(np.uint8), 1200, axis=0))
    shown = call("predict", "last", "many.npy").stdout.splitlines()
    assert [i for i, line in enumerate(shown) if line.startswith("input")] == [0, 1001]
    assert len(shown) == 1202


def test_evaluate_shows_each_class_calibration_and_the_worst(here: Path) -> None:
    made = call("evaluate", "last", "--worst", "3", "--output", "worst.png")
    assert made.exit_code == 0, made.stderr
    assert made.stderr == "wrote 3 samples to worst.png\n"
    for part in ("macro mean", "true \\ predicted", "expected error", "Brier score", "the 3 samples with the highest"):
        assert part in made.stdout
    with Image.open(here / "worst.png") as sheet:
        assert sheet.width == 2 * 144
    printed = json.loads(call("evaluate", "last", "--worst", "3", "--json").stdout)
    assert f"{printed['worst'][0]['row']}  " in made.stdout.split("highest loss:")[1]
    assert f"{100 * printed['calibration']['error']:.2f} %" in made.stdout
    assert len(printed["calibration"]["bins"]) == 15
    assert sum(each["samples"] for each in printed["calibration"]["bins"]) == printed["samples"] == 359


@pytest.mark.parametrize(("columns", "bar"), [(60, 5), (120, 20)])
def test_the_reliability_table_fits_the_terminal(columns: int, bar: int) -> None:
    table = call("evaluate", "last", columns=columns).stdout.split("(|):\n")[1].splitlines()
    assert len(table) == 1 + sum(
        each["samples"] > 0 for each in json.loads(call("evaluate", "last", "--json").stdout)["calibration"]["bins"]
    )
    assert all(len(line) <= columns and len(line.split("  ")[-1]) == bar for line in table[1:])


def test_what_was_measured_is_shown_even_if_the_sheet_cannot_be(here: Path) -> None:
    made = call("evaluate", "last", "--worst", "2", "--output", "nowhere/worst.png")
    assert made.exit_code == 1
    assert "the 2 samples with the highest loss" in made.stdout
    assert made.stderr.startswith("cannot write nowhere/worst.png: No such file")


def test_many_classes_have_their_pairs_named() -> None:
    from dnntrain.cli.evaluating import _show_confusion
    from dnntrain.cli.output import console
    from dnntrain.trained.figures import classified

    targets = torch.arange(30)
    probabilities = torch.nn.functional.one_hot((targets + (targets > 10)) % 30, 30).float()
    found = classified(probabilities, targets, tuple(f"class {k}" for k in range(30)))
    out = console()
    with out.capture() as captured:
        _show_confusion(found, out)
    assert "class 11  class 12" in captured.get()
    assert "and 4 other pairs; --json has the whole matrix" in captured.get()


def test_evaluate_tells_what_output_is_for() -> None:
    made = call("evaluate", "last", "--output", "x.png")
    assert (made.exit_code, made.stderr) == (2, "--output is for the worst samples: say how many with --worst N\n")


def test_export_tells_what_it_wrote_and_how_it_was_checked(here: Path) -> None:
    made = call("export", "last", "--format", "safetensors", "-o", f"{RED}.st", "--fuse")
    assert made.exit_code == 0, made.stderr
    lines = made.stdout.splitlines()
    assert lines[0].startswith("\\x1b[31mred.st: safetensors, ")
    assert lines[1:] == [
        "takes float32 of N x 1 x 8 x 8 (prepared samples; --preprocessing would include that), gives logits",
        "folded 1 batch normalization into the layer before",
        lines[3],
    ]
    assert lines[3].startswith("checked on 256 samples of the test part: the largest difference is ")
    assert (here / f"{RED}.st").stat().st_size > 1000
    again = call("export", "last", "--format", "safetensors", "-o", f"{RED}.st")
    assert again.exit_code == 2
    assert "is there already" in again.stderr
    forced: dict[str, Any] = json.loads(
        call("export", "last", "--format", "safetensors", "-o", f"{RED}.st", "--force", "--json").stdout
    )
    assert (forced["path"], forced["folded"], forced["tolerance"]) == (f"{RED}.st", None, 1e-4)
