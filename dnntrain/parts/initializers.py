"""How the weights of a layer are drawn before training, and how its inputs and outputs per unit are counted.

Each initializer writes into a weight in place, drawing from the generator it is given. With fan_in inputs and fan_out
outputs per unit and fan_avg = (fan_in + fan_out) / 2, the variance of the weights is

    glorot  1 / fan_avg       lecun  1 / fan_in       he  2 / fan_in

`_normal` is a plain normal distribution with that variance (Keras truncates it at two deviations and rescales);
`_uniform` is U(-r, r) with r = sqrt(3 variance). Biases are not initialized here: they start at zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import torch
from pydantic import AfterValidator, ValidationInfo
from pydantic_core import PydanticCustomError
from torch import Tensor

from dnntrain.registry import Family, Positive

initializers = Family(
    "initializer",
    summary="How the weights of a layer are drawn before training.",
    synonyms={
        "xavier": "glorot_uniform",
        "xavier_normal": "glorot_normal",
        "xavier_uniform": "glorot_uniform",
        "glorot": "glorot_normal or glorot_uniform",
        "kaiming": "he_normal",
        "kaiming_normal": "he_normal",
        "kaiming_uniform": "he_uniform",
        "he": "he_normal or he_uniform",
        "lecun": "lecun_normal or lecun_uniform",
        "random_normal": "normal",
        "gaussian": "normal",
        "random_uniform": "uniform",
        "trunc_normal": "truncated_normal",
        "ones": "constant, with value: 1,",
        "zero": "zeros",
    },
)

GLOROT = "Glorot and Bengio 2010, Understanding the difficulty of training deep feedforward neural networks"
HE = "arXiv:1502.01852"
LECUN = "LeCun, Bottou, Orr and Müller 1998, Efficient BackProp"

CUT: Final = 2.0
"""Where truncated normal distributions end, in deviations."""

CUT_DEVIATION: Final = 0.87962566103423978
"""Deviation that a standard normal distribution is left with when it is cut at `CUT`."""


@dataclass(frozen=True)
class Fans:
    """Inputs and outputs of one unit of a layer."""

    fan_in: int
    fan_out: int

    @property
    def fan_avg(self) -> float:
        """Their mean."""
        return (self.fan_in + self.fan_out) / 2


def fans_of(
    shape: Sequence[int],
    kind: Literal["dense", "conv", "stacked", "embedding"],
    *,
    matrices: int = 1,
) -> Fans:
    """Count the inputs that each unit of a layer adds up, and the units that each input goes to.

    ===========  =================================  ================================  ================================
    kind         shape, as PyTorch stores it        fan_in                            fan_out
    ===========  =================================  ================================  ================================
    dense        (out, in)                          in                                out
    conv         (out, in, *kernel)                 in * prod(kernel)                 out * prod(kernel)
    stacked      (matrices * out, in)               in                                out
    embedding    (num, dim)                         1                                 dim
    ===========  =================================  ================================  ================================

    Where others count differently: torch.nn.init and Keras take stacked matrices, such as the gates of an LSTM or a
    GRU, for a single one, so that fan_out is matrices * out; here each is a matrix of its own. An embedding sums no
    inputs, since one row is looked up, so that lecun gives it the variance 1 of torch.nn.Embedding whatever the size
    of the vocabulary; torch.nn.init would count dim inputs and num outputs, Keras num inputs and dim outputs. Strides
    and borders are left out of account, here as there.

    Args:
        shape: of the weight.
        kind: what the layer does with it.
        matrices: how many lie on top of each other in a stacked weight: the gates of a recurrent layer (1 in a plain
            one, 3 in a GRU, 4 in an LSTM), or the queries, keys and values of an attention.
    """
    rows, columns = shape[0], shape[1]
    if kind == "embedding":
        return Fans(1, columns)
    if kind == "conv":
        kernel = math.prod(shape[2:])
        return Fans(columns * kernel, rows * kernel)
    return Fans(columns, rows // matrices)


@torch.no_grad()
def _normal(weight: Tensor, variance: float, generator: torch.Generator) -> None:
    weight.normal_(0.0, math.sqrt(variance), generator=generator)


@torch.no_grad()
def _uniform(weight: Tensor, variance: float, generator: torch.Generator) -> None:
    limit = math.sqrt(3.0 * variance)
    weight.uniform_(-limit, limit, generator=generator)


@torch.no_grad()
def _truncated_normal(weight: Tensor, std: float, generator: torch.Generator) -> None:
    """Draw from N(0, std^2), cut at two deviations, by the inverse of its distribution function."""
    limit = math.erf(CUT / math.sqrt(2.0))
    weight.uniform_(-limit, limit, generator=generator).erfinv_()
    # The rounding of erfinv could pass the cut by a last digit.
    weight.mul_(math.sqrt(2.0)).clamp_(-CUT, CUT).mul_(std)


@initializers.register("glorot_normal", equation="w ~ N(0, 1 / fan_avg)", cite=GLOROT)
def glorot_normal(weight: Tensor, fans: Fans, generator: torch.Generator, /) -> None:
    """Keep the variance of signals and gradients through linear and tanh-like layers."""
    _normal(weight, 1.0 / fans.fan_avg, generator)


@initializers.register("glorot_uniform", equation="w ~ U(-r, r), r = sqrt(3 / fan_avg)", cite=GLOROT)
def glorot_uniform(weight: Tensor, fans: Fans, generator: torch.Generator, /) -> None:
    """The uniform form of glorot; the default of Keras's layers."""
    _uniform(weight, 1.0 / fans.fan_avg, generator)


