"""What no section can see by itself: combinations that cannot work, found before any data is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from dnntrain.errors import Problem
from dnntrain.registry import AUTO, Choice
from dnntrain.spec.schema import MonitorSpec, Spec

Check = Callable[[Spec], Iterator[Problem]]


def check(spec: Spec) -> list[Problem]:
    """Return every impossible combination in a valid file."""
    return [problem for each in CHECKS for problem in each(spec)]


def _stopping_needs_validation(spec: Spec) -> Iterator[Problem]:
    if spec.data.validation != "none":
        return
    if isinstance(spec.training.monitor, MonitorSpec) and spec.training.monitor.metric.startswith("valid/"):
        yield spec.problem(
            "training.monitor",
            f"{spec.training.monitor.metric} is monitored, but data.validation is none",
            "monitor train/loss, or set data.validation: {fraction: 0.1}",
        )
    for i, callback in enumerate(spec.callbacks if spec.callbacks != AUTO else ()):
        options: Any = callback.options if isinstance(callback, Choice) else None
        if getattr(options, "restore_best", False):
            yield spec.problem(
                f"callbacks.{i}",
                "restore_best needs validation, but data.validation is none",
                "set restore_best: false, or data.validation: {fraction: 0.1}",
            )


def _batch_norm_needs_a_batch(spec: Spec) -> Iterator[Problem]:
    normalization = spec.model.normalization
    if isinstance(normalization, Choice) and spec.data.batch_size == 1 and normalization.build().needs_batch:
        yield spec.problem(
            "data.batch_size",
            f"{normalization.name} normalization takes statistics over a batch, so one sample is not enough",
            "set data.batch_size to 2 or more, or model.normalization: none",
        )


def _metrics_fit_the_loss(spec: Spec) -> Iterator[Problem]:
    if not isinstance(spec.loss, Choice) or spec.metrics == AUTO:
        return
    wanted = "values" if spec.loss.entry.traits["targets"] == "values" else "classes"
    for i, metric in enumerate(spec.metrics):
        if isinstance(metric, Choice) and metric.entry.traits["targets"] != wanted:
            yield spec.problem(
                f"metrics.{i}", f"metric '{metric.name}' does not fit loss '{spec.loss.name}'", "use metrics: auto"
            )


def _nesterov_needs_momentum(spec: Spec) -> Iterator[Problem]:
    options: Any = spec.optimizer.options
    if getattr(options, "nesterov", False) and (options.momentum == 0 or options.dampening != 0):
        yield spec.problem(
            "optimizer.nesterov", "nesterov needs momentum and no dampening", "set momentum: 0.9 beside it"
        )


def _cycled_momentum_needs_one(spec: Spec) -> Iterator[Problem]:
    options: Any = spec.schedule.options
    has_momentum = {"momentum", "betas"} & set(type(spec.optimizer.options).model_fields)
    if getattr(options, "cycle_momentum", False) and not has_momentum:
        yield spec.problem(
            "schedule",
            f"{spec.schedule.name} cycles the momentum, but optimizer '{spec.optimizer.name}' has none",
            "set cycle_momentum: false",
        )


CHECKS: Final[tuple[Check, ...]] = (
    _stopping_needs_validation,
    _batch_norm_needs_a_batch,
    _metrics_fit_the_loss,
    _nesterov_needs_momentum,
    _cycled_momentum_needs_one,
)
