from __future__ import annotations

import io
from typing import Any

import numpy as np
import optimizer_references as references
import pytest
import torch
from tinyparts import make_mlp
from torch import Tensor, nn

from dnntrain import build, spec
from dnntrain.parts.optimizers import NAdam, optimizers
from dnntrain.training.parameters import FlatParameters, Parameters, TensorParameters

# Each row: what a file writes, and the reference with all options spelled out.
ROWS: list[tuple[dict[str, Any], references.Step]] = [
    ({"name": "sgd", "lr": 0.05}, lambda: references.sgd(lr=0.05)),
    ({"name": "sgd", "lr": 0.02, "momentum": 0.9}, lambda: references.sgd(lr=0.02, momentum=0.9)),
    (
        {"name": "sgd", "lr": 0.02, "momentum": 0.9, "nesterov": True},
        lambda: references.sgd(lr=0.02, momentum=0.9, nesterov=True),
    ),
    (
        {"name": "sgd", "lr": 0.02, "momentum": 0.8, "dampening": 0.3},
        lambda: references.sgd(lr=0.02, momentum=0.8, dampening=0.3),
    ),
    (
        {"name": "adamw", "lr": 0.03},
        lambda: references.adamw(lr=0.03, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01),
    ),
    (
        {"name": "adamw", "lr": 0.03, "betas": [0.8, 0.95], "eps": 1e-2, "weight_decay": 0.3},
        lambda: references.adamw(lr=0.03, betas=(0.8, 0.95), eps=1e-2, weight_decay=0.3),
    ),
    (
        {"name": "nadam", "lr": 0.03},
        lambda: references.nadam(lr=0.03, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, momentum_decay=4e-3),
    ),
    (
        {"name": "nadam", "lr": 0.03, "betas": [0.8, 0.95], "eps": 1e-2, "weight_decay": 0.3, "momentum_decay": 0.1},
        lambda: references.nadam(lr=0.03, betas=(0.8, 0.95), eps=1e-2, weight_decay=0.3, momentum_decay=0.1),
    ),
]
FAMILY = list(optimizers)


def made(written: Any, groups: Any) -> torch.optim.Optimizer:
    optimizer: torch.optim.Optimizer = optimizers.choose(written).build(groups=groups)
    return optimizer


def test_every_optimizer_has_a_row() -> None:
    assert {row[0]["name"] for row in ROWS} == set(optimizers.names())


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize(("written", "reference"), ROWS, ids=[str(row[0]) for row in ROWS])
def test_a_quadratic_is_descended_as_the_equation_says(written: Any, reference: Any, flat: bool) -> None:
    draws = np.random.default_rng(0)
    root = draws.normal(size=(6, 6))
    curvature, start = root @ root.T / 6, draws.normal(size=6)

    ours = nn.Parameter(torch.from_numpy(start.copy()))
    groups = [{"params": [ours]}]
    parameters: Parameters = FlatParameters(groups) if flat else TensorParameters(groups)
    optimizer, step, theirs = made(written, parameters.groups), reference(), [start]
    for _ in range(25):
        parameters.clear()
        (0.5 * ours @ torch.from_numpy(curvature) @ ours).backward()
        parameters.collect()
        optimizer.step()
        theirs = step(theirs, [curvature @ theirs[0]])
    np.testing.assert_allclose(ours.detach().numpy(), theirs[0], rtol=1e-9)


@pytest.mark.parametrize(("written", "reference"), ROWS, ids=[str(row[0]) for row in ROWS])
def test_a_small_network_is_trained_as_the_equation_says(written: Any, reference: Any) -> None:
    draws = np.random.default_rng(1)
    x, y = draws.normal(size=(12, 3)), draws.normal(size=(12, 2))
    theirs = [draws.normal(size=(3, 4)), draws.normal(size=4), draws.normal(size=(4, 2))]

    ours = [nn.Parameter(torch.from_numpy(w.copy())) for w in theirs]
    parameters = FlatParameters([{"params": ours}])
    optimizer, step = made(written, parameters.groups), reference()
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
        np.testing.assert_allclose(mine.detach().numpy(), other, rtol=1e-8)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("momentum_decay", [0.0, 4e-3])
def test_nadam_is_torchs_nadam(weight_decay: float, momentum_decay: float) -> None:
    options = {"lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-8}
    mine, theirs = (nn.Parameter(torch.linspace(-2, 2, 9, dtype=torch.float64)) for _ in range(2))
    extra = {"weight_decay": weight_decay, "momentum_decay": momentum_decay}
    ours = NAdam([{"params": [mine]}], **options, **extra)
    other = torch.optim.NAdam([theirs], **options, **extra, decoupled_weight_decay=True)
    draws = torch.Generator().manual_seed(0)
    for _ in range(60):
        mine.grad = torch.randn(9, dtype=torch.float64, generator=draws)
        theirs.grad = mine.grad.clone()
        ours.step()
        other.step()
    # torch keeps the product of the momenta in float32.
    torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-8)


def test_nadam_takes_a_closure_and_skips_what_has_no_gradient() -> None:
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = made("nadam", [{"params": [used, unused]}])

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = used.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2.0
    assert torch.equal(unused, torch.ones(2))
    assert (used < 1).all()
    assert unused not in optimizer.state


