from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from dnntrain.errors import DataError
from dnntrain.parts.datasets import Arrays, Decoded, datasets

Open = Callable[..., Arrays]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.npz"


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_pictures_as_keras_stores_them(path: Path, opened: Open) -> None:
    x, y = pixels(12, 5, 4, 3), np.arange(12, dtype=np.uint8).reshape(-1, 1) % 3
    np.savez(path, x_train=x, y_train=y, x_test=x[:4], y_test=y[:4])
    arrays = opened("npz", path=path)
    assert np.array_equal(arrays.x_train, x.transpose(0, 3, 1, 2)) and arrays.x_train.dtype == np.uint8
    assert arrays.y_train.tolist() == [0, 1, 2] * 4 and arrays.y_train.dtype == np.int64
    assert arrays.x_test is not None and arrays.x_test.shape == (4, 3, 5, 4)
    assert arrays.y_test is not None and arrays.y_test.shape == (4,)
    assert (arrays.layout, arrays.full_scale, arrays.classes) == ("pictures", 255.0, ("0", "1", "2"))


@pytest.mark.parametrize(
    ("x", "options", "layout", "shape", "dtype", "full_scale"),
    [
        (pixels(6, 5, 4), {}, "pictures", (1, 5, 4), "u1", 255.0),
        (pixels(6, 5, 4, 1), {}, "pictures", (1, 5, 4), "u1", 255.0),
        (pixels(6, 5, 3, 4), {}, "pictures", (4, 5, 3), "u1", 255.0),
        (pixels(6, 3, 8, 8), {}, "pictures", (3, 8, 8), "u1", 255.0),
        (pixels(6, 5, 4).astype(np.int64), {}, "pictures", (1, 5, 4), "u1", 255.0),
        (pixels(6, 5, 4).astype(np.int64) * 9, {}, "pictures", (1, 5, 4), "f4", 1.0),
        (pixels(6, 8, 8, 3) / 255, {}, "pictures", (3, 8, 8), "f4", 1.0),
        (pixels(6, 5, 4) / 255, {}, "sequences", (5, 4), "f4", 1.0),
        (pixels(6, 5, 4) / 255, {"layout": "pictures"}, "pictures", (1, 5, 4), "f4", 1.0),
        (pixels(6, 5, 4), {"layout": "sequences"}, "sequences", (5, 4), "f4", 255.0),
        (pixels(6, 5), {}, "features", (5,), "f4", 255.0),
        (pixels(6, 5).astype(np.int32), {}, "features", (5,), "f4", 1.0),
        (pixels(6, 5).astype(">f8"), {"layout": "features"}, "features", (5,), "f4", 1.0),
        (pixels(6, 5) > 99, {}, "features", (5,), "f4", 1.0),
    ],
)
def test_layouts(
    x: np.ndarray,
    options: dict[str, str],
    layout: str,
    shape: tuple[int, ...],
    dtype: str,
    full_scale: float,
    path: Path,
    opened: Open,
) -> None:
    np.savez(path, x_train=x, y_train=np.arange(6) % 2)
    arrays = opened("npz", path=path, **options)
    assert (arrays.layout, arrays.x_train.shape[1:], arrays.full_scale) == (layout, shape, full_scale)
    assert arrays.x_train.dtype == np.dtype(dtype)
    assert arrays.x_train.sum(dtype=np.float64) == pytest.approx(x.sum(dtype=np.float64), rel=1e-6)


def test_float_targets_mean_regression(path: Path, opened: Open) -> None:
    np.savez(path, x_train=np.ones((3, 2)), y_train=np.array([[0.5], [1.0], [2.0]]))
    arrays = opened("npz", path=path)
    assert arrays.classes is None and arrays.y_train.tolist() == [0.5, 1.0, 2.0]
    assert arrays.y_train.dtype == np.float32
    np.savez(path, x_train=np.ones((3, 2)), y_train=np.eye(3) / 2, x_test=np.ones((1, 2)), y_test=np.ones((1, 3)))
    arrays = opened("npz", path=path)
    assert arrays.y_train.shape == (3, 3) and arrays.y_test is not None and arrays.y_test.shape == (1, 3)


def test_labels_count_up_to_the_largest_one(path: Path, opened: Open) -> None:
    np.savez(path, x_train=np.ones((4, 1)), y_train=np.array([True, False, True, True]))
    assert opened("npz", path=path).classes == ("0", "1")
    np.savez(path, x_train=np.ones((4, 1)), y_train=np.array([3, 0, 3, 0]))
    assert opened("npz", path=path).classes == ("0", "1", "2", "3")


