from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from dnntrain.parts.optimizers import NAdam, optimizers


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("momentum_decay", [0.0, 4e-3])
def test_nadam_is_torchs_nadam(weight_decay: float, momentum_decay: float) -> None:
    options = {"lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-8}
    mine, theirs = (nn.Parameter(torch.linspace(-2, 2, 9, dtype=torch.float64)) for _ in range(2))
    extra = {"weight_decay": weight_decay, "momentum_decay": momentum_decay}
    ours = NAdam([{"params": [mine]}], **options, **extra)
    other = torch.optim.NAdam([theirs], **options, **extra, decoupled_weight_decay=True)
    draws = torch.Generator().manual_seed(0)
    for _ in range(60):
        mine.grad = torch.randn(9, dtype=torch.float64, generator=draws)
        theirs.grad = mine.grad.clone()
        ours.step()
        other.step()
    # torch keeps the product of the momenta in float32.
    torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-8)


def keras_nadam(w: np.ndarray, gradients: list[np.ndarray], *, lr: float, eps: float) -> np.ndarray:
    """Follow Keras's Nadam as its formulas have it; beta1 is 0.9 and beta2 0.999."""
    w, m, v, product = w.copy(), np.zeros_like(w), np.zeros_like(w), 1.0
    for t, g in enumerate(gradients, start=1):
        now, then = (0.9 * (1.0 - 0.5 * 0.96**n) for n in (t, t + 1))
        product *= now
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        ahead = then * m / (1.0 - product * then) + (1.0 - now) * g / (1.0 - product)
        w -= lr * ahead / (np.sqrt(v / (1.0 - 0.999**t)) + eps)
    return w


@pytest.mark.parametrize(("momentum_decay", "same"), [(1.0, True), (4e-3, False)])
def test_a_momentum_decay_of_one_is_kerass_nadam(momentum_decay: float, same: bool) -> None:
    draws = np.random.default_rng(0)
    start, gradients = np.linspace(-2, 2, 9), [draws.normal(size=9) for _ in range(60)]
    weight = nn.Parameter(torch.from_numpy(start.copy()))
    options = {"lr": 1e-3, "eps": 1e-7, "momentum_decay": momentum_decay}
    ours = optimizers.choose({"name": "nadam", **options}).build(groups=[{"params": [weight]}])
    for gradient in gradients:
        weight.grad = torch.from_numpy(gradient)
        ours.step()
    expected = keras_nadam(start, gradients, lr=1e-3, eps=1e-7)
    assert np.allclose(weight.detach().numpy(), expected, rtol=1e-9, atol=1e-12) == same


def test_kerass_momentum_rises_250_times_as_fast() -> None:
    default = optimizers.choose("nadam").options.momentum_decay
    assert 1.0 / default == pytest.approx(250)
    steps = [next(t for t in range(1, 10**6) if 0.5 * 0.96 ** (t * decay) <= 0.01) for decay in (1.0, default)]
    assert steps == [96, 23_958]
