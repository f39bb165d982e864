"""The commands that train many runs: sweep, worker."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dnntrain.cli.output import (
    Json,
    Plugin,
    Quiet,
    RunsDir,
    Set,
    console,
    figure,
    load_plugins,
    print_json,
    user_errors,
)
from dnntrain.cli.tables import Table, prose
from dnntrain.errors import UsageError, visible

if TYPE_CHECKING:
    from dnntrain.spec import Draft
    from dnntrain.sweep.engines.base import Engine
    from dnntrain.sweep.results import Ranked, Result
    from dnntrain.sweep.study import Study

_CHOSEN = ("search", "trials", "seeds", "folds", "prune", "metric", "timeout", "budget")
"""Keys of the section `sweep` that are options too."""

MOST_SHOWN = 20
"""So many configurations are listed; all of them are in runs.jsonl."""

Grid = Annotated[
    list[str] | None,
    typer.Option(metavar="K=A,B", help="Try these values of a key: --grid optimizer.lr=0.01,0.1. May be repeated."),
]
Search = Annotated[str | None, typer.Option(help="grid, random, qmc, tpe or gp.", show_default=False)]
Trials = Annotated[int | None, typer.Option(min=1, help="Configurations to try.", show_default=False)]
Seeds = Annotated[int | None, typer.Option(min=1, help="Runs of each configuration.", show_default=False)]
Folds = Annotated[int | None, typer.Option(min=2, help="Cross-validate in so many folds.", show_default=False)]
Prune = Annotated[str | None, typer.Option(help="asha, hyperband, median, patience or none.", show_default=False)]
Metric = Annotated[str | None, typer.Option(help="What is searched for: valid/accuracy, ...", show_default=False)]
Timeout = Annotated[str | None, typer.Option(help="Begin nothing more after 30m, 2h, ...", show_default=False)]
Workers = Annotated[
    str | None,
    typer.Option(
        help="Processes on this machine, or auto.  [default: 1; on a Ray cluster all that it has room for]",
        show_default=False,
    ),
]
EngineName = Annotated[str | None, typer.Option("--engine", help="inline, local or ray.", show_default=False)]
Address = Annotated[str | None, typer.Option(help="Of a Ray cluster: auto, HOST:PORT.", show_default=False)]
Cpus = Annotated[
    float | None, typer.Option(min=0, help="CPUs of each trial on a Ray cluster: its threads.", show_default=False)
]
Gpus = Annotated[
    float | None, typer.Option(min=0, help="GPUs of each trial on a Ray cluster; 0.5 shares one.", show_default=False)
]
BringHome = Annotated[
    bool, typer.Option("--bring-home", help="The nodes of a Ray cluster do not see the runs' folder.")
]
Budget = Annotated[str | None, typer.Option(help="Cut trials or epochs to take 30m, 2h, ...", show_default=False)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it would take, and train nothing.")]
Storage = Annotated[
    str | None, typer.Option(metavar="URL", help="Database that keeps the state; else a file.", show_default=False)
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Train anew what has been trained before.")]
Resume = Annotated[str | None, typer.Option(metavar="DIR", help="Go on with a sweep.", show_default=False)]


def sweep(
    config: Annotated[Path | None, typer.Argument(help="An experiment file.", show_default=False)] = None,
    grid: Grid = None,
    search: Search = None,
    trials: Trials = None,
    seeds: Seeds = None,
    folds: Folds = None,
    prune: Prune = None,
    metric: Metric = None,
    timeout: Timeout = None,
    budget: Budget = None,
    dry_run: DryRun = False,
    workers: Workers = None,
    engine: EngineName = None,
    address: Address = None,
    cpus: Cpus = None,
    gpus: Gpus = None,
    bring_home: BringHome = False,
    fresh: Fresh = False,
    storage: Storage = None,
    set_: Set = None,
    runs_dir: RunsDir = Path("runs"),
    plugin: Plugin = None,
    resume: Resume = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train many runs from one file: search a space, over seeds, and say which configuration is best."""
    with user_errors():
        from dnntrain.sweep.engines.choice import Cluster, choose, prepare

        if not dry_run:
            prepare(engine, workers, address)
        load_plugins(plugin)
        from dnntrain.spec import draft
        from dnntrain.sweep.study import Study, find

        if (config is None) == (resume is None):
            raise UsageError("name an experiment file, or a sweep to go on with: --resume DIR")
        chosen = zip(_CHOSEN, (search, trials, seeds, folds, prune, metric, timeout, budget), strict=True)
        changes = [*(set_ or ()), *(f"sweep.{key}={_yaml(value)}" for key, value in chosen if value is not None)]
        if resume is not None and (dry_run or changes or grid):
            raise UsageError("a sweep goes on as it was begun: leave out what changes it, or begin another one")
        hired = choose(engine, workers, Cluster(address, cpus, gpus, bring_home))
        if config is not None:
            made = draft(config, changes, grid or ())
            made = _fitted(made, hired, runs_dir, dry_run=dry_run, quiet=quiet, json=json)
            if dry_run:
                return
            study = Study.begin(made, runs=runs_dir, storage=storage)
        else:
            study = Study(find(resume or "", runs_dir), storage=storage)
        _work(study, hired, fresh=fresh, quiet=quiet, json=json, options=needed(storage, plugin))


