"""What is to be done in a sweep, who does it, and what came out: a view of Optuna's storage that all workers share.

Two studies keep it. In one, a trial is a configuration, so that Optuna's samplers and dashboards see what they expect.
In the other, a trial is a *ticket*: one stretch of one run, up to a rung or to the end. A ticket is claimed by the one
transition that Optuna makes atomic in every storage, from waiting to running; so two workers never hold the same one.

Nothing else is kept. Whatever is to be done next follows from these tables (`Conductor.advance`), so that a process may
die between any two writes: the next one to look finds what is missing. Where two find it at once there is one too many;
of configurations of the same number, and of tickets for the same stretch, only the first counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

from optuna.distributions import BaseDistribution
from optuna.exceptions import TrialPruned, UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.study import StudyDirection, load_study
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from dnntrain.sweep.leases import Owner
from dnntrain.sweep.storage import study_of

State = Literal["waiting", "running", "done", "failed", "lost", "left", "superfluous"]
LIVE: Final = ("waiting", "running", "done", "failed")
"""States of tickets that stand for their stretch; others make room for another try."""

_GIVEN_UP: Final[Mapping[Any, State]] = {"failed": "failed", "lost": "lost", "left": "left"}

LED_BY: Final = "led by"
"""Under this word a command keeps its name on a sweep of which it alone knows what is to be tried next."""

_NUMBER: Final = "number"
_EXCLUDED: Final = "excluded"
_STRETCH: Final = "stretch"
_RESULT: Final = "result"
_OWNER: Final = "owner"
_PLACE: Final = "directory"
_BEAT: Final = "beat"


@dataclass(frozen=True, order=True)
class Stretch:
    """One run, up to a rung.

    Attributes:
        rung: which, from 0; a sweep without pruning has one.
        configuration: its number, from 0.
        seed: of the experiment.
        fold: of cross-validation; None without.
    """

    rung: int
    configuration: int
    seed: int
    fold: int | None = None

    @property
    def run(self) -> tuple[int, int, int | None]:
        """The run that this is a stretch of."""
        return self.configuration, self.seed, self.fold


@dataclass(frozen=True)
class Ticket:
    """A stretch to be trained, or that was.

    Attributes:
        id: by which the storage knows it.
        number: in the order of making.
        stretch: what is to be trained.
        state: `waiting`, `running`; `done`; `failed`: for good; `lost`: training crashed; `left`: its worker left it,
            or died; `superfluous`: another one stands for the stretch.
        owner: who trains it, or did.
        directory: of the run, as a path from the sweep's directory; None where none was made yet.
        value: of the sweep's metric.
        message: why it failed.
        reused: whether the run was there before.
    """

    id: int
    number: int
    stretch: Stretch
    state: State
    owner: Owner | None
    directory: str | None
    value: float | None
    message: str
    reused: bool


@dataclass(frozen=True)
class Configuration:
    """A configuration and what has come of it.

    Attributes:
        id: by which the storage knows it.
        number: from 0.
        labels: the value of each axis, by which the space knows the point.
        ready: whether it is to be trained; a sampler may have suggested one that is excluded.
        finished: whether nothing is left to be trained of it.
        value: the mean over its runs, once it is finished; None where it was pruned, or one of them failed.
        pruned: whether it was given up.
        rungs: the mean over its runs at each rung that all of them have reached.
    """

    id: int
    number: int
    labels: Mapping[str, Any]
    ready: bool
    finished: bool
    value: float | None
    pruned: bool
    rungs: Mapping[int, float]


class Board:
    """The two tables of a sweep.

    Args:
        storage: Optuna's.
        name: of the sweep.
        better: whether lower or higher figures are better.
    """

    def __init__(self, storage: BaseStorage, name: str, *, better: Literal["min", "max"]) -> None:
        self.storage = storage
        self.name = name
        direction = StudyDirection.MINIMIZE if better == "min" else StudyDirection.MAXIMIZE
        self._configurations = study_of(storage, name, [direction])
        self._tickets = study_of(storage, f"{name}/runs", [direction])

    def configurations(self) -> list[Configuration]:
        """Read all configurations, in the order of their numbers."""
        return [_configuration(number, trial) for number, trial in enumerate(self._firsts())]

    def tickets(self) -> list[Ticket]:
        """Read all tickets, in the order of making."""
        return [_ticket(trial) for trial in self.storage.get_all_trials(self._tickets, deepcopy=False)]

    def add_configuration(
        self,
        number: int,
        labels: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        *,
        excluded: bool = False,
    ) -> None:
        """Add a configuration that waits to be trained, unless somebody else has been faster.

        Args:
            number: which it is, from 0; all before it must be there.
            labels: the value of each axis that is there.
            distributions: of these axes at least.
            excluded: whether it is none that can be trained, and is kept for the sampler to learn from.
        """
        trial = create_trial(
            state=TrialState.PRUNED if excluded else TrialState.WAITING,
            params=dict(labels),
            distributions={name: distributions[name] for name in labels},
            user_attrs={_NUMBER: number, _EXCLUDED: excluded},
        )
        made = self.storage.create_new_trial(self._configurations, template_trial=trial)
        if self.configurations()[number].id != made:
            self._end(made, TrialState.FAIL)

    def ask(self, number: int, sampler: BaseSampler, suggest: Callable[[Trial], object]) -> None:
        """Have a sampler make up a configuration, from what came of those before it.

        It is made up in memory and then written at once: a trial of the storage would grow value by value, and be left
        half-made by a process that dies.

        Args:
            number: which it is, from 0.
            sampler: which looks at what came of the others.
            suggest: asks a trial for the value of each axis that is there; raises TrialPruned if it cannot be tried.
        """
        memory = InMemoryStorage()
        table = study_of(memory, self.name, self.storage.get_study_directions(self._configurations))
        for each in self._firsts()[:number]:
            memory.create_new_trial(table, template_trial=_begun(each))
        trial = load_study(study_name=self.name, storage=memory, sampler=sampler).ask()
        excluded = False
        try:
            suggest(trial)
        except TrialPruned:
            excluded = True
        self.add_configuration(number, trial.params, trial.distributions, excluded=excluded)

    def add_ticket(self, stretch: Stretch, *, directory: str | None = None) -> None:
        """Add a stretch to be trained.

        Args:
            stretch: what is to be trained.
            directory: where its run was begun.
        """
        fields = {"rung": stretch.rung, "configuration": stretch.configuration, "seed": stretch.seed}
        attributes = {_STRETCH: {**fields, "fold": stretch.fold}, **({_PLACE: directory} if directory else {})}
        self.storage.create_new_trial(
            self._tickets, template_trial=create_trial(state=TrialState.WAITING, user_attrs=attributes)
        )

    def claim(self, owner: Owner) -> Ticket | None:
        """Take the first ticket that waits: of the highest rung, then of the first configuration.

        Returns:
            The ticket, which nobody else has; None if none waits.
        """
        waiting = [ticket for ticket in self.tickets() if ticket.state == "waiting"]
        for ticket in sorted(waiting, key=lambda each: (-each.stretch.rung, each.stretch)):
            if not self._take(ticket.id):
                continue
            if not self._note(ticket.id, _OWNER, str(owner)):
                continue
            now = self.tickets()
            if not any(each.stretch == ticket.stretch and each.state in LIVE for each in now[: ticket.number]):
                return now[ticket.number]
            self._end(ticket.id, TrialState.PRUNED)
        return None

    def ticket(self, ticket: int) -> Ticket:
        """Read one ticket by its id."""
        return _ticket(self.storage.get_trial(ticket))

    def place(self, ticket: int, directory: str) -> bool:
        """Say where the run of a ticket is made, before it is; False if it has been taken away meanwhile."""
        return self._note(ticket, _PLACE, directory)

    def done(self, ticket: int, value: float | None, *, reused: str | None = None) -> bool:
        """Say that a ticket's stretch was trained; False if it has been taken away meanwhile.

        Args:
            ticket: its id.
            value: of the metric; None where that is no number, which is a failure.
            reused: directory of the run, where it was there before.
        """
        if value is None:
            return self.failed(ticket, "the metric has no finite value")
        return self._finish(ticket, {"state": "done", "reused": reused}, TrialState.COMPLETE, value)

    def failed(self, ticket: int, message: str) -> bool:
        """Say that a ticket's stretch cannot be trained; False if it has been taken away meanwhile."""
        return self._finish(ticket, {"state": "failed", "message": message}, TrialState.FAIL)

    def give_back(self, ticket: int, *, crashed: bool, message: str = "") -> bool:
        """Say that somebody else may train a ticket's stretch; False if it has been taken away meanwhile.

        Args:
            ticket: its id.
            crashed: whether training crashed, which is not tried again for ever; else its worker left it.
            message: what is known.
        """
        return self._finish(ticket, {"state": "lost" if crashed else "left", "message": message}, TrialState.FAIL)

    def drop(self, ticket: int) -> bool:
        """Say that a ticket's stretch is not to be trained; False if somebody has it, or it has ended."""
        return self._take(ticket) and self._end(ticket, TrialState.PRUNED)

    def beat(self, ticket: int, said: str) -> None:
        """Note what the owner of a ticket says to show that it lives."""
        self._note(ticket, _BEAT, said)

    def last_beat(self, ticket: int) -> str:
        """Return what the owner of a ticket said last; empty for nothing."""
        return str(self.storage.get_trial(ticket).user_attrs.get(_BEAT, ""))

    def report(self, configuration: Configuration, rung: int, value: float) -> None:
        """Note the mean of a configuration at a rung."""
        if rung not in configuration.rungs:
            with suppress(UpdateFinishedTrialError):
                self.storage.set_trial_intermediate_value(configuration.id, rung, value)

    def begin(self, configuration: Configuration) -> None:
        """Note that training of a configuration begins, so that Optuna does not count it as waiting."""
        self._take(configuration.id)

    def conclude(self, configuration: Configuration, value: float | None, *, pruned: bool = False) -> None:
        """Note that nothing is left to be trained of a configuration.

        Args:
            configuration: which.
            value: the mean over its runs; None where one of them failed.
            pruned: whether it was given up.
        """
        state = TrialState.PRUNED if pruned else TrialState.FAIL if value is None else TrialState.COMPLETE
        self._end(configuration.id, state, value)

    def note(self, key: str, value: Any) -> None:
        """Keep something about the sweep as a whole."""
        self.storage.set_study_user_attr(self._configurations, key, value)

    def noted(self) -> dict[str, Any]:
        """Return what was kept."""
        return self.storage.get_study_user_attrs(self._configurations)

    def _firsts(self) -> list[FrozenTrial]:
        """Return the first trial of each configuration, in the order of their numbers."""
        found: dict[int, FrozenTrial] = {}
        for trial in self.storage.get_all_trials(self._configurations, deepcopy=False):
            found.setdefault(trial.user_attrs[_NUMBER], trial)
        return [found[number] for number in sorted(found)]

    def _take(self, trial: int) -> bool:
        """Take a trial that waits, which only one of several can."""
        try:
            return self.storage.set_trial_state_values(trial, TrialState.RUNNING)
        except UpdateFinishedTrialError:
            return False

    def _finish(self, ticket: int, result: dict[str, Any], state: TrialState, value: float | None = None) -> bool:
        return self._note(ticket, _RESULT, result) and self._end(ticket, state, value)

    def _note(self, ticket: int, key: str, value: Any) -> bool:
        """Write a word on a ticket; False if it has ended."""
        try:
            self.storage.set_trial_user_attr(ticket, key, value)
        except UpdateFinishedTrialError:
            return False
        return True

    def _end(self, trial: int, state: TrialState, value: float | None = None) -> bool:
        """Bring a trial to its end, which only one of several can."""
        try:
            return self.storage.set_trial_state_values(trial, state, None if value is None else [value])
        except UpdateFinishedTrialError:
            return False


