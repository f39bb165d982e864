from __future__ import annotations

import math
import signal
from typing import Any

import pytest
import torch
from tinyparts import make_mlp
from tinytraining import examples, samples, through_a_file
from torch import Tensor, nn

from dnntrain import interruption
from dnntrain.errors import Interrupted
from dnntrain.parts.metrics import metrics
from dnntrain.training.state import differences
from dnntrain.training.stepper import Step
from dnntrain.training.tally import SeenStep, StepTally, Tally, evaluate

METRICS = {"accuracy": metrics.choose("accuracy").build()}
SIZES = [8, 8, 8, 3, 8, 5]


def batches() -> list[tuple[Tensor, tuple[Tensor, Tensor], Tensor]]:
    draws = torch.Generator().manual_seed(0)
    made = []
    for size in SIZES:
        z, y = torch.randn(size, 3, generator=draws), torch.randint(3, (size,), generator=draws)
        made.append((z, (z, y), nn.functional.cross_entropy(z, y)))
    return made


@pytest.mark.parametrize("every", [1, 2, 3, 4, 6, 64])
def test_figures_do_not_depend_on_how_often_they_are_summed(every: int) -> None:
    tally = Tally(METRICS, every=every)
    for each in batches():
        tally.add(*each)
    z = torch.cat([b[0] for b in batches()])
    y = torch.cat([b[1][1] for b in batches()])
    figures = tally.figures("train")
    assert figures == {
        "train/loss": pytest.approx(nn.functional.cross_entropy(z.double(), y).item(), rel=1e-6),
        "train/accuracy": pytest.approx((z.argmax(1) == y).double().mean().item(), rel=1e-12),
    }
    assert tally.count == sum(SIZES)
    assert tally.loss == figures["train/loss"]


def seen(tally: StepTally, made: list[Any], *, norm: float = 1.0, look: bool = False) -> None:
    """Add batches as steps of one batch each."""
    for z, batch, loss in made:
        tally.add_step(Step([loss], [z], torch.tensor(norm), None, None), [batch])
        if look:
            tally.look()


def test_a_look_in_between_changes_not_a_bit() -> None:
    straight, looked = StepTally(METRICS), StepTally(METRICS)
    seen(straight, batches())
    seen(looked, batches(), look=True)
    straight.look()
    assert looked.loss == straight.loss
    assert looked.figures("x") == straight.figures("x")
    assert looked.grad_norm == straight.grad_norm


@pytest.mark.parametrize("cut", range(len(SIZES) + 1))
def test_a_restart_in_an_epoch_changes_not_a_bit(cut: int) -> None:
    names = {"f1": metrics.choose("f1").build(classes=3), "calibration_error": None}
    names["calibration_error"] = metrics.choose("calibration_error").build()
    straight, before, after = (StepTally(names, every=2) for _ in range(3))
    made = batches()
    seen(straight, made, norm=0.1)
    seen(before, made[:cut], norm=0.1)
    before.look()
    seen(after, made)  # what was in it before does not matter
    after.load_state_dict(through_a_file(before.state_dict()))
    seen(after, made[cut:], norm=0.1)
    for tally in (straight, after):
        tally.look()
    assert after.figures("x") == straight.figures("x")
    assert not list(differences(after.state_dict(), straight.state_dict()))


def test_nothing_is_read_before_it_is_time() -> None:
    tally = Tally(METRICS, every=3)
    made = batches()
    for each in made[:2]:
        tally.add(*each)
    assert (tally.loss, tally.count) == (None, 0)
    tally.add(*made[2])
    assert tally.count == 24


def test_an_empty_tally_has_no_figures() -> None:
    tally = Tally(METRICS)
    assert tally.figures("valid") == {"valid/loss": None, "valid/accuracy": None}
    assert StepTally(METRICS).grad_norm is None


def test_resetting_starts_over() -> None:
    tally = StepTally(METRICS, every=2)
    seen(tally, [(z, batch, torch.tensor(math.nan)) for z, batch, _ in batches()])
    tally.look()
    assert tally.skipped == len(SIZES)
    tally.reset()
    assert (tally.skipped, tally.grad_norm, tally.loss, tally.penalty, tally.count) == (0, None, None, None, 0)
    seen(tally, batches())
    fresh = StepTally(METRICS, every=2)
    seen(fresh, batches())
    assert tally.figures("x") == fresh.figures("x")


