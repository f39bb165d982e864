"""What a run shows while it trains: a live display on a terminal, one line per epoch elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskID, TextColumn
from typing_extensions import override

from dnntrain.cli.output import Voice, duration, figure
from dnntrain.training.hooks import Hook, RunView


@contextmanager
def display(*, silent: bool) -> Iterator[Sequence[Hook]]:
    """Yield the hooks that show a run's progress on stdout; none where it is to be silent."""
    if silent:
        yield ()
    elif sys.stdout.isatty():
        progress = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[figures]}")
        )
        with progress:
            yield (LiveDisplay(progress),)
    else:
        yield (EpochLines(),)


class EpochLines(Hook):
    """Prints a line at the end of each epoch; falls silent when nobody reads them any more.

    Args:
        title: what each line begins with.
        voice: what prints them.
    """

    def __init__(self, title: str = "", voice: Voice | None = None) -> None:
        self._title = title
        self._clock = Clock()
        self._voice = voice or Voice()

    @override
    def of_pretraining(self, name: str, /) -> Hook:
        return EpochLines(f"{name}: ", self._voice)

    @override
    def on_fit_start(self, run: RunView, /) -> None:
        self._clock.start(run)

    @override
    def on_epoch_end(self, run: RunView, /) -> None:
        self._voice.say(f"{self._title}{epoch_line(run)}   ETA {self._clock.remaining(run)}")


class LiveDisplay(Hook):
    """Keeps a bar and the running figures up to date, and leaves a line for each epoch above it.

    Args:
        progress: shows them.
        title: what each line begins with.
    """

    def __init__(self, progress: Progress, title: str = "") -> None:
        self._progress = progress
        self._title = title
        self._task = TaskID(0)
        self._clock = Clock()
        self._shown = 0.0
        self._last = ""

    @override
    def of_pretraining(self, name: str, /) -> Hook:
        return LiveDisplay(self._progress, f"{name}: ")

    @override
    def on_fit_start(self, run: RunView, /) -> None:
        self._clock.start(run)
        total = run.epochs * run.steps_per_epoch
        self._task = self._progress.add_task(f"{self._title}epoch 1", total=total, completed=run.step, figures="")

    @override
    def on_step_end(self, run: RunView, /) -> None:
        now = time.monotonic()
        if now - self._shown < 0.1:
            return
        self._shown = now
        loss = f"loss {run.train_loss:.4f}" if run.train_loss is not None else ""
        ahead = self._clock.remaining(run)
        self._progress.update(
            self._task,
            completed=run.step,
            description=f"{self._title}epoch {run.epoch}/{run.epochs}",
            figures=f"step {run.epoch_step}/{run.steps_per_epoch}  {loss}  {self._last}  ETA {ahead}",
        )

    @override
    def on_epoch_end(self, run: RunView, /) -> None:
        value = run.row.get(run.monitor.metric)
        speed = run.row["samples_per_second"] or 0.0
        self._last = f"{run.monitor.metric} {figure(run.monitor.metric, value)}  {speed:,.0f} samples/s"
        self._progress.console.print(self._title + epoch_line(run), markup=False, highlight=False)

    @override
    def on_fit_end(self, run: RunView, /) -> None:
        self._progress.remove_task(self._task)


class Clock:
    """Foretells when training ends, from the steps since it started or went on."""

    def start(self, run: RunView) -> None:
        """Note where and when training starts."""
        self._step, self._time = run.step, time.monotonic()

    def remaining(self, run: RunView) -> str:
        """Return the time to go if all planned epochs are trained."""
        done = run.step - self._step
        if done == 0:
            return "-"
        left = run.epochs * run.steps_per_epoch - run.step
        return duration(left * (time.monotonic() - self._time) / done)


def epoch_line(run: RunView) -> str:
    """Return an epoch's figures on one line; a star marks the best so far."""
    row = run.row
    parts = {
        part: "  ".join(
            f"{key.split('/')[1]} {figure(key, value)}" for key, value in row.items() if key.startswith(f"{part}/")
        )
        for part in ("train", "valid")
    }
    shown = "   ".join(f"{part}: {text}" for part, text in parts.items() if text)
    width = len(str(run.epochs))
    speed = row["samples_per_second"] or 0.0
    star = "*" if run.improved else " "
    return f"epoch {run.epoch:>{width}}/{run.epochs} {star} {shown}   lr {row['lr']:.3g}   {speed:,.0f} samples/s"
