"""Layers picked by their names, and which of their weights are kernels.

A kernel is what a layer multiplies its inputs by. Biases and the parameters of normalization layers are none, nor are
tables: vectors that are looked up or added as they are, such as those of tokens and of positions.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import Field
from torch import nn

from dnntrain.errors import UsageError
from dnntrain.registry import ByShape

Patterns = Annotated[
    str | tuple[str, ...],
    ByShape(scalar=str, sequence=Annotated[tuple[str, ...], Field(strict=False, min_length=1)]),
]
"""Names of layers, or patterns: `*` stands for any characters."""


class Table(nn.Module):
    """A layer whose weight holds vectors that are not multiplied by its inputs; nn.Embedding is one by nature."""


def matches(name: str, patterns: Patterns) -> bool:
    """Whether a layer's name matches a pattern, or one of several."""
    return any(fnmatchcase(name, pattern) for pattern in _several(patterns))


def check_matches(names: Iterable[str], patterns: Patterns, *, kind: str) -> None:
    """Look for a layer for each pattern.

    Args:
        names: of all layers that could be meant.
        patterns: one or several.
        kind: what those layers are called in the message.

    Raises:
        UsageError: a pattern matches none.
    """
    names = list(names)
    for pattern in _several(patterns):
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UsageError(f"no {kind} matches '{pattern}'; there are {', '.join(names)}")


def _several(patterns: Patterns) -> tuple[str, ...]:
    return (patterns,) if isinstance(patterns, str) else patterns


def kernels(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the kernels of a model by the names of their layers; a layer with several has the rest of their names."""
    tables = table_weights(model)
    return {name.removesuffix(".weight"): p for name, p in model.named_parameters() if p.ndim > 1 and p not in tables}


def table_weights(model: nn.Module) -> set[nn.Parameter]:
    """Return the weights of a model that are tables."""
    tables = [module for module in model.modules() if isinstance(module, Table | nn.Embedding)]
    return {p for table in tables for p in table.parameters(recurse=False)}
