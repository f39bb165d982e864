from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dnntrain import build, spec
from dnntrain.diagnostics.lr_finder import RateSweep, find_rate, preserved, settings_for
from dnntrain.errors import DivergedError, UsageError
from dnntrain.placement import place
from dnntrain.training.built import Built
from dnntrain.training.trainer import Trainer
from dnntrain.yamltext import dump


def made(optimizer: Any = "adamw", **sections: Any) -> Built:
    """Build a small network with everything that training changes: batch statistics, noise, an order."""
    tree = {
        "seed": 5,
        "data": {"dataset": "digits", "limit": 200, "batch_size": 16, "validation": {"size": 50}},
        "model": {
            "architecture": {"name": "mlp", "hidden": [16, 16]},
            "normalization": "batch",
            "dropout": {"name": "dropout", "rate": 0.2},
        },
        "optimizer": optimizer,
        "schedule": "constant",
        "callbacks": "none",
        "training": {"epochs": 1, "device": "cpu", "precision": "fp32"},
    }
    for section, own in sections.items():
        tree[section] = {**tree[section], **own} if isinstance(own, dict) and "name" not in own else own
    read = spec.loads(dump(tree))
    data = build.open_data(read)
    read = build.resolve(read, data)
    return build.build(read, data, place(read))


def trained(built: Built) -> Built:
    torch.manual_seed(1)
    Trainer(built).fit()
    return built


def everything(built: Built) -> list[Any]:
    """Return copies of all that a sweep could have changed."""
    network = {**dict(built.model.named_parameters()), **dict(built.model.named_buffers())}
    held = [tensor for group in built.optimizer.param_groups for tensor in group["params"]]
    return copy.deepcopy(
        [
            network,
            {name: None if p.grad is None else p.grad for name, p in built.model.named_parameters()},
            [module.training for module in built.model.modules()],
            held,
            [tensor.grad for tensor in held],
            built.optimizer.state_dict(),
            built.train.state_dict(),
            built.train._generator.get_state(),
            torch.get_rng_state(),
        ]
    )


