"""What every optimizer is held to: its equation, golden numbers, descent, a state that goes through a checkpoint."""

from __future__ import annotations

import copy
import io
from typing import Any

import numpy as np
import optimizer_references as references
import pytest
import torch
from tinyparts import make_mlp
from torch import Tensor, nn

from dnntrain.parts.optimizers import optimizers
from dnntrain.training.parameters import FlatParameters, Parameters, TensorParameters

ADAM: dict[str, Any] = {"lr": 0.03, "betas": (0.9, 0.999), "eps": 1e-8}
OTHER: dict[str, Any] = {"lr": 0.03, "betas": (0.8, 0.95), "eps": 1e-2}
MUON = {
    "lr": 0.02,
    "momentum": 0.95,
    "nesterov": True,
    "ns_steps": 5,
    "weight_decay": 0.1,
    "adamw_lr": 1e-3,
    "adamw_betas": (0.9, 0.999),
}

# Each row: the name, what a file writes beside it, and the reference with all options spelled out.
ROWS: list[tuple[str, dict[str, Any], Any]] = [
    ("sgd", {"lr": 0.05}, lambda: references.sgd(lr=0.05)),
    ("sgd", {"lr": 0.02, "momentum": 0.9}, lambda: references.sgd(lr=0.02, momentum=0.9)),
    (
        "sgd",
        {"lr": 0.02, "momentum": 0.9, "nesterov": True},
        lambda: references.sgd(lr=0.02, momentum=0.9, nesterov=True),
    ),
    (
        "sgd",
        {"lr": 0.02, "momentum": 0.8, "dampening": 0.3},
        lambda: references.sgd(lr=0.02, momentum=0.8, dampening=0.3),
    ),
    ("adagrad", {}, lambda: references.adagrad(lr=1e-2, start=0.0, eps=1e-10)),
    (
        "adagrad",
        {"lr": 0.1, "initial_accumulator_value": 0.3, "eps": 0.05},
        lambda: references.adagrad(lr=0.1, start=0.3, eps=0.05),
    ),
    ("adadelta", {}, lambda: references.adadelta(lr=1.0, rho=0.9, eps=1e-6)),
    ("adadelta", {"lr": 0.5, "rho": 0.7, "eps": 1e-3}, lambda: references.adadelta(lr=0.5, rho=0.7, eps=1e-3)),
    ("rmsprop", {}, lambda: references.rmsprop(lr=1e-2, alpha=0.99, eps=1e-8)),
    (
        "rmsprop",
        {"lr": 0.02, "alpha": 0.9, "eps": 1e-2, "momentum": 0.8, "centered": True},
        lambda: references.rmsprop(lr=0.02, alpha=0.9, eps=1e-2, momentum=0.8, centered=True),
    ),
    ("rmsprop", {"momentum": 0.5}, lambda: references.rmsprop(lr=1e-2, alpha=0.99, eps=1e-8, momentum=0.5)),
    ("adam", {}, lambda: references.adam(lr=1e-3, betas=(0.9, 0.999), eps=1e-8)),
    ("adam", {**OTHER, "amsgrad": True}, lambda: references.adam(**OTHER, amsgrad=True)),
    ("adamw", {"lr": 0.03}, lambda: references.adamw(**ADAM, weight_decay=0.01)),
    ("adamw", {**OTHER, "weight_decay": 0.3}, lambda: references.adamw(**OTHER, weight_decay=0.3)),
    ("adamax", {}, lambda: references.adamax(lr=2e-3, betas=(0.9, 0.999), eps=1e-8)),
    ("adamax", OTHER, lambda: references.adamax(**OTHER)),
    ("nadam", {"lr": 0.03}, lambda: references.nadam(**ADAM, weight_decay=0.0, momentum_decay=4e-3)),
    (
        "nadam",
        {**OTHER, "weight_decay": 0.3, "momentum_decay": 0.1},
        lambda: references.nadam(**OTHER, weight_decay=0.3, momentum_decay=0.1),
    ),
    ("radam", {"lr": 0.03}, lambda: references.radam(**ADAM, weight_decay=0.0)),
    ("radam", {**OTHER, "weight_decay": 0.3}, lambda: references.radam(**OTHER, weight_decay=0.3)),
    ("lion", {}, lambda: references.lion(lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0)),
    (
        "lion",
        {"lr": 0.01, "betas": (0.8, 0.9), "weight_decay": 0.3},
        lambda: references.lion(lr=0.01, betas=(0.8, 0.9), weight_decay=0.3),
    ),
    ("muon", {}, lambda: references.muon(**{**MUON, "lr": 1e-3})),
    (
        "muon",
        {
            "lr": 0.05,
            "momentum": 0.8,
            "nesterov": False,
            "ns_steps": 3,
            "weight_decay": 0.0,
            "adamw_lr": 0.01,
            "adamw_betas": (0.8, 0.95),
        },
        lambda: references.muon(
            lr=0.05,
            momentum=0.8,
            nesterov=False,
            ns_steps=3,
            weight_decay=0.0,
            adamw_lr=0.01,
            adamw_betas=(0.8, 0.95),
        ),
    ),
]
NAMED = [f"{name}-{options}" for name, options, _ in ROWS]
FAMILY = list(optimizers)


