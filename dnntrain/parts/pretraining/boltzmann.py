"""Restricted Boltzmann machines: layers as models of what they see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from dnntrain.errors import UsageError
from dnntrain.parts.architectures import Blocks
from dnntrain.parts.pretraining.base import LATEST, Above, Mean, Task, groups_of, hidden_layers, pretrainings
from dnntrain.registry import PositiveInt

Visible = Literal["bernoulli", "gaussian"]


class RestrictedBoltzmannMachine(Above):
    """A dense layer on top of others, taken for the connections between visible and hidden units.

    Samples (N, ...) to (N, 2): the free energy of what the layers below make of each, minus that of what the machine
    makes of it in `steps` steps of Gibbs sampling; and the mean squared error of its first reconstruction.

    Args:
        below: layers that turn samples into visible units (N, V).
        name: of the dense layer.
        layer: the dense layer, V to H.
        steps: of Gibbs sampling.
        visible: what visible units are.
    """

    def __init__(
        self, below: Mapping[str, nn.Module], name: str, layer: nn.Linear, steps: int, visible: Visible
    ) -> None:
        super().__init__({**below, name: layer})
        self._below, self._layer = tuple(below), name
        self._steps = steps
        self._gaussian = visible == "gaussian"
        self.visible_bias = nn.Parameter(torch.zeros(layer.in_features))

    def free_energy(self, v: Tensor) -> Tensor:
        """Return -log sum_h exp(-E(v, h)) of visible units (N, V), of shape (N,)."""
        hidden = functional.softplus(self._hidden(v)).sum(dim=1)
        if self._gaussian:
            return 0.5 * (v - self.visible_bias).square().sum(dim=1) - hidden
        return -(v @ self.visible_bias) - hidden

    def _hidden(self, v: Tensor) -> Tensor:
        """Return the logits of the hidden units being on, W v + c."""
        logits: Tensor = self.get_submodule(self._layer)(v)
        return logits.float()

    def _mean(self, h: Tensor) -> Tensor:
        """Return the mean of the visible units given the hidden ones."""
        weight = cast(Tensor, self.get_submodule(self._layer).weight)
        inputs = functional.linear(h, weight.t(), self.visible_bias).float()
        return inputs if self._gaussian else inputs.sigmoid()

    @override
    def forward(self, x: Tensor) -> Tensor:
        given = v = self.encode(x, self._below).float()
        errors = torch.zeros_like(v[:, 0])
        with torch.no_grad():
            for step in range(self._steps):
                on = self._hidden(v).sigmoid()
                mean = self._mean((torch.rand_like(on) < on).float())
                if step == 0:
                    errors = (given - mean).square().mean(dim=1)
                v = mean + torch.randn_like(mean) if self._gaussian else (torch.rand_like(mean) < mean).float()
        return torch.stack((self.free_energy(given) - self.free_energy(v), errors), dim=1)


@pretrainings.register(
    "rbm",
    equation="dW = <v h>_data - <v h>_k, E(v, h) = -b v - c h - h W v; gaussian: (v - b)^2 / 2 for -b v",
    cite="Hinton 2002, Training products of experts by minimizing contrastive divergence; Hinton, Osindero and Teh "
    "2006, A fast learning algorithm for deep belief nets",
    example={"name": "rbm", "visible": "gaussian"},
)
def rbm(
    network: nn.Module,
    shape: tuple[int, ...],
    blocks: Blocks,
    /,
    *,
    k: PositiveInt = 1,
    visible: Visible = "bernoulli",
) -> list[Task]:
    """Layer by layer, the historical way: each as a restricted Boltzmann machine, by contrastive divergence.

    Hidden units are on with probability sigmoid(W v + c), W and c being the layer's own, so the layers must be dense,
    with sigmoids and no normalization. Visible units of the first one are the inputs: `bernoulli` takes them for
    probabilities and needs `data.standardize: unit`; `gaussian` has deviation 1 and needs standardized ones. Above,
    visible units are the probabilities that the layer below gives, and bernoulli.

    The loss is the mean of F(v) - F(v_k), F(v) = -b v - sum_j log(1 + exp(c_j + W_j v)) being the free energy (for
    gaussian units |v - b|^2 / 2 stands for -b v) and v_k what k steps of Gibbs sampling from v give, held constant: its
    gradient is minus the update of CD-k, with the probabilities of hidden units in place of drawn ones, as is usual.
    The loss itself is no measure of success, so the last epoch's weights are kept; `reconstruction_error`, the mean
    squared error of the first step's mean, shows whether something is learned, and no more.

    Args:
        network: of the experiment: dense layers with sigmoids.
        shape: of one sample.
        blocks: the parts that layers are made of.
        k: steps of Gibbs sampling.
        visible: what the inputs are.

    Raises:
        UsageError: the network has layers of other kinds, other activations or normalization.
    """
    layers = hidden_layers(network, "rbm")
    tasks: list[Task] = []
    below: dict[str, nn.Module] = {}
    for name, group in groups_of(layers).items():
        layer = _checked(name, group)
        ahead = {own: module for own, module in group.items() if list(group).index(own) < list(group).index(name)}
        below = {**below, **ahead}
        machine = RestrictedBoltzmannMachine(below, name, layer, k, "bernoulli" if tasks else visible)
        tasks.append(
            Task(
                machine,
                _free_energy_difference,
                name,
                metrics={"reconstruction_error": Mean(_reconstruction_error)},
                monitor=LATEST,
                frozen=tuple(below.values()),
                from_zero_to_one=not tasks and visible == "bernoulli",
            )
        )
        below = {**below, **group}
    return tasks


def _checked(name: str, group: Mapping[str, nn.Module]) -> nn.Linear:
    """Return the dense layer of a group, after which there is a sigmoid and nothing else that learns.

    Raises:
        UsageError: there is something else.
    """
    layer = group[name]
    if not isinstance(layer, nn.Linear):
        raise UsageError(f"rbm is made of dense layers, and {name} is none ({type(layer).__name__}): use an mlp")
    if any(own != name and any(True for _ in (*each.parameters(), *each.buffers())) for own, each in group.items()):
        raise UsageError("rbm has no place for normalization or for activations that learn: model.normalization: none")
    if layer.bias is None or not any(isinstance(each, nn.Sigmoid) for each in group.values()):
        raise UsageError(
            "rbm makes units that are on with probability sigmoid(z), so the network must use them so: write "
            "model.activation: sigmoid"
        )
    return layer


def _reconstruction_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs[:, 1]


def _free_energy_difference(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs[:, 0].mean()
