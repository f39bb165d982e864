"""The network of an experiment, its weights drawn from the seed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import torch
from torch import Tensor, nn

from dnntrain.build.locating import chosen, located, locating
from dnntrain.errors import SpecError
from dnntrain.parts.activations import activations, learn_channels
from dnntrain.parts.architectures import Blocks
from dnntrain.parts.initializers import Fans, initializers, orthogonal
from dnntrain.parts.normalizations import InstanceNorm, normalizations
from dnntrain.registry import AUTO, Family
from dnntrain.spec import Spec
from dnntrain.spec.schema import ModelSpec
from dnntrain.training.randomness import derive, forked, generator

# PyTorch has no exception of its own for a tensor that the CPU cannot hold, or whose size is no 64-bit number.
_TOO_LARGE: Final = re.compile("allocate memory|calculation overflowed|Overflow when unpacking|out of memory")


def build_model(spec: Spec, shape: tuple[int, ...], outputs: int, *, pretrained: bool = True) -> nn.Module:
    """Make the network of a resolved experiment on the CPU, its weights drawn from the seed.

    Args:
        spec: a resolved experiment.
        shape: of one input sample.
        outputs: number of logits.
        pretrained: whether layers may be read that were trained elsewhere; no where the weights are replaced at once,
            or do not matter.
    """
    model = spec.model
    blocks = blocks_of(spec, generator(spec.seed, "initialization"), pretrained=pretrained)
    # PyTorch's layers draw weights of their own as they are made, from the global generator; what a part draws beyond
    # our initializers must depend on the seed as well.
    with forked(torch.device("cpu")):
        torch.manual_seed(derive(spec.seed, "layers"))
        try:
            network: nn.Module = model.architecture.build(shape=shape, outputs=outputs, blocks=blocks)
        except SpecError as error:
            problems = [
                each if each.mark else spec.problem("model.architecture", each.message, each.hint)
                for each in error.problems
            ]
            raise SpecError(problems) from error
        except (RuntimeError, TypeError) as error:
            if not _TOO_LARGE.search(str(error)):
                raise
            message = "this network is too large for the memory of this machine"
            raise SpecError([spec.problem("model.architecture", message, "use fewer layers or units")]) from error
    with located(spec, "model.normalization"):
        learn_channels(network, torch.zeros(1, *shape))
        _check_positions(network, torch.zeros(1, *shape))
    return network


def blocks_of(spec: Spec, draws: torch.Generator, *, pretrained: bool = True) -> Blocks:
    """Return the parts that the layers of a resolved experiment are made of.

    Args:
        spec: a resolved experiment.
        draws: what weights are drawn from.
        pretrained: whether layers may be read that were trained elsewhere.
    """
    model = spec.model

    def initialize(key: str) -> Callable[[Tensor, Fans], None]:
        choice = chosen(_unless_own(model, key, "zeros", initializers))
        make = locating(spec, f"model.{key}", choice.build)
        return lambda weight, fans: make(weight=weight, fans=fans, generator=draws)

    norm = chosen(_unless_own(model, "normalization", "none", normalizations)).build()
    activation = chosen(_unless_own(model, "activation", "identity", activations))
    drops = [dropout.build() for dropout in model.dropout]
    return Blocks(
        activation=locating(spec, "model.activation", activation.build),
        normalization=replace(norm, make=norm.make and locating(spec, "model.normalization", norm.make)),
        dropouts=[replace(d, make=locating(spec, f"model.dropout.{i}", d.make)) for i, d in enumerate(drops)],
        initialize=initialize("initializer"),
        initialize_output=initialize("output_initializer"),
        initialize_recurrent=lambda weight, fans: orthogonal(weight, fans, draws),
        pretrained=pretrained,
    )


def _unless_own(model: ModelSpec, key: str, otherwise: str, family: Family) -> Any:
    """Return the part under a key; where a network has parts of its own, one that nobody asks for."""
    own = model.architecture.entry.traits["own_parts"]
    return family.choose(otherwise) if own and getattr(model, key) == AUTO else getattr(model, key)


def _check_positions(network: nn.Module, sample: Tensor) -> None:
    """Let instance normalization see how many positions are left of a sample, before a training starts.

    Raises:
        UsageError: a single one.
    """
    if any(isinstance(module, InstanceNorm) for module in network.modules()):
        with torch.no_grad():
            network.eval()(sample)
        network.train()


def laid_out(model: nn.Module, device: torch.device) -> nn.Module:
    """Put the kernels of convolutions into the order that tensor cores read: channels last, on CUDA."""
    return model.to(memory_format=torch.channels_last) if device.type == "cuda" else model
