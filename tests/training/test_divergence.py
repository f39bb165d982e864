"""What training does when it meets numbers that are not finite."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tinytraining import Ends, assemble, fitted
from torch import Tensor, nn

from dnntrain.errors import DivergedError
from dnntrain.parts.callbacks import callbacks
from dnntrain.training.batches import Examples


class NanAt:
    """A loss that is not a number from one call in training on."""

    def __init__(self, call: int, value: float = math.nan) -> None:
        self.calls, self.call, self.value = 0, call, value

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.calls += outputs.requires_grad
        loss = nn.functional.cross_entropy(outputs, targets)
        return loss * self.value if self.calls == self.call and outputs.requires_grad else loss


@pytest.mark.parametrize(
    ("call", "step", "epoch"), [(1, 1, 1), (64, 64, 1), (65, 65, 1), (100, 100, 1), (101, 101, 2), (187, 187, 2)]
)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_loss_that_is_not_a_number_names_its_step(call: int, step: int, epoch: int, precision: str) -> None:
    built = assemble(n=200, batch_size=2, valid=None, precision=precision)
    built.loss = NanAt(call)
    with pytest.raises(DivergedError, match=rf"the loss of step {step} \(epoch {epoch}\) is not finite"):
        fitted(built)


@pytest.mark.parametrize(("call", "step"), [(1, 1), (3, 1), (4, 2), (9, 3), (13, 5), (14, 6), (20, 8)])
def test_under_accumulation_the_optimizer_step_is_named(call: int, step: int) -> None:
    built = assemble(accumulate=3, n=40, batch_size=4, valid=None)
    assert len(built.train) == 4
    built.loss = NanAt(call)
    with pytest.raises(DivergedError, match=rf"the loss of step {step} \(epoch {1 + (call > 10)}\) is not finite"):
        fitted(built)


def test_a_gradient_that_is_not_finite_is_found_though_the_loss_is() -> None:
    class Steep(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return grad * math.inf

    built = assemble(valid=None)
    built.loss = lambda z, y: nn.functional.cross_entropy(Steep.apply(z), y)
    with pytest.raises(DivergedError, match=r"the gradient of step 1 \(epoch 1\) is not finite.*training\.clip"):
        fitted(built)


def test_an_infinite_loss_with_a_finite_gradient_is_found() -> None:
    built = assemble(valid=None)
    built.loss = lambda z, y: nn.functional.cross_entropy(z, y) + (z.detach().sum() * 0 + math.inf)
    with pytest.raises(DivergedError, match="the loss of step 1 "):
        fitted(built)


def test_under_fp16_a_skipped_step_is_no_divergence() -> None:
    built = assemble(precision="fp16", epochs=4)
    examples = built.train.examples
    built.train.examples = Examples(
        torch.where(torch.arange(40).unsqueeze(1) == 0, 300 * examples.x, examples.x),
        examples.y,
        examples.index,
        examples.prepare,
        examples.device,
    )
    ends = Ends()
    trainer, fit = fitted(built, ends)
    assert fit.step == 20
    assert trainer._stepper._scaler.get_scale() < 65536, "no step was skipped"
    assert all(math.isfinite(row["grad_norm"]) for row in ends.rows)


def test_terminate_on_nan_turns_the_error_into_a_stop() -> None:
    built = assemble(n=200, batch_size=2, valid=None, hooks=[callbacks.choose("terminate_on_nan").build()])
    built.loss = NanAt(70)
    trainer, fit = fitted(built)
    assert fit.stop_reason is not None
    assert "the loss of step 70 (epoch 1) is not finite" in fit.stop_reason
    assert fit.epochs == 1
