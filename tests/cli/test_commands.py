"""The commands as a person types them, in one process; what each prints and how it exits."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from dnntrain.cli import app
from dnntrain.cli.files import RECIPES

CONFIG = """\
name: tiny
seed: 3
data: {dataset: digits, limit: 128}
model:
  architecture: {name: mlp, hidden: [8]}
training: {epochs: 2}
"""


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with one finished run."""
    folder = tmp_path_factory.mktemp("finished")
    config = folder / "tiny.yaml"
    config.write_text(CONFIG)
    result = call("run", str(config), "--test", "-q", "--runs-dir", str(folder / "runs"))
    assert result.exit_code == 0, result.output
    return folder / "runs"


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def test_run_prints_a_line_per_epoch_and_ends_with_the_directory(workplace: Path) -> None:
    result = call("run", "tiny.yaml", "--test")
    assert result.exit_code == 0
    lines = result.stdout.rstrip().splitlines()
    assert lines[0].startswith("epoch 1/2 *")
    assert lines[1].startswith("epoch 2/2")
    assert "samples/s" in lines[0]
    assert "ETA" in lines[0]
    assert any(line.startswith("completed after 2 epochs") for line in lines)
    assert any(line.startswith("test, with those weights") for line in lines)
    assert Path(lines[-1]).parent == Path("runs")
    assert (workplace / lines[-1] / "summary.json").exists()


def test_run_quietly_prints_the_directory_alone(workplace: Path) -> None:
    result = call("run", "tiny.yaml", "-q")
    assert (workplace / result.stdout.strip() / "spec.yaml").exists()
    assert len(result.stdout.splitlines()) == 1


def test_run_with_json_prints_the_summary_alone(workplace: Path) -> None:
    summary = json.loads(call("run", "tiny.yaml", "--json").stdout)
    assert summary["status"] == "completed"
    assert summary["epochs"] == 2


def test_a_run_goes_on_with_more_to_do(workplace: Path) -> None:
    directory = call("run", "tiny.yaml", "-q", "--test").stdout.strip()
    again = call("resume", "last", "-q")
    assert (again.exit_code, again.stdout.strip()) == (0, directory)
    assert "has come to its end" in again.stderr
    more = call("resume", "tiny", "--set", "training.epochs=3", "--set", "optimizer.lr=0.01")
    assert more.exit_code == 0
    assert more.stdout.startswith("epoch 3/3")
    assert "test, with those weights" in more.stdout
    assert more.stderr.splitlines() == [
        "from here on optimizer.lr: 0.001 -> 0.01",
        "from here on training.epochs: 2 -> 3",
    ]
    summary = json.loads(call("resume", directory, "--json").stdout)
    assert (summary["epochs"], summary["status"]) == (3, "completed")


def test_a_run_is_resumed_or_started(workplace: Path) -> None:
    first = call("run", "tiny.yaml", "-q", "--resume-or-start")
    second = call("run", "tiny.yaml", "-q", "--resume-or-start")
    other = call("run", "tiny.yaml", "-q", "--resume-or-start", "--seed", "4")
    assert first.stdout == second.stdout != other.stdout
    assert "has come to its end" in second.stderr
    assert len(list((workplace / "runs").iterdir())) == 2


def test_what_cannot_be_resumed_is_a_wrong_command(workplace: Path) -> None:
    call("run", "tiny.yaml", "-q")
    result = call("resume", "last", "--set", "model.activation=elu")
    assert result.exit_code == 2
    assert "need a run of their own" in result.stderr
    assert call("resume", "nothing").exit_code == 2


def test_resuming_is_proved(workplace: Path) -> None:
    result = call("verify-resume", "tiny.yaml")
    assert result.exit_code == 0
    assert result.stdout.startswith("identical: stopped after the steps ")
    told = json.loads(call("verify-resume", "tiny.yaml", "--json", "--set", "training.epochs=1").stdout)
    assert told["identical"] is True
    assert told["first"] is None


