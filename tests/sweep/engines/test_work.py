from __future__ import annotations

from pathlib import Path

from dnntrain.sweep.engines.base import Job
from dnntrain.sweep.engines.work import do


def test_a_plugin_that_cannot_be_loaded_fails_its_job_and_says_why(tmp_path: Path) -> None:
    missing = tmp_path / "parts.py"
    outcome = do(Job(7, "", tmp_path / "run", plugins={str(missing): "0"}))
    assert (outcome.key, outcome.ending) == (7, "failed")
    assert f"cannot read the plugin {missing}" in outcome.message
