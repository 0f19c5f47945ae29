"""What a table of patches should not have, with the first patches that show it: leaks, duplicates, contradictions."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rsdata.records import FINDING_KINDS, AuditFinding, FindingExample, FindingKind
from rsdata.splits.audit_distances import Nearness
from rsdata.splits.audit_places import Located, Places

MOST_EXAMPLES = 20
_MOST_NAMED = 6  # patches of one example


class Rows:
    """The rows of a table by place, so that a place can be shown by its patches."""

    def __init__(self, located: Located, place: np.ndarray, split: np.ndarray, names: Sequence[str]) -> None:
        self.located, self.place, self.split, self.names = located, place, split, names
        self._order = np.argsort(place, kind="stable")
        self._sorted = place[self._order]

    def at(self, place: int, split: int | None = None) -> np.ndarray:
        """Rows of a place, by patch id; those of one split if it is named."""
        rows = self._order[np.searchsorted(self._sorted, place) : np.searchsorted(self._sorted, place, side="right")]
        if split is not None:
            rows = rows[self.split[rows] == split]
        return rows[np.argsort(self.located.names[rows].astype(str), kind="stable")]

    def example(self, rows: np.ndarray, places: Places, note: str) -> FindingExample:
        where = int(self.place[rows[0]])
        return FindingExample(
            patch_ids=[str(self.located.names[row]) for row in rows],
            splits=[self.names[self.split[row]] for row in rows],
            lon=round(float(places.lon[where]), 6) if where >= 0 else None,
            lat=round(float(places.lat[where]), 6) if where >= 0 else None,
            note=note,
        )


def leaks(nearness: Sequence[Nearness], places: Places, own: Rows, other: Rows) -> list[AuditFinding]:
    """Places and overlapping footprints that two splits have in common; ``other`` is ``own`` within one table."""
    found = []
    for each in nearness:
        a, b = own.names.index(each.pair.a), other.names.index(each.pair.b)
        same = each.overlaps[:, 0] == each.overlaps[:, 1]
        for kind, pairs in (("shared_place", each.overlaps[same]), ("overlap", each.overlaps[~same])):
            if not len(pairs):
                continue
            pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
            examples = []
            for i, j in pairs[:MOST_EXAMPLES].tolist():
                rows_a, rows_b = own.at(i, a)[: _MOST_NAMED // 2], other.at(j, b)[: _MOST_NAMED // 2]
                one, two = own.example(rows_a, places, _note(kind)), other.example(rows_b, places, "")
                examples.append(one.model_copy(update={"patch_ids": one.patch_ids + two.patch_ids, "splits": one.splits + two.splits}))
            found.append(AuditFinding(kind=kind, splits=[each.pair.a, each.pair.b], count=len(pairs), examples=examples))
    return found


def _note(kind: str) -> str:
    return "the same ground, seen in both" if kind == "shared_place" else "footprints share area"


def duplicates(own: Rows, places: Places) -> list[AuditFinding]:
    """Rows with the id of an earlier row, or with its place and moment of acquisition."""
    located = own.located
    frame = pd.DataFrame({"name": located.names.astype(str), "split": own.split, "place": own.place})
    again = frame.duplicated("name").to_numpy()
    twin = np.zeros(len(frame), bool)
    if located.moment is not None:
        frame["moment"] = located.moment
        known = frame[(frame["place"] >= 0) & frame["moment"].notna() & ~again]
        twin[known.index] = known.duplicated(["place", "moment"]).to_numpy()
    if not again.any() and not twin.any():
        return []
    examples = []
    for name in sorted(set(frame["name"][again]))[:MOST_EXAMPLES]:
        rows = np.flatnonzero((frame["name"] == name).to_numpy())
        examples.append(own.example(rows[:_MOST_NAMED], places, f"the id occurs {len(rows)} times"))
    if len(examples) < MOST_EXAMPLES and twin.any():
        keys = frame[twin][["place", "moment"]].drop_duplicates().sort_values(["place", "moment"])[: MOST_EXAMPLES - len(examples)]
        for where, moment in keys.itertuples(index=False):
            rows = own.at(int(where))
            examples.append(own.example(rows[located.moment[rows] == moment][:_MOST_NAMED], places, "one acquisition of one place"))  # type: ignore[index]
    return [AuditFinding(kind="duplicate", splits=[], count=int(again.sum() + twin.sum()), examples=examples)]


def contradictions(own: Rows, places: Places) -> list[AuditFinding]:
    """Rows whose id, columns and footprint do not mean the same ground."""
    found = []
    kinds: tuple[FindingKind, ...] = ("mismatch", "flipped")
    for kind in kinds:
        notes = [(int(row), each.note) for each in own.located.misfits if each.kind == kind for row in each.rows]
        if not notes:
            continue
        rows = dict(reversed(notes))  # the first statement about a row stands
        named = sorted(rows, key=lambda row: str(own.located.names[row]))[:MOST_EXAMPLES]
        examples = [own.example(np.array([row]), places, rows[row](row)) for row in named]
        found.append(AuditFinding(kind=kind, splits=[], count=len(rows), examples=examples))
    return found


def in_order(found: Sequence[AuditFinding]) -> list[AuditFinding]:
    return sorted(found, key=lambda each: FINDING_KINDS.index(each.kind))
