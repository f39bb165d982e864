"""What is minimized and what is measured: losses, metrics, and their means over batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from dnntrain import build
from dnntrain.build import Data
from dnntrain.build.data import labels
from dnntrain.build.locating import choices, chosen
from dnntrain.ejecting.augmentations import mixes
from dnntrain.ejecting.resizing import resized
from dnntrain.ejecting.script import Code, Script, call, fill, lines
from dnntrain.parts.metrics import metrics
from dnntrain.registry import Choice
from dnntrain.spec import Spec
from dnntrain.training.built import EVALUATION_BATCH
from dnntrain.training.tally import EVALUATED_AT_ONCE, TRAINED_AT_ONCE

_CODE: Final = (Code("outputs"), Code("y"))

_LOSS: Final = '''
def loss_of(outputs: Tensor, y: Tensor) -> Tensor:
    """Return $about."""
$body
'''


def _cross_entropy(script: Script, options: Any, data: Data, mixed: bool) -> tuple[str, str]:
    smoothing = {"label_smoothing": options.label_smoothing} if options.label_smoothing else {}
    about = "the mean cross entropy" if mixed else "the mean of -log softmax(outputs) at the right classes"
    if smoothing:
        about = "the mean cross entropy with smoothed targets"
    if options.class_weights == "none":
        return about, f"return {call('F.cross_entropy', *_CODE, **smoothing)}"
    if options.class_weights == "balanced":
        counts = torch.bincount(labels(data.parts.train), minlength=len(data.parts.classes or ()))
        script.constants(CLASS_COUNTS=counts.tolist())
        script.define(_BALANCED)
        weights = "class_weights()"
    else:
        script.constants(CLASS_WEIGHTS=list(options.class_weights))
        weights = "torch.tensor(CLASS_WEIGHTS)"
    total = call("F.cross_entropy", *_CODE, weight=Code("weights"), reduction="sum", **smoothing)
    # Above this width, as ruff would write it.
    if len(total) > _LONGEST:
        total = total.replace("(outputs", "(\n    outputs").removesuffix(")") + "\n)"
    return f"{about}, weighted by class", f"weights = {weights}\ntotal = {total}\nreturn total / len(y)"


_LONGEST: Final = 76

_BALANCED: Final = '''
def class_weights() -> Tensor:
    """Return weights with which each class counts the same."""
    counts = torch.tensor(CLASS_COUNTS, dtype=torch.float64)
    return (counts.sum() / (len(counts) * counts.clamp(min=1))).float()
'''


def _binary(script: Script, options: Any, data: Data, mixed: bool) -> tuple[str, str]:
    targets = "y.view_as(outputs).float()"
    if options.label_smoothing:
        targets += f" * {1 - options.label_smoothing!r} + {options.label_smoothing / 2!r}"
    weight = f"weight = torch.tensor({options.positive_weight!r})"
    mean = "return F.binary_cross_entropy_with_logits(outputs, targets, pos_weight=weight)"
    likely = "if y.is_floating_point():  # the probabilities of mixed samples\n    y = y[:, 1]\n" if mixed else ""
    return "the mean cross entropy of two classes from one logit", f"{likely}targets = {targets}\n{weight}\n{mean}"


_HINGE: Final = """
best, ranked = outputs.topk(2, dim=1)
# Everyone's rival is the largest output, whose own rival is the second.
rivals = best[:, :1].expand_as(outputs).scatter(1, ranked[:, :1], best[:, 1:])
each = ($margin + rivals - outputs).clamp(min=0)
$mixed
return each.gather(1, y.unsqueeze(1)).mean()
"""


_EXPECTED: Final = """if y.is_floating_point():  # the probabilities of mixed samples
    return (each * y).sum(dim=1).mean()"""

LOSSES: Final[dict[str, Callable[[Script, Any, Data, bool], tuple[str, str]]]] = {
    "cross_entropy": _cross_entropy,
    "binary_cross_entropy": _binary,
    "hinge": lambda script, options, data, mixed: (
        "the mean of max(0, margin + largest wrong output - right output)",
        fill(_HINGE, margin=repr(options.margin), mixed=_EXPECTED if mixed else ""),
    ),
    "mse": lambda script, options, data, mixed: ("the mean squared error", "return F.mse_loss(outputs, y)"),
    "mae": lambda script, options, data, mixed: ("the mean absolute error", "return F.l1_loss(outputs, y)"),
    "huber": lambda script, options, data, mixed: (
        "the mean of Huber's loss",
        f"return F.huber_loss(outputs, y, delta={options.delta!r})",
    ),
}
"""From the options, the data and whether samples are mixed, so that targets are probabilities in training, to what the
loss is called, and its body."""


@dataclass(frozen=True)
class _Metric:
    """How a metric is summed up.

    Attributes:
        start: what its sum starts as.
        add: what a batch adds to it, of `outputs` and `y`.
        value: what it comes to, with `{sum}` for the sum and `self.count` for the number of samples.
        name: of the sum; that of the metric unless given.
    """

    start: str
    add: str
    value: str
    name: str = ""


def _accuracy(script: Script, options: Any, binary: bool, classes: int) -> _Metric:
    predicted = "(outputs[:, 0] > 0)" if binary else "outputs.argmax(dim=1)"
    return _Metric("0", f"({predicted} == y).sum().item()", "{sum} / self.count")


def _top_k(script: Script, options: Any, binary: bool, classes: int) -> _Metric:
    script.define(fill(_TOP_K, logits=_LOGITS if binary else ""))
    return _Metric("0", call("among_largest", *_CODE, options.k), "{sum} / self.count")


_LOGITS: Final = "outputs = torch.cat([torch.zeros_like(outputs), outputs], dim=1)"

_TOP_K: Final = '''
def among_largest(outputs: Tensor, y: Tensor, k: int) -> int:
    """Return how many samples have the right class among the k largest outputs."""
    $logits
    leading = outputs.topk(k, dim=1).indices
    return (leading == y.unsqueeze(1)).sum().item()
'''

_HITS: Final = '''
def hits(outputs: Tensor, y: Tensor) -> Tensor:
    """Return for each class how often it was right, predicted and actual."""
    predicted = $predicted
    right = predicted[predicted == y]
    counted = [torch.bincount(each, minlength=$classes) for each in (right, predicted, y)]
    return torch.stack(counted).double()
'''

_AVERAGED: Final = '''
def $name(counts: Tensor) -> float:
    """Return the $title of the classes$how."""
    right, predicted, actual = $counts
    figures = right / $mean.clamp(min=0.5)
    $weights
    return ((figures * weights).sum() / weights.sum().clamp(min=1)).item()
'''


def _hits(name: str, mean: str) -> Callable[[Script, Any, bool, int], _Metric]:
    def write(script: Script, options: Any, binary: bool, classes: int) -> _Metric:
        predicted = "(outputs[:, 0] > 0).long()" if binary else "outputs.argmax(dim=1)"
        script.define(fill(_HITS, predicted=predicted, classes=classes))
        own = f"{name}_of" if options.average == "macro" else f"{options.average}_{name}_of"
        how = {
            "macro": ", averaged",
            "micro": ", all counted as one",
            "weighted": ", weighted by their samples",
            "binary": ": of class 1 of two",
        }[options.average]
        counts = {"micro": "counts.sum(dim=1, keepdim=True)", "binary": "counts[:, 1:]"}.get(options.average, "counts")
        weights = "weights = actual" if options.average == "weighted" else "weights = (predicted + actual > 0).double()"
        title = {"f1": "F1"}.get(name, name)
        script.define(fill(_AVERAGED, name=own, title=title, how=how, counts=counts, mean=mean, weights=weights))
        return _Metric(f"torch.zeros(3, {classes}, dtype=torch.float64)", call("hits", *_CODE), f"{own}({{sum}})")

    return write


_ERROR: Final = '''
def $name(outputs: Tensor, y: Tensor) -> float:
    """Return the sum over samples of the mean $title error."""
    return (outputs - y).$power().mean(dim=1).sum(dtype=torch.float64).item()
'''


def _error(name: str, title: str, power: str) -> Callable[[Script, Any, bool, int], _Metric]:
    def write(script: Script, options: Any, binary: bool, classes: int) -> _Metric:
        script.define(fill(_ERROR, name=name, title=title, power=power))
        return _Metric("0.0", call(name, *_CODE), "{sum} / self.count")

    return write


_SPREAD: Final = '''
def sums_of_squares(outputs: Tensor, y: Tensor) -> Tensor:
    """Return for each output the sums of (outputs - y)^2, y and y^2."""
    outputs, y = outputs.double(), y.double()
    return torch.stack([(outputs - y).square().sum(0), y.sum(0), y.square().sum(0)])


def explained(sums: Tensor, count: int) -> float:
    """Return the share of the variance that is explained: R^2."""
    residual, total, squares = sums
    spread = squares - total.square() / count
    varies = spread > 1e-14 * squares
    share = torch.where(varies, residual / torch.where(varies, spread, 1.0), 1.0)
    return (1.0 - share).mean().item()
'''


def _r2(script: Script, options: Any, binary: bool, classes: int) -> _Metric:
    script.define(_SPREAD)
    return _Metric("0.0", call("sums_of_squares", *_CODE), "explained({sum}, self.count)")


_GAPS: Final = '''
def gaps(outputs: Tensor, y: Tensor) -> Tensor:
    """Return the sum of confidence - right for each of $bins bins of confidence."""
    $logits
    confidence, predicted = outputs.double().softmax(dim=1).max(dim=1)
    gap = confidence - (predicted == y).double()
    position = torch.where(confidence > 0, confidence * $bins, 1.0)
    bins = (position.ceil().long() - 1).clamp(0, $last)
    return gap @ F.one_hot(bins, $bins).double()
'''


def _calibration(script: Script, options: Any, binary: bool, classes: int) -> _Metric:
    script.define(fill(_GAPS, bins=options.bins, last=options.bins - 1, logits=_LOGITS if binary else ""))
    return _Metric("0.0", call("gaps", *_CODE), "{sum}.abs().sum().item() / self.count", "gaps")


METRICS: Final[dict[str, Callable[[Script, Any, bool, int], _Metric]]] = {
    "accuracy": _accuracy,
    "top_k": _top_k,
    "precision": _hits("precision", "predicted"),
    "recall": _hits("recall", "actual"),
    "f1": _hits("f1", "(0.5 * predicted + 0.5 * actual)"),
    "calibration_error": _calibration,
    "mae": _error("absolute_error", "absolute", "abs"),
    "mse": _error("squared_error", "squared", "square"),
    "r2": _r2,
}
"""From the options, whether there is one logit for two classes, and how many classes there are."""

_COUNTED: Final = '''
class Figures:
    """Sums up the loss and the metrics of batches."""

    def __init__(self) -> None:
        self.count = 0
        self.loss = 0.0
$start

    def add(self, outputs: Tensor, y: Tensor, loss: float) -> None:
        """Add a batch: its outputs, its targets and its mean loss."""
        self.count += len(y)
        self.loss += loss * len(y)
$add

    def means(self, part: str) -> dict[str, float]:
        """Return the figures of all samples."""
        return {
            f"{part}/loss": self.loss / self.count,
$values
        }
'''

_WAITING: Final = '''
class Figures:
    """Sums up the loss and the metrics of batches."""

    def __init__(self) -> None:
        self.count = 0
        self.loss = 0.0
$start
        self.waiting: list[tuple[Tensor, Tensor]] = []

    def add(self, outputs: Tensor, y: Tensor, loss: float) -> None:
        """Add a batch: its outputs, its targets and its mean loss."""
        self.count += len(y)
        self.loss += loss * len(y)
        self.waiting.append((outputs, y))

    def measure(self, at_least: int) -> None:
        """Sum up the metrics of the batches that wait, if they are so many."""
        if len(self.waiting) >= at_least:
            outputs, y = map(torch.cat, zip(*self.waiting, strict=True))
            self.waiting = []
$add

    def means(self, part: str) -> dict[str, float]:
        """Return the figures of all samples."""
        self.measure(at_least=1)
        return {
            f"{part}/loss": self.loss / self.count,
$values
        }
'''

_EVALUATE: Final = '''
@torch.inference_mode()
def evaluate(
    network: nn.Module,
    standardize: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    part: str,
) -> dict[str, float]:
    """Measure the network on one part of the data."""
    network.eval()
    figures = Figures()
    for rows in torch.arange(len(y)).split($size):
        outputs = network(standardize($samples))
        figures.add(outputs, y[rows], loss_of(outputs, y[rows]).item())
$measure
    return figures.means(part)
'''


def define_objective(script: Script, spec: Spec, data: Data) -> bool:
    """Define `loss_of`, `Figures` and, where there is something to evaluate, `evaluate`.

    Returns:
        whether the metrics have to be measured so many batches at a time; see `waits`.
    """
    script.heading("What is minimized, and what is measured")
    loss = chosen(spec.loss)
    about, body = LOSSES[loss.name](script, loss.options, data, mixes(spec))
    script.define(fill(_LOSS, about=about, body=lines([body], 1)))
    waiting = waits(spec)
    measured = _measured(script, spec, data)
    pad = 3 if waiting else 2
    pieces = {
        "start": lines([f"self.{metric.name or name} = {metric.start}" for name, metric in measured], 2),
        "add": lines([f"self.{metric.name or name} += {metric.add}" for name, metric in measured], pad),
        "values": lines([f'f"{{part}}/{name}": {_value(name, metric)},' for name, metric in measured], 3),
    }
    script.define(fill(_WAITING if waiting else _COUNTED, **pieces))
    return waiting


def _value(name: str, metric: _Metric) -> str:
    return metric.value.format(sum=f"self.{metric.name or name}")


def define_evaluation(script: Script, data: Data, *, waiting: bool) -> None:
    """Define `evaluate`."""
    measure = f"        figures.measure(at_least={EVALUATED_AT_ONCE})" if waiting else ""
    script.define(fill(_EVALUATE, size=EVALUATION_BATCH, measure=measure, samples=resized(data, "x[rows]")))


def waits(spec: Spec) -> bool:
    """Whether some metric is a sum of fractions, which is rounded as often as something is added to it."""
    return any(metric.name in ("mae", "mse", "r2", "calibration_error") for metric in _scalars(spec))


def measure_while_training() -> str:
    """Return the line that sums up metrics between two steps."""
    return f"figures.measure(at_least={TRAINED_AT_ONCE})"


def _scalars(spec: Spec) -> Sequence[Choice]:
    return [metric for metric in choices(spec.metrics) if metrics[metric.name].traits["scalar"]]


def _measured(script: Script, spec: Spec, data: Data) -> list[tuple[str, _Metric]]:
    binary, classes = build.targets(spec) == "binary", len(data.parts.classes or ())
    # As a mapping: of two metrics of one name, the later one counts.
    found = {each.name: METRICS[each.name](script, each.options, binary, classes) for each in _scalars(spec)}
    return list(found.items())
