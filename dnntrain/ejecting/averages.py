"""Averages of the weights: how they are taken, and how they stand in for the weights where those are evaluated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from dnntrain.ejecting.script import Script, fill, lines
from dnntrain.registry import Choice
from dnntrain.training.built import EVALUATION_BATCH

_COPIED: Final = '''
def copied(network: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the network's weights$statistics."""
    return {name: value.clone() for name, value in network.state_dict().items()}
'''

_MEASURE: Final = '''
@torch.no_grad()
def measure_statistics(
    network: nn.Module, standardize: Callable[[Tensor], Tensor], x: Tensor
) -> dict[str, Tensor]:
    """Measure the statistics of batch normalization at the present weights.

    They are the means over batches of the training part, in an order that is always
    the same, of what a step of training would see.
    """
    network.eval()
    $kinds
    norms = [m for m in network.modules() if isinstance(m, $kind)]
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
    order = torch.randperm(len(x), generator=Generator().manual_seed(0))
    seen = 0
    for rows in $batches:
        seen += len(rows)
        for norm in norms:
            norm.momentum = len(rows) / seen
        network(standardize($samples))
    for norm in norms:
        norm.momentum = $momentum
    return {k: v.clone() for k, v in network.state_dict().items() if "running" in k}
'''

_EMA: Final = """
for name, value in self.network.state_dict().items():
    if self.steps == 1$counts:
        self.average[name].copy_(value)
    else:
        self.average[name].lerp_(value, 1.0 - DECAY)
"""

_SWA: Final = """
self.averaged += 1
for name, value in self.network.state_dict().items():
    self.average[name].lerp_(value, 1.0 / self.averaged)
"""

_SWA_COUNTS: Final = """
self.averaged += 1
for name, value in self.network.state_dict().items():
    if value.is_floating_point():
        self.average[name].lerp_(value, 1.0 / self.averaged)
    else:  # a count of batches
        self.average[name].copy_(value)
"""


def _ema(script: Script, options: Any, counts: bool) -> tuple[str, str]:
    script.constants(DECAY=options.decay)
    about = "Move the average towards the weights, from those of the first step on."
    return about, fill(_EMA, counts=" or not value.is_floating_point()" if counts else "")


def _swa(script: Script, options: Any, counts: bool) -> tuple[str, str]:
    return "Take the present weights into their mean over epochs.", (_SWA_COUNTS if counts else _SWA).strip()


AVERAGES: Final[dict[str, Callable[[Script, Any, bool], tuple[str, str]]]] = {"ema": _ema, "swa": _swa}
"""From the options, and whether batch normalization counts its batches, to what takes weights in, and its body."""


def statistics_of(network: nn.Module) -> list[_BatchNorm]:
    """Return the layers of a network with running statistics of batches."""
    return [each for each in network.modules() if isinstance(each, _BatchNorm) and each.track_running_stats]


def define_copied(script: Script, network: nn.Module) -> None:
    """Define what copies the weights of a network."""
    script.define(fill(_COPIED, statistics=" and statistics" if statistics_of(network) else ""))


def define_average(script: Script, average: Choice, network: nn.Module, *, joins: bool, samples: str) -> None:
    """Define what copies weights, and what measures statistics anew where that is wanted.

    Args:
        script: what takes definitions.
        average: of the weights.
        network: as dnntrain builds it.
        joins: whether a last batch of a single sample of the training part joins the one before it.
        samples: the expression of the samples at `rows`.
    """
    norms = statistics_of(network)
    define_copied(script, network)
    if average.name == "swa" and norms:
        kinds = sorted({f"nn.{type(norm).__name__}" for norm in norms})
        batches = f"cut(order, {EVALUATION_BATCH})" if joins else f"order.split({EVALUATION_BATCH})"
        made = {"kind": kinds[0], "kinds": ""}
        if len(kinds) > 1:
            made = {"kind": "kinds", "kinds": f"kinds = {' | '.join(kinds)}"}
        script.define(fill(_MEASURE, **made, batches=batches, samples=samples, momentum=repr(norms[0].momentum)))


def updating(script: Script, average: Choice, network: nn.Module) -> tuple[str, list[str]]:
    """Return what the method does that takes weights into the average, and its lines."""
    about, body = AVERAGES[average.name](script, average.options, bool(statistics_of(network)))
    return about, body.splitlines()


def begin_averaging(average: Choice) -> list[str]:
    """Return the lines that prepare an average of the weights of `network`."""
    return ["self.average = copied(network)", *(["self.averaged = 0"] if average.name == "swa" else [])]


def put_in_place(average: Choice, network: nn.Module) -> list[str]:
    """Return the lines that put the average into `network`, and keep what is trained as `own`."""
    keep, load = "own = copied(network)", "network.load_state_dict(trainer.average)"
    if average.name == "ema":
        return [keep, f"{load}  # evaluated in their place"]
    body = ["trainer.update_average()", load]
    if statistics_of(network):
        body.append("# The statistics of mean weights are not the mean statistics.")
        body += ["trainer.average |= measure_statistics(network, standardize, train[0])", load]
    start = vars(average.options)["start"]
    return [keep, f"if epoch > {start!r} * EPOCHS:", lines(body, 1)] if start else [keep, *body]
