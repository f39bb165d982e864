"""Running figures of an epoch, and the evaluation of a part of the data."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dnntrain.training.batches import Batch, Examples
from dnntrain.training.built import Loss, Metric
from dnntrain.training.stepper import autocast


class Tally:
    """Sums losses and metrics over batches, and looks at the device only every so often.

    Adding a batch keeps references and starts no computation; every `every` batches all that is waiting is put
    together, summed at once, and read. So a step pays next to nothing for its metrics, and the first step with a number
    that is not finite is still known exactly.

    Args:
        metrics: figures beside the loss, by name.
        every: batches between two looks at the device.

    Attributes:
        count: samples summed up so far.
        first_bad_loss: position, among the batches summed up, of the first whose loss is not finite, or None.
    """

    def __init__(self, metrics: Mapping[str, Metric], *, every: int = 64) -> None:
        self._metrics = metrics
        self._every = every
        self.reset()

    def reset(self) -> None:
        """Start over."""
        self._waiting: list[tuple[Tensor, Tensor, Tensor]] = []
        self._norms: list[Tensor] = []
        self._penalties: list[Tensor] = []
        self._penalty_sum = 0.0
        self._penalty_count = 0
        self._sums: dict[str, Tensor] = {}
        self._loss_sum = 0.0
        self._norm_sum = 0.0
        self._norm_count = 0
        self._batches = 0
        self.count = 0
        self.first_bad_loss: int | None = None

    def add(self, outputs: Tensor, batch: Batch, loss: Tensor) -> None:
        """Add a batch: its outputs, the batch itself, and its mean loss."""
        self._waiting.append((outputs, batch[1], loss))
        if len(self._waiting) >= self._every:
            self.flush()

    def add_step(self, norm: Tensor, penalty: Tensor | None) -> None:
        """Add the gradient norm of an optimizer step, and the value of its penalties if there are any."""
        self._norms.append(norm)
        if penalty is not None:
            self._penalties.append(penalty)

    @property
    def full(self) -> bool:
        """Whether as many gradient norms wait as are read at once."""
        return len(self._norms) >= self._every

    def take_norms(self) -> list[float]:
        """Read the gradient norms that were added since the last call; those that are finite count towards the mean."""
        norms: list[float] = torch.stack(self._norms).tolist() if self._norms else []
        self._norms = []
        self._penalty_sum += sum(torch.stack(self._penalties).tolist()) if self._penalties else 0.0
        self._penalty_count += len(self._penalties)
        self._penalties = []
        finite = [norm for norm in norms if math.isfinite(norm)]
        self._norm_sum += sum(finite)
        self._norm_count += len(finite)
        return norms

    def flush(self) -> None:
        """Sum up what is waiting."""
        if not self._waiting:
            return
        outputs, targets, losses = zip(*self._waiting, strict=True)
        self._waiting = []
        sizes = [len(t) for t in targets]
        means: list[float] = torch.stack(losses).double().tolist()
        bad = first_not_finite(means)
        if bad is not None and self.first_bad_loss is None:
            self.first_bad_loss = self._batches + bad
        self._batches += len(means)
        self._loss_sum += sum(mean * size for mean, size in zip(means, sizes, strict=True))
        self.count += sum(sizes)
        if self._metrics:
            joined, expected = torch.cat(outputs).float(), torch.cat(targets)
            for name, metric in self._metrics.items():
                sums = metric.sums(joined, expected).cpu().double()
                self._sums[name] = self._sums[name] + sums if name in self._sums else sums

    @property
    def loss(self) -> float | None:
        """Mean loss of what is summed up so far."""
        return self._loss_sum / self.count if self.count else None

    @property
    def grad_norm(self) -> float | None:
        """Mean gradient norm of what is read so far; None where no step had a finite one."""
        return self._norm_sum / self._norm_count if self._norm_count else None

    @property
    def penalty(self) -> float | None:
        """Mean penalty of the steps that are read so far; None where nothing is penalized."""
        return self._penalty_sum / self._penalty_count if self._penalty_count else None

    def figures(self, prefix: str) -> dict[str, float | None]:
        """Return the loss and all metrics under `prefix/`."""
        self.flush()
        row = {f"{prefix}/loss": self.loss}
        for name, metric in self._metrics.items():
            row[f"{prefix}/{name}"] = metric.value(self._sums[name], self.count) if self.count else None
        return row


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
    """
    tally = Tally(metrics, every=8)
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        for x, y in examples.slices(batch_size):
            with autocast(examples.device, precision):
                outputs = model(x)
                mean = loss(outputs, y)
            tally.add(outputs, (x, y), mean)
        return tally.figures(prefix)
    finally:
        for module, training in modes.items():
            module.training = training


def first_not_finite(figures: list[float]) -> int | None:
    """Return the position of the first figure that is not finite."""
    return next((i for i, figure in enumerate(figures) if not math.isfinite(figure)), None)
