from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from tinyspecs import DATA, MINIMAL, MODEL, marked, messages, only, place, read, told

from dnntrain import spec
from dnntrain.errors import SpecError
from dnntrain.registry import plain
from dnntrain.spec import Spec


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text(MINIMAL)
    return tmp_path


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)


def laid_over(folder: Path, base: str, over: str) -> Spec:
    """Read a file that extends another one."""
    write(folder, base=base, over="extends: base.yaml\n" + over)
    return spec.load(folder / "over.yaml")


def value(found: Spec, path: str) -> Any:
    here = plain(found)
    for key in path.split("."):
        here = here[int(key)] if isinstance(here, list) else here[key]
    return here


OPTIMIZER = MINIMAL + "optimizer: {name: sgd, lr: 0.5, momentum: 0.9}\n"
SGD = {"name": "sgd", "lr": 0.5, "momentum": 0.9, "dampening": 0.0, "nesterov": False}
ADAMW = {"name": "adamw", "lr": 0.001, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01}


# Each is said by `extends` and by `--set` alike: below, a value over it, and what comes of both.
MERGES = [
    (OPTIMIZER, "optimizer", "{lr: 0.1}", {**SGD, "lr": 0.1}),
    (OPTIMIZER, "optimizer", "{name: sgd, lr: 0.1}", {**SGD, "lr": 0.1}),
    (OPTIMIZER, "optimizer", "sgd", SGD),
    (OPTIMIZER, "optimizer", "adamw", ADAMW),
    (OPTIMIZER, "optimizer", "{name: adamw, eps: 1.0e-6}", {**ADAMW, "eps": 1e-6}),
    (MINIMAL + "optimizer: sgd", "optimizer", "{lr: 0.1}", {**SGD, "lr": 0.1, "momentum": 0.0}),
    (MINIMAL + "optimizer: sgd", "optimizer", "{name: sgd, lr: 0.1}", {**SGD, "lr": 0.1, "momentum": 0.0}),
    (MINIMAL + "optimizer: {lr: 0.1}", "optimizer", "{eps: 1.0e-6}", {**ADAMW, "lr": 0.1, "eps": 1e-6}),
    (MINIMAL + "optimizer: {lr: 0.1}", "optimizer", "{name: adamw, eps: 1.0e-6}", {**ADAMW, "lr": 0.1, "eps": 1e-6}),
    (MINIMAL + "optimizer: {lr: 0.1}", "optimizer", "adamw", {**ADAMW, "lr": 0.1}),
    (MINIMAL, "optimizer", "{lr: 0.1}", {**ADAMW, "lr": 0.1}),
    (MINIMAL, "schedule", "{patience: 2}", {"name": "performance", "factor": 0.5, "patience": 2}),
    (MINIMAL, "model.architecture", "{hidden: [1, 2]}", {"name": "mlp", "hidden": [1, 2]}),
    (MINIMAL, "model.architecture.hidden", "{layers: 2, units: 3}", {"layers": 2, "units": 3}),
    (MINIMAL + "metrics: [accuracy, accuracy]", "metrics", "[accuracy]", ["accuracy"]),
    (MINIMAL + "metrics: [accuracy]", "metrics", "[]", []),
    (MINIMAL + "seed: 3", "seed", "4", 4),
    (MINIMAL + "name: below", "name", "above", "above"),
    (MINIMAL + "name: mlp", "name", "mlp", "mlp"),
    (MINIMAL + "training: {epochs: 3, seed: 1}".replace(", seed: 1", ""), "training", "{device: cpu}", None),
    (f"{DATA}  limit: 7\n{MODEL}", "data.limit", "null", None),
    # Of options that exclude each other, the last one stays.
    (f"{DATA}  validation: {{size: 9, from: first}}\n{MODEL}", "data.validation", "{fraction: 0.5}",
     {"fraction": 0.5, "from": "first", "seed": 0}),
    (f"{DATA}  validation: {{folds: 5, fold: 1}}\n{MODEL}", "data.validation", "{size: 3}",
     {"size": 3, "from": "auto", "seed": 0}),
    (f"{DATA}  validation: {{folds: 5, fold: 1}}\n{MODEL}", "data.validation", "{fold: 2}",
     {"folds": 5, "fold": 2, "from": "auto", "seed": 0}),
    (f"{DATA}  validation: {{size: 9}}\n{MODEL}", "data.validation", "{seed: 5}",
     {"size": 9, "from": "auto", "seed": 5}),
    (MINIMAL + "training: {clip: {norm: 1}}", "training.clip", "{value: 2}", {"value": 2.0}),
    (MINIMAL + "training: {clip: {norm: 1}}", "training.clip", "null", None),
    (MINIMAL + "training: {clip: null}", "training.clip", "{value: 2}", {"value": 2.0}),
    (MINIMAL + "training: {clip: norm}", "training.clip", "{value: 2}", {"value": 2.0}),
    (f"{DATA}  validation: {{size: 9}}\n{MODEL}", "data.validation", "{fraction: null, seed: 5}",
     {"size": 9, "from": "auto", "seed": 5}),
    (MINIMAL + "schedule: {name: constant, warmup: {steps: 9, start_factor: 0.5}}", "schedule.warmup", "{epochs: 2}",
     {"epochs": 2.0, "start_factor": 0.5}),
    # A word is no part with options.
    (f"{DATA}  validation: none\n{MODEL}", "data.validation", "{size: 9}", {"size": 9, "from": "auto", "seed": 0}),
    (f"{DATA}  validation: {{size: 9}}\n{MODEL}", "data.validation", "none", "none"),
    (MINIMAL + "training: {monitor: valid/accuracy}", "training.monitor", "{mode: max}",
     {"metric": "valid/accuracy", "mode": "max"}),
    (MINIMAL + "training: {monitor: {metric: train/loss, mode: min}}", "training.monitor", "valid/loss",
     {"metric": "valid/loss", "mode": "auto"}),
]  # fmt: skip


