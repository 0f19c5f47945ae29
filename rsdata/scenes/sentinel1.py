"""Sentinel-1 scenes, read as decibel over a window of a Sentinel-2 tile's 10 m grid.

Those terrain corrected already come in several layouts, told apart here. On the tile's own grid they are never moved; others are
refused, or resampled if the recipe allows it. GRD products are calibrated and terrain corrected while they are read, for the
window asked and no more.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from rsdata.errors import SceneError
from rsdata.records import Sentinel1Scene, s1_scene_id, s1_start
from rsdata.scenes.dem import Datum, Dem, open_dem
from rsdata.scenes.grd import GrdProduct, is_grd_safe, open_grd
from rsdata.scenes.grd_radiometry import Quantity
from rsdata.scenes.product import ProductFiles
from rsdata.scenes.sentinel1_processed import Sentinel1Product, describe, to_db_in_place, to_product
from rsdata.scenes.sentinel1_rasters import PIXEL_M, Processed, Unit
from rsdata.scenes.sentinel1_rtc import is_hyp3, is_sentinel1_item, open_hyp3, open_rtc_item
from rsdata.scenes.sentinel1_snap import find_dim, open_dim, open_geotiff, open_pair
from rsdata.scenes.terrain import Corrected, Ground, TerrainCorrector, range_doppler
from rsdata.scenes.terrain_sarsen import sarsen_terrain
from rsdata.sensors import SENTINEL1

__all__ = [
    "CORRECTORS",
    "Sentinel1GrdProduct",
    "Sentinel1Processing",
    "Sentinel1Product",
    "describe_sentinel1",
    "is_sentinel1",
    "open_sentinel1",
]

CORRECTORS: dict[str, TerrainCorrector] = {"range-doppler": range_doppler, "sarsen": sarsen_terrain}


@dataclass(frozen=True)
class Sentinel1Processing:
    """How Sentinel-1 becomes decibel on the ground, where a product is not that already."""

    unit: Unit | None = None  # of products that are terrain corrected already; what they state if absent
    resample: bool = False  # whether those may be brought from another grid onto the tile's
    dem: tuple[str, ...] = ()  # files or folders; GRD needs one
    dem_datum: Datum | None = None  # where the files do not say it
    dem_sea: tuple[tuple[int, int], ...] = ()  # corners of the squares of one degree where no height means the sea
    geoid: str | None = None
    quantity: Quantity = "sigma0"
    remove_noise: bool = True
    flatten: bool = False
    corrector: str = "range-doppler"
    threads: int = 1


@dataclass(frozen=True)
class Sentinel1GrdProduct:
    """A GRD product with both polarisations, opened: metadata are read, pixels and heights are not."""

    grd: GrdProduct
    scene: Sentinel1Scene
    processing: Sentinel1Processing

    @property
    def files(self) -> ProductFiles:
        return self.grd.files

    @cached_property
    def dem(self) -> Dem:
        """Raises: SceneError if no elevation model was named, or its datum is not stated."""
        if not self.processing.dem:
            raise SceneError(
                f"{self.files.path} is a GRD in radar geometry; name an elevation model to correct it with (`dem` in the recipe)",
                path=str(self.files.path),
            )
        return open_dem(self.processing.dem, datum=self.processing.dem_datum, geoid=self.processing.geoid, sea=self.processing.dem_sea)

    def correct(self, band: str, ground: Ground) -> Corrected:
        """Power over a window, and why pixels are missing."""
        corrector = CORRECTORS.get(self.processing.corrector)
        if corrector is None:
            raise SceneError(f"no terrain corrector is called {self.processing.corrector!r}; known are {', '.join(CORRECTORS)}")
        return corrector(
            self.grd,
            band,
            self.dem,
            ground,
            quantity=self.processing.quantity,
            remove_noise=self.processing.remove_noise,
            flatten=self.processing.flatten,
            threads=self.processing.threads,
        )

    def read(self, band: str, *, epsg: int, ul_x_m: int, ul_y_m: int, width_m: int, height_m: int) -> np.ndarray:
        """Correct a window of the tile, (y, x) float32 dB; NaN outside the image, without height, in layover and in shadow.

        Raises: SceneError if the product or the elevation model cannot be read, or the datum of its heights is not stated.
        """
        return to_db_in_place(self.correct(band, Ground(epsg, ul_x_m, ul_y_m, height_m // PIXEL_M, width_m // PIXEL_M)).power)


def open_sentinel1(path: Path, processing: Sentinel1Processing | None = None) -> Sentinel1Product | Sentinel1GrdProduct:
    """Open a Sentinel-1 scene of both polarisations.

    Args:
        path: a GRD product in SAFE layout, folder or zip; or one that is terrain corrected already: BEAM-DIMAP (the ``.dim``, or a
            folder with it), a GeoTIFF with both polarisations, a HyP3 RTC folder or zip, a STAC item, or a folder named like the
            GRD that holds one GeoTIFF for VV and one for VH.
        processing: how it becomes decibel on the ground.

    Raises: SceneError if a polarisation is missing, the unit is not known or contradicted, or terrain-corrected rasters do not
        lie on a 10 m grid of Sentinel-2 and may not be resampled.
    """
    processing = processing or Sentinel1Processing()
    found = _open_processed(path, processing.quantity)
    if found is None:
        return _open_radar_geometry(path, processing)
    return to_product(found, processing.unit, processing.resample)


def describe_sentinel1(path: Path) -> tuple[Sentinel1Scene, str | None]:
    """A scene as it is, and what keeps it out of a dataset as long as the recipe says nothing about it.

    Raises: SceneError if the product cannot be read.
    """
    found = _open_processed(path, "sigma0")
    return describe(found) if found is not None else (_open_radar_geometry(path, Sentinel1Processing()).scene, None)


def is_sentinel1(path: Path) -> bool:
    """Whether a path looks like Sentinel-1 rather than Sentinel-2.

    Raises: SceneError if it is JSON, but no STAC item.
    """
    if path.suffix.lower() == ".json":
        return is_sentinel1_item(path)
    return path.name.startswith("S1") or find_dim(path) is not None


def _open_processed(path: Path, wanted: Quantity) -> Processed | None:
    """A product that is terrain corrected already; None for a GRD in radar geometry."""
    quantity: Literal["sigma0", "gamma0"] = "gamma0" if wanted == "gamma0" else "sigma0"
    if path.name.startswith("OPERA_L2_RTC-S1"):
        raise SceneError(f"{path} is one burst of OPERA RTC-S1, which is not read; take HyP3 or Planetary Computer RTC", path=str(path))
    if path.suffix.lower() == ".data" and path.with_suffix(".dim").is_file():
        raise SceneError(f"{path} holds the pixels of {path.stem}.dim; name the .dim instead", path=str(path))
    if path.suffix.lower() == ".json":
        return open_rtc_item(path)
    if (header := find_dim(path)) is not None:
        return open_dim(header, quantity)
    if is_hyp3(path):
        return open_hyp3(path)
    if path.suffix.lower() in (".tif", ".tiff"):
        return open_geotiff(path, quantity)
    return None if is_grd_safe(path) else open_pair(path, quantity)


def _open_radar_geometry(path: Path, processing: Sentinel1Processing) -> Sentinel1GrdProduct:
    grd = open_grd(path)
    for band in SENTINEL1.band_names:
        if grd.channel(band).measurement is None:
            raise SceneError(f"{path} has no pixels for {band}; fetch the product again", path=str(path))
    scene_id = s1_scene_id(grd.name)
    scene = Sentinel1Scene(
        product=grd.name,
        scene_id=scene_id,
        mission=grd.mission,
        datetime=s1_start(scene_id),
        epsg=0,
        ul_x_m=0,
        ul_y_m=0,
        width_m=0,
        height_m=0,
        orbit_direction=grd.orbit_direction,
        bands={band: str(grd.channel(band).measurement) for band in SENTINEL1.band_names},
        footprint=[(float(lon), float(lat)) for lon, lat in grd.footprint_lonlat()],
        layout="GRD in SAFE layout",
    )
    return Sentinel1GrdProduct(grd, scene, processing)
