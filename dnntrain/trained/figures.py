"""What there is to know of the outputs on one part of the data, beside the metrics that training is told of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

BINS: Final = 15
QUANTILES: Final = (0.5, 0.9, 0.99)


@dataclass(frozen=True)
class ClassFigures:
    """How well one class is found.

    With hits, how often it was predicted and how often it was the right one,

        precision = hits / predicted,   recall = hits / support,   F1 = 2 hits / (predicted + support)

    each 0 where it would divide by 0, unless the class neither occurs nor is predicted: then there are none.

    Attributes:
        name: of the class.
        precision: share of right answers where it was predicted.
        recall: share of its samples that were found.
        f1: harmonic mean of both.
        support: its samples.
    """

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True)
class Bin:
    """Samples whose predicted class is about as probable.

    Attributes:
        low: its probability is above this.
        high: and not above this.
        samples: how many there are.
        confidence: its mean probability; None without samples.
        accuracy: share of right predictions; None without samples.
    """

    low: float
    high: float
    samples: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """Whether probabilities are what they say.

    With the confidence c = max_k p_k of each of N samples in bins b of equal width, ((b - 1) / 15, b / 15],

        expected calibration error = sum_b n_b / N |accuracy_b - mean confidence_b|

    (Guo et al. 2017, On calibration of modern neural networks, arXiv:1706.04599, equation 3). It depends on the number
    of bins and, where samples are few, is above 0 for a calibrated network too. And, of all probabilities p_k,

        negative log likelihood = mean -log p_y
        Brier score             = mean sum_k (p_k - [k = y])^2

    the latter between 0 and 2 (Brier 1950, Verification of forecasts expressed in terms of probability; some divide it
    by 2 for two classes).

    Attributes:
        error: the expected calibration error.
        nll: negative log likelihood in nats, without weights and label smoothing.
        brier: Brier score.
        bins: the reliability table.
    """

    error: float
    nll: float
    brier: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class Classified:
    """Figures of predicted classes.

    Attributes:
        classes: a row for each class.
        macro: mean over the classes that occur or are predicted.
        weighted: mean over the classes, by their samples.
        confusion: counts by true class (rows) and predicted class (columns).
        calibration: of the probabilities.
    """

    classes: tuple[ClassFigures, ...]
    macro: ClassFigures
    weighted: ClassFigures
    confusion: list[list[int]]
    calibration: Calibration


@dataclass(frozen=True)
class Residuals:
    """Figures of one predicted number, of the residuals predicted - true.

    Attributes:
        output: its position among the outputs, from 0.
        mean: of the residuals: how much is predicted too much.
        deviation: their standard deviation, of the population form.
        mae: mean of their absolute values.
        rmse: root of the mean of their squares.
        quantiles: of their absolute values, as `QUANTILES`: half of them, 90 % and 99 % are at most so large.
        largest: of their absolute values.
    """

    output: int
    mean: float
    deviation: float
    mae: float
    rmse: float
    quantiles: tuple[float, ...]
    largest: float


def classified(probabilities: Tensor, targets: Tensor, names: tuple[str, ...]) -> Classified:
    """Measure predicted classes.

    Args:
        probabilities: of each class, (N, K), N at least 1.
        targets: the right classes, int64 of shape (N,).
        names: of the classes.
    """
    count = len(names)
    predicted = probabilities.argmax(dim=1)
    confusion = torch.bincount(targets * count + predicted, minlength=count**2).view(count, count)
    hits, support, given = confusion.diag().double(), confusion.sum(1).double(), confusion.sum(0).double()
    rates = torch.stack(
        [_ratio(hits, given), _ratio(hits, support), _ratio(2 * hits, given + support)], dim=1
    )  # (K, 3)
    known = (given + support) > 0
    rows = tuple(_row(name, rates[k].tolist() if known[k] else None, int(support[k])) for k, name in enumerate(names))
    samples = len(targets)
    return Classified(
        rows,
        _row("macro mean", rates[known].mean(dim=0).tolist(), samples),
        _row("weighted mean", ((rates * support[:, None]).sum(dim=0) / samples).tolist(), samples),
        confusion.tolist(),
        calibration(probabilities, targets),
    )


def calibration(probabilities: Tensor, targets: Tensor) -> Calibration:
    """Measure whether probabilities (N, K) are what they say of the right classes (N,); see `Calibration`."""
    probabilities = probabilities.double()
    confidence, predicted = probabilities.max(dim=1)
    right = (predicted == targets).double()
    place = ((confidence * BINS).nan_to_num(0.0).ceil().long() - 1).clamp(0, BINS - 1)
    counts = torch.bincount(place, minlength=BINS)
    sums, hits = (torch.bincount(place, weights=each, minlength=BINS) for each in (confidence, right))
    own = probabilities.gather(1, targets[:, None])[:, 0]
    wished = torch.nn.functional.one_hot(targets, probabilities.shape[1])
    bins = [
        Bin(b / BINS, (b + 1) / BINS, n, float(sums[b]) / n if n else None, float(hits[b]) / n if n else None)
        for b, n in enumerate(counts.tolist())
    ]
    return Calibration(
        error=float((hits - sums).abs().sum()) / len(targets),
        # Float32 knows no smaller probability than this, which would be infinitely bad.
        nll=float(-own.clamp(min=torch.finfo(torch.float32).tiny).log().mean()),
        brier=float((probabilities - wished).square().sum(dim=1).mean()),
        bins=tuple(bins),
    )


def residuals(outputs: Tensor, targets: Tensor) -> tuple[Residuals, ...]:
    """Measure predicted numbers (N, K) against the right ones (N, K), one row an output."""
    made = []
    for k, each in enumerate((outputs.double() - targets.double()).unbind(dim=1)):
        sizes = each.abs()
        # torch.quantile is limited to 2^24 values; a sorted copy is not.
        ordered = sizes.sort().values
        places = [min(len(ordered) - 1, round(q * (len(ordered) - 1))) for q in QUANTILES]
        made.append(
            Residuals(
                output=k,
                mean=float(each.mean()),
                deviation=float(each.std(correction=0)),
                mae=float(sizes.mean()),
                rmse=float(each.square().mean().sqrt()),
                quantiles=tuple(float(ordered[place]) for place in places),
                largest=float(ordered[-1]),
            )
        )
    return tuple(made)


def _ratio(parts: Tensor, wholes: Tensor) -> Tensor:
    return torch.where(wholes > 0, parts / wholes.clamp(min=1), 0.0)


def _row(name: str, rates: list[float] | None, support: int) -> ClassFigures:
    precision, recall, f1 = rates or (None, None, None)
    return ClassFigures(name, precision, recall, f1, support)