@pytest.mark.parametrize(("below", "path", "written", "expected"), MERGES)
def test_what_is_laid_over(folder: Path, below: str, path: str, written: str, expected: object) -> None:
    nested = written
    for key in reversed(path.split(".")):
        nested = f"{{{key}: {nested}}}"
    extended = laid_over(folder, below, nested.removeprefix("{").removesuffix("}"))
    assert extended == spec.load(folder / "base.yaml", [f"{path}={written}"]).model_copy(update={"name": extended.name})
    found = value(extended, path)
    if isinstance(expected, dict) and "name" in expected:
        # Parts may gain options; what is not named here is at its default.
        found = {key: item for key, item in found.items() if key in expected}
    if expected is not None:
        assert found == expected


def test_a_single_setting_does_the_same() -> None:
    none = MINIMAL + "training: {clip: null}"
    for below in (none, none.replace("null", "norm"), none.replace("null", "{norm: 1}")):
        assert value(read(below, "training.clip.value=2"), "training.clip") == {"value": 2.0}
    warm = MINIMAL + "schedule: {name: constant, warmup: {steps: 9}}"
    assert value(read(warm, "schedule.warmup.epochs=2"), "schedule.warmup") == value(
        read(MINIMAL, "schedule={name: constant, warmup: {epochs: 2}}"), "schedule.warmup"
    )


def test_auto_is_no_metric_to_set_options_beside() -> None:
    problem = only(MINIMAL + "training: {monitor: auto}", "training.monitor.mode=max")
    assert problem.message == "missing required key 'training.monitor.metric'"


def test_sections_merge_deeply(folder: Path) -> None:
    found = laid_over(folder, MINIMAL + "training: {epochs: 3, clip: {norm: 2}}\n", "training: {device: cpu}\n")
    assert (found.training.epochs, found.training.device, value(found, "training.clip")) == (3, "cpu", {"norm": 2.0})


def test_the_name_is_the_upper_file_s(folder: Path) -> None:
    assert laid_over(folder, MINIMAL + "name: below", "name: above").name == "above"
    assert laid_over(folder, MINIMAL + "name: below", "seed: 1").name == "below"
    assert laid_over(folder, MINIMAL, "seed: 1").name == "over"


def test_a_chain_of_three_across_folders(folder: Path) -> None:
    (folder / "deep").mkdir()
    write(folder, low=MINIMAL + "seed: 1\noptimizer: {name: sgd, lr: 1}\nloss: mse")
    (folder / "deep" / "mid.yaml").write_text("extends: ../low.yaml\nseed: 2\noptimizer: {lr: 2}\n")
    write(folder, top="extends: deep/mid.yaml\noptimizer: {momentum: 0.5}\n")
    found = spec.load(folder / "top.yaml")
    assert (found.seed, value(found, "loss")) == (2, "mse")
    assert value(found, "optimizer").items() >= {**SGD, "lr": 2.0, "momentum": 0.5}.items()


def test_an_empty_base_leaves_everything_to_the_file(folder: Path) -> None:
    assert laid_over(folder, "# nothing yet\n", MINIMAL).data.dataset.name == "digits"


