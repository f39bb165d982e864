from __future__ import annotations

import pytest
import torch
from torch import nn

from dnntrain.parts.optimizers import optimizers


def test_every_component_moves_by_the_rate_whatever_its_gradient() -> None:
    w = nn.Parameter(torch.zeros(4, dtype=torch.float64))
    optimizer = optimizers.choose({"name": "lion", "lr": 0.25}).build(groups=[{"params": [w]}])
    w.grad = torch.tensor([1e-9, -3.0, 1e6, 0.0], dtype=torch.float64)
    optimizer.step()
    assert w.tolist() == [-0.25, 0.25, -0.25, 0.0]


def test_the_step_leans_more_on_the_gradient_than_the_memory_does() -> None:
    w = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = optimizers.choose({"name": "lion", "lr": 1.0}).build(groups=[{"params": [w]}])
    for gradient in (1.0, -0.05):
        w.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
    # After the first gradient the memory is 0.01; 0.9 * 0.01 - 0.1 * 0.05 is still above zero, and so the step goes on.
    assert w.item() == -2.0
    w.grad = torch.tensor([-0.2], dtype=torch.float64)
    optimizer.step()
    assert w.item() == -1.0, "a larger gradient turns it around"


def test_its_state_is_half_of_adams() -> None:
    w = nn.Parameter(torch.ones(3))
    optimizer = optimizers.choose("lion").build(groups=[{"params": [w]}])
    w.grad = torch.ones(3)
    optimizer.step()
    assert set(optimizer.state[w]) == {"exp_avg"}
    torch.testing.assert_close(optimizer.state[w]["exp_avg"], torch.full((3,), 0.01), rtol=1e-5, atol=0)


@pytest.mark.parametrize("weight_decay", [0.0, 0.2])
def test_decay_is_decoupled(weight_decay: float) -> None:
    w = nn.Parameter(torch.full((2,), 3.0, dtype=torch.float64))
    optimizer = optimizers.choose({"name": "lion", "lr": 0.1, "weight_decay": weight_decay}).build(
        groups=[{"params": [w]}]
    )
    w.grad = torch.ones_like(w)
    optimizer.step()
    assert w.tolist() == pytest.approx([3.0 * (1 - 0.1 * weight_decay) - 0.1] * 2, rel=1e-12)
