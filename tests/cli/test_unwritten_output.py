"""Commands whose output goes to a disk that is full."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from dnntrain.cli import main

FULL = Path("/dev/full")
SAID = "cannot write the output: No space left on device"
CONFIG = "name: tiny\ndata: {dataset: digits, limit: 64}\nmodel: {architecture: {name: mlp, hidden: [4]}}\n"

pytestmark = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full, as there is on Linux")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(CONFIG)


def exit_code(monkeypatch: pytest.MonkeyPatch, *words: str) -> object:
    """Run a command whose output goes to a full disk, and return what it exits with."""
    monkeypatch.setattr(sys, "argv", ["dnntrain", *words])
    with FULL.open("w") as full, monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "stdout", full)
        main()
    return ended.value.code


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["schema"], ["list"], ["validate", "tiny.yaml"]])
def test_what_cannot_be_printed_is_said_in_one_line(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(monkeypatch, *words) == 1
    assert capsys.readouterr().err == f"{SAID}\n"


@pytest.mark.parametrize("several", [False, True])
def test_training_goes_on(several: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sweep", "tiny.yaml", "--grid", "optimizer.lr=0.1,0.01"] if several else ["run", "tiny.yaml"]
    assert exit_code(monkeypatch, *words, "--set", "training.epochs=2") == 0
    assert capsys.readouterr().err == f"{SAID}; going on without\n"
    summaries = list(Path("runs").rglob("summary.json"))
    assert [json.loads(path.read_text())["status"] for path in summaries] == ["completed"] * (1 + several)


def test_another_failure_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object, **named: object) -> None:
        raise OSError(28, os.strerror(28), "another file")

    monkeypatch.setattr("dnntrain.cli.app", fails)
    with pytest.raises(OSError, match="another file"):
        main()
