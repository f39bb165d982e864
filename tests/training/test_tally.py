from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tinyparts import make_mlp
from tinytraining import examples, samples
from torch import Tensor, nn

from dnntrain.parts.metrics import metrics
from dnntrain.training.tally import Tally, evaluate, first_not_finite

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


def test_a_flush_in_between_changes_nothing() -> None:
    straight, flushed = Tally(METRICS), Tally(METRICS)
    for each in batches():
        straight.add(*each)
        flushed.add(*each)
        flushed.flush()
        assert flushed.loss is not None
    assert flushed.figures("x") == pytest.approx(straight.figures("x"))


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
    assert tally.grad_norm is None


def test_resetting_starts_over() -> None:
    tally = Tally(METRICS, every=2)
    for z, batch, _ in batches():
        tally.add(z, batch, torch.tensor(math.nan))
        tally.add_step(torch.tensor(1.0), None)
    tally.take_norms()
    tally.flush()
    assert tally.first_bad_loss == 0
    tally.reset()
    assert (tally.first_bad_loss, tally.grad_norm, tally.loss, tally.count) == (None, None, None, 0)
    for each in batches():
        tally.add(*each)
    fresh = Tally(METRICS)
    for each in batches():
        fresh.add(*each)
    assert tally.figures("x") == pytest.approx(fresh.figures("x"))


def test_norms_are_read_in_order_and_averaged() -> None:
    tally = Tally({}, every=2)
    tally.add_step(torch.tensor(1.0), None)
    assert not tally.full
    tally.add_step(torch.tensor(3.0), None)
    assert tally.full
    assert tally.grad_norm is None
    assert tally.take_norms() == [1.0, 3.0]
    assert not tally.full
    assert tally.take_norms() == []
    tally.add_step(torch.tensor(8.0), None)
    assert tally.take_norms() == [8.0]
    assert tally.grad_norm == pytest.approx(4.0)


def test_a_step_that_overflowed_does_not_spoil_the_mean_norm() -> None:
    tally = Tally({})
    for norm in (2.0, math.inf, math.nan, 4.0):
        tally.add_step(torch.tensor(norm), None)
    assert tally.take_norms()[1] == math.inf
    assert tally.grad_norm == pytest.approx(3.0)


@pytest.mark.parametrize("every", [1, 2, 4, 64])
@pytest.mark.parametrize("bad", [0, 3, 5])
def test_the_first_bad_loss_is_known_exactly(every: int, bad: int) -> None:
    tally = Tally(METRICS, every=every)
    for i, (z, batch, loss) in enumerate(batches()):
        tally.add(z, batch, loss if i < bad else torch.tensor(math.inf if i % 2 else math.nan))
    tally.flush()
    assert tally.first_bad_loss == bad


def test_the_first_figure_that_is_not_finite() -> None:
    assert first_not_finite([]) is None
    assert first_not_finite([1.0, 2.0]) is None
    assert first_not_finite([1.0, math.inf, math.nan]) == 1
    assert first_not_finite([-math.inf]) == 0


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
