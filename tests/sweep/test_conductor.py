from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from instantsweeps import EPOCHS, RANGE, InstantPlan, Mortal, Sweep, plan, smooth

from dnntrain.errors import UsageError
from dnntrain.sweep import conductor as conducting
from dnntrain.sweep.board import Stretch

GRID = {"optimizer.lr": [0.001, 0.01, 0.1], "model.activation": ["relu", "swish"]}

SWEEPS: dict[str, dict[str, Any]] = {
    "grid": {"space": GRID, "seeds": 2},
    "folds": {"space": GRID, "folds": 2},
    "random": {"space": RANGE, "search": "random", "trials": 5},
    "tpe": {"space": RANGE, "search": "tpe", "trials": 12, "exclude": [{"model.activation": "relu"}]},
    "asha": {"space": GRID, "prune": {"name": "asha", "eta": 2}, "seeds": 2},
    "hyperband": {"space": RANGE, "search": "qmc", "trials": 8, "prune": "hyperband"},
    "median": {"space": RANGE, "search": "random", "trials": 8, "prune": {"name": "median", "startup": 2}},
    "patience": {"space": RANGE, "search": "random", "trials": 20, "patience": 4},
}
PLANS: dict[str, InstantPlan] = {}


def plan_of(name: str) -> InstantPlan:
    if name not in PLANS:
        sweep = dict(SWEEPS[name])
        PLANS[name] = plan(sweep.pop("space"), **sweep)
    return PLANS[name]


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have figures come from the sweep's own disk, whose directory names them."""
    monkeypatch.setattr(
        conducting, "figure", lambda run, metric, until=None: CURRENT[-1].figure(run, metric, until=until)
    )


CURRENT: list[Sweep] = []


def sweep(name: str, figures: Any = smooth, **rest: Any) -> Sweep:
    CURRENT[:] = [Sweep(plan_of(name), figures, **rest)]
    return CURRENT[0]


def failing(stretch: Stretch, epoch: int) -> float | None:
    """Some runs diverge, one of them late."""
    if stretch.configuration in (1, 3) and stretch.seed == 0 and epoch >= stretch.configuration:
        return None
    return smooth(stretch, epoch)


CRASHES = {(0, 0, None): 2, (2, 0, None): 3}
"""Configuration 0 comes through at the third try; 2 crashes once too often."""


@cache
def undisturbed(name: str) -> Sweep:
    made = sweep(name, failing, crashes=CRASHES)
    made.work()
    return made


@pytest.mark.parametrize("name", SWEEPS)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kills=st.lists(st.integers(0, 150), max_size=8))
def test_killed_at_any_write_it_ends_the_same(name: str, kills: list[int]) -> None:
    whole = undisturbed(name)
    killed = sweep(name, failing, crashes=CRASHES)
    for writes in kills:
        killed.work_and_die(writes)
    killed.work()
    assert killed.table() == whole.table()
    assert set(killed.disk.trained.values()) == {1}, "nothing is trained twice"
    assert killed.disk.trained == whole.disk.trained


@pytest.mark.parametrize("name", ["grid", "random", "asha", "tpe"])
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kills=st.lists(st.integers(0, 150), max_size=8), order=st.integers(0, 9))
def test_killed_with_several_jobs_under_way_nothing_is_lost_or_repeated(
    name: str, kills: list[int], order: int
) -> None:
    killed = sweep(name, slots=3, order=order)
    for writes in kills:
        killed.work_and_die(writes)
    killed.work()
    assert set(killed.disk.trained.values()) == {1}
    configurations = killed.board.configurations()
    assert all(each.finished for each in configurations)
    assert sum(each.ready for each in configurations) == killed.plan.wanted
    if name in ("grid", "random"):
        whole = sweep(name)
        whole.work()
        assert killed.table() == whole.table()


@pytest.mark.parametrize("name", SWEEPS)
def test_every_single_write_may_be_the_last(name: str) -> None:
    whole = sweep(name)
    whole.work()
    assert isinstance(whole.storage, Mortal)
    for write in range(0, whole.storage.writes, 11):
        killed = sweep(name)
        assert not killed.work_and_die(write - 2) or write <= 2
        killed.work()
        assert killed.table() == whole.table(), write
        assert set(killed.disk.trained.values()) == {1}


def test_a_grid_trains_every_run_once_and_ranks_by_the_mean_over_seeds() -> None:
    done = sweep("grid")
    done.work()
    assert done.disk.trained == {(c, s, None, e): 1 for c in range(6) for s in range(2) for e in range(1, EPOCHS + 1)}
    for each in done.board.configurations():
        best = [min(smooth(Stretch(0, each.number, s), e) for e in range(1, EPOCHS + 1)) for s in range(2)]
        assert each.value == pytest.approx(sum(best) / 2)
    assert [row["status"] for row in done.directory.table] == ["done"] * 12


def test_a_failed_run_fails_its_configuration_and_the_sweep_goes_on() -> None:
    done = sweep("grid", failing)
    done.work()
    configurations = done.board.configurations()
    assert [each.number for each in configurations if each.value is None] == [1, 3]
    assert not any(each.pruned for each in configurations)
    assert done.disk.trained[3, 1, None, EPOCHS] == 1, "the other seed is trained"
    failed = [row for row in done.directory.table if row["status"] == "failed"]
    assert [(row["configuration"], row["seed"], row["message"]) for row in failed] == [
        (1, 0, "diverged"),
        (3, 0, "diverged"),
    ]


