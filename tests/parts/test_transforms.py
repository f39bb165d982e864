from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.lib.format import open_memmap

from dnntrain.errors import DataError
from dnntrain.parts import transforms
from dnntrain.parts.transforms import Resize, Standardize, fit_standardize

RNG = np.random.default_rng(0)


def reference(x: np.ndarray, index: np.ndarray, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    rows = x[index].astype(np.float64)
    mean, deviation = rows.mean(axis=axes, keepdims=True)[0], rows.std(axis=axes, keepdims=True)[0]
    return mean, np.where(deviation == 0, 1, deviation)


def check(module: Standardize, x: np.ndarray, index: np.ndarray, axes: tuple[int, ...]) -> None:
    mean, deviation = reference(x, index, axes)
    assert module.scale.dtype == module.shift.dtype == torch.float32
    assert tuple(module.scale.shape) == mean.shape
    np.testing.assert_allclose(module.scale.numpy(), 1 / deviation, rtol=1e-6)
    expected = (x.astype(np.float64) - mean) / deviation
    magnitude = 1 + np.abs(mean / deviation).max() + np.abs(expected).max()
    result = module(torch.from_numpy(x))
    assert result.dtype == torch.float32 and result.shape == x.shape
    np.testing.assert_allclose(result.numpy(), expected, atol=4e-7 * magnitude)


PICTURES = RNG.integers(0, 256, (700, 3, 6, 5), dtype=np.uint8)
SORTED = np.sort(RNG.permutation(700)[:600])
INDICES = {"all": np.arange(700), "sorted": SORTED, "shuffled": RNG.permutation(SORTED), "one": np.array([7])}


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES.keys())
@pytest.mark.parametrize(("mode", "axes"), [("channel", (0, 2, 3)), ("feature", (0,))])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_pictures(mode: Any, axes: tuple[int, ...], dtype: Any, index: np.ndarray) -> None:
    x = PICTURES.astype(dtype)
    check(fit_standardize(mode, x, index, full_scale=255.0, layout="pictures"), x, index, axes)


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES.keys())
def test_features_and_sequences(index: np.ndarray) -> None:
    x = (RNG.normal(size=(700, 9)) * 10.0 ** np.arange(-4, 5) + np.arange(9)).astype(np.float32)
    check(fit_standardize("feature", x, index, full_scale=1.0, layout="features"), x, index, (0,))
    x = RNG.normal(3, 2, size=(700, 4, 3)).astype(np.float32)
    check(fit_standardize("feature", x, index, full_scale=1.0, layout="sequences"), x, index, (0, 1))


def test_only_the_training_part_counts() -> None:
    x = np.array([[0], [2], [1000]], dtype=np.float32)
    module = fit_standardize("feature", x, np.array([0, 1]), full_scale=1.0, layout="features")
    assert module(torch.from_numpy(x)).tolist() == [[-1], [1], [999]]


def test_the_population_form_is_used() -> None:
    module = fit_standardize("feature", np.array([[1], [5]], np.uint8), np.arange(2), full_scale=255, layout="features")
    assert module.scale.item() == 0.5, "the sample form would give a deviation of sqrt(8)"


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(("layout", "shape"), [("pictures", (1, 2, 2)), ("features", (4,)), ("sequences", (2, 2))])
def test_constant_values_become_exactly_zero(dtype: Any, layout: str, shape: tuple[int, ...]) -> None:
    value = 0.1 if dtype == np.float32 else 77
    x = np.full((1001, *shape), value, dtype=dtype)
    module = fit_standardize("feature", x, np.arange(1001), full_scale=1.0, layout=layout)
    assert torch.all(module.scale == 1)
    assert torch.all(module(torch.from_numpy(x)) == 0)


def test_a_deviation_whose_inverse_would_overflow_counts_as_zero() -> None:
    x = np.array([[0], [1e-44]], dtype=np.float32)
    module = fit_standardize("feature", x, np.arange(2), full_scale=1.0, layout="features")
    assert module.scale.tolist() == [1.0]


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.floats(-1e6, 1e6, width=32)
    )
)
def test_statistics_of_any_features(x: np.ndarray) -> None:
    index = np.arange(len(x))
    module = fit_standardize("feature", x, index, full_scale=1.0, layout="features")
    mean, deviation = reference(x, index, (0,))
    # Below the smallest normal number of float32 a deviation counts as 0.
    varies = (np.ptp(x, axis=0) > 0) & (deviation >= np.finfo(np.float32).tiny)
    np.testing.assert_allclose(module.scale.numpy()[varies], 1 / deviation[varies], rtol=1e-5)
    assert torch.all(module.scale[torch.from_numpy(~varies)] == 1)


