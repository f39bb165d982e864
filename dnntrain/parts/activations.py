"""Nonlinearities between layers; all keep the shape of their input.

Channels are dimension 1, as PyTorch has it: (N, C), (N, C, T) or (N, C, H, W). The trait `initializer` is the scheme
that `initializer: auto` picks for the layer before the activation.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import torch
from pydantic import AfterValidator, ValidationInfo
from pydantic_core import PydanticCustomError
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import UninitializedParameter
from typing_extensions import override

from dnntrain.registry import Family, NonNegative, Positive

activations = Family(
    "activation",
    summary="Nonlinearities between layers.",
    traits={"initializer": "he_normal"},
    synonyms={
        "silu": "swish",
        "linear": "identity",
        "none": "identity",
        "logistic": "sigmoid",
        "leakyrelu": "leaky_relu",
        "lrelu": "leaky_relu",
        "randomized_leaky_relu": "rrelu",
        "parametric_relu": "prelu",
        "hard_swish": "hardswish",
        "hard_silu": "hardswish",
        "relu_6": "relu6",
        "soft_plus": "softplus",
        "glu": "model.architecture.gate=glu (of vit)",
        "geglu": "model.architecture.gate=geglu (of vit)",
        "swiglu": "model.architecture.gate=swiglu (of vit)",
    },
)

LEAKY: Final = "Maas, Hannun and Ng 2013, Rectifier nonlinearities improve neural network acoustic models"


class RandomizedLeakyReLU(nn.RReLU):
    """PyTorch's, which has no kernel for half precision on the CPU: there it computes in single precision."""

    @override
    def forward(self, z: Tensor) -> Tensor:
        if z.dtype == torch.float16 and z.device.type == "cpu":
            return super().forward(z.float()).half()
        return super().forward(z)


class Swish(nn.Module):
    """z sigmoid(beta z), with beta fixed or learned (one beta for the layer)."""

    def __init__(self, beta: float, *, learnable: bool) -> None:
        super().__init__()
        value = torch.tensor(beta)
        if learnable:
            self.beta = nn.Parameter(value)
        else:
            self.register_buffer("beta", value, persistent=False)

    @override
    def forward(self, z: Tensor) -> Tensor:
        return z * torch.sigmoid(self.beta * z)


class PReLU(nn.Module):
    """z where positive, else slope z, with one learned slope for the layer or one for each channel.

    An activation is made before anything says how many channels it will see. The slopes of `per_channel` are thus a
    parameter without a shape, which takes the shape of the first input; `learn_channels` shows the module one before
    an optimizer wants the parameters.
    """

    def __init__(self, init: float, *, per_channel: bool) -> None:
        super().__init__()
        self.init = init
        self.slope = UninitializedParameter() if per_channel else nn.Parameter(torch.tensor(init))

    @override
    def forward(self, z: Tensor) -> Tensor:
        if isinstance(self.slope, UninitializedParameter):
            self.slope.materialize((z.shape[1],))
            nn.init.constant_(self.slope, self.init)
        return F.prelu(z, self.slope)


def learn_channels(model: nn.Module, sample: Tensor) -> None:
    """Let activations that learn something for each channel find out how many channels they have.

    A model without such activations is left alone; else one forward pass is made in evaluation mode, without
    gradients, which changes no running statistics and draws nothing at random.

    Args:
        model: a network, just made.
        sample: inputs of it, one or more; their values do not matter.
    """
    if not any(isinstance(p, UninitializedParameter) for p in model.parameters()):
        return
    training = model.training
    with torch.no_grad():
        model.eval()(sample)
    model.train(training)


@activations.register("identity", equation="z", cite="none: the linear layer itself", initializer="glorot_normal")
def identity() -> nn.Module:
    """No nonlinearity: a deep stack of these is still a linear model."""
    return nn.Identity()


@activations.register(
    "sigmoid", equation="1 / (1 + exp(-z))", cite="Rumelhart et al. 1986", initializer="glorot_normal"
)
def sigmoid() -> nn.Module:
    """Squash to (0, 1); saturates on both sides, so gradients vanish in deep stacks.

    Its slope is a quarter at most: with glorot, signals pass, but the mean square of a gradient falls to an
    eighteenth at each layer.
    """
    return nn.Sigmoid()


@activations.register(
    "tanh",
    equation="(exp(z) - exp(-z)) / (exp(z) + exp(-z))",
    cite="Efficient BackProp 1998",
    initializer="glorot_normal",
)
def tanh() -> nn.Module:
    """Squash to (-1, 1); centred on zero, but saturates."""
    return nn.Tanh()


@activations.register(
    "softmax",
    equation="exp(z_c) / sum_k exp(z_k) over channels",
    cite="Bridle 1990, Probabilistic interpretation of feedforward classification network outputs",
    initializer="glorot_normal",
)
def softmax() -> nn.Module:
    """Share 1 among the channels: a soft choice of one; for pictures at each position by itself.

    Meant for gates and mixtures: in a wide hidden layer each share is near 1 / C, which leaves next to no signal.
    Models give logits, so none is needed at the output. The sum is over dimension 1; Keras sums over the last one,
    where it has the channels.
    """
    return nn.Softmax(dim=1)


@activations.register("relu", equation="max(0, z)", cite="Nair and Hinton 2010")
def relu() -> nn.Module:
    """Cut at zero: fast, does not saturate for positive inputs; a unit that is always negative is dead."""
    return nn.ReLU()


