"""Commands about run directories: ls, show. No torch."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from dnntrain.cli.output import (
    Json,
    Run,
    RunsDir,
    console,
    duration,
    figure,
    figures,
    print_json,
    user_errors,
)
from dnntrain.cli.tables import Table
from dnntrain.errors import StoreError, visible
from dnntrain.units import span, volume


def ls(
    folder: Annotated[Path, typer.Argument(help="Where run directories lie.")] = Path("runs"), json: Json = False
) -> None:
    """List the runs of a folder or of a sweep, the latest last, and the sweeps of a folder."""
    with user_errors():
        from dnntrain.store import SweepDirectory, listing

        own = SweepDirectory(folder).runs if os.path.isfile(folder / SweepDirectory.SWEEP) else folder
        rows = [_row(directory) for directory in listing(own)]
        if json:
            print_json(rows)
            return
        out = console()
        sweeps = SweepDirectory.within(folder)
        if not rows and not sweeps:
            shown = visible(str(folder), keep="")
            out.print(f"no runs in {shown}; train one with: dnntrain run CONFIG --runs-dir {shown}", markup=False)
            return
        listed = Table("run", "status", ">epochs", ">best", ">time", ">age", ">size", "tags")
        for row in rows:
            best = f"{row['metric']} {figure(row['metric'], row['best'])}" if row["metric"] else "-"
            epochs = str(row["epochs"]) if row["epochs"] is not None else "-"
            time = duration(row["seconds"]) if row["seconds"] is not None else "-"
            age = span(row["age"]) if row["age"] is not None else "-"
            listed.add(row["run"], row["status"], epochs, best, time, age, volume(row["size"]), " ".join(row["tags"]))
        if rows:
            listed.print(out)
        if sweeps:
            shown_sweeps = Table("sweep", ">runs", title="\nsweeps" if rows else None)
            for sweep in sweeps:
                shown_sweeps.add(sweep.name, str(len(listing(sweep.runs))))
            shown_sweeps.print(out)


def show(
    run: Run = "last",
    runs_dir: RunsDir = Path("runs"),
    json: Json = False,
) -> None:
    """Tell about one run: how it ended, what it reached, its curve, and what it was."""
    with user_errors():
        from dnntrain.cli.plotting import draw_run, print_curves
        from dnntrain.store import find, housekeeping

        directory = find(run, runs_dir)
        summary, notes = directory.sound_summary(), directory.notes()
        files = housekeeping.files(directory)
        if json:
            print_json(
                {
                    **summary,
                    "path": str(directory.path),
                    "tags": notes.get("tags", []),
                    "notes": notes.get("notes", []),
                    "files": [{"path": path, "bytes": size} for path, size in files],
                }
            )
            return
        out = console()
        best = summary["best"]
        reason = f" ({summary['stop_reason']})" if summary["stop_reason"] else ""
        spent = duration(summary["seconds"])
        out.print(f"[bold]{_plain(str(directory.path))}[/bold]")
        out.print(_plain(f"{summary['status']}{reason}, {summary['epochs']} epochs in {spent}"))
        if summary["error"]:
            out.print(_plain(f"error: {summary['error']}"))
        if best["epoch"] is not None:
            for part in ("train", "valid"):
                if line := figures(best["metrics"], part):
                    out.print(_plain(f"{part}, epoch {best['epoch']} (best):   {line}"))
        if summary["test"]:
            out.print(_plain(f"test, with those weights:   {figures(summary['test'], 'test')}"))
        if tags := notes.get("tags"):
            out.print(_plain(f"tags: {' '.join(tags)}"))
        for each in notes.get("notes", []):
            out.print(_plain(f"{each['time']}: {each['text']}"))
        try:
            if curves := draw_run(directory):
                print_curves(curves)
        except StoreError as error:
            out.print(_plain(f"no curve: {error}"))
        out.print()
        out.print(_plain(directory.spec_text().rstrip()))
        out.print()
        for path, size in files:
            out.print(_plain(f"{volume(size):>9}  {path}"))


def _plain(text: str) -> str:
    """Return what shows a text from a file as it is: neither markup nor control characters have any effect."""
    return escape(visible(text))


def _row(directory: Any) -> dict[str, Any]:
    """Return what `ls` shows of a run; a damaged one is shown as such."""
    from dnntrain.store import housekeeping

    started = directory.started
    row: dict[str, Any] = {
        "run": directory.name,
        "status": "damaged",
        "epochs": None,
        "metric": None,
        "best": None,
        "seconds": None,
        "age": (datetime.now() - started).total_seconds() if started else None,
        "size": housekeeping.size(directory),
        "tags": [],
        "error": None,
    }
    try:
        summary = directory.sound_summary()
        tags = directory.notes().get("tags", [])
    except StoreError as error:
        return {**row, "error": str(error)}
    metric = summary["spec"]["training.monitor.metric"]
    return {
        **row,
        "status": summary["status"],
        "epochs": summary["epochs"],
        "metric": metric,
        "best": summary["best"]["metrics"].get(metric),
        "seconds": summary["seconds"],
        "tags": tags,
        "error": summary["error"],
    }
