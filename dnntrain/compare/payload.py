"""A comparison with its curves as one plain value: what the page shows, and `watch` sends."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from dnntrain.compare.comparison import Comparison, Row, Speed, direction
from dnntrain.compare.convergence import median_time_to_reach
from dnntrain.compare.diff import OF_ONE_START
from dnntrain.compare.importance import importance
from dnntrain.compare.records import Run, differing
from dnntrain.compare.settings import telling, written
from dnntrain.compare.wording import brief, describe_convergence, describe_metric
from dnntrain.errors import shorten
from dnntrain.store import finite, flatten

SCHEMA: Final = 1
"""Version of what `payload` returns."""

DIGITS: Final = 7
_ALIKE: Final = 0.05
"""Speeds that differ by less than this part are told as about the same."""
_NOT_CURVES: Final = frozenset({"epoch", "step"})
_LONGEST_TEXT: Final = 500


def payload(comparison: Comparison) -> dict[str, Any]:
    """Return all that the page shows, as values that JSON can write; what is no finite number is None.

    Returns:
        `schema`; `metric`, `better` (min or max), `target` {metric, value}, `baseline` (a label), `remarks`;
        `directions`: of each metric of a part of the data, min or max;
        `keys`: the settings that tell the groups apart; `groups`, `runs`, `specs`, `environments`, `importance`.

        `groups`, the best first: `id` (its oldest run, which stays while runs are added), `label`, `age` (0 for the
        group that was there first), `baseline`, `runs` (their indices in `runs`), `settings` (a cell a key),
        `statuses`, `parameters`, and the answers: `quality` {value, low, high, failed, verdict, text}, `convergence`
        {epochs, seconds, best_epoch, best_seconds, verdict, text} and `speed` {samples_per_second, seconds_per_epoch,
        prediction_seconds, peak_memory, verdict, text}, each with its verdict in words.

        `runs`: `id`, `group` (its index in `groups`), `seed`, `status`, `value` and `epoch` (the metric at the best
        epoch), `seconds`, `tags`, `error`, `epochs` (the epoch of each row), `curves` (metric -> a number or None a
        row).

        `specs` and `environments`: `keys`, the ones in which any two runs differ; `cells`, for each run a cell a key;
        and `common`, key -> the value that all have.

        `importance`: see `Importance`, as plain values.
    """
    runs = [run for row in comparison.rows for run in row.group.runs]
    names = _names(runs)
    configurations = [row.group.configuration for row in comparison.rows]
    keys = telling(comparison.keys, configurations)
    base = next(row for row in comparison.rows if row.group.label == comparison.baseline)
    shown = [_group(row, comparison, base.speed, keys) for row in comparison.rows]
    places = {id(run): index for index, run in enumerate(runs)}
    for group, row in zip(shown, comparison.rows, strict=True):
        group["runs"] = [places[id(run)] for run in row.group.runs]
        group["id"] = names[places[id(min(row.group.runs, key=_age))]]
    by_age = sorted(range(len(shown)), key=lambda index: min(map(_age, comparison.rows[index].group.runs)))
    for age, index in enumerate(by_age):
        shown[index]["age"] = age
    made = {
        "schema": SCHEMA,
        "metric": comparison.metric,
        "better": comparison.better,
        "target": {"metric": comparison.target.metric, "value": comparison.target.value},
        "baseline": comparison.baseline,
        "remarks": list(comparison.remarks),
        "directions": _directions(runs),
        "keys": keys,
        "groups": shown,
        "runs": [
            _run(run, names[index], group, comparison.metric)
            for index, (run, group) in enumerate(_with_groups(comparison.rows))
        ],
        "specs": _beside([{"seed": run.seed, **run.configuration} for run in runs]),
        "environments": _beside([_environment(run) for run in runs]),
        "importance": _importance(comparison, keys),
    }
    plain: dict[str, Any] = finite(made)
    return plain


def nothing(notice: str) -> dict[str, Any]:
    """Return the payload of a page that has nothing to compare yet, and says why."""
    empty: dict[str, Any] = {"keys": [], "cells": [], "common": {}}
    return {
        "schema": SCHEMA,
        "notice": notice,
        "metric": None,
        "better": "min",
        "target": {"metric": None, "value": None},
        "baseline": None,
        "remarks": [],
        "directions": {},
        "keys": [],
        "groups": [],
        "runs": [],
        "specs": empty,
        "environments": empty,
        "importance": [],
    }


def describe_speed(speed: Speed, baseline: Speed | None) -> tuple[str, str]:
    """Return a word for a group's speed beside the baseline's, and the figures of both.

    Medians of measured times, which depend on what else the machine did: there is no verdict on luck.

    Args:
        speed: of the group.
        baseline: of the baseline; None for the baseline itself.
    """
    ours, theirs = speed.samples_per_second, baseline.samples_per_second if baseline else None
    costs = [
        "" if speed.seconds_per_epoch is None else f"{speed.seconds_per_epoch:.3g} s per epoch",
        "" if speed.prediction_seconds is None else f"{brief(speed.prediction_seconds)} per prediction",
        "" if speed.peak_memory is None else f"{speed.peak_memory / 1e6:,.0f} MB at most",
    ]
    if ours is None:
        return "unknown", "; ".join(filter(None, ["no speed recorded", *costs]))
    if not theirs:
        word = "baseline" if baseline is None else "unknown"
        return word, "; ".join(filter(None, [f"{ours:,.0f} samples/s", *costs]))
    ratio = ours / theirs
    word = "about as fast" if abs(ratio - 1) < _ALIKE else f"{ratio:.2g} times the speed"
    beside = f"{word}: {ours:,.0f} samples/s against {theirs:,.0f}"
    return word, "; ".join(filter(None, [beside, *costs]))


def _directions(runs: Sequence[Run]) -> dict[str, str]:
    """Say of each metric which way is up: as the runs monitored it, else by its name."""
    measured = dict.fromkeys(name for run in runs for row in run.rows for name in row if "/" in name)
    return {name: direction(name) for name in measured} | dict({run.monitor for run in runs})


def _names(runs: Sequence[Run]) -> list[str]:
    """Name the runs by their directories, with the folder where two have the same name."""
    counts = Counter(run.id for run in runs)
    return [run.id if counts[run.id] == 1 else f"{run.directory.path.resolve().parent.name}/{run.id}" for run in runs]


def _age(run: Run) -> tuple[bool, str, str]:
    return run.directory.started is None, str(run.directory.started), run.id


def _with_groups(rows: Sequence[Row]) -> Iterable[tuple[Run, int]]:
    return ((run, index) for index, row in enumerate(rows) for run in row.group.runs)


def _group(row: Row, comparison: Comparison, base: Speed, keys: Sequence[str]) -> dict[str, Any]:
    is_baseline = row.difference is None
    epochs, seconds = map(median_time_to_reach, row.reached)
    speed_word, speed_text = describe_speed(row.speed, None if is_baseline else base)
    return {
        "label": row.group.label,
        "baseline": is_baseline,
        "settings": [_short(written(row.group.configuration, key)) for key in keys],
        "statuses": dict(row.statuses),
        "parameters": row.parameters,
        "quality": {
            "value": row.quality.value,
            "low": row.quality.low,
            "high": row.quality.high,
            "failed": row.quality.failed,
            "verdict": row.difference.verdict if row.difference else "baseline",
            "text": describe_metric(row.difference, comparison.metric) if row.difference else "baseline",
        },
        "convergence": {
            "epochs": epochs,
            "seconds": seconds,
            "best_epoch": row.best_epoch,
            "best_seconds": row.best_seconds,
            "verdict": row.convergence.verdict if row.convergence else "baseline",
            "text": describe_convergence(row.convergence) if row.convergence else "baseline",
        },
        "speed": {
            "samples_per_second": row.speed.samples_per_second,
            "seconds_per_epoch": row.speed.seconds_per_epoch,
            "prediction_seconds": row.speed.prediction_seconds,
            "peak_memory": row.speed.peak_memory,
            "verdict": speed_word,
            "text": speed_text,
        },
    }


def _run(run: Run, name: str, group: int, metric: str) -> dict[str, Any]:
    rows = run.rows
    curves = dict.fromkeys(key for row in rows for key, value in row.items() if _is_number(value))
    return {
        "id": name,
        "group": group,
        "seed": run.seed,
        "status": run.status,
        "value": run.best(metric),
        "epoch": _rounded(run.summary["best"].get("epoch")),
        "seconds": _rounded(run.summary.get("seconds")),
        "tags": list(run.tags),
        "error": _short(run.summary.get("error")),
        "epochs": [row["epoch"] for row in rows],
        "curves": {key: [_rounded(row.get(key)) for row in rows] for key in curves if key not in _NOT_CURVES},
    }


def _environment(run: Run) -> dict[str, Any]:
    flat = flatten(run.environment)
    return {key: value for key, value in flat.items() if not key.startswith(OF_ONE_START)}


def _beside(flats: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Part what all have in common from what differs; a cell is a number, a text, or None where it is lacking."""
    keys = differing(flats)
    apart = set(keys)
    return {
        "keys": keys,
        "cells": [[_short(written(flat, key)) for key in keys] for flat in flats],
        "common": {key: _short(written(flats[0], key)) for key in flats[0] if key not in apart},
    }


def _importance(comparison: Comparison, keys: Sequence[str]) -> list[dict[str, Any]]:
    configurations = [{key: written(row.group.configuration, key) for key in keys} for row in comparison.rows]
    found = importance(configurations, [row.quality.value for row in comparison.rows], keys)
    return [
        {"keys": list(each.keys), "share": each.share, "p": each.p, "levels": each.levels, "groups": each.groups}
        for each in found
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _rounded(value: Any) -> float | int | None:
    """Return a number with as many digits as a curve can show, which keeps pages of many runs small."""
    if not _is_number(value) or not abs(value) < math.inf:
        return None
    return value if isinstance(value, int) else float(f"{value:.{DIGITS}g}")


def _short(value: Any) -> Any:
    """Keep a text from a file to what a page can show."""
    return shorten(value, _LONGEST_TEXT) if isinstance(value, str) else value
