"""The keys that a sweep sets: which there can be, whatever parts are chosen, and what a nested section spells out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dnntrain.registry import Options, Pick
from dnntrain.spec.forms import annotated, entry_form, fields, follow, marked, models, step
from dnntrain.spec.hints import key_hint
from dnntrain.spec.schema import Spec
from dnntrain.yamltext import KeyPath


def unknown(key: str) -> tuple[str, str] | None:
    """Return what is wrong with a dotted key that no experiment can have, and what was probably meant.

    Args:
        key: may be an option of any part of a family: which part it will be, another axis may decide.

    Returns:
        The piece of the key that is unknown, and a hint; None where some experiment has that key.
    """
    forms: list[Any] = [Spec]
    pieces = key.split(".")
    for depth, piece in enumerate(pieces):
        below = [inner for form in forms for inner in _under(form, piece)]
        if not below:
            here = list(dict.fromkeys(name for form in forms for model in _options(form) for name, _ in fields(model)))
            return piece, key_hint(piece, follow(tuple(pieces[:depth]), {}), here)
        forms = below
    return None


def spelled_out(key: str, value: Any) -> Iterator[tuple[str, Any, KeyPath]]:
    """Yield each dotted key that a value sets, with its value and the path to that within the whole.

    A mapping of a section's keys is taken apart; a part with its options is one value.

    Args:
        key: dotted, or empty for the whole file.
        value: plain.
    """
    if not isinstance(value, dict) or not (key == "" or _is_section(key)):
        yield key, value, ()
        return
    for inner, item in value.items():
        for dotted, plain, path in spelled_out(f"{key}.{inner}".lstrip("."), item):
            yield dotted, plain, (inner, *path)


def _is_section(key: str) -> bool:
    """Whether a key is that of a section, whose keys are merged one by one."""
    info = None if unknown(key) else follow(tuple(key.split(".")), {}).info
    return info is not None and isinstance(info.annotation, type) and issubclass(info.annotation, Options)


def _under(form: Any, key: str) -> Iterator[Any]:
    """Yield the types that may stand under a key of a value of some type."""
    if form is Any:
        yield Any
    if key.isdecimal() and (entry := entry_form(form)) is not None:
        yield entry
    if key == "name" and any(marked(form, Pick)):
        yield str
    for model in _options(form):
        yield from (annotated(info) for name, info in fields(model) if name == key)
    if (inner := step(form, None, key)) is not None:
        yield inner


def _options(form: Any) -> Iterator[type[Options]]:
    """Yield all options that may stand where a type is wanted."""
    yield from models(form)
    for pick in marked(form, Pick):
        yield from (entry.options for entry in pick.family)
