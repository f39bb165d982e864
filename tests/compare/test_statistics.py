from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st

from dnntrain.compare.statistics import Difference, compare, compare_all, holm, seeds_to_settle
from dnntrain.errors import UsageError

MIRROR = {"better": "worse", "worse": "better"}
FIGURES = st.integers(-1_000, 1_000).map(lambda number: number / 10)
MAYBE = st.one_of(FIGURES, st.none())
DIRECTION = st.sampled_from(["min", "max"])
Better = Literal["min", "max"]


def seeded(*figures: float | None, start: int = 0) -> dict[int, float | None]:
    return dict(enumerate(figures, start=start))


def groups(figures: st.SearchStrategy[float | None], start: int = 0) -> st.SearchStrategy[dict[int, float | None]]:
    seeds = st.integers(start, start + 5)
    return st.dictionaries(seeds, figures, min_size=1, max_size=6)


@st.composite
def paired(draw: st.DrawFn) -> tuple[dict[int, float], dict[int, float]]:
    """Three pairs or more whose differences are not all equal."""
    pairs = draw(st.lists(st.tuples(FIGURES, FIGURES), min_size=3, max_size=8))
    differences = [mine - theirs for mine, theirs in pairs]
    assume(max(differences) - min(differences) > 0.05)
    return {seed: mine for seed, (mine, _) in enumerate(pairs)}, {
        seed: theirs for seed, (_, theirs) in enumerate(pairs)
    }


@given(paired(), DIRECTION, st.sampled_from([0.8, 0.95, 0.99]))
def test_paired_figures_are_those_of_scipy(
    sides: tuple[dict[int, float], dict[int, float]], better: Better, confidence: float
) -> None:
    ours, baseline = sides
    shuffled = dict(sorted(baseline.items(), key=lambda item: item[1]))  # pairs go by seed, not by place
    found = compare(ours, shuffled, better=better, confidence=confidence)
    expected = scipy.stats.ttest_rel([*ours.values()], [*baseline.values()])
    interval = expected.confidence_interval(confidence)
    assert (found.method, found.pairs, found.confidence) == ("paired t", len(ours), pytest.approx(confidence))
    assert found.p == found.adjusted_p == pytest.approx(expected.pvalue, rel=1e-6)
    assert [found.low, found.high] == pytest.approx([interval.low, interval.high], rel=1e-6, abs=1e-6)


@given(st.lists(FIGURES, min_size=2, max_size=7, unique=True), st.lists(FIGURES, min_size=2, max_size=7, unique=True))
def test_unpaired_figures_are_those_of_scipy(mine: list[float], theirs: list[float]) -> None:
    found = compare(seeded(*mine), seeded(*theirs, start=100), better="min")
    expected = scipy.stats.ttest_ind(mine, theirs, equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert (found.method, found.pairs) == ("Welch t", 0)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6)
    assert [found.low, found.high] == pytest.approx([interval.low, interval.high], rel=1e-6, abs=1e-6)


def test_a_paired_comparison_by_hand() -> None:
    """Differences 1, 2, 3: mean 2, deviation 1, t = 2 sqrt(3) with 2 degrees of freedom."""
    found = compare(seeded(11, 22, 33), seeded(10, 20, 30), better="max")
    t = 2 * math.sqrt(3)
    assert found.value == 2
    assert found.p == pytest.approx(1 - t / math.sqrt(2 + t * t))  # the distribution with 2 degrees in closed form
    assert found.low == pytest.approx(2 - 4.302653 / math.sqrt(3), rel=1e-6)
    assert found.verdict == "not distinguishable"


@pytest.mark.parametrize(
    ("mine", "theirs", "method", "pairs"),
    [
        ([0, 1, 2], [0, 1, 2], "paired t", 3),
        ([0, 1, 2], [0, 1, 2, 3, 4], "paired t", 3),
        ([0, 1, 2, 3], [1, 2, 3], "paired t", 3),
        ([0, 1, 2, 9], [0, 1, 2, 3], "Welch t", 0),
        ([0, 1], [0, 1], "Welch t", 0),
        ([0, 1, 2], [5, 6, 7], "Welch t", 0),
        ([0], [0], "none", 0),
        ([0], [0, 1, 2, 3], "none", 0),
    ],
)
def test_the_seeds_choose_the_test(mine: list[int], theirs: list[int], method: str, pairs: int) -> None:
    found = compare({s: s**2 % 7 / 10 for s in mine}, {s: s**3 % 5 / 10 for s in theirs}, better="max")
    assert (found.method, found.pairs, found.runs) == (method, pairs, (len(mine), len(theirs)))