def made(name: str, options: Any, groups: Any) -> torch.optim.Optimizer:
    optimizer: torch.optim.Optimizer = optimizers.choose({"name": name, **options}).build(groups=groups)
    return optimizer


def example(entry: Any) -> dict[str, Any]:
    return {key: value for key, value in entry.example.items() if key != "name"} if entry.example != entry.name else {}


def holders(name: str) -> list[type[Parameters]]:
    """How the parameters may lie: in one piece only where the update looks at each component by itself."""
    return [FlatParameters, TensorParameters] if optimizers[name].traits["elementwise"] else [TensorParameters]


def test_every_optimizer_has_a_row() -> None:
    assert {name for name, _, _ in ROWS} == set(optimizers.names())


@pytest.mark.parametrize(("name", "options", "reference"), ROWS, ids=NAMED)
def test_a_quadratic_is_descended_as_the_equation_says(name: str, options: Any, reference: Any) -> None:
    draws = np.random.default_rng(0)
    root = draws.normal(size=(6, 6))
    curvature, start = root @ root.T / 6, draws.normal(size=(2, 3))
    for kind in holders(name):
        ours = nn.Parameter(torch.from_numpy(start.copy()))
        parameters = kind([{"params": [ours]}])
        optimizer, step, theirs = made(name, options, parameters.groups), reference(), [start]
        for _ in range(25):
            parameters.clear()
            flat = ours.flatten()
            (0.5 * flat @ torch.from_numpy(curvature) @ flat).backward()
            parameters.collect()
            optimizer.step()
            theirs = step(theirs, [(curvature @ theirs[0].ravel()).reshape(2, 3)])
        np.testing.assert_allclose(ours.detach().numpy(), theirs[0], rtol=1e-8)
        assert not np.allclose(theirs[0], start, atol=1e-4)


@pytest.mark.parametrize(("name", "options", "reference"), ROWS, ids=NAMED)
def test_a_small_network_is_trained_as_the_equation_says(name: str, options: Any, reference: Any) -> None:
    draws = np.random.default_rng(1)
    x, y = draws.normal(size=(12, 3)), draws.normal(size=(12, 2))
    theirs = [draws.normal(size=(3, 4)), draws.normal(size=4), draws.normal(size=(4, 2))]

    ours = [nn.Parameter(torch.from_numpy(w.copy())) for w in theirs]
    parameters = holders(name)[0]([{"params": ours}])
    optimizer, step = made(name, options, parameters.groups), reference()
    tx, ty = torch.from_numpy(x), torch.from_numpy(y)
    for _ in range(25):
        parameters.clear()
        ((torch.tanh(tx @ ours[0] + ours[1]) @ ours[2] - ty) ** 2).mean().backward()
        parameters.collect()
        optimizer.step()

        h = np.tanh(x @ theirs[0] + theirs[1])
        above = 2 * (h @ theirs[2] - y) / y.size
        inside = (above @ theirs[2].T) * (1 - h**2)
        theirs = step(theirs, [x.T @ inside, inside.sum(axis=0), h.T @ above])
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.detach().numpy(), other, rtol=1e-7)


