"""The table of docs/results.md is rebuilt from run directories."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import dnntrain

SCRIPT = Path(__file__).parent.parent / "docs" / "exercise.py"


@pytest.fixture
def exercise() -> ModuleType:
    found = importlib.util.spec_from_file_location("exercise", SCRIPT)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_every_variant_is_a_shipped_config(exercise: ModuleType) -> None:
    assert all((exercise.CONFIGS / f"{variant}.yaml").exists() for variant in exercise.VARIANTS)


def test_the_table_has_a_row_a_variant_and_a_figure_a_seed(
    exercise: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in (44, 42):
        mapping = {
            "name": "cifar_selu",
            "seed": seed,
            "data": {"dataset": "digits", "limit": 100},
            "model": {"architecture": {"name": "mlp", "hidden": [8]}},
            "training": {"epochs": 2, "threads": 1},
        }
        dnntrain.train(mapping, runs=tmp_path / "runs", test=True)
    page = tmp_path / "results.md"
    page.write_text(f"before\n{exercise.BEGIN}\nold\n{exercise.END}\nafter\n")
    monkeypatch.setattr(exercise, "PAGE", page)
    exercise.tabulate(tmp_path / "runs")
    before, begin, head, rule, row, end, after = page.read_text().splitlines()
    assert (before, begin, end, after) == ("before", exercise.BEGIN, exercise.END, "after")
    assert row.startswith("| cifar_selu | 42 / 44 | ")
    assert head.count("|") == rule.count("|") == row.count("|")
