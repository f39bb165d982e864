"""Runs and the scripts that were made of them, held against each other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import dnntrain
from dnntrain import ejecting
from dnntrain.ejecting.script import WIDTH
from dnntrain.store import RunDirectory

TIMES = {"seconds", "samples_per_second"}
UNCHECKED = """
import torchvision.datasets.cifar
torchvision.datasets.cifar.check_integrity = lambda *_: True  # these are not the original files
"""
ALONE = """
import sys
sys.modules["dnntrain"] = None
for script in sys.argv[1:]:
    with open(script) as file:
        source = file.read()
    sys.argv = [script, script.removesuffix(".py")]
    exec(compile(source, script, "exec"), {"__name__": "__main__"})
"""


@dataclass
class Pair:
    """A run, and the script that was made of it."""

    case: dict[str, Any]
    run: RunDirectory
    script: Path


def ejected(folder: Path, cases: Iterable[tuple[dict[str, Any], bool]]) -> list[Pair]:
    """Train cases, some with a test part measured, eject each of them, and run the scripts."""
    made = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)  # no machine goes down here
        for number, (case, tested) in enumerate(cases):
            record = dnntrain.train(case, runs=folder / "runs", test=tested)
            script = folder / f"case{number}.py"
            ejecting.eject(record.path, output=script)
            made.append(Pair(case, RunDirectory(record.path), script))
    alone([pair.script for pair in made])
    return made


def alone(scripts: list[Path]) -> None:
    """Run scripts in a process that cannot import dnntrain; each writes into a folder of its name."""
    before = UNCHECKED if any("torchvision" in script.read_text() for script in scripts) else ""
    environment = {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", before + ALONE, *map(str, scripts)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def figures(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


def check_repeated(pair: Pair) -> None:
    """Hold all that a script has written against its run."""
    out = pair.script.with_suffix("")
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert figures(rows) == figures(pair.run.metrics()), pair.case
    assert [list(row) for row in figures(rows)] == [list(row) for row in figures(pair.run.metrics())]
    if pair.run.summary()["best"]["epoch"] is not None:
        best = torch.load(pair.run.checkpoint(RunDirectory.BEST), weights_only=True)["model"]
        again = torch.load(out / "best.pt", weights_only=True)
        assert best.keys() == again.keys()
        assert all(torch.equal(best[name], again[name]) for name in best), pair.case
    measured = pair.run.summary()["test"]
    assert (out / "test.json").exists() == (measured is not None)
    if measured is not None:
        assert json.loads((out / "test.json").read_text()) == measured


def check_readable(pairs: list[Pair]) -> None:
    """Look whether scripts are written as ruff would have them."""
    ruff = Path(sys.executable).with_name("ruff")
    scripts = [str(pair.script) for pair in pairs]
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [str(ruff), *command, "--isolated", "--no-cache", *scripts], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:]
    for pair in pairs:
        lines = pair.script.read_text().replace(str(pair.script.parent), "").splitlines()
        assert [line for line in lines if len(line) > WIDTH and "Path(" not in line] == []
        # The first three lines may say where it comes from.
        assert "dnntrain" not in pair.script.read_text().split('"""', 2)[2]
