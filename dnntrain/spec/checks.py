"""What no section can see by itself: combinations that cannot work, found before any data is opened."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from dnntrain.errors import Problem
from dnntrain.registry import AUTO, Choice
from dnntrain.spec.schema import Spec
from dnntrain.spec.sweepchecks import SEARCHES
from dnntrain.spec.values import MonitorSpec
from dnntrain.yamltext import KeyPath

_Find = Callable[[Spec], Iterator[Problem]]


@dataclass(frozen=True)
class Check:
    """A search for one impossible combination.

    Attributes:
        reads: dotted paths of all that it looks at.
        find: yields what is wrong.
    """

    reads: tuple[str, ...]
    find: _Find

    def concerns(self, path: KeyPath) -> bool:
        """Whether it looks at what stands at a path, at something in there, or at something around it."""
        return any(all(a == b for a, b in zip(read.split("."), path, strict=False)) for read in self.reads)


CHECKS: Final[list[Check]] = []
MOST_THREADS: Final = 1024


def check(spec: Spec, wrong: Iterable[KeyPath] = ()) -> list[Problem]:
    """Return every impossible combination.

    Args:
        spec: an experiment.
        wrong: paths where something else stands than the file says, because that cannot be; what looks there is
            not checked.
    """
    wrong = tuple(wrong)
    sound = [each for each in CHECKS if not any(each.concerns(path) for path in wrong)]
    return [problem for each in sound for problem in each.find(spec)]


def _reads(*paths: str) -> Callable[[_Find], _Find]:
    def decorator(find: _Find) -> _Find:
        CHECKS.append(Check(paths, find))
        return find

    return decorator


@_reads("training.threads")
def _threads_can_be_made(spec: Spec) -> Iterator[Problem]:
    threads = spec.training.threads
    if isinstance(threads, int) and threads > MOST_THREADS:
        yield spec.problem(
            "training.threads",
            f"{threads:,} threads are more than any machine has use for; the limit is {MOST_THREADS:,}",
            "write auto, or the number of cores",
        )


@_reads("data.validation", "training.monitor")
def _monitoring_needs_validation(spec: Spec) -> Iterator[Problem]:
    monitor = spec.training.monitor
    if spec.data.validation == "none" and isinstance(monitor, MonitorSpec) and monitor.metric.startswith("valid/"):
        yield spec.problem(
            "training.monitor",
            f"{monitor.metric} is monitored, but data.validation is none",
            "monitor train/loss, or set data.validation: {fraction: 0.1}",
        )


@_reads("pretraining", "model.reuse")
def _what_is_kept_is_not_pretrained(spec: Spec) -> Iterator[Problem]:
    if spec.pretraining and spec.model.reuse is not None and spec.model.reuse.freeze not in ("none", 0):
        yield spec.problem(
            "model.reuse.freeze",
            "these layers are to stay as they are, and pretraining changes all hidden layers",
            "leave freeze out, or pretraining; training.stages can freeze what was pretrained",
        )


@_reads("data.validation", "callbacks")
def _restoring_needs_validation(spec: Spec) -> Iterator[Problem]:
    if spec.data.validation != "none":
        return
    for i, callback in enumerate(spec.callbacks if spec.callbacks != AUTO else ()):
        options: Any = callback.options if isinstance(callback, Choice) else None
        if getattr(options, "restore_best", False):
            yield spec.problem(
                f"callbacks.{i}",
                "restore_best needs validation, but data.validation is none",
                "set restore_best: false, or data.validation: {fraction: 0.1}",
            )


@_reads("data.batch_size", "model.normalization")
def _batch_norm_needs_a_batch(spec: Spec) -> Iterator[Problem]:
    normalization = spec.model.normalization
    if isinstance(normalization, Choice) and spec.data.batch_size == 1 and normalization.build().needs_batch:
        yield spec.problem(
            "data.batch_size",
            f"{normalization.name} normalization takes statistics over a batch, so one sample is not enough",
            "set data.batch_size to 2 or more, or model.normalization: none",
        )


@_reads("model.architecture")
def _options_of_the_architecture_go_together(spec: Spec) -> Iterator[Problem]:
    architecture = spec.model.architecture
    find = architecture.entry.traits["problems"]
    for option, message, hint in find(architecture.options) if find else ():
        yield spec.problem(f"model.architecture.{option}", message, hint)


_CHOSEN_PARTS: Final = ("activation", "initializer", "normalization", "dropout")


@_reads("model.architecture", *(f"model.{key}" for key in _CHOSEN_PARTS))
def _networks_with_parts_of_their_own_are_given_none(spec: Spec) -> Iterator[Problem]:
    architecture = spec.model.architecture
    written = [key for key in _CHOSEN_PARTS if getattr(spec.model, key) not in (AUTO, ())]
    if architecture.entry.traits["own_parts"]:
        for key in written:
            message = f"{architecture.name} has its own {key}s, so a file cannot choose one"
            yield spec.problem(f"model.{key}", message, "leave it out")


@_reads("loss", "metrics")
def _metrics_fit_the_loss(spec: Spec) -> Iterator[Problem]:
    if not isinstance(spec.loss, Choice) or spec.metrics == AUTO:
        return
    wanted = "values" if spec.loss.entry.traits["targets"] == "values" else "classes"
    for i, metric in enumerate(spec.metrics):
        if isinstance(metric, Choice) and metric.entry.traits["targets"] != wanted:
            yield spec.problem(
                f"metrics.{i}", f"metric '{metric.name}' does not fit loss '{spec.loss.name}'", "use metrics: auto"
            )


@_reads("optimizer")
def _nesterov_needs_momentum(spec: Spec) -> Iterator[Problem]:
    options = vars(spec.optimizer.options)
    if options.get("nesterov") and (options.get("momentum") == 0 or options.get("dampening")):
        hint = "set momentum: 0.9 beside it" if options.get("momentum") == 0 else "leave dampening out"
        yield spec.problem("optimizer.nesterov", "nesterov needs momentum and no dampening", hint)


@_reads("schedule", "optimizer")
def _cycled_momentum_needs_one(spec: Spec) -> Iterator[Problem]:
    options: Any = spec.schedule.options
    has_momentum = {"momentum", "betas"} & set(type(spec.optimizer.options).model_fields)
    if getattr(options, "cycle_momentum", False) and not has_momentum:
        yield spec.problem(
            "schedule",
            f"{spec.schedule.name} cycles the momentum, but optimizer '{spec.optimizer.name}' has none",
            "set cycle_momentum: false",
        )


@_reads("training.average", "training.epochs", "callbacks")
def _averaging_begins_before_training_may_stop(spec: Spec) -> Iterator[Problem]:
    average = spec.training.average
    start = 0.0 if average is None else getattr(average.options, "start", 0.0) * spec.training.epochs
    for i, callback in enumerate(spec.callbacks if spec.callbacks != AUTO else ()):
        options: Any = callback.options if isinstance(callback, Choice) else None
        patience = getattr(options, "patience", None)
        # The epoch after the warm-up is always the best so far.
        earliest = 0 if patience is None else getattr(options, "warmup", 0) + 1 + patience
        if 0 < earliest <= start and isinstance(callback, Choice):
            yield spec.problem(
                f"callbacks.{i}",
                f"{callback.name} may end training with epoch {earliest}, but training.average begins after epoch "
                f"{math.floor(start)}",
                f"leave it out, or set its warmup to {math.floor(start)}",
            )


CHECKS.extend(Check(paths, find) for paths, find in SEARCHES)