def test_a_resume_that_is_not_exact_is_told(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dnntrain.training.batches.Batches.load_state_dict", lambda self, state: None)
    result = call("verify-resume", "tiny.yaml")
    assert result.exit_code == 1
    first, *rest = result.stdout.splitlines()
    assert re.fullmatch(r"different: batches\.\w+ is the first of \d+", first)
    assert any(line.startswith("    right after being restored: batches.") for line in rest)
    assert any(line.startswith("    at the end: last.pt: ") for line in rest)


def test_shortcuts_have_the_last_word(workplace: Path) -> None:
    result = call(
        "run", "tiny.yaml", "--json", "--epochs", "1", "--seed", "5", "--name", "other", "--device", "cpu",
        "--set", "optimizer.lr=0.5", "--runs-dir", "elsewhere",
    )  # fmt: skip
    summary = json.loads(result.stdout)
    assert (summary["name"], summary["seed"], summary["epochs"]) == ("other", 5, 1)
    assert summary["spec"]["optimizer.lr"] == 0.5
    (run,) = (workplace / "elsewhere").iterdir()
    assert run.name.startswith("other-")


def test_mistakes_exit_with_2_and_leave_nothing(workplace: Path) -> None:
    (workplace / "wrong.yaml").write_text(CONFIG.replace("hidden", "hiden"))
    result = call("run", "wrong.yaml")
    assert result.exit_code == 2
    assert "wrong.yaml:5:29: unknown key 'hiden'" in result.stderr
    assert "did you mean 'hidden'?" in result.stderr
    assert result.stdout == ""
    assert not (workplace / "runs").exists()


def test_a_missing_file_is_one_line(workplace: Path) -> None:
    result = call("run", "nowhere.yaml")
    assert (result.exit_code, result.stderr) == (2, "there is no file nowhere.yaml\n")


def test_divergence_exits_with_1_and_names_the_run(workplace: Path) -> None:
    result = call("run", "tiny.yaml", "--set", "optimizer={name: sgd, lr: 1.0e+18}", "--set", "schedule=constant")
    assert result.exit_code == 1
    assert "training diverged" in result.stderr
    (run,) = (workplace / "runs").iterdir()
    assert str(run.relative_to(workplace)) in result.stderr


def test_validate_reports_each_file(workplace: Path) -> None:
    (workplace / "wrong.yaml").write_text("data: {dataset: digitz}\n")
    result = call("validate", "tiny.yaml", "wrong.yaml")
    assert result.exit_code == 2
    assert result.stdout == "tiny.yaml: ok\n"
    assert "unknown dataset 'digitz'" in result.stderr
    assert "missing required key 'model.architecture'" in result.stderr


@pytest.mark.parametrize("family", ["activation", "activations"])
def test_list_takes_a_family_either_way(family: str) -> None:
    result = call("list", family)
    assert result.exit_code == 0
    assert "selu" in result.stdout
    assert "nadam" not in result.stdout


def test_list_names_every_part() -> None:
    from dnntrain.registry import families

    shown = json.loads(call("list", "--json").stdout)
    assert {family: set(entries) for family, entries in shown.items()} == {
        name: set(family.names()) for name, family in families().items()
    }
    assert shown["optimizer"]["nadam"]["options"][0] == {
        "name": "lr",
        "type": "number (> 0)",
        "default": "0.002",
        "description": "learning rate.",
        "alternatives": ["number (> 0)"],
    }


def test_list_shows_what_there_is_to_choose_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "600")
    assert "gate: none | glu | geglu | swiglu" in call("list", "architecture").stdout
    assert "approximate: none | tanh" in call("list", "activation").stdout
    assert "nesterov: false," in call("list", "optimizer").stdout, "true or false goes without saying"


@pytest.mark.parametrize(
    ("family", "places"),
    [
        ("activation", ["model.activation: relu up to 4 hidden layers"]),
        ("initializer", ["model.initializer: what suits", "model.output_initializer: glorot_uniform"]),
        ("loss", ["loss: cross_entropy for classes, mse for numbers"]),
        ("callback", ["callbacks: early stopping with patience 10"]),
        ("optimizer", []),
    ],
)
def test_list_says_what_auto_picks(family: str, places: list[str]) -> None:
    shown = " ".join(call("list", family).stdout.split())
    assert ("auto " in shown) is bool(places)
    for place in places:
        assert place in shown


def test_list_points_to_keys_that_are_no_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    callbacks = call("list", "callback").stdout
    assert "training.max_time: null | text" in callbacks
    assert "training.checkpoint: {every: epoch, keep: 0}" in callbacks
    assert "training.clip: null | {norm, value, parameter_norm}" in call("list", "optimizer").stdout
    assert "training." not in call("list", "dropout").stdout


