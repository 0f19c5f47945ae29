"""What is known of scenes, of how they pair, and of their correction."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from rsdata.records.base import Instant, Record


class Sentinel2Scene(Record):
    """What a Sentinel-2 product says of itself."""

    product: str = Field(description="product name without .SAFE")
    scene_id: str
    mission: str
    level: Literal["L1C", "L2A"]
    baseline: str
    tile_id: str
    datetime: datetime
    relative_orbit: int
    orbit_direction: str | None
    quantification: float = Field(description="counts per unit of reflectance")
    offsets: dict[str, float] = Field(description="band to counts added before scaling; 0 where the product states none")
    nodata: int
    saturated: int
    quality_checks: dict[str, str] = Field(description="inspection to PASSED or FAILED")
    epsg: int
    ul_x_m: int
    ul_y_m: int
    width_m: int
    height_m: int
    bands: dict[str, str] = Field(description="band or layer to its file inside the product; a STAC item's hrefs")
    masks: dict[str, str] = Field({}, description="mask such as DETFOO_B02, CLASSI or CLOUDS to its file")
    tile_xml: str | None = Field(None, description="the tile's own metadata, where angle grids lie")
    product_type: str | None = None
    generation_time: Instant | None = None
    datatake_id: str | None = None
    datastrip_id: str | None = None
    granule_id: str | None = None
    absolute_orbit: int | None = None
    offset_applied: bool = Field(False, description="whether the pixels carry the offset already; then offsets are 0")
    aot_quantification: float | None = Field(None, description="counts per unit of aerosol optical thickness")
    wvp_quantification: float | None = Field(None, description="counts per cm of water vapour")
    sun_zenith_deg: float | None = Field(None, description="mean over the tile")
    sun_azimuth_deg: float | None = Field(None, description="mean over the tile, clockwise from north")
    view_zenith_deg: dict[str, float] = Field({}, description="band to mean view zenith over the tile")
    view_azimuth_deg: dict[str, float] = Field({}, description="band to mean view azimuth over the tile, clockwise from north")
    cloud_percent: float | None = Field(None, description="of the tile, as the product states it")
    nodata_percent: float | None = None
    degraded_percent: float | None = Field(None, description="pixels of degraded instrument data")
    notes: list[str] = Field([], description="what is unusual about the product, though it opens")

    @property
    def failed_checks(self) -> list[str]:
        return sorted(name for name, flag in self.quality_checks.items() if flag != "PASSED")


class Sentinel1Scene(Record):
    """A pair of Sentinel-1 polarisations: rasters that are terrain corrected already, or a GRD that is corrected while it is read."""

    product: str = Field(description="name of the GRD product, as far as it is known; without .SAFE")
    scene_id: str
    mission: str
    datetime: datetime
    epsg: int
    ul_x_m: float
    ul_y_m: float
    width_m: float
    height_m: float
    orbit_direction: str | None = Field(None, description="ASCENDING or DESCENDING, where the product states it")
    bands: dict[str, str] = Field(description="polarisation to its file inside the product; a STAC item's addresses without their keys")
    footprint: list[tuple[float, float]] | None = Field(
        None, description="outline in longitude and latitude; a GRD in radar geometry has no other place: its epsg and extent are 0"
    )
    layout: str | None = Field(None, description="what kind of product it is, such as BEAM-DIMAP")
    unit: Literal["db", "linear", "amplitude"] | None = Field(None, description="of the pixels as they lie in the files")
    quantity: Literal["sigma0", "gamma0"] | None = Field(None, description="of the pixels, where the product states it")
    grid: str | None = Field(None, description="where the pixels of a raster lie: CRS, pixel size, corner")
    on_utm_grid: bool = Field(True, description="whether that is a 10 m grid of Sentinel-2, so that the raster can be read as it is")
    notes: list[str] = Field([], description="what was done to the pixels on their way, or is unusual about the product")

    @property
    def in_radar_geometry(self) -> bool:
        return self.epsg == 0 and self.grid is None


class Sentinel1Match(Record):
    """A Sentinel-1 scene over the same ground as a Sentinel-2 scene."""

    path: str
    scene: Sentinel1Scene
    time_gap_h: float = Field(description="Sentinel-1 minus Sentinel-2 acquisition time, hours")


class ScenePair(Record):
    """One unit of work: a Sentinel-2 scene, and the Sentinel-1 scenes that may go with it, the first choice first."""

    s2_path: str
    s2: Sentinel2Scene
    s1: list[Sentinel1Match]
    signature: str = Field(description="quick mark of the files of both products: names, sizes, times")
    inputs_sha256: str | None = Field(None, description="digest over the contents of both products, once they were read")

    @property
    def unit(self) -> str:
        return self.s2.scene_id


class Coregistration(Record):
    """How far a scene's backscatter lies off its optical bands, by correlating edges; a check, never a correction."""

    s2_product: str
    s1_product: str
    south_px: float = Field(description="shift of Sentinel-1 southward, 10 m pixels, median over blocks")
    east_px: float = Field(description="shift of Sentinel-1 eastward, 10 m pixels, median over blocks")
    spread_px: float = Field(description="median absolute deviation over blocks; above 1 px the shift says little")
    blocks: int


class Coregistrations(Record):
    """The check of every Sentinel-1 scene that was read for one Sentinel-2 scene."""

    scenes: list[Coregistration]


class Correction(Record):
    """How a Level-2A product came out of a Level-1C product; lies in ``parts/correct/``."""

    source: str = Field(description="Level-1C product name")
    source_sha256: str = Field(description="digest over the contents of the Level-1C product")
    product: str = Field(description="Level-2A product name")
    folder: str = Field(description="where the Level-2A product lies below the workspace")
    sen2cor_version: str
    resolution: int = Field(description="metres")
    command: list[str]
    mended: list[str] = Field(description="what the download lacked and was added to the copy that was corrected")
    attempts: int


class Quarantine(Record):
    """Why a product was not corrected; ``reason.json`` beside the log and what was left of the output."""

    source: str = Field(description="Level-1C product name")
    path: str = Field(description="where it lies")
    error: str
    message: str
    sen2cor_version: str | None
    command: list[str]
    attempts: int
