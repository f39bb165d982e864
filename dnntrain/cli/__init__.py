"""The command line: each command parses, calls one library function, and prints.

Nothing here imports torch until a command needs it, so that `--help`, `ls` and `show` answer at once.
"""

from __future__ import annotations

import typer

from dnntrain.cli import (
    ablation,
    comparison,
    evaluating,
    experiments,
    exporting,
    files,
    manage,
    predicting,
    runs,
    sweeping,
    watch,
)
from dnntrain.cli.output import written_out

app = typer.Typer(
    name="dnntrain",
    help="Train deep neural networks from YAML.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("run")(experiments.run)
app.command("resume")(experiments.resume)
app.command("verify-resume")(experiments.verify_resume)
app.command("sweep")(sweeping.sweep)
app.command("worker")(sweeping.worker)
app.command("evaluate")(evaluating.evaluate)
app.command("predict")(predicting.predict)
app.command("export")(exporting.export)
app.command("eject")(exporting.eject)
app.command("summary")(experiments.summary)
app.command("lr-find")(experiments.lr_find)
app.command("validate")(files.validate)
app.command("list")(files.list_parts)
app.command("schema")(files.schema)
app.command("init")(files.init)
app.command("compare")(comparison.compare)
app.command("ablate")(ablation.ablate)
app.command("bisect")(ablation.bisect)
app.command("diff")(comparison.diff)
app.command("export-metrics")(exporting.export_metrics)
app.command("watch")(watch.watch)
app.command("ls")(runs.ls)
app.command("show")(runs.show)
app.command("tag")(manage.tag)
app.command("note")(manage.note)
app.command("rm")(manage.rm)
app.command("gc")(manage.gc)


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        from dnntrain import __version__

        print(f"dnntrain {__version__}")
        raise typer.Exit()


def main() -> None:
    """Entry point of the `dnntrain` command."""
    with written_out():
        app()
