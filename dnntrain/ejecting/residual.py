"""Residual networks: blocks of two convolutions, each with a shortcut past them."""

from __future__ import annotations

from typing import Any, Final

from dnntrain.build import Data
from dnntrain.ejecting.script import fill, lines
from dnntrain.ejecting.writer import Writer, called, define_convolution, define_dense, layer
from dnntrain.parts.architectures.resnet import STAGES, STEM
from dnntrain.spec import Spec

_PADDED: Final = '''
class PaddedShortcut(nn.Module):
    """Takes every second pixel of pictures, and adds channels of zeros."""

    def __init__(self, extra: int) -> None:
        super().__init__()
        self.extra = extra

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.extra))
'''

_PROJECTION: Final = '''
def projection(channels: int, filters: int, draws: Generator) -> nn.Sequential:
    """Return what brings pictures to half their size and to more channels."""
    layers = OrderedDict()
    layers["conv"] = nn.Conv2d(channels, filters, 1, stride=2$bias)
    $initialize(layers["conv"].weight, channels, filters, draws)
    $zeros
    $norm
    return nn.Sequential(layers)
'''

_BLOCK: Final = '''
class ResidualBlock(nn.Module):
    """Two convolutions, and a shortcut that takes their input past them.

    So the branch of the convolutions learns only what to add to its input. A block with
    more filters than channels halves pictures, in the branch as in the shortcut.
    """

    def __init__(self, channels: int, filters: int, draws: Generator) -> None:
        super().__init__()
        stride = 1 if channels == filters else 2
        layers = OrderedDict()
$branch
        self.branch = nn.Sequential(layers)
        if stride == 1:
            self.shortcut = nn.Identity()
        else:
            self.shortcut = $shortcut
$finish

    def forward(self, x: Tensor) -> Tensor:
        return self.$last(self.branch(x) + self.shortcut(x))
'''

_LOOP: Final = """
channels = WIDTHS[0]
$stem
for stage, filters in enumerate(WIDTHS, start=1):
    blocks = OrderedDict()
    for number in range(1, BLOCKS + 1):
        blocks[f"block{number}"] = ResidualBlock(channels, filters, draws)
        channels = filters
    layers[f"stage{stage}"] = nn.Sequential(blocks)
"""

_PREACTIVATED: Final = '''
class PreactivatedBlock(nn.Module):
    """Two convolutions, each behind its activation, and a shortcut past them.

    So nothing changes what blocks hand on but what each adds to it. Where its shape has
    to change, a projection is handed on.
    """

    def __init__(
        self, channels: int, filters: int, stride: int, draws: Generator
    ) -> None:
        super().__init__()
        layers = OrderedDict()
$open
        self.open = nn.Sequential(layers)
        layers = OrderedDict()
$branch
        self.branch = nn.Sequential(layers)
        self.projection = None
        if channels != filters:
            self.projection = nn.Conv2d(channels, filters, 1, stride, bias=False)
            $initialize(self.projection.weight, channels, filters, draws)

    def forward(self, x: Tensor) -> Tensor:
        opened = self.open(x)
        branch = self.branch(opened)
        return branch + (x if self.projection is None else self.projection(opened))
'''

_WIDE_LOOP: Final = """
channels = $stem
layers["conv"] = convolution($inputs, channels, draws$bias)
for stage, filters in enumerate(WIDTHS, start=1):
    blocks = OrderedDict()
    for number in range(1, BLOCKS + 1):
        stride = 2 if stage > 1 and number == 1 else 1
        block = PreactivatedBlock(channels, filters, stride, draws)
        blocks[f"block{number}"] = block
        channels = filters
    layers[f"stage{stage}"] = nn.Sequential(blocks)
"""


