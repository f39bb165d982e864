"""The command that serves the page of a comparison while runs train. No torch."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from dnntrain.cli.output import Baseline, Metric, user_errors
from dnntrain.errors import visible

_PORT: Final = 6007


def watch(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="A folder of runs, or a sweep.")] = Path("runs"),
    metric: Metric = None,
    baseline: Baseline = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = _PORT,
    host: Annotated[
        str, typer.Option(help="Where to listen; other machines reach it if it is not loopback.")
    ] = "127.0.0.1",
    open_: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Serve the comparison as a page that follows runs while they train: read-only, until Ctrl-C."""
    with user_errors():
        from dnntrain.compare.serve import LOOPBACK, PageServer
        from dnntrain.compare.watching import Watched

        with PageServer(Watched(folder, metric=metric, baseline=baseline), host, port) as server:
            if server.host not in LOOPBACK:
                print(
                    f"warning: everyone who reaches {visible(host)} can see these runs; there is no password",
                    file=sys.stderr,
                )
            print(f"watching {visible(str(folder), keep='')}: {server.url}   (Ctrl-C ends it)", flush=True)
            if open_:
                import webbrowser

                webbrowser.open(server.url)
            # Ending a server is not breaking off work: there is nothing left to go on with, so it exits with 0.
            with contextlib.suppress(KeyboardInterrupt):
                server.serve_forever()
