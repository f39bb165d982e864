from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dnntrain.errors import LockedError, StoreError, UsageError
from dnntrain.store import SCHEMA, STATUSES, RunDirectory

NOW = datetime(2026, 11, 21, 21, 15, 0)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunDirectory]:
    with closing(RunDirectory.create(tmp_path / "runs", "cifar_selu", now=NOW)) as made:
        yield made


def files(run: RunDirectory) -> list[str]:
    return sorted(path.name for path in run.path.rglob("*") if path.is_file())


def test_a_run_is_named_after_experiment_and_start(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "a" / "b", "cifar_selu", now=NOW)
    assert re.fullmatch(r"cifar_selu-20261121-211500-[0-9a-f]{4}", run.name)
    assert run.path == tmp_path / "a" / "b" / run.name
    assert os.listdir(run.path) == []
    assert run.started == NOW


def test_a_run_starts_now_unless_told(tmp_path: Path) -> None:
    started = RunDirectory.create(tmp_path, "a").started
    assert started is not None
    assert abs((datetime.now() - started).total_seconds()) < 60


def test_threads_that_start_in_one_second_get_directories_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: RunDirectory.create(tmp_path, "a", now=NOW).name, range(300)))
    assert len(set(made)) == 300
    assert sorted(made) == sorted(os.listdir(tmp_path))


