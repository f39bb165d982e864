"""What a change of the experiment means for a training that is under way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from dnntrain.registry import plain
from dnntrain.spec.schema import Spec
from dnntrain.store import flatten

Effect = Literal["goes on", "starts afresh", "impossible"]

_ORDER: Final = ("batches", "tally")
_JUDGEMENT: Final = ("best", "callbacks", "schedule")
_STAGES: Final = "training.stages"


@dataclass(frozen=True)
class Change:
    """A key of the file with another value than training began with.

    Attributes:
        key: dotted.
        old: the value until now; None where there was none.
        new: the value from now on.
        effect: whether training just goes on with the new value, or something starts afresh, or it cannot be.
        states: the states of training that start afresh, by name or by the beginning of their names.
        what: what starts afresh, or why it cannot be, for people.
    """

    key: str
    old: Any
    new: Any
    effect: Effect
    states: tuple[str, ...] = ()
    what: str = ""

    def __str__(self) -> str:
        line = f"{self.key}: {self.old} -> {self.new}"
        return line + (f" ({self.what})" if self.what else "")


@dataclass(frozen=True)
class _Rule:
    """What a change of the keys that begin so means."""

    keys: tuple[str, ...]
    effect: Effect
    states: tuple[str, ...] = ()
    what: str = ""


# The first rule that fits a key counts; what no rule names just takes effect from the next step on.
_RULES: Final = (
    _Rule(("model.reuse.freeze",), "starts afresh", ("optimizer",), "what the optimizer remembers"),
    _Rule(
        ("model.reuse.from", "model.reuse.keep", "model.reuse.names"),
        "impossible",
        what="layers were taken over when the run began",
    ),
    _Rule(("model",), "impossible", what="the weights belong to another network"),
    _Rule(
        ("data.dataset", "data.classes", "data.validation", "data.limit", "data.resize", "data.standardize"),
        "impossible",
        what="the network was trained on other samples, or on inputs standardized otherwise",
    ),
    _Rule(("pretraining", "data.unlabeled"), "impossible", what="training began with layers that were pretrained so"),
    _Rule(("loss",), "impossible", what="what was best until now was judged by another loss"),
    _Rule(("seed",), "starts afresh", (*_ORDER, "random"), "the order of the samples, and noise"),
    _Rule(("data", "training.accumulate"), "starts afresh", _ORDER, "the order of the samples"),
    _Rule(("metrics",), "starts afresh", _ORDER, "an epoch that was left in the middle"),
    _Rule(
        ("optimizer.name", "optimizer.groups"),
        "starts afresh",
        ("optimizer",),
        "what the optimizer remembers",
    ),
    _Rule(("schedule.name", "schedule.warmup"), "starts afresh", ("schedule", "rates"), "the schedule's own state"),
    _Rule(("training.average",), "starts afresh", ("training.average",), "the average of the weights"),
    _Rule(("training.monitor",), "starts afresh", _JUDGEMENT, "what was best, and patience"),
    _Rule(("training.precision",), "starts afresh", ("scaler",), "the scale of the loss"),
)


def changes(old: Spec, new: Spec, *, stage: int = 0) -> list[Change]:
    """Return what differs between two resolved experiments, and what each difference means for going on.

    Args:
        old: what training began with.
        new: what it is to go on with.
        stage: where training was left, from 1; 0 where it is not divided, or did not begin.
    """
    before, after = flatten(plain(old)), flatten(plain(new))
    before, after = _in_full(before, after), _in_full(after, before)
    keys = [key for key in [*before, *(key for key in after if key not in before)] if before.get(key) != after.get(key)]
    found = [_of_stage(key, before, after, stage) or _change(key, before, after) for key in keys]
    # With another optimizer its options are others as well: they are not news.
    replaced = {change.key.removesuffix(".name") for change in found if change.key.endswith(".name")}
    return [change for change in found if change.key.endswith(".name") or not _below(change.key, replaced)]


def _in_full(flat: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Write a part's bare name out where the other experiment has it with options."""
    return {f"{key}.name" if f"{key}.name" in other else key: value for key, value in flat.items()}


def _change(key: str, before: dict[str, Any], after: dict[str, Any]) -> Change:
    old, new = before.get(key), after.get(key)
    if key.startswith("callbacks") and key.endswith(".name") or key == "callbacks":
        return Change(key, old, new, "starts afresh", ("callbacks",), "the counts of the callbacks")
    if key == "training.max_time" and None in (old, new):
        return Change(key, old, new, "goes on", (key,))
    for rule in _RULES:
        if _below(key, rule.keys):
            return Change(key, old, new, rule.effect, rule.states, rule.what)
    return Change(key, old, new, "goes on")


def _of_stage(key: str, before: dict[str, Any], after: dict[str, Any], stage: int) -> Change | None:
    """Return what a change of a stage means; None where the key is none of a stage.

    Args:
        key: dotted.
        before: the experiment until now.
        after: the experiment from now on.
        stage: where training was left.
    """
    if not _below(key, (_STAGES,)):
        return None
    old, new = before.get(key), after.get(key)
    number, _, option = key.removeprefix(f"{_STAGES}.").partition(".")
    if key == _STAGES or not number.isdecimal():
        return Change(key, old, new, "impossible", what="training has stages from its beginning, or not at all")
    if int(number) >= stage:
        return Change(key, old, new, "goes on")
    if f"{_STAGES}.{number}.epochs" not in after:
        return Change(key, old, new, "impossible", what="training has come to this stage already")
    if option in ("freeze", "unfreeze") or option == "layer_decay" and int(number) == stage - 1:
        return Change(key, old, new, "starts afresh", ("optimizer",), "what the optimizer remembers")
    if int(number) < stage - 1:
        return Change(key, old, new, "goes on", what="this stage is over")
    if _below(option, ("schedule.name", "schedule.warmup")):
        return Change(key, old, new, "starts afresh", ("schedule", "rates"), "the schedule's own state")
    return Change(key, old, new, "goes on")


def _below(key: str, sections: Any) -> bool:
    return any(key == section or key.startswith(f"{section}.") for section in sections)
