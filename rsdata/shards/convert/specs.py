"""What a published dataset looks like: its folders, files, bands and keys, as one short YAML.

A dataset is a description, not a program. Those that are known lie in ``datasets/`` beside this module under the names
rico-hdl gives its commands; anybody's folder of GeoTIFFs, one per patch or one per band, becomes one the same way.
"""

import json
import math
import re
import string
from collections.abc import Mapping
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from rsdata.errors import RecipeError, ShardError
from rsdata.foreign import load_yaml
from rsdata.records import BandInfo, BandStatistics
from rsdata.sensors import SENTINEL1
from rsdata.sensors.sentinel2 import SENTINEL2_L1C
from rsdata.shards.values import encode

# Names of the folders a dataset may come in; the command line has one option for each.
Option = Literal["dataset-dir", "s1-dir", "s2-dir", "s2-l1c-dir", "s2-l2a-dir", "reference-maps-dir"]
Dtype = Literal["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]
_RANGE = re.compile(r"(\D*)(\d+)\.\.\1(\d+)")
_FIELD = re.compile(r"[a-z][a-z0-9_]*")


def _spelled_out(names: object) -> object:
    """``B1..B224`` as a list."""
    match = _RANGE.fullmatch(names) if isinstance(names, str) else None
    return names if match is None else [f"{match[1]}{number}" for number in range(int(match[2]), int(match[3]) + 1)]


def _number(value: object) -> object:
    return math.nan if value == "nan" else value


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceBand(NamedTuple):
    """What a band's statistics depend on."""

    name: str
    dtype: str
    unit: str
    nodata: float | None


class Bands(_Part):
    """Bands that share type, size and resolution."""

    names: Annotated[tuple[str, ...], BeforeValidator(_spelled_out)] = Field(min_length=1)
    dtype: Dtype
    shape: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = Field(description="pixels (y, x)")
    gsd_m: float | None = None


class LabelSource(_Part):
    """Where the classes of a patch are stated, if not in a table for the whole dataset."""

    field: str | None = Field(None, description="field of its path that is its only class")
    file: str | None = Field(None, description="path below the folder of a JSON object whose `labels` are names of classes")
    partner: str | None = Field(None, description="what in that object is the key of the patch of the other sensor that it belongs to")
    nomenclature: str | None = Field(None, description="short name of the table of classes that the names in the file are from")

    @model_validator(mode="after")
    def _one_place(self) -> "LabelSource":
        if (self.field is None) == (self.file is None) or (self.file is None) != (self.nomenclature is None):
            raise ValueError("labels need either `field`, or `file` and `nomenclature`")
        return self


class Input(_Part):
    """One folder of files of one kind."""

    option: Option = Field("dataset-dir", description="command-line option that names the folder")
    sensor: str = Field(description="s1, s2, s2_l1c, reference_map or any other name")
    files: str = Field(description="path below the folder with {fields}; {band} in the file's name if each band is a file")
    key: str = Field(description="key of a value, from the fields of its path")
    bands: tuple[Bands, ...] = Field(min_length=1, description="in the order of the file, if it holds several")
    sizes_vary: bool = Field(False, description="whether shape is only the usual one")
    unit: str = "counts"
    nodata: Annotated[float | None, BeforeValidator(_number)] = None
    scale: float = Field(1.0, description="physical = (stored + offset) * scale")
    offset: tuple[float, ...] = Field((), description="counts; empty if the files do not state it")
    statistics: bool = Field(True, description="false for class codes")
    labels: LabelSource | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> "Input":
        names = self.band_names
        if len(set(names)) < len(names):
            raise ValueError(f"a band is named twice in {', '.join(names)}")
        fields = fields_of(self.files)
        *folders, file = self.files.split("/")
        if "band" in fields_of("/".join(folders)):
            raise ValueError(f"`files: {self.files}` has {{band}} in a folder; it may only stand in the file's name")
        if any(part in ("", ".", "..") for part in (*folders, file)):
            raise ValueError(f"`files: {self.files}` must be a path below the folder, such as {{patch}}/{{patch}}_{{band}}.tif")
        if lacking := sorted(fields_of(self.key) - fields | (fields_of(self.key) & {"band"})):
            raise ValueError(
                f"`key: {self.key}` names {', '.join(lacking)}; `files` gives {', '.join(sorted(fields - {'band'})) or 'none'}"
            )
        if self.labels and (unknown := ({self.labels.field} if self.labels.field else fields_of(self.labels.file or "")) - fields):
            raise ValueError(f"`labels` names {', '.join(sorted(unknown))}; `files` gives {', '.join(sorted(fields - {'band'}))}")
        if not fields_of(self.key):
            raise ValueError(f"`key: {self.key}` names no field, so all patches would have the same key")
        return self

    @cached_property
    def band_names(self) -> tuple[str, ...]:
        return tuple(name for part in self.bands for name in part.names)

    @cached_property
    def per_band(self) -> bool:
        """Whether each band is a file of its own."""
        return "band" in fields_of(self.files)

    def band(self, name: str) -> "SourceBand":
        """What a band's statistics depend on."""
        return SourceBand(name, self._part(name).dtype, self.unit, self.nodata)

    def _part(self, name: str) -> Bands:
        return next(part for part in self.bands if name in part.names)

    def info(self, name: str, statistics: BandStatistics | None) -> BandInfo:
        """What the manifest says of a band."""
        part, canonical = self._part(name), self.canonical(name)
        known = {each.name: each for each in (*SENTINEL2_L1C.bands, *SENTINEL1.bands)}.get(canonical or "")
        return BandInfo(
            name=name,
            sensor=self.sensor,
            canonical_name=canonical,
            dtype=part.dtype,
            shape=list(part.shape),
            sizes_vary=self.sizes_vary,
            unit=self.unit,
            nodata="nan" if self.nodata is not None and math.isnan(self.nodata) else self.nodata,
            gsd_m=part.gsd_m,
            wavelength_nm=known.wavelength_nm if known else None,
            bandwidth_nm=known.bandwidth_nm if known else None,
            scale=self.scale,
            offset=list(self.offset),
            offset_applied=False,
            statistics=statistics,
        )

    def canonical(self, name: str) -> str | None:
        """How the sensor's own documents spell a band: ``B8A`` for ``B08A``, ``B02`` for ``B2``, ``VH`` for ``vh``."""
        if self.sensor == SENTINEL1.name:
            return name.upper() if name.upper() in SENTINEL1.band_names else None
        if self.sensor not in ("s2", "s2_l1c"):
            return None
        match = re.fullmatch(r"[Bb]0*(\d{1,2})([Aa]?)", name)
        spelled = f"B{match[1]}A" if match and match[2] else f"B{int(match[1]):02d}" if match else ""
        return spelled if spelled in SENTINEL2_L1C.band_names else None


class DatasetSpec(_Part):
    """One dataset: what it is called and the folders it comes in."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    title: str = ""
    patch_side_m: int | None = None
    grid: str = "as the dataset was published"
    inputs: tuple[Input, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _inputs_differ(self) -> "DatasetSpec":
        options = [each.option for each in self.inputs]
        sensors = [each.sensor for each in self.inputs]
        if len(set(options)) < len(options) or len(set(sensors)) < len(sensors):
            raise ValueError("two inputs have the same `option` or the same `sensor`")
        return self


@lru_cache
def fields_of(pattern: str) -> frozenset[str]:
    """Names in braces; raises ValueError if the braces do not match or a name is not plain."""
    names = set()
    for _, name, form, conversion in string.Formatter().parse(pattern):
        if name is None:
            continue
        if not _FIELD.fullmatch(name) or form or conversion:
            raise ValueError(f"{pattern!r} has a field {{{name}}}; a field is a word of small letters, digits and _")
        names.add(name)
    return frozenset(names)


def known_datasets() -> list[str]:
    return sorted(entry.name.removesuffix(".yaml") for entry in (resources.files(__package__) / "datasets").iterdir())


def load_spec(name: str) -> DatasetSpec:
    """A known dataset by its name, or the one a YAML file describes.

    Raises: RecipeError if there is no such dataset or file, or the file is not a description.
    """
    known = known_datasets()
    if name in known:
        text = (resources.files(__package__) / "datasets" / f"{name}.yaml").read_text(encoding="utf-8")
    elif not name.endswith((".yaml", ".yml")):
        raise RecipeError(f"{name!r} is no known dataset; known are {', '.join(known)}, or name a YAML file that describes one", name=name)
    else:
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"{name} cannot be read: {error}", path=name) from error
    try:
        return DatasetSpec.model_validate(load_yaml(text))
    except yaml.YAMLError as error:
        raise RecipeError(f"{name} is not YAML: {error}", path=name) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RecipeError(f"{name} does not describe a dataset: `{place}` {first['msg']}", path=name) from error


class Layout:
    """How the usual value of an input lies in bytes: safetensors' own order, the header the same for all."""

    def __init__(self, source: Input) -> None:
        shapes = {name: (part.dtype, part.shape) for part in source.bands for name in part.names}
        value = encode({name: np.zeros(shape, dtype) for name, (dtype, shape) in shapes.items()})
        self.bytes = len(value)
        self.header = np.frombuffer(value[: 8 + int.from_bytes(value[:8], "little")], np.uint8)
        # tensors lie one after the other, the widest type first, then by name
        order = sorted(shapes, key=lambda name: (-np.dtype(shapes[name][0]).itemsize, name))
        self.bands: dict[str, tuple[int, str, tuple[int, int]]] = {}  # band to first byte, dtype, shape
        at = len(self.header)
        for name in order:
            dtype, shape = shapes[name]
            self.bands[name] = (at, dtype, shape)
            at += math.prod(shape) * np.dtype(dtype).itemsize
        if at != self.bytes or not _lies_so(value, self.bands, len(self.header)):
            raise ShardError("safetensors lays tensors out in another order than expected; install the version in .ci/constraints.txt")


def _lies_so(value: bytes, bands: Mapping[str, tuple[int, str, tuple[int, int]]], header: int) -> bool:
    stated = json.loads(value[8:header])
    return all(stated[name]["data_offsets"][0] + header == at for name, (at, _, _) in bands.items())
