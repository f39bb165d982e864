"""Dividing a data set: which classes, then which samples validate, then how many of the rest train.

Everything here is a function of the arrays and of the file's `data` section. The run's seed plays no part, so runs
that differ in their seed see the same split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dnntrain.errors import DataError, suggest
from dnntrain.parts.datasets import sampling
from dnntrain.parts.datasets.base import Arrays

Origin = Literal["first", "last", "random", "stratified", "auto"]
ClassList = Sequence[int | str]
ClassGroups = Mapping[str, ClassList | str]

REST = "rest"
_DROPPED = -1


@dataclass(frozen=True, eq=False)
class Split:
    """The samples of one part, as rows of the arrays that all parts share.

    Attributes:
        x: all samples of the array, shape (N, ...).
        y: all labels, shape (N, ...); where classes were chosen, their new numbers, -1 for samples left out.
        index: the rows that belong to the part, int64.
    """

    x: np.ndarray
    y: np.ndarray
    index: np.ndarray

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True, eq=False)
class Parts:
    """A divided data set, and the names of its classes (None for regression)."""

    train: Split
    valid: Split | None
    test: Split | None
    classes: tuple[str, ...] | None


@dataclass(frozen=True)
class Holdout:
    """Which samples are set aside for validation: `size` of them, a `fraction`, or one of several folds.

    Attributes:
        size: how many samples.
        fraction: what part of them, rounded to the nearest sample.
        folds: how many folds of equal size (within one sample).
        fold: which of them validates, from 0.
        origin: where they come from. `first` and `last` in the order of the file; `random`; `stratified`, random with
            every class in proportion; `auto` is stratified for classes and random for regression. Folds of `first`
            and `last` are contiguous, counted from that end.
        seed: what random choices depend on.
    """

    size: int | None = None
    fraction: float | None = None
    folds: int | None = None
    fold: int | None = None
    origin: Origin = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.size, self.fraction, self.folds)) != 1:
            raise DataError("validation: give exactly one of 'size', 'fraction' and 'folds'")
        if (self.folds is None) != (self.fold is None):
            raise DataError("validation: 'folds' and 'fold' belong together, such as {folds: 5, fold: 0}")
        if self.folds is not None and self.fold is not None:
            if self.folds < 2:
                raise DataError(f"validation: {self.folds} folds cannot be; it takes 2 or more")
            if not 0 <= self.fold < self.folds:
                raise DataError(f"validation: there is no fold {self.fold}; {self.folds} folds go from 0 up")
        if self.size is not None and self.size < 1:
            raise DataError(f"validation: size {self.size} cannot be; say 'validation: none' to train on everything")
        if self.fraction is not None and not 0 < self.fraction < 1:
            raise DataError(f"validation: fraction {self.fraction} must lie between 0 and 1")


def partition(
    arrays: Arrays,
    *,
    classes: ClassList | ClassGroups | None,
    validation: Holdout | None,
    limit: int | None,
) -> Parts:
    """Divide a data set: choose classes, set samples aside for validation, then limit what remains.

    Each part keeps the order of the file, after a random or stratified choice too; only data that lies class by
    class (`arrays.grouped`) is shuffled first, once, by the split's seed.

    Args:
        arrays: the data set.
        classes: classes to keep, by index or name, numbered anew in this order; or a mapping of new names to the
            classes they take in, one of which may be `rest`; None keeps all.
        validation: what to set aside; None for nothing.
        limit: train on the first so many samples of the training part; None for all.

    Raises:
        DataError: the classes, the split or the limit do not fit the data.
    """
    if limit is not None and limit < 1:
        raise DataError(f"limit: {limit} samples cannot be trained on; it takes 1 or more")
    y, y_test, names = arrays.y_train, arrays.y_test, arrays.classes
    if classes is not None:
        names, table = _choose_classes(arrays, classes)
        y, y_test = table[y], None if y_test is None else table[y_test]
    index = np.arange(len(y), dtype=np.int64)
    if arrays.grouped:
        index = sampling.shuffled(len(y), validation.seed if validation else 0, sampling.ORDER)
    index = _kept(index, y, names)
    for number, name in enumerate(names or ()):
        if classes is not None and not np.any(y == number):
            raise DataError(f"classes: '{name}' has no training samples")
    valid: Split | None = None
    if validation is not None:
        chosen = _set_aside(index, y, names, validation)
        valid, index = Split(arrays.x_train, y, index[chosen]), index[~chosen]
    test: Split | None = None
    if arrays.x_test is not None and y_test is not None:
        rows = _kept(np.arange(len(y_test), dtype=np.int64), y_test, names)
        test = Split(arrays.x_test, y_test, rows) if len(rows) else None
    return Parts(train=Split(arrays.x_train, y, index[:limit]), valid=valid, test=test, classes=names)


def _kept(index: np.ndarray, y: np.ndarray, names: tuple[str, ...] | None) -> np.ndarray:
    return index if names is None else index[y[index] != _DROPPED]


def _set_aside(index: np.ndarray, y: np.ndarray, names: tuple[str, ...] | None, holdout: Holdout) -> np.ndarray:
    """Tell for each row of the index whether it validates."""
    origin = holdout.origin
    if origin == "auto":
        origin = "random" if names is None else "stratified"
    if origin == "stratified" and names is None:
        raise DataError("validation: 'from: stratified' needs classes, and this is a regression; use 'from: random'")
    labels = y[index]
    if holdout.folds is not None:
        chosen = _fold(labels, holdout, origin)
    else:
        chosen = _hold_out(labels, _size(len(index), holdout), holdout.seed, origin)
    if names is not None and origin == "stratified":
        _check_strata(labels, chosen, names, holdout)
    return chosen


def _size(count: int, holdout: Holdout) -> int:
    if holdout.size is not None:
        size, said = holdout.size, f"size {holdout.size:,}"
    else:
        fraction = holdout.fraction or 0.0
        size, said = int(count * fraction + 0.5), f"fraction {fraction:g}"
    if size >= count:
        raise DataError(
            f"validation: {said} of {count:,} training samples leaves none to train on; set fewer of them aside"
        )
    if size < 1:
        raise DataError(
            f"validation: {said} of {count:,} training samples is less than one sample; set more of them aside, "
            "or say 'validation: none'"
        )
    return size


def _hold_out(labels: np.ndarray, size: int, seed: int, origin: Origin) -> np.ndarray:
    count = len(labels)
    chosen = np.zeros(count, dtype=bool)
    if origin == "first":
        chosen[:size] = True
    elif origin == "last":
        chosen[count - size :] = True
    elif origin == "random":
        chosen[sampling.shuffled(count, seed, sampling.HOLDOUT)[:size]] = True
    else:
        chosen[sampling.stratified(labels, size, seed, sampling.HOLDOUT)] = True
    return chosen


def _fold(labels: np.ndarray, holdout: Holdout, origin: Origin) -> np.ndarray:
    count, folds = len(labels), holdout.folds or 0
    if folds > count:
        raise DataError(f"validation: {count:,} training samples cannot be divided into {folds:,} folds; use fewer")
    if origin == "stratified":
        fold_of = sampling.stratified_folds(labels, folds, holdout.seed, sampling.HOLDOUT)
    else:
        fold_of = np.arange(count) * folds // count
    if origin == "last":
        fold_of = fold_of[::-1]
    elif origin == "random":
        fold_of = fold_of[sampling.shuffled(count, holdout.seed, sampling.HOLDOUT)]
    chosen: np.ndarray = fold_of == holdout.fold
    return chosen


def _check_strata(labels: np.ndarray, chosen: np.ndarray, names: tuple[str, ...], holdout: Holdout) -> None:
    """Make sure that every class has enough samples for what was asked."""
    needed = holdout.folds or 2
    for number in np.unique(labels):
        members = labels == number
        count, validating = int(members.sum()), int((members & chosen).sum())
        if count < needed or validating == count:
            reason = f"needs {needed} or more" if count < needed else "would leave none of them to train on"
            raise DataError(
                f"validation: the class '{names[number]}' has too few samples ({count}): a stratified split {reason}; "
                "use 'from: random', or leave the class out with 'classes'"
            )


def _choose_classes(arrays: Arrays, classes: ClassList | ClassGroups) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the new class names, and a table from old class numbers to new ones (-1 for those left out)."""
    known = arrays.classes
    if known is None:
        raise DataError("classes: this data set is a regression and has no classes to choose from")
    table = np.full(len(known), _DROPPED, dtype=np.int64)
    groups = _groups(classes, known)
    rest: int | None = None
    for number, members in enumerate(groups.values()):
        if members is None:
            if rest is not None:
                raise DataError(f"classes: two groups take '{REST}'; one can")
            rest = number
            continue
        for old in (_class_number(member, known) for member in members):
            if table[old] != _DROPPED:
                raise DataError(f"classes: the class '{known[old]}' is named twice")
            table[old] = number
    if rest is not None:
        if np.all(table != _DROPPED):
            raise DataError(f"classes: all classes are named, so that nothing is left for '{REST}'")
        table[table == _DROPPED] = rest
    return tuple(groups), table


