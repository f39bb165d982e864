"""What holds for every part: it explains itself, its example is accepted, and it trains, the same way each time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from dnntrain import build, spec
from dnntrain.placement import place
from dnntrain.registry import Choice, Entry, Family, families, option_docs, plain
from dnntrain.training.hooks import Hook, Row, RunView
from dnntrain.training.trainer import Trainer
from dnntrain.yamltext import dump

ENTRIES = [(family, entry) for family in families().values() for entry in family]
NAMED = [f"{entry.family}-{entry.name}" for _, entry in ENTRIES]

# Where a file names a part of each family.
PLACES = {
    "activation": "model.activation",
    "initializer": "model.initializer",
    "normalization": "model.normalization",
    "dropout": "model.dropout",
    "architecture": "model.architecture",
    "optimizer": "optimizer",
    "schedule": "schedule",
    "loss": "loss",
    "metric": "metrics",
    "callback": "callbacks",
    "augmentation": "data.augment",
    "average": "training.average",
    "dataset": "data.dataset",
    "pretraining": "pretraining",
    "regularizer": "regularizers",
}
LISTED = {"augmentation", "callback", "dropout", "metric", "pretraining", "regularizer"}
# What needs the positions of a picture, which dense layers do not have.
ON_PICTURES = {("normalization", "instance"), ("dropout", "spatial")}
# What decides between runs has no place in the training of one.
BETWEEN_RUNS = {"pruner"}
# What must be downloaded is read from files of the same form in the tests of its own.
TRAINABLE = [entry for _, entry in ENTRIES if entry.family not in BETWEEN_RUNS and not entry.traits.get("downloads")]
# What comes before training is tried in tests of its own.
IN_TRAINING = [entry for entry in TRAINABLE if entry.family != "pretraining"]


def test_every_family_is_trained() -> None:
    assert set(families()) == set(PLACES) | BETWEEN_RUNS
    assert len(TRAINABLE) > 0.9 * len(ENTRIES)


@pytest.fixture(autouse=True, scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A current folder with the files that the examples of data sets name: 48 samples in two classes."""
    made, rng = tmp_path_factory.mktemp("examples"), np.random.default_rng(0)
    x, y = rng.normal(size=(48, 5)).astype(np.float32), np.arange(48) % 2
    columns = {**dict(zip("abcde", x.T, strict=True)), "price": x.sum(axis=1), "label": y, "target": y}
    table = pyarrow.table(columns)
    pyarrow.csv.write_csv(table, made / "table.csv")
    pyarrow.parquet.write_table(table, made / "table.parquet")
    np.savez(made / "data.npz", x_train=x, y_train=y)
    for i, label in enumerate(y):
        path = made / "pictures" / "train" / f"class{label}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        yield made


@pytest.mark.parametrize(("family", "entry"), ENTRIES, ids=NAMED)
def test_it_explains_itself(family: Family, entry: Entry) -> None:
    assert family[entry.name] is entry
    assert entry.equation.strip()
    assert entry.cite.strip()
    assert entry.summary.endswith((".", "?")), "the first line of the docstring is a sentence"
    described = option_docs(entry.factory)
    for name, field in entry.options.model_fields.items():
        assert field.description, f"option '{name}' is not described"
        assert name in described or name in entry.shared


@pytest.mark.parametrize(("family", "entry"), ENTRIES, ids=NAMED)
def test_its_own_family_takes_its_example(family: Family, entry: Entry) -> None:
    choice = family.choose(entry.example)
    assert choice.entry is entry
    assert family.choose(plain(choice)) == choice, "what is written down does not read back as the same"


@pytest.mark.parametrize("family", list(families().values()), ids=lambda family: family.name)
def test_a_family_explains_itself(family: Family) -> None:
    assert family.summary.endswith(".")
    assert family.names(), "an empty family"
    for synonym in family._synonyms:
        assert synonym not in family, f"'{synonym}' is a name here, not a synonym"


