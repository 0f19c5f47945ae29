"""What a dataset recipe may say: a YAML file, checked before any work starts.

Unknown keys are refused, and relative paths start at the recipe's own folder. Each stage reads only its
own part, so the digest of that part tells whether finished work is still valid.
"""

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from rsdata.errors import RecipeError


class Part(BaseModel):
    """A part of the recipe: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def digest(self) -> str:
        """SHA-256 over what this part says, independent of how the YAML was laid out."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


class Synthetic(Part):
    """Scenes to be made on the spot instead of read: for demonstrations and tests."""

    tiles: list[str] = Field(min_length=1)
    dates: list[datetime] = Field(min_length=1)
    raster_px: tuple[int, int] = Field((840, 3360), description="(height, width) at 10 m, multiples of 120")
    offset_px: tuple[int, int] = Field((4800, 0), description="(down, right) from the tile's corner at 10 m, multiples of 120")
    cell_m: float = Field(1500.0, gt=0, description="typical size of a land cover polygon")
    clouds: int = Field(2, ge=0)
    nodata_strip: bool = True
    seed: int = 0


class Scenes(Part):
    """Where the products lie: paths, globs, or URLs."""

    sentinel2: list[str] = Field(min_length=1)
    sentinel1: list[str] = []
    max_s1_gap_h: float = Field(72, gt=0, description="largest time between the two sensors, hours")
    prefer_s1_orbit: Literal["ASCENDING", "DESCENDING"] | None = Field(None, description="taken first, whatever the time gap")
    require_s1: bool = Field(True, description="drop patches that have no Sentinel-1 pixels")
    sentinel1_unit: Literal["db", "linear", "amplitude"] | None = Field(
        None, description="of Sentinel-1 that is terrain corrected already; what the product states if absent, dB for plain GeoTIFFs"
    )
    resample_sentinel1: bool = Field(False, description="bring terrain-corrected Sentinel-1 of another grid onto the tile's")
    dem: list[str] = Field(
        [], description="elevation model to correct Sentinel-1 GRD with: GeoTIFFs, folders of them, or addresses of Copernicus DEM tiles"
    )
    dem_sea: bool | list[Annotated[str, Field(pattern=r"^[NS]\d{2}[EW]\d{3}$")]] = Field(
        False, description="tiles of the Copernicus DEM that are absent because they are sea, such as N47E013; true for all that are absent"
    )
    dem_datum: Literal["ellipsoid", "EGM96", "EGM2008"] | None = Field(
        None, description="what the heights are above, where the files do not say it"
    )
    geoid: str | None = Field(None, description="grid of the geoid that the heights are above, such as PROJ's us_nga_egm08_25.tif")
    backscatter: Literal["sigma0", "gamma0"] = "sigma0"
    remove_thermal_noise: bool = True
    flatten_terrain: bool = Field(False, description="gamma0 normalised by the terrain's illuminated area; needs the corrector sarsen")
    terrain_corrector: Literal["range-doppler", "sarsen"] = "range-doppler"


class Sen2cor(Part):
    """How Level-1C products are corrected; with this part, ``scenes.sentinel2`` may name such products."""

    program: str | None = Field(None, description="L2A_Process; from RSDATA_SEN2COR or PATH if absent")
    resolution: Literal[10, 20, 60] = Field(10, description="metres; only 10 gives all bands")
    processing_baseline: str | None = Field(None, pattern=r"^\d\d\.\d\d$", description="written into the product; 99.99 if absent")
    gipp: str | None = Field(None, description="L2A_GIPP.xml; sen2cor's own if absent")
    gipp_sc: str | None = Field(None, description="GIPP of the scene classification")
    gipp_ac: str | None = Field(None, description="GIPP of the atmospheric correction")
    gipp_pb: str | None = Field(None, description="GIPP of the processing baseline")
    dem: str | None = Field(None, description="folder of the DEM's tiles; without, the ground is taken as flat")
    home: str | None = Field(None, description="SEN2COR_HOME: cfg, dem and log")
    tables: str | None = Field(None, description="SEN2COR_BIN: where sen2cor's look-up tables lie")
    timeout_s: float = Field(3 * 3600, gt=0, description="longest run of one attempt, seconds")
    retries: int = Field(1, ge=0, description="attempts after the first, where another may help")
    at_once: int | None = Field(None, ge=1, description="scenes at a time; one per 8 GiB of free memory if absent")


