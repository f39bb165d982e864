"""Time 8 runs on the cores of this machine: two workers of the local engine beside the inline engine with all threads.

Both engines are handed the same jobs, and both are warm: PyTorch is imported and a run was trained before the clock
starts, so what is compared is training, not starting. Then the same as whole commands, `dnntrain sweep` with one worker
and with two, as a user has them: with the start of all processes, which counts the less the longer runs are, and the
study's journal, leases and tables. Rounds are interleaved; medians, and the median of the ratios round by round, are
printed.

A network that is trained with all threads waits for the slowest of them in each of its operations, so that other work
on the machine slows it down many times over, far more than two processes of one thread each. So what other work took
meanwhile is measured and printed, and `--tries N` measures again what it disturbed.

With `--profile` nothing is timed: one run of each network is trained here, and where its time goes is printed.
"""

from __future__ import annotations

import argparse
import cProfile
import multiprocessing
import os
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from dnntrain import spec
from dnntrain.sweep.engines.base import Engine, Job
from dnntrain.sweep.engines.inline import Inline
from dnntrain.sweep.engines.local import Local
from dnntrain.sweep.engines.work import do

RUNS = 8
PATIENCE_S = 60.0
MOST_OTHER_WORK = 0.05
"""Measurements during which other work took more of the processors than this are repeated, where that is asked for."""
SMALL = """
name: small
data: {dataset: digits}
model: {architecture: {name: mlp, hidden: [128, 64]}, activation: relu}
optimizer: {name: adamw, lr: 3.0e-3}
schedule: constant
training: {epochs: 20, device: cpu}
callbacks: []
"""
LARGE = """
name: large
data: {{dataset: {{name: npz, path: {path}}}, validation: {{fraction: 0.1}}, standardize: feature, batch_size: 256}}
model: {{architecture: {{name: mlp, hidden: [2000, 2000]}}, activation: relu}}
optimizer: {{name: sgd, lr: 0.01}}
schedule: constant
training: {{epochs: 2, device: cpu}}
callbacks: []
"""


def generate(path: Path) -> None:
    """Write 4,096 random pictures of the size of MNIST's, with random labels."""
    rng = np.random.default_rng(0)
    np.savez(path, x_train=rng.integers(0, 256, (4096, 28, 28), dtype=np.uint8), y_train=rng.integers(0, 10, 4096))


def trained(engine: Engine, text: str, folder: Path, runs: int) -> float:
    """Train runs that differ in their seeds, and return the seconds until the last has ended."""
    folder.mkdir()
    jobs = [Job(i, spec.dump(spec.loads(text, overrides=[f"seed={i}"])), folder / f"run{i}") for i in range(runs)]
    started = time.perf_counter()
    going = ended = 0
    while ended < runs:
        while jobs and going - ended < engine.slots:
            engine.submit(jobs.pop(0))
            going += 1
        for outcome in engine.wait(10.0):
            if outcome.ending != "ended":
                raise SystemExit(f"a run {outcome.ending}: {outcome.message}")
            ended += 1
    return time.perf_counter() - started


def commanded(text: str, folder: Path, workers: int) -> float:
    """Run `dnntrain sweep` over the runs, as a user does, and return the seconds of the whole command."""
    folder.mkdir()
    (folder / "sweep.yaml").write_text(f"{text}sweep: {{seeds: {RUNS}}}\n")
    command = [sys.executable, "-m", "dnntrain", "sweep", "sweep.yaml", "--workers", str(workers), "--fresh", "-q"]
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


