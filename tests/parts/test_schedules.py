from __future__ import annotations

import math
import random
from types import SimpleNamespace
from typing import Any

import pytest

from dnntrain import spec
from dnntrain.errors import SpecError
from dnntrain.parts.schedules import AfterWarmup, Horizon, Warmup, interpolate, plan, schedules
from dnntrain.registry import plain
from dnntrain.training.hooks import Hook, Monitor

HORIZON = Horizon(steps=1000, steps_per_epoch=100, lr=0.01)


def made(written: Any, horizon: Horizon = HORIZON) -> Any:
    """Return the schedule, or the hook of one that reacts."""
    schedule, hook = plan(schedules.choose(written), horizon)
    return hook or schedule


@pytest.mark.parametrize(
    ("x", "expected"),
    [(-1, 1.0), (0, 1.0), (1, 2.0), (2, 3.0), (3, 2.5), (4, 2.0), (6, 1.0), (9, 1.0)],
)
def test_interpolation_goes_through_its_knots(x: float, expected: float) -> None:
    assert interpolate(x, [0, 2, 6], [1, 3, 1]) == pytest.approx(expected)


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


HALF = 0.5 * (1 + math.cos(math.pi / 4))
"""A cosine after a quarter of its fall."""

# Each row: what a file writes, and the factors on the learning rate at some steps; 1000 steps are 10 epochs.
ROWS: list[tuple[str, dict[str, Any], dict[int, float]]] = [
    ("constant", {}, {0: 1.0, 1: 1.0, 999: 1.0, 10**6: 1.0}),
    ("power", {"s": 200}, {0: 1.0, 100: 1 / 1.5, 200: 0.5, 400: 1 / 3, 600: 0.25}),
    ("power", {"s": 2, "c": 0.5, "unit": "epoch"}, {0: 1.0, 200: 0.5**0.5, 600: 0.5}),
    ("power", {"s": 0.5, "c": 2, "unit": "epoch"}, {0: 1.0, 50: 0.25, 100: 1 / 9}),
    ("exponential", {"s": 300}, {0: 1.0, 150: 0.1**0.5, 300: 0.1, 600: 0.01, 10**6: 0.0}),
    ("exponential", {"s": 2.5, "unit": "epoch"}, {0: 1.0, 125: 0.1**0.5, 250: 0.1, 1000: 1e-4}),
    (
        "piecewise",
        {"boundaries": [100, 400], "values": [1.0, 0.3, 0.03]},
        {0: 1.0, 99: 1.0, 100: 0.3, 399: 0.3, 400: 0.03, 10**6: 0.03},
    ),
    ("piecewise", {"boundaries": [3], "values": [0.5, 2], "unit": "epoch"}, {0: 0.5, 299: 0.5, 300: 2.0, 999: 2.0}),
    ("one_cycle", {}, {0: 0.1, 225: 0.55, 450: 1.0, 675: 0.55, 900: 0.1, 1000: 1e-4, 2000: 1e-4}),
    ("cosine", {}, {0: 1.0, 250: HALF, 500: 0.5, 750: 1 - HALF, 1000: 0.0, 1700: 0.0}),
    ("cosine", {"min_factor": 0.2}, {0: 1.0, 500: 0.6, 1000: 0.2, 1700: 0.2}),
    ("cosine", {"cycle": 200}, {0: 1.0, 50: HALF, 100: 0.5, 150: 1 - HALF, 200: 1.0, 300: 0.5, 400: 1.0, 900: 0.5}),
    (
        "cosine",
        {"cycle": 1, "unit": "epoch", "t_mul": 2, "min_factor": 0.1},
        {0: 1.0, 50: 0.55, 100: 1.0, 200: 0.55, 300: 1.0, 500: 0.55, 700: 1.0, 1100: 0.55, 1500: 1.0},
    ),
    ("cosine", {"cycle": 100, "t_mul": 1.5}, {0: 1.0, 100: 1.0, 175: 0.5, 250: 1.0, 475: 1.0}),
    ("linear", {}, {0: 1.0, 250: 0.75, 999: 0.001, 1000: 0.0, 1700: 0.0}),
    ("linear", {"end_factor": 0.2, "length": 100}, {0: 1.0, 50: 0.6, 100: 0.2, 999: 0.2}),
    ("linear", {"end_factor": 3, "length": 2, "unit": "epoch"}, {0: 1.0, 100: 2.0, 200: 3.0, 999: 3.0}),
    ("polynomial", {"power": 2}, {0: 1.0, 250: 0.5625, 500: 0.25, 1000: 0.0, 1700: 0.0}),
    (
        "polynomial",
        {"power": 3, "end_factor": 0.2, "length": 4, "unit": "epoch"},
        {0: 1.0, 200: 0.3, 400: 0.2, 999: 0.2},
    ),
    ("polynomial", {"length": 4, "unit": "epoch"}, {100: 0.75, 400: 0.0}),
]


