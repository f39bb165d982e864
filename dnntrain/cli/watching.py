"""What a sweep shows while it goes on: a live table on a terminal, a line for each run elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.text import Text

from dnntrain.cli.output import Voice, duration, figure
from dnntrain.cli.tables import Table
from dnntrain.errors import StoreError, visible
from dnntrain.store import RunDirectory
from dnntrain.sweep.board import Stretch, Ticket
from dnntrain.sweep.conductor import Conductor, Event, Observer
from dnntrain.sweep.plan import Plan
from dnntrain.sweep.study import Study

_BARS: Final = "▁▂▃▄▅▆▇█"
_SPARK: Final = 16
_REFRESHES: Final = 2
"""A second, of what is seen on a terminal."""


@contextmanager
def display(study: Study, *, silent: bool) -> Iterator[Observer]:
    """Yield what shows the progress of a sweep on stdout."""
    if silent:
        yield Silence()
    elif sys.stdout.isatty():
        panel = Panel(study, screen := Console())
        # In a thread of its own: with one worker, training goes on in this one.
        with Live(console=screen, get_renderable=panel.render, transient=True, refresh_per_second=_REFRESHES):
            yield panel
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
        plan = self._study.plan
        self._settled += (
            len(plan.stretches(event.configuration, 0)) if event.kind == "pruned" else _settles(event, plan)
        )
        if line := self.line(event):
            self._show(line)

    def on_tick(self, conductor: Conductor, /) -> None:
        """Called a few times a second."""
        # Others may be at work too, or have been.
        self._settled = settled(conductor)
        for each in conductor.configurations:
            if each.ready and each.number not in self._known:
                self._known[each.number] = self._study.plan.point(each).describe()

    def line(self, event: Event) -> str:
        """Return what is printed of an event; nothing where it is not worth a line."""
        plan = self._study.plan
        name = self._known.get(event.configuration, f"configuration {event.configuration + 1}")
        if event.stretch is None:
            return f"{name}: given up" if event.kind == "pruned" else ""
        fold = "" if event.stretch.fold is None else f", fold {event.stretch.fold}"
        run = f"{name}, seed {event.stretch.seed}{fold}"
        if event.kind in ("done", "reused", "paused"):
            until = plan.rungs(event.configuration)[event.stretch.rung]
            rung = "" if until is None else f" after epoch {until}"
            there = " (there already)" if event.kind == "reused" else ""
            return f"{run}: {plan.metric} {figure(plan.metric, event.value)}{rung}{there}"
        return f"{run}: {event.kind}: {event.message}" if event.kind in ("failed", "lost") else ""

    @property
    def _far(self) -> str:
        """How far the sweep is, where it is known how far it goes."""
        plan = self._study.plan
        return f"{self._settled}" if plan.endless else f"{self._settled}/{plan.runs}"

    def _show(self, line: str) -> None:
        self._voice.say(f"[{self._far}] {visible(line)}")


def settled(conductor: Conductor) -> int:
    """Return of how many runs nothing is left to be trained, whoever has trained them."""
    plan = conductor.plan
    ended = {each.number for each in conductor.configurations if each.ready and each.finished}
    runs = {
        ticket.stretch.run
        for ticket in conductor.tickets
        if ticket.stretch.configuration not in ended
        and (ticket.state == "failed" or (ticket.state == "done" and _is_last(ticket.stretch, plan)))
    }
    return len(runs) + sum(len(plan.stretches(number, 0)) for number in ended)


def _settles(event: Event, plan: Plan) -> bool:
    """Whether nothing is left to be trained of a run that something happened to."""
    if event.stretch is None or event.kind not in ("done", "reused", "failed"):
        return False
    return event.kind == "failed" or _is_last(event.stretch, plan)


def _is_last(stretch: Stretch, plan: Plan) -> bool:
    return stretch.rung == len(plan.rungs(stretch.configuration)) - 1


class Panel(Lines):
    """Keeps a table of what is being trained, and what is known so far, below the lines.

    Args:
        study: the sweep.
        screen: where lines are printed, above what `render` returns.
    """

    def __init__(self, study: Study, screen: Console) -> None:
        super().__init__(study)
        self._screen = screen
        self._started = time.monotonic()
        self._there = 0
        self._conductor: Conductor | None = None

    def on_event(self, event: Event, /) -> None:
        """Something happened."""
        super().on_event(event)
        if event.kind == "reused":
            self._there += _settles(event, self._study.plan)

    def on_tick(self, conductor: Conductor, /) -> None:
        """Called a few times a second."""
        super().on_tick(conductor)
        if self._conductor is None:
            self._there = self._settled
        self._conductor = conductor

    def render(self) -> Text:
        """Return what is seen at this moment, whatever the conductor is at."""
        conductor = self._conductor
        if conductor is None:
            return Text()
        # What others train is known from the last look at the tables; what this one does, at once.
        running = {ticket.id: ticket for ticket in conductor.tickets if ticket.state == "running"}
        running |= {ticket.id: ticket for ticket in list(conductor.held.values())}
        table = self._running(conductor, list(running.values())).text(self._screen.width) if running else ""
        return Text(self._summary(conductor, len(running)) + table)

    def _show(self, line: str) -> None:
        self._screen.print(f"[{self._far}] {visible(line)}", markup=False)

    def _summary(self, conductor: Conductor, running: int) -> str:
        """Return one line: how far it is, how long it will take, the best so far."""
        plan = self._study.plan
        spent = time.monotonic() - self._started
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
        runs = "runs" if plan.endless else f"of {plan.runs} runs"
        ahead = self._ahead(conductor, spent)
        return f"\n{self._settled} {runs}, {running} in training{counts}; {duration(spent)}, ETA {ahead}{best}\n"

    def _ahead(self, conductor: Conductor, spent: float) -> str:
        """Return how long it will take: as long as the runs that were trained before our eyes, or until the timeout."""
        plan = self._study.plan
        trained = self._settled - self._there
        ways = [] if plan.timeout is None else [max(0.0, plan.timeout - conductor.spent())]
        if trained > 0 and not plan.endless:
            ways.append(spent / trained * (plan.runs - self._settled))
        return duration(min(ways)) if ways else "-"

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
