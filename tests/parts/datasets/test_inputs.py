"""Pictures and arrays from outside, in the form a network was trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dnntrain.errors import DataError
from dnntrain.parts.datasets.inputs import Inputs, Resizing, stream_inputs

COLOURS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
SHAPE = (3, 4, 6)


def read_inputs(
    paths: list[Path], shape: tuple[int, ...], *, full_scale: float, resize: Resizing | None = None
) -> Inputs:
    (read,) = stream_inputs(paths, shape, full_scale=full_scale, batch_size=100, resize=resize)
    return read


def test_a_picture_comes_channels_first(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "a.png")
    read = read_inputs([tmp_path / "a.png"], SHAPE, full_scale=255.0)
    assert read.names == [str(tmp_path / "a.png")]
    assert read.x.dtype == np.uint8
    np.testing.assert_array_equal(read.x[0], COLOURS.transpose(2, 0, 1))


def test_a_grey_network_sees_grey_in_its_own_scale(tmp_path: Path) -> None:
    Image.fromarray(COLOURS[..., 0]).save(tmp_path / "a.png")
    read = read_inputs([tmp_path / "a.png"], (1, 4, 6), full_scale=16.0)
    np.testing.assert_allclose(read.x[0, 0], COLOURS[..., 0] * 16.0 / 255.0, rtol=1e-6)


def test_a_folder_is_read_in_order_and_with_its_subfolders(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", "sub/c.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(COLOURS).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a picture")
    read = read_inputs([tmp_path], SHAPE, full_scale=255.0)
    assert [Path(name).name for name in read.names] == ["a.png", "b.png", "c.jpg"]


@pytest.mark.parametrize(
    ("array", "rows"),
    [
        (np.zeros((5, 3, 4, 6), np.uint8), 5),
        (np.zeros((5, 4, 6, 3), np.uint8), 5),
        (np.zeros((3, 4, 6), np.float64), 1),
        (np.zeros((4, 6, 3), np.uint8), 1),
    ],
    ids=lambda value: str(getattr(value, "shape", value)),
)
def test_arrays_are_taken_in_every_usual_form(array: np.ndarray, rows: int, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)
    read = read_inputs([tmp_path / "a.npy"], SHAPE, full_scale=255.0)
    assert read.x.shape == (rows, *SHAPE)
    assert read.x.dtype == (np.uint8 if array.dtype == np.uint8 else np.float32)
    assert len(read.names) == rows


def test_channels_last_is_turned_and_not_reshaped(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_test=COLOURS[None])
    read = read_inputs([tmp_path / "a.npz"], SHAPE, full_scale=255.0)
    np.testing.assert_array_equal(read.x[0], COLOURS.transpose(2, 0, 1))


def test_grey_arrays_may_leave_out_the_channel(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", COLOURS[..., 0])
    np.save(tmp_path / "b.npy", COLOURS[None, ..., 0])
    read = read_inputs([tmp_path / "a.npy", tmp_path / "b.npy"], (1, 4, 6), full_scale=255.0)
    assert read.x.shape == (2, 1, 4, 6)


def test_rows_of_features(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(6.0).reshape(2, 3))
    read = read_inputs([tmp_path / "a.npy"], (3,), full_scale=1.0)
    assert read.names == [f"{tmp_path / 'a.npy'}[0]", f"{tmp_path / 'a.npy'}[1]"]
    assert read.x.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "wide.png")
    np.save(tmp_path / "odd.npy", np.zeros((2, 7)))
    np.savez(tmp_path / "other.npz", pictures=np.zeros((1, 3, 4, 6)))
    np.save(tmp_path / "text.npy", np.array(["a"]))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG nothing")
    (tmp_path / "broken.npz").write_bytes(b"PK nothing")
    (tmp_path / "empty").mkdir()
    for name, shape, message in [
        ("missing.png", SHAPE, "there is no file"),
        ("wide.png", (3, 8, 8), "is 6 x 4 pixels, but the network takes 8 x 8"),
        ("wide.png", (10,), "which a picture is not; give it an array"),
        ("odd.npy", SHAPE, r"has shape \(2, 7\), but the network takes samples of shape \(3, 4, 6\)"),
        ("other.npz", SHAPE, "holds pictures; the samples must be called one of"),
        ("text.npy", (1,), "not numbers"),
        ("broken.png", SHAPE, "cannot be read as a picture"),
        ("broken.npz", SHAPE, "is damaged, or not a NumPy file"),
        ("empty", SHAPE, "there is nothing to predict"),
    ]:
        with pytest.raises(DataError, match=message) as caught:
            read_inputs([tmp_path / name], shape, full_scale=255.0)
        assert name in str(caught.value)


def enlarge(x: np.ndarray) -> np.ndarray:
    """Stand in for what resizes: every pixel of the first column and row, repeated."""
    assert x.ndim == 4 and x.flags.c_contiguous
    return np.broadcast_to(x[:, :, :1, :1], (*x.shape[:2], *SHAPE[1:])).copy()


def test_pictures_of_any_size_are_resized_where_the_experiment_does_so(tmp_path: Path) -> None:
    Image.fromarray(COLOURS[:2, :3]).save(tmp_path / "a.png")
    Image.fromarray(COLOURS).save(tmp_path / "b.png")
    np.save(tmp_path / "c.npy", np.stack([COLOURS[:2, :5]] * 2))
    np.save(tmp_path / "d.npy", COLOURS[:2].transpose(2, 0, 1))
    read = read_inputs([tmp_path], SHAPE, full_scale=255.0, resize=enlarge)
    assert read.x.shape == (2, *SHAPE)
    arrays = read_inputs([tmp_path / "c.npy", tmp_path / "d.npy"], SHAPE, full_scale=255.0, resize=enlarge)
    assert arrays.x.shape == (3, *SHAPE)
    for row in (*read.x, *arrays.x):
        np.testing.assert_array_equal(row[:, 0, 0], COLOURS[0, 0])


@pytest.mark.parametrize("shape", [(5, 2, 7, 9), (7, 9), (2, 7, 0, 3)])
def test_an_array_of_other_channels_is_refused_all_the_same(shape: tuple[int, ...], tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
    with pytest.raises(DataError, match="takes samples of shape"):
        read_inputs([tmp_path / "a.npy"], SHAPE, full_scale=255.0, resize=enlarge)


def test_a_grey_array_of_any_size_may_leave_its_channel_out(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((5, 7, 9), 3, np.uint8))
    read = read_inputs([tmp_path / "a.npy"], (1, 4, 6), full_scale=255.0, resize=enlarge)
    assert read.x.shape == (5, 1, 4, 6)


def test_batches_are_full_but_for_the_last_and_bytes_stay_bytes(tmp_path: Path) -> None:
    np.save(tmp_path / "bytes.npy", np.arange(5 * 72, dtype=np.uint16).astype(np.uint8).reshape(5, *SHAPE))
    np.save(tmp_path / "floats.npy", np.ones((2, *SHAPE)))
    paths = [tmp_path / "bytes.npy", tmp_path / "floats.npy"]
    pieces = list(stream_inputs(paths, SHAPE, full_scale=255.0, batch_size=3))
    assert [len(piece.names) for piece in pieces] == [3, 3, 1]
    assert [piece.x.dtype for piece in pieces] == [np.uint8, np.float32, np.float32]
    np.testing.assert_array_equal(pieces[0].x, np.load(paths[0])[:3])
    np.testing.assert_array_equal(pieces[1].x[:2], np.load(paths[0])[3:])


def test_a_folder_that_a_link_leads_back_to_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    Image.fromarray(COLOURS).save(tmp_path / "sub" / "a.png")
    assert read_inputs([tmp_path], SHAPE, full_scale=255.0).names == [str(tmp_path / "sub" / "a.png")]
