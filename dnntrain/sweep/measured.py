"""The metrics that an experiment measures while it trains."""

from __future__ import annotations

from dnntrain.errors import UsageError, suggest
from dnntrain.spec import Spec


def check_measured(spec: Spec, metric: str) -> None:
    """See whether a resolved experiment measures a metric in training.

    Raises:
        UsageError: it does not.
    """
    parts = ("train",) if spec.data.validation == "none" else ("valid", "train")
    scalars = [each.name for each in spec.metrics if not isinstance(each, str) and each.entry.traits["scalar"]]
    known = [f"{part}/{name}" for part in parts for name in ("loss", *scalars)]
    if metric not in known:
        meant = metric if "/" in metric else f"{parts[0]}/{metric}"
        raise UsageError(f"{spec.name} does not measure '{metric}' in training: {suggest(meant, known)}")
