"""Whole datasets: the cubes in a NetCDF file or Zarr store, and the store of video chunks they become.

Bands that lie in variables of their own (``S2-L2A-B02``, ``S2-L2A-B03`` …) are put into one variable with a band
coordinate, as bands are coded together. Whatever is no series of images goes over as it is.
"""

import re
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from rsdata.errors import ShardError
from rsdata.shards.video.settings import DTYPES, MAX_FRAMES, MIN_SIDE_PX, VideoSettings, can_hold
from rsdata.shards.video.zarr_codec import VideoCodec

_TIME = ("time", "t")
_BAND = "band"  # or a name that begins so
_BAND_NAME = re.compile(r"(?P<family>.*?)[-_ ]?(?P<band>B(?:0[1-9]|1[0-2]|8A)|VV|VH|HH|HV)", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Series:
    """A cube of a dataset: (time, band, y, x), or (time, y, x) read as one band."""

    name: str
    array: xr.DataArray
    measures: bool  # False for classes and masks, which are never coded with loss
    nodata: float | None

    @property
    def bands(self) -> list[str]:
        return [str(name) for name in self.array[self.array.dims[1]].values] if self.array.ndim == 4 else [self.name]

    def cube(self) -> np.ndarray:
        """(time, band, y, x) in native byte order."""
        values = self.array.values
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        return values if values.ndim == 4 else values[:, None]


def open_series(path: Path, variables: Sequence[str] = (), nodata: float | None = None) -> tuple[list[Series], xr.Dataset]:
    """The cubes of a dataset, and the rest of it.

    Args:
        path: a NetCDF file or a Zarr store.
        variables: those that hold measurements, and no others do; if none are named, those with a band dimension or
            named after a band of Sentinel-1 or Sentinel-2.
        nodata: for measurements whose file names no fill value.

    Raises: ShardError if it cannot be read, holds no series of images or none of a name.
    """
    data = _open(path)
    data = data.assign({name: _unsigned(data[name]) for name in data})
    if unknown := [name for name in variables if name not in data]:
        raise ShardError(f"{path} has no variable {unknown[0]}; it has {', '.join(map(str, data))}", path=str(path))
    found: list[Series] = []
    families: dict[tuple[str, tuple[Any, ...], str], list[tuple[str, str]]] = {}
    for name in map(str, data):
        array = data[name]
        if not _is_series(array):
            continue
        matched = _BAND_NAME.fullmatch(name)
        if array.ndim == 3 and matched and (not variables or name in variables):
            key = (matched["family"] or "bands", array.dims, str(array.dtype.newbyteorder("=")))
            families.setdefault(key, []).append((name, matched["band"].upper()))
        else:
            measures = name in variables if variables else array.ndim == 4
            found.append(Series(name, array, measures, _nodata(array, nodata if measures else None)))
    for (family, _, dtype), members in families.items():
        label = family if sum(each[0] == family for each in families) == 1 else f"{family}_{dtype}"
        dimension = "band" if len(families) == 1 and "band" not in data.dims else f"band_{label}"
        first = data[members[0][0]]
        stacked = xr.concat([data[name].drop_attrs() for name, _ in members], dimension).transpose(first.dims[0], dimension, ...)
        stacked = stacked.assign_coords({dimension: [band for _, band in members]}).assign_attrs(first.attrs)
        found.append(Series(label, stacked.rename(label), True, _nodata(stacked, nodata)))
    if not found:
        raise ShardError(
            f"{path} holds no series of images: no variable is (time, y, x) or (time, band, y, x) of {', '.join(DTYPES)}", path=str(path)
        )
    gone = {name for members in families.values() for name, _ in members} | {each.name for each in found}
    return found, data.drop_vars([name for name in data if name in gone])


def _open(path: Path) -> xr.Dataset:
    try:
        if path.is_dir():
            return xr.open_zarr(path, mask_and_scale=False, chunks=None, consolidated=False)
        return xr.open_dataset(path, mask_and_scale=False)
    except ImportError as error:
        raise ShardError(f"{path} cannot be read without h5py and h5netcdf; install rsdata[video]", path=str(path)) from error
    except (OSError, ValueError, KeyError) as error:
        raise ShardError(f"{path} is no NetCDF file and no Zarr store that can be read: {error}", path=str(path)) from error


def _unsigned(array: xr.DataArray) -> xr.DataArray:
    """NetCDF-3 has no unsigned integers and says so in an attribute."""
    if array.attrs.get("_Unsigned") != "true" or array.dtype.kind != "i":
        return array
    unsigned = np.dtype(f"u{array.dtype.itemsize}")
    attributes = {name: value for name, value in array.attrs.items() if name != "_Unsigned"}
    if "_FillValue" in attributes:
        attributes["_FillValue"] = np.asarray(attributes["_FillValue"]).astype(array.dtype).view(unsigned)[()]
    return array.copy(data=array.values.view(unsigned)).drop_attrs().assign_attrs(attributes)


def _is_series(array: xr.DataArray) -> bool:
    timed = array.ndim in (3, 4) and array.dims[0] in _TIME and (array.ndim == 3 or str(array.dims[1]).startswith(_BAND))
    return timed and array.dtype.newbyteorder("=").name in DTYPES and min(array.shape[-2:]) >= MIN_SIDE_PX


def _nodata(array: xr.DataArray, otherwise: float | None) -> float | None:
    stated = array.attrs.get("_FillValue", array.encoding.get("_FillValue"))
    value = otherwise if stated is None or np.isnan(stated) else float(stated)
    if value is not None and not can_hold(array.dtype, value):
        raise ShardError(f"{array.name} is {array.dtype} and cannot hold the no-data value {value:g}; name another", nodata=value)
    return value


def settings_for(series: Series, settings: VideoSettings) -> VideoSettings:
    """The settings asked for, with the cube's own no-data value; lossless for what is no measurement."""
    if not series.measures:
        return VideoSettings(keyint=settings.keyint)
    return settings if series.nodata is None else replace(settings, nodata=series.nodata)


class StoreWriter:
    """A Zarr v3 store whose cubes are video; grows beside its place and moves there when ``finish`` is called."""

    def __init__(self, target: Path, rest: xr.Dataset) -> None:
        """Raises: ShardError if something lies there already."""
        if target.exists():
            raise ShardError(f"{target} is there already; name a store that is not", path=str(target))
        self.target, self.aside = target, target.with_name(f".{target.name}.part")
        shutil.rmtree(self.aside, ignore_errors=True)
        plain = rest.copy()
        for variable in plain.variables.values():
            variable.encoding.clear()
            if "_FillValue" in variable.attrs:
                variable.encoding["_FillValue"] = variable.attrs.pop("_FillValue")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zarr has not settled how text is stored in version 3
            plain.to_zarr(self.aside, zarr_format=3, consolidated=False, mode="w")
        self._attributes = plain.attrs
        self._group = zarr.open_group(self.aside, mode="a")

    def add(self, series: Series, settings: VideoSettings, tile_px: int) -> Iterator[tuple[str, np.ndarray]]:
        """Make room for a cube; yields the chunks' files, relative to the store, and what is to be coded into each.

        Cubes at the edge are filled up with their last rows and columns, which a reader never sees.
        """
        array, (rows, columns) = series.array, series.array.shape[-2:]
        chunk = (min(len(array), MAX_FRAMES), *array.shape[1:-2], min(rows, tile_px), min(columns, tile_px))
        attributes = {name: _plain(value) for name, value in array.attrs.items()}
        if series.array.ndim == 4 and str(array.dims[1]) not in self._group:
            self._coordinate(str(array.dims[1]), series.bands)
        self._group.create_array(
            series.name,
            shape=array.shape,
            chunks=chunk,
            dtype=array.dtype.newbyteorder("="),
            serializer=VideoCodec(settings),
            filters=None,
            compressors=None,
            fill_value=0 if series.nodata is None else array.dtype.type(series.nodata),
            dimension_names=[str(name) for name in array.dims],
            attributes=attributes,
        )
        cube = series.cube()
        for frame in range(0, len(cube), chunk[0]):
            for row in range(0, rows, chunk[-2]):
                for column in range(0, columns, chunk[-1]):
                    part = cube[frame : frame + chunk[0], :, row : row + chunk[-2], column : column + chunk[-1]]
                    wanted = (chunk[0], cube.shape[1], *chunk[-2:])
                    filled = np.pad(part, [(0, size - have) for size, have in zip(wanted, part.shape, strict=True)], mode="edge")
                    place = [frame // chunk[0], *([0] if array.ndim == 4 else []), row // chunk[-2], column // chunk[-1]]
                    yield "/".join([series.name, "c", *map(str, place)]), filled

    def put(self, file: str, blob: bytes) -> None:
        path = self.aside / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(blob)

    def finish(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # consolidated metadata is no part of Zarr 3 yet; xarray looks for it all the same
            zarr.consolidate_metadata(self.aside)
        self.aside.replace(self.target)

    def _coordinate(self, name: str, values: Sequence[str]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            xr.Dataset(coords={name: list(values)}, attrs=self._attributes).to_zarr(self.aside, zarr_format=3, consolidated=False, mode="a")
        self._group = zarr.open_group(self.aside, mode="a")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    return value.tolist() if isinstance(value, np.ndarray) else value


def sizes(target: Path, names: Sequence[str]) -> Mapping[str, int]:
    """Bytes of all chunks of each cube of a store."""
    return {name: sum(path.stat().st_size for path in (target / name).rglob("*") if path.is_file()) for name in names}
