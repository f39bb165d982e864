"""Adam and what differs from it by a term: amsgrad, decoupled weight decay, the maximum norm.

m and v are decaying means of g and g^2; m^ and v^ are corrected for their start at zero: m / (1 - beta1^t), v / (1 -
beta2^t).
"""

from __future__ import annotations

import torch

from dnntrain.parts.optimizers.base import Betas, Groups, fused, optimizers
from dnntrain.registry import NonNegative, Positive


@optimizers.register(
    "adam",
    equation="w -= lr m^ / (sqrt(v^) + eps), m and v decaying means of g and g^2",
    cite="arXiv:1412.6980; amsgrad: Reddi et al. 2018, On the convergence of Adam and beyond",
    elementwise=True,
)
def adam(
    groups: Groups,
    /,
    *,
    lr: Positive = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: Positive = 1e-8,
    amsgrad: bool = False,
) -> torch.optim.Optimizer:
    """Momentum, with steps divided by the root mean square of the gradient.

    eps stands outside the corrected root, as in PyTorch and in the paper's algorithm; Keras has 1e-7 and folds the
    correction into the learning rate, so that its eps weighs 1 / sqrt(1 - beta2^t) times as much: 32 times in the
    first step. For weight decay take adamw, or the regularizer l2 for the kind that adds to the gradient.

    Args:
        groups: parameters with the options that are their own.
        lr: learning rate.
        betas: decay of the mean of the gradient, and of its square.
        eps: added to the root of the mean square.
        amsgrad: divide by the largest mean square so far; the largest is taken before the correction, as everywhere.
    """
    return torch.optim.Adam(groups, lr=lr, betas=betas, eps=eps, amsgrad=amsgrad, fused=fused(groups))


@optimizers.register(
    "adamw",
    equation="w -= lr (m^ / (sqrt(v^) + eps) + weight_decay w), m and v decaying means of g and g^2",
    cite="arXiv:1711.05101",
    elementwise=True,
)
def adamw(
    groups: Groups,
    /,
    *,
    lr: Positive = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.01,
) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay.

    eps stands outside the root, as in PyTorch and in the paper; Keras has 1e-7 and folds the bias correction into the
    learning rate, so that its eps weighs differently in the first steps.

    Args:
        groups: parameters with the options that are their own.
        lr: learning rate.
        betas: decay of the mean of the gradient, and of its square.
        eps: added to the root of the mean square.
        weight_decay: share of a weight, times lr, that is taken away each step; of kernels only.
    """
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=fused(groups))


@optimizers.register(
    "adamax",
    equation="u = max(beta2 u, |g| + eps); w -= lr m^ / u, m decaying mean of g",
    cite="arXiv:1412.6980, section 7.1",
    elementwise=True,
)
def adamax(
    groups: Groups, /, *, lr: Positive = 2e-3, betas: Betas = (0.9, 0.999), eps: Positive = 1e-8
) -> torch.optim.Optimizer:
    """Adam with steps divided by the largest recent gradient instead of the root mean square.

    eps goes into the maximum, as in PyTorch, where it fades with it; Keras has lr 0.001 and adds eps 1e-7 to u.

    Args:
        groups: parameters with the options that are their own.
        lr: learning rate.
        betas: decay of the mean of the gradient, and of its largest size.
        eps: added to the size of the gradient.
    """
    return torch.optim.Adamax(groups, lr=lr, betas=betas, eps=eps)
