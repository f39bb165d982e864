"""Learning curves as text: drawn by plotext, readable with colours, without them, and in plain ASCII."""

from __future__ import annotations

import string
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any, Final, NamedTuple

from rich.cells import cell_len, set_cell_size

from dnntrain.compare.curves import Axis, Curve
from dnntrain.compare.scales import SMALLEST, Scale, limits, linear_ticks, log_ticks
from dnntrain.compare.statistics import Direction
from dnntrain.errors import visible

MOST: Final = 8
"""So many colours all can tell apart; and with more curves in one frame, none can be followed."""

# The colours of Okabe and Ito (2008), which people with any kind of colour vision can tell apart. Their black, which
# would not be seen on a dark terminal, is a grey here.
_PALETTE: Final = (
    *((86, 180, 233), (230, 159, 0), (0, 158, 115), (213, 94, 0)),
    *((204, 121, 167), (0, 114, 178), (240, 228, 66), (153, 153, 153)),
)
_NARROWEST: Final = 40
_ASCII_FRAME: Final = str.maketrans("│┤└─┬", "|+`-+")
_ASCII_LETTERS: Final = string.ascii_uppercase
_LETTERS_APART: Final = 22
"""Characters between two letters of one curve, about."""
_LOW_DOWN: Final = 0.1
"""Where half of all figures lie below this share of the frame, little is seen of them."""

_UNITS: Final = ((2 * 3600.0, 3600.0, "hours"), (2 * 60.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))
"""From how many seconds on time is shown in a unit, how many seconds it has, and its name."""


