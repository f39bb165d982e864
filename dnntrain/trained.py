"""A trained network: read from its run directory, measured, and asked for predictions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from dnntrain import build
from dnntrain import spec as specs
from dnntrain.checkpoints import Best, read_best
from dnntrain.diagnostics.uncertainty import MonteCarlo, predicted
from dnntrain.errors import StoreError
from dnntrain.parts.datasets.inputs import read_inputs
from dnntrain.parts.transforms import Standardize
from dnntrain.placement import place, settings
from dnntrain.spec import Spec
from dnntrain.store import RunDirectory, find
from dnntrain.training.tally import evaluate as measure

EVALUATION_BATCH: Final = 1024

_logger = logging.getLogger("dnntrain")


class Trained(nn.Module):
    """A trained network with the preprocessing that belongs to it: raw samples in, logits out.

    Attributes:
        classes: names of the classes, in the order of the logits; None for regression.
        spec: the experiment that made it.
        epoch: the epoch whose weights these are.
        shape: of one sample as the network sees it; with `data.resize`, pictures of any size are brought to it.
        resize: does so; or None.
        prepare: what a sample goes through before the network: resizing, if any, and standardizing.
        full_scale: the largest value of a picture in the training data.
        kind: what the outputs are for: `classes`, `binary` (one logit) or `values`.
    """

    def __init__(self, spec: Spec, best: Best) -> None:
        super().__init__()
        self.spec = spec
        self.classes: tuple[str, ...] | None = None if best.classes is None else tuple(best.classes)
        self.epoch = best.epoch
        self.shape = tuple(best.shape)
        self.full_scale = best.full_scale
        self.kind: str = build.targets(spec)
        self.model = build.build_model(spec, self.shape, best.outputs)
        self.model.load_state_dict(best.model)
        standardize = Standardize()
        standardize.scale, standardize.shift = best.prepare.scale, best.prepare.shift
        self.resize = build.resizer(build.size_of(spec))
        self.prepare: nn.Module = standardize if self.resize is None else nn.Sequential(self.resize, standardize)
        self.eval()

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, outputs) of raw samples (N, ...), as the data set holds them."""
        logits: Tensor = self.model(self.prepare(x))
        return logits


def evaluate(
    run: str | Path,
    /,
    *,
    split: str = "test",
    mc_samples: int | None = None,
    device: str | None = None,
    runs: str | Path = "runs",
) -> dict[str, Any]:
    """Measure the best checkpoint of a run on one part of its data.

    Args:
        run: a path, a name, a unique prefix, or `last`.
        split: train, valid or test.
        mc_samples: measure the mean prediction of so many passes with dropout, in place of one without.
        device: where to compute; as the run says unless given.
        runs: where runs are looked for.

    Returns:
        loss and metrics, named `split/...`; all are numbers but `confusion`, which is a list of rows.
    """
    directory = find(str(run), Path(runs))
    spec = _spec_of(directory, device)
    data = build.open_data(spec)
    recorded = directory.environment().get("data", {}).get("fingerprint")
    if recorded != data.arrays.fingerprint:
        _logger.warning("the data is not what %s was trained on: its fingerprint differs", directory.name)
    placement = place(spec)
    trained = _load(directory, spec, placement.device)
    loss, metrics = build.loss_and_metrics(spec, data)
    with settings(spec, placement):
        return measure(
            trained.model if mc_samples is None else MonteCarlo(trained.model, mc_samples, trained.kind),
            build.part_of(spec, data, split, trained.prepare, placement.device),
            loss=loss.to(placement.device),
            metrics=metrics,
            batch_size=EVALUATION_BATCH,
            precision=placement.precision,
            prefix=split,
        )


@dataclass(frozen=True)
class Prediction:
    """What a network says of one sample.

    Attributes:
        name: the file, with the row behind it where it holds several.
        label: the most likely class, or None for numbers.
        values: the probability of each class by name; or the predicted numbers, by their position.
        spread: their deviation over the passes of Monte Carlo dropout; None without it.
    """

    name: str
    label: str | None
    values: dict[str, float]
    spread: dict[str, float] | None


