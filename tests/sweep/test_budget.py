"""What a sweep is expected to take, and how it is made to fit into a budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tinysweeps import draft

from dnntrain.errors import UsageError
from dnntrain.parts.pruners import asha, hyperband
from dnntrain.spec import Draft
from dnntrain.sweep import budget
from dnntrain.sweep.plan import Plan
from dnntrain.sweep.probing import Measured, Probe, find_kinds, looked_at, probe, spread

HIDDEN = "model.architecture"


def mlps(*units: int) -> dict[str, Any]:
    return {HIDDEN: [{"name": "mlp", "hidden": [each]} for each in units]}


def fake(plan: Plan, *, step_s: float = 0.001, start_s: float = 1.0) -> Probe:
    """Return what a probe of a machine would say where validation and writing take no time."""
    points = looked_at(plan)
    kinds = find_kinds(plan, points)
    measured = [Measured(kind, 100, start_s, step_s, 0.0, 0.0, 1000, 10.0, 2**20, "cpu") for kind in spread(kinds, 4)]
    return Probe(kinds, measured, len(points), not plan.listed, 1.0, 1)


def planned(made: Draft) -> tuple[Plan, Probe]:
    plan = Plan(made)
    return plan, fake(plan)


def epoch_s(found: Probe) -> float:
    return found.measured[0].epoch_s(found.kinds[0])


def test_what_takes_no_time_makes_no_kind() -> None:
    plan = Plan(draft({"optimizer.lr": [0.1, 0.01], "model.initializer": ["he_normal", "lecun_normal"], **mlps(3, 9)}))
    kinds = find_kinds(plan, looked_at(plan))
    assert [kind.share for kind in kinds] == [0.5, 0.5]
    assert [kind.parameters for kind in kinds] == [64 * 3 + 3 + 3 * 10 + 10, 64 * 9 + 9 + 9 * 10 + 10]


def test_batches_and_optimizers_make_kinds() -> None:
    plan = Plan(draft({"data.batch_size": [16, 64], "optimizer": ["sgd", "adamw"]}))
    kinds = find_kinds(plan, looked_at(plan))
    assert len(kinds) == 4
    assert {kind.steps for kind in kinds} == {-(-kinds[0].train // 16), -(-kinds[0].train // 64)}


def test_the_measured_ones_are_far_apart_and_the_others_take_the_nearest() -> None:
    plan = Plan(draft(mlps(2, 3, 40, 400, 500)))
    kinds = find_kinds(plan, looked_at(plan))
    chosen = spread(kinds, 3)
    assert [kind.text.split("[")[1] for kind in chosen] == ["500]}", "2]}", "40]}"]
    measured = [Measured(kind, 1, 0.0, float(i), 0.0, 0.0, 0, 0.0, 0, "cpu") for i, kind in enumerate(chosen)]
    found = Probe(kinds, measured, 5, False, 1.0, 1)
    assert [found.nearest(kind).step_s for kind in kinds] == [1.0, 1.0, 2.0, 0.0, 0.0]
    assert len(spread([kinds[0]], 4)) == 1


def test_expectation_of_a_grid() -> None:
    plan, found = planned(draft({"optimizer.lr": [0.1, 0.01, 0.001]}, seeds=2))
    one_run = 1.0 + 20 * epoch_s(found)
    expected = budget.expect(plan, found, 2)
    assert (expected.configurations, expected.runs, expected.epochs) == (3, 6, 120)
    assert expected.compute_s == pytest.approx(6 * one_run)
    assert expected.clock_s == pytest.approx(3 * one_run)
    assert budget.expect(plan, found, 4).clock_s == pytest.approx(2 * one_run)
    assert expected.disk == pytest.approx(6 * (1000 + 20 * 10))


def test_a_timeout_cuts_off() -> None:
    plan, found = planned(draft({"optimizer.lr": {"log": [0.001, 0.1]}}, trials=1000, timeout="60s"))
    expected = budget.expect(plan, found, 1)
    assert expected.cut_off
    assert 60 <= expected.clock_s <= 60 + 1.0 + 20 * epoch_s(found)


def test_work_goes_to_whoever_is_free() -> None:
    assert budget.scheduled([3.0, 1.0, 1.0, 1.0], 2) == 3.0
    assert budget.scheduled([1.0, 1.0, 3.0], 2) == 4.0


@pytest.mark.parametrize("eta", [2, 3])
def test_halving_is_near_the_arithmetic(eta: int) -> None:
    epochs = eta**3
    found = budget.halving(asha(epochs, "min", eta=eta), epochs, epochs)
    # In the best order, 1 / eta go on from each rung; a random one takes somewhat more, and never less.
    reached = [epochs // eta**k for k in range(4)]
    least = sum(n * (eta**k - (eta ** (k - 1) if k else 0)) for k, n in enumerate(reached))
    assert least <= found.share * epochs * epochs <= 1.5 * least
    assert sum(reached) / epochs <= found.stretches <= 1.3 * sum(reached) / epochs


def test_hyperband_trains_more_than_asha_and_less_than_all() -> None:
    shares = [budget.halving(make(27, "min"), 49, 27).share for make in (asha, hyperband)]
    assert shares[0] < shares[1] < 0.5


def test_a_pruner_without_a_later_rung_saves_nothing() -> None:
    assert budget.halving(asha(9, "min", min_epochs=9), 5, 9) == budget.Halving(1.0, 1.0)


def test_what_fits_is_left_alone() -> None:
    made = draft({"optimizer.lr": [0.1, 0.01]})
    plan, found = planned(made)
    fitted = budget.fit(made, plan, found, 1, 3600)
    assert fitted.draft is made
    assert not fitted.words


def test_a_grid_is_cut_in_epochs_and_no_more_than_needed() -> None:
    made = draft({"optimizer.lr": [0.1, 0.01]})
    plan, found = planned(made)
    seconds = (2 * 1.0 + 2 * 10.5 * epoch_s(found)) / (1 - budget.RESERVE)
    fitted = budget.fit(made, plan, found, 1, seconds)
    assert fitted.draft.spec().training.epochs == 10
    assert "cut from 20" in fitted.words[0]
    assert fitted.expectation.clock_s == budget.expect(Plan(fitted.draft), found, 1, epochs=10).clock_s <= 0.9 * seconds


def test_a_search_is_cut_in_trials_first_then_in_epochs() -> None:
    made = draft({"optimizer.lr": {"log": [0.001, 0.1]}}, trials=100)
    plan, found = planned(made)
    one_run = 1.0 + 20 * epoch_s(found)
    fitted = budget.fit(made, plan, found, 1, 30.5 * one_run / 0.9)
    changed = fitted.draft.spec()
    assert changed.sweep is not None
    assert (changed.sweep.trials, changed.training.epochs) == (30, 20)
    changed = budget.fit(made, plan, found, 1, 0.8 * 10 * one_run / 0.9).draft.spec()
    assert changed.sweep is not None
    assert changed.sweep.trials == budget.FEWEST_TRIALS
    assert 10 <= changed.training.epochs < 20


def test_without_trials_the_budget_says_how_many() -> None:
    made = draft({"optimizer.lr": {"log": [0.001, 0.1]}}, budget="1h", patience=1000)
    plan, found = planned(made)
    fitted = budget.fit(made, plan, found, 2, 40 * (1.0 + 20 * epoch_s(found)) / 0.9)
    assert Plan(fitted.draft).wanted == 80


def test_too_little_is_told_with_what_would_fit() -> None:
    made = draft({"optimizer.lr": [0.1, 0.01, 0.001]}, seeds=4)
    plan, found = planned(made)
    with pytest.raises(UsageError, match=r"12 runs of 2 epochs.*use 1 seed instead of 4.*workers"):
        budget.fit(made, plan, found, 1, 6.0)


def test_searched_epochs_are_not_cut() -> None:
    made = draft({"training.epochs": [10, 20]})
    plan, found = planned(made)
    assert sorted(kind.epochs for kind in found.kinds) == [10, 20]
    with pytest.raises(UsageError, match=r"training\.epochs is searched"):
        budget.fit(made, plan, found, 1, 1.5)


def test_it_is_said_in_lines() -> None:
    plan, found = planned(draft({"optimizer.lr": [0.1, 0.01]}, prune="asha"))
    huge = replace(budget.expect(plan, found, 2), memory=2**50)
    text = "\n".join(budget.describe(huge))
    assert "2 configurations, 2 runs, about" in text
    assert "under asha" in text
    assert "warning: 2 workers need" in text
    assert "measured on 100 steps" in text


def test_the_first_configurations_are_shown() -> None:
    plan = Plan(draft({"optimizer.lr": [i / 1000 for i in range(1, 26)]}))
    lines = budget.preview(plan)
    assert len(lines) == 21
    assert lines[0] == "1  optimizer.lr=0.001"
    assert lines[-1] == "... and 5 more"


def test_pretraining_is_foretold_and_not_gone_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ways: list[Any] = ["none", *({"name": "rbm", "visible": "gaussian", "epochs": epochs} for epochs in (100, 10_000))]
    networks = {f"model.{key}": [value] for key, value in (("activation", "sigmoid"), ("normalization", "none"))}
    found = probe(Plan(draft({"pretraining": ways, **networks})), seconds=0.6, threads=1)
    assert found.seconds < 30, "ten thousand epochs take longer"
    starts = {
        each.kind.spec.pretraining[0].options.epochs if each.kind.spec.pretraining else 0: each.start_s  # type: ignore[attr-defined]
        for each in found.measured
    }
    assert starts[10_000] > 60
    # A hundred times as long; measured beside other work, so to an order of magnitude.
    assert 10 < (starts[10_000] - starts[0]) / (starts[100] - starts[0]) < 1000


def test_a_real_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    plan = Plan(draft({"optimizer.lr": [0.1, 0.01], **mlps(3, 30)}))
    found = probe(plan, seconds=0.6, threads=1)
    assert not list(tmp_path.glob("tmp*"))
    assert len(found.measured) == 2
    for each in found.measured:
        assert each.steps >= 1
        assert 0 < each.step_s < 1
        assert each.start_s > 0
        assert each.valid_s > 0
        # Weights, two moments, and the best weights: four bytes each.
        assert each.run_bytes > 4 * 4 * each.kind.parameters
        assert 100 < each.epoch_bytes < 10_000
        assert each.memory > 10**7
