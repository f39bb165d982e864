"""Verdicts in words that a person reads."""

from __future__ import annotations

from dnntrain.compare.convergence import Convergence
from dnntrain.compare.statistics import Difference


def describe(difference: Difference, *, scale: float = 1.0, unit: str = "", pairs: str = "seeds") -> str:
    """Return a difference in one line.

    Such as "better by 1.2 points (95 % interval 0.4 to 2, p 0.01, paired by 5 seeds)". After "better by" and "worse
    by", the amount and its interval are how much better or worse; elsewhere the difference has its sign.

    Args:
        difference: what was found.
        scale: factor for what is shown, such as 100 for accuracies in points.
        unit: its name.
        pairs: what runs were paired by.
    """
    amount = "" if difference.value is None else f"{_signed(difference.value * scale)}{unit and f' {unit}'}"
    if difference.verdict == "one seed: no verdict":
        return difference.verdict + _in_brackets([amount and f"difference {amount}", *_failures(difference)])
    figures = [_p(difference.adjusted_p, difference.comparisons), _design(difference, pairs), *_failures(difference)]
    if any(difference.failed):
        return difference.verdict + _in_brackets(figures)
    if difference.verdict == "not distinguishable":
        interval = _interval(difference, scale)
        settle = difference.seeds_to_settle
        more = f"; about {settle} seeds a side would settle it" if settle is not None else ""
        return f"{difference.verdict}: difference {amount}{_in_brackets([interval, *figures])}{more}"
    interval = _interval(difference, scale if (difference.value or 0) > 0 else -scale)
    return f"{difference.verdict} by {amount.lstrip('+-')}{_in_brackets([interval, *figures])}"


def describe_metric(difference: Difference, metric: str, *, pairs: str = "seeds") -> str:
    """Return a difference of a metric in one line: accuracies in points, others as they are."""
    if metric.endswith("accuracy"):
        return describe(difference, scale=100.0, unit="points", pairs=pairs)
    return describe(difference, pairs=pairs)


def describe_convergence(found: Convergence, *, unit: str = "epochs") -> str:
    """Return in one line whether a target is reached faster: "faster: 12 epochs against 20 epochs (p 0.008, ...)".

    Args:
        found: what was found.
        unit: what time is counted in.
    """
    medians = [_time(found.median, unit), _time(found.baseline_median, unit)]
    counts = [f"{count} of {runs}" for count, runs in zip(found.reached, found.runs, strict=True)]
    figures = [_p(found.adjusted_p, found.comparisons), f"reached by {counts[0]} runs against {counts[1]}"]
    return f"{found.verdict}: {medians[0]} against {medians[1]}{_in_brackets(figures)}"


def brief(seconds: float) -> str:
    """Write a short time in the unit that suits it: 2 s, 35.5 ms, 35.5 us."""
    for unit, length in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{1e6 * seconds:.3g} us"


def _signed(value: float) -> str:
    """Write a number with its sign; zero has none."""
    return f"{value:+.3g}" if value else "0"


def _time(median: float | None, unit: str) -> str:
    """Write when half of the runs have arrived."""
    return "not reached" if median is None else f"{median:.4g} {unit}"


def _p(p: float | None, comparisons: int) -> str:
    """Write a p value, and what it was corrected for."""
    if p is None:
        return ""
    corrected = f" corrected for {comparisons} comparisons" if comparisons > 1 else ""
    return ("p < 0.001" if p < 0.001 else f"p {p:.3g}") + corrected


def _interval(difference: Difference, scale: float) -> str:
    """Write the interval, lower end first."""
    if difference.low is None or difference.high is None:
        return ""
    low, high = sorted((difference.low * scale, difference.high * scale))
    return f"{100 * difference.confidence:.3g} % interval {low:.3g} to {high:.3g}"


def _design(difference: Difference, pairs: str) -> str:
    """Say what was compared with what, and how."""
    ours, baseline = difference.runs
    if difference.pairs:
        alone = ours + baseline - 2 * difference.pairs
        left_out = f", {alone} {'run' if alone == 1 else 'runs'} without a partner left out" if alone else ""
        alike = ", every pair differs alike" if difference.method == "signs" else ""
        return f"paired by {difference.pairs} {pairs}{alike}{left_out}"
    return f"{ours} against {baseline} runs{' by ranks' if difference.method == 'ranks' else ''}"


def _failures(difference: Difference) -> list[str]:
    """Name the runs without a figure, which count as the worst."""
    sides = zip(difference.failed, difference.runs, ("ours", "the baseline"), strict=True)
    return [f"{failed} of {runs} runs of {side} failed" for failed, runs, side in sides if failed]


def _in_brackets(parts: list[str]) -> str:
    kept = [part for part in parts if part]
    return f" ({', '.join(kept)})" if kept else ""
