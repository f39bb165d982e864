"""The data of an experiment: opened, divided, standardized, and ready to be gathered from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from dnntrain.build.locating import chosen
from dnntrain.build.reuse import Source, open_source
from dnntrain.errors import DataError, SpecError, UsageError
from dnntrain.parts.architectures import Moments
from dnntrain.parts.datasets import Arrays, Holdout, Parts, Split, open_dataset, partition
from dnntrain.parts.transforms import Resize, Standardize, fit_standardize
from dnntrain.registry import AUTO
from dnntrain.spec import Spec
from dnntrain.spec.fit import moments
from dnntrain.spec.schema import Validation
from dnntrain.training.batches import Examples


@dataclass(frozen=True)
class Data:
    """An opened data set, divided as the experiment says.

    Attributes:
        arrays: the whole of it.
        parts: its training, validation and test parts.
        beyond: the training part as it is without `data.limit`.
        size: height and width that its pictures are brought to; None where they stay as they are.
    """

    arrays: Arrays
    parts: Parts
    beyond: Split
    size: tuple[int, int] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample as the network sees it."""
        shape = tuple(self.arrays.x_train.shape[1:])
        return shape if self.size is None else (*shape[:-2], *self.size)


def open_data(spec: Spec) -> Data:
    """Open and divide the data of an experiment.

    Raises:
        DataError: it is missing or damaged.
        SpecError: it cannot be divided as the experiment says.
    """
    arrays = open_dataset(spec.data.dataset)
    validation = spec.data.validation
    holdout = None
    if isinstance(validation, Validation):
        holdout = Holdout(
            size=validation.size,
            fraction=validation.fraction,
            folds=validation.folds,
            fold=validation.fold,
            origin=validation.from_,
            seed=validation.seed,
        )
    try:
        parts = partition(arrays, classes=spec.data.classes, validation=holdout, limit=spec.data.limit)
        whole = parts
        if spec.data.limit is not None:
            whole = partition(arrays, classes=spec.data.classes, validation=holdout, limit=None)
    except DataError as error:
        # What cannot be divided so is a mistake of the file, in the key that the message begins with.
        key, _, message = str(error).partition(": ")
        raise SpecError([spec.problem(f"data.{key}", f"'{key}': {message}")]) from error
    return Data(arrays, parts, whole.train, size_of(spec))


def size_of(spec: Spec) -> tuple[int, int] | None:
    """Return the height and width that an experiment brings its pictures to, or None."""
    size = spec.data.resize
    return (size, size) if isinstance(size, int) else size


def resizer(size: tuple[int, int] | None) -> Resize | None:
    """Return what brings pictures to a size, or None."""
    return None if size is None else Resize(size)


def outputs(spec: Spec, data: Data) -> int:
    """Return the number of logits that the loss asks for."""
    if targets(spec) == "binary":
        return 1
    if data.parts.classes is not None:
        return len(data.parts.classes)
    y = data.arrays.y_train
    return 1 if y.ndim == 1 else int(y.shape[1])


def targets(spec: Spec) -> str:
    """Return what the outputs of a resolved experiment are for: `classes`, `binary` or `values`."""
    return str(chosen(spec.loss).entry.traits["targets"])


def standardizer(
    spec: Spec, data: Data, *, saved: Mapping[str, Tensor] | None = None, source: Source | None = None
) -> Standardize:
    """Return what standardizes inputs: by the training part, or as for layers that were trained elsewhere.

    With `data.unlabeled` that is the training part as it is without a limit.

    Args:
        spec: a resolved experiment.
        data: its data.
        saved: the state that it had when training was left, so that the layers' source need not be read again.
        source: of the reused layers, where it has been read.

    Raises:
        SpecError: what standardized the inputs of the reused layers is not known, or is of another form.
    """
    if spec.data.standardize == "pretrained":
        if saved is not None:
            return _scaled(saved["scale"], saved["shift"])
        known = None if spec.model.reuse is not None else moments(spec)
        return _as_reused(spec, data, source) if known is None else _by_moments(known, data)
    train = unlabeled(spec, data)
    return fit_standardize(
        cast(Any, spec.data.standardize),
        train.x,
        train.index,
        full_scale=data.arrays.full_scale,
        layout=data.arrays.layout,
        resize=resizer(data.size),
    )


