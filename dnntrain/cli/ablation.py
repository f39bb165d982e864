"""The commands that ask what an experiment's settings do: ablate, bisect."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dnntrain.cli.output import (
    Json,
    Plugin,
    RunsDir,
    Set,
    Voice,
    console,
    figure,
    load_plugins,
    print_json,
    user_errors,
)
from dnntrain.cli.sweeping import needed
from dnntrain.cli.tables import Table, prose
from dnntrain.errors import UsageError, shorten, visible
from dnntrain.units import count

if TYPE_CHECKING:
    from dnntrain.sweep.ablation import Ablation, Effects
    from dnntrain.sweep.bisection import Explanation
    from dnntrain.sweep.conductor import Conductor, Event
    from dnntrain.sweep.engines.base import Engine
    from dnntrain.sweep.study import Study

Seeds = Annotated[int | None, typer.Option(min=1, help="Runs of each configuration.  [default: 3]", show_default=False)]
Workers = Annotated[str, typer.Option(help="Processes on this machine, or auto.")]
Metric = Annotated[str | None, typer.Option(help="Such as valid/accuracy; what is monitored.", show_default=False)]
Experiment = Annotated[str, typer.Argument(help="A run, or an experiment file.", show_default=False)]
SEEDS = 3


def ablate(
    config: Annotated[Path | None, typer.Argument(help="An experiment file.", show_default=False)] = None,
    seeds: Seeds = None,
    without: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="Take only these away: activation,dropout.", show_default=False),
    ] = None,
    metric: Metric = None,
    workers: Workers = "1",
    set_: Set = None,
    runs_dir: RunsDir = Path("runs"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be trained.")] = False,
    resume: Annotated[
        str | None, typer.Option(metavar="DIR", help="Go on with an ablation that was begun.", show_default=False)
    ] = None,
    plugin: Plugin = None,
    json: Json = False,
) -> None:
    """Take each technique of an experiment away by itself, and say what it buys."""
    with user_errors():
        if (config is None) == (resume is None):
            raise UsageError("name an experiment file or, after --resume, an ablation that was begun")
        if resume is not None and (seeds, without, metric, set_) != (None, None, None, None):
            raise UsageError("an ablation goes on as it was begun: leave out --seeds, --without, --metric and --set")
        from dnntrain.sweep.engines.choice import choose, prepare

        if not dry_run:
            prepare(None, workers)
        load_plugins(plugin)
        from dnntrain import spec
        from dnntrain.sweep import ablation
        from dnntrain.sweep.study import Study, find

        if resume is not None:
            study = Study(find(resume, runs_dir))
            planned = ablation.read_ablation(study.plan, source=str(study.directory.path))
        else:
            only = None if without is None else [name.strip() for name in without.split(",")]
            experiment = spec.load(config or "", set_ or ())
            planned = ablation.plan_ablation(experiment, seeds=seeds or SEEDS, metric=metric, only=only, runs=runs_dir)
        if not json:
            _print_plan(planned)
        elif dry_run:
            print_json({"sweep": None, **ablation.as_json(planned)})
        if dry_run:
            return
        engine = choose(None, workers)
        if resume is None:
            study = Study.begin(planned.plan.draft, runs=runs_dir)
        _train(planned, study, engine, json, options=needed(None, plugin))


def _train(planned: Ablation, study: Study, engine: Engine, json: bool, *, options: str) -> None:
    """Train what is planned, and tell what came of it.

    Args:
        planned: that.
        study: the sweep that does it.
        engine: trains.
        json: whether to print JSON alone.
        options: that the command which goes on with it needs.

    Raises:
        Exit: with 1, where runs have failed.
    """
    from dnntrain.cli.watching import display
    from dnntrain.sweep import ablation

    path = study.directory.path
    try:
        with display(study, silent=json) as observer:
            result = study.work(engine, observer=observer)
    except KeyboardInterrupt as interrupted:
        interrupted.add_note(visible(f"to go on: dnntrain ablate --resume {shlex.quote(str(path))}{options}"))
        raise
    found = ablation.effects(planned, result)
    if json:
        print_json({"sweep": str(path), **ablation.as_json(planned, found, result)})
    else:
        _print_effects(found, path)
    if result.failed:
        raise typer.Exit(1)


def bisect(
    a: Experiment,
    b: Experiment,
    seeds: Seeds = None,
    metric: Metric = None,
    max_runs: Annotated[
        int | None, typer.Option("--max-runs", metavar="N", min=1, help="Train no more than N.", show_default=False)
    ] = None,
    workers: Workers = "1",
    set_: Set = None,
    runs_dir: RunsDir = Path("runs"),
    plugin: Plugin = None,
    json: Json = False,
) -> None:
    """Find the settings that explain the gap between two experiments, by training some between them."""
    with user_errors():
        from dnntrain.sweep.engines.choice import choose, prepare

        prepare(None, workers)
        load_plugins(plugin)
        from dnntrain.sweep import bisection, telling
        from dnntrain.sweep.between import Between, differing, draft_between, open_experiment
        from dnntrain.sweep.plan import Plan

        ends = [open_experiment(each, runs=runs_dir, overrides=set_ or ()) for each in (a, b)]
        values = differing(*ends)
        draft = draft_between(*ends, seeds=seeds or SEEDS, metric=metric)

        def name(number: int) -> str:
            return telling.configuration(between.asked[number], between.keys)

        plan = Plan(draft)
        steps = Steps(name, plan.metric, silent=json)
        between = Between(plan, runs=runs_dir, engine=choose(None, workers), observer=steps)
        if not json:
            _print_values(values, plan.sweep.seeds)
        try:
            found = bisection.explain(between, between.keys, better=plan.better, most_runs=max_runs)
        except KeyboardInterrupt as interrupted:
            interrupted.add_note("to go on, begin again: what has come to its end is found again")
            raise
        path = between.directory.path
        if json:
            print_json({"sweep": str(path), "metric": plan.metric, **bisection.as_json(found, values)})
        else:
            _print_explanation(found, plan.metric, path)


class Steps:
    """Prints a line for each run of a bisection that has come to its end; silent when nobody reads them any more.

    Args:
        name: of a configuration, by its number.
        metric: what is shown of a run.
        silent: whether to print nothing at all.
    """

    def __init__(self, name: Callable[[int], str], metric: str, *, silent: bool) -> None:
        self._name = name
        self._metric = metric
        self._voice = Voice(silent=silent)
        self._done = 0

    def on_event(self, event: Event, /) -> None:
        """Print what became of a run."""
        if event.stretch is None or event.kind not in ("done", "reused", "failed", "lost"):
            return
        self._done += event.kind != "lost"
        came = f"{self._metric} {figure(self._metric, event.value)}" if event.value is not None else event.kind
        note = " (there already)" if event.kind == "reused" else event.message and f": {event.message}"
        line = f"[{self._done}] {self._name(event.configuration)}, seed {event.stretch.seed}: {came}{note}"
        self._voice.say(visible(line, keep=""))

    def on_tick(self, conductor: Conductor, /) -> None:
        """Nothing is shown between the ends of runs."""


def _print_plan(planned: Ablation) -> None:
    from dnntrain.sweep.ablation import named

    out = console()
    seeds = planned.plan.sweep.seeds
    shown = Table("without", "key", "now", "instead")
    for name, changes in planned.changes.items():
        for i, change in enumerate(changes):
            shown.add("" if i else name, change.key, *(named(each) for each in (change.old, change.new)))
    shown.print(out)
    out.print()
    if planned.plain:
        prose(out, f"plain already: {', '.join(planned.plain)}")
    for each in planned.refused:
        prose(out, f"cannot be without {each.technique}: {each.message}")
    prose(out, f"{planned.plan.wanted} configurations, each with {count(seeds, 'seed')}: {planned.plan.runs} runs")
    out.print()


def _print_effects(found: Effects, path: Path) -> None:
    from dnntrain.sweep import telling

    out = console()
    direction = "lower" if found.better == "min" else "higher"
    out.print()
    prose(
        out,
        f"{found.metric}, {direction} is better; as it is: {figure(found.metric, found.mean)}, "
        f"the mean of {count(len(found.values), 'seed')}",
    )
    out.print()
    shown = Table("without", f">{found.metric}", "~what becomes of it")
    for each in found.effects:
        shown.add(each.technique, figure(found.metric, each.mean), telling.difference(each.difference, found.metric))
    shown.print(out)
    for remark in telling.ablation(found):
        out.print()
        prose(out, remark)
    _print_place(path)


def _print_values(values: dict[str, tuple[Any, Any]], seeds: int) -> None:
    out = console()
    shown = Table("what differs", "A", "B")
    for key, pair in values.items():
        shown.add(key, *map(_written, pair))
    shown.print(out)
    out.print()
    prose(out, f"A and B first, then some between them; each with {count(seeds, 'seed')}")
    out.print()


def _print_explanation(found: Explanation, metric: str, path: Path) -> None:
    from dnntrain.sweep import telling

    out = console()
    means = [_mean(end) for end in found.ends]
    direction = "lower" if found.better == "min" else "higher"
    out.print()
    prose(out, f"{metric}, {direction} is better: A {figure(metric, means[0])}, B {figure(metric, means[1])}")
    prose(out, f"B beside A: {telling.difference(found.gap, metric)}")
    out.print()
    if found.real:
        shown = Table("from A to B, in this order", ">of the gap", "~what becomes of it")
        for each in found.shares:
            words = telling.difference(each.difference, metric)
            shown.add(", ".join(each.keys), telling.percent(each.part), words)
        shown.print(out)
        out.print()
    for remark in telling.bisection(found, metric):
        prose(out, remark)
    prose(out, f"{found.configurations} configurations, {found.trained} runs trained for it")
    _print_place(path)


def _print_place(path: Path) -> None:
    print(visible(f"\nto look closer: dnntrain compare {shlex.quote(str(path))}"))


def _written(value: Any) -> str:
    """Write a value of an experiment on one line, short enough for a table."""
    from dnntrain.spec.forms import flow

    return shorten(flow(value), 60)


def _mean(values: Any) -> float | None:
    known = [value for value in values.values() if value is not None]
    return sum(known) / len(known) if known else None
