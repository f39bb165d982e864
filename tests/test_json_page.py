"""docs/json.md tells what programs read; here every command is run, and what it prints is compared key by key."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
import pytest
import typer
from madeupruns import make_run
from typer.testing import CliRunner

from dnntrain.cli import app
from dnntrain.compare.comparison import SCHEMA as COMPARISON_SCHEMA
from dnntrain.compare.convergence import Pace
from dnntrain.compare.statistics import Direction, Method, Verdict
from dnntrain.parts import plugins
from dnntrain.store import SCHEMA, STATUSES, RunDirectory

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "json.md"
EXERCISE = ROOT / "docs" / "runs" / "exercise"

CONFIG = """\
name: tiny
data: {dataset: digits, limit: 64, batch_size: 16}
model:
  architecture: {name: mlp, hidden: [8]}
  dropout: {name: dropout, rate: 0.2}
regularizers: [{name: l2, strength: 1.0e-4}]
metrics: [accuracy, confusion]
training: {epochs: 1, device: cpu}
"""
VALUES = """\
name: numbers
data: {dataset: diabetes, batch_size: 64}
model: {architecture: {name: mlp, hidden: [8]}, normalization: batch}
training: {epochs: 1, device: cpu}
"""
BROKEN = """\
data: {dataset: digits, limt: 64}
model: {architecture: mlp, activation: sellu}
"""

PLACEHOLDERS: Final = {
    "part": "train|valid|test",
    "metric": "[a-z][a-z0-9_]*",
    "column": "epoch|step|lr|grad_norm|seconds|samples_per_second|(train|valid)/[a-z][a-z0-9_]*",
    "key": r"[a-z_]+(\.[a-z0-9_]+)*",
    "seed": r"-?\d+",
    "status": "|".join(STATUSES),
    "class": ".+",
    "tensor": r"[a-z0-9_.]+",
    "package": "[a-z-]+",
    "file": r".+\.py",
    "family": "[a-z]+",
    "axis": r"[a-z_]+(\.[a-z0-9_]+)*",
    "run": r"\d+(/\d+)?",
    "name": "[a-z0-9_]+",
}
KINDS: Final[dict[str, Callable[[Any], bool]]] = {
    "text": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value),
    "boolean": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
    "any": lambda value: True,
}
NULL_HERE: Final = {
    "environment.json": ["reused", "device_name", "cuda"],
    "divergence.json": ["grad_norm", "grad_norms.{tensor}", "last_good"],
    "run, resume": ["stop_reason", "error"],
    "verify-resume": ["first"],
    "ablate": ["refused[].technique", "refused[].message"],
    "bisect": ["shares[].whole", *(f"interplays[].alone.{key}" for key in ("low", "high", "seeds_to_settle"))],
}
"""What is null throughout: on a CPU, without layers to reuse, where training diverges at once or all is well."""

Documents = dict[str, list[Any]]
ENTRY: Final = "[]"


@dataclass(frozen=True)
class Row:
    """One row of a table: a key, the type of its values, and whether it may be missing."""

    key: str
    kind: str
    optional: bool = False

    @cached_property
    def path(self) -> tuple[str, ...]:
        """The pattern of each step down."""
        return tuple(self.key.replace(ENTRY, f".{ENTRY}").lstrip(".").split("."))

    def meets(self, path: tuple[str, ...], depth: int | None = None) -> bool:
        """Whether a path in a document is this key's, or that of what is so deep above it."""
        own = self.path[:depth]
        return len(path) == len(own) and all(map(is_named, own, path))


def is_named(pattern: str, key: str) -> bool:
    """Whether a key in a document is what a step of a documented key means."""
    pieces = re.split(r"\{(\w+)\}", pattern)
    regex = "".join(f"({PLACEHOLDERS[piece]})" if i % 2 else re.escape(piece) for i, piece in enumerate(pieces))
    return re.fullmatch(regex, key) is not None


def is_a(value: Any, kind: str) -> bool:
    """Whether a value is of a type as the page writes it: `text or null`, `list of (number or null)`, ..."""
    return any(map(partial(_is_one, value), re.findall(r'"[^"]*"|list of \([^)]*\)|(?:lists? of )*[a-z0-9]+', kind)))


def _is_one(value: Any, kind: str) -> bool:
    if kind == "or":
        return False
    if found := re.fullmatch(r"lists? of (?:\((.*)\)|(.*?)s?)", kind):
        inner = found[1] or found[2]
        return isinstance(value, list) and all(is_a(entry, inner) for entry in value)
    if kind.startswith('"'):
        return bool(value == kind.strip('"'))
    return bool(value == int(kind)) if kind.isdecimal() else KINDS[kind](value)


