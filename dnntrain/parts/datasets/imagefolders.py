"""Pictures in folders, one folder per class."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dnntrain import interruption
from dnntrain.errors import DataError, suggest
from dnntrain.parts.datasets.base import Decoded, Source, datasets, require
from dnntrain.parts.datasets.decoding import picture
from dnntrain.registry import ReadPath

_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_GRAY_MODES = frozenset({"1", "L", "LA", "La"})
_COLOR_MODES = frozenset({"P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV", "LAB"})
# Decoding leaves Python's lock, opening a file does not: with small pictures threads only wait for each other.
_WORTH_THREADS = 256 * 256
_LAYOUT = "expected ROOT/{train,test}/CLASS/PICTURE, or ROOT/CLASS/PICTURE"

_log = logging.getLogger("dnntrain")


@dataclass(frozen=True)
class _Pictures:
    """The pictures of one split: their files, and the class index of each."""

    files: list[str]
    labels: list[int]
    stamps: list[tuple[str, int, int]]


@datasets.register(
    "image_folder",
    equation="ROOT/{train,test}/CLASS/PICTURE, or ROOT/CLASS/PICTURE",
    cite="the layout of torchvision.datasets.ImageFolder",
    example={"name": "image_folder", "path": "pictures"},
)
def image_folder(*, path: ReadPath) -> Source:
    """Pictures of one size, a folder per class; gray if all of them are, RGB otherwise. Classes are sorted by name.

    Args:
        path: the folder that holds `train` and `test`, or the class folders.
    """
    require(path, dataset="image_folder", kind="folder")
    try:
        train, test, classes = _list(path)
    except OSError as error:
        raise DataError(f"image_folder: {error.filename} cannot be read: {error.strerror}") from error
    listing = json.dumps([train.stamps, test.stamps if test else None]).encode()
    key = {
        "pictures": len(train.files) + len(test.files if test else ()),
        "listing": hashlib.sha256(listing).hexdigest(),
    }
    return Source(load=partial(_decode, train, test, classes), key=key)


def _list(root: Path) -> tuple[_Pictures, _Pictures | None, tuple[str, ...]]:
    """Find the classes and pictures of both splits."""
    divided = (root / "train").is_dir()
    train_root = root / "train" if divided else root
    if divided:
        for name in _folders(root):
            if name not in ("train", "test"):
                _log.warning("%s is not used: image_folder reads 'train' and 'test'", root / name)
    classes = tuple(_folders(train_root))
    if not classes:
        raise DataError(f"image_folder: {train_root} holds no class folders; {_LAYOUT}")
    train = _list_split(train_root, classes)
    for index in sorted(set(range(len(classes))) - set(train.labels)):
        raise DataError(f"image_folder: {train_root / classes[index]} holds no pictures; {_LAYOUT}")
    if not divided or not (root / "test").is_dir():
        return train, None, classes
    for name in _folders(root / "test"):
        if name not in classes:
            raise DataError(
                f"image_folder: {root / 'test' / name} is a class that {train_root} does not have; "
                f"{suggest(name, classes)}"
            )
    test = _list_split(root / "test", classes)
    if not test.files:
        raise DataError(f"image_folder: {root / 'test'} holds no pictures; {_LAYOUT}")
    return train, test, classes


def _folders(root: Path) -> list[str]:
    with os.scandir(root) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _list_split(root: Path, classes: Sequence[str]) -> _Pictures:
    found = _Pictures([], [], [])
    for label, name in enumerate(classes):
        if not (root / name).is_dir():
            continue
        with os.scandir(root / name) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                suffix = os.path.splitext(entry.name)[1].lower()
                if suffix in _SUFFIXES and not entry.name.startswith(".") and entry.is_file():
                    state = entry.stat()
                    found.files.append(entry.path)
                    found.labels.append(label)
                    found.stamps.append((entry.path, state.st_size, state.st_mtime_ns))
    return found


def _decode(train: _Pictures, test: _Pictures | None, classes: tuple[str, ...]) -> Decoded:
    size = _size(train.files[0])
    x_train, train_gray = _decode_split(train.files, train.files[0], size)
    x_test, test_gray = _decode_split(test.files, train.files[0], size) if test else (None, True)
    if train_gray and test_gray:
        # The three channels of a gray picture are equal.
        x_train, x_test = x_train[:, :1], x_test if x_test is None else x_test[:, :1]
    return Decoded(
        x_train=x_train,
        y_train=np.asarray(train.labels, dtype=np.int64),
        x_test=x_test,
        y_test=np.asarray(test.labels, dtype=np.int64) if test else None,
        layout="pictures",
        classes=classes,
        full_scale=255.0,
        grouped=True,
    )


def _decode_split(files: Sequence[str], first: str, size: tuple[int, int]) -> tuple[np.ndarray, bool]:
    """Decode pictures to uint8 of shape (N, 3, H, W); tell whether all of them are gray."""
    width, height = size
    x = np.empty((len(files), 3, height, width), dtype=np.uint8)

    def decode(row: int) -> bool:
        interruption.check()
        pixels, gray = _read(files[row])
        if pixels.shape[:2] != (height, width):
            raise DataError(
                f"image_folder: pictures must be of one size, but {first} is {width} x {height} "
                f"and {files[row]} is {pixels.shape[1]} x {pixels.shape[0]} (width x height)"
            )
        x[row] = pixels.transpose(2, 0, 1)
        return gray

    if width * height < _WORTH_THREADS:
        return x, all([decode(row) for row in range(len(files))])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return x, all(list(pool.map(decode, range(len(files)))))


def _size(file: str) -> tuple[int, int]:
    pixels, _ = _read(file)
    return pixels.shape[1], pixels.shape[0]


def _read(file: str) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], bool]:
    """Decode one picture to RGB of shape (H, W, 3); tell whether it is gray.

    Raises:
        DataError: the picture cannot be read, or its values do not fit into bytes.
    """
    with picture(file, f"image_folder: {file} cannot be read as a picture") as image:
        mode = image.mode
        if mode not in _GRAY_MODES | _COLOR_MODES:
            raise DataError(
                f"image_folder: {file} is of mode '{mode}', which has more than 8 bits per value; "
                "convert it to 8 bits, or store the pictures as float32 in an npz file"
            )
        # Pillow warns when it drops the transparency of a palette; by way of RGBA it does not.
        rgb = (image.convert("RGBA") if "transparency" in image.info else image).convert("RGB")
        return np.asarray(rgb), mode in _GRAY_MODES
