"""The loop of every worker of a sweep: find what is to be done, take some of it, have it trained, tell the outcome."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Final, Literal, Protocol

from dnntrain.errors import DnntrainError
from dnntrain.spec import dump
from dnntrain.store import RunDirectory, SweepDirectory
from dnntrain.store.naming import new_name
from dnntrain.sweep.board import Board, Configuration, Stretch, Ticket
from dnntrain.sweep.earlier import Earlier, figure
from dnntrain.sweep.engines.base import Engine, Job, Outcome
from dnntrain.sweep.leases import FileBeats, Heart, Owner, Watch
from dnntrain.sweep.plan import Plan
from dnntrain.sweep.results import rows

PAUSE_S: Final = 0.5
"""How long a worker without work waits before it looks again."""

Kind = Literal["begun", "reused", "done", "paused", "failed", "lost", "pruned", "concluded"]


@dataclass(frozen=True)
class Event:
    """Something that happened in a sweep.

    Attributes:
        kind: what: a run was begun, found among earlier ones, trained to its end or to a rung, failed for good, or lost
            its process; a configuration was given up, or has been trained to the end.
        configuration: its number.
        stretch: of the run; None where it is about the configuration.
        value: of the sweep's metric.
        message: what else there is to say.
    """

    kind: Kind
    configuration: int
    stretch: Stretch | None = None
    value: float | None = None
    message: str = ""


class Observer(Protocol):
    """Is told what happens."""

    def on_event(self, event: Event, /) -> None:
        """Something happened."""

    def on_tick(self, conductor: Conductor, /) -> None:
        """Called a few times a second."""


class Conductor:
    """One worker of a sweep; there may be many at the same time, on many machines.

    Args:
        plan: what is to be done.
        directory: of the sweep, or of this machine's part of it.
        board: what all workers share.
        engine: trains.
        beats: where workers say that they live.
        earlier: runs that need not be trained again; None to train everything anew.
        observer: is told what happens.
    """

    def __init__(
        self,
        plan: Plan,
        directory: SweepDirectory,
        board: Board,
        engine: Engine,
        beats: FileBeats,
        *,
        earlier: Earlier | None,
        observer: Observer,
        watch: Watch | None = None,
    ) -> None:
        self.plan = plan
        self.directory = directory
        self.board = board
        self.configurations: list[Configuration] = []
        self.tickets: list[Ticket] = []
        self.held: dict[int, Ticket] = {}
        self._engine = engine
        self._beats = beats
        self._heart = Heart(beats)
        self._watch = watch or Watch(beats)
        self._earlier = earlier
        self._observer = observer
        self._me = Owner.me()
        self._started = time.monotonic()

    def run(self) -> None:
        """Work until the sweep is finished.

        Raises:
            Interrupted: a signal asked for the end; what was being trained can be taken up again.
            StoreError: the sweep's state cannot be read or written.
        """
        with self._heart:
            try:
                while not self._step():
                    pass
            finally:
                for outcome in self._engine.close():
                    self._settle(outcome)
                for ticket in list(self.held):
                    self._release(ticket, lost=False)
                self._write_runs()

    def _step(self) -> bool:
        """Do what can be done now, then wait for something to happen; return whether the sweep is finished."""
        self.advance()
        self._observer.on_tick(self)
        while len(self.held) < self._engine.slots and (ticket := self.board.claim(self._me)) is not None:
            self._begin(ticket)
        if not self.held and self._is_finished():
            return True
        for outcome in self._engine.wait(PAUSE_S):
            self._settle(outcome)
        return False

    def advance(self) -> None:
        """Write down what follows from what is written: tickets that are missing, configurations that have ended.

        Whoever calls this, and however often, and wherever the last one died: the tables are the same in the end.
        """
        self._read()
        if any([self._take_back(ticket) for ticket in self.tickets if ticket.state == "running"]):
            self._read()
        if self._ask() or (self._ends_early() and self._drop_unbegun()):
            self._read()
        self._room = self._engine.slots - sum(ticket.state == "waiting" for ticket in self.tickets)
        means = {each.number: self._reached(each.number) for each in self.configurations if each.ready}
        self._table = {number: each for number, each in means.items() if each}
        idle = not any(ticket.state in ("waiting", "running") for ticket in self.tickets)
        unbegun = [c for c in self.configurations if not c.finished and c.number not in self._begun]
        self._more = not idle or not self._nothing_is_asked() or (bool(unbegun) and not self._ends_early())
        changed = [self._advance(configuration) for configuration in self.configurations if not configuration.finished]
        if not self._more and not any(changed):
            for configuration in self.configurations:
                if configuration.ready and not configuration.finished:
                    self._give_up(configuration)

    def _read(self) -> None:
        self.configurations, self.tickets = self.board.configurations(), self.board.tickets()
        self._by_stretch: dict[Stretch, list[Ticket]] = defaultdict(list)
        for ticket in self.tickets:
            self._by_stretch[ticket.stretch].append(ticket)
        idle = ("waiting", "superfluous")
        self._begun = {ticket.stretch.configuration for ticket in self.tickets if ticket.state not in idle}

    def _take_back(self, ticket: Ticket) -> bool:
        """Free a ticket whose worker is dead."""
        if ticket.id in self.held or not self._watch.is_dead(ticket.id, ticket.owner):
            return False
        if not self.board.give_back(ticket.id, lost=True, message="its worker died"):
            return False
        self._tell("lost", ticket, message="its worker died; it is taken up again")
        return True

    def _ask(self) -> bool:
        """Have another configuration made up, where results are looked at and a worker would be idle."""
        wanted = self.plan.wanted
        if self.plan.listed or self._ends_early() or sum(c.ready for c in self.configurations) >= wanted:
            return False
        if len(self.held) >= self._engine.slots or any(ticket.state == "waiting" for ticket in self.tickets):
            return False
        self.board.ask(self.plan.sampler(len(self.configurations)), self.plan.space.suggest)
        return True

    def _nothing_is_asked(self) -> bool:
        """Whether no configuration will be added any more."""
        return self.plan.listed or self._ends_early() or sum(c.ready for c in self.configurations) >= self.plan.wanted

    def _advance(self, configuration: Configuration) -> bool:
        """Add the tickets of a configuration that are missing, or conclude it; return whether anything was written."""
        if not configuration.ready:
            return False
        number, reached = configuration.number, self._table.get(configuration.number, [])
        for rung, mean in enumerate(reached):
            if mean is None:
                self._conclude(configuration, None)
                return True
            self.board.report(configuration, rung, mean)
        if len(reached) == len(self.plan.rungs(number)):
            self._conclude(configuration, reached[-1])
            return True
        # Who was let go on goes on, whatever the others have come to since.
        going = any(self._by_stretch.get(stretch) for stretch in self.plan.stretches(number, len(reached)))
        return (not reached or going or self._goes_on(number)) and self._add_missing(configuration, len(reached))

    def _reached(self, number: int) -> list[float | None]:
        """Return the means of a configuration at the rungs that all of its runs have reached; None for a failure."""
        means: list[float | None] = []
        for rung in range(len(self.plan.rungs(number))):
            tickets = [self._standing(stretch) for stretch in self.plan.stretches(number, rung)]
            if any(ticket is not None and ticket.state in ("failed", "lost") for ticket in tickets):
                return [*means, None]
            values = [ticket.value for ticket in tickets if ticket is not None and ticket.value is not None]
            if len(values) < len(tickets):
                break
            means.append(fmean(values))
        return means

    def _standing(self, stretch: Stretch) -> Ticket | None:
        """Return the ticket that stands for a stretch; a lost one only if it is not tried again."""
        tickets = self._by_stretch.get(stretch, [])
        for ticket in tickets:
            if ticket.state in ("waiting", "running", "done", "failed"):
                return ticket
        lost = [ticket for ticket in tickets if ticket.state == "lost"]
        return lost[-1] if len(lost) > self.plan.retries else None

    def _add_missing(self, configuration: Configuration, rung: int) -> bool:
        """Add tickets; of a configuration that is not begun yet, only where there are workers here to take them."""
        begun = rung > 0 or configuration.number in self._begun
        if not begun and (self._room <= 0 or self._ends_early()):
            return False
        added = 0
        for stretch in self.plan.stretches(configuration.number, rung):
            if self._standing(stretch) is None:
                earlier = [t.directory for t in self.tickets if t.stretch.run == stretch.run and t.directory]
                self.board.add_ticket(stretch, directory=earlier[-1] if earlier else None)
                added += 1
        if added and not begun:
            self.board.begin(configuration)
        self._room -= added
        return added > 0

    def _drop_unbegun(self) -> bool:
        """Take away what waits of configurations that nobody has begun, once none is to be begun any more."""
        unbegun = [
            ticket
            for ticket in self.tickets
            if ticket.state == "waiting" and ticket.stretch.configuration not in self._begun
        ]
        return any([self.board.drop(ticket.id) for ticket in unbegun])

    def _goes_on(self, number: int) -> bool:
        """Whether a configuration that stands at a rung is trained further now."""
        pruner = self.plan.pruner
        if pruner is None or pruner.goes_on(number, self._table, more=self._more):
            return True
        if pruner.final:
            self._give_up(self.configurations[number])
        return False

    def _give_up(self, configuration: Configuration) -> None:
        self.board.conclude(configuration, None, pruned=True)
        self._observer.on_event(Event("pruned", configuration.number))

    def _conclude(self, configuration: Configuration, mean: float | None) -> None:
        self.board.conclude(configuration, mean)
        self._observer.on_event(Event("concluded", configuration.number, value=mean))
        self._write_runs()

    def _begin(self, ticket: Ticket) -> None:
        """Have a ticket trained, unless its run is there already, or cannot be."""
        self.held[ticket.id] = ticket
        self._heart.hold(ticket.id)
        stretch = ticket.stretch
        until = self.plan.rungs(stretch.configuration)[stretch.rung]
        try:
            spec, identity = self.plan.run(self.configurations[stretch.configuration], stretch)
        except DnntrainError as error:
            self.board.failed(ticket.id, str(error))
            self._forget(ticket.id)
            self._tell("failed", ticket, message=str(error))
            return
        found = self._earlier.find(identity) if self._earlier is not None and ticket.directory is None else None
        if found is not None:
            self.board.place(ticket.id, self.directory.relative(found))
            value = figure(found, self.plan.metric, until=until)
            self.board.done(ticket.id, value, reused=True)
            self._forget(ticket.id)
            self._tell("reused", ticket, value=value)
            return
        place = ticket.directory or f"{SweepDirectory.FOLDER}/{new_name(spec.name)}"
        self.board.place(ticket.id, place)
        self._engine.submit(Job(ticket.id, dump(spec), self._path(place), until, self.plan.plugins))
        self._tell("begun", ticket)

    def _path(self, place: str) -> Path:
        return self.directory.path / place

    def _settle(self, outcome: Outcome) -> None:
        """Write down how a job came out."""
        ticket = self.board.ticket(outcome.key)
        if outcome.ending in ("ended", "paused"):
            until = self.plan.rungs(ticket.stretch.configuration)[ticket.stretch.rung]
            value = figure(RunDirectory(self._path(ticket.directory or "")), self.plan.metric, until=until)
            self.board.done(ticket.id, value)
            self._tell("done" if outcome.ending == "ended" else "paused", ticket, value=value)
        elif outcome.ending == "failed":
            self.board.failed(ticket.id, outcome.message)
            self._tell("failed", ticket, message=outcome.message)
        else:
            lost = outcome.ending == "crashed"
            self.board.give_back(ticket.id, lost=lost, message=outcome.message)
            if lost:
                self._tell("lost", ticket, message=outcome.message)
        self._forget(ticket.id)

    def _release(self, ticket: int, *, lost: bool) -> None:
        self.board.give_back(ticket, lost=lost)
        self._forget(ticket)

    def _forget(self, ticket: int) -> None:
        self._heart.drop(ticket)
        self._beats.forget(ticket)
        self.held.pop(ticket, None)

    def _tell(self, kind: Kind, ticket: Ticket, *, value: float | None = None, message: str = "") -> None:
        stretch = ticket.stretch
        self._observer.on_event(Event(kind, stretch.configuration, stretch, value, message))

    def _ends_early(self) -> bool:
        """Whether no configuration is to be begun any more: the time is over, or nothing has become better for long."""
        limit = self.plan.timeout
        if limit is not None and time.monotonic() - self._started > limit:
            return True
        if self.plan.patience is None:
            return False
        values = [each.value for each in self.configurations if each.finished and each.value is not None]
        if not values:
            return False
        best = values.index(min(values) if self.plan.better == "min" else max(values))
        return len(values) - 1 - best >= self.plan.patience

    def _is_finished(self) -> bool:
        self._read()
        if any(ticket.state in ("waiting", "running") for ticket in self.tickets):
            return False
        left = [c for c in self.configurations if c.ready and not c.finished]
        if self._ends_early():
            return not any(configuration.number in self._begun for configuration in left)
        return not left and self._nothing_is_asked()

    def _write_runs(self) -> None:
        """Write the table of the runs as things stand."""
        self._read()
        self.directory.write_runs(rows(self.configurations, self.tickets))
