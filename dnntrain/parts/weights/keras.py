"""Keras's files of whole models (`.keras`, `.h5`) and its older files of weights, for stacks of layers.

Where Keras means something else than PyTorch: kernels are (in, out) and (height, width, in, out); pictures are
flattened with channels last; batch normalization has an epsilon of 1e-3 where PyTorch has 1e-5, counts its momentum the
other way round (0.99 there is 0.01 here), and keeps the running variance in the population form, so it goes on a little
differently when it is trained further.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ValidationError

from dnntrain.errors import DataError, shorten
from dnntrain.parts.weights.base import MOST_UNPACKED, Weights, library, reading
from dnntrain.parts.weights.stacking import LEGACY_ROLES, KerasLayer, Stacked, roles

_LARGEST_CONFIG: Final = 1 << 26


class _Written(BaseModel):
    """A layer in a model's description."""

    class_name: str
    config: dict[str, Any]
    inbound_nodes: list[Any] = []


class _Network(BaseModel):
    layers: list[_Written]


class _Model(BaseModel):
    """A model's description."""

    class_name: str
    config: _Network


def read_keras(path: Path) -> Weights:
    """Read a `.keras` file: a stack of dense, convolutional and batch-normalization layers and what has no weights.

    Raises:
        DataError: it is damaged, or a layer is of another kind.
        UsageError: h5py is not installed.
    """
    h5py = library("h5py", path)
    with reading(path, "a .keras file"):
        with zipfile.ZipFile(path) as archive:
            layers = _layers(_unzipped(archive, "config.json", _LARGEST_CONFIG), path)
            content = _unzipped(archive, "model.weights.h5", MOST_UNPACKED * path.stat().st_size)
        with h5py.File(io.BytesIO(content), "r") as file:
            folders = _folders(layers)
            return _stacked(layers, lambda i, layer: _numbered(file, f"layers/{folders[i]}/vars", layer, path), path)


def read_keras_h5(path: Path) -> Weights:
    """Read an `.h5` file of Keras: a whole model, or the weights of one as Keras 2 wrote them.

    Raises:
        DataError: it is damaged, a layer is of another kind, or it does not say in which order its layers come.
        UsageError: h5py is not installed.
    """
    h5py = library("h5py", path)
    with reading(path, "an HDF5 file"), h5py.File(path, "r") as file:
        if "model_config" in file.attrs:
            layers = _layers(_text(file.attrs["model_config"]), path)
            group = file["model_weights"]
            return _stacked(layers, lambda i, layer: _named(group, layer, path), path)
        if "layer_names" in file.attrs:
            names = [_text(name) for name in file.attrs["layer_names"]]
            guessed = [_guess(file, name) for name in names]
            return _stacked([each for each in guessed if each], lambda i, layer: _named(file, layer, path), path)
    raise DataError(
        f"{path} holds weights without the order of their layers, or no model of Keras at all\n"
        "    save the whole model: model.save('model.keras')"
    )


def _unzipped(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    if archive.getinfo(name).file_size > most:
        raise ValueError(f"{name} unpacks to more than it can hold")
    return archive.read(name)


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _layers(description: str | bytes, path: Path) -> list[KerasLayer]:
    """Return the layers of a stack in their order.

    Raises:
        DataError: the description cannot be read, or layers do not follow one another.
    """
    try:
        model = _Model.model_validate(json.loads(description))
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise DataError(f"{path}: its description of the model is no stack of layers (at {shorten(key)})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: its description of the model cannot be read: {error}") from error
    written = model.config.layers
    if model.class_name != "Sequential":
        for before, layer in zip(written, written[1:], strict=False):
            sources = _sources(layer.inbound_nodes)
            if sources != [before.config.get("name")]:
                name = shorten(str(layer.config.get("name")))
                raise DataError(
                    f"{path}: layer '{name}' does not simply follow the one before: only stacks can be read"
                )
    return [KerasLayer(each.class_name, each.config) for each in written]


def _sources(nodes: Any) -> list[str]:
    """Return the names of the layers that a layer's inputs come from, in the form of Keras 2 or 3."""
    if isinstance(nodes, Mapping):
        return [name for value in nodes.values() for name in _sources(value)]
    if not isinstance(nodes, list):
        return []
    if len(nodes) >= 3 and isinstance(nodes[0], str) and nodes[1:3] == [0, 0]:
        return [nodes[0]]
    return [name for node in nodes for name in _sources(node)]


def _folders(layers: list[KerasLayer]) -> list[str]:
    """Return where each layer's weights lie: its class in snake case, numbered from the second of a kind on."""
    counts: dict[str, int] = {}
    found = []
    for layer in layers:
        name = re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", layer.kind)).lower()
        found.append(f"{name}_{counts[name]}" if name in counts else name)
        counts[name] = counts.get(name, 0) + 1
    return found


def _numbered(file: Any, folder: str, layer: KerasLayer, path: Path) -> dict[str, np.ndarray]:
    """Read the weights of a layer of Keras 3, which are numbered."""
    expected = roles(layer)
    group = file[folder] if expected else {}
    if len(group) != len(expected):
        raise DataError(f"{path}: layer '{layer.name}' has {len(group)} weights, not {', '.join(expected)}")
    return {role: _array(file, group[str(i)], path) for i, role in enumerate(expected)}


def _named(file: Any, layer: KerasLayer, path: Path) -> dict[str, np.ndarray]:
    """Read the weights of a layer whose names end in what they are, such as `dense/kernel:0`."""
    group = file[layer.name] if roles(layer) else None
    if group is None:
        return {}
    names = [_text(name) for name in group.attrs["weight_names"]]
    return {_role(name): _array(file.file, group[name], path) for name in names}


def _role(name: str) -> str:
    return name.rpartition("/")[2].partition(":")[0]


def _guess(file: Any, name: str) -> KerasLayer | None:
    """Return what a layer must be that has such weights; None where it has none."""
    weights = {_role(_text(each)): file[name][_text(each)] for each in file[name].attrs["weight_names"]}
    if not weights:
        return None
    config = {"name": name, "use_bias": "bias" in weights, "center": "beta" in weights, "scale": "gamma" in weights}
    if "kernel" in weights and set(weights) <= {"kernel", "bias"}:
        kinds = {2: "Dense", 4: "Conv2D"}
        return KerasLayer(kinds.get(weights["kernel"].ndim, "a layer of other dimensions"), config)
    if "moving_mean" in weights and set(weights) <= LEGACY_ROLES:
        return KerasLayer("BatchNormalization", config)
    return KerasLayer("a layer with " + ", ".join(sorted(weights)), config)


def _array(file: Any, dataset: Any, path: Path) -> np.ndarray:
    """Read one weight, which must lie in this very file and be no larger than it can be."""
    if dataset.file != file or dataset.external or dataset.is_virtual:
        raise DataError(f"{path}: a weight lies in another file")
    if dataset.nbytes > MOST_UNPACKED * path.stat().st_size:
        raise ValueError("a weight unpacks to more than the file can hold")
    return np.asarray(dataset[()], dtype=np.float32)


def _stacked(
    layers: list[KerasLayer], weights: Callable[[int, KerasLayer], Mapping[str, np.ndarray]], path: Path
) -> Weights:
    stack = Stacked(path, layers)
    for i, layer in enumerate(layers):
        stack.add(layer, weights(i, layer))
    return stack.weights()
