"""`data.resize`: the same pictures for training, validation, test, predictions and a network that is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import dnntrain
from dnntrain import build, spec
from dnntrain.errors import SpecError
from dnntrain.parts.transforms import Resize
from dnntrain.placement import place
from dnntrain.spec import Spec
from dnntrain.trained import predict


def made(data: str = "", architecture: str = "{name: cnn, widths: [4]}", dataset: str = "digits") -> Spec:
    return spec.loads(
        f"data: {{dataset: {dataset}, validation: {{size: 40}}{data}}}\n"
        f"model: {{architecture: {architecture}}}\ntraining: {{epochs: 1}}\nmetrics: accuracy\n",
        source="t.yaml",
    )


def built(experiment: Spec) -> Any:
    data = build.open_data(experiment)
    experiment = build.resolve(experiment, data)
    return build.build(experiment, data, place(experiment)), data


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dnntrain.RunRecord:
    return dnntrain.train(
        made(", limit: 200, resize: [12, 10], augment: {name: random_crop, padding: 1}"),
        runs=tmp_path_factory.mktemp("runs"),
        test=True,
    )


@pytest.mark.parametrize(("written", "size"), [("12", (12, 12)), ("[12, 10]", (12, 10))])
def test_every_part_is_brought_to_the_size(written: str, size: tuple[int, int]) -> None:
    ready, data = built(made(f", limit: 64, resize: {written}"))
    assert data.shape == (1, *size)
    for part in (ready.train.examples, ready.valid):
        assert next(part.slices(4))[0].shape == (4, 1, *size)
    (batch,) = next(iter(ready.train.epoch()))
    assert batch[0].shape[1:] == (1, *size)


def test_what_the_network_sees_is_resized_then_standardized_by_what_was_resized() -> None:
    ready, data = built(made(", limit: 64, resize: 12, standardize: feature"))
    part = data.parts.train
    raw = Resize((12, 12))(torch.from_numpy(part.x[part.index])).double()
    deviation = raw.std(0, correction=0)
    expected = (raw - raw.mean(0)) / torch.where(deviation == 0, 1.0, deviation)
    x, _ = ready.train.examples.take(torch.arange(64))
    torch.testing.assert_close(x.double(), expected, rtol=1e-5, atol=1e-5)


def test_augmentation_sees_resized_pictures() -> None:
    ready, _ = built(made(", limit: 64, resize: 12, augment: horizontal_flip"))
    seen: list[tuple[int, ...]] = []

    def watch(x: torch.Tensor, y: torch.Tensor, generator: torch.Generator) -> Any:
        seen.append(tuple(x.shape[1:]))
        assert x.dtype == torch.uint8
        return x, y

    augment = ready.train._augment
    augment.raw[:] = [watch]
    next(iter(ready.train.epoch()))
    assert seen == [(1, 12, 12)]


def test_a_loaded_network_resizes_by_itself(run: dnntrain.RunRecord) -> None:
    trained = dnntrain.load(run.path)
    assert trained.shape == (1, 12, 10)
    x = torch.randint(0, 17, (3, 1, 8, 8), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(trained(x), trained(Resize((12, 10))(x)))
        assert trained(torch.randint(0, 17, (2, 1, 31, 29), dtype=torch.uint8)).shape == (2, 10)


def test_measuring_again_gives_what_training_recorded(run: dnntrain.RunRecord) -> None:
    measured = dnntrain.evaluate(run.path)
    assert run.test is not None
    assert measured["test/loss"] == pytest.approx(run.test["test/loss"], rel=1e-6)


def test_pictures_of_any_size_are_predicted(run: dnntrain.RunRecord, tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (20, 15), dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / "a.png")
    np.save(tmp_path / "b.npy", grey[None, None])
    pictured, rows = predict(run.path, [tmp_path / "a.png", tmp_path / "b.npy"])
    trained = dnntrain.load(run.path)
    with torch.inference_mode():
        scaled = torch.from_numpy(grey[None, None].astype(np.float32) * np.float32(16 / 255))
        for one, x in ((pictured, scaled), (rows, torch.from_numpy(grey[None, None]))):
            expected = trained(x).softmax(1)[0]
            torch.testing.assert_close(torch.tensor(list(one.values.values())), expected, rtol=1e-4, atol=1e-6)


def test_going_on_with_another_size_is_refused(run: dnntrain.RunRecord) -> None:
    with pytest.raises(dnntrain.errors.DnntrainError, match="resize"):
        dnntrain.resume(run.path, overrides=["data.resize=16", "training.epochs=2"])


def test_numbers_are_not_resized() -> None:
    experiment = spec.loads(
        "data: {dataset: diabetes,\n  resize: 8}\nmodel: {architecture: {name: mlp, hidden: [4]}}\n", source="t.yaml"
    )
    with pytest.raises(SpecError, match=r"t\.yaml:2:11: there are no pictures to resize: .* has features"):
        build.resolve(experiment, build.open_data(experiment))


@pytest.mark.parametrize("written", ["0", "[8]", "[8, 8, 8]", "[8, 0]", "big", "5000", "8.5"])
def test_what_is_no_size_is_refused(written: str) -> None:
    with pytest.raises(SpecError, match=r"t\.yaml:1:"):
        made(f", resize: {written}")
