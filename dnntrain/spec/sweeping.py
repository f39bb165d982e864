"""The section `sweep` of an experiment file: which configurations are tried, how they are searched, and how often.

An axis of the space is one key of the file with the values that it shall take, or a set of named variants, each with
several keys. A *configuration* is the experiment with one value of each axis; a *run* is a configuration with a
seed, and with a fold where there are folds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from dnntrain.parts.pruners import pruners
from dnntrain.registry import ByShape, Choice, NonNegativeInt, Options, Pick, Positive, PositiveInt, WordOr
from dnntrain.spec.values import Duration, Monitor, MonitorSpec

_Number = TypeVar("_Number", int, float)
Search = Literal["grid", "random", "qmc", "tpe", "gp"]

KINDS: Final = ("choice", "uniform", "log", "int", "variants")
"""The forms that an axis may have, by their keys."""


def identity(value: Any) -> Any:
    """Return what two plain values share exactly if they say the same: 1 and 1.0, `selu` and `{name: selu}`."""
    if isinstance(value, Mapping):
        if set(value) == {"name"}:
            return identity(value["name"])
        return frozenset((key, identity(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(identity, value))
    return (isinstance(value, bool), str(value) if isinstance(value, str) else value)


def holds(wanted: Any, value: Any) -> bool:
    """Whether a value is what a condition asks for.

    A list asks for any of its entries. A part is asked for by its name, or by a mapping with some of its options.
    `none`, null and an empty list are the same.

    Args:
        wanted: what the condition says of a key.
        value: what the key has, as a plain value.
    """
    if isinstance(wanted, list | tuple) and wanted:
        return any(holds(each, value) for each in wanted) or _same(wanted, value)
    if isinstance(value, list | tuple) and len(value) == 1:
        return holds(wanted, value[0])
    if wanted in (None, "none") or value in (None, "none"):
        return wanted in (None, "none", []) and value in (None, "none", [], ())
    if isinstance(wanted, Mapping):
        there = {"name": value} if isinstance(value, str) else value
        return isinstance(there, Mapping) and all(k in there and holds(each, there[k]) for k, each in wanted.items())
    if isinstance(value, Mapping) and "name" in value:
        return _same(wanted, value["name"])
    return _same(wanted, value)


def _same(one: Any, other: Any) -> bool:
    return bool(identity(one) == identity(other))


def _different(values: tuple[Any, ...]) -> tuple[Any, ...]:
    seen = [identity(value) for value in values]
    for number, each in enumerate(seen):
        if each in seen[:number]:
            raise PydanticCustomError(
                "repeated",
                "entry {number} says the same as entry {first}",
                {"number": number, "first": seen.index(each), "hint": "leave one of them out"},
            )
    return values


def _upwards(ends: tuple[_Number, _Number]) -> tuple[_Number, _Number]:
    low, high = ends
    if not low < high:
        raise PydanticCustomError(
            "range",
            "a range goes from its lower end to a higher one, and {low} is not below {high}",
            {"low": low, "high": high, "hint": "write [lower, higher]"},
        )
    return ends


def _apart(variants: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    seen: dict[Any, str] = {}
    for name, keys in variants.items():
        first = seen.setdefault(identity(keys), name)
        if first != name:
            raise PydanticCustomError(
                "repeated",
                "the variants {first} and {name} are the same",
                {"first": first, "name": name, "hint": "leave one of them out"},
            )
    return variants


_Values = Annotated[tuple[Any, ...], Field(strict=False, min_length=1), AfterValidator(_different)]
_Range = Annotated[tuple[float, float], Field(strict=False), AfterValidator(_upwards)]
_PositiveRange = Annotated[tuple[Positive, Positive], Field(strict=False), AfterValidator(_upwards)]
_IntRange = Annotated[tuple[int, int], Field(strict=False), AfterValidator(_upwards)]
_Condition = Annotated[dict[str, Any], Field(min_length=1)]


class AxisSpec(Options):
    """What one key takes on: a list of values, a range, or named variants; and when there is such a key at all."""

    alternatives = (("choice",), ("uniform",), ("log",), ("int", "step"), ("variants",))

    choice: _Values | None = Field(
        None, description="these values; a list by itself says the same", examples=[["relu", "selu"]]
    )
    uniform: _Range | None = Field(None, description="any number of this range, each alike", examples=[[0.0, 0.5]])
    log: _PositiveRange | None = Field(
        None, description="any number of this range, each order of magnitude alike", examples=[[1e-5, 1e-1]]
    )
    int_: _IntRange | None = Field(
        None, alias="int", description="any whole number of this range, both ends included", examples=[[1, 8]]
    )
    step: PositiveInt | None = Field(None, description="of int: only every so many, from the lower end on")
    variants: Annotated[dict[str, dict[str, Any]], Field(min_length=1), AfterValidator(_apart)] | None = Field(
        None,
        description="names, each with several keys that are set together; the axis has then a name of its own",
        examples=[{"selu": {"model.activation": "selu", "model.normalization": "none"}, "as_it_is": {}}],
    )
    when: _Condition | None = Field(
        None,
        description="the axis is there only where all of these keys have these values, one or a list of them each; "
        "elsewhere its key is left as it is",
        examples=[{"model.dropout": ["standard", "alpha"]}],
    )
    unless: _Condition | None = Field(
        None,
        description="the axis is not there where all of these keys have these values",
        examples=[{"model.dropout": "none"}],
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> AxisSpec:
        given = [name for name in KINDS if self.given(name) is not None]
        if len(given) != 1:
            raise PydanticCustomError(
                "axis",
                "an axis has exactly one of {kinds}",
                {"kinds": f"{', '.join(KINDS[:-1])} and {KINDS[-1]}", "hint": "such as {log: [1.0e-5, 0.1]}"},
            )
        if self.step is not None and self.int_ is None:
            raise PydanticCustomError("step", "step belongs to int", {"hint": "such as {int: [10, 100], step: 10}"})
        return self

    def given(self, kind: str) -> Any:
        """Return what stands under one of `KINDS`."""
        return getattr(self, "int_" if kind == "int" else kind)

    @property
    def kind(self) -> str:
        """Which of `KINDS` this is."""
        return next(name for name in KINDS if self.given(name) is not None)

    @property
    def listed(self) -> bool:
        """Whether the values are written one by one."""
        return self.kind in ("choice", "variants")

    @property
    def continuous(self) -> bool:
        """Whether there is no end of values."""
        return self.kind in ("uniform", "log")


Axis = Annotated[
    AxisSpec,
    ByShape(
        sequence=Annotated[_Values, AfterValidator(lambda values: AxisSpec(choice=values))],
        mapping=AxisSpec,
    ),
]


class SweepSpec(Options):
    """What `dnntrain sweep` tries: a space of configurations, how it is searched, and how often each is run."""

    space: dict[str, Axis] = Field(
        default_factory=dict,
        description="the axes: a dotted key of this file, or a name for variants, and what it takes on",
        examples=[{"optimizer.lr": {"log": [1e-4, 1e-1]}, "model.activation": ["relu", "selu"]}],
    )
    exclude: Annotated[tuple[_Condition, ...], Field(strict=False)] = Field(
        (),
        description="combinations that are passed over: keys with one value or a list of them each",
        examples=[[{"model.activation": "selu", "model.normalization": ["batch", "layer"]}]],
    )
    search: Literal["auto", "grid", "random", "qmc", "tpe", "gp"] = Field(
        "auto",
        description="every point in order, at random, evenly spread (a Sobol sequence), by a tree of Parzen estimators "
        "or by a Gaussian process; auto: grid where every axis is a list or variants and no trials are asked for, else "
        "tpe",
    )
    trials: PositiveInt | None = Field(None, description="configurations that are tried; a grid tries each of its own")
    seeds: PositiveInt = Field(
        1, description="runs of each configuration, with seed, seed + 1, ...; it is judged by their mean"
    )
    folds: Annotated[int, Field(ge=2)] | None = Field(
        None, description="cross-validation: each seed is run once for each of so many folds"
    )
    metric: Annotated[MonitorSpec | Literal["auto"], WordOr(("auto",), Monitor)] = Field(
        "auto", description="what the search is after; auto: training.monitor", examples=["valid/accuracy"]
    )
    prune: Annotated[Choice, Pick(pruners)] | None = Field(
        None, description="which configurations are given up on the way, judged at rungs; none to train them all"
    )
    timeout: Duration | None = Field(
        None,
        description="no configuration is begun once the sweep has been worked on for this long, breaks not counted: "
        "30m, 2h, 1d",
    )
    patience: PositiveInt | None = Field(
        None, description="end after so many finished configurations without a better one"
    )
    budget: Duration | None = Field(
        None,
        description="how long the sweep may take by the clock, from its beginning to its end: what it takes is "
        "measured before it begins, and trials, or else epochs, are cut until it fits",
    )
    seed: NonNegativeInt = Field(0, description="what the search depends on; never on the experiment's seed")
    retries: NonNegativeInt = Field(2, description="how often a run that crashed is tried again")

    @property
    def method(self) -> Search:
        """The search, `auto` decided."""
        return method_of(self)


def method_of(sweep: SweepSpec) -> Search:
    """Return how a sweep searches, `auto` decided."""
    if sweep.search != "auto":
        return sweep.search
    return "grid" if sweep.trials is None and all(axis.listed for axis in sweep.space.values()) else "tpe"
