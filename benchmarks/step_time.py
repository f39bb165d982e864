"""Time a training step of dnntrain beside a bare PyTorch loop: the same network, data, optimizer and threads.

Both gather random batches from tensors in memory. The bare loop has its inputs standardized beforehand and measures
nothing; dnntrain standardizes each batch and tracks loss, accuracy and gradient norm. Rounds are interleaved, so that a
noisy machine disturbs both alike; medians and the median of the ratios, round by round, are printed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dnntrain import build, spec
from dnntrain.placement import place
from dnntrain.training.trainer import Trainer

SAMPLES = 8192

VARIANTS = {
    "selu, batch 32": ("selu", "lecun_normal", "none", 32),
    "swish + batch norm, batch 32": ("swish", "he_normal", "batch", 32),
    "selu, batch 512": ("selu", "lecun_normal", "none", 512),
}


def dnntrain_rounds(path: Path, variant: str, threads: int, device: str) -> Callable[[], float]:
    """Return a function that trains one epoch and returns the seconds of a step."""
    activation, initializer, normalization, batch_size = VARIANTS[variant]
    text = f"""
data: {{dataset: {{name: npz, path: {path}}}, validation: none, standardize: feature, batch_size: {batch_size}}}
model:
  architecture: {{name: mlp, hidden: {{layers: 20, units: 100}}}}
  activation: {activation}
  initializer: {initializer}
  normalization: {normalization}
optimizer: {{name: nadam, lr: 1.0e-4}}
schedule: constant
training: {{epochs: 1, device: {device}, precision: fp32, threads: {threads}}}
"""
    experiment = spec.loads(text)
    data = build.open_data(experiment)
    experiment = build.resolve(experiment, data)
    trainer = Trainer(build.build(experiment, data, place(experiment)))

    def one_round() -> float:
        trainer.epochs = trainer.epoch + 1
        started = time.perf_counter()
        trainer.fit()
        return (time.perf_counter() - started) / trainer.steps_per_epoch

    return one_round


def bare_rounds(x: np.ndarray, y: np.ndarray, variant: str, device: str) -> Callable[[], float]:
    """Return a function that runs one epoch of a plain PyTorch loop and returns the seconds of a step."""
    activation, _, normalization, batch_size = VARIANTS[variant]
    layers: list[nn.Module] = []
    features = 3072
    for _ in range(20):
        layers.append(nn.Linear(features, 100, bias=normalization == "none"))
        if normalization == "batch":
            layers.append(nn.BatchNorm1d(100))
        layers.append(nn.SELU() if activation == "selu" else nn.SiLU())
        features = 100
    model = nn.Sequential(*layers, nn.Linear(100, 10)).to(device)
    inputs = torch.from_numpy(x.reshape(len(x), -1)).float().sub_(127.0).div_(74.0).to(device)
    targets = torch.from_numpy(y).to(device)
    optimizer = torch.optim.NAdam(model.parameters(), lr=1e-4)
    loss_function = nn.CrossEntropyLoss()

    def one_round() -> float:
        steps = 0
        started = time.perf_counter()
        for rows in torch.randperm(len(inputs), device=device).split(batch_size):
            optimizer.zero_grad()
            loss_function(model(inputs[rows]), targets[rows]).backward()
            optimizer.step()
            steps += 1
        if device != "cpu":
            torch.cuda.synchronize()
        return (time.perf_counter() - started) / steps

    return one_round


def main() -> None:
    """Measure every variant and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (SAMPLES, 32, 32, 3), dtype=np.uint8)
    y = rng.integers(0, 10, SAMPLES)
    print(f"torch {torch.__version__}, {arguments.device}, {arguments.threads} threads, {arguments.rounds} rounds")
    print(f"{'microseconds per step':32}{'dnntrain':>10}{'bare loop':>11}{'bare / dnntrain':>17}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.npz"
        np.savez(path, x_train=x, y_train=y)
        for variant in VARIANTS:
            ours = dnntrain_rounds(path, variant, arguments.threads, arguments.device)
            bare = bare_rounds(x, y, variant, arguments.device)
            ours(), bare()
            pairs = [(ours(), bare()) for _ in range(arguments.rounds)]
            mine, theirs = (statistics.median(column) * 1e6 for column in zip(*pairs, strict=True))
            ratio = statistics.median(theirs / mine for mine, theirs in pairs)
            print(f"{variant:32}{mine:10,.0f}{theirs:11,.0f}{ratio:17.2f}")


if __name__ == "__main__":
    main()
