"""Short experiment files, and what is said about them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest

from dnntrain import spec
from dnntrain.errors import Problem, SpecError
from dnntrain.spec import Spec

DATA = "data:\n  dataset: digits\n"
MODEL = "model:\n  architecture: {name: mlp, hidden: [10]}\n"
MINIMAL = DATA + MODEL

JARGON = ("Input should", "Extra inputs", "Value error", "Assertion", "Field required", "tuple", "literal", "valid ")


def read(text: str, *overrides: str, folder: Path | None = None) -> Spec:
    """Read a file that is called f.yaml."""
    return spec.loads(textwrap.dedent(text), source="f.yaml", folder=folder, overrides=overrides)


def told(text: str, *overrides: str, folder: Path | None = None) -> tuple[Problem, ...]:
    """Return what is wrong with a file."""
    with pytest.raises(SpecError) as caught:
        read(text, *overrides, folder=folder)
    for problem in caught.value.problems:
        check_well_told(problem)
    return caught.value.problems


def only(text: str, *overrides: str, folder: Path | None = None) -> Problem:
    """Return the one thing that is wrong with a file."""
    problems = told(text, *overrides, folder=folder)
    assert len(problems) == 1, [each.message for each in problems]
    return problems[0]


def check_well_told(problem: Problem) -> None:
    """A message is located, of one line, in plain words and does not contradict itself."""
    check_located(problem)
    for words in JARGON:
        assert words not in problem.message + problem.hint
    wanted, _, given = problem.message.partition(", not ")
    assert not (given and given in ("a list", "a mapping", "text") and given in wanted), problem.message
    assert not any(known.__name__ in problem.message + problem.hint for known in options_below(spec.Spec.__mro__[1]))


def check_located(problem: Problem) -> None:
    """Whatever a file holds, each message is of one line and has its place in the text."""
    assert problem.mark is not None
    assert (problem.message + problem.hint).isprintable()
    assert 1 <= problem.mark.column <= len(problem.mark.text) + 1
    assert len(problem.render().splitlines()) == 3


def options_below(model: type) -> list[type]:
    found = model.__subclasses__()
    return [*found, *(deeper for each in found for deeper in options_below(each))]


def marked(problem: Problem) -> str:
    """Return the characters that a problem underlines."""
    mark = problem.mark
    assert mark is not None
    return mark.text[mark.column - 1 : mark.column - 1 + mark.width]


def place(problem: Problem) -> str:
    assert problem.mark is not None
    return str(problem.mark)


def messages(problems: Sequence[Problem]) -> list[str]:
    return [problem.message for problem in problems]
