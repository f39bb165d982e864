"""What is measured of a network on one part of its data, and the sheet of its worst samples."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import dnntrain
from dnntrain import build
from dnntrain.errors import StoreError, UsageError
from dnntrain.trained import Evaluation, assess
from dnntrain.trained.evaluating import Worst, as_bytes
from dnntrain.trained.sheet import check_sheet, draw_sheet, write_sheet

TRAINING = {"epochs": 1, "device": "cpu", "threads": 1}
MODEL = {"architecture": {"name": "mlp", "hidden": [16]}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = {"data": {"dataset": "digits", "limit": 200}, "model": MODEL, "training": TRAINING}
    return dnntrain.train(spec, runs=tmp_path_factory.mktemp("runs")).path


def test_figures_are_those_of_the_networks_own_outputs(run: Path) -> None:
    made = assess(run, worst=4)
    trained = dnntrain.load(run)
    part = build.open_data(trained.spec).parts.test
    assert part is not None
    x, y = torch.from_numpy(part.x[part.index]), torch.from_numpy(part.y[part.index])
    with torch.no_grad():
        logits = trained(x)
    assert made.metrics == dnntrain.evaluate(run)
    assert made.samples == len(y) == 359
    assert made.classified is not None
    right = sum(made.classified.confusion[k][k] for k in range(10))
    assert right / 359 == pytest.approx(made.metrics["test/accuracy"])
    assert made.classified.weighted.recall == pytest.approx(made.metrics["test/accuracy"])
    assert made.classified.calibration.nll == pytest.approx(made.metrics["test/loss"], rel=1e-5)
    losses = F.cross_entropy(logits, y, reduction="none")
    worst = losses.argsort(descending=True)[:4]
    assert [each.row for each in made.worst] == part.index[worst].tolist()
    assert made.pictures is not None
    for each, i, pixels in zip(made.worst, worst.tolist(), made.pictures, strict=True):
        assert each.loss == pytest.approx(float(losses[i]), rel=1e-4)
        assert (each.target, each.predicted) == (str(int(y[i])), str(int(logits[i].argmax())))
        assert each.probability == pytest.approx(float(logits[i].softmax(0).max()), rel=1e-4)
        assert each.target_probability == pytest.approx(float(logits[i].softmax(0)[y[i]]), rel=1e-3)
        np.testing.assert_allclose(pixels, np.round(x[i].numpy() * (255 / 16)), atol=1)


def test_pictures_of_the_worst_are_theirs_in_a_part_of_the_training_data(run: Path) -> None:
    made = assess(run, split="valid", worst=3)
    part = build.open_data(dnntrain.load(run).spec).parts.valid
    assert part is not None and made.pictures is not None
    for each, pixels in zip(made.worst, made.pictures, strict=True):
        np.testing.assert_allclose(pixels, np.round(part.x[each.row] * (255 / 16)), atol=1)


def test_one_logit_stands_for_two_classes(tmp_path: Path) -> None:
    spec = {
        "data": {"dataset": "digits", "limit": 100, "classes": [3, 8]}, "model": MODEL, "training": TRAINING,
        "loss": "binary_cross_entropy",
    }  # fmt: skip
    made = assess(dnntrain.train(spec, runs=tmp_path).path, worst=2)
    assert made.classified is not None
    assert [each.name for each in made.classified.classes] == ["3", "8"]
    assert made.classified.calibration.nll == pytest.approx(made.metrics["test/loss"], rel=1e-5)
    assert {made.worst[0].target} <= {"3", "8"}
    assert made.worst[0].probability is not None
    assert made.worst[0].probability >= 0.5


def test_numbers_have_residuals_and_no_sheet(tmp_path: Path) -> None:
    spec = {"data": {"dataset": "diabetes"}, "model": MODEL, "training": TRAINING}
    run = dnntrain.train(spec, runs=tmp_path).path
    made = assess(run, split="valid", worst=3)
    assert made.classified is None
    part = build.open_data(dnntrain.load(run).spec).parts.valid
    assert part is not None
    assert all(part.y[each.row] == each.target[0] and each.row in part.index for each in made.worst)
    (row,) = made.residuals
    assert row.mae == pytest.approx(made.metrics["valid/mae"], rel=1e-5)
    assert row.rmse**2 == pytest.approx(made.metrics["valid/loss"], rel=1e-5)
    first = made.worst[0]
    assert abs(first.predicted[0] - first.target[0]) == pytest.approx(row.largest)
    with pytest.raises(UsageError, match="no pictures, so there is no sheet"):
        write_sheet(made, tmp_path / "sheet.png")


def test_dropout_can_be_sampled(tmp_path: Path) -> None:
    spec = {
        "data": {"dataset": "digits", "limit": 100},
        "model": {**MODEL, "dropout": {"name": "dropout", "rate": 0.5}},
        "training": TRAINING,
    }
    path = dnntrain.train(spec, runs=tmp_path).path
    made = assess(path, mc_samples=3)
    assert made.classified is not None
    assert made.classified.calibration.nll == pytest.approx(made.metrics["test/loss"], rel=1e-4)
    assert made.metrics["test/loss"] != assess(path).metrics["test/loss"]


def test_outputs_that_are_not_finite_are_told(run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    best = torch.load(copy / "checkpoints" / "best.pt", weights_only=True)
    best["model"]["dense1.weight"][0] = float("nan")
    torch.save(best, copy / "checkpoints" / "best.pt")
    with caplog.at_level(logging.WARNING):
        made = assess(copy, worst=2)
    assert "the outputs for 359 of 359 samples are not finite" in caplog.text
    assert np.isnan(made.worst[0].loss)


def sheet_of(pictures: np.ndarray, name: str = "three") -> Image.Image:
    worst = tuple(Worst(i, 2.5, name, "8", 0.9, 0.1) for i in range(len(pictures)))
    return draw_sheet(pictures, worst)


def test_small_pictures_are_drawn_as_squares() -> None:
    pixels = np.array([[[0, 255], [100, 30]]], np.uint8)
    sheet = np.asarray(sheet_of(pixels[None]))
    # The picture's 2 x 2 pixels become 128 x 128, with a margin of 8 around.
    for (top, left), value in {(0, 0): 0, (0, 64): 255, (64, 0): 100, (64, 64): 30}.items():
        assert (sheet[8 + top : 72 + top, 8 + left : 72 + left] == value).all()
    assert (sheet[136:] != 255).any(), "there is text below"


def test_colours_stay_and_large_pictures_shrink() -> None:
    pixels = np.zeros((2, 3, 300, 600), np.uint8)
    pixels[0, 0], pixels[1, 2] = 200, 90
    sheet = np.asarray(sheet_of(pixels))
    assert sheet.shape == (128 + 3 * 15 + 16, 2 * (128 + 16), 3)
    assert sheet[8 + 64, 8 + 64].tolist() == [200, 0, 0]
    assert sheet[8 + 64, 144 + 8 + 64].tolist() == [0, 0, 90]
    assert sheet[8, 8 + 64].tolist() == [255, 255, 255], "half as high as wide"


@pytest.mark.parametrize("name", ["x" * 300, "\x1b[31mred\x1b[0m", "Katze 猫", "a\nb"])
def test_the_name_of_a_class_may_be_anything(name: str) -> None:
    sheet = sheet_of(np.zeros((1, 1, 4, 4), np.uint8), name)
    assert sheet.size == (144, 128 + 3 * 15 + 16)
    text = np.asarray(sheet)[136:]
    assert (text[:, :2] == 255).all() and (text[:, -2:] == 255).all(), "no line reaches the next tile"


def test_bytes_of_any_scale() -> None:
    found = as_bytes(np.array([0.0, 8.0, 16.0, 20.0, np.nan], np.float32), 16.0)
    assert found.tolist() == [0, 128, 255, 255, 0]
    assert as_bytes(np.array([3], np.uint8), 255.0).tolist() == [3]


def test_where_a_sheet_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "there.png").write_text("mine")
    for name, samples, message in [
        ("sheet.jpg", 3, r"must end in \.png"),
        ("there.png", 3, "is there already"),
        ("sheet.png", 501, "at most 500 samples, not 501"),
    ]:
        with pytest.raises(UsageError, match=message):
            check_sheet(tmp_path / name, samples)
    pictures = np.zeros((1, 2, 4, 4), np.uint8)
    made = Evaluation("test", 1, {}, None, (), (Worst(0, 1.0, "a", "b", 0.5, 0.5),), pictures)
    with pytest.raises(UsageError, match="pictures of 2 channels cannot be shown"):
        write_sheet(made, tmp_path / "sheet.png")
    grey = Evaluation("test", 1, {}, None, (), made.worst, pictures[:, :1])
    with pytest.raises(StoreError, match="cannot write"):
        write_sheet(grey, tmp_path / "nowhere" / "sheet.png")
    write_sheet(grey, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.format == "PNG"