def test_every_schedule_that_does_not_react_has_a_row() -> None:
    assert {name for name, _, _ in ROWS} == {entry.name for entry in PURE}


@pytest.mark.parametrize(("name", "options", "expected"), ROWS, ids=[f"{name}-{options}" for name, options, _ in ROWS])
def test_factors_at_the_start_the_joints_and_the_end(name: str, options: Any, expected: dict[int, float]) -> None:
    schedule = made({"name": name, **options})
    found = {step: schedule(step)[0] for step in expected}
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-15)
    if name != "one_cycle":
        assert {schedule(step)[1] for step in expected} == {None}, "momentum is left alone"


@pytest.mark.parametrize(("name", "options", "expected"), ROWS, ids=[f"{name}-{options}" for name, options, _ in ROWS])
def test_a_warm_up_rises_to_where_the_schedule_starts(name: str, options: Any, expected: dict[int, float]) -> None:
    warmed = made({"name": name, **options, "warmup": {"steps": 40, "start_factor": 0.2}}, Horizon(1040, 100, 0.01))
    bare = made({"name": name, **options})
    first, momentum = bare(0)
    rise = {0: 0.2, 1: 0.22, 10: 0.4, 20: 0.6, 39: 0.98}
    assert {step: warmed(step)[0] for step in rise} == pytest.approx({k: first * v for k, v in rise.items()}, rel=1e-12)
    assert {warmed(step)[1] for step in rise} == {momentum}
    for step in expected:
        assert warmed(40 + step) == bare(step), "what follows is the schedule, with the steps that are left"


@pytest.mark.parametrize(
    ("written", "steps"),
    [(40, 40), ({"steps": 40}, 40), ({"epochs": 2}, 200), ({"epochs": 0.5}, 50), ({"epochs": 0.001}, 1)],
)
def test_a_warm_up_is_counted_in_steps_or_epochs(written: Any, steps: int) -> None:
    schedule = made({"name": "constant", "warmup": written})
    assert schedule(0)[0] == 0.01
    assert schedule(steps)[0] == 1.0
    assert schedule(steps - 1)[0] == pytest.approx(0.01 + 0.99 * (steps - 1) / steps)


def test_a_warm_up_longer_than_training_is_cut_off_by_its_end() -> None:
    for entry in PURE:
        schedule = made({**example(entry), "warmup": 5000})
        rising = [schedule(step)[0] for step in range(1000)]
        assert all(0 < a < b for a, b in zip(rising, rising[1:], strict=False))


