"""The commands that compare: many runs over their seeds, or two side by side. No torch."""

from __future__ import annotations

import csv
import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dnntrain.cli.output import (
    Baseline,
    Json,
    Metric,
    RunsDir,
    Since,
    Sources,
    Status,
    Tag,
    Where,
    console,
    print_json,
    user_errors,
)
from dnntrain.cli.plotting import Curve, Log, Plot, Smooth, X, draw_curves, plotting, print_curves
from dnntrain.cli.tables import Table, as_markdown, prose
from dnntrain.errors import UsageError, visible

if TYPE_CHECKING:
    from dnntrain.compare.comparison import Comparison


Sort = Annotated[str, typer.Option(help="quality, convergence, speed or age.")]
Columns = Annotated[
    str | None, typer.Option(help="One table of these, such as value,verdict,status,optimizer.lr,test/loss.")
]
EachRun = Annotated[bool, typer.Option("--each-run", help="A row a run, not a configuration.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print the table as CSV.")]
Markdown = Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown.")]
Html = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write a page with curves, too: one file.", show_default=False),
]


def compare(
    sources: Sources,
    metric: Metric = None,
    baseline: Baseline = None,
    where: Where = None,
    tag: Tag = None,
    status: Status = None,
    since: Since = None,
    sort: Sort = "quality",
    columns: Columns = None,
    each_run: EachRun = False,
    plot: Plot = False,
    curve: Curve = None,
    x: X = None,
    smooth: Smooth = None,
    log: Log = False,
    runs_dir: RunsDir = Path("runs"),
    json: Json = False,
    csv_: Csv = False,
    markdown: Markdown = False,
    html: Html = None,
) -> None:
    """Compare runs: which configuration converges faster, ends better, and trains faster; and whether that is luck."""
    with user_errors(), _all_is_kept():
        from dnntrain.cli.columns import for_programs
        from dnntrain.compare.comparison import as_json, compare_runs
        from dnntrain.compare.records import collect, parse_filters

        if json + csv_ + markdown > 1:
            raise UsageError("--json, --csv and --markdown exclude each other")
        names = [name for name in map(str.strip, (columns or "").split(",")) if name]
        if json and names:
            raise UsageError("--json has all columns: leave out --columns")
        curves = plotting(plot, curve, x, smooth, log)
        if curves and (json or csv_ or markdown):
            raise UsageError("curves are drawn below the tables in a terminal: leave out --json, --csv and --markdown")
        filters = parse_filters(where or (), tag or (), status or (), since)
        found = collect(sources, filters, runs=runs_dir)
        made = compare_runs(found, metric=metric, baseline=baseline, sort=sort, each_run=each_run)
        drawn = curves and draw_curves(made, curves, metric_given=metric is not None)
        if json:
            print_json(as_json(made))
        elif csv_:
            csv.writer(sys.stdout, lineterminator="\n").writerows(for_programs(made, names))
            for remark in made.remarks:
                print(visible(remark, keep=""), file=sys.stderr)
        else:
            _print(made, names, markdown=markdown)
        if drawn:
            print_curves(drawn)
        if html is not None:
            from dnntrain.compare.report import write_report

            write_report(made, html)
            print(f"wrote {visible(str(html), keep='')}", file=sys.stderr if json or csv_ else sys.stdout)


def diff(
    one: Annotated[str, typer.Argument(help="A run.")],
    other: Annotated[str, typer.Argument(help="Another run.")],
    runs_dir: RunsDir = Path("runs"),
    json: Json = False,
) -> None:
    """Show what differs between two runs: experiment, environment, figures; exit with 1 if anything does."""
    with user_errors():
        from dataclasses import asdict

        from dnntrain.cli.columns import written
        from dnntrain.compare.diff import diff_runs
        from dnntrain.store import find

        directories = [find(run, runs_dir) for run in (one, other)]
        found = diff_runs(*directories)
        if json:
            print_json(asdict(found))
        else:
            out = console()
            for title, rows in asdict(found).items():
                shown = Table(title, *(directory.name for directory in directories))
                for row in rows:
                    shown.add(*map(written, row.values()))
                if rows:
                    shown.print(out)
                    out.print()
            if not found:
                print("no difference but times")
        if found:
            raise typer.Exit(1)


@contextmanager
def _all_is_kept() -> Iterator[None]:
    """Do not look for garbage: what many runs hold stays until the end, and the search takes a tenth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _print(made: Comparison, names: Sequence[str], *, markdown: bool) -> None:
    out = console()
    # A column that is not there must be told before anything is printed.
    tables = list(_tables(made, names))
    direction = "lower" if made.better == "min" else "higher"
    over = ", over seeds" if any(len(row.group.runs) > 1 for row in made.rows) else ""
    written = as_markdown if markdown else str
    prose(out, written(f"{made.metric}, {direction} is better; compared with {made.baseline}{over}"))
    for shown in tables:
        out.print()
        if markdown:
            print(shown.markdown(), end="")
        else:
            shown.print(out)
    for remark in made.remarks:
        out.print()
        prose(out, written(remark))


def _tables(made: Comparison, names: Sequence[str]) -> Iterator[Table]:
    """Yield what differs and the three answers; or the one table that was asked for."""
    from dnntrain.cli.columns import CONVERGENCE, QUALITY, SPEED, differences, table

    if names:
        yield table(made, names)
        return
    if (shown := differences(made, title="what differs")) is not None:
        yield shown
    yield table(made, QUALITY, title="quality: is the model better?")
    yield table(made, CONVERGENCE, title="convergence: does it get there sooner?")
    yield table(made, SPEED, title="speed: what does it cost?")
