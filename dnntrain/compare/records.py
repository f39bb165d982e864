"""Runs as a comparison sees them: read from their directories, filtered, and grouped by what they have in common."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final

from dnntrain.errors import StoreError, UsageError, shorten, suggest
from dnntrain.store import STATUSES, RunDirectory, SweepDirectory, check_rows, find, listing

ENDED: Final = ("completed", "stopped")
NOT_CONFIGURATION: Final = frozenset({"name", "seed"})
"""What two runs of one configuration may differ in."""

_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class Run:
    """One run directory, read as far as a comparison needs it.

    Attributes:
        directory: where it lies.
        summary: what summary.json says.
        status: its status now.
        tags: given by `dnntrain tag`.
        configuration: the experiment under dotted keys, without its name and its seed.
    """

    directory: RunDirectory
    summary: Mapping[str, Any]
    status: str
    tags: tuple[str, ...]
    configuration: Mapping[str, Any]

    @property
    def id(self) -> str:
        """The name of its directory."""
        return self.directory.name

    @property
    def seed(self) -> int:
        """The experiment's seed."""
        return int(self.summary["seed"])

    @cached_property
    def identity(self) -> str:
        """The same for runs of one configuration, and for no others."""
        return repr(sorted(self.configuration.items()))

    @property
    def ended(self) -> bool:
        """Whether it came to its end; one that failed has not."""
        return self.status in ENDED

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The figures of its epochs."""
        return self.directory.metrics()

    @cached_property
    def environment(self) -> dict[str, Any]:
        """What it ran on; nothing where that is not known."""
        try:
            return self.directory.environment()
        except StoreError:
            return {}

    @property
    def monitor(self) -> tuple[str, str]:
        """The metric that decided its best epoch, and `min` or `max`."""
        spec = self.summary["spec"]
        return spec["training.monitor.metric"], spec["training.monitor.mode"]

    @property
    def metrics(self) -> set[str]:
        """The names of what was measured at the best epoch, and of the test part at the end."""
        return {*self.summary["best"]["metrics"], *(self.summary["test"] or ())}

    def best(self, metric: str) -> float | None:
        """Return a metric as it was at the best epoch; None where that was no number, or the run failed.

        A metric of the test part is the one that was measured at the end of the run.
        """
        value = self._figures(metric).get(metric)
        return float(value) if isinstance(value, int | float) and self.status != "failed" else None

    def lacks(self, metric: str) -> bool:
        """Whether a metric was not measured, or not yet; that of a run that failed or diverged counts as the worst."""
        has_diverged = self.ended and self.summary["best"].get("epoch") is None
        return self.status != "failed" and not has_diverged and metric not in self._figures(metric)

    def _figures(self, metric: str) -> Mapping[str, Any]:
        """Return the figures among which a metric is, if the run has it."""
        in_test = metric.startswith("test/")
        figures: Mapping[str, Any] = self.summary["test"] if in_test else self.summary["best"]["metrics"]
        return figures or {}


@dataclass(frozen=True)
class Filters:
    """Which runs are wanted.

    Attributes:
        where: values of the experiment by dotted key; every one must be met.
        tags: the run must have all of them.
        statuses: the run must have one of them; any where there are none.
        since: the run must have started then or later.
    """

    where: Mapping[str, Any] = field(default_factory=dict)
    tags: Sequence[str] = ()
    statuses: Sequence[str] = ()
    since: datetime | None = None

    @property
    def given(self) -> list[str]:
        """The options that say so."""
        options = {"--where": self.where, "--tag": self.tags, "--status": self.statuses, "--since": self.since}
        return [option for option, value in options.items() if value]

    def check(self, runs: Iterable[Run]) -> None:
        """See that each key of the conditions is one of an experiment.

        Raises:
            UsageError: none of these runs has it.
        """
        specs = [run.summary["spec"] for run in runs]
        for key in self.where if specs else ():
            if not any(key in spec or f"{key}.name" in spec for spec in specs):
                known = {name for spec in specs for name in spec}
                raise UsageError(f"--where: no run has the key '{shorten(key)}': {suggest(key, known)}")

    def lets_pass(self, run: Run) -> bool:
        """Whether a run is wanted."""
        spec = run.summary["spec"]
        started = run.directory.started
        return (
            all(_value(spec, key) == value for key, value in self.where.items())
            and set(self.tags) <= set(run.tags)
            and (not self.statuses or run.status in self.statuses)
            and (self.since is None or (started is not None and started >= self.since))
        )


@dataclass(frozen=True)
class Collection:
    """Runs to be compared.

    Attributes:
        runs: one of each configuration and seed, the oldest first.
        remarks: what was left out, and why.
    """

    runs: list[Run]
    remarks: list[str]


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed only.

    Attributes:
        runs: in the order of their seeds.
        label: names the group: the name of its runs, with a number where another group has it too.
    """

    runs: tuple[Run, ...]
    label: str

    @property
    def configuration(self) -> Mapping[str, Any]:
        """What its runs have in common."""
        return self.runs[0].configuration

    @property
    def seeds(self) -> list[int]:
        """The seeds, in order."""
        return [run.seed for run in self.runs]


