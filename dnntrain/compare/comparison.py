"""The three answers about groups of runs: who converges faster, who ends better, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from statistics import fmean, median
from typing import Any, Final

from dnntrain.compare.convergence import Convergence, Reached, faster_all
from dnntrain.compare.estimates import Estimate, best_of, estimate, median_interval
from dnntrain.compare.records import Collection, Group, Run, differing, grouped
from dnntrain.compare.settings import telling
from dnntrain.compare.statistics import Difference, Direction, compare_all
from dnntrain.errors import UsageError, suggest

SCHEMA: Final = 1
"""Version of what `as_json` returns."""

_OF_THE_DATA: Final = ("data.dataset", "data.classes")
_OF_ITS_VALIDATION: Final = ("data.validation",)
_LOWER_IS_BETTER: Final = ("loss", "mse", "mae", "calibration_error", "penalty")


@dataclass(frozen=True)
class Target:
    """What a metric must reach, and which way is up."""

    metric: str
    better: Direction
    value: float | None

    def reached_by(self, value: Any) -> bool:
        """Whether a figure is as good as the target."""
        if self.value is None or not isinstance(value, int | float):
            return False
        return value <= self.value if self.better == "min" else value >= self.value


@dataclass(frozen=True)
class Speed:
    """What a group's training costs: medians over its runs; None where nothing is recorded.

    Attributes:
        samples_per_second: in training.
        seconds_per_epoch: training and validation.
        prediction_seconds: for one sample of the validation part, in large batches.
        peak_memory: in bytes, of the process or the GPU.
    """

    samples_per_second: float | None
    seconds_per_epoch: float | None
    prediction_seconds: float | None
    peak_memory: float | None


@dataclass(frozen=True)
class Row:
    """One group of runs beside the baseline.

    Attributes:
        group: its runs.
        values: the metric at the best epoch by seed; None for a run without one.
        quality: mean over seeds with its interval.
        difference: to the baseline; None for the baseline itself.
        best_epoch: median over the runs.
        best_seconds: training time to the best epoch, median over the runs.
        convergence: in epochs, to the baseline's typical best value; None for the baseline itself.
        reached: when the group's runs reached it, in epochs and in seconds.
        speed: what training costs.
        parameters: of the network.
        statuses: how many runs have which status.
    """

    group: Group
    values: Mapping[int, float | None]
    quality: Estimate
    difference: Difference | None
    best_epoch: float | None
    best_seconds: float | None
    convergence: Convergence | None
    reached: tuple[Reached, Reached]
    speed: Speed
    parameters: int | None
    statuses: Mapping[str, int]

    @cached_property
    def median(self) -> Estimate:
        """Median over seeds with its bootstrap interval; the draws are the same whenever it is asked for."""
        import numpy as np

        return median_interval(self.values.values(), generator=np.random.default_rng(0))


@dataclass(frozen=True)
class Comparison:
    """Groups of runs, compared.

    Attributes:
        metric: by which quality is compared.
        better: whether lower or higher figures of it are better.
        target: of convergence: the median over the baseline's seeds of its best value. Where the metric is not measured
            at every epoch, as those of the test part, it is one of what the runs monitored.
        baseline: the label of the group that the others are compared with.
        keys: of the experiments, those that differ between groups.
        rows: the groups, the best first.
        remarks: what was left out, and what to bear in mind.
    """

    metric: str
    better: Direction
    target: Target
    baseline: str
    keys: Sequence[str]
    rows: Sequence[Row]
    remarks: Sequence[str]


def compare_runs(
    found: Collection,
    *,
    metric: str | None = None,
    baseline: str | None = None,
    sort: str = "quality",
    each_run: bool = False,
) -> Comparison:
    """Compare groups of runs that differ in their seeds only.

    Each run counts with its figure at the best epoch, as its own monitor chose it. The target of convergence is one
    number for all: the median over the baseline's seeds of that figure.

    Args:
        found: the runs.
        metric: such as `valid/accuracy`; what the runs monitored unless given. Runs that did not measure it, or not
            yet, are left out.
        baseline: a group's label, or a run's name; the group of the oldest run unless given.
        sort: `quality`, `convergence`, `speed` or `age`.
        each_run: compare runs, each a group of its own, so that there is no verdict.

    Raises:
        UsageError: the metric is in none of the runs, or there is no such group.
    """
    chosen, better = _metric(found.runs, metric)
    runs, left_out = _measured(found, chosen)
    groups = [Group((run,), run.id) for run in runs] if each_run else grouped(runs)
    base = _baseline(groups, baseline)
    values = {group.label: {run.seed: run.best(chosen) for run in group.runs} for group in groups}
    target = _target(
        base, *((chosen, better) if any(chosen in row for row in base.runs[0].rows) else base.runs[0].monitor)
    )
    others = {label: each for label, each in values.items() if label != base.label}
    differences = compare_all(others, values[base.label], better=better)
    reached = {group.label: _reached(group, target) for group in groups}
    arrivals = {label: each[0] for label, each in reached.items() if label != base.label}
    convergences = faster_all(arrivals, reached[base.label][0])
    rows = [
        Row(
            group=group,
            values=values[group.label],
            quality=estimate(values[group.label].values()),
            difference=differences.get(group.label),
            best_epoch=_median(_best_epochs(group)),
            best_seconds=_median(_best_seconds(group)),
            convergence=convergences.get(group.label),
            reached=reached[group.label],
            speed=_speed(group),
            parameters=_parameters(group),
            statuses=_counted(run.status for run in group.runs),
        )
        for group in groups
    ]
    configurations = [group.configuration for group in groups]
    keys = differing(configurations)
    remarks = [*found.remarks, *left_out, *_remarks(rows, chosen, telling(keys, configurations))]
    return Comparison(chosen, better, target, base.label, keys, _sorted(rows, sort, better), remarks)


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as plain values.

    Returns:
        `schema`, `metric`, `better` (min or max), `target`, `baseline`, `keys`, `remarks`; and `groups`, in the order
        of the table, each with its label, runs, seeds, configuration (of the keys that differ), statuses, parameters,
        values by seed, and the three answers: `quality` (`Estimate` and `Difference`), `convergence` (`Reached` in
        epochs and in seconds, and `Convergence`) and `speed` (`Speed`). Times that will never come are infinite.
    """
    return {
        "schema": SCHEMA,
        "metric": comparison.metric,
        "better": comparison.better,
        "target": asdict(comparison.target),
        "baseline": comparison.baseline,
        "keys": list(comparison.keys),
        "remarks": list(comparison.remarks),
        "groups": [_row_as_json(row, comparison.keys) for row in comparison.rows],
    }


