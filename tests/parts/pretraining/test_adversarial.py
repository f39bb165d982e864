"""The two sides of an adversarial pretraining, each with its own loss and its own gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pretrainingtasks import net, tasks
from tinynetworks import network
from torch import Tensor, nn
from torch.nn import functional

from dnntrain.errors import UsageError
from dnntrain.parts.pretraining.adversarial import Adversaries


def adversaries(model: nn.Module | None = None, shape: tuple[int, ...] = (5,)) -> tuple[Any, Adversaries]:
    written = {"name": "gan", "latent": 3, "units": 7}
    (task,) = tasks(written, net([6], shape, activation="tanh") if model is None else model, shape, activation="tanh")
    assert isinstance(task.model, Adversaries)
    return task, task.model


def test_each_side_descends_its_own_loss_alone() -> None:
    task, model = adversaries()
    x = torch.randn(8, 5)
    torch.manual_seed(4)
    task.loss(model(x), x).backward()
    found = {name: p.grad for name, p in model.named_parameters()}
    torch.manual_seed(4)
    made = model.generator(torch.randn(8, 3))

    def logit(samples: Tensor) -> Tensor:
        result: Tensor = model.head(model.encode(samples))
        return result

    judges = -functional.logsigmoid(logit(x)).mean() - torch.log(1 - torch.sigmoid(logit(made.detach()))).mean()
    makers = -functional.logsigmoid(logit(made)).mean()
    generators = {name for name in found if name.startswith("generator")}
    for loss, names in ((judges, set(found) - generators), (makers, generators)):
        named = {name: p for name, p in model.named_parameters() if name in names}
        expected = torch.autograd.grad(loss, list(named.values()))
        for name, gradient in zip(named, expected, strict=True):
            assert found[name] is not None
            torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)
    assert {"dense1.weight", "head.1.weight"} <= set(found) - generators


def test_the_generators_pass_leaves_statistics_alone() -> None:
    model = net([6], (5,), normalization="batch")
    task, both = adversaries(model)
    x = torch.randn(8, 5)
    torch.manual_seed(1)
    both(x)
    norm = model.get_submodule("norm1")
    dense1 = model.get_submodule("dense1")
    assert int(norm.num_batches_tracked) == 1  # type: ignore[arg-type]
    torch.manual_seed(1)
    z = both.generator(torch.randn(8, 3)).detach()
    expected = 0.1 * dense1(torch.cat((x, z))).mean(dim=0)
    torch.testing.assert_close(norm.running_mean, expected)


def test_told_apart_counts_both_kinds() -> None:
    task, _ = adversaries()
    outputs = torch.tensor([[1.0, -1.0, 0.0], [1.0, 1.0, 0.0], [-1.0, 1.0, 0.0], [2.0, -3.0, 0.0]])
    metric = task.metrics["told_apart"]
    assert metric.value(metric.sums(outputs, torch.zeros(4)).double(), 4) == pytest.approx(5 / 8)


def test_the_generator_comes_near_the_samples() -> None:
    torch.manual_seed(0)
    task, model = adversaries(net([16], (2,), activation="relu"), (2,))
    x = torch.randn(256, 2) * 0.3 + torch.tensor([2.0, -1.0])
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, betas=(0.5, 0.99))
    before = model.generator(torch.randn(500, 3)).mean(dim=0)
    for _ in range(400):
        optimizer.zero_grad()
        task.loss(model(x), x).backward()
        optimizer.step()
    after = model.generator(torch.randn(500, 3)).mean(dim=0)
    goal = torch.tensor([2.0, -1.0])
    assert (after - goal).norm() < 0.5 < (before - goal).norm()


def test_tokens_cannot_be_made_up() -> None:
    tokens = {"name": "gru", "units": 4, "embedding": {"vocabulary": 9, "size": 3}}
    with pytest.raises(UsageError, match="gan needs samples that are numbers, and these are tokens"):
        adversaries(network(tokens, (6,)), (6,))
