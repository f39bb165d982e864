"""Commands that need torch and an experiment file: run, resume, summary, ..."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from dnntrain.cli.output import (
    Config,
    Device,
    Json,
    Plugin,
    Quiet,
    Run,
    RunsDir,
    Set,
    Track,
    console,
    duration,
    figure,
    load_plugins,
    print_json,
    user_errors,
)
from dnntrain.cli.tables import Table
from dnntrain.errors import visible

if TYPE_CHECKING:
    from torch import nn

    from dnntrain.build import Stage
    from dnntrain.diagnostics.schedule_curve import Curve


def run(
    config: Config,
    set_: Set = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the experiment.", show_default=False)] = None,
    device: Device = None,
    runs_dir: RunsDir = Path("runs"),
    name: Annotated[str | None, typer.Option(help="Name of the run.", show_default=False)] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data.", show_default=False)] = None,
    test: Annotated[bool, typer.Option("--test", help="Measure the test split at the end.")] = False,
    plugin: Plugin = None,
    resume_or_start: Annotated[
        bool, typer.Option("--resume-or-start", help="Go on with the latest run of the same experiment, if any.")
    ] = False,
    track: Track = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train an experiment and leave a run directory."""
    with user_errors():
        load_plugins(plugin)
        from dnntrain import run as runner
        from dnntrain import spec
        from dnntrain.cli.live import display
        from dnntrain.tracking import open_trackers

        shortcuts = {"seed": seed, "training.device": device, "name": name, "training.epochs": epochs}
        given = {key: value for key, value in shortcuts.items() if value is not None}
        # A name such as 2024 is text all the same, so it is quoted.
        overrides = [*(set_ or ()), *(f"{key}={dumps(value)}" for key, value in given.items())]
        experiment = spec.load(config, overrides)
        earlier = runner.latest_of(experiment, runs=runs_dir) if resume_or_start else None
        trackers = open_trackers(track or (), runs=runs_dir)
        with display(silent=quiet or json) as observers:
            if earlier is not None:
                record = runner.resume(earlier.path, observers=observers, trackers=trackers)
            else:
                record = runner.train(experiment, runs=runs_dir, test=test, observers=observers, trackers=trackers)
        _report(record, quiet=quiet, json=json)


