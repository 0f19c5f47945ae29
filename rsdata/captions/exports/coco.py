"""Regions as COCO annotations, with the phrases that refer to them.

COCO's boxes are x, y, width and height. Pixels count from the upper left corner in both, so a box ``[x0, x1) × [y0, y1)`` is
x0, y0, x1 - x0, y1 - y0. Boxes come from the facts, so every region that counts has one, asked for or not.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO

from rsdata.captions.view import PATCH_PX
from rsdata.captions.wording import class_in_sentence
from rsdata.records import PatchFacts, RegionFact

_SIDES = ("x0", "y0", "x1", "y1")


def coco_boxes(
    out: TextIO, patches: Iterable[tuple[PatchFacts, Sequence[Mapping[str, Any]]]], class_names: Sequence[str], spool: TextIO
) -> dict[str, int]:
    """Write one COCO file; return how many pictures and boxes it holds.

    Args:
        out: the file.
        patches: facts of each patch, and those of its text rows that have a box.
        class_names: in the order of their numbers; COCO counts them from 1.
        spool: an empty file to read and write; annotations wait there while pictures are written, not in memory.
    """
    number_of = {name: number for number, name in enumerate(class_names, start=1)}
    images = boxes = 0
    out.write('{"info":' + _json({"description": "Regions of reference maps, 8-connected, in pixels of 10 m"}))
    out.write(',"categories":' + _json([{"id": number, "name": name} for name, number in number_of.items()]))
    out.write(',"images":[')
    for facts, rows in patches:
        images += 1
        image = {"id": images, "file_name": f"images/{facts.patch_id}.png", "width": PATCH_PX, "height": PATCH_PX, "split": facts.split}
        out.write((",\n" if images > 1 else "\n") + _json(image))
        for annotation in _annotations(facts, rows, number_of):
            boxes += 1
            spool.write((",\n" if boxes > 1 else "\n") + _json({"id": boxes, "image_id": images, **annotation}))
    out.write('\n],"annotations":[')
    spool.seek(0)
    while part := spool.read(2**20):
        out.write(part)
    out.write("\n]}\n")
    return {"images": images, "annotations": boxes}


def _annotations(facts: PatchFacts, rows: Sequence[Mapping[str, Any]], number_of: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    at_box: dict[tuple[int, ...], list[int]] = {}
    for number, region in enumerate(facts.regions):
        at_box.setdefault(tuple(getattr(region.box, side) for side in _SIDES), []).append(number)
    phrases: dict[int, list[str]] = {}
    for row in rows:
        if row["point"] is None:
            # Regions of two classes may fill the same box; the phrase names its own.
            named = [number for number in at_box[tuple(row["box"][side] for side in _SIDES)] if _names(row["input"], facts.regions[number])]
            phrases.setdefault(max(named, key=lambda number: len(facts.regions[number].name)), []).append(row["input"])
    for number, region in enumerate(facts.regions):
        box = region.box
        yield {
            "category_id": number_of[region.name],
            "bbox": [box.x0, box.y0, box.x1 - box.x0, box.y1 - box.y0],
            "area": region.pixels,
            "iscrowd": 0,
            "phrases": phrases.get(number, []),
        }


def _names(text: str, region: RegionFact) -> bool:
    return class_in_sentence(region.name) in text


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
