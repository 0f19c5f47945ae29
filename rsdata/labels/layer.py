"""What every label source gives: the codes of one area, as a raster on any grid and as exact shares of boxes.

A source reads only what lies over the area asked for; what it has read is a layer, which touches no file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pyproj
from affine import Affine

from rsdata.labels.nomenclature import Nomenclature
from rsdata.recipe import Labels


@dataclass(frozen=True)
class Area:
    """The ground a scene covers: a rectangle in its own CRS."""

    epsg: int
    left_m: float
    bottom_m: float
    right_m: float
    top_m: float

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        return self.left_m, self.bottom_m, self.right_m, self.top_m

    def bounds_in(self, crs: pyproj.CRS | str | int) -> tuple[float, float, float, float]:
        """A box around the area in another CRS: left, bottom, right, top, whatever order the CRS gives its axes."""
        to_crs = pyproj.Transformer.from_crs(self.epsg, crs, always_xy=True)
        left, bottom, right, top = to_crs.transform_bounds(*self.bounds, densify_pts=21)
        return left, bottom, right, top

    def __str__(self) -> str:
        west, south, east, north = self.bounds_in(4326)
        return f"{west:.2f} to {east:.2f} degrees east and {south:.2f} to {north:.2f} degrees north"


@dataclass(frozen=True)
class CodeShares:
    """How much of each of n boxes each code covers."""

    codes: np.ndarray  # (k,) uint16, ascending; 999 for ground without a label is always among them
    shares: np.ndarray  # (n, k) float64, share of the box's area; each row sums to 1


class LabelLayer(Protocol):
    """The codes of one area."""

    @property
    def counts(self) -> Mapping[str, int]:
        """What was read and what had to be done to it, for the receipt; zeros may be left out."""
        ...

    def rasterize(self, transform: Affine, shape_yx: tuple[int, int]) -> np.ndarray:
        """Codes by pixel centre, (y, x) uint16, on any north-up grid in the area's CRS; 999 where there is no label."""
        ...

    def shares(self, boxes: np.ndarray) -> CodeShares:
        """Exact shares of boxes (n, 4): left, bottom, right, top in metres of the area's CRS."""
        ...


class LabelSource(Protocol):
    """Reads the codes over an area."""

    @property
    def codes(self) -> str | None:
        """Nomenclature of the codes it gives; None where the recipe has to say it."""
        ...

    def files(self, path: Path, area: Area) -> list[Path]:
        """The files that ``read`` would open; a change in any of them makes the labels stale."""
        ...

    def read(self, path: Path, area: Area, nomenclature: Nomenclature, said: Labels) -> LabelLayer:
        """Read what lies over an area.

        Args:
            nomenclature: which codes may occur.
            said: the recipe's own words, for what only some sources need.

        Raises: LabelError if the files, their codes or their place do not serve.
        """
        ...


def files_of(path: Path) -> list[Path]:
    """Every file that belongs to a data set named by one path: those in a folder, those beside a shapefile."""
    if path.is_dir():
        return sorted(each for each in path.rglob("*") if each.is_file())
    if path.suffix.lower() == ".shp":
        return sorted(each for each in path.parent.glob(f"{path.stem}.*") if each.is_file())
    return [path]
