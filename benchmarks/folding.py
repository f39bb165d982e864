"""Time networks beside themselves with batch normalization folded into the layers before it.

The same weights and inputs in one process, in evaluation mode. Rounds are interleaved, so that a noisy machine disturbs
both alike; the median time of a pass and the median of the ratios, round by round, are printed, with the least and the
largest ratio.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import nn

from dnntrain import build, spec
from dnntrain.exporting import fold_batch_norm

NETWORKS = {
    "mlp, 20 x 100": "{name: mlp, hidden: {layers: 20, units: 100}}",
    "cnn, 32-64-128": "{name: cnn, widths: [32, 64, 128]}",
    "resnet-20": "{name: resnet, depth: 20}",
}
BATCHES = (1, 256)


def network(architecture: str) -> nn.Module:
    """Return a network for pictures of 3 x 32 x 32 and 10 classes, its statistics those of a few batches."""
    text = f"""
data: {{dataset: digits}}
model: {{architecture: {architecture}, activation: relu, initializer: he_normal, output_initializer: glorot_uniform,
  normalization: batch}}
"""
    model = build.build_model(spec.loads(text), (3, 32, 32), 10)
    with torch.no_grad():
        for _ in range(5):
            model(torch.randn(32, 3, 32, 32))
    return model.eval()


def seconds(model: nn.Module, x: torch.Tensor, passes: int) -> float:
    """Return the seconds of a pass."""
    started = time.perf_counter()
    for _ in range(passes):
        model(x)
    return (time.perf_counter() - started) / passes


@torch.inference_mode()
def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(f"PyTorch {torch.__version__}, {options.threads} threads, {options.rounds} rounds; microseconds per pass")
    print("| | folded | as trained | folded | ratio | least and most |\n|---|---|---|---|---|---|")
    for name, architecture in NETWORKS.items():
        model = network(architecture)
        folded, layers = fold_batch_norm(model)
        for batch in BATCHES:
            x = torch.randn(batch, 3, 32, 32)
            passes = max(1, round(0.1 / seconds(model, x, 3)))
            seconds(folded, x, passes)
            rounds = [(seconds(model, x, passes), seconds(folded, x, passes)) for _ in range(options.rounds)]
            before, after = (statistics.median(each) for each in zip(*rounds, strict=True))
            ratios = sorted(a / b for a, b in rounds)
            print(
                f"| {name}, batch {batch} | {layers} | {1e6 * before:,.0f} | {1e6 * after:,.0f} "
                f"| {statistics.median(ratios):.2f} | {ratios[0]:.2f} to {ratios[-1]:.2f} |"
            )


if __name__ == "__main__":
    main()