def sections() -> dict[str, list[Row]]:
    """Return the tables of keys by the heading above."""
    found: dict[str, list[Row]] = {}
    for part in re.split(r"^##+ ", PAGE.read_text(encoding="utf-8"), flags=re.M)[1:]:
        if "| key | type | meaning |" in part:
            rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \|$", part, flags=re.M)
            assert len(rows) == part.count("\n| `")
            found[part.split("\n", 1)[0]] = [Row(key, kind, text.startswith("only ")) for key, kind, text in rows]
    return found


SECTIONS: Final = sections()


def mistakes(documents: list[Any], rows: list[Row]) -> list[str]:
    """Compare documents with their table: unknown keys, missing ones, wrong types, rows that no value is seen of."""
    seen: set[str] = set()
    wrong = [each for document in documents for each in _mistakes((), document, rows, seen)]
    unseen = [f"{row.key} is documented, and never has a value" for row in rows if row.key not in seen]
    return [*dict.fromkeys(wrong), *unseen]


def _mistakes(path: tuple[str, ...], value: Any, rows: list[Row], seen: set[str]) -> Iterator[str]:
    shown = ".".join(path)
    row = _row_of(path, rows)
    if row is not None:
        if value is not None:
            seen.add(row.key)
        if not is_a(value, row.kind):
            yield f"{shown} is {value!r}, not {row.kind}"
        if row.kind == "any":
            return
    elif not any(each.meets(path, len(path)) for each in rows):
        yield f"{shown} is not documented"
    if isinstance(value, dict):
        for each in rows:
            *_, last = each.path
            if each.meets(path, -1) and not (each.optional or "{" in last or last == ENTRY or last in value):
                yield f"{shown} lacks {last}"
        for key, inner in value.items():
            yield from _mistakes((*path, key), inner, rows, seen)
    elif isinstance(value, list):
        for inner in value:
            if isinstance(inner, dict):
                yield from _mistakes((*path, ENTRY), inner, rows, seen)


def _row_of(path: tuple[str, ...], rows: list[Row]) -> Row | None:
    """Return the row of a path: the one that has its very name, else one with a placeholder."""
    found = [row for row in rows if row.meets(path)]
    return min(found, key=lambda row: row.path != path, default=None)


def told(*arguments: str, exits: int = 0) -> Any:
    result = CliRunner().invoke(app, [*arguments, *([] if arguments[0] == "schema" else ["--json"])])
    assert result.exit_code == exits, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Documents]:
    """What every command prints, and what the files of a run hold, by the heading of their tables."""
    folder = tmp_path_factory.mktemp("json")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(plugins, "_loaded", {})
        found = trained(folder)
        measured, left = numbers(folder)
        yield {**found, **taken_apart(), **kept(folder), **asked(), "evaluate": found["evaluate"] + measured, **left}


def trained(folder: Path) -> Documents:
    """Train a little, look at it from all sides, and go on."""
    (folder / "tiny.yaml").write_text(CONFIG)
    (folder / "own.py").write_text("")
    who = ("-c", "user.name=N", "-c", "user.email=E", "-c", "commit.gpgsign=false")
    for command in (["init", "-q"], ["add", "tiny.yaml"], [*who, "commit", "-qm", "tiny"]):
        subprocess.run(["git", *command], check=True, capture_output=True)
    (folder / "tiny.yaml").write_text(f"{CONFIG}seed: 3\n")
    np.save(folder / "some.npy", np.zeros((2, 8, 8), dtype=np.uint8))
    first = told("run", "tiny.yaml", "--test", "--plugin", "own.py")
    for command in (["tag", "last", "paper"], ["note", "last", "looks good"]):
        CliRunner().invoke(app, command)
    found: Documents = {
        "run, resume": [first, told("resume", "last", "--set", "training.epochs=2")],
        "evaluate": [told("evaluate", "last", "--worst", "2")],
        "predict": [told("predict", "last", "some.npy"), told("predict", "last", "some.npy", "--mc-samples", "2")],
    }
    run = RunDirectory(Path(first["path"]))
    environment = run.environment()
    again = [{**each, "test": True} for each in environment["resumed"]]
    found |= {
        "metrics.jsonl": run.metrics(),
        "environment.json": [{**environment, "resumed": []}, *again],
        "notes.json": [run.notes()],
    }
    wrong = ["--set", "optimizer={name: sgd, lr: 1.0e+18}", "--set", "schedule=constant", "--runs-dir", "wrong"]
    assert CliRunner().invoke(app, ["run", "tiny.yaml", *wrong]).exit_code == 1
    (diverged,) = map(RunDirectory, Path("wrong").iterdir())
    stopped = next(EXERCISE.iterdir())
    grid = ["sweep", "tiny.yaml", "--grid", "model.activation=relu,elu"]
    found["sweep, worker"] = [
        told(*grid, "--grid", "optimizer.lr=0.001,0.01"),
        told(*grid, "--folds", "2", "--prune", "asha", "--set", "training.epochs=4"),
        told(*grid, *wrong, exits=1),
    ]
    found["sweep --dry-run"] = [told(*grid, "--prune", "asha", "--dry-run")]
    found["show"] = [told("show", str(path)) for path in (run.path, diverged.path, stopped)]
    found["divergence.json"] = [read(diverged, diverged.DIVERGENCE)]
    read_all = [read(each, each.SUMMARY) for each in (run, diverged, *map(RunDirectory, EXERCISE.iterdir()))]
    return {**found, "summary.json": read_all}


