"""What training costs here: a few configurations of a sweep, trained for some steps before the sweep begins.

The probe trains as a run does, with its validation, its checkpoints and its files, in a temporary folder. What differs
in nothing that takes time (a learning rate, an initializer, a seed) is of one *kind*. Of the kinds, a few that are
unlike each other are measured; the others are taken to cost what the nearest of these does.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Final

import torch
from typing_extensions import override

from dnntrain import build, run
from dnntrain.errors import DivergedError, UsageError
from dnntrain.placement import place, settings
from dnntrain.recording import Recorder
from dnntrain.registry import plain
from dnntrain.spec import Spec
from dnntrain.spec.forms import flow
from dnntrain.store import RunDirectory, flatten
from dnntrain.sweep.plan import Plan
from dnntrain.sweep.space import Point
from dnntrain.training.built import Built
from dnntrain.training.hooks import Hook, RunView
from dnntrain.training.trainer import Trainer

PROBE_S: Final = 10.0
"""How long a probe takes at most, about; a network whose single steps are slower takes longer."""

ENOUGH_EPOCHS: Final = 12
"""So many measured epochs, whole ones or parts, tell enough."""

MOST_PROBED: Final = 4
"""So many kinds of configurations are measured at most."""

PACE_STEPS: Final = 20
PACE_S: Final = 0.5
"""So many steps of a pretraining, or so many seconds, tell its pace."""

MOST_LOOKED_AT: Final = 256
"""So many configurations are looked at, evenly spread over the sweep, to find their kinds."""

_FREE: Final = ("name", "seed", "schedule.", "optimizer.", "callbacks", "training.monitor.", "training.on_divergence")
"""Keys that take no time, or next to none; but for the optimizer's name."""
_SIZES: Final = ("model.architecture.", "data.batch_size", "training.epochs")
"""Keys whose effect on the time is told by a number."""


@dataclass(frozen=True)
class Kind:
    """Configurations that cost the same.

    Attributes:
        spec: one of them, resolved.
        text: what it sets, in a line.
        parameters: of its network.
        train: samples of the training part.
        valid: samples of the validation part.
        share: how many of all configurations are of this kind, from 0 to 1.
    """

    spec: Spec
    text: str
    parameters: int
    train: int
    valid: int
    share: float

    @property
    def epochs(self) -> int:
        """How many epochs a run has, if it is not ended early."""
        return self.spec.training.epochs

    @property
    def steps(self) -> int:
        """Optimizer steps in an epoch."""
        return math.ceil(self.train / self.spec.data.batch_size / self.spec.training.accumulate)

    def distance(self, other: Kind) -> float:
        """Return how unlike another kind this is: in orders of magnitude of size, and in settings that differ."""
        ours, theirs = (
            {key: value for key, value in _costly(kind.spec).items() if not key.startswith(_SIZES)}
            for kind in (self, other)
        )
        settings_apart = sum(ours.get(key) != theirs.get(key) for key in {*ours, *theirs})
        size = abs(math.log(max(1, self.parameters) / max(1, other.parameters)))
        batch = abs(math.log(self.spec.data.batch_size / other.spec.data.batch_size))
        return float(size + batch + settings_apart)


@dataclass(frozen=True)
class Measured:
    """What was measured of one kind.

    Attributes:
        kind: of which.
        steps: optimizer steps that were timed.
        start_s: seconds of a run that no epoch takes: opening the data, building, pretraining, the first step, ending.
        step_s: seconds of an optimizer step.
        valid_s: seconds of the validation of a sample.
        write_s: seconds that writing takes after each epoch.
        run_bytes: of the files of a run whose size does not depend on its length: checkpoints above all.
        epoch_bytes: that each epoch adds.
        memory: the most that the process has held so far, in bytes; on a GPU, that of this training.
        device: where it was trained: `cpu`, `cuda`, ...
    """

    kind: Kind
    steps: int
    start_s: float
    step_s: float
    valid_s: float
    write_s: float
    run_bytes: int
    epoch_bytes: float
    memory: int
    device: str

    def epoch_s(self, kind: Kind) -> float:
        """Return the seconds of an epoch of this kind, or of one like it."""
        return kind.steps * self.step_s + kind.valid * self.valid_s + self.write_s

    def bytes(self, epochs: float) -> float:
        """Return the size of a run's directory after so many epochs."""
        return self.run_bytes + epochs * self.epoch_bytes


@dataclass(frozen=True)
class Probe:
    """What the configurations of a sweep cost.

    Attributes:
        kinds: all kinds that were found.
        measured: some of them.
        looked_at: how many configurations were looked at.
        drawn: whether these are random ones, since which ones come depends on results.
        seconds: how long measuring took.
        threads: with which it was done.
    """

    kinds: Sequence[Kind]
    measured: Sequence[Measured]
    looked_at: int
    drawn: bool
    seconds: float
    threads: int

    def nearest(self, kind: Kind) -> Measured:
        """Return what was measured of this kind, or of the one most like it."""
        return min(self.measured, key=lambda each: each.kind.distance(kind))

    @property
    def steps(self) -> int:
        """How many steps were timed."""
        return sum(each.steps for each in self.measured)


