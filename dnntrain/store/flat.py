"""Nested settings as one row of dotted keys, as tables and comparisons want them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any


def flatten(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten mappings to dotted keys: `{"a": {"b": 1}}` becomes `{"a.b": 1}`.

    Lists are values, unless a mapping lies within: then their items are numbered, as in `callbacks.0.name`. Empty
    mappings and lists are values, so that nothing is lost.
    """
    return {key: value for name, item in nested.items() for key, value in _leaves(str(name), item)}


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _leaves(f"{key}.{name}", item)
    elif isinstance(value, list | tuple) and _holds_mapping(value):
        for index, item in enumerate(value):
            yield from _leaves(f"{key}.{index}", item)
    else:
        yield key, value


def _holds_mapping(items: list[Any] | tuple[Any, ...]) -> bool:
    return any(isinstance(item, Mapping) or (isinstance(item, list | tuple) and _holds_mapping(item)) for item in items)


def text(value: Any) -> str:
    """Write a value as text that is valid Unicode, as a file's name need not be: texts as they are, others as JSON."""
    shown = value if isinstance(value, str) else json.dumps(value)
    return shown.encode("utf-8", "backslashreplace").decode()


def finite(value: Any) -> Any:
    """Replace numbers that JSON cannot write, such as NaN, by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
