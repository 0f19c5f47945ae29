"""What a dataset recipe may say: a YAML file, checked before any work starts.

Unknown keys are refused, and relative paths start at the recipe's own folder. Each stage reads only its
own part, so the digest of that part tells whether finished work is still valid.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from datetime import date, datetime
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from rsdata.errors import RecipeError
from rsdata.foreign import load_yaml
from rsdata.sensors import SENSORS, SENTINEL1

_PRESETS = resources.files("rsdata.catalogs").joinpath("presets")  # sets of options of `training`


class Part(BaseModel):
    """A part of the recipe: unknown keys are refused, and what is refused is not repeated, as it may be a key in the wrong place."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

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


def named_values(options: Sequence[str], example: str) -> dict[str, Any]:
    """Options of a command line, each ``name=value`` with a value as YAML has it.

    Raises: RecipeError if one has no ``=``, or its value is no YAML.
    """
    named = {}
    for option in options:
        name, sign, value = option.partition("=")
        if not sign or not name:
            raise RecipeError(f"{option!r} is no option; expected a name and a value such as {example}", option=option)
        try:
            named[name.strip()] = load_yaml(value)
        except yaml.YAMLError as error:
            raise RecipeError(f"the value of {option!r} is not YAML: {' '.join(str(error).split())}", option=option) from error
    return named


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
        named = named_values(options, "buffer_m=5000")
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


class ModelBudget(Part):
    """What a language model may use in all, over every run on one dataset; asking stops before it would be exceeded."""

    tokens: int | None = Field(None, gt=0, description="of prompts and answers together")
    cost: float | None = Field(None, gt=0, description="in the currency of the prices")
    input_price: float = Field(0, ge=0, description="of a million tokens of prompts")
    output_price: float = Field(0, ge=0, description="of a million tokens of answers")
    image_tokens: int = Field(2000, gt=0, description="set aside for a picture until the server says what it took")

    @model_validator(mode="after")
    def _priced(self) -> "ModelBudget":
        if self.cost is not None and not self.input_price and not self.output_price:
            raise ValueError("`cost` has a limit but there are no prices; give `input_price` and `output_price`")
        return self


