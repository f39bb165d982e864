"""What a sweep will take, before its first step; and how it is made to fit into a budget.

What a kind of configuration costs was measured (`probing.probe`). How many epochs a sweep trains follows from its file;
where runs are given up at rungs, from letting the pruner itself judge configurations of made-up ranks.
"""

from __future__ import annotations

import heapq
import math
import random
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from itertools import accumulate, islice
from statistics import fmean
from typing import Any, Final

from dnntrain.errors import Mark, UsageError, visible
from dnntrain.parts.datasets.decoding import memory
from dnntrain.parts.pruners import Pruner, SuccessiveHalving
from dnntrain.spec import Draft
from dnntrain.spec.merge import planted
from dnntrain.sweep.plan import Plan
from dnntrain.sweep.probing import Kind, Probe
from dnntrain.units import count, span, volume

RESERVE: Final = 0.1
"""The share of a budget that is left free, since what is expected may turn out too little."""

FEWEST_TRIALS: Final = 10
"""Trials are cut to so many at least, before epochs are cut."""

LEAST_EPOCHS: Final = 0.1
"""Epochs are cut to this share of what the file says, at least."""

MOST_TRIALS: Final = 10_000
"""A budget is filled with so many trials at most."""

_ORDERS: Final = 20
_MOST_JUDGED: Final = 100


@dataclass(frozen=True)
class Halving:
    """How far configurations that are judged at rungs come.

    Attributes:
        share: of all epochs, from 0 to 1, on average.
        stretches: how many pieces a run is trained in, on average; each is begun by itself.
    """

    share: float
    stretches: float


@dataclass(frozen=True)
class Expectation:
    """What a sweep is expected to take.

    Attributes:
        configurations: how many.
        runs: configurations times seeds times folds.
        epochs: of all runs together.
        most_epochs: the same if none is given up at a rung.
        compute_s: seconds of training, of all workers together.
        clock_s: seconds from the beginning to the end.
        most_clock_s: the same if none is given up at a rung.
        workers: runs that are trained at the same time.
        disk: bytes of all run directories.
        memory: bytes that a worker holds at its peak.
        machine_memory: bytes that there are for all workers together.
        pruner: what gives configurations up, by name; None where nothing does.
        cut_off: whether the sweep's timeout ends it.
        stopping: whether a callback may end runs early.
        probe: on which all this rests.
    """

    configurations: int
    runs: int
    epochs: float
    most_epochs: float
    compute_s: float
    clock_s: float
    most_clock_s: float
    workers: int
    disk: float
    memory: int
    machine_memory: int
    pruner: str | None
    cut_off: bool
    stopping: bool
    probe: Probe

    def finished(self, now: datetime) -> datetime:
        """Return when the sweep ends if it begins now."""
        return now + timedelta(seconds=self.clock_s)


@dataclass(frozen=True)
class Fitted:
    """A sweep that fits into its budget.

    Attributes:
        draft: of it.
        words: what was changed; empty where nothing had to be.
        expectation: what it takes.
    """

    draft: Draft
    words: Sequence[str]
    expectation: Expectation


def expect(
    plan: Plan, probe: Probe, workers: int, *, trials: int | None = None, epochs: int | None = None
) -> Expectation:
    """Return what a sweep is expected to take.

    A run takes its start and, for each epoch, steps x seconds of a step + validation samples x seconds of one + the
    seconds of writing, all as measured of the kind that is most like its own. Runs are handed out to whichever worker
    is free. Workers are taken not to slow each other down.

    Args:
        plan: of the sweep.
        probe: what its configurations cost.
        workers: how many runs are trained at the same time.
        trials: configurations, if not so many as the plan says.
        epochs: of each run, if not so many as its file says.

    Raises:
        UsageError: the sweep has no end.
    """
    wanted = plan.wanted if trials is None else trials
    repetitions = len(plan.stretches(0, 0))
    kinds, shares = probe.kinds, [kind.share for kind in probe.kinds]
    lengths = [epochs or kind.epochs for kind in kinds]
    judged, full = _judged(plan, epochs or plan.base.training.epochs, wanted)
    expected = [_seconds(probe, kind, n, judged) for kind, n in zip(kinds, lengths, strict=True)]
    most = [_seconds(probe, kind, n, full) for kind, n in zip(kinds, lengths, strict=True)]
    cut_off = False
    if plan.timeout is not None:
        begun = math.ceil(plan.timeout * workers / (_mean(shares, expected) * repetitions))
        cut_off, wanted = begun < wanted, min(wanted, begun)
    runs = wanted * repetitions
    training = _each(runs, shares, expected)
    clock_s = max(scheduled(training, workers), max(most) if runs else 0.0)
    sizes = [probe.nearest(kind).bytes(n * judged.share) for kind, n in zip(kinds, lengths, strict=True)]
    return Expectation(
        configurations=wanted,
        runs=runs,
        epochs=runs * judged.share * _mean(shares, lengths),
        most_epochs=runs * _mean(shares, lengths),
        compute_s=sum(training),
        clock_s=clock_s,
        most_clock_s=max(clock_s, scheduled(_each(runs, shares, most), workers)),
        workers=workers,
        disk=runs * _mean(shares, sizes),
        memory=max(each.memory for each in probe.measured),
        machine_memory=_machine_memory(probe.measured[0].device),
        pruner=None if plan.sweep.prune is None else plan.sweep.prune.name,
        cut_off=cut_off,
        stopping=any(kind.spec.callbacks for kind in kinds),
        probe=probe,
    )