def failing(path: Path, *overrides: str) -> SpecError:
    with pytest.raises(SpecError) as caught:
        spec.load(path, overrides)
    return caught.value


def test_each_value_keeps_the_place_it_came_from(folder: Path) -> None:
    found = laid_over(folder, MINIMAL + "optimizer:\n  name: sgd\n  lr: 0.5\n", "optimizer: {momentum: 0.9}\nseed: 1\n")
    places = {path: place(found.problem(path, "x")) for path in ("optimizer.lr", "optimizer.momentum", "seed")}
    assert places == {
        "optimizer.lr": f"{folder / 'base.yaml'}:7:7",
        "optimizer.momentum": f"{folder / 'over.yaml'}:2:23",
        "seed": f"{folder / 'over.yaml'}:3:7",
    }


def test_mistakes_of_all_files_are_told_with_their_names(folder: Path) -> None:
    write(
        folder,
        base=MINIMAL + "seed: x\nseed: 1\noptimizer: {name: sgd, lr: -1}\n",
        over="extends: base.yaml\nepochs: 3\noptimizer: {momentum: 2}\n",
    )
    error = failing(folder / "over.yaml", "training.epochs=0")
    base, over = str(folder / "base.yaml"), str(folder / "over.yaml")
    assert [str(each.mark) for each in error.problems] == [
        "--set:1:17",
        f"{base}:5:7",
        f"{base}:6:1",
        f"{base}:7:28",
        f"{over}:2:1",
        f"{over}:3:23",
    ]


def test_a_missing_key_is_told_at_the_upper_file(folder: Path) -> None:
    write(folder, base=MODEL, over="seed: 1\nextends: base.yaml\n")
    (problem,) = failing(folder / "over.yaml").problems
    assert (problem.message, str(problem.mark)) == (
        "missing required key 'data.dataset'",
        f"{folder / 'over.yaml'}:1:1",
    )


@pytest.mark.parametrize(
    ("link", "message"),
    [
        ("nope.yaml", "there is no file {folder}/nope.yaml"),
        (".", "{folder} is a folder, not an experiment file"),
        ("3", "'extends' must be the path of a file"),
        ("[a]", "'extends' must be the path of a file"),
        ("''", "'extends' must be the path of a file"),
        ("", "'extends' must be the path of a file"),
        ('"a\\0b"', "'extends' must be the path of a file"),
        ("~no-such-user/x.yaml", "there is no file {folder}/~no-such-user/x.yaml"),
        ("x" * 300, "cannot read {folder}/" + "x" * 300 + ": File name too long"),
    ],
)
def test_a_link_that_leads_nowhere_is_told_at_the_link(folder: Path, link: str, message: str) -> None:
    write(folder, over=f"seed: 1\nextends: {link}\n")
    # What is missing may well stand in the file that cannot be read, so nothing is said of it.
    (problem,) = failing(folder / "over.yaml").problems
    assert problem.message == message.format(folder=folder)
    assert problem.mark is not None
    assert (problem.mark.line, problem.mark.source) == (2, str(folder / "over.yaml"))
    assert problem.hint


def test_a_broken_link_hides_no_other_mistake(folder: Path) -> None:
    write(folder, over="extends: nope.yaml\nsede: 1\ntraining: {epochs: 0}\n")
    assert len(failing(folder / "over.yaml").problems) == 3


def test_nothing_is_concluded_without_the_base(folder: Path) -> None:
    write(folder, over="extends: nope.yaml\noptimizer: {name: sgd, nesterov: true}\n")
    assert messages(failing(folder / "over.yaml").problems) == [f"there is no file {folder / 'nope.yaml'}"]


def test_a_base_may_lie_in_the_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    (folder / "sub").mkdir()
    (folder / "sub" / "over.yaml").write_text("extends: ~/base.yaml\n")
    assert spec.load(folder / "sub" / "over.yaml").data.dataset.name == "digits"


def test_bad_syntax_in_a_base_is_told_there(folder: Path) -> None:
    write(folder, base="data: [\n", over="extends: base.yaml\nseed: 1\nseed: x\n")
    error = failing(folder / "over.yaml")
    assert [each.mark.source for each in error.problems if each.mark] == [
        str(folder / "base.yaml"),
        str(folder / "over.yaml"),
    ]


def test_a_base_that_is_no_mapping_is_told(folder: Path) -> None:
    write(folder, base="- a\n", over="extends: base.yaml\n" + MINIMAL)
    (problem,) = failing(folder / "over.yaml").problems
    assert problem.message == "an experiment is a mapping of sections, not a list"
    assert str(problem.mark) == f"{folder / 'base.yaml'}:1:1"