@dataclass(frozen=True)
class Looks:
    """How curves are drawn.

    Attributes:
        width: characters of the longest line; 40 are taken at least.
        colour: whether there are colours, as 24-bit escape codes; else there are no escape codes at all.
        unicode: whether there are characters beyond ASCII.
        log: whether figures are on a logarithmic axis; those that are not above zero are then left out.
    """

    width: int = 100
    colour: bool = False
    unicode: bool = True
    log: bool = False

    @property
    def across(self) -> int:
        """Characters of the longest line."""
        return max(_NARROWEST, self.width)

    @property
    def height(self) -> int:
        """Lines of a frame with its axis: a wider one is higher, too."""
        return min(20, max(13, self.across // 6))


@dataclass(frozen=True)
class Panel:
    """One metric of several groups, to be drawn in one frame.

    Attributes:
        metric: such as `valid/loss`.
        curves: one for each group, in the same order in every panel; at most `MOST`.
        better: whether lower or higher figures are better; None where neither is, as for a learning rate.
        kind: what the curves' labels are names of.
    """

    metric: str
    curves: Sequence[Curve]
    better: Direction | None = None
    kind: str = "group"


class _Place(NamedTuple):
    """A point of a curve as shares of the frame's sides."""

    x: float
    middle: float
    low: float
    high: float


def draw(
    panels: Sequence[Panel], looks: Looks, *, axis: Axis = "epoch", figure: Callable[[str, float | None], str]
) -> str:
    """Draw panels under each other, each with a legend.

    A curve is a line with the letter of its group on it, in the group's colour; the range over its seeds is shaded.
    Where there is only ASCII, the line is made of its letters, and the shade of dots. Bands lie below all lines; where
    two of them meet, that of the later group is seen.

    Not for several threads at once: plotext has one figure for the whole process. It is left cleared.

    Args:
        panels: what to draw.
        looks: how.
        axis: what the curves go over.
        figure: writes a figure of a metric for the legend; None is one that there is not.

    Returns:
        lines of text, without a line break at the end.
    """
    x, unit = _x_scale([point.x for panel in panels for curve in panel.curves for point in curve.known], axis, looks)
    drawn = []
    for panel in panels:
        y, remarks = _y_scale(panel, looks)
        lines = [_fitted(_plain(panel.metric, looks), looks.across)]
        lines += (
            ["  no figures to draw"] if y is None else [*_plot(panel.curves, x, y, looks), unit.rjust(looks.across)]
        )
        lines += _legend(panel, looks, unit, figure)
        for remark in remarks:
            lines += textwrap.wrap(remark, looks.across, initial_indent="   ", subsequent_indent="   ")
        drawn.append("\n".join(lines))
    return "\n\n".join(drawn)


def letter(number: int) -> str:
    """Return what marks a group on its curve and in the legend: A for the first."""
    return _ASCII_LETTERS[number]


def _x_scale(places: Sequence[float], axis: Axis, looks: Looks) -> tuple[Scale, str]:
    """Return the scale of epochs or of time, and its name."""
    most = max(3, looks.across // 12)
    if axis == "epoch":
        low, high = limits(places or [1.0], places or [1.0])
        return Scale(low, high, tuple(linear_ticks(low, high, most, least_step=1.0))), "epoch"
    longest = max(*places, SMALLEST) if places else 1.0
    size, unit = next((size, unit) for least, size, unit in _UNITS if longest >= least)
    ticks = ((at * size, text) for at, text in linear_ticks(0.0, longest / size, most))
    return Scale(0.0, longest, tuple(ticks)), f"{unit} of training"


def _y_scale(panel: Panel, looks: Looks) -> tuple[Scale | None, list[str]]:
    """Return the scale of the figures, None where there are none; and what is to be said about it."""
    points = [point for curve in panel.curves for point in curve.known]
    middles = [point.middle for point in points if point.middle is not None]
    edges = [edge for point in points for edge in (point.low, point.high) if edge is not None]
    remarks = []
    if looks.log and min(edges, default=1.0) < SMALLEST:
        remarks.append("figures that are not above zero have no place on a logarithmic axis and are left out")
        middles, edges = ([value for value in values if value >= SMALLEST] for values in (middles, edges))
    if not middles:
        return None, remarks
    low, high = limits(middles, edges, log=looks.log)
    if min(edges) < low or max(edges) > high:
        beyond = f"{min(edges):.3g} to {max(edges):.3g}"
        remarks.append(f"the ranges over seeds go beyond this frame, from {beyond}: it fits the lines")
    if not looks.log and low > 0 and median(middles) < low + _LOW_DOWN * (high - low):
        remarks.append("most figures lie at the lower edge: --log shows more of them")
    most = looks.height // 3 + 1
    size, unit = (100.0, " %") if panel.metric.endswith("accuracy") else (1.0, "")
    ticks = (log_ticks if looks.log else linear_ticks)(low * size, high * size, most)
    return Scale(low, high, tuple((at / size, text + unit) for at, text in ticks), log=looks.log), remarks


def _plot(curves: Sequence[Curve], x: Scale, y: Scale, looks: Looks) -> list[str]:
    """Draw a frame and what is in it: all bands, then all lines, then the letters, lest one hides what is finer."""
    with _cleared_figure(looks.across, looks.height) as figure:
        for axis, scale, side, opposite in (("x", x, "lower", "upper"), ("y", y, "left", "right")):
            figure.ruler(axis).lim(0, 1)
            figure.ruler(axis, side).ticks(
                [scale.share(at) for at, _ in scale.ticks], [text for _, text in scale.ticks]
            )
            figure.axes(False, axis=axis, side=opposite)
        pieces = [list(_pieces(curve, x, y)) for curve in curves]
        for number, own in enumerate(pieces):
            for piece in own:
                _draw_band(figure, piece, _marker("░" if looks.unicode else ".", number, looks))
        for number, own in enumerate(pieces):
            marker = _marker("braille" if looks.unicode else letter(number), number, looks)
            for piece in own:
                figure.draw(figure.signal([p.x for p in piece], [p.middle for p in piece], marker=marker).lines())
        for number, own in enumerate(pieces):
            marker = _marker(letter(number), number, looks, style="bold")
            for at, height in _letter_places(own, (number + 0.5) / len(pieces), max(2, looks.across // _LETTERS_APART)):
                figure.draw(figure.signal([at], [height], marker=marker))
        text: str = figure.build().string(colorless=not looks.colour)
    return [line.rstrip() for line in (text if looks.unicode else text.translate(_ASCII_FRAME)).splitlines()]


def _pieces(curve: Curve, x: Scale, y: Scale) -> Iterator[list[_Place]]:
    """Yield the parts of a curve between gaps; a middle that has no place on the scale makes a gap, too."""
    piece: list[_Place] = []
    for point in curve.points:
        if point.middle is None or point.low is None or point.high is None or not y.has(point.middle):
            if piece:
                yield piece
            piece = []
        else:
            piece.append(_Place(x.share(point.x), *map(y.share, (point.middle, point.low, point.high))))
    if piece:
        yield piece


def _draw_band(figure: Any, piece: Sequence[_Place], marker: Any) -> None:
    """Shade the range over seeds; where there is one seed, there is no range."""
    if all(place.low == place.high for place in piece):
        return
    across = [place.x for place in piece]
    upper = figure.signal(across, [place.high for place in piece], marker=marker)
    lower = figure.signal(across, [place.low for place in piece], marker=marker)
    figure.draw(upper.fill(lower).lines())


def _letter_places(pieces: Sequence[Sequence[_Place]], shift: float, letters: int) -> Iterator[tuple[float, float]]:
    """Yield where a curve has its letter: at equal distances, shifted so that the letters of two curves seldom meet."""
    if not pieces:
        return
    first, last = pieces[0][0].x, pieces[-1][-1].x
    for count in range(letters):
        at = first + (last - first) * (count + shift) / letters
        piece = min(pieces, key=lambda each: max(each[0].x - at, at - each[-1].x, 0.0))
        at = min(max(at, piece[0].x), piece[-1].x)
        after = next(i for i, place in enumerate(piece) if place.x >= at)
        before, place = piece[max(0, after - 1)], piece[after]
        part = (at - before.x) / (place.x - before.x) if place.x > before.x else 0.0
        yield at, before.middle + part * (place.middle - before.middle)


def _marker(symbol: str, number: int, looks: Looks, style: str | None = None) -> Any:
    """Return what plotext sets for each point of a group's curve."""
    import plotext

    return plotext.marker(symbol, plotext.pixel(_PALETTE[number], style=style) if looks.colour else plotext.pixel())


@contextmanager
def _cleared_figure(width: int, height: int) -> Iterator[Any]:
    """Lend plotext's figure, of which there is one, and leave it cleared."""
    import plotext

    figure = plotext.figure
    try:
        plotext.terminal.limit(False, False)
        figure.clear().theme("colorless").plot_size(width, height)
        yield figure
    finally:
        plotext.terminal.limit()
        figure.clear()


def _legend(panel: Panel, looks: Looks, unit: str, figure: Callable[[str, float | None], str]) -> list[str]:
    """Write a line for each group: letter, name, how many seeds, the last figure, the best one and where that was."""
    size, name = next(((size, name) for _, size, name in _UNITS if unit.startswith(name)), (1.0, unit))
    head = [panel.kind, "seeds", "last", *(["best", f"at {name}" if name == unit else name] if panel.better else [])]
    rows = [head, *(_legend_row(panel, curve, size, looks, figure) for curve in panel.curves)]
    if all(point.runs <= 1 for curve in panel.curves for point in curve.points):
        rows = [[label, *cells] for label, _, *cells in rows]
    widths = [max(cell_len(row[i]) for row in rows) for i in range(len(rows[0]))]
    widths[0] = max(5, min(widths[0], looks.across - 5 - sum(width + 2 for width in widths[1:])))
    lines = []
    for number, (label, *cells) in enumerate(rows, start=-1):
        mark = " " if number < 0 else _painted(letter(number), number, looks)
        lines.append(
            f"   {mark} {set_cell_size(_fitted(label, widths[0]), widths[0])}"
            + "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        )
    return lines


def _legend_row(
    panel: Panel, curve: Curve, size: float, looks: Looks, figure: Callable[[str, float | None], str]
) -> list[str]:
    """Write the figures of one group.

    The best is looked for where all seeds are: what the last of them still reaches alone, the others might have, too.
    """
    known = [(point.middle, point) for point in curve.known if point.middle is not None]
    counts = [point.runs for _, point in known]
    seeds = "-" if not counts else str(max(counts)) if min(counts) == max(counts) else f"{min(counts)}-{max(counts)}"
    row = [_plain(curve.label, looks), seeds, figure(panel.metric, known[-1][0] if known else None)]
    if panel.better is None:
        return row
    if not known:
        return [*row, figure(panel.metric, None), "-"]
    whole = [each for each in known if each[1].runs == max(counts)]
    best, point = (min if panel.better == "min" else max)(whole, key=lambda each: each[0])
    at = point.x / size
    return [*row, figure(panel.metric, best), f"{at:.{0 if size == 1.0 else 1}f}" if at < 1e6 else f"{at:.3g}"]


def _plain(text: str, looks: Looks) -> str:
    """Return a text from a file so that it stays on one line, commands no terminal, and can be written."""
    shown = visible(text, keep="")
    return shown if looks.unicode else shown.encode("ascii", "backslashreplace").decode()


def _fitted(text: str, width: int) -> str:
    """Cut a text that is wider than so many characters of a terminal."""
    return text if cell_len(text) <= width else set_cell_size(text, width - 3) + "..."


def _painted(text: str, number: int, looks: Looks) -> str:
    """Return a letter in its group's colour."""
    import plotext

    if not looks.colour:
        return text
    return str(plotext.colorize(text).fill(plotext.pixel(_PALETTE[number], style="bold")).string())