def fit(draft: Draft, plan: Plan, probe: Probe, workers: int, budget_s: float) -> Fitted:
    """Make a sweep fit into a budget of time on the clock.

    Of a search, trials are cut first, down to `FEWEST_TRIALS`; where the file says nothing of trials, there will be as
    many as the budget allows. Of a grid, which would not be one any more, and where that is not enough, epochs are cut,
    for all configurations alike and down to `LEAST_EPOCHS` of what the file says.

    Args:
        draft: of the experiment.
        plan: of the same.
        probe: what its configurations cost.
        workers: how many runs are trained at the same time.
        budget_s: seconds.

    Raises:
        UsageError: it cannot be made to fit.
    """
    limit = budget_s * (1 - RESERVE)
    given = _given(plan)
    if given is not None and (as_it_is := expect(plan, probe, workers)).clock_s <= limit:
        return Fitted(draft, (), as_it_is)
    words: list[str] = []
    trials = None
    if plan.method != "grid":
        trials = _most(given or _countable(plan), lambda n: expect(plan, probe, workers, trials=n).clock_s <= limit)
        enough = min(FEWEST_TRIALS, given or FEWEST_TRIALS)
        whole = trials >= min(enough, _countable(plan))
        trials = trials if whole else min(enough, _countable(plan))
        draft = _put(draft, "sweep.trials", trials)
        before = "as many as the budget allows" if given is None else f"cut from {given:,}"
        words.append(f"sweep.trials is {trials:,}, {before}")
        if whole:
            return Fitted(draft, words, expect(plan, probe, workers, trials=trials))
    epochs = _epochs_that_fit(plan, probe, workers, trials, limit, budget_s)
    full = plan.base.training.epochs
    words.append(
        f"training.epochs is {epochs:,}, cut from {full:,} for all configurations alike; schedules spread over all "
        f"epochs, so these are other experiments than those of {full:,}"
    )
    draft = _put(draft, "training.epochs", epochs)
    return Fitted(draft, words, expect(plan, probe, workers, trials=trials, epochs=epochs))


def halving(pruner: Pruner, configurations: int, epochs: int, *, orders: int = _ORDERS) -> Halving:
    """Return how far configurations come under asha or hyperband, if each has the same rank at every rung.

    They come in random orders, one after the other, and the pruner itself decides. Real curves cross, so a few more go
    on. Beyond a hundred, shares no longer change much, so that more are not looked at.

    Args:
        pruner: of that many epochs.
        configurations: how many.
        epochs: of one that is complete.
        orders: over so many orders the mean is taken.
    """
    count = min(configurations, _MOST_JUDGED)
    trained, stretches = [], []
    for seed in range(orders):
        ranks = random.Random(seed).sample(range(count), count)
        reached = _race(pruner, ranks)
        trained += [pruner.rungs(number)[len(figures) - 1] for number, figures in reached.items()]
        stretches += [len(figures) for figures in reached.values()]
    return Halving(fmean(trained) / epochs, fmean(stretches))


def _race(pruner: Pruner, ranks: Sequence[int]) -> dict[int, list[float]]:
    """Return what configurations have at the rungs that they reach."""
    table: dict[int, list[float]] = {}
    waiting: set[int] = set()
    unbegun = iter(range(len(ranks)))
    while True:
        ahead = pruner.queue(waiting, table) if waiting else []
        # Who stands at a rung goes first; then comes a new one; at last, what would wait for others for ever.
        number = next(iter(ahead), None)
        number = next(unbegun, None) if number is None else number
        number = next(iter(pruner.queue(waiting, table, more=False)), None) if number is None else number
        if number is None:
            return table
        table.setdefault(number, []).append(float(ranks[number]))
        (waiting.discard if len(table[number]) == len(pruner.rungs(number)) else waiting.add)(number)


