from __future__ import annotations

import hashlib
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import dnntrain
from dnntrain import build, spec, yamltext
from dnntrain.checkpoints import read_best
from dnntrain.errors import SpecError
from dnntrain.placement import place
from dnntrain.spec import Spec
from dnntrain.store import RunDirectory
from dnntrain.training.built import Built

SOURCE: dict[str, Any] = {
    "name": "source",
    "data": {"dataset": "digits", "limit": 200, "classes": [0, 1, 2, 3, 4, 5, 6, 7]},
    "model": {"architecture": {"name": "mlp", "hidden": [16, 12, 8]}, "normalization": "batch"},
    "training": {"epochs": 2, "threads": 1},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the run whose layers are reused."""
    folder = tmp_path_factory.mktemp("runs")
    dnntrain.train(SOURCE, runs=folder)
    return folder


def run_of(runs: Path) -> RunDirectory:
    (path,) = runs.glob("source-*")
    return RunDirectory(path)


def target(hidden: Any = (16, 12, 8), standardize: str = "auto", **reuse: Any) -> dict[str, Any]:
    return {
        "name": "target",
        "data": {"dataset": "digits", "limit": 60, "classes": [8, 9], "standardize": standardize},
        "model": {
            "architecture": {"name": "mlp", "hidden": list(hidden)},
            "normalization": "batch",
            "reuse": {"from": "source", **reuse},
        },
        "training": {"epochs": 2, "threads": 1},
    }


def resolved(runs: Path, content: dict[str, Any]) -> tuple[Spec, build.Data]:
    made = spec.loads(yamltext.dump(content), source="f.yaml")
    data = build.open_data(made)
    return build.resolve(made, data, runs=runs), data


def built(runs: Path, content: dict[str, Any]) -> Built:
    made, data = resolved(runs, content)
    return build.build(made, data, place(made))


def test_all_layers_but_the_output_come_from_the_best_epoch_of_the_source(runs: Path) -> None:
    theirs, ours = read_best(run_of(runs)).model, built(runs, target()).model.state_dict()
    assert ours.keys() == theirs.keys()
    same = {name for name in ours if ours[name].shape == theirs[name].shape and torch.equal(ours[name], theirs[name])}
    assert {name for name in ours if name not in same} == {"output.weight", "output.bias"}
    assert ours["output.weight"].shape == (2, 8)


def test_upper_layers_can_be_dropped_replaced_and_added(runs: Path) -> None:
    theirs = read_best(run_of(runs)).model
    for hidden, keep, kept in [((16, 12), 2, 2), ((16, 12, 5), 2, 2), ((16, 12, 8, 6), 3, 3), ((16,), ["dense1"], 1)]:
        ours = built(runs, target(hidden, keep=keep)).model.state_dict()
        for number in range(1, len(hidden) + 1):
            name = f"dense{number}.weight"
            equal = theirs.get(name) is not None and theirs[name].shape == ours[name].shape
            assert (equal and torch.equal(theirs[name], ours[name])) == (number <= kept), (hidden, name)


def test_frozen_layers_are_not_trained(runs: Path) -> None:
    for freeze, frozen in [
        ("none", set()),
        (1, {"dense1"}),
        ("all", {"dense1", "dense2", "dense3"}),
        ("dense2", {"dense2"}),
    ]:
        model = built(runs, target(freeze=freeze)).model
        trained = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
        assert {f"dense{i}" for i in (1, 2, 3)} - trained == frozen
        assert {f"norm{i}" for i in (1, 2, 3)} - trained == {name.replace("dense", "norm") for name in frozen}


def test_inputs_are_standardized_as_for_the_source(runs: Path) -> None:
    made, data = resolved(runs, target())
    assert made.data.standardize == "pretrained"
    scaling = read_best(run_of(runs)).prepare
    found = build.standardizer(made, data)
    assert torch.equal(found.scale, scaling.scale) and torch.equal(found.shift, scaling.shift)
    own, _ = resolved(runs, target(standardize="feature"))
    assert not torch.equal(build.standardizer(own, data).scale, scaling.scale)


def test_samples_of_another_form_cannot_be_standardized_as_for_the_source(runs: Path, tmp_path: Path) -> None:
    import numpy as np

    np.savez(tmp_path / "wide.npz", x_train=np.random.rand(40, 7).astype("f4"), y_train=np.arange(40) % 2)
    content = target(standardize="pretrained", keep=["dense2"])
    content["data"] = {"dataset": {"name": "npz", "path": str(tmp_path / "wide.npz")}, "standardize": "pretrained"}
    with pytest.raises(SpecError, match=r"standardized as samples of 1 x 8 x 8, and these are of 7"):
        built(runs, content)


def test_layers_that_do_not_fit_are_told_one_by_one(runs: Path) -> None:
    with pytest.raises(SpecError) as raised:
        built(runs, target((16, 10, 8, 4)))
    told = str(raised.value)
    assert len(raised.value.problems) == 3
    assert "layer dense2 cannot be reused: dense2.weight is 10 x 16 here and 12 x 16 in the source" in told
    assert "layer dense3 cannot be reused: dense3.weight is 8 x 10 here and 8 x 12 in the source" in told
    assert "layer dense4 cannot be reused: there is no dense4.weight in the source" in told
    assert "dense1" not in told.split("keep fewer")[0]
    assert all(problem.mark is not None for problem in raised.value.problems)


@pytest.mark.parametrize(
    ("reuse", "said"),
    [
        ({"keep": 9}, "there are 4 layers to pick from, not 9"),
        ({"keep": "conv1"}, "no layer matches 'conv1'"),
        ({"freeze": ["output"]}, "no layer matches 'output'; there are dense1, dense2, dense3"),
        ({"keep": "all", "freeze": "none"}, "output.weight is 2 x 8 here and 8 x 8 in the source"),
        ({"from": "nothing"}, "no run 'nothing'"),
        ({"from": "./nowhere.pt"}, "nowhere.pt"),
    ],
)
def test_what_cannot_be_reused_is_told_with_its_place(reuse: dict[str, Any], said: str, runs: Path) -> None:
    with pytest.raises(SpecError) as raised:
        built(runs, target(**reuse))
    assert said in str(raised.value)
    assert str(raised.value).startswith("f.yaml:")


def test_the_latest_run_of_a_name_that_came_to_an_end_is_meant(runs: Path, tmp_path: Path) -> None:
    source = run_of(runs)
    for stamp, status in [("20200101-000000-aaaa", "completed"), ("20300101-000000-aaaa", "interrupted")]:
        shutil.copytree(source.path, tmp_path / f"source-{stamp}")
        summary = RunDirectory(tmp_path / f"source-{stamp}").summary()
        RunDirectory(tmp_path / f"source-{stamp}").write_summary({**summary, "status": status})
    made, _ = resolved(tmp_path, target())
    assert made.model.reuse is not None
    assert made.model.reuse.from_ == str(tmp_path / "source-20200101-000000-aaaa")
    directly, _ = resolved(tmp_path / "elsewhere", target(**{"from": str(source.path)}))
    assert directly.model.reuse is not None and directly.model.reuse.from_ == str(source.path)


def test_the_source_is_left_as_it_was_and_is_part_of_the_identity(runs: Path, tmp_path: Path) -> None:
    def hashes() -> dict[str, str]:
        files = [path for path in sorted(run_of(runs).path.rglob("*")) if path.is_file()]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    before = hashes()
    first = dnntrain.train(target(), runs=runs, directory=tmp_path / "first")
    assert hashes() == before
    moved = tmp_path / "moved"
    shutil.copytree(run_of(runs).path, moved)
    again = dnntrain.train(target(**{"from": str(moved)}), runs=runs, directory=tmp_path / "second")
    one, other = (RunDirectory(record.path).environment()["identity"] for record in (first, again))
    assert one == other, "the same weights, wherever they lie"
    other_source = dnntrain.train({**SOURCE, "seed": 1}, runs=tmp_path / "runs")
    third = dnntrain.train(target(**{"from": str(other_source.path)}), runs=runs, directory=tmp_path / "third")
    assert RunDirectory(third.path).environment()["identity"] != one


@pytest.mark.parametrize("standardize", ["channel", "auto"])
def test_a_run_with_reused_layers_goes_on_and_loads_without_its_source(
    standardize: str, runs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = tmp_path / "source"
    shutil.copytree(run_of(runs).path, source)
    record = dnntrain.train(target(standardize=standardize, **{"from": str(source)}), runs=tmp_path / "runs")
    shutil.rmtree(source)
    assert dnntrain.evaluate(record.path)["test/accuracy"] > 0
    with caplog.at_level(logging.WARNING):
        longer = dnntrain.resume(record.path, overrides=["training.epochs=3"])
    assert longer.summary["epochs"] == 3


def test_inputs_stay_standardized_as_they_were_when_the_source_changes(runs: Path, tmp_path: Path) -> None:
    source = RunDirectory(Path(shutil.copytree(run_of(runs).path, tmp_path / "source")))
    content = target(**{"from": str(source.path)})
    record = dnntrain.train(content, runs=tmp_path / "runs")
    before = read_best(RunDirectory(record.path)).prepare
    changed = torch.load(source.checkpoint("best.pt"), weights_only=True)
    changed["prepare"]["scale"] *= 2
    torch.save(changed, source.checkpoint("best.pt"))
    RunDirectory(record.path).checkpoint("best.pt").unlink()
    dnntrain.resume(record.path, overrides=["training.epochs=3"])
    after = read_best(RunDirectory(record.path)).prepare
    assert torch.equal(before.scale, after.scale) and torch.equal(before.shift, after.shift)


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_layers_come_from_a_file_of_weights_under_other_names(ending: str, runs: Path, tmp_path: Path) -> None:
    theirs = read_best(run_of(runs)).model
    tensors = {f"fc{name[5:]}": value for name, value in theirs.items() if name.startswith("dense")}
    file = tmp_path / f"weights.{ending}"
    if ending == "pt":
        torch.save(tensors, file)
    else:
        pytest.importorskip("safetensors.torch").save_file(tensors, file)
    content = target(**{"from": str(file), "keep": ["dense1", "dense2"], "names": {"dense1": "fc1", "dense2": "fc2"}})
    content["model"]["normalization"] = "none"
    with pytest.raises(SpecError, match=r"layer dense1 cannot be reused: there is no dense1\.bias in the source"):
        built(runs, content)
    content["model"]["normalization"] = {"name": "batch", "position": "after"}
    content["model"]["reuse"]["names"] |= {f"dense{i}.bias": f"fc{i}.bias" for i in (1, 2)}
    with pytest.raises(SpecError, match="no tensor and no layer 'fc1.bias'"):
        built(runs, content)
    content["model"]["normalization"] = "batch"
    content["model"]["reuse"] |= {"names": {"dense1": "fc1"}, "keep": ["dense1"]}
    with pytest.raises(SpecError, match=r"no norm1\.weight in the source"):
        built(runs, content)


def test_a_file_of_weights_says_nothing_of_inputs_and_of_counters(
    runs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = {name: value for name, value in read_best(run_of(runs)).model.items() if "num_batches" not in name}
    torch.save(theirs, tmp_path / "weights.pt")
    content = target(**{"from": str(tmp_path / "weights.pt")})
    made, _ = resolved(runs, content)
    assert made.data.standardize == "feature"
    ours = built(runs, content).model.state_dict()
    assert torch.equal(ours["norm3.running_var"], theirs["norm3.running_var"])
    content["data"]["standardize"] = "pretrained"
    with pytest.raises(SpecError, match="nobody knows how the inputs of the reused layers were standardized"):
        built(runs, content)
    assert not caplog.messages


@pytest.mark.filterwarnings("ignore")  # Keras warns of NumPy's newer interface, among other things
def test_layers_of_keras_with_another_activation_are_warned_of(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    hidden = [keras.layers.Dense(units, activation="tanh") for units in (16, 12)]
    model = keras.Sequential([keras.Input((1, 8, 8)), keras.layers.Flatten(), *hidden, keras.layers.Dense(3)])
    model.save(tmp_path / "theirs.keras")
    content = target((16, 12), **{"from": str(tmp_path / "theirs.keras")})
    content["model"] |= {"normalization": "none", "activation": "relu"}
    ours = built(runs, content).model.state_dict()
    assert ours["dense2.weight"].shape == (12, 16)
    torch.testing.assert_close(ours["dense2.weight"], torch.tensor(hidden[1].get_weights()[0].T))
    assert any("tanh" in message and "model.activation is relu" in message for message in caplog.messages)
