from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dnntrain.parts.callbacks import callbacks
from dnntrain.training.hooks import Hook, Monitor


class Run(SimpleNamespace):
    """As much of a run as callbacks look at."""

    def __init__(self, mode: str = "min") -> None:
        super().__init__(monitor=Monitor("valid/loss", mode), row={}, epoch=0, epochs_before=0, reason=None, restored=0)

    def stop(self, reason: str, *, stage: bool = False) -> None:
        self.reason = self.reason or reason
        self.of_a_stage = stage

    def restore_best(self) -> None:
        self.restored += 1


def made(**options: Any) -> Hook:
    hook: Hook = callbacks.choose({"name": "early_stopping", **options}).build()
    return hook


def stops_after(hook: Hook, metrics: list[float | None], run: Run | None = None) -> int | None:
    """Return the number of epochs after which the hook asks to stop, from 1."""
    run = run or Run()
    for epoch, metric in enumerate(metrics, start=1):
        run.epoch += 1
        run.row = {"valid/loss": metric}
        hook.on_epoch_end(run)
        if run.reason is not None:
            return epoch
    return None


def test_training_stops_patience_epochs_after_the_best_one() -> None:
    run = Run()
    assert stops_after(made(patience=3), [1.0, 0.8, 0.9, 0.8, 0.85, 0.1], run) == 5
    assert run.reason == "early stopping: valid/loss did not improve for 3 epochs"


def test_steady_progress_goes_on() -> None:
    assert stops_after(made(patience=1), [1 / epoch for epoch in range(1, 20)]) is None
    assert stops_after(made(patience=1), [0.1, 0.2, 0.3, 0.3], Run("max")) == 4


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), None])
def test_what_is_not_a_number_is_no_improvement(bad: float | None) -> None:
    assert stops_after(made(patience=2), [1.0, bad, bad, 0.5]) == 3
    assert stops_after(made(patience=2), [bad, bad]) == 2


def test_min_delta_decides_what_counts() -> None:
    assert stops_after(made(patience=2, min_delta=0.1), [1.0, 0.95, 0.91]) == 3
    assert stops_after(made(patience=2, min_delta=0.1), [1.0, 0.95, 0.85]) is None


@pytest.mark.parametrize("restore", [True, False])
def test_the_best_weights_come_back_when_asked_for(restore: bool) -> None:
    hook, run = made(restore_best=restore), Run()
    hook.on_fit_end(run)
    assert run.restored == int(restore)


def test_it_goes_on_from_its_state() -> None:
    metrics: list[float | None] = [1.0, 0.9, 1.0, 1.0, 1.0]
    assert stops_after(made(patience=3), metrics) == 5
    for cut in range(1, 5):
        first, second = made(patience=3), made(patience=3)
        assert stops_after(first, metrics[:cut]) is None
        second.load_state_dict(first.state_dict())
        assert stops_after(second, metrics[cut:]) == 5 - cut


def test_nothing_counts_in_the_warm_up() -> None:
    rising: list[float | None] = [0.1, 1.0, 1.1, 1.2, 1.3]
    assert stops_after(made(patience=2), rising) == 3
    # From epoch 3 on: 1.1 is the first figure, and two worse ones follow.
    assert stops_after(made(patience=2, warmup=2), rising) == 5
    # A good figure of the warm-up is not what later ones must better.
    assert stops_after(made(patience=2, warmup=1), [0.1, 1.0, 0.9, 0.8, 0.7]) is None
    assert stops_after(made(patience=1, warmup=5), rising) is None


def test_the_warm_up_is_counted_over_a_restart() -> None:
    metrics: list[float | None] = [0.1, 1.0, 1.1, 1.2, 1.3]
    for cut in range(1, 5):
        first, second = made(patience=2, warmup=2), made(patience=2, warmup=2)
        run = Run()
        assert stops_after(first, metrics[:cut], run) is None
        second.load_state_dict(first.state_dict())
        assert stops_after(second, metrics[cut:], run) == 5 - cut


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_monitored_metric_that_is_not_finite_ends_training(bad: float) -> None:
    hook: Hook = callbacks.choose("terminate_on_nan").build()
    run = Run()
    assert stops_after(hook, [1.0, 100.0, None, bad, 1.0], run) == 4
    assert run.reason == "valid/loss of epoch 4 is not finite"


def test_divergence_is_a_reason_to_stop_rather_than_an_error() -> None:
    assert callbacks.choose("terminate_on_nan").build().stops_on_divergence
    assert not made().stops_on_divergence


def test_the_warm_up_of_a_later_stage_is_counted_from_its_beginning() -> None:
    run = Run()
    run.epoch = run.epochs_before = 50
    assert stops_after(made(patience=1, warmup=3), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], run) == 5
    assert run.of_a_stage
