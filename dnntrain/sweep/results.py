"""What came of a sweep: the table of its runs, the ranking, and whether the first is better than the second."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dnntrain.compare.importance import Importance, importance
from dnntrain.compare.statistics import compare
from dnntrain.compare.wording import describe_metric
from dnntrain.spec import dump
from dnntrain.sweep.board import Configuration, Ticket
from dnntrain.sweep.plan import Plan


@dataclass(frozen=True)
class Ranked:
    """A configuration in the ranking.

    Attributes:
        number: of the configuration, from 0.
        labels: the value of each axis.
        text: the same in a line.
        value: the mean of the metric over its runs; None where it was given up, or a run failed, or it is not done.
        epoch: of one that was given up, after which epoch; else None.
        so_far: the mean when it was.
        figures: of each run that has one; by seed, or by seed and fold.
        state: `done`, `pruned`, `failed` or `unfinished`.
    """

    number: int
    labels: Mapping[str, Any]
    text: str
    value: float | None
    epoch: int | None
    so_far: float | None
    figures: Mapping[str, float]
    state: str


@dataclass(frozen=True)
class Result:
    """What came of a sweep.

    Attributes:
        metric: what was searched for.
        better: whether lower or higher figures of it are better.
        ranking: all configurations, the best first; then those that were given up, the last one first.
        runs: as `rows` has them.
        verdict: whether the best can be told from the second, in words; empty where there is no second.
        best: the best configuration as an experiment file; None where none is done.
        importance: of the axes, where there are enough configurations to say anything.
    """

    metric: str
    better: str
    ranking: Sequence[Ranked]
    runs: Sequence[Mapping[str, Any]]
    verdict: str
    best: str | None
    importance: Sequence[Importance]

    @property
    def failed(self) -> list[Mapping[str, Any]]:
        """The runs that failed."""
        return [run for run in self.runs if run["status"] in ("failed", "lost")]

    @property
    def reused(self) -> int:
        """How many runs were there before."""
        return sum(bool(run["reused"]) for run in self.runs)


def result(plan: Plan, configurations: Sequence[Configuration], tickets: Sequence[Ticket]) -> Result:
    """Rank the configurations of a sweep."""
    runs = rows(configurations, tickets)
    figures: dict[int, dict[str, float]] = {}
    for run in runs:
        if run["value"] is not None:
            name = str(run["seed"]) if run["fold"] is None else f"{run['seed']}/{run['fold']}"
            figures.setdefault(run["configuration"], {})[name] = run["value"]
    ranking = [_ranked(plan, each, figures.get(each.number, {})) for each in configurations if each.ready]
    sign = 1.0 if plan.better == "min" else -1.0

    def place(each: Ranked) -> tuple[bool, int, float, int]:
        figure = each.so_far if each.value is None else each.value
        return each.value is None, -(each.epoch or 0), sign * figure if figure is not None else math.inf, each.number

    ranking.sort(key=place)
    done = [each for each in ranking if each.state == "done"]
    best = _best(plan, configurations, done[0]) if done else None
    axes = list(dict.fromkeys(name for each in done for name in each.labels))
    found = importance([each.labels for each in done], [each.value for each in done], axes)
    return Result(plan.metric, plan.better, ranking, runs, _verdict(plan, done), best, found)


def _ranked(plan: Plan, configuration: Configuration, figures: Mapping[str, float]) -> Ranked:
    last = max(configuration.rungs, default=None)
    left = configuration.value is None and last is not None
    return Ranked(
        number=configuration.number,
        labels=configuration.labels,
        text=plan.point(configuration).describe(),
        value=configuration.value,
        epoch=plan.rungs(configuration.number)[last] if left and last is not None else None,
        so_far=configuration.rungs[last] if left and last is not None else None,
        figures=figures,
        state=_state(configuration),
    )


def rows(configurations: Sequence[Configuration], tickets: Sequence[Ticket]) -> list[dict[str, Any]]:
    """Return a row for each run: the latest stretch of it that was trained or failed.

    Returns:
        `configuration`, `labels`, `seed`, `fold`, `status` (a ticket's state), `value`, `run` (its path from the
        sweep's directory), `reused` and `message`.
    """
    latest: dict[tuple[int, int, int | None], Ticket] = {}
    for ticket in sorted(tickets, key=lambda each: (each.stretch.rung, each.number)):
        if ticket.state not in ("superfluous", "left"):
            latest[ticket.stretch.run] = ticket
    return [
        {
            "configuration": configuration,
            "labels": dict(configurations[configuration].labels),
            "seed": seed,
            "fold": fold,
            "status": ticket.state,
            "value": ticket.value,
            "run": ticket.directory,
            "reused": ticket.reused,
            "message": ticket.message,
        }
        for (configuration, seed, fold), ticket in sorted(latest.items(), key=lambda item: _order(*item[0]))
    ]


def _order(configuration: int, seed: int, fold: int | None) -> tuple[int, int, int]:
    return configuration, seed, -1 if fold is None else fold


def _state(configuration: Configuration) -> str:
    if not configuration.finished:
        return "unfinished"
    if configuration.pruned:
        return "pruned"
    return "failed" if configuration.value is None else "done"


def _verdict(plan: Plan, done: Sequence[Ranked]) -> str:
    """Say whether the best configuration can be told from the second best."""
    if len(done) < 2:
        return ""
    first, second = done[:2]
    runs = list(enumerate(sorted({*first.figures, *second.figures})))
    ours, theirs = ({i: each.figures[run] for i, run in runs if run in each.figures} for each in (first, second))
    found = compare(ours, theirs, better=plan.better)
    if plan.sweep.folds is None:
        return f"the best beside the second best: {describe_metric(found, plan.metric)}"
    told = describe_metric(found, plan.metric, pairs="folds")
    return f"the best beside the second best: {told}; folds share samples to train on, so it is less sure than it seems"


def _best(plan: Plan, configurations: Sequence[Configuration], best: Ranked) -> str:
    """Write the best configuration as an experiment file, with a word on where it comes from."""
    spec = plan.experiment(plan.point(configurations[best.number]))
    figures = ", ".join(f"{figure:.6g}" for figure in best.figures.values())
    return (
        f"# The best of {len(configurations)} configurations by {plan.metric}: {best.value:.6g} (runs: {figures}).\n"
        f"# {best.text}\n{dump(spec)}"
    )