def test_list_of_an_unknown_family_suggests() -> None:
    result = call("list", "activatoins")
    assert result.exit_code == 2
    assert "did you mean 'activations'?" in result.stderr


def test_schema_is_json() -> None:
    schema = json.loads(call("schema").stdout)
    assert {"extends", "data", "model", "optimizer"} <= set(schema["properties"])
    assert {"const": "nadam"} in [
        form["properties"]["name"] for form in schema["$defs"]["family_optimizer"]["anyOf"] if "properties" in form
    ]


def test_summary_shows_layers_and_totals(workplace: Path) -> None:
    result = call("summary", "tiny.yaml")
    assert result.exit_code == 0
    assert "dense1" in result.stdout
    assert "610 parameters, of which 610 trainable" in result.stdout
    assert not (workplace / "runs").exists()


def test_init_writes_a_file_that_trains_and_never_overwrites(workplace: Path) -> None:
    assert call("init").exit_code == 0
    text = (workplace / "default.yaml").read_text()
    assert call("run", "default.yaml", "--epochs", "1", "-q").exit_code == 0
    again = call("init", "default")
    assert again.exit_code == 2
    assert "is there already" in again.stderr
    assert (workplace / "default.yaml").read_text() == text
    assert call("init", "-o", "-").stdout == text
    assert call("init", "cooking").exit_code == 2


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_learns(recipe: str, workplace: Path) -> None:
    if recipe == "transfer":
        assert call("init").exit_code == 0
        assert call("run", "default.yaml", "--epochs", "2", "-q").exit_code == 0
    assert call("init", recipe).exit_code == 0
    summary = json.loads(call("run", f"{recipe}.yaml", "--epochs", "3", "--json").stdout)
    assert summary["name"] == recipe
    assert summary["best"]["metrics"]["valid/accuracy"] > 0.5


def test_every_line_of_the_starter_is_explained_or_plain() -> None:
    text = call("init", "-o", "-").stdout
    assert yaml.safe_load(text)["data"]["dataset"] == "digits"
    assert text.count("#") >= 15


def test_ls_and_show(finished: Path) -> None:
    listed = call("ls", str(finished))
    assert listed.exit_code == 0
    assert "completed" in listed.stdout
    assert "valid/loss" in listed.stdout
    (row,) = json.loads(call("ls", str(finished), "--json").stdout)
    assert row["epochs"] == 2
    for query in ("last", row["run"], "tiny", str(finished / row["run"])):
        shown = call("show", query, "--runs-dir", str(finished))
        assert shown.exit_code == 0
        assert "architecture: {name: mlp, hidden: [8]}" in shown.stdout
        assert "test, with those weights" in shown.stdout
    assert json.loads(call("show", "last", "--runs-dir", str(finished), "--json").stdout)["status"] == "completed"


def test_show_of_nothing_says_so(tmp_path: Path) -> None:
    result = call("show", "last", "--runs-dir", str(tmp_path))
    assert result.exit_code == 2
    assert "no runs" in result.stderr


def test_ls_of_nothing_says_how_to_begin(tmp_path: Path) -> None:
    result = call("ls", str(tmp_path))
    assert result.exit_code == 0
    assert "no runs in" in result.stdout
    assert json.loads(call("ls", str(tmp_path), "--json").stdout) == []


def test_a_damaged_run_is_listed_as_damaged(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "summary.json").write_text("{")
    result = call("ls", str(tmp_path))
    assert result.exit_code == 0
    assert "damaged" in result.stdout


def test_evaluate(finished: Path) -> None:
    told = json.loads(call("show", "last", "--runs-dir", str(finished), "--json").stdout)["test"]
    measured = json.loads(call("evaluate", "last", "--runs-dir", str(finished), "--json").stdout)
    assert {name: value for name, value in measured.items() if name.startswith("test/")} == told
    assert "accuracy" in call("evaluate", "last", "--runs-dir", str(finished), "--split", "valid").stdout
    wrong = call("evaluate", "last", "--runs-dir", str(finished), "--split", "tset")
    assert wrong.exit_code == 2


