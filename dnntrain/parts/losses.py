"""What training minimizes. Outputs are logits; each loss is the mean over the samples of a batch.

The trait `targets` says what a loss is for: `classes` (one logit for each), `binary` (one logit for two classes) or
`values` (one output for each number).
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from dnntrain.errors import DataError
from dnntrain.registry import ByShape, Family, Positive

losses = Family(
    "loss",
    summary="What training minimizes.",
    traits={"targets": "classes"},
    synonyms={
        "crossentropy": "cross_entropy",
        "categorical_crossentropy": "cross_entropy",
        "sparse_categorical_crossentropy": "cross_entropy",
        "nll": "cross_entropy",
        "bce": "binary_cross_entropy",
        "mean_squared_error": "mse",
        "l2": "mse",
    },
)

Weights = Annotated[tuple[Positive, ...], Field(strict=False)]
ClassWeights = Annotated[str | tuple[float, ...], ByShape(sequence=Weights, scalar=Literal["none", "balanced"])]


class CrossEntropy(nn.Module):
    """Mean over the samples of weight(y) (log sum_k exp z_k - z_y)."""

    weight: Tensor | None

    def __init__(self, weight: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("weight", weight)

    @override
    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self.weight is None:
            return F.cross_entropy(logits, targets)
        # torch's weighted mean divides by the weights of the batch, so that batches could not be added up.
        return F.cross_entropy(logits, targets, weight=self.weight, reduction="sum") / len(targets)


class BinaryCrossEntropy(nn.Module):
    """Mean over the samples of log(1 + exp(z)) - y z, in the form that does not overflow."""

    @override
    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, targets.view_as(logits).to(logits.dtype))


@losses.register(
    "cross_entropy",
    equation="log sum_k exp(z_k) - z_y",
    cite="Bridle 1990, Probabilistic interpretation of feedforward classification network outputs",
    targets="classes",
)
def cross_entropy(class_counts: Tensor, /, *, class_weights: ClassWeights = "none") -> nn.Module:
    """Negative log-likelihood of the right class, from logits, softmax included.

    Args:
        class_counts: training samples of each class, of shape (classes,).
        class_weights: weight of each class in the loss: none, a list, or `balanced`, which is
            samples / (classes * samples of the class). The sum is divided by the number of samples, where PyTorch
            divides by the sum of their weights.

    Raises:
        DataError: the list is not as long as there are classes.
    """
    if class_weights == "none":
        return CrossEntropy(None)
    if class_weights == "balanced":
        counts = class_counts.double()
        return CrossEntropy((counts.sum() / (len(counts) * counts.clamp(min=1))).float())
    if len(class_weights) != len(class_counts):
        raise DataError(
            f"loss.class_weights has {len(class_weights)} entries, but the data has {len(class_counts)} classes"
        )
    return CrossEntropy(torch.tensor(class_weights, dtype=torch.float32))


@losses.register(
    "binary_cross_entropy",
    equation="log(1 + exp(z)) - y z",
    cite="Bishop 2006, Pattern Recognition and Machine Learning, section 4.3.2",
    targets="binary",
)
def binary_cross_entropy() -> nn.Module:
    """Negative log-likelihood of two classes from one logit, sigmoid included."""
    return BinaryCrossEntropy()


@losses.register("mse", equation="mean (z - y)^2", cite="Gauss 1809, Theoria motus", targets="values")
def mse() -> nn.Module:
    """Mean squared error, over samples and outputs."""
    return nn.MSELoss()
