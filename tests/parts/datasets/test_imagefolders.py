from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dnntrain.errors import DataError
from dnntrain.parts.datasets import Arrays, Decoded, imagefolders

Open = Callable[..., Arrays]


def paint(path: Path, value: int | tuple[int, int, int], size: tuple[int, int] = (6, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L" if isinstance(value, int) else "RGB", size, value).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes; red values count the pictures in the order in which they must be read."""
    root = tmp_path / "pictures"
    for split, names in (("train", ["cat/a.png", "cat/b.PNG", "dog/a.bmp"]), ("test", ["cat/z.png", "dog/y.png"])):
        for count, name in enumerate(names):
            paint(root / split / name, (count, 100, 200))
    return root


def test_reads_train_and_test(root: Path, opened: Open) -> None:
    arrays = opened("image_folder", path=root)
    assert arrays.x_train.shape == (3, 3, 4, 6) and arrays.x_train.dtype == np.uint8
    assert arrays.x_train[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert np.all(arrays.x_train[:, 1] == 100) and np.all(arrays.x_train[:, 2] == 200)
    assert arrays.y_train.tolist() == [0, 0, 1] and arrays.y_train.dtype == np.int64
    assert arrays.x_test is not None and arrays.x_test[:, 0, 3, 5].tolist() == [0, 1]
    assert arrays.y_test is not None and arrays.y_test.tolist() == [0, 1]
    assert arrays.classes == ("cat", "dog") and arrays.grouped
    assert (arrays.layout, arrays.full_scale) == ("pictures", 255.0)


def test_reads_classes_right_below_the_root(root: Path, opened: Open) -> None:
    arrays = opened("image_folder", path=root / "train")
    assert len(arrays.x_train) == 3 and arrays.x_test is None and arrays.y_test is None


def test_other_files_and_hidden_ones_are_no_pictures(root: Path, opened: Open) -> None:
    for name in ("notes.txt", ".hidden.png", "._a.png"):
        (root / "train" / "cat" / name).write_text("no picture")
    (root / "train" / ".cache").mkdir()
    (root / "train" / "cat" / "folder.png").mkdir()
    assert len(opened("image_folder", path=root).x_train) == 3


def test_gray_pictures_have_one_channel(tmp_path: Path, opened: Open) -> None:
    paint(tmp_path / "p" / "a" / "1.png", 7)
    Image.new("LA", (6, 4), (9, 128)).save(tmp_path / "p" / "a" / "2.png")
    Image.new("1", (6, 4), 1).save(tmp_path / "p" / "a" / "3.png")
    arrays = opened("image_folder", path=tmp_path / "p")
    assert arrays.x_train.shape == (3, 1, 4, 6)
    assert arrays.x_train[:, 0, 0, 0].tolist() == [7, 9, 255]


def test_one_picture_in_color_makes_all_rgb(tmp_path: Path, opened: Open) -> None:
    paint(tmp_path / "p" / "train" / "a" / "1.png", 7)
    paint(tmp_path / "p" / "test" / "a" / "1.png", (1, 2, 3))
    arrays = opened("image_folder", path=tmp_path / "p")
    assert arrays.x_train[0, :, 0, 0].tolist() == [7, 7, 7]
    assert arrays.x_test is not None and arrays.x_test[0, :, 0, 0].tolist() == [1, 2, 3]


def test_palettes_and_transparency_become_rgb_without_a_warning(tmp_path: Path, opened: Open) -> None:
    paint(tmp_path / "p" / "a" / "1.png", (10, 20, 30))
    palette = Image.new("RGB", (6, 4), (10, 20, 30)).quantize(4)
    palette.save(tmp_path / "p" / "a" / "2.png", transparency=bytes([128] * 4))
    Image.new("RGBA", (6, 4), (10, 20, 30, 0)).save(tmp_path / "p" / "a" / "3.png")
    arrays = opened("image_folder", path=tmp_path / "p")
    assert arrays.x_train[:, :, 0, 0].tolist() == [[10, 20, 30]] * 3


@pytest.mark.parametrize("threads", [False, True])
def test_differing_sizes_name_both_files(
    threads: bool, root: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imagefolders, "_WORTH_THREADS", 0 if threads else 10**9)
    other = root / "test" / "dog" / "y.png"
    paint(other, (0, 0, 0), size=(5, 4))
    with pytest.raises(DataError) as raised:
        opened("image_folder", path=root)
    message = str(raised.value)
    assert f"{root / 'train' / 'cat' / 'a.png'} is 6 x 4" in message
    assert f"{other} is 5 x 4" in message


def test_threads_keep_the_order(tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagefolders, "_WORTH_THREADS", 0)
    for count in range(60):
        paint(tmp_path / "p" / "a" / f"{count:02}.png", (count, 0, 0))
    assert opened("image_folder", path=tmp_path / "p").x_train[:, 0, 0, 0].tolist() == list(range(60))


@pytest.mark.parametrize("content", [b"", b"no picture at all", b"\x89PNG\r\n\x1a\n broken"])
def test_an_unreadable_picture_is_named(content: bytes, root: Path, opened: Open) -> None:
    path = root / "train" / "dog" / "a.bmp"
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as a picture") as raised:
        opened("image_folder", path=root)
    assert str(path) in str(raised.value)


def test_a_truncated_picture_is_named(root: Path, opened: Open) -> None:
    path = root / "train" / "cat" / "a.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="a.jpg cannot be read as a picture"):
        opened("image_folder", path=root)


def test_values_beyond_bytes_are_refused(root: Path, opened: Open) -> None:
    Image.fromarray(np.full((4, 6), 40000, dtype=np.uint16)).save(root / "train" / "cat" / "deep.png")
    with pytest.raises(DataError, match=r"deep\.png is of mode 'I;16', which has more than 8 bits"):
        opened("image_folder", path=root)


def test_folders_that_do_not_fit_are_named(root: Path, tmp_path: Path, opened: Open) -> None:
    with pytest.raises(DataError, match=r"there is no folder .*nowhere\n.*DNNTRAIN_DATA"):
        opened("image_folder", path=tmp_path / "nowhere")
    with pytest.raises(DataError, match="is a file; a folder is needed"):
        opened("image_folder", path=root / "train" / "cat" / "a.png")
    with pytest.raises(DataError, match="cat holds no class folders; expected ROOT"):
        opened("image_folder", path=root / "train" / "cat")
    with pytest.raises(DataError, match="pictures holds no pictures; expected ROOT"):
        opened("image_folder", path=tmp_path)
    (root / "test" / "dogs").mkdir()
    with pytest.raises(DataError, match="dogs is a class that .*train does not have; did you mean 'dog'"):
        opened("image_folder", path=root)


def test_an_empty_test_split_is_an_error(root: Path, opened: Open) -> None:
    for picture in (root / "test").rglob("*.png"):
        picture.unlink()
    with pytest.raises(DataError, match="test holds no pictures"):
        opened("image_folder", path=root)


def test_folders_that_are_not_read_are_mentioned(root: Path, opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    (root / "val").mkdir()
    with caplog.at_level(logging.WARNING, logger="dnntrain"):
        opened("image_folder", path=root)
    assert f"{root / 'val'} is not used" in caplog.text


def test_a_changed_picture_is_decoded_anew(root: Path, opened: Open) -> None:
    before = opened("image_folder", path=root).fingerprint
    paint(root / "train" / "dog" / "a.bmp", (77, 0, 0), size=(6, 4))
    after = opened("image_folder", path=root)
    assert after.fingerprint != before and after.x_train[2, 0, 0, 0] == 77
    (root / "train" / "dog" / "b.bmp").write_bytes((root / "train" / "dog" / "a.bmp").read_bytes())
    assert len(opened("image_folder", path=root).x_train) == 4


@pytest.mark.data
def test_real_pictures_agree_with_the_array_file(sample_data: Path, decoded: Callable[..., Decoded]) -> None:
    folder = decoded("image_folder", path=sample_data / "cifar10_images" / "test")
    assert folder.x_train.shape == (10000, 3, 32, 32)
    assert np.bincount(folder.y_train).tolist() == [1000] * 10
    with np.load(sample_data / "cifar10.npz") as archive:
        x, y = archive["x_test"].transpose(0, 3, 1, 2), archive["y_test"]
    known = sorted((picture.tobytes(), int(label)) for picture, label in zip(x, y, strict=True))
    read = zip(folder.x_train, folder.y_train, strict=True)
    assert sorted((picture.tobytes(), int(label)) for picture, label in read) == known
