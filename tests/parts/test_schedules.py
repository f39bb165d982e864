from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest

from dnntrain.parts.schedules import Horizon, interpolate, schedules
from dnntrain.training.hooks import Hook, Monitor

HORIZON = Horizon(steps=1000, steps_per_epoch=100, lr=0.01)


def made(written: Any, horizon: Horizon = HORIZON) -> Any:
    return schedules.choose(written).build(horizon=horizon)


@pytest.mark.parametrize(
    ("x", "expected"),
    [(-1, 1.0), (0, 1.0), (1, 2.0), (2, 3.0), (3, 2.5), (4, 2.0), (6, 1.0), (9, 1.0)],
)
def test_interpolation_goes_through_its_knots(x: float, expected: float) -> None:
    assert interpolate(x, [0, 2, 6], [1, 3, 1]) == pytest.approx(expected)


@pytest.mark.parametrize("step", [0, 1, 999, 10**6])
def test_constant_leaves_everything_alone(step: int) -> None:
    assert made("constant")(step) == (1.0, None)


@pytest.mark.parametrize(
    ("step", "lr", "momentum"),
    [
        (0, 0.005, 0.95),
        (225, 0.0275, 0.90),
        (450, 0.05, 0.85),
        (675, 0.0275, 0.90),
        (900, 0.005, 0.95),
        (950, (0.005 + 0.000005) / 2, 0.95),
        (1000, 0.000005, 0.95),
        (1500, 0.000005, 0.95),
    ],
)
def test_one_cycle_at_its_joints(step: int, lr: float, momentum: float) -> None:
    factor, moved = made({"name": "one_cycle", "max_lr": 0.05})(step)
    assert factor * HORIZON.lr == pytest.approx(lr, rel=1e-12)
    assert moved == pytest.approx(momentum, rel=1e-12)


def test_one_cycle_peaks_at_the_optimizers_rate_unless_told_otherwise() -> None:
    assert made("one_cycle")(450)[0] == pytest.approx(1.0)


def test_one_cycle_goes_up_then_down() -> None:
    factors = [made("one_cycle")(step)[0] for step in range(1001)]
    assert all(a < b for a, b in zip(factors[:450], factors[1:451], strict=True))
    assert all(a > b for a, b in zip(factors[450:1000], factors[451:1001], strict=True))


def test_one_cycle_can_leave_momentum_alone_or_take_other_ends() -> None:
    assert made({"name": "one_cycle", "cycle_momentum": False})(450)[1] is None
    other = made({"name": "one_cycle", "max_momentum": 0.9, "base_momentum": 0.5})
    assert [other(step)[1] for step in (0, 450, 900)] == pytest.approx([0.9, 0.5, 0.9])


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_short_trainings_are_scheduled_too(steps: int) -> None:
    for entry in PURE:
        schedule = made(entry.example, Horizon(steps, 1, 0.1))
        assert all(schedule(step)[0] > 0 for step in range(steps))


# What reacts to a metric is a hook with a state instead, and tested as one below.
PURE = [entry for entry in schedules if not isinstance(made(entry.example), Hook)]


@pytest.mark.parametrize("entry", PURE, ids=lambda entry: entry.name)
def test_a_schedule_is_a_pure_function_of_the_step(entry: Any) -> None:
    schedule = made(entry.example)
    steps = list(range(0, 1200, 7))
    in_order = {step: schedule(step) for step in steps}
    random.Random(0).shuffle(steps)
    assert {step: schedule(step) for step in steps} == in_order
    assert {step: made(entry.example)(step) for step in steps} == in_order


class Run(SimpleNamespace):
    """As much of a run as a schedule that reacts to a metric looks at."""

    def __init__(self, mode: str = "min") -> None:
        super().__init__(monitor=Monitor("valid/loss", mode), row={}, scale=1.0)

    def scale_lr(self, factor: float) -> None:
        self.scale *= factor


def scales(hook: Hook, metrics: list[float | None], run: Run | None = None) -> list[float]:
    run, seen = run or Run(), []
    for metric in metrics:
        run.row = {"valid/loss": metric}
        hook.on_epoch_end(run)
        seen.append(run.scale)
    return seen


def test_performance_falls_after_so_many_epochs_without_improvement() -> None:
    hook = made({"name": "performance", "factor": 0.1, "patience": 3})
    metrics = [1.0, 0.9, 0.9, 0.95, 0.91, 0.9, 0.9, 0.9, 0.8, 0.85]
    assert scales(hook, metrics) == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01])


def test_an_improvement_starts_the_count_anew() -> None:
    hook = made({"name": "performance", "factor": 0.5, "patience": 2})
    assert scales(hook, [1.0, 1.1, 0.9, 1.0, 0.8, 0.9, 0.7]) == [1.0] * 7


def test_performance_can_watch_what_should_rise() -> None:
    hook = made({"name": "performance", "factor": 0.5, "patience": 1})
    assert scales(hook, [0.5, 0.6, 0.6, 0.7], Run("max")) == [1, 1, 0.5, 0.5]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf"), None])
def test_what_is_not_a_number_is_no_improvement(bad: float | None) -> None:
    hook = made({"name": "performance", "factor": 0.5, "patience": 2})
    assert scales(hook, [1.0, bad, bad, 0.9]) == [1, 1, 0.5, 0.5]
    assert scales(made({"name": "performance", "factor": 0.5, "patience": 2}), [bad, bad, 1.0]) == [1, 0.5, 0.5]


def test_min_delta_decides_what_counts() -> None:
    hook = made({"name": "performance", "factor": 0.5, "patience": 1, "min_delta": 0.1})
    assert scales(hook, [1.0, 0.85, 0.8, 0.7]) == [1, 1, 0.5, 0.5]


def test_performance_goes_on_from_its_state() -> None:
    written = {"name": "performance", "factor": 0.5, "patience": 3}
    metrics: list[float | None] = [1.0, 1.1, 1.2, 1.3, 0.9, 1.0, 1.0, 1.0]
    whole = scales(made(written), metrics)
    for cut in range(1, len(metrics)):
        first, second, run = made(written), made(written), Run()
        seen = scales(first, metrics[:cut], run)
        second.load_state_dict(first.state_dict())
        assert seen + scales(second, metrics[cut:], run) == whole