def _begun(trial: FrozenTrial) -> FrozenTrial:
    """Return a trial for a sampler to learn from: what waits is as good as begun, and must not be handed out again."""
    if trial.state != TrialState.WAITING:
        return trial
    return create_trial(state=TrialState.RUNNING, params=trial.params, distributions=trial.distributions)


def _ticket(trial: FrozenTrial) -> Ticket:
    attributes = trial.user_attrs
    result = attributes.get(_RESULT, {})
    states: dict[TrialState, State] = {
        TrialState.WAITING: "waiting",
        TrialState.RUNNING: "running",
        TrialState.COMPLETE: "done",
        TrialState.PRUNED: "superfluous",
    }
    return Ticket(
        id=trial._trial_id,
        number=trial.number,
        stretch=Stretch(**attributes[_STRETCH]),
        # Of two that end a ticket at once, one writes the result and the other may end it: then nothing was trained.
        state=states.get(trial.state) or _GIVEN_UP.get(result.get("state"), "lost"),
        owner=Owner.parse(attributes.get(_OWNER, "")),
        directory=result.get("reused") or attributes.get(_PLACE),
        value=trial.value if trial.state == TrialState.COMPLETE else None,
        message=result.get("message", ""),
        reused=bool(result.get("reused")),
    )


def _configuration(number: int, trial: FrozenTrial) -> Configuration:
    complete = trial.state == TrialState.COMPLETE
    return Configuration(
        id=trial._trial_id,
        number=number,
        labels=dict(trial.params),
        ready=not trial.user_attrs[_EXCLUDED],
        finished=trial.state.is_finished(),
        value=trial.value if complete else None,
        pruned=trial.state == TrialState.PRUNED,
        rungs=dict(trial.intermediate_values),
    )
