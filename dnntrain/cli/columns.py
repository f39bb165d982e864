"""The columns of a comparison: what each says in a table that is read, and in one for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

from dnntrain.cli.output import duration, figure
from dnntrain.cli.tables import Cell, Table
from dnntrain.compare import settings
from dnntrain.compare.convergence import median_time_to_reach
from dnntrain.compare.wording import brief, describe_convergence, describe_metric
from dnntrain.errors import UsageError, suggest, visible
from dnntrain.units import volume

if TYPE_CHECKING:
    from dnntrain.compare.comparison import Comparison, Row

_STYLES: Final = {"better": "green", "faster": "green", "worse": "red", "slower": "red", "baseline": "dim"}


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        head: its name for readers; `{metric}` and `{target}` stand for those of the comparison.
        value: for programs: a number, a text, or None for what is not known.
        text: for readers; made of the value unless given.
        sentence: for readers too, where there is room for it: in the last column.
        right: whether it is set flush right.
    """

    head: str
    value: Callable[[Comparison, Row], Any]
    text: Callable[[Comparison, Row], str] | None = None
    sentence: Callable[[Comparison, Row], str] | None = None
    right: bool = True

    def title(self, made: Comparison) -> str:
        """Return the name for readers."""
        target = made.target
        return self.head.format(metric=made.metric, target=f"{target.metric} {figure(target.metric, target.value)}")

    def cell(self, made: Comparison, row: Row, *, last: bool) -> Cell:
        """Return what a reader is shown."""
        value = self.value(made, row)
        style = _STYLES.get(value, "") if isinstance(value, str) else ""
        if last and self.sentence is not None:
            return Cell(self.sentence(made, row), style)
        return Cell(written(value) if self.text is None else self.text(made, row), style)


def _verdict(made: Comparison, row: Row) -> str:
    return "baseline" if row.difference is None else row.difference.verdict


def _verdict_in_words(made: Comparison, row: Row) -> str:
    return "baseline" if row.difference is None else describe_metric(row.difference, made.metric)


def _pace(made: Comparison, row: Row) -> str:
    return "baseline" if row.convergence is None else row.convergence.verdict


def _pace_in_words(made: Comparison, row: Row) -> str:
    return "baseline" if row.convergence is None else describe_convergence(row.convergence)


def _seeds(made: Comparison, row: Row) -> str:
    failed = f" ({row.quality.failed} failed)" if row.quality.failed else ""
    alone = f" (seed {row.group.seeds[0]})" if len(row.group.runs) == 1 else ""
    return f"{len(row.group.runs)}{alone}{failed}"


def _interval(made: Comparison, low: float | None, high: float | None) -> str:
    return "-" if low is None else f"{figure(made.metric, low)} .. {figure(made.metric, high)}"


def _epochs_to_target(made: Comparison, row: Row) -> str:
    epochs = median_time_to_reach(row.reached[0])
    return "not reached" if epochs is None else f"{epochs:g}"


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)


COLUMNS: Final[Mapping[str, Column]] = {
    "seeds": Column("seeds", lambda made, row: " ".join(map(str, row.group.seeds)), _seeds),
    "runs": Column("runs", lambda made, row: " ".join(run.id for run in row.group.runs), right=False),
    "metric": Column("metric", lambda made, row: made.metric, right=False),
    "value": Column(
        "{metric}", lambda made, row: row.quality.value, lambda made, row: figure(made.metric, row.quality.value)
    ),
    "interval": Column(
        "95 % interval",
        lambda made, row: None if row.quality.low is None else f"{row.quality.low} .. {row.quality.high}",
        lambda made, row: _interval(made, row.quality.low, row.quality.high),
    ),
    "low": Column("low", lambda made, row: row.quality.low),
    "high": Column("high", lambda made, row: row.quality.high),
    "median": Column(
        "median", lambda made, row: row.median.value, lambda made, row: figure(made.metric, row.median.value)
    ),
    "median_interval": Column(
        "its bootstrap interval",
        lambda made, row: None if row.median.low is None else f"{row.median.low} .. {row.median.high}",
        lambda made, row: _interval(made, row.median.low, row.median.high),
    ),
    "difference": Column("difference", lambda made, row: row.difference and row.difference.value),
    "p": Column("p", lambda made, row: row.difference and row.difference.adjusted_p),
    "verdict": Column("beside the baseline", _verdict, sentence=_verdict_in_words, right=False),
    "best_epoch": Column("best epoch", lambda made, row: row.best_epoch),
    "best_seconds": Column("time to it", lambda made, row: row.best_seconds, lambda made, row: _time(row.best_seconds)),
    "epochs_to_target": Column(
        "epochs to {target}", lambda made, row: median_time_to_reach(row.reached[0]), _epochs_to_target
    ),
    "seconds_to_target": Column(
        "time to it",
        lambda made, row: median_time_to_reach(row.reached[1]),
        lambda made, row: _time(median_time_to_reach(row.reached[1])),
    ),
    "pace": Column("beside the baseline", _pace, sentence=_pace_in_words, right=False),
    "samples_per_second": Column(
        "samples/s",
        lambda made, row: row.speed.samples_per_second,
        lambda made, row: _rounded(row.speed.samples_per_second, ",.0f"),
    ),
    "seconds_per_epoch": Column(
        "s/epoch",
        lambda made, row: row.speed.seconds_per_epoch,
        lambda made, row: _rounded(row.speed.seconds_per_epoch, ".3g"),
    ),
    "prediction_seconds": Column(
        "prediction",
        lambda made, row: row.speed.prediction_seconds,
        lambda made, row: "-" if row.speed.prediction_seconds is None else brief(row.speed.prediction_seconds),
    ),
    "peak_memory": Column(
        "peak memory",
        lambda made, row: row.speed.peak_memory,
        lambda made, row: "-" if row.speed.peak_memory is None else volume(row.speed.peak_memory),
    ),
    "parameters": Column(
        "parameters", lambda made, row: row.parameters, lambda made, row: _rounded(row.parameters, ",")
    ),
    "status": Column(
        "status",
        lambda made, row: ", ".join(f"{count} {status}" for status, count in row.statuses.items()),
        right=False,
    ),
}
"""What may be asked for by name, beside keys of the experiment and metrics of the best epoch."""