def test_steps_are_read_in_order_with_their_batches() -> None:
    tally = StepTally({}, every=2)
    batch = (torch.zeros(4, 1), torch.zeros(4))
    losses = [torch.tensor(v) for v in (1.0, 2.0, 5.0)]
    tally.add_step(Step(losses[:2], [batch[0]] * 2, torch.tensor(1.0), torch.tensor(0.5), None), [batch] * 2)
    assert not tally.full
    assert tally.grad_norm is None
    tally.add_step(Step(losses[2:], [batch[0]], torch.tensor(3.0), torch.tensor(1.5), None), [batch])
    assert tally.full
    assert tally.look() == [SeenStep([1.0, 2.0], 1.0, None), SeenStep([5.0], 3.0, None)]
    assert not tally.full
    assert tally.look() == []
    assert (tally.grad_norm, tally.penalty) == (2.0, 1.0)
    assert tally.loss == pytest.approx(8 / 3)


def test_a_step_that_overflowed_does_not_spoil_the_figures() -> None:
    tally = StepTally({})
    batch = (torch.zeros(4, 1), torch.zeros(4))
    for loss, norm in ((1.0, 2.0), (1.0, math.inf), (math.nan, math.nan), (3.0, 4.0)):
        kept = torch.tensor([1.0, norm]) if not math.isfinite(norm) else None
        tally.add_step(Step([torch.tensor(loss)], [batch[0]], torch.tensor(norm), None, kept), [batch])
    steps = tally.look()
    assert [step.finite for step in steps] == [True, False, False, True]
    assert steps[1].norms == [1.0, math.inf]
    assert [steps[1].what, steps[2].what] == ["gradient", "loss"]
    assert tally.grad_norm == pytest.approx(3.0)
    assert tally.loss == pytest.approx(5 / 3)
    assert tally.skipped == 2


def test_bf16_outputs_are_summed_in_full_precision() -> None:
    tally = Tally({"mae": metrics.choose("mae").build()})
    z = torch.full((4096, 1), 1.0, dtype=torch.bfloat16)
    tally.add(z, (z, torch.full((4096, 1), 0.999)), torch.tensor(0.0))
    assert tally.figures("x")["x/mae"] == pytest.approx(1 - 0.999, rel=1e-3)


def measured(model: nn.Module, batch_size: int = 7, **options: Any) -> dict[str, float | None]:
    arguments: dict[str, Any] = {"loss": nn.CrossEntropyLoss(), "metrics": METRICS, "precision": "fp32"} | options
    return evaluate(model, examples(40), batch_size=batch_size, prefix="valid", **arguments)


@pytest.mark.parametrize("batch_size", [1, 7, 40, 1000])
def test_an_evaluation_is_the_straight_computation(batch_size: int) -> None:
    model = make_mlp(normalization={"name": "batch"}, dropout=({"name": "dropout", "rate": 0.5},))
    x, y = samples(40)
    for _ in range(3):
        model(x)
    figures = measured(model, batch_size)
    with torch.no_grad():
        z = model.eval()(x)
    assert figures == {
        "valid/loss": pytest.approx(nn.functional.cross_entropy(z, y).item(), rel=1e-5),
        "valid/accuracy": pytest.approx((z.argmax(1) == y).double().mean().item()),
    }


def test_an_evaluation_leaves_everything_as_it_was() -> None:
    model = make_mlp(normalization={"name": "batch"}, dropout=({"name": "dropout", "rate": 0.5},))
    x, y = samples(40)
    nn.functional.cross_entropy(model(x), y).backward()
    model.norm2.eval()  # as a frozen layer would stand
    noise = torch.get_rng_state()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = [p.grad.clone() for p in model.parameters()]
    modes = [module.training for module in model.modules()]

    measured(model)

    assert torch.equal(torch.get_rng_state(), noise)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert [module.training for module in model.modules()] == modes
    assert not model.norm2.training
    model(x).sum().backward()  # nothing in the model has become an inference tensor


def test_modes_come_back_after_an_error() -> None:
    model = make_mlp()

    def broken(*_: Tensor) -> Tensor:
        raise KeyError("mine")

    with pytest.raises(KeyError):
        measured(model, loss=broken)
    assert model.training


def test_an_evaluation_looks_at_the_signals() -> None:
    model = make_mlp()
    with interruption.listening():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Interrupted, match="SIGTERM"):
            measured(model)
    assert model.training
