"""Penalties against autograd and NumPy, constraints after every step, noise by its variance."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tinynetworks import network
from torch import nn

import dnntrain
from dnntrain import build, spec
from dnntrain.errors import UsageError
from dnntrain.parts import layers
from dnntrain.parts.regularizers import matching, regularizers
from dnntrain.placement import place
from dnntrain.store import RunDirectory
from dnntrain.training.hooks import Hook, RunView
from dnntrain.training.parameters import TensorParameters
from dnntrain.training.regularization import Constraint, GradientNoise, Penalty
from dnntrain.training.state import copied
from dnntrain.training.trainer import Trainer

PENALTIES = {
    "l1": ({"strength": 0.3}, lambda w: 0.3 * np.abs(w).sum()),
    "l2": ({"strength": 0.2}, lambda w: 0.2 * (w**2).sum()),
    "l1_l2": ({"l1": 0.1, "l2": 0.4}, lambda w: 0.1 * np.abs(w).sum() + 0.4 * (w**2).sum()),
}


def kernels() -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64))
        for name, shape in {"dense1": (5, 4), "dense2": (3, 5), "conv1": (2, 3, 3, 3)}.items()
    }


def made(name: str, weights: dict[str, nn.Parameter], **options: Any) -> Any:
    return regularizers.choose({"name": name, **options}).build(kernels=weights)


def test_every_penalty_has_a_reference() -> None:
    penalties = {
        e.name for e in regularizers if isinstance(regularizers.choose(e.example).build(kernels=kernels()), Penalty)
    }
    assert penalties == set(PENALTIES)


@pytest.mark.parametrize("name", PENALTIES)
def test_the_value_is_that_of_the_equation(name: str) -> None:
    options, reference = PENALTIES[name]
    weights = kernels()
    penalty = made(name, weights, **options)
    expected = sum(reference(w.detach().numpy()) for w in weights.values())
    assert penalty.value().item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", PENALTIES)
def test_the_gradient_is_the_derivative_of_the_value(name: str) -> None:
    """By central differences, so that neither autograd nor the code under test is asked."""
    options, reference = PENALTIES[name]
    weights = kernels()
    penalty = made(name, weights, **options)
    gradients = [torch.ones_like(w) for w in penalty.weights]
    penalty.add_gradient(gradients)
    for weight, gradient in zip(penalty.weights, gradients, strict=True):
        values, h = weight.detach().numpy(), 1e-6
        for index in np.ndindex(values.shape):
            up, down = values.copy(), values.copy()
            up[index] += h
            down[index] -= h
            slope = (reference(up) - reference(down)) / (2 * h)
            assert gradient[index].item() - 1.0 == pytest.approx(slope, rel=1e-5, abs=1e-6)


def test_l1_leaves_a_zero_alone() -> None:
    weights = {"dense1": nn.Parameter(torch.zeros(2, 2))}
    gradient = torch.zeros(2, 2)
    made("l1", weights, strength=1.0).add_gradient([gradient])
    assert not gradient.any()


def test_max_norm_shortens_long_units_only() -> None:
    weight = nn.Parameter(torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]]))
    made("max_norm", {"dense1": weight}, max=1.0).apply()
    torch.testing.assert_close(weight.detach(), torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]))


def test_unit_norm_stretches_short_units_too() -> None:
    weight = nn.Parameter(torch.randn(4, 3, 3, 3))
    made("unit_norm", {"conv1": weight}).apply()
    torch.testing.assert_close(weight.detach().flatten(1).norm(dim=1), torch.ones(4))


def test_non_negative_cuts_at_zero() -> None:
    weight = nn.Parameter(torch.tensor([[-1.0, 2.0]]))
    made("non_negative", {"dense1": weight}).apply()
    assert weight.tolist() == [[0.0, 2.0]]


def test_noise_has_the_variance_of_the_equation() -> None:
    noise = made("gradient_noise", kernels(), eta=0.3, gamma=0.55)
    assert len(noise.weights) == 3
    assert len(made("gradient_noise", kernels(), layers="dense*").weights) == 2
    for step in (0, 1, 99):
        torch.manual_seed(step)
        gradient = torch.full((400_000,), 2.0)
        noise.add([gradient], step)
        variance = 0.3 / (1 + step) ** 0.55
        assert gradient.mean().item() == pytest.approx(2.0, abs=5 * (variance / 400_000) ** 0.5)
        assert gradient.var().item() == pytest.approx(variance, rel=0.02)


def test_layers_are_picked_by_name_and_pattern() -> None:
    weights = kernels()
    assert matching(weights, "*") == list(weights.values())
    assert matching(weights, "dense*") == [weights["dense1"], weights["dense2"]]
    assert matching(weights, ("conv1", "dense2")) == [weights["dense2"], weights["conv1"]]
    with pytest.raises(UsageError, match="no layer with weights matches 'lstm'; there are dense1, dense2, conv1"):
        matching(weights, ("dense1", "lstm"))


def trained(
    regularizer: Any, *observers: Hook, optimizer: str = "{name: sgd, lr: 0.1}", epochs: int = 1, steps: int = 3
) -> Trainer:
    experiment = spec.loads(
        f"{{data: {{dataset: digits, limit: 96, batch_size: {96 // steps}}}, "
        "model: {architecture: {name: mlp, hidden: [8, 8]}}, schedule: constant, "
        f"optimizer: {optimizer}, training: {{epochs: {epochs}, threads: 1}}, callbacks: [], "
        f"regularizers: {regularizer}}}"
    )
    data = build.open_data(experiment)
    experiment = build.resolve(experiment, data)
    trainer = Trainer(build.build(experiment, data, place(experiment)), *observers)
    trainer.fit()
    return trainer


class AfterEachStep(Hook):
    """Checks the weights after every step."""

    def __init__(self, check: Any) -> None:
        self.check = check
        self.steps = 0

    def on_step_end(self, run: RunView, /) -> None:
        self.steps += 1
        for name, p in run.model.named_parameters():
            if p.ndim > 1:
                self.check(name, p.detach())


def test_no_unit_exceeds_max_norm_after_any_step() -> None:
    def check(name: str, weight: torch.Tensor) -> None:
        assert (weight.norm(dim=1) <= 0.5 * (1 + 1e-6)).all(), name

    hook = AfterEachStep(check)
    trained("{name: max_norm, max: 0.5}", hook, epochs=3)
    assert hook.steps == 9


def test_a_scoped_constraint_leaves_other_layers_alone() -> None:
    model = trained("{name: max_norm, max: 0.1, layers: dense1}").model
    assert (model.dense1.weight.norm(dim=1) <= 0.1 * (1 + 1e-6)).all()
    assert (model.dense2.weight.norm(dim=1) > 0.2).any()


def test_constraints_and_penalties_never_touch_biases_or_norms() -> None:
    text = "{data: {dataset: digits}, model: {architecture: {name: mlp, hidden: [4]}, normalization: batch}}"
    experiment = spec.loads(text)
    data = build.open_data(experiment)
    experiment = build.resolve(experiment, data)
    model = build.build_model(experiment, data.shape, 10)
    assert list(layers.kernels(model)) == ["dense1", "output"]


def embedded(regularizer: str) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """Train on tokens, of which number 0 is padding; return the network and its first weights."""
    experiment = spec.loads(
        "{data: {dataset: digits, limit: 96, standardize: none}, model: {architecture: {name: mlp, hidden: [8]}}, "
        f"training: {{epochs: 1, threads: 1}}, schedule: constant, callbacks: [], regularizers: {regularizer}}}"
    )
    data = build.open_data(experiment)
    experiment = build.resolve(experiment, data)
    built = build.build(experiment, data, place(experiment))
    tokens = {"vocabulary": 17, "size": 4, "padding": 0}
    reader = network({"name": "rnn", "units": 5, "embedding": tokens}, (64,), 10)
    model = nn.Sequential(OrderedDict(flatten=nn.Flatten(), **dict(reader.named_children())))
    groups = [{"params": list(model.parameters())}]
    found = layers.kernels(model)
    made = [each.build(kernels=found) for each in experiment.regularizers]
    parameters = TensorParameters(groups)
    built = replace(
        built,
        model=model,
        parameters=parameters,
        optimizer=torch.optim.SGD(groups, lr=1e-3),
        noise=[each for each in made if isinstance(each, GradientNoise)],
        constraints=[each for each in made if isinstance(each, Constraint)],
    )
    before = copied(model.state_dict())
    Trainer(built).fit()
    return model, before


@pytest.mark.parametrize("regularizer", ["{name: gradient_noise, eta: 1.0}", "unit_norm"])
def test_the_vector_of_padding_stays_zero(regularizer: str) -> None:
    model, before = embedded(regularizer)
    assert not model.tokens.weight[0].any()
    assert not torch.equal(model.rnn1.weight_hh_l0, before["rnn1.weight_hh_l0"])


def test_noise_leaves_biases_norms_and_other_layers_alone() -> None:
    built_on = "{name: gradient_noise, eta: 1.0, layers: dense1}"
    shaken, still = (trained(each, optimizer="{name: sgd, lr: 0.1}", steps=1).model for each in (built_on, "none"))
    differ = {name for name, p in shaken.named_parameters() if not torch.equal(p, still.get_parameter(name))}
    assert differ == {"dense1.weight"}


@pytest.mark.parametrize("optimizer", ["{name: sgd, lr: 0.1}", "{name: adamw, weight_decay: 0.1}", "nadam"])
def test_a_step_with_l2_equals_a_step_on_the_sum_of_loss_and_penalty(optimizer: str) -> None:
    """The same training with the penalty left to autograd, as the definition has it."""

    class Summed(nn.Module):
        def __init__(self, loss: nn.Module, weights: list[nn.Parameter]) -> None:
            super().__init__()
            self.loss, self.weights = loss, weights

        def forward(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return self.loss(z, y) + sum(0.01 * w.square().sum() for w in self.weights)

    text = (
        "{data: {dataset: digits, limit: 96}, model: {architecture: {name: mlp, hidden: [8]}}, schedule: constant, "
        f"optimizer: {optimizer}, training: {{epochs: 2, threads: 1}}, callbacks: [], regularizers: REGULARIZERS}}"
    )
    models = []
    for penalized in (True, False):
        experiment = spec.loads(text.replace("REGULARIZERS", "{name: l2, strength: 0.01}" if penalized else "none"))
        data = build.open_data(experiment)
        experiment = build.resolve(experiment, data)
        built = build.build(experiment, data, place(experiment))
        if not penalized:
            built.loss = Summed(built.loss, list(layers.kernels(built.model).values()))
        Trainer(built).fit()
        models.append(built.model.state_dict())
    for name, value in models[0].items():
        torch.testing.assert_close(value, models[1][name], rtol=1e-4, atol=1e-5)


def test_the_loss_excludes_the_penalty_which_is_told_by_itself(tmp_path: Path) -> None:
    mapping = {
        "data": {"dataset": "digits", "limit": 64, "batch_size": 64},
        "model": {"architecture": {"name": "mlp", "hidden": [8]}},
        "training": {"epochs": 1, "threads": 1},
    }
    free = RunDirectory(dnntrain.train(mapping, runs=tmp_path).path).metrics()[0]
    penalized = dnntrain.train({**mapping, "regularizers": {"name": "l2", "strength": 0.5}}, runs=tmp_path)
    row = RunDirectory(penalized.path).metrics()[0]
    assert row["train/loss"] == free["train/loss"]
    assert "train/penalty" not in free
    assert row["train/penalty"] > 1.0
    assert row["grad_norm"] > free["grad_norm"]


def test_constraints_are_constraints() -> None:
    kinds = {
        e.name for e in regularizers if isinstance(regularizers.choose(e.example).build(kernels=kernels()), Constraint)
    }
    assert kinds == {"max_norm", "unit_norm", "non_negative"}
