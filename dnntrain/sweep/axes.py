"""The axes of a sweep: a list of values, named variants of several keys, or a range of numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dnntrain.errors import Mark, UsageError, shorten
from dnntrain.spec.forms import flow
from dnntrain.spec.merge import Node, planted
from dnntrain.spec.schema import mark_at
from dnntrain.spec.sweeping import AxisSpec
from dnntrain.spec.sweepkeys import spelled_out
from dnntrain.yamltext import KeyPath, Marks

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

Label = str | int | float


@dataclass(frozen=True)
class Value:
    """One value of an axis.

    Attributes:
        label: what it is called: its YAML on one line, the name of a variant, or a number of a range.
        settings: dotted keys and their plain values.
        nodes: the same, with the places where they were written.
    """

    label: Label
    settings: Mapping[str, Any]
    nodes: Mapping[str, Node] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Axis:
    """One axis of a space.

    Attributes:
        name: the dotted key, or what a set of variants is called.
        spec: what the file says of it.
        listed: its values, where they are written one by one; else there are none.
        mark: where it was written.
    """

    name: str
    spec: AxisSpec
    listed: tuple[Value, ...]
    mark: Mark

    @property
    def ends(self) -> tuple[float, float]:
        """The ends of a range; the upper end of whole numbers is one that their step reaches."""
        low, high = self.spec.given(self.spec.kind)
        return (low, high - (high - low) % self._step) if self.spec.kind == "int" else (low, high)

    @property
    def _step(self) -> int:
        return self.spec.step or 1

    @property
    def count(self) -> int | None:
        """How many values there are; None if there is no end of them."""
        if self.spec.continuous:
            return None
        low, high = (0, len(self.listed) - 1) if self.listed else self.ends
        return int(high - low) // (1 if self.listed else self._step) + 1

    def value(self, index: int) -> Value:
        """Return one of the values that can be counted, in the order of the file."""
        return self.listed[index] if self.listed else self.number(self.ends[0] + index * self._step)

    def extremes(self) -> list[Value]:
        """Return all listed values, or both ends of a range."""
        return list(self.listed) or [self.number(end) for end in dict.fromkeys(self.ends)]

    def at(self, unit: float) -> Value:
        """Return the value at a place from 0 to 1, of which each value that can be counted has an equal share."""
        if self.count is not None:
            return self.value(min(int(unit * self.count), self.count - 1))
        low, high = self.ends
        if self.spec.kind == "log":
            number = math.exp(math.log(low) + unit * (math.log(high) - math.log(low)))
        else:
            number = low + unit * (high - low)
        # Rounding may lead past an end.
        return self.number(min(max(number, low), high))

    def number(self, number: float) -> Value:
        """Return a value of a range."""
        return Value(number, {self.name: number}, {self.name: Node(number, self.mark, self.mark)})

    def labelled(self, label: Label) -> Value:
        """Return the value of a label.

        Raises:
            UsageError: there is none.
        """
        if self.listed:
            found = next((value for value in self.listed if value.label == label), None)
        else:
            low, high = self.ends
            found = self.number(label) if not isinstance(label, str) and low <= label <= high else None
        if found is None:
            raise UsageError(f"'{shorten(str(label))}' is not among the values of {shorten(self.name)}")
        return found

    def suggested(self, trial: optuna.Trial) -> Value:
        """Return the value that Optuna's sampler wants to try."""
        if self.listed:
            return self.labelled(str(trial.suggest_categorical(self.name, self._labels)))
        low, high = self.ends
        if self.spec.kind == "int":
            return self.number(trial.suggest_int(self.name, int(low), int(high), step=self._step))
        return self.number(trial.suggest_float(self.name, low, high, log=self.spec.kind == "log"))

    def distribution(self) -> BaseDistribution:
        """Return what Optuna's storages know the axis by."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.listed:
            return CategoricalDistribution(self._labels)
        low, high = self.ends
        if self.spec.kind == "int":
            return IntDistribution(int(low), int(high), step=self._step)
        return FloatDistribution(low, high, log=self.spec.kind == "log")

    @property
    def _labels(self) -> list[str]:
        return [str(value.label) for value in self.listed]


def read_axis(name: str, spec: AxisSpec, marks: Mapping[KeyPath, Marks]) -> Axis:
    """Return an axis of a file.

    Args:
        name: what the file calls it.
        spec: what the file says of it.
        marks: where the parts of the file were written.
    """
    path: KeyPath = ("sweep", "space", name)
    mark = mark_at(dict(marks), path) or Mark("<sweep>", 1, 1, len(name), name)
    listed: tuple[Value, ...] = ()
    if spec.variants is not None:
        below = (*path, "variants")
        listed = tuple(_value(each, "", keys, (*below, each), marks, mark) for each, keys in spec.variants.items())
    elif spec.choice is not None:
        # A list may stand for the mapping that it is the `choice` of.
        below = (*path, "choice") if (*path, "choice") in marks else path
        listed = tuple(_value(flow(each), name, each, (*below, i), marks, mark) for i, each in enumerate(spec.choice))
    return Axis(name, spec, listed, mark)


def _value(label: str, key: str, content: Any, path: KeyPath, marks: Mapping[KeyPath, Marks], otherwise: Mark) -> Value:
    settings: dict[str, Any] = {}
    nodes: dict[str, Node] = {}
    for dotted, value, below in spelled_out(key, content):
        settings[dotted] = value
        nodes[dotted] = planted(value, marks, (*path, *below), otherwise)
    return Value(str(label), settings, nodes)
