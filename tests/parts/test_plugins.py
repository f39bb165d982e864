from __future__ import annotations

import hashlib
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from dnntrain.errors import RegistrationError, UsageError
from dnntrain.parts import plugins
from dnntrain.parts.activations import activations

PLUGIN = '''
from torch import nn
from dnntrain.parts.activations import activations

@activations.register("plugin_cube", equation="z^3", cite="a test")
def plugin_cube() -> nn.Module:
    """Cube its input."""
    return nn.Identity()
'''


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget after a test what its plugins have registered."""
    monkeypatch.setattr(activations, "_entries", dict(activations._entries))
    monkeypatch.setattr(plugins, "_loaded", {})


def written(folder: Path, text: str, name: str = "parts.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_local_file_registers_its_parts_and_is_fingerprinted(tmp_path: Path) -> None:
    path = written(tmp_path, PLUGIN)
    digest = plugins.load_file(path)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert "plugin_cube" in activations
    assert plugins.loaded_files() == {str(path.resolve()): digest}


def test_a_file_is_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, PLUGIN)
    monkeypatch.chdir(tmp_path)
    assert plugins.load_file(path) == plugins.load_file(Path("parts.py"))


def test_two_files_that_register_the_same_part_are_refused(tmp_path: Path) -> None:
    plugins.load_file(written(tmp_path, PLUGIN))
    with pytest.raises(RegistrationError, match="activation 'plugin_cube' is registered twice"):
        plugins.load_file(written(tmp_path, PLUGIN + "# another\n", "more.py"))
    assert len(plugins.loaded_files()) == 1


def test_an_unreadable_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the plugin .*absent\.py: No such file"):
        plugins.load_file(tmp_path / "absent.py")
    with pytest.raises(UsageError, match=r"cannot read the plugin .*: Is a directory"):
        plugins.load_file(tmp_path)


def test_a_file_that_is_not_python_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"parts\.txt is not a Python file: its name must end in \.py"):
        plugins.load_file(written(tmp_path, PLUGIN, "parts.txt"))


def test_a_plugin_that_breaks_keeps_its_traceback_and_leaves_no_module(tmp_path: Path) -> None:
    path = written(tmp_path, "raise KeyError('mine')")
    before = set(sys.modules)
    with pytest.raises(KeyError, match="mine"):
        plugins.load_file(path)
    assert set(sys.modules) == before
    assert not plugins.loaded_files()


class Point:
    """An entry point whose loading does what a test wants."""

    def __init__(self, error: Exception | None, package: str | None = "cubes") -> None:
        self.name, self.value = "cube", "cubes.parts_of_a_test"
        self.dist = type("Distribution", (), {"name": package})() if package else None
        self.error, self.loaded = error, 0

    def load(self) -> None:
        self.loaded += 1
        if self.error is not None:
            raise self.error


def install(monkeypatch: pytest.MonkeyPatch, *points: Point) -> None:
    def entry_points(*, group: str) -> tuple[Any, ...]:
        return points if group == "dnntrain.parts" else ()

    monkeypatch.setattr(metadata, "entry_points", entry_points)


def test_installed_parts_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [Point(None), Point(None)]
    install(monkeypatch, *points)
    plugins.load_installed()
    assert [point.loaded for point in points] == [1, 1]


@pytest.mark.parametrize(
    "error",
    [ImportError("no module named 'gone'"), AttributeError("no 'x'"), SyntaxError("bad"), RegistrationError("twice")],
    ids=lambda error: type(error).__name__,
)
def test_a_broken_entry_point_is_named(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    install(monkeypatch, Point(error))
    with pytest.raises(RegistrationError, match="the parts 'cube' of package cubes cannot be loaded") as caught:
        plugins.load_installed()
    assert str(error) in str(caught.value)
    assert "uninstall" in str(caught.value)


def test_an_entry_point_without_a_package_is_named_too(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Point(ImportError("gone"), package=None))
    with pytest.raises(RegistrationError, match="the parts 'cube' of an unknown package cannot be loaded"):
        plugins.load_installed()
