"""The layers of a network: picked by name or number, and which of their weights are kernels.

A kernel is what a layer multiplies its inputs by. Biases and the parameters of normalization layers are none, nor are
tables: vectors that are looked up or added as they are, such as those of tokens and of positions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Final

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


OUTPUT: Final = "output"
"""What every architecture calls its last layer."""

Selection = int | str | tuple[str, ...]
"""Layers: a number of them from the bottom; none, all, all_but_output or reused; or names and patterns."""


@dataclass(frozen=True)
class Layer:
    """A layer and what belongs to it.

    Attributes:
        name: of the module that holds its kernel or its table.
        modules: names of the modules that hold its state: that one, and those behind it up to the next layer, such as
            its normalization.
    """

    name: str
    modules: tuple[str, ...]

    @property
    def is_output(self) -> bool:
        """Whether it is the last layer of its network."""
        return self.name == OUTPUT or self.name.startswith(f"{OUTPUT}.")


def layers_of(model: nn.Module) -> list[Layer]:
    """Return the layers of a network from the bottom up, in the order in which it was put together.

    A layer begins with a module that has a kernel or a table of its own; what has a state and comes before the first
    one, such as a normalization of the inputs, belongs to the first.
    """
    found: list[list[str]] = []
    waiting: list[str] = []
    for name, module in model.named_modules():
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if any(p.ndim > 1 for p in module.parameters(recurse=False)):
            found.append([name, *waiting])
            waiting = []
        elif own:
            (found[-1] if found else waiting).append(name)
    return [Layer(names[0], tuple(names)) for names in found]


def state_of(layer: Layer, model: nn.Module) -> list[str]:
    """Return the names of a layer's weights and statistics in the state of its network."""
    modules, kept = dict(model.named_modules()), model.state_dict().keys()
    names = []
    for name in layer.modules:
        module = modules[name]
        own = [*dict(module.named_parameters(recurse=False)), *dict(module.named_buffers(recurse=False))]
        names += [f"{name}.{key}" if name else key for key in own if f"{name}.{key}".lstrip(".") in kept]
    return names


def pick(layers: Sequence[Layer], selection: Selection, *, reused: Collection[str] = ()) -> list[Layer]:
    """Return the layers that a selection means, from the bottom up.

    Args:
        layers: of a network, or some of them, from the bottom up.
        selection: a number counts from the bottom; a pattern is held against a layer's name and against those of the
            blocks that it lies in.
        reused: names of the layers that `reused` means.

    Raises:
        UsageError: there are not so many, or a pattern matches none.
    """
    if isinstance(selection, int):
        if selection > len(layers):
            raise UsageError(f"there are {len(layers)} layers to pick from, not {selection}: {_names(layers)}")
        return list(layers[:selection])
    words: dict[str, Callable[[Layer], bool]] = {
        "none": lambda layer: False,
        "all": lambda layer: True,
        "all_but_output": lambda layer: not layer.is_output,
        "reused": lambda layer: layer.name in reused,
    }
    if isinstance(selection, str) and selection in words:
        return [layer for layer in layers if words[selection](layer)]
    for pattern in _several(selection):
        if not any(_lies_in(layer.name, pattern) for layer in layers):
            raise UsageError(f"no layer matches '{pattern}'; there are {_names(layers)}")
    return [layer for layer in layers if any(_lies_in(layer.name, pattern) for pattern in _several(selection))]


def _lies_in(name: str, pattern: str) -> bool:
    pieces = name.split(".")
    return any(fnmatchcase(".".join(pieces[:count]), pattern) for count in range(1, len(pieces) + 1))


def _names(layers: Iterable[Layer]) -> str:
    return ", ".join(layer.name for layer in layers) or "none"
