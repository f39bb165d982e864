"""Standardizing: what every sample goes through before the network sees it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor, nn

from dnntrain.errors import DataError

Standardization = Literal["none", "unit", "channel", "feature"]

# 258 squares of 255 add up to less than 2^24, below which float32 counts exactly.
_EXACT_ROWS: Final = 258
_CHUNK_VALUES: Final = 1 << 20
# Deviations below float32's smallest normal number count as 0: the inverse of some of them would overflow.
_SMALLEST: Final = float(np.finfo(np.float32).tiny)


class Standardize(nn.Module):
    """Shift and scale every sample: y = x scale + shift, that is (x - mean) / deviation.

    Shape-preserving: (N, ...) of uint8 or any float type in, the same shape in float32 out. `scale` and `shift` are
    buffers that broadcast against one sample, so they move with the module and are saved with it.

    Args:
        mean: what becomes 0; broadcasts against one sample.
        deviation: what becomes 1, above 0; the same shape.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: np.ndarray | float = 0.0, deviation: np.ndarray | float = 1.0) -> None:
        super().__init__()
        scale = 1.0 / np.asarray(deviation, dtype=np.float64)
        shift = -np.asarray(mean, dtype=np.float64) * scale
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))
        self.register_buffer("shift", torch.tensor(shift, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """Return the standardized samples, float32."""
        return torch.addcmul(self.shift, x.to(torch.float32), self.scale)


def fit_standardize(
    mode: Standardization, split_x: np.ndarray, index: np.ndarray, *, full_scale: float, layout: str
) -> Standardize:
    """Measure the training part and return the module that standardizes by it.

    `none` only converts to float32; `unit` divides by `full_scale`; `channel` takes one mean and one deviation per
    channel of a picture, over all pixels; `feature` one for each value of a sample (each pixel of each channel), or,
    in sequences, for each feature over all time steps. Deviations are of the population form,
    sqrt(mean((x - mean)^2)); where one is 0 it counts as 1, so that a constant value becomes 0.

    Args:
        mode: what to do.
        split_x: the array that holds the samples, shape (N, ...); may be mapped into memory.
        index: the rows of the training part; at least one.
        full_scale: the value that `unit` turns into 1.
        layout: `pictures`, `features` or `sequences`.

    Raises:
        DataError: the mode does not fit the layout.
    """
    if mode == "none":
        return Standardize()
    if mode == "unit":
        if layout != "pictures" and full_scale == 1.0:
            raise DataError(f"standardize: 'unit' needs data with a known full scale, not {layout}; use 'feature'")
        return Standardize(0.0, full_scale)
    if mode == "channel" and layout != "pictures":
        raise DataError(f"standardize: 'channel' needs pictures, not {layout}; use 'feature'")
    pooled = {"channel": (1, 2), "feature": (0,) if layout == "sequences" else ()}[mode]
    measure = _measure_bytes if split_x.dtype == np.uint8 else _measure_floats
    mean, variance = measure(split_x, index, pooled)
    deviation = np.sqrt(variance)
    return Standardize(mean, np.where(deviation < _SMALLEST, 1.0, deviation))


def _chunks(x: np.ndarray, index: np.ndarray, rows: int) -> Iterator[np.ndarray]:
    """Walk through the rows of the index, a few at a time, so that memory stays small."""
    for start in range(0, len(index), rows):
        part = index[start : start + rows]
        first, last = int(part[0]), int(part[-1])
        # A slice of neighbouring rows needs no copy.
        neighbours = last - first + 1 == len(part) and bool(np.all(np.diff(part) == 1))
        yield x[first : last + 1] if neighbours else x[part]


def _measure_bytes(x: np.ndarray, index: np.ndarray, pooled: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance of bytes from exact integer sums: (n sum x^2 - (sum x)^2) / n^2.

    Sums of few rows are exact in float32, where a product with a row of ones is much faster than integer sums.
    """
    width = int(np.prod(x.shape[1:]))
    sums, squares = np.zeros((2, width))
    ones = np.ones(_EXACT_ROWS, dtype=np.float32)
    for chunk in _chunks(x, index, _EXACT_ROWS):
        values = chunk.reshape(len(chunk), width).astype(np.float32)
        sums += ones[: len(chunk)] @ values
        np.square(values, out=values)
        squares += ones[: len(chunk)] @ values
    shape = x.shape[1:]
    total = sums.reshape(shape).sum(axis=pooled, keepdims=bool(pooled))
    total_squares = squares.reshape(shape).sum(axis=pooled, keepdims=bool(pooled))
    count = len(index) * int(np.prod([shape[axis] for axis in pooled], dtype=np.int64))

    def variance(value: float, square: float) -> float:
        # In Python's integers: the products outgrow 64 bits.
        return (count * int(square) - int(value) ** 2) / count**2

    return total / count, np.vectorize(variance, otypes=[np.float64])(total, total_squares)


def _measure_floats(x: np.ndarray, index: np.ndarray, pooled: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance of floats in float64, from differences to one sample.

    A constant value differs by exactly 0, so its variance is exactly 0; and the sample it is measured from lies
    within sqrt(n) deviations of the mean, which bounds the relative error by n eps.
    """
    origin = x[index[0]].astype(np.float64)
    if pooled:
        first = tuple(slice(0, 1) if axis in pooled else slice(None) for axis in range(origin.ndim))
        origin = origin[first]
    sums = np.zeros_like(origin)
    squares = np.zeros_like(origin)
    axes = (0, *(axis + 1 for axis in pooled))
    rows = max(1, _CHUNK_VALUES // int(np.prod(x.shape[1:])))
    for chunk in _chunks(x, index, rows):
        difference = chunk.astype(np.float64) - origin
        sums += difference.sum(axis=axes).reshape(origin.shape)
        np.square(difference, out=difference)
        squares += difference.sum(axis=axes).reshape(origin.shape)
    count = len(index) * int(np.prod([x.shape[axis + 1] for axis in pooled], dtype=np.int64))
    variance = squares / count - np.square(sums / count)
    return origin + sums / count, np.maximum(variance, 0.0)
