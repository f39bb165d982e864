"""Time epochs on top of a frozen network: its outputs computed once, beside computed anew in each epoch.

A new output is trained on a frozen resnet18 (of torchvision, its weights random, which costs the same), on CPU, with
pictures of CIFAR-10's size. Both ways train the same batches in the same order; epochs are interleaved, and the medians
of those after the first are compared. The first one of the kept way computes the outputs, and is printed too.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from dnntrain import build, spec
from dnntrain.placement import place
from dnntrain.training.trainer import Trainer

EXPERIMENT = """
name: frozen
data: {{dataset: {{name: npz, path: {path}}}, validation: {{fraction: 0.1}}, standardize: unit, batch_size: 32}}
model: {{architecture: {{name: torchvision, model: {model}, weights: null}}}}
optimizer: {{name: sgd, lr: 0.01}}
schedule: constant
training: {{device: cpu, cache_frozen: {cache}, stages: [{{epochs: 1000, freeze: all_but_output}}]}}
callbacks: []
"""


def trainer(path: Path, model: str, *, cache: bool) -> Trainer:
    made = spec.loads(EXPERIMENT.format(path=path, model=model, cache=str(cache).lower()))
    data = build.open_data(made)
    made = build.resolve(made, data)
    return Trainer(build.build(made, data, place(made)))


def epoch(training: Trainer) -> float:
    """Train one more epoch, validation included; return its seconds."""
    training.built.epochs = training.epoch + 1
    started = time.perf_counter()
    training.fit()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (arguments.samples, 32, 32, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pictures.npz"
        np.savez(path, x_train=pictures, y_train=np.arange(arguments.samples) % 10)
        ways = {cache: trainer(path, arguments.model, cache=cache) for cache in (True, False)}
        seconds: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(arguments.epochs):
            for cache, training in ways.items():
                seconds[cache].append(epoch(training))
    kept, anew = (statistics.median(seconds[cache][1:]) for cache in (True, False))
    losses = [training.row["train/loss"] for training in ways.values()]
    print(f"{arguments.model}, {arguments.samples} pictures of 32 x 32, {arguments.threads} threads, seconds an epoch")
    print(f"computed anew   {anew:.3f} ({min(seconds[False][1:]):.3f} to {max(seconds[False][1:]):.3f})")
    print(f"kept            {kept:.4f} ({min(seconds[True][1:]):.4f} to {max(seconds[True][1:]):.4f})")
    print(f"                first epoch {seconds[True][0]:.2f}, later ones {seconds[True][0] / kept:.0f} times as fast")
    print(f"ratio           {anew / kept:.0f}; training loss of the last epoch {losses[0]:.6f} and {losses[1]:.6f}")


if __name__ == "__main__":
    main()
