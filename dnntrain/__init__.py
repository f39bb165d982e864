"""Train deep neural networks from YAML.

`dnntrain.train(spec)` trains an experiment and returns its record; `dnntrain.load(run)` gives the trained network with
its preprocessing, `dnntrain.export(run)` writes it for elsewhere, and `dnntrain.eject(run)` writes the experiment as a
plain PyTorch script. The command `dnntrain` does the same from a terminal.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dnntrain.ejecting import Ejected, eject
    from dnntrain.exporting import Exported, export
    from dnntrain.run import RunRecord, resume, train
    from dnntrain.trained import Prediction, Trained, evaluate, load, predict

    __version__: str

_HOMES = {
    "dnntrain.ejecting": ("Ejected", "eject"),
    "dnntrain.exporting": ("Exported", "export"),
    "dnntrain.run": ("RunRecord", "resume", "train"),
    "dnntrain.trained": ("Prediction", "Trained", "evaluate", "load", "predict"),
}

__all__ = [
    "Ejected",
    "Exported",
    "Prediction",
    "RunRecord",
    "Trained",
    "__version__",
    "eject",
    "evaluate",
    "export",
    "load",
    "predict",
    "resume",
    "train",
]


def __getattr__(name: str) -> Any:
    """Look up what takes time to import only when it is asked for."""
    if name == "__version__":
        from importlib import metadata

        return metadata.version("dnntrain")
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'dnntrain' has no attribute '{name}'")
