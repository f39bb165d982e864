from __future__ import annotations

import random
from itertools import permutations
from statistics import fmean

import pytest

from dnntrain.compare.importance import importance


def eta_squared(marks: list[object], values: list[float]) -> float:
    """The share of the sum of squares between the parts, straight from its definition."""
    mean = fmean(values)
    parts = {mark: [v for m, v in zip(marks, values, strict=True) if m == mark] for mark in marks}
    between = sum(len(part) * (fmean(part) - mean) ** 2 for part in parts.values())
    return between / sum((value - mean) ** 2 for value in values)


def test_shares_and_p_follow_their_definitions() -> None:
    configurations = [{"a": a, "b": b} for a in ("x", "y", "z") for b in (1, 2)]
    values = [1.0, 1.3, 2.0, 2.2, 3.1, 2.9]
    found = {each.keys: each for each in importance(configurations, values, ["a", "b"])}
    raw = {}
    for key in ("a", "b"):
        marks = [configuration[key] for configuration in configurations]
        share = eta_squared(marks, values)
        every = [eta_squared(marks, list(order)) for order in permutations(values)]
        raw[key] = sum(each >= share - 1e-9 for each in every) / len(every)
        levels = len(set(marks))
        assert found[(key,)].raw_share == pytest.approx(share)
        assert found[(key,)].share == pytest.approx(max(0, 1 - (1 - share) * 5 / (6 - levels)))
        assert (found[(key,)].levels, found[(key,)].groups) == (levels, 6)
    assert found[("a",)].p == pytest.approx(min(1, 2 * raw["a"]))  # Holm: the smaller of two
    assert list(found) == [("a",), ("b",)]


def test_the_key_that_decides_stands_out_among_many_groups() -> None:
    dice = random.Random(1)
    configurations = [
        {"lr": 10 ** dice.uniform(-4, 0), "act": dice.choice("rst"), "noise": dice.choice("uv")} for _ in range(60)
    ]
    values = [{"r": 0.0, "s": 1.0, "t": 2.0}[c["act"]] + dice.gauss(0, 0.1) for c in configurations]
    found = importance(configurations, values, ["lr", "act", "noise"])
    assert found[0].keys == ("act",)
    assert found[0].share > 0.95 and found[0].p < 0.01
    assert all(each.share < 0.2 and each.p > 0.05 for each in found[1:])
    assert {each.keys: each.levels for each in found}[("lr",)] == 4  # many numbers are cut into bins
    assert found == importance(configurations, values, ["lr", "act", "noise"])  # the same again


def test_luck_alone_is_called_important_no_more_often_than_promised() -> None:
    called, mean_shares = 0, []
    for seed in range(60):
        dice = random.Random(seed)
        configurations = [{"a": dice.choice("xyz"), "b": dice.choice("uvw")} for _ in range(12)]
        found = importance(configurations, [dice.gauss(0, 1) for _ in range(12)], ["a", "b"])
        called += any(each.p < 0.05 for each in found)
        mean_shares += [each.raw_share - each.share for each in found]
    assert called <= 8  # 3 expected; 9 or more in one of 300
    assert fmean(mean_shares) > 0.05  # the correction takes off what luck explains


def test_keys_that_always_change_together_are_one() -> None:
    configurations = [{"a": v, "b": v.upper(), "c": i % 2} for i, v in enumerate("xxyyzz")]
    found = importance(configurations, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], ["a", "b", "c"])
    assert {each.keys for each in found} == {("a", "b"), ("c",)}


def test_a_key_whose_every_value_occurs_once_is_left_out() -> None:
    configurations = [{"a": v, "b": i % 2} for i, v in enumerate("wxyz")]
    assert [each.keys for each in importance(configurations, [1.0, 2.0, 3.0, 5.0], ["a", "b"])] == [("b",)]


@pytest.mark.parametrize(
    ("values", "keys"),
    [
        ([1.0, 2.0, 3.0, None], ["a", "b"]),  # three groups have a figure
        ([1.0, 2.0, 3.0, float("nan")], ["a", "b"]),
        ([1.0, 2.0, 3.0, 4.0], ["a"]),
        ([2.0, 2.0, 2.0, 2.0], ["a", "b"]),
    ],
)
def test_nothing_is_said_of_too_little(values: list[float | None], keys: list[str]) -> None:
    configurations = [{"a": i % 2, "b": i // 2} for i in range(4)]
    assert importance(configurations, values, keys) == []
