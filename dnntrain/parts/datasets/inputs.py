"""Samples from outside a data set, to be predicted: pictures and arrays, in the form the network was trained on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
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
"""From pictures (N, C, H, W) of any size to the size of the network."""


def stream_inputs(
    paths: Iterable[Path],
    shape: tuple[int, ...],
    *,
    full_scale: float,
    batch_size: int,
    resize: Resizing | None = None,
    skip: Callable[[DataError], None] | None = None,
) -> Iterator[Inputs]:
    """Read pictures, folders of pictures, and .npy or .npz arrays, no more of them than a batch at a time.

    A .npy file is mapped into memory, so it may be larger than that; an array of an .npz archive is read whole.

    Args:
        paths: the files and folders; they are asked for as they are needed, so there may be any number.
        shape: of one sample, as the network takes it; (channels, height, width) for pictures.
        full_scale: the largest value of a picture in the training data; files have 255.
        batch_size: samples in each piece; fewer in the last one.
        resize: brings pictures of any size to that of the network; None where they must have it.
        skip: is told of a file that cannot be used, which is then left out; without it, the first one ends the reading.

    Raises:
        DataError: a file is missing, damaged, of another kind or size; the file is named.
    """
    batch: list[tuple[str, np.ndarray]] = []
    for path in _files(paths, skip):
        try:
            for sample in _samples(path, shape, full_scale, resize):
                batch.append(sample)
                if len(batch) == batch_size:
                    yield _together(batch)
                    batch = []
        except DataError as error:
            if skip is None:
                raise
            skip(error)
    if batch:
        yield _together(batch)


def _together(batch: list[tuple[str, np.ndarray]]) -> Inputs:
    """Put samples into one array: of bytes where all are, else of floats."""
    names, samples = zip(*batch, strict=True)
    kinds = {sample.dtype for sample in samples}
    return Inputs(list(names), np.stack(samples, dtype=kinds.pop() if len(kinds) == 1 else np.float32))


def _samples(
    path: Path, shape: tuple[int, ...], full_scale: float, resize: Resizing | None
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the samples of a file, and what to call them."""
    if not os.path.isfile(path):
        # In a folder, there may be links to nothing, and pipes that would be waited for without end.
        raise DataError(f"{path} is no file, or a link to none")
    if path.suffix.lower() not in (".npy", ".npz"):
        yield str(path), _picture(path, shape, full_scale, resize)
        return
    rows = _arranged(_array(path), shape, path, any_size=resize is not None)
    for i in range(len(rows)):
        row = np.ascontiguousarray(rows[i])
        row = row if row.dtype == np.uint8 else row.astype(np.float32)
        yield f"{path}[{i}]", row if resize is None else resize(row[None])[0]


def _files(paths: Iterable[Path], skip: Callable[[DataError], None] | None) -> Iterator[Path]:
    for path in paths:
        try:
            # os.path answers where pathlib raises: for a name that is too long, or below a folder that may not be
            # entered.
            if os.path.isdir(path):
                yield from _pictures_in(path)
            elif os.path.isfile(path):
                yield path
            else:
                raise DataError(f"there is no file {path}")
        except DataError as error:
            if skip is None:
                raise
            skip(error)


def _pictures_in(folder: Path) -> Iterator[Path]:
    """Yield the pictures of a folder and its subfolders in the order of their names.

    Raises:
        DataError: there is none, or a folder cannot be read.
    """
    found = 0
    for path in _walk(folder):
        found += 1
        yield path
    if not found:
        raise DataError(f"there is nothing to predict in {folder}: no file there ends in {', '.join(PICTURES)}")


def _walk(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            # Of the folders that symbolic links name, one might hold this one.
            listed = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror}") from error
    for name, is_folder in listed:
        if is_folder:
            yield from _walk(folder / name)
        elif os.path.splitext(name)[1].lower() in PICTURES:
            yield folder / name


def _picture(path: Path, shape: tuple[int, ...], full_scale: float, resize: Resizing | None) -> np.ndarray:
    """Read one picture as (channels, height, width)."""
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise DataError(f"{path}: the network takes samples of shape {shape}, which a picture is not; give it an array")
    channels, height, width = shape
    with picture(path, f"{path} cannot be read as a picture") as image:
        if image.mode.startswith(("I", "F")):
            # Pillow would cut their values off at 255.
            raise DataError(f"{path} has more than 8 bits a channel; save it with 8, or give an array in a .npy file")
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    if resize is None and pixels.shape[:2] != (height, width):
        found = f"{pixels.shape[1]} x {pixels.shape[0]}"
        raise DataError(f"{path} is {found} pixels, but the network takes {width} x {height}; resize it first")
    ordered = np.ascontiguousarray(pixels[None] if channels == 1 else pixels.transpose(2, 0, 1))
    if full_scale != 255.0:
        ordered = ordered.astype(np.float32) * np.float32(full_scale / 255.0)
    return ordered if resize is None else resize(ordered[None])[0]


def _array(path: Path) -> np.ndarray:
    with numpy_file(f"{path} is damaged, or not a NumPy file"):
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            key = next((key for key in ARRAY_KEYS if key in loaded.files), None)
            if key is None:
                held = ", ".join(loaded.files)
                raise DataError(f"{path} holds {held}; the samples must be called one of {', '.join(ARRAY_KEYS)}")
            return archived(loaded, key)


def _arranged(array: np.ndarray, shape: tuple[int, ...], path: Path, *, any_size: bool) -> np.ndarray:
    """View an array as (N, *shape): one sample, or several; channels first, last, or left out."""
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool):
        raise DataError(f"{path} holds {array.dtype}, not numbers")
    # None stands for any height and width.
    wanted: tuple[int | None, ...] = (shape[0], None, None) if any_size else shape
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
        return ordered
    raise DataError(f"{path} has shape {array.shape}, but the network takes samples of shape {shape}")


def _has(shape: tuple[int, ...], form: tuple[int | None, ...]) -> bool:
    """Whether a shape is of a form."""
    return len(shape) == len(form) and all(
        size > 0 if wanted is None else size == wanted for size, wanted in zip(shape, form, strict=True)
    )
