"""Pretraining within a run: each task is a run directory of its own inside that of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

import torch
from torch import Tensor

from dnntrain import spec as specs
from dnntrain.build import Named, Pretraining
from dnntrain.checkpoints import read_best, read_checkpoint
from dnntrain.errors import DivergedError, StoreError
from dnntrain.recording import Recorder
from dnntrain.resuming import afresh, began_with, latest, restore
from dnntrain.spec.changes import changes
from dnntrain.store import RunDirectory
from dnntrain.training.hooks import Fit, Hook
from dnntrain.training.randomness import derive, forked
from dnntrain.training.trainer import Trainer

_ENDED: Final = ("completed", "stopped")


def pretrain(run: RunDirectory, pretraining: Pretraining, observers: Sequence[Hook], log: Recorder) -> None:
    """Learn all tasks of a pretraining, or go on where that was left; what was learned before is read.

    Of each task the weights of its best epoch are kept, the ones that `model.reuse` would take; of one that a hook
    stopped before its first epoch was over, the last ones. Noise that is drawn afterwards is the same as without
    pretraining.

    Args:
        run: the directory of the run that it belongs to.
        pretraining: the tasks.
        observers: hooks that watch the run; they say what watches its pretraining.
        log: told what is done.

    Raises:
        DivergedError: training met numbers that are not finite.
        StoreError: a directory cannot be read or written.
        Interrupted: a signal asked for the end.
    """
    for each in pretraining.tasks:
        directory = run.pretraining(each.name)
        if not _has_ended(directory):
            log.log(f"pretraining {each.name}")
            with directory.lock(), forked(pretraining.device):
                torch.manual_seed(derive(each.spec.seed, f"pretraining {each.name} noise"))
                fit = _learn(directory, pretraining, each, observers)
            best = "no epoch" if fit.best_epoch is None else f"epoch {fit.best_epoch}"
            reason = f" ({fit.stop_reason})" if fit.stop_reason else ""
            log.log(f"pretrained {each.name}: {best} of {fit.epochs} was the best{reason}")
        each.task.model.load_state_dict(_learned(directory))


def _has_ended(directory: RunDirectory) -> bool:
    return (directory.path / directory.SUMMARY).exists() and directory.summary().get("status") in _ENDED


def _learned(directory: RunDirectory) -> Mapping[str, Tensor]:
    """Return the weights that a task ended with."""
    summary = directory.summary()
    if summary["status"] == "stopped" and summary["best"]["epoch"] is None:
        last = read_checkpoint(directory.checkpoint(directory.LAST), torch.device("cpu"))
        weights: Mapping[str, Tensor] = last["training"]["model"]
        return weights
    return read_best(directory).model


def _learn(directory: RunDirectory, pretraining: Pretraining, each: Named, observers: Sequence[Hook]) -> Fit:
    """Train one task to its end, from its latest checkpoint where there is one."""
    built = pretraining.build(each)
    directory.write_spec(specs.dump(each.spec))
    recorder = Recorder(directory, each.spec, built, pretraining.data)
    watching = [watch for hook in observers if (watch := hook.of_pretraining(each.name)) is not None]
    trainer = Trainer(built, *recorder.hooks(), *watching)
    saved = latest(directory, built.device)
    if saved is None:
        recorder.go_on(trainer, {}, None)
    else:
        checkpoint, path = saved
        found = changes(began_with(directory, saved), each.spec)
        restore(trainer, checkpoint["training"], path, reset=afresh(trainer, found))
        recorder.go_on(trainer, checkpoint["record"], path)
    try:
        recorder.begin()
        fit = trainer.fit()
        recorder.end("stopped" if fit.stop_reason else "completed", stop_reason=fit.stop_reason)
    except KeyboardInterrupt as interrupted:
        with suppress(StoreError):
            recorder.end("interrupted", stop_reason=str(interrupted) or "interrupted")
        raise
    except DivergedError as error:
        with suppress(StoreError):
            directory.write_divergence({**error.report, "last_good": None})
            recorder.end("failed", error=f"{type(error).__name__}: {error}")
        raise DivergedError(f"pretraining {each.name}: {error}", step=error.step, report=error.report) from error
    except BaseException as error:
        with suppress(StoreError):
            recorder.end("failed", error=f"{type(error).__name__}: {error}")
        raise
    else:
        return fit
    finally:
        recorder.close()
