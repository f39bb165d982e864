"""Curves in the terminal: the options that ask for them, and what a comparison shows. No torch."""

from __future__ import annotations

import math
import os
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.text import Text

from dnntrain.cli.output import console, figure
from dnntrain.errors import UsageError, suggest

if TYPE_CHECKING:
    from dnntrain.compare.comparison import Comparison
    from dnntrain.compare.curves import Axis
    from dnntrain.compare.records import Group
    from dnntrain.compare.statistics import Direction
    from dnntrain.compare.terminal import Panel
    from dnntrain.store import RunDirectory

ELSEWHERE: Final = 100
"""Characters of a line where there is no terminal whose width could be asked for."""

Plot = Annotated[bool, typer.Option("--plot", help="Draw the curves of the metric, too.")]
Curve = Annotated[
    list[str] | None,
    typer.Option("--curve", metavar="METRIC", help="Draw the curves of this metric. May be repeated."),
]
X = Annotated[str | None, typer.Option("--x", help="Draw curves over epoch or time: epoch.", show_default=False)]
Smooth = Annotated[
    float | None,
    typer.Option("--smooth", metavar="W", help="Smooth curves: weight of the past, 0 to 1.", show_default=False),
]
Log = Annotated[bool, typer.Option("--log", help="Draw curves on a logarithmic axis.")]


@dataclass(frozen=True)
class Plotting:
    """What is to be drawn.

    Attributes:
        metrics: whose curves; none for those of the comparison's metric.
        axis: over epochs or over time.
        smoothing: weight of the past.
        log: whether figures are on a logarithmic axis.
    """

    metrics: Sequence[str]
    axis: Axis
    smoothing: float
    log: bool


def plotting(plot: bool, curve: list[str] | None, x: str | None, smooth: float | None, log: bool) -> Plotting | None:
    """Read the options; None where nothing is to be drawn. Each of them alone asks for curves.

    Raises:
        UsageError: there is no such axis, or the smoothing is out of its range.
    """
    if not (plot or curve or x is not None or smooth is not None or log):
        return None
    from dnntrain.compare import curves

    axis = curves.axis(x or "epoch")
    curves.smooth((), smooth or 0.0)
    return Plotting(tuple(dict.fromkeys(curve or ())), axis, smooth or 0.0, log)


def draw_curves(made: Comparison, options: Plotting, *, metric_given: bool) -> str | Text:
    """Draw the curves of a comparison's groups, for stdout as it is now.

    Raises:
        UsageError: a metric is asked for that no run measured at its epochs.
    """
    from dnntrain.compare.curves import make_curve, metrics_of
    from dnntrain.compare.terminal import Panel

    groups = [row.group for row in made.rows]
    metrics = _metrics(made, options.metrics, metrics_of(groups), metric_given=metric_given)
    shown = _chosen(made)
    panels = [
        Panel(
            metric,
            [make_curve(group, metric, axis=options.axis, smoothing=options.smoothing) for group in shown],
            _better(metric, made),
        )
        for metric in metrics
    ]
    return _drawn(panels, _heading(shown, len(groups), options), axis=options.axis, log=options.log)


def draw_run(directory: RunDirectory) -> str | Text | None:
    """Draw what a run monitored over its epochs, in training and in validation; None where it measured nothing.

    Raises:
        StoreError: the run is damaged.
    """
    from dnntrain.compare.curves import make_curve, metrics_of
    from dnntrain.compare.records import Group, check_figures, read_run
    from dnntrain.compare.terminal import Panel

    run = read_run(directory)
    check_figures(run)
    metric, mode = run.monitor
    group = Group((run,), run.id)
    tail = metric.rpartition("/")[2]
    measured = metrics_of([group])
    names = [name for name in dict.fromkeys((f"train/{tail}", metric)) if name in measured]
    if not names:
        return None
    curves = [replace(make_curve(group, name), label=name) for name in names]
    return _drawn([Panel(tail, curves, "max" if mode == "max" else "min", kind="metric")])


def _drawn(panels: Sequence[Panel], heading: str = "", *, axis: Axis = "epoch", log: bool = False) -> str | Text:
    """Draw panels for stdout as it is now."""
    from dnntrain.compare.terminal import Looks, draw

    out = console()
    coloured = out.color_system is not None and not out.no_color
    width = out.width if sys.stdout.isatty() or "COLUMNS" in os.environ else ELSEWHERE
    looks = Looks(width, coloured, _has_unicode(out.encoding), log)
    above = f"{textwrap.fill(heading, looks.across)}\n\n" if heading else ""
    drawn = f"\n{above}{draw(panels, looks, axis=axis, figure=figure)}"
    # Rich then writes the colours as the terminal has them, be it 16 or all.
    return Text.from_ansi(drawn) if coloured else drawn


def print_curves(drawn: str | Text) -> None:
    """Print curves that have been drawn."""
    console().print(drawn, markup=False, soft_wrap=True)


def _metrics(made: Comparison, asked: Sequence[str], measured: Sequence[str], *, metric_given: bool) -> list[str]:
    """Return the metrics to draw: those asked for, or the comparison's, with training's beside validation's."""
    for metric in asked:
        if metric not in measured:
            raise UsageError(f"no run measured '{metric}' at its epochs: {suggest(metric, measured)}")
    if asked:
        return list(asked)
    tail = made.metric.rpartition("/")[2]
    # A metric of the test part is measured once, at the end.
    candidates = (made.metric, f"valid/{tail}", made.target.metric)
    chosen = [next((metric for metric in candidates if metric in measured), made.target.metric)]
    training = f"train/{chosen[0].rpartition('/')[2]}"
    if not metric_given and training in measured and training not in chosen:
        chosen.append(training)
    return chosen


def _chosen(made: Comparison) -> list[Group]:
    """Return the groups to draw, in the order of the table: all, or the best ones and the baseline."""
    from dnntrain.compare.terminal import MOST

    def badness(label: str) -> float:
        value = next(row.quality.value for row in made.rows if row.group.label == label)
        if label == made.baseline:
            return -math.inf
        return math.inf if value is None else value if made.better == "min" else -value

    best = sorted((row.group.label for row in made.rows), key=badness)[:MOST]
    return [row.group for row in made.rows if row.group.label in best]


def _better(metric: str, made: Comparison) -> Direction | None:
    from dnntrain.compare.comparison import direction

    if metric == made.metric:
        return made.better
    if metric == made.target.metric:
        return made.target.better
    return direction(metric) if "/" in metric else None


def _heading(shown: Sequence[Group], groups: int, options: Plotting) -> str:
    """Say what the curves are."""
    several = any(len(group.runs) > 1 for group in shown)
    parts = ["curves of each group: the median over its seeds" if several else "curves of each group, of one seed"]
    if several:
        parts.append("shaded from the lowest seed to the highest; where runs have ended, over those that go on")
    if options.smoothing:
        parts.append(f"smoothed by {options.smoothing:g}")
    if len(shown) < groups:
        parts.append(f"the best {len(shown)} of {groups} groups, the baseline among them, are drawn")
    return "; ".join(parts)


def _has_unicode(encoding: str) -> bool:
    """Whether what curves are made of can be written."""
    try:
        "⣿░│┤└─┬".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
