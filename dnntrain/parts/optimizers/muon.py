"""Steps whose singular values are all about one: momentum, orthogonalized, for what is a matrix."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor
from torch.optim.adamw import adamw as adamw_update
from typing_extensions import override

from dnntrain.parts.optimizers.base import Betas, Groups, Update, fused, optimizers
from dnntrain.registry import Fraction, NonNegative, Positive, PositiveInt

COEFFICIENTS: Final = (3.4445, -4.7750, 2.0315)
"""Of the quintic a x + b x^3 + c x^5: the steepest at zero that keeps singular values near one."""

SMALLEST_NORM: Final = 1e-7
ADAMW_EPS: Final = 1e-8


def orthogonalize(matrices: Tensor, steps: int) -> Tensor:
    """Bring the singular values of each matrix near one, to 0.68 to 1.21, and leave its singular vectors.

    The Newton-Schulz iteration: from X = G / |G|, with the Frobenius norm, `steps` times::

        X = a X + (b X X' + c (X X')^2) X

    After 5 steps this holds for all but singular values below a few thousandths of the norm.

    Args:
        matrices: G, of shape (..., rows, columns).
        steps: how many times.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.size(-2) > matrices.size(-1)
    x = matrices.mT if tall else matrices
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=SMALLEST_NORM)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    orthogonal: Tensor = x.mT if tall else x
    return orthogonal


def _is_matrix(p: Tensor, group: dict[str, Any]) -> bool:
    return p.ndim > 1 and not group.get("tables", False)


