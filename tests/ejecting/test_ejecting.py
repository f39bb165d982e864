"""What is ejected repeats the run to the last bit, in a process that has no dnntrain; the rest is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from ejectedcases import ATTENTIVE, RECURRENT, RESIDUAL, covering, covering_networks
from ejecteddata import biased, datasets, many_pictures, many_samples, many_values, patient, shaken, spoilt, tabled
from ejectedpairs import Pair, check_readable, check_repeated, ejected
from typer.testing import CliRunner

import dnntrain
from dnntrain import ejecting
from dnntrain import spec as specs
from dnntrain.cli import app
from dnntrain.ejecting.whole import PARTS, objections, parts_of
from dnntrain.errors import ExportError, UsageError
from dnntrain.registry import families
from dnntrain.spec import Spec
from dnntrain.store import RunDirectory

CASES = 27


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    """Runs of the covering cases, each with its script, which has been run."""
    folder = tmp_path_factory.mktemp("ejected")
    with pytest.MonkeyPatch.context() as patch:
        for module in ("utils", "cifar"):
            patch.setattr(f"torchvision.datasets.{module}.check_integrity", lambda *_: True)
        found = datasets(folder)
        cases = covering(found, most=CASES)
        for architectures, most in ((RESIDUAL, 6), (ATTENTIVE, 5), (RECURRENT, 8)):
            cases += covering_networks(found, architectures, most=most)
        tested = [number % 3 != 1 for number in range(len(cases))]
        cases += [many_values(folder), many_samples(folder), *many_pictures(folder), patient(), shaken(), *biased()]
        cases += [tabled(), spoilt()]
        tested += [False, *[True] * (len(cases) - len(tested) - 1)]  # the first of these has no test part
        return ejected(folder, zip(cases, tested, strict=True))


def test_the_script_repeats_the_run(pairs: list[Pair]) -> None:
    for pair in pairs:
        check_repeated(pair)


def test_what_is_not_finite_is_null_as_in_the_run(pairs: list[Pair]) -> None:
    run = pairs[-1].run
    assert run.summary()["best"]["epoch"] is None and run.summary()["test"]["test/loss"] is None
    assert run.metrics()[-1]["valid/loss"] is None
    assert all("NaN" not in file.read_text() for file in pairs[-1].script.with_suffix("").glob("*.json*"))


def test_the_cases_have_every_part_that_can_be_ejected(pairs: list[Pair]) -> None:
    seen = {(family, part.name) for pair in pairs for _, family, part in parts_of(spec_of(pair.run))}
    assert seen == {(family, name) for family, names in PARTS.items() for name in names}


def test_a_reader_finds_the_scripts_in_order(pairs: list[Pair]) -> None:
    check_readable(pairs)


def spec_of(run: RunDirectory) -> Spec:
    return specs.loads(run.spec_text(), source="spec.yaml", folder=run.path)


PLACES = {
    "architecture": "model.architecture",
    "activation": "model.activation",
    "initializer": "model.initializer",
    "normalization": "model.normalization",
    "dropout": "model.dropout",
    "dataset": "data.dataset",
    "augmentation": "data.augment",
    "loss": "loss",
    "metric": "metrics",
    "optimizer": "optimizer",
    "schedule": "schedule",
    "regularizer": "regularizers",
    "average": "training.average",
    "callback": "callbacks",
    "pretraining": "pretraining",
}
ELSEWHERE = {"pruner"}  # families that a single experiment does not name
RESOLVED = [
    "data.dataset=digits",
    "model.architecture={name: mlp, hidden: [4]}",
    "model.activation=relu",
    "model.initializer=he_normal",
    "model.output_initializer=he_normal",
    "model.normalization=none",
    "loss=cross_entropy",
    "metrics=accuracy",
    "callbacks=[]",
]


def resolved(*changes: str) -> Spec:
    """Return an experiment without anything that is left at `auto`, and with some changes."""
    text = "{data: {dataset: digits}, model: {architecture: {name: mlp, hidden: [4]}}}"
    return specs.loads(text, source="spec.yaml", overrides=[*RESOLVED, *changes])


def written(entry: Any) -> str:
    return json.dumps(entry.example or entry.name)


@pytest.mark.parametrize("family", [name for name in families() if name not in ELSEWHERE])
def test_every_part_is_ejected_or_refused(family: str) -> None:
    """Those that are ejected are held against their runs above."""
    for name in families()[family].names():
        entry = families()[family][name]
        suits = ["loss=mse", "metrics=mae"] if entry.traits.get("targets") == "values" else []
        if entry.traits.get("own_parts"):
            suits += [f"model.{key}=auto" for key in ("activation", "initializer", "normalization")]
        found = objections(resolved(*suits, f"{PLACES[family]}={written(entry)}"))
        assert found == ([] if name in PARTS[family] else [f"{PLACES[family]}: {name}"])


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("data.unlabeled=true", "data.unlabeled"),
        ("data.standardize=pretrained", "data.standardize: pretrained"),
        ("model.reuse={from: layers.onnx}", "model.reuse.from: .onnx files"),
        ("model.reuse={from: layers.h5}", "model.reuse.from: .h5 files"),
    ],
)
def test_what_else_is_refused(change: str, key: str) -> None:
    assert objections(resolved(change)) == [key]


def test_groups_are_refused_where_there_are_tables_and_in_muon() -> None:
    groups = "optimizer={name: adam, groups: [{layers: output, lr: 0.1}]}"
    tables = "in a network with vectors of positions or tokens"
    vit = "model.architecture={name: vit, patch: 4}"
    assert f"optimizer.groups {tables}" in objections(resolved(vit, groups))
    assert f"optimizer: muon {tables}" in objections(resolved(vit, "optimizer=muon"))
    assert objections(resolved(groups.replace("adam", "muon"))) == ["optimizer.groups of muon"]
    assert objections(resolved(groups)) == []


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    spec = resolved("data.limit=40", "training.epochs=1", "training.threads=1", "training.device=cpu")
    return RunDirectory(dnntrain.train(spec, runs=tmp_path_factory.mktemp("runs")).path)


@pytest.fixture
def copied(run: RunDirectory, tmp_path: Path) -> RunDirectory:
    return RunDirectory(Path(shutil.copytree(run.path, tmp_path / "runs" / run.path.name)))


def told(copied: RunDirectory, **facts: Any) -> str:
    """Return why a run is refused whose environment says something else."""
    copied.write_environment({**copied.environment(), **facts})
    with pytest.raises(ExportError) as refusal:
        ejecting.eject(copied.path, output=copied.path / "script.py")
    assert not (copied.path / "script.py").exists()
    return str(refusal.value)


def test_a_run_that_a_cpu_would_not_repeat_is_refused(copied: RunDirectory) -> None:
    assert "a run on cuda:0: only those on the CPU" in told(copied, device="cuda:0")
    assert "training.precision: bf16" in told(copied, device="cpu", precision="bf16")
    assert "training.compile: true" in told(copied, precision="fp32", step_strategy={"compiled": True})
    assert "changed while it was trained" in told(copied, step_strategy={}, resumed=[{"identity": "another"}])
    copied.write_summary({**copied.summary(), "stop_reason": "time limit of 3 s"})
    assert "training.max_time" in told(copied, resumed=[])
    assert "how many threads" in told(copied, threads=None)
    copied.write_summary({**copied.summary(), "stop_reason": None})
    assert "the data is not what" in told(copied, threads=1, data={"fingerprint": "another"})


def test_a_run_that_was_resumed_is_ejected_unless_it_went_on_elsewhere(copied: RunDirectory) -> None:
    before = copied.environment()
    copied.write_environment({**before, "resumed": [before]})
    ejecting.eject(copied.path, output=copied.path / "fine.py")
    for key, other in {"threads": 2, "device": "cuda:0", "cpu": "another"}.items():
        refusal = told(copied, resumed=[before, {**before, key: other}, {**before, key: other}])
        assert refusal.count(f"than the run began with ({before[key]}, now {other})") == 1
        assert refusal.count("\n    ") == 1


@pytest.mark.parametrize(
    ("reason", "repeated"),
    [
        ("enough", False),
        ("too warm: early stopping is nothing to it", False),
        ("early stopping: valid/loss did not improve for 2 epochs", True),
        ("training diverged: the loss of step 3 (epoch 1) is not finite; the learning rate was 1", True),
        ("valid/loss of epoch 2 is not finite", True),
    ],
)
def test_a_run_that_something_else_stopped_is_refused(reason: str, repeated: bool, copied: RunDirectory) -> None:
    copied.write_summary({**copied.summary(), "status": "stopped", "stop_reason": reason})
    if repeated:
        ejecting.eject(copied.path, output=copied.path / "fine.py")
    else:
        assert f"a run that was stopped from outside its experiment: {reason}" in told(copied)


@pytest.mark.parametrize("status", ["running", "interrupted"])
def test_a_run_that_is_not_at_its_end_is_refused(copied: RunDirectory, status: str) -> None:
    copied.write_summary({**copied.summary(), "status": status})
    assert "not come to its end (interrupted): dnntrain resume" in told(copied)


def test_the_script_says_what_the_run_was_trained_with_and_how_it_is_called(copied: RunDirectory) -> None:
    packages = {**copied.environment()["packages"], "dnntrain": "0.0.1", "numpy": "1.9"}
    copied.write_environment(
        {**copied.environment(), "packages": packages, "python": "3.9.1", "torch_build": '1.0+"""'}
    )
    ejecting.eject(copied.path, output=copied.path / "mine.py")
    about = " ".join((copied.path / "mine.py").read_text().split('"""')[1].split())
    assert f"what dnntrain 0.0.1 did in the run {copied.name}." in about
    assert "(Python 3.9.1, PyTorch 1.0+___, NumPy 1.9)" in about
    assert "python mine.py [FOLDER]" in about