# Golden numbers: f(w) = w1^2 / 2 + 5 w2^2 from (1, -2); for muon a matrix, [[1, 10], [10, 1]] its curvature.
GOLDEN: dict[str, tuple[dict[str, Any], list[list[float]]]] = {
    "sgd": (
        {"lr": 0.01, "momentum": 0.9, "nesterov": True},
        [
            [0.981, -1.62],
            [0.954261, -1.1502],
            [0.920893941, -0.654642],
            [0.881954952021, -0.18777582],
            [0.838440763321, 0.2091633678],
        ],
    ),
    "adagrad": (
        {"lr": 0.5},
        [
            [0.50000000005, -1.5],
            [0.276393202302, -1.2],
            [0.156398736068, -0.983634466211],
            [0.0891167079427, -0.816484393444],
            [0.050891304263, -0.682790218438],
        ],
    ),
    "adadelta": (
        {"eps": 1e-2},
        [
            [0.698488655422, -1.68381175504],
            [0.448288385241, -1.38701039413],
            [0.270276045243, -1.12371361884],
            [0.156558388731, -0.898533317699],
            [0.0884323960964, -0.710898391184],
        ],
    ),
    "rmsprop": (
        {"lr": 0.02, "momentum": 0.5},
        [
            [0.80000002, -1.800000001],
            [0.574678365915, -1.56583592331],
            [0.37958253163, -1.34757332644],
            [0.229251128369, -1.15826624223],
            [0.122449297506, -0.998166038635],
        ],
    ),
    "adam": (
        {"lr": 0.1},
        [
            [0.900000001, -1.90000000005],
            [0.800412229712, -1.80016648571],
            [0.701586274504, -1.70062339143],
            [0.603939062682, -1.60150489447],
            [0.507963661927, -1.50295578026],
        ],
    ),
    "adamw": (
        {"lr": 0.1},
        [
            [0.899000001, -1.89800000005],
            [0.798519028189, -1.796272588241],
            [0.698911184716, -1.694944513773],
            [0.600598576266, -1.594152917913],
            [0.504080092747, -1.494045693023],
        ],
    ),
    "adamax": (
        {"lr": 0.1},
        [
            [0.900000001, -1.90000000005],
            [0.805168328117, -1.80253411316],
            [0.715499474737, -1.70764823498],
            [0.630973077161, -1.61538380135],
            [0.551553805051, -1.52577754554],
        ],
    ),
    "nadam": (
        {"lr": 0.1},
        [
            [0.894354823221, -1.894354822217],
            [0.819973071532, -1.817897530441],
            [0.752729267616, -1.747508500764],
            [0.687716052741, -1.67818873953],
            [0.623662893783, -1.608459625507],
        ],
    ),
    "radam": (
        {"lr": 0.1, "betas": [0.9, 0.9]},
        [
            [0.9, 0.0],
            [0.805263157895, 0.947368421053],
            [0.715770052437, 1.19557195572],
            [0.63148663009, 1.02395127102],
            [0.552364195102, 0.644196331652],
            [0.527357951003, 0.633953174473],
            [0.495169878875, 0.618543554504],
            [0.457090495077, 0.598090378875],
        ],
    ),
    "lion": (
        {"lr": 0.5, "weight_decay": 0.1},
        [
            [0.45, -1.4],
            [-0.0725, -0.83],
            [-0.568875, -0.2885],
            [-0.04043125, 0.225925],
            [-0.5384096875, 0.71462875],
        ],
    ),
    "muon": (
        {"lr": 0.1},
        [
            [0.984112848787, -1.9064541363, 0.421367083376, 0.984112848787],
            [0.968207422414, -1.81445752005, 0.344029659951, 0.968207422414],
            [0.952487598119, -1.72394270537, 0.272492805206, 0.952487598119],
            [0.93604854027, -1.63487813062, 0.186071586734, 0.93604854027],
            [0.918645489203, -1.54731878214, 0.0810933020628, 0.918645489203],
        ],
    ),
}


def test_every_optimizer_has_golden_numbers() -> None:
    assert set(GOLDEN) == set(optimizers.names())


