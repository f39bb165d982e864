from __future__ import annotations

import math
from typing import Any

import numpy as np
import optimizer_references as references
import pytest
import torch
from torch import nn

from dnntrain.parts.optimizers import optimizers
from dnntrain.parts.optimizers.muon import orthogonalize


def made(options: dict[str, Any], *groups: dict[str, Any]) -> torch.optim.Optimizer:
    optimizer: torch.optim.Optimizer = optimizers.choose({"name": "muon", **options}).build(groups=list(groups))
    return optimizer


@pytest.mark.parametrize("shape", [(40, 40), (10, 60), (60, 10), (3, 20, 30), (1, 8), (8, 1)])
@pytest.mark.parametrize("steps", [1, 5])
def test_singular_values_go_through_the_polynomial_and_vectors_stay(shape: tuple[int, ...], steps: int) -> None:
    given = torch.randn(shape, dtype=torch.float64)
    found = orthogonalize(given, steps)
    assert found.shape == given.shape
    for one, other in zip(given.reshape(-1, *shape[-2:]).numpy(), found.reshape(-1, *shape[-2:]).numpy(), strict=True):
        left, singular, right = np.linalg.svd(one, full_matrices=False)
        expected = (left * references.near_one(singular, steps)) @ right
        np.testing.assert_allclose(other, expected, atol=1e-10)


def test_five_steps_bring_singular_values_near_one() -> None:
    spread = torch.logspace(-2, 0, 50, dtype=torch.float64)
    left, _ = torch.linalg.qr(torch.randn(80, 50, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(50, 50, dtype=torch.float64))
    values = torch.linalg.svdvals(orthogonalize((left * spread) @ right, 5))
    assert values.min() > 0.68 and values.max() < 1.21


def test_a_gradient_of_any_size_gives_the_same_step_and_none_gives_none() -> None:
    given = torch.randn(5, 7)
    torch.testing.assert_close(orthogonalize(1e-4 * given, 5), orthogonalize(1e4 * given, 5), rtol=1e-4, atol=1e-5)
    assert torch.equal(orthogonalize(torch.zeros(2, 3), 5), torch.zeros(2, 3))


@pytest.mark.parametrize("options", [{}, {"nesterov": False, "momentum": 0.8, "weight_decay": 0.0, "ns_steps": 3}])
@pytest.mark.parametrize("shape", [(6, 4), (4, 6)])
def test_matrices_move_as_torchs_muon_moves_them(options: dict[str, Any], shape: tuple[int, int]) -> None:
    mine, theirs = (nn.Parameter(torch.linspace(-1, 1, 24).reshape(shape)) for _ in range(2))
    ours, other = made({"lr": 0.02, **options}, {"params": [mine]}), torch.optim.Muon([theirs], lr=0.02, **options)
    start = mine.detach().clone()
    for _ in range(20):
        mine.grad = torch.randn(shape)
        theirs.grad = mine.grad.clone()
        ours.step()
        other.step()
    # torch's iteration is in bfloat16.
    moved = (mine - start).norm()
    assert (mine - theirs).norm() < 0.02 * moved


def test_a_kernel_of_a_convolution_is_seen_as_a_matrix() -> None:
    kernel = nn.Parameter(torch.randn(12, 3, 2, 2))
    matrix = nn.Parameter(kernel.detach().flatten(1).clone())
    # As a picture network keeps it: the order in memory is not that of the dimensions.
    apart = nn.Parameter(kernel.detach().clone(memory_format=torch.channels_last))
    for p in (kernel, matrix, apart):
        gradient = torch.sin(torch.arange(144.0)).reshape(12, 12)
        p.grad = torch.empty_like(p).copy_(gradient.view(p.shape))
        made({"lr": 0.1}, {"params": [p]}).step()
    assert torch.equal(kernel.flatten(1), matrix)
    torch.testing.assert_close(apart.detach(), kernel.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("shape", "scale"), [((8, 2), 2.0), ((2, 8), 1.0), ((4, 4), 1.0), ((8, 1, 1, 2), 2.0)])
def test_tall_matrices_take_longer_steps(shape: tuple[int, ...], scale: float) -> None:
    w = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
    w.grad = torch.randn(shape, dtype=torch.float64)
    optimizer = made({"lr": 0.1}, {"params": [w]})
    optimizer.step()
    expected = 0.1 * scale * torch.linalg.svdvals(orthogonalize(w.grad.flatten(1), 5))
    torch.testing.assert_close(torch.linalg.svdvals(w.detach().flatten(1)), expected, rtol=1e-9, atol=1e-12)


def test_matrices_of_one_shape_do_not_mix() -> None:
    alone, together = ([nn.Parameter(torch.full((3, 4), float(i))) for i in range(3)] for _ in range(2))
    gradients = [torch.randn(3, 4) for _ in range(3)]
    for p, g in zip([*alone, *together], gradients * 2, strict=True):
        p.grad = g.clone()
    for p in alone:
        made({"lr": 0.1}, {"params": [p]}).step()
    made({"lr": 0.1}, {"params": together}).step()
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_what_is_no_matrix_goes_as_adamw_with_its_own_rate() -> None:
    bias, other = (nn.Parameter(torch.linspace(-1, 1, 7)) for _ in range(2))
    ours = made({"lr": 0.5, "adamw_lr": 0.01, "weight_decay": 0.2, "adamw_betas": [0.8, 0.9]}, {"params": [bias]})
    adamw = torch.optim.AdamW([other], lr=0.01, betas=(0.8, 0.9), weight_decay=0.2)
    for _ in range(10):
        bias.grad = torch.randn(7)
        other.grad = bias.grad.clone()
        ours.step()
        adamw.step()
    torch.testing.assert_close(bias, other, rtol=1e-6, atol=1e-7)


def test_groups_are_split_and_keep_what_is_their_own() -> None:
    w, b, v, c = (
        nn.Parameter(torch.ones(2, 2)),
        nn.Parameter(torch.ones(2)),
        nn.Parameter(torch.ones(3, 3)),
        nn.Parameter(torch.ones(())),
    )
    groups = made(
        {"lr": 0.02, "adamw_lr": 0.001, "weight_decay": 0.3},
        {"params": [w, b]},
        {"params": [v, c], "lr": 0.002, "weight_decay": 0.0},
    ).param_groups
    assert [[id(p) for p in group["params"]] for group in groups] == [[id(w)], [id(v)], [id(b)], [id(c)]]
    assert [group["lr"] for group in groups] == pytest.approx([0.02, 0.002, 0.001, 0.0001])
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0, 0.3, 0.0]
    assert ["momentum" in group for group in groups] == [True, True, False, False]


