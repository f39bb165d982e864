"""Scripts of runs that begin with layers of others, and of those that freeze layers or have stages."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from ejectedpairs import Pair, check_readable, check_repeated, ejected
from safetensors.torch import save_file

import dnntrain
from dnntrain import ejecting
from dnntrain import spec as specs
from dnntrain.ejecting.whole import objections
from dnntrain.errors import ExportError
from dnntrain.store import RunDirectory

DIGITS = {"dataset": "digits", "limit": 100}
TRAINING = {"threads": 1, "device": "cpu"}
MLP = {"name": "mlp", "hidden": [12, 8, 6]}


def source_of(folder: Path, model: dict[str, Any]) -> Path:
    """Train what layers are taken from: for an epoch on half of the digits."""
    case = {
        "name": "source",
        "data": {**DIGITS, "classes": [5, 6, 7, 8, 9], "standardize": "unit"},
        "model": model,
        "training": {**TRAINING, "epochs": 1},
    }
    return dnntrain.train(case, runs=folder / "runs").path


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(run / "checkpoints" / "best.pt", weights_only=True)["model"])


def reusing(folder: Path) -> list[dict[str, Any]]:
    """Return experiments that take over layers from a run, a checkpoint under other names, and safetensors."""
    mlp = {"architecture": MLP, "activation": "relu", "normalization": "batch"}
    cnn = {"architecture": {"name": "cnn", "widths": [4, 6]}, "normalization": "batch"}
    run, another = source_of(folder, mlp), source_of(folder, cnn)
    renamed = {f"module.net.{name}": value for name, value in weights_of(another).items()}
    torch.save({"state_dict": renamed, "epoch": 3}, folder / "cnn.pth")
    save_file(weights_of(another), folder / "cnn.safetensors")
    names = {"conv1": "net.conv1", "norm1": "net.norm1", "conv2.weight": "net.conv2.weight"}
    return [
        {
            "data": {**DIGITS, "classes": [0, 1, 2, 3]},
            "model": {
                **mlp,
                "reuse": {"from": str(run)},
                "dropout": {"name": "dropout", "rate": 0.2, "layers": "last"},
            },
            "optimizer": {"name": "adamw", "lr": 0.01},
            "schedule": {"name": "performance", "patience": 1, "min_delta": 9.0, "warmup": 5},
            "training": {
                **TRAINING,
                "stages": [
                    {"epochs": 4, "freeze": "reused"},
                    {"epochs": 4, "unfreeze": 1, "lr": 9.0, "layer_decay": 0.5},
                    {"epochs": 2, "unfreeze": "all", "lr": 0.001, "layer_decay": 0.5},
                ],
            },
            "callbacks": [{"name": "early_stopping", "patience": 1, "min_delta": 1e6, "warmup": 1}],
        },
        {
            "data": {**DIGITS, "standardize": "unit"},
            "model": {**cnn, "reuse": {"from": str(folder / "cnn.pth"), "keep": 1, "freeze": "all", "names": names}},
            "regularizers": [{"name": "l2", "strength": 1e-3}],
            "training": {**TRAINING, "epochs": 2},
        },
        {
            "data": {**DIGITS, "standardize": "none", "augment": ["horizontal_flip"]},
            "model": {
                **cnn,
                "reuse": {"from": str(folder / "cnn.safetensors"), "keep": ["conv*"], "freeze": ["conv2"]},
            },
            "optimizer": {"name": "radam", "weight_decay": 0.1},
            "regularizers": [{"name": "gradient_noise", "eta": 0.1}],
            "training": {**TRAINING, "epochs": 2},
        },
    ]


def staged() -> list[dict[str, Any]]:
    """Return experiments with stages, and new layers alone."""
    return [
        {
            "data": {**DIGITS, "validation": "none"},
            "model": {"architecture": {"name": "resnet", "depth": 8, "width": 3}},
            "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9},
            "schedule": {"name": "cosine", "warmup": 3},
            "training": {
                **TRAINING,
                "stages": [
                    {"epochs": 1, "freeze": ["conv", "stage1"], "lr": 0.003, "layer_decay": 0.9},
                    {"epochs": 2, "unfreeze": "stage1", "schedule": {"name": "exponential", "s": 3}},
                    {"epochs": 5, "freeze": 1, "schedule": "constant"},
                ],
                "epochs": 4,
                "cache_frozen": False,
                "monitor": "train/loss",
            },
            "callbacks": [],
        },
        {
            "data": {**DIGITS, "validation": {"size": 40}},
            "model": {"architecture": MLP, "activation": {"name": "prelu"}, "normalization": "layer"},
            "optimizer": {"name": "adam", "lr": 0.01},
            "schedule": {"name": "one_cycle", "max_lr": 0.02},
            "training": {
                **TRAINING,
                "stages": [{"epochs": 2}, {"epochs": 2, "freeze": 2}, {"epochs": 1, "lr": 0.005}],
                "accumulate": 2,
            },
            "callbacks": [{"name": "early_stopping", "patience": 1, "restore_best": False}],
        },
        {
            # What is kept of these layers lies in another order in memory than what they give, and so does the noise.
            "data": DIGITS,
            "model": {
                "architecture": {"name": "cnn", "widths": [4, 4], "convolutions": 2},
                "normalization": {"name": "layer", "position": "after"},
                "dropout": {"name": "gaussian", "rate": 0.2},
            },
            "training": {**TRAINING, "stages": [{"epochs": 1, "freeze": "conv1"}]},
        },
    ]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    """Runs, each with its script, which has been run."""
    folder = tmp_path_factory.mktemp("transfer")
    return ejected(folder, ((case, number != 3) for number, case in enumerate([*reusing(folder), *staged()])))


def test_the_script_repeats_the_run(pairs: list[Pair]) -> None:
    for pair in pairs:
        check_repeated(pair)


def test_the_cases_reach_what_they_are_for(pairs: list[Pair]) -> None:
    scripts = [pair.script.read_text() for pair in pairs]
    assert ["outputs_of(" in script for script in scripts] == [True, True, False, False, True, True]
    # Normalizations in layers that are computed once need not be held.
    assert ["held" in script for script in scripts] == [False, False, True, True, False, False]
    assert ["parameter_groups(" in script for script in scripts] == [True, False, False, True, False, False]
    stages = [[row.get("stage") for row in pair.run.metrics()] for pair in pairs]
    # Early stopping ends a stage, not the training; the last stage of the fourth is cut.
    assert stages[0] == [1, 1, 1, 2, 2, 2, 3, 3] and stages[1] == stages[2] == [None, None]
    # None of the second is better than the first, so that the third begins with weights of that.
    assert min(row["valid/loss"] for row in pairs[0].run.metrics()[3:6]) > pairs[0].run.metrics()[2]["valid/loss"]
    assert stages[3] == [1, 2, 2, 3] and stages[4][-1] == 3


def test_a_reader_finds_the_scripts_in_order(pairs: list[Pair]) -> None:
    check_readable(pairs)


def imported(script: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("script", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_script_says_where_layers_should_lie_and_whether_they_have_changed(
    pairs: list[Pair], tmp_path: Path, number: int
) -> None:
    script: Any = imported(pairs[number].script)
    copied = Path(shutil.copy(script.SOURCE, tmp_path))
    script.SOURCE = copied
    assert script.read_source()
    copied.write_bytes(copied.read_bytes() + b" ")
    with pytest.raises(SystemExit, match="has changed"):
        script.read_source()
    copied.unlink()
    with pytest.raises(SystemExit, match="is not there"):
        script.read_source()


@pytest.fixture
def moved(pairs: list[Pair], tmp_path: Path) -> RunDirectory:
    """A copy of a run whose source lies beside it."""
    source = Path(shutil.copytree(pairs[0].case["model"]["reuse"]["from"], tmp_path / "source"))
    run = RunDirectory(Path(shutil.copytree(pairs[0].run.path, tmp_path / "runs" / pairs[0].run.name)))
    text = run.spec_text().replace(pairs[0].case["model"]["reuse"]["from"], str(source))
    (run.path / "spec.yaml").write_text(text)
    return run


def test_layers_that_are_not_what_was_reused_are_refused(moved: RunDirectory, tmp_path: Path) -> None:
    ejecting.eject(moved.path, output=tmp_path / "fine.py")
    best = tmp_path / "source" / "checkpoints" / "best.pt"
    best.write_bytes(best.read_bytes() + b" ")
    with pytest.raises(ExportError, match="does not hold the layers any more"):
        ejecting.eject(moved.path, output=tmp_path / "script.py")
    best.unlink()
    with pytest.raises(ExportError, match="does not hold the layers any more"):
        ejecting.eject(moved.path, output=tmp_path / "script.py")
    moved.write_environment({key: value for key, value in moved.environment().items() if key != "reused"})
    with pytest.raises(ExportError, match="model.reuse: a run that does not say what it reused"):
        ejecting.eject(moved.path, output=tmp_path / "script.py")
    assert not (tmp_path / "script.py").exists()


def test_a_run_that_kept_other_outputs_is_refused(moved: RunDirectory, tmp_path: Path) -> None:
    moved.write_environment({**moved.environment(), "step_strategy": {}})
    with pytest.raises(ExportError, match="training.cache_frozen: auto was decided otherwise"):
        ejecting.eject(moved.path, output=tmp_path / "script.py")


def test_stages_of_which_none_had_a_best_epoch_are_refused(moved: RunDirectory, tmp_path: Path) -> None:
    moved.write_summary({**moved.summary(), "best": {"epoch": None, "metrics": {}}})
    with pytest.raises(ExportError, match="training.stages: no epoch of the run is the best"):
        ejecting.eject(moved.path, output=tmp_path / "script.py")


STAGES = "training.stages=[{epochs: 1, freeze: 1}, {epochs: 1, unfreeze: all}]"
PLAIN = [
    "model.activation=relu",
    "model.initializer=he_normal",
    "model.output_initializer=he_normal",
    "model.normalization=none",
    "loss=cross_entropy",
    "metrics=accuracy",
    "callbacks=[]",
]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("model.architecture={name: vit, patch: 4}", "vectors of positions or tokens"),
        ("optimizer=muon", "optimizer: muon"),
        ("optimizer={name: adam, groups: [{layers: output, lr: 0.1}]}", "optimizer.groups"),
        ("training.average=ema", "training.average"),
        ("callbacks=[terminate_on_nan]", "callbacks: terminate_on_nan"),
        ("regularizers=[{name: l2, strength: 0.1, layers: output}]", "regularizers of some layers"),
        ("data.resize=12", "data.resize, unless training.cache_frozen is false"),
        ("training.stages.1.schedule=performance", "schedules of several kinds"),
        ("training.stages.1.schedule=one_cycle", "schedules of several kinds"),
    ],
)
def test_what_is_refused_beside_stages_and_frozen_layers(change: str, told: str) -> None:
    text = "{data: {dataset: digits}, model: {architecture: {name: mlp, hidden: [4]}}, schedule: constant}"
    spec = specs.loads(text, source="spec.yaml", overrides=[*PLAIN, STAGES, change])
    assert objections(spec) == [f"training.stages with {told}"]
    if "stages" not in change:
        frozen = [*PLAIN, "model.reuse={from: another, freeze: 1}", change]
        spec = specs.loads(text, source="spec.yaml", overrides=frozen)
        assert objections(spec) == [f"model.reuse.freeze with {told}"]
        spec = specs.loads(text, source="spec.yaml", overrides=[*PLAIN, "model.reuse={from: another}", change])
        assert objections(spec) == []
