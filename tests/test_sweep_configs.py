"""Every shipped sweep is valid in all its configurations, and, shortened, runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dnntrain
from dnntrain import spec
from dnntrain.cli.watching import Silence
from dnntrain.registry import plain
from dnntrain.sweep.configurations import check_space
from dnntrain.sweep.engines.inline import Inline
from dnntrain.sweep.plan import Plan
from dnntrain.sweep.study import Study

CONFIGS = Path(__file__).parent.parent / "configs"
SWEEPS = sorted((CONFIGS / "sweeps").glob("*.yaml"))


@pytest.fixture(scope="module")
def small_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An npz file with 160 pictures in the shape of CIFAR-10."""
    path = tmp_path_factory.mktemp("pictures") / "pictures.npz"
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (160, 32, 32, 3), dtype=np.uint8)
    np.savez(path, x_train=pictures, y_train=np.arange(160) % 10, x_test=pictures[:40], y_test=np.arange(40) % 10)
    return path


def test_there_are_sweeps() -> None:
    names = {path.stem for path in SWEEPS}
    assert names == {
        "lr_grid",
        "activations_x_initializers",
        "cifar_exercise",
        "random_search",
        "asha",
        "transfer_fashion",
    }


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_shipped_sweep_runs(path: Path, small_pictures: Path, tmp_path: Path) -> None:
    overrides = ["sweep.seeds=1", "data.limit=64"]
    pictures = spec.load(path).data.dataset.name != "digits"
    overrides += (
        [f"data.dataset={{name: npz, path: {small_pictures}}}", "data.validation.fraction=0.2"] if pictures else []
    )
    overrides += ["training.epochs=2"] if pictures else ["training.epochs=4"]
    if (reuse := spec.load(path).model.reuse) is not None:
        dnntrain.train(
            spec.load(CONFIGS / f"{reuse.from_}.yaml", [each for each in overrides if "sweep" not in each]),
            runs=tmp_path,
        )
    draft = spec.draft(path, overrides)
    assert check_space(draft, Plan(draft).space, runs=tmp_path) > 0
    if path.stem == "activations_x_initializers":
        overrides += ["sweep.space={model.activation: [tanh, selu], model.initializer: [he_normal, lecun_normal]}"]
    elif not pictures:
        overrides += ["sweep.trials=5"] if path.stem != "lr_grid" else []
    study = Study.begin(spec.draft(path, overrides), runs=tmp_path)
    result = study.work(Inline(), observer=Silence())
    assert not result.failed
    assert {each.state for each in result.ranking} <= {"done", "pruned"}
    assert result.ranking[0].state == "done"
    assert len(result.ranking) == study.plan.wanted
    assert spec.loads((study.directory.path / "best.yaml").read_text()).sweep is None


@pytest.mark.parametrize("variant", ["swish", "batchnorm", "selu", "alpha_dropout", "one_cycle"])
def test_the_exercise_as_a_sweep_is_the_exercise(variant: str) -> None:
    plan = Plan(spec.draft(CONFIGS / "sweeps" / "cifar_exercise.yaml"))
    point = next(point for point in plan.points() if point.labels["exercise"] == variant)
    ours, alone = plain(plan.experiment(point)), plain(spec.load(CONFIGS / f"cifar_{variant}.yaml"))
    for each in (ours, alone):
        each.pop("name")
    assert ours == alone
