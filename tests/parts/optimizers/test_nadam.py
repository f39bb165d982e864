from __future__ import annotations

import pytest
import torch
from torch import nn

from dnntrain.parts.optimizers import NAdam


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