QUALITY: Final = ("seeds", "value", "interval", "verdict")
CONVERGENCE: Final = ("best_epoch", "best_seconds", "epochs_to_target", "seconds_to_target", "pace")
SPEED: Final = (
    *("samples_per_second", "seconds_per_epoch", "prediction_seconds", "peak_memory", "parameters"),
    "status",
)
_FOR_PROGRAMS: Final = (
    *("metric", "value", "low", "high", "difference", "p", "verdict", "best_epoch", "best_seconds"),
    *("epochs_to_target", "seconds_to_target", "pace", *SPEED),
)


def columns(made: Comparison, names: Sequence[str]) -> list[Column]:
    """Look columns up by name: one of `COLUMNS`, a key of the experiment, or a metric.

    Raises:
        UsageError: a name stands for nothing.
    """
    groups = [row.group for row in made.rows]
    keys = {key for group in groups for key in group.configuration}
    metrics = {name for row in made.rows for run in row.group.runs for name in run.metrics}
    found = []
    for name in names:
        if name in COLUMNS:
            found.append(COLUMNS[name])
        elif name in metrics:
            found.append(_metric(name))
        elif name in keys or f"{name}.name" in keys:
            found.append(_key(name))
        else:
            raise UsageError(f"no column '{name}': {suggest(name, {*COLUMNS, *metrics, *keys}, limit=len(COLUMNS))}")
    return found


def table(made: Comparison, names: Sequence[str], *, title: str | None = None) -> Table:
    """Return the groups with these columns, for readers."""
    chosen = columns(made, names)
    heads = [
        ("~" if column.sentence and column is chosen[-1] else ">" if column.right else "") + column.title(made)
        for column in chosen
    ]
    shown = Table("group", *heads, title=title)
    for row in made.rows:
        shown.add(row.group.label, *(column.cell(made, row, last=column is chosen[-1]) for column in chosen))
    return shown


def for_programs(made: Comparison, names: Sequence[str] = ()) -> Iterator[list[Any]]:
    """Yield a head and a row a group, with plain values; all columns, and the keys that differ, unless named."""
    chosen = names or ("seeds", "runs", *made.keys, *_FOR_PROGRAMS)
    found = columns(made, chosen)
    yield [visible(name, keep="") for name in ("label", *chosen)]
    for row in made.rows:
        cells = (row.group.label, *(column.value(made, row) for column in found))
        yield [visible(cell, keep="") if isinstance(cell, str) else cell for cell in cells]


def differences(made: Comparison, *, title: str | None = None) -> Table | None:
    """Return what differs between the groups: a row a key, or a row a group where there are more groups than keys."""
    groups = [row.group for row in made.rows]
    keys = settings.telling(made.keys, [group.configuration for group in groups])
    if len(groups) < 2 or not keys:
        return None
    if len(keys) > len(groups):
        shown = Table("key", *(group.label for group in groups), title=title)
        for key in keys:
            shown.add(key.removesuffix(".name"), *(_setting(group.configuration, key) for group in groups))
        return shown
    shown = Table("group", *(key.removesuffix(".name") for key in keys), title=title)
    for group in groups:
        shown.add(group.label, *(_setting(group.configuration, key) for key in keys))
    return shown


def written(value: Any) -> str:
    """Write a value of any kind on a line."""
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _metric(name: str) -> Column:
    """Return the column of a metric: its mean over the seeds, at each run's best epoch."""

    def value(made: Comparison, row: Row) -> float | None:
        known = [each for run in row.group.runs if (each := run.best(name)) is not None]
        return fmean(known) if known else None

    return Column(_literal(name), value, lambda made, row: figure(name, value(made, row)))


def _key(name: str) -> Column:
    """Return the column of a key of the experiment."""

    def value(made: Comparison, row: Row) -> Any:
        configuration = row.group.configuration
        return configuration[name] if name in configuration else configuration.get(f"{name}.name")

    def text(made: Comparison, row: Row) -> str:
        key = name if name in row.group.configuration else f"{name}.name"
        return _setting(row.group.configuration, key)

    return Column(_literal(name.removesuffix(".name")), value, text, right=False)


def _literal(name: str) -> str:
    """Write a name so that `Column.title` finds nothing to fill in."""
    return name.replace("{", "{{").replace("}", "}}")


def _setting(configuration: Mapping[str, Any], key: str) -> str:
    """Return a value as a reader of the file knows it."""
    value = settings.written(configuration, key)
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _rounded(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"