def test_a_circle_is_told_with_its_chain(folder: Path) -> None:
    write(
        folder, a="extends: b.yaml\n", b="extends: c.yaml\n", c="seed: 1\nextends: ./a.yaml\n", own="extends: own.yaml"
    )
    (problem,) = failing(folder / "a.yaml").problems
    assert problem.message == "these files extend each other in a circle"
    assert problem.hint == "a.yaml -> b.yaml -> c.yaml -> a.yaml"
    assert str(problem.mark) == f"{folder / 'c.yaml'}:2:10"
    assert failing(folder / "own.yaml").problems[0].hint == "own.yaml -> own.yaml"


def test_a_base_used_twice_in_a_chain_of_links_is_no_circle(folder: Path) -> None:
    os.symlink(folder / "base.yaml", folder / "link.yaml")
    write(folder, over="extends: link.yaml\n")
    assert spec.load(folder / "over.yaml").data.dataset.name == "digits"


# --set


@pytest.mark.parametrize(
    ("override", "path", "expected"),
    [
        ("optimizer.lr=0.1", "optimizer.lr", 0.1),
        ("optimizer.lr = 1e-1", "optimizer.lr", 0.1),
        ("schedule.patience=2", "schedule.patience", 2),
        ("model.normalization.eps=0.5", "model.normalization.eps", 0.5),
        ("model.architecture.hidden.1=7", "model.architecture.hidden", [10, 7]),
        ("model.architecture.hidden=[1]", "model.architecture.hidden", [1]),
        ("model.dropout.rate=0.3", "model.dropout.0.rate", 0.3),
        ("model.dropout.0.rate=0.3", "model.dropout.0.rate", 0.3),
        ("callbacks.1.patience=3", "callbacks.1.patience", 3),
        ("callbacks.0=early_stopping", "callbacks.0.patience", 9),
        ("metrics.0=accuracy", "metrics", ["accuracy"]),
        ("data.limit=", "data.limit", None),
        ("data.limit=null", "data.limit", None),
        ("data.validation.size=9", "data.validation", {"size": 9, "from": "first", "seed": 0}),
        ("training.clip.value=2", "training.clip", {"value": 2.0}),
        ("training.monitor.mode=max", "training.monitor", {"metric": "valid/loss", "mode": "max"}),
        ("name=a=b".replace("=b", "-b"), "name", "a-b"),
        ("optimizer.name=sgd", "optimizer.name", "sgd"),
        ("data.dataset={name: npz, path: /x.npz}", "data.dataset.path", "/x.npz"),
    ],
)
def test_settings(override: str, path: str, expected: object) -> None:
    below = """
        data: {dataset: digits, limit: 5, validation: {fraction: 0.5, from: first}}
        model:
          architecture: {name: mlp, hidden: [10, 20]}
          normalization: batch
          dropout: {name: alpha, rate: 0.1}
        metrics: accuracy
        training: {clip: {norm: 1}, monitor: valid/loss}
        callbacks: [{name: early_stopping, patience: 9}, early_stopping]
        """
    assert value(read(below, override), path) == expected


def test_another_name_takes_the_options_with_it() -> None:
    assert value(read(OPTIMIZER, "optimizer.name=adamw"), "optimizer").items() >= ADAMW.items()
    assert value(read(OPTIMIZER, "optimizer.name=sgd"), "optimizer").items() >= SGD.items()
    assert value(read(OPTIMIZER, "optimizer.name=adamw", "optimizer.lr=2"), "optimizer.lr") == 2.0


def test_the_last_setting_has_the_last_word() -> None:
    assert read(MINIMAL, "seed=1", "seed=2").seed == 2
    assert read(MINIMAL, "training.epochs=1", "training={device: cpu}").training.epochs == 1


