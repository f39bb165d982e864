"""What training does when it meets numbers that are not finite."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tinytraining import At, Ends, assemble, fitted
from torch import Tensor, nn

from dnntrain.errors import DivergedError
from dnntrain.parts.callbacks import callbacks
from dnntrain.training.batches import Examples
from dnntrain.training.built import Clip
from dnntrain.training.divergence import MOST_OVERFLOWS
from dnntrain.training.trainer import Trainer


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
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("waits", [False, True])
def test_a_loss_that_is_not_a_number_names_its_step(
    call: int, step: int, epoch: int, precision: str, waits: bool
) -> None:
    built = assemble(n=200, batch_size=2, valid=None, precision=precision)
    built.loss = NanAt(call)
    trainer = Trainer(built)
    trainer._stepper.waits = waits  # as on a device that is not asked at every step
    with pytest.raises(DivergedError, match=rf"the loss of step {step} \(epoch {epoch}\) is not finite") as caught:
        trainer.fit()
    assert caught.value.step == step
    assert 0 <= trainer.step - step < (64 if waits else 1)


class SpoilsOneLayer(nn.Module):
    """Passes inputs through, and spoils the gradient of what lies below at one backward pass."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.calls = at, 0

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad:
            self.calls += 1
            if self.calls == self.at:
                x.register_hook(lambda gradient: gradient * math.nan)
        return x


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("clip", [Clip(), Clip(norm=0.1)], ids=str)
def test_the_report_says_where_it_began(waits: bool, clip: Clip) -> None:
    model = nn.Sequential(nn.Linear(6, 4), SpoilsOneLayer(at=7), nn.Linear(4, 3))
    built = assemble(model=model, schedule=lambda step: (1 / (1 + step), None), clip=clip)
    rows = []
    watch = At(lambda run: rows.extend(built.train.rows(run.epoch_step)), step=7)
    trainer = Trainer(built, watch)
    trainer._stepper.waits = waits
    with pytest.raises(DivergedError, match=r"the gradient of step 7 \(epoch 2\)") as caught:
        trainer.fit()
    report = caught.value.report
    assert (report["epoch"], report["step"], report["not_finite"]) == (2, 7, "gradient")
    assert report["lr"] == pytest.approx(0.1 / 7)
    assert [math.isfinite(norm) for norm in report["grad_norms"].values()] == [False, False, True, True]
    assert list(report["grad_norms"]) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert not math.isfinite(report["grad_norm"])
    assert len(report["losses"]) == 1
    assert math.isfinite(report["losses"][0])
    assert len(set(report["samples"])) == 8
    if waits:
        assert report["samples"] == rows


def test_a_spoilt_state_is_not_saved() -> None:
    built = assemble(n=200, batch_size=2, valid=None)
    built.loss = NanAt(30)
    trainer = Trainer(built, At(lambda run: run.state_dict(), step=31))
    trainer._stepper.waits = True
    with pytest.raises(DivergedError, match="step 30"):
        trainer.fit()
    assert trainer.step == 31


@pytest.mark.parametrize(("bad", "diverges"), [(MOST_OVERFLOWS, False), (MOST_OVERFLOWS + 1, True)])
def test_under_fp16_only_many_bad_steps_in_a_row_are_divergence(bad: int, diverges: bool) -> None:
    built = assemble(n=200, batch_size=2, valid=None, precision="fp16", epochs=1)
    first = 20
    losses = NanAt(0)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        losses.call = losses.calls + 1 if first <= losses.calls + 1 < first + bad else 0
        return losses(outputs, targets)

    built.loss = loss
    ends = Ends()
    trainer = Trainer(built, ends)
    if diverges:
        with pytest.raises(DivergedError, match=f"the loss of step {first + bad - 1} "):
            trainer.fit()
    else:
        trainer.fit()
        assert math.isfinite(ends.rows[0]["train/loss"])


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
    assert trainer._stepper.scaler.get_scale() < 65536, "no step was skipped"
    assert all(math.isfinite(row["grad_norm"]) for row in ends.rows)


def test_terminate_on_nan_turns_the_error_into_a_stop() -> None:
    built = assemble(n=200, batch_size=2, valid=None, hooks=[callbacks.choose("terminate_on_nan").build()])
    built.loss = NanAt(70)
    trainer, fit = fitted(built)
    assert fit.stop_reason is not None
    assert "the loss of step 70 (epoch 1) is not finite" in fit.stop_reason
    assert fit.epochs == 0
    assert trainer.divergence is not None
    assert trainer.divergence["step"] == 70
