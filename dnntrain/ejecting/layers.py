"""Activations, normalizations, dropouts and initializers as plain PyTorch.

Each is a function from its options to the expression that makes it; what PyTorch does not have is defined in the script
as well. Whatever is in none of these tables cannot be ejected.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from dnntrain.ejecting.script import Code, Script, call, differing, fill, signature
from dnntrain.parts.initializers import CUT, CUT_DEVIATION
from dnntrain.registry import Choice


def _module(name: str, **usual: Any) -> Callable[[Script, Any, str], str]:
    """Return what writes a module of PyTorch, with those options that are not PyTorch's own defaults."""
    return lambda script, options, features: call(f"nn.{name}", **differing(options, usual))


_SWISH: Final = '''
class Swish(nn.Module):
    """z sigmoid(beta z)$learned."""

    def __init__(self) -> None:
        super().__init__()
        $beta

    def forward(self, z: Tensor) -> Tensor:
        return z * torch.sigmoid(self.beta * z)
'''

_PRELU: Final = '''
class PReLU(nn.Module):
    """z where it is positive, else slope z, with $slopes."""

    def __init__(self$argument) -> None:
        super().__init__()
        self.slope = nn.Parameter($value)

    def forward(self, z: Tensor) -> Tensor:
        return F.prelu(z, self.slope)
'''


def _swish(script: Script, options: Any, features: str) -> str:
    if options.beta == 1.0 and not options.learnable:
        return "nn.SiLU()"
    value = f"torch.tensor({options.beta!r})"
    beta = f"self.beta = nn.Parameter({value})" if options.learnable else f"self.beta = {options.beta!r}"
    script.define(fill(_SWISH, learned=" with a learned beta" if options.learnable else "", beta=beta))
    return "Swish()"


def _prelu(script: Script, options: Any, features: str) -> str:
    if options.per_channel:
        value = f"torch.full((channels,), {options.init!r})"
        script.define(fill(_PRELU, slopes="a learned slope for each channel", argument=", channels: int", value=value))
        return f"PReLU({features})"
    value = f"torch.tensor({options.init!r})"
    script.define(fill(_PRELU, slopes="one learned slope", argument="", value=value))
    return "PReLU()"


Activation = Callable[[Script, Any, str], str]
"""From the script, the options and how the number of features is called, to an expression."""

ACTIVATIONS: Final[dict[str, Activation]] = {
    "identity": _module("Identity"),
    "sigmoid": _module("Sigmoid"),
    "tanh": _module("Tanh"),
    "softmax": lambda script, options, features: "nn.Softmax(dim=1)",
    "relu": _module("ReLU"),
    "leaky_relu": _module("LeakyReLU", negative_slope=0.01),
    "rrelu": _module("RReLU", lower=1 / 8, upper=1 / 3),
    "prelu": _prelu,
    "elu": _module("ELU", alpha=1.0),
    "selu": _module("SELU"),
    "gelu": _module("GELU", approximate="none"),
    "swish": _swish,
    "mish": _module("Mish"),
    "softplus": _module("Softplus", beta=1.0),
    "hardswish": _module("Hardswish"),
    "relu6": _module("ReLU6"),
}

_CHANNEL_NORM: Final = '''
class $name(nn.$base):
    """$title over the channels of each position."""

    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z.movedim(1, -1)).movedim(-1, 1)
'''


def _batch(script: Script, options: Any, features: str, dims: int) -> str:
    kind = "BatchNorm2d" if dims else "BatchNorm1d"
    return call(f"nn.{kind}", Code(features), **differing(options, {"eps": 1e-5, "momentum": 0.1, "affine": True}))


def _over_channels(base: str, title: str, eps: float | None) -> Callable[[Script, Any, str, int], str]:
    def write(script: Script, options: Any, features: str, dims: int) -> str:
        if dims:
            script.define(fill(_CHANNEL_NORM, name=f"Channel{base}", base=base, title=title))
        given = differing(options, {"eps": eps})
        if not options.affine:
            given["elementwise_affine"] = False
        return call(f"Channel{base}" if dims else f"nn.{base}", Code(features), **given)

    return write


def _group(script: Script, options: Any, features: str, dims: int) -> str:
    return call("nn.GroupNorm", options.groups, Code(features), **differing(options, {"eps": 1e-5, "affine": True}))


def _instance(script: Script, options: Any, features: str, dims: int) -> str:
    return call("nn.InstanceNorm2d", Code(features), **differing(options, {"eps": 1e-5}), affine=options.affine)


Normalization = Callable[[Script, Any, str, int], str]
"""From the script, the options, how the number of features is called, and the spatial dimensions, to an expression."""

NORMALIZATIONS: Final[dict[str, Normalization | None]] = {
    "none": None,
    "batch": _batch,
    "layer": _over_channels("LayerNorm", "Layer normalization", 1e-5),
    "rms": _over_channels("RMSNorm", "Root-mean-square normalization", None),
    "group": _group,
    "instance": _instance,
}

_GAUSSIAN: Final = '''
class GaussianDropout(nn.Module):
    """Multiply each value by noise around 1 in training."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def forward(self, z: Tensor) -> Tensor:
        if not self.training:
            return z
        return z * (1.0 + self.std * torch.randn_like(z))
'''


