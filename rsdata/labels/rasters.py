"""Label rasters in any CRS and resolution: read by window, brought to the 10 m grid by pixel centre.

A pixel takes the value of the source pixel its centre lies in; nothing is averaged. Exact shares come from
exactextract, which weighs each source pixel by how much of it lies in the box.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyproj
import rasterio
import shapely
from affine import Affine
from pyproj.exceptions import ProjError
from rasterio.windows import Window

from rsdata.errors import LabelError
from rsdata.foreign import RASTER_ERRORS
from rsdata.labels.layer import Area, CodeShares
from rsdata.sensors.reference_map import NO_POLYGON

_MARGIN_PX = 2  # read around the area
_MOST_PX = 2**32  # over a scene; a tile has 1.2e8 of 10 m
_LATTICE_PX = 32  # spacing of pixel centres that are projected exactly
_SIDE_M = 100  # longest straight piece of a box's outline in another CRS
_UNKNOWN = 65_535


@dataclass(frozen=True)
class RasterLayer:
    """Codes over an area in the raster's own CRS and grid; the array covers the area and a margin."""

    codes: np.ndarray  # (y, x) uint16, 999 where there is none
    transform: Affine  # pixel (col, row) to units of ``crs``
    crs: pyproj.CRS
    area: Area
    counts: Mapping[str, int] = field(default_factory=dict)

    def rasterize(self, transform: Affine, shape_yx: tuple[int, int]) -> np.ndarray:
        """Take the code under each pixel's centre, (y, x) uint16.

        Centres are projected exactly on a lattice of 32 pixels and linearly in between, which strays from the exact
        place by a few millimetres on a 10 m grid.
        """
        to_raster = pyproj.Transformer.from_crs(self.area.epsg, self.crs, always_xy=True)
        rows, cols = (np.arange(0, side + _LATTICE_PX, _LATTICE_PX) for side in shape_yx)
        x, y = transform @ np.meshgrid(cols + 0.5, rows + 0.5)
        place_xy = np.stack(~self.transform @ to_raster.transform(x, y))  # (2, rows, cols), pixels of the source
        ahead = np.arange(_LATTICE_PX) / _LATTICE_PX
        out = np.full(shape_yx, NO_POLYGON, np.uint16)
        for strip, top in enumerate(rows[:-1]):
            along = place_xy[:, strip, None] + ahead[:, None] * (place_xy[:, strip + 1] - place_xy[:, strip])[:, None]
            across = along[..., :-1, None] + ahead * np.diff(along, axis=-1)[..., None]
            col, row = np.floor(across.reshape(2, _LATTICE_PX, -1)).astype(np.int64)
            target = out[top : top + _LATTICE_PX]
            col, row = (each[: target.shape[0], : target.shape[1]] for each in (col, row))
            inside = (col >= 0) & (row >= 0) & (col < self.codes.shape[1]) & (row < self.codes.shape[0])
            target[inside] = self.codes[row[inside], col[inside]]
        return out

    def shares(self, boxes: np.ndarray) -> CodeShares:
        """Weigh source pixels by their area inside each box (n, 4).

        exactextract keeps coverage in single precision, so a share is good to about 1e-7; rows still sum to 1.
        """
        from exactextract import exact_extract
        from exactextract.feature import JSONFeatureSource
        from exactextract.raster import NumPyRasterSource

        outlines = shapely.segmentize(shapely.box(*boxes.T), _SIDE_M)
        to_raster = pyproj.Transformer.from_crs(self.area.epsg, self.crs, always_xy=True)
        corners = np.stack(to_raster.transform(*shapely.get_coordinates(outlines).T), axis=1)
        outlines = shapely.set_coordinates(outlines, corners)
        height, width = self.codes.shape
        left, top = self.transform @ (0, 0)
        right, bottom = self.transform @ (width, height)
        raster = NumPyRasterSource(self.codes, xmin=left, ymin=bottom, xmax=right, ymax=top, srs_wkt=self.crs.to_wkt())
        weight = "coverage_weight=area_spherical_m2" if self.crs.is_geographic else "coverage_weight=fraction"
        features = [
            {"type": "Feature", "id": str(n), "properties": {}, "geometry": each.__geo_interface__} for n, each in enumerate(outlines)
        ]
        rows = exact_extract(raster, JSONFeatureSource(features, srs_wkt=self.crs.to_wkt()), [f"unique({weight})", f"frac({weight})"])
        found = [(np.asarray(row["properties"]["unique"]), np.asarray(row["properties"]["frac"], float)) for row in rows]
        known = np.unique(np.concatenate([[NO_POLYGON], *(codes for codes, _ in found)])).astype(np.uint16)
        shares = np.zeros((len(boxes), len(known)))
        for row, (codes, parts) in zip(shares, found, strict=True):
            row[np.searchsorted(known, codes)] = parts / parts.sum()
        return CodeShares(known, shares)


