"""Values with a form of their own, which several sections of an experiment file have: durations, names, metrics."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from dnntrain.registry import ByShape, NonNegativeInt, Options, PositiveInt

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(duration: str) -> float:
    """Return the seconds in a duration such as `90s`, `30m`, `2h` or `1.5d`.

    Raises:
        PydanticCustomError: the text is not a duration.
    """
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhd])", duration)
    if match is None or float(match[1]) == 0:
        raise _not_a_duration()
    return float(match[1]) * _UNITS[match[2]]


def _not_a_duration() -> PydanticCustomError:
    return PydanticCustomError("duration", "must be a duration such as '90s', '30m', '2h' or '1.5d'")


# These run before pydantic's own check of the type, so that a wrong type is told the same as a wrong text.


def _duration(value: Any) -> Any:
    if not isinstance(value, str):
        raise _not_a_duration()
    seconds(value)
    return value


def _cadence(value: Any) -> Any:
    if isinstance(value, str) and value != "epoch":
        try:
            seconds(value)
        except PydanticCustomError:
            pass
        else:
            return value
    elif value == "epoch" or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise PydanticCustomError("cadence", "must be epoch, a number of optimizer steps, or a duration such as '10m'")


def _name(value: Any) -> Any:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", value):
        raise PydanticCustomError("run_name", "must be letters, digits, '-' and '_', at most 100 of them")
    return value


def _device(value: Any) -> Any:
    if not isinstance(value, str) or not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", value):
        hint = "called cuda here" if str(value).lower() == "gpu" else ""
        raise PydanticCustomError("device", "must be auto, cpu, cuda, cuda:N or mps", {"hint": hint})
    return value


def _metric(value: Any) -> Any:
    if not isinstance(value, str) or not re.fullmatch(r"(train|valid)/[a-z0-9_]+", value):
        near = f"write valid/{value}" if isinstance(value, str) and re.fullmatch(r"[a-z0-9_]+", value) else ""
        raise PydanticCustomError(
            "metric_name", "must be a metric such as valid/loss or train/accuracy", {"hint": near}
        )
    return value


def _class_name(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int) or (isinstance(value, int) and value < 0):
        raise PydanticCustomError("class_name", "must be the name of a class, or its number counted from 0")
    return value


Duration = Annotated[str, BeforeValidator(_duration)]
Cadence = Annotated[str | PositiveInt, BeforeValidator(_cadence)]
RunName = Annotated[str, BeforeValidator(_name)]
DeviceName = Annotated[str, BeforeValidator(_device)]
ClassName = Annotated[str | NonNegativeInt, BeforeValidator(_class_name)]
MetricName = Annotated[str, BeforeValidator(_metric)]


class MonitorSpec(Options):
    """The metric that decides which epoch is best."""

    shorthand = "metric"

    metric: MetricName = Field(description="such as valid/loss or valid/accuracy", examples=["valid/loss"])
    mode: Literal["auto", "min", "max"] = Field("auto", description="auto: what is better for that metric")


Monitor = Annotated[
    MonitorSpec,
    ByShape(
        scalar=Annotated[MetricName, AfterValidator(lambda metric: MonitorSpec(metric=metric))], mapping=MonitorSpec
    ),
]
