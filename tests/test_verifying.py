"""The proof that resuming is exact: it says so where it is, and names the state that was lost where it is not."""

from __future__ import annotations

import os
from typing import Any

import pytest

from dnntrain import build, spec, yamltext
from dnntrain.errors import UsageError
from dnntrain.placement import place
from dnntrain.registry import Entry, families
from dnntrain.training.state import State, Stateful
from dnntrain.training.trainer import Trainer
from dnntrain.verifying import Verdict, verify_resume

# Wherever it is stopped in its third epoch, every state has moved away from where it began.
EVERYTHING: dict[str, Any] = {
    "seed": 3,
    "data": {"dataset": "digits", "limit": 130, "augment": {"name": "random_crop", "padding": 1}},
    "model": {"architecture": {"name": "mlp", "hidden": [8]}, "dropout": {"name": "dropout", "rate": 0.3}},
    "optimizer": {"name": "nadam", "lr": 0.02},
    "schedule": {"name": "performance", "patience": 1, "min_delta": 5.0},
    "training": {
        "epochs": 3,
        "threads": 1,
        "precision": "fp16",
        "average": {"name": "ema", "decay": 0.8},
        "max_time": "2h",
    },
    "callbacks": [{"name": "early_stopping", "patience": 5}, "terminate_on_nan"],
}
STOP = 12
# A hook without a state; and the time that is left, which is not compared.
NOTHING_TO_LOSE = {"callbacks.1", "training.max_time"}


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """No machine goes down here, and a sync takes longer than an epoch."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def read(tree: dict[str, Any]) -> spec.Spec:
    return spec.loads(yamltext.dump(tree))


def components(tree: dict[str, Any]) -> list[str]:
    experiment = read(tree)
    data = build.open_data(experiment)
    experiment = build.resolve(experiment, data)
    return list(Trainer(build.build(experiment, data, place(experiment))).components())


COMPONENTS = components(EVERYTHING)


class Forgetful:
    """A state that is saved, and not brought back."""

    def __init__(self, component: Stateful) -> None:
        self.state_dict = component.state_dict

    def load_state_dict(self, state: State, /) -> None:
        pass


def verdict_without(name: str, monkeypatch: pytest.MonkeyPatch) -> Verdict:
    """Return the verdict where one state is not brought back."""
    whole = Trainer.components

    def components(trainer: Trainer) -> dict[str, Stateful]:
        return {key: Forgetful(each) if key == name else each for key, each in whole(trainer).items()}

    monkeypatch.setattr(Trainer, "components", components)
    return verify_resume(read(EVERYTHING), stops=[STOP])


def test_an_exact_resume_is_called_identical() -> None:
    verdict = verify_resume(read(EVERYTHING))
    assert verdict.identical
    assert verdict.first is None
    assert len(verdict.stops) == 5
    assert verdict.rows == 3
    # Right after each stop, and of the last checkpoints; beside them the best weights.
    assert verdict.states > (len(verdict.stops) + 1) * len(COMPONENTS)


def test_the_experiment_has_every_kind_of_state() -> None:
    assert {name for name in COMPONENTS if "." not in name} == {
        "progress", "model", "optimizer", "scaler", "rates", "batches", "tally", "best", "schedule", "random",
    }  # fmt: skip
    assert {name for name in COMPONENTS if "." in name} == {
        "training.average", "training.max_time", "callbacks.0", "callbacks.1",
    }  # fmt: skip


@pytest.mark.parametrize("name", [name for name in COMPONENTS if name not in NOTHING_TO_LOSE])
def test_a_state_that_is_not_brought_back_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = verdict_without(name, monkeypatch)
    assert not verdict.identical
    assert verdict.first is not None
    assert verdict.first.startswith(f"{name}."), verdict.first


@pytest.mark.parametrize("stops", [[0], [16], [], [-3, 4]])
def test_a_stop_beyond_the_end_is_refused(stops: list[int]) -> None:
    with pytest.raises(UsageError, match="training takes 15 steps: it cannot be stopped after"):
        verify_resume(read(EVERYTHING), stops=stops)


# Where a file names a part that may have a state or draw noise.
PLACES = {
    "average": "training.average",
    "callback": "callbacks",
    "dropout": "model.dropout",
    "augmentation": "data.augment",
    "optimizer": "optimizer",
    "regularizer": "regularizers",
    "schedule": "schedule",
}
PARTS = [entry for family in PLACES for entry in families()[family]]


@pytest.mark.parametrize("entry", PARTS, ids=lambda entry: f"{entry.family}-{entry.name}")
def test_every_registered_part_survives_a_stop(entry: Entry) -> None:
    tree: dict[str, Any] = {
        "data": {"dataset": "digits", "limit": 60, "batch_size": 16, "validation": {"size": 20}},
        "model": {"architecture": {"name": "mlp", "hidden": [8]}},
        "training": {"epochs": 2, "threads": 1},
    }
    if (entry.family, entry.name) == ("dropout", "spatial"):
        tree["model"]["architecture"] = {"name": "cnn", "widths": [4]}
    if (entry.family, entry.name) == ("average", "swa"):
        tree["training"]["epochs"] = 3
    section: Any = tree
    *path, last = PLACES[entry.family].split(".")
    for key in path:
        section = section[key]
    section[last] = entry.example
    verdict = verify_resume(read(tree), stops=[2, 6])
    assert verdict.identical, verdict.first