def numbers(folder: Path) -> tuple[list[Any], Documents]:
    """Predict numbers, and write networks for elsewhere, of data that is there and of data that has gone."""
    (folder / "numbers.yaml").write_text(VALUES)
    told("run", "numbers.yaml", "--runs-dir", "others")
    measured = [told("evaluate", "last", "--worst", "2", "--runs-dir", "others")]
    np.savez(folder / "rows.npz", x_train=np.eye(8, dtype=np.float32), y_train=np.arange(8) % 2)
    (folder / "rows.yaml").write_text(VALUES.replace("diabetes", "{name: npz, path: rows.npz}"))
    written = told("export", "last", "--format", "onnx", "--fuse", "--runs-dir", "others")
    told("run", "rows.yaml", "--runs-dir", "others")
    (folder / "rows.npz").unlink()
    return measured, {"export": [written, told("export", "last", "--format", "safetensors", "--runs-dir", "others")]}


def taken_apart() -> Documents:
    """Take techniques away; explain gaps: by keys that work together, by luck, and by runs that fail."""
    Path("a.yaml").write_text(
        "extends: tiny.yaml\nmodel: {initializer: he_normal}\noptimizer: {name: sgd, lr: 1.0e-9}\nschedule: constant\n"
    )
    Path("b.yaml").write_text("extends: a.yaml\noptimizer: {lr: 0.1}\ntraining: {epochs: 12}\n")
    Path("c.yaml").write_text("extends: a.yaml\nmodel: {initializer: he_uniform}\n")
    Path("d.yaml").write_text("extends: a.yaml\noptimizer: {lr: 1.0e+18}\n")
    return {
        "ablate": [told("ablate", "tiny.yaml"), told("ablate", "tiny.yaml", "--dry-run")],
        "bisect": [told("bisect", "a.yaml", other) for other in ("b.yaml", "c.yaml", "d.yaml")],
    }


def kept(folder: Path) -> Documents:
    """Compare and manage runs that are there: real ones, and some where seeds, figures or whole runs are missing."""
    runs = folder / "kept"
    for seed, (loss, other) in enumerate(((1.0, 1.2), (1.1, 1.4), (1.3, None), (1.25, None))):
        base = make_run(runs, "base", seed=seed, losses=[3.0, loss], tags=["paper"])
        make_run(runs, "other", seed=seed, losses=[2.0, other], spec={"optimizer.lr": 0.2}, minutes=1, status="failed")
    alone = make_run(runs, "alone", spec={"model.activation": "elu"}, minutes=2, test={"test/loss": 1.0})
    alone.save_checkpoint(alone.LAST, lambda file: file.write(b"weights"))
    (folder / "kept" / "broken").mkdir()
    (folder / "kept" / "broken" / "summary.json").write_text("{")
    shutil.copytree(EXERCISE, folder / "exercise")
    one, *_, other_run = sorted(path.name for path in EXERCISE.iterdir())
    return {
        "ls": [told("ls", "exercise"), told("ls", "kept"), told("ls", "wrong"), told("ls", "nowhere")],
        "gc": [told("gc", "kept", "--keep", "0", "--dry-run")],
        "diff": [
            told("diff", one, other_run, "--runs-dir", "exercise", exits=1),
            told("diff", base.name, alone.name, "--runs-dir", "kept", exits=1),
            told("diff", str(folder / "exercise" / one), "last", exits=1),
            told("diff", one, one, "--runs-dir", "exercise"),
        ],
        "compare": [
            told("compare", "exercise"),
            told("compare", "exercise", "--each-run"),
            told("compare", "exercise", "--metric", "test/accuracy", "--sort", "age"),
            told("compare", "kept"),
        ],
    }


