"""MLflow: a run's experiment, figures and end, in a local file or on a server."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from typing_extensions import override

from dnntrain.errors import StoreError, UsageError
from dnntrain.store import RunDirectory
from dnntrain.store.flat import text
from dnntrain.tracking.base import Tracker, scalars
from dnntrain.training.hooks import RunView

ENDS: Final = {"completed": "FINISHED", "stopped": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
DATABASE: Final = "mlflow.db"
ARTIFACTS: Final = "mlflow-artifacts"

# The most that MLflow takes: of a key, of a value, of parameters at a time, of metrics at a time.
_KEY: Final = 250
_VALUE: Final = 6000
_PARAMETERS: Final = 100
_METRICS: Final = 1000
_FORBIDDEN: Final = re.compile(r"[^\w./ -]")

# Unless the user says otherwise: nothing is told to MLflow's makers, and a server that is gone is given up in seconds,
# for training waits meanwhile.
_SETTINGS: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


class MlflowTracker(Tracker):
    """Tells MLflow of a run; where the run goes on, of what MLflow lacks.

    What MLflow was told of an epoch cannot be taken back. Where training goes back past epochs that it knows, they are
    not told twice: a tag says which, and metrics.jsonl alone has what they came to the second time.

    Args:
        runs: the folder of the runs; its name is the experiment's, unless MLFLOW_EXPERIMENT_NAME says another.
        uri: of the place; MLFLOW_TRACKING_URI, else a database in that folder.

    Raises:
        UsageError: the package is missing, or nothing answers there.
    """

    name = "mlflow"
    tries_again = False

    def __init__(self, runs: Path, uri: str | None = None) -> None:
        self._own = not (uri or os.environ.get("MLFLOW_TRACKING_URI"))
        self._runs = runs.resolve()
        self._uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self._runs / DATABASE}"
        self._api = _import()
        try:
            if self._own:
                self._runs.mkdir(parents=True, exist_ok=True)
            with self._errors():
                self._client = self._api.MlflowClient(tracking_uri=self._uri)
                self._client.search_experiments(max_results=1)
        except (StoreError, OSError) as error:
            raise UsageError(f"{error}\n    is it the right place, and does it run?") from error
        self._directory = RunDirectory(self._runs)
        self._run = ""
        self._told: set[int] = set()
        self._again = 0
        self._values: dict[str, float] = {}

    @override
    def begin(self, directory: RunDirectory, spec: Mapping[str, Any], /) -> None:
        self._directory = directory
        known = directory.tracking()
        with self._errors():
            found = self._find(known.get(self.name))
            if found is None:
                found = self._create(directory)
                directory.write_tracking({**known, self.name: found.info.run_id})
            else:
                self._client.update_run(found.info.run_id, status="RUNNING")
            self._run = found.info.run_id
            self._values = dict(found.data.metrics)
            self._told = {each.step for each in self._client.get_metric_history(self._run, "epoch")}
            self._set_parameters(found.data.params, spec)
            self._set_tags({"dnntrain.status": "running", **_notes(directory)})
            for row, at in _epochs(directory):
                if row["epoch"] not in self._told:
                    self._tell(row, at)

    @override
    def go_on(self, epoch: int, /) -> None:
        self._again = 0

    @override
    def tell(self, run: RunView, /) -> None:
        with self._errors():
            if run.epoch not in self._told:
                self._tell(run.row, time.time())
                return
            self._again = self._again or run.epoch
            again = f"epochs {self._again} to {run.epoch}; told as they were at first"
            self._set_tags({"dnntrain.trained_again": again})

    @override
    def end(self, summary: Mapping[str, Any], /) -> None:
        self.finish(summary, at=time.time())

    def finish(self, summary: Mapping[str, Any], *, at: float) -> None:
        """Tell how the run ended, what it reached, and hand over its small files.

        Args:
            summary: as summary.json has it.
            at: when it ended, in seconds since 1970.
        """
        best = {f"best/{name}": value for name, value in summary["best"]["metrics"].items() if name != "step"}
        reached = scalars(best) | scalars(summary["test"])
        with self._errors():
            news = {name: value for name, value in reached.items() if self._values.get(_key(name)) != value}
            self._log(news, int(summary["epochs"]), at)
            for name in (RunDirectory.SPEC, RunDirectory.SUMMARY):
                if (self._directory.path / name).exists():
                    self._client.log_artifact(self._run, str(self._directory.path / name))
            reason = {"dnntrain.stop_reason": summary["stop_reason"], "dnntrain.error": summary["error"]}
            given = {name: value for name, value in reason.items() if value}
            self._set_tags({"dnntrain.status": summary["status"], **given})
            self._client.set_terminated(self._run, ENDS.get(summary["status"], "KILLED"), end_time=_milliseconds(at))

    @override
    def close(self) -> None:
        """Nothing is kept open."""

    def _tell(self, row: Mapping[str, Any], at: float) -> None:
        epoch = int(row["epoch"])
        self._log({name: value for name, value in row.items() if name != "step"}, epoch, at)
        self._told.add(epoch)

    def _find(self, run_id: Any) -> Any:
        """Return the run that is known by this name there; None where there is none, as on another server."""
        if not isinstance(run_id, str):
            return None
        try:
            found = self._client.get_run(run_id)
        except self._api.MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return found if found.info.lifecycle_stage == "active" else None

    def _create(self, directory: RunDirectory) -> Any:
        started = directory.started
        return self._client.create_run(
            self._experiment(),
            run_name=directory.name,
            start_time=None if started is None else _milliseconds(started.timestamp()),
            tags={"dnntrain.run": directory.name},
        )

    def _experiment(self) -> str:
        """Return the experiment, made where it is not there."""
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or text(self._runs.name) or "dnntrain"
        found = self._client.get_experiment_by_name(name)
        if found is None:
            # Where the user names no place, all that belongs to the runs lies in their folder.
            place = (self._runs / ARTIFACTS).as_uri() if self._own else None
            try:
                return str(self._client.create_experiment(name, artifact_location=place))
            except self._api.MlflowException:
                # Another run may have made it in the meantime.
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise StoreError(
                f"the MLflow experiment '{name}' is deleted: restore it, or name another by MLFLOW_EXPERIMENT_NAME"
            )
        return str(found.experiment_id)

    def _set_parameters(self, known: Mapping[str, str], spec: Mapping[str, Any]) -> None:
        """Set parameters, which cannot be changed later; where a run goes on with others, tags say so."""
        values = {_key(name): _shortened(text(value), _VALUE) for name, value in spec.items()}
        new = iter([self._api.Param(name, value) for name, value in values.items() if name not in known])
        while batch := list(islice(new, _PARAMETERS)):
            self._client.log_batch(self._run, params=batch)
        changed = {name: value for name, value in values.items() if known.get(name, value) != value}
        self._set_tags({_shortened(f"changed.{name}", _KEY): value for name, value in changed.items()})

    def _set_tags(self, tags: Mapping[str, Any]) -> None:
        made = iter([self._api.RunTag(name, _shortened(text(value), _VALUE)) for name, value in tags.items()])
        while batch := list(islice(made, _PARAMETERS)):
            self._client.log_batch(self._run, tags=batch)

    def _log(self, figures: Mapping[str, Any], epoch: int, at: float) -> None:
        moment = _milliseconds(at)
        metrics = iter(
            self._api.Metric(_key(name), value, moment, epoch)
            for name, value in scalars(figures).items()
            if math.isfinite(value)
        )
        while batch := list(islice(metrics, _METRICS)):
            self._client.log_batch(self._run, metrics=batch)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Explain what MLflow raises."""
        try:
            yield
        except self._api.MlflowException as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise StoreError(f"MLflow at {_without_password(self._uri)} cannot be told: {first}") from error


