"""One experiment from its spec to its run directory: seed, build, fit, record. This file joins all the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from dnntrain import build, interruption, yamltext
from dnntrain import spec as specs
from dnntrain.build import Data, Pretraining
from dnntrain.checkpoints import read_checkpoint
from dnntrain.errors import DataError, DivergedError, StoreError, UsageError
from dnntrain.identity import identity
from dnntrain.parts.plugins import loaded_files
from dnntrain.placement import Placement, place, settings
from dnntrain.pretraining import pretrain
from dnntrain.recording import Recorder
from dnntrain.resuming import (
    afresh,
    began_with,
    latest,
    pinned,
    readable,
    refuse_impossible,
    restore,
    stage_of,
    unlike,
)
from dnntrain.spec import Spec
from dnntrain.spec.changes import Change, changes
from dnntrain.spec.schema import RetrySpec
from dnntrain.store import RunDirectory, find, listing
from dnntrain.store.environment import describe_environment
from dnntrain.tracking.base import Tracker
from dnntrain.training.built import Built
from dnntrain.training.hooks import Fit, Hook, Row
from dnntrain.training.parameters import FlatParameters
from dnntrain.training.randomness import forked
from dnntrain.training.state import State, copied
from dnntrain.training.tally import evaluate as measure
from dnntrain.training.trainer import Trainer


@dataclass(frozen=True)
class RunRecord:
    """A finished run.

    Attributes:
        path: its run directory.
        summary: what summary.json says.
        remarks: what a user should know beside: what could not be written, what started afresh, that there was nothing
            to go on with.
    """

    path: Path
    summary: Mapping[str, Any]
    remarks: Sequence[str] = field(default=())

    @property
    def status(self) -> str:
        """completed, stopped, interrupted or failed."""
        return str(self.summary["status"])

    @property
    def best(self) -> Mapping[str, Any]:
        """Metrics of the best epoch."""
        return dict(self.summary["best"]["metrics"])

    @property
    def test(self) -> Mapping[str, Any] | None:
        """Metrics of the test part, where it was measured."""
        test: Mapping[str, Any] | None = self.summary["test"]
        return test


def train(
    spec: Spec | Mapping[str, Any] | str | Path,
    /,
    *,
    runs: str | Path = "runs",
    test: bool = False,
    observers: Sequence[Hook] = (),
    directory: str | Path | None = None,
    trackers: Sequence[Tracker] = (),
) -> RunRecord:
    """Train an experiment and leave a run directory.

    Data is opened and everything is built before the directory is made, so that a mistake leaves nothing behind.
    The process's random state, threads, number formats and signal handlers are afterwards as they were.

    Args:
        spec: a `Spec`, the path of a file, or a mapping such as the file would hold.
        runs: the folder in which the run directory is made.
        test: measure the test part at the end, with the best weights.
        observers: hooks that watch.
        directory: the run directory, where it shall not have a new name in `runs`; what was begun there without
            leaving a summary is overwritten.
        trackers: tools that are told, beside TensorBoard.

    Raises:
        SpecError: the experiment is wrong.
        DataError: its data cannot be used.
        DivergedError: training met numbers that are not finite; the run directory says `failed`.
        StoreError: the run directory cannot be written.
        Interrupted: SIGINT, SIGTERM or SIGUSR1 asked for the end; `resume` goes on where training was left.
    """
    asked = _spec(spec)
    spec = specs.without_sweep(asked)
    with interruption.listening():
        data = build.open_data(spec)
        spec = build.resolve(spec, data, runs=runs)
        placement = place(spec)
        with settings(spec, placement):
            built, pretraining = _build(spec, data, placement, test=test)
            interruption.check()
            made = RunDirectory.create(Path(runs), spec.name) if directory is None else RunDirectory.at(Path(directory))
            with made.lock():
                made.write_spec(specs.dump(spec))
                made.write_environment({**_environment(spec, built, data, placement), "test": test})
                training = _Training(made, spec, data, built, pretraining, placement, observers, trackers, test=test)
                training.remarks += [] if asked.sweep is None else [_ONE_RUN]
                return training.fit()


def take_up(
    spec: Spec | Mapping[str, Any] | str | Path,
    directory: str | Path,
    /,
    *,
    test: bool = False,
    observers: Sequence[Hook] = (),
) -> RunRecord:
    """Train an experiment in a directory of this name, or go on with what was begun there.

    Whoever calls this again after any kind of end has the same run in the end: see `train` and `resume`.
    """
    if (Path(directory) / RunDirectory.SUMMARY).exists():
        return resume(directory, observers=observers)
    return train(spec, test=test, observers=observers, directory=directory)


def resume(
    run: str | Path,
    /,
    *,
    overrides: Sequence[str] = (),
    runs: str | Path = "runs",
    observers: Sequence[Hook] = (),
    trackers: Sequence[Tracker] = (),
) -> RunRecord:
    """Go on with a run where its latest checkpoint leaves it; it ends as if it had never stopped.

    A run without a checkpoint starts over, in the same directory. A run that has come to its end is left alone, unless
    the overrides give it more to do.

    Args:
        run: a path, a name, a unique prefix, or `last`.
        overrides: `K=V` changes of the experiment from here on.
        runs: where runs are looked for.
        observers: hooks that watch.
        trackers: tools that are told, beside TensorBoard.

    Raises:
        LockedError: another process trains it.
        UsageError: there is no such run, it is the pretraining of another, or it cannot go on with these changes.
        DataError: its data cannot be used, or is not what it began with.
        StoreError: its checkpoints are damaged, or its directory cannot be written.
        DivergedError: training met numbers that are not finite.
        Interrupted: a signal asked for the end once more.
    """
    directory = _found(str(run), Path(runs))
    with interruption.listening(), directory.lock():
        summary = directory.summary()
        if summary["status"] in ("completed", "stopped") and not overrides:
            reason = f" ({summary['stop_reason']})" if summary["stop_reason"] else ""
            return RunRecord(directory.path, summary, (f"{directory.name} has come to its end{reason}: {_MORE}",))
        environment = directory.environment()
        source = str(directory.path / directory.SPEC)
        spec = specs.loads(directory.spec_text(), source=source, folder=directory.path, overrides=overrides)
        spec = specs.without_sweep(spec)
        data = build.open_data(spec)
        spec = build.resolve(spec, data, runs=runs)
        here = pinned(spec, environment)
        placement = place(here)
        saved = latest(directory, placement.device)
        found = changes(began_with(directory, saved), spec, stage=stage_of(saved[0]["training"]) if saved else 0)
        refuse_impossible(found)
        _refuse_other_data(directory, environment, data)
        with settings(here, placement):
            test = bool(environment.get("test"))
            built, pretraining = _build(spec, data, placement, test=test, saved=saved[0] if saved else None)
            now = _environment(spec, built, data, placement)
            training = _Training(directory, spec, data, built, pretraining, placement, observers, trackers, test=test)
            training.remarks += unlike(environment, now, asked=[change.key for change in found])
            training.remarks += [f"from here on {change}" for change in found]
            told = {tracker.name for tracker in trackers}
            training.remarks += [_UNTOLD.format(tool) for tool in directory.tracking() if tool not in told]
            training.go_on(saved, found, retried=bool(overrides or found))
            directory.write_spec(specs.dump(spec))
            directory.write_environment({**environment, "resumed": [*environment.get("resumed", []), now]})
            return training.fit()


_UNTOLD = "{0} knows this run, but is not told how it goes on: --track {0} tells it"
_ONE_RUN = "this is the experiment as it is, once; what its section sweep says is for: dnntrain sweep FILE"
_MORE = "to go on, give it more to do, such as --set training.epochs=N"


def latest_of(spec: Spec, /, *, runs: str | Path = "runs") -> RunDirectory | None:
    """Return the latest run of exactly this experiment, whether or not it has ended; None where there is none.

    Raises:
        SpecError: the experiment is wrong.
        DataError: its data cannot be used.
    """
    spec = specs.without_sweep(spec)
    text = specs.dump(build.resolve(spec, build.open_data(spec), runs=runs))
    for directory in reversed(listing(Path(runs))):
        with suppress(StoreError):
            if directory.summary().get("name") == spec.name and directory.spec_text() == text:
                return directory
    return None


class _Training:
    """One training of a run, from its beginning or from a checkpoint, to its end or to the next interruption."""

    def __init__(
        self,
        directory: RunDirectory,
        spec: Spec,
        data: Data,
        built: Built,
        pretraining: Pretraining | None,
        placement: Placement,
        observers: Sequence[Hook],
        trackers: Sequence[Tracker],
        *,
        test: bool,
    ) -> None:
        self.directory = directory
        self.spec = spec
        self.data = data
        self.test = test
        self.remarks: list[str] = []
        self.recorder = Recorder(directory, spec, built, data, trackers)
        self._placement = placement
        self._stages = build.stages(spec, built.model)
        self._observers = observers
        self._watching = [*self.recorder.hooks(), *observers]
        self.trainer = Trainer(built, *self._watching)
        self._on_divergence = spec.training.on_divergence
        self._pretraining = pretraining
        self._start = None if spec.pretraining else self._state_to_go_back_to()

    def go_on(self, saved: tuple[State, Path] | None, changed: Sequence[Change], *, retried: bool) -> None:
        """Take training to a checkpoint, or to the start where there is none.

        Args:
            saved: the checkpoint and where it lies.
            changed: what is different from here on.
            retried: whether a training that has come to its end shall go on.
        """
        if saved is None:
            what = "training starts over" if self._pretraining is None else "pretraining goes on, then training begins"
            self.remarks.append(f"there is no checkpoint yet: {what}")
            self.recorder.go_on(self.trainer, {}, None)
            return
        checkpoint, path = saved
        if build.reused_layers(self.spec, self.trainer.built.model):
            # They were not read again, so that this is not the state that training began with.
            self._start = None
        self._enter(stage_of(checkpoint["training"]))
        trainer = self.trainer
        restore(trainer, checkpoint["training"], path, reset=afresh(trainer, changed))
        if retried:
            trainer.stop_reason, trainer.for_good = None, False
        self.recorder.go_on(trainer, checkpoint["record"], path)
        where = f"step {trainer.epoch_step} of epoch {trainer.epoch}" if trainer.inside else f"epoch {trainer.epoch}"
        self.recorder.log(f"going on after {where}, from {path.name}")

    def fit(self) -> RunRecord:
        """Fit, and write down how it ended, whatever happens."""
        recorder, directory, built = self.recorder, self.directory, self.trainer.built
        try:
            recorder.begin()
            recorder.log(f"training {self.spec.name} on {built.device}, {built.precision}")
            if (reuse := self.spec.model.reuse) is not None:
                recorder.log(f"layers reused from {reuse.from_}: {reuse.keep}")
            self._pretrain()
            fit = self._fit()
            if self.trainer.divergence is not None:
                self._report(self.trainer.divergence)
            if self.test:
                recorder.test = _measure_best(directory, self.trainer.built, self.spec, self.data)
            summary = recorder.end("stopped" if fit.stop_reason else "completed", stop_reason=fit.stop_reason)
        except KeyboardInterrupt as interrupted:
            with suppress(StoreError):
                recorder.end("interrupted", stop_reason=str(interrupted) or "interrupted")
            recorder.log(f"{interrupted}")
            interrupted.add_note(f"to go on: dnntrain resume {directory.path}")
            raise
        except BaseException as error:
            with suppress(StoreError):
                recorder.end("failed", error=f"{type(error).__name__}: {error}")
            recorder.log(f"failed: {error}")
            error.add_note(f"what was recorded until then: {directory.path}")
            raise
        else:
            recorder.log(summary["status"] + (f": {fit.stop_reason}" if fit.stop_reason else ""))
            remarks = [*self.remarks, *(f"not everything was written: {why}" for why in recorder.failures.values())]
            return RunRecord(directory.path, summary, tuple(remarks))
        finally:
            recorder.close()

    def _pretrain(self) -> None:
        """Let the hidden layers learn what they are to learn beforehand, where that is still to be done."""
        if self._pretraining is not None:
            pretrain(self.directory, self._pretraining, self._observers, self.recorder)
            self._pretraining.hand_over(self.trainer.model)
            self._pretraining = None
            self._start = self._state_to_go_back_to()

    def _state_to_go_back_to(self) -> State | None:
        return copied(self.trainer.state_dict()) if isinstance(self._on_divergence, RetrySpec) else None

    def _fit(self) -> Fit:
        """Fit stage by stage."""
        while True:
            fit = self._fit_stage()
            done = self.trainer.stage
            if self.trainer.for_good or done in (0, len(self._stages)):
                return fit
            if fit.stop_reason is not None:
                self.recorder.log(f"stage {done} ends with epoch {fit.epochs}: {fit.stop_reason}")
            self._enter(done + 1, after=self.trainer)
            self.recorder.log(f"stage {done + 1} begins")
            # From here on a divergence leads back to the beginning of the stage, and not to the one before.
            self.recorder.save(self.trainer)

    def _enter(self, number: int, *, after: Trainer | None = None) -> None:
        """Build another stage, unless training is in it.

        Args:
            number: of the stage, from 1; 0 where training is not divided.
            after: the stage before, at its end; None where a checkpoint will say what there is to know of it.

        Raises:
            UsageError: epochs were cut so that there is no such stage.
        """
        if number == self.trainer.stage:
            return
        if not 1 <= number <= len(self._stages):
            raise UsageError(
                f"{self.directory.name} was left in stage {number}, which training.epochs: {self.spec.training.epochs} "
                "cuts off: give it more"
            )
        built = build.at_stage(self.spec, self._placement, self.trainer.built, self._stages[number - 1])
        self.trainer = Trainer(built, *self._watching, after=after)

    def _fit_stage(self) -> Fit:
        """Fit; where training diverges, go back and try again with a lower rate, if and as often as was asked for."""
        while True:
            try:
                return self.trainer.fit()
            except DivergedError as error:
                self._report(error.report)
                policy = self._on_divergence
                if not isinstance(policy, RetrySpec) or self.trainer.retries >= policy.retry:
                    raise
                self._go_back(error, policy.lr_factor)

    def _report(self, divergence: Mapping[str, Any]) -> None:
        good = self.directory.resumable()
        self.directory.write_divergence({**divergence, "last_good": good[0].name if good else None})

    def _go_back(self, error: DivergedError, lr_factor: float) -> None:
        """Go to the last state from which training did not diverge at once, and lower the learning rate."""
        retries = self.trainer.retries + 1
        state, record, good = (self._start if self.trainer.stage < 2 else None), {}, None
        # Where none can be read, of which there were warnings, the start is still known.
        with suppress(StoreError):
            for checkpoint, path in readable(self.directory, self.trainer.built.device):
                if self._may_go_back_to(checkpoint["training"], error.step):
                    state, record, good = checkpoint["training"], checkpoint["record"], path
                    break
        if state is None:
            raise error
        self.trainer.load_state_dict(copied(state))
        self.recorder.go_on(self.trainer, record, good)
        earlier, self.trainer.retries = self.trainer.retries, retries
        self.trainer.scale_lr(lr_factor ** (retries - earlier))
        self.recorder.save(self.trainer)
        place = "the start" if good is None else good.name
        remark = f"{error}; going back to {place}, with {self.trainer.lr_scale:.3g} of the learning rate"
        self.remarks.append(remark)
        self.recorder.log(remark)

    def _may_go_back_to(self, state: State, diverged: int) -> bool:
        """Whether a state is of the present stage, and either its first or one from which training did not diverge."""
        step, trainer = state["progress"]["step"], self.trainer
        if stage_of(state) != trainer.stage:
            return False
        return bool(step < diverged - 1 or (trainer.stage > 1 and step == trainer.steps_before))


def _found(query: str, runs: Path) -> RunDirectory:
    directory = find(query, runs)
    if directory.around is not None:
        raise UsageError(f"{directory.path} is a pretraining of {directory.around.path}: resume that")
    return directory


def _refuse_other_data(directory: RunDirectory, environment: Mapping[str, Any], data: Data) -> None:
    if environment.get("data", {}).get("fingerprint") != data.arrays.fingerprint:
        raise DataError(
            f"the data is not what {directory.name} began with: bring it back, or start a new run with: dnntrain run "
            f"{directory.path / directory.SPEC}"
        )


def _build(
    spec: Spec, data: Data, placement: Placement, *, test: bool, saved: Mapping[str, Any] | None = None
) -> tuple[Built, Pretraining | None]:
    """Build an experiment and its pretraining, if that is still to come; see that what is to be measured is there."""
    if placement.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(placement.device)
    built = build.build(spec, data, placement, restored=saved is not None, scaling=(saved or {}).get("prepare"))
    if test:
        build.part_of(spec, data, "test", built.train.examples.prepare, placement.device)
    return built, build.Pretraining(spec, data, placement, built) if spec.pretraining and saved is None else None


def _measure_best(directory: RunDirectory, built: Built, spec: Spec, data: Data) -> Row:
    """Measure the test part with the best weights; with the last ones where no epoch was ever best."""
    path = directory.checkpoint(directory.BEST)
    weights = read_checkpoint(path, built.device)["model"] if path.exists() else built.model.state_dict()
    kept = copied(built.model.state_dict())
    built.model.load_state_dict(weights)
    examples = build.part_of(spec, data, "test", built.train.examples.prepare, built.device)
    with forked(built.device):
        row = measure(
            built.model,
            examples,
            loss=built.loss,
            metrics=built.metrics,
            batch_size=built.evaluation_batch,
            precision=built.precision,
            prefix="test",
        )
    built.model.load_state_dict(kept)
    return row


def _spec(spec: Spec | Mapping[str, Any] | str | Path) -> Spec:
    if isinstance(spec, Spec):
        return spec
    if isinstance(spec, Mapping):
        return specs.loads(yamltext.dump(dict(spec)), source="<mapping>")
    return specs.load(spec)


def _environment(spec: Spec, built: Built, data: Data, placement: Placement) -> dict[str, Any]:
    """Describe what the numbers depend on beside the spec."""
    device, reused = placement.device, build.digest(spec)
    return {
        **describe_environment(),
        "identity": identity(spec, fingerprint=data.arrays.fingerprint, plugins=loaded_files(), reused=reused),
        "reused": reused,
        "plugins": loaded_files(),
        "torch_build": torch.__version__,
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        "precision": placement.precision,
        "step_strategy": {
            "parameters": "flat" if isinstance(built.parameters, FlatParameters) else "by tensor",
            "compiled": placement.compile,
            **({} if built.upper is None else {"cached": True}),
        },
        "data": {
            "dataset": spec.data.dataset.name,
            "fingerprint": data.arrays.fingerprint,
            "train": len(data.parts.train.index),
            "valid": len(data.parts.valid.index) if data.parts.valid else 0,
            "test": len(data.parts.test.index) if data.parts.test else 0,
        },
    }
