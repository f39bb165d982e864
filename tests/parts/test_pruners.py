"""Pruners against their papers, in sweeps on made-up learning curves that an independent scheduler plays through."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Collection, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playedsweeps import parallel, simulate
from pydantic import ValidationError

from dnntrain.parts.pruners import Hyperband, Pruner, Standings, SuccessiveHalving, pruners

POLICIES: list[Any] = [
    "asha",
    {"name": "asha", "min_epochs": 2, "eta": 2},
    "hyperband",
    {"name": "hyperband", "eta": 4},
    {"name": "median", "startup": 2, "interval": 2},
    {"name": "patience", "patience": 3},
]


def made(written: Any, epochs: int = 27, better: str = "min") -> Pruner:
    built: Pruner = pruners.choose(written).build(epochs=epochs, better=better)
    return built


# What every policy keeps.

figures = st.one_of(st.none(), st.floats(-3, 3), st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1.0]))


@st.composite
def tables(draw: st.DrawFn, pruner: Pruner) -> dict[int, tuple[float | None, ...]]:
    numbers = draw(st.lists(st.integers(0, 30), unique=True, max_size=20))
    return {number: tuple(draw(st.lists(figures, max_size=min(6, len(pruner.rungs(number)))))) for number in numbers}


@pytest.mark.parametrize("written", POLICIES, ids=str)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_the_answer_is_a_function_of_the_table_alone(written: Any, data: st.DataObject) -> None:
    pruner = made(written)
    table = data.draw(tables(pruner))
    waiting, more = data.draw(st.permutations(sorted(table))), data.draw(st.booleans())
    queue = pruner.queue(waiting, table, more=more)
    assert queue == pruner.queue(sorted(table), dict(data.draw(st.permutations(list(table.items())))), more=more)
    assert queue == made(written).queue(sorted(table), table, more=more), "it remembers what it was asked"
    assert set(queue) == {number for number in table if pruner.goes_on(number, table, more=more)}
    # Those that are waiting compete with all, those in training too.
    some = waiting[: len(waiting) // 2]
    assert pruner.queue(some, table, more=more) == [number for number in queue if number in some]


@pytest.mark.parametrize("written", POLICIES, ids=str)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_higher_is_better_is_the_mirror_image(written: Any, data: st.DataObject) -> None:
    lower, higher = made(written), made(written, better="max")
    table = data.draw(tables(lower))
    mirrored = {number: tuple(v if v is None else -v for v in values) for number, values in table.items()}
    for more in (True, False):
        assert lower.queue(table, table, more=more) == higher.queue(table, mirrored, more=more)


@pytest.mark.parametrize("written", POLICIES, ids=str)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_the_order_is_the_highest_rung_then_the_best_figure_then_the_number(written: Any, data: st.DataObject) -> None:
    pruner = made(written)
    table = data.draw(tables(pruner))
    keys = []
    for number in pruner.queue(table, table):
        values = table[number]
        assert len(values) < len(pruner.rungs(number)), "it is complete"
        assert not values or (values[-1] is not None and math.isfinite(values[-1])), "it has no figure"
        keys.append((-pruner.rungs(number)[len(values) - 1], values[-1], number) if values else (0, 0.0, number))
    assert keys == sorted(keys)
    assert {number for number, values in table.items() if not values} <= set(pruner.queue(table, table))


@pytest.mark.parametrize("written", POLICIES, ids=str)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_what_is_no_number_is_as_none(written: Any, data: st.DataObject) -> None:
    pruner = made(written)
    table = data.draw(tables(pruner))
    plain = {
        number: [None if v is None or not math.isfinite(v) else v for v in values] for number, values in table.items()
    }
    assert pruner.queue(table, table) == pruner.queue(plain, plain)


@pytest.mark.parametrize("written", POLICIES, ids=str)
def test_a_configuration_that_is_not_in_the_table_may_begin_after_all_others(written: Any) -> None:
    pruner = made(written)
    assert pruner.goes_on(7, {})
    first = pruner.rungs(0)
    alone = {number: (1.0,) for number in range(9) if pruner.rungs(number) == first}
    queue = pruner.queue([40, *alone, 30], alone, more=False)
    assert queue[0] == 0
    assert queue[-2:] == [30, 40]


@pytest.mark.parametrize("name", pruners.names())
@pytest.mark.parametrize("epochs", [1, 2, 3, 5, 20, 27, 28, 81])
def test_rungs_ascend_to_the_full_number(name: str, epochs: int) -> None:
    for options in ({}, {"min_epochs": 2}, {"min_epochs": 50}, {"eta": 2}, {"eta": 1000}, {"interval": 4}):
        try:
            pruner = made({"name": name, **options}, epochs)
        except ValidationError:
            assert not set(options) <= set(pruners[name].options.model_fields)
            continue
        for number in range(30):
            rungs = pruner.rungs(number)
            assert rungs[-1] == epochs
            assert rungs == tuple(sorted(set(rungs)))
            assert rungs[0] >= min(options.get("min_epochs", 1), epochs)


@pytest.mark.parametrize("name", ["asha", "hyperband"])
@pytest.mark.parametrize("eta", [1, 0, -3, 2.5, "3", True])
def test_one_in_less_than_two_is_refused(name: str, eta: Any) -> None:
    with pytest.raises(ValidationError):
        pruners.choose({"name": name, "eta": eta})


@pytest.mark.parametrize("written", POLICIES, ids=str)
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_no_piece_of_training_is_done_twice_and_every_sweep_ends(written: Any, data: st.DataObject) -> None:
    count, epochs = data.draw(st.integers(1, 14)), data.draw(st.integers(1, 12))
    curves = data.draw(st.lists(st.lists(figures, min_size=epochs, max_size=epochs), min_size=count, max_size=count))
    speeds = data.draw(st.lists(st.sampled_from([0.5, 1.0, 3.0]), min_size=count, max_size=count))
    pruner, workers = made(written, epochs), data.draw(st.integers(1, 4))
    played = simulate(pruner, curves, workers, speeds, shuffle=0)
    assert len(played.begun) == len(set(played.begun))
    assert {number for number, start in played.begun if start == 0} == set(range(count))
    assert played.begun == simulate(made(written, epochs), curves, workers, speeds, shuffle=1).begun
    assert played.epochs <= count * epochs


@pytest.mark.parametrize("written", POLICIES, ids=str)
@pytest.mark.parametrize("workers", [1, 3, 27])
def test_the_best_survives_where_curves_do_not_cross(written: Any, workers: int) -> None:
    for seed in range(8):
        order = random.Random(seed).sample(range(27), 27)
        pruner = made(written)
        played = simulate(pruner, parallel([float(f) for f in order]), workers)
        best = order.index(0)
        rival = [n for n in range(27) if pruner.rungs(n) == pruner.rungs(best)]
        assert min(rival, key=lambda n: order[n]) == best
        assert len(played.table[best]) == len(pruner.rungs(best))


# asha


def paper(standings: Standings, waiting: Collection[int], rungs: int, eta: int) -> list[int]:
    """Return which configuration algorithm 2 of arXiv:1810.05934 promotes next, if any: not one that is on its way."""
    for rung in reversed(range(rungs - 1)):
        there = {}
        for number, values in standings.items():
            if len(values) > rung:
                value = values[rung]
                there[number] = math.inf if value is None or not math.isfinite(value) else value
        top = sorted(there, key=lambda n: (there[n], n))[: len(there) // eta]
        promotable = [n for n in top if n in waiting and len(standings[n]) == rung + 1 and there[n] < math.inf]
        if promotable:
            return promotable[:1]
    return []


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_asha_promotes_as_its_paper_says(data: st.DataObject) -> None:
    eta, first = data.draw(st.sampled_from([2, 3, 4])), data.draw(st.sampled_from([1, 2]))
    pruner = made({"name": "asha", "eta": eta, "min_epochs": first}, 20)
    table = data.draw(tables(pruner))
    begun = {number: values for number, values in table.items() if values}
    waiting = data.draw(st.sets(st.sampled_from(sorted(begun)))) if begun else set()
    expected = paper(begun, waiting, len(pruner.rungs(0)), eta)
    assert pruner.queue(waiting, begun)[:1] == expected


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_decision_of_a_whole_sweep_is_the_paper_s(workers: int) -> None:
    mixer = random.Random(4)
    curves = [[mixer.gauss(mixer.random(), 0.3) for _ in range(27)] for _ in range(40)]
    played = simulate(made("asha"), curves, workers, [mixer.choice([0.5, 1.0, 2.0]) for _ in curves])
    decisions = [(table, waiting, queue) for table, waiting, more, queue in played.asked if more]
    for table, waiting, queue in decisions:
        assert queue[:1] == paper(table, waiting, 4, 3)
    assert sum(bool(queue) for _, _, queue in decisions) > 15


def test_the_rungs_of_asha_are_powers_of_eta_and_the_end() -> None:
    assert made("asha", 27).rungs(0) == (1, 3, 9, 27)
    assert made("asha", 28).rungs(0) == (1, 3, 9, 27, 28)
    assert made("asha", 20).rungs(5) == (1, 3, 9, 20)
    assert made({"name": "asha", "min_epochs": 2, "eta": 4}, 30).rungs(0) == (2, 8, 30)
    assert made({"name": "asha", "min_epochs": 5, "eta": 4}, 20).rungs(0) == (5, 20)
    assert made({"name": "asha", "min_epochs": 5, "eta": 5}, 20).rungs(0) == (5, 20)
    assert made({"name": "asha", "min_epochs": 20}, 20).rungs(0) == (20,)
    assert made("asha", 1).rungs(0) == (1,)


def test_asha_of_27_spends_81_epochs_where_the_best_come_first() -> None:
    played = simulate(made("asha"), parallel([float(i) for i in range(27)]))
    assert played.epochs == 81 == 27 * 1 + 9 * 2 + 3 * 6 + 1 * 18
    assert [played.reached(rung) for rung in range(4)] == [set(range(27)), set(range(9)), {0, 1, 2}, {0}]
    # A worker takes up what may go on before it begins something new.
    assert played.begun[:6] == [(0, 0), (1, 0), (2, 0), (0, 1), (3, 0), (4, 0)]


def test_in_the_worst_order_all_but_the_first_go_on() -> None:
    played = simulate(made("asha"), parallel([27.0 - i for i in range(27)]))
    assert [len(played.reached(rung)) for rung in range(4)] == [27, 25, 23, 21]
    assert played.epochs == 27 * 1 + 25 * 2 + 23 * 6 + 21 * 18


@pytest.mark.parametrize("workers", [1, 4])
def test_in_a_random_order_little_more_is_spent_than_in_the_best(workers: int) -> None:
    orders = [random.Random(seed).sample([float(i) for i in range(27)], 27) for seed in range(100)]
    spent = [simulate(made("asha"), parallel(order), workers).epochs for order in orders]
    assert min(spent) >= 81
    assert 85 < statistics.mean(spent) < 100
    assert max(spent) < 0.4 * 27 * 27


def test_who_went_on_too_early_is_not_called_back_and_better_ones_follow() -> None:
    asha = made("asha")
    table: dict[int, tuple[float, ...]] = {0: (3.0,), 1: (2.0,), 2: (4.0,)}
    assert asha.queue(table, table) == [1]
    table[1] = (2.0, 1.5)
    assert asha.queue(table, table) == []
    table[3] = (1.0,)
    assert asha.queue(table, table) == [3], "the best of four, although one of four has gone on already"
    table |= {4: (5.0,), 5: (6.0,)}
    assert asha.queue(table, table) == [3]
    table[3] = (1.0, 0.5)
    assert asha.queue(table, table) == []
    assert not asha.final
    table |= {6: (9.0,), 7: (9.0,), 8: (9.0,)}
    assert asha.queue(table, table) == [0], "refused before, and now among the best three of nine"


def test_equal_figures_go_by_number_and_failures_fill_the_rung_but_never_go_on() -> None:
    asha = made("asha")
    assert asha.queue([2, 0, 1], {2: (1.0,), 0: (1.0,), 1: (1.0,)}) == [0]
    assert asha.queue(range(3), {0: (None,), 1: (math.nan,), 2: (5.0,)}) == [2]
    assert asha.queue(range(6), {0: (None,), 1: (None,), 2: (5.0,), 3: (None,), 4: (None,), 5: (None,)}) == [2]
    assert asha.queue(range(3), dict.fromkeys(range(3), (None,))) == []
    assert asha.queue(range(3), dict.fromkeys(range(3), (None,)), more=False) == []


@pytest.mark.parametrize("count", range(1, 30))
def test_however_few_there_are_one_is_complete_in_the_end(count: int) -> None:
    mixer = random.Random(count)
    order = mixer.sample(range(count), count)
    played = simulate(made("asha"), parallel([float(f) for f in order]), workers=2)
    complete = played.reached(3)
    assert order.index(0) in complete
    assert len(complete) == 1 or count >= 3


def test_as_long_as_more_is_to_come_a_rung_that_is_not_full_waits() -> None:
    asha = made("asha")
    table = {0: (2.0,), 1: (1.0,)}
    assert asha.queue(table, table) == []
    assert asha.queue(table, table, more=False) == [1]
    assert asha.queue([0], table, more=False) == [], "what waits competes with what is elsewhere"


# hyperband


def test_the_brackets_of_hyperband_are_those_of_its_paper() -> None:
    # Table 1 of arXiv:1603.06560: R = 81, eta = 3.
    pruner = made("hyperband", 81)
    assert isinstance(pruner, Hyperband)
    assert pruner.weights == (81, 34, 15, 8, 5)
    assert {pruner.bracket(n): pruner.rungs(n) for n in range(sum(pruner.weights))} == {
        0: (1, 3, 9, 27, 81),
        1: (3, 9, 27, 81),
        2: (9, 27, 81),
        3: (27, 81),
        4: (81,),
    }


@pytest.mark.parametrize(("epochs", "eta", "first"), [(27, 3, 1), (20, 3, 1), (64, 2, 1), (100, 4, 2), (1, 3, 1)])
def test_each_bracket_has_its_share_at_every_moment(epochs: int, eta: int, first: int) -> None:
    pruner = made({"name": "hyperband", "eta": eta, "min_epochs": first}, epochs)
    assert isinstance(pruner, Hyperband)
    top, total = len(pruner.weights) - 1, sum(pruner.weights)
    assert pruner.weights == tuple(math.ceil((top + 1) * eta**s / (s + 1)) for s in range(top, -1, -1))
    counts = [0] * (top + 1)
    for number in range(2 * total):
        counts[pruner.bracket(number)] += 1
        for count, weight in zip(counts, pruner.weights, strict=True):
            assert abs(count - (number + 1) * weight / total) < 1.5
    assert counts == [2 * weight for weight in pruner.weights]


def test_a_bracket_does_not_depend_on_what_was_asked_before() -> None:
    forwards, at_once = made("hyperband"), made("hyperband")
    assert isinstance(forwards, Hyperband)
    assert isinstance(at_once, Hyperband)
    last = at_once.bracket(99)
    assert [forwards.bracket(n) for n in range(100)] == [at_once.bracket(n) for n in range(100)]
    assert forwards.bracket(99) == last


def test_configurations_compete_within_their_bracket_only() -> None:
    pruner = made("hyperband")
    assert isinstance(pruner, Hyperband)
    mixer = random.Random(3)
    table = {n: tuple(mixer.random() for _ in pruner.rungs(n)[:1]) for n in range(49)}
    allowed = set(pruner.queue(table, table))
    expected = set()
    for bracket, weight in enumerate(pruner.weights[:-1]):
        own = [n for n in table if pruner.bracket(n) == bracket]
        assert len(own) == weight
        expected |= set(sorted(own, key=lambda n: table[n])[: weight // 3])
    assert allowed == expected


def test_the_highest_rung_is_that_of_most_epochs_whatever_the_bracket() -> None:
    pruner = made("hyperband")
    first, third = ([n for n in range(49) if pruner.rungs(n) == rungs] for rungs in [(1, 3, 9, 27), (9, 27)])
    table = {**dict.fromkeys(first[:3], (1.0, 1.0)), **dict.fromkeys(third[:3], (2.0,))}
    assert pruner.queue(table, table) == [third[0], first[0]]


def test_the_epochs_of_a_round_of_hyperband() -> None:
    pruner = made("hyperband")
    assert isinstance(pruner, Hyperband)
    spent = [0, 0, 0, 0]
    played = simulate(pruner, parallel([float(i) for i in range(49)]))
    for number, values in played.table.items():
        spent[pruner.bracket(number)] += pruner.rungs(number)[len(values) - 1]
    assert spent == [81, 78, 90, 108]
    assert played.epochs == sum(spent)
    assert {pruner.bracket(n) for n, v in played.table.items() if len(v) == len(pruner.rungs(n))} == {0, 1, 2, 3}


def test_one_bracket_is_asha() -> None:
    hyperband, asha = made("hyperband", 1), made("asha", 1)
    assert isinstance(hyperband, SuccessiveHalving)
    assert {hyperband.bracket(n) for n in range(9)} == {0}
    table: Mapping[int, tuple[float, ...]] = {0: (1.0,), 1: ()}
    assert hyperband.queue(table, table) == asha.queue(table, table) == [1]


def test_what_is_slow_at_first_is_lost_to_asha_and_found_by_hyperband() -> None:
    curves = [list(curve) for curve in parallel([float(i) for i in range(49)])]
    late = next(number for number in range(10, 49) if made("hyperband").rungs(number) == (9, 27))
    curves[late] = [100.0] * 5 + [-1.0] * 22
    assert len(simulate(made("asha"), curves).table[late]) == 1
    assert len(simulate(made("hyperband"), curves).table[late]) == 2


# median


def vizier(table: Standings, number: int, rungs: int, startup: int) -> bool:
    """Return whether the rule of Vizier lets a configuration go on, for figures that are numbers."""
    complete = [values for values in table.values() if len(values) == rungs]
    if len(complete) < startup:
        return True
    step = len(table[number])
    averages = sorted(sum(values[:step]) / step for values in complete)  # type: ignore[arg-type]
    middle = len(averages) // 2
    limit = averages[middle] if len(averages) % 2 else (averages[middle - 1] + averages[middle]) / 2
    return min(table[number]) <= limit  # type: ignore[type-var]


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_median_is_the_rule_of_vizier(data: st.DataObject) -> None:
    startup = data.draw(st.integers(1, 4))
    pruner = made({"name": "median", "startup": startup, "interval": 5}, 20)
    assert pruner.rungs(0) == (1, 6, 11, 16, 20)
    lists = st.lists(st.integers(-20, 20).map(float), min_size=1, max_size=5)
    table = dict(enumerate(data.draw(st.lists(lists, max_size=12))))
    expected = {n for n, values in table.items() if len(values) < 5 and vizier(table, n, 5, startup)}
    assert set(pruner.queue(table, table)) == expected


def test_median_by_hand() -> None:
    pruner = made({"name": "median", "startup": 3}, 3)
    complete: dict[int, tuple[float | None, ...]] = {0: (4.0, 2.0, 1.0), 1: (6.0, 2.0, 1.0), 2: (9.0, 9.0, 9.0)}
    assert pruner.goes_on(5, {**complete, 5: (6.0,)}), "as good as the median is good enough"
    assert not pruner.goes_on(5, {**complete, 5: (6.1,)})
    assert pruner.goes_on(5, {**complete, 5: (6.1, 4.0)}), "running means: 3, 4 and 9"
    assert not pruner.goes_on(5, {**complete, 5: (6.1, 4.1)})
    assert pruner.goes_on(5, {**complete, 5: (3.0, 7.0)}), "its best so far counts"
    del complete[2]
    assert pruner.goes_on(5, {**complete, 5: (99.0,)}), "too few are complete"
    assert pruner.final


def test_median_with_failures() -> None:
    pruner = made({"name": "median", "startup": 3}, 3)
    table: dict[int, tuple[float | None, ...]] = {0: (4.0, 2.0, 1.0), 1: (None, None, 1.0), 2: (None, 8.0, 8.0)}
    # At the first rung two of three had no figure, so that any is good enough; at the second they are 3, 8 and none.
    assert pruner.goes_on(5, {**table, 5: (1000.0,)})
    assert not pruner.goes_on(5, {**table, 5: (None,)})
    assert pruner.goes_on(5, {**table, 5: (1000.0, 8.0)})
    assert not pruner.goes_on(5, {**table, 5: (1000.0, 8.1)})
    # What failed on its way is not complete.
    assert pruner.goes_on(5, {0: (4.0, 2.0, 1.0), 1: (1.0, None), 2: (1.0, 1.0), 5: (1000.0,)})


def test_rungs_of_median_and_patience() -> None:
    assert made({"name": "median", "min_epochs": 4, "interval": 3}, 12).rungs(3) == (4, 7, 10, 12)
    assert made({"name": "median", "min_epochs": 12}, 12).rungs(0) == (12,)
    assert made({"name": "patience", "interval": 5}, 12).rungs(0) == (5, 10, 12)
    assert made({"name": "patience", "interval": 50}, 12).rungs(0) == (12,)


# patience


@settings(deadline=None, max_examples=80)
@given(st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=19), st.integers(1, 6), st.integers(0, 2))
def test_patience_counts_epochs_without_improvement(values: list[float], patience: int, delta: int) -> None:
    pruner = made({"name": "patience", "patience": patience, "min_delta": delta, "interval": 1}, 20)
    best, waited = math.inf, 0
    for value in values:
        best, waited = (value, 0) if value < best - delta else (best, waited + 1)
    assert pruner.goes_on(0, {0: values}) is (waited < patience)
    assert pruner.goes_on(0, {0: values, 1: [-99.0] * 20}) is (waited < patience), "others do not matter"
    assert pruner.final


@pytest.mark.parametrize(
    ("written", "epochs", "rungs"),
    [
        ("median", 5, (1, 2, 3, 4, 5)),
        ("median", 40, (1, 5, 9, 13, 17, 21, 25, 29, 33, 37, 40)),
        ({"name": "median", "interval": 15}, 40, (1, 16, 31, 40)),
        ("patience", 5, (1, 2, 3, 4, 5)),
        ("patience", 25, (2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 25)),
        ({"name": "patience", "interval": 10}, 25, (10, 20, 25)),
    ],
)
def test_a_run_is_left_at_ten_rungs_or_so_unless_told_otherwise(written: Any, epochs: int, rungs: Any) -> None:
    assert made(written, epochs).rungs(0) == rungs


def test_patience_by_hand() -> None:
    pruner = made({"name": "patience", "patience": 3, "interval": 1}, 20)
    assert pruner.goes_on(0, {0: (1.0, 1.0, 1.0)})
    assert not pruner.goes_on(0, {0: (1.0, 1.0, 1.0, 1.0)})
    assert pruner.goes_on(0, {0: (1.0, 1.0, 1.0, 0.9)})
    assert not pruner.goes_on(0, {0: (2.0, None)})
    rare = made({"name": "patience", "patience": 10, "interval": 4}, 20)
    assert rare.goes_on(0, {0: (1.0, 1.0, 1.0)}), "8 epochs since epoch 4"
    assert not rare.goes_on(0, {0: (1.0, 1.0, 1.0, 1.0)}), "12 epochs"
    last = made({"name": "patience", "patience": 5, "interval": 4}, 6)
    assert last.rungs(0) == (4, 6)
    assert last.goes_on(0, {0: (1.0,)})
