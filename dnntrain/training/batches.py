"""Samples as tensors, and the order in which training sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

Batch = tuple[Tensor, Tensor]
Order = Callable[[torch.Generator], Tensor]


@dataclass(frozen=True)
class Examples:
    """One part of the data (training, validation or test), ready to be gathered from.

    Attributes:
        x: inputs of the whole data set, of shape (rows, ...), uint8 or float32, wherever they are kept.
        y: targets of the whole data set: int64 of shape (rows,), or float32 of shape (rows, outputs).
        index: the rows that belong to this part, int64, where `x` is kept.
        prepare: turns gathered inputs into what the model sees; lives on `device`.
        device: where batches are wanted.
        resize: brings gathered inputs to the size that all that follows sees, augmentation included; or None.
    """

    x: Tensor
    y: Tensor
    index: Tensor
    prepare: nn.Module
    device: torch.device
    resize: nn.Module | None = None

    def __len__(self) -> int:
        return len(self.index)

    @property
    def source(self) -> Examples:
        """The samples as the data set has them: these."""
        return self

    def ready(self) -> None:
        """Do what has to be done once before the first sample can be taken."""

    def take(self, positions: Tensor) -> Batch:
        """Gather the samples at these positions of this part as one prepared batch on `device`."""
        x, y = self.gather(positions)
        return self.prepare(x), y

    def gather(self, positions: Tensor) -> Batch:
        """Gather the samples at these positions of this part on `device`: as they are, but for their size."""
        rows = self.index.index_select(0, positions)
        x, y = self.x.index_select(0, rows), self.y.index_select(0, rows)
        if x.device != self.device:
            if self.device.type == "cuda":
                x, y = x.pin_memory(), y.pin_memory()
            x, y = x.to(self.device, non_blocking=True), y.to(self.device, non_blocking=True)
        return (x if self.resize is None else self.resize(x)), y

    def slices(self, size: int) -> Iterator[Batch]:
        """Yield all samples in order, `size` at a time."""
        self.ready()
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            yield self.take(torch.arange(start, stop, device=self.index.device))


Change = Callable[[Tensor, Tensor, torch.Generator], Batch]
"""Changes the inputs and targets of a batch at random."""


@dataclass(frozen=True)
class Augment:
    """Random changes to training batches.

    Attributes:
        raw: those that are made before samples are standardized.
        prepared: those that are made afterwards.
        generator: draws for all of them; a CPU generator, so that draws are the same on every device.
    """

    raw: Sequence[Change]
    prepared: Sequence[Change]
    generator: torch.Generator

    def take(self, examples: Examples, positions: Tensor) -> Batch:
        """Gather the samples at these positions as one changed and prepared batch."""
        x, y = examples.gather(positions)
        for change in self.raw:
            x, y = change(x, y, self.generator)
        x = examples.prepare(x)
        for change in self.prepared:
            x, y = change(x, y, self.generator)
        return x, y


@dataclass(frozen=True, kw_only=True)
class Changed(Examples):
    """One part of the data with random changes that are the same each time it is gone through from its beginning.

    Attributes:
        augment: the changes.
        seed: what they are drawn from.
    """

    augment: Augment
    seed: int

    @override
    def ready(self) -> None:
        self.augment.generator.manual_seed(self.seed)

    @override
    def take(self, positions: Tensor) -> Batch:
        return self.augment.take(self, positions)


def shuffled(count: int) -> Order:
    """Return an order that visits each of `count` samples once."""
    return lambda generator: torch.randperm(count, generator=generator)


def balanced(labels: Tensor) -> Order:
    """Return an order that draws each class equally often: `len(labels)` samples, with replacement.

    Args:
        labels: class indices of the training part, int64, of shape (samples,), on the CPU.
    """
    weights = 1.0 / torch.bincount(labels).double()[labels]
    edges = weights.cumsum(0)

    def order(generator: torch.Generator) -> Tensor:
        draws = torch.rand(len(labels), dtype=torch.float64, generator=generator) * edges[-1]
        return torch.searchsorted(edges, draws, right=True).clamp_(max=len(labels) - 1)

    return order


def steps_in(count: int, *, batch_size: int, accumulate: int = 1) -> Sequence[Sequence[tuple[int, int]]]:
    """Return where the batches of each optimizer step of an epoch start and stop.

    Args:
        count: samples of an epoch.
        batch_size: samples in a batch.
        accumulate: batches that make one step.
    """
    cuts = [*range(0, count, batch_size), count]
    if batch_size > 1 and len(cuts) > 2 and cuts[-1] - cuts[-2] == 1:
        del cuts[-2]
    spans = list(pairwise(cuts))
    return [spans[i : i + accumulate] for i in range(0, len(spans), accumulate)]


class Batches:
    """The training part, shuffled anew each epoch and cut into steps of one or more batches.

    The last partial batch is kept; a last batch of a single sample joins the one before it, since no batch statistics
    can be taken of it (batches of one sample each, where that is what was asked for, stay so).

    Args:
        examples: the training part.
        batch_size: samples in a batch.
        accumulate: batches whose gradients make one optimizer step.
        generator: draws the order; a CPU generator, so that the order is the same on every device.
        order: how an epoch's order is drawn; by default each sample once.
        augment: random changes to each batch, or None.
    """

    def __init__(
        self,
        examples: Examples,
        *,
        batch_size: int,
        accumulate: int = 1,
        generator: torch.Generator,
        order: Order | None = None,
        augment: Augment | None = None,
    ) -> None:
        count = len(examples)
        self.examples = examples
        self.steps = steps_in(count, batch_size=batch_size, accumulate=accumulate)
        self._generator = generator
        self._augment = augment
        self._order = order or shuffled(count)
        self._epoch_start = generator.get_state()
        self._position = 0
        self._positions = torch.empty(0, dtype=torch.int64)

    def __len__(self) -> int:
        """Optimizer steps in an epoch."""
        return len(self.steps)

    def epoch(self) -> Iterator[list[Batch]]:
        """Yield the batches of each optimizer step; of an epoch left in the middle, those that were still to come."""
        self.examples.ready()
        self._generator.set_state(self._epoch_start)
        positions = self._positions = self._order(self._generator).to(self.examples.index.device)
        for step in self.steps[self._position :]:
            self._position += 1
            if self._position == len(self.steps):
                # From here on the next epoch is to come, even if nobody asks this one for more.
                self._position, self._epoch_start = 0, self._generator.get_state()
            yield [self._take(positions[start:stop]) for start, stop in step]

    def rows(self, step: int) -> list[int]:
        """Return the rows of the data set, as the file holds it, in an optimizer step of the epoch begun last.

        Args:
            step: counted from 1 in the epoch.
        """
        positions = torch.cat([self._positions[start:stop] for start, stop in self.steps[step - 1]])
        rows: list[int] = self.examples.index.index_select(0, positions).tolist()
        return rows

    def _take(self, positions: Tensor) -> Batch:
        if self._augment is None:
            return self.examples.take(positions)
        return self._augment.take(self.examples, positions)

    def state_dict(self) -> dict[str, Any]:
        """Return the generator as it was before the epoch's order was drawn, the steps since, and that of changes."""
        augmentation = None if self._augment is None else self._augment.generator.get_state()
        return {"generator": self._epoch_start, "position": self._position, "augmentation": augmentation}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a state saved by `state_dict`."""
        self._generator.set_state(state["generator"].cpu())
        self._epoch_start = self._generator.get_state()
        self._position = state["position"]
        if self._augment is not None:
            self._augment.generator.set_state(state["augmentation"].cpu())