def parse_filters(
    where: Iterable[str] = (), tags: Sequence[str] = (), statuses: Sequence[str] = (), since: str | None = None
) -> Filters:
    """Read filters as they are given on a command line.

    Args:
        where: `K=V`, K a dotted key of the experiment and V a YAML value.
        tags: of the runs.
        statuses: of the runs.
        since: a span such as `30m`, `2h`, `2d` or `1w`, or a date such as `2026-11-22` or `2026-11-22T13:00`.

    Raises:
        UsageError: one of them cannot be read.
    """
    for status in statuses:
        if status not in STATUSES:
            raise UsageError(f"'{shorten(status)}' is no status: {suggest(status, STATUSES)}")
    return Filters(dict(map(_setting, where)), tuple(tags), tuple(statuses), _moment(since) if since else None)


def collect(
    sources: Sequence[str],
    filters: Filters | None = None,
    *,
    runs: Path = Path("runs"),
    read: Callable[[RunDirectory], Run] | None = None,
) -> Collection:
    """Read runs.

    Args:
        sources: run directories, folders of them (sweeps, too), globs, names or unique prefixes of runs.
        filters: which of them are wanted.
        runs: where names are looked up.
        read: reads one of them, and may raise StoreError; `read_run` unless given.

    Raises:
        UsageError: a source names nothing, or no run is wanted.
        StoreError: all of them are damaged.
    """
    filters = filters or Filters()
    remarks: list[str] = []
    known: dict[Path, Run] = {}
    for source in sources:
        for directory in _directories(source, runs):
            place = directory.path.resolve()
            if place not in known:
                try:
                    known[place] = (read or read_run)(directory)
                except StoreError as error:
                    remarks.append(f"left out: {error}")
    filters.check(known.values())
    wanted = sorted((run for run in known.values() if filters.lets_pass(run)), key=_age)
    alike = aligned([run.configuration for run in wanted])
    found = [replace(run, configuration=each) for run, each in zip(wanted, alike, strict=True)]
    sound = list(_sound(found, remarks))
    if known and not wanted:
        raise UsageError(f"no run of {len(known)} meets the conditions: look at {', '.join(filters.given)}")
    if not sound:
        raise StoreError("\n".join(["there is no run that can be read", *remarks]))
    return Collection(*_one_a_seed(sound, remarks))


def grouped(runs: Iterable[Run]) -> list[Group]:
    """Put runs of one configuration together; groups are in the order of their oldest run."""
    by_configuration: dict[str, list[Run]] = {}
    for run in runs:
        by_configuration.setdefault(run.identity, []).append(run)
    names = [str(members[0].summary["name"]) for members in by_configuration.values()]
    used: dict[str, int] = {}
    made = []
    for members, name in zip(by_configuration.values(), names, strict=True):
        used[name] = used.get(name, 0) + 1
        label = f"{name} {used[name]}" if names.count(name) > 1 else name
        made.append(Group(tuple(sorted(members, key=lambda run: run.seed)), label))
    return made