def test_a_training_that_went_back_is_refused(copied: RunDirectory) -> None:
    (copied.path / "spec.yaml").write_text(
        copied.spec_text().replace("on_divergence: stop", "on_divergence: {retry: 1}")
    )
    ejecting.eject(copied.path, output=copied.path / "fine.py")
    copied.write_divergence({"step": 3})
    assert "diverged and went back" in told(copied)


def test_an_average_of_which_no_epoch_was_the_best_is_refused(copied: RunDirectory) -> None:
    (copied.path / "spec.yaml").write_text(copied.spec_text().replace("average: null", "average: ema"))
    ejecting.eject(copied.path, output=copied.path / "fine.py")
    copied.write_summary({**copied.summary(), "best": {"epoch": None, "metrics": {}}})
    assert "training.average: no epoch of the run is the best" in told(copied)


def test_the_refusal_names_all_there_is(copied: RunDirectory) -> None:
    text = copied.spec_text().replace("reuse: null", "reuse: {from: another.onnx}")
    (copied.path / "spec.yaml").write_text(text.replace("unlabeled: auto", "unlabeled: true"))
    assert "\n    data.unlabeled\n    model.reuse.from: .onnx files\n" in told(copied)


def test_the_command(run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["eject", str(run.path)])
    script = tmp_path / f"{run.name}.py"
    count = len(script.read_text().splitlines())
    assert done.stdout.strip() == f"{script.name}: {count} lines, which repeat {run.name} without dnntrain"
    again = CliRunner().invoke(app, ["eject", str(run.path)])
    assert again.exit_code == 2 and "is there already" in again.stderr
    assert CliRunner().invoke(app, ["eject", str(run.path), "--force"]).exit_code == 0
    with pytest.raises(UsageError, match="is a folder"):
        ejecting.eject(run.path, output=tmp_path, force=True)


def test_a_hostile_name_stays_a_name(run: RunDirectory, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(run.path, tmp_path / '"""; import os #\\'))
    ejecting.eject(moved, output=tmp_path / "script.py")
    compile((tmp_path / "script.py").read_text(), "script.py", "exec")
    assert "import os" not in (tmp_path / "script.py").read_text()
