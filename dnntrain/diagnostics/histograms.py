"""How the weights of a network are distributed, tensor by tensor, at little cost."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn

Bucket = tuple[float, float, float]
"""Lower edge, upper edge, and how many values lie between."""

BUCKETS: Final = 30
MOST_VALUES: Final = 4096
EVERY_EPOCH_UP_TO: Final = 16
# Beyond it the width of a bucket could not be told in single precision; such weights are as lost as infinite ones.
_LARGEST: Final = 1e37
_NARROWEST: Final = 1e-30


def is_due(epoch: int) -> bool:
    """Whether an epoch is one whose weights are told: each up to 16, every second up to 32, every fourth up to 64 ...

    So each time a training doubles its length 8 epochs are added, and the longer it is, the less it costs.
    """
    doublings = ((epoch - 1) // EVERY_EPOCH_UP_TO).bit_length()
    return epoch % (1 << doublings) == 0


@torch.no_grad()
def weight_histograms(model: nn.Module, *, most: int = MOST_VALUES) -> dict[str, list[Bucket]]:
    """Count the values of each parameter of a network in buckets of equal width, from its lowest to its highest.

    Computed where the weights are, and read from there twice in all. Values that are not finite are left out, and a
    parameter that has no others is.

    Args:
        model: the network; it is not changed, and no random number is drawn.
        most: of a larger tensor about so many values are counted, spread evenly over it.
    """
    names, samples = [], []
    for name, parameter in model.named_parameters():
        if parameter.numel():
            names.append(name)
            samples.append(_sample(parameter, most))
    if not names:
        return {}
    ranges = torch.stack([bound for sample in samples for bound in torch.aminmax(sample)]).view(-1, 2).tolist()
    made: dict[str, list[Bucket]] = {}
    told: list[tuple[str, float, float]] = []
    places: list[Tensor] = []
    for name, sample, (low, high) in zip(names, samples, ranges, strict=True):
        if not max(abs(low), abs(high)) <= _LARGEST:
            sample = sample[sample.abs() <= _LARGEST]
            if not sample.numel():
                continue
            low, high = float(sample.min()), float(sample.max())
        if high - low < _NARROWEST:
            made[name] = [(low - 0.5, high + 0.5, float(sample.numel()))]
            continue
        place = torch.sub(sample, low).mul_(BUCKETS / (high - low)).clamp_(0, BUCKETS - 1).int()
        places.append(place.add_(BUCKETS * len(told)))
        told.append((name, low, high))
        made[name] = []  # keeps its place among the others
    if told:
        counts = torch.bincount(torch.cat(places), minlength=BUCKETS * len(told)).view(-1, BUCKETS).tolist()
        for (name, low, high), row in zip(told, counts, strict=True):
            made[name] = _buckets(low, high, row)
    return made


def _sample(parameter: Tensor, most: int) -> Tensor:
    """Return the values of a tensor, or so many of them, in single precision."""
    values = parameter.detach().reshape(-1)
    step = math.ceil(values.numel() / most)
    if step > 1:
        # Of a step that shares a factor with a side of the tensor, only some of its columns would be seen.
        while math.gcd(step, values.numel()) > 1:
            step += 1
        values = values[::step]
    return values.float()


def _buckets(low: float, high: float, counts: list[int]) -> list[Bucket]:
    edges = [low + (high - low) * i / BUCKETS for i in range(BUCKETS)] + [high]
    return [(left, right, float(count)) for left, right, count in zip(edges, edges[1:], counts, strict=False)]
