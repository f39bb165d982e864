"""What keeps weights small, or in a certain shape: penalties, constraints, and noise on gradients.

They act on kernels only: what layers multiply their inputs by, never biases, the parameters of normalization layers, or
the vectors of tokens and positions. `layers` narrows them down to layers whose names match a pattern, `dense1` or
`dense*` or a list of such; `dnntrain summary` shows the names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from dnntrain.parts.layers import Patterns, check_matches, matches
from dnntrain.registry import Family, NonNegative, Positive
from dnntrain.training.regularization import Constraint, GradientNoise, Penalty

regularizers = Family(
    "regularizer",
    summary="What keeps weights small, or in a certain shape, and noise on gradients.",
    synonyms={"ridge": "l2", "lasso": "l1", "elastic_net": "l1_l2", "maxnorm": "max_norm", "nonneg": "non_negative"},
)

Kernels = Mapping[str, nn.Parameter]
"""The kernels of a model by the names of their layers."""


def matching(kernels: Kernels, layers: Patterns) -> list[Tensor]:
    """Return the kernels of the layers whose names match, but for those that are frozen.

    Args:
        kernels: by the names of their layers.
        layers: a pattern, or several; `*` stands for any characters.

    Raises:
        UsageError: a pattern matches no layer.
    """
    check_matches(kernels, layers, kind="layer with weights")
    return [kernel for name, kernel in kernels.items() if kernel.requires_grad and matches(name, layers)]


class NormPenalty(Penalty):
    """l1 sum |w| + l2 sum w^2."""

    def __init__(self, weights: Sequence[Tensor], *, l1: float, l2: float) -> None:
        super().__init__(weights)
        self._l1, self._l2 = l1, l2

    @override
    @torch.no_grad()
    def value(self) -> Tensor:
        total = self.weights[0].new_zeros(())
        if self._l1:
            total += self._l1 * torch.stack(torch._foreach_norm(self.weights, 1)).sum()
        if self._l2:
            total += self._l2 * torch.stack(torch._foreach_norm(self.weights, 2)).square().sum()
        return total

    @override
    @torch.no_grad()
    def add_gradient(self, gradients: Sequence[Tensor]) -> None:
        if self._l1:
            torch._foreach_add_(list(gradients), torch._foreach_sign(self.weights), alpha=self._l1)
        if self._l2:
            torch._foreach_add_(list(gradients), self.weights, alpha=2.0 * self._l2)


@regularizers.register(
    "l1",
    equation="loss += strength sum |w|",
    cite="Tibshirani 1996, Regression shrinkage and selection via the lasso",
    example={"name": "l1", "strength": 1e-5},
)
def l1(kernels: Kernels, /, *, strength: Positive, layers: Patterns = "*") -> Penalty:
    """Pull every weight to zero with the same force, so that many end there. At zero the gradient is zero.

    Args:
        kernels: by the names of their layers.
        strength: factor of the penalty.
        layers: which layers, by name or pattern.
    """
    return NormPenalty(matching(kernels, layers), l1=strength, l2=0.0)


@regularizers.register(
    "l2",
    equation="loss += strength sum w^2",
    cite="Hoerl and Kennard 1970, Ridge regression",
    example={"name": "l2", "strength": 1e-4},
)
def l2(kernels: Kernels, /, *, strength: Positive, layers: Patterns = "*") -> Penalty:
    """Pull every weight to zero with a force that grows with it.

    As Keras has it; PyTorch's coupled weight_decay of d is l2 with strength d / 2. With an optimizer that rescales
    gradients, such as adam, decoupled weight decay is usually the better choice.

    Args:
        kernels: by the names of their layers.
        strength: factor of the penalty.
        layers: which layers, by name or pattern.
    """
    return NormPenalty(matching(kernels, layers), l1=0.0, l2=strength)


@regularizers.register(
    "l1_l2",
    equation="loss += l1 sum |w| + l2 sum w^2",
    cite="Zou and Hastie 2005, Regularization and variable selection via the elastic net",
    example={"name": "l1_l2", "l1": 1e-5, "l2": 1e-4},
)
def l1_l2(kernels: Kernels, /, *, l1: Positive, l2: Positive, layers: Patterns = "*") -> Penalty:
    """Both penalties at once.

    Args:
        kernels: by the names of their layers.
        l1: factor of the sum of absolute values.
        l2: factor of the sum of squares.
        layers: which layers, by name or pattern.
    """
    return NormPenalty(matching(kernels, layers), l1=l1, l2=l2)


class IncomingNorm(Constraint):
    """Rescales the incoming weights of each unit: down to `largest`, or to exactly it."""

    def __init__(self, weights: Sequence[Tensor], *, largest: float, exactly: bool) -> None:
        super().__init__(weights)
        self._largest = largest
        self._exactly = exactly

    @override
    @torch.no_grad()
    def apply(self) -> None:
        for weight in self.weights:
            dims = tuple(range(1, weight.ndim))
            norms = torch.linalg.vector_norm(weight, dim=dims, keepdim=True)
            # The small number lets a unit whose weights are all zero stay as it is.
            factor = self._largest / norms.clamp(min=1e-12)
            weight.mul_(factor if self._exactly else factor.clamp_(max=1.0))


@regularizers.register(
    "max_norm",
    equation="w_unit *= min(1, max / |w_unit|) after every step",
    cite="arXiv:1207.0580",
    example={"name": "max_norm", "max": 1.0},
)
def max_norm(kernels: Kernels, /, *, max: Positive = 1.0, layers: Patterns = "*") -> Constraint:
    """Keep the norm of each unit's incoming weights at or below `max`; no penalty, so no pull below it.

    Args:
        kernels: by the names of their layers.
        max: largest Euclidean norm of a unit's incoming weights.
        layers: which layers, by name or pattern.
    """
    return IncomingNorm(matching(kernels, layers), largest=max, exactly=False)


@regularizers.register(
    "unit_norm",
    equation="w_unit *= 1 / |w_unit| after every step",
    cite="arXiv:1602.07868, whose direction this keeps and whose scale it leaves out",
)
def unit_norm(kernels: Kernels, /, *, layers: Patterns = "*") -> Constraint:
    """Keep the norm of each unit's incoming weights at one.

    Args:
        kernels: by the names of their layers.
        layers: which layers, by name or pattern.
    """
    return IncomingNorm(matching(kernels, layers), largest=1.0, exactly=True)


class NonNegativeWeights(Constraint):
    """Cuts negative weights to zero."""

    @override
    @torch.no_grad()
    def apply(self) -> None:
        torch._foreach_clamp_min_(self.weights, 0.0)


@regularizers.register(
    "non_negative", equation="w = max(0, w) after every step", cite="Lee and Seung 1999, Learning the parts of objects"
)
def non_negative(kernels: Kernels, /, *, layers: Patterns = "*") -> Constraint:
    """Keep weights at or above zero, so that a layer can only add up.

    Args:
        kernels: by the names of their layers.
        layers: which layers, by name or pattern.
    """
    return NonNegativeWeights(matching(kernels, layers))


class AnnealedNoise(GradientNoise):
    """Gaussian noise of variance eta / (1 + t)^gamma, from torch's global generator."""

    def __init__(self, weights: Sequence[Tensor], *, eta: float, gamma: float) -> None:
        super().__init__(weights)
        self._eta, self._gamma = eta, gamma

    @override
    @torch.no_grad()
    def add(self, gradients: Sequence[Tensor], step: int) -> None:
        deviation = (self._eta / (1.0 + step) ** self._gamma) ** 0.5
        for gradient in gradients:
            gradient.add_(torch.randn_like(gradient), alpha=deviation)


@regularizers.register(
    "gradient_noise",
    equation="g += N(0, eta / (1 + t)^gamma)",
    cite="arXiv:1511.06807",
    example={"name": "gradient_noise", "eta": 0.01},
)
def gradient_noise(
    kernels: Kernels, /, *, eta: Positive = 0.01, gamma: NonNegative = 0.55, layers: Patterns = "*"
) -> GradientNoise:
    """Shake the gradients of kernels, less and less; helps very deep plain networks off bad starts.

    The paper shakes those of biases too. Here noise goes where penalties and constraints go, so that the vector of a
    token that stands for nothing stays zero.

    Args:
        kernels: by the names of their layers.
        eta: variance of the noise at the first step; the paper tries 0.01, 0.3 and 1.
        gamma: how fast the variance falls with the step t.
        layers: which layers, by name or pattern.
    """
    return AnnealedNoise(matching(kernels, layers), eta=eta, gamma=gamma)
