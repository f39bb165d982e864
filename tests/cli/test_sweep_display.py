"""What a sweep shows while it goes on."""

from __future__ import annotations

import io
import os
import pty
import re
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console
from warmprocesses import Command

from dnntrain import spec
from dnntrain.cli.watching import Lines, Panel, Silence, settled, spark
from dnntrain.store import RunDirectory
from dnntrain.sweep.conductor import Conductor
from dnntrain.sweep.engines.base import Outcome
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
    first, second, end, given_up = capsys.readouterr().out.splitlines()
    assert first.startswith("[0/2] optimizer.lr=0.01, seed 0: valid/loss ")
    assert first.endswith(" after epoch 1")
    assert second.startswith("[0/2] optimizer.lr=0.1, seed 0: valid/loss ")
    best, other = result.ranking
    assert end == f"[1/2] {best.text}, seed 0: valid/loss {best.value:#.4g}"
    assert given_up == f"[2/2] {other.text}: given up"


def test_what_others_have_done_counts(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    class Impatient(Inline):
        """Is ended after two jobs."""

        done = 0

        def wait(self, timeout: float) -> list[Outcome]:
            if self.done == 2:
                raise KeyboardInterrupt
            self.done += 1
            return super().wait(timeout)

    with pytest.raises(KeyboardInterrupt):
        study.work(Impatient(), observer=Silence())
    study.work(Inline(), observer=Lines(study))
    (end, _) = capsys.readouterr().out.splitlines()
    assert end.startswith("[1/2] ")
    seen: list[int] = []

    class Counting(Silence):
        def on_tick(self, conductor: Conductor, /) -> None:
            seen.append(settled(conductor))

    study.work(Inline(), observer=Counting())
    assert seen[0] == 2, "one was trained to its end and one given up, both before"
    joined = Lines(study)
    study.work(Inline(), observer=joined)
    assert joined._far == "2/2"


def test_the_panel_tells_how_far_it_is_also_while_one_is_trained(study: Study) -> None:
    panel = Panel(study, Console(file=io.StringIO(), width=100))
    seen: list[str] = [panel.render().plain]

    class Watched(Inline):
        def wait(self, timeout: float) -> list[Outcome]:
            seen.append(panel.render().plain)
            told = super().wait(timeout)
            seen.append(panel.render().plain)
            return told

    study.work(Watched(), observer=panel)
    blank, begun, trained, *_, last = [*seen, panel.render().plain]
    assert blank == ""
    assert re.match(r"\n0 of 2 runs, 1 in training; \d\.\d s, ETA -", begun)
    name, seed, epoch, *_, curve = begun.splitlines()[-1].split()
    assert (name, seed, epoch, curve) == ("optimizer.lr=0.01", "0", "0", "-")
    name, seed, epoch, figure, curve = trained.splitlines()[-1].split()
    (run,) = [row["run"] for row in study.directory.read_runs() if row["configuration"] == 0]
    rows = RunDirectory(study.directory.path / run).metrics()
    assert (name, seed, epoch, figure, curve) == ("optimizer.lr=0.01", "0", "1", f"{rows[0]['valid/loss']:#.4g}", "▁")
    assert "2 of 2 runs, 0 in training, 1 pruned" in last
    assert f"best: {study.result().ranking[0].text}: valid/loss" in last


@pytest.mark.process
def test_on_a_terminal_the_table_moves_while_the_only_worker_trains(tmp_path: Path) -> None:
    content = CONFIG.replace("epochs: 2", "epochs: 3").replace("[0.01, 0.1]", "[0.01]")
    (tmp_path / "tiny.yaml").write_text(f"{content}callbacks: [gate]\n")
    ours, theirs = pty.openpty()
    environment = {"OMP_NUM_THREADS": "1", "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    plugin = str(Path(__file__).with_name("gate.py"))
    words = ["sweep", "tiny.yaml", "--prune", "none", "--plugin", plugin]
    process = Command(words, tmp_path, output=theirs, environment=environment)
    os.close(theirs)
    shown = ""
    with suppress(OSError):  # so ends a terminal on Linux
        while part := os.read(ours, 65_536):
            shown += part.decode(errors="replace")
            for epoch in re.findall(r"optimizer\.lr=0\.01 +0 +(\d+) ", shown):
                (tmp_path / f"seen-{epoch}").touch()  # which lets the next one begin
    os.close(ours)
    process.communicate()
    assert process.returncode == 0, shown
    assert {"seen-1", "seen-2"} <= {path.name for path in tmp_path.iterdir()}