def same(one: Any, other: Any) -> bool:
    """Whether two trees are equal, tensors bit by bit."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


OPTIMIZERS = [
    "adamw",
    {"name": "sgd", "lr": 0.1, "momentum": 0.9},
    {"name": "adamw", "weight_decay": 0.1},
    {"name": "nadam"},
    {"name": "muon", "lr": 0.02},
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
@pytest.mark.parametrize("start", ["fresh", "trained"])
def test_nothing_is_changed(optimizer: Any, start: str) -> None:
    built = made(optimizer)
    if start == "trained":
        trained(built)
    torch.manual_seed(3)
    built.model.eval()
    before = everything(built)
    sweep = find_rate(built, steps=30)
    assert sweep.steps > 15
    for one, other in zip(before, everything(built), strict=True):
        assert same(one, other)


def test_the_sweep_does_change_all_that_is_put_back() -> None:
    # Or else the test above would hold of a sweep that does nothing.
    built = trained(made({"name": "sgd", "lr": 0.1, "momentum": 0.9}))
    torch.manual_seed(3)
    built.model.eval()
    before = everything(built)
    with preserved(built):
        trained(built)
        for one, other in zip(before, everything(built), strict=True):
            assert not same(one, other)
    assert same(before, everything(built))


def test_training_afterwards_is_the_same_as_without() -> None:
    rows = []
    for swept in (False, True):
        built = made(training={"epochs": 2, "device": "cpu", "precision": "fp32"})
        torch.manual_seed(3)
        if swept:
            find_rate(built, steps=40)
        fit = Trainer(built).fit()
        row = {key: value for key, value in fit.last_row.items() if key not in ("seconds", "samples_per_second")}
        rows.append((row, [p.detach().clone() for p in built.model.parameters()]))
    assert same(rows[0], rows[1])


def test_an_epoch_left_in_the_middle_goes_on_where_it_was() -> None:
    orders = []
    for swept in (False, True):
        built = made()
        epoch = built.train.epoch()
        seen = [next(epoch)[0][1] for _ in range(3)]
        if swept:
            find_rate(built, steps=30)
        orders.append(seen + [batches[0][1] for batches in built.train.epoch()])
    assert same(orders[0], orders[1])


def test_everything_is_put_back_when_the_sweep_fails() -> None:
    built = made()
    before = everything(built)
    weight = next(built.model.parameters())
    with pytest.raises(KeyboardInterrupt), preserved(built):
        with torch.no_grad():
            weight.add_(1.0)
        torch.rand(3)
        raise KeyboardInterrupt
    assert same(before, everything(built))


def test_rates_grow_by_the_same_ratio() -> None:
    sweep = find_rate(made("sgd"), start=1e-5, end=1e-2, steps=31)
    assert sweep.steps == 31
    assert sweep.rates[0] == pytest.approx(1e-5)
    assert sweep.rates[-1] == pytest.approx(1e-2)
    for before, after in zip(sweep.rates, sweep.rates[1:], strict=False):
        assert after / before == pytest.approx(10**0.1)
    assert not sweep.diverged


def test_losses_are_those_of_training_step_by_step() -> None:
    """The same sweep with torch.optim alone."""
    plain = {
        "normalization": "none",
        "dropout": "none",
        "architecture": {"name": "mlp", "hidden": [16]},
        "activation": "relu",
    }
    built = made({"name": "sgd", "lr": 0.5}, model=plain, training={"epochs": 1, "device": "cpu", "accumulate": 2})
    sweep = find_rate(built, start=1e-3, end=1.0, steps=20, smoothing=0.8, tolerance=1e9)

    network = copy.deepcopy(built.model)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    losses: list[float] = []
    epochs = iter([*built.train.epoch(), *built.train.epoch(), *built.train.epoch()])
    for step in range(20):
        x, y = (torch.cat(each) for each in zip(*next(epochs), strict=True))
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * 1000 ** (step / 19)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sweep.losses == pytest.approx(losses, rel=1e-4)

    for step in range(20):
        weights = [0.8 ** (step - i) for i in range(step + 1)]
        mean = sum(w * loss for w, loss in zip(weights, losses, strict=False)) / sum(weights)
        assert sweep.smoothed[step] == pytest.approx(mean, rel=1e-4)


def test_other_groups_keep_their_ratio_to_the_first() -> None:
    built = made({"name": "adamw", "weight_decay": 0.1})
    built.optimizer.param_groups[1]["lr"] = 3 * built.optimizer.param_groups[0]["lr"]
    seen = []
    built.optimizer.register_step_pre_hook(
        lambda optimizer, *_: seen.append([group["lr"] for group in optimizer.param_groups])
    )
    sweep = find_rate(built, start=1e-5, end=1e-3, steps=10)
    assert [first for first, _ in seen] == pytest.approx(list(sweep.rates))
    assert all(second == pytest.approx(3 * first) for first, second in seen)


def test_the_rate_is_that_of_the_optimizer_where_every_layer_has_one_of_its_own() -> None:
    groups = [{"layers": "dense*", "lr": 0.01}, {"layers": ["output", "norm*"], "lr": 0.03}]
    built = made({"name": "sgd", "lr": 0.1, "groups": groups})
    seen = []
    built.optimizer.register_step_pre_hook(
        lambda optimizer, *_: seen.append([group["lr"] for group in optimizer.param_groups])
    )
    sweep = find_rate(built, start=1e-4, end=1e-2, steps=10)
    assert (sweep.rates[0], sweep.rates[-1]) == (pytest.approx(1e-4), pytest.approx(1e-2))
    for rate, (first, second) in zip(sweep.rates, seen, strict=True):
        assert (first, second) == (pytest.approx(0.1 * rate), pytest.approx(0.3 * rate))


GROUPS = [{"layers": "dense1", "lr": 1e-3}, {"layers": "dense2", "weight_decay": 0.0}, {"layers": "output", "lr": 4e-2}]


@pytest.mark.parametrize(
    ("optimizer", "schedule", "settings"),
    [
        ({"name": "adam", "lr": 0.1}, "constant", {"optimizer.lr": 0.023}),
        ({"name": "adam", "lr": 0.1}, "one_cycle", {"optimizer.lr": 0.023}),
        ({"name": "adam", "lr": 0.1}, {"name": "one_cycle", "max_lr": 0.5}, {"schedule.max_lr": 0.023}),
        (
            {"name": "muon", "lr": 0.02, "adamw_lr": 1e-3},
            "constant",
            {"optimizer.lr": 0.023, "optimizer.adamw_lr": 1.2e-3},
        ),
        (
            {"name": "muon", "lr": 0.02},
            {"name": "one_cycle", "max_lr": 0.5, "cycle_momentum": False},
            {"schedule.max_lr": 0.023},
        ),
        (
            {"name": "adamw", "lr": 0.01, "groups": GROUPS},
            "constant",
            {"optimizer.lr": 0.023, "optimizer.groups.0.lr": 2.3e-3, "optimizer.groups.2.lr": 0.093},
        ),
    ],
)
def test_what_to_set_scales_every_rate_that_the_sweep_has_scaled(
    optimizer: Any, schedule: Any, settings: dict[str, float]
) -> None:
    tree = {
        "data": {"dataset": "digits"},
        "model": {"architecture": {"name": "mlp", "hidden": [16, 16]}},
        "optimizer": optimizer,
        "schedule": schedule,
    }
    assert settings_for(spec.loads(dump(tree)), 0.02327) == pytest.approx(settings)


@pytest.mark.parametrize(
    ("optimizer", "schedule"),
    [
        ({"name": "sgd", "lr": 0.1, "momentum": 0.9}, {"name": "one_cycle", "max_lr": 0.5}),
        ({"name": "muon", "lr": 0.02}, "constant"),
        ({"name": "adamw", "lr": 0.01, "groups": GROUPS}, "constant"),
    ],
)
def test_with_what_is_set_training_has_the_rates_of_the_sweep(optimizer: Any, schedule: Any) -> None:
    """The rates of all groups at the peak of the schedule, before and after, have the ratio of the suggestion."""
    tree: dict[str, Any] = {
        "data": {"dataset": "digits", "limit": 64},
        "model": {"architecture": {"name": "mlp", "hidden": [16, 16]}},
        "optimizer": optimizer,
        "schedule": schedule,
        "training": {"epochs": 20},
    }

    def peaks(read: spec.Spec) -> list[float]:
        data = build.open_data(read)
        read = build.resolve(read, data)
        built = build.build(read, data, place(read))
        top = max(built.schedule(step)[0] for step in range(built.epochs * len(built.train)))
        return [group["lr"] * top for group in built.optimizer.param_groups]

    before = spec.loads(dump(tree))
    settings = settings_for(before, 0.2)
    after = peaks(spec.loads(dump(tree), overrides=[f"{key}={value}" for key, value in settings.items()]))
    base = before.optimizer.plain()["lr"]
    swept = [0.2 / base * rate for rate in peaks(spec.loads(dump(tree), overrides=["schedule=constant"]))]
    assert after == pytest.approx(swept, rel=0.05)


def test_the_experiments_schedule_is_set_aside() -> None:
    schedule = {"name": "one_cycle", "max_lr": 0.5}
    sweep = find_rate(made({"name": "sgd", "lr": 0.1, "momentum": 0.9}, schedule=schedule), end=0.01, steps=20)
    assert sweep.rates[-1] == pytest.approx(0.01)


def test_it_stops_where_the_loss_has_risen_too_far() -> None:
    sweep = find_rate(made("sgd"), end=1e4, steps=100)
    assert sweep.diverged
    assert sweep.steps < 100
    assert sweep.smoothed[-1] > 4 * min(sweep.smoothed)
    assert all(loss <= 4 * min(sweep.smoothed[: i + 1]) for i, loss in enumerate(sweep.smoothed[:-1]))
    patient = find_rate(made("sgd"), end=1e4, steps=100, tolerance=50.0)
    assert patient.steps > sweep.steps


def test_a_loss_that_is_not_finite_ends_it_and_is_left_out() -> None:
    built = made("sgd")
    calls = 0

    def breaking(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return nn.functional.cross_entropy(outputs, targets) * (math.nan if calls == 12 else 1.0)

    built.loss = breaking
    before = everything(built)
    sweep = find_rate(built, steps=30)
    assert sweep.diverged
    assert sweep.steps == 11
    assert all(math.isfinite(loss) for loss in sweep.losses)
    assert same(before, everything(built))


def test_a_loss_that_was_never_finite_is_explained() -> None:
    built = made("sgd")
    built.loss = lambda outputs, targets: outputs.sum() * math.inf
    with pytest.raises(DivergedError, match="not finite before any step"):
        find_rate(built)


@pytest.mark.parametrize(("name", "good"), [("sgd", (0.02, 0.5)), ("adamw", (1e-3, 2e-2)), ("nadam", (1e-3, 2e-2))])
def test_the_suggestion_trains_well(name: str, good: tuple[float, float]) -> None:
    # Measured on this network: outside these ranges the loss after some epochs is far worse.
    suggestion = find_rate(made({"name": name, "lr": 0.1}, data={"dataset": "digits", "batch_size": 32})).suggestion
    assert suggestion is not None
    assert good[0] < suggestion < good[1]


def sweep_of(smoothed: list[float]) -> RateSweep:
    rates = tuple(10.0**i for i in range(-4, len(smoothed) - 4))
    return RateSweep(rates, tuple(smoothed), tuple(smoothed), diverged=True)


def test_the_suggestion_is_a_tenth_of_the_rate_at_the_lowest_loss() -> None:
    sweep = sweep_of([2.3, 2.2, 1.0, 0.8, 5.0])
    assert sweep.lowest == pytest.approx(0.1)
    assert sweep.suggestion == pytest.approx(0.01)


def test_there_is_no_suggestion_where_the_loss_never_fell() -> None:
    assert sweep_of([1.0, 1.0, 1.5, 5.0]).suggestion is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": 0.0}, "must grow from above 0: from 0 to 10"),
        ({"start": 1.0, "end": 0.1}, "from 1 to 0.1"),
        ({"end": math.inf}, "to inf"),
        ({"start": math.nan}, "from nan"),
        ({"steps": 9}, "at least 10 steps, not 9"),
        ({"smoothing": 1.0}, "less than 1, not 1"),
        ({"tolerance": 1.0}, "above 1 is needed"),
    ],
)
def test_impossible_sweeps_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_rate(made("sgd"), **options)
