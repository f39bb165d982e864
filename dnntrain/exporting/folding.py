"""Batch normalization folded into the layer before it: the same function with fewer steps."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any, Final, NamedTuple, cast

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize
from typing_extensions import override

_LAYERS: Final = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS: Final = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Folded(NamedTuple):
    """A network whose batch normalizations are folded, and how many of them were."""

    model: nn.Module
    layers: int


@torch.no_grad()
def fold_batch_norm(model: nn.Module) -> Folded:
    """Return a copy of a network whose batch normalizations are part of the dense or convolutional layers before them.

    In evaluation mode batch normalization is the same linear function of every sample, so that with the weight w and
    the bias b of the layer (b = 0 if it has none), for each of its outputs,

        w' = w gamma / sqrt(var + eps)
        b' = beta + (b - mean) gamma / sqrt(var + eps)

    and the normalization becomes an identity (Jacob et al. 2018, arXiv:1712.05877, section 3.2). It is folded only
    where it takes what the layer gives, as it is, and nothing else does; where both are used once; and where the
    weights are the layer's own. So one behind an activation stays, as does one whose statistics are those of each
    batch. Products are taken in float64 and rounded once.

    Args:
        model: any network; it is left as it is. What of it `torch.fx` cannot trace is looked at piece by piece.
    """
    made = copy.deepcopy(model).eval()
    pairs = [(layer, norm) for layer, norm in _pairs(made) if _can_fold(made, layer, norm)]
    for layer, norm in pairs:
        _fold(layer, norm)
    folded = {norm for _, norm in pairs}
    for parent in list(made.modules()):
        for name, child in list(parent.named_children()):
            if child in folded:
                setattr(parent, name, nn.Identity())
    return Folded(made, len(pairs))


class _Tracer(fx.Tracer):
    """Looks only into what holds a batch normalization, so that the rest may be untraceable."""

    @override
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, _BatchNorm) or not _holds_norm(m)


def _holds_norm(module: nn.Module) -> bool:
    return any(isinstance(each, _BatchNorm) for each in module.modules())


def _pairs(module: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    """Find each layer of a module with the normalization that is all that takes its outputs."""
    if isinstance(module, _BatchNorm) or not _holds_norm(module):
        return []
    try:
        graph = _Tracer().trace(module)
    except _UNTRACEABLE:
        return [pair for child in module.children() for pair in _pairs(child)]
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    # A weight that the code of a module reads by itself would not be the same afterwards.
    read = {str(node.target).rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"}
    found = []
    for node in graph.nodes:
        before = node.args[0] if node.op == "call_module" and len(node.args) == 1 and not node.kwargs else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
            continue
        names = (str(before.target), str(node.target))
        if all(calls[name] == 1 and name not in read for name in names):
            found.append((module.get_submodule(names[0]), module.get_submodule(names[1])))
    return found


_UNTRACEABLE: Final = (fx.proxy.TraceError, TypeError, ValueError, RuntimeError, AttributeError, NotImplementedError)
"""What comes of code that decides by values, when it is given none."""


def _can_fold(model: nn.Module, layer: nn.Module, norm: nn.Module) -> bool:
    """Whether both are of the very kinds whose sums are known, and belong to nobody else."""
    if type(layer) not in _LAYERS or type(norm) not in _NORMS or parametrize.is_parametrized(layer):
        return False
    if cast(Any, norm).running_mean is None or layer._forward_hooks or layer._forward_pre_hooks:
        return False
    owners = Counter(id(p) for m in model.modules() for p in m.parameters(recurse=False))
    names = Counter(id(m) for _, m in model.named_modules(remove_duplicate=False))
    return all(owners[id(p)] == 1 for p in layer.parameters()) and names[id(layer)] == names[id(norm)] == 1


def _fold(layer: Any, norm: Any) -> None:
    factor = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        factor = factor * norm.weight.double()
    bias = torch.zeros_like(factor) if layer.bias is None else layer.bias.double()
    bias = (bias - norm.running_mean.double()) * factor
    if norm.bias is not None:
        bias = bias + norm.bias.double()
    weight: Tensor = layer.weight
    outputs = (-1, *(1 for _ in weight.shape[1:]))
    layer.weight = nn.Parameter((weight.double() * factor.view(outputs)).to(weight.dtype))
    layer.bias = nn.Parameter(bias.to(weight.dtype))
