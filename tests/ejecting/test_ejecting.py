"""What is ejected repeats the run to the last bit, in a process that has no dnntrain; the rest is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ejectedcases import covering

import dnntrain
from dnntrain import ejecting
from dnntrain.ejecting.whole import PARTS
from dnntrain.registry import families
from dnntrain.store import RunDirectory

TIMES = {"seconds", "samples_per_second"}
ALONE = """
import sys
sys.modules["dnntrain"] = None
for script in sys.argv[1:]:
    with open(script) as file:
        source = file.read()
    sys.argv = [script, script.removesuffix(".py")]
    exec(compile(source, script, "exec"), {"__name__": "__main__"})
"""


def alone(scripts: list[Path]) -> None:
    """Run scripts in a process that cannot import dnntrain; each writes into a folder of its name."""
    environment = {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ALONE, *map(str, scripts)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def figures(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


@dataclass
class Pair:
    """A run, and the script that was made of it."""

    case: dict[str, Any]
    run: RunDirectory
    script: Path


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Pair]]:
    folder = tmp_path_factory.mktemp("ejected")
    made = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)  # no machine goes down here
        for number, case in enumerate(covering(datasets(folder), most=26)):
            record = dnntrain.train(case, runs=folder / "runs", test=number % 2 == 0)
            script = folder / f"case{number}.py"
            ejecting.eject(record.path, output=script)
            made.append(Pair(case, RunDirectory(record.path), script))
    alone([pair.script for pair in made])
    yield made



def datasets(folder: Path) -> list[dict[str, Any]]:
    """Return the data sets, with what each is for: known ones, and arrays of each layout."""
    draw = np.random.default_rng(0)
    labels = np.arange(150) % 3
    arrays: dict[str, Any] = {
        "grey": ("classes", True, draw.integers(0, 256, (150, 8, 8), dtype=np.uint8), labels),
        "color": ("classes", True, draw.integers(0, 256, (150, 8, 8, 3)), labels[:, np.newaxis]),
        "floats": ("values", True, draw.normal(size=(150, 3, 8, 8)), draw.normal(size=(150, 2))),
        "sequences": ("values", False, draw.normal(3, 2, size=(150, 5, 4)), draw.normal(size=150)),
        "features": ("classes", False, draw.normal(-1, 3, size=(150, 6)), labels),
    }
    found: list[dict[str, Any]] = [
        {"dataset": "digits", "kind": "classes", "pictures": True},
        {"dataset": "digits", "kind": "binary", "pictures": True},
        {"dataset": "diabetes", "kind": "values", "pictures": False},
    ]
    for name, (kind, pictures, x, y) in arrays.items():
        path = folder / f"{name}.npz"
        np.savez(path, x_train=x, y_train=y, x_test=x[:20], y_test=y[:20])
        found.append({"dataset": {"name": "npz", "path": str(path)}, "kind": kind, "pictures": pictures})
    return found


def test_the_script_repeats_the_run(pairs: list[Pair]) -> None:
    for pair in pairs:
        out = pair.script.with_suffix("")
        rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        assert figures(rows) == figures(pair.run.metrics()), pair.case
        assert [list(row) for row in figures(rows)] == [list(row) for row in figures(pair.run.metrics())]
        best = torch.load(pair.run.checkpoint(RunDirectory.BEST), weights_only=True)["model"]
        again = torch.load(out / "best.pt", weights_only=True)
        assert best.keys() == again.keys()
        assert all(torch.equal(best[name], again[name]) for name in best), pair.case
        measured = pair.run.summary()["test"]
        assert (out / "test.json").exists() == (measured is not None)
        if measured is not None:
            assert json.loads((out / "test.json").read_text()) == measured
