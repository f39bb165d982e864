"""The commands that compare: many runs over their seeds, or two side by side. No torch."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from dnntrain.cli.output import Json, RunsDir, console, duration, figure, print_json, table, user_errors, volume
from dnntrain.errors import UsageError, visible

if TYPE_CHECKING:
    from dnntrain.compare.comparison import Comparison, Row

Table = list[list[str]]


def compare(
    sources: Annotated[
        list[str], typer.Argument(help="Run directories, folders of runs, globs, or names of runs.", show_default=False)
    ],
    metric: Annotated[str | None, typer.Option(help="Such as valid/accuracy; what the runs monitored.")] = None,
    baseline: Annotated[str | None, typer.Option(help="A group or a run; that of the oldest run.")] = None,
    where: Annotated[list[str] | None, typer.Option(metavar="K=V", help="Runs with this value only.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Runs with this tag only.")] = None,
    status: Annotated[list[str] | None, typer.Option(help="Runs with one of these statuses only.")] = None,
    since: Annotated[str | None, typer.Option(help="Runs that started since: 30m, 2h, 2d, 1w or a date.")] = None,
    sort: Annotated[str, typer.Option(help="quality, convergence, speed or age.")] = "quality",
    runs_dir: RunsDir = Path("runs"),
    json: Json = False,
    csv_: Annotated[bool, typer.Option("--csv", help="Print the table as CSV.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown.")] = False,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a page with curves, too: one file.", show_default=False),
    ] = None,
) -> None:
    """Compare runs: which configuration converges faster, ends better, and trains faster; and whether that is luck."""
    with user_errors():
        from dnntrain.compare.comparison import as_json, compare_runs
        from dnntrain.compare.records import collect, parse_filters

        if json + csv_ + markdown > 1:
            raise UsageError("--json, --csv and --markdown exclude each other")
        filters = parse_filters(where or (), tag or (), status or (), since)
        made = compare_runs(collect(sources, filters, runs=runs_dir), metric=metric, baseline=baseline, sort=sort)
        if json:
            print_json(as_json(made))
        elif csv_:
            csv.writer(sys.stdout).writerows(flat(made))
        else:
            _print(made, markdown=markdown)
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

        from dnntrain.compare.diff import diff_runs
        from dnntrain.store import find

        directories = [find(run, runs_dir) for run in (one, other)]
        found = diff_runs(*directories)
        if json:
            print_json(asdict(found))
        else:
            out = console()
            for title, rows in asdict(found).items():
                shown = table(title, *(escape(visible(directory.name)) for directory in directories))
                for row in rows:
                    shown.add_row(*(escape(visible(_plain(value))) for value in row.values()))
                if rows:
                    out.print(shown, "")
            if not found:
                print("no difference but times")
        if found:
            raise typer.Exit(1)


def _print(made: Comparison, *, markdown: bool) -> None:
    out = console()
    direction = "lower" if made.better == "min" else "higher"
    out.print(f"{made.metric}, {direction} is better; compared with {made.baseline}, over seeds", markup=False)
    sections = {
        "what differs": differences(made),
        "quality: is the model better?": quality(made),
        "convergence: does it get there sooner?": convergence(made),
        "speed: what does it cost?": speed(made),
    }
    for title, rows in sections.items():
        if len(rows) < 2:
            continue
        if markdown:
            print(f"\n### {title}\n\n" + "\n".join(_markdown(rows)))
        else:
            shown = table(*rows[0], title=f"\n{title}")
            for row in rows[1:]:
                shown.add_row(*(escape(visible(cell)) for cell in row))
            out.print(shown)
    for remark in made.remarks:
        out.print(f"\n{visible(remark)}", markup=False)


def differences(made: Comparison) -> Table:
    """Return what differs between the groups: a row a key, or a row a group where there are more groups than keys."""
    groups = [row.group for row in made.rows]
    keys = [key for key in made.keys if not _follows(key, made)]
    if len(groups) < 2 or not keys:
        return []
    if len(keys) > len(groups):
        head = ["key", *(group.label for group in groups)]
        return [head, *([_key(key), *(_value(group.configuration, key) for group in groups)] for key in keys)]
    head = ["group", *map(_key, keys)]
    return [head, *([group.label, *(_value(group.configuration, key) for key in keys)] for group in groups)]


def quality(made: Comparison) -> Table:
    """Return each group's metric over its seeds, and the verdict."""
    from dnntrain.compare.wording import describe

    scale, unit = (100.0, "points") if made.metric.endswith("accuracy") else (1.0, "")
    rows = [["group", ">seeds", f">{made.metric}", ">95 % interval", "beside the baseline"]]
    for row in made.rows:
        low, high = row.quality.low, row.quality.high
        interval = "-" if low is None else f"{_figure(made, low)} .. {_figure(made, high)}"
        verdict = "baseline" if row.difference is None else describe(row.difference, scale=scale, unit=unit)
        failed = f" ({row.quality.failed} failed)" if row.quality.failed else ""
        seeds = f"{len(row.group.runs)}{failed}"
        rows.append([row.group.label, seeds, _figure(made, row.quality.value), interval, verdict])
    return rows


