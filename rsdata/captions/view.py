"""A patch's facts, looked up by class, and what can be said of them without a doubt.

Facts are exact; words are not. Here is decided when a word fits so clearly that nobody who looks at the map could
say otherwise, and nothing is said or asked where it does not.
"""

import math
from collections.abc import Iterator

from rsdata.grid import PATCH_SIDE_M
from rsdata.records import DIRECTIONS, ClassFact, Direction, PatchFacts, RegionFact
from rsdata.sensors import REFERENCE_MAP

PATCH_PX = PATCH_SIDE_M // REFERENCE_MAP.bands[0].gsd_m
LEAST_BORDER_M = 30.0  # a shorter border may be there, but is hard to see
CLEAR_SHARE = 0.02  # by which one class must lead another to be called larger
CLEAR_SIZE = 1.2  # how many times larger the largest region must be than the next
CLEAR_DISTANCE_PX = 15.0  # between centroids, for a direction between them
CLEAR_ANGLE = 15.0  # degrees off the middle of a direction; a direction is 45 degrees wide
CLEAR_FIELD_PX = 3.0  # from a centroid to the lines that divide the patch into 3 by 3 fields
CLEAR_LEAD_PX = 6.0  # by which the northernmost region must lead the next
_LINES = (PATCH_PX / 3, 2 * PATCH_PX / 3)


class View:
    """One patch."""

    __slots__ = ("class_of", "facts", "neighbours", "regions", "sized")

    def __init__(self, facts: PatchFacts) -> None:
        self.facts = facts
        self.class_of: dict[str, ClassFact] = {each.name: each for each in facts.classes}
        self.regions: dict[str, list[RegionFact]] = {}  # by falling size
        for region in facts.regions:
            self.regions.setdefault(region.name, []).append(region)
        self.sized = [each.name for each in facts.classes if each.name in self.regions]  # with a region that counts; by falling share
        self.neighbours: dict[str, dict[str, float]] = {each.name: {} for each in facts.classes}  # class to class to border in m
        for pair in facts.adjacent:
            self.neighbours[pair.first][pair.second] = pair.border_m
            self.neighbours[pair.second][pair.first] = pair.border_m

    def all_count(self, name: str) -> bool:
        """Whether none of a class's regions is too small to count, so that their number is beyond doubt."""
        return len(self.regions.get(name, ())) == self.class_of[name].regions

    def main_region(self, name: str) -> tuple[str, RegionFact] | None:
        """A class's only region, or one that is clearly its largest, and what to call it; None if there is neither."""
        regions = self.regions.get(name)
        if not regions:
            return None
        if self.class_of[name].regions == 1:
            return "the region", regions[0]
        if len(regions) == 1 or regions[0].pixels >= CLEAR_SIZE * regions[1].pixels:
            return "the largest region", regions[0]
        return None

    def bordering(self) -> list[tuple[str, str]]:
        """Classes that clearly border each other, by falling length of the border."""
        return [
            (pair.first, pair.second)
            for pair in self.facts.adjacent
            if pair.border_m >= LEAST_BORDER_M and pair.first in self.regions and pair.second in self.regions
        ]

    def directions(self) -> Iterator[tuple[str, str, int]]:
        """Pairs of classes, and in which of ``DIRECTIONS`` the main region of the first clearly lies from that of the second."""
        mains = [(name, main[1]) for name in self.sized if (main := self.main_region(name)) is not None]
        for index, (name, region) in enumerate(mains):
            for other_name, other in mains[index + 1 :]:
                direction = clear_direction(region, other)
                if direction is not None:
                    yield name, other_name, direction


def clear_direction(region: RegionFact, other: RegionFact) -> int | None:
    """In which of ``DIRECTIONS`` a region lies from another, or None where that can be disputed.

    It is the direction between the centroids, if they are far enough from each other, the angle is near enough to the middle
    of a direction, and neither centroid lies in the other's box, so that neither region surrounds the other.
    """
    dx, dy = region.centroid_x - other.centroid_x, region.centroid_y - other.centroid_y
    if dx * dx + dy * dy < CLEAR_DISTANCE_PX**2:
        return None
    eighths = math.degrees(math.atan2(dx, -dy)) / 45  # clockwise from north; y counts southward
    nearest = round(eighths)
    if abs(eighths - nearest) * 45 > CLEAR_ANGLE or _in_box(region, other) or _in_box(other, region):
        return None
    return nearest % 8


def direction_word(index: int) -> Direction:
    return DIRECTIONS[index % 8]


def clear_field(region: RegionFact) -> bool:
    """Whether a region's centroid keeps away from the lines between the fields of the patch."""
    return all(abs(place - line) >= CLEAR_FIELD_PX for place in (region.centroid_x, region.centroid_y) for line in _LINES)


def _in_box(region: RegionFact, other: RegionFact) -> bool:
    box = other.box
    return box.x0 <= region.centroid_x <= box.x1 and box.y0 <= region.centroid_y <= box.y1
