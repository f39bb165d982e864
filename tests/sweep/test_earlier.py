from __future__ import annotations

from pathlib import Path

import pytest
from madeupruns import make_run

from dnntrain.store import RunDirectory
from dnntrain.sweep.earlier import Earlier, figure


def left(runs: Path, *identities: str, status: str = "completed") -> RunDirectory:
    """Leave a run that had an identity at each of its starts."""
    directory = make_run(runs, status=status)
    first, *resumed = identities
    directory.write_environment({"identity": first, "resumed": [{"identity": each} for each in resumed]})
    return directory


@pytest.mark.parametrize(
    ("identities", "status", "found"),
    [
        (["a"], "completed", True),
        (["a"], "stopped", True),
        (["a", "a"], "completed", True),
        (["a", "b"], "completed", False),  # changed on the way, so its end is nobody's
        (["a"], "failed", False),
        (["a"], "interrupted", False),
    ],
)
def test_a_run_is_found_by_what_it_was_from_beginning_to_end(
    tmp_path: Path, identities: list[str], status: str, found: bool
) -> None:
    directory = left(tmp_path / "sweep" / "runs", *identities, status=status)
    known = Earlier(tmp_path).find("a")
    assert (known is not None and known.path == directory.path) == found
    assert Earlier(tmp_path).find("b") is None


@pytest.mark.parametrize(("until", "loss"), [(None, 1.0), (2, 2.0), (1, 3.0)])
def test_a_figure_is_that_of_the_best_epoch_so_far(tmp_path: Path, until: int | None, loss: float) -> None:
    directory = make_run(tmp_path, losses=[3.0, 2.0, 1.0, 4.0])
    assert figure(directory, "valid/loss", until=until) == loss
    assert figure(directory, "valid/accuracy", until=until) == pytest.approx(1 - loss / 10), "of the same epoch"


def test_a_run_without_a_finite_figure_has_none(tmp_path: Path) -> None:
    assert figure(make_run(tmp_path, losses=[None, None]), "valid/loss") is None
