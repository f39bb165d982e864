"""Commands that keep run directories in order: tag, note, rm, gc. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dnntrain.cli.output import Json, Run, RunsDir, confirmed, console, print_json, user_errors
from dnntrain.cli.tables import Table
from dnntrain.errors import visible
from dnntrain.units import volume

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def tag(
    run: Run,
    tags: Annotated[list[str], typer.Argument(help="Letters, digits, '-', '_' and '.'.")],
    remove: Annotated[bool, typer.Option("--remove", help="Take the tags away.")] = False,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Give a run tags, by which it can be found again."""
    with user_errors():
        from dnntrain.store import find, housekeeping

        directory = find(run, runs_dir)
        now = housekeeping.tag(directory, tags, remove=remove)
        print(f"{directory.name}: {', '.join(now) or 'no tags'}")


def note(
    run: Run,
    text: Annotated[str, typer.Argument(help="What to remember.")],
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Write a note beside a run; `show` shows it."""
    with user_errors():
        from dnntrain.store import find, housekeeping

        directory = find(run, runs_dir)
        housekeeping.note(directory, text)
        print(f"{directory.name}: noted")


def rm(
    runs: Annotated[list[str], typer.Argument(help="Paths, names or unique prefixes of runs, or `last`.")],
    yes: Yes = False,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Remove runs with everything in them; never one that is being trained, never anything outside the runs folder."""
    with user_errors():
        from dnntrain.store import find, housekeeping

        found = {directory.path.resolve(): directory for directory in (find(run, runs_dir) for run in runs)}
        for directory in found.values():
            print(f"{visible(str(directory.path))}   {directory.status()}   {volume(housekeeping.size(directory))}")
        if not yes and not confirmed(f"remove {len(found)} run{'s' * (len(found) > 1)} for good?"):
            raise typer.Exit(1)
        for directory in found.values():
            housekeeping.remove(directory, runs_dir)
        print(f"removed {len(found)}")


def gc(
    folder: Annotated[Path, typer.Argument(help="Where run directories lie.")] = Path("runs"),
    keep: Annotated[int, typer.Option(min=0, help="So many of the best runs by each metric stay as they are.")] = 3,
    yes: Yes = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what could go, and remove nothing.")] = False,
    json: Json = False,
) -> None:
    """Drop the checkpoints of runs that are not among the best; their metrics stay."""
    with user_errors():
        from dnntrain.store import housekeeping

        found = housekeeping.garbage(folder, keep=keep)
        if json:
            print_json([{"run": each.directory.name, "bytes": each.bytes, "reason": each.reason} for each in found])
        else:
            rows = Table("run", ">checkpoints", "why")
            for each in found:
                rows.add(each.directory.name, volume(each.bytes), each.reason)
            if found:
                rows.print(console())
            total = sum(each.bytes for each in found)
            print(f"{volume(total)} of checkpoints of {len(found)} runs could go" if found else "nothing to drop")
        if dry_run or not found:
            return
        if not yes and not confirmed(f"drop the checkpoints of {len(found)} runs for good?"):
            raise typer.Exit(1)
        for each in found:
            housekeeping.drop_checkpoints(each.directory, folder)
        if not json:
            print(f"dropped the checkpoints of {len(found)} runs")
