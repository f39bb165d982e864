"""What all of building needs: parts that were chosen, and the place in the file of those that do not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from dnntrain.errors import SpecError, UsageError
from dnntrain.registry import Choice
from dnntrain.spec import Spec
from dnntrain.spec.values import MonitorSpec
from dnntrain.training.hooks import Monitor


@contextmanager
def located(spec: Spec, path: str) -> Iterator[None]:
    """Show where the file asks for what a part finds impossible once it knows the network."""
    try:
        yield
    except UsageError as error:
        raise SpecError([spec.problem(path, str(error))]) from error


def locating(spec: Spec, path: str, make: Callable[..., Any]) -> Callable[..., Any]:
    """Return what makes a part, and shows where the file asks for it if that is impossible; see `located`."""

    def made(*args: Any, **kwargs: Any) -> Any:
        with located(spec, path):
            return make(*args, **kwargs)

    return made


def chosen(value: Any) -> Choice:
    """Narrow a field that may be `auto` to the part that `resolve` has put there."""
    if not isinstance(value, Choice):
        raise TypeError("the experiment is not resolved: call build.resolve first")
    return value


def choices(value: Any) -> tuple[Choice, ...]:
    """Narrow a field of several parts likewise."""
    return tuple(chosen(item) for item in value)


def monitor_of(spec: Spec) -> Monitor:
    """Return what decides the best epoch of a resolved experiment."""
    monitor = cast(MonitorSpec, spec.training.monitor)
    return Monitor(monitor.metric, "max" if monitor.mode == "max" else "min")
