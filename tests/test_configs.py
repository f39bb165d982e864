"""Every shipped experiment file is valid, and, shortened and fed with small data, runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dnntrain
from dnntrain import spec
from dnntrain.parts.activations import activations
from dnntrain.parts.architectures import architectures
from dnntrain.parts.augmentations import augmentations
from dnntrain.parts.averages import averages
from dnntrain.parts.callbacks import callbacks
from dnntrain.parts.dropouts import dropouts
from dnntrain.parts.initializers import initializers
from dnntrain.parts.losses import losses
from dnntrain.parts.metrics import metrics
from dnntrain.parts.normalizations import normalizations
from dnntrain.parts.optimizers import optimizers
from dnntrain.parts.regularizers import regularizers
from dnntrain.parts.schedules import schedules
from dnntrain.registry import plain
from dnntrain.store import flatten

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))


@pytest.fixture(scope="module")
def small_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An npz file with 160 pictures in the shape of CIFAR-10."""
    path = tmp_path_factory.mktemp("pictures") / "pictures.npz"
    rng = np.random.default_rng(0)
    labels = np.arange(160) % 10
    pictures = (
        rng.integers(0, 200, (160, 32, 32, 3), dtype=np.uint8) + (5 * labels).astype(np.uint8)[:, None, None, None]
    )
    np.savez(path, x_train=pictures, y_train=labels, x_test=pictures[:40], y_test=labels[:40])
    return path


def test_there_are_configs() -> None:
    names = {path.stem for path in CONFIGS}
    assert {"digits_mlp", "cifar_swish", "cifar_batchnorm", "cifar_selu", "cifar_alpha_dropout"} <= names


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_config_runs(path: Path, small_pictures: Path, tmp_path: Path) -> None:
    overrides = ["training.epochs=1"]
    if spec.load(path).data.dataset.name != "digits":
        overrides += [f"data.dataset={{name: npz, path: {small_pictures}}}", "data.validation.size=32"]
    record = dnntrain.train(spec.load(path, overrides), runs=tmp_path, test=True)
    assert record.status == "completed"
    assert record.summary["epochs"] == 1
    assert np.isfinite(record.best["valid/loss"])
    assert record.test is not None
    assert 0.0 <= record.test["test/accuracy"] <= 1.0


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_config_says_what_it_is_for(path: Path) -> None:
    assert path.read_text().startswith("# ")


def test_every_architecture_is_in_a_file_and_two_parts_of_every_other_family() -> None:
    made = [spec.load(path) for path in CONFIGS]
    assert {each.model.architecture.name for each in made} == set(architectures.names())
    written = {str(value) for each in made for value in flatten(plain(each)).values()}
    written |= {
        str(item) for each in made for value in plain(each).values() if isinstance(value, list) for item in value
    }
    for family in (activations, augmentations, averages, callbacks, dropouts, initializers, losses, metrics):
        assert len(written & set(family.names())) > 1, family.name
    for family in (normalizations, optimizers, regularizers, schedules):
        assert len(written & set(family.names())) > 1, family.name


def test_the_exercise_is_the_textbooks() -> None:
    """Twenty layers of a hundred, the first 5,000 for validation, patience 20: what the reference figures are for."""
    for name, activation, lr in [("swish", "swish", 5e-5), ("batchnorm", "swish", 5e-4), ("selu", "selu", 7e-4)]:
        made = spec.load(next(path for path in CONFIGS if path.stem == f"cifar_{name}"))
        assert made.model.architecture.plain()["hidden"] == {"layers": 20, "units": 100}
        assert made.model.activation.name == activation
        assert (made.optimizer.name, made.optimizer.options.lr) == ("nadam", lr)
        assert (made.data.validation.size, made.data.validation.from_) == (5000, "first")
        assert made.callbacks[0].options.patience == 20
        assert made.data.batch_size == 32
