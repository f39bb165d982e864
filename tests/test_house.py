"""The rules of the house that a reader relies on: layers, lengths, and what a start-up imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "dnntrain"
FILES = sorted(PACKAGE.rglob("*.py"))

# Lowest first; a layer may import what stands below it.
LAYERS = [
    {"errors", "registry", "yamltext", "interruption", "units"},
    {"store", "training"},
    {"parts"},
    {"spec"},
    {"placement", "checkpoints"},
    {"build"},
    {"diagnostics"},
    {"trained", "tracking"},
    {"recording", "resuming", "identity", "exporting"},
    {"pretraining", "ejecting"},
    {"run", "compare"},
    {"verifying"},
    {"sweep"},
    {"cli"},
    {"__main__"},
]
# These stand beside the column of layers: what they may import is listed in full.
ONLY = {
    "store": {"errors", "store"},
    "compare": {"errors", "store", "yamltext", "compare"},
    "errors": set[str](),
    "yamltext": {"errors", "yamltext"},
    "registry": {"errors"},
    "interruption": {"errors"},
    "units": set[str](),
}
# Inside parts: the families that may import others, and which.
PARTS = {
    "architectures": {
        "activations",
        "initializers",
        "normalizations",
        "dropouts",
        "architectures",
        "layers",
        "weights",
    },
    "datasets": {"datasets"},
    "optimizers": {"optimizers", "layers"},
    "pretraining": {"pretraining", "activations", "architectures", "initializers", "layers", "metrics"},
    "regularizers": {"layers"},
    "weights": {"weights"},
}


def imports(path: Path) -> list[str]:
    """Return the dotted names of all modules of dnntrain that a file imports, wherever in the file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in found if name.split(".")[0] == "dnntrain"]


def room(dotted: str) -> str:
    """Return the layer's member that a module belongs to."""
    pieces = dotted.split(".")
    return pieces[1] if len(pieces) > 1 else ""


def level(name: str) -> int:
    return next(i for i, layer in enumerate(LAYERS) if name in layer)


def crossings() -> list[str]:
    """Return every import that does not go down."""
    wrong = []
    for path in FILES:
        own = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if own == "__init__":
            continue  # the package's front door: it names what `run` offers
        for name in imports(path):
            other = room(name)
            if other in ("", "__version__") or other == own:
                continue
            if own in ONLY:
                if other not in ONLY[own]:
                    wrong.append(f"{path.relative_to(ROOT)} imports {name}: {own} may import {sorted(ONLY[own])} only")
            elif level(other) >= level(own):
                wrong.append(f"{path.relative_to(ROOT)} imports {name}: not below it")
    return wrong


def test_imports_go_strictly_downwards() -> None:
    assert crossings() == []


def test_every_file_has_a_place_in_the_layers() -> None:
    rooms = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in FILES} - {"__init__"}
    assert rooms == set().union(*LAYERS)


def test_families_do_not_import_each_other() -> None:
    wrong = []
    for path in (PACKAGE / "parts").rglob("*.py"):
        own = path.relative_to(PACKAGE / "parts").with_suffix("").parts[0]
        for name in imports(path):
            pieces = name.split(".")
            if pieces[1] == "parts" and len(pieces) > 2 and pieces[2] not in PARTS.get(own, {own}):
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert wrong == []


def test_the_trainer_reads_in_one_sitting() -> None:
    assert len((PACKAGE / "training" / "trainer.py").read_text().splitlines()) < 300


def test_the_trainer_knows_no_yaml_no_registry_and_no_disk() -> None:
    for path in (PACKAGE / "training").glob("*.py"):
        names = {
            alias.name.split(".")[0] if isinstance(node, ast.Import) else (node.module or "").split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        assert not names & {"yaml", "pathlib", "json", "io", "os", "pydantic"}, path
        assert not {name for name in imports(path) if room(name) in ("registry", "yamltext", "store")}, path


def test_comparing_knows_no_torch() -> None:
    for path in (PACKAGE / "compare").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not {alias.name.split(".")[0] for alias in node.names} & {"torch", "torchvision"}, path
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in ("torch", "torchvision"), path


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_are_short_and_do_not_assert(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 500
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            assert node.end_lineno - node.lineno < 60, f"{node.name} is too long"
        assert not isinstance(node, ast.Assert)


@pytest.mark.process
@pytest.mark.parametrize("arguments", [["--help"], ["ls", "nowhere"], ["run", "--help"], ["--version"]], ids=str)
def test_looking_around_does_not_import_torch(arguments: list[str]) -> None:
    code = (
        "import sys, dnntrain.cli\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
        f"sys.argv = ['dnntrain', *{arguments!r}]\n"
        "try:\n    dnntrain.cli.main()\n"
        "except SystemExit as stop:\n    assert stop.code in (0, None), stop.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_the_project_speaks_of_itself_alone() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.suffix in (".py", ".md", ".yaml", ".toml") and path.exists():
            assert "/" + "work/" not in path.read_text(), name
