"""Commands about experiment files: validate, list, schema, init."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import typer

from dnntrain.cli.output import Json, Plugin, Set, console, load_plugins, print_json, user_errors
from dnntrain.cli.tables import Table
from dnntrain.errors import DnntrainError, Problem, SpecError, UsageError, suggest, visible

RECIPES = ("default", "self_normalizing", "cnn", "rnn", "transfer")


def validate(
    configs: Annotated[list[Path], typer.Argument(help="Experiment files.", show_default=False)],
    set_: Set = None,
    plugin: Plugin = None,
    json: Json = False,
) -> None:
    """Check experiment files without training; every mistake of every file is shown."""
    with user_errors():
        load_plugins(plugin)
        from dnntrain import spec

        found: dict[Path, DnntrainError | None] = {}
        for path in configs:
            found[path] = None
            try:
                spec.load(path, set_ or ())
            except DnntrainError as error:
                found[path] = error
            if not json:
                _tell(path, found[path])
        if json:
            print_json([{"file": str(path), "problems": list(_as_json(error))} for path, error in found.items()])
        if failed := max(error.exit_code if error else 0 for error in found.values()):
            raise typer.Exit(failed)


def _tell(path: Path, error: DnntrainError | None) -> None:
    """Say that a file is in order, or what is wrong with it."""
    if error is None:
        print(visible(f"{path}: ok"))
    else:
        print(error, file=sys.stderr)


def _as_json(error: DnntrainError | None) -> Iterator[dict[str, Any]]:
    """Yield each mistake of a file as plain values."""
    problems = error.problems if isinstance(error, SpecError) else [Problem(str(error))] if error else ()
    for each in problems:
        mark = each.mark
        yield {
            "message": each.message,
            "hint": each.hint or None,
            "file": mark.source if mark else None,
            "line": mark.line if mark else None,
            "column": mark.column if mark else None,
            "width": mark.width if mark else None,
        }


def list_parts(
    family: Annotated[str | None, typer.Argument(help="A family, such as activation; all unless given.")] = None,
    plugin: Plugin = None,
    json: Json = False,
) -> None:
    """List what an experiment file can name, with options, defaults and equations."""
    with user_errors():
        load_plugins(plugin)
        from dnntrain.registry import families
        from dnntrain.spec.reference import options

        known = families()
        plurals = {_plural(name): name for name in known}
        chosen = plurals.get(family, family) if family else None
        if chosen is not None and chosen not in known:
            raise UsageError(f"there is no family '{family}'; {suggest(str(family), plurals)}")
        shown = [known[chosen]] if chosen else list(known.values())
        if json:
            print_json(
                {
                    each.name: {
                        entry.name: {
                            "summary": entry.summary,
                            "equation": entry.equation,
                            "source": entry.cite,
                            "example": entry.example,
                            "options": [vars(option) for option in options(entry.options)],
                        }
                        for entry in each
                    }
                    for each in shown
                }
            )
            return
        out = console()
        for each in shown:
            _show_family(each, out)
        out.print("of several words, the first one is the default", markup=False)


def _show_family(family: Any, out: Any) -> None:
    """Print the parts of a family, what `auto` picks among them, and keys that do such work without being parts."""
    from dnntrain.spec.reference import automatic, keys_beside, options

    rows = Table(family.name, "options", "equation")
    for entry in family:
        given = ", ".join(option.signature for option in options(entry.options))
        rows.add(entry.name, given, entry.equation)
    picks = [f"{key}: {picked}" for key, picked in automatic(family)]
    if picks:
        rows.add("auto", "", "; ".join(picks))
    rows.print(out)
    if keys := keys_beside(family):
        out.print("\nkeys of their own, beside these parts:", markup=False)
        beside = Table("key", "~what it does")
        for key in keys:
            beside.add(key.signature, key.description)
        beside.print(out)
    out.print()


def schema(plugin: Plugin = None) -> None:
    """Print the JSON Schema of experiment files, for editors."""
    with user_errors():
        load_plugins(plugin)
        from dnntrain import spec

        print_json(spec.json_schema())


def init(
    recipe: Annotated[str, typer.Argument(help="default, self_normalizing, cnn, rnn or transfer.")] = "default",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The file; - for stdout.")] = None,
) -> None:
    """Write a commented starter file."""
    with user_errors():
        if recipe not in RECIPES:
            raise UsageError(f"there is no recipe '{recipe}'; {suggest(recipe, RECIPES)}")
        text = resources.files("dnntrain.cli").joinpath("recipes", f"{recipe}.yaml").read_text(encoding="utf-8")
        if output == Path("-"):
            print(text, end="")
            return
        path = output or Path(f"{recipe}.yaml")
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            raise UsageError(f"{path} is there already; name another with -o FILE") from None
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}") from error
        print(visible(f"wrote {path}; train it with: dnntrain run {path}"))


def _plural(name: str) -> str:
    if name.endswith(("s", "x")):
        return f"{name}es"
    return f"{name}s"
