"""A trained network, measured on one part of the data of its run."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from dnntrain import build
from dnntrain.diagnostics.uncertainty import MonteCarlo
from dnntrain.parts.datasets import Split
from dnntrain.placement import place, settings
from dnntrain.store import find
from dnntrain.trained.figures import Classified, Residuals, classified, residuals
from dnntrain.trained.loading import Trained, load_best, spec_of
from dnntrain.training.built import EVALUATION_BATCH
from dnntrain.training.tally import evaluate as measure

_logger = logging.getLogger("dnntrain")


@dataclass(frozen=True)
class Worst:
    """One of the samples with the highest loss.

    Attributes:
        row: of the part of the data, as the data set holds it, from 0.
        loss: of this sample alone.
        target: the right class; or the right numbers.
        predicted: the predicted class; or the predicted numbers.
        probability: of the predicted class; None for numbers.
        target_probability: of the right class; None for numbers.
    """

    row: int
    loss: float
    target: str | list[float]
    predicted: str | list[float]
    probability: float | None
    target_probability: float | None


@dataclass(frozen=True)
class Evaluation:
    """All that is measured of a network on one part of the data.

    Attributes:
        split: train, valid or test.
        samples: how many it has.
        metrics: the loss and the metrics of the experiment, named `split/...`.
        classified: figures of predicted classes; None for numbers.
        residuals: figures of predicted numbers, one row an output; empty for classes.
        worst: the samples with the highest loss, the highest first.
        pictures: of the worst samples, (n, C, H, W) of uint8; None where samples are no pictures.
    """

    split: str
    samples: int
    metrics: dict[str, Any]
    classified: Classified | None
    residuals: tuple[Residuals, ...]
    worst: tuple[Worst, ...]
    pictures: np.ndarray | None


def evaluate(
    run: str | Path,
    /,
    *,
    split: str = "test",
    mc_samples: int | None = None,
    device: str | None = None,
    runs: str | Path = "runs",
) -> dict[str, Any]:
    """Measure the best checkpoint of a run on one part of its data; see `assess` for more than metrics.

    Args:
        run: a path, a name, a unique prefix, or `last`.
        split: train, valid or test.
        mc_samples: measure the mean prediction of so many passes with dropout, in place of one without.
        device: where to compute; as the run says unless given.
        runs: where runs are looked for.

    Returns:
        loss and metrics, named `split/...`; all are numbers but `confusion`, which is a list of rows.
    """
    return assess(run, split=split, mc_samples=mc_samples, device=device, runs=runs).metrics


def assess(
    run: str | Path,
    /,
    *,
    split: str = "test",
    worst: int = 0,
    mc_samples: int | None = None,
    device: str | None = None,
    runs: str | Path = "runs",
) -> Evaluation:
    """Measure the best checkpoint of a run on one part of its data: metrics, each class, calibration, worst samples.

    Args:
        run: a path, a name, a unique prefix, or `last`.
        split: train, valid or test.
        worst: how many of the samples with the highest loss to look at.
        mc_samples: measure the mean prediction of so many passes with dropout, in place of one without.
        device: where to compute; as the run says unless given.
        runs: where runs are looked for.
    """
    directory = find(str(run), Path(runs))
    spec = spec_of(directory, device)
    data = build.open_data(spec)
    recorded = directory.environment().get("data", {}).get("fingerprint")
    if recorded != data.arrays.fingerprint:
        _logger.warning("the data is not what %s was trained on: its fingerprint differs", directory.name)
    placement = place(spec)
    trained = load_best(directory, spec, placement.device)
    loss, metrics = build.loss_and_metrics(spec, data)
    loss = loss.to(placement.device)
    examples = build.part_of(spec, data, split, trained.prepare, placement.device)
    model = trained.model if mc_samples is None else MonteCarlo(trained.model, mc_samples, trained.kind)
    heard = _Listener(model)
    with settings(spec, placement):
        measured = measure(
            heard,
            examples,
            loss=loss,
            metrics=metrics,
            batch_size=EVALUATION_BATCH,
            precision=placement.precision,
            prefix=split,
        )
    outputs = torch.cat(heard.outputs)
    if wrong := int((~outputs.isfinite().all(dim=1)).sum()):
        _logger.warning("the outputs for %d of %d samples are not finite", wrong, len(outputs))
    targets = examples.y.index_select(0, examples.index).cpu()
    rows, losses = _highest(loss.cpu(), outputs, targets, worst)
    part: Split = getattr(data.parts, split)
    pictured = worst > 0 and data.arrays.layout == "pictures"
    return Evaluation(
        split,
        len(targets),
        measured,
        *_figures(trained, outputs, targets),
        _worst(trained, part, rows, losses, outputs, targets),
        as_bytes(part.x[part.index[rows]], data.arrays.full_scale) if pictured else None,
    )


def _figures(trained: Trained, outputs: Tensor, targets: Tensor) -> tuple[Classified | None, tuple[Residuals, ...]]:
    if trained.classes is None:
        return None, residuals(outputs, targets)
    return classified(_probabilities(outputs, trained.kind), targets, trained.classes), ()


class _Listener(nn.Module):
    """Keeps the outputs of a network while it is measured, so that it need not compute them twice."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.outputs: list[Tensor] = []

    @override
    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.model(x)
        self.outputs.append(outputs.float().cpu())
        return outputs


def as_bytes(pictures: np.ndarray, full_scale: float) -> np.ndarray:
    """Return pictures, of whatever scale, as uint8 from 0 to 255."""
    if pictures.dtype == np.uint8 and full_scale == 255.0:
        return pictures
    scaled = pictures.astype(np.float32) * np.float32(255.0 / full_scale)
    made: np.ndarray = np.nan_to_num(scaled).clip(0.0, 255.0).round().astype(np.uint8)
    return made


def _probabilities(outputs: Tensor, kind: str) -> Tensor:
    """Return the probability of each class, (N, K) of float64; of both, where one logit stands for two."""
    logits = outputs.double()
    # The one logit z is that of the second class, beside 0.
    return (torch.cat([torch.zeros_like(logits), logits], dim=1) if kind == "binary" else logits).softmax(dim=1)


@torch.inference_mode()
def _highest(loss: nn.Module, outputs: Tensor, targets: Tensor, count: int) -> tuple[list[int], list[float]]:
    """Return the positions of the samples with the highest loss, and their losses; one that is no number is highest."""
    if count == 0:
        return [], []
    # A loss knows the mean of a batch alone, so each sample is a batch.
    each = torch.stack([loss(outputs[i : i + 1], targets[i : i + 1]) for i in range(len(targets))])
    top = each.nan_to_num(nan=torch.inf).sort(descending=True, stable=True).indices[:count]
    return top.tolist(), each[top].tolist()


def _worst(
    trained: Trained, part: Split, rows: list[int], losses: list[float], outputs: Tensor, targets: Tensor
) -> tuple[Worst, ...]:
    classes = trained.classes
    made = []
    for i, loss in zip(rows, losses, strict=True):
        row = int(part.index[i])
        if classes is None:
            made.append(Worst(row, loss, targets[i].tolist(), outputs[i].tolist(), None, None))
            continue
        probabilities = _probabilities(outputs[i : i + 1], trained.kind)[0]
        likeliest, right = int(probabilities.argmax()), int(targets[i])
        made.append(
            Worst(
                row,
                loss,
                classes[right],
                classes[likeliest],
                float(probabilities[likeliest]),
                float(probabilities[right]),
            )
        )
    return tuple(made)
