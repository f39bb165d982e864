"""What an ablation or a bisection found, in words."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from dnntrain.compare.statistics import Difference
from dnntrain.compare.wording import describe_metric
from dnntrain.sweep.ablation import Effects
from dnntrain.sweep.bisection import LEAST_OF_ONE_SEED, Explanation, Interplay, Moved, Share
from dnntrain.units import count

_ONE_SEED: Final = "one seed shows nothing of luck: ask for more with --seeds"


def difference(found: Difference, metric: str) -> str:
    """Describe a difference of a metric: accuracies in points."""
    failed, before = (count == runs for count, runs in zip(found.failed, found.runs, strict=True))
    if failed and not any(found.failed[1:]):
        return f"every run fails ({found.runs[0]} of {found.runs[0]}, and none of {found.runs[1]} before)"
    if before and not found.failed[0]:
        return f"no run fails any more (of {found.runs[1]} before, all did)"
    return describe_metric(found, metric)


def ablation(found: Effects) -> list[str]:
    """Say what the techniques buy, and what to bear in mind."""
    harmful = [each.technique for each in found.effects if each.difference.verdict == "worse" and each.mean is not None]
    fatal = [each.technique for each in found.effects if each.mean is None and found.mean is not None]
    helpful = [each.technique for each in found.effects if each.difference.verdict == "better"]
    told = []
    if len(found.values) == 1:
        told.append(_ONE_SEED)
    else:
        worth = [listed(harmful)] if harmful else []
        worth += [f"{listed(fatal)}, for every run without it failed"] if fatal else []
        if worth:
            told.append(f"worth having, beyond luck: {'; '.join(worth)}")
        if helpful:
            told.append(f"better without, beyond luck: {listed(helpful)}")
        if not worth and not helpful:
            told.append(f"with {count(len(found.values), 'seed')}, every difference could be luck")
    told.append("each was taken away by itself: of two that do the same work, neither may seem to matter")
    return told


def bisection(found: Explanation, metric: str) -> list[str]:
    """Say what explains the gap, and what to bear in mind."""
    seeds = len(found.ends[0])
    if not found.real:
        told = [f"there is nothing to explain: with {count(seeds, 'seed')}, the gap could be luck"]
        if found.gap.seeds_to_settle is not None:
            told.append(
                f"about {found.gap.seeds_to_settle} seeds would settle whether there is a gap: ask for --seeds N"
            )
        return told
    told = [_headline(found.found)]
    told += [f"{listed(each.keys)} were not taken apart: {each.whole}" for each in found.found if each.whole]
    told += [_interplay(each, metric) for each in found.interplays]
    if found.cut_short:
        told.append(
            "no more runs were allowed, so some of it was not looked into: begin again with a higher --max-runs"
        )
    if seeds == 1:
        told.append(f"{_ONE_SEED}; a part was looked into if it made out {100 * LEAST_OF_ONE_SEED:.0f} % of the gap")
    elif any(not _certain(each) for each in found.found):
        told.append(
            "where the verdict, which is corrected for the number of shares, does not say so, it may be luck still"
        )
    return told


def configuration(moved: Moved, keys: Collection[str]) -> str:
    """Name a configuration between A and B."""
    if not moved or len(moved) == len(keys):
        return "B" if moved else "A"
    few = len(moved) <= len(keys) / 2
    told = [key for key in keys if (key in moved) == few]
    return f"{'A' if few else 'B'} with {listed(told)} of {'B' if few else 'A'}"


def listed(words: Sequence[str]) -> str:
    """Join words as a sentence does."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def percent(part: float | None) -> str:
    """Write a share of the gap."""
    return "-" if part is None else f"{100 * part:.0f} %"


def _headline(found: Sequence[Share]) -> str:
    """Name what makes the gap, and what goes against it; after what is certain, what may be."""
    one_seed = any(each.difference.method == "none" for each in found)
    told = []
    for sure in (True, False):
        these = [each for each in found if (one_seed or _certain(each)) == sure]
        makes = [each for each in these if each.part is None or each.part > 0]
        against = [_with_percent(each) for each in these if each.part is not None and each.part < 0]
        probably = "" if sure else "perhaps "
        if makes and all(each.part is None for each in makes):
            keys = [key for each in makes for key in each.keys]
            told.append(f"{probably}{listed(keys)} {_verb('make', keys)} the difference")
        elif makes:
            keys = [key for each in makes for key in each.keys]
            names = listed([_with_percent(each) for each in makes])
            told.append(f"{probably}{names} {_verb('explain', keys)} the gap")
        if against:
            told.append(f"{probably}against it {_verb('work', against)} {listed(against)}")
    return "; ".join(told) or "the gap stands out, and none of its parts does"


def _with_percent(share: Share) -> str:
    return " with ".join(share.keys) + ("" if share.part is None else f" ({percent(share.part)})")


def _verb(verb: str, subject: Sequence[str]) -> str:
    return verb if len(subject) > 1 else f"{verb}s"


def _interplay(found: Interplay, metric: str) -> str:
    keys = listed(found.keys)
    with_whom = f"works together with {listed(found.partners)}" if found.partners else "works together with others"
    return f"{keys} {with_whom}; by itself: {difference(found.alone, metric)}"


def _certain(share: Share) -> bool:
    return share.all_fail or share.none_fails or share.difference.verdict in ("better", "worse")