def test_a_warm_up_is_written_out_in_full() -> None:
    assert plain(schedules.choose({"name": "constant", "warmup": 40})) == {
        "name": "constant",
        "warmup": {"steps": 40, "start_factor": 0.01},
    }
    assert plain(schedules.choose("constant")) == {"name": "constant", "warmup": None}
    assert Warmup(epochs=2.0).length(HORIZON) == 200


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("{name: cosine, warmup: 0}", "'warmup' must be"),
        ("{name: cosine, warmup: '5'}", "'warmup' must be"),
        ("{name: cosine, warmup: {}}", "exactly one of steps and epochs"),
        ("{name: cosine, warmup: {steps: 3, epochs: 1}}", "exactly one of steps and epochs"),
        ("{name: cosine, warmup: {steps: 3, start_factor: 2}}", "'start_factor' must be"),
        ("{name: cosine, warmup: {step: 3}}", "unknown key 'step'"),
        ("{name: cosine, t_mul: 0.5}", "'t_mul' must be"),
        ("{name: power, s: 0}", "'s' must be"),
        ("{name: power}", "missing required key 'schedule.s'"),
        ("{name: piecewise, boundaries: [3, 3], values: [1, 2, 3]}", "ascend"),
        ("{name: piecewise, boundaries: [5, 3], values: [1, 2, 3]}", "ascend"),
        ("{name: piecewise, boundaries: [3, 5], values: [1, 2]}", "3 factors"),
        ("{name: piecewise, boundaries: [], values: [1]}", "boundaries"),
        ("{name: piecewise, boundaries: [3], values: [1, 0]}", "'values"),
        ("{name: linear, unit: steps}", "'unit' must be"),
    ],
)
def test_mistakes_are_told(written: str, message: str) -> None:
    text = f"data: {{dataset: digits}}\nmodel: {{architecture: {{name: mlp, hidden: [4]}}}}\nschedule: {written}\n"
    with pytest.raises(SpecError, match=message):
        spec.loads(text)


def test_keras_has_the_old_value_at_a_boundary() -> None:
    def keras(step: int, boundaries: list[int], values: list[float]) -> float:
        return next((v for b, v in zip(boundaries, values, strict=False) if step <= b), values[-1])

    schedule = made({"name": "piecewise", "boundaries": [100], "values": [1.0, 0.1]})
    assert [schedule(step)[0] for step in (99, 100, 101)] == [1.0, 0.1, 0.1]
    assert [keras(step, [100], [1.0, 0.1]) for step in (99, 100, 101)] == [1.0, 1.0, 0.1]


def example(entry: Any) -> dict[str, Any]:
    return entry.example if isinstance(entry.example, dict) else {"name": entry.name}


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_short_trainings_are_scheduled_too(steps: int) -> None:
    for entry in PURE:
        schedule = made(entry.example, Horizon(steps, 1, 0.1))
        assert all(schedule(step)[0] > 0 for step in range(steps))


# What reacts to a metric is a hook with a state instead, and tested as one below.
PURE = [entry for entry in schedules if not isinstance(made(entry.example), Hook)]


def test_a_schedule_says_whether_it_reacts() -> None:
    for entry in schedules:
        assert entry.traits["reacts"] == isinstance(made(entry.example), Hook)


@pytest.mark.parametrize("warmup", [None, 50])
@pytest.mark.parametrize("entry", PURE, ids=lambda entry: entry.name)
def test_a_schedule_is_a_pure_function_of_the_step(entry: Any, warmup: int | None) -> None:
    written = {**example(entry), "warmup": warmup}
    schedule = made(written)
    steps = list(range(0, 1200, 7))
    in_order = {step: schedule(step) for step in steps}
    random.Random(0).shuffle(steps)
    assert {step: schedule(step) for step in steps} == in_order
    # A schedule made anew, as after a restart, goes on from any step as the first one would have.
    for cut in steps[:20]:
        again = made(written)
        assert [again(step) for step in range(cut, 1200, 31)] == [schedule(step) for step in range(cut, 1200, 31)]


class Run(SimpleNamespace):
    """As much of a run as a schedule that reacts to a metric looks at."""

    def __init__(self, mode: str = "min") -> None:
        super().__init__(monitor=Monitor("valid/loss", mode), row={}, scale=1.0, step=0, steps_before=0)

    def scale_lr(self, factor: float) -> None:
        self.scale *= factor


def scales(hook: Hook, metrics: list[float | None], run: Run | None = None) -> list[float]:
    run, seen = run or Run(), []
    for metric in metrics:
        run.row = {"valid/loss": metric}
        run.step += 100
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


