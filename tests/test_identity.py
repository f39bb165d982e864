from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import dnntrain
from dnntrain import build, identity, spec, yamltext
from dnntrain.parts.plugins import loaded_files
from dnntrain.spec import Spec
from dnntrain.store import RunDirectory

CONTENT: dict[str, Any] = {
    "name": "a",
    "data": {"dataset": "digits", "limit": 40},
    "model": {"architecture": {"name": "mlp", "hidden": [3]}},
    "training": {"epochs": 1, "threads": 1},
}


def resolved(*settings: str) -> Spec:
    made = spec.loads(yamltext.dump(CONTENT), source="f.yaml", overrides=settings)
    return build.resolve(made, build.open_data(made))


def of(*settings: str, fingerprint: str = "0", plugins: dict[str, str] | None = None) -> str:
    return identity.identity(resolved(*settings), fingerprint=fingerprint, plugins=plugins or {})


@pytest.mark.parametrize(
    "setting",
    [
        "name=b",
        "training.device=cpu",
        "training.threads=2",
        "training.checkpoint={every: 3}",
        "model.activation=relu",  # what is the default here
    ],
)
def test_what_numbers_do_not_follow_from_is_left_out(setting: str) -> None:
    assert of(setting) == of()


@pytest.mark.parametrize(
    "setting",
    [
        "seed=1",
        "optimizer.lr=0.5",
        "model.activation=selu",
        "training.epochs=2",
        "training.precision=bf16",
        "data.limit=41",
        "data.validation.seed=1",
    ],
)
def test_what_numbers_follow_from_is_in_it(setting: str) -> None:
    assert of(setting) != of()


def test_data_plugins_and_versions_are_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = of()
    assert of(fingerprint="1") != plain
    assert of(plugins={"/a/parts.py": "x"}) != plain
    assert of(plugins={"/a/parts.py": "x"}) == of(plugins={"/b/renamed.py": "x"})
    monkeypatch.setattr(torch, "__version__", "0.0")
    assert of() != plain
    monkeypatch.undo()
    monkeypatch.setattr(identity, "_sources", lambda: "others")
    assert of() != plain


def test_the_sources_of_training_are_in_it_and_those_of_the_command_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("identity.py", "training/trainer.py", "cli/main.py", "sweep/board.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1\n")
    monkeypatch.setattr(identity, "__file__", str(tmp_path / "identity.py"))
    hashed = identity._sources.__wrapped__
    before = hashed()
    (tmp_path / "cli/main.py").write_text("2\n")
    (tmp_path / "sweep/board.py").write_text("2\n")
    assert hashed() == before
    (tmp_path / "training/trainer.py").write_text("2\n")
    assert hashed() != before


def test_a_run_records_what_a_sweep_looks_for(tmp_path: Path) -> None:
    record = dnntrain.train(CONTENT, runs=tmp_path)
    made = resolved()
    data = build.open_data(made)
    plugins = loaded_files()  # of this process: other tests may have loaded some
    wanted = identity.identity(made, fingerprint=data.arrays.fingerprint, plugins=plugins)
    assert RunDirectory(record.path).environment()["identity"] == wanted
    again = spec.loads(RunDirectory(record.path).spec_text(), source="spec.yaml")
    again = build.resolve(again, build.open_data(again))
    assert identity.identity(again, fingerprint=data.arrays.fingerprint, plugins=plugins) == wanted
