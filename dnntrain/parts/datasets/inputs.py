"""Samples from outside a data set, to be predicted: pictures and arrays, in the form the network was trained on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from dnntrain.errors import DataError
from dnntrain.parts.datasets.decoding import archived, numpy_file, picture

PICTURES: Final = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
ARRAY_KEYS: Final = ("x", "x_test", "arr_0")


@dataclass(frozen=True)
class Inputs:
    """Samples and what to call them.

    Attributes:
        names: one a sample: the file, with the row behind it where the file holds several.
        x: the samples, of shape (N, ...), as the data set of the training holds them.
    """

    names: list[str]
    x: np.ndarray


Resizing = Callable[[np.ndarray], np.ndarray]


def read_inputs(
    paths: Sequence[Path], shape: tuple[int, ...], *, full_scale: float, resize: Resizing | None = None
) -> Inputs:
    """Read pictures, folders of pictures, and .npy or .npz arrays.

    Args:
        paths: the files and folders.
        shape: of one sample, as the network takes it; (channels, height, width) for pictures.
        full_scale: the largest value of a picture in the training data; files have 255.
        resize: brings pictures (N, C, H, W) of any size to that of the network; None where they must have it.

    Raises:
        DataError: a file is missing, damaged, of another kind or size; the file is named.
    """
    names: list[str] = []
    pieces: list[np.ndarray] = []
    for path in _files(paths):
        if path.suffix.lower() in (".npy", ".npz"):
            rows = _arranged(_array(path), shape, path, resize)
            names += [f"{path}[{i}]" for i in range(len(rows))]
        else:
            rows = _picture(path, shape, full_scale, resize)
            names.append(str(path))
        pieces.append(rows)
    if not pieces:
        raise DataError(f"there is nothing to predict in {', '.join(map(str, paths))}")
    return Inputs(names, np.concatenate(pieces) if len({p.dtype for p in pieces}) == 1 else _floats(pieces))


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        # os.path answers where pathlib raises: for a name that is too long, or below a folder that may not be entered.
        if os.path.isdir(path):
            yield from sorted(p for p in path.rglob("*") if p.suffix.lower() in PICTURES)
        elif os.path.isfile(path):
            yield path
        else:
            raise DataError(f"there is no file {path}")


def _floats(pieces: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([piece.astype(np.float32) for piece in pieces])


def _picture(path: Path, shape: tuple[int, ...], full_scale: float, resize: Resizing | None) -> np.ndarray:
    """Read one picture as (1, channels, height, width)."""
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise DataError(f"{path}: the network takes samples of shape {shape}, which a picture is not; give it an array")
    channels, height, width = shape
    with picture(path, f"{path} cannot be read as a picture") as image:
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    if resize is None and pixels.shape[:2] != (height, width):
        found = f"{pixels.shape[1]} x {pixels.shape[0]}"
        raise DataError(f"{path} is {found} pixels, but the network takes {width} x {height}; resize it first")
    ordered = np.ascontiguousarray(pixels[None] if channels == 1 else pixels.transpose(2, 0, 1))[None]
    if full_scale != 255.0:
        ordered = ordered.astype(np.float32) * np.float32(full_scale / 255.0)
    return ordered if resize is None else resize(ordered)


def _array(path: Path) -> np.ndarray:
    with numpy_file(f"{path} is damaged, or not a NumPy file"), path.open("rb") as stream:
        loaded = np.load(stream, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        key = next((key for key in ARRAY_KEYS if key in loaded.files), None)
        if key is None:
            raise DataError(f"{path} holds {', '.join(loaded.files)}; the samples must be called one of {ARRAY_KEYS}")
        return archived(loaded, key)


def _arranged(array: np.ndarray, shape: tuple[int, ...], path: Path, resize: Resizing | None) -> np.ndarray:
    """Bring an array into the form (N, *shape): one sample, or several; channels first, last, or left out."""
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool):
        raise DataError(f"{path} holds {array.dtype}, not numbers")
    # None stands for any height and width.
    wanted: tuple[int | None, ...] = shape if resize is None else (shape[0], None, None)
    forms = [wanted]
    if len(shape) == 3:
        forms.append((*wanted[1:], shape[0]))
        if shape[0] == 1:
            forms.append(wanted[1:])
    for form in forms:
        rows = array[None] if _has(array.shape, form) else array
        if not _has(rows.shape[1:], form):
            continue
        if form == wanted:
            ordered = rows
        else:
            ordered = np.moveaxis(rows, -1, 1) if len(form) == 3 else rows[:, None]
        ordered = np.ascontiguousarray(ordered if ordered.dtype == np.uint8 else ordered.astype(np.float32))
        return ordered if resize is None else resize(ordered)
    raise DataError(f"{path} has shape {array.shape}, but the network takes samples of shape {shape}")


def _has(shape: tuple[int, ...], form: tuple[int | None, ...]) -> bool:
    """Whether a shape is of a form."""
    return len(shape) == len(form) and all(
        size > 0 if wanted is None else size == wanted for size, wanted in zip(shape, form, strict=True)
    )