def test_a_plugin_adds_a_part_and_is_recorded(workplace: Path) -> None:
    (workplace / "parts.py").write_text(
        "from torch import nn\n"
        "from dnntrain.parts.activations import activations\n"
        "@activations.register('softsign_test', equation='z / (1 + |z|)', cite='here')\n"
        "def softsign() -> nn.Module:\n"
        "    '''Squash to (-1, 1).'''\n"
        "    return nn.Softsign()\n"
    )
    from dnntrain.parts.activations import activations

    try:
        result = call(
            "run", "tiny.yaml", "-q", "--plugin", "parts.py", "--set", "model.activation=softsign_test", "--epochs", "1"
        )
        assert result.exit_code == 0, result.stderr
        environment = json.loads((Path(result.stdout.strip()) / "environment.json").read_text())
        assert list(environment["plugins"]) == [str(workplace / "parts.py")]
    finally:
        activations._entries.pop("softsign_test", None)


def test_the_runs_folder_can_be_used_from_a_read_only_look(finished: Path) -> None:
    before = sorted(path.name for path in next(finished.iterdir()).iterdir())
    call("ls", str(finished))
    call("show", "last", "--runs-dir", str(finished))
    assert sorted(path.name for path in next(finished.iterdir()).iterdir()) == before


def test_predict_tells_class_probability_and_spread(workplace: Path) -> None:
    import numpy as np
    from sklearn.datasets import load_digits

    pictures, labels = load_digits(return_X_y=True)
    np.save("some.npy", pictures[:5].reshape(-1, 8, 8).astype("uint8"))
    run = call(
        "run", "tiny.yaml", "-q", "--epochs", "30", "--set", "data.limit=800", "--set", "optimizer.lr=0.02",
        "--set", "model.dropout={name: dropout, rate: 0.2}",
    ).stdout.strip()  # fmt: skip
    shown = call("predict", run, "some.npy")
    assert shown.exit_code == 0, shown.stderr
    assert "some.npy[4]" in shown.stdout
    made = json.loads(call("predict", "last", "some.npy", "--json").stdout)
    assert sum(each["label"] == str(label) for each, label in zip(made, labels[:5], strict=True)) >= 4
    for each in made:
        assert sum(each["values"].values()) == pytest.approx(1.0, abs=1e-5)
        assert each["spread"] is None
    sampled = json.loads(call("predict", "last", "some.npy", "--mc-samples", "10", "--json").stdout)
    assert all(max(each["spread"].values()) > 0 for each in sampled)
    measured = json.loads(call("evaluate", "last", "--mc-samples", "10", "--json").stdout)
    assert measured["test/accuracy"] > 0.7
    assert measured != json.loads(call("evaluate", "last", "--json").stdout)


def test_predict_names_what_it_cannot_read(finished: Path) -> None:
    result = call("predict", "last", "nowhere.png", "--runs-dir", str(finished))
    assert (result.exit_code, result.stderr) == (1, "there is no file nowhere.png\n")
    sampled = call("evaluate", "last", "--mc-samples", "5", "--runs-dir", str(finished))
    assert sampled.exit_code == 2
    assert "dropout" in sampled.stderr


def test_lr_find_draws_suggests_and_writes_on_request(workplace: Path) -> None:
    (workplace / "tiny.yaml").write_text(CONFIG + "optimizer: {name: adamw, lr: 1.0}   # to be found\n")
    before = (workplace / "tiny.yaml").read_text()
    shown = call("lr-find", "tiny.yaml", "--steps", "60")
    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout.startswith("loss over learning rate")
    assert "suggestion: optimizer.lr=" in shown.stdout
    assert (workplace / "tiny.yaml").read_text() == before
    assert not (workplace / "runs").exists()
    sweep = json.loads(call("lr-find", "tiny.yaml", "--steps", "60", "--json", "--write").stdout)
    after = (workplace / "tiny.yaml").read_text()
    assert yaml.safe_load(after)["optimizer"]["lr"] == pytest.approx(sweep["suggestion"], rel=0.1)
    assert after.endswith("   # to be found\n")
    wrong = call("lr-find", "tiny.yaml", "--start", "1", "--end", "0.1")
    assert wrong.exit_code == 2


def test_lr_find_writes_the_peak_where_the_schedule_names_one(workplace: Path) -> None:
    (workplace / "tiny.yaml").write_text(CONFIG + "schedule: {name: one_cycle, max_lr: 0.9}\noptimizer: {lr: 0.5}\n")
    told = call("lr-find", "tiny.yaml", "--steps", "60", "--write").stdout
    written = yaml.safe_load((workplace / "tiny.yaml").read_text())
    assert 1e-5 < written["schedule"]["max_lr"] < 0.3
    assert written["optimizer"] == {"lr": 0.5}
    assert f"wrote schedule.max_lr={written['schedule']['max_lr']:g} into tiny.yaml" in told