def test_only_pairs_count_where_runs_are_paired() -> None:
    alone = compare(seeded(1, 3, 2), seeded(0.5, 1, 1.7), better="max")
    beside = compare(seeded(1, 3, 2), seeded(0.5, 1, 1.7, 1_000), better="max")
    assert replace(beside, runs=(3, 3)) == alone


def mirrored(found: Difference) -> dict[str, object]:
    return {
        "value": None if found.value is None else pytest.approx(-found.value, abs=1e-9),
        "low": None if found.high is None else pytest.approx(-found.high, abs=1e-9),
        "high": None if found.low is None else pytest.approx(-found.low, abs=1e-9),
        "p": None if found.p is None else pytest.approx(found.p),
        "runs": found.runs[::-1],
        "failed": found.failed[::-1],
        "verdict": MIRROR.get(found.verdict, found.verdict),
        "seeds_to_settle": found.seeds_to_settle,
        "method": found.method,
        "pairs": found.pairs,
    }


@given(groups(MAYBE), st.one_of(groups(MAYBE), groups(MAYBE, start=3)), DIRECTION)
def test_swapping_the_sides_mirrors_everything(
    ours: dict[int, float | None], baseline: dict[int, float | None], better: Better
) -> None:
    found, swapped = compare(ours, baseline, better=better), compare(baseline, ours, better=better)
    assert {name: getattr(swapped, name) for name in mirrored(found)} == mirrored(found)


@given(groups(MAYBE), groups(MAYBE), DIRECTION)
def test_better_the_other_way_round_turns_the_verdict(
    ours: dict[int, float | None], baseline: dict[int, float | None], better: Better
) -> None:
    def negative(runs: dict[int, float | None]) -> dict[int, float | None]:
        return {seed: None if figure is None else -figure for seed, figure in runs.items()}

    other: Better = "max" if better == "min" else "min"
    found, turned = compare(ours, baseline, better=better), compare(negative(ours), negative(baseline), better=other)
    assert (turned.verdict, turned.p) == (found.verdict, pytest.approx(found.p) if found.p is not None else None)


@given(groups(MAYBE), groups(MAYBE), st.integers(-50, 50), st.sampled_from([0.25, 1.0, 8.0]))
def test_shifting_and_scaling_all_figures(
    ours: dict[int, float | None], baseline: dict[int, float | None], shift: int, factor: float
) -> None:
    def moved(runs: dict[int, float | None]) -> dict[int, float | None]:
        return {seed: None if figure is None else factor * figure + shift for seed, figure in runs.items()}

    found, after = compare(ours, baseline, better="max"), compare(moved(ours), moved(baseline), better="max")
    assert (after.method, after.verdict) == (found.method, found.verdict)
    assert after.p == (None if found.p is None else pytest.approx(found.p, rel=1e-6, abs=1e-12))
    for name in ("value", "low", "high"):
        before = getattr(found, name)
        assert getattr(after, name) == (None if before is None else pytest.approx(factor * before, rel=1e-6, abs=1e-6))


@given(groups(FIGURES), groups(FIGURES), DIRECTION, st.sampled_from([0.8, 0.95]))
def test_a_verdict_falls_exactly_where_the_interval_lacks_zero(
    ours: dict[int, float | None], baseline: dict[int, float | None], better: Better, confidence: float
) -> None:
    found = compare(ours, baseline, better=better, confidence=confidence)
    if found.low is None or found.high is None or found.value is None:
        return
    assert (found.low > 0 or found.high < 0) == (found.verdict in MIRROR)
    if found.verdict in MIRROR:
        assert (found.verdict == "better") == ((found.value > 0) == (better == "max"))
        assert found.seeds_to_settle is None


def test_equal_runs_are_not_distinguishable() -> None:
    found = compare(seeded(0.1, 0.2, 0.3), seeded(0.1, 0.2, 0.3), better="max")
    assert (found.value, found.p, found.low, found.verdict) == (0, 1, None, "not distinguishable")
    found = compare(seeded(0.3, 0.1 + 0.2), seeded(0.3, 0.3, start=7), better="max")
    assert (found.p, found.verdict, found.seeds_to_settle) == (1, "not distinguishable", None)