def read_raster(paths: Sequence[Path], area: Area, meaning: Mapping[int, int], expected: str) -> RasterLayer:
    """Read the pixels over an area from one raster, or from several that share one grid.

    Args:
        meaning: raster value to code; the value that a raster declares as no data means 999, whatever stands here.
        expected: the values a user would expect, for the message.

    Raises: LabelError if a file is no such raster, holds other values, or none covers a part of the area.
    """
    layer: RasterLayer | None = None
    touched = 0
    for path in paths:
        try:
            with rasterio.open(path) as raster:
                layer = _empty_layer(path, raster, area) if layer is None else layer
                touched += _paste(path, raster, layer, meaning, expected)
        except (*RASTER_ERRORS, ProjError) as error:
            raise LabelError(
                f"{path} cannot be read as a raster ({error}); expected a GeoTIFF or another GDAL raster, so name another file",
                path=str(path),
            ) from error
    if layer is None or not touched:
        raise LabelError(
            f"no pixel of {', '.join(path.name for path in paths[:3])} lies over the scene, which covers {area}; "
            "name a land cover raster of the same region",
            paths=[str(path) for path in paths],
        )
    return RasterLayer(layer.codes, layer.transform, layer.crs, area, {"rasters": touched})


def _empty_layer(path: Path, raster: rasterio.DatasetReader, area: Area) -> RasterLayer:
    """No code anywhere, over the area and a margin, on the grid of a raster."""
    if raster.crs is None:
        raise LabelError(f"{path.name} does not state its CRS; assign one with gdal_edit.py -a_srs", path=str(path))
    step = raster.transform
    if step.b or step.d or not step.a > 0 > step.e or step.is_degenerate:
        raise LabelError(f"{path.name} is not north up; bring it to a north-up grid with gdalwarp", path=str(path))
    crs = pyproj.CRS.from_user_input(raster.crs.to_wkt())
    left, bottom, right, top = area.bounds_in(crs)
    corners = np.array([~step @ (left, top), ~step @ (right, bottom)])
    if not np.isfinite(corners).all() or np.prod(np.diff(corners, axis=0)) > _MOST_PX:
        raise LabelError(
            f"{path.name} has pixels of {step.a:g} by {-step.e:g} from {step.c:g}, {step.f:g}, which no land cover has; assign their place "
            "with gdal_edit.py -a_ullr, or bring it to 10 m with gdalwarp",
            path=str(path),
        )
    first_col, first_row = np.floor(corners[0]).astype(int) - _MARGIN_PX
    last_col, last_row = np.ceil(corners[1]).astype(int) + _MARGIN_PX
    codes = np.full((last_row - first_row, last_col - first_col), NO_POLYGON, np.uint16)
    return RasterLayer(codes, step @ Affine.translation(int(first_col), int(first_row)), crs, area)


def _paste(path: Path, raster: rasterio.DatasetReader, layer: RasterLayer, meaning: Mapping[int, int], expected: str) -> bool:
    """Put a raster's codes into a layer; whether there were any."""
    col, row = ~raster.transform @ (layer.transform.c, layer.transform.f)  # of the layer's corner, in the raster
    place = (round(col), round(row))
    steps_differ = not np.allclose((raster.transform.a, raster.transform.e), (layer.transform.a, layer.transform.e), rtol=1e-9, atol=0)
    if raster.crs is None or pyproj.CRS.from_user_input(raster.crs.to_wkt()) != layer.crs or steps_differ:
        raise LabelError(f"{path.name} has another CRS or pixel size than the raster before it; name rasters of one grid", path=str(path))
    if max(abs(col - place[0]), abs(row - place[1])) > 1e-3:
        raise LabelError(f"{path.name} lies between the pixels of the raster before it; name rasters of one grid", path=str(path))
    height, width = layer.codes.shape
    left, top = max(0, place[0]), max(0, place[1])
    right, bottom = min(raster.width, place[0] + width), min(raster.height, place[1] + height)
    if left >= right or top >= bottom:
        return False
    values = raster.read(1, window=Window(left, top, right - left, bottom - top))
    codes = _codes_of(path, values, raster.nodata, meaning, expected)
    target = layer.codes[top - place[1] : bottom - place[1], left - place[0] : right - place[0]]
    np.copyto(target, codes, where=codes != NO_POLYGON)
    return True


def _codes_of(path: Path, values: np.ndarray, nodata: float | None, meaning: Mapping[int, int], expected: str) -> np.ndarray:
    """Values to codes, by a table over all that 16 bits can hold."""
    if values.dtype.kind not in "iu" or values.dtype.itemsize > 2:
        missing = (values == nodata) | (values != values)  # NaN is unlike itself
        with np.errstate(invalid="ignore"):
            whole = np.where(missing, -1, values).astype(np.int16)
        if not np.array_equal(whole[~missing], values[~missing]):
            raise LabelError(f"{path.name} holds values that are no class codes; expected {expected}, so name another", path=str(path))
        values, nodata = whole, -1
    # Each value's bits, read as an unsigned number, are its row in the table.
    unsigned = np.dtype(f"u{values.dtype.itemsize}")
    possible = np.arange(2 ** (8 * unsigned.itemsize), dtype=unsigned).view(values.dtype)
    table = np.full(len(possible), _UNKNOWN, np.uint16)
    for value, code in meaning.items():
        table[possible == value] = code
    if nodata is not None:
        table[possible == nodata] = NO_POLYGON
    codes = table[values.view(unsigned)]
    strange = codes == _UNKNOWN
    if strange.any():
        unknown = np.unique(values[strange])[:5].tolist()
        found = ", ".join(map(str, unknown))
        raise LabelError(f"{path.name} holds {found}; expected {expected}, so name another", path=str(path), values=unknown)
    return codes
