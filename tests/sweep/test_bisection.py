from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from dnntrain.errors import UsageError
from dnntrain.sweep.bisection import Explanation, Moved, Runs, as_json, explain
from dnntrain.sweep.telling import bisection

KEYS = "abcdefgh"
Formula = Callable[[Moved], float | None]


class Fake:
    """A trainer whose figures follow a formula, with noise that depends on the configuration and the seed alone."""

    def __init__(
        self, formula: Formula, *, seeds: int = 3, noise: float = 0.01, refused: Callable[[Moved], bool] | None = None
    ) -> None:
        self.formula, self.seeds, self.noise = formula, seeds, noise
        self.refused = refused or (lambda moved: False)
        self.free: frozenset[Moved] = frozenset()
        self.asked: list[Moved] = []

    def refusal(self, moved: Moved) -> str:
        return "they do not fit" if self.refused(moved) else ""

    def cost(self, moved: Moved) -> int:
        return 0 if moved in self.free else self.seeds

    def train(self, moved: Sequence[Moved]) -> list[Runs]:
        assert not any(map(self.refused, moved))
        assert not set(moved) & set(self.asked), "nothing is trained twice"
        self.asked += moved
        return [{seed: self.figure(each, seed) for seed in range(self.seeds)} for each in moved]

    def figure(self, moved: Moved, seed: int) -> float | None:
        value = self.formula(moved)
        noise = random.Random(f"{sorted(moved)} {seed}").gauss(0, self.noise)
        return None if value is None else value + noise


def explained(formula: Formula, keys: str = KEYS, *, most_runs: int | None = None, **rest: Any) -> Explanation:
    trainer = Fake(formula, **rest)
    found = explain(trainer, keys, better="min", most_runs=most_runs)
    assert found.configurations == len(trainer.asked)
    assert found.trained == len(trainer.asked) * trainer.seeds
    assert [key for share in found.shares for key in share.keys] == list(keys)
    return found


def culprits(found: Explanation) -> list[tuple[str, ...]]:
    return [share.keys for share in found.found]


@pytest.mark.parametrize("key", KEYS)
def test_one_key_that_explains_all_is_found_by_halving(key: str) -> None:
    found = explained(lambda moved: float(key in moved))
    assert culprits(found) == [(key,)]
    assert found.found[0].part == pytest.approx(1, abs=0.05)
    assert found.found[0].difference.verdict == "worse"
    assert found.interplays == []
    # A, B, three halvings, and the key by itself unless that is the first step.
    assert found.configurations == 2 + 3 + (key != "a")


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16])
def test_the_number_of_runs_is_that_of_halvings(count: int) -> None:
    keys = KEYS + KEYS.upper()
    found = explained(lambda moved: float(keys[count - 1] in moved), keys[:count])
    assert culprits(found) == [(keys[count - 1],)]
    assert found.configurations <= 2 + math.ceil(math.log2(count)) + 1


def test_two_keys_that_add_are_both_found_the_larger_first() -> None:
    found = explained(lambda moved: 0.5 * ("b" in moved) + 1.5 * ("g" in moved))
    assert culprits(found) == [("g",), ("b",)]
    assert [share.part for share in found.found] == pytest.approx([0.75, 0.25], abs=0.02)
    assert math.fsum(share.part or 0 for share in found.shares) == pytest.approx(1)
    assert found.interplays == []
    assert found.configurations <= 2 + 2 * 3 + 2
    assert bisection(found, "valid/loss")[0] == "g (75 %) and b (25 %) explain the gap"


def test_keys_that_work_against_the_gap_are_told_apart() -> None:
    found = explained(lambda moved: 2.0 * ("b" in moved) - 1.0 * ("g" in moved), noise=1e-4)
    assert [round(share.part or 0) for share in found.found] == [2, -1]
    assert bisection(found, "valid/loss")[0] == "b (200 %) explains the gap; against it works g (-100 %)"


def test_keys_that_work_only_together_are_found() -> None:
    found = explained(lambda moved: float({"c", "g"} <= moved))
    assert culprits(found) == [("g",)]
    (interplay,) = found.interplays
    assert (interplay.keys, interplay.partners) == (("g",), ("c",))
    assert interplay.alone.verdict == "not distinguishable"
    assert any(line.startswith("g works together with c; by itself: not dist") for line in bisection(found, "x/loss"))


def test_an_interplay_is_told_from_what_the_keys_before_do_themselves() -> None:
    found = explained(lambda moved: 3.0 * ("a" in moved) + 1.0 * ("f" in moved) + 1.0 * ({"d", "f"} <= moved))
    assert culprits(found) == [("a",), ("f",)]
    assert [(each.keys, each.partners) for each in found.interplays] == [(("f",), ("d",))]
    assert found.interplays[0].alone.value == pytest.approx(1, abs=0.05)


def test_noise_explains_nothing_and_costs_the_two_ends_alone() -> None:
    for number in range(20):
        found = explained(lambda moved, number=number: 0.0 * number, seeds=5, noise=1.0 + number)
        if not found.real:
            assert found.configurations == 2
            assert culprits(found) == []
            told = bisection(found, "valid/loss")
            assert told[0] == "there is nothing to explain: with 5 seeds, the gap could be luck"
    assert not explained(lambda moved: 0.0, noise=0.0).real