class Labels(Part):
    """Which land cover becomes labels, and when a patch has too few."""

    source: str = Field("corine", description="corine, corine-raster, worldcover or polygons")
    path: str | None = None
    layer: str | None = None
    code_column: str | None = Field(None, description="attribute with the class; found by CORINE's usual names if absent")
    raster_codes: Literal["clc", "grid"] | None = Field(None, description="of corine-raster: 111 to 523, or 1 to 44; seen from the values")
    nomenclature: str = Field("bigearthnet-19", description="classes of the labels: a short name, or the path of a table")
    codes: str | None = Field(None, description="nomenclature of the codes in the file, for polygons; that of the labels if absent")
    conversion: str | None = Field(None, description="table from the file's codes to the labels' classes, where rsdata has none")
    fractions: Literal["pixel", "exact"] = Field("pixel", description="count pixels of the reference map, or measure exact areas")
    max_unlabeled_fraction: float = Field(0.25, gt=0, le=1, description="a patch is kept below this share")


class Countries(Part):
    """The countries a patch may belong to."""

    path: str | None = None
    name_column: str = "NAME"
    names: list[str] | None = Field(None, description="use only these, by name or by code such as FR or KOS; all if absent")


class Quality(Part):
    """From which share of cloud, snow or broken pixels on a patch is marked or dropped."""

    cloud_probability: int = Field(50, ge=0, le=100, description="MSK_CLDPRB from which a pixel is cloud, percent")
    snow_probability: int = Field(50, ge=0, le=100, description="MSK_SNWPRB from which a pixel is snow, percent")
    contains_fraction: float = Field(0.01, ge=0, le=1, description="share above which a patch is marked")
    max_cloud_or_shadow_fraction: float = Field(1.0, ge=0, le=1, description="share above which a patch is dropped")
    max_snow_fraction: float = Field(1.0, ge=0, le=1)
    max_defective_fraction: float = Field(1.0, ge=0, le=1, description="of the worst band; where a product has no masks, none is dropped")
    max_saturated_fraction: float = Field(1.0, ge=0, le=1, description="of the worst band, or classed so by sen2cor")
    read_masks: bool = Field(True, description="read the product's masks of defective and saturated pixels, which takes time to decode")
    max_coregistration_shift_px: float | None = Field(
        None, gt=0, description="shift of Sentinel-1 above which a patch is dropped, 10 m pixels; only reported if absent"
    )
    duplicates: Literal["keep", "drop"] = Field("keep", description="what becomes of patches that repeat another's picture")


class Ratios(Part):
    """The share of the patches that each split is meant to get; 0 leaves a split out."""

    train: float = Field(0.5, ge=0, le=1)
    validation: float = Field(0.25, ge=0, le=1)
    test: float = Field(0.25, ge=0, le=1)

    @model_validator(mode="after")
    def _whole(self) -> "Ratios":
        if abs(self.train + self.validation + self.test - 1) > 1e-6:
            said = ", ".join(f"{each:g}" for each in self.values())
            raise ValueError(f"the ratios {said} sum to {sum(self.values()):g}; they must sum to 1")
        return self

    def values(self) -> tuple[float, float, float]:
        return self.train, self.validation, self.test


class SplitPart(Part):
    """How patches are divided; which options there are depends on the strategy."""

    strategy: str = "frame"
    seed: int = 0
    ratios: Ratios = Ratios()
    options: dict[str, Any] = {}

    @classmethod
    def parse(cls, strategy: str, options: Sequence[str], seed: int = 0, ratios: str | None = None) -> "SplitPart":
        """The part as a command line says it: options as ``name=value``, values as YAML has them, ratios as ``0.5,0.25,0.25``.

        Raises: RecipeError if an option has no ``=`` or its value is no YAML, or if the ratios are not three numbers that sum to 1.
        """
        named = {}
        for option in options:
            name, sign, value = option.partition("=")
            if not sign or not name:
                raise RecipeError(f"{option!r} is no option; expected a name and a value such as buffer_m=5000", option=option)
            try:
                named[name.strip()] = yaml.safe_load(value)
            except yaml.YAMLError as error:
                raise RecipeError(f"the value of {option!r} is not YAML: {' '.join(str(error).split())}", option=option) from error
        shares = Ratios()
        if ratios is not None:
            try:
                train, validation, test = (float(each) for each in ratios.split(","))
                shares = Ratios(train=train, validation=validation, test=test)
            except ValidationError as error:
                raise RecipeError("; ".join(_finding(item) for item in error.errors()), ratios=ratios) from error
            except ValueError as error:
                raise RecipeError(f"{ratios!r} are no ratios; expected three shares such as 0.5,0.25,0.25", ratios=ratios) from error
        return cls(strategy=strategy, seed=seed, ratios=shares, options=named)


