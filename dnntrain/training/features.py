"""Outputs of frozen lower layers, computed once and kept: what lies above is trained on them.

A layer gives the same output for the same sample in every epoch if nothing in it is trained, nothing in it is drawn at
random, and no statistics move. Whether that is so is not read off the kinds of the layers but tried out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import torch
from torch import Tensor, nn
from typing_extensions import override

from dnntrain import interruption
from dnntrain.training.batches import Batch, Examples
from dnntrain.training.modes import evaluating
from dnntrain.training.randomness import forked
from dnntrain.training.state import copied, differences
from dnntrain.training.stepper import autocast


@dataclass(frozen=True, kw_only=True)
class Features(Examples):
    """One part of the data as the outputs of the lower layers of a network.

    They are computed when the first of them is wanted: all at once and in the order of the part, so that they are the
    same bits whenever training starts or goes on.

    Attributes:
        lower: the layers; on `device`.
        batch_size: samples that pass them at a time.
        precision: number format of the pass.
    """

    lower: nn.Module
    batch_size: int
    precision: str

    @classmethod
    def of(cls, examples: Examples, lower: nn.Module, *, batch_size: int, precision: str) -> Features:
        """Return what some layers make of a part of the data.

        Args:
            examples: the part.
            lower: the layers.
            batch_size: samples that pass them at a time.
            precision: number format of the pass.
        """
        own = (examples.x, examples.y, examples.index, examples.prepare, examples.device, examples.resize)
        return cls(*own, lower=lower, batch_size=batch_size, precision=precision)

    @torch.no_grad()
    def size_of(self, sample: Tensor) -> int:
        """Return the bytes of what the layers give for each of some prepared samples."""
        with evaluating(self.lower):
            return int(self._pass(sample).nbytes) // len(sample)

    @cached_property
    def outputs(self) -> Tensor:
        """All outputs, of shape (samples, ...), on the device.

        Raises:
            Interrupted: a signal asked for the end.
        """
        with evaluating(self.lower):
            pieces = self._pieces()
            first = next(pieces)
            # Filled piece by piece: to put them together at the end would take twice the memory.
            found = first.new_empty((len(self), *first.shape[1:]))
            stop = 0
            for piece in chain((first,), pieces):
                start, stop = stop, stop + len(piece)
                found[start:stop] = piece
            return found

    @torch.no_grad()
    def _pieces(self) -> Iterator[Tensor]:
        for start in range(0, len(self), self.batch_size):
            interruption.check()
            stop = min(start + self.batch_size, len(self))
            x, _ = super().take(torch.arange(start, stop, device=self.index.device))
            yield self._pass(x)

    def _pass(self, x: Tensor) -> Tensor:
        with autocast(self.device, self.precision):
            outputs: Tensor = self.lower(x)
        return outputs

    @property
    @override
    def source(self) -> Examples:
        return Examples(self.x, self.y, self.index, self.prepare, self.device, self.resize)

    @override
    def ready(self) -> None:
        self.outputs  # noqa: B018 - computed and kept

    @override
    def take(self, positions: Tensor) -> Batch:
        targets = self.y.index_select(0, self.index.index_select(0, positions))
        return self.outputs.index_select(0, positions.to(self.device)), targets.to(self.device, non_blocking=True)


@torch.no_grad()
def split(
    model: nn.Module, sample: Tensor, *, held: Collection[nn.Module], precision: str
) -> tuple[nn.Sequential, nn.Sequential] | None:
    """Divide a network below its first layer that is trained, random or changing; None where it is the very first.

    Args:
        model: a sequence of layers; frozen parameters want no gradient. It is left as it is.
        sample: two or more prepared samples, on the device of the network.
        held: normalizations that keep their statistics in training.
        precision: number format of the pass.

    Returns:
        the lower and the upper part; they share their layers with the network, under the names these have there.
    """
    if not isinstance(model, nn.Sequential):
        return None
    layers = list(model.named_children())
    x, height = sample, 0
    with forked(sample.device), autocast(sample.device, precision):
        for _, layer in layers[:-1]:
            outputs = _settled(layer, x, held)
            if outputs is None:
                break
            x, height = outputs, height + 1
    if not any(True for _, layer in layers[:height] for _ in layer.parameters()):
        return None
    return nn.Sequential(OrderedDict(layers[:height])), nn.Sequential(OrderedDict(layers[height:]))


def _settled(layer: nn.Module, x: Tensor, held: Collection[nn.Module]) -> Tensor | None:
    """Return what a layer gives for some samples; None where training changes it, or draws at random in it."""
    if any(p.requires_grad for p in layer.parameters()):
        return None
    with evaluating(layer):
        state, random = copied(layer.state_dict()), _random(x.device)
        for module in layer.modules():
            module.training = module not in held
        trained: Tensor = layer(x)
        drew = any(not torch.equal(one, other) for one, other in zip(random, _random(x.device), strict=True))
        moved = any(differences(state, layer.state_dict()))
        evaluated: Tensor = layer.eval()(x)
        layer.load_state_dict(state)
    same = torch.allclose(trained, evaluated, rtol=1e-4, atol=1e-5)
    return evaluated if same and not drew and not moved else None


def _random(device: torch.device) -> list[Tensor]:
    """Return the states of the generators that a layer could draw from."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states
