"""One job, done in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from typing_extensions import override

from dnntrain import interruption
from dnntrain.errors import DivergedError, DnntrainError, Interrupted, LockedError, Paused, StoreError
from dnntrain.sweep.engines.base import Job, Outcome
from dnntrain.training.hooks import Hook, RunView

LOCKED_S: Final = 2.0
"""How long to wait before a run that somebody else trains is looked at again."""


class Pause(Hook):
    """Leaves training after an epoch, unless that is its end anyway."""

    def __init__(self, until: int) -> None:
        self._until = until

    @override
    def on_epoch_end(self, run: RunView, /) -> None:
        if run.epoch >= self._until and run.epoch < run.epochs and run.stop_reason is None:
            raise Paused(run.epoch, run.epochs)


def do(job: Job) -> Outcome:
    """Train a job.

    Raises:
        Interrupted: a signal asked for the end.
    """
    from dnntrain import run
    from dnntrain import spec as specs
    from dnntrain.parts.plugins import load_file, load_installed

    try:
        load_installed()
        for path in job.plugins:
            load_file(Path(path))
        experiment = specs.loads(job.text, source=f"{job.directory.name}/spec.yaml")
        while True:
            try:
                run.take_up(experiment, job.directory, observers=[] if job.until is None else [Pause(job.until)])
                break
            except LockedError:
                # Whoever holds it was taken for dead, and is not; it goes on, and this job with what it leaves.
                interruption.sleep(LOCKED_S)
    except Paused as paused:
        return Outcome(job.key, "paused", str(paused))
    except Interrupted:
        raise
    except DivergedError as error:
        return Outcome(job.key, "failed", str(error))
    except StoreError as error:
        # A full disk, or an unreachable one: another try may find it otherwise.
        return Outcome(job.key, "crashed", str(error))
    except DnntrainError as error:
        return Outcome(job.key, "failed", str(error))
    return Outcome(job.key, "ended")
