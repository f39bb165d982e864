"""Random changes to training batches: their place, their generator, and how they go on after a restart."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dnntrain import build, spec
from dnntrain.placement import place
from dnntrain.training.batches import Augment, Batches, Examples
from dnntrain.training.trainer import Trainer


class Halve(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.float() / 2


def noisy(x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return x + torch.randint(0, 100, x.shape, generator=generator), y


def doubled(x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return 2 * x, y


def batches(*, raw: Any = (noisy,), prepared: Any = (), n: int = 10) -> Batches:
    x = torch.zeros(n, 1, dtype=torch.int64)
    examples = Examples(x, torch.arange(n), torch.arange(n), Halve(), torch.device("cpu"))
    return Batches(
        examples,
        batch_size=3,
        generator=torch.Generator().manual_seed(0),
        augment=Augment(raw, prepared, torch.Generator().manual_seed(1)),
    )


def seen(epoch: Iterator[list[tuple[Tensor, Tensor]]]) -> list[tuple[list[float], list[int]]]:
    return [(x[:, 0].tolist(), y.tolist()) for step in epoch for x, y in step]


def test_raw_changes_come_before_standardizing_and_others_after() -> None:
    generator = torch.Generator().manual_seed(1)
    found = seen(batches(prepared=[doubled]).epoch())
    for x, _ in found:
        assert x == [2 * value / 2 for value in torch.randint(0, 100, (len(x), 1), generator=generator)[:, 0].tolist()]


def test_every_epoch_is_changed_anew() -> None:
    made = batches()
    assert [x for x, _ in seen(made.epoch())] != [x for x, _ in seen(made.epoch())]


def test_changes_go_on_from_a_state_in_the_middle_of_an_epoch() -> None:
    whole, cut, fresh = batches(), batches(), batches()
    expected = seen(whole.epoch()) + seen(whole.epoch())
    steps = cut.epoch()
    begun = seen(iter([next(steps), next(steps)]))
    fresh.load_state_dict(cut.state_dict())
    assert begun + seen(fresh.epoch()) + seen(fresh.epoch()) == expected


def trained(augment: str) -> tuple[list[float | None], list[Tensor]]:
    experiment = spec.loads(
        f"{{data: {{dataset: digits, limit: 128, augment: {augment}}}, callbacks: [], "
        "training: {epochs: 2, threads: 1}, model: {architecture: {name: mlp, hidden: [8]}}}"
    )
    data = build.open_data(experiment)
    experiment = build.resolve(experiment, data)
    built = build.build(experiment, data, place(experiment))
    order = [y for step in built.train.epoch() for _, y in step]
    trainer = Trainer(built)
    trainer.fit()
    return [trainer.row["train/loss"], trainer.row["valid/loss"]], order


def test_augmentation_is_seeded_and_leaves_the_order_alone() -> None:
    plain, order = trained("none")
    once, same_order = trained("[{name: random_crop, padding: 1}, horizontal_flip]")
    again, _ = trained("[{name: random_crop, padding: 1}, horizontal_flip]")
    assert once == again
    assert once != plain
    assert all(torch.equal(a, b) for a, b in zip(order, same_order, strict=True))


def test_mixed_targets_train_and_are_measured() -> None:
    losses, _ = trained("[{name: mixup, alpha: 0.4}]")
    assert all(loss is not None and math.isfinite(loss) for loss in losses)
    assert losses != trained("none")[0]