def test_a_large_offset_costs_no_accuracy() -> None:
    x = (1e4 + RNG.integers(0, 2, (5000, 1))).astype(np.float32)
    check(fit_standardize("feature", x, np.arange(5000), full_scale=1.0, layout="features"), x, np.arange(5000), (0,))


def test_sums_of_bytes_are_exact() -> None:
    # All at full scale but one: a float32 sum over all rows would lose the difference.
    # The squares of the sums have more digits than float64.
    x = np.full((1001, 1, 63, 65), 255, dtype=np.uint8)
    x[0, 0, 0, 0] = 254
    module = fit_standardize("channel", x, np.arange(1001), full_scale=255.0, layout="pictures")
    assert module.scale.item() == pytest.approx(x.size / np.sqrt(x.size - 1), rel=2e-7)


def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    x = PICTURES.astype(np.float32)
    whole = fit_standardize("feature", x, SORTED, full_scale=1.0, layout="pictures")
    monkeypatch.setattr(transforms, "_CHUNK_VALUES", 1)
    rowwise = fit_standardize("feature", x, SORTED, full_scale=1.0, layout="pictures")
    torch.testing.assert_close(whole.scale, rowwise.scale, rtol=1e-6, atol=0)


def test_rows_of_a_mapped_file_are_read_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mapped = open_memmap(tmp_path / "x.npy", mode="w+", dtype=np.uint8, shape=(2000, 3, 4, 4))
    mapped[:] = RNG.integers(0, 256, mapped.shape)
    seen: list[int] = []
    chunks = transforms._Rows.chunks

    def watch(rows: Any, most: int) -> Any:
        for chunk in chunks(rows, most):
            seen.append(len(chunk))
            yield chunk

    monkeypatch.setattr(transforms._Rows, "chunks", watch)
    index = np.arange(5, 1990, 2)
    module = fit_standardize("feature", mapped, index, full_scale=255.0, layout="pictures")
    assert sum(seen) == len(index) and max(seen) <= 258
    check(module, np.asarray(mapped), index, (0,))


def test_unit_divides_by_the_full_scale() -> None:
    module = fit_standardize("unit", PICTURES, SORTED, full_scale=255.0, layout="pictures")
    x = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    torch.testing.assert_close(module(x), x.float() / 255, rtol=1e-6, atol=0)
    assert module(x).max() == 1.0
    digits = fit_standardize("unit", np.zeros((1, 64), np.float32), SORTED, full_scale=16.0, layout="features")
    assert digits(torch.tensor([[16.0]])).item() == 1.0


def test_none_only_converts() -> None:
    module = fit_standardize("none", PICTURES, SORTED, full_scale=255.0, layout="pictures")
    assert torch.equal(module(torch.from_numpy(PICTURES)), torch.from_numpy(PICTURES).float())
    values = torch.tensor([1e-40, 3e38, -0.1])
    assert torch.equal(module(values), values)


@pytest.mark.parametrize("layout", ["features", "sequences"])
def test_modes_that_do_not_fit_say_which_one_does(layout: str) -> None:
    x = np.zeros((3, 4), np.float32)
    with pytest.raises(DataError, match=f"'channel' needs pictures, not {layout}; use 'feature'"):
        fit_standardize("channel", x, np.arange(3), full_scale=1.0, layout=layout)
    with pytest.raises(DataError, match=f"'unit' needs data with a known full scale, not {layout}; use 'feature'"):
        fit_standardize("unit", x, np.arange(3), full_scale=1.0, layout=layout)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float64, torch.bool])
