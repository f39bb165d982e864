"""Stopped and resumed, experiments end the same, whatever they are made of: every pair of what matters is tried."""

from __future__ import annotations

import itertools
import os
import random
from typing import Any

import pytest

from dnntrain import spec, yamltext
from dnntrain.verifying import verify_resume

STEPS = 4  # of an epoch: 100 samples in batches of 32, or of 9 where three make a step
EPOCHS = 3
PRETRAINED = {"none": 0, "at once": 2, "by layers, then otherwise": 3}  # epochs
AXES: dict[str, dict[str, Any]] = {
    "stop": {
        "in the first steps": [1],
        "mid epoch": [STEPS + 2],
        "last batch": [2 * STEPS],
        "end": [EPOCHS * STEPS],
        "twice in an epoch": [STEPS + 1, STEPS + 3],
    },
    "optimizer": {
        "sgd": {"name": "sgd", "lr": 0.05, "momentum": 0.9},
        "nadam": {"name": "nadam", "lr": 0.01},
        "muon": {"name": "muon", "lr": 0.02},
    },
    "schedule": {
        "constant": "constant",
        "one_cycle": "one_cycle",
        "performance": {"name": "performance", "patience": 1, "min_delta": 1.0},
    },
    "precision": {"fp32": "fp32", "bf16": "bf16", "fp16": "fp16"},
    "accumulate": {"1": 1, "3": 3},
    "stages": {
        "undivided": [],
        "frozen, then not": [
            {"epochs": 1, "freeze": 1, "lr": 0.02},
            {"epochs": 2, "unfreeze": "all", "layer_decay": 0.5},
        ],
        "ever more": [{"epochs": 1, "freeze": "all_but_output"}, {"epochs": 1}, {"epochs": 1, "unfreeze": 1}],
    },
    "pretraining": {
        "none": "none",
        "at once": {"name": "denoising_autoencoder", "epochs": 2},
        "by layers, then otherwise": [{"name": "greedy_autoencoder", "epochs": 1}, {"name": "gan", "epochs": 1}],
    },
    "noise": {
        "dropout": {"model": {"dropout": {"name": "dropout", "rate": 0.3}}},
        "rrelu": {"model": {"activation": "rrelu"}},
        "augmentation": {"data": {"augment": {"name": "random_crop", "padding": 1}}},
        "ema": {"training": {"average": {"name": "ema", "decay": 0.8}}},
    },
}
Case = tuple[str, ...]
Pair = tuple[tuple[str, str], tuple[str, str]]


def pairs(case: Case) -> set[Pair]:
    """Return the pairs of values of different axes that a case has."""
    return set(itertools.combinations(zip(AXES, case, strict=True), 2))


def every_pair() -> set[Pair]:
    return set().union(*map(pairs, itertools.product(*AXES.values())))


def covering() -> list[Case]:
    """Return cases that together have every pair: each time, of some drawn at random, the one with most new pairs."""
    draw, missing, cases = random.Random(0), every_pair(), []
    everything = list(itertools.product(*AXES.values()))
    while missing:
        case = max(draw.sample(everything, 300), key=lambda each: len(pairs(each) & missing))
        if found := pairs(case) & missing:
            cases.append(case)
            missing -= found
    return cases


CASES = covering()


def experiment(case: Case) -> spec.Spec:
    chosen = {axis: AXES[axis][value] for axis, value in zip(AXES, case, strict=True)}
    tree: dict[str, dict[str, Any]] = {
        "data": {
            "dataset": "digits",
            "limit": 100,
            "unlabeled": False,
            "batch_size": 32 if chosen["accumulate"] == 1 else 9,
        },
        "model": {"architecture": {"name": "mlp", "hidden": [8, 8]}, "normalization": "batch"},
        "training": {
            "epochs": EPOCHS,
            "threads": 1,
            "precision": chosen["precision"],
            "accumulate": chosen["accumulate"],
            "stages": chosen["stages"],
        },
    }
    for section, options in chosen["noise"].items():
        tree[section].update(options)
    return spec.loads(
        yamltext.dump({"seed": 3, **{part: chosen[part] for part in ("optimizer", "schedule", "pretraining")}, **tree})
    )


def all_stops(case: Case) -> tuple[list[int], int]:
    """Return the stops of a case, those within its pretraining first, and the epochs of that."""
    chosen = dict(zip(AXES, case, strict=True))
    epochs = PRETRAINED[chosen["pretraining"]]
    steps = STEPS if chosen["accumulate"] == "1" else 11  # nothing is accumulated there
    within = {0: [], 2: [steps + 2], 3: [2, 2 * steps, 2 * steps + 3]}[epochs]
    return [*within, *(epochs * steps + stop for stop in AXES["stop"][chosen["stop"]])], epochs


def test_every_pair_is_in_a_case() -> None:
    assert set().union(*map(pairs, CASES)) == every_pair()
    assert len(CASES) <= 25, "no more than needed"


@pytest.mark.parametrize("case", CASES, ids=", ".join)
def test_stopped_and_resumed_it_ends_the_same(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # no machine goes down here
    stops, pretrained = all_stops(case)
    verdict = verify_resume(experiment(case), stops=stops)
    assert verdict.identical, verdict.first
    assert verdict.stops == stops
    assert (verdict.rows, verdict.states > 20) == (EPOCHS + pretrained, True)
