"""The curve of a schedule: what training will do, step by step, and the same as text."""

from __future__ import annotations

from typing import Any

import pytest

from dnntrain import build, spec
from dnntrain.diagnostics.schedule_curve import NARROWEST, Curve, draw, schedule_curve
from dnntrain.placement import place
from dnntrain.training.built import Built
from dnntrain.training.hooks import Hook, RunView
from dnntrain.training.trainer import Trainer


def built(rest: str) -> Built:
    read = spec.loads(
        "data: {dataset: digits, limit: 40, batch_size: 8, validation: {size: 20}}\n"
        "model: {architecture: {name: mlp, hidden: [4]}}\n"
        "callbacks: none\n"
        f"training: {{epochs: 3, device: cpu}}\n{rest}\n"
    )
    data = build.open_data(read)
    read = build.resolve(read, data)
    return build.build(read, data, place(read))


class Seen(Hook):
    """Notes the rates that each step was taken with."""

    def __init__(self, optimizer: Any) -> None:
        self._group = optimizer.param_groups[0]
        self.rates: list[tuple[float, float | None]] = []

    def on_step_end(self, run: RunView, /) -> None:
        momentum = self._group["betas"][0] if "betas" in self._group else self._group.get("momentum")
        self.rates.append((self._group["lr"], momentum))


@pytest.mark.parametrize(
    "rest",
    [
        "schedule: {name: one_cycle, max_lr: 0.1, warmup: 3}\noptimizer: {name: sgd, lr: 0.01, momentum: 0.9}",
        "schedule: one_cycle\noptimizer: {name: adamw, lr: 0.01}",
        "schedule: {name: cosine, cycle: 1, unit: epoch}\noptimizer: {name: nadam, lr: 0.01}",
        "schedule: linear\noptimizer: {name: adagrad, lr: 0.01}",
        "schedule: {name: performance, warmup: {epochs: 1}}\noptimizer: {name: muon, lr: 0.01}",
    ],
)
def test_the_curve_is_what_training_does(rest: str) -> None:
    curve = schedule_curve(built(rest))
    ready = built(rest)
    seen = Seen(ready.optimizer)
    Trainer(ready, seen).fit()
    assert (curve.steps, curve.steps_per_epoch) == (15, 5)
    assert curve.lr == tuple(lr for lr, _ in seen.rates)
    assert curve.lr == tuple(0.01 * factor for factor in curve.factor)
    momenta = tuple(momentum for _, momentum in seen.rates)
    assert momenta == (curve.momentum or (None,) * 15)


def test_looking_changes_nothing() -> None:
    ready = built("schedule: one_cycle\noptimizer: {name: sgd, momentum: 0.5}")
    before = {key: value for key, value in ready.optimizer.param_groups[0].items() if key != "params"}
    schedule_curve(ready)
    assert {key: value for key, value in ready.optimizer.param_groups[0].items() if key != "params"} == before


def curve(lr: list[float], momentum: list[float] | None = None, steps_per_epoch: int = 10) -> Curve:
    return Curve(
        tuple(value / lr[0] for value in lr), tuple(lr), None if momentum is None else tuple(momentum), steps_per_epoch
    )


def test_a_straight_line_is_drawn_dot_by_dot() -> None:
    # Forty steps on forty columns and forty levels of dots.
    rise = tuple(i / 39 for i in range(40))
    assert draw(Curve(rise, rise, None, 20), width=0).splitlines() == [
        "learning rate",
        "    1 ┤                  ⡠⠊",
        "      │                ⡠⠊",
        "      │              ⡠⠊",
        "0.667 ┤            ⡠⠊",
        "      │          ⡠⠊",
        "      │        ⡠⠊",
        "0.333 ┤      ⡠⠊",
        "      │    ⡠⠊",
        "      │  ⡠⠊",
        "    0 ┤⡠⠊",
        "      └────────────────────",
        "       0           40 steps",
        "       0           2 epochs",
    ]


@pytest.mark.parametrize("steps", [20, 40, 4000])
def test_a_jump_is_an_upright_line(steps: int) -> None:
    flat = [1.0] * (steps // 2) + [0.1] * (steps // 2)
    assert draw(curve(flat, steps_per_epoch=steps // 2), width=23, height=4).splitlines()[1:6] == [
        "1 ┤⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⡆",
        "  │          ⡇",
        "  │          ⡇",
        "0 ┤          ⠓⠒⠒⠒⠒⠒⠒⠒⠒⠒",
        "  └────────────────────",
    ]


def test_axes_are_labelled_with_rates_steps_and_epochs() -> None:
    lines = draw(curve([0.05] * 14070, steps_per_epoch=1407), width=80).splitlines()
    assert [line.split("┤")[0].strip() for line in lines if "┤" in line] == ["0.05", "0.0333", "0.0167", "0"]
    assert lines[-2].split() == ["0", "3,518", "7,035", "10,552", "14,070", "steps"]
    assert lines[-1].split() == ["0", "2.5", "5", "7.5", "10", "epochs"]
    assert len(lines) == 1 + 10 + 3


def test_the_axis_starts_at_zero_only_where_that_is_near() -> None:
    def lowest(least: float) -> str:
        lines = draw(curve([1.0, least]), width=60).splitlines()
        return next(line for line in reversed(lines) if "┤" in line).split("┤")[0].strip()

    assert [lowest(least) for least in (1e-4, 0.19, 0.2, 0.5)] == ["0", "0", "0.2", "0.5"]


def test_momentum_is_drawn_where_it_changes() -> None:
    rates = [0.1] * 50
    assert "momentum" not in draw(curve(rates), width=60)
    assert "momentum" not in draw(curve(rates, [0.9] * 50), width=60)
    lines = draw(curve(rates, [0.95 - 0.002 * i for i in range(50)]), width=60).splitlines()
    below = lines[lines.index("momentum") :]
    assert [line.split("┤")[0].strip() for line in below if "┤" in line] == ["0.95", "0.852"]
    assert len(below) == 1 + 5 + 3


@pytest.mark.parametrize("width", [0, 20, 40, 80, 200])
@pytest.mark.parametrize("height", [2, 5, 10])
@pytest.mark.parametrize("steps", [1, 2, 3, 100, 5000])
def test_it_fits_its_width(width: int, height: int, steps: int) -> None:
    falling = curve([1e-3 / (1 + i) for i in range(steps)], [0.9 + 0.05 * i / steps for i in range(steps)])
    lines = draw(falling, width=width, height=height).splitlines()
    longest = max(map(len, lines))
    assert longest <= max(width, NARROWEST + 12)
    if width > NARROWEST + 12:
        assert longest == width
    assert all(line == line.rstrip() for line in lines)


def test_every_value_has_its_dot() -> None:
    # Each step of this curve has a level of its own, some far from those of its neighbours.
    levels = [(i * 7) % 40 for i in range(40)]
    rows = draw(curve([level / 39 + 1 for level in levels]), width=0, height=10).splitlines()[1:11]
    canvas = [row.split("┤")[-1].split("│")[-1].ljust(20) for row in rows]
    bits = {0: (0x40, 0x04, 0x02, 0x01), 1: (0x80, 0x20, 0x10, 0x08)}
    for column, level in enumerate(levels):
        cell = canvas[9 - level // 4][column // 2]
        assert cell != " " and (ord(cell) - 0x2800) & bits[column % 2][level % 4], (column, level)
