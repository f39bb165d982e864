"""Where a run was made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dnntrain.store import environment
from dnntrain.store.environment import describe_environment, git_revision


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgsign=false")
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / "a.txt").write_text("one\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_a_clean_repository_has_a_commit_and_no_patch(repository: Path) -> None:
    found = git_revision(repository)
    assert found == {
        "commit": git(repository, "rev-parse", "HEAD").strip(), "dirty": False, "patch": None, "patch_cut": False,
    }  # fmt: skip


def test_a_dirty_one_has_the_patch(repository: Path) -> None:
    (repository / "a.txt").write_text("two\n")
    found = git_revision(repository)
    assert found is not None
    assert found["dirty"]
    assert "-one\n+two" in found["patch"]


def test_a_patch_that_is_too_long_is_cut_and_says_so(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "LARGEST_PATCH", 20)
    (repository / "a.txt").write_text("two\n")
    found = git_revision(repository)
    assert found is not None
    assert len(found["patch"]) == 20
    assert found["patch_cut"]


def test_outside_a_repository_and_without_git_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert git_revision(tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_revision(tmp_path) is None


def test_the_description_names_command_versions_and_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["dnntrain", "run", "a.yaml"])
    found = describe_environment()
    assert found["command"] == ["dnntrain", "run", "a.yaml"]
    assert found["folder"] == str(Path.cwd())
    assert found["packages"]["torch"].startswith(tuple("123456789"))
    assert found["python"].startswith(f"{sys.version_info.major}.")
    assert found["cpu"]
    assert found["cores"] >= 1


def test_git_takes_no_lock_that_a_killed_run_would_leave(repository: Path) -> None:
    index = repository / ".git" / "index"
    (tracked,) = (path for path in repository.iterdir() if path.is_file())
    os.utime(tracked, (1, 1))
    before = index.read_bytes()
    found = git_revision(repository)
    assert found is not None
    assert (found["dirty"], found["patch"]) == (False, None)
    assert index.read_bytes() == before
