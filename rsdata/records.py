"""Everything rsdata leaves on disk, as pydantic models; ids are built and parsed here and nowhere else.

A record forbids unknown fields, so a file of another version is refused instead of half understood.
``schemas/`` holds one JSON Schema per record and ``arrow_schema`` turns a row model into the columns of its
Parquet table, so a field is named, typed and explained once.
"""

import json
import re
import types
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, create_model

from rsdata.errors import CatalogError
from rsdata.sensors import SENTINEL2
from rsdata.sensors.sentinel2 import SCL_CLASSES

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
Season = Literal["winter", "spring", "summer", "autumn"]
SEASONS: tuple[Season, ...] = get_args(Season)
# Meteorological seasons, northern hemisphere: 31 May is spring, 1 June is summer.
SEASON_OF_MONTH: tuple[Season, ...] = (
    "winter", "winter", "spring", "spring", "spring", "summer",
    "summer", "summer", "autumn", "autumn", "autumn", "winter",
)  # fmt: skip

# Why a patch was dropped; the first that applies, in this order.
DropReason = Literal[
    "product_quality", "nodata", "defective", "saturated", "unlabeled", "cloud_or_shadow", "snow", "no_s1", "s1_nodata",
    "coregistration", "duplicate", "split_buffer", "not_in_split",
]  # fmt: skip
DROP_REASONS: tuple[DropReason, ...] = get_args(DropReason)

Stage = Literal[
    "inputs", "correct", "scenes", "patches", "labels", "quality", "splits", "captions", "shards", "catalog", "training", "report"
]  # fmt: skip
STAGES: tuple[Stage, ...] = get_args(Stage)


# --- ids --------------------------------------------------------------------------------------------------

_S2_PRODUCT = re.compile(
    r"(?P<scene>(?P<mission>S2[A-D])_MSI(?P<level>L1C|L2A)_(?P<start>\d{8}T\d{6})_(?P<baseline>N\d{4})_(?P<orbit>R\d{3})"
    r"_T(?P<tile>\d{2}[C-X][A-Z]{2}))_(?P<discriminator>\d{8}T\d{6})(?:\.SAFE)?",
    re.ASCII,
)
_S1_PRODUCT = re.compile(
    r"(?P<scene>(?P<mission>S1[A-D])_(?P<mode>IW|EW|SM)_GRD[FHM]_1S(?P<polarisation>DV|DH|SV|SH)_(?P<start>\d{8}T\d{6}))"
    r"(?:_\d{8}T\d{6}_\d{6}_[0-9A-F]{6}(?:_[0-9A-F]{4})?)?(?:\.SAFE)?",
    re.ASCII,
)
_PATCH_ID = re.compile(
    r"(?P<scene>S2[A-D]_MSIL(?:1C|2A)_\d{8}T\d{6}_N\d{4}_R\d{3}_T(?P<tile>\d{2}[C-X][A-Z]{2}))_(?P<col>\d{2})_(?P<row>\d{2})", re.ASCII
)


@dataclass(frozen=True)
class PatchId:
    """A patch's name taken apart: the scene it was cut from and where it lies in its tile."""

    scene: str  # S2 product name without its processing-time suffix
    col: int  # 0 to 90, eastward
    row: int  # 0 to 90, southward

    @classmethod
    def parse(cls, text: str) -> "PatchId":
        """Raises: CatalogError if the text is no patch id."""
        match = _PATCH_ID.fullmatch(text)
        if match is None:
            raise CatalogError(
                f"{text!r} is not a patch id; expected a name such as S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57",
                patch_id=text,
            )
        return cls(match["scene"], int(match["col"]), int(match["row"]))

    def __str__(self) -> str:
        return f"{self.scene}_{self.col:02d}_{self.row:02d}"

    @property
    def tile(self) -> str:
        return self.scene[-5:]


def s2_scene_id(product: str) -> str:
    """Name of a Sentinel-2 product without its processing time: the first part of its patch ids.

    Raises: CatalogError if the name is not compact naming (products since December 2016).
    """
    match = _S2_PRODUCT.fullmatch(product)
    if match is None:
        raise CatalogError(
            f"{product!r} is not a Sentinel-2 product name; expected compact naming such as "
            "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_20200827T101031",
            product=product,
        )
    return match["scene"]


def s1_scene_id(product: str) -> str:
    """Name of a Sentinel-1 product up to its start time: the first part of its patch ids.

    Raises: CatalogError if the name is not that of a Sentinel-1 GRD product.
    """
    match = _S1_PRODUCT.fullmatch(product)
    if match is None:
        raise CatalogError(
            f"{product!r} is not a Sentinel-1 GRD product name; expected a name such as "
            "S1A_IW_GRDH_1SDV_20170613T165043_20170613T165108_017014_01C595_B2A5",
            product=product,
        )
    return match["scene"]