def scheduled(seconds: Iterable[float], workers: int) -> float:
    """Return when the last of some pieces of work ends, each taken in turn by whichever worker is free."""
    free = [0.0] * workers
    for each in seconds:
        heapq.heapreplace(free, free[0] + each)
    return max(free)


def _judged(plan: Plan, epochs: int, configurations: int) -> tuple[Halving, Halving]:
    """Return how far configurations are expected to come, and how far if none is given up."""
    if plan.sweep.prune is None:
        return Halving(1.0, 1.0), Halving(1.0, 1.0)
    pruner: Pruner = plan.sweep.prune.build(epochs=epochs, better="min")
    full = Halving(1.0, fmean(len(pruner.rungs(number)) for number in range(min(configurations, _MOST_JUDGED) or 1)))
    # What the other pruners do depends on the curves.
    return (halving(pruner, configurations, epochs) if isinstance(pruner, SuccessiveHalving) else full), full


def _seconds(probe: Probe, kind: Kind, epochs: int, judged: Halving) -> float:
    measured = probe.nearest(kind)
    return judged.stretches * measured.start_s + epochs * judged.share * measured.epoch_s(kind)


def _mean(shares: Sequence[float], values: Iterable[float]) -> float:
    return sum(share * value for share, value in zip(shares, values, strict=True))


def _each(runs: int, shares: Sequence[float], values: Sequence[float]) -> list[float]:
    """Return the value of each run, so many of each kind as its share says."""
    edges = list(accumulate(shares))
    return [values[min(bisect_right(edges, (i + 0.5) / runs), len(values) - 1)] for i in range(runs)]


def _given(plan: Plan) -> int | None:
    """Return how many configurations a file asks for; None where that is left to the time."""
    return plan.wanted if plan.method == "grid" or plan.sweep.trials is not None else None


def _countable(plan: Plan) -> int:
    size = plan.space.size if plan.method == "random" else None
    return MOST_TRIALS if size is None else min(size, MOST_TRIALS)


def _most(upper: int, fits: Callable[[int], bool], lower: int = 1) -> int:
    """Return the largest number up to `upper` that fits, where every smaller one does too; `lower` - 1 if none does."""
    lower -= 1
    while lower < upper:
        middle = (lower + upper + 1) // 2
        lower, upper = (middle, upper) if fits(middle) else (lower, middle - 1)
    return lower


def _epochs_that_fit(plan: Plan, probe: Probe, workers: int, trials: int | None, limit: float, budget_s: float) -> int:
    """Return to how many epochs all configurations are cut.

    Raises:
        UsageError: fewer than are any use.
    """
    full = plan.base.training.epochs
    if any(axis.name == "training.epochs" for axis in plan.space.axes):
        as_it_is = expect(plan, probe, workers, trials=trials).clock_s
        raise UsageError(
            f"the sweep is expected to take {span(as_it_is)}, more than its budget of {span(budget_s)}, and "
            "training.epochs is searched, so it is not cut: list lower values"
        )
    least = max(1, math.ceil(full * LEAST_EPOCHS))
    epochs = _most(full, lambda n: expect(plan, probe, workers, trials=trials, epochs=n).clock_s <= limit, lower=least)
    if epochs >= least:
        return epochs
    needed = expect(plan, probe, workers, trials=trials, epochs=least)
    raise UsageError(
        f"a budget of {span(budget_s)} is too little: {needed.runs:,} runs of {least:,} epochs, the least of {full:,} "
        f"that they are cut to, are expected to take {span(needed.clock_s)} with {count(workers, 'worker')}; "
        f"{_advice(plan, needed, limit)}"
    )