class Others:
    """How much of the processors' time other work takes, since this was made."""

    def __init__(self) -> None:
        self._before = self._now()

    def share(self) -> float:
        """Return the share of the time of all processors, from 0 to 1."""
        total, idle, own = (now - then for now, then in zip(self._now(), self._before, strict=True))
        return max(0.0, total - idle - own) / max(total, 1e-9)

    @staticmethod
    def _now() -> tuple[float, float, float]:
        """Return seconds of processors' time: all, idle, and spent by this process and its children."""
        tick = os.sysconf("SC_CLK_TCK")
        fields = [int(field) / tick for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        own = sum(os.times()[:4])
        for child in multiprocessing.active_children():
            times = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
            own += sum(map(int, times)) / tick
        return sum(fields), fields[3] + fields[4], own


def wait_for_quiet(longest: float) -> None:
    """Wait until other work leaves the machine alone, but no longer than so many seconds."""
    until = time.monotonic() + longest
    share = 1.0
    while share > MOST_OTHER_WORK and time.monotonic() < until:
        others = Others()
        time.sleep(1.0)
        share = others.share()


def undisturbed(pair: Callable[[], tuple[float, float]], tries: int) -> tuple[float, float, float]:
    """Return two times, measured one after the other, and the share of the processors that other work took meanwhile.

    Where that is more than `MOST_OTHER_WORK`, both are measured again, so many times at most; of all, the least
    disturbed counts.
    """
    found: list[tuple[float, float, float]] = []
    for _ in range(tries):
        if tries > 1:
            wait_for_quiet(PATIENCE_S)
        others = Others()
        one, other = pair()
        found.append((one, other, others.share()))
        print(f"  {one:8.2f}{other:8.2f}, others {found[-1][2]:.0%}", flush=True)
        if found[-1][2] <= MOST_OTHER_WORK:
            break
    return min(found, key=lambda each: each[2])


def measure(name: str, text: str, folder: Path, *, rounds: int, workers: int, tries: int) -> None:
    """Print a row for the engines alone, and one for whole sweeps."""
    threads = torch.get_num_threads()
    each = max(1, threads // workers)
    inline, local = Inline(), Local(workers, threads=each)
    trained(inline, text, folder / new(), 1)
    trained(local, text, folder / new(), workers)
    engines, commands = [], []
    for _ in range(rounds):
        engines.append(
            undisturbed(
                lambda: (trained(inline, text, folder / new(), RUNS), trained(local, text, folder / new(), RUNS)), tries
            )
        )
        if tries > 1:
            wait_for_quiet(PATIENCE_S)
        commands.append((commanded(text, folder / new(), 1), commanded(text, folder / new(), workers)))
    local.close()
    row(f"{name}, warm engines", engines)
    row(f"{name}, whole commands", commands)
    most = max(figures[2] for figures in engines)
    print(f"other work took {most:.0%} of the processors at most while the engines were timed", flush=True)


def row(what: str, figures: Sequence[tuple[float, ...]]) -> None:
    """Print medians of two times, and the median of their ratio."""
    one, both = (statistics.median(each[i] for each in figures) for i in (0, 1))
    ratios = sorted(each[0] / each[1] for each in figures)
    print(
        f"{what:24}{one:8.2f}{both:8.2f}{statistics.median(ratios):8.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
        flush=True,
    )


def new() -> str:
    """Return the name of a folder that is not there yet."""
    return uuid.uuid4().hex


def profile(name: str, text: str, folder: Path) -> None:
    """Print where the time of one run goes."""
    job = Job(0, spec.dump(spec.loads(text)), folder / "cold")
    do(job)
    profiler = cProfile.Profile()
    job = Job(1, job.text, folder / "warm")
    profiler.runcall(do, job)
    print(f"\n{name}")
    pstats.Stats(profiler).sort_stats("tottime").print_stats(14)


def main() -> None:
    """Measure both networks and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tries", type=int, default=1, help="measure again, so often at most, what is disturbed")
    parser.add_argument("--only", choices=("small", "large"))
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    load = os.getloadavg()[0]
    print(f"torch {torch.__version__}, {cores} cores, load {load:.1f}, {RUNS} runs, {arguments.rounds} rounds, seconds")
    print("inline, local, ratio of the two")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generate(folder / "noise.npz")
        for network, text in (("small", SMALL), ("large", LARGE.format(path=folder / "noise.npz"))):
            if arguments.only not in (None, network):
                continue
            (folder / network).mkdir()
            if arguments.profile:
                profile(network, text, folder / network)
            else:
                measure(
                    network,
                    text,
                    folder / network,
                    rounds=arguments.rounds,
                    workers=arguments.workers,
                    tries=arguments.tries,
                )
    print(f"load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
