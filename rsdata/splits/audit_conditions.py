"""Conditions on an audit, for continuous integration: ``touching,ratio>1.5,gap[train/test]<1750``.

    conditions = condition { "," condition }
    condition  = name [ "[" split "/" split "]" ] [ ( ">" | "<" ) number ]

A condition names what must not be. Counts are met above 0, or above the number given; ``gap`` and ``against-gap``
below their number, the other measures above it. What cannot be checked, for want of labels say, is met too: a
check that cannot fail must not pass.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rsdata.errors import SplitError
from rsdata.records import FindingKind, ShareBalance, SplitAudit, SplitPair

_CONDITION = re.compile(r"(?P<name>[a-z-]+)(?:\[(?P<a>[^/\[\]]+)/(?P<b>[^/\[\]]+)\])?(?:(?P<sign>[<>])(?P<limit>\d+(?:\.\d+)?))?")

_PAIR_COUNTS: Mapping[str, tuple[str, Callable[[SplitPair], int]]] = {
    "touching": ("patches touch", lambda pair: pair.touching_a + pair.touching_b),
    "overlapping": ("pairs of patches overlap", lambda pair: pair.overlapping_pairs),
    "shared": ("places lie in both", lambda pair: pair.shared_places),
}
_FINDINGS: Mapping[str, tuple[str, FindingKind]] = {
    "duplicates": ("duplicate rows", "duplicate"),
    "mismatch": ("rows whose id and footprint do not match", "mismatch"),
    "flipped": ("rows with swapped coordinates", "flipped"),
}
_SHARES: Mapping[str, Literal["class", "country", "season"]] = {"": "class", "country-": "country", "season-": "season"}

NAMES = (
    *(prefix + name for prefix in ("", "against-") for name in ("touching", "overlapping", "shared", "gap")),
    *(prefix + name for prefix in _SHARES for name in ("ratio", "tvd")),
    *_FINDINGS,
    "empty",
    "leaks",
)  # fmt: skip
_WITHOUT_NUMBER = {"empty", "leaks"}


@dataclass(frozen=True)
class Condition:
    """One thing that an audit must not say."""

    text: str
    name: str
    pair: tuple[str, str] | None  # only between these two splits
    limit: float | None


def parse_conditions(text: str) -> list[Condition]:
    """Read a comma-separated list of conditions.

    Raises: SplitError if one is unknown, lacks its number, or compares the wrong way.
    """
    return [_parse(part.strip()) for part in text.split(",")]


def _parse(text: str) -> Condition:
    match = _CONDITION.fullmatch(text)
    if match is None or match["name"] not in NAMES:
        raise SplitError(f"{text!r} is no condition; known are {', '.join(NAMES)}, such as touching, ratio>1.5 or gap[train/test]<1750")
    name, sign = match["name"], match["sign"]
    measured = name.endswith(("gap", "ratio", "tvd"))
    wanted = "<" if name.endswith("gap") else ">"
    if (measured and sign is None) or (sign is not None and sign != wanted) or (name in _WITHOUT_NUMBER and sign is not None):
        form = name if name in _WITHOUT_NUMBER else f"{name}{wanted}NUMBER" if measured else f"{name} or {name}>NUMBER"
        raise SplitError(f"condition {text!r} is incomplete or compares the wrong way; write {form}", condition=text)
    pair = (match["a"], match["b"]) if match["a"] is not None else None
    if pair is not None and name.removeprefix("against-") not in {*_PAIR_COUNTS, "gap"}:
        raise SplitError(f"condition {text!r} names two splits, but {name} is not measured between two; leave out the brackets")
    return Condition(text, name, pair, float(match["limit"]) if match["limit"] is not None else None)


def conditions_met(audit: SplitAudit, conditions: Sequence[Condition]) -> list[str]:
    """One sentence for each condition that an audit meets.

    Raises: SplitError if a condition names a split that is not in the audit.
    """
    return [f"{each.text}: {'; '.join(found)}" for each in conditions if (found := _met(audit, each))]


def _met(audit: SplitAudit, condition: Condition) -> list[str]:
    name = condition.name
    if name == "empty":
        return [f"no patch is in {split}" for split, count in audit.counts.items() if not count]
    if name == "leaks":
        return [] if audit.split is None or audit.split.leaks is None else [f"strategy {audit.split.strategy}: {audit.split.leaks}"]
    if name in _FINDINGS:
        words, kind = _FINDINGS[name]
        if audit.findings is None:
            return ["cannot be checked, nothing was looked for"]
        count = sum(each.count for each in audit.findings if each.kind == kind)
        return [f"{count:,} {words}"] if count > (condition.limit or 0) else []
    if name.endswith(("ratio", "tvd")):
        return _met_share(audit, condition)
    return _met_pair(audit, condition)


def _met_pair(audit: SplitAudit, condition: Condition) -> list[str]:
    name = condition.name.removeprefix("against-")
    across = name != condition.name
    if across and audit.against is None:
        return ["cannot be checked without another table; name one with --against"]
    pairs = audit.pairs if audit.against is None or not across else audit.against.pairs
    if condition.pair is not None:
        wanted = condition.pair
        pairs = [pair for pair in pairs if (pair.a, pair.b) == wanted or (not across and (pair.b, pair.a) == wanted)]
        if not pairs:
            raise SplitError(f"condition {condition.text!r} names {' and '.join(wanted)}, but the audit has no such pair of splits")
    found = []
    for pair in pairs:
        both = f"{pair.a} and {pair.b}"
        if name == "gap":
            if pair.min_gap_m is not None and condition.limit is not None and pair.min_gap_m < condition.limit:
                found.append(f"{both} lie {pair.min_gap_m:,.0f} m apart")
        else:
            words, count_of = _PAIR_COUNTS[name]
            if count_of(pair) > (condition.limit or 0):
                found.append(f"{count_of(pair):,} {words} ({both})")
    return found


def _met_share(audit: SplitAudit, condition: Condition) -> list[str]:
    prefix = condition.name.removesuffix("ratio").removesuffix("tvd")
    balance: ShareBalance | None = next((each for each in audit.balance if each.of == _SHARES[prefix]), None)
    limit = condition.limit or 0.0
    if balance is None or not any(balance.shares.values()):
        return [f"cannot be checked, the table says nothing of {_SHARES[prefix]}"]
    if condition.name.endswith("tvd"):
        if balance.total_variation is None:
            return ["cannot be checked, fewer than two splits hold anything"]
        between = " and ".join(balance.total_variation_pair)
        return [f"{balance.total_variation:.3f} ({between})"] if balance.total_variation > limit else []
    if balance.largest_ratio is None:
        name = balance.largest_ratio_name
        return [f"{name} is missing from a split" if name is not None else "cannot be checked, fewer than two splits hold anything"]
    return [f"{balance.largest_ratio:.2f} ({balance.largest_ratio_name})"] if balance.largest_ratio > limit else []
