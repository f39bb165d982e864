"""What a sweep cannot be, found before any of its configurations is looked at."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, Final

from dnntrain.errors import Problem, shorten, suggest
from dnntrain.spec.forms import flow
from dnntrain.spec.schema import Spec, mark_at
from dnntrain.spec.sweeping import AxisSpec, SweepSpec, holds, method_of
from dnntrain.spec.sweepkeys import spelled_out, unknown
from dnntrain.yamltext import KeyPath

_OURS: Final = {
    "seed": "write seeds: 3 under sweep, and each configuration is run with three of them",
    "name": "all runs of a sweep have the experiment's name",
    "sweep": "a sweep cannot change itself",
}
_FOLDED: Final = "data.validation"


def _axes(sweep: SweepSpec) -> Iterator[tuple[str, AxisSpec, KeyPath]]:
    for name, axis in sweep.space.items():
        yield name, axis, ("sweep", "space", name)


def keys_set(name: str, axis: AxisSpec) -> Iterator[tuple[str, KeyPath]]:
    """Yield the dotted keys that an axis sets, each with its path below the axis."""
    if axis.variants is None:
        yield name, ()
        return
    for variant, content in axis.variants.items():
        for key, _, path in spelled_out("", content):
            yield key, ("variants", variant, *path)


def _keys_exist(spec: Spec, sweep: SweepSpec) -> Iterator[Problem]:
    for name, axis, path in _axes(sweep):
        if axis.variants is not None and ("." in name or name in Spec.model_fields):
            yield _at_key(spec, path, f"'{shorten(name)}' is a key of the file, and variants set several", _NAME)
        for key, below in keys_set(name, axis):
            section = key.partition(".")[0]
            if section in _OURS:
                yield _at_key(spec, (*path, *below), f"'{section}' is not searched", _OURS[section])
            elif (wrong := unknown(key)) is not None:
                piece, hint = wrong
                message = f"unknown key '{shorten(key)}'" + (f": there is no '{shorten(piece)}'" if "." in key else "")
                yield _at_key(spec, (*path, *below), message, hint)


_NAME: Final = "give them a name of their own, such as 'family'"


def _each_key_has_one_axis(spec: Spec, sweep: SweepSpec) -> Iterator[Problem]:
    owners: dict[str, str] = {}
    for name, axis, path in _axes(sweep):
        for key, below in keys_set(name, axis):
            owner = owners.setdefault(key, name)
            if owner != name:
                message = f"'{key}' is set by the axis '{shorten(owner)}' already"
                yield _at_key(spec, (*path, *below), message, "leave it out of one of them")


def _conditions_can_hold(spec: Spec, sweep: SweepSpec) -> Iterator[Problem]:
    below = dict(sweep.space)
    for name, axis, path in _axes(sweep):
        del below[name]
        for word in ("when", "unless"):
            for key, wanted in (getattr(axis, word) or {}).items():
                here = (*path, word, key)
                later = next((each for each, other in below.items() if _decides(each, other, key)), None)
                if key == name:
                    yield _at_key(spec, here, f"'{shorten(name)}' depends on itself", f"leave {word} out")
                elif later is not None:
                    message = f"'{shorten(name)}' depends on '{shorten(later)}', which stands below it"
                    yield _at_key(spec, here, message, "an axis can depend on those above it: move it down")
                else:
                    yield from _condition(spec, sweep, key, wanted, here)
    for i, combination in enumerate(sweep.exclude):
        for key, wanted in combination.items():
            yield from _condition(spec, sweep, key, wanted, ("sweep", "exclude", i, key))


def _decides(name: str, axis: AxisSpec, key: str) -> bool:
    """Whether an axis has a say in what a condition's key is."""
    given = [each for each, _ in keys_set(name, axis)]
    return key == name or any(key == each or key.startswith(f"{each}.") for each in given) or (f"{key}.name" in given)


