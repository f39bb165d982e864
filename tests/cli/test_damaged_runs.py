"""No damage to the files of one run keeps anybody from looking at the others, and none is a crash."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from madeupruns import SPEC, make_run
from typer.testing import CliRunner, Result

from dnntrain.cli import app
from dnntrain.store import RunDirectory

SUMMARIES: dict[str, dict[str, Any]] = {
    "no spec": {"spec": {}},
    "no monitor": {"spec": {key: value for key, value in SPEC.items() if key != "training.monitor.metric"}},
    "no best": {"best": {}},
    "best is text": {"best": {"epoch": "1", "metrics": {"valid/loss": "low"}}},
    "test is text": {"test": "good"},
    "seed is a list": {"seed": [1]},
    "epochs is nothing": {"epochs": None},
}
TEXTS = {
    "summary cut off": ("summary.json", '{"schema": 1'),
    "a broken row": ("metrics.jsonl", '{"epoch": 1}\nbroken\n{"epoch": 2}\n'),
    "a row without epoch": ("metrics.jsonl", '{"valid/loss": 1}\n'),
    "tags are a number": ("notes.json", '{"tags": 5}'),
    "samples are text": ("environment.json", '{"data": {"train": "many", "valid": 1}}'),
}


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


@pytest.fixture(params=[*SUMMARIES, *TEXTS])
def damaged(request: pytest.FixtureRequest, tmp_path: Path) -> RunDirectory:
    """One of three runs, the one in the middle."""
    for seed in (0, 2):
        make_run(tmp_path, "sound", seed=seed, minutes=seed)
    directory = make_run(tmp_path, "hurt", seed=1, minutes=1, spec={"optimizer.lr": 0.5})
    if request.param in SUMMARIES:
        directory.write_summary({**directory.summary(), **SUMMARIES[request.param]})
    else:
        name, text = TEXTS[request.param]
        (directory.path / name).write_text(text)
    return directory


def test_compare_leaves_it_out_and_says_so(damaged: RunDirectory) -> None:
    result = call("compare", str(damaged.path.parent), "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert [group["label"] for group in found["groups"]] == ["sound"]
    assert any(remark.startswith("left out:") and damaged.name in remark for remark in found["remarks"])


def test_metrics_are_exported_without_it(damaged: RunDirectory) -> None:
    result = call("export-metrics", str(damaged.path.parent), "--csv", "-")
    assert result.exit_code == 0
    assert "hurt" not in result.stdout
    assert "spec." not in result.stdout, "what the damaged run lacks tells no other runs apart"
    assert f"left out: {damaged.path}" in result.stderr


@pytest.mark.parametrize("command", ["ls FOLDER", "gc FOLDER --dry-run", "show RUN", "diff RUN OTHER", "compare RUN"])
def test_nothing_crashes(damaged: RunDirectory, command: str) -> None:
    folder = damaged.path.parent
    other = next(folder.glob("sound-*"))
    known = {"FOLDER": folder, "RUN": damaged.path, "OTHER": other}
    result = call(*(str(known.get(word, word)) for word in command.split()))
    assert result.exit_code in (0, 1, 2)
    if result.exit_code and not result.stdout:
        assert damaged.name in result.stderr
