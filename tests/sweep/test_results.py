from __future__ import annotations

from typing import Any

import pytest
from tinysweeps import draft

from dnntrain.sweep.board import Configuration, Stretch, Ticket
from dnntrain.sweep.plan import Plan
from dnntrain.sweep.results import result, rows

LRS = ["0.001", "0.01", "0.1", "0.2", "0.3"]


@pytest.fixture
def plan() -> Plan:
    return Plan(draft({"optimizer.lr": [float(lr) for lr in LRS]}, seeds=2, prune="asha"))


def configuration(number: int, value: float | None, rungs: dict[int, float], **state: Any) -> Configuration:
    given = {"ready": True, "finished": True, "pruned": False, **state}
    return Configuration(number, number, {"optimizer.lr": LRS[number]}, value=value, rungs=rungs, **given)


def ticket(number: int, stretch: Stretch, value: float | None, state: Any = "done") -> Ticket:
    return Ticket(number, number, stretch, state, None, f"runs/{number}", value, "", False)


def test_those_that_came_further_stand_before_those_that_were_better_early(plan: Plan) -> None:
    configurations = [
        configuration(0, None, {0: 0.1}, pruned=True),
        configuration(1, None, {0: 3.0, 1: 2.5}, pruned=True),
        configuration(2, None, {0: 0.2}, pruned=True),
        configuration(3, 1.5, {0: 3.0, 1: 2.0, 2: 1.6, 3: 1.5}),
        configuration(4, 1.0, {0: 3.0, 1: 2.0, 2: 1.1, 3: 1.0}),
    ]
    done = [ticket(i, Stretch(3, number, 0), value) for i, (number, value) in enumerate([(3, 1.5), (4, 1.0)])]
    found = result(plan, configurations, done)
    assert [each.number for each in found.ranking] == [4, 3, 1, 0, 2]
    assert [(each.epoch, each.so_far) for each in found.ranking] == [(None, None)] * 2 + [(3, 2.5), (1, 0.1), (1, 0.2)]
    assert [each.state for each in found.ranking] == ["done", "done", "pruned", "pruned", "pruned"]


def test_the_verdict_is_of_the_first_two_by_seed(plan: Plan) -> None:
    figures = [(0, 0, 1.0), (0, 1, 1.1), (1, 0, 5.0), (1, 1, 5.2)]
    tickets = [ticket(i, Stretch(2, number, seed), value) for i, (number, seed, value) in enumerate(figures)]
    found = result(plan, [configuration(0, 1.05, {}), configuration(1, 5.1, {})], tickets)
    assert found.verdict.startswith("the best beside the second best: better by 4.05")
    assert found.best is not None and "1.05 (runs: 1, 1.1)" in found.best
    assert result(plan, [configuration(0, 1.05, {})], tickets[:2]).verdict == ""


def test_of_a_run_the_last_stretch_counts() -> None:
    tickets = [
        ticket(0, Stretch(0, 0, 7), 3.0),
        ticket(1, Stretch(1, 0, 7), None, "left"),
        ticket(2, Stretch(1, 0, 7), 2.0),
        ticket(3, Stretch(1, 0, 7), None, "superfluous"),
    ]
    (row,) = rows([configuration(0, 2.0, {})], tickets)
    assert (row["value"], row["run"], row["status"]) == (2.0, "runs/2", "done")
