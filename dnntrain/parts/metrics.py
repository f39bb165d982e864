"""Figures measured beside the loss, each a sum over samples and one last step.

The trait `targets` says which targets a metric is for: `classes` (binary ones included) or `values`; `mode`, which way
is better.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dnntrain.registry import Family

metrics = Family(
    "metric",
    summary="Figures measured beside the loss.",
    traits={"targets": "classes", "mode": "min"},
    synonyms={"acc": "accuracy", "mean_absolute_error": "mae", "mean_squared_error": "mse", "r2_score": "r2"},
)


@dataclass(frozen=True)
class Accuracy:
    """Share of samples whose largest logit, or whose one logit's sign, is right."""

    def sums(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        """Return the number of right samples, of shape (1,)."""
        predicted = (outputs[:, 0] > 0).long() if outputs.shape[1] == 1 else outputs.argmax(dim=1)
        return (predicted == targets).sum().view(1)

    def value(self, sums: Tensor, count: int, /) -> float:
        """Divide by the number of samples."""
        return float(sums[0]) / count


@dataclass(frozen=True)
class MeanError:
    """Mean over samples and outputs of |z - y|^power."""

    power: int

    def sums(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        """Return the sum over samples of the mean over outputs, of shape (1,)."""
        return (outputs - targets).abs().pow(self.power).mean(dim=1).sum(dtype=_wide(outputs)).view(1)

    def value(self, sums: Tensor, count: int, /) -> float:
        """Divide by the number of samples."""
        return float(sums[0]) / count


@dataclass(frozen=True)
class Determination:
    """1 - residual sum of squares / total sum of squares; over several outputs, the mean of theirs."""

    def sums(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        """Return, for each output, the sums of (z - y)^2, y and y^2, flattened to shape (3 outputs,)."""
        z, y = outputs.to(_wide(outputs)), targets.to(_wide(outputs))
        return torch.stack([(z - y).square().sum(0), y.sum(0), y.square().sum(0)]).flatten()

    def value(self, sums: Tensor, count: int, /) -> float:
        """Put the sums together; 0 where the targets do not vary, as a model can explain nothing there."""
        residual, total, squares = sums.view(3, -1)
        spread = squares - total.square() / count
        # What is left of a difference of nearly equal sums is rounding, not variation.
        varies = spread > 1e-14 * squares
        ratio = torch.where(varies, residual / torch.where(varies, spread, 1.0), 1.0)
        return float((1.0 - ratio).mean())


def _wide(tensor: Tensor) -> torch.dtype:
    """Float64 where the device has it: sums over many samples lose digits in float32."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64


@metrics.register("accuracy", equation="mean [argmax_k z_k = y]", cite="none: the share of right answers", mode="max")
def accuracy() -> Accuracy:
    """Share of samples whose most likely class is the right one."""
    return Accuracy()


@metrics.register("mae", equation="mean |z - y|", cite="Laplace 1774", targets="values")
def mae() -> MeanError:
    """Mean absolute error, in the units of the target."""
    return MeanError(1)


@metrics.register("mse", equation="mean (z - y)^2", cite="Gauss 1809, Theoria motus", targets="values")
def mse() -> MeanError:
    """Mean squared error, in squared units of the target."""
    return MeanError(2)


@metrics.register(
    "r2", equation="1 - sum (z - y)^2 / sum (y - mean y)^2", cite="Wright 1921", targets="values", mode="max"
)
def r2() -> Determination:
    """Coefficient of determination: 1 is perfect, 0 is as good as the mean."""
    return Determination()
