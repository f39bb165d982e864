"""Validation errors as located, plain-spoken problems with a way to mend each."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dnntrain.errors import Problem, nearest
from dnntrain.registry import ByShape, Options, Pick, WordOr
from dnntrain.spec.schema import Spec, mark_at
from dnntrain.yamltext import KeyPath, Marks

# Keys that people bring along from other tools, and what is said here.
_HABITS = {
    "learning_rate": "called lr here",
    "output_activation": "models give logits; the loss applies softmax or sigmoid itself",
    "softmax": "models give logits; the loss applies softmax or sigmoid itself",
    "num_epochs": "called epochs here, under training",
    "max_epochs": "called epochs here, under training",
    "validation_split": "called validation here: {fraction: 0.1}",
    "lr_scheduler": "called schedule here",
    "scheduler": "called schedule here",
    "gradient_clipping": "called training.clip here: {norm: 1.0}",
    "weight_decay": "an option of adamw and nadam: optimizer: {name: adamw, weight_decay: 0.01}",
    "bias": "biases follow from the normalization: one is left out where it has no effect",
}

_COMPARISONS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}

_WANTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "string_sub_type": "text",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "finite_number": "a finite number",
}


def problems(error: ValidationError, value: Any, marks: dict[KeyPath, Marks]) -> list[Problem]:
    """Translate a validation error.

    Args:
        error: what pydantic found wrong.
        value: the plain value that was validated.
        marks: where its parts were written.
    """
    return [_problem(details, value, marks) for details in error.errors(include_url=False)]


def _problem(details: ErrorDetails, value: Any, marks: dict[KeyPath, Marks]) -> Problem:
    kind, path = details["type"], tuple(details["loc"])
    context = details.get("ctx") or {}
    given = details.get("input")
    if kind == "missing":
        section = ".".join(map(str, path[:-1]))
        message = f"missing required key '{path[-1]}'" + (f" in {section}" if section else "")
        return Problem(message, mark_at(marks, path[:-1]), f"add '{path[-1]}: ...'")
    if kind == "extra_forbidden":
        mark = marks[path].key if path in marks else mark_at(marks, path)
        return Problem(f"unknown key '{path[-1]}'", mark, _key_hint(str(path[-1]), path[:-1], value))
    if kind == "part_unknown" and (*path, "name") in marks:
        path = (*path, "name")
    mark = mark_at(marks, path)
    label = _label(path)
    if kind in _COMPARISONS:
        bound, words = _COMPARISONS[kind]
        return Problem(f"{label} must be {words} {context[bound]:g}, not {given}", mark)
    if kind in _WANTED:
        return Problem(f"{label} must be {_WANTED[kind]}, not {_shown(given)}", mark, _type_hint(kind, given))
    if kind == "literal_error":
        expected = str(context["expected"]).replace("'", "")
        near = nearest(given, expected.replace(" or ", ", ").split(", ")) if isinstance(given, str) else None
        return Problem(
            f"{label} must be {expected}, not {_shown(given)}", mark, f"did you mean '{near}'?" if near else ""
        )
    if kind == "string_pattern_mismatch":
        return Problem(f"{label} cannot be {_shown(given)}", mark, f"it must match {context['pattern']}")
    return Problem(_sentence(details["msg"], label, kind), mark, str(context.get("hint", "")))


def _sentence(message: str, label: str, kind: str) -> str:
    """Our own messages stand as they are; pydantic's get the name of the value in front."""
    return message if kind.startswith("part_") else f"{label}: {message[0].lower()}{message[1:]}"


def _label(path: tuple[int | str, ...]) -> str:
    """Return the name of a value as a sentence has it: its key, or the entry of a list."""
    if not path:
        return "the file"
    if isinstance(path[-1], int) and len(path) > 1:
        return f"entry {path[-1]} of '{path[-2]}'"
    return f"'{path[-1]}'"


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return f"the text '{value}'" if len(value) <= 40 else "a long text"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "empty"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _type_hint(kind: str, given: Any) -> str:
    if isinstance(given, str) and kind in ("int_type", "float_type"):
        try:
            float(given)
        except ValueError:
            return ""
        return f"write {given} without quotes"
    if isinstance(given, str) and kind == "bool_type" and given.lower() in ("yes", "no", "on", "off", "y", "n"):
        return f"write {'true' if given.lower() in ('yes', 'on', 'y') else 'false'}"
    return ""


def _key_hint(key: str, section: tuple[int | str, ...], value: Any) -> str:
    """Say which key was meant: one of this section, one of another, or what another tool calls so."""
    model = model_at(section, value)
    here = [info.alias or name for name, info in model.model_fields.items()] if model is not None else []
    if key in _HABITS:
        return _HABITS[key]
    near = nearest(key, here)
    if near is None:
        homes = [home for name, home in _homes() if name == key]
        if homes:
            return f"it belongs under {homes[0]}"
    known = f"known: {', '.join(here)}" if here else "there are no options here"
    return (f"did you mean '{near}'?  " if near else "") + known


def _homes() -> Iterator[tuple[str, str]]:
    """Yield each key of each section, and the section."""
    for section, info in Spec.model_fields.items():
        model = info.annotation
        if isinstance(model, type) and issubclass(model, Options):
            for key, field in model.model_fields.items():
                yield field.alias or key, section
        yield section, "the top of the file"


def model_at(path: tuple[int | str, ...], value: Any) -> type[Options] | None:
    """Return the options that are allowed at a path of a file.

    Args:
        path: keys and indices from the root.
        value: the plain value of the file, which decides what a part's options are.
    """
    form: Any = Spec
    for key in path:
        model = _model(form, value)
        if model is None and isinstance(key, int):
            form = _entry_form(form)
        elif model is None:
            return None
        else:
            info = next((f for n, f in model.model_fields.items() if key in (n, f.alias)), None)
            if info is None:
                return None
            form = typing.Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and isinstance(key, int) and key < len(value):
            value = value[key]
    return _model(form, value)


def _model(form: Any, value: Any) -> type[Options] | None:
    """Return the model of a field's type, given what was written there."""
    if isinstance(form, type) and issubclass(form, Options):
        return form
    if typing.get_origin(form) is typing.Annotated:
        for mark in form.__metadata__:
            if isinstance(mark, Pick):
                name = value.get("name", mark.default) if isinstance(value, dict) else value
                return mark.family[name].options if isinstance(name, str) and name in mark.family else None
            if isinstance(mark, ByShape):
                return _model(mark.mapping, value)
            if isinstance(mark, WordOr):
                return _model(mark.form, value)
    for inner in typing.get_args(form):
        if (model := _model(inner, value)) is not None:
            return model
    return None


def _entry_form(form: Any) -> Any:
    """Return the type of a list's entries."""
    if typing.get_origin(form) in (tuple, list):
        return typing.get_args(form)[0]
    for mark in getattr(form, "__metadata__", ()):
        if isinstance(mark, ByShape | WordOr):
            return _entry_form(mark.sequence if isinstance(mark, ByShape) else mark.form)
    return next((found for inner in typing.get_args(form) if (found := _entry_form(inner)) is not None), None)