def _row_as_json(row: Row, keys: Sequence[str]) -> dict[str, Any]:
    epochs, seconds = row.reached
    return {
        "label": row.group.label,
        "runs": [run.id for run in row.group.runs],
        "seeds": row.group.seeds,
        "configuration": {key: row.group.configuration.get(key) for key in keys},
        "statuses": dict(row.statuses),
        "parameters": row.parameters,
        "values": {str(seed): value for seed, value in row.values.items()},
        "quality": {
            **asdict(row.quality),
            "median": asdict(row.median),
            "best_epoch": row.best_epoch,
            "best_seconds": row.best_seconds,
            "difference": asdict(row.difference) if row.difference else None,
        },
        "convergence": {
            "epochs": asdict(epochs),
            "seconds": asdict(seconds),
            "comparison": asdict(row.convergence) if row.convergence else None,
        },
        "speed": asdict(row.speed),
    }


def _metric(runs: Sequence[Run], asked: str | None) -> tuple[str, Direction]:
    """Return the metric to compare by, and which way is up."""
    monitors = dict.fromkeys(run.monitor for run in runs)
    if asked is None:
        if len({metric for metric, _ in monitors}) > 1:
            names = ", ".join(metric for metric, _ in monitors)
            raise UsageError(f"these runs monitored different metrics ({names}): say which one counts with --metric")
        metric, mode = next(iter(monitors))
        return metric, "max" if mode == "max" else "min"
    measured = {name for run in runs for name in (*run.summary["best"]["metrics"], *(run.summary["test"] or {}))}
    if asked not in measured:
        raise UsageError(f"no run has the metric '{asked}': {suggest(asked, (m for m in measured if '/' in m))}")
    known: dict[str, Direction] = {metric: "max" if mode == "max" else "min" for metric, mode in monitors}
    return asked, known.get(asked, direction(asked))


def direction(metric: str) -> Direction:
    """Return which way is up for a metric that no run monitored, by its name."""
    return "min" if metric.rpartition("/")[2] in _LOWER_IS_BETTER else "max"


def _measured(found: Collection, metric: str) -> tuple[list[Run], list[str]]:
    """Return the runs that have a metric, or never will, and a remark about each of the others."""
    lacking = [run for run in found.runs if run.lacks(metric)]
    if len(lacking) == len(found.runs):
        raise UsageError(f"none of these runs has {metric} yet")
    remarks = [f"left out: {run.id} is {run.status} and has no {metric}" for run in lacking]
    return [run for run in found.runs if not run.lacks(metric)], remarks


def _baseline(groups: Sequence[Group], asked: str | None) -> Group:
    if asked is None:
        return groups[0]
    for group in groups:
        if asked == group.label or any(run.id == asked or run.id.startswith(f"{asked}-") for run in group.runs):
            return group
    raise UsageError(f"no group or run '{asked}' to take as the baseline: {suggest(asked, [g.label for g in groups])}")


def _target(baseline: Group, metric: str, better: str) -> Target:
    known = [value for run in baseline.runs if (value := run.best(metric)) is not None]
    return Target(metric, "max" if better == "max" else "min", median(known) if known else None)


