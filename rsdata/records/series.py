"""Rows about time series: places, and the frames that were seen of each."""

import datetime as dt
from typing import Literal

from pydantic import Field

from rsdata.records.base import Record


class CubeRow(Record):
    """One row of the index of a shard of time series: a place of 1200 m and what training needs to know of it."""

    place_id: str = Field(description="tile, column and row of the patch grid, such as 33UUP_26_57")
    tile_id: str
    col: int
    row: int
    epsg: int
    ul_x_m: float
    ul_y_m: float
    country: str | None
    split: str | None
    labels: list[str]
    s2_frames: int
    s1_frames: int
    reference_map_key: str | None


class CubeFrame(Record):
    """One row of ``frames.parquet``: one date of one sensor at one place."""

    place_id: str
    sensor: Literal["s2", "s1"]
    frame: int = Field(ge=0, description="position along the time axis of the cube")
    time: dt.datetime = Field(description="of acquisition, UTC; of a composite, the mean of its sources")
    products: list[str] = Field(min_length=1, description="it was made from: one, or several for a composite")
    nodata_fraction: float = Field(description="share of pixels that are not valid, the largest over the resolutions")
    cloud_fraction: float | None = Field(description="share of cloud and cloud shadow, valid or not; none for Sentinel-1")
    snow_fraction: float | None = Field(description="none for Sentinel-1")
