"""How commands speak: tables and figures on stdout, errors on stderr, and the options that several commands share."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from dnntrain.errors import DnntrainError, Interrupted, UsageError
from dnntrain.store import finite

INTERRUPTED: Final = 130
LONG_LINE: Final = 200
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What a write says where there is no room, or nothing works."""

Config = Annotated[Path, typer.Argument(help="An experiment file, or the spec.yaml of a run.", show_default=False)]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="K=V", help="Change a value: --set optimizer.lr=0.01. May be repeated."),
]
Plugin = Annotated[
    list[Path] | None, typer.Option("--plugin", metavar="FILE", help="A Python file that registers parts of your own.")
]
RunsDir = Annotated[Path, typer.Option("--runs-dir", metavar="DIR", help="Where run directories lie.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.", show_default=False)]
McSamples = Annotated[
    int | None,
    typer.Option(
        "--mc-samples", metavar="N", min=1, help="Sample dropout N times and take the mean.", show_default=False
    ),
]
Track = Annotated[
    list[str] | None,
    typer.Option("--track", metavar="TOOL[=URI]", help="Tell a tool of it, too: mlflow, mlflow=http://host:5000."),
]
Sources = Annotated[
    list[str], typer.Argument(help="Run directories, folders of runs, globs, or names of runs.", show_default=False)
]
Metric = Annotated[str | None, typer.Option(help="Such as valid/accuracy; what the runs monitored.")]
Baseline = Annotated[str | None, typer.Option(help="A group or a run; that of the oldest run.")]
Where = Annotated[list[str] | None, typer.Option(metavar="K=V", help="Runs with this value only.")]
Tag = Annotated[list[str] | None, typer.Option(help="Runs with this tag only.")]
Status = Annotated[list[str] | None, typer.Option(help="Runs with one of these statuses only.")]
Since = Annotated[str | None, typer.Option(help="Runs that started since: 30m, 2h, 2d, 1w or a date.")]
Run = Annotated[str, typer.Argument(help="A path, a name, a unique prefix, or `last`.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print the run directory alone.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON alone.")]


@contextmanager
def user_errors() -> Iterator[None]:
    """Explain a user's mistake on stderr, without a traceback, and exit with its code; so too for a signal."""
    try:
        yield
    except DnntrainError as error:
        _explain(str(error), error)
        raise typer.Exit(error.exit_code) from None
    except Interrupted as interrupted:
        _explain(str(interrupted), interrupted)
        raise typer.Exit(interrupted.exit_code) from None
    except KeyboardInterrupt as interrupt:
        _explain("interrupted", interrupt)
        raise typer.Exit(INTERRUPTED) from None


def confirmed(question: str) -> bool:
    """Ask on a terminal; elsewhere nobody answers, which is no.

    Raises:
        UsageError: there is nobody to ask.
    """
    if not sys.stdin.isatty():
        raise UsageError(f"{question} Say --yes where there is no terminal to ask on")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


class Voice:
    """Prints lines while work goes on; falls silent when they can no longer be written, and the work goes on.

    `| head` has seen enough; that the disk is full of what the output was redirected to is said on stderr, once.

    Args:
        silent: whether to print nothing from the beginning.
    """

    def __init__(self, *, silent: bool = False) -> None:
        self._heard = not silent

    def say(self, line: str) -> None:
        """Print a line at once."""
        if not self._heard:
            return
        try:
            print(line, flush=True)
        except OSError as error:
            self._heard = False
            _hush()
            if not isinstance(error, BrokenPipeError):
                print(f"{_unwritten(error)}; going on without", file=sys.stderr)


@contextmanager
def written_out() -> Iterator[None]:
    """See that what a command prints is written, or say that it cannot be; exit with 1 then."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.filename is not None or error.errno not in _FULL:
            raise
        _hush()
        print(_unwritten(error), file=sys.stderr)
        raise SystemExit(1) from None


def _hush() -> None:
    """Let what is still to be printed go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _unwritten(error: OSError) -> str:
    return f"cannot write the output: {error.strerror}"


def _explain(message: str, error: BaseException) -> None:
    print("\n".join([message, *getattr(error, "__notes__", ())]), file=sys.stderr)


def load_plugins(plugin: list[Path] | None) -> None:
    """Load the parts of installed packages, then those of the files named on the command line."""
    from dnntrain.parts.plugins import load_file, load_installed

    load_installed()
    for path in plugin or ():
        load_file(path)


def console() -> Console:
    """Return a console on stdout as it is now; lines are wrapped on a terminal, and where COLUMNS is set."""
    wrapping = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(highlight=False, soft_wrap=not wrapping, width=None if wrapping else LONG_LINE)


def as_json(value: Any) -> str:
    """Write a value as JSON on one line; what is not a finite number becomes null."""
    return json.dumps(finite(value))


def print_json(value: Any) -> None:
    """Print a value as JSON; what is not a finite number becomes null."""
    print(json.dumps(finite(value), indent=2))


def figure(name: str, value: float | None) -> str:
    """Write a metric as people read it: accuracies in percent, the rest with four digits."""
    if value is None:
        return "-"
    if name.endswith("accuracy"):
        return f"{100 * value:.2f} %"
    return f"{value:#.4g}"


def figures(metrics: Mapping[str, Any], prefix: str) -> str:
    """Write all metrics of one part of the data on one line."""
    own = {k.removeprefix(f"{prefix}/"): v for k, v in metrics.items() if k.startswith(f"{prefix}/")}
    return "   ".join(f"{name} {figure(name, value)}" for name, value in own.items())


def duration(seconds: float) -> str:
    """Write a time span: 3.2 s, 4:05, 2:03:04."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
