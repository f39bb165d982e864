"""Autoencoders against their equations, and a linear one against principal components."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pretrainingtasks import asked, draws, net, tasks
from torch import Tensor

from dnntrain.errors import UsageError
from dnntrain.parts.pretraining.autoencoders import LayerAutoencoder


def learn(task: Any, x: Tensor, steps: int, lr: float = 0.02) -> float:
    """Take steps on the whole data; return the loss at the end."""
    trained = [p for p in task.model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=lr)
    loss = torch.tensor(0.0)
    for step in range(steps):
        inputs, targets = asked(task, x, step)
        loss = task.loss(task.model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def correlated(n: int = 300) -> np.ndarray:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 6)) @ (rng.normal(size=(6, 6)) * np.array([3, 2, 1, 0.5, 0.3, 0.2]))
    return np.asarray(x - x.mean(axis=0), dtype=np.float32)


@pytest.mark.parametrize("tied", [False, True])
def test_a_linear_autoencoder_reaches_the_principal_subspace(tied: bool) -> None:
    x = correlated()
    (task,) = tasks({"name": "autoencoder", "tied": tied}, model := net([2], (6,)), (6,))
    reached = learn(task, torch.from_numpy(x), 1500)
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
    least = values[:4].sum() / 6
    assert least * (1 - 1e-4) <= reached < least * 1.005, "no other plane leaves so little"
    rows = model.get_parameter("dense1.weight").detach().numpy().astype(np.float64)
    plane, principal = np.linalg.qr(rows.T)[0], vectors[:, 4:]
    cosines = np.linalg.svd(plane.T @ principal)[1]
    # The encoder of an untied one may see more than the plane; what it brings back lies in it.
    if not tied:
        back = task.model(torch.from_numpy(x)).detach().numpy()
        plane = np.linalg.svd(back - back.mean(axis=0), full_matrices=False)[2][:2].T
        cosines = np.linalg.svd(plane.T @ principal)[1]
    assert cosines.min() > 0.99


def test_the_loss_is_the_mean_squared_error() -> None:
    (task,) = tasks("autoencoder", net([3], (5,)), (5,))
    x = torch.randn(4, 5)
    inputs, targets = asked(task, x)
    assert torch.equal(inputs, x) and torch.equal(targets, x)
    outputs = task.model(inputs)
    expected = np.mean((outputs.detach().numpy() - x.numpy()) ** 2)
    assert float(task.loss(outputs, targets).detach()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("noise", ["gaussian", "masking", "salt_and_pepper"])
def test_noise_is_put_on_inputs_and_not_on_targets(noise: str) -> None:
    amount = 0.3
    (task,) = tasks({"name": "denoising_autoencoder", "noise": noise, "amount": amount}, net([3], (50,)), (50,))
    x = torch.randn(400, 50, generator=draws(9)) + 5
    inputs, targets = asked(task, x)
    assert torch.equal(targets, x)
    moved = inputs != x
    if noise == "gaussian":
        assert float((inputs - x).std()) == pytest.approx(amount, rel=0.05)
        assert float((inputs - x).mean()) == pytest.approx(0, abs=0.01)
        return
    assert float(moved.float().mean()) == pytest.approx(amount, rel=0.05)
    if noise == "masking":
        assert not inputs[moved].any()
    else:
        low, high = float(x.min()), float(x.max())
        assert set(inputs[moved].tolist()) == {low, high}
        assert float((inputs[moved] == high).float().mean()) == pytest.approx(0.5, abs=0.05)
    assert not torch.equal(asked(task, x, 1)[0], inputs) and torch.equal(asked(task, x, 0)[0], inputs)


def test_a_denoising_autoencoder_wide_enough_to_copy_does_not() -> None:
    x = torch.randn(500, 4, generator=draws(1)) @ torch.tensor(
        [[1.0, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    )
    written = {"name": "denoising_autoencoder", "noise": "masking", "amount": 0.5}
    (task,) = tasks(written, net([16], (4,), activation="relu"), (4,), activation="relu")
    learn(task, x, 400)
    probe = torch.tensor([[2.0, 0.0, 2.0, 0.0]])
    back = task.model(probe).detach()
    assert (back[0, [1, 3]] > 0.8).all(), "what is hidden is inferred from what is not"


def test_more_than_everything_cannot_be_changed() -> None:
    with pytest.raises(UsageError, match="above 1"):
        tasks({"name": "denoising_autoencoder", "amount": 1.2}, net([3], (5,)), (5,))
    tasks({"name": "denoising_autoencoder", "amount": 1.2, "noise": "gaussian"}, net([3], (5,)), (5,))


def test_greedy_layers_bring_back_what_those_below_give() -> None:
    model = net([5, 4, 3], (6,), activation="tanh", normalization="batch", dropout=({"name": "dropout", "rate": 0.4},))
    made = tasks("greedy_autoencoder", model, (6,), activation="tanh")
    assert [task.name for task in made] == ["dense1", "dense2", "dense3"]
    x = torch.randn(8, 6)
    for number, task in enumerate(made):
        assert isinstance(task.model, LayerAutoencoder)
        layers = dict(model.named_children())
        names = list(layers)
        start = names.index(f"dense{number + 1}") if number else 0
        stop = names.index(f"dense{number + 2}" if number < 2 else "output")
        task.model.eval()
        given = x
        for name in names[:start]:
            given = layers[name](given)
        code = given
        for name in names[start:stop]:
            code = layers[name](code)
        back = task.model.decoder(code)
        assert back.shape == given.shape
        expected = float((back - given).detach().square().mean())
        assert float(task.loss(task.model(x), x).detach()) == pytest.approx(expected, rel=1e-5)
        frozen = {id(module) for module in task.frozen}
        assert frozen == {id(layers[name]) for name in names[:start]}
        assert set(names[:stop]) <= {name for name, _ in task.model.named_children()}
