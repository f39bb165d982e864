"""What does not fit the data, once it is known: found before anything is built."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, cast

import numpy as np

from dnntrain.errors import DataError, Problem
from dnntrain.parts.architectures import Moments
from dnntrain.parts.datasets import Arrays, Parts
from dnntrain.registry import Choice
from dnntrain.spec.schema import Spec

_Find = Callable[[Spec, Arrays, Parts], Iterator[Problem]]


def misfits(spec: Spec, arrays: Arrays, parts: Parts) -> list[Problem]:
    """Return everything in a resolved experiment that its data cannot serve.

    Args:
        spec: a resolved experiment.
        arrays: its data set.
        parts: how that is divided.
    """
    return [problem for find in _SEARCHES for problem in find(spec, arrays, parts)]


def vocabulary(spec: Spec) -> int | None:
    """Return how many tokens the network knows, or None where its inputs are no tokens."""
    count = spec.model.architecture.entry.traits["vocabulary"]
    return count(spec.model.architecture.options) if count else None


def moments(spec: Spec) -> Moments | None:
    """Return what the inputs of published weights are standardized by; None without them, or where a run's follow."""
    if spec.model.reuse is not None:
        return None
    find = spec.model.architecture.entry.traits["pretrained"]
    return cast(Moments | None, find(spec.model.architecture.options)) if find else None


def _name(spec: Spec) -> str:
    return f"dataset '{spec.data.dataset.name}'"


def _loss(spec: Spec, arrays: Arrays, parts: Parts) -> Iterator[Problem]:
    loss: Any = spec.loss
    targets, classes, name = loss.entry.traits["targets"], parts.classes, _name(spec)
    if classes is None:
        if targets != "values":
            yield spec.problem("loss", f"{loss.name} needs classes, but {name} has numbers", "use loss: mse")
        return
    if targets == "values":
        yield spec.problem("loss", f"{loss.name} needs numbers, but {name} has classes", "use loss: cross_entropy")
    if len(classes) < 2:
        yield spec.problem("data.classes", "there is only one class, so there is nothing to learn", "keep two or more")
    elif targets == "binary" and len(classes) != 2:
        yield spec.problem(
            "loss",
            f"{loss.name} needs two classes, but there are {len(classes)}",
            "use loss: cross_entropy, or group the classes with data.classes",
        )
    weights = getattr(loss.options, "class_weights", None)
    if isinstance(weights, tuple) and len(weights) != len(classes):
        message = f"{len(weights)} weights for {len(classes)} classes"
        yield spec.problem("loss.class_weights", message, "give one for each")


def _metrics(spec: Spec, arrays: Arrays, parts: Parts) -> Iterator[Problem]:
    wanted = "values" if parts.classes is None else "classes"
    metrics: Any = spec.metrics
    for i, metric in enumerate(metrics):
        if metric.entry.traits["targets"] != wanted:
            message = f"metric '{metric.name}' does not fit {_name(spec)}"
            yield spec.problem(f"metrics.{i}", message, "use metrics: auto")
        elif parts.classes is not None:
            try:
                metric.build(classes=len(parts.classes))
            except DataError as error:
                yield spec.problem(f"metrics.{i}", str(error))


def _sampling(spec: Spec, arrays: Arrays, parts: Parts) -> Iterator[Problem]:
    if spec.data.sampling == "balanced" and parts.classes is None:
        yield spec.problem("data.sampling", f"balanced sampling needs classes, but {_name(spec)} has numbers")


def _one_sample(spec: Spec, arrays: Arrays, parts: Parts) -> Iterator[Problem]:
    normalization: Any = spec.model.normalization
    chosen = isinstance(normalization, Choice)
    if len(parts.train.index) == 1 and chosen and normalization.build().needs_batch:
        yield spec.problem(
            "model.normalization",
            f"{normalization.name} normalization takes statistics over a batch, and there is one training sample",
            "use more samples, or model.normalization: none",
        )


def _pretrained(spec: Spec, arrays: Arrays, parts: Parts) -> Iterator[Problem]:
    if spec.data.standardize == "pretrained" and spec.model.reuse is None and moments(spec) is None:
        message = "there are no pretrained layers to standardize for"
        yield spec.problem("data.standardize", message, "use channel, or pretrained weights")


def _pictures(spec: Spec, arrays: Arrays, parts: Parts) -> Iterator[Problem]:
    if arrays.layout == "pictures":
        return
    if spec.data.resize is not None:
        message = f"there are no pictures to resize: {_name(spec)} has {arrays.layout}"
        yield spec.problem("data.resize", message, "leave it out")
    if spec.data.standardize == "channel":
        message = f"channel needs pictures, but {_name(spec)} has {arrays.layout}"
        yield spec.problem("data.standardize", message, "use feature")
    for i, change in enumerate(spec.data.augment):
        if change.entry.traits["pictures"]:
            yield spec.problem(
                f"data.augment.{i}", f"{change.name} changes pictures, but {_name(spec)} has {arrays.layout}"
            )


def _tokens(spec: Spec, arrays: Arrays, parts: Parts) -> Iterator[Problem]:
    known = vocabulary(spec)
    if known is None:
        return
    if spec.data.standardize != "none":
        yield spec.problem("data.standardize", "tokens cannot be standardized", "set standardize: none")
    for i, change in enumerate(spec.data.augment):
        # What needs pictures is refused for that already.
        if change.entry.traits["mixes"] and not change.entry.traits["pictures"]:
            message = f"{change.name} blends samples, and a blend of two tokens is another token, unrelated to both"
            yield spec.problem(f"data.augment.{i}", message, "leave it out where model.architecture.embedding is set")
    inputs = [x for x in (arrays.x_train, arrays.x_test) if x is not None and x.size]
    lowest, highest = min(float(x.min()) for x in inputs), max(float(x.max()) for x in inputs)
    if lowest < 0 or highest >= known or any((x != np.floor(x)).any() for x in inputs):
        yield spec.problem(
            "model.architecture.embedding",
            f"tokens go from {lowest:g} to {highest:g}, but the embedding knows 0 to {known - 1}",
            "tokens are whole numbers below the vocabulary",
        )


_SEARCHES: Final[tuple[_Find, ...]] = (_loss, _metrics, _sampling, _one_sample, _pretrained, _pictures, _tokens)