def convergence(made: Comparison) -> Table:
    """Return when each group was at its best, when it reached what the baseline came to, and the verdict."""
    from dnntrain.compare.convergence import median_time_to_reach
    from dnntrain.compare.wording import describe_convergence

    goal = f"{made.target.metric} {figure(made.target.metric, made.target.value)}"
    rows = [["group", ">best epoch", ">time to it", f">epochs to {goal}", ">time to it", "beside the baseline"]]
    for row in made.rows:
        epochs, seconds = map(median_time_to_reach, row.reached)
        rows.append(
            [
                row.group.label,
                _number(row.best_epoch),
                _time(row.best_seconds),
                "not reached" if epochs is None else _number(epochs),
                "" if seconds is None else _time(seconds),
                "baseline" if row.convergence is None else describe_convergence(row.convergence),
            ]
        )
    return rows


def speed(made: Comparison) -> Table:
    """Return what training and prediction cost."""
    rows = [["group", ">samples/s", ">s/epoch", ">prediction", ">peak memory", ">parameters", "status"]]
    for row in made.rows:
        cost = row.speed
        rows.append(
            [
                row.group.label,
                "-" if cost.samples_per_second is None else f"{cost.samples_per_second:,.0f}",
                "-" if cost.seconds_per_epoch is None else f"{cost.seconds_per_epoch:.3g}",
                "-" if cost.prediction_seconds is None else f"{1e6 * cost.prediction_seconds:.3g} us",
                "-" if cost.peak_memory is None else volume(cost.peak_memory),
                "-" if row.parameters is None else f"{row.parameters:,}",
                ", ".join(f"{count} {status}" for status, count in row.statuses.items()),
            ]
        )
    return rows


def flat(made: Comparison) -> Iterator[Sequence[Any]]:
    """Yield a head and a row a group, with plain numbers, for programs that read tables."""
    yield [
        *("label", "seeds", "runs", *made.keys, "metric", "value", "low", "high", "difference", "p", "verdict"),
        *("best_epoch", "best_seconds", "samples_per_second", "seconds_per_epoch", "peak_memory", "parameters"),
    ]
    for row in made.rows:
        yield _flat_row(made, row)


def _flat_row(made: Comparison, row: Row) -> list[Any]:
    difference = row.difference
    beside = (
        (None, None, "baseline")
        if difference is None
        else (difference.value, difference.adjusted_p, difference.verdict)
    )
    return [
        row.group.label,
        " ".join(map(str, row.group.seeds)),
        " ".join(run.id for run in row.group.runs),
        *(row.group.configuration.get(key) for key in made.keys),
        *(made.metric, row.quality.value, row.quality.low, row.quality.high, *beside),
        *(row.best_epoch, row.best_seconds, row.speed.samples_per_second, row.speed.seconds_per_epoch),
        *(row.speed.peak_memory, row.parameters),
    ]


def _follows(key: str, made: Comparison) -> bool:
    """Whether a key is an option that only some of the parts that differ have: the part's name says enough."""
    section = key.rpartition(".")[0]
    named = any(f"{section[:i]}.name" in made.keys for i in range(len(section) + 1) if section[i : i + 1] in ("", "."))
    lacking = any(key not in row.group.configuration for row in made.rows)
    return lacking and (named or any(section == k or section.startswith(f"{k}.") for k in made.keys))


def _key(key: str) -> str:
    return key.removesuffix(".name")


def _value(configuration: Any, key: str) -> str:
    """Return a value as a file would have it; a list of parts by their names."""
    if key not in configuration:
        names = [value for name, value in configuration.items() if re.fullmatch(rf"{re.escape(key)}\.\d+\.name", name)]
        return ", ".join(map(str, names)) or "-"
    value = configuration[key]
    if value is None or value == []:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> str:
    """Write a value of any kind on a line."""
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _figure(made: Comparison, value: float | None) -> str:
    return figure(made.metric, value)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)


def _markdown(rows: Table) -> Iterator[str]:
    head = rows[0]
    yield "| " + " | ".join(cell.lstrip(">") for cell in head) + " |"
    yield "| " + " | ".join("--:" if cell.startswith(">") else "---" for cell in head) + " |"
    for row in rows[1:]:
        yield "| " + " | ".join(visible(cell).replace("|", "\\|") for cell in row) + " |"
