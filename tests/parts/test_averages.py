"""Averages of the weights against NumPy, and their place in training."""

from __future__ import annotations

import signal
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dnntrain import build, spec
from dnntrain.errors import Interrupted
from dnntrain.parts.averages import averages
from dnntrain.placement import place
from dnntrain.training import averaging
from dnntrain.training.averaging import Average, measure_statistics
from dnntrain.training.batches import Batches, Examples
from dnntrain.training.built import Built
from dnntrain.training.hooks import Hook, RunView
from dnntrain.training.state import copied
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


def test_ema_copies_counters_and_averages_statistics() -> None:
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


def prepared(average: str, *observers: Hook, callbacks: str = "[]", validation: str = "{fraction: 0.1}") -> Trainer:
    experiment = spec.loads(
        f"{{data: {{dataset: digits, limit: 200, validation: {validation}, "
        "augment: {name: random_crop, padding: 1}}, "
        "model: {architecture: {name: mlp, hidden: [16]}, normalization: batch, dropout: {name: dropout, rate: 0.1}}, "
        "optimizer: {name: sgd, lr: 0.5}, schedule: constant, "
        f"training: {{epochs: 4, threads: 1, average: {average}}}, callbacks: {callbacks}}}"
    )
    data = build.open_data(experiment)
    experiment = build.resolve(experiment, data)
    torch.manual_seed(1)
    return Trainer(build.build(experiment, data, place(experiment)), *observers)


def fitted(average: str, *, callbacks: str = "[]", validation: str = "{fraction: 0.1}") -> tuple[Trainer, Watch]:
    watch = Watch()
    trainer = prepared(average, watch, callbacks=callbacks, validation=validation)
    trainer.fit()
    return trainer, watch