def probe(
    plan: Plan, *, seconds: float = PROBE_S, threads: int | None = None, clock: Callable[[], float] = time.perf_counter
) -> Probe:
    """Train a few configurations for some steps each, and measure.

    Args:
        plan: of the sweep.
        seconds: how long that may take at most, about.
        threads: CPU threads of a worker; those of this process unless given.
        clock: tells the time in seconds.

    Raises:
        SpecError: a configuration is wrong.
        DataError: the data cannot be used.
        UsageError: each of those that were tried diverged at once.
    """
    started = clock()
    points = looked_at(plan)
    kinds = find_kinds(plan, points)
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    measured = []
    try:
        chosen = spread(kinds, MOST_PROBED)
        # What PyTorch loads and sets up when it is first used is no part of a run.
        with suppress(DivergedError):
            _time_start(chosen[0], clock)
        for kind in chosen:
            with suppress(DivergedError):
                measured.append(measure(kind, seconds / len(chosen), clock))
        used = torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
    if not measured:
        raise UsageError("nothing could be measured: each configuration that was tried diverged in its first steps")
    return Probe(kinds, measured, len(points), not plan.listed, clock() - started, used)


def looked_at(plan: Plan) -> list[Point]:
    """Return configurations that stand for all of them.

    Where the search looks at results, nobody knows which ones come: then as many random ones.
    """
    if not plan.listed:
        size = plan.space.size
        count = MOST_LOOKED_AT if size is None else min(size, MOST_LOOKED_AT)
        return [plan.space.sample("random", plan.sweep.seed, number) for number in range(count)]
    known = plan.method == "grid" or plan.sweep.trials is not None or plan.timeout is not None
    wanted = plan.wanted if known else plan.space.size or MOST_LOOKED_AT
    numbers = range(wanted) if wanted <= MOST_LOOKED_AT else _evenly(wanted, MOST_LOOKED_AT)
    return [plan.space.sample(plan.method, plan.sweep.seed, number) for number in numbers]