def test_an_orthogonal_step_keeps_no_direction_back() -> None:
    # A gradient with one strong direction and one that is a hundred times weaker.
    w = nn.Parameter(torch.zeros(2, 2, dtype=torch.float64))
    w.grad = torch.diag(torch.tensor([1.0, 0.01], dtype=torch.float64))
    made({"lr": 1.0, "weight_decay": 0.0}, {"params": [w]}).step()
    strong, weak = -w[0, 0].item(), -w[1, 1].item()
    assert 0.68 < weak < 1.21 and 0.68 < strong < 1.21
    assert math.isclose(w[0, 1].item(), 0.0, abs_tol=1e-12)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_the_iteration_is_in_bfloat16_and_close() -> None:
    here = [nn.Parameter(torch.randn(64, 48)), nn.Parameter(torch.randn(64))]
    there = [nn.Parameter(p.detach().cuda()) for p in here]
    start = here[0].detach().clone()
    for weights in (here, there):
        optimizer = made({"lr": 0.02}, {"params": weights})
        for t in range(5):
            for p in weights:
                p.grad = torch.sin(torch.arange(p.numel()) + t).view(p.shape).to(p.device)
            optimizer.step()
    assert there[0].dtype == torch.float32
    assert (there[0].cpu() - here[0]).norm() < 0.05 * (here[0] - start).norm()
    torch.testing.assert_close(there[1].cpu(), here[1], rtol=1e-5, atol=1e-6)
