"""Run directories of every schema that was ever written still serve: fixtures/schema_N holds one run of each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import dnntrain
from dnntrain.checkpoints import CHECKPOINT_SCHEMA
from dnntrain.store import SCHEMA, RunDirectory

FIXTURES = Path(__file__).parent / "fixtures"
RELEASED = sorted(FIXTURES.glob("schema_*"))


def test_every_schema_has_its_fixture() -> None:
    assert [path.name for path in RELEASED] == [f"schema_{number}" for number in range(1, SCHEMA + 1)]
    assert CHECKPOINT_SCHEMA <= SCHEMA


@pytest.fixture(params=RELEASED, ids=lambda path: path.name)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    (source,) = request.param.iterdir()
    return Path(shutil.copytree(source, tmp_path / source.name))


def test_it_is_read(run: Path) -> None:
    directory = RunDirectory(run)
    summary = directory.summary()
    assert (directory.status(), summary["epochs"], summary["parameters"]) == ("completed", 2, 310)
    assert [row["epoch"] for row in directory.metrics()] == [1, 2]
    assert summary["spec"]["optimizer.name"] == "sgd"


def test_it_predicts_and_is_measured_as_when_it_was_made(run: Path) -> None:
    trained = dnntrain.load(run)
    assert trained(torch.zeros(2, 8, 8)).shape == (2, 10)
    measured = dnntrain.evaluate(run)
    recorded = json.loads((run / "summary.json").read_text())["test"]
    assert measured["test/loss"] == pytest.approx(recorded["test/loss"], rel=1e-5)
    assert measured["test/accuracy"] == recorded["test/accuracy"]


def test_it_goes_on(run: Path) -> None:
    record = dnntrain.resume(run, overrides=["training.epochs=3"])
    assert (record.status, record.summary["epochs"]) == ("completed", 3)
    assert [row["epoch"] for row in RunDirectory(run).metrics()] == [1, 2, 3]