def resume(
    run: Run,
    set_: Set = None,
    runs_dir: RunsDir = Path("runs"),
    plugin: Plugin = None,
    track: Track = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Go on with a run exactly where its latest checkpoint leaves it."""
    with user_errors():
        load_plugins(plugin)
        from dnntrain import run as runner
        from dnntrain.cli.live import display
        from dnntrain.store import find
        from dnntrain.tracking import open_trackers

        path = find(run, runs_dir).path
        trackers = open_trackers(track or (), runs=path.resolve().parent)
        with display(silent=quiet or json) as observers:
            record = runner.resume(path, overrides=set_ or (), observers=observers, trackers=trackers)
        _report(record, quiet=quiet, json=json)


def verify_resume(config: Config, set_: Set = None, plugin: Plugin = None, json: Json = False) -> None:
    """Prove that an experiment that is stopped and resumed ends as one that never stopped, to the last bit."""
    with user_errors():
        load_plugins(plugin)
        from dataclasses import asdict

        from dnntrain import spec
        from dnntrain.verifying import verify_resume as verify

        verdict = verify(spec.load(config, set_ or ()))
        if json:
            print_json({"identical": verdict.identical, "first": verdict.first, **asdict(verdict)})
        elif verdict.identical:
            print(
                f"identical: stopped after the steps {', '.join(map(str, verdict.stops))} and resumed each time; "
                f"{verdict.states} states and the metrics of {verdict.rows} epochs are those of a run that went through"
            )
        else:
            print(f"different: {verdict.first} is the first of {len(verdict.restored) + len(verdict.ended)}")
            for place, names in (("right after being restored", verdict.restored), ("at the end", verdict.ended)):
                for name in names:
                    print(f"    {place}: {name}")
        if not verdict.identical:
            raise typer.Exit(1)


def summary(
    config: Config,
    set_: Set = None,
    schedule: Annotated[bool, typer.Option("--schedule", help="Draw the learning rate over the training.")] = False,
    plugin: Plugin = None,
    json: Json = False,
) -> None:
    """Show the layers of an experiment's network: output shapes, parameters and work."""
    with user_errors():
        load_plugins(plugin)
        from dataclasses import asdict

        from dnntrain import build, spec
        from dnntrain.diagnostics.model_summary import summarize

        experiment = spec.load(config, set_ or ())
        data = build.open_data(experiment)
        experiment = build.resolve(experiment, data)
        model = build.build_model(experiment, data.shape, build.outputs(experiment, data), pretrained=False)
        stages = build.stages(experiment, model)
        build.freeze(model, stages[0].frozen)
        made = summarize(model, data.shape)
        if json:
            print_json({**asdict(made), **({"schedule": asdict(_curve(experiment, data))} if schedule else {})})
            return
        out = console()
        rows = Table("layer", "kind", ">output", ">trainable", ">fixed")
        for layer in made.layers:
            shape = " x ".join(map(str, layer.shape))
            rows.add(layer.name, layer.kind, shape, f"{layer.trainable:,}", f"{layer.fixed:,}")
        rows.print(out)
        out.print(
            f"\n{made.trainable + made.fixed:,} parameters, of which {made.trainable:,} trainable; "
            f"{made.flops:,} floating-point operations forward for one sample"
        )
        if stages[0].number:
            out.print()
            _print_stages(stages, model)
        if schedule:
            _draw_schedule(experiment, data)


def _print_stages(stages: Sequence[Stage], model: nn.Module) -> None:
    """Show what is trained in each stage, and at what rate."""
    from dnntrain import build

    rows = Table("stage", ">epochs", ">rate", ">trainable", "frozen")
    for stage in stages:
        build.freeze(model, stage.frozen)
        trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
        rate = f"{stage.optimizer.options.lr:g}"  # type: ignore[attr-defined] # the options' type is made at run time
        frozen = ", ".join(name for name, _ in model.named_modules() if name in stage.frozen)
        rows.add(str(stage.number), str(stage.epochs), rate, f"{trainable:,}", frozen or "-")
    rows.print(console())


def lr_find(
    config: Config,
    set_: Set = None,
    start: Annotated[float, typer.Option(help="The lowest rate.")] = 1e-6,
    end: Annotated[float, typer.Option(help="The highest rate.")] = 10.0,
    steps: Annotated[int, typer.Option(help="Optimizer steps from one to the other.")] = 200,
    smoothing: Annotated[float, typer.Option(help="Weight of the past in the moving average of the loss.")] = 0.9,
    tolerance: Annotated[float, typer.Option(help="Stop where the loss is so many times its lowest value.")] = 4.0,
    device: Device = None,
    write: Annotated[bool, typer.Option("--write", help="Write the suggestion into the file.")] = False,
    plugin: Plugin = None,
    json: Json = False,
) -> None:
    """Try learning rates from low to high on the first steps of a training, and suggest one."""
    with user_errors():
        load_plugins(plugin)
        from dataclasses import asdict

        from dnntrain import build, spec
        from dnntrain.diagnostics.lr_finder import find_rate, settings_for
        from dnntrain.diagnostics.schedule_curve import draw_losses
        from dnntrain.placement import place, settings
        from dnntrain.spec.edit import set_values_in_file

        overrides = [*(set_ or ()), *([] if device is None else [f"training.device={dumps(device)}"])]
        experiment = spec.load(config, overrides)
        data = build.open_data(experiment)
        experiment = build.resolve(experiment, data)
        placement = place(experiment)
        with settings(experiment, placement):
            sweep = find_rate(
                build.build(experiment, data, placement),
                start=start,
                end=end,
                steps=steps,
                smoothing=smoothing,
                tolerance=tolerance,
            )
        values = {} if sweep.suggestion is None else settings_for(experiment, sweep.suggestion)
        shown = ", ".join(f"{key}={value:g}" for key, value in values.items())
        if json:
            print_json({**asdict(sweep), "suggestion": sweep.suggestion, "settings": values})
        else:
            out = console()
            out.print(draw_losses(sweep.rates, sweep.smoothed, width=min(out.width, 100)), markup=False)
            if not sweep.diverged:
                out.print(f"the loss did not rise up to a rate of {end:g}: higher ones may be good as well; see --end")
            if not values:
                out.print("no suggestion: the loss never fell")
            else:
                out.print(f"suggestion: {shown}; a tenth of the rate where the loss is lowest", markup=False)
        if write and values:
            set_values_in_file(config, values)
            if not json:
                print(visible(f"wrote {shown} into {config}"))


def _draw_schedule(experiment: Any, data: Any) -> None:
    """Draw the learning rate, and the momentum where it changes, as training will have them."""
    from dnntrain.diagnostics.schedule_curve import draw

    out = console()
    out.print()
    out.print(draw(_curve(experiment, data), width=min(out.width, 100)), markup=False)
    if experiment.schedule.entry.traits["reacts"]:
        out.print("the rate falls further whenever the monitored metric stops improving", markup=False)


def _curve(experiment: Any, data: Any) -> Curve:
    """Return the learning rate and the momentum of every step that is planned."""
    from dnntrain import build
    from dnntrain.diagnostics.schedule_curve import joined, schedule_curve
    from dnntrain.placement import place

    placement = place(experiment)
    built = build.build(experiment, data, placement, restored=True)
    curves = [schedule_curve(built)]
    for stage in build.stages(experiment, built.model)[1:]:
        built = build.at_stage(experiment, placement, built, stage)
        curves.append(schedule_curve(built))
    return joined(curves)


def _report(record: Any, *, quiet: bool, json: bool) -> None:
    """Say how a run ended, what it reached, and where it lies; on stderr what else there is to know."""
    path, summary = record.path, record.summary
    for remark in record.remarks:
        print(remark, file=sys.stderr)
    if json:
        print_json({**summary, "path": str(path)})
        return
    if quiet:
        print(path)
        return
    out = console()
    best, test = summary["best"], summary["test"]
    reason = f" ({summary['stop_reason']})" if summary["stop_reason"] else ""
    out.print()
    out.print(
        f"{summary['status']} after {summary['epochs']} epochs in {duration(summary['seconds'])}{reason}", markup=False
    )
    if best["epoch"] is not None:
        names = _names(best["metrics"])
        lines = Table("", *(f">{name}" for name in names))
        for part in ("train", "valid"):
            if f"{part}/loss" in best["metrics"]:
                lines.add(f"{part}, epoch {best['epoch']} (best)", *_cells(best["metrics"], part, names))
        if test:
            lines.add("test, with those weights", *_cells(test, "test", names))
        lines.print(out)
    speed = summary["samples_per_second"]
    out.print(f"{summary['parameters']:,} parameters, {speed:,.0f} samples/s" if speed else "")
    out.print(f"[bold]{escape(visible(str(path)))}[/bold]")


def _names(metrics: dict[str, Any]) -> list[str]:
    return [name.removeprefix("train/") for name in metrics if name.startswith("train/")]


def _cells(metrics: dict[str, Any], part: str, names: list[str]) -> list[str]:
    return [figure(name, metrics[f"{part}/{name}"]) if f"{part}/{name}" in metrics else "" for name in names]
