"""The vision transformer: patches of a picture that attend to each other."""

from __future__ import annotations

from typing import Any, Final

from dnntrain.build import Data
from dnntrain.ejecting.script import Script, fill, lines
from dnntrain.ejecting.writer import Writer, define_dense, layer
from dnntrain.parts.architectures.vit import POSITION_DEVIATION, hidden_units
from dnntrain.spec import Spec

_PATCHES: Final = '''
class Patches(nn.Conv2d):
    """Cuts pictures into T patches, and maps each to WIDTH features: (N, T, WIDTH)."""

    def __init__(self, draws: Generator) -> None:
        super().__init__($channels, WIDTH, PATCH, stride=PATCH)
        $initialize(self.weight, $pixels, WIDTH, draws)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).flatten(2).transpose(1, 2)
'''

_POSITIONS: Final = '''
class Positions(nn.Module):
    """Adds a learned vector to each patch, by which the network knows its place."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty($patches, WIDTH))
        nn.init.normal_(self.weight, std=$deviation)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.weight
'''

_STACKED: Final = '''
def stacked(matrices: int, units: int, draws: Generator) -> nn.Linear:
    """Return several dense layers of one input as a single one, with drawn weights."""
    layer = nn.Linear(WIDTH, matrices * units)
    with torch.no_grad():
        for matrix in layer.weight.chunk(matrices):
            $initialize(matrix, WIDTH, units, draws)
    nn.init.zeros_(layer.bias)
    return layer
'''

_ATTENTION: Final = '''
class Attention(nn.Module):
    """Mixes patches, each by its own weights: softmax(Q K^T / sqrt(d)) V.

    Each of the HEADS does so by itself, in its d = WIDTH / HEADS of the features.
    """

    def __init__(self, draws: Generator) -> None:
        super().__init__()
        self.query_key_value = stacked(3, WIDTH, draws)
        self.projection = dense(WIDTH, WIDTH, $initialize, draws)

    def forward(self, x: Tensor) -> Tensor:
        # (N, T, 3 WIDTH) to three of (N, HEADS, T, d)
        heads = self.query_key_value(x).unflatten(-1, (3, HEADS, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.projection(mixed.transpose(1, 2).flatten(2))
'''

_GATE: Final = '''
class Gate(nn.Module):
    """One half of the features gates the other: $name(a) b."""

    def forward(self, z: Tensor) -> Tensor:
        a, b = z.chunk(2, dim=-1)
        return $function(a) * b
'''

_BLOCK: Final = '''
class EncoderBlock(nn.Module):
    """Attention between the patches, then an mlp on each; both add to their input."""

    def __init__(self, draws: Generator) -> None:
        super().__init__()
        layers = OrderedDict()
$attend
        self.attend = nn.Sequential(layers)
        layers = OrderedDict()
$mlp
        layers = OrderedDict(mlp=$per_patch)
$dropouts
        self.transform = nn.Sequential(layers)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(x)
        return x + self.transform(x)
'''

_MEAN: Final = '''
class MeanOverPatches(nn.Module):
    """The mean patch: (N, T, WIDTH) to (N, WIDTH)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=1)
'''

_SEED: Final = """
# Positions are drawn by PyTorch's own generator, behind what nn.Conv2d draws.
torch.manual_seed(derive("layers"))
"""

_GATES: Final = {
    "glu": ("sigmoid", "torch.sigmoid"),
    "geglu": ("gelu", "F.gelu"),
    "swiglu": ("swish", "F.silu"),
}


def vit(writer: Writer, spec: Spec, data: Data) -> tuple[list[str], str]:
    """Define the blocks of a vision transformer, and return the lines of a network of them."""
    script = writer.script
    options: Any = spec.model.architecture.options
    channels, height, width = data.shape
    hidden = hidden_units(options.width, options.mlp_ratio, options.gate)
    script.constants(
        PATCH=options.patch, WIDTH=options.width, HEADS=options.heads, HIDDEN=hidden, BLOCKS=options.layers
    )
    patches = (height // options.patch) * (width // options.patch)
    pixels = "PATCH**2" if channels == 1 else f"{channels} * PATCH**2"
    script.define(fill(_PATCHES, channels=channels, pixels=pixels, initialize=writer.initialize))
    script.define(fill(_POSITIONS, patches=patches, deviation=POSITION_DEVIATION))
    define_dense(script, optional=False)
    script.define(fill(_STACKED, initialize=writer.initialize))
    script.define(fill(_ATTENTION, initialize=writer.initialize))
    _define_block(script, writer, options.gate)
    script.define(_MEAN)
    body = [
        *writer.input_norm(channels, 2),
        _SEED.strip(),
        layer("patches", "Patches(draws)"),
        layer("positions", "Positions()"),
        *writer.input_dropouts(1, within="FeaturesFirst"),
        "for number in range(1, BLOCKS + 1):",
        f"    {layer('block{number}', 'EncoderBlock(draws)')}",
        *writer.norm("norm", "WIDTH", 0, within="PerPatch"),
        layer("mean", "MeanOverPatches()"),
        *writer.final_dropouts(),
    ]
    return body, "WIDTH"


def _define_block(script: Script, writer: Writer, gate: str) -> None:
    dropouts = writer.hidden_dropouts("dropout", 1, within="FeaturesFirst")
    attend = [
        *writer.norm("norm", "WIDTH", 0, within="PerPatch"),
        layer("attention", "Attention(draws)"),
        *dropouts,
    ]
    if gate == "none":
        hidden = [layer("dense1", f"dense(WIDTH, HIDDEN, {writer.initialize}, draws)")]
        hidden.append(layer("activation", writer.activation("HIDDEN")))
    else:
        name, function = _GATES[gate]
        script.define(fill(_GATE, name=name, function=function))
        hidden = [layer("dense1", "stacked(2, HIDDEN, draws)"), layer("gate", "Gate()")]
    mlp = [
        *writer.norm("norm", "WIDTH", 0),
        *hidden,
        layer("dense2", f"dense(HIDDEN, WIDTH, {writer.initialize}, draws)"),
    ]
    per_patch = writer.over_sequences("PerPatch", "nn.Sequential(layers)")
    script.define(
        fill(_BLOCK, attend=lines(attend, 2), mlp=lines(mlp, 2), dropouts=lines(dropouts, 2), per_patch=per_patch)
    )