GOOD: dict[str, Any] = {
    "x_train": np.ones((4, 2), np.float32),
    "y_train": np.array([0, 1, 0, 1]),
    "x_test": np.ones((2, 2), np.float32),
    "y_test": np.array([0, 1]),
}
NAN = np.array([[1, 2], [3, np.nan], [5, 6], [7, 8]])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"x_train": None}, r"has no array 'x_train'; it has: x_test, y_test, y_train"),
        ({"y_train": None}, r"has no array 'y_train'"),
        ({"y_test": None}, r"has no array 'y_test'"),
        ({"x_test": None}, r"has no array 'x_test'"),
        ({"y_train": np.array([0, 1, 0])}, "x_train has 4 samples, y_train 3"),
        ({"y_test": np.array([0])}, "x_test has 2 samples, y_test 1"),
        ({"y_train": np.array([0, -1, 0, 1])}, "y_train holds the label -1 at index 1"),
        ({"y_test": np.array([0, 2])}, "y_test holds the label 2 at index 1, but y_train has the classes 0 to 1"),
        ({"y_test": np.array([0.0, 1.0])}, "y_test holds floats, y_train class indices"),
        ({"y_train": np.array([0, 1, 2, 10**9])}, "goes up to 1,000,000,000 in 4 samples"),
        ({"y_train": np.eye(4, 2, dtype=int)}, r"y_train int64 \(4, 2\) does not hold one class index per sample"),
        ({"y_train": np.eye(2)[[0, 1, 0, 1]]}, "one-hot labels; store class indices"),
        ({"x_train": NAN}, r"x_train holds nan at index \(1, 1\)"),
        ({"x_train": np.where(np.isnan(NAN), np.inf, 1)}, r"x_train holds inf at index \(1, 1\)"),
        ({"x_train": np.where(np.isnan(NAN), 1e300, 1)}, r"x_train holds 1e\+300 at index \(1, 1\)"),
        ({"x_test": NAN[:2]}, r"x_test holds nan at index \(1, 1\)"),
        ({"y_train": NAN[:, 1], "y_test": np.ones(2)}, r"y_train holds nan at index \(1,\)"),
        ({"y_train": np.ones((4, 3)), "y_test": np.ones((2, 2))}, r"y_test float64 \(2, 2\) does not fit y_train"),
        ({"x_train": np.array([{}, {}, {}, {}])}, "x_train holds Python objects, which are not read"),
        ({"y_train": np.array(["a", "b", "a", "b"])}, "y_train is of type <U1; numbers are needed"),
        ({"x_train": np.ones((4, 2), complex)}, "x_train is of type complex128"),
        ({"x_train": np.ones((0, 2)), "y_train": np.ones(0)}, r"x_train is empty, its shape is \(0, 2\)"),
        ({"x_test": np.ones((2, 3))}, r"x_test float64 \(2, 3\) does not fit x_train float32 \(4, 2\)"),
        ({"x_test": np.ones((2, 2), np.uint8)}, "does not fit x_train"),
        ({"x_test": np.ones((2, 2, 2))}, r"x_test float64 \(2, 2, 2\) does not hold features"),
        ({"x_train": np.ones(4)}, r"x_train float64 \(4,\) cannot be read as samples"),
        ({"x_train": np.ones((4, 8, 8, 5))}, r"does not hold pictures: those are \(N, H, W\)"),
    ],
)
def test_what_does_not_fit_is_named(changed: dict[str, Any], said: str, path: Path, opened: Open) -> None:
    np.savez(path, **{name: array for name, array in {**GOOD, **changed}.items() if array is not None})
    with pytest.raises(DataError, match=said) as raised:
        opened("npz", path=path)
    assert str(path) in str(raised.value)


def test_a_layout_that_does_not_fit_is_refused(path: Path, opened: Open) -> None:
    np.savez(path, **GOOD)
    for layout in ("pictures", "sequences"):
        with pytest.raises(DataError, match=rf"x_train float32 \(4, 2\) cannot be read as {layout}; features are"):
            opened("npz", path=path, layout=layout)
    with pytest.raises(ValidationError):
        datasets.choose({"name": "npz", "path": str(path), "layout": "images"})


def test_objects_are_never_unpickled(path: Path, opened: Open) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(path) + ".sprung",)

    np.savez(path, **{**GOOD, "x_train": np.array([Trap()] * 4)})
    with pytest.raises(DataError):
        opened("npz", path=path)
    assert not Path(str(path) + ".sprung").exists()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_file_that_was_cut_short_is_named(save: Callable[..., None], path: Path, opened: Open) -> None:
    save(path, **GOOD)
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match="is damaged, or not a NumPy archive") as raised:
            opened("npz", path=path)
        assert str(path) in str(raised.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("name", ["x_train", "y_test"])
def test_a_damaged_array_is_named(save: Callable[..., None], name: str, path: Path, opened: Open) -> None:
    random = np.random.default_rng(0)
    x, y = random.random((400, 2)), random.integers(0, 9, 400)
    save(path, x_train=x, y_train=y, x_test=x, y_test=y)
    content = bytearray(path.read_bytes())
    start = content.index(f"{name}.npy".encode()) + 200
    content[start : start + 40] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{path}: {name} is damaged"):
        opened("npz", path=path)


def test_other_files_are_refused(tmp_path: Path, opened: Open) -> None:
    np.save(tmp_path / "one.npy", np.ones(3))
    with pytest.raises(DataError, match="holds one array without a name"):
        opened("npz", path=tmp_path / "one.npy")
    (tmp_path / "text.npz").write_text("x_train = 1, 2, 3")
    with pytest.raises(DataError, match="not a NumPy archive"):
        opened("npz", path=tmp_path / "text.npz")
    with pytest.raises(DataError, match=r"there is no file .*none\.npz\n.*YAML file that wrote it, then at DNNTRAIN"):
        opened("npz", path=tmp_path / "none.npz")
    with pytest.raises(DataError, match="is a folder; a file is needed"):
        opened("npz", path=tmp_path)


@pytest.mark.data
def test_real_cifar10(sample_data: Path, decoded: Callable[..., Decoded]) -> None:
    cifar = decoded("npz", path=sample_data / "cifar10.npz")
    assert cifar.x_train.shape == (50000, 3, 32, 32) and cifar.x_train.dtype == np.uint8
    assert np.bincount(cifar.y_train).tolist() == [5000] * 10
    assert cifar.x_train[:5000].mean(axis=(0, 2, 3)) == pytest.approx([125.3, 123.0, 113.9], abs=2)
