"""Stacks of Keras's layers compute the same in a network of ours."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tinynetworks import network

from dnntrain.errors import DataError
from dnntrain.parts.normalizations import normalizations
from dnntrain.parts.weights import Weights, read_weights
from dnntrain.registry import Choice

os.environ.setdefault("KERAS_BACKEND", "torch")
pytest.importorskip("h5py")

# Keras warns of its own older format, among other things.
pytestmark = pytest.mark.filterwarnings("ignore")

ENDINGS = [".keras", ".h5"]
KERAS_BATCH = {"name": "batch", "eps": 1e-3, "momentum": 0.01}


@pytest.fixture(scope="module")
def keras() -> Any:
    return pytest.importorskip("keras")


def saved(model: Any, path: Path) -> Path:
    """Give every weight a random value, so that nothing is as it was made, and save the model."""
    draws = np.random.default_rng(0)
    for weight in model.weights:
        value = draws.normal(size=weight.shape).astype(np.float32) * 0.3
        weight.assign(np.abs(value) + 0.5 if "variance" in weight.path else value)
    model.save(path)
    return path


def fits(weights: Weights, model: torch.nn.Module) -> None:
    """Put weights into a network of ours, all of them and nothing else."""
    counters = {name: value for name, value in model.state_dict().items() if name.endswith("num_batches_tracked")}
    model.load_state_dict({**weights.tensors, **counters}, strict=True)
    model.eval()


def logits(model: Any, x: np.ndarray) -> np.ndarray:
    return np.asarray(model.predict(x, verbose=0))


def dense(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((5, 6, 3)),
            layers.Flatten(),
            layers.Dense(8, activation="tanh"),
            layers.Dropout(0.3),
            layers.Dense(7),
            layers.Activation("tanh"),
            layers.Dense(4),
        ]
    )


def convolutional(keras: Any, **norm: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((9, 8, 3)),
            layers.Conv2D(4, 3, padding="same", use_bias=False),
            layers.BatchNormalization(**norm),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Conv2D(6, 3, padding="same", use_bias=False),
            layers.BatchNormalization(**norm),
            layers.Activation("relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(5, use_bias=False),
            layers.BatchNormalization(**norm),
            layers.Activation("relu"),
            layers.Dense(3),
        ]
    )


def pictures(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_dense_stack_gives_the_same_logits(keras: Any, ending: str, tmp_path: Path) -> None:
    theirs = dense(keras)
    read = read_weights(saved(theirs, tmp_path / f"m{ending}"))
    assert read.activations == {"dense1": "tanh", "dense2": "tanh", "output": "identity"}
    assert read.remarks == ()
    ours = network({"name": "mlp", "hidden": [8, 7]}, (3, 5, 6), 4, activation="tanh")
    fits(read, ours)
    x = pictures(6, 5, 6, 3)
    got = ours(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).detach().numpy()
    np.testing.assert_allclose(got, logits(theirs, x), atol=1e-5)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("norm", [{}, {"scale": False}, {"center": False}], ids=str)
def test_a_convolutional_stack_with_batch_norm_gives_the_same_logits(
    keras: Any, norm: dict[str, Any], ending: str, tmp_path: Path
) -> None:
    theirs = convolutional(keras, **norm)
    read = read_weights(saved(theirs, tmp_path / f"m{ending}"))
    assert set(read.activations.values()) == {"relu", "identity"}
    options = {"name": "cnn", "widths": [4, 6], "head": "flatten", "dense": [5]}
    ours = network(options, (3, 9, 8), 3, normalization=KERAS_BATCH)
    fits(read, ours)
    x = pictures(5, 9, 8, 3)
    got = ours(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).detach().numpy()
    np.testing.assert_allclose(got, logits(theirs, x), atol=1e-5)


def test_the_remark_on_batch_norm_is_a_line_that_a_file_may_hold(keras: Any, tmp_path: Path) -> None:
    import yaml

    (remark,) = read_weights(saved(convolutional(keras, momentum=0.9), tmp_path / "m.keras")).remarks
    written = yaml.safe_load(remark[remark.index("{") :])
    assert written == {"name": "batch", "eps": 0.001, "momentum": 0.1}
    assert isinstance(normalizations.choose(written), Choice)


def test_a_functional_stack_is_read_and_a_branching_one_refused(keras: Any, tmp_path: Path) -> None:
    inputs = keras.Input((4,))
    first = keras.layers.Dense(4, name="first")(inputs)
    stack = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.ReLU()(first)))
    read = read_weights(saved(stack, tmp_path / "m.keras"))
    assert {name: tuple(t.shape) for name, t in read.tensors.items()} == {
        "dense1.weight": (4, 4),
        "dense1.bias": (4,),
        "output.weight": (2, 4),
        "output.bias": (2,),
    }
    assert read.activations == {"dense1": "relu", "output": "identity"}
    aside = keras.layers.Dense(4, name="aside")(inputs)
    branching = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.ReLU()(aside + first)))
    for ending in ENDINGS:
        with pytest.raises(DataError, match="does not simply follow the one before: only stacks can be read"):
            read_weights(saved(branching, tmp_path / f"b{ending}"))


def test_another_kind_of_layer_is_named(keras: Any, tmp_path: Path) -> None:
    layers = keras.layers
    model = keras.Sequential([keras.Input((5, 4)), layers.LSTM(3, name="memory"), layers.Dense(2)])
    for ending in ENDINGS:
        with pytest.raises(DataError, match="layer 'memory' is LSTM; only stacks of Dense, Conv2D"):
            read_weights(saved(model, tmp_path / f"m{ending}"))
    cut = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.ReLU(max_value=6.0, name="six")])
    with pytest.raises(DataError, match="layer 'six' is ReLU; a relu that is cut above"):
        read_weights(saved(cut, tmp_path / "m.keras"))


def test_weights_of_keras_3_without_their_model_are_refused(keras: Any, tmp_path: Path) -> None:
    model = dense(keras)
    model.save_weights(tmp_path / "m.weights.h5")
    with pytest.raises(DataError, match=r"without the order of their layers.*\n.*model\.save\('model\.keras'\)"):
        read_weights(tmp_path / "m.weights.h5")


def test_weights_of_keras_2_without_their_model_are_read(keras: Any, tmp_path: Path) -> None:
    import h5py

    whole = read_weights(saved(convolutional(keras), tmp_path / "m.h5"))
    with h5py.File(tmp_path / "m.h5") as model, h5py.File(tmp_path / "w.h5", "w") as weights:
        for name in model["model_weights"]:
            model.copy(model["model_weights"][name], weights)
        weights.attrs["layer_names"] = model["model_weights"].attrs["layer_names"]
    alone = read_weights(tmp_path / "w.h5")
    assert list(alone.tensors) == list(whole.tensors)
    assert all(torch.equal(alone.tensors[name], whole.tensors[name]) for name in whole.tensors)


def test_a_weight_in_another_file_is_not_followed(keras: Any, tmp_path: Path) -> None:
    import h5py

    saved(dense(keras), tmp_path / "m.h5")
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["kernel"] = np.zeros((90, 8), np.float32)
    with h5py.File(tmp_path / "m.h5", "a") as file:
        group = file[next(f"model_weights/{each}" for each in file["model_weights"] if each.startswith("dense"))]
        kernel = group.attrs["weight_names"][0]
        del group[kernel]
        group[kernel] = h5py.ExternalLink(str(tmp_path / "other.h5"), "kernel")
    with pytest.raises(DataError, match="a weight lies in another file"):
        read_weights(tmp_path / "m.h5")


@pytest.mark.parametrize("config", ["{", "[]", '{"class_name": "Sequential"}', "[" * 100_000, "null"])
def test_a_description_that_is_none_is_one_error(config: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("config.json", config)
        archive.writestr("model.weights.h5", b"")
    with pytest.raises(DataError, match=r"m\.keras: its description"):
        read_weights(tmp_path / "m.keras")
