"""The parameters of a model as an optimizer sees them: all in one piece, or tensor by tensor.

A deep, narrow network has dozens of small tensors, and an optimizer that visits them one by one spends its time on
calls rather than on arithmetic. Where an update is elementwise, `FlatParameters` moves all of them into one buffer, so
that the norm, the clipping and the update are each one operation on one vector. Updates that need the shape of a
tensor (orthogonalized momentum, say) take `TensorParameters`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

Group = dict[str, Any]


class Parameters(ABC):
    """The trainable parameters and their gradients, in groups that share optimizer options.

    Args:
        groups: mappings with `params`, a list of parameters, and the options of that group.
    """

    def __init__(self, groups: Sequence[Mapping[str, Any]]) -> None:
        self.tensors: list[nn.Parameter] = [p for group in groups for p in group["params"]]

    @property
    @abstractmethod
    def groups(self) -> list[Group]:
        """What to give to the optimizer."""

    @property
    @abstractmethod
    def gradients(self) -> list[Tensor]:
        """All gradients, in as few tensors as there can be; they cover every component once."""

    @property
    @abstractmethod
    def gradients_by_tensor(self) -> list[Tensor]:
        """The gradient of each parameter that has one, as a view to be changed in place."""

    def clear(self) -> None:
        """Forget the gradients of the last step."""
        for tensor in self.tensors:
            tensor.grad = None

    @abstractmethod
    def gradients_of(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the gradients of some of the parameters, as views to be changed in place; zeros where was none."""

    @abstractmethod
    def collect(self) -> None:
        """Bring the gradients that backward has left into `gradients`."""

    def norm(self) -> Tensor:
        """Euclidean norm of the whole gradient, a scalar on the device."""
        norms = [torch.linalg.vector_norm(g) for g in self.gradients]
        norm: Tensor = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
        return norm

    def norms(self) -> Tensor:
        """Euclidean norm of the gradient of each of `tensors`, of shape (tensors,), on the device; 0 where is none."""
        norms: list[Tensor] = list(torch._foreach_norm(self.gradients_by_tensor))
        return torch.stack(norms)


class TensorParameters(Parameters):
    """Each parameter by itself, as PyTorch has it."""

    def __init__(self, groups: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(groups)
        self._groups = [dict(group) for group in groups]

    @property
    @override
    def groups(self) -> list[Group]:
        return self._groups

    @property
    @override
    def gradients(self) -> list[Tensor]:
        return [p.grad for p in self.tensors if p.grad is not None]

    @property
    @override
    def gradients_by_tensor(self) -> list[Tensor]:
        return self.gradients

    @override
    def gradients_of(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        for tensor in tensors:
            if tensor.grad is None:
                tensor.grad = torch.zeros_like(tensor)
        return [tensor.grad for tensor in tensors if tensor.grad is not None]

    @override
    def norms(self) -> Tensor:
        # No gradient is made up for a parameter without one: the optimizer would decay it.
        found = iter(torch._foreach_norm(self.gradients))
        return torch.stack([p.new_zeros(()) if p.grad is None else next(found) for p in self.tensors])

    @override
    def collect(self) -> None:
        pass  # backward has left them where the optimizer looks


class FlatParameters(Parameters):
    """All parameters moved into one buffer, each group a stretch of it; the model's parameters become views.

    A parameter that took no part in the loss has a gradient of zero here, where PyTorch would skip it.

    Args:
        groups: mappings with `params`, a list of parameters, and the options of that group.

    Raises:
        ValueError: the parameters differ in type or device, or one of them is not dense.
    """

    def __init__(self, groups: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(groups)
        if len({(p.dtype, p.device) for p in self.tensors}) != 1:
            raise ValueError("flat parameters must share one type and one device")
        if not all(_is_dense(p) for p in self.tensors):
            raise ValueError("flat parameters must be dense")
        first, total = self.tensors[0], sum(p.numel() for p in self.tensors)
        self._values = torch.empty(total, dtype=first.dtype, device=first.device)
        self._gradients = torch.zeros_like(self._values)
        self._zeros: dict[int, Tensor] = {}
        self._views: list[Tensor] = []
        start = 0
        for p in self.tensors:
            view = self._values.as_strided(p.shape, p.stride(), start)
            view.copy_(p.data)
            p.data = view
            self._views.append(self._gradients.as_strided(p.shape, p.stride(), start))
            start += p.numel()
        self._view_of: dict[Tensor, Tensor] = dict(zip(self.tensors, self._views, strict=True))
        self._groups = list(self._flat_groups(groups))

    def _flat_groups(self, groups: Iterable[Mapping[str, Any]]) -> Iterable[Group]:
        start = 0
        for group in groups:
            stop = start + sum(p.numel() for p in group["params"])
            flat = nn.Parameter(self._values[start:stop])
            flat.grad = self._gradients[start:stop]
            yield {**group, "params": [flat]}
            start = stop

    @property
    @override
    def groups(self) -> list[Group]:
        return self._groups

    @property
    @override
    def gradients(self) -> list[Tensor]:
        return [self._gradients]

    @property
    @override
    def gradients_by_tensor(self) -> list[Tensor]:
        return self._views

    @override
    def gradients_of(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return [self._view_of[tensor] for tensor in tensors]

    @override
    def collect(self) -> None:
        """Copy the gradients into the buffer; each has the strides of its parameter."""
        pieces = []
        for p in self.tensors:
            if p.grad is None:
                pieces.append(self._zeros.setdefault(p.numel(), p.new_zeros(p.numel())))
            elif p.grad.stride() == p.stride():
                pieces.append(_linear(p.grad))
            else:
                pieces.append(_linear(torch.empty_like(p).copy_(p.grad)))
        torch.cat(pieces, out=self._gradients)


def _is_dense(tensor: Tensor) -> bool:
    """Whether the tensor's elements fill one stretch of memory without gaps or overlaps."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def _linear(tensor: Tensor) -> Tensor:
    """View a dense tensor in the order of its memory."""
    return tensor.detach().as_strided((tensor.numel(),), (1,))