@activations.register("leaky_relu", equation="z if z > 0 else negative_slope z", cite=LEAKY)
def leaky_relu(*, negative_slope: NonNegative = 0.01) -> nn.Module:
    """Relu that leaks where it is negative, so that no unit dies.

    The default is PyTorch's and the paper's; Keras leaks 0.3, and 0.2 is said to do better than 0.01.

    Args:
        negative_slope: slope below zero.
    """
    return nn.LeakyReLU(negative_slope)


def _not_below_lower(upper: float, info: ValidationInfo) -> float:
    lower = info.data.get("lower")
    if lower is not None and upper < lower:
        raise PydanticCustomError(
            "range",
            "rrelu draws from lower to upper, but lower is {lower} and upper {upper}",
            {"lower": f"{lower:g}", "upper": f"{upper:g}", "hint": "upper must not be below lower"},
        )
    return upper


@activations.register(
    "rrelu",
    equation="z if z > 0 else a z, a ~ U(lower, upper); (lower + upper) / 2 z in evaluation",
    cite="arXiv:1505.00853",
)
def rrelu(
    *, lower: NonNegative = 1 / 8, upper: Annotated[NonNegative, AfterValidator(_not_below_lower)] = 1 / 3
) -> nn.Module:
    """Leaky relu with a slope drawn for each value at each step of training, which regularizes; fixed in evaluation.

    The slopes come from torch's global generator; in evaluation the slope is their mean, as in torch. The paper draws
    what z is divided by instead, between 3 and 8, whose inverses are the defaults, and then divides by 5.5.

    Args:
        lower: smallest slope below zero.
        upper: largest slope below zero.
    """
    return RandomizedLeakyReLU(lower, upper)


@activations.register("prelu", equation="z if z > 0 else a z, a learned", cite="arXiv:1502.01852")
def prelu(*, init: float = 0.25, per_channel: bool = False) -> nn.Module:
    """Leaky relu with a learned slope; strong on large data, prone to overfit small ones.

    Weight decay skips the slopes, as the paper asks. PyTorch's default is one slope for the layer; Keras learns one
    for each value of a sample and starts at 0, the paper's larger nets one for each channel.

    Args:
        init: slope below zero before training.
        per_channel: learn one slope for each channel (dimension 1) instead of one for the layer.
    """
    return PReLU(init, per_channel=per_channel)


@activations.register("elu", equation="z if z > 0 else alpha (exp(z) - 1)", cite="arXiv:1511.07289")
def elu(*, alpha: Positive = 1.0) -> nn.Module:
    """Relu that bends down to -alpha, so that the mean of its outputs is nearer zero and no unit dies.

    Args:
        alpha: minus the value for large negative inputs; at 1 the slope has no jump at zero.
    """
    return nn.ELU(alpha)


@activations.register(
    "selu",
    equation="1.0507 z if z > 0 else 1.7581 (exp(z) - 1)",
    cite="arXiv:1706.02515",
    initializer="lecun_normal",
)
def selu() -> nn.Module:
    """Self-normalizing: keeps mean 0 and variance 1, given lecun_normal, standardized inputs and plain dense layers."""
    return nn.SELU()


@activations.register(
    "gelu", equation="z Phi(z), Phi the standard normal distribution function", cite="arXiv:1606.08415"
)
def gelu(*, approximate: Literal["none", "tanh"] = "none") -> nn.Module:
    """Weigh each input by the chance that a normal draw is below it: smooth relu, common in transformers.

    Args:
        approximate: none, or tanh: z / 2 (1 + tanh(sqrt(2 / pi) (z + 0.044715 z^3))), within 5e-4 of it.
    """
    return nn.GELU(approximate=approximate)


@activations.register("swish", equation="z sigmoid(beta z)", cite="arXiv:1710.05941")
def swish(*, beta: Positive = 1.0, learnable: bool = False) -> nn.Module:
    """Smooth, non-monotonic ReLU; SiLU when beta is 1.

    With he, which `auto` picks, signals shrink: a small one to its half in mean square at each layer.

    Args:
        beta: steepness of the gate; relu as it grows, z / 2 as it goes to 0.
        learnable: train beta, one for each layer.
    """
    return Swish(beta, learnable=learnable) if learnable or beta != 1.0 else nn.SiLU()


@activations.register("mish", equation="z tanh(ln(1 + exp(z)))", cite="arXiv:1908.08681")
def mish() -> nn.Module:
    """Smooth, non-monotonic relu like swish, a little steeper at zero."""
    return nn.Mish()


@activations.register(
    "softplus",
    equation="ln(1 + exp(beta z)) / beta",
    cite="Dugas, Bengio, Bélisle, Nadeau and Garcia 2000, Incorporating second-order functional knowledge",
)
def softplus(*, beta: Positive = 1.0) -> nn.Module:
    """Smooth relu that is positive everywhere.

    As in torch, inputs with beta z > 20 are returned as they are, which is within 2.1e-9 / beta.

    Args:
        beta: sharpness of the bend at zero; relu as it grows.
    """
    return nn.Softplus(beta)


@activations.register("hardswish", equation="z min(max(0, z + 3), 6) / 6", cite="arXiv:1905.02244")
def hardswish() -> nn.Module:
    """Swish made of straight lines, cheap on small devices."""
    return nn.Hardswish()


@activations.register(
    "relu6",
    equation="min(max(0, z), 6)",
    cite="Krizhevsky 2010, Convolutional deep belief networks on CIFAR-10",
)
def relu6() -> nn.Module:
    """Relu that stops at 6, which suits numbers of few bits."""
    return nn.ReLU6()
