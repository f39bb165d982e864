"""From the text of an experiment file to a `Spec`, and back."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
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


def load(path: str | Path, overrides: Sequence[str] = ()) -> Spec:
    """Read an experiment file.

    Args:
        path: the file.
        overrides: `K=V` settings that have the last word, K a dotted path and V a YAML value.

    Raises:
        UsageError: the file cannot be read.
        SpecError: every mistake in it, at once.
    """
    path = Path(path)
    return loads(_read(path), source=str(path), folder=path.parent, overrides=overrides, default_name=path.stem)


def loads(
    text: str | bytes,
    *,
    source: str = "<text>",
    folder: Path | None = None,
    overrides: Sequence[str] = (),
    default_name: str = "run",
) -> Spec:
    """Read an experiment from its text.

    Args:
        text: YAML.
        source: what error messages call it.
        folder: where relative paths start; the current folder unless given.
        overrides: `K=V` settings that have the last word.
        default_name: names the experiment where the file does not.

    Raises:
        SpecError: every mistake in it, at once.
    """
    folder = Path.cwd() if folder is None else folder
    reading = _Reading()
    tree = reading.file(text, source, folder, chain=(_identity(source, folder),))
    for number, override in enumerate(overrides, start=1):
        tree = reading.override(tree, override, number)
    value, marks = from_tree(tree)
    if not isinstance(value, dict):
        raise SpecError(_sorted([*reading.found, _not_a_mapping(value, marks[()].value)]))
    value.setdefault("name", re.sub(r"[^A-Za-z0-9_-]+", "_", default_name)[:100] or "run")
    spec, found = _checked(value, marks, complete=reading.complete)
    found += reading.found
    if found:
        raise SpecError(_sorted(found))
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
    """Write a spec as a file that reads back as an equal one."""
    return yamltext.dump(plain(spec))


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
        setting = _Setting(override, number, offset=len(key) + 1)
        if not equals or not all(keys):
            message = f"cannot set '{shorten(override)}'"
            self.found.append(
                Problem(message, setting.mark(0, len(override)), "write KEY=VALUE, as in optimizer.lr=0.01")
            )
            return tree
        try:
            document = yamltext.read(text, source="--set", folder=Path.cwd())
        except SpecError as error:
            self.found += [setting.problem(each) for each in error.problems]
            return tree
        self.found += [setting.problem(each) for each in document.problems]
        value = setting.node(to_tree(document))
        try:
            return put(tree, keys, replace(value, key=setting.mark(0, len(key))))
        except SpecError as error:
            self.found += error.problems
            return tree


@dataclass(frozen=True)
class _Setting:
    """A `K=V` of the command line, by which the marks of V are moved to where they stand in the whole.

    Attributes:
        text: the whole.
        number: which of the settings this is, from 1; it is shown as the line.
        offset: where V begins.
    """

    text: str
    number: int
    offset: int

    def mark(self, start: int, width: int) -> Mark:
        return Mark("--set", self.number, start + 1, width, self.text.replace("\n", " "))

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


def _sorted(found: list[Problem]) -> list[Problem]:
    """Put problems in the order of the text; those without a place come last."""

    def place(problem: Problem) -> tuple[bool, str, int, int]:
        mark = problem.mark
        return (True, "", 0, 0) if mark is None else (False, mark.source, mark.line, mark.column)

    return sorted(found, key=place)
