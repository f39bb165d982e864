"""torchvision's networks taken apart: the modules of each, in the order of its forward pass."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

import torch
from torch import Tensor, nn
from typing_extensions import override

from dnntrain.parts.layers import Table

_CHAINS: Final = {
    "alexnet": "features.* avgpool +flatten classifier.*",
    "convnext": "features.* avgpool classifier.*",
    "densenet": "features.* +relu +pool +flatten classifier",
    "efficientnet": "features.* avgpool +flatten classifier.*",
    "googlenet": "conv1 maxpool1 conv2 conv3 maxpool2 inception3a inception3b maxpool3 inception4a inception4b "
    "inception4c inception4d inception4e maxpool4 inception5a inception5b avgpool +flatten dropout fc",
    "inception": "Conv2d_1a_3x3 Conv2d_2a_3x3 Conv2d_2b_3x3 maxpool1 Conv2d_3b_1x1 Conv2d_4a_3x3 maxpool2 Mixed_5b "
    "Mixed_5c Mixed_5d Mixed_6a Mixed_6b Mixed_6c Mixed_6d Mixed_6e Mixed_7a Mixed_7b Mixed_7c avgpool dropout "
    "+flatten fc",
    "maxvit": "stem blocks.* classifier.*",
    "mnasnet": "layers.* +pool +flatten classifier.*",
    "mobilenetv2": "features.* +pool +flatten classifier.*",
    "mobilenetv3": "features.* avgpool +flatten classifier.*",
    "regnet": "stem trunk_output.* avgpool +flatten fc",
    "resnet": "conv1 bn1 relu maxpool layer1 layer2 layer3 layer4 avgpool +flatten fc",
    "shufflenetv2": "conv1 maxpool stage2 stage3 stage4 conv5 +pool +flatten fc",
    # The mean over a picture and a 1 x 1 convolution may change places, and so the output is a dense layer here too.
    "squeezenet": "features.* classifier.0 +pool +flatten classifier.1",
    "swin_transformer": "features.* norm permute avgpool flatten head",
    "vgg": "features.* avgpool +flatten classifier.*",
    "vision_transformer": "conv_proj +tokens encoder.dropout encoder.layers.* encoder.ln +first heads.*",
}
"""By torchvision's module: attributes, `.*` for all children of one, and what its forward pass computes itself."""

FAMILIES: Final = frozenset(_CHAINS)


class Tokens(Table):
    """Make a sequence of patches, put the class token in front and add positions: (N, E, H, W) to (N, 1 + H W, E).

    Args:
        class_token: of shape (1, 1, E).
        positions: of shape (1, 1 + H W, E).
    """

    def __init__(self, class_token: nn.Parameter, positions: nn.Parameter) -> None:
        super().__init__()
        self.class_token = class_token
        self.positions = positions

    @override
    def forward(self, x: Tensor) -> Tensor:
        patches = x.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(x), -1, -1), patches], dim=1)
        return tokens + self.positions


class FirstToken(nn.Module):
    """Keep the class token alone: (N, T, E) to (N, E)."""

    @override
    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0]


def taken_apart(model: nn.Module, family: str) -> tuple[OrderedDict[str, nn.Module], nn.Module]:
    """Return the layers of a network by name, in the order of the forward pass, and its head, the last of them.

    One after the other they compute what the network computes in evaluation; auxiliary classifiers are left out.

    Args:
        model: one of torchvision's.
        family: the module of torchvision that it comes from.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for step in _CHAINS[family].split():
        if step.startswith("+"):
            name, layer = _computed(step[1:], model)
            layers[name] = layer
        elif step.endswith(".*"):
            path = step.removesuffix(".*")
            for name, child in model.get_submodule(path).named_children():
                layers[f"{path.rpartition('.')[2]}_{name}" if name.isdecimal() else name] = child
        else:
            layers[step.replace("classifier.", "classifier_").rpartition(".")[2]] = model.get_submodule(step)
    _, head = layers.popitem()
    return layers, head


def _computed(step: str, model: Any) -> tuple[str, nn.Module]:
    """Return a module, and its name, for what a forward pass computes by itself."""
    if step == "flatten":
        return "flatten", nn.Flatten()
    if step == "relu":
        return "relu", nn.ReLU(inplace=True)
    if step == "pool":
        return "global_pool", nn.AdaptiveAvgPool2d(1)
    if step == "tokens":
        return "tokens", Tokens(model.class_token, model.encoder.pos_embedding)
    return "token", FirstToken()
