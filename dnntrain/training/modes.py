"""Evaluation mode for a while: what is looked at meanwhile is afterwards as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Put modules into evaluation mode for a while; each layer of theirs gets its own mode back."""
    modes = {module: module.training for whole in modules for module in whole.modules()}
    for whole in modules:
        whole.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
