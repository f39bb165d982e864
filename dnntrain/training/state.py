"""What must be remembered so that training can go on exactly where it was left: tensors and plain values only."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

State = dict[str, Any]


class Stateful(Protocol):
    """Whatever has a state of its own."""

    def state_dict(self) -> State:
        """Return it, as tensors and plain values; tensors may be the living ones."""

    def load_state_dict(self, state: State, /) -> Any:
        """Go to a state that `state_dict` has returned."""


class Attributes:
    """Some attributes of an object, as a state.

    Args:
        owner: the object.
        names: the attributes: numbers, texts, None, tensors, and mappings of them.
    """

    def __init__(self, owner: object, *names: str) -> None:
        self._owner = owner
        self._names = names

    def state_dict(self) -> State:
        """Return the attributes by name."""
        return {name: getattr(self._owner, name) for name in self._names}

    def load_state_dict(self, state: State, /) -> None:
        """Set them."""
        for name in self._names:
            setattr(self._owner, name, state[name])


class OptimizerMemory:
    """What an optimizer remembers of past gradients.

    Its options (rates, decays, ...) are not part of it: they are the experiment's, and where they change over time it
    is by the schedule, which is a function of the step.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer

    def state_dict(self) -> State:
        """Return the memory by the number of the parameter."""
        return {"state": self._optimizer.state_dict()["state"]}

    def load_state_dict(self, state: State, /) -> None:
        """Replace the memory."""
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": state["state"], "param_groups": groups})


class RandomState:
    """The random generators of the process: PyTorch's for the CPU and a CUDA device, NumPy's and Python's.

    Args:
        device: where training computes; a state that was saved on another kind of device leaves its generator alone.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def state_dict(self) -> State:
        """Return the states as tensors, numbers and lists of numbers: NumPy's own objects would need unpickling."""
        name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
        version, words, gauss_next = random.getstate()
        state: State = {
            "torch": torch.get_rng_state(),
            "numpy": {
                "name": str(name),
                "keys": torch.from_numpy(np.asarray(keys).astype(np.int64)),
                "position": int(position),
                "has_gauss": int(has_gauss),
                "gauss": float(gauss),
            },
            "python": {"version": version, "words": list(words), "gauss": gauss_next},
        }
        if self._device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self._device)
        return state

    def load_state_dict(self, state: State, /) -> None:
        """Put the generators back."""
        numpy, python = state["numpy"], state["python"]
        torch.set_rng_state(state["torch"].cpu())
        keys = numpy["keys"].cpu().numpy().astype(np.uint32)
        np.random.set_state((numpy["name"], keys, numpy["position"], numpy["has_gauss"], numpy["gauss"]))
        random.setstate((python["version"], tuple(python["words"]), python["gauss"]))
        if self._device.type == "cuda" and "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"].cpu(), self._device)


def copied(state: Any) -> Any:
    """Return a copy of a state that shares no tensor with it."""
    if isinstance(state, Tensor):
        return state.detach().clone()
    if isinstance(state, Mapping):
        return {key: copied(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(copied(value) for value in state)
    return state


def differences(one: Any, other: Any, /, *, path: str = "") -> Iterator[str]:
    """Yield the dotted paths at which two states differ in a single bit; two numbers that are not one are equal."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in [*one, *(key for key in other if key not in one)]:
            below = f"{path}.{key}" if path else str(key)
            if key in one and key in other:
                yield from differences(one[key], other[key], path=below)
            else:
                yield below
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            yield from differences(a, b, path=f"{path}.{i}" if path else str(i))
    elif not _same(one, other):
        yield path


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(_bits(one), _bits(other))
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return type(one) is type(other) and bool(one == other)


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