def _condition(spec: Spec, sweep: SweepSpec, key: str, wanted: Any, path: KeyPath) -> Iterator[Problem]:
    """Yield what keeps a condition from ever being met."""
    axis = sweep.space.get(key)
    if axis is None:
        wrong = unknown(key)
        if wrong is not None:
            labels = [name for name, each in sweep.space.items() if each.variants is not None]
            hint = suggest(key, [*sweep.space]) if "." not in key and labels else wrong[1]
            yield _at_key(spec, path, f"unknown key '{shorten(key)}'", hint)
        return
    if axis.continuous:
        yield _at_key(
            spec, path, f"'{shorten(key)}' is a range, whose values are never met exactly", "name a key with a list"
        )
    # Where the axis was given other values from elsewhere, what the file says of the ones it had does no harm.
    if not axis.listed or _source(spec, ("sweep", "space", key)) != _source(spec, path):
        return
    values = list(axis.variants or axis.choice or ())
    for each in wanted if isinstance(wanted, list | tuple) else [wanted]:
        # Where the axis is not there, its key has the value of the file.
        elsewhere = axis.when is not None or axis.unless is not None
        if not elsewhere and not any(holds(each, value) for value in values):
            known = shorten(", ".join(flow(value) for value in values), 200)
            yield spec.problem(path, f"'{shorten(key)}' is never {shorten(flow(each))}", f"its values: {known}")


def _source(spec: Spec, path: KeyPath) -> str | None:
    mark = mark_at(spec._marks, path)
    return None if mark is None else mark.source


def _a_grid_has_an_end(spec: Spec, sweep: SweepSpec) -> Iterator[Problem]:
    if sweep.search != "grid":
        return
    for name, axis, path in _axes(sweep):
        if axis.continuous:
            message = f"'{shorten(name)}' is a range, and a grid is made of single values"
            yield spec.problem(path, message, "list the values, or search: random")
    if sweep.trials is not None:
        hint = "leave trials out, or write search: random"
        yield spec.problem("sweep.trials", "a grid tries all of its configurations", hint)


def _a_search_has_an_end(spec: Spec, sweep: SweepSpec) -> Iterator[Problem]:
    method = method_of(sweep)
    if method == "grid" or (method == "random" and not any(a.continuous for _, a, _ in _axes(sweep))):
        return
    if all(end is None for end in (sweep.trials, sweep.timeout, sweep.budget, sweep.patience)):
        yield spec.problem("sweep.search", f"nothing says when the search, {method}, shall end", "add trials: 50")


def _folds_are_set_once(spec: Spec, sweep: SweepSpec) -> Iterator[Problem]:
    for name, axis, path in _axes(sweep) if sweep.folds is not None else ():
        for key, below in keys_set(name, axis):
            if f"{key}.".startswith(f"{_FOLDED}."):
                yield _at_key(spec, (*path, *below), f"folds set '{_FOLDED}' already", "leave one of them out")


def _at_key(spec: Spec, path: KeyPath, message: str, hint: str) -> Problem:
    """Return a problem with a key rather than with what stands under it."""
    marks = spec._marks.get(path)
    mark = mark_at(spec._marks, path) if marks is None or marks.key is None else marks.key
    return Problem(message, mark, hint)


def _of_a_sweep(find: Callable[[Spec, SweepSpec], Iterator[Problem]]) -> Callable[[Spec], Iterator[Problem]]:
    @functools.wraps(find)
    def found(spec: Spec) -> Iterator[Problem]:
        return iter(()) if spec.sweep is None else find(spec, spec.sweep)

    return found


SEARCHES: Final = (
    (("sweep.space",), _of_a_sweep(_keys_exist)),
    (("sweep.space",), _of_a_sweep(_each_key_has_one_axis)),
    (("sweep.space", "sweep.exclude"), _of_a_sweep(_conditions_can_hold)),
    (("sweep.space", "sweep.search", "sweep.trials"), _of_a_sweep(_a_grid_has_an_end)),
    (
        ("sweep.space", "sweep.search", "sweep.trials", "sweep.timeout", "sweep.budget", "sweep.patience"),
        _of_a_sweep(_a_search_has_an_end),
    ),
    (("sweep.space", "sweep.folds"), _of_a_sweep(_folds_are_set_once)),
)
