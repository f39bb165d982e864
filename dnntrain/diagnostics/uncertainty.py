"""Monte Carlo dropout as a network: its outputs stand for the mean of many sampled predictions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from dnntrain.parts.dropouts import Sampled, mc_predict


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

    def sample(self, x: Tensor) -> Sampled:
        """Return mean and spread over the passes of what is predicted, each of shape (N, K).

        Raises:
            UsageError: the network has no dropout to sample.
        """
        return mc_predict(self.model, x, samples=self.samples, probabilities=lambda out: predicted(out, self.kind))

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
