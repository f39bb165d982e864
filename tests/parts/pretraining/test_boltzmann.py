"""Restricted Boltzmann machines: against sums over all states, and against the update as it is written."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from pretrainingtasks import net, tasks
from torch import Tensor, nn

from dnntrain.errors import UsageError
from dnntrain.parts.pretraining.boltzmann import RestrictedBoltzmannMachine


def machine(visible: str = "bernoulli", k: int = 1, v: int = 3, h: int = 2, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    model = net([h], (v,), activation="sigmoid")
    (task,) = tasks({"name": "rbm", "visible": visible, "k": k}, model, (v,), activation="sigmoid")
    with torch.no_grad():
        for p in task.model.parameters():
            p.normal_()
    return task


def pieces(task: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    state = {name: value.double().numpy() for name, value in task.model.state_dict().items()}
    return state["dense1.weight"], state["visible_bias"], state["dense1.bias"]


def states(n: int) -> np.ndarray:
    return np.array(list(itertools.product([0.0, 1.0], repeat=n)))


def energy(v: np.ndarray, h: np.ndarray, w: np.ndarray, b: np.ndarray, c: np.ndarray, visible: str) -> float:
    own = 0.5 * np.sum((v - b) ** 2) if visible == "gaussian" else -b @ v
    return float(own - c @ h - h @ w @ v)


@pytest.mark.parametrize("visible", ["bernoulli", "gaussian"])
def test_the_free_energy_is_the_sum_over_all_hidden_states(visible: str) -> None:
    task = machine(visible)
    w, b, c = pieces(task)
    given = states(3) if visible == "bernoulli" else np.random.default_rng(0).normal(size=(5, 3))
    expected = [-np.log(sum(np.exp(-energy(v, h, w, b, c, visible)) for h in states(2))) for v in given]
    found = task.model.free_energy(torch.tensor(given, dtype=torch.float32))
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-5)


def sigmoid(z: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-z)))


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("visible", ["bernoulli", "gaussian"])
def test_the_gradient_is_minus_the_update_of_contrastive_divergence(visible: str, k: int) -> None:
    task = machine(visible, k)
    w, b, c = pieces(task)
    v0 = np.random.default_rng(1).integers(0, 2, (7, 3)).astype(float)
    torch.manual_seed(5)
    outputs = task.model(torch.tensor(v0, dtype=torch.float32))
    task.loss(outputs, torch.zeros(7)).backward()
    # The same numbers once more, and the chain as the papers write it.
    torch.manual_seed(5)
    v, first = v0, None
    for _ in range(k):
        on = sigmoid(v @ w.T + c)
        h = (torch.rand(7, 2).numpy() < on).astype(float)
        inputs = h @ w + b
        mean = inputs if visible == "gaussian" else sigmoid(inputs)
        first = mean if first is None else first
        if visible == "gaussian":
            v = mean + torch.randn(7, 3).numpy()
        else:
            v = (torch.rand(7, 3).numpy() < mean).astype(float)
    p0, pk = sigmoid(v0 @ w.T + c), sigmoid(v @ w.T + c)
    update = {
        "dense1.weight": (p0.T @ v0 - pk.T @ v) / 7,
        "dense1.bias": (p0 - pk).mean(axis=0),
        "visible_bias": (v0 - v).mean(axis=0),
    }
    for name, parameter in task.model.named_parameters():
        np.testing.assert_allclose(-parameter.grad.numpy(), update[name], rtol=1e-4, atol=1e-6, err_msg=name)
    assert first is not None
    errors = ((v0 - first) ** 2).mean(axis=1)
    np.testing.assert_allclose(outputs[:, 1].detach().numpy(), errors, rtol=1e-5)
    error = task.metrics["reconstruction_error"]
    assert error.value(error.sums(outputs.detach(), torch.zeros(7)).double(), 7) == pytest.approx(
        errors.mean(), rel=1e-5
    )


def log_likelihood(task: Any, data: np.ndarray) -> float:
    w, b, c = pieces(task)
    everything = -np.array([[energy(v, h, w, b, c, "bernoulli") for h in states(2)] for v in states(3)])
    z = np.log(np.exp(everything).sum())
    own = [np.log(sum(np.exp(-energy(v, h, w, b, c, "bernoulli")) for h in states(2))) for v in data]
    return float(np.mean(own) - z)


def test_contrastive_divergence_makes_the_data_likelier() -> None:
    task = machine(seed=3)
    data = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1], [1, 1, 1]], dtype=float)
    x = torch.tensor(data, dtype=torch.float32).repeat(8, 1)
    optimizer = torch.optim.SGD(task.model.parameters(), lr=0.1)
    reached = [log_likelihood(task, data)]
    for _ in range(4):
        for _ in range(100):
            optimizer.zero_grad()
            task.loss(task.model(x), x).backward()
            optimizer.step()
        reached.append(log_likelihood(task, data))
    uniform = -3 * np.log(2)
    entropy = np.log(0.5) * 0.5 + np.log(0.25) * 0.5
    assert reached[0] < reached[1] < reached[-1] < entropy
    assert reached[-1] > uniform + 0.5


def test_machines_are_stacked_on_what_the_layers_below_give() -> None:
    model = net([4, 3], (5,), activation="sigmoid")
    first, second = tasks({"name": "rbm", "visible": "gaussian"}, model, (5,), activation="sigmoid")
    assert (first.name, second.name) == ("dense1", "dense2")
    assert (first.from_zero_to_one, second.from_zero_to_one) == (False, False)
    assert tasks("rbm", model, (5,), activation="sigmoid")[0].from_zero_to_one
    seen: list[Tensor] = []
    assert isinstance(second.model, RestrictedBoltzmannMachine)
    original = second.model.free_energy
    second.model.free_energy = lambda v: (seen.append(v), original(v))[1]  # type: ignore[method-assign, assignment, func-returns-value]
    x = torch.randn(6, 5)
    second.model(x)
    dense1 = model.get_submodule("dense1")
    torch.testing.assert_close(seen[0], torch.sigmoid(dense1(x)))
    assert set(seen[1].flatten().tolist()) <= {0.0, 1.0}, "above, units are on or off"
    assert {id(dense1)} <= {id(each) for each in second.frozen}
    assert isinstance(dense1, nn.Linear)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"activation": "relu"}, "write model.activation: sigmoid"),
        ({"activation": "sigmoid", "normalization": "layer"}, "no place for normalization"),
        ({"activation": {"name": "swish", "learnable": True}}, "activations that learn"),
    ],
)
def test_units_must_be_used_as_they_are_learned(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        tasks("rbm", net([4], (5,), **change), (5,))
