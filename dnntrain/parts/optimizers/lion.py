"""Steps along the sign of a momentum: every component moves by the same length."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from dnntrain.parts.optimizers.base import Betas, Groups, InPlace, optimizers
from dnntrain.registry import NonNegative, Positive


class Lion(InPlace):
    """Sign momentum with two decays, one for the step and a slower one for the memory.

    ::

        w -= lr (sign(beta1 m + (1 - beta1) g) + weight_decay w)
        m = beta2 m + (1 - beta2) g

    Args:
        params: parameters or groups.
        lr: learning rate.
        betas: share of the memory in the step, and its decay.
        weight_decay: decoupled; w is first multiplied by 1 - lr weight_decay.
    """

    def __init__(self, params: Groups, *, lr: float, betas: tuple[float, float], weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @override
    def _update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state.update(exp_avg=torch.zeros_like(p))
        beta1, beta2 = group["betas"]
        m, (d,) = state["exp_avg"], self._scratch_of(p)
        if group["weight_decay"]:
            p.mul_(1.0 - group["lr"] * group["weight_decay"])
        torch.lerp(m, g, 1.0 - beta1, out=d)
        p.add_(d.sign_(), alpha=-group["lr"])
        m.lerp_(g, 1.0 - beta2)


@optimizers.register(
    "lion",
    equation="w -= lr (sign(beta1 m + (1 - beta1) g) + weight_decay w); m = beta2 m + (1 - beta2) g",
    cite="arXiv:2302.06675",
    elementwise=True,
)
def lion(
    groups: Groups,
    /,
    *,
    lr: Positive = 1e-4,
    betas: Betas = (0.9, 0.99),
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """Sign momentum: half of Adam's memory, and steps whose length does not depend on the gradient's.

    As every component moves by lr, the paper advises a rate 3 to 10 times smaller than adamw's, and a weight decay as
    many times larger. PyTorch has no Lion; the defaults are the authors'. Keras has the same formula with lr 0.001. A
    schedule that cycles the momentum moves the first beta.

    Args:
        groups: parameters with the options that are their own.
        lr: learning rate.
        betas: share of the memory in the step, and decay of the memory.
        weight_decay: share of a weight, times lr, that is taken away each step; of kernels only.
    """
    return Lion(groups, lr=lr, betas=betas, weight_decay=weight_decay)