class Captions(Part):
    """How texts are written."""

    engine: str = "template"
    seed: int = 0


class Shards(Part):
    """How pixels are packed."""

    format: Literal["lmdb", "zarr"] = "lmdb"
    compression: Literal["none", "zstd", "blosc"] = Field("none", description="of each value; compressed ones read slower")
    per_scene: bool = Field(False, description="one shard for each scene instead of one for all; training needs one for all")


class Training(Part):
    """The baseline that closes the loop; absent means none is trained."""

    model: str = "resnet18"
    task: Literal["multilabel"] = "multilabel"
    bands: list[str] | None = Field(None, description="band names; all of the shard if absent")
    epochs: int = Field(10, gt=0)
    batch_size: int = Field(32, gt=0)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    input_px: int = Field(120, gt=0, description="side all bands are brought to, pixels")
    seed: int = 0


class Recipe(Part):
    """A whole dataset, from scenes to baseline."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    title: str = ""
    licence: str = ""
    attribution: list[str] = []
    synthetic: Synthetic | None = None
    scenes: Scenes | None = None
    sen2cor: Sen2cor | None = None
    labels: Labels = Labels()
    countries: Countries | None = None
    quality: Quality = Quality()
    split: SplitPart = SplitPart()
    captions: Captions = Captions()
    shards: Shards = Shards()
    training: Training | None = None

    _folder: Path = PrivateAttr(default_factory=Path.cwd)

    def absolute(self, text: str) -> str:
        """A path the recipe names, taken from the recipe's own folder unless it is absolute or a URL."""
        return text if "://" in text or text.startswith("/vsi") else str(self._folder / Path(text).expanduser())

    def dataset_digest(self) -> str:
        """Digest over what decides the dataset's tables and shards: not its title, nor what is trained on it."""
        said = self.model_dump(mode="json", exclude={"training", "title", "licence", "attribution"})
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    @model_validator(mode="after")
    def _one_source(self) -> "Recipe":
        if (self.synthetic is None) == (self.scenes is None):
            raise ValueError("a recipe names either `scenes` to read or `synthetic` scenes to make, and not both")
        if self.scenes is not None and self.labels.path is None:
            raise ValueError("`labels.path` is missing; name the file with the land cover polygons")
        if self.training is not None and self.shards.per_scene:
            raise ValueError("`training` reads one shard for all scenes; leave it or `shards.per_scene` out")
        if self.sen2cor is not None and self.sen2cor.resolution != 10:
            raise ValueError(f"`sen2cor.resolution` is {self.sen2cor.resolution}; a dataset needs all bands, which only 10 gives")
        return self


def load_recipe(path: Path) -> Recipe:
    """Read a recipe; its relative paths are taken from the folder it lies in.

    Raises: RecipeError naming the file, the place in it and what was expected.
    """
    try:
        text = path.read_bytes()  # YAML says its own encoding
    except OSError as error:
        raise RecipeError(f"the recipe {path} cannot be read: {error.strerror}; name an existing YAML file", path=str(path)) from error
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not YAML: {' '.join(str(error).split())}", path=str(path)) from error
    if not isinstance(content, dict):
        raise RecipeError(f"{path} holds no recipe; expected keys such as name, scenes and labels", path=str(path))
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"{path}: {'; '.join(_finding(item) for item in error.errors())}", path=str(path)) from error
    recipe._folder = path.resolve().parent
    return recipe


def _finding(item: Any) -> str:
    place = ".".join(str(part) for part in item["loc"])
    if item["type"] != "extra_forbidden":
        return f"`{place}`: {item['msg']}" if place else item["msg"].removeprefix("Value error, ")
    part: type[Part] = Recipe
    for name in item["loc"][:-1]:
        annotation = part.model_fields[str(name)].annotation
        choices = (annotation, *getattr(annotation, "__args__", ()))
        part = next(choice for choice in choices if isinstance(choice, type) and issubclass(choice, Part))
    return f"unknown key `{place}`; known here are {', '.join(sorted(part.model_fields))}"
