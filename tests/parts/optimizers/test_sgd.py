from __future__ import annotations

import numpy as np
import optimizer_references as references
import torch
from torch import nn

from dnntrain.parts.optimizers import optimizers


def test_keras_multiplies_the_gradient_by_the_rate_and_torch_the_velocity() -> None:
    def ours(drop_at: int) -> list[float]:
        w = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
        optimizer = optimizers.choose({"name": "sgd", "lr": 0.1, "momentum": 0.9}).build(groups=[{"params": [w]}])
        seen = []
        for t in range(6):
            optimizer.param_groups[0]["lr"] = 0.1 if t < drop_at else 0.01
            w.grad = w.detach().clone()
            optimizer.step()
            seen.append(w.item())
        return seen

    def keras(drop_at: int) -> list[float]:
        step = references.sgd_keras(lr=lambda t: 0.1 if t < drop_at else 0.01, momentum=0.9)
        w, seen = [np.array([1.0])], []
        for _ in range(6):
            w = step(w, w)
            seen.append(float(w[0][0]))
        return seen

    np.testing.assert_allclose(ours(6), keras(6), rtol=1e-12)
    # Once the rate has fallen, Keras still coasts on a velocity that was made with the old one.
    here, there = ours(3), keras(3)
    np.testing.assert_allclose(here[:3], there[:3], rtol=1e-12)
    assert here[2] - here[3] < 0.15 * (there[2] - there[3])
