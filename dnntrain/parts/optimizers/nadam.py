"""Adam that looks ahead along its momentum."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from dnntrain.parts.optimizers.base import Betas, Groups, InPlace, optimizers
from dnntrain.registry import NonNegative, Positive


class NAdam(InPlace):
    """Adam with Nesterov momentum, computed in place without temporary memory.

    With mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2) and its running product P_t::

        m = beta1 m + (1 - beta1) g          v = beta2 v + (1 - beta2) g^2
        d = sqrt(v / (1 - beta2^t)) + eps
        w -= lr [ (1 - mu_t) / (1 - P_t) g + mu_{t+1} / (1 - P_t mu_{t+1}) m ] / d

    The same update as torch.optim.NAdam with decoupled weight decay, without its temporary tensors.

    Args:
        params: parameters or groups.
        lr: learning rate.
        betas: decay of the means of the gradient and of its square.
        eps: added to the root of the mean square.
        weight_decay: decoupled; w is first multiplied by 1 - lr weight_decay.
        momentum_decay: how fast mu_t rises to beta1.
    """

    def __init__(
        self,
        params: Groups,
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        momentum_decay: float,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "momentum_decay": momentum_decay})

    @override
    def _update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state.update(step=0, mu_product=1.0, exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))
        beta1, beta2 = group["betas"]
        state["step"] += 1
        t = state["step"]
        mu = beta1 * (1.0 - 0.5 * 0.96 ** (t * group["momentum_decay"]))
        mu_next = beta1 * (1.0 - 0.5 * 0.96 ** ((t + 1) * group["momentum_decay"]))
        state["mu_product"] *= mu
        product = state["mu_product"]
        m, v, (d,) = state["exp_avg"], state["exp_avg_sq"], self._scratch_of(p)

        if group["weight_decay"]:
            p.mul_(1.0 - group["lr"] * group["weight_decay"])
        m.lerp_(g, 1.0 - beta1)
        v.mul_(beta2).addcmul_(g, g, value=1.0 - beta2)
        torch.sqrt(v, out=d)
        d.mul_(1.0 / math.sqrt(1.0 - beta2**t)).add_(group["eps"])
        p.addcdiv_(g, d, value=-group["lr"] * (1.0 - mu) / (1.0 - product))
        p.addcdiv_(m, d, value=-group["lr"] * mu_next / (1.0 - product * mu_next))


@optimizers.register(
    "nadam",
    equation="w -= lr [(1 - mu_t) / (1 - P_t) g + mu_{t+1} / (1 - P_{t+1}) m] / (sqrt(v^) + eps)",
    cite="Dozat 2016, Incorporating Nesterov momentum into Adam",
    elementwise=True,
)
def nadam(
    groups: Groups,
    /,
    *,
    lr: Positive = 2e-3,
    betas: Betas = (0.9, 0.999),
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.0,
    momentum_decay: NonNegative = 4e-3,
) -> torch.optim.Optimizer:
    """Adam with Nesterov momentum; weight decay, where asked for, is decoupled.

    The momentum mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2) rises from half of beta1 to beta1. Keras's rises 250
    times as fast: its formula has no such factor, which is `momentum_decay: 1` here, so that 99 % of beta1 are reached
    after 96 steps rather than 24,000. Its other defaults are lr 1e-3 and eps 1e-7. The defaults here are torch's.

    Args:
        groups: parameters with the options that are their own.
        lr: learning rate.
        betas: decay of the mean of the gradient, and of its square.
        eps: added to the root of the mean square.
        weight_decay: share of a weight, times lr, that is taken away each step; of kernels only.
        momentum_decay: how fast the momentum rises to the first beta; 1 is Keras's.
    """
    return NAdam(groups, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, momentum_decay=momentum_decay)
