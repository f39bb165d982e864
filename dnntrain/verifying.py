"""Proof that a run which is stopped and resumed ends as one that never stopped, to the last bit."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from typing_extensions import override

from dnntrain import build
from dnntrain.checkpoints import read_checkpoint
from dnntrain.errors import Interrupted, UsageError
from dnntrain.run import RunRecord, resume, train
from dnntrain.spec import Spec
from dnntrain.store import RunDirectory
from dnntrain.training.hooks import Hook, RunView
from dnntrain.training.state import copied, differences

TIMES: Final = frozenset({"seconds", "samples_per_second", "training_seconds"})
"""Keys whose values are times, or made of them: the only ones that may differ."""


@dataclass
class Verdict:
    """What came of the comparison.

    Attributes:
        stops: the optimizer steps after which training was stopped.
        states: how many states were compared.
        rows: how many epochs' metrics were compared.
        restored: states that were not as saved right after they were restored, in the order of being restored.
        ended: what was different at the end: of the last state, of the best weights, and of the metrics.
    """

    stops: list[int]
    states: int = 0
    rows: int = 0
    restored: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    @property
    def identical(self) -> bool:
        """Whether nothing was different."""
        return not self.restored and not self.ended

    @property
    def first(self) -> str | None:
        """The first state that differs, or None."""
        return next(iter([*self.restored, *self.ended]), None)


def verify_resume(spec: Spec, /, *, stops: Sequence[int] | None = None, runs: str | Path = "runs") -> Verdict:
    """Train an experiment whole and in pieces, and compare everything but times.

    Args:
        spec: the experiment.
        stops: the optimizer steps after which training is stopped; unless given: early in the first epoch, twice in
            the second, after the last batch of an epoch, and in the last epoch.
        runs: the folder in which a run whose layers are reused is looked for by its name.

    Raises:
        SpecError: there is no such run.
        UsageError: a stop lies beyond the end.
    """
    spec = build.locate(spec, Path(runs))
    with tempfile.TemporaryDirectory(prefix="dnntrain-verify-") as folder:
        shape = _Shape()
        whole = train(spec, runs=Path(folder) / "whole", observers=[shape])
        chosen = sorted(set(_stops(shape.steps_per_epoch, shape.last) if stops is None else stops))
        if not chosen or chosen[-1] > shape.last or chosen[0] < 1:
            raise UsageError(f"training takes {shape.last} steps: it cannot be stopped after {chosen or 'none'}")
        verdict = Verdict(chosen)
        pieces = _in_pieces(spec, Path(folder) / "pieces", verdict)
        _compare(RunDirectory(whole.path), RunDirectory(pieces.path), verdict)
        return verdict


class _Shape(Hook):
    """Learns how many steps there are."""

    steps_per_epoch = last = 0

    @override
    def on_fit_end(self, run: RunView, /) -> None:
        self.steps_per_epoch, self.last = run.steps_per_epoch, run.step


class _StopAfter(Hook):
    """Asks for the end after a step, as a signal would, and compares the state right after it was restored."""

    def __init__(self, step: int | None, directory: RunDirectory | None, verdict: Verdict) -> None:
        self._step = step
        self._directory = directory
        self._verdict = verdict

    @override
    def on_fit_start(self, run: RunView, /) -> None:
        if self._directory is None:
            return
        saved = read_checkpoint(self._directory.checkpoint(self._directory.LAST), torch.device("cpu"))["training"]
        self._verdict.restored += _differing(saved, copied(run.state_dict()))
        self._verdict.states += len(saved)

    @override
    def on_step_end(self, run: RunView, /) -> None:
        if run.step == self._step:
            raise Interrupted(signal.SIGINT)


def _in_pieces(spec: Spec, runs: Path, verdict: Verdict) -> RunRecord:
    first, *others = verdict.stops
    with suppress(Interrupted):
        train(spec, runs=runs, observers=[_StopAfter(first, None, verdict)])
    (path,) = runs.iterdir()
    directory = RunDirectory(path)
    for stop in others:
        with suppress(Interrupted):
            resume(path, observers=[_StopAfter(stop, directory, verdict)])
    return resume(path, observers=[_StopAfter(None, directory, verdict)])


def _compare(whole: RunDirectory, pieces: RunDirectory, verdict: Verdict) -> None:
    for name in (whole.LAST, whole.BEST):
        one, other = (read_checkpoint(directory.checkpoint(name), torch.device("cpu")) for directory in (whole, pieces))
        kept, again = one.get("training", one), other.get("training", other)
        verdict.states += len(kept)
        verdict.ended += [f"{name}: {path}" for path in _differing(kept, again)]
    rows = whole.metrics()
    verdict.rows = len(rows)
    verdict.ended += [f"{whole.METRICS}: {path}" for path in _differing(rows, pieces.metrics())]


def _differing(one: Any, other: Any) -> Iterator[str]:
    return (path for path in differences(one, other) if path.rsplit(".", 1)[-1] not in TIMES)


def _stops(steps_per_epoch: int, last: int) -> list[int]:
    """Choose where to stop: wherever going on might go wrong in its own way."""
    e = steps_per_epoch
    asked = [(e + 1) // 2, e + max(1, e // 4), e + max(2, e // 2), 2 * e, last - max(1, e // 2)]
    return [step for step in asked if 1 <= step <= last]
