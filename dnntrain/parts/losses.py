"""What training minimizes. Outputs are logits; each loss is the mean over the samples of a batch.

So the loss of the whole is the mean of its batches' losses, each weighted by its samples.

The trait `targets` says what a loss is for: `classes` (one logit for each), `binary` (one logit for two classes) or
`values` (one output for each number). Losses for classes take class indices, int64 of shape (N,), or what mixing
pictures makes of them: a probability for each class, float of shape (N, K).
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from dnntrain.errors import DataError
from dnntrain.registry import ByShape, Family, Fraction, Positive

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
        "binary_crossentropy": "binary_cross_entropy",
        "mean_squared_error": "mse",
        "l2": "mse",
        "mean_absolute_error": "mae",
        "l1": "mae",
        "smooth_l1": "huber",
        "categorical_hinge": "hinge",
        "multi_margin": "hinge",
        "svm": "hinge",
    },
)

Weights = Annotated[tuple[Positive, ...], Field(strict=False)]
ClassWeights = Annotated[str | tuple[float, ...], ByShape(sequence=Weights, scalar=Literal["none", "balanced"])]


class CrossEntropy(nn.Module):
    """Mean over the samples of -sum_k weight_k q_k log softmax(z)_k, q the smoothed targets; see `cross_entropy`."""

    weight: Tensor | None

    def __init__(self, weight: Tensor | None, label_smoothing: float) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.label_smoothing = label_smoothing

    @override
    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        logits = logits.to(_wide(logits))
        if targets.is_floating_point():
            targets = targets.to(logits.dtype)
        if self.weight is None:
            return F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        # torch's weighted mean of class indices divides by the weights of the batch, so that batches could not be
        # added up.
        total = F.cross_entropy(
            logits, targets, weight=self.weight, reduction="sum", label_smoothing=self.label_smoothing
        )
        return total / len(targets)


class BinaryCrossEntropy(nn.Module):
    """Mean over the samples of log(1 + exp(z)) - q z, in the form that does not overflow; see `binary_cross_entropy`.

    Args:
        positive_weight: weight of the samples of class 1.
        label_smoothing: share of the target that is spread over both classes.
    """

    positive_weight: Tensor

    def __init__(self, positive_weight: float, label_smoothing: float) -> None:
        super().__init__()
        self.register_buffer("positive_weight", torch.tensor(positive_weight))
        self.label_smoothing = label_smoothing

    @override
    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        logits = logits.to(_wide(logits))
        # Of the probabilities of two classes, that of the second one is the target of the one logit.
        positive = targets[:, 1] if targets.ndim == 2 and targets.shape[1] == 2 else targets
        smoothed = positive.view_as(logits).to(logits.dtype) * (1 - self.label_smoothing) + self.label_smoothing / 2
        return F.binary_cross_entropy_with_logits(logits, smoothed, pos_weight=self.positive_weight)


class Hinge(nn.Module):
    """Mean over the samples of max(0, margin + max of the wrong logits - right logit); see `hinge`."""

    def __init__(self, margin: float) -> None:
        super().__init__()
        self.margin = margin

    @override
    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        logits = logits.to(_wide(logits))
        best, ranked = logits.topk(2, dim=1)
        # Everyone's strongest rival is the largest logit, but for that one itself, whose rival is the second.
        rivals = best[:, :1].expand_as(logits).scatter(1, ranked[:, :1], best[:, 1:])
        # One loss for each class that might be the right one.
        each = (self.margin + rivals - logits).clamp(min=0)
        if targets.is_floating_point():
            own = (each * targets).sum(dim=1)
        else:
            own = each.gather(1, targets.unsqueeze(1))
        mean: Tensor = own.mean()
        return mean


def _wide(tensor: Tensor) -> torch.dtype:
    """Float32 at least: log-sums and differences of half-precision logits lose too many digits."""
    return torch.promote_types(tensor.dtype, torch.float32)


@losses.register(
    "cross_entropy",
    equation="-sum_k w_k q_k log softmax(z)_k, q_k = (1 - label_smoothing) [k = y] + label_smoothing / K",
    cite="Bridle 1990, Probabilistic interpretation of feedforward classification network outputs; "
    "label smoothing: arXiv:1512.00567",
    targets="classes",
)
def cross_entropy(
    class_counts: Tensor, /, *, class_weights: ClassWeights = "none", label_smoothing: Fraction = 0.0
) -> nn.Module:
    """Negative log-likelihood of the right class, from logits, softmax included.

    Without smoothing and weights it is log sum_k exp(z_k) - z_y. Targets that are probabilities already are smoothed
    the same way: q = (1 - label_smoothing) targets + label_smoothing / K. A class's weight stands at its own term of
    the sum, as in PyTorch, so that a weighted and smoothed loss weighs the share of each class in q. The loss of the
    validation part is smoothed too, as in Keras; timm measures that part without.

    Args:
        class_counts: training samples of each class, of shape (classes,).
        class_weights: weight of each class in the loss: none, a list, or `balanced`, which is
            samples / (classes * samples of the class). The sum is divided by the number of samples, where PyTorch
            divides by the sum of their weights.
        label_smoothing: share of the target that is spread evenly over all classes, so that the network is not
            driven to be ever surer; 0.1 is usual.

    Raises:
        DataError: the list is not as long as there are classes.
    """
    if class_weights == "none":
        return CrossEntropy(None, label_smoothing)
    if class_weights == "balanced":
        counts = class_counts.double()
        return CrossEntropy((counts.sum() / (len(counts) * counts.clamp(min=1))).float(), label_smoothing)
    if len(class_weights) != len(class_counts):
        raise DataError(
            f"loss.class_weights has {len(class_weights)} entries, but the data has {len(class_counts)} classes"
        )
    return CrossEntropy(torch.tensor(class_weights, dtype=torch.float32), label_smoothing)


@losses.register(
    "binary_cross_entropy",
    equation="-(w q log sigmoid(z) + (1 - q) log(1 - sigmoid(z))), q = (1 - label_smoothing) y + label_smoothing / 2",
    cite="Bishop 2006, Pattern Recognition and Machine Learning, section 4.3.2",
    targets="binary",
)
def binary_cross_entropy(*, positive_weight: Positive = 1.0, label_smoothing: Fraction = 0.0) -> nn.Module:
    """Negative log-likelihood of two classes from one logit, sigmoid included.

    Equals `cross_entropy` of the two logits 0 and z.

    Args:
        positive_weight: weight w of class 1; the number of samples of class 0 for each of class 1 makes both count
            the same. PyTorch calls it pos_weight. The sum is divided by the number of samples.
        label_smoothing: share of the target that is spread evenly over both classes, as in Keras.
    """
    return BinaryCrossEntropy(positive_weight, label_smoothing)


@losses.register(
    "hinge",
    equation="max(0, margin + max_{k != y} z_k - z_y)",
    cite="Crammer and Singer 2001, On the algorithmic implementation of multiclass kernel-based vector machines",
    targets="classes",
)
def hinge(*, margin: Positive = 1.0) -> nn.Module:
    """Ask that the right logit be larger than every other one by a margin; beyond that, nothing is gained.

    This is the form of Crammer and Singer, which looks at the strongest rival only, as Keras's categorical_hinge and
    scikit-learn's hinge_loss do. That of Weston and Watkins, PyTorch's MultiMarginLoss, sums over all rivals. With
    two classes it is max(0, margin - s (z_1 - z_0)), s = 1 or -1: the usual hinge loss of the difference of the
    logits. For targets that are probabilities it is the expected loss. The logits it leaves are no log-probabilities.

    Args:
        margin: how much larger the right logit must be.
    """
    return Hinge(margin)


@losses.register("mse", equation="mean (z - y)^2", cite="Gauss 1809, Theoria motus", targets="values")
def mse() -> nn.Module:
    """Mean squared error, over samples and outputs."""
    return nn.MSELoss()


@losses.register("mae", equation="mean |z - y|", cite="Laplace 1774", targets="values")
def mae() -> nn.Module:
    """Mean absolute error, over samples and outputs; it leads to the median, so outliers weigh little."""
    return nn.L1Loss()


@losses.register(
    "huber",
    equation="d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2), d = z - y",
    cite="Huber 1964, Robust estimation of a location parameter",
    targets="values",
)
def huber(*, delta: Positive = 1.0) -> nn.Module:
    """Squared error near zero and absolute error far from it, mean over samples and outputs.

    PyTorch's SmoothL1Loss is this divided by delta.

    Args:
        delta: the error at which the one turns into the other, in the units of the target.
    """
    return nn.HuberLoss(delta=delta)
