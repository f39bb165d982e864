"""Validation errors as located, plain-spoken problems with a way to mend each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pydantic_core import ErrorDetails

from dnntrain.errors import Problem, nearest, shorten
from dnntrain.spec.forms import LIST, MAPPING, Place, even, fields, flow, follow, wanted
from dnntrain.spec.hints import example, key_hint, value_hint
from dnntrain.spec.schema import mark_at
from dnntrain.yamltext import KeyPath, Marks

MISSING: Final = "missing"
_UNKNOWN: Final = "extra_forbidden"

_COMPARISONS: Final = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
    "multiple_of": ("multiple_of", "a multiple of"),
}
_LENGTHS: Final = {
    "too_short": ("min_length", "at least", "entry", "entries"),
    "too_long": ("max_length", "at most", "entry", "entries"),
    "string_too_short": ("min_length", "at least", "character", "characters"),
    "string_too_long": ("max_length", "at most", "character", "characters"),
}

_EMPTY: Final = "empty"

_Placed = list[tuple[ErrorDetails, Place]]


def problems(errors: Sequence[ErrorDetails], value: Any, marks: dict[KeyPath, Marks]) -> list[Problem]:
    """Translate what pydantic found wrong.

    Args:
        errors: the details of a validation error.
        value: the plain value that was validated.
        marks: where its parts were written.
    """
    placed = [(each, follow(each["loc"], value)) for each in errors]
    found: list[Problem] = []
    for each, place in placed:
        if each["type"] == MISSING and isinstance(each["loc"][-1], str):
            if not _misspelt(place, placed):
                found += _missing(place, marks)
        elif each["type"] == _UNKNOWN:
            found.append(_unknown(place, value, marks))
        elif not _overruled(each, place, placed):
            found.append(_wrong(each, place, marks))
    # Each member of a union tells the same, and so does each entry that a list lacks.
    return list(dict.fromkeys(found))


def _missing(place: Place, marks: dict[KeyPath, Marks]) -> list[Problem]:
    """Tell of a required key, or of the required keys of a required section."""
    section, key = place.within, place.path[-1]
    shown = example(place)
    hint = f"add {key}" + ("" if shown is None else f": {flow(shown)}")
    if section is not None and section.entry is not None and isinstance(section.value, str):
        hint = f"write {flow(section.entry.example)}"
    below = fields(place.model) if place.form is place.model else []
    paths = [(*place.path, each) for each, info in below if info.is_required()] or [place.path]
    mark = mark_at(marks, place.path)
    return [Problem(f"missing required key '{'.'.join(map(str, path))}'", mark, hint) for path in paths]


def _misspelt(place: Place, placed: _Placed) -> bool:
    """Whether a missing key stands there under a name that is nearly right, which is told anyway."""
    near = (str(p.path[-1]) for d, p in placed if d["type"] == _UNKNOWN and p.path[:-1] == place.path[:-1])
    return any(nearest(key, [str(place.path[-1])]) for key in near)


def _unknown(place: Place, value: Any, marks: dict[KeyPath, Marks]) -> Problem:
    key = str(place.path[-1])
    mark = marks[place.path].key if place.path in marks else mark_at(marks, place.path)
    return Problem(f"unknown key '{shorten(key)}'", mark, key_hint(key, follow(place.path[:-1], value)))


def _overruled(details: ErrorDetails, place: Place, placed: _Placed) -> bool:
    """Whether this follows from another mistake, or from trying a member of a union that was not meant."""
    if details["type"] == "too_short" and len(place.value) >= details["ctx"]["min_length"]:
        return True  # Wrong entries are told one by one, and were not counted.
    depth = len(place.path)
    rest = [(d, p) for d, p in placed if place.guessed and p.guessed and p.path[:depth] == place.path]
    return _is_type(details) and any(len(p.path) > depth or not _is_type(d) for d, p in rest)


def _is_type(details: ErrorDetails) -> bool:
    """Whether a value is of the wrong type, or no word that may stand there."""
    kind = details["type"]
    return kind in ("int_from_float", "literal_error", "shape") or (
        kind.endswith("_type") and not kind.startswith("part_")
    )


def _wrong(details: ErrorDetails, place: Place, marks: dict[KeyPath, Marks]) -> Problem:
    """Tell what is wrong with a value."""
    kind, message, context = details["type"], details["msg"], details.get("ctx") or {}
    named = kind.startswith("part_") and isinstance(place.value, dict) and "name" in place.value
    path = (*place.path, "name") if named else place.path
    mark = mark_at(marks, path)
    label, hint = _label(path), str(context.get("hint", ""))
    if kind in _LENGTHS or kind == MISSING:
        return Problem(f"{label} must have {_length(kind, context, place)}", mark, hint)
    if _is_type(details):
        message, hint = f"must be {_either(wanted(place.form))}", value_hint(place)
    elif kind == "finite_number":
        message = "must be a finite number"
    elif kind in _COMPARISONS:
        name, comparison = _COMPARISONS[kind]
        message = f"must be {comparison} {flow(even(context[name]))}"
    elif kind in ("value_error", "assertion_error"):
        message = str(context["error"])
    if not message.startswith("must "):
        return Problem(message if "hint" in context else f"{label}: {message}", mark, hint)
    given = _shown(place.value if path == place.path else place.value["name"])
    # A list that may stand here is refused for what it holds, and "not a list" would contradict that.
    ending = "" if given in wanted(place.form) else ", but is empty" if given == _EMPTY else f", not {given}"
    return Problem(f"{label} {message}{ending}", mark, hint)


def _label(path: KeyPath) -> str:
    """Return the name of a value as a sentence has it: its key, or the entry of a list."""
    if isinstance(path[-1], int) and len(path) > 1:
        return f"entry {path[-1]} of '{path[-2]}'"
    return f"'{shorten(str(path[-1]))}'"


def _either(alternatives: list[str]) -> str:
    *most, last = alternatives or ["something else"]
    return f"{', '.join(most)} or {last}" if most else last


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return f"the text '{shorten(value, 40)}'" if value else "an empty text"
    if isinstance(value, dict | list):
        return MAPPING if isinstance(value, dict) else LIST
    return _EMPTY if value is None else shorten(flow(value), 40)


def _length(kind: str, context: dict[str, Any], place: Place) -> str:
    """Say how many entries or characters there must be, and how many there are."""
    actual = len(place.value)
    if place.length is not None:
        return f"{place.length} entries, not {actual}"
    name, comparison, one, many = _LENGTHS[kind]
    bound = context[name]
    return f"{comparison} {bound} {one if bound == 1 else many}, not {actual}"
