"""The scales of a plot: where a number lies between the ends of an axis, and the round numbers that label it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_ROUND: Final = (1.0, 2.0, 5.0, 10.0)
_SAME: Final = 1e-9
"""Figures that differ by less than this share are drawn as if they were the same."""

SMALLEST: Final = 1e-200
"""A positive number below this counts as zero: near the least float there is, an axis cannot be divided."""

_FEW: Final = 3
"""With fewer labels than this a scale cannot be read off."""


@dataclass(frozen=True)
class Scale:
    """One axis of a plot.

    Attributes:
        low: the number at its lower end; greater than zero on a logarithmic scale.
        high: the number at its upper end, greater than `low`.
        ticks: the numbers that are labelled, with what is written there.
        log: whether it is logarithmic.
    """

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = False

    def has(self, number: float) -> bool:
        """Whether a number has a place on the scale, within its ends or beyond them."""
        return number >= SMALLEST or not self.log

    def share(self, number: float) -> float:
        """Return where a number lies: 0 at the lower end and below it, 1 at the upper one and above."""
        if not self.has(number):
            return 0.0
        low, high, at = map(math.log, (self.low, self.high, number)) if self.log else (self.low, self.high, number)
        return min(max((at - low) / (high - low), 0.0), 1.0)


def limits(middles: Sequence[float], edges: Sequence[float], *, log: bool = False) -> tuple[float, float]:
    """Return the ends of an axis on which lines are seen well, and their ranges as far as that allows.

    The axis holds all lines, and beyond them at most half of their span on either side: one seed that went astray would
    press everything else into a few dots.

    Args:
        middles: the figures of all lines, at least one; on a logarithmic scale all above zero.
        edges: the ends of their ranges, likewise.
        log: whether the scale is logarithmic.
    """
    if log:
        low, high = _limits(list(map(math.log, middles)), list(map(math.log, edges)), around=math.log(2))
        return math.exp(low), math.exp(high)
    largest = max(map(abs, (*middles, *edges)))
    return _limits(middles, edges, around=largest / 2 if largest > SMALLEST else 0.5)


def _limits(middles: Sequence[float], edges: Sequence[float], around: float) -> tuple[float, float]:
    """Return the ends of a linear axis; `around` is what it shows on either side of what is constant."""
    low, high = min(middles), max(middles)
    beyond = (high - low) / 2
    low, high = max(low - beyond, min(low, *edges)), min(high + beyond, max(high, *edges))
    return (low, high) if high - low > _SAME * around else (low - around, high + around)


def linear_ticks(low: float, high: float, most: int, *, least_step: float = 0.0) -> list[tuple[float, str]]:
    """Return round numbers within a range with their texts, all written with equally many decimals.

    Steps are 1, 2 or 5 times a power of ten.

    Args:
        low: the lower end of the range.
        high: its upper end, greater than `low`.
        most: how many there may be, at least one.
        least_step: the step is at least so much; 1 for what is counted.
    """
    rough = max((high - low) / max(1, most - 1), least_step)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(each * power for each in _ROUND if each * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    values = [count * step for count in range(first, last + 1)]
    return [(value, _text(value, step)) for value in values]


def log_ticks(low: float, high: float, most: int) -> list[tuple[float, str]]:
    """Return round numbers within a range, for a logarithmic scale: powers of ten, or finer ones in a small range.

    Args:
        low: the lower end of the range, greater than zero.
        high: its upper end, greater than `low`.
        most: how many there may be, at least one.
    """
    exponents = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
    if len(exponents) >= _FEW:
        chosen = exponents[:: math.ceil(len(exponents) / most)]
        return [(10.0**exponent, f"{10.0**exponent:g}") for exponent in chosen]
    around = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    finer = [each * 10.0**exponent for exponent in around for each in (1, 2, 5)]
    inside = [value for value in finer if low <= value <= high]
    if _FEW <= len(inside) <= most:
        return [(value, f"{value:g}") for value in inside]
    return linear_ticks(low, high, most)


def _text(value: float, step: float) -> str:
    if value and (abs(value) >= 1e6 or step < 1e-4):
        return f"{value:.{max(0, math.floor(math.log10(abs(value))) - math.floor(math.log10(step)))}e}"
    return f"{value:.{max(0, -math.floor(math.log10(step)))}f}"