def export(directories: Sequence[RunDirectory], tracker: MlflowTracker) -> None:
    """Tell MLflow of runs that have ended; of what it knows already, nothing.

    Args:
        directories: of the runs.
        tracker: reaches MLflow.

    Raises:
        UsageError: a run is still going on.
        StoreError: a run cannot be read, or MLflow not be told.
    """
    for directory in directories:
        summary, status = directory.summary(), directory.status()
        if status == "running":
            raise UsageError(f"{directory.name} is still running; tell MLflow of it once it has ended")
        tracker.begin(directory, summary["spec"])
        ended = max((at for _, at in _epochs(directory)), default=time.time())
        tracker.finish({**summary, "status": status}, at=ended)


def _epochs(directory: RunDirectory) -> Iterator[tuple[dict[str, Any], float]]:
    """Yield the figures of a run's epochs, and when each ended: counted from the run's start by what each took."""
    rows = directory.metrics()
    took = [float(row.get("seconds") or 0.0) for row in rows]
    at = directory.started.timestamp() if directory.started else time.time() - sum(took)
    for row, seconds in zip(rows, took, strict=True):
        at += seconds
        yield row, at


class _Api(NamedTuple):
    """What is used of the mlflow package."""

    MlflowClient: Any
    MlflowException: Any
    Metric: Any
    Param: Any
    RunTag: Any


def _import() -> Any:
    """Import what is needed of MLflow, which takes seconds, with the settings that it reads meanwhile."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow import MlflowClient, entities, exceptions
    except ImportError as error:
        raise UsageError(f"MLflow cannot be imported ({error}): pip install 'dnntrain[mlflow]'") from error
    return _Api(MlflowClient, exceptions.MlflowException, entities.Metric, entities.Param, entities.RunTag)


def _notes(directory: RunDirectory) -> dict[str, str]:
    """Return tags that say what the user remembers of a run, and what it is."""
    notes, summary = directory.notes(), directory.summary()
    tags, written = notes.get("tags"), notes.get("notes")
    found = {"dnntrain.name": str(summary["name"]), "dnntrain.seed": str(summary["seed"])}
    if isinstance(tags, list) and tags:
        found["dnntrain.tags"] = ", ".join(map(str, tags))
    if isinstance(written, list) and written:
        found["mlflow.note.content"] = "\n".join(str(each["text"]) for each in written)
    return found


def _key(name: str) -> str:
    """Write a name with the characters that MLflow takes."""
    return _shortened(_FORBIDDEN.sub("_", name), _KEY)


def _shortened(value: str, most: int) -> str:
    return value if len(value) <= most else value[: most - 3] + "..."


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)


def _without_password(uri: str) -> str:
    """Leave out what only its owner should read of an address."""
    parts = urlsplit(uri)
    return uri if parts.password is None else uri.replace(parts.netloc, f"***@{parts.hostname}")
