from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from dnntrain.training.hooks import Hook, Monitor, Patience, TimeLimit


@pytest.mark.parametrize(
    ("mode", "value", "best", "better"),
    [
        ("min", 1.0, None, True),
        ("min", 0.9, 1.0, True),
        ("min", 1.0, 1.0, False),
        ("min", 1.1, 1.0, False),
        ("min", None, 1.0, False),
        ("min", None, None, False),
        ("max", 1.1, 1.0, True),
        ("max", 1.0, 1.0, False),
        ("max", 0.9, 1.0, False),
    ],
)
def test_which_way_is_better(mode: str, value: float | None, best: float | None, better: bool) -> None:
    assert Monitor("valid/loss", mode).improves(value, best) is better


def test_an_improvement_can_be_asked_to_be_large() -> None:
    assert not Monitor("m").improves(0.95, 1.0, by=0.1)
    assert Monitor("m").improves(0.85, 1.0, by=0.1)
    assert not Monitor("m", "max").improves(1.05, 1.0, by=0.1)
    assert Monitor("m", "max").improves(1.15, 1.0, by=0.1)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None])
def test_a_metric_that_is_not_finite_is_none(bad: float | None) -> None:
    assert Monitor("m").value({"m": bad}) is None
    assert Monitor("m").value({}) is None
    assert Monitor("m").value({"m": 0.0}) == 0.0


def run_with(value: float | None) -> SimpleNamespace:
    return SimpleNamespace(monitor=Monitor("m"), row={"m": value})


def test_patience_counts_epochs_in_a_row() -> None:
    patience = Patience(2, 0.0)
    assert [patience.runs_out(run_with(v)) for v in (1.0, 1.0, 0.9, 1.0, 1.0)] == [False, False, False, False, True]


def test_a_plain_hook_does_nothing_and_remembers_nothing() -> None:
    hook, run = Hook(), SimpleNamespace()
    for event in (hook.on_fit_start, hook.on_epoch_start, hook.on_step_end, hook.on_epoch_end, hook.on_fit_end):
        event(run)
    hook.load_state_dict(hook.state_dict())
    assert hook.state_dict() == {}
    assert not hook.stops_on_divergence


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Stoppable:
    reason: str | None = None

    def stop(self, reason: str, *, stage: bool = False) -> None:
        self.reason = reason
        self.of_a_stage = stage


def test_time_runs_from_the_start_of_the_fit() -> None:
    clock, run = Clock(), Stoppable()
    limit = TimeLimit(10, clock)
    clock.now += 500  # building took its time
    limit.on_fit_start(run)
    clock.now += 9.9
    limit.on_step_end(run)
    assert run.reason is None
    clock.now += 0.1
    limit.on_step_end(run)
    assert run.reason == "time limit of 10 s"


def test_time_is_counted_over_restarts_without_the_pause() -> None:
    clock, run = Clock(), Stoppable()
    first = TimeLimit(10, clock)
    first.on_fit_start(run)
    clock.now += 6
    state = first.state_dict()
    assert state == {"seconds": 6.0}

    clock.now += 10_000
    second = TimeLimit(10, clock)
    second.load_state_dict(state)
    clock.now += 100
    second.on_fit_start(run)
    clock.now += 3.5
    second.on_step_end(run)
    assert run.reason is None
    assert second.state_dict() == {"seconds": 9.5}
    clock.now += 1
    second.on_step_end(run)
    assert run.reason is not None