def _advice(plan: Plan, needed: Expectation, limit: float) -> str:
    """Say what would fit."""
    runs = math.floor(needed.runs * limit / needed.clock_s)
    seeds, folds = plan.sweep.seeds, plan.sweep.folds or 1
    ways = []
    if seeds > 1 and (fewer := runs // (needed.configurations * folds)) >= 1:
        ways.append(f"use {count(min(fewer, seeds - 1), 'seed')} instead of {seeds}")
    if runs >= seeds * folds:
        ways.append(f"search fewer values (about {count(runs // (seeds * folds), 'configuration')} would fit)")
    if needed.clock_s > needed.compute_s / needed.workers * 0.5 and needed.compute_s / needed.runs < limit:
        ways.append(f"use about {count(math.ceil(needed.compute_s / limit), 'worker')} on machines that have them")
    return ", or ".join(ways) or "not even one run fits"


def _put(draft: Draft, key: str, value: int) -> Draft:
    text = f"{key}: {value}"
    return draft.put(key, planted(value, {}, (), Mark("budget", 1, 1, len(text), text)))


def _machine_memory(device: str) -> int:
    """Return the bytes that all workers share: of the GPUs, or of the machine."""
    if device == "cuda":
        import torch

        return sum(torch.cuda.get_device_properties(i).total_memory for i in range(torch.cuda.device_count()))
    return memory()


def describe(expected: Expectation, *, now: datetime | None = None) -> list[str]:
    """Say what a sweep is expected to take, a line for each thing.

    Args:
        expected: that.
        now: when it begins, in local time.
    """
    now = now or datetime.now().astimezone()
    probe, workers = expected.probe, expected.workers
    ends = expected.finished(now)
    day = "" if ends.date() == now.date() else f" on {ends:%A, %d %B %Y}"
    lines = [
        f"{count(expected.configurations, 'configuration')}, {count(expected.runs, 'run')}, {_epochs(expected)}",
        f"{span(expected.compute_s)} of computing, {span(expected.clock_s)} on the clock with "
        + count(workers, "worker")
        + (f", {span(expected.most_clock_s)} at most" if expected.pruner else "")
        + f": finished at {ends:%H:%M}{day}",
        f"{volume(expected.disk)} of disk, {volume(expected.memory)} of memory for each worker",
    ]
    together = workers * expected.memory
    if together > expected.machine_memory:
        fits = max(1, expected.machine_memory // max(1, expected.memory))
        lines.append(
            f"warning: {workers} workers need {volume(together)} of memory, and there are "
            f"{volume(expected.machine_memory)}: use {fits}"
        )
    if expected.cut_off:
        lines.append("the sweep's timeout ends it before all configurations that it asks for are begun")
    if expected.stopping:
        lines.append("callbacks may end runs sooner")
    return [*lines, *_basis(probe)]


def as_json(plan: Plan, expected: Expectation, words: Sequence[str]) -> dict[str, Any]:
    """Return what a sweep would do, and is expected to take, as plain values.

    Args:
        plan: of the sweep.
        expected: what it takes.
        words: what was changed to make it fit.
    """
    points = islice(plan.points(), expected.configurations) if plan.listed else ()
    told = {each.name: getattr(expected, each.name) for each in fields(expected) if each.name != "probe"}
    return {
        "search": plan.method,
        "trials": [dict(point.labels) for point in points],
        "changed": list(words),
        **told,
        "measured": [
            {
                "configuration": each.kind.text,
                "steps": each.steps,
                "start_s": each.start_s,
                "step_s": each.step_s,
                "epoch_s": each.epoch_s(each.kind),
            }
            for each in expected.probe.measured
        ],
    }


def _epochs(expected: Expectation) -> str:
    if expected.pruner is None:
        return f"{round(expected.epochs):,} epochs"
    if expected.epochs == expected.most_epochs:
        return f"at most {round(expected.epochs):,} epochs: how many {expected.pruner} saves, the curves decide"
    return f"about {round(expected.epochs):,} of {round(expected.most_epochs):,} epochs under {expected.pruner}"


def _basis(probe: Probe) -> list[str]:
    """Say what was measured and what is taken from it."""
    threads = count(probe.threads, "thread")
    lines = [f"measured on {count(probe.steps, 'step')} in {probe.seconds:.0f} s, with {threads} and nothing beside"]
    for each in probe.measured:
        kind = each.kind
        lines.append(
            f"  {visible(kind.text)}: {each.step_s * 1e3:.3g} ms a step, {each.epoch_s(kind):.3g} s an epoch of "
            f"{count(kind.steps, 'step')}, {each.start_s:.2g} s to begin and end a run"
        )
    taken = sum(min(each.kind.distance(kind) for each in probe.measured) > 0 for kind in probe.kinds)
    if taken:
        lines.append(
            f"{count(taken, 'other kind')} of configurations: not measured, taken to cost what the most similar does"
        )
    if probe.drawn:
        lines.append(f"which configurations come depends on results: {probe.looked_at:,} random ones stand for them")
    return lines


def preview(plan: Plan, limit: int = 20) -> list[str]:
    """Return a line for each of the first configurations, and one for how many follow."""
    if not plan.listed:
        return [f"{plan.method} picks each configuration after looking at those before it"]
    lines = [f"{number}  {visible(point.describe())}" for number, point in enumerate(islice(plan.points(), limit), 1)]
    more = plan.wanted - len(lines)
    return [*lines, f"... and {more:,} more"] if more > 0 else lines
