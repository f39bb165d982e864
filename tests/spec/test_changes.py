from __future__ import annotations

import pytest

from dnntrain import build, spec
from dnntrain.spec.changes import Change, changes

FILE = """
data: {dataset: digits, validation: {fraction: 0.2}}
model: {architecture: {name: mlp, hidden: [8]}, dropout: {name: dropout, rate: 0.1}}
optimizer: {name: sgd, lr: 0.1}
schedule: {name: exponential, s: 100}
training: {epochs: 3}
"""


def resolved(*overrides: str) -> spec.Spec:
    read = spec.loads(FILE, overrides=overrides)
    return build.resolve(read, build.open_data(read))


def found(*overrides: str) -> list[Change]:
    return changes(resolved(), resolved(*overrides))


@pytest.mark.parametrize(
    ("override", "key", "effect", "states"),
    [
        ("training.epochs=5", "training.epochs", "goes on", ()),
        ("optimizer.lr=0.01", "optimizer.lr", "goes on", ()),
        ("optimizer.momentum=0.9", "optimizer.momentum", "goes on", ()),
        ("name=other", "name", "goes on", ()),
        ("schedule.s=50", "schedule.s", "goes on", ()),
        ("training.clip={norm: 1.0}", "training.clip.norm", "goes on", ()),
        ("training.threads=1", "training.threads", "goes on", ()),
        ("training.checkpoint.every=10", "training.checkpoint.every", "goes on", ()),
        ("optimizer=adamw", "optimizer.name", "starts afresh", ("optimizer",)),
        ("schedule=performance", "schedule.name", "starts afresh", ("schedule", "rates")),
        ("training.average=ema", "training.average.name", "starts afresh", ("training.average",)),
        (
            "training.monitor=valid/accuracy",
            "training.monitor.metric",
            "starts afresh",
            ("best", "callbacks", "schedule"),
        ),
        ("training.precision=fp16", "training.precision", "starts afresh", ("scaler",)),
        ("data.batch_size=16", "data.batch_size", "starts afresh", ("batches", "tally")),
        ("data.sampling=balanced", "data.sampling", "starts afresh", ("batches", "tally")),
        ("training.accumulate=2", "training.accumulate", "starts afresh", ("batches", "tally")),
        ("metrics=f1", "metrics", "starts afresh", ("batches", "tally")),
        ("seed=7", "seed", "starts afresh", ("batches", "tally", "random")),
        ("callbacks=none", "callbacks", "starts afresh", ("callbacks",)),
        ("model.activation=elu", "model.activation.name", "impossible", ()),
        ("model.architecture.hidden=[9]", "model.architecture.hidden", "impossible", ()),
        ("model.dropout.rate=0.2", "model.dropout.0.rate", "impossible", ()),
        ("data.dataset=mnist", "data.dataset.name", "impossible", ()),
        ("data.validation.fraction=0.3", "data.validation.fraction", "impossible", ()),
        ("data.limit=100", "data.limit", "impossible", ()),
        ("data.standardize=unit", "data.standardize", "impossible", ()),
        ("data.classes=[1, 2]", "data.classes", "impossible", ()),
        ("loss=hinge", "loss.name", "impossible", ()),
    ],
)
def test_what_a_change_means(override: str, key: str, effect: str, states: tuple[str, ...]) -> None:
    old, new = spec.loads(FILE), spec.loads(FILE, overrides=[override])
    by_key = {change.key: change for change in changes(old, new)}
    assert key in by_key, by_key
    assert (by_key[key].effect, by_key[key].states) == (effect, states)
    assert all(change.effect == effect for change in by_key.values())


def test_no_change_is_none() -> None:
    assert found() == []


def test_the_options_of_another_part_are_no_news() -> None:
    assert [change.key for change in found("optimizer={name: adamw, lr: 0.5, weight_decay: 0.3}")] == ["optimizer.name"]


def test_a_part_with_options_is_the_same_as_its_bare_name() -> None:
    (change,) = found("model.activation={name: leaky_relu, negative_slope: 0.2}")
    assert str(change) == "model.activation.name: relu -> leaky_relu (the weights belong to another network)"


def test_several_changes_are_told_in_the_order_of_the_file() -> None:
    assert [change.key for change in found("training.epochs=9", "seed=3", "optimizer.lr=1")] == [
        "seed",
        "optimizer.lr",
        "training.epochs",
    ]


def test_a_time_limit_keeps_its_count_unless_it_is_new() -> None:
    assert [change.states for change in found("training.max_time=2h")] == [("training.max_time",)]
    longer = changes(resolved("training.max_time=1h"), resolved("training.max_time=2h"))
    assert [(change.effect, change.states) for change in longer] == [("goes on", ())]


STAGED = """
data: {dataset: digits}
model: {architecture: {name: mlp, hidden: [8, 8, 8]}, reuse: {from: source, freeze: 1}}
training:
  stages: [{epochs: 2, freeze: reused, lr: 0.1}, {epochs: 2, unfreeze: 1}, {epochs: 2, unfreeze: all}]
"""


@pytest.mark.parametrize(
    ("override", "stage", "effect", "states"),
    [
        ("training.stages.1.lr=0.3", 2, "goes on", ()),
        ("training.stages.1.epochs=3", 2, "goes on", ()),
        ("training.stages.1.unfreeze=2", 2, "starts afresh", ("optimizer",)),
        ("training.stages.1.layer_decay=0.5", 2, "starts afresh", ("optimizer",)),
        ("training.stages.1.schedule=cosine", 2, "starts afresh", ("schedule", "rates")),
        ("training.stages.0.freeze=2", 2, "starts afresh", ("optimizer",)),
        ("training.stages.0.layer_decay=0.5", 2, "goes on", ()),
        ("training.stages.0.schedule=cosine", 2, "goes on", ()),
        ("training.stages.2.unfreeze=2", 2, "goes on", ()),
        ("training.stages.2.schedule=cosine", 2, "goes on", ()),
        ("training.stages.1.unfreeze=2", 0, "goes on", ()),
        ("training.stages=[]", 2, "impossible", ()),
        ("training.stages=[{epochs: 2, freeze: reused, lr: 0.1}]", 1, "goes on", ()),
        ("training.stages=[{epochs: 2, freeze: reused, lr: 0.1}]", 2, "impossible", ()),
        ("model.reuse.freeze=2", 1, "starts afresh", ("optimizer",)),
        ("model.reuse.keep=2", 1, "impossible", ()),
        ("model.reuse=null", 1, "impossible", ()),
    ],
)
def test_what_a_change_of_a_stage_means(override: str, stage: int, effect: str, states: tuple[str, ...]) -> None:
    found = changes(spec.loads(STAGED), spec.loads(STAGED, overrides=[override]), stage=stage)
    meanings = {(change.effect, change.states) for change in found if change.key != "training.epochs"}
    if effect == "impossible":
        assert (effect, states) in meanings
    else:
        assert meanings == {(effect, states)}
