"""Every shipped experiment file is valid, and, shortened and fed with small data, runs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
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
from dnntrain.parts.pretraining import pretrainings
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
    made = spec.load(path)
    overrides = ["training.epochs=1", *(["pretraining.epochs=1"] if made.pretraining else [])]
    if made.data.dataset.name != "digits":
        overrides += [f"data.dataset={{name: npz, path: {small_pictures}}}", "data.validation.fraction=0.2"]
    made = spec.load(path, overrides)
    if made.model.reuse is not None:
        source = next(each for each in CONFIGS if each.stem == made.model.reuse.from_)
        dnntrain.train(spec.load(source, overrides), runs=tmp_path)
    record = dnntrain.train(made, runs=tmp_path, test=True)
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
    for family in (normalizations, optimizers, pretrainings, regularizers, schedules):
        assert len(written & set(family.names())) > 1, family.name


# A file for each group of techniques, and what makes it one: the group's own key says something else than the defaults.
GROUPS: dict[str, tuple[str, Callable[[spec.Spec], object]]] = {
    "initializers": ("digits_initializers", lambda made: made.model.initializer != "auto"),
    "activations": ("cifar_swish", lambda made: made.model.activation != "auto"),
    "normalizations": ("cifar_batchnorm", lambda made: made.model.normalization.name == "batch"),
    "normalizations inside": ("digits_wide_resnet", lambda made: made.model.normalization.name == "group"),
    "self-normalization": ("cifar_selu", lambda made: made.model.initializer.name == "lecun_normal"),
    "dropouts": ("cifar_alpha_dropout", lambda made: made.model.dropout[0].name == "alpha"),
    "mc dropout": ("digits_mc_dropout", lambda made: made.model.dropout),
    "optimizer groups": ("digits_optimizer_groups", lambda made: made.optimizer.options.groups),
    "warm-up": ("digits_optimizer_groups", lambda made: made.schedule.options.warmup),
    "schedules": ("digits_schedules", lambda made: made.schedule.name == "performance"),
    "one cycle": ("cifar_one_cycle", lambda made: made.schedule.name == "one_cycle"),
    "regularizers": ("digits_regularized", lambda made: len(made.regularizers) > 1),
    "label smoothing": ("digits_regularized", lambda made: made.loss.options.label_smoothing),
    "clipping": ("digits_lstm_clipped", lambda made: made.training.clip),
    "terminate_on_nan": ("digits_rnn_clipped", lambda made: made.callbacks[0].name == "terminate_on_nan"),
    "averages": ("digits_averaging", lambda made: made.training.average),
    "callbacks": ("digits_schedules", lambda made: made.callbacks[0].options.warmup),
    "losses and metrics": ("digits_losses", lambda made: made.loss.name == "binary_cross_entropy"),
    "augmentations": ("mnist_augmented", lambda made: len(made.data.augment) > 1),
    "recurrent nets": ("digits_gru", lambda made: made.model.architecture.name == "gru"),
    "transformers": ("digits_vit", lambda made: made.model.architecture.name == "vit"),
    "transfer": ("transfer_fashion_b", lambda made: made.model.reuse and len(made.training.stages) > 1),
    "pretraining": ("mnist_pretrained", lambda made: made.pretraining[0].name == "autoencoder"),
    "pretraining by layers": ("digits_rbm", lambda made: made.pretraining[0].name == "rbm"),
    "vanishing gradients": ("digits_sigmoid", lambda made: made.model.activation.name == "sigmoid"),
}


@pytest.mark.parametrize("group", GROUPS)
def test_there_is_a_file_for_the_group(group: str) -> None:
    stem, shows = GROUPS[group]
    path = next(path for path in CONFIGS if path.stem == stem)
    assert shows(spec.load(path)), f"{path.name} is to show {group}"


def test_every_digits_file_stands_for_a_group_or_an_architecture() -> None:
    shown = {stem for stem, _ in GROUPS.values()} | {"digits_mlp", "digits_cnn"}
    assert {path.stem for path in CONFIGS if path.stem.startswith("digits")} <= shown


def suggested(path: Path) -> list[list[str]]:
    """Return the settings that each line of a file's comments suggests."""
    head = [line.lstrip("# ") for line in path.read_text().splitlines() if line.startswith("#")]
    found = []
    for line in head:
        quoted = re.findall(r"--set ('[^']*'|[^\s;]+)", line)
        found.append([shlex.split(each)[0].rstrip(",.:") for each in quoted])
    return [each for each in found if each]


SUGGESTIONS = [(path, settings) for path in CONFIGS for settings in suggested(path)]


@pytest.mark.parametrize(("path", "settings"), SUGGESTIONS, ids=lambda value: getattr(value, "stem", str(value)))
def test_a_change_that_a_comment_suggests_is_valid_and_a_change(path: Path, settings: list[str]) -> None:
    assert spec.load(path, settings) != spec.load(path)


def test_there_are_many_suggestions() -> None:
    assert len(SUGGESTIONS) > 20


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
