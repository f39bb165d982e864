"""Steps divided by the root of the squared gradients so far: all of them, or a decaying mean."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from dnntrain.parts.optimizers.base import Groups, InPlace, fused, optimizers
from dnntrain.registry import Fraction, NonNegative, Positive


@optimizers.register(
    "adagrad",
    equation="s += g^2; w -= lr g / (sqrt(s) + eps)",
    cite="Duchi et al. 2011, Adaptive subgradient methods",
    elementwise=True,
)
def adagrad(
    groups: Groups,
    /,
    *,
    lr: Positive = 1e-2,
    initial_accumulator_value: NonNegative = 0.0,
    eps: Positive = 1e-10,
) -> torch.optim.Optimizer:
    """Shorter steps where gradients have been large; as they only add up, steps only shrink.

    Keras starts s at 0.1, which holds the first steps back, and has eps 1e-7 inside the root. PyTorch's `lr_decay` is
    the schedule `power`.

    Args:
        groups: parameters with the options that are their own.
        lr: learning rate.
        initial_accumulator_value: where s starts.
        eps: added to the root.
    """
    # On CUDA the kernel is missing in some of the versions of PyTorch that we run on.
    return torch.optim.Adagrad(
        groups,
        lr=lr,
        initial_accumulator_value=initial_accumulator_value,
        eps=eps,
        fused=fused(groups, devices=("cpu",)),
    )


class Adadelta(InPlace):
    """Steps as long as past steps were, with s and u decaying means of g^2 and d^2.

    ::

        s = rho s + (1 - rho) g^2
        d = sqrt(u + eps) / sqrt(s + eps) g
        u = rho u + (1 - rho) d^2
        w -= lr d

    The same update as torch.optim.Adadelta, without its temporary tensors.

    Args:
        params: parameters or groups.
        lr: learning rate.
        rho: decay of both means.
        eps: added inside both roots.
    """

    def __init__(self, params: Groups, *, lr: float, rho: float, eps: float) -> None:
        super().__init__(params, {"lr": lr, "rho": rho, "eps": eps})

    @override
    def _update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state.update(square_avg=torch.zeros_like(p), acc_delta=torch.zeros_like(p))
        rho, eps, s, u = group["rho"], group["eps"], state["square_avg"], state["acc_delta"]
        d, below = self._scratch_of(p, 2)
        s.mul_(rho).addcmul_(g, g, value=1.0 - rho)
        torch.add(u, eps, out=d)
        torch.add(s, eps, out=below)
        d.div_(below).sqrt_().mul_(g)
        u.mul_(rho).addcmul_(d, d, value=1.0 - rho)
        p.add_(d, alpha=-group["lr"])


@optimizers.register(
    "adadelta",
    equation="d = sqrt(u + eps) / sqrt(s + eps) g; w -= lr d; s and u decaying means of g^2 and d^2",
    cite="arXiv:1212.5701",
    elementwise=True,
)
def adadelta(
    groups: Groups, /, *, lr: Positive = 1.0, rho: Fraction = 0.9, eps: Positive = 1e-6
) -> torch.optim.Optimizer:
    """Steps as long as past steps were; in the paper it has no learning rate, which is lr: 1 here.

    The formula is the same in Keras, with rho 0.95, eps 1e-7 and lr 0.001: set lr to 1 there too, or it hardly moves.

    Args:
        groups: parameters with the options that are their own.
        lr: factor on the step.
        rho: decay of the means of the squared gradient and of the squared step.
        eps: added inside both roots; it decides how long the first steps are.
    """
    return Adadelta(groups, lr=lr, rho=rho, eps=eps)


class RMSprop(InPlace):
    """Adagrad with a memory that fades.

    With s a decaying mean of g^2 and c of g::

        b = momentum b + g / (sqrt(s - c^2) + eps)          c = 0 unless centered
        w -= lr b

    The same update as torch.optim.RMSprop, but for one thing: where a gradient hardly changes, rounding can bring
    s - c^2 below zero, whose root torch takes; here it is zero.

    Args:
        params: parameters or groups.
        lr: learning rate.
        alpha: decay of both means.
        eps: added to the root.
        momentum: share of the velocity that is kept.
        centered: whether c is subtracted.
    """

    def __init__(self, params: Groups, *, lr: float, alpha: float, eps: float, momentum: float, centered: bool) -> None:
        defaults = {"lr": lr, "alpha": alpha, "eps": eps, "momentum": momentum, "centered": centered}
        super().__init__(params, defaults)

    @override
    def _update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state.update(square_avg=torch.zeros_like(p))
            if group["centered"]:
                state.update(grad_avg=torch.zeros_like(p))
        s, (d,), lr = state["square_avg"], self._scratch_of(p), group["lr"]
        s.mul_(group["alpha"]).addcmul_(g, g, value=1.0 - group["alpha"])
        if group["centered"]:
            c = state["grad_avg"].lerp_(g, 1.0 - group["alpha"])
            torch.addcmul(s, c, c, value=-1.0, out=d)
            d.clamp_(min=0.0).sqrt_()
        else:
            torch.sqrt(s, out=d)
        d.add_(group["eps"])
        if group["momentum"] or "momentum_buffer" in state:
            # A schedule may bring the momentum to zero and back.
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(p)
            b = state["momentum_buffer"].mul_(group["momentum"]).addcdiv_(g, d)
            p.add_(b, alpha=-lr)
        else:
            p.addcdiv_(g, d, value=-lr)


@optimizers.register(
    "rmsprop",
    equation="s decaying mean of g^2, less the squared mean of g if centered; b = momentum b + g / (sqrt(s) + eps); "
    "w -= lr b",
    cite="Tieleman and Hinton 2012, Lecture 6.5; centered: arXiv:1308.0850",
    elementwise=True,
)
def rmsprop(
    groups: Groups,
    /,
    *,
    lr: Positive = 1e-2,
    alpha: Fraction = 0.99,
    eps: Positive = 1e-8,
    momentum: Fraction = 0.0,
    centered: bool = False,
) -> torch.optim.Optimizer:
    """Adagrad with a memory that fades, so that steps do not die out.

    Keras differs three times: alpha is called rho and is 0.9; eps is 1e-7 and stands inside the root; and the learning
    rate multiplies what goes into the momentum rather than what comes out, so that a new rate takes effect gradually.

    Args:
        groups: parameters with the options that are their own.
        lr: learning rate.
        alpha: decay of the mean of the squared gradient.
        eps: added to the root.
        momentum: share of the velocity that is kept.
        centered: divide by the deviation of the gradient instead of its root mean square.
    """
    return RMSprop(groups, lr=lr, alpha=alpha, eps=eps, momentum=momentum, centered=centered)