def is_s1_product(name: str) -> bool:
    """Whether a file or folder is named like a Sentinel-1 GRD product."""
    return _S1_PRODUCT.fullmatch(name) is not None


def s1_patch_id(s1_scene: str, patch: PatchId) -> str:
    """The Sentinel-1 twin of a patch, such as ``S1A_IW_GRDH_1SDV_20170613T165043_33UUP_26_57``.

    Unlike a patch id it does not pad column and row, as all 13,956 published names of three tiles show.
    """
    return f"{s1_scene}_{patch.tile}_{patch.col}_{patch.row}"


def reference_map_id(patch_id: str) -> str:
    """Key of a patch's reference map."""
    return f"{patch_id}_reference_map"


def parse_start(stamp: str) -> datetime:
    """Read a product name's ``20170613T101031`` as UTC."""
    return datetime.strptime(f"{stamp}+0000", "%Y%m%dT%H%M%S%z")


def s1_start(scene: str) -> datetime:
    """Start of a Sentinel-1 acquisition, UTC, from its scene id."""
    return parse_start(scene.rsplit("_", 1)[-1])


# --- records ----------------------------------------------------------------------------------------------


class Record(BaseModel):
    """A record on disk: unknown fields are refused, values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Instant = datetime  # for records with a field called datetime


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


def columns_of(model: type[Record], name: str, fields: tuple[str, ...]) -> type[Record]:
    """A record with some of another's fields: what one stage adds to a row."""
    picked: dict[str, Any] = {field: (model.model_fields[field].annotation, model.model_fields[field]) for field in fields}
    return create_model(name, __base__=Record, **picked)


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


class ClassShare(Record):
    """How much of a patch one class covers."""

    name: str
    share: float


class PatchFacts(Record):
    """What is known about a patch without a model; captions are checked against it."""

    patch_id: str
    classes: list[ClassShare] = Field(description="by falling share, then name")
    season: str
    country: str | None
    year: int
    month: int
    sensors: list[str]


class CaptionRow(Record):
    """One text about one patch."""

    patch_id: str
    engine: str
    text: str
    facts_sha256: str = Field(description="digest of the facts the text was checked against")


class BandStatistics(Record):
    """Statistics of one band over the train split, or over all patches where there are no splits; no-data left out."""

    count: int = Field(description="pixels")
    mean: float | None
    std: float | None = Field(description="population standard deviation")
    min: float | None
    max: float | None
    histogram: list[int]
    bin_edges: list[float] = Field(description="first edge, last edge; bins have equal width; both lists are empty without a histogram")


class BandInfo(Record):
    """A band as it lies in a shard."""

    name: str
    sensor: str
    canonical_name: str | None = Field(None, description="the sensor's own spelling: B8A for B08A, VH for vh; none for other sensors")
    dtype: str
    shape: list[int] = Field(description="pixels per patch, (y, x)")
    sizes_vary: bool = Field(False, description="whether ``shape`` is only the usual one")
    unit: str
    nodata: float | str | None = Field(description="'nan' stands for not-a-number")
    gsd_m: float | None
    wavelength_nm: float | None
    bandwidth_nm: float | None
    scale: float = Field(description="physical = (stored + offset) * scale")
    offset: list[float] = Field(description="distinct offsets of the source products, counts; empty if they are not known")
    offset_applied: bool
    statistics: BandStatistics | None


class Artifact(Record):
    """A file that was made: where it lies below the workspace, its size and digest."""

    path: str
    bytes: int
    sha256: str


class LabelClass(Record):
    """One class of the label table."""

    index: int
    name: str
    color: str = Field(description="#rrggbb")
    codes: list[int] = Field(description="reference-map codes that mean this class")


class LeftOut(Record):
    """A value that a published dataset should have and a shard has not, because its files are damaged."""

    key: str
    reason: str


class SplitInfo(Record):
    """How a table was divided; travels with the table, so that a split that leaks is known for one wherever it goes."""

    strategy: str
    options: dict[str, Any] = Field(description="all options of the strategy, those that were not named too; paths without their folders")
    seed: int
    ratios: dict[str, float]
    leaks: str | None = Field(description="why the split must not be used to measure how well a model generalises; none if it may")
    notes: list[str] = Field(description="what the strategy has to say of the division, such as patches it dropped")


