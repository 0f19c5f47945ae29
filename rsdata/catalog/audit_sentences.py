"""What an audit of a split means, in sentences."""

import math

from rsdata.catalog.pages import distance, patches, percent
from rsdata.records import SplitAudit, SplitPair


def audit_sentences(audit: SplitAudit) -> list[tuple[str, str]]:
    """What the audit means, as (severity, sentence); severity is "good", "note" or "bad"."""
    findings = []
    if audit.split is not None and audit.split.leaks is not None:
        findings.append(("bad", f"The split leaks by the way it was made ({audit.split.strategy}): {audit.split.leaks}."))
    findings += [finding for pair in audit.pairs for finding in _pair_findings(pair)]
    empty = [split for split, count in audit.counts.items() if not count]
    if empty:
        findings.append(("bad", f"No patch is in {' or '.join(empty)}, so nothing can be measured there."))
    name, ratio = audit.largest_ratio_class, audit.largest_ratio
    if name is not None and ratio is not None:
        shares = sorted((shares[name], split) for split, shares in audit.class_shares.items() if name in shares)
        named = f" ({', '.join(f'{percent(share)} of {split}' for share, split in reversed(shares))})" if shares else ""
        spread = f"its share in one split is {ratio:.1f} times that in another" if math.isfinite(ratio) else "one split has none of it"
        findings.append(("note" if ratio >= 2 else "good", f"The least balanced class is {name}: {spread}{named}."))
    elif name is not None:
        findings.append(("note", f"The class {name} is missing from a split altogether."))
    return findings


def _pair_findings(pair: SplitPair) -> list[tuple[str, str]]:
    findings = []
    if pair.shared_places:
        places = "place lies" if pair.shared_places == 1 else "places lie"
        findings.append(("bad", f"{pair.shared_places:,} {places} in both {pair.a} and {pair.b}: a model is tested on ground it has seen."))
    if pair.touching_a or pair.touching_b:
        findings.append(
            (
                "bad" if {pair.a, pair.b} == {"train", "test"} else "note",
                f"{pair.a.capitalize()} and {pair.b} touch: {patches(pair.touching_a, pair.a)} and {patches(pair.touching_b, pair.b)} "
                "have a direct neighbour on the other side. Neighbours look alike, so scores across this border are somewhat too good.",
            )
        )
    elif pair.min_gap_m is None:
        findings.append(("note", f"No distance between {pair.a} and {pair.b} could be measured."))
    elif pair.min_gap_m <= 0:
        findings.append(("note", f"Footprints of {pair.a} and {pair.b} meet or overlap where their tiles do."))
    else:
        findings.append(("good", f"No {pair.a} patch lies within {distance(pair.min_gap_m)} of a {pair.b} patch."))
    return findings
