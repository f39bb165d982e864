"""Giving runs to other tools: a network as a file, figures as a table or to MLflow. No torch for a table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dnntrain.cli.output import (
    Json,
    Plugin,
    Run,
    RunsDir,
    Since,
    Sources,
    Status,
    Tag,
    Track,
    Where,
    load_plugins,
    print_json,
    user_errors,
)
from dnntrain.errors import UsageError, visible
from dnntrain.units import count, volume

if TYPE_CHECKING:
    from dnntrain.exporting import Exported


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


def export(
    run: Run,
    format_: Annotated[str, typer.Option("--format", metavar="FORMAT", help="onnx, torch or safetensors.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="The file; named after the run otherwise.")
    ] = None,
    preprocessing: Annotated[
        bool, typer.Option("--preprocessing", help="Include it: the file takes samples as the data set holds them.")
    ] = False,
    fuse: Annotated[bool, typer.Option("--fuse", help="Fold batch normalization into the layer before it.")] = False,
    opset: Annotated[int | None, typer.Option(metavar="N", help="Of ONNX.", show_default=False)] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    runs_dir: RunsDir = Path("runs"),
    plugin: Plugin = None,
    json: Json = False,
) -> None:
    """Write the network of a run into one file for elsewhere, and check that it computes the same."""
    with user_errors():
        load_plugins(plugin)
        from dataclasses import asdict

        from dnntrain import exporting

        made = exporting.export(
            run,
            format=format_,
            output=output,
            preprocessing=preprocessing,
            fuse=fuse,
            opset=opset,
            force=force,
            runs=runs_dir,
        )
        if json:
            print_json({**asdict(made), "path": str(made.path), "tolerance": exporting.TOLERANCE})
            return
        for line in _told(made):
            print(visible(line, keep=""))


def eject(
    run: Run,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="The script; named after the run otherwise.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    runs_dir: RunsDir = Path("runs"),
    plugin: Plugin = None,
) -> None:
    """Write a run as one plain PyTorch script, which repeats it without dnntrain."""
    with user_errors():
        load_plugins(plugin)
        from dnntrain import ejecting

        made = ejecting.eject(run, output=output, force=force, runs=runs_dir)
        told = f"{made.path}: {count(made.lines, 'line')}, which repeat {made.run} without dnntrain"
        print(visible(told, keep=""))


def _told(made: Exported) -> list[str]:
    """Say what was written, what it takes and gives, and how it was checked."""
    opset = "" if made.opset is None else f", opset {made.opset}"
    shape = " x ".join(map(str, ("N", *made.shape)))
    what = "raw samples" if made.preprocessing else "prepared samples; --preprocessing would include that"
    lines = [
        f"{made.path}: {made.format}{opset}, {volume(made.bytes)}, epoch {made.epoch} of {made.run}",
        f"takes float32 of {shape} ({what}), gives {made.output}",
    ]
    if made.folded is not None:
        lines.append(f"folded {count(made.folded, 'batch normalization')} into the layer before")
    if made.remark is not None:
        lines.append(f"checked on random inputs, as the run's data cannot be used: {made.remark}")
    source = "random inputs" if made.source == "random" else f"samples of the {made.source} part"
    lines.append(f"checked on {made.samples} {source}: the largest difference is {made.difference:.2g}")
    return lines
