"""Sections on layers that know something already: which are taken over, which stay as they are, and for how long."""

from __future__ import annotations

import os
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from dnntrain.parts.layers import Selection
from dnntrain.parts.schedules import schedules
from dnntrain.registry import Choice, NonNegativeInt, Options, Pick, Positive, PositiveInt, read_path


def _source(value: Any) -> str:
    """Resolve what is a path; leave the name of a run alone, which has neither dots nor slashes."""
    path = str(read_path(value))
    return path if os.sep in str(value) or "." in str(value) else str(value)


def _selection(value: Any) -> Selection:
    if isinstance(value, list | tuple) and value and all(isinstance(each, str) for each in value):
        return tuple(str(each) for each in value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise PydanticCustomError("layers", "must be a number of layers, or names of layers or patterns")


_Forms = {
    "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}, {"type": "array", "items": {"type": "string"}}]
}
Layers = Annotated[NonNegativeInt | str | tuple[str, ...], BeforeValidator(_selection), WithJsonSchema(_Forms)]
Source = Annotated[str, BeforeValidator(_source), WithJsonSchema({"type": "string"})]


class ReuseSpec(Options):
    """Layers that come from another run, or from a file of weights."""

    from_: Source = Field(
        alias="from",
        description="a run directory, the name of a run (its latest that came to an end), or a file of weights",
        examples=["transfer_fashion_a"],
    )
    keep: Layers = Field(
        "all_but_output",
        description="which layers come from there: all, all_but_output, the lowest N, or names and patterns",
        examples=["all_but_output", 3, ["dense1", "dense2"]],
    )
    freeze: Layers = Field(
        "none",
        description="which of these stay as they are: none, all, the lowest N, or names and patterns; the first stage "
        "begins with these",
        examples=["all"],
    )
    names: dict[str, str] | None = Field(
        None,
        description="for a file that calls its weights otherwise: our layer or weight -> the name there",
        examples=[{"dense1": "fc1"}],
    )


class StageSpec(Options):
    """A part of training with layers frozen, and with rates of its own."""

    alternatives = (("freeze",), ("unfreeze",))

    epochs: PositiveInt = Field(description="how long it lasts")
    freeze: Layers | None = Field(
        None,
        description="layers that are frozen from here on: reused, all_but_output, the lowest N, names and patterns",
        examples=["reused"],
    )
    unfreeze: Layers | None = Field(
        None,
        description="layers that are trained again from here on: all, the upper N of the frozen, names and patterns",
        examples=["all"],
    )
    lr: Positive | None = Field(None, description="its learning rate; the optimizer's unless given")
    layer_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="the rate of each trained layer is this times that of the layer above it"
    )
    schedule: Annotated[Choice, Pick(schedules)] | None = Field(
        None, description="its schedule; the experiment's unless given. Either begins anew with the stage"
    )

    @model_validator(mode="after")
    def _either(self) -> StageSpec:
        if self.freeze is not None and self.unfreeze is not None:
            raise PydanticCustomError(
                "exclusive", "freeze and unfreeze exclude each other", {"hint": "write what changes with this stage"}
            )
        return self
