from __future__ import annotations

import numpy as np
import optimizer_references as references
import pytest
import torch
from torch import nn

from dnntrain.parts.optimizers import optimizers
from dnntrain.parts.optimizers.radam import RAdam, rectification


def test_the_second_moment_is_used_from_the_sixth_step_on() -> None:
    assert [rectification(t, 0.999) is None for t in range(1, 8)] == [True] * 5 + [False] * 2


def test_the_rectification_ends_at_one() -> None:
    found = [rectification(t, 0.99) for t in range(6, 3000)]
    assert all(after > before for before, after in zip(found[:500], found[1:501], strict=True))
    assert found[-1] == pytest.approx(1.0)


def test_a_second_moment_without_a_memory_is_never_used() -> None:
    assert all(rectification(t, 0.5) is None for t in (1, 10, 1000, 10**6))


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_radam_is_torchs_radam(weight_decay: float) -> None:
    options = {"lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-6, "weight_decay": weight_decay}
    mine, theirs = (nn.Parameter(torch.linspace(-2, 2, 9, dtype=torch.float64)) for _ in range(2))
    ours = RAdam([{"params": [mine]}], **options)
    other = torch.optim.RAdam([theirs], **options, decoupled_weight_decay=True)
    draws = torch.Generator().manual_seed(0)
    for _ in range(60):
        mine.grad = torch.randn(9, dtype=torch.float64, generator=draws)
        theirs.grad = mine.grad.clone()
        ours.step()
        other.step()
    torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-14)


def test_the_papers_text_trusts_the_second_moment_sooner() -> None:
    def moved(trusted: float, steps: int) -> np.ndarray:
        step = references.radam(lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, trusted=trusted)
        w = [np.array([1.0])]
        for _ in range(steps):
            w = step(w, w)
        return w[0]

    w = nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = optimizers.choose({"name": "radam", "lr": 0.01}).build(groups=[{"params": [w]}])
    for steps in range(1, 6):
        w.grad = w.detach().clone()
        optimizer.step()
        assert w.item() == pytest.approx(moved(5.0, steps)[0], rel=1e-12)
        assert (w.item() == pytest.approx(moved(4.0, steps)[0], rel=1e-9)) == (steps < 5)
