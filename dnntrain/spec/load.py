"""From the text of an experiment file to a `Spec`, and back."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dnntrain import yamltext
from dnntrain.errors import Mark, Problem, SpecError, UsageError, shorten
from dnntrain.registry import plain, read_path
from dnntrain.spec.checks import check
from dnntrain.spec.forms import follow
from dnntrain.spec.merge import Node, from_tree, merge, put, to_tree
from dnntrain.spec.problems import MISSING, problems
from dnntrain.spec.remainder import remainder
from dnntrain.spec.schema import Spec
from dnntrain.yamltext import KeyPath, Marks
from dnntrain.yamltext.page import MAX_CHARACTERS

# A character takes four bytes at most.
_MOST_BYTES: Final = 4 * MAX_CHARACTERS + 4


def load(path: str | Path, overrides: Sequence[str] = (), grids: Sequence[str] = ()) -> Spec:
    """Read an experiment file.

    Args:
        path: the file.
        overrides: `K=V` settings that have the last word, K a dotted path and V a YAML value.
        grids: axes of its sweep, `K=A,B,...` with the entries of a YAML list; one that is there already
            takes on these values, under its conditions.

    Raises:
        UsageError: the file cannot be read.
        SpecError: every mistake in it, at once.
    """
    return draft(path, overrides, grids).spec()


def loads(
    text: str | bytes,
    *,
    source: str = "<text>",
    folder: Path | None = None,
    overrides: Sequence[str] = (),
    grids: Sequence[str] = (),
    default_name: str = "run",
) -> Spec:
    """Read an experiment from its text.

    Args:
        text: YAML.
        source: what error messages call it.
        folder: where relative paths start; the current folder unless given.
        overrides: `K=V` settings that have the last word.
        grids: axes of its sweep; see `load`.
        default_name: names the experiment where the file does not.

    Raises:
        SpecError: every mistake in it, at once.
    """
    return drafts(
        text, source=source, folder=folder, overrides=overrides, grids=grids, default_name=default_name
    ).spec()


def draft(path: str | Path, overrides: Sequence[str] = (), grids: Sequence[str] = ()) -> Draft:
    """Read an experiment file, of which many experiments shall be made; see `load`.

    Raises:
        UsageError: the file cannot be read.
        SpecError: it is not YAML.
    """
    path = Path(path)
    return drafts(
        _read(path),
        source=str(path),
        folder=path.parent,
        overrides=overrides,
        grids=grids,
        default_name=path.stem,
    )


def drafts(
    text: str | bytes,
    *,
    source: str = "<text>",
    folder: Path | None = None,
    overrides: Sequence[str] = (),
    grids: Sequence[str] = (),
    default_name: str = "run",
) -> Draft:
    """Read a text, of which many experiments shall be made; see `loads`.

    Raises:
        SpecError: it is not YAML.
    """
    folder = Path.cwd() if folder is None else folder
    reading = _Reading()
    tree = reading.file(text, source, folder, chain=(_identity(source, folder),))
    for number, override in enumerate(overrides, start=1):
        tree = reading.override(tree, override, number)
    for number, grid in enumerate(grids, start=1):
        tree = reading.grid(tree, grid, number)
    return Draft(tree, tuple(reading.found), reading.complete, default_name)


@dataclass(frozen=True)
class Draft:
    """An experiment that was read and not yet checked: a file, what it extends and what was laid over it.

    Reading takes far longer than checking, so whoever needs a file with a thousand settings reads it once.

    Attributes:
        tree: what it says.
        found: the mistakes that reading met.
        complete: whether what it extends could be read.
        default_name: names the experiment where the file does not.
    """

    tree: Node
    found: tuple[Problem, ...]
    complete: bool
    default_name: str

    def put(self, key: str, value: Node) -> Draft:
        """Set a dotted key, as `--set` does."""
        try:
            return replace(self, tree=put(self.tree, key.split("."), value))
        except SpecError as error:
            return replace(self, found=(*self.found, *error.problems))

    def without(self, section: str) -> Draft:
        """Leave out a section of the file."""
        content = self.tree.content
        if not isinstance(content, dict) or section not in content:
            return self
        kept = {key: node for key, node in content.items() if key != section}
        return replace(self, tree=replace(self.tree, content=kept))

    def spec(self) -> Spec:
        """Check it.

        Raises:
            SpecError: every mistake in it, at once.
        """
        value, marks = from_tree(self.tree)
        if not isinstance(value, dict):
            raise SpecError(in_order([*self.found, _not_a_mapping(value, marks[()].value)]))
        value.setdefault("name", re.sub(r"[^A-Za-z0-9_-]+", "_", self.default_name)[:100] or "run")
        spec, found = _checked(value, marks, complete=self.complete)
        if found or self.found:
            raise SpecError(in_order([*found, *self.found]))
        return spec


def _checked(value: dict[str, Any], marks: dict[KeyPath, Marks], *, complete: bool) -> tuple[Spec, list[Problem]]:
    """Check a file, each value first and then how they go together.

    Args:
        value: the plain value of the file.
        marks: where its parts were written.
        complete: whether what it extends was read, so that what is missing is missing indeed.
    """
    errors: list[ErrorDetails] = []
    try:
        spec = Spec.model_validate(value)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        spec = remainder(value, [follow(each["loc"], value).path for each in errors])
    spec._marks.update(marks)
    told = [each for each in errors if complete or each["type"] != MISSING]
    combined = check(spec, [follow(each["loc"], value).path for each in errors]) if complete else []
    return spec, [*problems(told, value, marks), *combined]


def dump(spec: Spec) -> str:
    """Write a spec as a file that reads back as an equal one.

    How many epochs the stages of a training come to is left out, so that it follows where a stage is changed.
    """
    content = plain(spec)
    if spec.training.stages and spec.training.epochs == sum(stage.epochs for stage in spec.training.stages):
        del content["training"]["epochs"]
    return yamltext.dump(content)


def without_sweep(spec: Spec) -> Spec:
    """Return an experiment by itself, which is what one run trains."""
    return spec if spec.sweep is None else spec.model_copy(update={"sweep": None})


def _read(path: Path) -> bytes:
    """Read a file, as much of it as it takes to see that it is too long to be an experiment."""
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES)
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder, not an experiment file") from None
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}") from None
    except OSError as error:
        raise UsageError(f"cannot read {shorten(str(path), 400)}: {error.strerror}") from error
    except ValueError:
        raise UsageError(f"there is no file {path}: no name can hold the character U+0000") from None


def _identity(source: str, folder: Path) -> Path:
    return _resolved(folder / Path(source).name)


def _resolved(path: Path) -> Path:
    # Not Path.resolve, which raises for links that lead to themselves.
    return Path(os.path.realpath(path))


def _not_a_mapping(value: Any, mark: Mark) -> Problem:
    if value is None:
        return Problem("there is no experiment here", mark, "dnntrain init writes a file to start from")
    kind = "a list" if isinstance(value, list) else "a single value"
    return Problem(f"an experiment is a mapping of sections, not {kind}", mark, "data: ...")


class _Reading:
    """The reading of a file, of those it extends and of the settings laid over them.

    Attributes:
        found: all mistakes so far.
        complete: whether every file could be read.
    """

    def __init__(self) -> None:
        self.found: list[Problem] = []
        self.complete = True

    def file(self, text: str | bytes, source: str, folder: Path, *, chain: tuple[Path, ...]) -> Node:
        """Read a file and what it extends.

        Raises:
            SpecError: this file is not YAML.
        """
        document = yamltext.read(text, source=source, folder=folder)
        self.found += document.problems
        tree = to_tree(document)
        if not isinstance(tree.content, dict) or "extends" not in tree.content:
            return tree
        content = dict(tree.content)
        base = self._base(content.pop("extends"), folder, chain)
        tree = Node(content, tree.mark, tree.key)
        self.complete = self.complete and base is not None
        return tree if base is None else merge(base, tree)

    def _base(self, link: Node, folder: Path, chain: tuple[Path, ...]) -> Node | None:
        """Read what a file extends; None where that cannot be."""
        if not isinstance(link.content, str) or not link.content or "\0" in link.content:
            return self._refused("'extends' must be the path of a file", link.mark, "extends: base.yaml")
        path = folder / os.path.expanduser(link.content)
        if not os.path.exists(path):
            elsewhere = read_path(link.content)
            path = elsewhere if os.path.exists(elsewhere) else path
        resolved = _resolved(path)
        if resolved in chain:
            names = " -> ".join(each.name for each in (*chain, resolved))
            return self._refused("these files extend each other in a circle", link.mark, shorten(names, 500))
        if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
            # Reading it might never end.
            message = f"{shorten(str(path), 500)} is a pipe or a device"
            return self._refused(message, link.mark, "extends: base.yaml")
        try:
            text = _read(path)
        except UsageError as error:
            return self._refused(
                shorten(str(error), 500), link.mark, "a path starts at the folder of the file that writes it"
            )
        try:
            base = self.file(text, str(path), path.parent, chain=(*chain, resolved))
        except SpecError as error:
            self.found += error.problems
            return None
        if isinstance(base.content, dict):
            return base
        if base.content is not None:
            self.found.append(_not_a_mapping(from_tree(base)[0], base.mark))
        return Node({}, base.mark)

    def _refused(self, message: str, mark: Mark, hint: str) -> Node | None:
        self.found.append(Problem(message, mark, hint))
        return None

    def override(self, tree: Node, override: str, number: int) -> Node:
        """Apply one `K=V`, the `number`-th of the command line."""
        key, equals, text = override.partition("=")
        keys = [part.strip() for part in key.split(".")]
        setting = _Setting("--set", override, number, offset=len(key) + 1)
        if not equals or not all(keys):
            self.found.append(setting.malformed("write KEY=VALUE, as in optimizer.lr=0.01"))
            return tree
        value = self._value(text, setting)
        if value is None:
            return tree
        try:
            return put(tree, keys, replace(value, key=setting.mark(0, len(key))))
        except SpecError as error:
            self.found += error.problems
            return tree

    def grid(self, tree: Node, grid: str, number: int) -> Node:
        """Add one `K=A,B,...`, the `number`-th of the command line, to the axes of the sweep.

        An axis that is there already takes on these values, under its conditions.
        """
        key, equals, text = grid.partition("=")
        # The equals sign stands where the list's opening bracket does.
        setting = _Setting("--grid", grid, number, offset=len(key))
        if not equals or not key.strip():
            self.found.append(setting.malformed("write KEY=A,B,C, as in optimizer.lr=0.01,0.1"))
            return tree
        values = self._value(f"[{text}]", setting)
        sweep = _below(tree, "sweep")
        space = None if sweep is None else _below(sweep, "space")
        if values is None or sweep is None or space is None:
            return tree
        axis = replace(values, mark=setting.mark(len(key) + 1, len(text)), key=setting.mark(0, len(key)))
        there = space.content.get(key.strip())
        conditions = {} if there is None or not isinstance(there.content, dict) else _conditions(there.content)
        if conditions:
            axis = replace(axis, content={"choice": axis, **conditions})
        space = replace(space, content={**space.content, key.strip(): axis})
        sweep = replace(sweep, content={**sweep.content, "space": space})
        return replace(tree, content={**tree.content, "sweep": sweep})

    def _value(self, text: str, setting: _Setting) -> Node | None:
        """Read the value of a setting; None where it cannot be read."""
        try:
            document = yamltext.read(text, source=setting.source, folder=Path.cwd())
        except SpecError as error:
            self.found += [setting.problem(each) for each in error.problems]
            return None
        self.found += [setting.problem(each) for each in document.problems]
        return setting.node(to_tree(document))


def _conditions(axis: dict[str, Node]) -> dict[str, Node]:
    return {key: node for key, node in axis.items() if key in ("when", "unless")}


def _below(tree: Node, key: str) -> Node | None:
    """Return the mapping under a key, an empty one where nothing is there; None where something else is."""
    if not isinstance(tree.content, dict):
        return None
    there = tree.content.get(key)
    if there is None or there.content is None:
        return Node({}, tree.mark)
    return there if isinstance(there.content, dict) else None


@dataclass(frozen=True)
class _Setting:
    """A `K=V` of the command line, by which the marks of V are moved to where they stand in the whole.

    Attributes:
        source: the option that it was given by.
        text: the whole.
        number: which of the settings this is, from 1; it is shown as the line.
        offset: where V begins.
    """

    source: str
    text: str
    number: int
    offset: int

    def mark(self, start: int, width: int) -> Mark:
        return Mark(self.source, self.number, start + 1, width, self.text.replace("\n", " "))

    def malformed(self, hint: str) -> Problem:
        return Problem(f"cannot set '{shorten(self.text)}'", self.mark(0, len(self.text)), hint)

    def problem(self, problem: Problem) -> Problem:
        return problem if problem.mark is None else replace(problem, mark=self._moved(problem.mark))

    def node(self, node: Node) -> Node:
        content = node.content
        if isinstance(content, dict):
            content = {key: self.node(item) for key, item in content.items()}
        elif isinstance(content, list):
            content = [self.node(item) for item in content]
        return Node(content, self._moved(node.mark), None if node.key is None else self._moved(node.key))

    def _moved(self, mark: Mark) -> Mark:
        above = self.text[self.offset :].split("\n")[: mark.line - 1]
        return self.mark(self.offset + sum(len(line) + 1 for line in above) + mark.column - 1, mark.width)


def in_order(found: Iterable[Problem]) -> list[Problem]:
    """Put problems in the order of the text; those without a place come last."""

    def place(problem: Problem) -> tuple[bool, str, int, int]:
        mark = problem.mark
        return (True, "", 0, 0) if mark is None else (False, mark.source, mark.line, mark.column)

    return sorted(found, key=place)
