"""What a sweep shows while it goes on."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from rich.live import Live

from dnntrain import spec
from dnntrain.cli.watching import Lines, Panel, spark
from dnntrain.sweep.engines.inline import Inline
from dnntrain.sweep.study import Study

CONFIG = """\
name: tiny
data: {dataset: digits, limit: 64, batch_size: 16}
model: {architecture: {name: mlp, hidden: [8]}}
training: {epochs: 2, device: cpu}
sweep: {space: {optimizer.lr: [0.01, 0.1]}, prune: {name: asha, min_epochs: 1, eta: 2}}
"""


@pytest.fixture
def study(tmp_path: Path) -> Study:
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    return Study.begin(spec.draft(tmp_path / "tiny.yaml"), runs=tmp_path / "runs")


@pytest.mark.parametrize(
    ("values", "drawn"),
    [([], ""), ([1.0], "▁"), ([2.0, 2.0], "▁▁"), ([0.0, 7.0, 3.5, 1.0], "▁█▅▂"), (list(range(20)), "▁▁▂▂▃▃▄▄▅▅▆▆▇▇██")],
)
def test_a_curve_is_drawn_as_a_word(values: list[float], drawn: str) -> None:
    assert spark(values) == drawn


def test_a_line_a_run(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    result = study.work(Inline(), observer=Lines(study))
    first, second, end = capsys.readouterr().out.splitlines()
    assert first.startswith("[0/2] optimizer.lr=0.01, seed 0: valid/loss ")
    assert second.endswith(" so far")
    best = result.ranking[0]
    assert end == f"[1/2] {best.text}, seed 0: valid/loss {best.value:#.4g}"


def test_the_panel_tells_how_far_it_is(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dnntrain.cli.watching._REFRESH_S", 0.0)
    seen: list[str] = []

    class Screen(Live):
        def update(self, renderable: object, *, refresh: bool = False) -> None:  # type: ignore[override]
            out = io.StringIO()
            Console(file=out, width=100).print(renderable)
            seen.append(out.getvalue())

    screen = Screen(console=Console(file=io.StringIO(), width=100))
    study.work(Inline(), observer=Panel(study, screen))
    assert "0 of 2 runs, 0 in training; 0.0 s, ETA -" in seen[0]
    assert "1 of 2 runs, 0 in training" in seen[-1]
    assert f"best: {study.result().ranking[0].text}: valid/loss" in seen[-1]
