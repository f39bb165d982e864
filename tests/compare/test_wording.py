from __future__ import annotations

import pytest

from dnntrain.compare.convergence import Reached, faster, faster_all
from dnntrain.compare.statistics import compare, compare_all
from dnntrain.compare.wording import brief, describe, describe_convergence

BASELINE = dict(enumerate([0.900, 0.901, 0.902, 0.903, 0.904]))
AHEAD = dict(enumerate([0.911, 0.914, 0.912, 0.915, 0.917]))


def moved(*amounts: float | None) -> dict[int, float | None]:
    return {seed: None if amount is None else BASELINE[seed] + amount for seed, amount in enumerate(amounts)}


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        (AHEAD, "better by 1.18 points (95 % interval 1.02 to 1.34, p < 0.001, paired by 5 seeds)"),
        (
            moved(-0.01, -0.03, -0.02, -0.03, -0.01),
            "worse by 2 points (95 % interval 0.758 to 3.24, p 0.0111, paired by 5 seeds)",
        ),
        (
            moved(0.01, -0.01, 0.02),
            "not distinguishable: difference +0.667 points (95 % interval -3.13 to 4.46, p 0.529, "
            "paired by 3 seeds, 2 runs without a partner left out); about 44 seeds a side would settle it",
        ),
        (
            moved(0, 0, 0, 0, 0),
            "not distinguishable: difference 0 points (p 1, paired by 5 seeds, every pair differs alike)",
        ),
        (
            {7: 0.95, 8: 0.952},
            "better by 4.9 points (95 % interval 4.4 to 5.4, p < 0.001, 2 against 5 runs)",
        ),
        ({0: 0.95}, "one seed: no verdict (difference +4.8 points)"),
        ({0: None}, "one seed: no verdict (1 of 1 runs of ours failed)"),
        (
            moved(0.01, None, None, None, None),
            "not distinguishable (p 0.111, 5 against 5 runs by ranks, 4 of 5 runs of ours failed)",
        ),
        (
            moved(None, None, None, None, None),
            "worse (p 0.00794, 5 against 5 runs by ranks, 5 of 5 runs of ours failed)",
        ),
    ],
)
def test_a_difference_in_words(ours: dict[int, float | None], expected: str) -> None:
    assert describe(compare(ours, BASELINE, better="max"), scale=100, unit="points") == expected


def test_a_lower_loss_is_better_by_a_positive_amount() -> None:
    loss = {seed: 1 - figure for seed, figure in AHEAD.items()}
    baseline = {seed: 1 - figure for seed, figure in BASELINE.items()}
    found = describe(compare(loss, baseline, better="min"))
    assert found == "better by 0.0118 (95 % interval 0.0102 to 0.0134, p < 0.001, paired by 5 seeds)"


def test_a_correction_is_told() -> None:
    found = compare_all({"ahead": AHEAD, "same": moved(0.001, -0.001, 0, 0.002, 0)}, BASELINE, better="max")
    assert describe(found["ahead"]) == (
        "better by 0.0118 (97.5 % interval 0.00976 to 0.0138, p < 0.001 corrected for 2 comparisons, paired by 5 seeds)"
    )
    assert "(95 % interval " in describe(found["same"])


def test_convergence_in_words() -> None:
    quick = Reached((3, 4, 5, 6, 7), (True,) * 5)
    never = Reached((20,) * 5, (False,) * 5)
    found = faster(quick, never)
    assert describe_convergence(found) == (
        "faster: 5 epochs against not reached (p 0.00794, reached by 5 of 5 runs against 0 of 5)"
    )
    assert describe_convergence(faster(never, never), unit="s") == (
        "not distinguishable: not reached against not reached (p 1, reached by 0 of 5 runs against 0 of 5)"
    )
    assert describe_convergence(faster(Reached((2.5,), (True,)), quick), unit="s") == (
        "one seed: no verdict: 2.5 s against 5 s (reached by 1 of 1 runs against 5 of 5)"
    )
    corrected = faster_all({"quick": quick, "again": quick}, never)["again"]
    assert "p 0.0159 corrected for 2 comparisons" in describe_convergence(corrected)


@pytest.mark.parametrize(
    ("seconds", "text"), [(2.0, "2 s"), (0.02, "20 ms"), (3.55e-5, "35.5 us"), (0.0, "0 us"), (123.4, "123 s")]
)
def test_short_times_are_told_in_the_unit_that_suits_them(seconds: float, text: str) -> None:
    assert brief(seconds) == text
