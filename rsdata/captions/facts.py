"""What is known about a patch without a model: the facts that texts are written from and checked against.

Facts follow from the reference map and the row of the patch table alone, so the same map and row give the same facts
and the same digest anywhere. Areas are counted on the map, never taken from ``label_fractions``, which may be exact
areas of polygons: a text has to agree with the map beside it.
"""

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import pyproj

from rsdata.captions.regions import Measured, measure
from rsdata.errors import CaptionError
from rsdata.grid import PATCH_SIDE_M
from rsdata.records import (
    SEASON_OF_MONTH,
    AdjacencyFact,
    ClassFact,
    Dominance,
    LabelClass,
    PatchFacts,
    PatchId,
    PixelBox,
    PixelPoint,
    Position,
    RegionFact,
    s1_patch_id,
    s1_scene_id,
    s1_start,
)
from rsdata.sensors import REFERENCE_MAP, SENTINEL1, SENTINEL2

ROW_COLUMNS = ("patch_id", "epsg", "ul_x_m", "ul_y_m", "datetime", "season", "country", "s1_product", "split")
_PIXEL_M = REFERENCE_MAP.bands[0].gsd_m
_FIELDS: tuple[tuple[Position, ...], ...] = (
    ("north-west", "north", "north-east"),
    ("west", "centre", "east"),
    ("south-west", "south", "south-east"),
)


@dataclass(frozen=True)
class MapClasses:
    """Which class each code of a reference map means."""

    names: tuple[str, ...]  # in the order of the alphabet
    index_of_code: np.ndarray  # (65536,) int16, place in ``names``; -1 for a code without a class

    @classmethod
    def of(cls, labels: Iterable[LabelClass]) -> "MapClasses":
        """Look up the classes of a nomenclature."""
        by_name = sorted(labels, key=lambda each: each.name)
        index_of_code = np.full(2**16, -1, np.int16)
        for index, each in enumerate(by_name):
            index_of_code[each.codes] = index
        return cls(tuple(each.name for each in by_name), index_of_code)


def facts_of(
    row: Mapping[str, Any],
    reference_map: np.ndarray,
    classes: MapClasses,
    *,
    min_region_pixels: int = 10,
    climate: str | None = None,
    sensors: Collection[str] = (SENTINEL2.name, SENTINEL1.name),
) -> PatchFacts:
    """State the facts of one patch.

    Args:
        row: a row of the patch table with the columns of ``ROW_COLUMNS``; ``datetime`` in UTC.
        reference_map: (y, x) uint16 codes, 10 m pixels, north up. A code that means no class belongs to nobody.
        classes: what its codes mean.
        min_region_pixels: regions with fewer pixels are not listed. What is said of a class (area, number of its regions)
            and of borders is counted over all pixels all the same.
        climate: name of the climate zone, if known.
        sensors: those whose pixels the dataset holds; of Sentinel-1 alone, date and season are its own and not those of the row.

    Raises: CaptionError if a column is missing, or the map is not (y, x) of 16-bit codes.
    """
    missing = [name for name in ROW_COLUMNS if name not in row]
    if missing:
        raise CaptionError(f"the patch table has no column `{'`, `'.join(missing)}`; facts are made of it", missing=missing)
    patch_id = row["patch_id"]
    if reference_map.ndim != 2 or reference_map.dtype != np.uint16 or not reference_map.size:
        raise CaptionError(
            f"the reference map of {patch_id} is {reference_map.dtype} of shape {reference_map.shape}; expected (y, x) uint16 codes",
            patch_id=patch_id,
        )
    measured = measure(np.ascontiguousarray(reference_map), classes.index_of_code, len(classes.names))
    total, labeled = reference_map.size, int(measured.pixels.sum())
    longitude, latitude = centre_of(row)
    product = None if _absent(row["s1_product"]) or SENTINEL1.name not in sensors else row["s1_product"]
    optical = SENTINEL2.name in sensors
    time = row["datetime"] if optical or product is None else s1_start(s1_scene_id(product))
    return PatchFacts(
        patch_id=patch_id,
        s1_name=None if product is None else s1_patch_id(s1_scene_id(product), PatchId.parse(patch_id)),
        split=None if _absent(row["split"]) else row["split"],
        classes=_class_facts(measured, classes.names, total),
        unlabeled_fraction=(total - labeled) / total,
        regions=_region_facts(measured, classes.names, reference_map.shape, min_region_pixels),
        adjacent=_adjacency_facts(measured, classes.names),
        diversity=_diversity(measured.pixels),
        season=row["season"] if optical else SEASON_OF_MONTH[time.month - 1],
        datetime=time,
        country=None if _absent(row["country"]) else row["country"],
        climate=climate,
        longitude=longitude,
        latitude=latitude,
        sensors=[*([SENTINEL2.name] if optical else []), *([SENTINEL1.name] if product is not None else [])],
    )


