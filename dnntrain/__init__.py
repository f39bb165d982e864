"""Train deep neural networks from YAML.

`dnntrain.train(spec)` trains an experiment and returns its record; `dnntrain.load(run)` gives the trained network with
its preprocessing. The command `dnntrain` does the same from a terminal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dnntrain.run import RunRecord, resume, train
    from dnntrain.trained import Prediction, Trained, evaluate, load, predict

    __version__: str

__all__ = ["Prediction", "RunRecord", "Trained", "__version__", "evaluate", "load", "predict", "resume", "train"]


def __getattr__(name: str) -> Any:
    """Look up what takes time to import only when it is asked for."""
    if name == "__version__":
        from importlib import metadata

        return metadata.version("dnntrain")
    if name in __all__:
        from dnntrain import run, trained

        return getattr(run if hasattr(run, name) else trained, name)
    raise AttributeError(f"module 'dnntrain' has no attribute '{name}'")