def test_processes_that_start_in_one_second_get_directories_of_their_own(tmp_path: Path) -> None:
    code = """
import os, sys
from datetime import datetime
from pathlib import Path
from dnntrain.store import RunDirectory
tokens = iter([b"\\0\\0", b"\\0\\1", b"\\0\\2"])
os.urandom = lambda count: next(tokens)
print(RunDirectory.create(Path(sys.argv[1]), "a", now=datetime(2026, 1, 1)).name)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    names = [process.communicate()[0].strip() for process in processes]
    assert sorted(name[-4:] for name in names) == ["0000", "0001", "0002"]


def test_running_out_of_tokens_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "urandom", bytes)
    RunDirectory.create(tmp_path, "a", now=NOW)
    with pytest.raises(StoreError, match="too many runs named a"):
        RunDirectory.create(tmp_path, "a", now=NOW)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "a.b", "a b", "ä", "a\n", "x" * 201, "/abs"])
def test_a_name_cannot_leave_the_runs_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="a run cannot be named"):
        RunDirectory.create(tmp_path / "runs", name)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("runs", ["file", "file/below"])
def test_a_file_in_the_way_is_said(tmp_path: Path, runs: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot make a run directory in .*: a file is in the way"):
        RunDirectory.create(tmp_path / runs, "a")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="Permission denied"):
        RunDirectory.create(tmp_path, "a")


def test_every_file_has_its_name(run: RunDirectory) -> None:
    run.write_spec("name: é\n")
    run.write_environment({"device": "cpu"})
    run.write_summary({"status": "running"})
    run.write_notes({"tags": ["a"]})
    run.write_divergence({"step": 3})
    run.append_metrics({"epoch": 1})
    run.log("started")
    for name in (run.LAST, run.LAST, run.BEST, run.step_checkpoint(12)):
        run.save_checkpoint(name, lambda file: file.write(b"weights"))
    with run.lock():
        assert files(run) == sorted(
            "spec.yaml environment.json summary.json notes.json divergence.json metrics.jsonl log.txt lock "
            "last.pt previous.pt best.pt step-00000012.pt".split()
        )
    assert run.tensorboard == run.path / "tensorboard"
    assert run.checkpoint("best.pt") == run.path / "checkpoints" / "best.pt"
    assert run.spec_text() == "name: é\n"
    assert run.environment() == {"device": "cpu"}
    assert run.notes() == {"tags": ["a"]}
    assert json.loads((run.path / "divergence.json").read_text()) == {"step": 3}


def test_json_is_readable_and_ends_its_last_line(run: RunDirectory) -> None:
    run.write_summary({"status": "failed", "schema": 99, "spec": {"b": 1, "a": math.nan}, "name": "é"})
    assert (run.path / "summary.json").read_text() == (
        '{\n  "schema": 1,\n  "status": "failed",\n  "spec": {\n    "b": 1,\n    "a": null\n  },\n  "name": "é"\n}\n'
    )


_leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.just("\udcff"))
_nested = st.recursive(
    _leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=6,
)


def finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(st.dictionaries(st.text(), _nested, max_size=3), max_size=3))
def test_whatever_is_written_reads_back_with_nulls_for_what_is_not_finite(rows: list[dict[str, Any]]) -> None:
    with (
        TemporaryDirectory() as folder,
        closing(RunDirectory(Path(folder))) as run,
        pytest.MonkeyPatch.context() as patch,
    ):
        # Hundreds of syncs would take seconds.
        patch.setattr(os, "fsync", lambda descriptor: None)
        for row in rows:
            run.append_metrics(row)
            run.write_notes(row)
            assert run.notes() == finite(row)
        assert run.metrics() == [finite(row) for row in rows]
        assert (run.path / "metrics.jsonl").exists() == bool(rows)


@pytest.mark.parametrize(
    ("tail", "epochs"),
    [
        (b"", [1, 2]),
        (b'{"epoch": 3, "tr', [1, 2]),
        (b"\0" * 50, [1, 2]),
        (b"{\n", [1, 2]),
        (b'{"epoch": 3}', [1, 2, 3]),
    ],
)
def test_a_torn_last_line_is_skipped(run: RunDirectory, tail: bytes, epochs: list[int]) -> None:
    (run.path / "metrics.jsonl").write_bytes(b'{"epoch": 1}\n{"epoch": 2}\n' + tail)
    assert [row["epoch"] for row in run.metrics()] == epochs


def test_a_row_does_not_grow_onto_a_torn_one(run: RunDirectory) -> None:
    (run.path / "metrics.jsonl").write_bytes(b'{"epoch": 1}\n{"epo')
    run.append_metrics({"epoch": 2})
    assert (run.path / "metrics.jsonl").read_bytes() == b'{"epoch": 1}\n{"epoch": 2}\n'


@pytest.mark.parametrize("broken", [b"{", b"[1]", b"", b"\xff", b"[" * 100_000])
def test_a_broken_line_in_the_middle_is_named(run: RunDirectory, broken: bytes) -> None:
    (run.path / "metrics.jsonl").write_bytes(b'{"epoch": 1}\n' + broken + b'\n{"epoch": 2}\n')
    with pytest.raises(StoreError, match=r"metrics\.jsonl:2: this line is broken"):
        run.metrics()


def test_a_row_does_not_go_on_in_the_next_line(run: RunDirectory) -> None:
    (run.path / "metrics.jsonl").write_bytes(b'{"epoch": 1, "a": "}\n{"}, {"epoch": 2}\n')
    with pytest.raises(StoreError, match=r"metrics\.jsonl:1: this line is broken"):
        run.metrics()


def test_rows_may_hold_more_than_numbers(run: RunDirectory) -> None:
    (run.path / "metrics.jsonl").write_bytes(b'{"epoch": 1, "a": {"b": 1}}\n{"epoch": 2}\n')
    assert run.metrics() == [{"epoch": 1, "a": {"b": 1}}, {"epoch": 2}]


def test_a_run_without_rows_has_no_metrics(run: RunDirectory) -> None:
    assert run.metrics() == []
    run.truncate_metrics(3)
    assert files(run) == []


def test_rows_past_an_epoch_are_cut(run: RunDirectory) -> None:
    for epoch in range(1, 6):
        run.append_metrics({"epoch": epoch, "train/loss": 0.1 * epoch})
    with (run.path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"epoch": 6, "tra')
    run.truncate_metrics(3)
    run.append_metrics({"epoch": 4, "train/loss": None})
    assert [row["epoch"] for row in run.metrics()] == [1, 2, 3, 4]
    assert run.metrics()[2]["train/loss"] == 0.1 * 3
    assert files(run) == ["metrics.jsonl"]


def test_rows_reach_the_file_at_once_and_the_disk_on_sync(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    run.append_metrics({"epoch": 1})
    run.log("one\ntwo")
    assert run.metrics() == [{"epoch": 1}]
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    run.sync_metrics()
    run.sync_log()
    assert synced == [str(run.path / "metrics.jsonl"), str(run.path / "log.txt")]


def test_log_lines_carry_the_time(run: RunDirectory) -> None:
    run.log("one\ntwo")
    run.close()
    run.log("three")
    lines = (run.path / "log.txt").read_text().splitlines()
    stamps, texts = zip(*(line.split(" ", 1) for line in lines), strict=True)
    assert texts == ("one", "two", "three")
    assert all(datetime.fromisoformat(stamp).tzinfo is not None for stamp in stamps)


def test_the_last_checkpoint_becomes_the_previous_one(run: RunDirectory) -> None:
    for content in (b"1", b"2", b"3"):
        run.save_checkpoint(run.LAST, lambda file, content=content: file.write(content))
    run.save_checkpoint(run.BEST, lambda file: file.write(b"best"))
    run.save_checkpoint(run.BEST, lambda file: file.write(b"better"))
    assert run.checkpoint(run.LAST).read_bytes() == b"3"
    assert run.checkpoint(run.PREVIOUS).read_bytes() == b"2"
    assert run.checkpoint(run.BEST).read_bytes() == b"better"


def test_a_checkpoint_that_fails_leaves_all_as_they_were(run: RunDirectory) -> None:
    for content in (b"1", b"2"):
        run.save_checkpoint(run.LAST, lambda file, content=content: file.write(content))

    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        run.save_checkpoint(run.LAST, fail)
    assert run.checkpoint(run.LAST).read_bytes() == b"2"
    assert run.checkpoint(run.PREVIOUS).read_bytes() == b"1"
    assert files(run) == ["last.pt", "previous.pt"]


def test_checkpoints_of_steps_are_in_the_order_of_steps(run: RunDirectory) -> None:
    assert run.step_checkpoints() == []
    for step in (100_000_000, 20, 3):
        run.save_checkpoint(run.step_checkpoint(step), lambda file: file.write(b""))
    run.save_checkpoint("step-x.pt", lambda file: file.write(b""))
    assert [path.name for path in run.step_checkpoints()] == [
        "step-00000003.pt",
        "step-00000020.pt",
        "step-100000000.pt",
    ]


@pytest.mark.parametrize("name", ["last", "../last.pt", "a.pt/../../b", "a/b.pt", "", ".pt"])
def test_a_checkpoint_lies_in_its_folder(run: RunDirectory, name: str) -> None:
    with pytest.raises(ValueError, match="not the name of a checkpoint"):
        run.checkpoint(name)


def test_checkpoints_that_cannot_be_written_are_said(run: RunDirectory) -> None:
    (run.path / "checkpoints").write_text("a file")
    with pytest.raises(StoreError, match="checkpoints"):
        run.save_checkpoint(run.LAST, lambda file: file.write(b""))


def test_the_lock_is_exclusive_and_clears_away_what_a_killed_writer_left(run: RunDirectory) -> None:
    run.save_checkpoint(run.LAST, lambda file: file.write(b""))
    (run.path / "checkpoints" / ".last.pt.0011aabb.tmp").write_bytes(b"half")
    assert not run.is_locked()
    with run.lock():
        assert files(run) == ["last.pt", "lock"]
        assert run.is_locked()
        with pytest.raises(LockedError, match=f"process {os.getpid()} "), RunDirectory(run.path).lock():
            pass
    assert not run.is_locked()


@pytest.mark.parametrize("status", STATUSES)
def test_a_run_that_nobody_holds_does_not_run(run: RunDirectory, status: str) -> None:
    run.write_summary({"status": status})
    assert run.status() == ("interrupted" if status == "running" else status)
    with run.lock():
        assert run.status() == status


def test_a_run_that_ends_while_it_is_asked_is_not_interrupted(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.write_summary({"status": "running"})

    def ends(self: RunDirectory) -> bool:
        self.write_summary({"status": "completed"})
        return False

    monkeypatch.setattr(RunDirectory, "is_locked", ends)
    assert run.status() == "completed"


def test_a_newer_schema_is_refused(run: RunDirectory) -> None:
    (run.path / "summary.json").write_text(json.dumps({"schema": SCHEMA + 1, "status": "completed"}))
    for read in (run.summary, run.status):
        with pytest.raises(StoreError, match="newer dnntrain .*upgrade dnntrain"):
            read()


def test_an_older_schema_is_read(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    run.write_summary({"status": "completed"})
    monkeypatch.setattr("dnntrain.store.directory.SCHEMA", SCHEMA + 1)
    assert run.summary() == {"schema": SCHEMA, "status": "completed"}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff", b"{}", b'{"schema": true}', b'{"schema": "1"}', b"[" * 100_000]
)
def test_a_damaged_summary_is_named(run: RunDirectory, content: bytes) -> None:
    (run.path / "summary.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"summary\.json is damaged"):
        run.summary()


def test_an_unknown_status_is_damage(run: RunDirectory) -> None:
    run.write_summary({"status": "resting"})
    with pytest.raises(StoreError, match="'resting' is no status"):
        run.status()


@pytest.mark.parametrize(
    ("read", "name"), [("summary", "summary.json"), ("environment", "environment.json"), ("spec_text", "spec.yaml")]
)
def test_a_missing_file_is_named(run: RunDirectory, read: str, name: str) -> None:
    with pytest.raises(StoreError, match=f"has no {name}"):
        getattr(run, read)()


def test_a_specification_must_be_text(run: RunDirectory) -> None:
    (run.path / "spec.yaml").write_bytes(b"\xff")
    with pytest.raises(StoreError, match=r"spec\.yaml is damaged"):
        run.spec_text()


def test_notes_are_empty_until_written_and_named_when_damaged(run: RunDirectory) -> None:
    assert run.notes() == {}
    (run.path / "notes.json").write_text("{")
    with pytest.raises(StoreError, match=r"notes\.json is damaged"):
        run.notes()


def test_a_moved_run_is_the_same_run(run: RunDirectory, tmp_path: Path) -> None:
    run.write_summary({"status": "completed"})
    run.append_metrics({"epoch": 1})
    moved = RunDirectory(Path(shutil.move(run.path, tmp_path / "moved")))
    assert (moved.name, moved.status(), moved.metrics()) == ("moved", "completed", [{"epoch": 1}])
    assert moved.started is None


def test_the_store_starts_without_torch() -> None:
    code = "import sys, dnntrain.store; sys.exit('torch' in sys.modules or 'pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_checkpoints_of_later_steps_are_dropped(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "run")
    for step in (7, 14, 21, 123_456_789):
        run.save_checkpoint(run.step_checkpoint(step), lambda file: file.write(b""))
    run.drop_checkpoints(before=run.checkpoint(run.LAST), after=14)
    assert [path.name for path in run.step_checkpoints()] == ["step-00000007.pt", "step-00000014.pt"]