@initializers.register("he_normal", equation="w ~ N(0, 2 / fan_in)", cite=HE)
def he_normal(weight: Tensor, fans: Fans, generator: torch.Generator, /) -> None:
    """Make up for the half of the signal that relu removes.

    The factor 2 is exact for relu alone. Through 20 wide layers the mean square of a signal that starts at 1 comes
    to 1 with relu, to 6.8 with elu, and shrinks to 0.11 with mish, 1e-3 with gelu, 1e-5 with swish and 5e-6 with
    hardswish, whose slope at zero is a half; normalization makes up for that.
    """
    _normal(weight, 2.0 / fans.fan_in, generator)


@initializers.register("he_uniform", equation="w ~ U(-r, r), r = sqrt(6 / fan_in)", cite=HE)
def he_uniform(weight: Tensor, fans: Fans, generator: torch.Generator, /) -> None:
    """The uniform form of he; the default of torch's layers, U(-r, r) with r = 1 / sqrt(fan_in), has a sixth of it."""
    _uniform(weight, 2.0 / fans.fan_in, generator)


@initializers.register("lecun_normal", equation="w ~ N(0, 1 / fan_in)", cite=LECUN)
def lecun_normal(weight: Tensor, fans: Fans, generator: torch.Generator, /) -> None:
    """Keep the variance of the forward signal; what selu needs to normalize itself."""
    _normal(weight, 1.0 / fans.fan_in, generator)


@initializers.register("lecun_uniform", equation="w ~ U(-r, r), r = sqrt(3 / fan_in)", cite=LECUN)
def lecun_uniform(weight: Tensor, fans: Fans, generator: torch.Generator, /) -> None:
    """The uniform form of lecun."""
    _uniform(weight, 1.0 / fans.fan_in, generator)


@initializers.register(
    "variance_scaling",
    equation="Var w = scale / n, n = fan_in, fan_out or fan_avg",
    cite=f"{HE}; the general form is Keras's VarianceScaling",
)
def variance_scaling(
    weight: Tensor,
    fans: Fans,
    generator: torch.Generator,
    /,
    *,
    scale: Positive = 1.0,
    mode: Literal["fan_in", "fan_out", "fan_avg"] = "fan_in",
    distribution: Literal["normal", "truncated_normal", "uniform"] = "truncated_normal",
) -> None:
    """The family that glorot, he and lecun belong to, with their variance in the hands of the file.

    The defaults are Keras's. The truncated form is a normal distribution cut at two deviations and widened by
    1 / 0.8796, so that what is left has the stated variance; it ends at 2.27 sqrt(variance). `fan_out` with scale 2
    is what torchvision draws its resnets with.

    Args:
        weight: filled in place.
        fans: inputs and outputs of a unit.
        generator: what is drawn from.
        scale: the variance times n: 2 for he, 1 for glorot and lecun.
        mode: what is divided by: fan_in keeps the forward signal, fan_out the gradient, fan_avg the mean of both.
        distribution: normal, truncated_normal or uniform; the variance is the same.
    """
    variance = scale / getattr(fans, mode)
    if distribution == "normal":
        _normal(weight, variance, generator)
    elif distribution == "uniform":
        _uniform(weight, variance, generator)
    else:
        _truncated_normal(weight, math.sqrt(variance) / CUT_DEVIATION, generator)


@initializers.register("normal", equation="w ~ N(0, std^2)", cite=GLOROT)
def normal(weight: Tensor, fans: Fans, generator: torch.Generator, /, *, std: Positive = 1.0) -> None:
    """One deviation for all layers, whatever their size: the habit that kept deep networks from learning.

    With std 1, each layer multiplies the variance of its inputs by fan_in, so that sigmoid and tanh saturate: the
    slope of a saturated unit is next to nothing, and its gradient vanishes. The large weights multiply what is left of
    it on the way back, though, and saturated units still tell inputs apart. Under glorot a deep stack of sigmoids does
    neither: its slopes are at most a quarter, and its signals all come to the same. With twenty sigmoid layers in
    docs/results.md, std 1 therefore trains, slowly, where glorot does not. The defaults of other libraries: 1 in
    torch.nn.init.normal_, 0.05 in Keras.

    Args:
        weight: filled in place.
        fans: inputs and outputs of a unit.
        generator: what is drawn from.
        std: deviation of the weights.
    """
    _normal(weight, std**2, generator)