def asked() -> Documents:
    """Ask about experiments and parts."""
    Path("broken.yaml").write_text(BROKEN)
    return {
        "validate": [told("validate", "tiny.yaml", "broken.yaml", "nowhere.yaml", exits=2)],
        "summary": [told("summary", "tiny.yaml"), told("summary", "tiny.yaml", "--schedule")],
        "lr-find": [told("lr-find", "tiny.yaml", "--steps", "10")],
        "verify-resume": [told("verify-resume", "tiny.yaml")],
        "list": [told("list"), told("list", "activation")],
    }


def read(directory: RunDirectory, name: str) -> Any:
    return json.loads((directory.path / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("section", SECTIONS)
def test_what_is_printed_is_what_is_documented(section: str, printed: Documents) -> None:
    rows = SECTIONS[section]
    if section in ("run, resume", "show"):
        rows = [*SECTIONS["summary.json"], *rows]
    unseen = [f"{key} is documented, and never has a value" for key in NULL_HERE.get(section, ())]
    assert mistakes(printed[section], rows) == unseen


def test_every_command_that_prints_json_is_on_the_page() -> None:
    command = typer.main.get_command(app)
    names = {name for name, each in command.commands.items() if any("--json" in p.opts for p in each.params)}
    headings = {
        name for heading in re.findall(r"^## (.+)$", PAGE.read_text(), flags=re.M) for name in heading.split(", ")
    }
    assert headings - {"The directory of a run"} == names | {"schema"}


def test_every_command_on_the_page_can_be_typed() -> None:
    command = typer.main.get_command(app)
    lines = re.findall(r"^    dnntrain (\S+)(.*)$", PAGE.read_text(), flags=re.M)
    assert {name for name, _ in lines} <= set(command.commands)
    for name, options in lines:
        known = {option for parameter in command.commands[name].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", options)) <= known, name


def test_every_file_of_a_run_is_on_the_page() -> None:
    table = PAGE.read_text().split("## The directory of a run")[1].split("###")[0]
    names = {value for name, value in vars(RunDirectory).items() if name.isupper()}
    assert len(names) > 10
    assert [name for name in names if name not in table] == []


@pytest.mark.parametrize(
    ("section", "key", "choices"),
    [
        ("summary.json", "status", STATUSES),
        ("ls", "[].status", (*STATUSES, "damaged")),
        ("compare", "better", get_args(Direction)),
        ("compare", "groups[].quality.difference.method", get_args(Method)),
        ("compare", "groups[].quality.difference.verdict", get_args(Verdict)),
        ("compare", "groups[].convergence.comparison.verdict", get_args(Pace)),
        ("compare", "schema", [COMPARISON_SCHEMA]),
        ("summary.json", "schema", [SCHEMA]),
    ],
)
def test_all_choices_are_told(section: str, key: str, choices: Sequence[Any]) -> None:
    (row,) = (row for row in SECTIONS[section] if row.key == key)
    assert re.findall(r'"([^"]+)"|(\d+)', row.kind) == [
        (each, "") if isinstance(each, str) else ("", str(each)) for each in choices
    ]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"a": [{"b": 1, "c": None}, {"b": 2, "c": 0.5}]}, []),
        ({"a": [{"b": 1, "c": 1}, {"b": 1}]}, ["a.[] lacks c"]),
        ({"a": [{"b": True, "c": 0.5}]}, ["a.[].b is True, not integer"]),
        ({"a": [{"b": 1, "c": 0.5, "d": 2}]}, ["a.[].d is not documented"]),
        ({"a": [{"b": 1, "c": 0.5, "train/loss": "low"}]}, ["a.[].train/loss is 'low', not list of (number or null)"]),
        ({"a": [{"b": 1, "c": 0.5, "train/loss": [1, "2"]}]}, None),
        ({"a": [{"b": 1, "c": None}]}, ["a[].c is documented, and never has a value"]),
    ],
)
def test_the_comparison_sees_what_is_wrong(document: Any, expected: list[str] | None) -> None:
    rows = [Row("a", "list of objects"), Row("a[].b", "integer"), Row("a[].c", "number or null")]
    if "train/loss" in document["a"][0]:
        rows.append(Row("a[].{part}/{metric}", "list of (number or null)"))
    found = mistakes([document], rows)
    assert found == expected if expected is not None else len(found) == 1
