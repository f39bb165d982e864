"""Killed without a word at any moment, a run goes on and ends as one that was left alone, to the last bit."""

from __future__ import annotations

import io
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from faultruns import (
    EXPERIMENT,
    SOAK,
    Child,
    Phases,
    TellPhases,
    changed,
    check_readable,
    die,
    leftovers,
    started,
    unlike,
    until,
)

import dnntrain
from dnntrain.store import RunDirectory, lines

pytestmark = pytest.mark.process

MOMENTS = 50 if SOAK else 6
POINTS = 200 if SOAK else 10
SPECS = {"every 7 steps": EXPERIMENT, "every epoch": changed(checkpoint={"every": "epoch"})}

killed: Counter[str] = Counter()


@pytest.fixture(scope="module", autouse=True)
def figures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Say at the end how many were killed, and while they did what."""
    began = time.monotonic()
    yield
    if SOAK:
        capture = request.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            told = ", ".join(f"{number} {phase}" for phase, number in sorted(killed.items()))
            print(f"\nkilled: {killed.total()} ({told}); {time.monotonic() - began:.0f} s")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], RunDirectory]:
    """Return the run that is left alone, of each experiment."""
    made: dict[str, RunDirectory] = {}

    def of(name: str) -> RunDirectory:
        if name not in made:
            record = dnntrain.train(SPECS[name], runs=tmp_path_factory.mktemp("whole"), test=True)
            made[name] = RunDirectory(record.path)
        return made[name]

    return of


def train(spec: dict[str, Any], runs: Path) -> None:
    dnntrain.train(spec, runs=runs, test=True)


def kill_at(draw: random.Random, folder: Path, phase: str, what: Callable[[], object]) -> str:
    """Kill a process somewhere in a phase, and return what it was really doing."""
    path = folder / f"phases-{draw.random()}"
    phases = Phases(path)
    child = Child(folder, what, before=TellPhases(path))
    entered = draw.randint(1, 4 if phase != "saving" else 14)
    if phase != "starting":
        until(lambda: phases.times(phase) >= entered or not child.lives, pause=0.0)
    time.sleep(draw.uniform(0.0, 0.06 if phase == "starting" else 0.012))
    child.kill()
    return phases.now


def go_on(spec: dict[str, Any], runs: Path) -> RunDirectory:
    """Go on with the run in a folder, or start it where it never did, to the end."""
    run = started(runs)
    if run is None:
        return RunDirectory(dnntrain.train(spec, runs=runs, test=True).path)
    check_readable(run)
    dnntrain.resume(run.path)
    return run


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_killed_at_a_random_moment_it_ends_the_same(
    moment: int, whole: Callable[[str], RunDirectory], folder: Path
) -> None:
    draw = random.Random(moment)
    name = list(SPECS)[moment % 2]
    phase = ("training", "saving", "evaluating", "saving", "starting", "training")[moment % 6]
    runs = folder / "runs"
    killed[kill_at(draw, folder, phase, partial(train, SPECS[name], runs))] += 1
    run = started(runs)
    if run is not None and moment % 3 == 0:
        # Going on can be killed as well.
        check_readable(run)
        killed[kill_at(draw, folder, "saving", partial(dnntrain.resume, run.path)) + ", going on"] += 1
    run = go_on(SPECS[name], runs)
    check_readable(run)
    assert unlike(whole(name), run) == []
    assert leftovers(run) == []
    assert run.status() == "completed"


class DieAt:
    """Kills this process at its N-th change to the file system below a folder; 0 counts and kills never.

    It dies right before a file is made, renamed, linked or removed, and half-way through a write.
    """

    CHANGES = frozenset({"open", "os.rename", "os.link", "os.remove", "os.truncate", "os.mkdir"})

    def __init__(self, folder: Path, number: int, count: Path | None = None) -> None:
        self.folder, self.number, self.count = str(folder), number, count
        self.seen = 0

    def __call__(self) -> None:
        sys.addaudithook(self.watch)
        lines.FileIO = self.torn(io.FileIO)  # type: ignore[misc]
        opened = Path.open

        def opening(path: Path, mode: str = "r", *others: Any, **named: Any) -> Any:
            file = opened(path, mode, *others, **named)
            if "b" not in mode or "r" in mode:
                return file
            return self.torn(io.BufferedWriter)(file.detach())

        Path.open = opening  # type: ignore[method-assign,assignment]

    def watch(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in self.CHANGES or not str(arguments[0]).startswith(self.folder):
            return
        if event != "open" or arguments[2] & (os.O_WRONLY | os.O_RDWR):
            self.change(die)

    def change(self, end: Callable[[], object]) -> None:
        self.seen += 1
        if self.count is not None:
            self.count.write_text(str(self.seen))
        elif self.seen == self.number:
            end()

    def torn(self, kind: type[Any]) -> Any:
        """Return a kind of file that takes the first half of its last words."""
        changed = self.change

        class Torn(kind):
            def write(self, content: Any) -> Any:
                def end() -> None:
                    super(Torn, self).write(bytes(content)[: len(content) // 2])
                    self.flush()
                    die()

                changed(end)
                return super().write(content)

        return Torn


@pytest.fixture(scope="module")
def changes(tmp_path_factory: pytest.TempPathFactory) -> int:
    """Return how many changes to the file system a run makes."""
    folder = tmp_path_factory.mktemp("counted")
    work = partial(train, SPECS["every 7 steps"], folder / "runs")
    assert Child(folder, work, before=DieAt(folder / "runs", 0, folder / "count")).wait() == 0
    return int((folder / "count").read_text())


@pytest.mark.parametrize("point", range(POINTS))
def test_no_change_to_the_file_system_is_a_bad_one_to_die_at(
    point: int, changes: int, whole: Callable[[str], RunDirectory], folder: Path
) -> None:
    number = 1 + (2 * point + 1) * changes // (2 * POINTS)
    runs, name = folder / "runs", "every 7 steps"
    child = Child(folder, partial(train, SPECS[name], runs), before=DieAt(runs, number))
    assert child.wait() == -9
    killed["at a change to the file system"] += 1
    run = go_on(SPECS[name], runs)
    assert unlike(whole(name), run) == []
    assert leftovers(run) == []
