"""What is done to gradients and weights around an optimizer step, beside clipping: penalties, noise, constraints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor


class Penalty(ABC):
    """A term that is added to the loss, given by its value and by its gradient.

    The gradient is added in closed form to that of the loss, before clipping, so that no graph is built for it and a
    half-precision forward pass does not round it. The loss that is reported excludes the term.

    Args:
        weights: what is penalized.
    """

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self.weights: list[Tensor] = list(weights)

    @abstractmethod
    def value(self) -> Tensor:
        """Return the term at the present weights, a scalar on the device."""

    @abstractmethod
    def add_gradient(self, gradients: Sequence[Tensor]) -> None:
        """Add the term's gradient in place.

        Args:
            gradients: that of each weight, in the order of `weights`.
        """


class GradientNoise(ABC):
    """Noise on the gradients of the loss and the penalties, before clipping.

    Args:
        weights: whose gradients.
    """

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self.weights: list[Tensor] = list(weights)

    @abstractmethod
    def add(self, gradients: Sequence[Tensor], step: int) -> None:
        """Add noise in place.

        Args:
            gradients: that of each weight, in the order of `weights`.
            step: optimizer steps taken before this one.
        """


class Constraint(ABC):
    """A condition that the weights meet after every optimizer step.

    Args:
        weights: what has to meet it.
    """

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self.weights: list[Tensor] = list(weights)

    @abstractmethod
    def apply(self) -> None:
        """Change the weights in place so that they meet it."""
