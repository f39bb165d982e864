from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dnntrain.parts.optimizers import NAdam, optimizers
from dnntrain.parts.optimizers.base import InPlace, fused


def test_fused_means_that_all_parameters_lie_where_the_kernel_is() -> None:
    here, nowhere = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2, device="meta"))
    assert fused([{"params": [here]}, {"params": [here]}])
    assert not fused([{"params": [here]}, {"params": [here, nowhere]}])
    assert not fused([{"params": [here]}], devices=("cuda",))


@pytest.mark.parametrize("name", ["nadam", "muon"])
def test_a_step_takes_a_closure(name: str) -> None:
    w = nn.Parameter(torch.ones(2, 1))
    optimizer = optimizers.choose(name).build(groups=[{"params": [w]}])

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = w.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2.0
    assert (w < 1).all()
    assert optimizer.step() is None


def test_a_frame_has_to_be_filled() -> None:
    with pytest.raises(TypeError, match="_update"):
        InPlace([{"params": [nn.Parameter(torch.ones(2))]}], {"lr": 0.1})


def test_scratch_memory_is_kept_and_is_no_state() -> None:
    w = nn.Parameter(torch.ones(2))
    optimizer = NAdam([{"params": [w]}], lr=0.1, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0, momentum_decay=0.0)
    w.grad = torch.ones_like(w)
    optimizer.step()
    (scratch,) = optimizer._scratch[w]
    scratch.fill_(float("nan"))
    optimizer.step()
    assert optimizer._scratch[w][0] is scratch
    assert w.isfinite().all()
    assert set(optimizer.state[w]) == {"step", "mu_product", "exp_avg", "exp_avg_sq"}


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "adagrad"])
def test_torchs_kernels_are_used_where_there_are_some(name: str) -> None:
    def made(device: str) -> torch.optim.Optimizer:
        w = nn.Parameter(torch.ones(2, device=device))
        optimizer: torch.optim.Optimizer = optimizers.choose(name).build(groups=[{"params": [w]}])
        return optimizer

    assert made("cpu").param_groups[0]["fused"] is True
    assert made("meta").param_groups[0]["fused"] is False
