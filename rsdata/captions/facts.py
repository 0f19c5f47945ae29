"""What is known about a patch without a model: the facts that captions are written from and checked against.

Facts follow from the patch table alone, so the same table gives the same facts and the same digest anywhere.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from rsdata.errors import CaptionError
from rsdata.records import ClassShare, PatchFacts
from rsdata.sensors import SENTINEL1, SENTINEL2

_COLUMNS = ("patch_id", "label_fractions", "season", "country", "datetime", "s1_product")


def facts_of(row: Mapping[str, Any]) -> PatchFacts:
    """State the facts of one patch.

    Args:
        row: a row of the patch table with ``patch_id``, ``label_fractions`` (class name to share, as a dict or as
            the pairs that Parquet maps are read as), ``season``, ``country``, ``datetime`` (UTC) and ``s1_product``.

    Returns: classes by falling share and then by name, without those of no share; sensors by their short names.
    Raises: CaptionError if a column is missing.
    """
    missing = [name for name in _COLUMNS if name not in row]
    if missing:
        raise CaptionError(f"the patch table has no column `{'`, `'.join(missing)}`; facts are made of it", missing=missing)
    fractions = row["label_fractions"]
    pairs: Iterable[tuple[str, float]] = fractions.items() if isinstance(fractions, Mapping) else fractions
    shares = sorted(((name, float(share)) for name, share in pairs if share > 0), key=lambda pair: (-pair[1], pair[0]))
    return PatchFacts(
        patch_id=row["patch_id"],
        classes=[ClassShare(name=name, share=share) for name, share in shares],
        season=row["season"],
        country=None if _absent(row["country"]) else row["country"],
        year=row["datetime"].year,
        month=row["datetime"].month,
        sensors=[SENTINEL2.name] if _absent(row["s1_product"]) else [SENTINEL2.name, SENTINEL1.name],
    )


def facts_table(table: pd.DataFrame) -> list[PatchFacts]:
    """State the facts of every row of a patch table, in its order."""
    present = [name for name in _COLUMNS if name in table]
    return [facts_of(dict(zip(present, row, strict=True))) for row in zip(*(table[name] for name in present), strict=True)]


def facts_digest(facts: PatchFacts) -> str:
    """SHA-256 over the facts as JSON with sorted keys and without spaces, in UTF-8."""
    canonical = json.dumps(facts.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def unclassified_share(facts: PatchFacts) -> float:
    """Share of the patch that no class covers, 0 to 1."""
    return max(0.0, 1 - math.fsum(each.share for each in facts.classes))


def _absent(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)) or value == ""
