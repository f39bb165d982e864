"""The loop of every worker of a sweep: find what is to be done, take some of it, have it trained, tell the outcome."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Final, Literal, Protocol

from dnntrain.errors import DnntrainError, StoreError, UsageError
from dnntrain.spec import dump
from dnntrain.store import RunDirectory, SweepDirectory
from dnntrain.store.naming import new_name
from dnntrain.sweep.board import LIVE, Board, Configuration, Stretch, Ticket
from dnntrain.sweep.earlier import Earlier, figure
from dnntrain.sweep.engines.base import Engine, Job, Outcome
from dnntrain.sweep.leases import Beats, Heart, Owner, Watch
from dnntrain.sweep.plan import Plan
from dnntrain.sweep.results import rows

PAUSE_S: Final = 0.5
"""How long a worker without work waits before it looks again."""

NOTE_S: Final = 10.0
"""How often it is noted for how long a sweep has been worked on, where that matters."""

MOST_EXCLUDED: Final = 500
"""So many excluded suggestions in a row, and nothing else is to be expected."""

_SPENT: Final = "spent"
_UNBEGUN: Final = ("waiting", "superfluous")

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
        beats: Beats,
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
        self._by_stretch: Mapping[Stretch, list[Ticket]] = {}
        self._identities: dict[int, str] = {}
        self._me = Owner.me()
        self._written: list[dict[str, Any]] | None = None
        self._before: float = board.noted().get(_SPENT, 0.0)
        self._noted = self._before
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
                    self._release(ticket)
                self._read()
                self._write_runs()
                if self.plan.timeout is not None:
                    self._note_spent()

    def spent(self) -> float:
        """Return for how many seconds the sweep has been worked on: by several at a time once, in breaks not at all."""
        return self._before + time.monotonic() - self._started

    def _note_spent(self) -> None:
        """Tell those who come later for how long the sweep has been worked on; another one may have for longer."""
        self._noted = max(self.spent(), self.board.noted().get(_SPENT, 0.0))
        self.board.note(_SPENT, self._noted)

    def _step(self) -> bool:
        """Do what can be done now, then wait for something to happen; return whether the sweep is finished."""
        self.advance()
        self._observer.on_tick(self)
        if self.plan.timeout is not None and self.spent() - self._noted > NOTE_S:
            self._note_spent()
        claimed = False
        while len(self.held) < self._engine.slots and (ticket := self.board.claim(self._me)) is not None:
            claimed = True
            self._begin(ticket)
        if not self.held and self._is_finished():
            self._observer.on_tick(self)
            return True
        # A run that was there already leaves its slot free, and then there may be more to begin at once.
        for outcome in self._engine.wait(0.0 if claimed else PAUSE_S):
            self._settle(outcome)
        return False

    def advance(self) -> None:
        """Write down what follows from what is written: tickets that are missing, configurations that have ended.

        Whoever calls this, and however often, and wherever the last one died: the tables are the same in the end.
        """
        self._read()
        if any([self._take_back(ticket) for ticket in self.tickets if ticket.state == "running"]):
            self._read()
        standings = {each.number: self._figures(each) for each in self.configurations if each.ready}
        if any([self._conclude(each, standings[each.number]) for each in self.configurations if self._is_open(each)]):
            self._read()
        if self._ends_early() and self._drop_unbegun():
            self._read()
        if self._send_on({number: figures for number, figures in standings.items() if figures}):
            self._read()
        self._begin_more()
        self._write_runs()

    def _is_open(self, configuration: Configuration) -> bool:
        return configuration.ready and not configuration.finished

    def _figures(self, configuration: Configuration) -> list[float | None]:
        """Return what a configuration came to at each rung that it has reached; None where a run failed on the way."""
        if not configuration.finished:
            return self._means(configuration)
        figures: list[float | None] = [configuration.rungs[rung] for rung in sorted(configuration.rungs)]
        failed = configuration.value is None and not configuration.pruned
        return [*figures, None] if failed else figures

    def _means(self, configuration: Configuration) -> list[float | None]:
        """Return the mean of an open configuration at each rung that all of its runs have reached."""
        means: list[float | None] = []
        for rung in range(len(self.plan.rungs(configuration.number))):
            tickets = [self._standing(stretch) for stretch in self.plan.stretches(configuration.number, rung)]
            ended = [ticket for ticket in tickets if ticket is not None and ticket.state in ("done", "failed", "lost")]
            values = [ticket.value for ticket in ended if ticket.value is not None]
            if len(ended) < len(tickets):
                break
            if len(values) < len(tickets):
                return [*means, None]
            means.append(fmean(values))
            self.board.report(configuration, rung, fmean(values))
        return means

    def _conclude(self, configuration: Configuration, figures: list[float | None]) -> bool:
        """Note that a configuration has come to its end, if it has."""
        if None not in figures and len(figures) < len(self.plan.rungs(configuration.number)):
            return False
        self.board.conclude(configuration, figures[-1])
        self._observer.on_event(Event("concluded", configuration.number, value=figures[-1]))
        return True

    def _send_on(self, standings: Mapping[int, list[float | None]]) -> bool:
        """Add the tickets that are missing of what is in training, and of what may train on; give up what may not.

        Args:
            standings: what each configuration came to at the rungs that it has reached.

        Returns:
            Whether anything was written.
        """
        training: list[Configuration] = []
        waiting: list[Configuration] = []
        unbegun: list[Configuration] = []
        for each in filter(self._is_open, self.configurations):
            rung = len(standings.get(each.number, ()))
            # What was ever to be trained stays so, whatever others have come to since.
            begun = any(stretch in self._by_stretch for stretch in self.plan.stretches(each.number, rung))
            (training if begun else waiting if rung else unbegun).append(each)
        written = any([self._add_missing(each, len(standings.get(each.number, ()))) for each in training])
        pruner = self.plan.pruner
        if pruner is None or not waiting:
            return written
        more = bool(training) or not self._nothing_is_asked() or (bool(unbegun) and not self._ends_early())
        sent = pruner.queue([each.number for each in waiting], standings, more=more)
        for each in waiting:
            if each.number in sent:
                self._add_missing(each, len(standings[each.number]))
            elif pruner.final or not (more or sent):
                self.board.conclude(each, None, pruned=True)
                self._observer.on_event(Event("pruned", each.number))
                written = True
        return written or bool(sent)

    def _begin_more(self) -> None:
        """Begin configurations for slots that would stay empty, and have them made up first."""
        room = self._engine.slots - len(self.held) - sum(ticket.state == "waiting" for ticket in self.tickets)
        while room > 0 and not self._ends_early():
            begun = {stretch.configuration for stretch in self._by_stretch}
            unbegun = [each for each in self.configurations if self._is_open(each) and each.number not in begun]
            if not unbegun and self._nothing_is_asked():
                return
            if unbegun:
                self.board.begin(unbegun[0])
                self._add_missing(unbegun[0], 0)
                room -= len(self.plan.stretches(unbegun[0].number, 0))
            else:
                self._ask()
            self._read()

    def _read(self) -> None:
        self.configurations, self.tickets = self.board.configurations(), self.board.tickets()
        by_stretch: dict[Stretch, list[Ticket]] = defaultdict(list)
        for ticket in self.tickets:
            if ticket.state != "superfluous":
                by_stretch[ticket.stretch].append(ticket)
        self._by_stretch = by_stretch
        self._begun = {ticket.stretch.configuration for ticket in self.tickets if ticket.state not in _UNBEGUN}

    def _take_back(self, ticket: Ticket) -> bool:
        """Free a ticket whose worker is dead."""
        if ticket.id in self.held or not self._watch.is_dead(ticket.id, ticket.owner):
            return False
        if not self.board.give_back(ticket.id, crashed=False, message="its worker died"):
            return False
        self._beats.forget(ticket.id)
        self._tell("lost", ticket, message="its worker died; it is taken up again")
        return True

    def _ask(self) -> None:
        """Have one more configuration made up.

        Raises:
            UsageError: only excluded ones are.
        """
        plan, number = self.plan, len(self.configurations)
        if plan.listed:
            point = plan.space.sample(plan.method, plan.sweep.seed, number)
            self.board.add_configuration(number, point.labels, plan.space.distributions())
            return
        for each in range(number, number + MOST_EXCLUDED):
            self.board.ask(each, plan.sampler(each), plan.space.suggest)
            if self.board.configurations()[each].ready:
                return
        raise UsageError(f"the last {MOST_EXCLUDED} configurations that were suggested are all excluded: exclude fewer")

    def _nothing_is_asked(self) -> bool:
        """Whether no configuration will be added any more."""
        return self._ends_early() or sum(c.ready for c in self.configurations) >= self.plan.wanted

    def _standing(self, stretch: Stretch) -> Ticket | None:
        """Return the ticket that stands for a stretch; a lost one only if it is not tried again."""
        tickets = self._by_stretch.get(stretch, [])
        for ticket in tickets:
            if ticket.state in LIVE:
                return ticket
        lost = [ticket for ticket in tickets if ticket.state == "lost"]
        return lost[-1] if len(lost) > self.plan.retries else None

    def _add_missing(self, configuration: Configuration, rung: int) -> bool:
        """Add the tickets that a configuration lacks to reach a rung; return whether there were any."""
        added = False
        for stretch in self.plan.stretches(configuration.number, rung):
            if self._standing(stretch) is None:
                # A run of somebody else's that was found is found again.
                earlier = [t.directory for t in self.tickets if t.stretch.run == stretch.run and not t.reused]
                self.board.add_ticket(stretch, directory=next(filter(None, reversed(earlier)), None))
                added = True
        return added

    def _drop_unbegun(self) -> bool:
        """Take away what waits of configurations that nobody has begun, once none is to be begun any more."""
        unbegun = [
            ticket
            for ticket in self.tickets
            if ticket.state == "waiting" and ticket.stretch.configuration not in self._begun
        ]
        return any([self.board.drop(ticket.id) for ticket in unbegun])

    def _begin(self, ticket: Ticket) -> None:
        """Have a ticket trained, unless its run is there already, or cannot be."""
        self.held[ticket.id] = ticket
        self._heart.hold(ticket.id)
        stretch = ticket.stretch
        if stretch.configuration >= len(self.configurations):
            # Another worker has added it since this one looked.
            self._read()
        until = self.plan.rungs(stretch.configuration)[stretch.rung]
        try:
            spec, identity = self.plan.run(self.configurations[stretch.configuration], stretch)
        except DnntrainError as error:
            self.board.failed(ticket.id, str(error))
            self._forget(ticket.id)
            self._tell("failed", ticket, message=str(error))
            return
        if ticket.directory is None and self._reuse(ticket, identity, until):
            return
        self._identities[ticket.id] = identity
        place = ticket.directory or f"{SweepDirectory.FOLDER}/{new_name(spec.name)}"
        if not self.board.place(ticket.id, place):
            self._forget(ticket.id)
            return
        self.held[ticket.id] = replace(ticket, directory=place)
        self._engine.submit(Job(ticket.id, dump(spec), self._path(place), until, self.plan.plugins))
        self._tell("begun", ticket)

    def _reuse(self, ticket: Ticket, identity: str, until: int | None) -> bool:
        """Take the figure of a run that is there already; return whether there is one, undamaged."""
        found = None if self._earlier is None else self._earlier.find(identity)
        if found is None:
            return False
        try:
            value = figure(found, self.plan.metric, until=until)
        except StoreError:
            return False
        self.board.done(ticket.id, value, reused=self.directory.relative(found))
        self._forget(ticket.id)
        self._tell("reused", ticket, value=value)
        return True

    def _path(self, place: str) -> Path:
        return self.directory.path / place

    def _settle(self, outcome: Outcome) -> None:
        """Write down how a job came out."""
        ticket = self.board.ticket(outcome.key)
        ending, message, value = outcome.ending, outcome.message, None
        if ending in ("ended", "paused"):
            until = self.plan.rungs(ticket.stretch.configuration)[ticket.stretch.rung]
            try:
                value = figure(RunDirectory(self._path(ticket.directory or "")), self.plan.metric, until=until)
            except StoreError as error:
                ending, message = "crashed", str(error)
        if ending in ("ended", "paused"):
            told = self.board.done(ticket.id, value)
        elif ending == "failed":
            told = self.board.failed(ticket.id, message)
        else:
            if ending == "crashed":
                tries = 1 + sum(each.state == "lost" for each in self._by_stretch.get(ticket.stretch, []))
                message = f"try {tries} of {1 + self.plan.retries}: {message}"
            told = self.board.give_back(ticket.id, crashed=ending == "crashed", message=message)
        self._forget(ticket.id)
        # Of a ticket that was taken away, as if this process had died, somebody else will tell.
        identity = self._identities.pop(ticket.id, "")
        if told and ending == "ended" and self._earlier is not None:
            self._earlier.add(identity, RunDirectory(self._path(ticket.directory or "")))
        if told and ending != "interrupted":
            kinds: Mapping[str, Kind] = {"ended": "done", "paused": "paused", "failed": "failed", "crashed": "lost"}
            self._tell(kinds[ending], ticket, value=value, message=message)

    def _release(self, ticket: int) -> None:
        self.board.give_back(ticket, crashed=False)
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
        if self.plan.timeout is not None and self.spent() > self.plan.timeout:
            return True
        if self.plan.patience is None:
            return False
        sign = 1.0 if self.plan.better == "min" else -1.0
        ended = [each for each in self.configurations if each.ready and each.finished]
        losses = [math.inf if each.value is None else sign * each.value for each in ended]
        return bool(losses) and len(losses) - 1 - losses.index(min(losses)) >= self.plan.patience

    def _is_finished(self) -> bool:
        self._read()
        if any(ticket.state in ("waiting", "running") for ticket in self.tickets) or not self._nothing_is_asked():
            return False
        left = [each for each in self.configurations if each.ready and not each.finished]
        return not any(each.number in self._begun or not self._ends_early() for each in left)

    def _write_runs(self) -> None:
        """Write the table of the runs as things stand, if it has changed."""
        table = rows(self.configurations, self.tickets)
        if table != self._written:
            self.directory.write_runs(table)
            self._written = table
