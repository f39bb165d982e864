"""How gradients change the weights. Names and defaults follow torch.optim.

The trait `elementwise` says that an update looks at each component by itself; then all parameters can be laid into one
buffer and updated at once. Weight decay is decoupled and skips biases and the parameters of normalization layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, overload

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from dnntrain.registry import Family, Fraction, NonNegative, Positive

optimizers = Family(
    "optimizer",
    summary="How gradients change the weights.",
    traits={"elementwise": False},
    synonyms={"adam_w": "adamw", "momentum": "sgd with momentum: 0.9", "nesterov": "sgd with nesterov: true"},
)

Groups = list[dict[str, Any]]
Betas = Annotated[tuple[Fraction, Fraction], Field(strict=False)]


def _fused(groups: Groups) -> bool:
    """Whether torch has one kernel for the whole update on this device."""
    return all(p.device.type in ("cpu", "cuda", "mps") for group in groups for p in group["params"])


@optimizers.register(
    "sgd",
    equation="b = momentum b + (1 - dampening) g; w -= lr b, or lr (g + momentum b) with nesterov",
    cite="Polyak 1964; Sutskever et al. 2013, On the importance of initialization and momentum",
    example={"name": "sgd", "lr": 0.01, "momentum": 0.9, "nesterov": True},
    elementwise=True,
)
def sgd(
    groups: Groups,
    /,
    *,
    lr: Positive = 1e-3,
    momentum: Fraction = 0.0,
    dampening: Fraction = 0.0,
    nesterov: bool = False,
) -> torch.optim.Optimizer:
    """Gradient descent, plain, with momentum, or with Nesterov's.

    The learning rate multiplies the velocity, as in PyTorch; Keras and the textbook multiply the gradient on its way
    into the velocity, which differs when the learning rate changes.

    Args:
        groups: parameters with the options that are their own.
        lr: learning rate.
        momentum: share of the velocity that is kept.
        dampening: share of the gradient that is kept out of the velocity.
        nesterov: look ahead along the velocity; needs momentum and no dampening.
    """
    return torch.optim.SGD(
        groups, lr=lr, momentum=momentum, dampening=dampening, nesterov=nesterov, fused=_fused(groups)
    )


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
        weight_decay: share of a weight, times lr, that is taken away each step; not from biases and norms.
    """
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=_fused(groups))


class NAdam(torch.optim.Optimizer):
    """Adam with Nesterov momentum, computed in place without temporary memory.

    With mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2) and its running product P_t::

        m = beta1 m + (1 - beta1) g          v = beta2 v + (1 - beta2) g^2
        d = sqrt(v / (1 - beta2^t)) + eps
        w -= lr [ (1 - mu_t) / (1 - P_t) g + mu_{t+1} / (1 - P_t mu_{t+1}) m ] / d

    The same update as torch.optim.NAdam, which allocates as it goes: here the one scratch tensor for d is kept. On one
    large tensor, allocation is most of the cost.

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
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum_decay": momentum_decay,
        }
        super().__init__(params, defaults)
        self._scratch: dict[Tensor, Tensor] = {}

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @override
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, p.grad, self.state[p], group)
        return loss

    def _update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state.update(step=0, mu_product=1.0, exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))
        if p not in self._scratch:
            self._scratch[p] = torch.empty_like(p)
        beta1, beta2 = group["betas"]
        state["step"] += 1
        t = state["step"]
        mu = beta1 * (1.0 - 0.5 * 0.96 ** (t * group["momentum_decay"]))
        mu_next = beta1 * (1.0 - 0.5 * 0.96 ** ((t + 1) * group["momentum_decay"]))
        state["mu_product"] *= mu
        product = state["mu_product"]
        m, v, d = state["exp_avg"], state["exp_avg_sq"], self._scratch[p]

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

    Keras has the same warm-up of the momentum, with eps 1e-7.

    Args:
        groups: parameters with the options that are their own.
        lr: learning rate.
        betas: decay of the mean of the gradient, and of its square.
        eps: added to the root of the mean square.
        weight_decay: share of a weight, times lr, that is taken away each step; not from biases and norms.
        momentum_decay: how fast the momentum rises to the first beta.
    """
    return NAdam(groups, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, momentum_decay=momentum_decay)