def test_a_crash_is_tried_again_from_where_it_was_but_not_for_ever() -> None:
    done = sweep("grid", crashes=CRASHES)
    done.work()
    configurations = done.board.configurations()
    assert configurations[0].value is not None
    assert [each.number for each in configurations if each.value is None] == [2]
    lost = Counter(ticket.stretch.run for ticket in done.board.tickets() if ticket.state == "lost")
    assert lost == {(0, 0, None): 2, (2, 0, None): 3}
    directories = {t.directory for t in done.board.tickets() if t.stretch.run == (0, 0, None)}
    assert len(directories) == 1
    (row,) = [row for row in done.directory.table if row["status"] == "lost"]
    assert row["message"] == "try 3 of 3: boom"


def test_a_worker_that_dies_again_and_again_costs_a_run_none_of_its_tries() -> None:
    killed = sweep("grid")
    for _ in range(20):
        killed.work_and_die(9)
    killed.work()
    assert all(each.value is not None for each in killed.board.configurations())


def test_asha_waits_for_others_before_it_sends_one_on() -> None:
    done = sweep("asha")
    done.work()
    rungs = done.plan.rungs(0)
    reached = Counter(len(each.rungs) for each in done.board.configurations())
    assert rungs == (1, 2, 4, 8, None)
    assert reached[len(rungs)] >= 1
    assert done.disk.trained.total() < 6 * 2 * EPOCHS * 0.6
    first = [event for event in done.observer.events if event.kind == "begun"]
    assert [(e.stretch.configuration, e.stretch.rung) for e in first if e.stretch][:4] == [
        (0, 0),
        (0, 0),
        (1, 0),
        (1, 0),
    ]
    ended = [each for each in done.board.configurations() if each.value is not None]
    assert all(each.pruned for each in done.board.configurations() if each not in ended)


def test_the_last_figure_of_a_rung_counts_when_nobody_else_is_to_come() -> None:
    """Configuration 2 is the best, and comes last; the two before it are too few to send one on."""
    CURRENT[:] = [
        Sweep(
            plan({"optimizer.lr": [0.1, 0.2, 0.3]}, prune={"name": "asha", "eta": 4}),
            lambda stretch, epoch: 3.0 - stretch.configuration + 1 / epoch,
        )
    ]
    CURRENT[0].work()
    assert [each.number for each in CURRENT[0].board.configurations() if each.value is not None] == [2]


def test_patience_ends_the_search() -> None:
    done = sweep("patience", lambda stretch, epoch: abs(stretch.configuration - 3.0))
    done.work()
    assert len(done.board.configurations()) == 3 + 4 + 1
    done.work()
    assert len(done.board.configurations()) == 8


def test_timeout_begins_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100_000))
    monkeypatch.setattr(conducting.time, "monotonic", lambda: next(clock))
    CURRENT[:] = [Sweep(plan(RANGE, search="random", timeout="1m"), smooth)]
    CURRENT[0].work()
    done = CURRENT[0].board.configurations()
    assert 2 < len(done) < 40
    assert all(each.finished for each in done)


def test_the_timeout_is_that_of_the_sweep_and_not_of_each_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that goes on with it, or joins it late, has what is left; the break between does not count."""
    now = [0.0]

    def clock() -> float:
        now[0] += 0.25
        return now[0]

    monkeypatch.setattr(conducting.time, "monotonic", clock)
    monkeypatch.setattr(conducting, "NOTE_S", 2.0)
    whole = Sweep(plan(RANGE, search="random", timeout="1m"), smooth)
    CURRENT[:] = [whole]
    whole.work()
    killed = Sweep(plan(RANGE, search="random", timeout="1m"), smooth)
    CURRENT[:] = [killed]
    for _ in range(3):
        killed.work_and_die(100)
        now[0] += 3600
    killed.work()
    assert len(whole.board.configurations()) - 8 <= len(killed.board.configurations())
    assert len(killed.board.configurations()) <= len(whole.board.configurations()) + 8
    before = len(whole.board.configurations())
    CURRENT[:] = [whole]
    whole.work()
    assert len(whole.board.configurations()) == before, "nothing is begun after the end"


def test_excluded_suggestions_come_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conducting, "MOST_EXCLUDED", 20)
    made = plan(RANGE, search="tpe", trials=4)
    monkeypatch.setattr(made.space, "suggest", _refused)
    CURRENT[:] = [Sweep(made, smooth)]
    with pytest.raises(UsageError, match="the last 20 configurations that were suggested are all excluded"):
        CURRENT[0].work()


def _refused(trial: Any) -> None:
    import optuna

    trial.suggest_float("optimizer.lr", 1e-4, 1e-1, log=True)
    raise optuna.TrialPruned


@pytest.mark.parametrize("search", ["tpe", "gp"])
def test_a_search_follows_from_its_seed(search: str) -> None:
    def points(seed: int) -> list[Any]:
        CURRENT[:] = [Sweep(plan(RANGE, search=search, trials=14, seed=seed), by_rate)]
        CURRENT[0].work()
        return [dict(each.labels) for each in CURRENT[0].board.configurations()]

    def by_rate(stretch: Stretch, epoch: int) -> float:
        return abs(CURRENT[0].board.configurations()[stretch.configuration].labels["optimizer.lr"] - 0.01)

    first = points(1)
    assert points(1) == first
    assert points(2) != first
    assert len({each["optimizer.lr"] for each in first}) == 14, "no point comes twice"


def test_several_slots_are_filled_at_once() -> None:
    done = sweep("tpe", slots=3)
    done.work()
    # Told before anything is claimed, and when the first of three has come out.
    assert done.observer.held[:2] == [0, 2]