def test_lr_find_writes_the_rates_of_groups_in_proportion(workplace: Path) -> None:
    groups = "optimizer: {name: muon, lr: 0.02, groups: [{layers: output, lr: 0.04}]}\n"
    (workplace / "tiny.yaml").write_text(CONFIG + groups)
    sweep = json.loads(call("lr-find", "tiny.yaml", "--steps", "60", "--json", "--write").stdout)
    written = yaml.safe_load((workplace / "tiny.yaml").read_text())["optimizer"]
    assert written["lr"] == pytest.approx(sweep["suggestion"], rel=0.05)
    assert written["adamw_lr"] == pytest.approx(sweep["suggestion"] / 20, rel=0.05)
    assert written["groups"] == [{"layers": "output", "lr": pytest.approx(2 * sweep["suggestion"], rel=0.05)}]
    assert sweep["settings"]["optimizer.groups.0.lr"] == written["groups"][0]["lr"]


def test_lr_find_writes_all_or_nothing(workplace: Path) -> None:
    (workplace / "base.yaml").write_text(CONFIG + "optimizer: {name: muon, groups: [{layers: output, lr: 0.04}]}\n")
    child = "extends: base.yaml\noptimizer: {lr: 0.02}\n"
    (workplace / "child.yaml").write_text(child)
    result = call("lr-find", "child.yaml", "--steps", "60", "--write")
    assert result.exit_code == 2
    assert "optimizer.groups" in result.stderr
    assert (workplace / "child.yaml").read_text() == child


def test_lr_find_has_a_device_a_smoothing_and_a_tolerance(workplace: Path) -> None:
    def sweep(*options: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(call("lr-find", "tiny.yaml", "--steps", "60", "--json", *options).stdout)
        return found

    rough = sweep("--smoothing", "0", "--device", "cpu")
    assert rough["smoothed"] == rough["losses"]
    assert len(sweep("--tolerance", "1.05", "--smoothing", "0")["rates"]) < len(rough["rates"])
    assert call("lr-find", "tiny.yaml", "--smoothing", "1").exit_code == 2
    assert "must be auto, cpu, cuda" in call("lr-find", "tiny.yaml", "--device", "tpu").stderr


def test_summary_draws_the_schedule(workplace: Path) -> None:
    shown = call("summary", "tiny.yaml", "--schedule", "--set", "schedule={name: cosine, warmup: 2}").stdout
    assert "learning rate" in shown
    assert "steps" in shown
    assert "epochs" in shown
    assert "whenever the monitored metric" in call("summary", "tiny.yaml", "--schedule").stdout
    as_json = ("summary", "tiny.yaml", "--json", "--set", "schedule={name: linear, warmup: 2}")
    curve = json.loads(call(*as_json, "--schedule").stdout)["schedule"]
    assert len(curve["lr"]) == 2 * curve["steps_per_epoch"]
    assert curve["lr"][2] == max(curve["lr"])
    assert "schedule" not in json.loads(call(*as_json).stdout)


def test_evaluate_shows_a_confusion_matrix(workplace: Path) -> None:
    run = call("run", "tiny.yaml", "-q", "--set", "metrics=[accuracy, confusion]").stdout.strip()
    assert "confusion" not in (workplace / run / "metrics.jsonl").read_text()
    assert "true \\ predicted" in call("evaluate", run).stdout
    matrix = json.loads(call("evaluate", run, "--json").stdout)["test/confusion"]
    assert len(matrix) == 10
    environment = json.loads((workplace / run / "environment.json").read_text())
    assert sum(map(sum, matrix)) == environment["data"]["test"]


def test_a_summary_that_lacks_something_is_damaged_and_not_a_crash(tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "summary.json").write_text('{"schema": 1, "status": "completed"}')
    assert "damaged" in call("ls", str(tmp_path)).stdout
    shown = call("show", "half", "--runs-dir", str(tmp_path))
    assert shown.exit_code == 1
    assert "it lacks best" in shown.stderr


def test_a_name_made_of_digits_is_a_name(workplace: Path) -> None:
    summary = json.loads(call("run", "tiny.yaml", "--epochs", "1", "--name", "2024", "--json").stdout)
    assert summary["name"] == "2024"
