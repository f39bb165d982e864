"""Commands about run directories: ls, show. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.markup import escape

from dnntrain.cli.output import Json, Run, RunsDir, console, duration, figure, figures, print_json, table, user_errors
from dnntrain.errors import StoreError

SHOWN: Final = {"status", "stop_reason", "epochs", "best", "test", "seconds", "error", "spec"}


def ls(
    folder: Annotated[Path, typer.Argument(help="Where run directories lie.")] = Path("runs"), json: Json = False
) -> None:
    """List runs, the latest last."""
    with user_errors():
        from dnntrain.store import listing

        rows = [_row(directory) for directory in listing(folder)]
        if json:
            print_json(rows)
            return
        out = console()
        if not rows:
            out.print(f"no runs in {folder}; train one with: dnntrain run CONFIG --runs-dir {folder}")
            return
        shown = table("run", "status", ">epochs", ">best", ">time")
        for row in rows:
            best = f"{row['metric']} {figure(row['metric'], row['best'])}" if row["metric"] else "-"
            epochs = str(row["epochs"]) if row["epochs"] is not None else "-"
            time = duration(row["seconds"]) if row["seconds"] is not None else "-"
            shown.add_row(escape(row["run"]), row["status"], epochs, best, time)
        out.print(shown)


def show(
    run: Run = "last",
    runs_dir: RunsDir = Path("runs"),
    json: Json = False,
) -> None:
    """Tell about one run: how it ended, what it reached, and what it was."""
    with user_errors():
        from dnntrain.store import find

        directory = find(run, runs_dir)
        summary = _summary(directory)
        if json:
            print_json(summary)
            return
        out = console()
        best = summary["best"]
        reason = f" ({summary['stop_reason']})" if summary["stop_reason"] else ""
        out.print(f"[bold]{escape(str(directory.path))}[/bold]")
        out.print(
            f"{summary['status']}{reason}, {summary['epochs']} epochs in {duration(summary['seconds'])}", markup=False
        )
        if summary["error"]:
            out.print(f"error: {summary['error']}", markup=False)
        if best["epoch"] is not None:
            for part in ("train", "valid"):
                if line := figures(best["metrics"], part):
                    out.print(f"{part}, epoch {best['epoch']} (best):   {line}")
        if summary["test"]:
            out.print(f"test, with those weights:   {figures(summary['test'], 'test')}")
        out.print()
        out.print(directory.spec_text().rstrip(), markup=False)


def _summary(directory: Any) -> dict[str, Any]:
    """Return a run's summary with its status of now.

    Raises:
        StoreError: it is damaged, or lacks what is shown.
    """
    summary: dict[str, Any] = {**directory.summary(), "status": directory.status()}
    if lacking := SHOWN - set(summary):
        raise StoreError(f"{directory.path / directory.SUMMARY} is damaged: it lacks {', '.join(sorted(lacking))}")
    return summary


def _row(directory: Any) -> dict[str, Any]:
    """Return what `ls` shows of a run; a damaged one is shown as such."""
    try:
        summary = _summary(directory)
    except StoreError as error:
        return {
            "run": directory.name,
            "status": "damaged",
            "epochs": None,
            "metric": None,
            "best": None,
            "seconds": None,
            "error": str(error),
        }
    metric = summary["spec"].get("training.monitor.metric")
    return {
        "run": directory.name,
        "status": summary["status"],
        "epochs": summary["epochs"],
        "metric": metric,
        "best": summary["best"]["metrics"].get(metric),
        "seconds": summary["seconds"],
        "error": summary["error"],
    }