def _groups(classes: ClassList | ClassGroups, known: tuple[str, ...]) -> dict[str, ClassList | None]:
    """Return what each new class takes in, None for the rest."""
    if not classes:
        raise DataError("classes: the list is empty; name the classes to keep, or say 'classes: null' for all")
    groups: dict[str, ClassList | None] = {}
    if isinstance(classes, Mapping):
        for name, members in classes.items():
            if not isinstance(members, str):
                groups[str(name)] = members
            else:
                groups[str(name)] = None if members == REST else [members]
            if members is not None and not len(members):
                raise DataError(f"classes: the group '{name}' is empty")
        return groups
    for member in classes:
        name = known[_class_number(member, known)]
        if name in groups:
            raise DataError(f"classes: the class '{name}' is named twice")
        groups[name] = [member]
    return groups


def _class_number(member: int | str, known: tuple[str, ...]) -> int:
    """Find a class by its index or name."""
    if isinstance(member, str):
        if member not in known:
            raise DataError(f"classes: there is no class '{member}'; {suggest(member, known)}")
        return known.index(member)
    if isinstance(member, bool) or not isinstance(member, int):
        raise DataError(f"classes: {member!r} is neither the index nor the name of a class")
    if not 0 <= member < len(known):
        raise DataError(f"classes: there is no class {member}; indices go from 0 to {len(known) - 1}")
    if known[member] != str(member) and str(member) in known:
        raise DataError(
            f"classes: {member} could mean the class '{known[member]}', which has this index, or the one of that name; "
            f"write the name in quotes, as in ['{member}']"
        )
    return member