@pytest.mark.parametrize("shape", [(), (3, 1, 1), (3, 2, 2)])
def test_any_input_gives_float32(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    module = Standardize(np.full(shape, 0.5), np.full(shape, 0.25))
    x = torch.ones(5, 3, 2, 2).to(dtype)
    assert module(x).dtype == torch.float32
    assert torch.all(module(x) == 2.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert module(x).dtype == torch.float32


def test_it_is_part_of_the_model() -> None:
    module = fit_standardize("channel", PICTURES, SORTED, full_scale=255.0, layout="pictures")
    assert set(module.state_dict()) == {"scale", "shift"} and not list(module.parameters())
    other = Standardize(np.zeros((3, 1, 1)), np.ones((3, 1, 1)))
    other.load_state_dict(module.state_dict())
    x = torch.from_numpy(PICTURES[:4])
    assert torch.equal(other(x), module(x))
    assert module.to("meta").scale.device.type == "meta"


def test_the_input_is_left_alone_and_gradients_pass() -> None:
    module = Standardize(np.array([1.0, 2.0]), np.array([2.0, 4.0]))
    x = torch.tensor([[3.0, 4.0]], requires_grad=True)
    module(x).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [[0.5, 0.25]]
    assert x.tolist() == [[3.0, 4.0]]


@pytest.mark.cuda
def test_the_device_computes_the_same() -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    module = fit_standardize("feature", PICTURES, SORTED, full_scale=255.0, layout="pictures")
    x = torch.from_numpy(PICTURES)
    expected = module(x)
    torch.testing.assert_close(module.to("cuda")(x.to("cuda")).cpu(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.data
def test_statistics_of_real_pictures() -> None:
    folder = os.environ.get("DNNTRAIN_TEST_DATA")
    if not folder:
        pytest.skip("DNNTRAIN_TEST_DATA does not name the folder of sample data")
    raw = Path(folder, "MNIST", "raw", "train-images-idx3-ubyte").read_bytes()
    x = np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 1, 28, 28)
    module = fit_standardize("channel", x, np.arange(5000, 20000), full_scale=255.0, layout="pictures")
    rows = x[5000:20000].astype(np.float64)
    assert module.scale.item() == pytest.approx(1 / rows.std(), rel=1e-6)
    assert module.shift.item() == pytest.approx(-rows.mean() / rows.std(), rel=1e-6)
    borders = fit_standardize("feature", x, np.arange(60000), full_scale=255.0, layout="pictures")
    assert borders.scale[0, 0, 0] == 1.0 and borders.shift[0, 0, 0] == 0.0


def shrunk(row: np.ndarray, size: int) -> np.ndarray:
    """Resize one row by the equation: weights of a triangle as wide as the larger pixels, normalized at the borders."""
    scale = len(row) / size
    width = max(1.0, scale)
    result = np.zeros(size)
    for i in range(size):
        center = (i + 0.5) * scale
        weights = np.maximum(0.0, 1.0 - np.abs(np.arange(len(row)) + 0.5 - center) / width)
        result[i] = weights @ row / weights.sum()
    return result


@pytest.mark.parametrize("size", [(3, 11), (9, 2), (6, 5), (13, 17)])
def test_resizing_is_the_equation_in_both_directions(size: tuple[int, int]) -> None:
    x = RNG.normal(size=(2, 3, 6, 5)).astype(np.float32)
    expected = np.apply_along_axis(shrunk, 3, np.apply_along_axis(shrunk, 2, x, size[0]), size[1])
    result = Resize(size)(torch.from_numpy(x))
    assert result.dtype == torch.float32
    np.testing.assert_allclose(result.numpy(), expected, atol=2e-6)


def test_resized_bytes_stay_bytes_and_are_rounded() -> None:
    x = torch.from_numpy(PICTURES[:5])
    result, exact = Resize((9, 4))(x), Resize((9, 4))(x.float())
    assert result.dtype == torch.uint8
    assert (result - exact).abs().max() < 0.501
    floats = Resize((9, 4), whole=True)(x.float())
    assert floats.dtype == torch.float32
    assert torch.equal(floats, result.float())
    assert Resize((9, 4), whole=True)(torch.full((1, 1, 2, 2), 300.0)).max() == 255


def test_rounding_errors_do_not_decide_halves() -> None:
    # At six times their number, a pixel between 0 and 6 k lies at k (2 i + 1) / 2, and float32 misses many of them.
    x = torch.tensor([[0, 6 * k] for k in range(40)], dtype=torch.uint8).view(40, 1, 1, 2)
    middle = Resize((1, 12))(x)[:, 0, 0, 3:9]
    exact = np.arange(40)[:, None] * (2 * np.arange(6) + 1) / 2
    assert middle.tolist() == np.floor(exact + 0.5).tolist()


def test_resizing_is_torchvisions() -> None:
    from torchvision.transforms.v2.functional import resize

    x = torch.from_numpy(PICTURES[:5].astype(np.float32))
    torch.testing.assert_close(Resize((4, 9))(x), resize(x, [4, 9], antialias=True))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_pictures_of_the_size_are_left_alone(dtype: Any) -> None:
    x = torch.from_numpy(PICTURES[:5].astype(dtype))
    assert Resize((6, 5))(x) is x


@pytest.mark.parametrize(("mode", "axes"), [("channel", (0, 2, 3)), ("feature", (0,))])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_statistics_are_those_of_resized_pictures(
    mode: Any, axes: tuple[int, ...], dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transforms, "_CHUNK_VALUES", 1000)
    x, resize = PICTURES.astype(dtype), Resize((8, 7))
    made = fit_standardize(mode, x, SORTED, full_scale=255.0, layout="pictures", resize=resize)
    check(made, resize(torch.from_numpy(x)).numpy(), SORTED, axes)