def _above_low(high: float, info: ValidationInfo) -> float:
    low = info.data.get("low")
    if low is not None and high <= low:
        raise PydanticCustomError(
            "range",
            "uniform draws from low to high, but low is {low} and high {high}",
            {"low": f"{low:g}", "high": f"{high:g}", "hint": "high must be above low"},
        )
    return high


@initializers.register(
    "uniform",
    equation="w ~ U(low, high)",
    cite=LECUN,
    example={"name": "uniform", "low": -0.05, "high": 0.05},
)
@torch.no_grad()
def uniform(
    weight: Tensor,
    fans: Fans,
    generator: torch.Generator,
    /,
    *,
    low: float,
    high: Annotated[float, AfterValidator(_above_low)],
) -> None:
    """One interval for all layers, whatever their size; mean (low + high) / 2, variance (high - low)^2 / 12.

    There is no default, because others disagree: 0 to 1 in torch.nn.init.uniform_, -0.05 to 0.05 in Keras.

    Args:
        weight: filled in place.
        fans: inputs and outputs of a unit.
        generator: what is drawn from.
        low: smallest weight.
        high: largest weight; above low.
    """
    weight.uniform_(low, high, generator=generator)


@initializers.register(
    "truncated_normal",
    equation="w ~ N(0, std^2) given |w| <= 2 std",
    cite="arXiv:1810.04805, which draws all weights so, with std 0.02",
    example={"name": "truncated_normal", "std": 0.02},
)
def truncated_normal(weight: Tensor, fans: Fans, generator: torch.Generator, /, *, std: Positive) -> None:
    """A normal distribution without its tails: what lies beyond two deviations is drawn anew.

    As in Keras and in torch, `std` belongs to the distribution before it is cut; the weights have the deviation
    0.8796 std and the variance 0.7737 std^2. `variance_scaling` states the variance of what is left. Keras cuts at two
    deviations too; torch.nn.init.trunc_normal_ cuts at -2 and 2 themselves, which for a small std is not at all.

    Args:
        weight: filled in place.
        fans: inputs and outputs of a unit.
        generator: what is drawn from.
        std: deviation of the distribution before it is cut.
    """
    _truncated_normal(weight, std, generator)


@initializers.register("orthogonal", equation="W W^T = gain^2 I or W^T W = gain^2 I", cite="arXiv:1312.6120")
@torch.no_grad()
def orthogonal(weight: Tensor, fans: Fans, generator: torch.Generator, /, *, gain: Positive = 1.0) -> None:
    """Rotate: a square matrix keeps the length of every vector, so that deep linear and recurrent nets keep signals.

    Drawn evenly from all such matrices: the Q of a normal matrix's QR factors, its columns turned so that the diagonal
    of R is positive. A convolution's kernel is seen as a matrix (out, rest), as torch does; Keras sees it as
    (rest, out), which is the same. Whichever of rows and columns are fewer are orthogonal, each of length gain, so that
    the variance of the weights is gain^2 / max(rows, columns).

    Args:
        weight: filled in place.
        fans: inputs and outputs of a unit.
        generator: what is drawn from.
        gain: what lengths are multiplied by; sqrt(2) makes up for relu.
    """
    matrix = weight.flatten(1)
    tall = torch.empty(max(matrix.shape), min(matrix.shape)).normal_(generator=generator)
    q, r = torch.linalg.qr(tall)
    q.mul_(torch.where(r.diagonal() < 0, -gain, gain))
    weight.copy_((q if matrix.shape[0] >= matrix.shape[1] else q.T).reshape(weight.shape))


@initializers.register("zeros", equation="w = 0", cite="none: it shows why weights are drawn at random")
@torch.no_grad()
def zeros(weight: Tensor, fans: Fans, generator: torch.Generator, /) -> None:
    """All weights zero: no signal passes, and the units of a hidden layer all stay the same."""
    weight.zero_()


@initializers.register(
    "constant",
    equation="w = value",
    cite="none: it shows why weights are drawn at random",
    example={"name": "constant", "value": 0.01},
)
@torch.no_grad()
def constant(weight: Tensor, fans: Fans, generator: torch.Generator, /, *, value: float) -> None:
    """All weights equal: every unit of a layer gets the same gradient, so that the layer acts as one unit.

    Args:
        weight: filled in place.
        fans: inputs and outputs of a unit.
        generator: what is drawn from.
        value: of each weight.
    """
    weight.fill_(value)