def predict(
    run: str | Path,
    inputs: Sequence[Path],
    /,
    *,
    mc_samples: int | None = None,
    device: str | None = None,
    runs: str | Path = "runs",
) -> list[Prediction]:
    """Predict pictures or arrays with the best checkpoint of a run.

    Args:
        run: a path, a name, a unique prefix, or `last`.
        inputs: pictures, folders of pictures, .npy or .npz files.
        mc_samples: the mean of so many passes with dropout, and their spread, in place of one pass without.
        device: where to compute; as the run says unless given.
        runs: where runs are looked for.

    Raises:
        DataError: a file cannot be used.
        UsageError: there is no dropout to sample.
    """
    directory = find(str(run), Path(runs))
    spec = _spec_of(directory, device)
    placement = place(spec)
    trained = _load(directory, spec, placement.device)
    read = read_inputs(inputs, trained.shape, full_scale=trained.full_scale, resize=_resizing(trained))
    means, spreads = [], []
    with settings(spec, placement), torch.inference_mode():
        for piece in torch.split(torch.from_numpy(read.x), EVALUATION_BATCH):
            x = trained.prepare(piece.to(placement.device))
            if mc_samples is None:
                means.append(predicted(trained.model(x), trained.kind))
            else:
                sampled = MonteCarlo(trained.model, mc_samples, trained.kind).sample(x)
                means.append(sampled.mean)
                spreads.append(sampled.spread)
    mean = torch.cat(means).cpu()
    spread = torch.cat(spreads).cpu() if spreads else None
    return [
        _prediction(trained, name, mean[i], None if spread is None else spread[i]) for i, name in enumerate(read.names)
    ]


def _resizing(trained: Trained) -> Callable[[np.ndarray], np.ndarray] | None:
    """Return what brings arrays of pictures (N, C, H, W) to the size of the network, if the experiment does so."""
    resize = trained.resize
    return (
        None
        if resize is None
        else lambda x: np.asarray(resize(torch.from_numpy(np.require(x, requirements=["C", "W"]))))
    )


def _prediction(trained: Trained, name: str, mean: Tensor, spread: Tensor | None) -> Prediction:
    if trained.kind == "binary":
        mean = torch.cat([1.0 - mean, mean])
        spread = None if spread is None else torch.cat([spread, spread])
    names = trained.classes or tuple(str(i) for i in range(len(mean)))
    return Prediction(
        name,
        names[int(mean.argmax())] if trained.classes else None,
        dict(zip(names, mean.tolist(), strict=True)),
        None if spread is None else dict(zip(names, spread.tolist(), strict=True)),
    )


def load(run: str | Path, /, *, runs: str | Path = "runs", device: str | torch.device = "cpu") -> Trained:
    """Return the network of a run, with its best weights and its preprocessing, in evaluation mode.

    Args:
        run: a path, a name, a unique prefix, or `last`.
        runs: where runs are looked for.
        device: where to put it.
    """
    directory = find(str(run), Path(runs))
    spec = _spec_of(directory, None)
    return _load(directory, spec, torch.device(device))


def _spec_of(directory: RunDirectory, device: str | None) -> Spec:
    """Read the spec of a run, to be computed on another device if one is given."""
    overrides = [] if device is None else [f"training.device={device}"]
    source = str(directory.path / directory.SPEC)
    return specs.loads(directory.spec_text(), source=source, folder=directory.path, overrides=overrides)


def _load(directory: RunDirectory, spec: Spec, device: torch.device) -> Trained:
    best = read_best(directory)
    try:
        return Trained(spec, best).to(device)
    except RuntimeError as error:
        path = directory.checkpoint(directory.BEST)
        raise StoreError(f"{path} does not belong to the experiment beside it: {error}") from error