def experiment(entry: Entry, precision: str) -> str:
    """Write three steps on tiny data with one part in its place."""
    tree: dict[str, Any] = {
        "seed": 3,
        "data": {"dataset": "digits", "limit": 24, "batch_size": 8, "validation": {"size": 16}},
        "model": {"architecture": {"name": "mlp", "hidden": [8]}},
        "training": {"epochs": 1, "device": "cpu", "precision": precision},
    }
    if (entry.family, entry.name) in ON_PICTURES:
        tree["model"]["architecture"] = {"name": "cnn", "widths": [8]}
    if entry.traits.get("targets") == "values":
        tree["data"]["dataset"] = "diabetes"
    if entry.traits.get("targets") == "binary":
        tree["data"]["classes"] = [0, 1]
    section: Any = tree
    *path, last = PLACES[entry.family].split(".")
    for key in path:
        section = section[key]
    section[last] = [entry.example] if entry.family in LISTED else entry.example
    return dump(tree)


class Steps(Hook):
    """Counts the steps."""

    def __init__(self) -> None:
        self.taken = 0

    def on_step_end(self, run: RunView, /) -> None:
        self.taken = run.step


def trained(entry: Entry, precision: str) -> tuple[Row, list[torch.Tensor]]:
    read = spec.loads(experiment(entry, precision))
    data = build.open_data(read)
    read = build.resolve(read, data)
    built = build.build(read, data, place(read))
    before = [p.detach().clone() for p in built.model.parameters()]
    steps = Steps()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        fit = Trainer(built, steps).fit()
    after = [p.detach().clone() for p in built.model.parameters()]
    assert steps.taken == 3
    assert any(not torch.equal(one, other) for one, other in zip(before, after, strict=True)), "nothing was learned"
    assert all(p.isfinite().all() for p in after)
    row = {key: value for key, value in fit.last_row.items() if key not in ("seconds", "samples_per_second")}
    return row, after


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("entry", IN_TRAINING, ids=lambda entry: f"{entry.family}-{entry.name}")
def test_it_trains_the_same_way_each_time(entry: Entry, precision: str) -> None:
    row, weights = trained(entry, precision)
    again, others = trained(entry, precision)
    assert row == again
    assert all(torch.equal(one, other) for one, other in zip(weights, others, strict=True))
    assert all(value is not None and math.isfinite(value) for value in row.values())
    if entry.family == "metric":
        assert (f"valid/{entry.name}" in row) is entry.traits["scalar"]


@pytest.mark.parametrize("entry", TRAINABLE, ids=lambda entry: f"{entry.family}-{entry.name}")
def test_a_resolved_experiment_reads_back_from_its_text_as_the_same(entry: Entry) -> None:
    read = spec.loads(experiment(entry, "fp32"))
    resolved = build.resolve(read, build.open_data(read))
    text = dump(plain(resolved))
    again = spec.loads(text)
    assert again == resolved
    assert dump(plain(again)) == text
    assert build.resolve(again, build.open_data(again)) == resolved, "resolving changes what is resolved"


OPTIONS: list[tuple[str, Any]] = [
    ("loss", {"name": "cross_entropy", "class_weights": "balanced"}),
    ("loss", {"name": "cross_entropy", "class_weights": [1.0] * 5 + [2.0] * 5}),
    ("loss", {"name": "cross_entropy", "class_weights": "balanced", "label_smoothing": 0.1}),
    ("loss", {"name": "binary_cross_entropy", "positive_weight": 2.0, "label_smoothing": 0.1}),
    ("metric", {"name": "f1", "average": "weighted"}),
    ("activation", {"name": "swish", "beta": 1.5, "learnable": True}),
    ("activation", {"name": "prelu", "per_channel": True}),
    ("normalization", {"name": "batch", "position": "after", "affine": False, "input": True}),
    ("normalization", {"name": "rms", "position": "after", "affine": False, "input": True}),
]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("family", "written"), OPTIONS, ids=lambda value: str(value))
def test_options_that_take_another_way_through_the_code_train_too(family: str, written: Any, precision: str) -> None:
    choice: Choice = families()[family].choose(written)
    row, _ = trained(replace(choice.entry, example=written), precision)
    assert all(value is not None and math.isfinite(value) for value in row.values())