def centre_of(row: Mapping[str, Any]) -> tuple[float, float]:
    """Longitude and latitude of a patch's centre, WGS 84 degrees to six decimals, which is 0.1 m."""
    x_m, y_m = float(row["ul_x_m"]) + PATCH_SIDE_M / 2, float(row["ul_y_m"]) - PATCH_SIDE_M / 2
    longitude, latitude = _to_degrees(int(row["epsg"])).transform(x_m, y_m)
    return round(longitude, 6), round(latitude, 6)


def facts_digest(facts: PatchFacts) -> str:
    """SHA-256 over the facts as JSON with sorted keys and without spaces, in UTF-8."""
    canonical = json.dumps(facts.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def unclassified_share(facts: PatchFacts) -> float:
    """Share of the patch that no class covers, 0 to 1."""
    return facts.unlabeled_fraction


def _class_facts(measured: Measured, names: tuple[str, ...], total: int) -> list[ClassFact]:
    """By falling share, then name."""
    present = [(-pixels, index) for index, pixels in enumerate(measured.pixels.tolist()) if pixels]
    return [
        ClassFact(
            name=names[index],
            share=-negative / total,
            area_m2=-negative * _PIXEL_M**2,
            decile=-(10 * negative // total),
            dominance=_dominance(-negative, total),
            regions=int(measured.region_count[index]),
        )
        for negative, index in sorted(present)
    ]


def _dominance(pixels: int, total: int) -> Dominance:
    """Primary above 25 %, marginal below 5 %."""
    if 4 * pixels > total:
        return "primary"
    return "marginal" if 20 * pixels < total else "secondary"


def _region_facts(measured: Measured, names: tuple[str, ...], shape_yx: tuple[int, ...], min_pixels: int) -> list[RegionFact]:
    """By falling size, then box and class."""
    height, width = shape_yx
    found = []
    for index, pixels, twice_x, twice_y, x0, y0, x1, y1, x, y in np.stack(measured.regions, axis=1).tolist():
        if pixels >= min_pixels:
            found.append(((-pixels, x0, y0, x1, y1, index), twice_x, twice_y, x, y))
    return [
        RegionFact(
            name=names[index],
            pixels=-negative,
            area_m2=-negative * _PIXEL_M**2,
            centroid_x=twice_x / (-2 * negative),
            centroid_y=twice_y / (-2 * negative),
            box=PixelBox(x0=x0, y0=y0, x1=x1, y1=y1, raster=REFERENCE_MAP.name),
            inside=PixelPoint(x=x, y=y, raster=REFERENCE_MAP.name),
            extent_ratio=-negative / ((x1 - x0) * (y1 - y0)),
            position=_FIELDS[_third(twice_y, -2 * negative * height)][_third(twice_x, -2 * negative * width)],
        )
        for (negative, x0, y0, x1, y1, index), twice_x, twice_y, x, y in sorted(found)
    ]


def _third(place: int, length: int) -> int:
    """Which third of a length a place lies in; the borders belong to the middle, so a mirror image says the mirrored word."""
    return 0 if 3 * place < length else 2 if 3 * place > 2 * length else 1


def _adjacency_facts(measured: Measured, names: tuple[str, ...]) -> list[AdjacencyFact]:
    """By falling length, then names."""
    found = [(-int(measured.sides[i, k]), int(i), int(k)) for i, k in np.argwhere(measured.sides)]
    return [AdjacencyFact(first=names[i], second=names[k], border_m=float(-negative * _PIXEL_M)) for negative, i, k in sorted(found)]


def _diversity(pixels: np.ndarray) -> float:
    """Shannon entropy over what has a class, base e; to six decimals, as logarithms may differ in the last ones."""
    counts = sorted(count for count in pixels.tolist() if count)
    total = sum(counts)
    return round(abs(math.fsum(-count / total * math.log(count / total) for count in counts)), 6)


@lru_cache(maxsize=128)
def _to_degrees(epsg: int) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(epsg, 4326, always_xy=True)


def _absent(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)) or value == ""
