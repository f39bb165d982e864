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
        stops: the optimizer steps after which training is stopped, those of pretraining counted first; unless given:
            once in each pretraining, and of training early in the first epoch, twice in the second, after the last
            batch of an epoch, and in the last epoch.
        runs: the folder in which a run whose layers are reused is looked for by its name.

    Raises:
        SpecError: there is no such run.
        UsageError: a stop lies beyond the end.
    """
    spec = build.locate(spec, Path(runs))
    with tempfile.TemporaryDirectory(prefix="dnntrain-verify-") as folder:
        shape = _Shape()
        whole = train(spec, runs=Path(folder) / "whole", observers=[shape])
        chosen = sorted(set(shape.stops() if stops is None else stops))
        if not chosen or chosen[-1] > shape.total or chosen[0] < 1:
            raise UsageError(f"training takes {shape.total} steps: it cannot be stopped after {chosen or 'none'}")
        verdict = Verdict(chosen)
        pieces = _in_pieces(spec, Path(folder) / "pieces", [shape.place(stop) for stop in chosen], verdict)
        for name in shape.pretrainings:
            one, other = (RunDirectory(run.path).pretraining(name) for run in (whole, pieces))
            _compare(one, other, verdict, f"{name}/")
        _compare(RunDirectory(whole.path), RunDirectory(pieces.path), verdict)
        return verdict


class _Part(Hook):
    """Learns how many steps there are in a pretraining, or in training."""

    steps_per_epoch = last = 0

    @override
    def on_fit_end(self, run: RunView, /) -> None:
        self.steps_per_epoch, self.last = run.steps_per_epoch, run.step


class _Shape(_Part):
    """Learns how many steps there are in all.

    Attributes:
        pretrainings: the pretrainings by name, in their order.
    """

    def __init__(self) -> None:
        self.pretrainings: dict[str, _Part] = {}

    @override
    def of_pretraining(self, name: str, /) -> Hook:
        self.pretrainings[name] = _Part()
        return self.pretrainings[name]

    @property
    def total(self) -> int:
        """All steps, those of pretraining included."""
        return sum(part.last for part in self.pretrainings.values()) + self.last

    def place(self, stop: int) -> tuple[str | None, int]:
        """Return in which pretraining a step lies, or None for training, and its number there."""
        for name, part in self.pretrainings.items():
            if stop <= part.last:
                return name, stop
            stop -= part.last
        return None, stop

    def stops(self) -> list[int]:
        """Choose where to stop: wherever going on might go wrong in its own way."""
        before, found = 0, []
        for part in self.pretrainings.values():
            found.append(before + min(part.last, part.steps_per_epoch + max(1, part.steps_per_epoch // 3)))
            before += part.last
        return [*found, *(before + stop for stop in _stops(self.steps_per_epoch, self.last))]


class _StopAfter(Hook):
    """Asks for the end after a step, as a signal would, and compares the state right after it was restored.

    Args:
        stop: the pretraining that the step lies in, or None for training, and its number there; None for no stop.
        left: the run, and the place where it was left before; None for one that begins.
        verdict: told what differs.
        place: what is watched: a pretraining, or None for training.
    """

    def __init__(
        self,
        stop: tuple[str | None, int] | None,
        left: tuple[RunDirectory, str | None] | None,
        verdict: Verdict,
        place: str | None = None,
    ) -> None:
        self._stop = stop
        self._left = left
        self._verdict = verdict
        self._place = place

    @override
    def of_pretraining(self, name: str, /) -> Hook:
        return _StopAfter(self._stop, self._left, self._verdict, name)

    @override
    def on_fit_start(self, run: RunView, /) -> None:
        if self._left is None or self._left[1] != self._place:
            return
        directory = self._left[0] if self._place is None else self._left[0].pretraining(self._place)
        saved = read_checkpoint(directory.checkpoint(directory.LAST), torch.device("cpu"))["training"]
        self._verdict.restored += _differing(saved, copied(run.state_dict()))
        self._verdict.states += len(saved)

    @override
    def on_step_end(self, run: RunView, /) -> None:
        if self._stop == (self._place, run.step):
            raise Interrupted(signal.SIGINT)


def _in_pieces(spec: Spec, runs: Path, stops: Sequence[tuple[str | None, int]], verdict: Verdict) -> RunRecord:
    first, *others = stops
    with suppress(Interrupted):
        train(spec, runs=runs, observers=[_StopAfter(first, None, verdict)])
    (path,) = runs.iterdir()
    directory, place = RunDirectory(path), first[0]
    for stop in others:
        with suppress(Interrupted):
            resume(path, observers=[_StopAfter(stop, (directory, place), verdict)])
        place = stop[0]
    return resume(path, observers=[_StopAfter(None, (directory, place), verdict)])


def _compare(whole: RunDirectory, pieces: RunDirectory, verdict: Verdict, within: str = "") -> None:
    for name in (whole.LAST, whole.BEST):
        one, other = (read_checkpoint(directory.checkpoint(name), torch.device("cpu")) for directory in (whole, pieces))
        kept, again = one.get("training", one), other.get("training", other)
        verdict.states += len(kept)
        verdict.ended += [f"{within}{name}: {path}" for path in _differing(kept, again)]
    rows = whole.metrics()
    verdict.rows += len(rows)
    verdict.ended += [f"{within}{whole.METRICS}: {path}" for path in _differing(rows, pieces.metrics())]


def _differing(one: Any, other: Any) -> Iterator[str]:
    return (path for path in differences(one, other) if path.rsplit(".", 1)[-1] not in TIMES)


def _stops(steps_per_epoch: int, last: int) -> list[int]:
    """Choose where to stop: wherever going on might go wrong in its own way."""
    e = steps_per_epoch
    asked = [(e + 1) // 2, e + max(1, e // 4), e + max(2, e // 2), 2 * e, last - max(1, e // 2)]
    return [step for step in asked if 1 <= step <= last]
