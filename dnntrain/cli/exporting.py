"""Giving the figures of runs to other tools: a table, or MLflow. No torch for the former."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from dnntrain.cli.output import RunsDir, Since, Sources, Status, Tag, Track, Where, user_errors
from dnntrain.errors import UsageError, visible


def export_metrics(
    sources: Sources,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write CSV; - for stdout.")] = None,
    parquet: Annotated[Path | None, typer.Option(metavar="FILE", help="Write Parquet, with typed columns.")] = None,
    track: Track = None,
    spec: Annotated[bool, typer.Option("--spec", help="All keys of the experiments, not only what differs.")] = False,
    where: Where = None,
    tag: Tag = None,
    status: Status = None,
    since: Since = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Write the figures of runs as one table, a row for each epoch of each run; or tell another tool of them."""
    with user_errors():
        from dnntrain.compare.export import as_csv, metrics_table, write_csv, write_parquet
        from dnntrain.compare.records import collect, parse_filters

        if not (csv or parquet or track):
            raise UsageError("say where the figures shall go: --csv FILE, --parquet FILE or --track mlflow")
        filters = parse_filters(where or (), tag or (), status or (), since)
        found = collect(sources, filters, runs=runs_dir)
        remarks = found.remarks
        if csv or parquet:
            table = metrics_table(found, spec=spec)
            remarks = list(table.remarks)
            if parquet:
                write_parquet(table, parquet)
                print(f"wrote {visible(str(parquet), keep='')}", file=sys.stderr)
            if csv == Path("-"):
                sys.stdout.write(as_csv(table))
            elif csv:
                write_csv(table, csv)
                print(f"wrote {visible(str(csv), keep='')}", file=sys.stderr)
        if track:
            from dnntrain.tracking import open_trackers
            from dnntrain.tracking.mlflow import export

            for place in sorted({run.directory.path.resolve().parent for run in found.runs}):
                for tracker in open_trackers(track, runs=place):
                    here = [run.directory for run in found.runs if run.directory.path.resolve().parent == place]
                    export(here, tracker)
                    told = f"told {', '.join(track)} of {len(here)} runs in {place}"
                    print(visible(told, keep=""), file=sys.stderr)
        for remark in remarks:
            print(visible(remark), file=sys.stderr)
