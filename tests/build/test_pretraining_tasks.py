"""What a trainer gets of each task: samples without labels, a copy of the network, the experiment's own numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pretrainedruns import AUTOENCODER, content, hidden, made, prepared, read

from dnntrain import build
from dnntrain.parts.pretraining import pretrainings
from dnntrain.registry import Entry
from dnntrain.training.hooks import Monitor
from dnntrain.training.state import copied
from dnntrain.training.trainer import Trainer


def test_pretraining_and_statistics_have_all_samples_without_labels_and_training_does_not() -> None:
    pretraining, built = prepared(content(AUTOENCODER))
    inner = pretraining.build(pretraining.tasks[0])
    assert (len(inner.train.examples), len(built.train.examples)) == (1438 - 100, 60)
    assert set(built.train.examples.index.tolist()) < set(inner.train.examples.index.tolist())
    assert inner.valid is not None and built.valid is not None
    assert inner.valid.index.tolist() == built.valid.index.tolist()
    assert not set(inner.valid.index.tolist()) & set(inner.train.examples.index.tolist())
    assert not inner.train.examples.y.any(), "labels"
    assert inner.train.examples.prepare is built.train.examples.prepare
    _, limited = prepared(content(AUTOENCODER, data={"unlabeled": False}))
    _, whole = prepared(content(AUTOENCODER, data={"limit": None}))
    scales = [each.train.examples.prepare.scale for each in (built, limited, whole)]
    assert torch.equal(scales[0], scales[2]) and not torch.equal(scales[0], scales[1])


def test_what_is_pretrained_is_a_copy_of_the_network_as_it_was_built() -> None:
    stages = [{"epochs": 1, "freeze": "reused"}, {"epochs": 1, "unfreeze": "all"}]
    pretraining, built = prepared(content(AUTOENCODER, training={"stages": stages}))
    before = copied(built.model.state_dict())
    inner = pretraining.build(pretraining.tasks[0])
    assert all(torch.equal(before[name], value) for name, value in hidden(inner.model.state_dict()).items())
    assert all(p.requires_grad for p in inner.model.parameters())
    Trainer(inner).fit()
    assert all(torch.equal(value, before[name]) for name, value in built.model.state_dict().items())
    assert [name for name, p in built.model.named_parameters() if p.requires_grad] == ["output.weight", "output.bias"]
    pretraining.hand_over(built.model)
    after = built.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in hidden(inner.model.state_dict()).items())
    assert not torch.equal(after["dense1.weight"], before["dense1.weight"])
    assert torch.equal(after["output.weight"], before["output.weight"])


def test_without_pretraining_unlabeled_is_a_matter_of_the_statistics() -> None:
    def scale(**data: Any) -> torch.Tensor:
        experiment = read(content("none", data=data))
        opened = build.open_data(experiment)
        return build.standardizer(build.resolve(experiment, opened), opened).scale

    assert torch.equal(scale(), scale(unlabeled=False)) and not torch.equal(scale(), scale(unlabeled=True))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("entry", list(pretrainings), ids=lambda entry: entry.name)
def test_every_part_learns_in_every_precision(entry: Entry, precision: str) -> None:
    tree = {**made(entry, epochs=1, batch_size=60), "training": {"epochs": 1, "precision": precision}}
    tree["model"]["normalization"] = "none" if entry.name == "rbm" else "batch"
    pretraining, _ = prepared(tree)
    for each in pretraining.tasks:
        built = pretraining.build(each)
        before = copied(built.model.state_dict())
        fit = Trainer(built).fit()
        assert fit.best_epoch == 1
        after = built.model.state_dict()
        moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
        still = {name.split(".")[0] for module in each.task.frozen for name in names_of(module, built.model)}
        assert moved and not moved & still
        own = {"dense1", "dense2"} - still if not each.task.name else {each.task.name}
        assert own <= moved, "hidden layers learn"


def names_of(module: torch.nn.Module, model: torch.nn.Module) -> list[str]:
    return [name for name, each in model.named_modules() if each is module]


def test_validation_asks_the_same_in_each_epoch() -> None:
    for name in ("denoising_autoencoder", "rotation", "masked", "contrastive"):
        pretraining, _ = prepared(made(pretrainings[name]))
        valid = pretraining.build(pretraining.tasks[0]).valid
        assert valid is not None
        first, second = (list(valid.slices(40)) for _ in range(2))
        assert all(
            torch.equal(a, b) for one, other in zip(first, second, strict=True) for a, b in zip(one, other, strict=True)
        )
        assert not torch.equal(first[0][0], first[1][0][:40])


def test_clipping_and_precision_are_the_experiments() -> None:
    pretraining, built = prepared(content(AUTOENCODER, training={"clip": {"norm": 0.5}, "precision": "bf16"}))
    inner = pretraining.build(pretraining.tasks[0])
    assert inner.clip == built.clip and inner.clip.norm == 0.5
    assert inner.precision == built.precision == "bf16"


@pytest.mark.parametrize("entry", list(pretrainings), ids=lambda entry: entry.name)
def test_the_best_epoch_is_the_last_one_where_no_figure_tells(entry: Entry) -> None:
    tells = entry.name not in ("rbm", "gan")
    pretraining, _ = prepared(made(entry))
    for each in pretraining.tasks:
        assert pretraining.build(each).monitor == (Monitor("valid/loss", "min") if tells else Monitor("epoch", "max"))
    tree = made(entry)
    tree["data"] = {**tree["data"], "validation": "none"}
    pretraining, _ = prepared(tree)
    assert pretraining.build(pretraining.tasks[0]).monitor.metric == ("train/loss" if tells else "epoch")


def test_views_are_compared_with_as_many_in_validation_as_in_training() -> None:
    pretraining, _ = prepared(made(pretrainings["contrastive"], batch_size=70))
    assert pretraining.build(pretraining.tasks[0]).evaluation_batch == 70


def test_samples_are_augmented_in_training_and_labels_are_not_mixed() -> None:
    augment = [{"name": "random_crop", "padding": 1}, {"name": "mixup", "alpha": 0.2}]
    pretraining, _ = prepared(content(AUTOENCODER, data={"augment": augment}))
    plain, _ = prepared(content(AUTOENCODER))
    ours, theirs = (each.build(each.tasks[0]) for each in (pretraining, plain))
    (changed,), (kept,) = next(ours.train.epoch()), next(theirs.train.epoch())
    assert changed[0].shape == kept[0].shape and not torch.equal(changed[0], kept[0])
    assert torch.equal(changed[0], changed[1]), "what was changed is what is to be brought back"
    assert ours.valid is not None and theirs.valid is not None
    assert torch.equal(next(ours.valid.slices(9))[0], next(theirs.valid.slices(9))[0])


@pytest.mark.parametrize("lr", [None, 0.02])
def test_groups_of_the_optimizer_are_for_training(lr: float | None) -> None:
    groups = [{"layers": "output", "lr": 0.5}]
    pretraining, _ = prepared(
        content({**AUTOENCODER, "lr": lr}, optimizer={"name": "sgd", "lr": 0.1, "groups": groups})
    )
    inner = pretraining.build(pretraining.tasks[0])
    assert {group["lr"] for group in inner.optimizer.param_groups} == {0.1 if lr is None else lr}