def worker(
    study: Annotated[str, typer.Argument(help="The directory of a sweep, or its name.")],
    workers: Workers = None,
    engine: EngineName = None,
    address: Address = None,
    cpus: Cpus = None,
    gpus: Gpus = None,
    bring_home: BringHome = False,
    storage: Storage = None,
    runs_dir: RunsDir = Path("runs"),
    plugin: Plugin = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Join a sweep, also from another machine: take runs of it until it is finished."""
    with user_errors():
        from dnntrain.sweep.engines.choice import Cluster, choose, prepare

        prepare(engine, workers, address)
        load_plugins(plugin)
        from dnntrain.sweep.study import Study, find

        try:
            directory = find(study, runs_dir)
        except UsageError:
            if storage is None:
                raise
            # Its directory is on another machine; the database knows all that is needed.
            joined = Study.join(storage, study, runs=runs_dir)
        else:
            joined = Study(directory, storage=storage)
        hired = choose(engine, workers, Cluster(address, cpus, gpus, bring_home))
        _work(joined, hired, fresh=False, quiet=quiet, json=json, options=needed(storage, plugin))


def needed(storage: str | None, plugin: list[Path] | None) -> str:
    """Return the options without which a sweep that was begun with them cannot be gone on with."""
    from dnntrain.sweep.storage import without_password

    given = [] if storage is None else ["--storage", without_password(storage)]
    for path in plugin or ():
        given += ["--plugin", str(path)]
    return "".join(f" {shlex.quote(each)}" for each in given)


def _fitted(made: Draft, engine: Engine, runs: Path, *, dry_run: bool, quiet: bool, json: bool) -> Draft:
    """Say what a sweep will take, and make it fit into its budget, where either is asked for.

    What was changed is always said: on stderr where stdout is for something else.

    Raises:
        SpecError: every mistake of every configuration, at once.
        UsageError: it cannot be made to fit.
    """
    from dnntrain.spec import seconds
    from dnntrain.sweep.budget import as_json, describe, expect, fit, preview
    from dnntrain.sweep.configurations import check_space
    from dnntrain.sweep.plan import Plan
    from dnntrain.sweep.probing import probe

    plan = Plan(made, runs=runs)
    limit = plan.sweep.budget
    if limit is None and not dry_run:
        return made
    check_space(made, plan.space, runs=runs)
    measured, workers = probe(plan, threads=engine.threads), engine.slots
    words: Sequence[str] = ()
    if limit is None:
        expected = expect(plan, measured, workers)
    else:
        fitted = fit(made, plan, measured, workers, seconds(limit))
        made, words, expected = fitted.draft, fitted.words, fitted.expectation
    if dry_run and json:
        print_json(as_json(Plan(made, runs=runs), expected, words))
    elif json or (quiet and not dry_run):
        for line in words:
            print(visible(line), file=sys.stderr)
    else:
        out = console()
        for line in [*(preview(Plan(made, runs=runs)) if dry_run else ()), *words, *describe(expected)]:
            prose(out, line)
        out.print()
    return made


def _work(study: Study, engine: Engine, *, fresh: bool, quiet: bool, json: bool, options: str) -> None:
    """Work on a sweep until it is finished, and tell what came of it.

    Args:
        study: the sweep.
        engine: trains.
        fresh: whether to train anew what is there already.
        quiet: whether to print the directory alone.
        json: whether to print JSON alone.
        options: that the command which goes on with it needs.

    Raises:
        Exit: with 1, where runs have failed.
    """
    from dnntrain.cli.watching import display

    path = study.directory.path
    try:
        with display(study, silent=quiet or json) as observer:
            result = study.work(engine, observer=observer, fresh=fresh)
    except KeyboardInterrupt as interrupted:
        interrupted.add_note(visible(f"to go on: dnntrain sweep --resume {shlex.quote(str(path))}{options}"))
        raise
    if json:
        print_json(as_json(study, result))
    elif quiet:
        print(visible(str(path)))
    else:
        _print(study, result)
    if result.failed:
        raise typer.Exit(1)


def as_json(study: Study, result: Result) -> dict[str, Any]:
    """Return what came of a sweep as plain values."""
    return {
        "schema": 1,
        "path": str(study.directory.path),
        "metric": result.metric,
        "better": result.better,
        "ranking": [
            {
                "configuration": each.number,
                "labels": dict(each.labels),
                "value": each.value,
                "epoch": each.epoch,
                "so_far": each.so_far,
                "figures": dict(each.figures),
                "state": each.state,
            }
            for each in result.ranking
        ],
        "runs": [dict(run) for run in result.runs],
        "verdict": result.verdict,
        "importance": [{"keys": list(each.keys), "share": each.share, "p": each.p} for each in result.importance],
    }


def _print(study: Study, result: Result) -> None:
    out = console()
    directory = study.directory
    out.print()
    _ranking(result).print(out)
    if left := len(result.ranking) - MOST_SHOWN:
        if left > 0:
            prose(out, f"... and {left} more in {directory.path / directory.RUNS}")
    if result.verdict:
        out.print()
        prose(out, result.verdict)
    if result.importance:
        out.print()
        shown = Table("what mattered", ">share of the variance", ">p")
        for each in result.importance:
            shown.add(", ".join(each.keys), f"{100 * each.share:.0f} %", f"{each.p:.3g}")
        shown.print(out)
    for run in result.failed:
        prose(out, f"failed: configuration {run['configuration'] + 1}, seed {run['seed']}: {run['message']}")
    counts = f"{len(result.runs)} runs" + (f", {result.reused} of them reused" if result.reused else "")
    out.print()
    if result.best is not None:
        prose(out, f"the best configuration: {directory.path / directory.BEST}")
    prose(out, f"{counts}; to compare them: dnntrain compare {shlex.quote(str(directory.path))}")


def _ranking(result: Result) -> Table:
    axes = list(dict.fromkeys(name for each in result.ranking for name in each.labels))
    direction = "lower" if result.better == "min" else "higher"
    shown = Table(">", *axes, f">{result.metric}", ">runs", "state", title=f"by {result.metric}, {direction} is better")
    for place, each in enumerate(result.ranking[:MOST_SHOWN], start=1):
        labels = (_label(each.labels[name]) if name in each.labels else "-" for name in axes)
        shown.add(str(place), *labels, _figure(result, each), str(len(each.figures)), each.state)
    return shown


def _figure(result: Result, each: Ranked) -> str:
    if each.epoch is not None:
        return f"{figure(result.metric, each.so_far)} at epoch {each.epoch}"
    return figure(result.metric, each.value)


def _label(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _yaml(value: Any) -> str:
    return "null" if value == "none" else value if isinstance(value, str) else dumps(value)