class ShardManifest(Record):
    """What a shard holds; lies beside it, never inside."""

    schema_version: Literal["1"] = "1"
    name: str
    format: str
    codec: str
    recipe_sha256: str = Field(description="digest of the recipe, or of the description and the keys of a converted dataset")
    key_rule: str
    patch_side_m: int | None
    grid: str
    bands: list[BandInfo]
    statistics_over: Literal["train split", "all patches"] = "train split"
    labels: list[LabelClass]
    unlabeled_codes: list[int]
    counts: dict[str, int] = Field(description="patches per split; empty where there are no splits")
    split: SplitInfo | None = Field(None, description="how the splits were made, where that is known")
    keys: int = Field(description="entries in the database")
    left_out: list[LeftOut] = []
    files: list[Artifact]


class ShardIndexRow(Record):
    """One row of a shard's ``index.parquet``: what training needs to know of a patch."""

    patch_id: str
    sensor: str = Field(description="whose bands lie under patch_id")
    s1_key: str | None
    reference_map_key: str | None
    split: str | None
    labels: list[str]


class Receipt(Record):
    """Proof that one unit of work is whole."""

    stage: Stage
    unit: str
    key: str = Field(description="digest over inputs, the part of the recipe used, and the software version")
    inputs: dict[str, str]
    outputs: list[Artifact]
    counts: dict[str, int]
    seconds: float


class Failure(Record):
    """A unit of work that could not be done, and why."""

    stage: str
    unit: str
    error: str
    message: str


# What may be asked of a catalogue: Sentinel-2 by its product type, Sentinel-1 IW GRD with VV and VH.
ProductType = Literal["S2MSI2A", "S2MSI1C", "S1GRD"]


class RemoteFile(Record):
    """One file that can be fetched, as a catalogue or a server's listing gives it."""

    path: str = Field(description="place inside the product's folder, or the name of a zip")
    href: str = Field(description="https://… or s3://bucket/key")
    bytes: int | None = Field(None, description="size, where it is known beforehand")
    checksum: str | None = Field(None, description="as the catalogue gives it: a multihash in hexadecimal, or a bare MD5")
    mark: str | None = Field(None, description="ETag or date, where the server was asked for it beforehand")


class RemoteProduct(Record):
    """A product that a catalogue offers, whole as one zip, or as a folder of objects, or both."""

    product: str = Field(description="product name without .SAFE")
    product_type: ProductType
    tile_id: str | None
    datetime: datetime
    cloud_cover: float | None = Field(description="percent")
    baseline: str | None = Field(description="processing baseline such as 05.09")
    archive: RemoteFile | None
    folder: str | None = Field(description="s3://bucket/…/<product>.SAFE")
    files: list[RemoteFile] = Field(default_factory=list, description="files of the folder that the catalogue itself vouches for")


class FetchedFile(Record):
    """How far one file has come; what it says of bytes on disk was synced before it was written down."""

    path: str
    bytes: int | None = Field(description="size the server states; unknown where it sends without one")
    mark: str | None = Field(None, description="ETag or date the server gave; another one means another file")
    offset: int = Field(0, description="bytes on disk")
    sha256: str | None = Field(None, description="digest of the finished file")
    verified: str | None = Field(None, description="what the finished file was compared with: size, or size and an algorithm")


class Download(Record):
    """What has become of one product that was asked for; lies in ``downloads/``."""

    product: str
    state: Literal["wanted", "partial", "done", "failed"]
    source: Literal["archive", "folder"]
    path: str | None = Field(None, description="the finished product, below the folder it was fetched into")
    files: list[FetchedFile] = Field(default_factory=list)
    reason: str | None = Field(None, description="why it failed")
    notes: list[str] = Field(default_factory=list, description="what could not be verified, and other things worth knowing")

    @property
    def bytes(self) -> int:
        return sum(file.offset for file in self.files)


class RemoteCopy(Record):
    """What lies behind one URL, and its copy in the workspace."""

    url: str = Field(description="without what could be a key")
    path: str | None = Field(description="the copy, below the workspace; none if it could not be fetched")
    reason: str | None = Field(None, description="why not")


class RemoteInput(Record):
    """What a recipe's URL or pattern of URLs led to when the server was last asked; lies in ``inputs/remote/``."""

    named: str = Field(description="as the recipe says it, without what could be a key")
    copies: list[RemoteCopy]


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


class GapDistribution(Record):
    """How far the patches of one split lie from the nearest footprint of another, metres, footprint to footprint."""

    min_m: float
    p5_m: float = Field(description="5 % of the patches lie this near or nearer")
    median_m: float
    quantiles_m: list[float] = Field(description="gap that 0, 2.5, 5, … 100 % of the patches do not exceed, 41 values")