def test_pairs_that_all_differ_alike_are_judged_by_their_number() -> None:
    """A t test would divide by zero; by rounding alone, p would be 1e-30 here."""
    for count, verdict in ((3, "not distinguishable"), (5, "not distinguishable"), (6, "worse")):
        baseline = {seed: 0.7 + seed / 10 for seed in range(count)}
        found = compare({seed: figure + 0.1 for seed, figure in baseline.items()}, baseline, better="min")
        assert (found.method, found.p, found.verdict) == ("signs", 2.0 ** (1 - count), verdict)
        assert (found.low, found.value) == (None, pytest.approx(0.1))


def test_small_equal_differences_of_large_figures() -> None:
    """Here rounding is large beside the differences, though not beside the figures."""
    baseline = {seed: 1_000 + seed / 3 for seed in range(4)}
    found = compare({seed: figure + 1e-3 for seed, figure in baseline.items()}, baseline, better="min")
    assert (found.method, found.p, found.value) == ("signs", 0.125, pytest.approx(1e-3))
    found = compare({seed: figure + 1e-13 for seed, figure in baseline.items()}, baseline, better="min")
    assert (found.value, found.p) == (0, 1)


def test_groups_without_spread_are_judged_by_their_ranks() -> None:
    for count, p, verdict in ((3, 0.1, "not distinguishable"), (4, 2 / 70, "better")):
        found = compare(seeded(*[0.9] * count), seeded(*[0.8] * count, start=50), better="max")
        assert (found.method, found.p, found.verdict) == ("ranks", pytest.approx(p), verdict)
    assert compare(seeded(*[0.1 + 0.2] * 5), seeded(*[0.3] * 5, start=50), better="max").p == 1


def test_one_side_without_spread() -> None:
    """Two equal runs by chance, of a metric with few values, would make Welch's test too sure: p is 1e-5 here."""
    found = compare(seeded(0.95, 0.95), seeded(0.900, 0.901, 0.902, 0.903, 0.904, start=50), better="max")
    assert (found.method, found.p, found.verdict) == ("ranks", pytest.approx(2 / 21), "not distinguishable")


@pytest.mark.parametrize("nothing", [None, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("better", ["min", "max"])
def test_failed_runs_are_the_worst_and_never_dropped(nothing: float | None, better: Better) -> None:
    """Of ours, one run is slightly ahead and four failed."""
    sign = 1 if better == "max" else -1
    baseline = seeded(*(sign * figure for figure in (0.80, 0.81, 0.82, 0.83, 0.84)))
    found = compare(seeded(sign * 0.85, *[nothing] * 4), baseline, better=better)
    assert (found.method, found.failed, found.runs) == ("ranks", (4, 0), (5, 5))
    assert found.value == pytest.approx(sign * 0.03)
    assert (found.low, found.high, found.seeds_to_settle) == (None, None, None)
    ranks = scipy.stats.permutation_test(
        ([10, 2.5, 2.5, 2.5, 2.5], [5, 6, 7, 8, 9]), lambda mine, _: np.sum(mine), n_resamples=np.inf
    )
    assert found.p == pytest.approx(ranks.pvalue)
    assert compare(seeded(*[nothing] * 5), baseline, better=better).verdict == "worse"
    assert compare(baseline, seeded(*[nothing] * 5), better=better).verdict == "better"


def test_all_runs_of_both_sides_failed() -> None:
    found = compare(seeded(None, None), seeded(None, math.nan), better="max")
    assert (found.value, found.p, found.verdict) == (None, 1, "not distinguishable")


def test_one_seed_gives_no_verdict() -> None:
    found = compare(seeded(0.9), seeded(0.1, 0.2, 0.3), better="max")
    assert (found.verdict, found.p, found.seeds_to_settle) == ("one seed: no verdict", None, None)
    assert found.value == pytest.approx(0.7)
    assert compare(seeded(None), seeded(0.1, 0.2), better="max").verdict == "one seed: no verdict"


def test_what_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="without a run"):
        compare({}, seeded(1, 2), better="max")
    with pytest.raises(UsageError, match="lies between 0 and 1"):
        compare(seeded(1, 2), seeded(1, 2), better="max", confidence=95)
    with pytest.raises(UsageError, match="lies between 0 and 1"):
        compare_all({}, seeded(1, 2), better="max", confidence=1)


@pytest.mark.parametrize("start", [0, 1_000], ids=["paired", "Welch"])
def test_equal_configurations_are_seldom_called_different(start: int) -> None:
    generator = np.random.default_rng(0)
    verdicts = [
        compare(
            seeded(*generator.normal(0.9, 0.01, 5), start=start), seeded(*generator.normal(0.9, 0.01, 5)), better="max"
        ).verdict
        for _ in range(200)
    ]
    assert sum(verdict != "not distinguishable" for verdict in verdicts) <= 18


@pytest.mark.parametrize("start", [0, 1_000], ids=["paired", "Welch"])
@pytest.mark.parametrize(("shift", "verdict"), [(0.03, "worse"), (-0.03, "better")])
def test_three_deviations_are_found_with_five_seeds(start: int, shift: float, verdict: str) -> None:
    generator = np.random.default_rng(1)
    right = sum(
        compare(
            seeded(*generator.normal(0.3 + shift, 0.01, 5), start=start),
            seeded(*generator.normal(0.3, 0.01, 5)),
            better="min",
        ).verdict
        == verdict
        for _ in range(200)
    )
    assert right >= 160


def test_pairing_finds_what_the_seeds_would_hide() -> None:
    """Seeds that move both sides by ten times the difference."""
    generator = np.random.default_rng(2)
    luck = generator.normal(0, 0.1, 5)
    ours = seeded(*(0.51 + luck + generator.normal(0, 0.002, 5)))
    baseline = seeded(*(0.5 + luck + generator.normal(0, 0.002, 5)))
    assert compare(ours, baseline, better="max").verdict == "better"
    others = {seed + 100: figure for seed, figure in baseline.items()}
    assert compare(ours, others, better="max").verdict == "not distinguishable"


def test_holm_by_hand() -> None:
    """4 times 0.01; 3 times 0.02 is 0.06; 2 times 0.025 would be less than that; 0.9 stays."""
    assert holm([0.02, 0.01, 0.9, 0.025]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([]) == []
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.5, math.nan])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.sampled_from([0.01, 0.05, 0.3]))
def test_holm_rejects_step_by_step(p_values: list[float], alpha: float) -> None:
    """The procedure as it was published, against the corrected values."""
    rejected: set[int] = set()
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[index] * (len(p_values) - place) >= alpha:
            break
        rejected.add(index)
    assert {index for index, p in enumerate(holm(p_values)) if p < alpha} == rejected


