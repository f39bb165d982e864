"""Search 27 configurations of a network on digits with asha, and train the full grid beside it.

The grid is learning rate x activation x initializer, 27 epochs each. For each study seed the grid is trained in full,
and then a sweep with `prune: asha` meets the same configurations in an order of its own (`search: random`, which goes
through a grid without repeating a point) and trains them anew. The study's seed is the experiment's as well, so that
every row has networks of its own. One run after the other in this process: the figures are the same whenever this is
run on the same kind of machine.

Printed are the epochs that asha took as a share of the grid's, the place that its choice has in the full grid's
ranking, and by how much its loss is higher than the lowest.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from pathlib import Path

import optuna
import torch

from dnntrain import spec
from dnntrain.store import listing
from dnntrain.sweep.conductor import Conductor, Event
from dnntrain.sweep.engines.inline import Inline
from dnntrain.sweep.results import Ranked, Result
from dnntrain.sweep.study import Study

EPOCHS = 27
EXPERIMENT = f"""
name: grid
data: {{dataset: digits, validation: {{fraction: 0.2}}, batch_size: 64}}
model: {{architecture: {{name: mlp, hidden: [64, 64]}}, normalization: none}}
optimizer: {{name: sgd, momentum: 0.9}}
schedule: constant
training: {{epochs: {EPOCHS}, device: cpu, threads: 1}}
callbacks: []
sweep:
  space:
    optimizer.lr: [0.003, 0.03, 0.3]
    model.activation: [relu, tanh, swish]
    model.initializer: [glorot_normal, he_normal, {{name: normal, std: 0.5}}]
"""
PRUNERS = {"asha": "asha", "asha, min_epochs 3": "{name: asha, min_epochs: 3}"}


class Quiet:
    """Observes a sweep and says nothing."""

    def on_event(self, event: Event, /) -> None:
        """Something happened."""

    def on_tick(self, conductor: Conductor, /) -> None:
        """Called a few times a second."""


def sweep(folder: Path, *changes: str) -> tuple[Result, int, float]:
    """Return what came of a sweep, the epochs that were trained in it, and how long it took."""
    started = time.perf_counter()
    study = Study.begin(spec.drafts(EXPERIMENT, overrides=changes), runs=folder)
    result = study.work(Inline(), observer=Quiet(), fresh=True)
    epochs = sum(len(run.metrics()) for run in listing(study.directory.runs))
    return result, epochs, time.perf_counter() - started


def main() -> None:
    """Search with every seed and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, 27 configurations, {EPOCHS} epochs, lowest validation loss of a run")
    print(f"{'seed':>4}  {'':24}{'epochs':>7}{'share':>8}{'seconds':>9}{'place':>7}{'loss':>9}  configuration")
    found: dict[str, list[tuple[float, int]]] = {name: [] for name in PRUNERS}
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            full, all_epochs, seconds = sweep(Path(folder), f"seed={seed}")
            show(seed, "the full grid", all_epochs, 1.0, seconds, 1, full.ranking[0])
            order = [each.text for each in full.ranking]
            for name, pruner in PRUNERS.items():
                changes = [f"seed={seed}", f"sweep.seed={seed}", "sweep.search=random", "sweep.trials=27"]
                pruned, epochs, seconds = sweep(Path(folder), *changes, f"sweep.prune={pruner}")
                place = order.index(pruned.ranking[0].text)
                found[name].append((epochs / all_epochs, place + 1))
                show(seed, name, epochs, epochs / all_epochs, seconds, place + 1, full.ranking[place])
    for name, rows in found.items():
        shares, places = zip(*rows, strict=True)
        print(
            f"{name}: the best of the grid {places.count(1)} times of {len(places)}, places {sorted(places)}, "
            f"{statistics.mean(shares):.1%} of the epochs on average ({min(shares):.1%} to {max(shares):.1%})"
        )


def show(seed: int, name: str, epochs: int, share: float, seconds: float, place: int, chosen: Ranked) -> None:
    """Print a row."""
    loss = math.nan if chosen.value is None else chosen.value
    print(
        f"{seed:4}  {name:24}{epochs:7}{share:8.1%}{seconds:9.1f}{place:7}{loss:9.4f}  {chosen.text}",
        flush=True,
    )


if __name__ == "__main__":
    main()