def _evenly(count: int, most: int) -> list[int]:
    return [i * count // most for i in range(most)]


def find_kinds(plan: Plan, points: Iterable[Point]) -> list[Kind]:
    """Return the kinds of some configurations, in the order of their first ones.

    Raises:
        SpecError: a configuration is wrong.
        DataError: the data cannot be used.
    """
    found: dict[str, list[tuple[Spec, Point]]] = {}
    opened: dict[str, build.Data] = {}
    total = 0
    for point in points:
        spec = plan.experiment(point)
        spec = build.resolve(spec, _open(spec, opened), runs=plan.reused_from)
        found.setdefault(flow(_costly(spec)), []).append((spec, point))
        total += 1
    kinds = []
    networks: dict[str, int] = {}
    for members in found.values():
        spec, point = members[0]
        data = _open(spec, opened)
        key = flow([plain(spec.data), plain(spec.model)])
        if key not in networks:
            network = build.build_model(spec, data.shape, build.outputs(spec, data), pretrained=False)
            networks[key] = sum(parameter.numel() for parameter in network.parameters())
        valid = len(data.parts.valid.index) if data.parts.valid else 0
        train = len(data.parts.train.index)
        kinds.append(Kind(spec, point.describe(), networks[key], train, valid, len(members) / total))
    return kinds


def spread(kinds: Sequence[Kind], most: int) -> list[Kind]:
    """Return some kinds that are unlike each other: the largest network, then each time what is farthest from all."""
    chosen = [max(kinds, key=lambda kind: kind.parameters / kind.spec.data.batch_size)]
    while len(chosen) < most:
        farthest = max(kinds, key=lambda kind: min(kind.distance(each) for each in chosen))
        if min(farthest.distance(each) for each in chosen) == 0:
            break
        chosen.append(farthest)
    return chosen


def measure(kind: Kind, seconds: float, clock: Callable[[], float]) -> Measured:
    """Train one configuration as a run does, for about so many seconds at most.

    Raises:
        DivergedError: numbers are not finite.
    """
    started = clock()
    start_s, start_bytes = _time_start(kind, clock)
    data = build.open_data(kind.spec)
    placement = place(kind.spec)
    with tempfile.TemporaryDirectory() as folder, settings(kind.spec, placement):
        built = build.build(kind.spec, data, placement)
        directory = RunDirectory.create(Path(folder), kind.spec.name)
        recorder = Recorder(directory, kind.spec, built, data)
        recorder.begin()
        try:
            epochs = _epochs(built, recorder, until=started + seconds, clock=clock)
            summary = recorder.end("completed")
        finally:
            recorder.close()
        last = directory.checkpoint(directory.LAST)
        best = directory.checkpoint(directory.BEST)
        # Beside the last one, the one before it is there, and those that are kept.
        copies = 2 + kind.spec.training.checkpoint.keep
        written = directory.path / directory.METRICS, directory.path / directory.LOG, directory.tensorboard
        return Measured(
            kind=kind,
            steps=sum(epoch.steps for epoch in epochs),
            start_s=start_s,
            step_s=median(epoch.train_s / epoch.steps for epoch in epochs),
            valid_s=median(epoch.valid_s / max(1, epoch.valid) for epoch in epochs),
            write_s=median(epoch.write_s for epoch in epochs),
            run_bytes=start_bytes + copies * _size(last) + _size(best),
            epoch_bytes=sum(map(_size, written)) / (len(epochs) + 1),
            memory=summary["peak_memory"],
            device=placement.device.type,
        )


@dataclass(frozen=True)
class _Epoch:
    """An epoch as it was trained: how much of it, and how long that took."""

    steps: int
    valid: int
    train_s: float
    valid_s: float
    write_s: float


def _epochs(built: Built, recorder: Recorder, *, until: float, clock: Callable[[], float]) -> list[_Epoch]:
    """Train epochs until there are enough, or the time is over, one at least; each so short that there are several.

    The first one, of one step, is not counted: kernels are chosen and memory is taken meanwhile.
    """
    steps, valid = built.train.steps, built.valid
    count, samples = 1, built.evaluation_batch
    found: list[_Epoch] = []
    trainer: Trainer | None = None
    while len(found) < 2 or (len(found) <= ENOUGH_EPOCHS and clock() < until):
        built.train.steps = steps[:count]
        built.valid = None if valid is None else replace(valid, index=valid.index[:samples])
        trainer = trainer or Trainer(built, *recorder.hooks())
        trainer.steps_per_epoch = len(built.train)
        found.append(_epoch(trainer, clock))
        if len(found) == 1:
            share = (until - clock()) / 8
            count = _fitting(share, found[0].train_s, 1, len(steps))
            samples = _fitting(share, found[0].valid_s, found[0].valid, 0 if valid is None else len(valid))
    return found[1:]


def _fitting(seconds: float, one_s: float, at_once: int, most: int) -> int:
    """Return how many there is time for, one round at least."""
    rounds = max(1, int(seconds / max(one_s, 1e-9)))
    return min(most, at_once * rounds)


def _epoch(trainer: Trainer, clock: Callable[[], float]) -> _Epoch:
    trainer.built.epochs = trainer.epoch + 1
    trainer.stop_reason = None
    started = clock()
    trainer.fit()
    seconds = clock() - started
    steps = trainer.built.train.steps
    speed, whole = trainer.row["samples_per_second"], trainer.row["seconds"]
    train_s = sum(stop - start for step in steps for start, stop in step) / (speed or math.inf)
    whole = min(seconds, whole or 0.0)
    valid = 0 if trainer.built.valid is None else len(trainer.built.valid)
    return _Epoch(len(steps), valid, train_s, max(0.0, whole - train_s), seconds - whole)


class _OneStep(Hook):
    """Ends a training after its first step, and each pretraining before it as soon as its pace is known.

    Args:
        clock: tells the time in seconds.

    Attributes:
        pretrainings: what was seen of them.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.pretrainings: list[_Pace] = []

    @override
    def of_pretraining(self, name: str, /) -> Hook:
        self.pretrainings.append(_Pace(self._clock))
        return self.pretrainings[-1]

    @override
    def on_step_end(self, run: RunView, /) -> None:
        run.stop("a step was all that was wanted")


class _Pace(Hook):
    """Ends a pretraining after some steps, and tells how long the others would have taken.

    Attributes:
        left_s: seconds of the steps that were not taken, and of validation as far as it was seen.
    """

    left_s = 0.0

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._first = 0.0

    @override
    def on_step_end(self, run: RunView, /) -> None:
        if run.step == 1:
            # Not counted: kernels are chosen and memory is taken meanwhile.
            self._first = self._clock()
            return
        seconds = self._clock() - self._first
        if seconds >= PACE_S or run.step > PACE_STEPS:
            self.left_s = (run.epochs * run.steps_per_epoch - run.step) * seconds / (run.step - 1)
            run.stop("the pace was all that was wanted")


def _time_start(kind: Kind, clock: Callable[[], float]) -> tuple[float, int]:
    """Return the seconds of a run that is ended after its first step, and the bytes of its files but checkpoints.

    Pretraining is a part of both: its seconds are foretold from a few steps.
    """
    with tempfile.TemporaryDirectory() as folder:
        started = clock()
        first = _OneStep(clock)
        made = run.train(kind.spec, runs=folder, observers=[first])
        seconds = clock() - started + sum(each.left_s for each in first.pretrainings)
        return seconds, _size(made.path) - _size(made.path / RunDirectory.CHECKPOINTS)


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
    return path.stat().st_size if path.exists() else 0


def _open(spec: Spec, opened: dict[str, build.Data]) -> build.Data:
    section = spec.data
    key = flow(plain([section.dataset, section.classes, section.validation, section.limit]))
    if key not in opened:
        opened[key] = build.open_data(spec)
    return opened[key]


def _costly(spec: Spec) -> Mapping[str, Any]:
    """Return what an experiment says of things that take time."""
    settings: Mapping[str, Any] = flatten(plain(spec))
    free = (*_FREE, "model.initializer", "model.output_initializer")
    return {key: value for key, value in settings.items() if not key.startswith(free) or key == "optimizer.name"}