def _gaussian(script: Script, options: Any, dims: int) -> str:
    script.define(_GAUSSIAN)
    return call("GaussianDropout", math.sqrt(options.rate / (1 - options.rate)))


DROPOUTS: Final[dict[str, Callable[[Script, Any, int], str]]] = {
    "dropout": lambda script, options, dims: call("nn.Dropout", options.rate),
    "alpha": lambda script, options, dims: call("nn.AlphaDropout", options.rate),
    "gaussian": _gaussian,
    "spatial": lambda script, options, dims: call("nn.Dropout1d" if dims == 1 else "nn.Dropout2d", options.rate),
}

_INITIALIZER: Final = '''
@torch.no_grad()
$head
    """$about"""
    $body
'''

_TRUNCATED: Final = """
std = $std
limit = math.erf($cut / math.sqrt(2.0))
weight.uniform_(-limit, limit, generator=draws).erfinv_()
weight.mul_(math.sqrt(2.0)).clamp_(-$cut, $cut).mul_(std)
"""

_ORTHOGONAL: Final = """
matrix = weight.flatten(1)
tall = torch.empty(max(matrix.shape), min(matrix.shape)).normal_(generator=draws)
q, r = torch.linalg.qr(tall)
q.mul_(torch.where(r.diagonal() < 0, -$gain, $gain))
rotation = q if matrix.shape[0] >= matrix.shape[1] else q.T
weight.copy_(rotation.reshape(weight.shape))
"""

_FANS: Final = {"fan_in": "fan_in", "fan_out": "fan_out", "fan_avg": "((fan_in + fan_out) / 2)"}


def _normal(variance: str) -> str:
    return f"weight.normal_(0.0, math.sqrt({variance}), generator=draws)"


def _uniform(variance: str) -> str:
    return f"limit = math.sqrt(3.0 * ({variance}))\nweight.uniform_(-limit, limit, generator=draws)"


def _truncated(std: str) -> str:
    return fill(_TRUNCATED, cut=CUT, std=std)


def _scaled(draw: Callable[[str], str], scale: str, mode: str, about: str) -> Callable[[Any], tuple[str, str]]:
    return lambda options: (about, draw(f"{scale} / {_FANS[mode]}"))


def _variance_scaling(options: Any) -> tuple[str, str]:
    variance = f"{options.scale!r} / {_FANS[options.mode]}"
    kind = options.distribution.replace("_", " ")
    about = f"Draw from a {kind} distribution of variance {options.scale:g} / {options.mode}."
    if options.distribution == "truncated_normal":
        return about, _truncated(f"math.sqrt({variance}) / {CUT_DEVIATION!r}")
    return about, {"normal": _normal, "uniform": _uniform}[options.distribution](variance)


def _plain_normal(options: Any) -> tuple[str, str]:
    # As the run has it, by way of the variance, which may round the deviation.
    deviation = math.sqrt(options.std**2)
    return f"Draw from N(0, {options.std:g}^2).", f"weight.normal_(0.0, {deviation!r}, generator=draws)"


INITIALIZERS: Final[dict[str, Callable[[Any], tuple[str, str]]]] = {
    "glorot_normal": _scaled(_normal, "1.0", "fan_avg", "Draw from N(0, 1 / fan_avg)."),
    "glorot_uniform": _scaled(_uniform, "1.0", "fan_avg", "Draw evenly, with variance 1 / fan_avg."),
    "he_normal": _scaled(_normal, "2.0", "fan_in", "Draw from N(0, 2 / fan_in)."),
    "he_uniform": _scaled(_uniform, "2.0", "fan_in", "Draw evenly, with variance 2 / fan_in."),
    "lecun_normal": _scaled(_normal, "1.0", "fan_in", "Draw from N(0, 1 / fan_in)."),
    "lecun_uniform": _scaled(_uniform, "1.0", "fan_in", "Draw evenly, with variance 1 / fan_in."),
    "variance_scaling": _variance_scaling,
    "normal": _plain_normal,
    "uniform": lambda options: (
        f"Draw evenly from {options.low:g} to {options.high:g}.",
        f"weight.uniform_({options.low!r}, {options.high!r}, generator=draws)",
    ),
    "truncated_normal": lambda options: (
        f"Draw from N(0, {options.std:g}^2) without what lies beyond two deviations.",
        _truncated(repr(options.std)),
    ),
    "orthogonal": lambda options: ("Draw a rotation.", fill(_ORTHOGONAL, gain=repr(options.gain))),
    "zeros": lambda options: ("Start at zero.", "weight.zero_()"),
    "constant": lambda options: (f"Start at {options.value:g}.", f"weight.fill_({options.value!r})"),
}
"""From the options to what the initializer's docstring says, and its body."""


def define_initializer(script: Script, choice: Choice, name: str) -> str:
    """Define an initializer under a name, and return the name."""
    about, body = INITIALIZERS[choice.name](choice.options)
    head = signature(name, ["weight: Tensor", "fan_in: int", "fan_out: int", "draws: Generator"], "None")
    script.define(fill(_INITIALIZER, head=head, about=about, body=body.replace("\n", "\n    ")))
    return name
