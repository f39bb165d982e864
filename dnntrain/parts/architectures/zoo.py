"""torchvision's networks for classification, as torchvision made them or with the weights that it published."""

from __future__ import annotations

import logging
import math
import re
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import torch
from pydantic import AfterValidator, BeforeValidator
from pydantic_core import PydanticCustomError
from torch import nn

from dnntrain.errors import suggest
from dnntrain.parts.architectures.base import Blocks, Moments, architectures, dense, misfit, picture_shape
from dnntrain.parts.architectures.zoo_chains import FAMILIES, taken_apart
from dnntrain.parts.architectures.zoo_weights import load_body, published
from dnntrain.registry import read_path

RGB: Final = 3
_SMALL_STEMS: Final = {"resnet": ("conv1", "maxpool"), "densenet": ("conv0", "pool0")}
# Both shift what ImageNet's mean and deviation have standardized to this once more; here it is done at once.
_HALVES: Final = Moments((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_HALVED: Final = ("googlenet", "inception")
# A picture may be so many times smaller or larger than those of the pretraining before it is remarked on.
_FAR: Final = 1.5

_log = logging.getLogger("dnntrain")


def _models() -> Any:
    # torchvision takes a second to import, which other architectures need not wait for.
    from torchvision import models

    return models


def family(model: str) -> str:
    """Return the module of torchvision that a network comes from."""
    return str(_models().get_model_builder(model).__module__.rpartition(".")[2])


def known() -> list[str]:
    """Return the names of all networks for classification."""
    models = _models()
    return [name for name in models.list_models(module=models) if family(name) in FAMILIES]


def _known(model: str) -> str:
    names = known()
    if model not in names:
        raise PydanticCustomError(
            "zoo",
            "torchvision has no network '{given}' for classification",
            {"given": model[:60], "hint": suggest(model, names)},
        )
    return model


def _weights(value: Any) -> Any:
    """Tell the name of published weights, in capitals, from the path of a file."""
    if isinstance(value, str) and not re.fullmatch(r"[A-Z][A-Z0-9_]*", value):
        return str(read_path(value))
    return value


ModelName = Annotated[str, AfterValidator(_known)]
WeightsName = Annotated[str | None, BeforeValidator(_weights)]


def _is_path(weights: str) -> bool:
    return Path(weights).is_absolute()


def _entry(options: Any) -> Any:
    """Return torchvision's record of the weights of a choice; of the default ones where there are none, or a file."""
    named = options.weights if options.weights and not _is_path(options.weights) else "DEFAULT"
    return _models().get_model_weights(options.model)[named]


def moments(options: Any) -> Moments | None:
    """Return what the pretrained weights of a choice take as standardized; None without such weights.

    For a file it is what the default weights of that network take.
    """
    if options.weights is None:
        return None
    if family(options.model) in _HALVED:
        return _HALVES
    preset = _entry(options).transforms()
    return Moments(tuple(preset.mean), tuple(preset.std))


def problems(options: Any) -> Iterator[tuple[str, str, str]]:
    """Yield what cannot be about a choice: option, message and hint."""
    if options.weights is not None and not _is_path(options.weights):
        names = ["DEFAULT", *(each.name for each in _models().get_model_weights(options.model))]
        if options.weights not in names:
            message = f"torchvision has no weights '{options.weights}' for {options.model}"
            yield "weights", message, suggest(options.weights, names)
    if options.stem == "small" and family(options.model) not in _SMALL_STEMS:
        message = (
            f"there is no small stem for {options.model}, only for those of resnet.py and densenet.py in torchvision"
        )
        yield "stem", message, "leave it out, and set data.resize instead"


@architectures.register(
    "torchvision",
    equation="logits = W f(x) + b, f a network of torchvision without its head",
    cite="https://docs.pytorch.org/vision/stable/models.html#classification",
    example={"name": "torchvision", "model": "resnet18", "stem": "small"},
    standardize="channel",
    own_parts=True,
    pretrained=moments,
    problems=problems,
)
def torchvision(
    shape: tuple[int, ...],
    outputs: int,
    blocks: Blocks,
    /,
    *,
    model: ModelName,
    weights: WeightsName = None,
    stem: Literal["original", "small"] = "original",
) -> nn.Sequential:
    """Any network for classification that torchvision has: pictures (N, C, H, W) to logits (N, outputs).

    Its head is replaced by a dense layer of the right size, drawn by `output_initializer`; activations, normalizations
    and the initializers of all other layers are its own. It comes as a stack of named layers, `output` on top, split as
    finely as computes exactly the same. Auxiliary classifiers (googlenet, inception) are left out; so is the relu that
    squeezenets have behind their logits.

    Where pictures have C channels and not 3, the first convolution is replaced, with weights V in place of W:

    - pretrained, C = 1: V = sum_c W_c, which sees a gray picture as W sees it in three equal channels;
    - pretrained, C > 1: V_c = (3 / C) W_{c mod 3}, which gives signals of the same size;
    - else V is drawn from N(0, (3 / C) var(W)), which keeps the variance of what the convolution gives.

    `stem: small` is for pictures of about 32 x 32: the first convolution gets a window of 3 x 3 and stride 1, and the
    pool behind it goes. Pretrained, its window is the middle of the original one: V_ij = W_{i+2,j+2}.

    Args:
        shape: of one input sample, (C, H, W).
        outputs: number of logits.
        blocks: the parts that each layer is made of; only the output's initializer is asked here.
        model: torchvision's name of it, such as resnet18.
        weights: null for new ones; DEFAULT, or another name of torchvision's, for published ones, looked for where
            torch.hub keeps them and in DNNTRAIN_DATA and else downloaded; or the path of a state dict.
        stem: how the network begins: as it was made, for large pictures, or for small ones (resnets, densenets).

    Raises:
        SpecError: samples are not pictures, or not of a size that the network can take.
        DataError: the weights cannot be had, or belong to another network.
    """
    channels, _, _ = picture_shape(f"torchvision's {model}", shape)
    kind = family(model)
    options = architectures["torchvision"].options(model=model, weights=weights, stem=stem)
    network, pretrained = _made(options), weights is not None and blocks.pretrained
    layers, head = taken_apart(network, kind)
    if pretrained and weights is not None:
        load_body(network, head, Path(weights) if _is_path(weights) else published(_entry(options).url))
        _remark_on_size(options, shape)
    if stem == "small":
        _shrink_stem(layers, *_SMALL_STEMS[kind], pretrained=pretrained)
    stack = nn.Sequential(layers)
    if channels != RGB:
        _change_channels(stack, channels, pretrained=pretrained)
    features = head.in_channels if isinstance(head, nn.Conv2d) else head.in_features
    stack.add_module("output", dense(int(features), outputs, blocks.initialize_output))  # type: ignore[arg-type]
    _check_size(stack, options, shape)
    return stack


def _made(options: Any) -> nn.Module:
    """Return torchvision's network with weights of torchvision's drawing."""
    arguments: dict[str, Any] = {"weights": None}
    if family(options.model) in _HALVED:
        arguments["init_weights"] = True
    if family(options.model) == "vision_transformer" and options.weights is not None:
        arguments["image_size"] = _entry(options).meta["min_size"][0]
    network: nn.Module = _models().get_model(options.model, **arguments)
    return network


@torch.no_grad()
def _shrink_stem(layers: OrderedDict[str, nn.Module], first: str, pool: str, *, pretrained: bool) -> None:
    """Let a network begin with a convolution of 3 x 3 at stride 1, in place of 7 x 7 at stride 2 and a pool."""
    old: Any = layers[first]
    conv = nn.Conv2d(old.in_channels, old.out_channels, 3, padding=1, bias=False)
    if pretrained:
        conv.weight.copy_(old.weight[:, :, 2:5, 2:5])
    else:
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    layers[first] = conv
    del layers[pool]


@torch.no_grad()
def _change_channels(stack: nn.Sequential, channels: int, *, pretrained: bool) -> None:
    """Replace the first convolution by one for other channels than red, green and blue; see `torchvision`."""
    name, old = next((name, each) for name, each in stack.named_modules() if isinstance(each, nn.Conv2d))
    conv = nn.Conv2d(
        channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        stride=old.stride,  # type: ignore[arg-type]
        padding=old.padding,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    if old.bias is not None and conv.bias is not None:
        conv.bias.copy_(old.bias)
    if not pretrained:
        conv.weight.normal_().mul_(old.weight.std() * math.sqrt(RGB / channels))
    elif channels == 1:
        conv.weight.copy_(old.weight.sum(dim=1, keepdim=True))
    else:
        conv.weight.copy_(old.weight[:, [c % RGB for c in range(channels)]] * (RGB / channels))
    parent, _, last = name.rpartition(".")
    setattr(stack.get_submodule(parent), last, conv)


def _check_size(stack: nn.Sequential, options: Any, shape: tuple[int, ...]) -> None:
    """Let a picture without numbers pass, to see whether the network can take its size.

    Raises:
        SpecError: it cannot.
    """
    held = {name: t.to("meta") for name, t in (*stack.named_parameters(), *stack.named_buffers())}
    try:
        with torch.no_grad():
            torch.func.functional_call(stack.eval(), held, torch.empty((1, *shape), device="meta"))
    except (RuntimeError, AssertionError, ValueError) as error:
        pictures, reason = f"{shape[1]} x {shape[2]}", str(error).splitlines()[0]
        raise misfit(
            f"torchvision's {options.model} cannot take pictures of {pictures}: {reason}",
            f"set data.resize: {_usual_size(options)}",
        ) from error
    finally:
        stack.train()


def _usual_size(options: Any) -> int:
    """Return the height and width of the pictures that the weights of a choice were trained for."""
    return int(_entry(options).transforms().crop_size[0])


def _remark_on_size(options: Any, shape: tuple[int, ...]) -> None:
    size = _usual_size(options)
    if not all(size / _FAR <= side <= size * _FAR for side in shape[1:]):
        _log.warning(
            "the weights of %s were trained for pictures of %d x %d, and these are %d x %d: data.resize: %d would help",
            *(options.model, size, size, *shape[1:], size),
        )