# Golden numbers: f(w) = w1^2 / 2 + 5 w2^2 from (1, -2), the first five steps.
GOLDEN = {
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
}


def test_every_optimizer_has_golden_numbers() -> None:
    assert set(GOLDEN) == set(optimizers.names())


@pytest.mark.parametrize("name", GOLDEN)
def test_the_first_steps_are_the_golden_ones(name: str) -> None:
    options, expected = GOLDEN[name]
    w = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = made({"name": name, **options}, [{"params": [w]}])
    seen = []
    for _ in range(5):
        w.grad = w.detach() * torch.tensor([1.0, 10.0])
        optimizer.step()
        seen.append(w.tolist())
    np.testing.assert_allclose(seen, expected, rtol=1e-11)


@pytest.mark.parametrize("entry", FAMILY, ids=lambda entry: entry.name)
def test_it_descends_a_parabola(entry: Any) -> None:
    w = nn.Parameter(torch.tensor([3.0, -2.0]))
    optimizer = made(entry.example, [{"params": [w]}])
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = w.square().sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(after < before for before, after in zip(losses, losses[1:], strict=False))


# The learning rate is this test's: steps and time to the valley's floor differ, the way down does not.
@pytest.mark.parametrize("entry", FAMILY, ids=lambda entry: entry.name)
def test_it_comes_down_rosenbrocks_valley(entry: Any) -> None:
    lr = 2e-4 if entry.name == "sgd" else 0.03
    written = entry.example if isinstance(entry.example, dict) else {"name": entry.name}
    w = nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    optimizer = made({**written, "lr": lr}, [{"params": [w]}])

    def valley() -> Tensor:
        return (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2

    first = valley().item()
    for _ in range(600):
        optimizer.zero_grad()
        valley().backward()
        optimizer.step()
    assert first == pytest.approx(24.2)
    assert valley().item() < 1.0


@pytest.mark.parametrize("entry", FAMILY, ids=lambda entry: entry.name)
def test_its_state_goes_through_a_checkpoint(entry: Any) -> None:
    def start() -> tuple[nn.Parameter, torch.optim.Optimizer]:
        w = nn.Parameter(torch.linspace(-1, 1, 5))
        return w, made(entry.example, [{"params": [w]}])

    def go_on(w: nn.Parameter, optimizer: torch.optim.Optimizer, steps: range) -> None:
        for t in steps:
            w.grad = torch.sin(torch.arange(5) + t) + w.detach()
            optimizer.step()

    whole, optimizer = start()
    go_on(whole, optimizer, range(10))

    first, optimizer = start()
    go_on(first, optimizer, range(4))
    file = io.BytesIO()
    torch.save({"w": first.detach(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)

    second, optimizer = start()
    second.data.copy_(saved["w"])
    optimizer.load_state_dict(saved["optimizer"])
    go_on(second, optimizer, range(4, 10))
    assert torch.equal(second, whole)


def network_after(entry: Any, kind: type[Parameters], steps: int = 30) -> tuple[list[Tensor], list[float]]:
    model = make_mlp(hidden=(16, 8), activation="tanh", normalization={"name": "batch"})
    kernels = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    parameters = kind([{"params": kernels}, {"params": rest}])
    optimizer = made(entry.example, parameters.groups)
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


@pytest.mark.parametrize(
    "entry", [entry for entry in FAMILY if entry.traits["elementwise"]], ids=lambda entry: entry.name
)
def test_all_in_one_piece_equals_tensor_by_tensor(entry: Any) -> None:
    (flat, losses), (single, others) = network_after(entry, FlatParameters), network_after(entry, TensorParameters)
    for one, other in zip(flat, single, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert losses == pytest.approx(others, rel=1e-5)
    assert losses[-1] < losses[0]


DECAYING = [entry for entry in FAMILY if "weight_decay" in entry.options.model_fields]


def test_someone_decays() -> None:
    assert {"adamw", "nadam"} <= {entry.name for entry in DECAYING}


@pytest.mark.parametrize("entry", DECAYING, ids=lambda entry: entry.name)
def test_weight_decay_takes_kernels_alone(entry: Any) -> None:
    text = (
        "data: {dataset: digits}\nmodel: {architecture: {name: mlp, hidden: [4]}}\n"
        f"optimizer: {{name: {entry.name}, lr: 0.1, weight_decay: 0.5}}\n"
    )
    experiment = spec.loads(text)
    model = make_mlp(normalization={"name": "batch"}, activation={"name": "swish", "learnable": True})
    for p in model.parameters():
        p.data.add_(1.0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    parameters = build._parameters(experiment, model)
    optimizer = made({"name": entry.name, "lr": 0.1, "weight_decay": 0.5}, parameters.groups)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    parameters.collect()
    optimizer.step()
    for name, p in model.named_parameters():
        kernel = name in ("dense1.weight", "dense2.weight", "output.weight")
        expected = before[name] * (1 - 0.1 * 0.5) if kernel else before[name]
        torch.testing.assert_close(p.detach(), expected, rtol=1e-6 if kernel else 0, atol=0, msg=name)
