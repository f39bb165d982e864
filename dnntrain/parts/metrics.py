"""Figures measured beside the loss, each a sum over samples and one last step.

The trait `targets` says which targets a metric is for: `classes` (binary ones included) or `values`; `mode`, which way
is better; `scalar`, whether it is one number. What is not can be shown once, but neither drawn over epochs nor
monitored.

Where targets are probabilities of the classes, as mixed pictures have them, the likeliest class is the right one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from dnntrain.errors import DataError
from dnntrain.registry import Family, PositiveInt

metrics = Family(
    "metric",
    summary="Figures measured beside the loss.",
    traits={"targets": "classes", "mode": "min", "scalar": True},
    synonyms={
        "acc": "accuracy",
        "confusion_matrix": "confusion",
        "ece": "calibration_error",
        "f1_score": "f1",
        "mean_absolute_error": "mae",
        "mean_squared_error": "mse",
        "r2_score": "r2",
        "top5": "top_k",
        "top_k_accuracy": "top_k",
        "topk": "top_k",
    },
)

Average = Literal["macro", "micro", "weighted", "binary"]


@dataclass(frozen=True)
class Accuracy:
    """Share of samples whose largest logit, or whose one logit's sign, is right."""

    def sums(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        """Return the number of right samples, of shape (1,)."""
        return (_predicted(outputs) == _labels(targets)).sum().view(1)

    def value(self, sums: Tensor, count: int, /) -> float:
        """Divide by the number of samples."""
        return float(sums[0]) / count


@dataclass(frozen=True)
class TopK:
    """Share of samples whose class is among those of the k largest logits."""

    k: int

    def sums(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        """Return the number of such samples, of shape (1,)."""
        leading = _logits(outputs).topk(self.k, dim=1).indices
        return (leading == _labels(targets).unsqueeze(1)).sum().view(1)

    def value(self, sums: Tensor, count: int, /) -> float:
        """Divide by the number of samples."""
        return float(sums[0]) / count


@dataclass(frozen=True)
class Hits:
    """Right answers of a class against a mean of how often it was given and how often it would have been right.

    For each class it is hits / ((1 - recall) predicted + recall actual), 0 where that divides by 0: precision, F1 and
    recall where `recall` is 0, 1/2 and 1.

    Attributes:
        classes: how many there are.
        average: how the classes are put together; see `f1`.
        recall: weight of the actual samples.
    """

    classes: int
    average: Average
    recall: float

    def sums(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        """Return for each class how often it was right, predicted and actual, flattened to shape (3 classes,)."""
        predicted, actual = _predicted(outputs), _labels(targets)
        hits = torch.where(predicted == actual, actual, self.classes)
        counted = (torch.bincount(each, minlength=self.classes + 1) for each in (hits, predicted, actual))
        return torch.stack([each[: self.classes] for each in counted]).flatten()

    def value(self, sums: Tensor, count: int, /) -> float:
        """Put the classes together; those that are neither predicted nor actual have no figure and no weight."""
        hits, predicted, actual = sums.view(3, self.classes)
        if self.average == "micro":
            hits, predicted, actual = (each.sum(0, keepdim=True) for each in (hits, predicted, actual))
        elif self.average == "binary":
            hits, predicted, actual = hits[1:], predicted[1:], actual[1:]
        figures = hits / ((1 - self.recall) * predicted + self.recall * actual).clamp(min=0.5)
        weights = actual if self.average == "weighted" else (predicted + actual > 0).to(figures.dtype)
        return float((figures * weights).sum() / weights.sum().clamp(min=1))


@dataclass(frozen=True)
class Confusion:
    """How often each class was taken for each."""

    classes: int

    def sums(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        """Return the matrix, actual classes in rows and predicted ones in columns, flattened to (classes^2,)."""
        pairs = _labels(targets) * self.classes + _predicted(outputs)
        return torch.bincount(pairs, minlength=self.classes**2)

    def value(self, sums: Tensor, count: int, /) -> list[list[int]]:
        """Return the matrix as a list of rows."""
        rows: list[list[int]] = sums.view(self.classes, self.classes).long().tolist()
        return rows


@dataclass(frozen=True)
class CalibrationError:
    """Mean distance of confidence and accuracy, over bins of equal confidence; see `calibration_error`."""

    bins: int

    def sums(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        """Return for each bin the sum of confidence - right, of shape (bins,)."""
        confidence, predicted = _logits(outputs).to(_wide(outputs)).softmax(dim=1).max(dim=1)
        gaps = confidence - (predicted == _labels(targets)).to(confidence.dtype)
        # A logit that is not a number has no bin of its own, but makes the figure what it is.
        position = torch.where(confidence > 0, confidence * self.bins, 1.0)
        bins = (position.ceil().long() - 1).clamp(0, self.bins - 1)
        # A product, where adding at indices would depend on the order on a GPU.
        return gaps @ F.one_hot(bins, self.bins).to(gaps.dtype)

    def value(self, sums: Tensor, count: int, /) -> float:
        """Add up the bins' distances, each weighted by its share of the samples."""
        return float(sums.abs().sum()) / count


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


def _logits(outputs: Tensor) -> Tensor:
    """Return one logit for each class: of a single logit z, 0 and z."""
    return torch.cat([torch.zeros_like(outputs), outputs], dim=1) if outputs.shape[1] == 1 else outputs


def _predicted(outputs: Tensor) -> Tensor:
    """Return the likeliest class of each sample."""
    return (outputs[:, 0] > 0).long() if outputs.shape[1] == 1 else outputs.argmax(dim=1)


def _labels(targets: Tensor) -> Tensor:
    """Return the right class of each sample: the likeliest one where targets are probabilities (N, K)."""
    return targets.argmax(dim=1) if targets.is_floating_point() else targets


@metrics.register("accuracy", equation="mean [argmax_k z_k = y]", cite="none: the share of right answers", mode="max")
def accuracy() -> Accuracy:
    """Share of samples whose most likely class is the right one."""
    return Accuracy()


@metrics.register(
    "top_k",
    equation="mean [y among the k largest z]",
    cite="Russakovsky et al. 2015, ImageNet Large Scale Visual Recognition Challenge",
    mode="max",
)
def top_k(classes: int, /, *, k: PositiveInt = 5) -> TopK:
    """Share of samples whose class is among the k most likely ones.

    Args:
        classes: how many there are.
        k: how many guesses a sample has.

    Raises:
        DataError: there are fewer classes than guesses.
    """
    if k > classes:
        raise DataError(f"metric 'top_k' counts the {k} most likely classes, but there are {classes}; set a smaller k")
    return TopK(k)


@metrics.register(
    "precision",
    equation="hits_k / predicted_k, averaged over the classes k",
    cite="van Rijsbergen 1979, Information Retrieval, chapter 7",
    mode="max",
)
def precision(classes: int, /, *, average: Average = "macro") -> Hits:
    """Of the samples that are given a class, the share that belongs to it; 0 for a class that is never given.

    Args:
        classes: how many there are.
        average: macro, micro, weighted or binary; see f1.

    Raises:
        DataError: the average is that of two classes, and there are more.
    """
    return _hits("precision", classes, average, recall=0.0)


@metrics.register(
    "recall",
    equation="hits_k / actual_k, averaged over the classes k",
    cite="van Rijsbergen 1979, Information Retrieval, chapter 7",
    mode="max",
)
def recall(classes: int, /, *, average: Average = "macro") -> Hits:
    """Of the samples of a class, the share that is given that class.

    Args:
        classes: how many there are.
        average: macro, micro, weighted or binary; see f1.

    Raises:
        DataError: the average is that of two classes, and there are more.
    """
    return _hits("recall", classes, average, recall=1.0)


@metrics.register(
    "f1",
    equation="2 hits_k / (predicted_k + actual_k), averaged over the classes k",
    cite="van Rijsbergen 1979, Information Retrieval, chapter 7",
    mode="max",
)
def f1(classes: int, /, *, average: Average = "macro") -> Hits:
    """Harmonic mean of precision and recall of each class, averaged.

    As in scikit-learn, the averaged F1 is the mean of the classes' own, not the F1 of averaged precision and recall.

    Args:
        classes: how many there are.
        average: macro gives each class that occurs the same weight; weighted, that of its samples; micro counts all
            classes in one, which for these data is the accuracy; binary is the figure of class 1 of two.

    Raises:
        DataError: the average is that of two classes, and there are more.
    """
    return _hits("f1", classes, average, recall=0.5)


def _hits(name: str, classes: int, average: Average, *, recall: float) -> Hits:
    if average == "binary" and classes != 2:
        raise DataError(f"metric '{name}' has average: binary, but there are {classes} classes; use macro or weighted")
    return Hits(classes, average, recall)


@metrics.register(
    "confusion",
    equation="n_ij = samples of class i that are given class j",
    cite="Kohavi and Provost 1998, Glossary of terms",
    mode="max",
    scalar=False,
)
def confusion(classes: int, /) -> Confusion:
    """How often each class (rows) is taken for each (columns), as counts; shown by `evaluate`, not over epochs."""
    return Confusion(classes)


@metrics.register(
    "calibration_error",
    equation="sum_b n_b / N |accuracy_b - confidence_b|, confidence = max_k softmax(z)_k in ((b - 1) / bins, b / bins]",
    cite="arXiv:1706.04599",
)
def calibration_error(*, bins: PositiveInt = 15) -> CalibrationError:
    """Expected calibration error: how far the probability of the predicted class is from how often it is right.

    Only the predicted class of each sample is looked at, and distances count by their absolute value. The figure
    depends on the number of bins and, where samples are few, is above zero for a calibrated model too.

    Args:
        bins: intervals of equal width that confidences between 0 and 1 are sorted into.
    """
    return CalibrationError(bins)


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
