"""A stack of Keras's layers under the names, and in the shapes, that layers have here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from dnntrain.errors import DataError, shorten
from dnntrain.parts.weights.base import Weights

LEGACY_ROLES: Final = frozenset(("gamma", "beta", "moving_mean", "moving_variance"))
_KERNELS: Final = {"Dense": ("dense", 2), "Conv2D": ("conv", 4)}
_NORM_ROLES: Final = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
# What has no weights and keeps channels, with what is an activation among it.
_ACTIVATIONS: Final = {"ReLU": "relu", "LeakyReLU": "leaky_relu", "ELU": "elu", "Softmax": "softmax"}
_WITHOUT: Final = frozenset(
    (
        *("InputLayer", "Activation", "Flatten", "Dropout", "SpatialDropout2D", "AlphaDropout", "GaussianDropout"),
        *("GaussianNoise", "ActivityRegularization", "MaxPooling2D", "AveragePooling2D", "GlobalAveragePooling2D"),
        *("GlobalMaxPooling2D", *_ACTIVATIONS),
    )
)
_CALLED: Final = {"linear": "identity", "silu": "swish", "hard_silu": "hardswish", "hard_swish": "hardswish"}


@dataclass(frozen=True)
class KerasLayer:
    """A layer as Keras describes it.

    Attributes:
        kind: its class.
        config: its options.
    """

    kind: str
    config: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What the file calls it."""
        return str(self.config.get("name", ""))


def roles(layer: KerasLayer) -> list[str]:
    """Return what the weights of a layer are, in Keras's order; none for a layer without weights."""
    config = layer.config
    if layer.kind in _KERNELS:
        return ["kernel", *(["bias"] if config.get("use_bias", True) else [])]
    if layer.kind == "BatchNormalization":
        learned = [role for role, key in (("gamma", "scale"), ("beta", "center")) if config.get(key, True)]
        return [*learned, "moving_mean", "moving_variance"]
    return []