def test_performance_waits_for_the_end_of_a_warm_up() -> None:
    written = {"name": "performance", "factor": 0.5, "patience": 2}
    metrics: list[float | None] = [1.0] * 7
    assert scales(made(written), metrics) == [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125]
    # Three epochs of warm-up, then the first epoch to count, then two without improvement.
    assert scales(made({**written, "warmup": 300}), metrics) == [1, 1, 1, 1, 1, 0.5, 0.5]
    assert scales(made({**written, "warmup": {"epochs": 3}}), metrics) == [1, 1, 1, 1, 1, 0.5, 0.5]
    # An epoch counts that ends after the warm-up, however little.
    assert scales(made({**written, "warmup": 299}), metrics) == [1, 1, 1, 1, 0.5, 0.5, 0.25]


def test_performance_is_warmed_up_by_a_schedule_beside_it() -> None:
    schedule, hook = plan(schedules.choose({"name": "performance", "warmup": 100}), HORIZON)
    assert isinstance(hook, AfterWarmup)
    assert [schedule(step) for step in (0, 50, 100, 999)] == [(0.01, None), (0.505, None), (1.0, None), (1.0, None)]
    assert plan(schedules.choose("performance"), HORIZON)[0](0) == (1.0, None)


def test_performance_goes_on_from_its_state_after_a_warm_up_too() -> None:
    written = {"name": "performance", "factor": 0.5, "patience": 2, "warmup": 250}
    metrics: list[float | None] = [1.0, 1.1, 1.2, 1.3, 0.9, 1.0, 1.0, 1.0]
    whole = scales(made(written), metrics)
    for cut in range(1, len(metrics)):
        first, second, run = made(written), made(written), Run()
        seen = scales(first, metrics[:cut], run)
        second.load_state_dict(first.state_dict())
        assert seen + scales(second, metrics[cut:], run) == whole


class Listening(Hook):
    """Writes down what happens, and at which step."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int]] = []

    def on_fit_start(self, run: Any, /) -> None:
        self.heard.append(("fit", run.step))

    def on_epoch_start(self, run: Any, /) -> None:
        self.heard.append(("start", run.step))

    def on_step_end(self, run: Any, /) -> None:
        self.heard.append(("step", run.step))

    def on_epoch_end(self, run: Any, /) -> None:
        self.heard.append(("end", run.step))

    def on_fit_end(self, run: Any, /) -> None:
        self.heard.append(("done", run.step))


def test_a_hook_hears_of_nothing_that_happens_during_the_warm_up() -> None:
    inner, run = Listening(), Run()
    hook = AfterWarmup(inner, 3)
    hook.on_fit_start(run)
    for _ in range(3):
        hook.on_epoch_start(run)
        for _ in range(2):
            run.step += 1
            hook.on_step_end(run)
        hook.on_epoch_end(run)
    hook.on_fit_end(run)
    assert inner.heard == [
        ("fit", 0),
        ("step", 4),
        ("end", 4),
        ("start", 4),
        ("step", 5),
        ("step", 6),
        ("end", 6),
        ("done", 6),
    ]


def test_a_warm_up_hides_nothing_else_of_a_hook() -> None:
    own = {name for name, value in vars(Hook).items() if callable(value) and not name.startswith("_")}
    assert own <= set(vars(AfterWarmup))

    class Leaving(Hook):
        stops_on_divergence = True
        left = 0

        def on_epoch_left(self, run: Any, /) -> None:
            self.left += 1

    inner = Leaving()
    hook = AfterWarmup(inner, 3)
    hook.on_epoch_left(Run())
    assert inner.left == 1
    assert hook.stops_on_divergence
    assert not AfterWarmup(Hook(), 3).stops_on_divergence


def test_the_warm_up_of_a_later_stage_is_counted_from_its_beginning() -> None:
    inner, run = Listening(), Run()
    run.step = run.steps_before = 100
    hook = AfterWarmup(inner, 3)
    for _ in range(2):
        hook.on_epoch_start(run)
        for _ in range(2):
            run.step += 1
            hook.on_step_end(run)
        hook.on_epoch_end(run)
    assert inner.heard == [("step", 104), ("end", 104)]
