"""NumPy archives, as Keras and many others store data sets."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from dnntrain.errors import DataError
from dnntrain.parts.datasets.base import ARRAY_NAMES, Decoded, Layout, Source, datasets, require, stamps
from dnntrain.parts.datasets.decoding import archived, numpy_file
from dnntrain.registry import ReadPath

_CHANNELS = (1, 3, 4)


@datasets.register(
    "npz",
    equation="x_train, y_train and, if the file has them, x_test, y_test",
    cite="numpy.savez; the layout of keras.datasets",
    example={"name": "npz", "path": "data.npz"},
)
def npz(*, path: ReadPath, layout: Literal["auto", "pictures", "features", "sequences"] = "auto") -> Source:
    """A NumPy archive. Integer labels mean classes, float ones regression; uint8 pictures may be (N, H, W, C).

    Args:
        path: the `.npz` file.
        layout: what x holds. `auto` takes two axes for features, three for sequences if the values are floats and
            for gray pictures if they are integers, four for pictures.
    """
    require(path, dataset="npz", kind="file")
    return Source(load=partial(_decode, path, layout), key={"files": stamps([path])})


def _decode(path: Path, asked: str) -> Decoded:
    arrays = _read(path)
    layout = _layout(path, arrays["x_train"], asked)
    x_train, full_scale = _samples(path, "x_train", arrays["x_train"], layout)
    y_train, classes = _targets(path, arrays["y_train"])
    _check_lengths(path, "train", x_train, y_train)
    x_test: np.ndarray | None = None
    y_test: np.ndarray | None = None
    if "x_test" in arrays:
        x_test, test_scale = _samples(path, "x_test", arrays["x_test"], layout)
        if x_test.shape[1:] != x_train.shape[1:] or x_test.dtype != x_train.dtype or test_scale != full_scale:
            raise DataError(
                f"npz: {path}: x_test {_form(arrays['x_test'])} does not fit x_train {_form(arrays['x_train'])}"
            )
        y_test = _test_targets(path, arrays["y_test"], y_train, classes)
        _check_lengths(path, "test", x_test, y_test)
    return Decoded(
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=y_test,
        layout=layout,
        classes=classes,
        full_scale=full_scale,
    )


def _read(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of the archive that have one of the four names.

    Raises:
        DataError: the file is no archive, is damaged, or lacks an array.
    """
    with numpy_file(f"npz: {path} is damaged, or not a NumPy archive"), path.open("rb") as stream:
        if stream.read(2) not in (b"PK", b"\x93N"):
            raise DataError(f"npz: {path} is damaged, or not a NumPy archive, which numpy.savez writes")
        stream.seek(0)
        archive = np.load(stream, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise DataError(f"npz: {path} holds one array without a name; numpy.savez(x_train=...) gives names")
        return {name: _read_array(path, archive, name) for name in _wanted(path, archive.files)}


def _wanted(path: Path, names: list[str]) -> tuple[str, ...]:
    """Return the arrays to read: those of the test split belong together."""
    wanted = ARRAY_NAMES if "x_test" in names or "y_test" in names else ARRAY_NAMES[:2]
    for name in wanted:
        if name not in names:
            raise DataError(f"npz: {path} has no array '{name}'; it has: {', '.join(sorted(names)) or 'none'}")
    return wanted


def _read_array(path: Path, archive: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    with numpy_file(f"npz: {path}: {name} is damaged"):
        try:
            array = archived(archive, name)
        except ValueError as error:
            if "allow_pickle" not in str(error):
                raise
            raise DataError(
                f"npz: {path}: {name} holds Python objects, which are not read; store numbers of one shape and type"
            ) from error
    if array.dtype.kind not in "biuf":
        raise DataError(f"npz: {path}: {name} is of type {array.dtype}; numbers are needed")
    if not array.size:
        raise DataError(f"npz: {path}: {name} is empty, its shape is {array.shape}")
    return array


def _layout(path: Path, x: np.ndarray, asked: str) -> Layout:
    """Decide what x_train holds from its axes, unless the file said so."""
    by_axes: dict[int, Layout] = {2: "features", 3: "sequences" if x.dtype.kind == "f" else "pictures", 4: "pictures"}
    axes: dict[Layout, tuple[int, ...]] = {"features": (2,), "sequences": (3,), "pictures": (3, 4)}
    for layout, allowed in axes.items():
        if layout == asked and x.ndim in allowed:
            return layout
    if asked != "auto" or x.ndim not in by_axes:
        raise DataError(
            f"npz: {path}: x_train {_form(x)} cannot be read as {'samples' if asked == 'auto' else asked}; "
            "features are (N, F), sequences (N, T, F), pictures (N, H, W) or (N, H, W, C)"
        )
    return by_axes[x.ndim]


def _samples(path: Path, name: str, x: np.ndarray, layout: Layout) -> tuple[np.ndarray, float]:
    """Bring samples to their layout's shape and type; return them with their full scale.

    Raises:
        DataError: the shape does not fit, or a number is not finite.
    """
    full_scale = 255.0 if x.dtype == np.uint8 else 1.0
    if layout == "pictures":
        x = _channels_first(path, name, x)
        # Pictures are often stored as wider integers than they need.
        if x.dtype.kind in "iu" and x.min() >= 0 and x.max() <= 255:
            return np.ascontiguousarray(x, dtype=np.uint8), 255.0
    elif x.ndim != (2 if layout == "features" else 3):
        raise DataError(f"npz: {path}: {name} {_form(x)} does not hold {layout}")
    return _finite(path, name, x), full_scale


def _channels_first(path: Path, name: str, x: np.ndarray) -> np.ndarray:
    if x.ndim == 3:
        return x[:, np.newaxis]
    if x.ndim == 4 and x.shape[3] in _CHANNELS:
        return x.transpose(0, 3, 1, 2)
    if x.ndim == 4 and x.shape[1] in _CHANNELS:
        return x
    raise DataError(
        f"npz: {path}: {name} {_form(x)} does not hold pictures: "
        "those are (N, H, W), (N, H, W, C) or (N, C, H, W) with 1, 3 or 4 channels"
    )


def _targets(path: Path, y: np.ndarray) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Turn y_train into class indices and class names, or into float32 targets and None."""
    y = _flat(y)
    if y.dtype.kind == "f":
        if y.ndim > 2:
            raise DataError(f"npz: {path}: y_train {_form(y)} does not hold targets, which are (N,) or (N, K)")
        _refuse_one_hot(path, y)
        return _finite(path, "y_train", y), None
    labels = _labels(path, "y_train", y)
    count = int(labels.max()) + 1
    if count > max(len(labels), 2):
        raise DataError(
            f"npz: {path}: y_train goes up to {count - 1:,} in {len(labels):,} samples, too far for class indices; "
            "number classes from 0 without gaps, or store targets of a regression as floats"
        )
    return labels, tuple(str(index) for index in range(count))


def _test_targets(path: Path, y: np.ndarray, y_train: np.ndarray, classes: tuple[str, ...] | None) -> np.ndarray:
    y = _flat(y)
    if classes is None:
        if y.shape[1:] != y_train.shape[1:]:
            raise DataError(f"npz: {path}: y_test {_form(y)} does not fit y_train {_form(y_train)}")
        return _finite(path, "y_test", y)
    if y.dtype.kind == "f":
        raise DataError(f"npz: {path}: y_test holds floats, y_train class indices")
    labels = _labels(path, "y_test", y)
    if labels.max() >= len(classes):
        raise DataError(
            f"npz: {path}: y_test holds the label {labels.max()} at index {labels.argmax()}, "
            f"but y_train has the classes 0 to {len(classes) - 1}"
        )
    return labels


def _flat(y: np.ndarray) -> np.ndarray:
    return y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y


def _labels(path: Path, name: str, y: np.ndarray) -> np.ndarray:
    if y.ndim != 1:
        raise DataError(
            f"npz: {path}: {name} {_form(y)} does not hold one class index per sample; "
            "turn one-hot labels into indices with argmax(axis=1)"
        )
    if y.min() < 0:
        raise DataError(f"npz: {path}: {name} holds the label {y.min()} at index {y.argmin()}; classes count from 0")
    if y.max() > np.iinfo(np.int64).max:
        raise DataError(f"npz: {path}: {name} holds {y.max()} at index {y.argmax()}, which is no class index")
    return y.astype(np.int64)


def _refuse_one_hot(path: Path, y: np.ndarray) -> None:
    # Read as a regression they would train, badly and without a word.
    if y.ndim == 2 and bool(np.all((y == 0) | (y == 1)) and np.all(y.sum(axis=1) == 1)):
        raise DataError(f"npz: {path}: y_train holds one-hot labels; store class indices: y_train.argmax(axis=1)")


def _finite(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    """Convert to float32; refuse NaN, infinity and what is too large for float32."""
    with np.errstate(over="ignore"):
        converted = np.ascontiguousarray(array, dtype=np.float32)
    finite = np.isfinite(converted)
    if not finite.all():
        place = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise DataError(f"npz: {path}: {name} holds {array[place]} at index {place}; finite float32 numbers are needed")
    return converted


def _check_lengths(path: Path, part: str, x: np.ndarray, y: np.ndarray) -> None:
    if len(x) != len(y):
        raise DataError(f"npz: {path}: x_{part} has {len(x):,} samples, y_{part} {len(y):,}")


def _form(array: np.ndarray) -> str:
    return f"{array.dtype} {array.shape}"
