"""Schedules: the learning rate, and the momentum with it, as functions of the step."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from dnntrain.ejecting.script import Code, Script, fill
from dnntrain.parts.schedules import Horizon
from dnntrain.registry import Choice


@dataclass(frozen=True)
class Rates:
    """What is known of the rates.

    Attributes:
        changes: whether there is a function `learning_rate` of the step; else there is one rate, LR.
        momentum: whether there is a function `momentum` as well.
        reacts: the options of a schedule that reacts to the monitored metric, or None.
        warmup: steps of the warm-up.
    """

    changes: bool
    momentum: bool
    reacts: Any
    warmup: int


@dataclass(frozen=True)
class Span:
    """A training, or a stage of it, as a schedule sees it.

    Attributes:
        epochs: how long it is.
        steps_per_epoch: optimizer steps in an epoch.
        lr: the optimizer's learning rate.
        schedule: of that rate.
    """

    epochs: int
    steps_per_epoch: int
    lr: float
    schedule: Choice


_NAMES: Final = re.compile(r"\b(?:LR|STEPS|WARMUP|PEAK)\b|\b(?:learning_rate|factor|momentum)(?=\()")
"""What each stage has of its own in what is written here."""


_INTERPOLATE: Final = '''
def interpolate(x: float, knots: list[float], values: list[float]) -> float:
    """Return the piecewise linear function through (knots, values) at x."""
    i = bisect_right(knots, x)
    if i == len(knots):
        return values[-1]
    share = (x - knots[i - 1]) / (knots[i] - knots[i - 1])
    return values[i - 1] + share * (values[i] - values[i - 1])
'''

_LEARNING_RATE: Final = '''
def learning_rate($parameters) -> float:
    """Return the learning rate of a step, counted from 0.

    It goes $about.
    """
$body
'''

_CONSTANT: Final = '''
def learning_rate($parameters) -> float:
    """Return the learning rate of a step, which is always the same."""
    return $initial
'''

_WARM: Final = '''
def learning_rate($parameters) -> float:
    """Return the learning rate of a step, counted from 0: a rise, then $then."""
    if step < WARMUP:
        return $initial * $rise
    return $rate
'''

_FACTOR: Final = '''
def factor(step: int) -> float:
    """Return the factor on the learning rate, so many steps after the rise.

    It goes $about.
    """
$body
'''

_ONE_CYCLE: Final = """
knots = [0.0, 0.45 * STEPS, 0.9 * STEPS, float(STEPS)]
return interpolate(step, knots, $factors)
"""

_MOMENTUM: Final = '''
def momentum(step: int) -> float:
    """Return the momentum of a step, which falls where the learning rate rises."""
    knots = [0.0, 0.45 * STEPS, 0.9 * STEPS, float(STEPS)]
    return interpolate($step, knots, [$high, $low, $high, $high])
'''

_RESTARTS: Final = """
start, length = 0.0, $length
while step >= start + length:
    start, length = start + length, length * $growth