def test_small_shares_that_only_stand_out_together_stay_together() -> None:
    """Each of eight keys does an eighth, and each figure is uncertain by about as much."""
    found = explained(lambda moved: len(moved) / 8, noise=0.1, seeds=3)
    assert found.real
    for share in found.found:
        if len(share.keys) > 1:
            assert share.whole == "neither half of them stands out by itself"
    wide = [share for share in found.found if len(share.keys) > 1]
    assert wide
    assert any("were not taken apart: neither half" in line for line in bisection(found, "valid/loss"))


def test_the_key_that_makes_all_runs_fail_is_found() -> None:
    found = explained(lambda moved: None if "d" in moved else 0.0)
    assert culprits(found) == [("d",)]
    assert found.found[0].all_fail
    assert found.gap.value is None
    assert bisection(found, "valid/loss")[0] == "d makes the difference"
    cured = explained(lambda moved: 0.0 if "d" in moved else None)
    assert culprits(cured) == [("d",)]
    assert cured.found[0].none_fails


def test_two_keys_that_fail_only_together_are_found() -> None:
    found = explained(lambda moved: None if {"b", "e"} <= moved else 0.0)
    assert culprits(found) == [("e",)]
    assert [(each.keys, each.partners) for each in found.interplays] == [(("e",), ("b",))]


def test_runs_that_fail_now_and_then_prove_nothing() -> None:
    class Shaky(Fake):
        def figure(self, moved: Moved, seed: int) -> float | None:
            return None if "d" in moved and seed == 0 else super().figure(moved, seed)

    assert not explain(Shaky(lambda moved: 0.0), KEYS, better="min").real


def test_configurations_that_cannot_be_are_gone_around() -> None:
    """c and d, and e and f, are only allowed together."""

    def refused(moved: Moved) -> bool:
        return len(moved & {"c", "d", "e"}) in (1, 2)

    found = explained(lambda moved: float("d" in moved), refused=refused)
    (share,) = found.found
    assert share.keys == ("c", "d", "e")
    assert share.whole == "they do not fit"
    assert found.configurations <= 6


def test_on_the_way_to_partners_too_nothing_impossible_is_trained() -> None:
    found = explained(
        lambda moved: float({"d", "g"} <= moved), refused=lambda moved: {"c", "g"} <= moved and "e" not in moved
    )
    assert culprits(found) == [("g",)]
    (interplay,) = found.interplays
    assert interplay.partners == ("c", "d", "e")


def test_the_largest_share_is_looked_into_first() -> None:
    found = explained(lambda moved: 0.2 * ("b" in moved) + 1.8 * ("g" in moved), most_runs=5 * 3)
    assert culprits(found) == [("g",), ("a", "b", "c", "d")]
    assert found.cut_short


def test_no_more_runs_are_trained_than_allowed() -> None:
    full = explained(lambda moved: float("f" in moved))
    for most in range(6, full.trained + 1):
        found = explained(lambda moved: float("f" in moved), most_runs=most)
        assert found.trained <= most
        assert found.cut_short == (most < full.trained)
        assert any("f" in keys for keys in culprits(found))
    with pytest.raises(UsageError, match="A and B alone take 6 runs, and no more than 5"):
        explained(lambda moved: 0.0, most_runs=5)


def test_runs_that_are_there_already_are_not_counted() -> None:
    trainer = Fake(lambda moved: float("b" in moved))
    trainer.free = frozenset([frozenset(), frozenset("abcd")])
    found = explain(trainer, "abcd", better="min", most_runs=9)
    assert (found.configurations, found.trained, found.cut_short) == (5, 9, False)


def test_one_seed_goes_by_the_share_and_two_by_a_test() -> None:
    one = explained(lambda moved: 1.0 * ("b" in moved) + 0.1 * ("f" in moved), seeds=1)
    assert culprits(one) == [("b",)]
    assert one.found[0].difference.verdict == "one seed: no verdict"
    assert "one seed shows nothing of luck" in bisection(one, "valid/loss")[-1]
    two = explained(lambda moved: float("b" in moved), seeds=2)
    assert culprits(two) == [("b",)]
    assert not explained(lambda moved: 0.01 * ("b" in moved), seeds=2, noise=1.0).real


def test_verdicts_are_corrected_for_the_number_of_shares() -> None:
    found = explained(lambda moved: float("f" in moved))
    assert len(found.shares) > 2
    assert {share.difference.comparisons for share in found.shares} == {len(found.shares)}


def test_higher_may_be_better() -> None:
    found = explain(Fake(lambda moved: float("b" in moved)), KEYS, better="max")
    assert found.found[0].difference.verdict == "better"


def test_programs_read_the_same() -> None:
    found = explained(lambda moved: float({"c", "g"} <= moved))
    told = as_json(found, {key: (0, [key]) for key in KEYS})
    assert [share["stands_out"] for share in told["shares"]].count(True) == 1
    assert {"key": "g", "a": 0, "b": ["g"]} in [key for share in told["shares"] for key in share["keys"]]
    assert told["interplays"][0]["partners"] == ["c"]
    assert told["seeds"] == [0, 1, 2]