def _reached(group: Group, target: Target) -> tuple[Reached, Reached]:
    """Return when the runs of a group reached the target, in epochs and in seconds of training.

    A run that ended by itself without reaching it would not have reached it later either, as its patience says; one
    that failed never will. One that is still going on may.
    """
    epochs, seconds, arrived = [], [], []
    for run in group.runs:
        spent = 0.0
        epoch, reached = 0, False
        for row in run.rows:
            spent += row.get("seconds") or 0.0
            epoch = row["epoch"]
            if target.reached_by(row.get(target.metric)):
                reached = True
                break
        never = not reached and run.status in ("failed", "stopped")
        epochs.append(math.inf if never else float(epoch))
        seconds.append(math.inf if never else spent)
        arrived.append(reached)
    return Reached(tuple(epochs), tuple(arrived)), Reached(tuple(seconds), tuple(arrived))


def _best_epochs(group: Group) -> Iterator[float | None]:
    return (run.summary["best"].get("epoch") for run in group.runs)


def _best_seconds(group: Group) -> Iterator[float | None]:
    for run in group.runs:
        best = run.summary["best"].get("epoch")
        yield sum(row.get("seconds") or 0.0 for row in run.rows if row["epoch"] <= best) if best else None


def _speed(group: Group) -> Speed:
    seconds = [row["seconds"] for run in group.runs for row in run.rows if row.get("seconds")]
    return Speed(
        samples_per_second=_median(run.summary.get("samples_per_second") for run in group.runs),
        seconds_per_epoch=_median(seconds),
        prediction_seconds=_median(map(_prediction_seconds, group.runs)),
        peak_memory=_median(run.summary.get("peak_memory") for run in group.runs),
    )


def _prediction_seconds(run: Run) -> float | None:
    """Return the time of one prediction: what an epoch takes beyond training, over the samples of validation."""
    data = run.environment.get("data", {})
    train, valid = data.get("train"), data.get("valid")
    if not train or not valid:
        return None
    return _median(
        max(row["seconds"] - train / row["samples_per_second"], 0.0) / valid
        for row in run.rows
        if row.get("seconds") and row.get("samples_per_second")
    )


def _parameters(group: Group) -> int | None:
    count = group.runs[0].summary.get("parameters")
    return count if isinstance(count, int) else None


def _remarks(rows: Sequence[Row], metric: str, keys: Sequence[str]) -> list[str]:
    """Say what must be borne in mind."""
    remarks = []
    if measured := _measured_on(keys, metric):
        remarks.append(
            f"the groups differ in {', '.join(measured)}: {metric} may not be measured on the same data, so that a "
            "difference may be the data's"
        )
    if (gain := _luck_of_the_best(rows)) is not None:
        shown = f"{100 * gain:.2g} points" if metric.endswith("accuracy") else f"{gain:.2g}"
        remarks.append(
            f"the best of {len(rows)} was chosen by these very figures: if all were equal, it would still look {shown} "
            "better than their mean by luck alone; run it with new seeds before reporting its figure"
        )
    if all(len(row.group.runs) == 1 for row in rows) and len(rows) > 1:
        remarks.append("one seed each shows nothing of luck: run the same with other seeds (--seed) for a verdict")
    if metric.startswith("valid/"):
        remarks.append(
            f"{metric} also chose the best epoch of each run, so it is a little too good everywhere; compare by a test "
            "metric (--metric test/...) for a figure that took no part in any choice"
        )
    return remarks


def _measured_on(keys: Sequence[str], metric: str) -> list[str]:
    """Return the keys that say on which data a metric is measured, of those that tell groups apart."""
    settling = _OF_THE_DATA + (() if metric.startswith("test/") else _OF_ITS_VALIDATION)
    return [key.removesuffix(".name") for key in keys if f"{key}.".startswith(tuple(f"{each}." for each in settling))]


def _luck_of_the_best(rows: Sequence[Row]) -> float | None:
    """Return what the best of three or more groups gains by having been chosen, as far as their spread is known."""
    errors = [row.quality.deviation**2 / row.quality.count for row in rows if row.quality.deviation]
    return best_of(len(rows), math.sqrt(fmean(errors))) if len(rows) > 2 and errors else None


def _sorted(rows: list[Row], sort: str, better: Direction) -> list[Row]:
    sign = 1.0 if better == "min" else -1.0
    keys: dict[str, Any] = {
        "quality": lambda row: math.inf if row.quality.value is None else sign * row.quality.value,
        "convergence": lambda row: _median(t for t in row.reached[0].times) or math.inf,
        "speed": lambda row: -(row.speed.samples_per_second or 0.0),
        "age": lambda row: 0,
    }
    if sort not in keys:
        raise UsageError(f"cannot sort by '{sort}': {suggest(sort, keys)}")
    return sorted(rows, key=keys[sort])


def _median(values: Any) -> float | None:
    known = [float(value) for value in values if isinstance(value, int | float)]
    return median(known) if known else None


def _counted(values: Iterator[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return counts
