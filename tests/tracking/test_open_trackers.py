from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from dnntrain.errors import UsageError
from dnntrain.tracking import open_trackers


def test_nothing_asked_for_is_nothing_opened(tmp_path: Path) -> None:
    assert open_trackers([], runs=tmp_path) == []


def test_an_unknown_tool_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no tool 'mlfow' to track with; did you mean 'mlflow'"):
        open_trackers(["mlfow"], runs=tmp_path)


def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(name: str, *rest: Any) -> Any:
        if name.split(".")[0] == "mlflow":
            raise ImportError("No module named 'mlflow'")
        return imported(name, *rest)

    imported = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", without)
    for name in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "1")
    with pytest.raises(UsageError, match=r"pip install 'dnntrain\[mlflow\]'"):
        open_trackers(["mlflow"], runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
