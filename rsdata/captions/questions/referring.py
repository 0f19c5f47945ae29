"""Find a region by a phrase or by a pixel; the answer is its box.

A phrase is used only if exactly one region fits it, and no other nearly does.
"""

from collections.abc import Iterator, Sequence

from rsdata.captions.draw import Draw
from rsdata.captions.questions.question import Around, Question
from rsdata.captions.view import CLEAR_LEAD_PX, CLEAR_SIZE, View, clear_field
from rsdata.captions.wording import class_in_sentence
from rsdata.records import PixelBox, RegionFact

_MOST = 2  # of each kind in one patch
_BY_PHRASE = (
    "Give the bounding box of {} as [x0, y0, x1, y1] in pixels.",
    "Where is {}? Answer with its box [x0, y0, x1, y1] in pixels.",
    "Find {} and state its box, [x0, y0, x1, y1], in pixels.",
)
_BY_POINT = (
    "Give the bounding box of the region that holds the pixel ({}, {}), as [x0, y0, x1, y1] in pixels.",
    "The pixel ({}, {}) belongs to a region of one land-cover class. State its box [x0, y0, x1, y1] in pixels.",
    "What is the box, [x0, y0, x1, y1] in pixels, of the region at ({}, {})?",
)
# Which way a place lies furthest, as an axis and a sign.
_OUTERMOST = (("northernmost", "y", -1), ("southernmost", "y", 1), ("westernmost", "x", -1), ("easternmost", "x", 1))


def ask_regions(view: View, hidden: Sequence[str], around: Around, draw: Draw) -> list[Question]:
    """Up to two regions by phrase, of different classes where possible, and up to two by a pixel of theirs."""
    asked = []
    phrases = {name: list(_phrases(view, name)) for name in view.sized}
    for name in draw.shuffled([name for name in view.sized if phrases[name]])[:_MOST]:
        kind, phrase, region = draw.one_of(phrases[name])
        number = draw.below(len(_BY_PHRASE))
        text = _BY_PHRASE[number].format(phrase)
        asked.append(Question("referring_phrase", f"region.phrase.{kind}.{number}", text, box_text(region.box), box=region.box))
    for region in draw.shuffled(view.facts.regions)[:_MOST]:
        number = draw.below(len(_BY_POINT))
        text = _BY_POINT[number].format(region.inside.x, region.inside.y)
        asked.append(Question("referring_point", f"region.point.{number}", text, box_text(region.box), box=region.box, point=region.inside))
    return asked


def box_text(box: PixelBox) -> str:
    return f"[{box.x0}, {box.y0}, {box.x1}, {box.y1}]"


def _phrases(view: View, name: str) -> Iterator[tuple[str, str, RegionFact]]:
    """Phrases that fit exactly one region of a class: kind, phrase and region."""
    regions, words = view.regions[name], class_in_sentence(name)
    if not view.all_count(name):
        return
    if len(regions) == 1:
        yield "only", f"the only region of {words}", regions[0]
        return
    if regions[0].pixels >= CLEAR_SIZE * regions[1].pixels:
        yield "largest", f"the largest region of {words}", regions[0]
    if regions[-2].pixels >= CLEAR_SIZE * regions[-1].pixels:
        yield "smallest", f"the smallest region of {words}", regions[-1]
    if all(clear_field(region) for region in regions):
        positions = [region.position for region in regions]
        for region in regions:
            if positions.count(region.position) == 1:
                yield "field", f"the region of {words} whose centre lies in the {region.position} of the patch", region
    for word, axis, sign in _OUTERMOST:
        ranked = sorted(regions, key=lambda region: sign * _place(region, axis), reverse=True)
        if sign * (_place(ranked[0], axis) - _place(ranked[1], axis)) >= CLEAR_LEAD_PX:
            yield "outermost", f"the {word} region of {words}, by its centre", ranked[0]


def _place(region: RegionFact, axis: str) -> float:
    return region.centroid_x if axis == "x" else region.centroid_y
