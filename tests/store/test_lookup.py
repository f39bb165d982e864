from __future__ import annotations

import os
from pathlib import Path

import pytest

from dnntrain.errors import StoreError, UsageError
from dnntrain.store import find, listing

SELU = "cifar_selu-20261121-211500-7f3a"
SELU_LATER = "cifar_selu-20261122-080000-0001"
GRID = "grid-20261121-220000-91bc"


def make(runs: Path, name: str, *, changed: float = 1e9, summary: str = '{"schema": 1}') -> Path:
    path = runs / name
    path.mkdir(parents=True)
    (path / "summary.json").write_text(summary)
    os.utime(path, (changed, changed))
    return path


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs"
    for name in (SELU_LATER, SELU, GRID):
        make(folder, name)
    (folder / "README.md").write_text("no run")
    (folder / "half-made").mkdir()
    return folder


def test_listing_goes_by_the_start_that_names_tell(runs: Path) -> None:
    assert [run.name for run in listing(runs)] == [SELU, GRID, SELU_LATER]


def test_within_a_second_the_last_change_decides(tmp_path: Path) -> None:
    for token, changed in (("ffff", 1e9), ("0000", 2e9), ("8888", 1.5e9)):
        make(tmp_path, f"a-20261121-211500-{token}", changed=changed)
    assert [run.name[-4:] for run in listing(tmp_path)] == ["ffff", "8888", "0000"]


def test_a_renamed_run_is_dated_by_its_last_change(runs: Path) -> None:
    make(runs, "renamed", changed=1e9)
    make(runs, "x-20269999-999999-abcd", changed=4e9)
    names = [run.name for run in listing(runs)]
    assert names[0] == "renamed"
    assert names[-1] == "x-20269999-999999-abcd"


def test_damaged_runs_are_listed(runs: Path) -> None:
    make(runs, "damaged-20261121-000000-0000", summary="{")
    assert listing(runs)[0].name.startswith("damaged")


def test_a_missing_folder_has_no_runs(tmp_path: Path) -> None:
    assert listing(tmp_path / "none") == []


def test_a_file_is_no_folder_of_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot list the runs"):
        listing(tmp_path / "file")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("last", SELU_LATER),
        (SELU, SELU),
        ("grid", GRID),
        ("cifar_selu-20261122", SELU_LATER),
        (f"runs/{GRID}", GRID),
        (f"./runs/{GRID}/", GRID),
        (f"~/runs/{GRID}", GRID),
    ],
)
def test_find(runs: Path, monkeypatch: pytest.MonkeyPatch, query: str, found: str) -> None:
    monkeypatch.setenv("HOME", str(runs.parent))
    run = find(query, runs)
    assert run.name == found
    assert run.path.samefile(runs / found)


def test_a_run_may_lie_anywhere(runs: Path, tmp_path: Path) -> None:
    elsewhere = make(tmp_path / "shared", "other")
    assert find(str(elsewhere), runs).path == elsewhere


def test_the_current_folder_can_be_the_run(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs / GRID)
    assert find(".", Path("runs")).name == GRID


def test_a_whole_name_is_not_ambiguous(runs: Path) -> None:
    make(runs, SELU + "-copy")
    assert find(SELU, runs).name == SELU


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("cifar", f"'cifar' is the beginning of 2 runs: {SELU}, {SELU_LATER}"),
        ("cifar_slu", "no run 'cifar_slu' in .*did you mean 'cifar_selu'\\?  known: cifar_selu, grid$"),
        (SELU.replace("7f3a", "7f3b"), f"did you mean '{SELU}'"),
        ("", "no run ''"),
        ("runs", "runs is not a run directory: it has no summary.json"),
        ("half-made", "no run 'half-made'"),
        ("../runs/cifar", "no run '../runs/cifar'"),
        ("a" * 5000, "no run 'aaa"),
        ("a\0b", "no run"),
        ("~nobody-of-that-name/x", "no run"),
    ],
)
def test_what_is_not_found_is_said(runs: Path, query: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find(query, runs)


@pytest.mark.parametrize("query", ["last", "grid"])
def test_without_runs_the_message_says_so(tmp_path: Path, query: str) -> None:
    with pytest.raises(UsageError, match=f"no run '{query}': there are no runs in .*/none"):
        find(query, tmp_path / "none")
