"""What tells groups of runs apart, as a person would write it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any


def telling(keys: Sequence[str], configurations: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys that tell configurations apart, without the options that follow from another key.

    Where one configuration has dropout and another has none, its rate is lacking in the other: the name says enough.

    Args:
        keys: those that differ.
        configurations: with dotted keys.
    """
    differ = set(keys)
    return [key for key in keys if not _follows(key, differ, configurations)]


def written(configuration: Mapping[str, Any], key: str) -> str | int | float | None:
    """Return a value as a cell of a table: a number, or a text; None where the configuration lacks it.

    A list of parts, which lies flat as `callbacks.0.name`, is written by the names of its parts.
    """
    if key not in configuration:
        item = re.compile(rf"{re.escape(key)}\.\d+\.name")
        return ", ".join(str(value) for name, value in configuration.items() if item.fullmatch(name)) or None
    value = configuration[key]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None or value == [] else str(value)


def _follows(key: str, differ: set[str], configurations: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a key is an option that only some of the parts that differ have."""
    if all(key in each for each in configurations):
        return False
    pieces = key.split(".")
    above = [".".join(pieces[:count]) for count in range(1, len(pieces))]
    return any(part in differ or (f"{part}.name" in differ and f"{part}.name" != key) for part in above)
