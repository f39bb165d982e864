"""Reading a file of weights, whatever wrote it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from dnntrain.errors import DataError
from dnntrain.parts.weights.base import Weights, renamed
from dnntrain.parts.weights.keras import read_keras, read_keras_h5
from dnntrain.parts.weights.onnx import read_onnx
from dnntrain.parts.weights.tensors import read_safetensors, read_torch

_READERS: Final[dict[str, Callable[[Path], Weights]]] = {
    ".h5": read_keras_h5,
    ".hdf5": read_keras_h5,
    ".keras": read_keras,
    ".onnx": read_onnx,
    ".pt": read_torch,
    ".pth": read_torch,
    ".safetensors": read_safetensors,
}


def read_weights(path: Path, *, names: Mapping[str, str] | None = None) -> Weights:
    """Read the weights in a file: of PyTorch, safetensors, Keras or ONNX, told apart by its ending.

    State dicts (`.pt`, `.pth`, `.safetensors`) keep the names that they have. Layers of Keras get ours, by their order:
    conv1, norm1, conv2, ..., dense3, ..., output. Initializers of ONNX are named by nobody in particular, so `names` is
    needed there.

    Args:
        path: the file.
        names: from a name of ours to one of the file: of a tensor (`dense1.weight`) or of a layer (`dense1`). Where
            it is given, nothing else is read.

    Raises:
        DataError: there is no such file, it is damaged, of another kind, or holds what no stack of layers has.
        UsageError: the library that reads the format is not installed.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path} is no file of weights: its name must end in {', '.join(sorted(_READERS))}")
    # os.path answers where pathlib raises: for a name that is too long, or below a folder that may not be entered.
    if not os.path.isfile(path):
        raise DataError(f"there is no file {path}")
    weights = reader(path)
    if names is not None:
        return renamed(weights, names)
    if reader is read_onnx:
        known = ", ".join(sorted(weights.tensors))
        raise DataError(
            f"{path} names its tensors as it likes, so `names` must say which layer of ours each one belongs to\n"
            f"    it holds: {known}"
        )
    return weights
