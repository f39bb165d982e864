"""Adam whose first steps, taken before its second moment is worth anything, do without it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from dnntrain.parts.optimizers.base import Betas, Groups, InPlace, optimizers
from dnntrain.registry import NonNegative, Positive

TRUSTED = 5.0
"""Length of the second moment's memory, in steps, above which it is used."""


def rectification(t: int, beta2: float) -> float | None:
    """Return r_t, what scales step t, counted from 1; None while the second moment is not to be trusted.

    With rho_inf = 2 / (1 - beta2) - 1 and rho_t = rho_inf - 2 t beta2^t / (1 - beta2^t), the length of a simple moving
    average that is as certain::

        r_t = sqrt((rho_t - 4) (rho_t - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho_t))
    """
    longest = 2.0 / (1.0 - beta2) - 1.0
    length = longest - 2.0 * t * beta2**t / (1.0 - beta2**t)
    if length <= TRUSTED:
        return None
    return math.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))


class RAdam(InPlace):
    """Adam with a rectified second moment.

    With m, v decaying means of g, g^2 and r_t from `rectification`::

        w -= lr r_t m / (1 - beta1^t) sqrt(1 - beta2^t) / (sqrt(v) + eps)     or, without r_t,
        w -= lr m / (1 - beta1^t)

    The same update as torch.optim.RAdam with decoupled weight decay, without its temporary tensors.

    Args:
        params: parameters or groups.
        lr: learning rate.
        betas: decay of the means of the gradient and of its square.
        eps: added to the root of v.
        weight_decay: decoupled; w is first multiplied by 1 - lr weight_decay.
    """

    def __init__(
        self, params: Groups, *, lr: float, betas: tuple[float, float], eps: float, weight_decay: float
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @override
    def _update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state.update(step=0, exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))
        state["step"] += 1
        t, (beta1, beta2), lr = state["step"], group["betas"], group["lr"]
        m, v = state["exp_avg"], state["exp_avg_sq"]
        if group["weight_decay"]:
            p.mul_(1.0 - lr * group["weight_decay"])
        m.lerp_(g, 1.0 - beta1)
        v.mul_(beta2).addcmul_(g, g, value=1.0 - beta2)
        step = lr / (1.0 - beta1**t)
        rectified = rectification(t, beta2)
        if rectified is None:
            p.add_(m, alpha=-step)
            return
        (d,) = self._scratch_of(p)
        torch.sqrt(v, out=d)
        d.add_(group["eps"])
        p.addcdiv_(m, d, value=-step * rectified * math.sqrt(1.0 - beta2**t))


@optimizers.register(
    "radam",
    equation="w -= lr (r_t m^ sqrt(1 - beta2^t) / (sqrt(v) + eps) + weight_decay w); lr m^ while r_t is undefined",
    cite="arXiv:1908.03265",
    elementwise=True,
)
def radam(
    groups: Groups,
    /,
    *,
    lr: Positive = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """Adam with a warm-up of its own; weight decay, where asked for, is decoupled.

    The second moment is used once its memory is longer than 5 steps, as in PyTorch and in the authors' code: from the
    sixth step on with the default betas; the paper's text says 4. eps is added before the correction of the root, as in
    PyTorch. Keras has no RAdam.

    Args:
        groups: parameters with the options that are their own.
        lr: learning rate.
        betas: decay of the mean of the gradient, and of its square.
        eps: added to the root of the mean square.
        weight_decay: share of a weight, times lr, that is taken away each step; of kernels only.
    """
    return RAdam(groups, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
