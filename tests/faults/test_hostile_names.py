"""Names and paths that mean harm: nothing is written outside the runs folder, and the terminal is not commanded."""

from __future__ import annotations

import io
import json
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

import dnntrain
from dnntrain.cli import app
from dnntrain.errors import DataError, DnntrainError, SpecError, StoreError, UsageError, visible
from dnntrain.registry import read_path
from dnntrain.store import RunDirectory

CONFIG = """\
data: {dataset: digits, limit: 64}
model: {architecture: {name: mlp, hidden: [4]}}
training: {epochs: 1, device: cpu}
"""
RED = "\x1b[31mred\x1b[0m"
BELL = "ring\x07\x08"
MARKUP = "[bold red]loud[/bold red]"
LONG = "x" * 5000


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, in a folder of its own that must stay as it is."""
    folder = tmp_path / "outside" / "inside"
    folder.mkdir(parents=True)
    (folder / "c.yaml").write_text(CONFIG)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tables have room for names in one piece, however wide the terminal is."""
    monkeypatch.setenv("COLUMNS", "250")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with one run."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "c.yaml").write_text(CONFIG)
    dnntrain.train(folder / "c.yaml", runs=folder / "runs")
    return folder / "runs"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of that run, to be spoilt."""
    (source,) = trained.iterdir()
    copy = tmp_path / "copies" / source.name
    for path in source.rglob("*"):
        if path.is_file():
            target = copy / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    yield copy


def call(*arguments: str) -> Result:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    check_tame(result.output)
    return result


def check_tame(text: str) -> None:
    """Nothing in a text commands a terminal."""
    assert all(c.isprintable() or c in "\n\t" for c in text), ascii(text)


def everything(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


NAMES = {
    "upwards": "../evil",
    "absolute": "/tmp/evil",
    "home": "~/evil",
    "slash": "a/b",
    "backslash": "a\\b",
    "dot": ".",
    "two-dots": "..",
    "hidden": ".evil",
    "trailing-dot": "evil.",
    "trailing-space": "evil ",
    "empty": "",
    "null-character": "a\0b",
    "line-feed": "a\nb",
    "escape-sequence": RED,
    "bell": BELL,
    "markup": MARKUP,
    "too-long": "x" * 101,
    "other-script": "\u202eevil",
    "full-width": "\uff0e\uff0e\uff0fevil",
    "device-of-windows": "nul:",
    "option": "--help me",
    "shell": "$(touch harmed)",
    "wildcard": "*",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("way", ["--name", "--set", "file"])
def test_a_run_cannot_be_named_so(name: str, way: str, here: Path) -> None:
    written = json.dumps(name)
    if way == "file":
        (here / "c.yaml").write_text(f"{CONFIG}name: {written}\n")
    before = everything(here.parent)
    extra = {"--name": [f"--name={name}"], "--set": ["--set", f"name={written}"], "file": []}[way]
    result = call("run", "c.yaml", *extra)
    assert result.exit_code == 2
    assert "'name' must be letters, digits, '-' and '_'" in result.stderr or "U+0000" in result.stderr
    assert everything(here.parent) == before


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_the_store_refuses_it_too(name: str, here: Path) -> None:
    before = everything(here.parent)
    with pytest.raises(UsageError, match="a run cannot be named") as caught:
        RunDirectory.create(here / "runs", 2 * name if name.isalnum() else name)  # it takes longer ones
    check_tame(str(caught.value))
    assert everything(here.parent) == before


@pytest.mark.parametrize("name", ["con", "nul", "aux", "-rf", "--help", "last", "0", "null", "true", "__init__"])
def test_odd_names_that_are_harmless_stay_names(name: str, here: Path) -> None:
    result = call("run", "c.yaml", f"--name={name}", "-q")
    assert result.exit_code == 0, result.stderr
    (made,) = (here / "runs").iterdir()
    assert made.name.startswith(f"{name}-")
    assert everything(here.parent) - everything(here / "runs") == {here, here / "c.yaml", here / "runs"}


@pytest.mark.parametrize(
    "place", ["c.yaml", "c.yaml/below", "loop", LONG], ids=["file", "below-a-file", "loop", "long"]
)
def test_runs_cannot_lie_there(place: str, here: Path) -> None:
    (here / "loop").symlink_to("loop")
    before = everything(here.parent)
    result = call("run", "c.yaml", "--runs-dir", place)
    assert result.exit_code == 1
    assert "cannot make a run directory in" in result.stderr
    assert everything(here.parent) == before
    assert call("ls", place).exit_code in (0, 1)


QUERIES = {
    "upwards": "../../..",
    "absolute": "/etc/passwd",
    "home": "~nobody-at-all/x",
    "empty": "",
    "null-character": "a\0b",
    "escape-sequence": RED,
    "markup": MARKUP,
    "too-long": LONG,
    "wildcard": "*",
    "percent": "%s%n",
    "loop": "loop",
}


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_no_run_is_meant(query: str, here: Path, trained: Path) -> None:
    (here / "loop").symlink_to("loop")
    (here / "picture.png").write_bytes(b"")
    for command in (["show", query], ["evaluate", query], ["predict", query, "picture.png"]):
        result = call(*command, "--runs-dir", str(trained))
        assert result.exit_code == 2, command
        assert "no run" in result.stderr or "is not a run directory" in result.stderr
    with pytest.raises(UsageError):
        dnntrain.load(query, runs=trained)


PATHS = {"upwards": "../../../../../../none", "absolute": "/none/at/all", "home": "~nobody-at-all/x", "long": LONG}
PATHS |= {"loop": "loop", "escape-sequence": RED, "markup": MARKUP, "wildcard": "*.npz", "variable": "$HOME/${HOME}"}


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("dataset", ["npz", "image_folder", "csv"])
def test_no_data_lies_there(path: str, dataset: str, here: Path) -> None:
    (here / "loop").symlink_to("loop")
    more = ", target: t" if dataset == "csv" else ""
    (here / "c.yaml").write_text(CONFIG.replace("digits", f"{{name: {dataset}, path: {json.dumps(path)}{more}}}"))
    result = call("run", "c.yaml")
    assert result.exit_code == 1
    assert f"{dataset}: there is no " in result.stderr
    assert not (here / "runs").exists()


def test_a_path_that_is_read_may_lie_anywhere_but_stays_one_path(here: Path) -> None:
    assert read_path("../a b;rm") == here.parent / "a b;rm"
    assert read_path("$HOME") == here / "$HOME"


@pytest.mark.parametrize("path", ["absent.py", ".", "c.yaml", "loop.py", f"{LONG}.py"], ids=lambda path: path[:9])
def test_no_plugin_lies_there(path: str, here: Path) -> None:
    (here / "loop.py").symlink_to("loop.py")
    result = call("run", "c.yaml", "--plugin", path)
    assert result.exit_code == 2
    assert "the plugin " in result.stderr
    assert not (here / "runs").exists()


def test_a_plugin_that_is_no_python_is_told_without_a_traceback(here: Path) -> None:
    Path("parts.py").write_text("def broken(:\n")
    result = call("run", "c.yaml", "--plugin", "parts.py")
    assert result.exit_code == 2
    assert "the plugin parts.py is not valid Python: invalid syntax (parts.py, line 1)" in result.stderr


@pytest.mark.parametrize("path", ["/dev/zero", "loop.yaml", f"{LONG}.yaml", "a\0b.yaml"], ids=ascii)
def test_no_experiment_lies_there(path: str, here: Path) -> None:
    (here / "loop.yaml").symlink_to("loop.yaml")
    for command in ("run", "validate", "summary"):
        assert call(command, path).exit_code == 2


def test_a_file_that_extends_an_endless_device_is_refused(here: Path) -> None:
    (here / "c.yaml").write_text("extends: /dev/zero\n" + CONFIG)
    assert "/dev/zero is a pipe or a device" in call("run", "c.yaml").stderr


# What files say is shown, not obeyed.


@pytest.mark.parametrize("name", [RED, BELL, "[bold red]loud", "a\nb", "\u202eevil"], ids=ascii)
def test_the_names_of_pictures_and_classes_in_messages(name: str, here: Path) -> None:
    for each in ("cats", name):
        (here / "p" / each).mkdir(parents=True)
        (here / "p" / each / "a.png").write_text("no picture")
    (here / "c.yaml").write_text(CONFIG.replace("digits", "{name: image_folder, path: p}"))
    assert call("run", "c.yaml").exit_code == 1
    for each in ("cats", name):
        Image.new("L", (4, 4)).save(here / "p" / each / "a.png")
    (here / "c.yaml").write_text(CONFIG.replace("digits, limit: 64", "{name: image_folder, path: p}, classes: [x, y]"))
    result = call("run", "c.yaml")
    assert result.exit_code == 2
    assert visible(name) in result.stderr


@pytest.mark.parametrize("text", [RED, BELL, MARKUP, "\u202eevil"], ids=ascii)
def test_texts_of_yaml_in_messages(text: str, here: Path) -> None:
    (here / "c.yaml").write_text(f"{CONFIG}loss: {json.dumps(text)}\n")
    result = call("run", "c.yaml")
    assert result.exit_code == 2
    assert f"unknown loss '{visible(text)}'" in result.stderr


@pytest.mark.parametrize("text", [RED, BELL, MARKUP], ids=ascii)
def test_a_summary_that_was_tampered_with_is_shown_as_it_is(text: str, run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    summary["stop_reason"] = summary["error"] = text
    summary["best"]["metrics"][f"train/{text}"] = 0.5
    summary["spec"]["training.monitor.metric"] = f"train/{text}"
    (run / "summary.json").write_text(json.dumps(summary))
    (run / "spec.yaml").write_text(f"name: {text}\n")
    shown = call("show", str(run))
    assert shown.exit_code == 0
    assert shown.stdout.count(visible(text)) == 4
    assert f"train/{visible(text)} 0.5000" in call("ls", str(run.parent)).stdout


@pytest.mark.parametrize("name", [MARKUP, RED], ids=ascii)
def test_a_run_folder_of_such_a_name(name: str, run: Path) -> None:
    moved = run.with_name(name.replace("/", "|"))
    run.rename(moved)
    assert visible(moved.name) in call("ls", str(moved.parent)).stdout
    assert visible(moved.name) in call("show", str(moved)).stdout


SPOILT: dict[str, tuple[str, Any]] = {
    "best-is-a-number": ("best", 3),
    "best-without-metrics": ("best", {"epoch": 1}),
    "metrics-of-texts": ("best", {"epoch": 1, "metrics": {"valid/loss": "low"}}),
    "test-is-a-list": ("test", [1]),
    "seconds-are-a-text": ("seconds", "long"),
    "epochs-are-a-list": ("epochs", []),
    "spec-is-nothing": ("spec", None),
    "metric-is-a-list": ("spec", {"training.monitor.metric": []}),
    "error-is-a-number": ("error", 3),
}


@pytest.mark.parametrize(("key", "value"), SPOILT.values(), ids=SPOILT)
def test_a_summary_of_other_types_is_damaged(key: str, value: Any, run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**summary, key: value}))
    shown = call("show", str(run))
    assert shown.exit_code == 1
    assert f"{run}/summary.json is damaged" in shown.stderr
    assert "damaged" in call("ls", str(run.parent)).stdout


def test_a_class_of_markup_is_predicted_by_its_name(here: Path) -> None:
    for name in ("[bold]", "[/x]"):
        for i in range(12):
            path = here / "p" / name.replace("/", "|") / f"[red]{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (4, 4), 200 if "b" in name else 0).save(path)
    (here / "c.yaml").write_text(CONFIG.replace("digits", "{name: image_folder, path: p}"))
    assert call("run", "c.yaml", "-q").exit_code == 0
    shown = call("predict", "last", "p/[bold]/[red]0.png")
    assert shown.exit_code == 0, shown.stderr
    assert "p/[bold]/[red]0.png" in shown.stdout
    assert "[bold]  " in shown.stdout or "[|x]  " in shown.stdout


def test_the_name_of_a_sound_file(here: Path) -> None:
    (here / f"{RED}.yaml").write_text(CONFIG)
    assert call("validate", f"{RED}.yaml").stdout == f"{visible(RED)}.yaml: ok\n"
    assert visible(RED) in call("init", "-o", f"new{RED}.yaml").stdout


def test_every_error_of_the_tree_is_tame() -> None:
    for kind in (DnntrainError, DataError, StoreError, UsageError):
        assert str(kind(f"a {RED}\n\tb {BELL}")) == "a \\x1b[31mred\\x1b[0m\n\tb ring\\x07\\x08"


# Checkpoints that would run code.


class Harm:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("harmed"),))


def zipped() -> bytes:
    stream = io.BytesIO()
    torch.save({"schema": 1, "model": Harm()}, stream)
    return stream.getvalue()


def old_format() -> bytes:
    stream = io.BytesIO()
    torch.save({"schema": 1, "model": Harm()}, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


CHECKPOINTS = {
    "a-pickle-in-a-zip": zipped,
    "the-old-format": old_format,
    "a-bare-pickle": lambda: pickle.dumps({"schema": 1, "model": Harm()}, protocol=2),
    "a-command": lambda: b"cos\nsystem\n(S'touch harmed'\ntR.",
    "a-text": lambda: b"hello",
    "nothing": lambda: b"",
    "cut-short": lambda: zipped()[:200],
}


@pytest.mark.parametrize("make", CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_a_checkpoint_that_would_run_code_is_refused(make: Any, run: Path, here: Path) -> None:
    (run / "checkpoints" / "best.pt").write_bytes(make())
    np.save("x.npy", np.zeros((1, 8, 8), np.uint8))
    for command in (["evaluate", str(run)], ["predict", str(run), "x.npy"]):
        result = call(*command)
        assert result.exit_code == 1
        assert "the checkpoint" in result.stderr
        assert "best.pt" in result.stderr
    with pytest.raises(StoreError, match="the checkpoint .* (is damaged|holds more than tensors|is no checkpoint)"):
        dnntrain.load(run)
    assert not Path("harmed").exists()


def test_the_harm_is_real(here: Path) -> None:
    """Else the tests above would show nothing."""
    torch.load(io.BytesIO(zipped()), weights_only=False)
    assert Path("harmed").exists()
    os.remove("harmed")


def test_a_spec_that_names_python_is_refused(run: Path) -> None:
    (run / "spec.yaml").write_text("!!python/object/apply:os.system ['touch harmed']\n")
    with pytest.raises(SpecError, match="tags are not used here"):
        dnntrain.load(run)