@pytest.mark.parametrize("name", GOLDEN)
def test_the_first_steps_are_the_golden_ones(name: str) -> None:
    options, expected = GOLDEN[name]
    start, curvature = (
        ([[1.0, -2.0], [0.5, 1.0]], [[1.0, 10.0], [10.0, 1.0]]) if name == "muon" else ([1.0, -2.0], [1.0, 10.0])
    )
    w = nn.Parameter(torch.tensor(start, dtype=torch.float64))
    optimizer = made(name, options, [{"params": [w]}])
    seen = []
    for _ in expected:
        w.grad = w.detach() * torch.tensor(curvature)
        optimizer.step()
        seen.append(w.flatten().tolist())
    np.testing.assert_allclose(seen, expected, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("entry", FAMILY, ids=lambda entry: entry.name)
def test_it_descends_a_parabola(entry: Any) -> None:
    w = nn.Parameter(torch.tensor([[3.0, -2.0]]))
    optimizer = made(entry.name, example(entry), [{"params": [w]}])
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = w.square().sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(after < before for before, after in zip(losses, losses[1:], strict=False))


# What this valley asks for: how many steps are needed, and how long they may be, differs; the way down does not.
VALLEY: dict[str, dict[str, Any]] = {
    "sgd": {"lr": 4e-4},
    "adagrad": {"lr": 1.0},
    "adadelta": {"lr": 0.05, "eps": 1e-3},
    "rmsprop": {"lr": 0.03},
    "adamax": {"lr": 0.3},
    "radam": {"lr": 5e-3, "betas": [0.9, 0.9]},
    "lion": {"lr": 0.01},
    "muon": {"lr": 0.03},
}


@pytest.mark.parametrize("entry", FAMILY, ids=lambda entry: entry.name)
def test_it_comes_down_rosenbrocks_valley(entry: Any) -> None:
    options = {**example(entry), "lr": 0.1} | VALLEY.get(entry.name, {})
    w = nn.Parameter(torch.tensor([[-1.2, 1.0]], dtype=torch.float64))
    optimizer = made(entry.name, options, [{"params": [w]}])

    def valley() -> Tensor:
        x, y = w.flatten()
        return (1 - x) ** 2 + 100 * (y - x**2) ** 2

    first = valley().item()
    for _ in range(400):
        optimizer.zero_grad()
        valley().backward()
        optimizer.step()
    assert first == pytest.approx(24.2)
    assert valley().item() < 1.0


@pytest.mark.parametrize(("name", "options", "reference"), ROWS, ids=NAMED)
def test_its_state_goes_through_a_checkpoint(name: str, options: Any, reference: Any) -> None:
    def start() -> tuple[list[nn.Parameter], torch.optim.Optimizer]:
        weights = [nn.Parameter(torch.linspace(-1, 1, 6).reshape(2, 3)), nn.Parameter(torch.linspace(-1, 1, 5))]
        return weights, made(name, options, [{"params": weights}])

    def go_on(weights: list[nn.Parameter], optimizer: torch.optim.Optimizer, steps: range) -> None:
        for t in steps:
            for w in weights:
                w.grad = torch.sin(torch.arange(w.numel()) + t).view_as(w) + w.detach()
            optimizer.step()

    whole, optimizer = start()
    go_on(whole, optimizer, range(12))

    first, optimizer = start()
    go_on(first, optimizer, range(4))
    file = io.BytesIO()
    torch.save({"weights": [w.detach() for w in first], "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)

    second, optimizer = start()
    for w, value in zip(second, saved["weights"], strict=True):
        w.data.copy_(value)
    optimizer.load_state_dict(saved["optimizer"])
    go_on(second, optimizer, range(4, 12))
    for one, other in zip(second, whole, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("entry", FAMILY, ids=lambda entry: entry.name)
def test_a_copy_goes_its_own_way(entry: Any) -> None:
    w = nn.Parameter(torch.ones(2, 3))
    optimizer = made(entry.name, example(entry), [{"params": [w]}])
    w.grad = torch.ones_like(w)
    optimizer.step()
    other = copy.deepcopy(optimizer)
    moved = w.detach().clone()
    (twin,) = other.param_groups[0]["params"]
    twin.grad = torch.ones_like(twin)
    other.step()
    assert torch.equal(w, moved)
    optimizer.step()
    assert torch.equal(w, twin)


@pytest.mark.parametrize("entry", FAMILY, ids=lambda entry: entry.name)
def test_it_leaves_gradients_and_what_has_none_alone(entry: Any) -> None:
    used, vector, unused = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2, 2))
    optimizer = made(entry.name, example(entry), [{"params": [used, vector, unused]}])
    gradients = [torch.full_like(used, 0.5), torch.full_like(vector, 0.5)]
    used.grad, vector.grad = (g.clone() for g in gradients)
    optimizer.step()
    assert torch.equal(unused, torch.ones(2, 2))
    assert all((w < 1).all() for w in (used, vector))
    assert torch.equal(used.grad, gradients[0]) and torch.equal(vector.grad, gradients[1])


@pytest.mark.parametrize("entry", FAMILY, ids=lambda entry: entry.name)
def test_a_gradient_of_zero_is_no_reason_to_divide_by_it(entry: Any) -> None:
    w, b = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    optimizer = made(entry.name, example(entry), [{"params": [w, b], "weight_decay": 0.0}])
    for _ in range(3):
        w.grad, b.grad = torch.zeros_like(w), torch.zeros_like(b)
        optimizer.step()
    assert torch.equal(w, torch.ones(2, 2)) and torch.equal(b, torch.ones(2))


def network_after(entry: Any, kind: type[Parameters], steps: int = 30) -> tuple[list[Tensor], list[float]]:
    model = make_mlp(hidden=(16, 8), activation="tanh", normalization={"name": "batch"})
    kernels = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    parameters = kind([{"params": kernels}, {"params": rest}])
    optimizer = made(entry.name, example(entry), parameters.groups)
    draws = torch.Generator().manual_seed(4)
    x, y = torch.randn(32, 6, generator=draws), torch.randint(3, (32,), generator=draws)
    losses = []
    for _ in range(steps):
        parameters.clear()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        parameters.collect()
        optimizer.step()
        losses.append(loss.item())
    return [p.detach().clone() for p in model.parameters()], losses


@pytest.mark.parametrize("entry", FAMILY, ids=lambda entry: entry.name)
def test_all_in_one_piece_equals_tensor_by_tensor(entry: Any) -> None:
    single, losses = network_after(entry, TensorParameters)
    assert losses[-1] < losses[0]
    if entry.traits["elementwise"]:
        flat, others = network_after(entry, FlatParameters)
        for one, other in zip(flat, single, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        assert losses == pytest.approx(others, rel=1e-4)


@pytest.mark.parametrize("entry", FAMILY, ids=lambda entry: entry.name)
def test_a_schedule_finds_the_momentum_where_it_looks(entry: Any) -> None:
    w, b = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    optimizer = made(entry.name, example(entry), [{"params": [w, b]}])
    options = set(entry.options.model_fields)
    for group in optimizer.param_groups:
        assert group["lr"] > 0
        has_one = {"momentum", "betas"} & set(group)
        assert bool(has_one) == bool({"momentum", "betas"} & options)
        assert len(has_one) < 2, "two momenta in one group: only one of them would be scheduled"


@pytest.mark.parametrize(("name", "options", "_"), ROWS)
def test_a_first_step_that_fp16_skips_leaves_no_trace(name: str, options: dict[str, Any], _: Any) -> None:
    def weights(*, overflows: bool, filling: float) -> list[Tensor]:
        torch.manual_seed(0)
        model = nn.Linear(5, 3)
        optimizer = optimizers.choose({"name": name, **options}).build(groups=[{"params": list(model.parameters())}])
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0 if overflows else 4.0)
        litter = [torch.full_like(p, filling) for p in model.parameters() for _ in range(20)]
        del litter  # memory that is handed out again with what was in it
        for step in range(-1 if overflows else 0, 3):
            model.zero_grad()
            (scaler.scale(model(torch.ones(2, 5)).square().sum()) * (torch.inf if step < 0 else 1.0)).backward()
            scaler.step(optimizer)
            scaler.update()
        return [p.detach() for p in model.parameters()]

    expected = weights(overflows=False, filling=0.0)
    for filling in (0.0, 7.0):
        for one, other in zip(weights(overflows=True, filling=filling), expected, strict=True):
            assert torch.equal(one, other)