def unlabeled(spec: Spec, data: Data) -> Split:
    """Return the samples that need no labels: for pretraining, and for the statistics of standardizing."""
    wanted = bool(spec.pretraining) if spec.data.unlabeled == AUTO else spec.data.unlabeled
    return data.beyond if wanted else data.parts.train


def _as_reused(spec: Spec, data: Data, source: Source | None) -> Standardize:
    """Return what standardized the inputs of the layers that are reused."""
    if source is None and spec.model.reuse is not None:
        source = open_source(spec)
    scaling = None if source is None else source.scaling
    if scaling is None:
        message = "nobody knows how the inputs of the reused layers were standardized"
        raise SpecError([spec.problem("data.standardize", message, "write unit, channel, feature or none")])
    made = _scaled(*scaling)
    if not _broadcasts(made.scale.shape, data.shape):
        form, own = (" x ".join(map(str, shape)) for shape in (made.scale.shape, data.shape))
        message = f"the inputs of the reused layers were standardized as samples of {form}, and these are of {own}"
        raise SpecError([spec.problem("data.standardize", message, "write channel or unit")])
    return made


def _scaled(scale: Tensor, shift: Tensor) -> Standardize:
    made = Standardize()
    made.scale, made.shift = scale, shift
    return made


def _broadcasts(shape: tuple[int, ...], against: tuple[int, ...]) -> bool:
    """Whether a tensor of one shape can be added to one of another without enlarging that."""
    ends = zip(reversed(shape), reversed(against), strict=False)
    return len(shape) <= len(against) and all(one in (1, other) for one, other in ends)


def _by_moments(known: Moments, data: Data) -> Standardize:
    """Return what standardizes by given moments: theirs where channels correspond, else by the mean of them all."""
    scale, channels = data.arrays.full_scale, data.shape[0]
    mean, deviation = np.asarray(known.mean), np.asarray(known.deviation)
    if len(mean) != channels:
        mean, deviation = np.full(channels, mean.mean()), np.full(channels, deviation.mean())
    return Standardize(scale * mean[:, None, None], scale * deviation[:, None, None])


def part_of(spec: Spec, data: Data, name: str, prepare: nn.Module, device: torch.device) -> Examples:
    """Return one part of the data, ready to be evaluated.

    Args:
        spec: a resolved experiment.
        data: its data.
        name: train, valid or test.
        prepare: what standardizes inputs.
        device: where batches are wanted.

    Raises:
        UsageError: the experiment has no such part.
    """
    split: Split | None = getattr(data.parts, name)
    if split is None:
        missing = {
            "valid": "data.validation is none",
            "test": f"dataset '{spec.data.dataset.name}' has no test samples",
        }
        raise UsageError(f"there is no {name} part: {missing[name]}")
    x, y = tensors(split.x, split.y, device)
    return examples_of(x, y, split, prepare, device, resizer(data.size))


def tensors(x: np.ndarray, y: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return arrays as tensors, on the device where they fit into half of its free memory, else on the CPU."""
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
    if targets.is_floating_point() and targets.ndim == 1:
        targets = targets.unsqueeze(1)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if x.nbytes > free // 2:
            return inputs, targets
        return inputs.pin_memory().to(device, non_blocking=True), targets.to(device)
    return inputs.to(device), targets.to(device)


def examples_of(
    x: Tensor, y: Tensor, split: Split, prepare: nn.Module, device: torch.device, resize: Resize | None = None
) -> Examples:
    """Return one part of the data as what batches are gathered from."""
    return Examples(x, y, torch.from_numpy(split.index).to(x.device), prepare, device, resize)


def labels(split: Split) -> Tensor:
    """Return the targets of one part, on the CPU."""
    return torch.from_numpy(np.ascontiguousarray(split.y[split.index]))