class NearPatches(Record):
    """How much of two splits lies within a distance of the other."""

    distance_m: float = Field(description="footprint to footprint; 0 means touching or overlapping")
    pairs: int | None = Field(description="pairs of patches, one of each split; none where there are too many to count")
    patches_a: int
    patches_b: int


class SplitPair(Record):
    """How far two splits lie apart."""

    a: str
    b: str
    min_gap_m: float | None = Field(description="smallest distance between footprints, 0 if they touch")
    touching_a: int = Field(description="patches of a whose footprint meets one of b: 8-neighbours, overlaps, the same cell")
    touching_b: int
    shared_places: int = Field(description="places whose ground lies in both, wholly or in part")
    overlapping_pairs: int = Field(0, description="pairs of patches whose footprints share area")
    overlapping_a: int = Field(0, description="patches of a that share area with one of b")
    overlapping_b: int = 0
    gaps_a: GapDistribution | None = Field(None, description="from each patch of a to the nearest of b")
    gaps_b: GapDistribution | None = None
    near: list[NearPatches] = Field([], description="by rising distance")


class ShareBalance(Record):
    """How evenly classes, countries or seasons are spread over the splits."""

    of: Literal["class", "country", "season"]
    shares: dict[str, dict[str, float]] = Field(description="split, name, share of its patches that have it")
    largest_ratio: float | None = Field(description="largest over smallest share of one name between splits; none if one is zero")
    largest_ratio_name: str | None
    total_variation: float | None = Field(
        description="largest distance between two splits' distributions, 0 to 1; classes are taken as shares of all labels"
    )
    total_variation_pair: list[str] = Field(description="the two splits; empty where there are none")


class AutocorrelationBin(Record):
    """How alike the labels of patches are that lie a distance apart."""

    from_m: float = Field(description="distance between centres")
    to_m: float
    distance_m: float = Field(description="mean over the sampled pairs")
    pairs: int = Field(description="sampled")
    mean: float = Field(description="mean over classes of Moran's I, 1 alike, 0 as chance has it")
    classes: dict[str, float] = Field(description="Moran's I per class")
    same_label: float = Field(description="share of the pairs that have a label in common")


class Autocorrelation(Record):
    """How far the likeness of labels reaches, so that a buffer can be read off."""

    bins: list[AutocorrelationBin]
    chance_same_label: float = Field(description="share of pairs drawn anywhere that have a label in common")
    threshold: float
    below_threshold_m: float | None = Field(description="distance between centres from which on the mean stays below the threshold")
    buffer_m: float | None = Field(description="the same between footprints: less the side of a patch")


class FindingExample(Record):
    """Patches that show a finding."""

    patch_ids: list[str]
    splits: list[str]
    lon: float | None = Field(description="where, degrees; none where that is not known")
    lat: float | None
    note: str


FindingKind = Literal["shared_place", "overlap", "duplicate", "mismatch", "flipped"]
FINDING_KINDS: tuple[FindingKind, ...] = get_args(FindingKind)


class AuditFinding(Record):
    """Something that a table of patches should not have."""

    kind: FindingKind
    splits: list[str] = Field(description="the two splits it lies between; empty where it does not depend on splits")
    count: int = Field(description="places, pairs of places or rows, as the kind has it")
    examples: list[FindingExample] = Field(description="the first 20")


class AuditAgainst(Record):
    """What a table shares with another dataset's."""

    name: str
    counts: dict[str, int] = Field(description="patches per split of the other table")
    pairs: list[SplitPair] = Field(description="a is a split of this table, b of the other")
    findings: list[AuditFinding]


class SplitAudit(Record):
    """Leakage and balance of a split; what a build leaves out is empty or none."""

    counts: dict[str, int]
    pairs: list[SplitPair]
    class_shares: dict[str, dict[str, float]] = Field(description="split, class, share of its patches that show the class")
    largest_ratio: float | None = Field(description="largest over smallest share of one class between splits")
    largest_ratio_class: str | None
    places: int | None = Field(None, description="distinct footprints")
    balance: list[ShareBalance] = Field([], description="of classes, countries and seasons, where the table has them")
    autocorrelation: Autocorrelation | None = None
    findings: list[AuditFinding] | None = Field(None, description="none where they were not looked for")
    against: AuditAgainst | None = None
    split: SplitInfo | None = Field(None, description="how the table was divided, where it says so")


class InputDigest(Record):
    """A product or layer a dataset was made from."""

    name: str
    sha256: str


