"""Going on with a run: the checkpoint to go on from, what was chosen when it began, and what is different now."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch

from dnntrain import spec as specs
from dnntrain.checkpoints import read_checkpoint
from dnntrain.errors import NewerError, StoreError, UsageError
from dnntrain.registry import AUTO
from dnntrain.spec import Spec
from dnntrain.spec.changes import Change
from dnntrain.store import RunDirectory
from dnntrain.training.state import State
from dnntrain.training.trainer import Trainer

_logger = logging.getLogger("dnntrain")

# What must be equal for the same bits, as environment.json has it.
_ALIKE: Final = {
    "cpu": "processor",
    "torch_build": "PyTorch",
    "device": "device",
    "device_name": "GPU",
    "threads": "number of threads",
    "precision": "precision",
    "step_strategy": "way of taking steps",
}


def readable(directory: RunDirectory, device: torch.device) -> Iterator[tuple[State, Path]]:
    """Yield the checkpoints of a run that are whole, the one to try first at the front; of others it is warned.

    Raises:
        NewerError: one of them was written by a newer dnntrain; going on from an older one would overwrite it.
        StoreError: there are checkpoints, and none can be read; with the reason of each.
    """
    reasons: list[str] = []
    whole = False
    for path in directory.resumable():
        try:
            checkpoint = read_checkpoint(path, device)
            if lacking := {"training", "record"} - set(checkpoint):
                raise StoreError(f"{path} is no state of training: it lacks {' and '.join(sorted(lacking))}")
        except NewerError:
            raise
        except StoreError as error:
            _logger.warning("%s; trying the one before it", error)
            reasons.append(str(error))
        else:
            whole = True
            yield checkpoint, path
    if reasons and not whole:
        anew = f"dnntrain run {directory.path / directory.SPEC}"
        why = "\n".join(reasons)
        raise StoreError(f"no checkpoint of {directory.path} can be read; to start anew: {anew}\n{why}")


def latest(directory: RunDirectory, device: torch.device) -> tuple[State, Path] | None:
    """Read the latest checkpoint of a run that is whole; None where the run has none at all.

    Raises:
        NewerError: it was written by a newer dnntrain.
        StoreError: there are checkpoints, and none can be read.
    """
    return next(readable(directory, device), None)


def began_with(directory: RunDirectory, found: tuple[State, Path] | None) -> Spec:
    """Return the experiment that a checkpoint is of; where it does not say, or there is none, that of the run.

    The run's own file may be ahead of its checkpoint: a change was asked for, and the process died before it saved.
    """
    text = directory.spec_text() if found is None else found[0].get("spec", directory.spec_text())
    return specs.loads(text, source=str(directory.path / directory.SPEC), folder=directory.path)


def pinned(spec: Spec, environment: Mapping[str, Any]) -> Spec:
    """Replace `auto` by what it chose when the run began, where the numbers depend on it.

    Args:
        spec: the run's experiment.
        environment: what the run recorded.
    """
    training = spec.training
    chosen: dict[str, Any] = {}
    device = str(environment.get("device", AUTO))
    if training.device == AUTO and (not device.startswith("cuda") or torch.cuda.is_available()):
        chosen["device"] = device
    if training.precision == AUTO and environment.get("precision") is not None:
        chosen["precision"] = environment["precision"]
    if training.threads == AUTO and isinstance(environment.get("threads"), int):
        chosen["threads"] = environment["threads"]
    return spec.model_copy(update={"training": training.model_copy(update=chosen)})


def unlike(before: Mapping[str, Any], now: Mapping[str, Any], *, asked: Collection[str] = ()) -> list[str]:
    """Say what differs between two environments so that the numbers may differ in their last bits.

    Args:
        before: when the run began.
        now: of this process.
        asked: keys of the file that were changed, so that their being different is no news.
    """
    return [
        f"another {what} than the run began with ({before.get(key)}, now {now.get(key)}): numbers may differ slightly"
        for key, what in _ALIKE.items()
        if before.get(key) != now.get(key) and f"training.{key}" not in asked
    ]


def refuse_impossible(found: Iterable[Change]) -> None:
    """Refuse changes with which training cannot go on.

    Raises:
        UsageError: there are some.
    """
    impossible = [change for change in found if change.effect == "impossible"]
    if impossible:
        raise UsageError(
            "a run cannot go on with these changes; they need a run of their own:\n"
            + "\n".join(f"    {change}" for change in impossible)
        )


def afresh(trainer: Trainer, found: Iterable[Change]) -> set[str]:
    """Return the states of training that start afresh with some changes."""
    beginnings = {state for change in found for state in change.states}
    return {name for name in trainer.components() if _begins(name, beginnings)}


def stage_of(state: State) -> int:
    """Return the stage in which a state of training was saved, from 1; 0 where training is not divided."""
    return int(state["stage"]["stage"]) if "stage" in state else 0


def restore(trainer: Trainer, state: State, path: Path, *, reset: Collection[str] = ()) -> None:
    """Take training to a saved state.

    Raises:
        StoreError: the checkpoint does not belong to this experiment.
    """
    if lacking := set(trainer.components()) - set(state) - set(reset):
        raise StoreError(
            f"{path} does not belong to this experiment: it lacks the state of {', '.join(sorted(lacking))}"
        )
    try:
        trainer.load_state_dict(state, reset=reset)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise StoreError(f"{path} does not belong to this experiment: {error}") from error


def _begins(name: str, beginnings: Collection[str]) -> bool:
    return any(name == beginning or name.startswith(f"{beginning}.") for beginning in beginnings)
