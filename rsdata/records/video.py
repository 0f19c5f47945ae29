"""What a cube that is coded as video says of itself, and a shard of its cubes."""

from typing import Annotated, Any, Literal

from pydantic import Field

from rsdata.records.base import Record


class VideoStream(Record):
    """One or three planes of a cube that are coded together; see docs/video.md."""

    first: int = Field(ge=0, description="first plane, counted within its group")
    planes: Literal[1, 3]
    half: Literal["all", "high", "low"] = Field(default="all", description="which 16 bits of the samples' 32 the codes are")
    order: list[Annotated[int, Field(ge=0, le=2)]] = Field(
        default=[], description="coded plane of each plane from first on; as they are if empty"
    )
    scales: list[Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        default=[1.0], description="value of a plane is offset + scale * code; one per plane, or one for all"
    )
    offsets: list[Annotated[float, Field(allow_inf_nan=False)]] = Field(default=[0.0], description="one per plane, or one for all")
    lead: list[Annotated[float, Field(allow_inf_nan=False)]] = Field(
        default=[], description="where a segment's first mixture is a still: its offset per plane; its scale is the group's step"
    )
    qp: int | None = Field(default=None, ge=0, le=51, description="constant quantiser of a HEVC stream's first coded plane")
    extradata_bytes: int = Field(default=0, ge=0, le=65_536, description="parameter sets of a HEVC stream, in the tables")


class VideoGroup(Record):
    """Bands of a cube that share a transform and a codec."""

    bands: list[Annotated[int, Field(ge=0)]] = Field(min_length=1, description="positions among the cube's bands")
    codec: Literal["hevc", "jxl"]
    pixel_format: Literal["yuv444p12", "gray12", "gray8", "gray16"] = Field(
        description="of its codes; gray12 beside yuv444p12 where planes are left over"
    )
    values: Literal["exact", "bits", "grid", "components"] = Field(description="what a plane is: a band, or a component of all bands")
    transform: Literal["none", "klt"] = "none"
    components: int = Field(default=0, ge=0, description="planes that a matrix in the tables turns into bands; 0 without one")
    mixed: bool = Field(default=False, description="whether coded frames are mixtures of a segment's dates, by weights in the tables")
    step: float | None = Field(default=None, gt=0, allow_inf_nan=False, description="quantiser step in the cube's unit")
    low: list[Annotated[float, Field(allow_inf_nan=False)]] = Field(
        default=[], description="smallest value per band; decoded values are clipped"
    )
    high: list[Annotated[float, Field(allow_inf_nan=False)]] = Field(default=[])
    streams: list[VideoStream] = Field(min_length=1)


class VideoMeasured(Record):
    """What decoding the finished blob gave, over all samples that are measurements and valid."""

    max_abs_error: float
    rmse: float
    psnr_db: float | None = Field(description="over the cube's own range, largest less smallest value; null if nothing was lost")


class CubeGroup(Record):
    """One group of bands of a shard of time series, over all its cubes; errors as decoding showed them."""

    name: str = Field(description="such as s2_10m; the key of a cube is its place, a slash and this")
    sensor: str
    bands: list[str]
    settings: dict[str, Any] = Field(description="asked of the encoder; those left out have their usual values")
    cubes: int
    frames: int
    raw_bytes: int
    coded_bytes: int = Field(description="all of the blobs, masks included")
    samples: int = Field(description="that are measurements and valid; the figures below speak of these alone")
    low: float | None = Field(description="smallest decoded value")
    high: float | None
    max_abs_error: float
    rmse: float
    psnr_db: float | None = Field(description="over high less low; null if nothing was lost")


class VideoHeader(Record):
    """Header of one video-coded cube (time, band, y, x); the blob's layout is in docs/video.md."""

    shape: tuple[int, int, int, int] = Field(description="time, band, y, x")
    dtype: Literal["uint8", "uint16", "int16", "float32"]
    bands: list[str]
    mode: Literal["lossless", "maxerr", "lossy"]
    keyint: int = Field(ge=1, description="frames per segment; each segment can be decoded alone")
    nodata: float | None = Field(default=None, allow_inf_nan=False)
    max_error: float | None = Field(default=None, gt=0, allow_inf_nan=False, description="bound promised for every sample")
    mask_kinds: list[Annotated[int, Field(ge=1, le=4)]] = Field(default=[], description="1 no-data, 2 NaN, 3 +inf, 4 -inf")
    mask_bands: int = Field(default=1, ge=1, description="1 if one mask serves all bands")
    validity: bool = Field(default=False, description="whether each segment has a unit that says which pixels are valid")
    groups: list[VideoGroup] = Field(min_length=1)
    measured: VideoMeasured | None = None
