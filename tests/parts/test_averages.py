"""Averages of the weights against NumPy, and their place in training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dnntrain import build, spec
from dnntrain.parts.averages import averages
from dnntrain.placement import place
from dnntrain.training.averaging import Average
from dnntrain.training.hooks import Hook, RunView
from dnntrain.training.trainer import Trainer


class View:
    """As much of a run as an average looks at."""

    def __init__(self, model: nn.Module, epochs: int = 4, steps_per_epoch: int = 3) -> None:
        self.model, self.epochs, self.steps_per_epoch = model, epochs, steps_per_epoch
        self.epoch, self.epoch_step = 1, 0


def walk(average: Average, view: View, *, seed: int = 0) -> list[tuple[int, int, np.ndarray]]:
    """Give a layer random weights at every step; return epoch, step and weights."""
    generator = torch.Generator().manual_seed(seed)
    seen = []
    for epoch in range(1, view.epochs + 1):
        for step in range(1, view.steps_per_epoch + 1):
            with torch.no_grad():
                view.model.weight.normal_(generator=generator)
            view.epoch, view.epoch_step = epoch, step
            average.on_step_end(view)
            seen.append((epoch, step, view.model.weight.detach().numpy().copy()))
    return seen


def made(value: Any) -> Average:
    return averages.choose(value).build()


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
def test_ema_is_the_recursion(decay: float) -> None:
    average, view = made({"name": "ema", "decay": decay}), View(nn.Linear(3, 2))
    seen = walk(average, view)
    expected = seen[0][2].astype(np.float64)
    for _, _, weight in seen[1:]:
        expected = decay * expected + (1 - decay) * weight
    np.testing.assert_allclose(average.weights()["weight"].numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("start", "first"), [(0.0, 1), (0.5, 3), (0.75, 4)])
def test_swa_is_the_mean_of_the_last_epochs_ends(start: float, first: int) -> None:
    average, view = made({"name": "swa", "start": start}), View(nn.Linear(3, 2))
    seen = walk(average, view)
    expected = np.mean([weight for epoch, step, weight in seen if step == 3 and epoch >= first], axis=0)
    np.testing.assert_allclose(average.weights()["weight"].numpy(), expected, rtol=1e-5, atol=1e-6)


def test_there_is_no_average_before_anything_was_taken_in() -> None:
    average, view = made("swa"), View(nn.Linear(3, 2))
    assert average.weights() is None
    average.on_step_end(view)
    assert average.weights() is None


def test_counters_are_copied_and_statistics_averaged() -> None:
    average, model = made({"name": "ema", "decay": 0.5}), nn.BatchNorm1d(2)
    model.weight.requires_grad_(False)
    for _ in range(3):
        model(torch.randn(8, 2))
        average.on_step_end(View(model))
    weights = average.weights()
    assert weights["num_batches_tracked"].item() == 3
    assert not torch.equal(weights["running_mean"], model.running_mean)


@pytest.mark.parametrize("name", averages.names())
def test_an_average_goes_on_from_its_state(name: str) -> None:
    view = View(nn.Linear(3, 2), epochs=8)
    whole = made({"name": name})
    walk(whole, view)
    walk(whole, view, seed=1)
    first, second, other = made({"name": name}), made({"name": name}), View(nn.Linear(3, 2), epochs=8)
    walk(first, other)
    second.load_state_dict(first.state_dict())
    walk(second, other, seed=1)
    assert torch.equal(whole.weights()["weight"], second.weights()["weight"])


class Watch(Hook):
    """Notes what is evaluated and what is trained at the end of each epoch."""

    def __init__(self) -> None:
        self.evaluated: list[torch.Tensor] = []
        self.trained: list[torch.Tensor] = []

    def on_epoch_end(self, run: RunView, /) -> None:
        self.evaluated.append(run.weights()["dense1.weight"].clone())
        self.trained.append(run.model.dense1.weight.detach().clone())


def fitted(average: str, *, callbacks: str = "[]") -> tuple[Trainer, Watch, build.Data]:
    experiment = spec.loads(
        "{data: {dataset: digits, limit: 200}, model: {architecture: {name: mlp, hidden: [16]}, normalization: batch}, "
        "optimizer: {name: sgd, lr: 0.5}, schedule: constant, "
        f"training: {{epochs: 4, threads: 1, average: {average}}}, callbacks: {callbacks}}}"
    )
    data = build.open_data(experiment)
    experiment = build.resolve(experiment, data)
    watch = Watch()
    trainer = Trainer(build.build(experiment, data, place(experiment)), watch)
    trainer.fit()
    return trainer, watch, data


def test_averaging_does_not_change_the_training_it_watches() -> None:
    plain, averaged = fitted("null")[1], fitted("ema")[1]
    for one, other in zip(plain.trained, averaged.trained, strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(averaged.trained[-1], averaged.evaluated[-1])
    assert torch.equal(plain.trained[-1], plain.evaluated[-1])


def test_training_ends_with_the_average() -> None:
    trainer, watch, _ = fitted("{name: ema, decay: 0.9}")
    assert torch.equal(trainer.model.dense1.weight, watch.evaluated[-1])
    assert not torch.equal(trainer.model.dense1.weight, watch.trained[-1])


def test_the_best_weights_are_averaged_ones() -> None:
    trainer, watch, _ = fitted("{name: ema, decay: 0.9}", callbacks="[{name: early_stopping, patience: 50}]")
    best = trainer.best_epoch
    assert best is not None
    assert torch.equal(trainer.model.dense1.weight, watch.evaluated[best - 1])


def test_swa_evaluates_the_plain_weights_until_it_starts() -> None:
    _, watch, _ = fitted("{name: swa, start: 0.5}")
    same = [torch.equal(a, b) for a, b in zip(watch.evaluated, watch.trained, strict=True)]
    assert same == [True, True, True, False]  # the third epoch's average is that epoch's weights
