"""Files that hold tensors by name: PyTorch's state dicts and safetensors."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from dnntrain.errors import DataError
from dnntrain.parts.weights.base import Weights, library, reading

WRAPPERS: Final = ("state_dict", "model_state_dict", "model")
"""Under these keys programs keep the state dict in a checkpoint that holds more; dnntrain's own is among them."""
PREFIXES: Final = ("module.", "_orig_mod.")
"""What stands before all names where the network was wrapped in a module."""


def read_torch(path: Path) -> Weights:
    """Read a `.pt` or `.pth` file: a state dict, or a checkpoint with one in it.

    Only tensors and plain values are accepted, so reading it cannot run code.

    Raises:
        DataError: it is damaged, or holds something else.
    """
    try:
        with reading(path, "a state dict"):
            loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"refused to read {path}: it is damaged, or holds more than tensors and plain values, and loading that "
            "could run code\n    save the state dict alone: torch.save(model.state_dict(), ...)"
        ) from error
    for key in WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
            break
    if not isinstance(loaded, dict):
        raise DataError(f"{path} holds no state dict, but a value of type {type(loaded).__name__}")
    return Weights(_named(loaded, path), str(path))


def read_safetensors(path: Path) -> Weights:
    """Read a `.safetensors` file.

    Raises:
        DataError: it is damaged.
        UsageError: safetensors is not installed.
    """
    safetensors = library("safetensors", path)
    load_file = library("safetensors.torch", path).load_file
    try:
        with reading(path, "a safetensors file"):
            loaded = load_file(path)
    except safetensors.SafetensorError as error:
        raise DataError(f"{path} is damaged, or not a safetensors file: {error}") from error
    return Weights(_named(loaded, path), str(path))


def _named(loaded: dict[Any, Any], path: Path) -> dict[str, Tensor]:
    """Return the tensors of a state dict, without the prefixes that all of them have."""
    tensors = {name: value for name, value in loaded.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if not tensors:
        raise DataError(f"{path} holds no tensors by name")
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors
