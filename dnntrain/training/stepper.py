"""One optimizer step: forward and backward in the chosen precision, accumulate, unscale, clip, update."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dnntrain.training.batches import Batch
from dnntrain.training.built import Built, Clip
from dnntrain.training.parameters import Parameters


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Return the context in which the forward pass runs: mixed precision for bf16 and fp16, else nothing."""
    if precision in ("bf16", "fp16"):
        dtype = torch.bfloat16 if precision == "bf16" else torch.float16
        return torch.autocast(device.type, dtype=dtype)
    return nullcontext()


def clip_gradients(parameters: Parameters, clip: Clip, norm: Tensor) -> None:
    """Clip the gradients in place.

    `norm` scales the gradient g to g min(1, c / |g|), which keeps its direction; `parameter_norm` does so tensor by
    tensor; `value` cuts each component to [-c, c], which may turn it.

    Args:
        parameters: holds the gradients.
        clip: what to do.
        norm: Euclidean norm of the whole gradient, a scalar on the device.
    """
    if clip.norm is not None:
        # The small number keeps a zero gradient from dividing by zero; torch.nn.utils.clip_grad_norm_ adds the same.
        factor = (clip.norm / (norm + 1e-6)).clamp_(max=1.0)
        for gradient in parameters.gradients:
            gradient.mul_(factor)
    elif clip.parameter_norm is not None:
        gradients = parameters.gradients_by_tensor
        for gradient, own in zip(gradients, torch._foreach_norm(gradients), strict=True):
            gradient.mul_((clip.parameter_norm / (own + 1e-6)).clamp_(max=1.0))
    elif clip.value is not None:
        for gradient in parameters.gradients:
            gradient.clamp_(-clip.value, clip.value)


class Step(NamedTuple):
    """What came of an optimizer step; all detached and still on the device.

    Attributes:
        losses: the loss of each batch.
        outputs: the outputs of each batch.
        norm: the gradient's norm before clipping.
        penalty: the value of all penalties before the step; None where there are none.
        norms: the same norm tensor by tensor; on the CPU only where `norm` is not finite.
    """

    losses: list[Tensor]
    outputs: list[Tensor]
    norm: Tensor
    penalty: Tensor | None
    norms: Tensor | None


class Stepper:
    """Takes optimizer steps on a built experiment.

    Under fp16 the loss is scaled so that small gradients do not vanish (torch.amp.GradScaler); gradients are unscaled
    before they are measured and clipped, and a step whose gradients overflow is skipped.

    Attributes:
        scaler: scales the loss under fp16, else does nothing.
        waits: whether numbers are read from the device later, many steps at once, so as not to stop its queue of work.
    """

    def __init__(self, built: Built) -> None:
        self._model = built.compiled or built.passed
        self._loss = built.loss
        self._parameters = built.parameters
        self._optimizer = built.optimizer
        self._schedule = built.schedule
        self._clip = built.clip
        self._penalties = built.penalties
        self._noise = built.noise
        self._constraints = built.constraints
        self.waits = built.device.type != "cpu"
        self._autocast = autocast(built.device, built.precision)
        self.scaler = torch.amp.GradScaler(built.device.type, enabled=built.precision == "fp16")
        self._base_lrs = [float(group["lr"]) for group in built.optimizer.param_groups]
        self._lr = float(built.optimizer.defaults["lr"])

    def set_rates(self, step: int, scale: float) -> None:
        """Set the learning rate, and the momentum where the schedule has one, for an optimizer step.

        Args:
            step: optimizer steps taken before this one, in this stage.
            scale: factor on top of the schedule, kept by the training state.
        """
        factor, momentum = self._schedule(step)
        for group, base in zip(self._optimizer.param_groups, self._base_lrs, strict=True):
            group["lr"] = base * factor * scale
            if momentum is not None:
                if "betas" in group:
                    group["betas"] = (momentum, *group["betas"][1:])
                else:
                    group["momentum"] = momentum

    def rate(self, step: int, scale: float) -> float:
        """Return the learning rate of the step that follows after `step` others of this stage; see `set_rates`."""
        return self._lr * self._schedule(step)[0] * scale

    def step(self, batches: list[Batch], step: int) -> Step:
        """Take one optimizer step on one or more batches, as if they were one.

        Args:
            batches: inputs and targets.
            step: optimizer steps taken before this one.
        """
        self._parameters.clear()
        total = sum(len(y) for _, y in batches)
        losses, outputs = [], []
        for x, y in batches:
            with self._autocast:
                output = self._model(x)
                loss = self._loss(output, y)
            share = loss if len(batches) == 1 else loss * (len(y) / total)
            self.scaler.scale(share).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
            outputs.append(output.detach())
        self._parameters.collect()
        self.scaler.unscale_(self._optimizer)
        penalty = self._regularize(step)
        norm = self._parameters.norm()
        norms = self._parameters.norms() if self.waits or not math.isfinite(norm) else None
        clip_gradients(self._parameters, self._clip, norm)
        self.scaler.step(self._optimizer)
        self.scaler.update()
        for constraint in self._constraints:
            constraint.apply()
        return Step(losses, outputs, norm, penalty, norms)

    def _regularize(self, step: int) -> Tensor | None:
        """Add the gradients of the penalties, then noise; return the value of the penalties, if there are any."""
        values = []
        for penalty in self._penalties:
            values.append(penalty.value())
            penalty.add_gradient(self._parameters.gradients_of(penalty.weights))
        for noise in self._noise:
            noise.add(self._parameters.gradients_of(noise.weights), step)
        return torch.stack(values).sum() if values else None
