"""Resizing and standardizing: what every sample goes through before the network sees it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from dnntrain import interruption
from dnntrain.errors import DataError

Standardization = Literal["none", "unit", "channel", "feature"]

# 258 squares of 255 add up to less than 2^24, below which float32 counts exactly.
_EXACT_ROWS: Final = 258
_CHUNK_VALUES: Final = 1 << 20
# Weighted sums of whole numbers often end in a half, which rounding errors take to either side of it. A little is added
# so that all of them go up, on every device and in an exported network.
HALF: Final = 0.5007
# Deviations below float32's smallest normal number count as 0: the inverse of some of them would overflow.
_SMALLEST: Final = float(np.finfo(np.float32).tiny)


class Resize(nn.Module):
    """Bring pictures to one size: (N, C, H, W) to (N, C, height, width), uint8 or any float type, which is kept.

    A pixel is the average of the pixels around its place, weighted by a triangle whose half-width is one pixel of the
    larger of the two pictures: bilinear interpolation where pictures grow, and where they shrink the same with
    antialiasing, as torchvision and Pillow do it. Bytes are rounded, halves up. Pictures of that size already are left
    alone.

    Args:
        size: height and width.
        whole: pictures of a float type hold bytes too, and are rounded likewise.
    """

    def __init__(self, size: tuple[int, int], *, whole: bool = False) -> None:
        super().__init__()
        self.size = size
        self.whole = whole

    @override
    def forward(self, x: Tensor) -> Tensor:
        if tuple(x.shape[-2:]) == self.size:
            return x
        # In single precision whatever the type and the device, so that both give the same pictures.
        resized = functional.interpolate(
            x.to(torch.float32), size=self.size, mode="bilinear", align_corners=False, antialias=True
        )
        if self.whole or not x.is_floating_point():
            resized = resized.add_(HALF).floor_().clamp_(0, 255)
        return resized.to(x.dtype)

    @override
    def extra_repr(self) -> str:
        return f"size={self.size}"


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


def rows_at_once(shape: tuple[int, ...]) -> int:
    """Return how many samples of a shape are measured at a time; sums of floats are rounded once for each time."""
    return max(1, _CHUNK_VALUES // max(1, int(np.prod(shape))))


@dataclass(frozen=True)
class _Rows:
    """The rows of an array that are measured, as they are once they are resized."""

    x: np.ndarray
    index: np.ndarray
    resize: Resize | None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        shape = self.x.shape[1:]
        return shape if self.resize is None else (*shape[:-2], *self.resize.size)

    def chunks(self, most: int) -> Iterator[np.ndarray]:
        """Walk through the rows, a few and at most so many at a time, so that memory stays small."""
        rows = min(most, rows_at_once(self.shape))
        for start in range(0, len(self.index), rows):
            interruption.check()
            part = self.index[start : start + rows]
            first, last = int(part[0]), int(part[-1])
            # A slice of neighbouring rows needs no copy.
            neighbours = last - first + 1 == len(part) and bool(np.all(np.diff(part) == 1))
            yield self._resized(self.x[first : last + 1] if neighbours else self.x[part])

    def _resized(self, chunk: np.ndarray) -> np.ndarray:
        return chunk if self.resize is None else np.asarray(self.resize(torch.from_numpy(chunk)))


def fit_standardize(
    mode: Standardization,
    split_x: np.ndarray,
    index: np.ndarray,
    *,
    full_scale: float,
    layout: str,
    resize: Resize | None = None,
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
        resize: what pictures go through first: statistics are those of the resized ones. Each is resized once for it.

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
    mean, variance = measure(_Rows(split_x, index, resize), pooled)
    deviation = np.sqrt(variance)
    return Standardize(mean, np.where(deviation < _SMALLEST, 1.0, deviation))


def _measure_bytes(rows: _Rows, pooled: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance of bytes from exact integer sums: (n sum x^2 - (sum x)^2) / n^2.

    Sums of few rows are exact in float32, where a product with a row of ones is much faster than integer sums.
    """
    shape = rows.shape
    width = int(np.prod(shape))
    sums, squares = np.zeros((2, width))
    ones = np.ones(_EXACT_ROWS, dtype=np.float32)
    for chunk in rows.chunks(_EXACT_ROWS):
        values = chunk.reshape(len(chunk), width).astype(np.float32)
        sums += ones[: len(chunk)] @ values
        np.square(values, out=values)
        squares += ones[: len(chunk)] @ values
    total = sums.reshape(shape).sum(axis=pooled, keepdims=bool(pooled))
    total_squares = squares.reshape(shape).sum(axis=pooled, keepdims=bool(pooled))
    count = len(rows.index) * int(np.prod([shape[axis] for axis in pooled], dtype=np.int64))

    def variance(value: float, square: float) -> float:
        # In Python's integers: the products outgrow 64 bits.
        return (count * int(square) - int(value) ** 2) / count**2

    return total / count, np.vectorize(variance, otypes=[np.float64])(total, total_squares)


def _measure_floats(rows: _Rows, pooled: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance of floats in float64, from differences to one sample.

    A constant value differs by exactly 0, so its variance is exactly 0; and the sample it is measured from lies
    within sqrt(n) deviations of the mean, which bounds the relative error by n eps.
    """
    origin = next(rows.chunks(1))[0].astype(np.float64)
    if pooled:
        first = tuple(slice(0, 1) if axis in pooled else slice(None) for axis in range(origin.ndim))
        origin = origin[first]
    sums = np.zeros_like(origin)
    squares = np.zeros_like(origin)
    axes = (0, *(axis + 1 for axis in pooled))
    for chunk in rows.chunks(_CHUNK_VALUES):
        difference = chunk.astype(np.float64) - origin
        sums += difference.sum(axis=axes).reshape(origin.shape)
        np.square(difference, out=difference)
        squares += difference.sum(axis=axes).reshape(origin.shape)
    count = len(rows.index) * int(np.prod([rows.shape[axis] for axis in pooled], dtype=np.int64))
    variance = squares / count - np.square(sums / count)
    return origin + sums / count, np.maximum(variance, 0.0)
