"""Running figures of an epoch, and the evaluation of a part of the data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import override

from dnntrain import interruption
from dnntrain.training.batches import Batch, Examples
from dnntrain.training.built import Loss, Metric
from dnntrain.training.modes import evaluating
from dnntrain.training.stepper import Step, autocast

TRAINED_AT_ONCE: Final = 64
"""Batches whose metrics are summed up at once in training, and in evaluation, where they are larger:"""
EVALUATED_AT_ONCE: Final = 8


class Tally:
    """Sums losses and metrics over batches, and looks at the device only every so often.

    Adding a batch keeps references and starts no computation; every `every` batches all that is waiting is put
    together, summed at once, and read. So a step pays next to nothing for its metrics.

    Args:
        metrics: figures beside the loss, by name.
        every: batches between two looks at the device.

    Attributes:
        count: samples whose loss is summed up so far.
    """

    def __init__(self, metrics: Mapping[str, Metric], *, every: int = TRAINED_AT_ONCE) -> None:
        self._metrics = metrics
        self._every = every
        self.reset()

    def reset(self) -> None:
        """Start over."""
        self._outputs: list[tuple[Tensor, Tensor]] = []
        self._losses: list[tuple[Tensor, int]] = []
        self._sums: dict[str, Tensor] = {}
        self._loss_sum = 0.0
        self.count = 0
        self._measured = 0

    def add(self, outputs: Tensor, batch: Batch, loss: Tensor) -> None:
        """Add a batch: its outputs, the batch itself, and its mean loss."""
        self._losses.append((loss, len(batch[1])))
        if self._metrics:
            self._outputs.append((outputs, batch[1]))
            if len(self._outputs) >= self._every:
                self._measure()
        if len(self._losses) >= self._every:
            self._read_losses()

    def _read_losses(self) -> list[float]:
        """Read the losses that wait, and sum them up one by one: when they are read does not change a bit."""
        if not self._losses:
            return []
        losses, sizes = zip(*self._losses, strict=True)
        self._losses = []
        means: list[float] = torch.stack(losses).double().tolist()
        for mean, size in zip(means, sizes, strict=True):
            if self._counts(mean):
                self._loss_sum += mean * size
                self.count += size
        return means

    def _counts(self, loss: float) -> bool:
        """Whether a loss belongs into the mean; one that is not finite makes the mean of an evaluation so."""
        return True

    def _measure(self) -> None:
        """Sum up the metrics of the outputs that wait."""
        if not self._outputs:
            return
        outputs, targets = zip(*self._outputs, strict=True)
        self._outputs = []
        joined, expected = torch.cat(outputs).float(), torch.cat(targets)
        self._measured += len(expected)
        for name, metric in self._metrics.items():
            sums = metric.sums(joined, expected).cpu().double()
            self._sums[name] = self._sums[name] + sums if name in self._sums else sums

    @property
    def loss(self) -> float | None:
        """Mean loss of what is summed up so far."""
        return self._loss_sum / self.count if self.count else None

    def figures(self, prefix: str) -> dict[str, float | None]:
        """Return the loss and all metrics under `prefix/`."""
        self._read_losses()
        self._measure()
        row = {f"{prefix}/loss": self.loss}
        for name, metric in self._metrics.items():
            row[f"{prefix}/{name}"] = metric.value(self._sums[name], self._measured) if self._measured else None
        return row


class SeenStep(NamedTuple):
    """An optimizer step as it was read from the device.

    Attributes:
        losses: of its batches.
        norm: of its gradient.
        norms: of its gradient by tensor, where that was kept.
    """

    losses: list[float]
    norm: float
    norms: list[float] | None

    @property
    def finite(self) -> bool:
        """Whether all that was seen is."""
        return all(map(math.isfinite, [*self.losses, self.norm]))

    @property
    def what(self) -> str:
        """What is not finite: the loss, or the gradient of a finite loss; the weights where there is no loss."""
        if not self.losses:
            return "weights"
        return "gradient" if all(map(math.isfinite, self.losses)) else "loss"


class StepTally(Tally):
    """The tally of an epoch of training: also the gradients' norms, and the values of penalties.

    Its figures are those of the steps with finite numbers: others end training, or are skipped under fp16.

    Attributes:
        skipped: steps of this epoch with numbers that are not finite.
    """

    @override
    def reset(self) -> None:
        super().reset()
        self._steps: list[tuple[int, Tensor, Tensor | None]] = []
        self._penalties: list[Tensor] = []
        self._norm_sum = self._penalty_sum = 0.0
        self._norm_count = self._penalty_count = 0
        self.skipped = 0

    def add_step(self, step: Step, batches: Sequence[Batch]) -> None:
        """Add an optimizer step with its batches."""
        # The losses are read with the steps, not one batch ahead of them.
        for output, batch, loss in zip(step.outputs, batches, step.losses, strict=True):
            self._losses.append((loss, len(batch[1])))
            if self._metrics:
                self._outputs.append((output, batch[1]))
        if len(self._outputs) >= self._every:
            self._measure()
        self._steps.append((len(batches), step.norm, step.norms))
        if step.penalty is not None:
            self._penalties.append(step.penalty)

    @override
    def _counts(self, loss: float) -> bool:
        return math.isfinite(loss)

    @property
    def full(self) -> bool:
        """Whether as many steps wait as are read at once."""
        return len(self._steps) >= self._every

    def look(self) -> list[SeenStep]:
        """Read the steps that were added since the last look, in order."""
        if not self._steps:
            return []
        waiting, self._steps = self._steps, []
        losses = iter(self._read_losses())
        norms: list[float] = torch.stack([norm for _, norm, _ in waiting]).tolist()
        seen = []
        for (count, _, by_tensor), norm in zip(waiting, norms, strict=True):
            means = [next(losses) for _ in range(count)]
            step = SeenStep(means, norm, None)
            if step.finite:
                self._norm_sum += norm
                self._norm_count += 1
            else:
                self.skipped += 1
                step = step._replace(norms=None if by_tensor is None else by_tensor.tolist())
            seen.append(step)
        for penalty in torch.stack(self._penalties).tolist() if self._penalties else ():
            self._penalty_sum += penalty
            self._penalty_count += 1
        self._penalties = []
        return seen

    @property
    def grad_norm(self) -> float | None:
        """Mean gradient norm of the steps that are read so far; None where none was finite."""
        return self._norm_sum / self._norm_count if self._norm_count else None

    @property
    def penalty(self) -> float | None:
        """Mean penalty of the steps that are read so far; None where nothing is penalized."""
        return self._penalty_sum / self._penalty_count if self._penalty_count else None

    def state_dict(self) -> dict[str, Any]:
        """Return the sums, and the outputs that wait for their metrics; all steps must have been looked at."""
        return {
            "outputs": [list(pair) for pair in self._outputs],
            "sums": dict(self._sums),
            "measured": self._measured,
            "loss": [self._loss_sum, self.count],
            "norm": [self._norm_sum, self._norm_count],
            "penalty": [self._penalty_sum, self._penalty_count],
            "skipped": self.skipped,
        }

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Go to a state saved by `state_dict`."""
        self.reset()
        self._outputs = [(outputs, targets) for outputs, targets in state["outputs"]]
        self._sums = {name: sums.cpu() for name, sums in state["sums"].items()}
        self._measured = state["measured"]
        self._loss_sum, self.count = state["loss"]
        self._norm_sum, self._norm_count = state["norm"]
        self._penalty_sum, self._penalty_count = state["penalty"]
        self.skipped = state["skipped"]


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    examples: Examples,
    *,
    loss: Loss,
    metrics: Mapping[str, Metric],
    batch_size: int,
    precision: str,
    prefix: str,
) -> dict[str, float | None]:
    """Measure a model in evaluation mode on one part of the data; each layer's mode is put back afterwards.

    Returns:
        the mean loss and each metric, named `prefix/...`.

    Raises:
        Interrupted: a signal asked for the end; nothing has changed.
    """
    tally = Tally(metrics, every=EVALUATED_AT_ONCE)
    with evaluating(model):
        for x, y in examples.slices(batch_size):
            interruption.check()
            with autocast(examples.device, precision):
                outputs = model(x)
                mean = loss(outputs, y)
            tally.add(outputs, (x, y), mean)
        return tally.figures(prefix)