class Muon(Update):
    """Orthogonalized momentum for matrices, AdamW for all else.

    For a kernel of two or more dimensions, seen as a matrix (first dimension, rest)::

        m = momentum m + (1 - momentum) g
        u = momentum m + (1 - momentum) g    with nesterov, else m
        w -= lr (sqrt(max(1, rows / columns)) orthogonalize(u) + weight_decay w)

    Matrices of one shape are orthogonalized together, on CUDA in bfloat16: the result need not be exact. Each group is
    split in two, so that a schedule moves both rates, and the momentum of both.

    Args:
        params: groups; one with an `lr` of its own has an `adamw_lr` in the same proportion, one with `tables: True`
            has no matrices.
        lr: learning rate of matrices.
        momentum: decay of the mean of the gradient.
        nesterov: look ahead along the momentum.
        ns_steps: steps of the Newton-Schulz iteration.
        weight_decay: decoupled; w is first multiplied by 1 - lr weight_decay.
        adamw_lr: learning rate of all else.
        adamw_betas: decays of AdamW.
    """

    def __init__(
        self,
        params: Groups,
        *,
        lr: float,
        momentum: float,
        nesterov: bool,
        ns_steps: int,
        weight_decay: float,
        adamw_lr: float,
        adamw_betas: tuple[float, float],
    ) -> None:
        matrices = {"momentum": momentum, "nesterov": nesterov, "ns_steps": ns_steps}
        rest = {"betas": adamw_betas, "eps": ADAMW_EPS}

        def split(want_matrices: bool) -> Iterator[dict[str, Any]]:
            for group in params:
                chosen = [p for p in group["params"] if _is_matrix(p, group) == want_matrices]
                own = {"lr": lr, **group, "params": chosen}
                if want_matrices:
                    yield {**matrices, **own}
                else:
                    yield {**rest, **own, "lr": adamw_lr * own["lr"] / lr, "fused": fused([own])}

        groups = [group for kind in (True, False) for group in split(kind) if group["params"]]
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay})

    @override
    def _update_group(self, group: dict[str, Any]) -> None:
        found = [(p, p.grad) for p in group["params"] if p.grad is not None]
        if found and "betas" in group:
            self._update_rest(found, group)
            return
        alike: dict[Any, list[tuple[Tensor, Tensor]]] = {}
        for p, g in found:
            alike.setdefault((p.shape, p.dtype, p.device), []).append((p, g))
        for same in alike.values():
            self._update_matrices(same, group)

    def _update_matrices(self, found: list[tuple[Tensor, Tensor]], group: dict[str, Any]) -> None:
        """Move matrices of one shape, given with their gradients."""
        momentum, lr = group["momentum"], group["lr"]
        moved = []
        for p, g in found:
            if "momentum_buffer" not in self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
            m = self.state[p]["momentum_buffer"].lerp_(g, 1.0 - momentum)
            moved.append((torch.lerp(g, m, momentum) if group["nesterov"] else m).flatten(1))
        stacked = torch.stack(moved)
        if stacked.is_cuda and stacked.dtype == torch.float32:
            stacked = stacked.bfloat16()
        updates = orthogonalize(stacked, group["ns_steps"]).to(found[0][0].dtype)
        scale = math.sqrt(max(1.0, stacked.size(-2) / stacked.size(-1)))
        for (p, _), update in zip(found, updates, strict=True):
            p.mul_(1.0 - lr * group["weight_decay"])
            p.add_(update.view(p.shape), alpha=-lr * scale)

    def _update_rest(self, found: list[tuple[Tensor, Tensor]], group: dict[str, Any]) -> None:
        """Move what is no matrix, given with its gradients."""
        for p, _ in found:
            if not self.state[p]:
                step = torch.zeros((), device=p.device if group["fused"] else "cpu")
                self.state[p].update(step=step, exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))
        states = [self.state[p] for p, _ in found]
        adamw_update(
            [p for p, _ in found],
            [g for _, g in found],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=group["fused"],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


@optimizers.register(
    "muon",
    equation="m decaying mean of g; w -= lr (sqrt(max(1, rows / columns)) orthogonalize(m) + weight_decay w); "
    "biases, norms and embeddings: adamw",
    cite="Jordan et al. 2024, Muon: an optimizer for hidden layers in neural networks",
    example={"name": "muon", "lr": 0.02},
)
def muon(
    groups: Groups,
    /,
    *,
    lr: Positive = 1e-3,
    momentum: Fraction = 0.95,
    nesterov: bool = True,
    ns_steps: PositiveInt = 5,
    weight_decay: NonNegative = 0.1,
    adamw_lr: Positive = 1e-3,
    adamw_betas: Betas = (0.9, 0.999),
) -> torch.optim.Optimizer:
    """Momentum turned into the nearest orthogonal matrix, so that no direction of a layer is left behind.

    For weights of two or more dimensions; a convolution's kernel is seen as (output channels, rest). Biases and norms
    get AdamW with a rate of its own, and so do the vectors of tokens and positions. The authors leave the output layer
    to AdamW too; here it is orthogonalized like the others.

    Defaults are those of torch.optim.Muon, which takes nothing but matrices; the authors train with lr 0.02. The step
    is scaled by sqrt(max(1, rows / columns)) of the matrix, as in both; for kernels of convolutions the authors' code
    takes rows and columns of the filter instead, whose ratio is one. Momentum is a decaying mean; written as a sum, it
    gives the same direction and so the same step as long as it is not scheduled.

    Args:
        groups: parameters with the options that are their own.
        lr: learning rate of matrices.
        momentum: decay of the mean of the gradient.
        nesterov: look ahead along the momentum.
        ns_steps: steps of the Newton-Schulz iteration.
        weight_decay: share of a weight, times lr, that is taken away each step; of kernels only.
        adamw_lr: learning rate of biases, norms, embeddings and what else is no matrix.
        adamw_betas: decay of the mean of the gradient, and of its square, for the same.
    """
    return Muon(
        groups,
        lr=lr,
        momentum=momentum,
        nesterov=nesterov,
        ns_steps=ns_steps,
        weight_decay=weight_decay,
        adamw_lr=adamw_lr,
        adamw_betas=adamw_betas,
    )
