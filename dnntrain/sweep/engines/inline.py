"""One job at a time, in the conductor's own process."""

from __future__ import annotations

from dnntrain import interruption
from dnntrain.sweep.engines.base import Job, Outcome


class Inline:
    """Trains in this process: nothing has to be started, and a debugger sees it all."""

    slots = 1
    threads: int | None = None

    def __init__(self) -> None:
        self._job: Job | None = None

    def submit(self, job: Job) -> None:
        """Take a job, to be trained by `wait`."""
        self._job = job

    def wait(self, timeout: float) -> list[Outcome]:
        """Train the job that was taken, however long that takes; without one, wait.

        Raises:
            Interrupted: a signal asked for the end.
        """
        from dnntrain.sweep.engines.work import do

        job, self._job = self._job, None
        if job is None:
            interruption.sleep(timeout)
            return []
        return [do(job)]

    def close(self) -> list[Outcome]:
        """Forget the job that was taken and not begun."""
        self._job = None
        return []
