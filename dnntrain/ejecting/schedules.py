"""Schedules: the learning rate, and the momentum with it, as functions of the step."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from dnntrain.build.locating import chosen
from dnntrain.ejecting.groups import has_rates
from dnntrain.ejecting.script import Code, Script, fill
from dnntrain.parts.schedules import Horizon
from dnntrain.spec import Spec


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


def define_schedule(script: Script, spec: Spec, *, steps_per_epoch: int) -> Rates:
    """Define `learning_rate`, and `momentum`, where they are no constants."""
    choice = chosen(spec.schedule)
    options: Any = choice.options
    steps, lr = spec.training.epochs * steps_per_epoch, vars(spec.optimizer.options)["lr"]
    warmup = options.warmup.length(Horizon(steps, steps_per_epoch, lr)) if options.warmup else 0
    horizon = Horizon(max(1, steps - warmup), steps_per_epoch, lr)
    write = SCHEDULES[choice.name]
    cycles = choice.name == "one_cycle" and options.cycle_momentum
    rates = Rates(write is not None or warmup > 0, cycles, options if choice.name == "performance" else None, warmup)
    if not rates.changes:
        return rates
    script.heading("The learning rate")
    about, body = write(script, options, horizon) if write else ("", "")
    if warmup:
        script.constants(WARMUP=Code(f"{warmup}  # steps on which the learning rate rises"))
    if "STEPS" in body or cycles:
        after = f", after {warmup} of warm-up" if warmup else ""
        script.constants(STEPS=Code(f"{horizon.steps}  # {steps_per_epoch} in each epoch{after}"))
    own = has_rates(spec.optimizer.options)
    head = {"parameters": "step: int, initial_lr: float" if own else "step: int"}
    initial = "initial_lr" if own else "LR"
    if warmup:
        _define_warmup(script, options.warmup.start_factor, about, body, {**head, "initial": initial})
    else:
        script.define(fill(_LEARNING_RATE, **head, about=about, body=_indented(_scaled(body, initial))))
    if cycles:
        made = {"high": repr(options.max_momentum), "low": repr(options.base_momentum)}
        script.define(fill(_MOMENTUM, step="max(0, step - WARMUP)" if warmup else "step", **made))
    return rates


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