class LanguageModel(Part):
    """A model behind any server that speaks the OpenAI chat protocol; nothing is sent unless ``captions.engine`` is llm."""

    base_url: str = Field(description="such as http://127.0.0.1:8000/v1; keys belong in the environment, not here")
    model: str = Field(min_length=1, description="as the server calls it")
    api_key_env: str | None = Field(
        None, pattern=r"^[A-Z][A-Z0-9_]*$", description="the name of the environment variable that holds the key; none is sent if absent"
    )
    task: Literal["paraphrase", "enrich"] = "paraphrase"
    image: bool = Field(False, description="show the model the patch in natural colours")
    temperature: float = Field(0.7, ge=0, le=2)
    max_tokens: int = Field(400, gt=0, description="of one answer")
    max_tokens_name: Literal["max_tokens", "max_completion_tokens"] = Field("max_tokens", description="which of them the server knows")
    response_format: Literal["auto", "json_schema", "json_object", "none"] = Field(
        "auto", description="how the server is told to answer in JSON; auto goes down this list until the server accepts one"
    )
    tries: int = Field(
        3, ge=1, le=10, description="answers looked at before the template's text is taken; each is told what was wrong with the last"
    )
    concurrency: int = Field(4, ge=1, le=256, description="requests under way at a time")
    retries: int = Field(5, ge=0, description="of a request that the server did not answer; waits grow from half a second to a minute")
    timeout_s: float = Field(60, gt=0, description="longest silence of the server before the request is sent again")
    without_answer: Literal["stop", "template"] = Field(
        "stop", description="what becomes of captions that a spent budget or a silent server leaves without an answer"
    )
    budget: ModelBudget = ModelBudget()

    @model_validator(mode="after")
    def _bare_address(self) -> "LanguageModel":
        address = urlsplit(self.base_url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise ValueError("`base_url` must be an http or https address such as http://127.0.0.1:8000/v1")
        if address.username or address.password or address.query or address.fragment:
            raise ValueError("`base_url` must hold no user, password or query; put a key into an environment variable, see `api_key_env`")
        return self

    @classmethod
    def checked(cls, said: dict[str, Any]) -> "LanguageModel":
        """The part as a command line says it.

        Raises: RecipeError.
        """
        try:
            return cls.model_validate(said)
        except ValidationError as error:
            raise RecipeError(findings_of(error)) from None

    def parameters(self) -> dict[str, Any]:
        """What decides an answer beside facts, prompt and model."""
        return self.model_dump(include={"temperature", "max_tokens", "max_tokens_name", "response_format", "image"})


class Climate(Part):
    """Where the climate zones of patches come from."""

    raster: str = Field(description="raster of climate classes in any CRS, such as the Köppen-Geiger maps of Beck et al. (2018)")
    classes: str | None = Field(
        None, description="table with the columns value and name; the 30 classes of Beck et al. if absent; without a name there is no class"
    )


class Captions(Part):
    """How texts are written."""

    engine: str = "template"
    seed: int = 0
    min_region_pixels: int = Field(10, ge=1, description="smaller regions are not listed in the facts, so no text is about them")
    climate: Climate | None = Field(None, description="climate zones of the patches; absent means texts do not speak of them")
    questions: bool = Field(True, description="write questions with answers and boxes beside the captions")
    captions_may_answer: bool = Field(False, description="captions may state what is asked of the same patch; else they share no answer")
    llm: LanguageModel | None = Field(None, description="the model of the engine llm, which writes captions anew; none is asked if absent")

    @model_validator(mode="after")
    def _has_model(self) -> "Captions":
        if self.engine == "llm" and self.llm is None:
            raise ValueError("engine llm has no model; say `llm.base_url` and `llm.model`")
        return self

    def digest(self) -> str:
        """As of any part, save for how a model is reached and what it may cost: that changes no text."""
        said = self.model_dump(mode="json", exclude={"llm": {"base_url", "api_key_env", "concurrency", "retries", "timeout_s", "budget"}})
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


class Shards(Part):
    """What is packed of each kept patch, and how; its reference map always is."""

    sensors: list[Literal["s2", "s1"]] = Field(["s2", "s1"], min_length=1, description="whose bands are packed, where a patch has them")
    format: Literal["lmdb", "zarr"] = "lmdb"
    compression: Literal["none", "zstd", "blosc"] = Field("none", description="of each value; compressed ones read slower")
    per_scene: bool = Field(False, description="one shard for each scene instead of one for all; training needs one for all")

    @model_validator(mode="after")
    def _each_once(self) -> "Shards":
        if len(set(self.sensors)) != len(self.sensors):
            raise ValueError(f"`sensors` names one twice: {', '.join(self.sensors)}")
        return self

    @model_serializer(mode="wrap")
    def _as_said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Both sensors are as if none were named, in whatever order, so that digests of such recipes stay what they were."""
        said: dict[str, Any] = handler(self)
        if len(self.sensors) > 1:
            said.pop("sensors", None)
        return said


class SeriesFilters(Part):
    """Which dates may enter a series; shares of the patch, as its row in the patch table has them."""

    max_cloud: float = Field(0.5, ge=0, le=1, description="cloud and cloud shadow together")
    max_snow: float = Field(1.0, ge=0, le=1)
    max_nodata: float = Field(0.0, ge=0, le=1, description="of the worst band")


class SeriesPair(Part):
    """Two dates of each place, one on either side of something that happened."""

    before: date | None = Field(None, description="the usable date nearest to it is taken; the first of all if absent")
    after: date | None = Field(None, description="the usable date nearest to it is taken; the last of all if absent")
    max_days_off: float = Field(30, gt=0, description="how far the date that is taken may lie from the one that is named")

    @model_validator(mode="after")
    def _in_order(self) -> "SeriesPair":
        if self.before is not None and self.after is not None and self.before >= self.after:
            raise ValueError(f"`before` ({self.before}) must lie before `after` ({self.after})")
        return self


class SeriesVideo(Part):
    """How one sensor's series are coded: the options of a video shard, which are checked before anything is built."""

    mode: Literal["lossless", "maxerr", "lossy", "auto"] = "lossless"
    max_error: float | None = Field(None, gt=0, description="of mode maxerr: largest error of any sample, counts or dB")
    step: float | None = Field(None, gt=0, description="of mode lossy: quantiser step, counts or dB")
    target_bpppb: float | None = Field(None, gt=0, description="of mode auto: bits per pixel and band")
    target_psnr_db: float | None = Field(None, gt=0, description="of mode auto")
    keyint: int | None = Field(None, gt=0, description="frames from one point of entry to the next")
    mix_dates: bool = Field(True, description="lossy: code mixtures of dates where that costs less; one date then takes its whole segment")
    preset: str = "adaptive"
    transform: Literal["klt", "none"] = "klt"


class SeriesVideos(Part):
    """How each sensor is coded."""

    s2: SeriesVideo = SeriesVideo()
    s1: SeriesVideo = SeriesVideo()


class Series(Part):
    """Time series: all dates of one place as one cube; absent means none are made."""

    sensors: list[Literal["s2", "s1"]] = Field(["s2", "s1"], min_length=1)
    composite: Literal["none", "median", "best"] = Field("none", description="one picture for each period instead of one for each date")
    period: str = Field("month", description="of composites: month, season, or such as 16 days")
    filters: SeriesFilters = SeriesFilters()
    mask_clouds: bool = Field(False, description="pixels that the scene classification calls cloud or shadow are not valid")
    min_frames: int = Field(2, ge=1, description="a place with fewer of one of the sensors is left out")
    max_frames: int | None = Field(None, ge=1, description="the clearest are kept; of Sentinel-1, some spread evenly in time")
    pair: SeriesPair | None = Field(None, description="two dates of each place instead of all")
    video: SeriesVideos = SeriesVideos()

    @model_validator(mode="after")
    def _possible(self) -> "Series":
        if len(set(self.sensors)) != len(self.sensors):
            raise ValueError(f"`sensors` names one twice: {', '.join(self.sensors)}")
        if not re.fullmatch(r"month|season|[1-9]\d{0,2} days", self.period, re.ASCII):
            raise ValueError(f"`period` is {self.period!r}; say month, season, or a number of days such as '16 days'")
        if self.max_frames is not None and self.max_frames < self.min_frames:
            raise ValueError(f"`max_frames` ({self.max_frames}) is smaller than `min_frames` ({self.min_frames})")
        if self.pair is not None and (self.composite != "none" or self.max_frames is not None):
            raise ValueError("`pair` takes two single dates; leave `composite` and `max_frames` out")
        return self


def preset_names() -> list[str]:
    """Short names of sets of training options, such as those of a published benchmark."""
    return sorted(each.name.removesuffix(".yaml") for each in _PRESETS.iterdir() if each.name.endswith(".yaml"))


class Training(Part):
    """The baseline that closes the loop; absent means none is trained. What ``preset`` says holds where nothing else is said."""

    preset: str | None = Field(None, description="a named set of the options below, such as reben")
    name: str | None = Field(
        None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="of the folder of results; made of the options if absent"
    )
    model: str = "resnet18"
    task: Literal["multilabel", "segmentation", "retrieval", "regression"] = "multilabel"
    sensors: list[str] | None = Field(None, min_length=1, description="whose bands, such as s1 and s2; all of the shard if absent")
    bands: list[str] | None = Field(None, description="band names; all of the sensors if absent")
    target: str | None = Field(None, description="of regression: a band of the shard, or a column of `table`")
    classes: Literal["labels", "codes"] = Field("labels", description="of segmentation: classes of the label table, or every code it lists")
    pair: tuple[str, str] = Field(("s1", "s2"), description="of retrieval: two sensors, or text or embedding and a sensor")
    table: str | None = Field(None, description="Parquet file with a column `patch_id`, and a target column, texts or embeddings")
    labels: str | None = Field(None, description="of multilabel: Parquet file of `rsdata subset noise` with other labels for train patches")
    subset: str | None = Field(None, description="Parquet file that names the only train patches to learn from, as `rsdata subset` writes")
    subset_part: str | None = Field(None, description="which of the sizes or clients in `subset`; all its rows if absent")
    epochs: int = Field(10, gt=0, description="at most")
    patience: int | None = Field(None, gt=0, description="stop after so many epochs that were no better on validation; never if absent")
    batch_size: int = Field(32, gt=0, description="patches behind one step of the optimiser, on all devices together")
    accumulate: int = Field(1, gt=0, description="parts that a batch is worked on in, one after the other, to save memory")
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    warm_up_steps: int | None = Field(None, ge=0, description="over which the learning rate rises; a tenth of all steps if absent")
    dropout: float = Field(0.0, ge=0, lt=1, description="before the last layer")
    drop_path: float = Field(0.0, ge=0, lt=1, description="of the last block; earlier ones are left out more rarely")
    input_px: int = Field(120, gt=0, description="side all bands are brought to, pixels")
    resampling: Literal["nearest", "bilinear", "area"] = "nearest"
    augment: bool = Field(True, description="turn and mirror train patches; never done to images that are paired with text")
    precision: Literal["float32", "bfloat16", "float16"] = Field("float32", description="of the network's work in training")
    init: str | None = Field(
        None, description="weights to begin with: a file of rsdata's, a published reBEN checkpoint, or plain safetensors; or hub:OWNER/NAME"
    )
    init_version: str | None = Field(None, description="of a published reBEN checkpoint, such as 0.2.0, if its name does not say it")
    seeds: list[int] = Field([0], min_length=1, description="one run each; results are given over all of them")
    baselines: bool = Field(True, description="score what needs no network on the same split")

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, said: Any) -> Any:
        if not isinstance(said, dict) or said.get("preset") is None:
            return said
        if said["preset"] not in preset_names():
            raise ValueError(f"there is no preset {said['preset']!r}; known are {', '.join(preset_names())}")
        return load_yaml(_PRESETS.joinpath(f"{said['preset']}.yaml").read_text(encoding="utf-8")) | said

    @model_validator(mode="after")
    def _possible(self) -> "Training":
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"`seeds` names one twice: {', '.join(map(str, self.seeds))}")
        if self.batch_size % self.accumulate:
            raise ValueError(f"`batch_size` ({self.batch_size}) cannot be worked on in {self.accumulate} equal parts, as `accumulate` says")
        if self.task == "regression" and self.target is None:
            raise ValueError("`target` is missing; name the band, or the column of `table`, that regression learns")
        if self.labels is not None and self.task != "multilabel":
            raise ValueError(f"`labels` are learned by multilabel, not by {self.task}; leave them out")
        if self.subset_part is not None and self.subset is None:
            raise ValueError("`subset_part` names a part of no file; name the file as `subset`")
        return self

    @classmethod
    def parse(cls, said: dict[str, Any]) -> "Training":
        """The part as a command line says it.

        Raises: RecipeError naming what is impossible.
        """
        try:
            return cls.model_validate(said)
        except ValidationError as error:
            raise RecipeError("; ".join(_finding(item) for item in error.errors()), said=said) from error

    def sensors_used(self) -> set[str]:
        """Those of Sentinel-1 and Sentinel-2 that training cannot do without, as far as its options tell."""
        bands = {*(self.bands or []), *([self.target] if self.target is not None and self.table is None else [])}
        named = {*(self.sensors or []), *(self.pair if self.task == "retrieval" else ())}
        return {name for name in ("s2", "s1") if name in named or bands & {*SENSORS[name].band_names}}

    @property
    def label(self) -> str:
        """Name of the folder of results: what was learned by which model from what, where it is not the usual."""
        if self.name is not None:
            return self.name
        bands = "" if self.bands is None else "".join(self.bands)
        if len(bands) > 24 or not re.fullmatch(r"[A-Za-z0-9_-]*", bands):
            bands = f"{len(self.bands or [])}bands-{hashlib.sha256(' '.join(self.bands or []).encode()).hexdigest()[:6]}"
        task = {"multilabel": "", "retrieval": "-".join(self.pair), "regression": f"regression-{self.target}"}.get(self.task, self.task)
        study = [Path(each).stem for each in (self.labels, self.subset) if each is not None]
        parts = [self.model, task, "".join(self.sensors or []), bands, self.preset or "", *study, self.subset_part or ""]
        return re.sub(r"[^A-Za-z0-9._-]", "_", "-".join(part for part in parts if part))


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
    series: Series | None = None
    training: Training | None = None

    _folder: Path = PrivateAttr(default_factory=Path.cwd)

    def absolute(self, text: str) -> str:
        """A path the recipe names, taken from the recipe's own folder unless it is absolute or a URL."""
        return text if "://" in text or text.startswith("/vsi") else str(self._folder / Path(text).expanduser())

    def dataset_digest(self) -> str:
        """Digest over what decides the tables and the shards of patches: not the title, nor the series, nor what is trained."""
        said = self.model_dump(mode="json", exclude={"training", "series", "title", "licence", "attribution"})
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

    @model_validator(mode="after")
    def _packs_what_is_asked_of_it(self) -> "Recipe":
        packed = " and ".join(self.shards.sensors)
        if packed == SENTINEL1.name and self.scenes is not None and not (self.scenes.sentinel1 and self.scenes.require_s1):
            why = "`scenes.require_s1` is false" if self.scenes.sentinel1 else "`scenes.sentinel1` names no product"
            raise ValueError(f"`shards.sensors` is s1 alone and {why}, so patches would be without pixels; change one of the two")
        if self.training is not None and (absent := self.training.sensors_used() - {*self.shards.sensors}):
            raise ValueError(f"`training` asks for {absent.pop()}, and `shards.sensors` packs {packed} alone; change one of the two")
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
        content = load_yaml(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not YAML: {' '.join(str(error).split())}; correct the recipe", path=str(path)) from error
    if not isinstance(content, dict):
        raise RecipeError(f"{path} holds no recipe; expected keys such as name, scenes and labels, so name another", path=str(path))
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"{path}: {findings_of(error)}; correct the recipe", path=str(path)) from error
    recipe._folder = path.resolve().parent
    return recipe


def findings_of(error: ValidationError) -> str:
    """What was wrong, without repeating what was said: that may be a key in the wrong place."""
    return "; ".join(_finding(item) for item in error.errors())


def _finding(item: Any) -> str:
    place = ".".join(str(part) for part in item["loc"])
    if item["type"] != "extra_forbidden":
        said = item["msg"].removeprefix("Value error, ")
        return f"`{place}`: {said}" if place else said
    part: type[Part] = Recipe
    for name in item["loc"][:-1]:
        annotation = part.model_fields[str(name)].annotation
        choices = (annotation, *getattr(annotation, "__args__", ()))
        part = next(choice for choice in choices if isinstance(choice, type) and issubclass(choice, Part))
    return f"unknown key `{place}`; known here are {', '.join(sorted(part.model_fields))}"
