"""The learning rate and the momentum of every step, known before training, and their curve as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dnntrain.training.built import Built

# A braille character is two dots wide and four high; these are the bits of its dots, by column, from the bottom up.
_BLANK: Final = 0x2800
_DOTS: Final = ((0x40, 0x04, 0x02, 0x01), (0x80, 0x20, 0x10, 0x08))
_ACROSS: Final = len(_DOTS)
_DOWN: Final = len(_DOTS[0])

NARROWEST: Final = 20
"""Characters that a plot has at least between its axis and its right edge."""

NEAR_ZERO: Final = 0.2
"""Share of the greatest value below which the least one brings zero into the picture."""


@dataclass(frozen=True)
class Curve:
    """What each optimizer step will be taken with.

    Attributes:
        factor: what the learning rates of all parameter groups are multiplied by.
        lr: learning rate of the first parameter group.
        momentum: momentum of the first parameter group; None for an optimizer without one.
        steps_per_epoch: optimizer steps in an epoch.
    """

    factor: tuple[float, ...]
    lr: tuple[float, ...]
    momentum: tuple[float, ...] | None
    steps_per_epoch: int

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return len(self.lr)


def schedule_curve(built: Built) -> Curve:
    """Ask the schedule of an experiment for every step that is planned.

    It is the very function that training calls, so the curve is exact; what reacts to a metric, as `performance` does,
    lowers the rate further.

    Args:
        built: an experiment that is ready to be trained; it is left as it is.
    """
    group: dict[str, Any] = built.optimizer.param_groups[0]
    own = group["betas"][0] if "betas" in group else group.get("momentum")
    asked = [built.schedule(step) for step in range(built.epochs * len(built.train))]
    factors = tuple(factor for factor, _ in asked)
    momenta = None if own is None else tuple(own if moved is None else moved for _, moved in asked)
    return Curve(factors, tuple(group["lr"] * factor for factor in factors), momenta, len(built.train))


def joined(curves: Sequence[Curve]) -> Curve:
    """Put the curves of the stages of a training, at least one, behind each other."""
    momenta = [curve.momentum for curve in curves]
    return Curve(
        tuple(factor for curve in curves for factor in curve.factor),
        tuple(lr for curve in curves for lr in curve.lr),
        None if None in momenta else tuple(each for momentum in momenta for each in momentum or ()),
        curves[0].steps_per_epoch,
    )


def draw(curve: Curve, *, width: int, height: int = 10) -> str:
    """Draw the learning rate, and the momentum where it changes, over steps and epochs.

    Args:
        curve: what to draw.
        width: characters of the longest line; there are more where that leaves no room to draw.
        height: lines of the learning rate's plot, at least two; the momentum has half as many.

    Returns:
        lines of text, without a line break at the end.
    """

    def axes(across: int) -> list[str]:
        return [_ticks(curve, across, 1, "steps"), _ticks(curve, across, curve.steps_per_epoch, "epochs")]

    lines = ["learning rate", *_plot(curve.lr, axes, width, height)]
    if curve.momentum is not None and len(set(curve.momentum)) > 1:
        lines += ["", "momentum", *_plot(curve.momentum, axes, width, max(2, height // 2))]
    return "\n".join(lines)


def draw_losses(rates: Sequence[float], losses: Sequence[float], *, width: int, height: int = 10) -> str:
    """Draw the losses of a range test over its learning rates, which grow by the same factor from step to step.

    Args:
        rates: learning rates, ascending.
        losses: the loss at each of them. What rises above the first few is cut off: there is nothing to see in it.
        width: characters of the longest line.
        height: lines of the plot, at least two.

    Returns:
        lines of text, without a line break at the end.
    """

    def axes(across: int) -> list[str]:
        middle, last = f"{rates[len(rates) // 2]:.1e}", f"{rates[-1]:.1e}"
        line = f"{rates[0]:.1e}".ljust(across // 2 - len(middle) // 2) + middle
        return [line.ljust(across - len(last)) + last]

    ceiling = max(losses[: max(1, len(losses) // 4)])
    ceiling += 0.5 * (ceiling - min(losses))
    return "\n".join(["loss over learning rate", *_plot([min(x, ceiling) for x in losses], axes, width, height)])


def _plot(values: Sequence[float], axes: Callable[[int], list[str]], width: int, height: int) -> list[str]:
    """Draw values one after the other; the axis starts at zero where the least value is near it.

    Args:
        values: what to draw.
        axes: makes the lines below the plot, given how many characters it is across.
        width: characters of the longest line.
        height: lines of the plot.
    """
    top, bottom = max(values), min(values)
    if bottom < NEAR_ZERO * top or bottom == top:
        top, bottom = top or 1.0, 0.0
    labelled = {round(i * (height - 1) / 3) for i in range(4)} if height > 6 else {0, height - 1}
    labels = [f"{top - i * (top - bottom) / (height - 1):.3g}" if i in labelled else "" for i in range(height)]
    margin = max(map(len, labels))
    across = max(NARROWEST, width - margin - 2)
    rows = _dotted([(value - bottom) / (top - bottom) for value in values], across, height)
    drawn = [f"{label:>{margin}} {'┤' if label else '│'}{row}" for label, row in zip(labels, rows, strict=True)]
    below = ["└" + "─" * across, *(" " + line for line in axes(across))]
    return [line.rstrip() for line in (*drawn, *(" " * (margin + 1) + line for line in below))]


def _dotted(shares: Sequence[float], across: int, height: int) -> list[str]:
    """Set the dots of a curve through shares of the height, one for each step, into lines of braille characters.

    A column of dots stands for some steps, or for a part of one; the rate stays the same for a step and then jumps, so
    columns are joined by an upright line.
    """
    levels = [round(share * (height * _DOWN - 1)) for share in shares]
    cells = [[0] * across for _ in range(height)]
    columns = across * _ACROSS
    before = levels[0]
    for column in range(columns):
        first = column * len(levels) // columns
        own = levels[first : max(first + 1, (column + 1) * len(levels) // columns)]
        low = min(*own, before + 1) if before < min(own) else min(own)
        high = max(*own, before - 1) if before > max(own) else max(own)
        before = own[-1]
        for level in range(low, high + 1):
            cells[height - 1 - level // _DOWN][column // _ACROSS] |= _DOTS[column % _ACROSS][level % _DOWN]
    return ["".join(chr(_BLANK + cell) if cell else " " for cell in row) for row in cells]


def _ticks(curve: Curve, across: int, size: int, unit: str) -> str:
    """Write positions below an axis: the start, the end with its unit, and as many quarters or halves as fit."""
    ends = f"{'0':<{across}}"
    last = f"{_position(curve.steps / size)} {unit}"
    ends = ends[: across - len(last)] + last
    for parts in (4, 2):
        line = ends
        for i in range(1, parts):
            text = _position(curve.steps * i / parts / size)
            start = across * i // parts - len(text) // 2
            if not line[start - 2 : start + len(text) + 2].isspace():
                break
            line = line[:start] + text + line[start + len(text) :]
        else:
            return line
    return ends


def _position(count: float) -> str:
    return f"{count:,.0f}" if count >= 1000 or count.is_integer() else f"{count:.3g}"