def many() -> tuple[dict[str, dict[int, float | None]], dict[int, float | None]]:
    generator = np.random.default_rng(4)
    baseline = seeded(*generator.normal(0, 1, 6))
    shifts = {"none": 0.0, "a little": 1.2, "some": 1.6, "much": 9.0, "less": -4.0}
    found = {name: seeded(*generator.normal(shift, 1, 6), start=90) for name, shift in shifts.items()}
    return {**found, "single": seeded(5)}, baseline


def test_many_comparisons_are_corrected() -> None:
    runs, baseline = many()
    found = compare_all(runs, baseline, better="max")
    single = {name: compare(group, baseline, better="max") for name, group in runs.items()}
    assert list(found) == list(runs)
    judged = [name for name in runs if name != "single"]
    p_values = [single[name].p or 0.0 for name in judged]
    assert [found[name].p for name in judged] == p_values
    assert [found[name].adjusted_p for name in judged] == pytest.approx(holm(p_values))
    assert {found[name].comparisons for name in runs} == {5}
    assert found["single"] == replace(single["single"], comparisons=5)
    assert found["much"].verdict == "better"
    assert found["less"].verdict == "worse"
    lost = [name for name in judged if single[name].verdict in MIRROR and found[name].verdict not in MIRROR]
    assert lost, "the example no longer shows what the correction is for"
    for name in lost:
        assert (found[name].seeds_to_settle or 0) > 6
    stricter = compare(runs[lost[0]], baseline, better="max", confidence=found[lost[0]].confidence)
    spreads = [float(np.std([*side.values()], ddof=1)) for side in (runs[lost[0]], baseline)]
    needed = seeds_to_settle(stricter.value or 0, spreads, alpha=1 - stricter.confidence)
    assert found[lost[0]].seeds_to_settle == stricter.seeds_to_settle == needed
    assert [found[lost[0]].low, found[lost[0]].high] == pytest.approx([stricter.low, stricter.high])


@given(st.lists(groups(FIGURES, start=10), min_size=1, max_size=5), groups(FIGURES))
def test_corrected_intervals_agree_with_verdicts(
    runs: list[dict[int, float | None]], baseline: dict[int, float | None]
) -> None:
    named = {str(number): group for number, group in enumerate(runs)}
    for name, found in compare_all(named, baseline, better="min").items():
        alone = compare(named[name], baseline, better="min")
        assert found.confidence >= alone.confidence
        if found.low is not None and found.high is not None:
            assert (found.low > 0 or found.high < 0) == (found.verdict in MIRROR)
            assert found.low <= (alone.low or 0) and (alone.high or 0) <= found.high


