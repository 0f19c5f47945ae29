"""Rows of the patch table and of what was measured of patches."""

from datetime import datetime
from typing import Any

from pydantic import Field, create_model

from rsdata.records.base import Record, columns_of
from rsdata.sensors import SENTINEL2
from rsdata.sensors.sentinel2 import SCL_CLASSES


class BoundingBox(Record):
    """Covering box of a footprint, degrees."""

    xmin: float
    ymin: float
    xmax: float
    ymax: float


class PatchRow(Record):
    """One row of ``patches.parquet``; its footprint is the column ``geometry`` (WKB, EPSG:4326)."""

    patch_id: str
    tile_id: str
    s2_product: str
    s1_product: str | None
    col: int = Field(description="patch column in the tile, eastward from 0")
    row: int = Field(description="patch row in the tile, southward from 0")
    epsg: int = Field(description="UTM zone of the tile")
    ul_x_m: int = Field(description="upper-left corner, metres")
    ul_y_m: int = Field(description="upper-left corner, metres")
    datetime: datetime
    season: str
    country: str | None
    labels: list[str] = Field(description="multi-label class names, sorted")
    label_fractions: dict[str, float] = Field(description="class name to share of the patch's area")
    unlabeled_fraction: float = Field(description="share of the area whose code has no class name")
    nodata_fraction: float = Field(description="largest share of no-data pixels over the spectral bands")
    cloud_fraction: float
    shadow_fraction: float
    snow_fraction: float
    contains_cloud_or_shadow: bool
    contains_seasonal_snow: bool
    s1_time_gap_h: float | None = Field(description="Sentinel-1 minus Sentinel-2 acquisition time, hours")
    split: str | None
    kept: bool
    drop_reason: str | None
    bbox: BoundingBox


# What the stages of one scene add to a patch row, in turn; they lie in ``parts/`` until the table is put together.
PatchPlace = columns_of(
    PatchRow, "PatchPlace", ("patch_id", "tile_id", "s2_product", "col", "row", "epsg", "ul_x_m", "ul_y_m", "datetime", "season")
)
PatchLabeling = columns_of(PatchRow, "PatchLabeling", ("patch_id", "country", "labels", "label_fractions", "unlabeled_fraction"))
PatchQuality = columns_of(
    PatchRow,
    "PatchQuality",
    (
        "patch_id", "s1_product", "s1_time_gap_h", "nodata_fraction", "cloud_fraction", "shadow_fraction", "snow_fraction",
        "contains_cloud_or_shadow", "contains_seasonal_snow", "kept", "drop_reason",
    ),
)  # fmt: skip


def _per_band(measure: str, kind: Any, text: str) -> dict[str, Any]:
    return {f"{measure}_{band}": (kind, Field(description=f"{text}, {band}")) for band in SENTINEL2.band_names}


_MEASURES: dict[str, Any] = {
    "patch_id": (str, ...),
    "failed_checks": (list[str], Field(description="inspections of the Sentinel-2 product that did not read PASSED")),
    **_per_band("nodata", float, "share of pixels that hold the no-data value"),
    "nodata_flagged_fraction": (
        float | None, Field(description="largest share over the bands that the masks flag as without data; none without masks")
    ),
    **_per_band("defective", float | None, "share of pixels flagged as lost, degraded or defective; none without masks"),
    "defective_fraction": (float | None, Field(description="largest share over the bands; none without masks")),
    **_per_band("saturated", float, "share of pixels that hold the value for saturation or are flagged so"),
    "saturated_fraction": (float, Field(description="largest share over the bands, or that of SCL class 1 if it is larger")),
    **{
        f"scl_{name.lower()}": (float, Field(description=f"share of class {index} of the scene classification"))
        for index, name in SCL_CLASSES.items()
    },
    "cloud_probability": (float, Field(description="mean over the patch, percent")),
    "snow_probability": (float, Field(description="mean over the patch, percent")),
    "s1_nodata_fraction": (float | None, Field(description="share of missing Sentinel-1 pixels in the best scene; none without one")),
    "s1_south_px": (float | None, Field(description="how far its Sentinel-1 scene lies too far south, 10 m pixels; one value per scene")),
    "s1_east_px": (float | None, Field(description="how far its Sentinel-1 scene lies too far east, 10 m pixels; one value per scene")),
    "s1_spread_px": (float | None, Field(description="spread of that shift over blocks; above 1 px it says little")),
    "pixels_sha256": (str | None, Field(description="digest over all bands; none where each band holds one value")),
    "duplicate_of": (str | None, Field(description="the patch it repeats; looked for among patches that nothing else drops")),
    "duplicate_kind": (str | None, Field(description="pixels: they are equal; ground: it is the same, in the same data take")),
}  # fmt: skip
PatchMeasures = create_model(
    "PatchMeasures",
    __base__=Record,
    __doc__="One row of ``quality.parquet``: what was measured of a patch, dropped ones too. Fractions are shares of its pixels.",
    **_MEASURES,
)
# The columns of the metadata published with BigEarthNet v2.
PUBLISHED_COLUMNS = (
    "patch_id", "labels", "split", "country", "s1_name", "s2v1_name", "contains_seasonal_snow", "contains_cloud_or_shadow",
)  # fmt: skip
