"""Predictions of a trained network, for files, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from dnntrain.diagnostics.uncertainty import MonteCarlo, predicted
from dnntrain.errors import DataError
from dnntrain.parts.datasets.inputs import Inputs, stream_inputs
from dnntrain.placement import Placement, place, settings
from dnntrain.store import find
from dnntrain.trained.loading import Trained, load_best, resizing, spec_of

BATCH_SIZE: Final = 256


@dataclass(frozen=True)
class Prediction:
    """What a network says of one sample.

    Attributes:
        name: the file, with the row behind it where it holds several.
        label: the most likely class, or None for numbers.
        values: the probability of each class by name; or the predicted numbers, by their position.
        spread: their deviation over the passes of Monte Carlo dropout; None without it.
        entropy: predictive entropy in nats, by Monte Carlo dropout; None without it, and for numbers.
        mutual_information: how far the passes contradict each other, in nats; None likewise. Both are defined at
            `dnntrain.diagnostics.uncertainty.Uncertain`.
    """

    name: str
    label: str | None
    values: dict[str, float]
    spread: dict[str, float] | None = None
    entropy: float | None = None
    mutual_information: float | None = None


@dataclass(frozen=True)
class _Batch:
    """What is predicted for the samples of a batch, each of shape (N, K) or (N,); None where it is not asked for."""

    mean: Tensor
    spread: Tensor | None = None
    entropy: Tensor | None = None
    mutual_information: Tensor | None = None


def predict(
    run: str | Path,
    inputs: Sequence[Path],
    /,
    *,
    mc_samples: int | None = None,
    batch_size: int = BATCH_SIZE,
    device: str | None = None,
    runs: str | Path = "runs",
) -> list[Prediction]:
    """Predict pictures or arrays with the best checkpoint of a run; see `predictions`.

    Raises:
        DataError: a file cannot be used, or there is none.
        UsageError: there is no dropout to sample.
    """
    made = list(predictions(run, inputs, mc_samples=mc_samples, batch_size=batch_size, device=device, runs=runs))
    if not made:
        raise DataError(f"there is nothing to predict in {', '.join(map(str, inputs))}")
    return made


def predictions(
    run: str | Path,
    inputs: Iterable[Path],
    /,
    *,
    mc_samples: int | None = None,
    batch_size: int = BATCH_SIZE,
    device: str | None = None,
    runs: str | Path = "runs",
    skip: Callable[[DataError], None] | None = None,
) -> Iterator[Prediction]:
    """Yield what the best checkpoint of a run predicts, in the order of the inputs, as they are read.

    No more than a batch of samples is in memory at once. Until the last prediction, or `close`, PyTorch's random state
    and number of threads are those of the experiment.

    Args:
        run: a path, a name, a unique prefix, or `last`.
        inputs: pictures, folders of pictures, .npy or .npz files.
        mc_samples: the mean of so many passes with dropout, and their spread, in place of one pass without.
        batch_size: samples that are predicted at once.
        device: where to compute; as the run says unless given.
        runs: where runs are looked for.
        skip: is told of what cannot be predicted, which is then left out; without it, the first one ends all.

    Raises:
        DataError: a file cannot be used, or the outputs for a sample are not finite.
        UsageError: there is no dropout to sample.
    """
    directory = find(str(run), Path(runs))
    spec = spec_of(directory, device)
    placement = place(spec)
    trained = load_best(directory, spec, placement.device)
    with settings(spec, placement):
        for read in stream_inputs(
            inputs,
            trained.shape,
            full_scale=trained.full_scale,
            batch_size=batch_size,
            resize=resizing(trained),
            skip=skip,
        ):
            yield from _told(trained, read, _computed(trained, read, mc_samples, placement), skip)


@torch.inference_mode()
def _computed(trained: Trained, read: Inputs, mc_samples: int | None, placement: Placement) -> _Batch:
    x = trained.prepare(torch.from_numpy(read.x).to(placement.device))
    if mc_samples is None:
        return _Batch(predicted(trained.model(x), trained.kind).cpu())
    sampled = MonteCarlo(trained.model, mc_samples, trained.kind).sample(x)
    return _Batch(
        sampled.mean.cpu(),
        sampled.spread.cpu(),
        None if sampled.entropy is None else sampled.entropy.cpu(),
        None if sampled.mutual_information is None else sampled.mutual_information.cpu(),
    )


def _told(
    trained: Trained, read: Inputs, batch: _Batch, skip: Callable[[DataError], None] | None
) -> Iterator[Prediction]:
    for i, name in enumerate(read.names):
        if batch.mean[i].isfinite().all():
            yield _prediction(trained, name, batch, i)
            continue
        error = DataError(f"{name}: what the network says of it is not finite, as {_reason(trained, read, i)}")
        if skip is None:
            raise error
        skip(error)


def _reason(trained: Trained, read: Inputs, i: int) -> str:
    if not torch.from_numpy(read.x[i]).isfinite().all():
        return "the sample itself is not"
    if not all(weight.isfinite().all() for weight in trained.state_dict().values()):
        return "weights of the checkpoint are not"
    return "its values are too large"


def _prediction(trained: Trained, name: str, batch: _Batch, i: int) -> Prediction:
    mean, spread = batch.mean[i], None if batch.spread is None else batch.spread[i]
    if trained.kind == "binary":
        mean = torch.cat([1.0 - mean, mean])
        spread = None if spread is None else torch.cat([spread, spread])
    names = trained.classes or tuple(str(k) for k in range(len(mean)))
    return Prediction(
        name,
        names[int(mean.argmax())] if trained.classes else None,
        dict(zip(names, mean.tolist(), strict=True)),
        None if spread is None else dict(zip(names, spread.tolist(), strict=True)),
        None if batch.entropy is None else float(batch.entropy[i]),
        None if batch.mutual_information is None else float(batch.mutual_information[i]),
    )