def aligned(configurations: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Write configurations alike, so that those of different versions of dnntrain can be compared.

    A part without options, `selu`, is written as its `name` where another configuration has it so. A key that a
    configuration lacks, though it has the same parts around it, was not known to the version that wrote it, and takes
    its default: versions add keys with defaults that leave old experiments as they were.
    """
    if len({frozenset(each) for each in configurations}) < 2:
        return [dict(each) for each in configurations]
    named = {key.removesuffix(".name") for each in configurations for key in each if key.endswith(".name")}
    written = [
        {f"{k}.name" if k in named and isinstance(v, str) else k: v for k, v in c.items()} for c in configurations
    ]
    for key in dict.fromkeys(key for each in written for key in each):
        having = [each for each in written if key in each]
        for each in written if len(having) < len(written) else ():
            if key not in each and any(_same_parts(key, each, other) for other in having):
                section, _, option = key.rpartition(".")
                known = _defaults()["options"].get(each.get(f"{section}.name"), _defaults()["keys"])
                name = key if known is _defaults()["keys"] else option
                if name in known:
                    each[key] = known[name]
    return written


@cache
def _defaults() -> dict[str, Any]:
    """Read the table of defaults that `make docs` writes."""
    found: dict[str, Any] = json.loads(Path(__file__).with_name("defaults.json").read_text(encoding="utf-8"))
    return found


def _same_parts(key: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether what stands around a key is the same in two configurations, so that only the key itself may be new."""
    pieces = key.split(".")
    if pieces[-1] == "name" or any(each.startswith(f"{key}.") for each in one):
        return False
    for count in range(1, len(pieces)):
        section = ".".join(pieces[:count])
        if section in one or one.get(f"{section}.name") != other.get(f"{section}.name"):
            return False
        if pieces[count - 1].isdecimal() and not any(each.startswith(f"{section}.") for each in one):
            return False
    return True


def differing(configurations: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys that do not have the same value everywhere, in the order of the file."""
    keys = dict.fromkeys(key for configuration in configurations for key in configuration)
    return [key for key in keys if len({repr(each.get(key)) for each in configurations}) > 1]


def _directories(source: str, runs: Path) -> Iterator[RunDirectory]:
    """Find the run directories that a source means."""
    path = Path(source).expanduser()
    if not path.exists() and glob.has_magic(source):
        found = [each for match in sorted(glob.glob(str(path))) for each in within(Path(match))]
        if not found:
            raise UsageError(f"nothing matches {source}")
        yield from found
    elif path.is_dir() or (runs / source).is_dir():
        path = path if path.is_dir() else runs / source
        found = within(path)
        if not found:
            raise UsageError(f"there are no runs in {path}; train one with: dnntrain run CONFIG --runs-dir {path}")
        yield from found
    else:
        yield find(source, runs)


def within(path: Path) -> list[RunDirectory]:
    """Return a run, or the runs of a folder and of the sweeps in it; also those that a sweep found there already.

    Raises:
        StoreError: the folder, or the table of a sweep's runs, cannot be read.
    """
    if (path / RunDirectory.SUMMARY).is_file():
        return [RunDirectory(path)]
    if not path.is_dir():
        return []
    found = listing(path) + _referenced(path)
    own = {directory.name for directory in found}
    for name in sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and entry.name not in own):
        folder = path / name
        found += [*listing(folder / "runs" if (folder / "runs").is_dir() else folder), *_referenced(folder)]
    return found


def _referenced(folder: Path) -> list[RunDirectory]:
    """Return the runs that a sweep has not trained itself, since they were there before."""
    rows = SweepDirectory(folder).read_runs()
    paths = (folder / row["run"] for row in rows if row.get("reused") and isinstance(row.get("run"), str))
    return [RunDirectory(path) for path in paths if (path / RunDirectory.SUMMARY).is_file()]


def read_run(directory: RunDirectory) -> Run:
    """Read a run.

    Args:
        directory: where it lies.

    Raises:
        StoreError: it is damaged, or lacks what is compared.
    """
    summary = directory.sound_summary()
    tags = tuple(directory.notes().get("tags", ()))
    configuration = {key: value for key, value in summary["spec"].items() if key not in NOT_CONFIGURATION}
    return Run(directory, summary, summary["status"], tags, configuration)


def _sound(runs: Iterable[Run], remarks: list[str]) -> Iterator[Run]:
    """Leave out the runs whose epochs or environments are damaged."""
    for run in runs:
        try:
            check_figures(run)
        except StoreError as error:
            remarks.append(f"left out: {error}")
        else:
            yield run


def check_figures(run: Run) -> None:
    """Read what is compared beyond the summary, so that it can be relied on.

    Raises:
        StoreError: the epochs or the environment are damaged.
    """
    data = run.environment.get("data", {})
    sizes = [data.get(part) for part in ("train", "valid")] if isinstance(data, dict) else [data]
    if not all(isinstance(size, int | None) for size in sizes):
        raise StoreError(f"{run.directory.path / run.directory.ENVIRONMENT} is damaged: look at data")
    check_rows(run.directory.path / run.directory.METRICS, run.rows)


def _one_a_seed(runs: Sequence[Run], remarks: list[str]) -> tuple[list[Run], list[str]]:
    """Keep one run of each configuration and seed: the latest that came to its end, else the latest."""
    chosen: dict[tuple[str, int], Run] = {}
    for run in runs:
        key = (run.identity, run.seed)
        before = chosen.get(key)
        if before is None:
            chosen[key] = run
            continue
        kept, dropped = (before, run) if before.ended and not run.ended else (run, before)
        chosen[key] = kept
        remarks.append(f"{dropped.id} is not counted: {kept.id} has the same configuration and seed")
    return sorted(chosen.values(), key=_age), remarks


def _age(run: Run) -> tuple[datetime, str]:
    return run.directory.started or datetime.min, run.id


def _setting(text: str) -> tuple[str, Any]:
    key, found, value = text.partition("=")
    if not found or not key:
        raise UsageError(f"'{shorten(text)}' is no condition: write --where optimizer.name=nadam")
    from dnntrain import yamltext  # takes a while to import, for conditions alone

    return key, yamltext.read(value, source="--where", folder=Path()).value


def _value(spec: Mapping[str, Any], key: str) -> Any:
    """Return a value of an experiment; a part without options may be called by its section's name."""
    return spec[key] if key in spec else spec.get(f"{key}.name")


def _moment(text: str) -> datetime:
    """Read a span before now, or a date."""
    span = re.fullmatch(r"(\d{1,6})([mhdw])", text)
    try:
        if span:
            return datetime.now() - timedelta(**{_UNITS[span[2]]: int(span[1])})
        moment = datetime.fromisoformat(text)
        # The names of runs tell the machine's own time.
        return moment.astimezone().replace(tzinfo=None) if moment.tzinfo else moment
    except OverflowError:
        return datetime.min
    except ValueError:
        raise UsageError(
            f"'{shorten(text)}' is neither a span such as 30m, 2h, 2d or 1w nor a date such as 2026-11-22"
        ) from None