def resnet(writer: Writer, spec: Spec, data: Data) -> tuple[list[str], str]:
    """Define the residual block, and return the lines of a network of them."""
    options: Any = spec.model.architecture.options
    widths = [options.width * 2**stage for stage in range(STAGES)]
    writer.script.constants(WIDTHS=widths, BLOCKS=(options.depth - 2) // (2 * STAGES))
    define_convolution(writer, widths, 3, strides=True)
    _define_block(writer, spec, widths)
    define_dense(writer.script, optional=False)
    channels = data.shape[0]
    stem = [
        layer("conv", f"convolution({channels}, channels, draws{called(writer.bias(widths, 'channels'))})"),
        *writer.norm_and_activation("", "channels", 2),
    ]
    return _between(writer, channels, [fill(_LOOP, stem=lines(stem))]), "channels"


def wide_resnet(writer: Writer, spec: Spec, data: Data) -> tuple[list[str], str]:
    """Define the block that is activated first, and return the lines of a network of them."""
    options: Any = spec.model.architecture.options
    widths = [STEM * options.widen * 2**stage for stage in range(STAGES)]
    writer.script.constants(WIDTHS=widths, BLOCKS=(options.depth - 4) // (2 * STAGES))
    filters = [STEM, *widths]
    define_convolution(writer, filters, 3, strides=True)
    bias = called(writer.bias(filters, "filters"))
    branch = [
        layer("conv1", f"convolution(channels, filters, draws, stride{bias})"),
        *writer.norm_and_activation("2", "filters", 2),
        *writer.hidden_dropouts("dropout", 2),
        layer("conv2", f"convolution(filters, filters, draws{bias})"),
    ]
    opening = lines(writer.norm_and_activation("1", "channels", 2), 2)
    writer.script.define(fill(_PREACTIVATED, open=opening, branch=lines(branch, 2), initialize=writer.initialize))
    define_dense(writer.script, optional=False)
    channels = data.shape[0]
    stem_bias = called(writer.bias(filters, "channels"))
    body = [
        fill(_WIDE_LOOP, stem=STEM, inputs=channels, bias=stem_bias),
        *writer.norm_and_activation("", "channels", 2),
    ]
    return _between(writer, channels, body), "channels"


def _between(writer: Writer, channels: int, stages: list[str]) -> list[str]:
    """Return the lines of a network's stages, between those of its input and those of what its output sees."""
    return [
        *writer.input_norm(channels, 2),
        *writer.input_dropouts(2),
        *stages,
        layer("global_pool", "nn.AdaptiveAvgPool2d(1)"),
        layer("flatten", "nn.Flatten()"),
        *writer.final_dropouts(),
    ]


def _define_block(writer: Writer, spec: Spec, widths: list[int]) -> None:
    options: Any = spec.model.architecture.options
    bias = called(writer.bias(widths, "filters"))
    norm2 = writer.norm("norm2", "filters", 2)
    branch = [
        layer("conv1", f"convolution(channels, filters, draws, stride{bias})"),
        *writer.norm_and_activation("1", "filters", 2),
        *writer.hidden_dropouts("dropout", 2),
        layer("conv2", f"convolution(filters, filters, draws{bias})"),
        *(norm2 if writer.norm_position == "before" else []),
    ]
    activation = writer.activation("filters")
    finish, last = [f"self.activation2 = {activation}"], "activation2"
    if writer.norm_position == "after" or writer.activation_learns:
        # What has a state is called as in the run.
        after = norm2 if writer.norm_position == "after" else []
        finish = ["layers = OrderedDict()", layer("activation2", activation), *after]
        finish.append("self.finish = nn.Sequential(layers)")
        last = "finish"
    shortcut = "PaddedShortcut(filters - channels)"
    if options.shortcut == "padding":
        writer.script.define(_PADDED)
    else:
        _define_projection(writer, widths[1:])
        shortcut = "projection(channels, filters, draws)"
    values = {"branch": lines(branch, 2), "finish": lines(finish, 2)}
    writer.script.define(fill(_BLOCK, shortcut=shortcut, last=last, **values))


def _define_projection(writer: Writer, filters: list[int]) -> None:
    # Without a normalization of its own, the bias of the branch does for both.
    normed = writer.norm_position == "before"
    bias = writer.bias(filters, "filters") if normed else ", bias=False"
    zeros = 'nn.init.zeros_(layers["conv"].bias)'
    if bias:
        zeros = "" if bias == ", bias=False" else f"if {bias.removeprefix(', bias=')}:\n        {zeros}"
    norm = writer.norm("norm", "filters", 2) if normed else []
    writer.script.define(fill(_PROJECTION, bias=bias, initialize=writer.initialize, zeros=zeros, norm=lines(norm)))
