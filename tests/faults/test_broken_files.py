"""Broken files: each reaches the error that it is made for, at its place, and every kind of error has one.

The files stand in brokenyaml.py and brokenspecs.py; what is told of each is written beside it.
"""

from __future__ import annotations

import ast
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from broken import Broken
from brokencombinations import BROKEN_COMBINATIONS
from brokenspecs import BROKEN_SPECS
from brokensweeps import BROKEN_SWEEPS
from brokenyaml import BROKEN_YAML
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reaching import lay_out, mistakes

import dnntrain
from dnntrain import spec
from dnntrain.errors import SpecError, UsageError
from dnntrain.spec import problems
from dnntrain.yamltext import syntax

PACKAGE = Path(dnntrain.__file__).parent
CONFIGS = sorted((PACKAGE.parent / "configs").glob("*.yaml"))
GROUPS = (BROKEN_YAML, BROKEN_SPECS, BROKEN_COMBINATIONS, BROKEN_SWEEPS)
ALL = [row for group in GROUPS for rows in group.values() for row in rows]
SOAK_SECONDS = float(os.environ.get("DNNTRAIN_SOAK_SECONDS", "0"))
PATIENCE_S = 30.0

# Kinds of errors that no part of the package can meet: they wait for the options of parts from outside.
FOR_PLUGINS = {"multiple_of"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("files")
    lay_out(made)
    return made


def test_there_are_enough_and_each_is_another() -> None:
    assert len(ALL) >= 150
    assert len({row.name for row in ALL}) == len(ALL)
    assert len({row.says for row in ALL}) == len(ALL)


@pytest.mark.parametrize("row", ALL, ids=lambda row: row.name)
def test_a_broken_file_is_told_where_and_why(row: Broken, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    told = mistakes(row.text, *row.settings, folder=folder)
    assert [one[: len(said)] for one, said in zip(told, row.says, strict=True)] == list(row.says)


# Every kind of error has a row.

MAKERS = {"Problem", "UsageError", "PydanticCustomError", "problem", "error", "_refused"}
# These are not about experiment files: the editor of `lr-find --write`, the writer, the reference.
OTHERS = {"spec/edit.py", "yamltext/writing.py", "spec/reference.py", "spec/editors.py"}
# What is said where PyYAML complains of something that no row of syntax._MEANINGS foresees; none is known.
FALLBACK = "this cannot be read as YAML"
# And these make the errors that others ask for.
WRAPPERS = {"problem", "_refused", "error"}


def sites() -> dict[tuple[str, int], str]:
    """Return every statement of spec/ and yamltext/, and of options, that makes an error: its file and first line."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        inside = name.startswith(("spec/", "yamltext/")) and name not in OTHERS
        makers = MAKERS if inside else {"PydanticCustomError"}
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef) and function.name not in WRAPPERS:
                for statement in statements(function):
                    if makers & set(called(statement)) and FALLBACK not in ast.unparse(statement):
                        found[name, statement.lineno] = f"{name}:{statement.lineno} in {function.name}"
    return found


def statements(function: ast.FunctionDef) -> Iterator[ast.stmt]:
    """Yield the statements that hold no others."""
    for node in ast.walk(function):
        if isinstance(node, ast.stmt) and not hasattr(node, "body"):
            yield node


def called(statement: ast.stmt) -> Iterator[str]:
    for node in ast.walk(statement):
        if isinstance(node, ast.Call):
            yield node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


@contextmanager
def visiting(lines: set[tuple[str, int]], files: set[str]) -> Iterator[None]:
    """Take note of each line that is run in some files of the package."""
    names = {str(PACKAGE / name): name for name in files}
    before = sys.gettrace()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        name = names.get(frame.f_code.co_filename)
        if name is not None and event == "line":
            lines.add((name, frame.f_lineno))
        return trace if name is not None else None

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def test_every_kind_of_error_has_a_broken_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    known = sites()
    assert len(known) > 60
    visited: set[tuple[str, int]] = set()
    with visiting(visited, {name for name, _ in known}):
        for row in ALL:
            mistakes(row.text, *row.settings, folder=folder)
        with pytest.raises(UsageError, match="no name can hold the character"):
            spec.load("a\0b")
    unreached = [text for place, text in known.items() if place not in visited]
    assert not unreached, "\n".join(unreached)


def test_every_explanation_of_bad_syntax_has_a_broken_file() -> None:
    said = [text.split(": ", 1)[1] for row in ALL for text in row.says]
    for _, message, _ in syntax._MEANINGS:
        # As re's templates have it: \1 for what was found, two backslashes for one.
        template = ".+".join(re.escape(piece.replace(r"\\", "\\")) for piece in message.split(r"\1"))
        assert any(re.fullmatch(template, each) for each in said), message


def test_every_comparison_and_length_has_a_broken_file() -> None:
    said = "\n".join(text for row in ALL for text in row.says)
    for kind, (_, words) in problems._COMPARISONS.items():
        assert kind in FOR_PLUGINS or f"must be {words} " in said, kind
    for kind, (_, words, *_) in problems._LENGTHS.items():
        assert re.search(f"must have ({words} )?\\d", said), kind


# And whatever else can be made of a sound file.


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """Draw a shipped experiment with characters and lines lost, doubled, swapped and put in."""
    text = draw(st.sampled_from(CONFIGS)).read_text()
    for _ in range(draw(st.integers(1, 6))):
        units = text.splitlines(keepends=True) if draw(st.booleans()) else list(text)
        if not units:
            break
        i, j = draw(st.integers(0, len(units) - 1)), draw(st.integers(0, len(units) - 1))
        change = draw(st.sampled_from(["delete", "double", "swap", "insert", "cut"]))
        if change == "delete":
            del units[i]
        elif change == "double":
            units.insert(j, units[i])
        elif change == "swap":
            units[i], units[j] = units[j], units[i]
        elif change == "cut":
            del units[i:]
        else:
            units.insert(i, draw(st.sampled_from(SIGNS) | st.characters(codec="utf-8")))
        text = "".join(units)
    return text


SIGNS = [
    "\t",
    ": ",
    "- ",
    "{",
    "}",
    "[",
    "]",
    "&a ",
    "*a",
    "<<: *a",
    "!!x ",
    "'",
    '"',
    "#",
    "|",
    ">",
    "? ",
    "%",
    "9" * 40,
]
SIGNS += [
    ".inf",
    "~",
    "null",
    "-1",
    "1e999",
    "\x00",
    "\ud800",
    "extends: .",
    "\r",
    "\u2028",
    "[red]",
    "${x}",
    "__class__",
]
KEYS = sorted({name for name, _, _ in spec.forms.homes()} | {"name", "0", "9", "-1", "", "__class__", "extends"})
PATHS = st.lists(st.sampled_from(KEYS), min_size=1, max_size=4).map(".".join)
WRITTEN = st.sampled_from(SIGNS) | st.text(max_size=12) | st.integers().map(str) | st.sampled_from(KEYS)


def check_refused_or_read(text: str, *overrides: str) -> None:
    """Nothing but a user's error may come of a file and its settings, and soon."""
    started = time.monotonic()
    try:
        spec.loads(text, source="f.yaml", folder=CONFIGS[0].parent, overrides=overrides)
    except (SpecError, UsageError) as error:
        assert str(error)
        assert all(c.isprintable() or c in "\n\t" for c in str(error))
    assert time.monotonic() - started < PATIENCE_S


quick = settings(deadline=None, max_examples=80, suppress_health_check=list(HealthCheck))


@quick
@given(damaged())
def test_a_damaged_file_is_refused_or_read(text: str) -> None:
    check_refused_or_read(text)


@quick
@given(st.sampled_from(CONFIGS), st.lists(st.tuples(PATHS, WRITTEN), min_size=1, max_size=3))
def test_random_settings_are_refused_or_read(config: Path, overrides: list[tuple[str, str]]) -> None:
    check_refused_or_read(config.read_text(), *(f"{key}={value}" for key, value in overrides))


@pytest.mark.skipif(SOAK_SECONDS == 0, reason="DNNTRAIN_SOAK_SECONDS says for how long to go on")
def test_soak_files_and_settings_for_as_long_as_asked() -> None:
    """Go on with other files and settings each time until the time is up."""
    end = time.monotonic() + SOAK_SECONDS

    @settings(quick, max_examples=200, database=None)
    @given(damaged(), st.lists(st.tuples(PATHS, WRITTEN), max_size=2))
    def round_(text: str, overrides: list[tuple[str, str]]) -> None:
        if time.monotonic() < end:
            check_refused_or_read(text, *(f"{key}={value}" for key, value in overrides))

    while time.monotonic() < end:
        round_()
