"""Charts and maps for the pages: footprints, curves and bars.

Nothing here draws: positions in pixels are worked out, and the page's template turns them into SVG. Only a
map with very many footprints becomes an image, so that a large dataset still makes a small page.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self, TypeGuard

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from PIL import Image, ImageDraw

from rsdata.catalog.colors import rgb
from rsdata.catalog.pictures import data_uri

KM_PER_DEGREE = 111.32  # of latitude, and of longitude on the equator

_PLOT_PX = 400  # longest side of a map
_LEAST_PX = 90  # shortest side, so that the labels of a thin strip do not collide
_MARGIN_PX = {"left": 62, "right": 22, "top": 10, "bottom": 52}
_JOIN_KM = 30.0  # tiles closer than this share a map
_MOST_PANELS = 24
_MOST_OUTLINES = 4_000  # of one map; with more it becomes an image
_MOST_OUTLINES_IN_ALL = 16_000
_IMAGE_ZOOM = 3  # image pixels per map pixel
_SEEN_FROM_PX = 4.0  # a patch at least this wide gets an outline of its own


@dataclass(frozen=True)
class Tick:
    """A place on an axis: where it lies, pixels, and what is written there."""

    px: float
    label: str


@dataclass(frozen=True)
class Frame:
    """Size of a drawing and of the plot in it, and where that begins; pixels of the drawing."""

    width: float
    height: float
    left: float
    top: float
    plot_width: float
    plot_height: float

    @classmethod
    def around(cls, plot_width: float, plot_height: float, left: float, top: float, right: float, bottom: float) -> Self:
        return cls(plot_width + left + right, plot_height + top + bottom, left, top, plot_width, plot_height)


@dataclass(frozen=True)
class Layer:
    """All footprints of one group, as one SVG path."""

    group: str
    color: str
    path: str


@dataclass(frozen=True)
class MapPanel:
    """One map of patches."""

    title: str
    frame: Frame
    layers: list[Layer]
    image: str | None  # instead of layers where there are too many footprints
    outlined: bool
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    bar: Tick  # scale bar: its length and what it says
    counts: dict[str, int] = field(default_factory=dict)  # places per group


@dataclass(frozen=True)
class Curve:
    """One line of a chart, as the points attribute of an SVG polyline; gaps split it."""

    name: str
    color: str
    runs: list[str]
    dots: list[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """A small line chart."""

    title: str
    frame: Frame
    curves: list[Curve]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    level: Tick | None  # a horizontal line to compare with
    summary: str


@dataclass(frozen=True)
class BarPart:
    """A rectangle of a bar chart, pixels, and what it says when pointed at."""

    x: float
    y: float
    width: float
    height: float
    color: str
    words: str


@dataclass(frozen=True)
class BarChart:
    """Stacked bars."""

    title: str
    frame: Frame
    parts: list[BarPart]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    keys: list[tuple[str, str]]  # group and colour of those that occur
    summary: str


# --- maps -------------------------------------------------------------------------------------------------


def map_panels(patches: gpd.GeoDataFrame, group: pd.Series, colors: Mapping[str, str]) -> tuple[list[MapPanel], list[str]]:
    """Maps of where patches lie, one for each cluster of neighbouring tiles, the fullest first.

    A place that was seen on several dates is drawn once, in the first of its groups in the order of ``colors``.

    Args:
        patches: tile_id, col, row and footprints in longitude and latitude.
        group: the group each patch belongs to, a key of ``colors``.
        colors: group to #rrggbb, the most telling group first.

    Returns: the maps, and the tiles that were left out because there were too many clusters.
    """
    if not len(patches):
        return [], []
    places = distinct_places(patches, group, colors)
    grouped = clusters(places)
    as_outlines = len(places) <= _MOST_OUTLINES_IN_ALL
    drawn = [_panel(tiles, places[places["tile_id"].isin(tiles)], colors, as_outlines) for tiles in grouped[:_MOST_PANELS]]
    return drawn, [tile for tiles in grouped[_MOST_PANELS:] for tile in tiles]


def distinct_places(patches: gpd.GeoDataFrame, group: pd.Series, colors: Mapping[str, str]) -> gpd.GeoDataFrame:
    """Each place once, with the first of its groups in the order of ``colors`` as ``group``."""
    rank = {name: position for position, name in enumerate(colors)}
    places = gpd.GeoDataFrame({"tile_id": patches["tile_id"], "col": patches["col"], "row": patches["row"]}, geometry=patches.geometry)
    places["group"], places["rank"] = group, group.map(rank)
    return places.sort_values(["rank", "tile_id", "row", "col"], kind="stable").drop_duplicates(["tile_id", "col", "row"])


def clusters(places: gpd.GeoDataFrame) -> list[list[str]]:
    """Tiles grouped so that any two of a group are joined by gaps below ``_JOIN_KM``; the group with most places first."""
    bounds = places.bounds.groupby(places["tile_id"]).agg({"minx": "min", "miny": "min", "maxx": "max", "maxy": "max"}).sort_index()
    boxes, tiles = bounds.to_numpy(), [str(tile) for tile in bounds.index]
    group = list(range(len(tiles)))
    for a in range(len(tiles)):
        for b in range(a):
            apart_lon = max(boxes[a, 0], boxes[b, 0]) - min(boxes[a, 2], boxes[b, 2])
            apart_lat = max(boxes[a, 1], boxes[b, 1]) - min(boxes[a, 3], boxes[b, 3])
            shrink = math.cos(math.radians((boxes[a, 1] + boxes[b, 3]) / 2))
            if max(apart_lon * shrink, apart_lat) * KM_PER_DEGREE < _JOIN_KM and group[a] != group[b]:
                old, new = group[a], group[b]
                group = [new if each == old else each for each in group]
    found = [[tile for tile, each in zip(tiles, group, strict=True) if each == name] for name in dict.fromkeys(group)]
    count = places["tile_id"].value_counts()
    return sorted(found, key=lambda names: (-sum(count[name] for name in names), names))


def _panel(tiles: list[str], places: gpd.GeoDataFrame, colors: Mapping[str, str], as_outlines: bool) -> MapPanel:
    west, south, east, north = places.total_bounds
    shrink = math.cos(math.radians((south + north) / 2))
    px_per_degree = _PLOT_PX / max((east - west) * shrink, north - south)
    inner_width, inner_height = (east - west) * shrink * px_per_degree, (north - south) * px_per_degree
    width, height = max(inner_width, _LEAST_PX), max(inner_height, _LEAST_PX)
    offset = np.array([(width - inner_width) / 2, (height - inner_height) / 2])

    outlines = {}
    for name in reversed(list(colors)):  # the least telling group lies at the bottom
        rings = shapely.get_exterior_ring(places.geometry.to_numpy()[(places["group"] == name).to_numpy()])
        lonlat, ring = shapely.get_coordinates(rings, return_index=True)
        xy = (lonlat - (west, north)) * (shrink * px_per_degree, -px_per_degree) + offset
        outlines[name] = [points for points in np.split(xy, np.flatnonzero(np.diff(ring)) + 1) if len(points)]
    patch_px = math.sqrt(float(np.median(shapely.area(places.geometry.to_numpy()))) * shrink) * px_per_degree
    as_outlines = as_outlines and len(places) <= _MOST_OUTLINES
    span_km = (east - west) * shrink * KM_PER_DEGREE * width / inner_width
    bar_km = _round_below(span_km / 3.5)
    return MapPanel(
        title=f"{'Tile' if len(tiles) == 1 else 'Tiles'} {few(tiles)}",
        frame=Frame.around(width, height, **_MARGIN_PX),
        layers=[Layer(name, colors[name], _svg_path(rings)) for name, rings in outlines.items() if rings] if as_outlines else [],
        image=None if as_outlines else _painted(outlines, colors, width, height),
        outlined=patch_px >= _SEEN_FROM_PX,
        x_ticks=[
            Tick(offset[0] + (lon - west) * shrink * px_per_degree, _degrees(lon, "E", "W"))
            for lon in ticks(west, east, max(2, int(inner_width // 95)))
        ],
        y_ticks=[
            Tick(offset[1] + (north - lat) * px_per_degree, _degrees(lat, "N", "S"))
            for lat in ticks(south, north, max(2, int(inner_height // 70)))
        ],
        bar=Tick(bar_km / span_km * width, f"{bar_km:g} km"),
        counts={name: int((places["group"] == name).sum()) for name in colors if (places["group"] == name).any()},
    )


def _svg_path(rings: list[np.ndarray]) -> str:
    return "".join("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in ring[:-1]) + "z" for ring in rings)


def _painted(outlines: Mapping[str, list[np.ndarray]], colors: Mapping[str, str], width: float, height: float) -> str:
    """Footprints as a transparent PNG, (y, x), drawn larger than shown."""
    canvas = Image.new("P", (math.ceil(width * _IMAGE_ZOOM), math.ceil(height * _IMAGE_ZOOM)), 0)
    palette = [255, 255, 255] + [part for name in outlines for part in rgb(colors[name])]
    canvas.putpalette(palette)
    brush = ImageDraw.Draw(canvas)
    for index, rings in enumerate(outlines.values(), start=1):
        for ring in rings:
            brush.polygon([(float(x) * _IMAGE_ZOOM, float(y) * _IMAGE_ZOOM) for x, y in ring], fill=index)
    return data_uri(canvas, transparency=0)


def _degrees(value: float, positive: str, negative: str) -> str:
    text = f"{abs(value):.3f}".rstrip("0").rstrip(".")
    return f"{text}°" if text == "0" else f"{text}° {positive if value > 0 else negative}"


def few(names: Sequence[str], most: int = 4) -> str:
    """Names in a row, the last of very many summed up."""
    return ", ".join(names) if len(names) <= most else f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"


# --- curves -----------------------------------------------------------------------------------------------


def epoch_chart(
    title: str,
    epochs: Sequence[int],
    lines: Mapping[str, tuple[str, Sequence[float | None]]],
    *,
    least: float | None = None,
    most: float | None = None,
    level: tuple[float, str] | None = None,
) -> Chart:
    """Lines over epochs.

    Args:
        title: what is drawn, with its unit.
        epochs: (n,) their numbers, rising.
        lines: name to its colour and its (n,) values; None and not-a-number leave a gap.
        least: lowest value the axis shows at most; most: highest value it shows at least.
        level: a value to compare with, and its name.
    """
    frame = Frame.around(378.0, 174.0, left=46.0, top=14.0, right=16.0, bottom=42.0)
    known = [value for _, values in lines.values() for value in values if _finite(value)]
    known += [value for value in (least, most) if value is not None]
    known += [level[0]] if level and _finite(level[0]) else []
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    steps = ticks(low, high, 4, outward=True)
    low, high = min(low, steps[0]), max(high, steps[-1])
    first, last = (epochs[0], epochs[-1]) if epochs else (1, 1)

    def x_of(epoch: float) -> float:
        return frame.plot_width / 2 if last == first else (epoch - first) / (last - first) * frame.plot_width

    def y_of(value: float) -> float:
        return frame.plot_height - (value - low) / (high - low) * frame.plot_height

    curves = []
    for name, (color, values) in lines.items():
        dots = [(x_of(epoch), y_of(value)) if _finite(value) else None for epoch, value in zip(epochs, values, strict=True)]
        runs: list[list[str]] = [[]]
        for dot in dots:
            if dot is None:
                runs.append([])
            else:
                runs[-1].append(f"{dot[0]:.1f},{dot[1]:.1f}")
        curves.append(Curve(name, color, [" ".join(run) for run in runs if len(run) > 1], [dot for dot in dots if dot is not None]))
    at = sorted({round(tick) for tick in ticks(first, last, 6) if first <= round(tick) <= last}) or [first]
    said = [
        f"{name} goes from {shown[0]:.3f} to {shown[-1]:.3f}"
        for name, (_, values) in lines.items()
        if (shown := [value for value in values if _finite(value)])
    ]
    return Chart(
        title=title,
        frame=frame,
        curves=curves,
        x_ticks=[Tick(x_of(epoch), str(epoch)) for epoch in at],
        y_ticks=[Tick(y_of(step), f"{step:g}") for step in steps],
        level=Tick(y_of(level[0]), level[1]) if level and _finite(level[0]) else None,
        summary=f"{title}: {'; '.join(said) or 'no values'} over {len(epochs)} epochs.",
    )


def _finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def ticks(low: float, high: float, about: int, *, outward: bool = False) -> list[float]:
    """Round numbers from ``low`` to ``high``, about as many as asked for; ``outward`` adds the next beyond each end."""
    if high <= low:
        return [low, low + 1] if outward else [low]
    step = _round_below((high - low) / about * 1.4)
    first = math.floor(low / step + 1e-9) if outward else math.ceil(low / step - 1e-9)
    last = math.ceil(high / step - 1e-9) if outward else math.floor(high / step + 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def _round_below(value: float) -> float:
    """The largest of 1, 2, 5, 10, 20, 50, … that is not above ``value``."""
    power = 10.0 ** math.floor(math.log10(value))
    return power * max(factor for factor in (1, 2, 5) if factor * power <= value * (1 + 1e-9))


# --- bars -------------------------------------------------------------------------------------------------


def stacked_bars(title: str, bars: Sequence[tuple[str, Mapping[str, int]]], colors: Mapping[str, str]) -> BarChart:
    """Counts over time, one bar each, stacked by group.

    Args:
        bars: what is written below each bar, and its counts by group.
        colors: group to #rrggbb, the lowest part first.
    """
    frame = Frame.around(834.0, 172.0, left=54.0, top=12.0, right=12.0, bottom=36.0)
    most = max([sum(counts.values()) for _, counts in bars] + [1])
    steps = ticks(0, most, 4, outward=True)
    slot = frame.plot_width / max(len(bars), 1)
    bar_width = min(slot * 0.8, 60.0)
    parts, said = [], []
    for index, (label, counts) in enumerate(bars):
        base = 0
        for group, color in colors.items():
            if count := counts.get(group, 0):
                y = frame.plot_height * (1 - (base + count) / steps[-1])
                part = (slot * (index + 0.5) - bar_width / 2, y, bar_width, frame.plot_height * count / steps[-1])
                parts.append(BarPart(*part, color, f"{label}, {group}: {count:,}"))
                base += count
        if base:
            said.append(f"{label} {base:,}")
    every = max(1, math.ceil(len(bars) * 58 / frame.plot_width))
    return BarChart(
        title=title,
        frame=frame,
        parts=parts,
        x_ticks=[Tick(slot * (index + 0.5), label) for index, (label, _) in enumerate(bars) if index % every == 0],
        y_ticks=[Tick(frame.plot_height * (1 - step / steps[-1]), f"{step:,g}") for step in steps],
        keys=[(group, color) for group, color in colors.items() if any(counts.get(group) for _, counts in bars)],
        summary=f"{title}: {'; '.join(said) or 'none'}.",
    )