class Stacked:
    """Names and turns the weights of one layer after the other.

    Args:
        path: the file, for messages.
        layers: all that will come.
    """

    def __init__(self, path: Path, layers: Sequence[KerasLayer]) -> None:
        self._path = path
        kernels = [layer for layer in layers if layer.kind in _KERNELS]
        self._output = kernels[-1] if kernels and kernels[-1].kind == "Dense" else None
        self._tensors: dict[str, Tensor] = {}
        self._activations: dict[str, str] = {}
        self._remarks: dict[str, None] = {}
        self._hidden = 0
        self._last = ""
        # Channels of the pictures that come by, or None behind the first dense layer, and where they are not known.
        self._channels: int | None = None
        self._channels_last = True

    def add(self, layer: KerasLayer, weights: Mapping[str, np.ndarray]) -> None:
        """Put a layer on top.

        Raises:
            DataError: it is of a kind that cannot be read, or its weights do not fit its kind.
        """
        if layer.kind in _KERNELS:
            self._add_kernel(layer, weights)
        elif layer.kind == "BatchNormalization":
            self._add_norm(layer, weights)
        elif layer.kind not in _WITHOUT:
            raise self._refusal(
                layer,
                "only stacks of Dense, Conv2D, BatchNormalization, activations, dropout, pooling and Flatten can be "
                "read",
            )
        elif layer.kind == "InputLayer":
            shape = layer.config.get("batch_shape", layer.config.get("batch_input_shape"))
            if isinstance(shape, list) and len(shape) == 4 and isinstance(shape[3], int):
                self._channels = shape[3]
        self._add_activation(layer)

    def weights(self) -> Weights:
        """Return what was put together.

        Raises:
            DataError: there was nothing to be read.
        """
        if not self._tensors:
            raise DataError(f"{self._path} holds no layers with weights")
        return Weights(self._tensors, str(self._path), self._activations, tuple(self._remarks))

    def _add_kernel(self, layer: KerasLayer, weights: Mapping[str, np.ndarray]) -> None:
        kind, axes = _KERNELS[layer.kind]
        kernel = self._weight(layer, weights, "kernel", axes)
        if layer is self._output:
            self._last = "output"
        else:
            self._hidden += 1
            self._last = f"{kind}{self._hidden}"
        if layer.kind == "Conv2D":
            self._channels, self._channels_last = kernel.shape[3], layer.config.get("data_format") != "channels_first"
            if layer.config.get("padding") == "same" and layer.config.get("strides") not in (None, [1, 1], 1):
                self._remark(
                    f"{layer.name}: Keras pads strided convolutions at the right and below, PyTorch all around"
                )
            turned = kernel.transpose(3, 2, 0, 1)
        else:
            turned = self._channels_first(kernel).T
            self._channels = None
        self._set("weight", turned)
        if "bias" in roles(layer):
            self._set("bias", self._weight(layer, weights, "bias", 1, size=kernel.shape[-1]))

    def _channels_first(self, kernel: np.ndarray) -> np.ndarray:
        """Reorder the inputs of a dense layer: from pixels with channels last to channels with their pixels.

        Input (p, c) of P x C, at p C + c, comes to c P + p; only the number of pixels matters, not their rows.
        """
        channels, inputs = self._channels, kernel.shape[0]
        if channels is None or not self._channels_last or inputs == channels or inputs % channels:
            return kernel
        return kernel.reshape(inputs // channels, channels, -1).swapaxes(0, 1).reshape(inputs, -1)

    def _add_norm(self, layer: KerasLayer, weights: Mapping[str, np.ndarray]) -> None:
        mean = self._weight(layer, weights, "moving_mean", 1)
        name = f"norm{self._hidden}" if self._last else "input_norm"
        if f"{name}.running_mean" in self._tensors or self._last == "output":
            raise self._refusal(layer, "only one batch normalization behind each hidden layer can be read")
        behind, self._last = self._last, name
        for role, ours in _NORM_ROLES.items():
            if role in roles(layer):
                self._set(ours, self._weight(layer, weights, role, 1, size=len(mean)))
            else:
                self._set(ours, np.full(len(mean), 1.0 if role == "gamma" else 0.0, dtype=np.float32))
        self._last = behind or name
        epsilon, momentum = layer.config.get("epsilon", 1e-3), layer.config.get("momentum", 0.99)
        if isinstance(epsilon, float) and isinstance(momentum, float):
            self._remark(
                "batch normalization is Keras's here: for the same numbers write normalization: "
                f"{{name: batch, eps: {epsilon:g}, momentum: {1 - momentum:.6g}}}"
            )

    def _add_activation(self, layer: KerasLayer) -> None:
        activation = layer.config.get("activation", _ACTIVATIONS.get(layer.kind))
        if layer.kind == "ReLU" and (layer.config.get("max_value") or layer.config.get("negative_slope")):
            raise self._refusal(layer, "a relu that is cut above, or slopes below, is no activation of ours")
        if isinstance(activation, Mapping):
            activation = activation.get("config", activation.get("class_name"))
        if isinstance(activation, str) and self._last and (activation != "linear" or self._is_kernel(layer)):
            self._activations[self._last] = _CALLED.get(activation, activation)

    @staticmethod
    def _is_kernel(layer: KerasLayer) -> bool:
        return layer.kind in _KERNELS

    def _weight(
        self, layer: KerasLayer, weights: Mapping[str, np.ndarray], role: str, axes: int, *, size: int | None = None
    ) -> np.ndarray:
        found = weights.get(role)
        if found is None or found.ndim != axes or size not in (None, len(found)):
            shape = "missing" if found is None else f"of shape {found.shape}"
            raise self._refusal(layer, f"its {role} is {shape}")
        return found

    def _set(self, ours: str, value: np.ndarray) -> None:
        self._tensors[f"{self._last}.{ours}"] = torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32))

    def _remark(self, text: str) -> None:
        self._remarks[text] = None

    def _refusal(self, layer: KerasLayer, why: str) -> DataError:
        return DataError(f"{self._path}: layer '{shorten(layer.name)}' is {shorten(layer.kind)}; {why}")