@pytest.mark.parametrize("average", ["ema", "{name: swa, start: 0.0}"])
def test_averaging_does_not_change_the_training_it_watches(average: str) -> None:
    plain, averaged = fitted("null")[1], fitted(average)[1]
    for one, other in zip(plain.trained, averaged.trained, strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(averaged.trained[-1], averaged.evaluated[-1])
    assert torch.equal(plain.trained[-1], plain.evaluated[-1])


def test_training_ends_with_the_average() -> None:
    trainer, watch = fitted("{name: ema, decay: 0.9}")
    assert torch.equal(trainer.model.dense1.weight, watch.evaluated[-1])
    assert not torch.equal(trainer.model.dense1.weight, watch.trained[-1])


def test_the_best_weights_are_averaged_ones() -> None:
    trainer, watch = fitted("{name: ema, decay: 0.9}", callbacks="[{name: early_stopping, patience: 50}]")
    best = trainer.best_epoch
    assert best is not None
    assert torch.equal(trainer.model.dense1.weight, watch.evaluated[best - 1])


def test_swa_evaluates_the_plain_weights_until_it_starts() -> None:
    _, watch = fitted("{name: swa, start: 0.5}")
    same = [torch.equal(a, b) for a, b in zip(watch.evaluated, watch.trained, strict=True)]
    assert same == [True, True, True, False]  # the third epoch's average is that epoch's weights


def of_the_whole_training_part(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Return the statistics of the first layer's outputs at the model's weights, over plain samples in one batch."""
    train, dense = trainer.built.train.examples, trainer.model.dense1
    x, _ = next(train.slices(len(train)))
    z = x.flatten(1).double() @ dense.weight.detach().double().T
    return {"norm1.running_mean": z.mean(dim=0), "norm1.running_var": z.var(dim=0)}


@pytest.mark.parametrize("validation", ["{fraction: 0.1}", "none"])
def test_the_statistics_of_swa_are_those_of_its_mean_weights(validation: str) -> None:
    trainer, _ = fitted("{name: swa, start: 0.25}", validation=validation)
    state = trainer.model.state_dict()
    assert state["norm1.num_batches_tracked"].item() == trainer.step
    for name, expected in of_the_whole_training_part(trainer).items():
        torch.testing.assert_close(state[name].double(), expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(state[name], trainer.weights()[name])


def test_the_statistics_are_measured_at_every_epoch_that_is_averaged() -> None:
    class Note(Hook):
        def on_epoch_end(self, run: RunView, /) -> None:
            noted.append((run.epoch, run.weights()["norm1.running_mean"].clone(), run.row["valid/loss"]))

    noted: list[Any] = []
    trainer = prepared("{name: swa, start: 0.25}", Note())
    measured: list[torch.Tensor] = []
    settle = Average.settle

    def settled(average: Average, model: nn.Module, *arguments: Any, **options: Any) -> None:
        settle(average, model, *arguments, **options)
        measured.append(of_the_whole_training_part(trainer)["norm1.running_mean"])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Average, "settle", settled)
        trainer.fit()
    assert [epoch for epoch, _, _ in noted] == [1, 2, 3, 4]
    assert len(measured) == 3
    for (_, running, _), expected in zip(noted[1:], measured, strict=True):
        torch.testing.assert_close(running.double(), expected, rtol=1e-4, atol=1e-5)


def network_and_examples(n: int = 13, precision: str = "fp32") -> tuple[nn.Sequential, Examples, Built]:
    model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4), nn.Dropout(0.5))
    examples = Examples(torch.randn(n, 3) * 2 + 1, torch.zeros(n), torch.arange(n), nn.Identity(), torch.device("cpu"))
    model[1].running_mean.fill_(torch.nan)
    built: Any = prepared("swa").built
    batches = Batches(examples, batch_size=4, generator=torch.Generator())
    return model, examples, replace(built, model=model, train=batches, evaluation_batch=4, precision=precision)


def test_each_batch_counts_by_its_size_and_none_has_a_single_sample() -> None:
    model, examples, built = network_and_examples()
    before = torch.get_rng_state()
    found = measure_statistics(built)
    assert torch.equal(torch.get_rng_state(), before)
    order = torch.randperm(13, generator=torch.Generator().manual_seed(0))
    z = (examples.x[order] @ model[0].weight.detach().T).numpy()
    cuts = [z[:4], z[4:8], z[8:]]
    sizes = [4, 4, 5]
    mean = np.average([cut.mean(axis=0) for cut in cuts], axis=0, weights=sizes)
    variance = np.average([cut.var(axis=0, ddof=1) for cut in cuts], axis=0, weights=sizes)
    np.testing.assert_allclose(found["1.running_mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(found["1.running_var"], variance, rtol=1e-5)
    again = measure_statistics(built)
    assert all(torch.equal(found[name], again[name]) for name in found)


def test_measuring_leaves_modes_and_momenta_alone() -> None:
    model, _, built = network_and_examples(precision="bf16")
    model[2].eval()
    measure_statistics(built)
    assert [module.training for module in model] == [True, True, False]
    assert model[1].momentum == 0.1
    assert measure_statistics(replace(built, model=nn.Linear(3, 2))) == {}


def test_an_interruption_of_the_measurement_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = prepared("{name: swa, start: 0.25}")
    whole.fit()
    first, second = prepared("{name: swa, start: 0.25}"), prepared("{name: swa, start: 0.25}")
    calls = []

    def check() -> None:
        calls.append(first.epoch)
        if first.epoch == 3:
            raise Interrupted(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(averaging, "interruption", SimpleNamespace(check=check))
        with pytest.raises(Interrupted):
            first.fit()
    assert calls == [2, 3]
    assert all(module.training for module in first.model.modules())
    second.load_state_dict(copied(first.state_dict()))
    second.fit()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    assert second.row["valid/loss"] == whole.row["valid/loss"]


def test_statistics_measured_anew_are_better_than_averaged_ones() -> None:
    class Averaged(Hook):
        """Keeps the plain mean of the statistics beside."""

        def __init__(self) -> None:
            self.members: list[dict[str, torch.Tensor]] = []

        def on_epoch_end(self, run: RunView, /) -> None:
            if run.epoch > 1:
                self.members.append({k: v.clone() for k, v in run.model.state_dict().items() if "running" in k})

    kept = Averaged()
    trainer = prepared("{name: swa, start: 0.25}", kept)
    trainer.fit()

    def loss() -> float:
        train = trainer.built.train.examples
        x, y = next(train.slices(len(train)))
        with torch.no_grad():
            return float(trainer.built.loss(trainer.model.eval()(x), y))

    measured = loss()
    mean = {k: torch.stack([each[k] for each in kept.members]).mean(dim=0) for k in kept.members[0]}
    trainer.model.load_state_dict(mean, strict=False)
    assert measured < loss()


def test_the_statistics_of_frozen_layers_are_left_alone() -> None:
    model, _, built = network_and_examples()
    assert measure_statistics(replace(built, held=[model[1]])) == {}
    assert model[1].running_mean.isnan().all() and model[1].training
