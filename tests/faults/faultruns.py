"""Real processes to train in and to be killed, and what makes two runs the same."""

from __future__ import annotations

import json
import mmap
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from warmprocesses import WARM

from dnntrain.checkpoints import read_checkpoint
from dnntrain.store import RunDirectory
from dnntrain.training.state import differences
from dnntrain.verifying import TIMES

SOAK = bool(os.environ.get("DNNTRAIN_SOAK"))
PATIENCE_S = 120.0

# Ten steps an epoch, and noise, memory and a rate that are all lost if one of them is not brought back.
EXPERIMENT: dict[str, Any] = {
    "name": "short",
    "seed": 5,
    "data": {"dataset": "digits", "limit": 310, "augment": {"name": "random_crop", "padding": 1}},
    "model": {"architecture": {"name": "mlp", "hidden": [16]}, "dropout": {"name": "dropout", "rate": 0.2}},
    "optimizer": {"name": "nadam", "lr": 0.01},
    "schedule": {"name": "performance", "patience": 1, "min_delta": 0.5},
    "training": {
        "epochs": 4,
        "threads": 1,
        "average": {"name": "ema", "decay": 0.9},
        "checkpoint": {"every": 7, "keep": 2},
    },
}


def changed(**training: Any) -> dict[str, Any]:
    """Return the experiment with some options of its training replaced."""
    return {**EXPERIMENT, "training": {**EXPERIMENT["training"], **training}}


class Child:
    """A process that calls a function, or the command `dnntrain`, and writes what it says to files.

    Args:
        folder: where it works, and where its words are kept.
        what: the arguments of the command, or a function.
        before: called in the process first.
    """

    _started = 0

    def __init__(
        self, folder: Path, what: list[str] | Callable[[], object], *, before: Callable[[], object] | None = None
    ) -> None:
        Child._started += 1
        self._words = folder / f".said-{Child._started}.out", folder / f".said-{Child._started}.err"
        self._process = WARM.Process(target=_live, args=(folder, what, before, self._words), daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it as the kernel or a power cut would: without a word."""
        self._process.kill()
        self._process.join(PATIENCE_S)

    def wait(self) -> int:
        """Return its exit code; minus the signal's number where one ended it."""
        self._process.join(PATIENCE_S)
        if self._process.exitcode is None:
            self.kill()
            raise TimeoutError(f"still running: {self.said()}")
        return self._process.exitcode

    @property
    def lives(self) -> bool:
        return self._process.is_alive()

    def said(self) -> tuple[str, str]:
        """Return what it wrote to stdout and to stderr."""
        return self._words[0].read_text(), self._words[1].read_text()


def _live(folder: Path, what: Any, before: Any, words: tuple[Path, Path]) -> None:
    for number, path in enumerate(words, start=1):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(descriptor, number)
    os.chdir(folder)
    torch.set_num_threads(1)
    if before is not None:
        before()
    if callable(what):
        what()
    else:
        from dnntrain.cli import main

        sys.argv = ["dnntrain", *what]
        main()


def until(condition: Callable[[], Any], child: Child | None = None, *, pause: float = 0.002) -> Any:
    """Wait until something is so, and return it; the child must not end before."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        alive = child is None or child.lives
        if found := condition():
            return found
        assert alive, f"ended too early: {child.said() if child else ''}"
        time.sleep(pause)
    raise TimeoutError("it never came to pass")


class Phases:
    """What a process is doing, told through a file that outlives it: one byte for what, the others for how often."""

    NAMES = ("starting", "training", "evaluating", "saving")

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            path.write_bytes(bytes(2 * (1 + len(self.NAMES))))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)

    @property
    def now(self) -> str:
        return self.NAMES[self._map[0]]

    def times(self, name: str) -> int:
        """Return how often a phase was entered."""
        at = 2 * (1 + self.NAMES.index(name))
        return int.from_bytes(self._map[at : at + 2], "little")

    def enter(self, name: str) -> str:
        """Note that a phase begins; return the one that ends."""
        before, number = self.now, self.NAMES.index(name)
        at = 2 * (1 + number)
        self._map[at : at + 2] = (self.times(name) + 1).to_bytes(2, "little")
        self._map[0] = number
        return before

    def back_to(self, name: str) -> None:
        self._map[0] = self.NAMES.index(name)


class TellPhases:
    """Makes this process tell its phases; for `Child(before=...)`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self) -> None:
        from dnntrain.training.trainer import Trainer

        phases = Phases(self.path)
        for owner, method, name in (
            (Trainer, "_train_epoch", "training"),
            (Trainer, "_validate", "evaluating"),
            (RunDirectory, "save_checkpoint", "saving"),
            (RunDirectory, "write_summary", "saving"),
            (RunDirectory, "append_metrics", "saving"),
        ):
            setattr(owner, method, _told(getattr(owner, method), phases, name))


def _told(method: Callable[..., Any], phases: Phases, name: str) -> Callable[..., Any]:
    def telling(*arguments: Any, **named: Any) -> Any:
        before = phases.enter(name)
        try:
            return method(*arguments, **named)
        finally:
            phases.back_to(before)

    return telling


def started(runs: Path) -> RunDirectory | None:
    """Return the run in a folder, if one has started: a directory without a summary is none."""
    found = [path for path in runs.glob("*") if (path / RunDirectory.SUMMARY).exists()]
    assert len(found) < 2, found
    return RunDirectory(found[0]) if found else None


def without_times(value: Any) -> Any:
    """Return a state, a row or a summary without what may differ."""
    dropped = TIMES | {"peak_memory"}
    if isinstance(value, Mapping):
        return {key: without_times(item) for key, item in value.items() if key not in dropped}
    return [without_times(item) for item in value] if isinstance(value, list | tuple) else value


def unlike(one: RunDirectory, other: RunDirectory) -> list[str]:
    """Return what two ended runs differ in, apart from times: in a single bit of state, weights, metrics, summary."""
    found = []
    for name in (one.LAST, one.BEST):
        a, b = (without_times(read_checkpoint(run.checkpoint(name), torch.device("cpu"))) for run in (one, other))
        found += [f"{name}: {path}" for path in differences(a, b)]
    found += [f"metrics: {path}" for path in differences(*(without_times(run.metrics()) for run in (one, other)))]
    found += [f"summary: {path}" for path in differences(*(without_times(run.summary()) for run in (one, other)))]
    kept = ([path.name for path in run.step_checkpoints()] for run in (one, other))
    return found + [f"kept: {path}" for path in differences(*kept)]


def check_readable(run: RunDirectory) -> None:
    """Read every file of a run, as it was left: whole, whatever happened while it was written."""
    for path in run.path.glob("*.json"):
        json.loads(path.read_bytes())
    assert run.status() in ("interrupted", "completed", "failed", "running")
    run.environment()
    assert run.spec_text().endswith("\n")
    epochs = [row["epoch"] for row in run.metrics()]
    assert epochs == list(range(1, len(epochs) + 1))
    for path in (run.path / run.CHECKPOINTS).glob("[!.]*.pt"):
        read_checkpoint(path, torch.device("cpu"))


def leftovers(run: RunDirectory) -> list[str]:
    """Return the files that should not be left when a run is over."""
    return [path.name for path in run.path.rglob("*") if path.suffix == ".tmp" or path.name == run.LOCK]


def die(*_: object) -> None:
    """End this process at once, whatever it is doing."""
    os.kill(os.getpid(), signal.SIGKILL)