def test_one_comparison_needs_no_correction() -> None:
    ours, baseline = seeded(0.1, 0.4, 0.3), seeded(0.2, 0.7, 0.5)
    assert compare_all({"only": ours}, baseline, better="min")["only"] == compare(ours, baseline, better="min")
    assert compare_all({}, baseline, better="min") == {}


def test_no_false_verdict_among_many_in_most_cases() -> None:
    generator = np.random.default_rng(6)
    wrong = 0
    for _ in range(200):
        runs = {str(group): seeded(*generator.normal(size=4), start=10 * group) for group in range(1, 9)}
        found = compare_all(runs, seeded(*generator.normal(size=4)), better="max")
        wrong += any(one.verdict != "not distinguishable" for one in found.values())
    assert wrong <= 18


@pytest.mark.parametrize(
    ("ratio", "deviations", "known"),
    # From tables: two groups at half, 0.8 and a whole deviation need 64, 26 and 17 each; pairs at half a deviation 34.
    [(0.5, (1.0, 1.0), 64), (0.8, (1.0, 1.0), 26), (1.0, (1.0, 1.0), 17), (0.5, (1.0,), 34)],
)
def test_known_numbers_of_seeds(ratio: float, deviations: tuple[float, ...], known: int) -> None:
    assert seeds_to_settle(ratio, deviations) == known
    assert seeds_to_settle(-10 * ratio, [10 * deviation for deviation in deviations]) == known


@pytest.mark.parametrize("deviations", [(1.0,), (1.0, 1.0), (0.4, 1.6)])
@pytest.mark.parametrize("difference", [0.8, 1.5, 3.0])
def test_so_many_seeds_settle_it(difference: float, deviations: tuple[float, ...]) -> None:
    """Simulated: 80 % of verdicts are right with the number named, and fewer with one less."""
    needed = seeds_to_settle(difference, deviations)
    assert needed is not None and needed > 2

    def power(count: int) -> float:
        generator = np.random.default_rng(0)
        sides = [generator.normal(0, deviation, size=(8_000, count)) for deviation in deviations]
        if len(sides) == 1:
            p = scipy.stats.ttest_1samp(sides[0] + difference, 0, axis=1).pvalue
        else:
            p = scipy.stats.ttest_ind(sides[0] + difference, sides[1], axis=1, equal_var=False).pvalue
        return float(np.mean(p < 0.05))

    assert power(needed) > 0.77
    assert power(needed - 1) < 0.82


def test_when_no_number_of_seeds_can_be_named() -> None:
    assert seeds_to_settle(0, [1.0]) is None
    assert seeds_to_settle(1, [0.0, 0.0]) is None
    assert seeds_to_settle(0.001, [1.0, 1.0]) is None
    assert seeds_to_settle(1e9, [1.0, 1.0]) == 2
    assert seeds_to_settle(1e9, [1.0], fewest=3) == 3


def test_a_stricter_level_needs_more_seeds() -> None:
    needed = [seeds_to_settle(1, [1.0, 1.0], alpha=alpha) for alpha in (0.1, 0.05, 0.01)]
    assert needed == sorted(needed, key=lambda number: number or 0) and len(set(needed)) == 3


def test_the_number_of_seeds_belongs_to_what_was_seen() -> None:
    ours, baseline = [0.80, 0.84, 0.81, 0.85], [0.79, 0.80, 0.83, 0.81]
    found = compare(seeded(*ours), seeded(*baseline, start=9), better="max")
    spreads = [float(np.std(side, ddof=1)) for side in (ours, baseline)]
    assert found.seeds_to_settle == seeds_to_settle(np.mean(ours) - np.mean(baseline), spreads)
    found = compare(seeded(*ours), seeded(*baseline), better="max")
    differences = np.subtract(ours, baseline)
    assert found.seeds_to_settle == seeds_to_settle(differences.mean(), [differences.std(ddof=1)], fewest=3)


@pytest.mark.process
def test_naming_the_functions_imports_no_torch_and_no_scipy() -> None:
    code = (
        "import sys, dnntrain.compare.wording, dnntrain.compare.convergence\n"
        "print({'torch', 'scipy', 'numpy'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "set()", done.stderr
