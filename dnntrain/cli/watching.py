"""What a sweep shows while it goes on: a live table on a terminal, a line for each run elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from rich.console import Group
from rich.live import Live
from rich.text import Text

from dnntrain.cli.output import Voice, duration, figure
from dnntrain.cli.tables import Table
from dnntrain.errors import StoreError, visible
from dnntrain.store import RunDirectory
from dnntrain.sweep.board import Ticket
from dnntrain.sweep.conductor import Conductor, Event, Observer
from dnntrain.sweep.study import Study

_BARS: Final = "▁▂▃▄▅▆▇█"
_SPARK: Final = 16
_REFRESH_S: Final = 0.5


@contextmanager
def display(study: Study, *, silent: bool) -> Iterator[Observer]:
    """Yield what shows the progress of a sweep on stdout."""
    if silent:
        yield Silence()
    elif sys.stdout.isatty():
        with Live(transient=True, auto_refresh=False) as live:
            yield Panel(study, live)
    else:
        yield Lines(study)


class Silence:
    """Shows nothing."""

    def on_event(self, event: Event, /) -> None:
        """Something happened."""

    def on_tick(self, conductor: Conductor, /) -> None:
        """Called a few times a second."""


class Lines:
    """Prints a line for what happens; falls silent when nobody reads them any more."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._known: dict[int, str] = {}
        self._settled = 0
        self._voice = Voice()

    def on_event(self, event: Event, /) -> None:
        """Something happened."""
        if event.kind in ("reused", "done", "failed"):
            self._settled += 1
        if line := self.line(event):
            self._show(line)

    def on_tick(self, conductor: Conductor, /) -> None:
        """Called a few times a second."""
        for each in conductor.configurations:
            if each.ready and each.number not in self._known:
                self._known[each.number] = self._study.plan.point(each).describe()

    def line(self, event: Event) -> str:
        """Return what is printed of an event; nothing where it is not worth a line."""
        name = self._known.get(event.configuration, f"configuration {event.configuration + 1}")
        metric = self._study.plan.metric
        if event.stretch is None:
            return ""
        fold = "" if event.stretch.fold is None else f", fold {event.stretch.fold}"
        run = f"{name}, seed {event.stretch.seed}{fold}"
        if event.kind in ("done", "reused", "paused"):
            words = {"done": "", "reused": " (there already)", "paused": " so far"}[event.kind]
            return f"{run}: {metric} {figure(metric, event.value)}{words}"
        return f"{run}: {event.kind}: {event.message}" if event.kind in ("failed", "lost") else ""

    def _show(self, line: str) -> None:
        self._voice.say(f"[{self._settled}/{self._study.plan.runs}] {visible(line)}")


class Panel(Lines):
    """Keeps a table of what is being trained, and what is known so far, below the lines."""

    def __init__(self, study: Study, live: Live) -> None:
        super().__init__(study)
        self._live = live
        self._started = time.monotonic()
        self._shown = 0.0

    def on_tick(self, conductor: Conductor, /) -> None:
        """Called a few times a second."""
        super().on_tick(conductor)
        if time.monotonic() - self._shown < _REFRESH_S:
            return
        self._shown = time.monotonic()
        width = self._live.console.width
        running = [ticket for ticket in conductor.tickets if ticket.state == "running"]
        text = self._running(conductor, running).text(width) if running else ""
        self._live.update(Group(Text(self._summary(conductor, len(running))), Text(text)), refresh=True)

    def _show(self, line: str) -> None:
        self._live.console.print(f"[{self._settled}/{self._study.plan.runs}] {visible(line)}", markup=False)

    def _summary(self, conductor: Conductor, running: int) -> str:
        """Return one line: how far it is, how long it will take, the best so far."""
        plan = self._study.plan
        spent = time.monotonic() - self._started
        done = self._settled
        ahead = duration(spent / done * (plan.runs - done)) if done else "-"
        states = {"pruned": sum(each.pruned for each in conductor.configurations)}
        states["failed"] = sum(ticket.state == "failed" for ticket in conductor.tickets)
        counts = "".join(f", {count} {state}" for state, count in states.items() if count)
        finished = [each for each in conductor.configurations if each.value is not None]
        best = ""
        if finished:
            pick = min if plan.better == "min" else max
            first = pick(finished, key=lambda each: each.value or 0.0)
            name = self._known.get(first.number, "")
            best = f"\nbest: {visible(name)}: {plan.metric} {figure(plan.metric, first.value)}"
        return f"\n{done} of {plan.runs} runs, {running} in training{counts}; {duration(spent)}, ETA {ahead}{best}\n"

    def _running(self, conductor: Conductor, running: Sequence[Ticket]) -> Table:
        plan = self._study.plan
        shown = Table("in training", ">seed", ">epoch", f">{plan.metric}", "curve")
        for ticket in running:
            curve: list[float] = []
            epoch = 0
            if ticket.directory is not None:
                # It may not be there yet, or be written just now.
                with suppress(StoreError):
                    rows = RunDirectory(conductor.directory.path / ticket.directory).metrics()
                    epoch = rows[-1]["epoch"] if rows else 0
                    curve = [row[plan.metric] for row in rows if isinstance(row.get(plan.metric), float)]
            name = self._known.get(ticket.stretch.configuration, "")
            last = figure(plan.metric, curve[-1]) if curve else "-"
            shown.add(name, str(ticket.stretch.seed), str(epoch), last, spark(curve))
        return shown


def spark(values: Sequence[float]) -> str:
    """Draw a curve as a word: the last values, each as a bar between the lowest and the highest."""
    last = values[-_SPARK:]
    low, high = min(last, default=0.0), max(last, default=0.0)
    span = (high - low) or 1.0
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1))] for value in last)