class Manifest(Record):
    """``manifest.json``: what was asked, from what, and what was made."""

    schema_version: Literal["1"] = "1"
    name: str
    title: str
    rsdata_version: str
    recipe_sha256: str
    inputs: list[InputDigest]
    counts: dict[str, int]
    dropped: dict[str, int]
    splits: dict[str, int]
    split: SplitInfo | None = None
    coregistration: list[Coregistration]
    failures: list[Failure]
    outputs: list[Artifact]


class ClassScore(Record):
    """Average precision and F1 of one class; none where the split has no positive."""

    name: str
    positives: int
    average_precision: float | None
    f1: float


class Scores(Record):
    """Multi-label scores on one split; classes without a positive are left out of macro means."""

    patches: int
    loss: float
    average_precision_macro: float
    average_precision_micro: float
    f1_macro: float
    f1_micro: float
    chance_average_precision_macro: float = Field(description="macro AP of a constant score: the mean class frequency")
    classes: list[ClassScore]


class EpochLog(Record):
    """One pass over the train split."""

    epoch: int
    train_loss: float
    validation: Scores | None
    seconds: float


class TrainingReport(Record):
    """``metrics.json`` of a training run."""

    schema_version: Literal["1"] = "1"
    model: str
    task: str
    bands: list[str]
    classes: list[str]
    seed: int
    parameters: int
    shard_manifest_sha256: str
    epochs: list[EpochLog]
    best_epoch: int
    test: Scores | None


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
    step: float | None = Field(default=None, gt=0, allow_inf_nan=False, description="quantiser step in the cube's unit")
    low: list[Annotated[float, Field(allow_inf_nan=False)]] = Field(
        default=[], description="smallest value per band; decoded values are clipped"
    )
    high: list[Annotated[float, Field(allow_inf_nan=False)]] = []
    streams: list[VideoStream] = Field(min_length=1)


class VideoMeasured(Record):
    """What decoding the finished blob gave, over all samples that are measurements."""

    max_abs_error: float
    rmse: float
    psnr_db: float | None = Field(description="over the cube's own range, largest less smallest value; null if nothing was lost")


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
    groups: list[VideoGroup] = Field(min_length=1)
    measured: VideoMeasured | None = None


RECORDS: tuple[type[Record], ...] = (
    Sentinel2Scene, Sentinel1Scene, ScenePair, PatchRow, PatchMeasures, PatchFacts, CaptionRow, ShardManifest, ShardIndexRow,
    Receipt, Failure, Correction, Quarantine, RemoteProduct, Download, RemoteInput, Coregistrations, SplitAudit, SplitInfo,
    Manifest, TrainingReport, VideoHeader,
)  # fmt: skip

# The columns of the metadata published with BigEarthNet v2.
PUBLISHED_COLUMNS = (
    "patch_id", "labels", "split", "country", "s1_name", "s2v1_name", "contains_seasonal_snow", "contains_cloud_or_shadow",
)  # fmt: skip


# --- tables -----------------------------------------------------------------------------------------------

_ARROW_TYPES: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    datetime: pa.timestamp("us", tz="UTC"),
}


def arrow_schema(model: type[Record]) -> pa.Schema:
    """Columns of a table whose rows are ``model``; a field is nullable if it may be None."""
    return pa.schema([pa.field(name, *_arrow_type(field.annotation)) for name, field in model.model_fields.items()])


def _arrow_type(annotation: Any) -> tuple[pa.DataType, bool]:
    """Arrow type of a Python annotation, and whether it may be null."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _arrow_type(arguments[0])
    if origin in (Union, types.UnionType):
        inner = [argument for argument in arguments if argument is not type(None)]
        return _arrow_type(inner[0])[0], True
    if origin is list:
        return pa.list_(_arrow_type(arguments[0])[0]), False
    if origin is dict:
        return pa.map_(_arrow_type(arguments[0])[0], _arrow_type(arguments[1])[0]), False
    if isinstance(annotation, type) and issubclass(annotation, Record):
        return pa.struct([pa.field(f.name, f.type) for f in arrow_schema(annotation)]), False
    return _ARROW_TYPES[annotation], False


# --- schemas ----------------------------------------------------------------------------------------------


def schema_text(record: type[Record]) -> str:
    """JSON Schema of a record as it lies in ``schemas/``."""
    return json.dumps(record.model_json_schema(), indent=1, sort_keys=True) + "\n"


def write_schemas(folder: Path) -> list[Path]:
    """Write one JSON Schema per record; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for record in RECORDS:
        path = folder / f"{record.__name__}.schema.json"
        path.write_text(schema_text(record), encoding="utf-8")
        paths.append(path)
    return paths
