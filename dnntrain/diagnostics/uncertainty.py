"""Monte Carlo dropout as a network: its outputs stand for the mean of many sampled predictions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from typing_extensions import override

from dnntrain.parts.dropouts import Sampled, mc_predict


@dataclass(frozen=True)
class Uncertain(Sampled):
    """A prediction out of samples, and how uncertain it is.

    With the probabilities p_s of the classes k in each of S passes, p their mean, and H(q) = -sum_k q_k log q_k:

        predictive entropy    H(p)
        mutual information    H(p) - (1 / S) sum_s H(p_s)

    in nats, between 0 and log K. The entropy is high wherever no class is likely. The mutual information (of the
    prediction and the weights; BALD) is high only where the passes contradict each other: it is what more data could
    take away, while the rest lies in the data themselves. (Houlsby et al. 2011, arXiv:1112.5745; Gal 2016, Uncertainty
    in deep learning, section 3.3.1.)

    Attributes:
        entropy: predictive entropy, (N,); None for numbers.
        mutual_information: (N,), None for numbers.
    """

    entropy: Tensor | None
    mutual_information: Tensor | None


class MonteCarlo(nn.Module):
    """Samples a network's dropout layers and averages the probabilities; batch norm stays in evaluation mode.

    The outputs are logits of the mean, so that a loss and metrics for logits are those of the mean prediction:
    log p for classes, log p - log(1 - p) for one logit; for numbers, the mean itself.

    Args:
        model: the network; gives logits (N, K).
        samples: how many passes are averaged.
        kind: `classes`, `binary` (one logit) or `values`.
    """

    def __init__(self, model: nn.Module, samples: int, kind: str) -> None:
        super().__init__()
        self.model = model
        self.samples = samples
        self.kind = kind

    def sample(self, x: Tensor) -> Uncertain:
        """Return mean and spread over the passes of what is predicted, each of shape (N, K), and its uncertainty.

        Raises:
            UsageError: the network has no dropout to sample.
        """
        entropies: list[Tensor] = []

        def probabilities(outputs: Tensor) -> Tensor:
            made = predicted(outputs, self.kind)
            if self.kind != "values":
                entropies.append(entropy(made))
            return made

        sampled = mc_predict(self.model, x, samples=self.samples, probabilities=probabilities)
        if self.kind == "values":
            return Uncertain(sampled.mean, sampled.spread, None, None)
        total = entropy(sampled.mean)
        # Rounding can take the difference of two equal entropies below 0.
        shared = (total - torch.stack(entropies).mean(dim=0)).clamp(min=0.0)
        return Uncertain(sampled.mean, sampled.spread, total, shared)

    @override
    def forward(self, x: Tensor) -> Tensor:
        mean = self.sample(x).mean
        if self.kind == "values":
            return mean
        tiny = torch.finfo(mean.dtype).tiny
        logits = mean.clamp(min=tiny).log()
        return logits if self.kind == "classes" else logits - (1.0 - mean).clamp(min=tiny).log()


def predicted(outputs: Tensor, kind: str) -> Tensor:
    """Turn outputs (N, K) into what they predict: probabilities of each class, of the second one, or the numbers."""
    if kind == "classes":
        return outputs.float().softmax(dim=1)
    return outputs.float().sigmoid() if kind == "binary" else outputs.float()


def entropy(probabilities: Tensor) -> Tensor:
    """Return -sum_k p_k log p_k in nats for probabilities (N, K), or (N, 1) of the second of two classes."""
    if probabilities.shape[1] == 1:
        probabilities = torch.cat([1.0 - probabilities, probabilities], dim=1)
    total: Tensor = torch.special.entr(probabilities).sum(dim=1)
    return total