@pytest.mark.parametrize(
    ("override", "message", "under", "hint"),
    [
        ("optimizer.lr='0.1'", "'lr' must be a number, not the text '0.1'", "'0.1'", "write 0.1 without quotes"),
        ("optimizer={lr: -1}", "'lr' must be greater than 0, not -1", "-1", ""),
        ("optimizer={lr: 1, lr: 2}", "key 'lr' given twice", "lr", "first in line 1; remove one of them"),
        ("optimizer={lr: 1", "this bracket is never closed", "{lr: 1", "add the missing '}'"),
        ("optimizer.larning_rate=1", "unknown key 'larning_rate'", "optimizer.larning_rate", None),
        ("optimizr.lr=1", "unknown key 'optimizr'", "optimizr.lr", None),
        ("extends=x.yaml", "unknown key 'extends'", "extends", "a file says what it extends; a setting cannot"),
        ("model.activation=silu", "unknown activation 'silu'", "silu", "called swish here"),
        ("model.architecture.hidden.1=5", "'1' is no entry of this list", "model.architecture.hidden.1",
         "its entries are 0 to 0"),
        ("model.architecture.hidden.-1=5", "'-1' is no entry of this list", "model.architecture.hidden.-1", None),
        ("model.architecture.hidden.x=5", "'x' is no entry of this list", "model.architecture.hidden.x", None),
        ("callbacks.0.patience=5", "'0' is no entry of this list", "callbacks.0.patience",
         "the list is empty; set it as a whole: [...]"),
        ("seed.x=1", "'x' is set inside a single value", "seed.x", "what stands there is 42"),
        ("name.x=1", "'x' is set inside a single value", "name.x", "what stands there is digits_mlp"),
        ("training.epochs.x=1", "'x' is set inside a single value", "training.epochs.x", "what stands there is 5"),
        ("optimizer.lr", "cannot set 'optimizer.lr'", "optimizer.lr", "write KEY=VALUE, as in optimizer.lr=0.01"),
        ("=1", "cannot set '=1'", "=1", None),
        ("a..b=1", "cannot set 'a..b=1'", "a..b=1", None),
        (".=1", "cannot set '.=1'", ".=1", None),
        ("", "cannot set ''", "", None),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_marked_in_its_own_text(override: str, message: str, under: str, hint: str | None) -> None:
    text = MINIMAL + "name: digits_mlp\nseed: 42\ncallbacks: []\ntraining: {epochs: 5}\n"
    problem = only(text, override)
    assert problem.mark is not None
    assert (problem.message, problem.mark.source, problem.mark.text) == (message, "--set", override)
    assert marked(problem) == under
    if hint is not None:
        assert problem.hint == hint


def test_several_wrong_settings_are_told_together_with_the_file() -> None:
    problems = told(MINIMAL + "seed: x\n", "training.epochs=0", "nonsense", "lr=1")
    assert [place(each) for each in problems] == ["--set:1:17", "--set:2:1", "--set:3:1", "f.yaml:5:7"]
    assert messages(problems) == [
        "'epochs' must be greater than 0, not 0",
        "cannot set 'nonsense'",
        "unknown key 'lr'",
        "'seed' must be a whole number, not the text 'x'",
    ]


def test_a_setting_of_several_lines_is_shown_on_one() -> None:
    problem = only(MINIMAL, "training.epochs=3\n4")
    assert problem.message == "'epochs' must be a whole number, not the text '3 4'"
    assert problem.render().splitlines()[1] == "  1 | training.epochs=3 4"
    assert marked(only(MINIMAL, "training={epochs: 3,\n  device: gpu}")) == "gpu"


# Paths that are read.


def npz(path: str) -> str:
    return f"data:\n  dataset: {{name: npz, path: {path}}}\n{MODEL}"


def test_a_path_starts_at_the_file_that_wrote_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "low").mkdir()
    (folder / "here").mkdir()
    monkeypatch.chdir(folder / "here")
    (folder / "low" / "base.yaml").write_text(npz("data/x.npz"))
    write(folder, over="extends: low/base.yaml\n")
    found = spec.load(folder / "over.yaml")
    assert value(found, "data.dataset.path") == str(folder / "low" / "data" / "x.npz")
    assert value(spec.load("../over.yaml"), "data.dataset.path") == str(folder / "low" / "data" / "x.npz")
    own = laid_over(folder, npz("a.npz"), "data: {dataset: {path: sub/b.npz}}")
    assert value(own, "data.dataset.path") == str(folder / "sub" / "b.npz")
    assert value(spec.load("../over.yaml", ["data.dataset.path=c.npz"]), "data.dataset.path") == str(
        folder / "here" / "c.npz"
    )


def test_a_path_that_is_not_there_is_looked_for_in_the_data_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "shared").mkdir()
    (folder / "shared" / "x.npz").touch()
    monkeypatch.setenv("DNNTRAIN_DATA", str(folder / "shared"))
    write(folder, over=npz("x.npz"))
    assert value(spec.load(folder / "over.yaml"), "data.dataset.path") == str(folder / "shared" / "x.npz")
    assert value(spec.load(folder / "over.yaml", ["data.dataset.path=x.npz"]), "data.dataset.path") == str(
        folder / "shared" / "x.npz"
    )
    (folder / "x.npz").touch()
    assert value(spec.load(folder / "over.yaml"), "data.dataset.path") == str(folder / "x.npz")