share = (step - start) / length
"""


def _one_cycle(script: Script, options: Any, horizon: Horizon) -> tuple[str, str]:
    script.define(_INTERPOLATE)
    peak = (options.max_lr or horizon.lr) / horizon.lr
    factors = repr([peak / 10, peak, peak / 10, peak / 10_000])
    if peak != 1.0:
        script.constants(PEAK=peak)
        factors = "[PEAK / 10, PEAK, PEAK / 10, PEAK / 10_000]"
    body = fill(_ONE_CYCLE, factors=factors)
    return "up for 45 % of the steps, down for as many, and then to almost nothing", body


def _polynomial(power: float, options: Any, horizon: Horizon) -> tuple[str, str]:
    end: Any = "STEPS" if options.length is None else repr(horizon.count(options.length, options.unit))
    left = f"max(0.0, 1.0 - step / {end})"
    # A power of 1 is taken in the run too, and changes nothing.
    raised = left if power == 1.0 else f"{left} ** {power!r}"
    if options.end_factor == 0.0:
        return _of_power(power), f"return {raised}"
    return _of_power(power), f"return {options.end_factor!r} + {1.0 - options.end_factor!r} * {raised}"


def _of_power(power: float) -> str:
    return "straight down" if power == 1.0 else "down, ever more gently"


def _cosine(script: Script, options: Any, horizon: Horizon) -> tuple[str, str]:
    if options.cycle is None:
        share, about = "share = min(1.0, step / STEPS)", "half a cosine wave down"
    else:
        length, about = horizon.count(options.cycle, options.unit), "half a cosine wave down, again and again"
        grows = fill(_RESTARTS, length=repr(length), growth=repr(options.t_mul))
        share = f"share = step % {length!r} / {length!r}" if options.t_mul == 1.0 else grows
    wave = "0.5 * (1.0 + math.cos(math.pi * share))"
    if options.min_factor:
        wave = f"{options.min_factor!r} + {1.0 - options.min_factor!r} * {wave}"
    return about, f"{share}\nreturn {wave}"


def _piecewise(script: Script, options: Any, horizon: Horizon) -> tuple[str, str]:
    knots = [horizon.count(each, options.unit) for each in options.boundaries]
    values = list(options.values)
    return "down from piece to piece", f"return {values!r}[bisect_right({knots!r}, step)]"


SCHEDULES: Final[dict[str, Callable[[Script, Any, Horizon], tuple[str, str]] | None]] = {
    "constant": None,
    "performance": None,
    "power": lambda script, options, horizon: (
        "quickly down, then ever more slowly",
        f"return (1.0 + step / {horizon.count(options.s, options.unit)!r}) ** {-options.c!r}",
    ),
    "exponential": lambda script, options, horizon: (
        "down, by the same factor each step",
        f"return 0.1 ** (step / {horizon.count(options.s, options.unit)!r})",
    ),
    "piecewise": _piecewise,
    "linear": lambda script, options, horizon: _polynomial(1.0, options, horizon),
    "polynomial": lambda script, options, horizon: _polynomial(options.power, options, horizon),
    "one_cycle": _one_cycle,
    "cosine": _cosine,
}
"""From the options and the training ahead to what the schedule does, and the body of a function of the step that gives
its factor on the learning rate; None for a factor of 1."""


def define_schedule(script: Script, span: Span, *, own: bool, suffix: str = "", constant: bool = False) -> Rates:
    """Define `learning_rate`, and `momentum`, where they are no constants.

    Args:
        script: what takes definitions.
        span: the training ahead, or a stage of it.
        own: whether some parameters have a rate of their own.
        suffix: of all names.
        constant: whether a rate that is always the same is to be a function as well.
    """
    options: Any = span.schedule.options
    write, rates = SCHEDULES[span.schedule.name], rates_of(span)
    if not rates.changes and not constant:
        return rates
    warmup = rates.warmup
    horizon = Horizon(max(1, span.epochs * span.steps_per_epoch - warmup), span.steps_per_epoch, span.lr)
    script.heading("The learning rate")
    part = Script("")
    about, body = write(part, options, horizon) if write else ("", "")
    if warmup:
        part.constants(WARMUP=Code(f"{warmup}  # steps on which the learning rate rises"))
    if "STEPS" in body or rates.momentum:
        after = f", after {warmup} of warm-up" if warmup else ""
        part.constants(STEPS=Code(f"{horizon.steps}  # {span.steps_per_epoch} in each epoch{after}"))
    head = {"parameters": "step: int, initial_lr: float" if own else "step: int"}
    initial = "initial_lr" if own else "LR"
    if warmup:
        _define_warmup(part, options.warmup.start_factor, about, body, {**head, "initial": initial})
    elif write:
        part.define(fill(_LEARNING_RATE, **head, about=about, body=_indented(_scaled(body, initial))))
    else:
        part.define(fill(_CONSTANT, **head, initial=initial))
    if rates.momentum:
        made = {"high": repr(options.max_momentum), "low": repr(options.base_momentum)}
        part.define(fill(_MOMENTUM, step="max(0, step - WARMUP)" if warmup else "step", **made))
    script.take(part, lambda text: _NAMES.sub(rf"\g<0>{suffix}", text))
    return rates


def rates_of(span: Span) -> Rates:
    """Return what is known of the rates of a training, or of a stage of it."""
    options: Any = span.schedule.options
    horizon = Horizon(span.epochs * span.steps_per_epoch, span.steps_per_epoch, span.lr)
    return Rates(
        changes=SCHEDULES[span.schedule.name] is not None or options.warmup is not None,
        momentum=span.schedule.name == "one_cycle" and options.cycle_momentum,
        reacts=options if span.schedule.name == "performance" else None,
        warmup=options.warmup.length(horizon) if options.warmup else 0,
    )


def _scaled(body: str, initial: str) -> str:
    """Make a function's body that returns a factor return the learning rate, which is `initial` at a factor of 1."""
    before, _, value = body.rpartition("return ")
    parsed = ast.parse(value, mode="eval").body
    summed = isinstance(parsed, ast.BinOp) and isinstance(parsed.op, ast.Add | ast.Mult)
    return f"{before}return {initial} * {f'({value})' if summed else value}"


def _define_warmup(script: Script, start: float, about: str, body: str, head: dict[str, str]) -> None:
    rise = f"({start!r} + {1.0 - start!r} * step / WARMUP)"
    if not body:
        script.define(fill(_WARM, then="a constant", rise=rise, rate=head["initial"], **head))
        return
    script.define(fill(_FACTOR, about=about, body=_indented(body)))
    rate = f"{head['initial']} * factor(step - WARMUP)"
    script.define(fill(_WARM, then="the schedule", rise=f"(factor(0) * {rise})", rate=rate, **head))


def _indented(body: str) -> str:
    return "\n".join(f"    {line}" for line in body.splitlines())
