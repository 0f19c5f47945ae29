"""Zarr shards: Zarr v3, one group per sensor and resolution, all bands of a patch in one inner chunk of a large file.

Anything that reads Zarr v3 opens them. Here a patch is read without going through zarr: its chunk's place stands in the
file's index, so an uncompressed patch is a view into the mapped file, and a compressed one is decoded by itself.
"""

import math
import mmap
import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import google_crc32c
import numpy as np
import pandas as pd
import zarr
from zarr.codecs import BloscCodec, ZstdCodec
from zarr.errors import ZarrUserWarning

from rsdata.errors import CatalogError, GridError, ShardError
from rsdata.foreign import load_json
from rsdata.grid import Tile, corners
from rsdata.records import BandInfo, PatchId, keys_of
from rsdata.sensors import SENTINEL2
from rsdata.shards.compression import MAX_VALUE_BYTES, NAMES, Compression, stated_bytes
from rsdata.shards.manifest import read_index
from rsdata.shards.reading import Layout, Piece, Plane
from rsdata.shards.values import encode

METADATA_FILE = "zarr.json"
PIXELS = "pixels"  # the array of each group
_FILE_BYTES = 128 * 2**20  # pixels per file of a shard; a writer holds one file in memory
NO_CHUNK = 2**64 - 1  # place of a chunk that is not stored, as all of it is the fill value
_MOST_MAPPED = 256  # files held open at a time
CRC_BYTES = 4
# written where they are known; the names a reader is told belong to the pixels
_COORDINATES = ("patch_id", "band", "wavelength", "scale", "offset", "x", "y", "epsg", "ul_x", "ul_y")


@dataclass(frozen=True)
class Group:
    """Bands of one sensor that share shape and type, stored together."""

    name: str
    sensor: str
    bands: tuple[BandInfo, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.bands[0].dtype)

    @property
    def chunk_shape(self) -> tuple[int, int, int]:
        """(band, y, x) of one patch."""
        height, width = self.bands[0].shape
        return len(self.bands), height, width

    @property
    def chunk_bytes(self) -> int:
        return math.prod(self.chunk_shape) * self.dtype.itemsize


def groups_of(bands: Sequence[BandInfo]) -> list[Group]:
    """Groups in the order of their first bands: ``s2_10m``, ``s2_20m``, ``s2_60m``, ``s1``, ``reference_map``.

    A sensor whose bands all share one shape gives one group with its own name, Sentinel-2 aside; where there are several,
    the resolution follows the name, or the side in pixels if the resolution is not known.

    Raises: ShardError if patches of one band differ in size, which a Zarr array cannot hold.
    """
    varying = sorted({band.sensor for band in bands if band.sizes_vary})
    if varying:
        raise ShardError(f"patches of {', '.join(varying)} differ in size, which Zarr cannot hold; use lmdb", sensors=varying)
    layouts: dict[tuple[str, tuple[int, ...], str], list[BandInfo]] = {}
    for band in bands:
        layouts.setdefault((band.sensor, tuple(band.shape), band.dtype), []).append(band)
    found: list[Group] = []
    for (sensor, shape, _), members in layouts.items():
        alone = sum(other == sensor for other, *_ in layouts) == 1 and sensor != SENTINEL2.name
        gsd_m = members[0].gsd_m
        name = sensor if alone else f"{sensor}_{gsd_m:g}m" if gsd_m is not None else f"{sensor}_{shape[1]}px"
        if any(other.name == name for other in found):
            name = f"{name}_{members[0].dtype}"
        found.append(Group(name, sensor, tuple(members)))
    return found


# --- writing ----------------------------------------------------------------------------------------------


def write_zarr(
    folder: Path,
    index: pd.DataFrame,
    bands: Sequence[BandInfo],
    read: Callable[[str], Mapping[str, np.ndarray]],
    *,
    title: str,
    compression: Compression | None = None,
) -> list[Path]:
    """Write the groups of a shard; return its files, sorted.

    Row i of every group belongs to row i of the index. Where a patch has nothing of a sensor, the row is the fill value.

    Args:
        index: rows of ``ShardIndexRow`` in the order they are to have.
        bands: what the keys hold.
        read: bands (y, x) of a key of the index.
        compression: of each patch; none if absent.

    Raises: ShardError if a key does not hold the bands as stated.
    """
    root = zarr.open_group(folder, mode="w-", zarr_format=3, attributes={"Conventions": "CF-1.11", "title": title})
    place = _places(index)
    for group in groups_of(bands):
        keys = keys_of(index, group.sensor)
        node = root.create_group(group.name, attributes={"sensor": group.sensor, "bands": [band.name for band in group.bands]})
        per_file = max(1, min(len(index), _FILE_BYTES // group.chunk_bytes))
        array = node.create_array(
            PIXELS,
            shape=(len(index), *group.chunk_shape),
            dtype=group.dtype,
            chunks=(1, *group.chunk_shape),
            shards=(per_file, *group.chunk_shape),
            compressors=_codec(compression, group.dtype),
            fill_value=_fill(group),
            dimension_names=("patch", "band", "y", "x"),
            attributes=_attributes(group),
        )
        for first in range(0, len(index), per_file):
            rows = slice(first, min(first + per_file, len(index)))
            if not any(keys[rows]):
                continue
            block = np.full((rows.stop - first, *group.chunk_shape), _fill(group), group.dtype)
            for within, key in enumerate(keys[rows]):
                if key is not None:
                    block[within] = stacked(read(key), key, group)
            array[rows] = block
            if not _file_of(folder / group.name / PIXELS, first // per_file).is_file():
                array.with_config({"write_empty_chunks": True})[rows] = block  # patches that are all fill value are stored too
        _write_coordinates(node, group, index, place)
        _consolidate(folder, group.name)
    _consolidate(folder, "")
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _file_of(array: Path, number: int) -> Path:
    return array / "c" / str(number) / "0" / "0" / "0"


def _consolidate(folder: Path, path: str) -> None:
    """Copy the metadata of what lies below into a group's own, without which xarray asks file by file, and complains."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Consolidated metadata is currently not part", ZarrUserWarning)
        zarr.consolidate_metadata(folder, path=path or None, zarr_format=3)


def stacked(values: Mapping[str, np.ndarray], key: str, group: Group) -> np.ndarray:
    """(band, y, x) of one patch. Raises: ShardError if it does not hold the bands as stated."""
    for band in group.bands:
        found = values.get(band.name)
        if found is None or found.shape != tuple(band.shape) or found.dtype != group.dtype:
            what = "is missing" if found is None else f"is {found.dtype} {found.shape}"
            raise ShardError(f"{key}: {band.name} {what}; expected {group.dtype} {tuple(band.shape)}", key=key, band=band.name)
    return np.stack([values[band.name] for band in group.bands])


def _codec(compression: Compression | None, dtype: np.dtype[Any]) -> BloscCodec | ZstdCodec | None:
    if compression is None:
        return None
    if compression.name == "zstd":
        return ZstdCodec(level=compression.level)
    return BloscCodec(cname="zstd", clevel=compression.level, shuffle="bitshuffle", typesize=dtype.itemsize)


def _fill(group: Group) -> float | int:
    nodata = group.bands[0].nodata
    if nodata is None:
        return math.nan if group.dtype.kind == "f" else 0
    return float("nan") if nodata == "nan" else group.dtype.type(nodata).item()


def _attributes(group: Group) -> dict[str, Any]:
    """CF attributes. Nothing that makes a reader scale or mask by itself: counts stay counts."""
    band = group.bands[0]
    found: dict[str, Any] = {
        "units": "1" if band.unit == "counts" else band.unit,
        "stored": band.unit,
        "coordinates": " ".join(_COORDINATES),
    }
    if band.gsd_m is not None:
        found["gsd_m"] = band.gsd_m
    if band.nodata is not None:
        found["nodata"] = band.nodata
    if band.unit == "counts":
        found["comment"] = "physical value = (counts + offset) * scale, by band; see the manifest where several offsets occur"
    return found


def _write_coordinates(node: zarr.Group, group: Group, index: pd.DataFrame, place: pd.DataFrame | None) -> None:
    def write(name: str, dimension: str, values: Sequence[Any] | np.ndarray, dtype: Any, **attributes: Any) -> None:
        array = node.create_array(
            name,
            shape=(len(values),),
            dtype=dtype,
            chunks=(max(1, len(values)),),
            compressors=ZstdCodec(level=3),
            dimension_names=(dimension,),
            attributes=attributes,
        )
        array[:] = np.asarray(values, dtype=object if dtype == "string" else dtype)

    write("patch_id", "patch", index["patch_id"].tolist(), "string", long_name="patch")
    write("band", "band", [band.name for band in group.bands], "string", long_name="band")
    if all(band.wavelength_nm is not None for band in group.bands):
        wavelengths = [band.wavelength_nm for band in group.bands]
        write("wavelength", "band", wavelengths, "float64", standard_name="radiation_wavelength", units="nm")
    if group.bands[0].unit == "counts":
        write("scale", "band", [band.scale for band in group.bands], "float64", long_name="physical units per count")
        if all(len(band.offset) == 1 for band in group.bands):
            write("offset", "band", [band.offset[0] for band in group.bands], "float64", long_name="counts added before scaling")
    if place is None or group.bands[0].gsd_m is None:
        return
    centres_m = (np.arange(group.chunk_shape[1]) + 0.5) * group.bands[0].gsd_m
    write("x", "x", centres_m, "float64", long_name="eastward from the patch's upper-left corner, pixel centre", units="m")
    write("y", "y", -centres_m, "float64", long_name="northward from the patch's upper-left corner, pixel centre", units="m")
    write("epsg", "patch", place["epsg"].to_numpy(), "int32", long_name="UTM zone of the patch, EPSG code")
    write("ul_x", "patch", place["ul_x_m"].to_numpy(), "float64", long_name="easting of the patch's upper-left corner", units="m")
    write("ul_y", "patch", place["ul_y_m"].to_numpy(), "float64", long_name="northing of the patch's upper-left corner", units="m")


def _places(index: pd.DataFrame) -> pd.DataFrame | None:
    """Zone and upper-left corner of each patch, or None if the ids do not tell them."""
    try:
        ids = [PatchId.parse(patch_id) for patch_id in index["patch_id"]]
        tiles = {each.tile: Tile.from_name(each.tile) for each in ids}
    except (CatalogError, GridError):
        return None
    found = [(tiles[each.tile].epsg, *corners(tiles[each.tile], np.array([each.col]), np.array([each.row]))) for each in ids]
    return pd.DataFrame([(epsg, float(x[0]), float(y[0])) for epsg, x, y in found], columns=["epsg", "ul_x_m", "ul_y_m"])


# --- reading ----------------------------------------------------------------------------------------------

_MAPPING = threading.RLock()  # held while files are looked up among those mapped, not while one is opened
# a child that is forked while another thread holds the lock must not find it held for ever
os.register_at_fork(before=_MAPPING.acquire, after_in_parent=_MAPPING.release, after_in_child=_MAPPING.release)


class Pixels:
    """The array of one group, read patch by patch straight from its files."""

    def __init__(self, folder: Path, mapped: "OrderedDict[Path, tuple[mmap.mmap, np.ndarray]]", most_bytes: int) -> None:
        self.folder = folder
        self._mapped = mapped
        said = _read_json(folder / METADATA_FILE)
        try:
            (sharding,) = said["codecs"]
            inner, outer = sharding["configuration"], said["chunk_grid"]["configuration"]["chunk_shape"]
            self.shape = tuple(int(size) for size in said["shape"])
            self.dtype = np.dtype(said["data_type"]).newbyteorder("<")
            self.per_file = int(outer[0])
            order, *rest = inner["codecs"]
            known = (
                sharding["name"] == "sharding_indexed"
                and said["zarr_format"] == 3
                and len(self.shape) == 4
                and min(*self.shape, self.per_file) > 0
                and [*outer[1:]] == [*inner["chunk_shape"][1:]] == [*self.shape[1:]]
                and inner["chunk_shape"][0] == 1
                and inner.get("index_location", "end") == "end"
                and [codec["name"] for codec in inner["index_codecs"]] == ["bytes", "crc32c"]
                and order["name"] == "bytes"
                and (self.dtype.itemsize == 1 or order["configuration"]["endian"] == "little")
                and [codec["name"] for codec in rest] in ([], *([name] for name in NAMES))
            )
            self.compression = Compression(rest[0]["name"]) if known and rest else None
            self.codec = self.compression.codec() if self.compression else None
            self.fill = self.dtype.type(said["fill_value"])
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ShardError(f"{folder / METADATA_FILE} does not describe an array of patches ({error!r}); make the shard again") from error
        if not known:
            raise ShardError(
                f"{folder} is laid out otherwise than rsdata writes it; expected whole patches as inner chunks, uncompressed or under "
                "zstd or Blosc; read it with zarr or xarray, or pack it again",
                path=str(folder),
            )
        self.chunk_shape = self.shape[1:]
        self.chunk_bytes = math.prod(self.chunk_shape) * self.dtype.itemsize
        if self.chunk_bytes > most_bytes:
            raise ShardError(
                f"{folder} claims patches of {self.chunk_bytes:,} bytes; the bands need at most {most_bytes:,}, so the shard is damaged, "
                "make it again",
                path=str(folder),
            )

    def read(self, row: int) -> np.ndarray:
        """(band, y, x) of one patch, not to be written to.

        Raises: ShardError if the file is missing, cut short or damaged.
        """
        stored = self.stored(row)
        if stored is None:
            return np.broadcast_to(self.fill, self.chunk_shape)
        if self.codec is None or self.compression is None:
            if len(stored) != self.chunk_bytes:
                raise self._damaged(row, f"its chunk has {len(stored)} bytes instead of {self.chunk_bytes}")
            return np.frombuffer(stored, self.dtype).reshape(self.chunk_shape)
        if (stated := stated_bytes(stored, self.compression.name)) != self.chunk_bytes:
            raise self._damaged(row, f"its chunk unpacks to {stated} bytes instead of {self.chunk_bytes}")
        pixels = np.empty(self.chunk_bytes, np.uint8)
        try:
            self.codec.decode(stored, out=pixels)
        except (RuntimeError, ValueError) as error:
            raise self._damaged(row, f"its chunk cannot be decoded: {error}") from error
        return pixels.view(self.dtype).reshape(self.chunk_shape)

    def stored(self, row: int) -> memoryview | None:
        """The bytes of one patch as they lie in its file, None if all of it is the fill value."""
        file, slot = divmod(row, self.per_file)
        path = _file_of(self.folder, file)
        mapped, places = self._map(path)
        first, length = (int(each) for each in places[slot])
        if first == length == NO_CHUNK:
            return None
        if first + length > len(mapped):
            raise self._damaged(row, "its chunk lies beyond the end of the file")
        return memoryview(mapped)[first : first + length]

    def _map(self, path: Path) -> tuple[mmap.mmap, np.ndarray]:
        with _MAPPING:
            known = self._mapped.get(path)
            if known is not None:
                self._mapped.move_to_end(path)
                return known
        index_bytes = self.per_file * 16
        try:
            with path.open("rb") as stream:
                whole = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise ShardError(f"{path} cannot be read ({error}); make the shard again", path=str(path)) from error
        tail = bytes(whole[-index_bytes - CRC_BYTES :])
        if len(tail) != index_bytes + CRC_BYTES or google_crc32c.value(tail[:index_bytes]) != int.from_bytes(tail[index_bytes:], "little"):
            raise ShardError(f"{path} is cut short or damaged: its index does not fit its checksum; make the shard again", path=str(path))
        opened = whole, np.frombuffer(tail, "<u8", self.per_file * 2).reshape(-1, 2)
        with _MAPPING:
            self._mapped[path] = opened  # in the place of another thread's, if both opened it
            if len(self._mapped) > _MOST_MAPPED:
                self._mapped.popitem(last=False)  # closed by itself once nobody looks into it any more
        return opened

    def _damaged(self, row: int, why: str) -> ShardError:
        return ShardError(f"{self.folder}, patch {row}: {why}; the shard is damaged, make it again", path=str(self.folder), row=row)


def _layout(names: Sequence[str], pixels: Pixels) -> Layout:
    """Where the bands lie in a chunk."""
    _, height, width = pixels.chunk_shape
    plane_bytes = height * width * pixels.dtype.itemsize
    dtype = pixels.dtype.newbyteorder("=").name
    return Layout({name: Plane(number * plane_bytes, dtype, (height, width)) for number, name in enumerate(names)})


class ZarrStore:
    """Read access to a Zarr shard by key; files are mapped on first use, again in every process that gets the store."""

    def __init__(self, path: Path, most_bytes: int = MAX_VALUE_BYTES) -> None:
        """Args:
            path: the folder of the shard, with its index.
            most_bytes: that one patch of a group may have.

        Raises: ShardError if there is no such shard or its groups are not as rsdata writes them.
        """
        if not (path / METADATA_FILE).is_file():
            raise ShardError(f"{path} holds no {METADATA_FILE}; name the folder of a Zarr shard", path=str(path))
        self.path = path
        self._most_bytes = most_bytes
        index = read_index(path)
        self._mapped: OrderedDict[Path, tuple[mmap.mmap, np.ndarray]] = OrderedDict()
        self._groups: dict[str, list[tuple[list[str], Pixels]]] = {}
        for folder in sorted(child.parent for child in path.glob(f"*/{METADATA_FILE}")):
            said = _read_json(folder / METADATA_FILE).get("attributes")
            if not (isinstance(said, dict) and isinstance(said.get("bands"), list)):
                raise ShardError(f"{folder / METADATA_FILE} does not name the bands of its group; make the shard again", path=str(folder))
            sensor, names = str(said.get("sensor")), [str(name) for name in said["bands"]]
            pixels = self._open_pixels(folder / PIXELS)
            if pixels.shape[:2] != (len(index), len(names)):
                raise ShardError(
                    f"{folder} holds {pixels.shape[:2]} patches and bands; expected {(len(index), len(names))}", path=str(folder)
                )
            self._groups.setdefault(sensor, []).append((names, pixels))
        self._layouts = {
            (sensor, number): _layout(names, pixels)
            for sensor, groups in self._groups.items()
            for number, (names, pixels) in enumerate(groups)
        }
        self._place: dict[str, tuple[str, int]] = {}
        for sensor in self._groups:
            for row, key in enumerate(keys_of(index, sensor)):
                if key is not None:
                    self._place.setdefault(key, (sensor, row))

    def _open_pixels(self, folder: Path) -> Pixels:
        return Pixels(folder, self._mapped, self._most_bytes)

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "most_bytes": self._most_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __enter__(self) -> "ZarrStore":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        with _MAPPING:
            self._mapped.clear()

    def __len__(self) -> int:
        return len(self._place)

    def keys(self) -> Iterator[str]:
        yield from sorted(self._place, key=str.encode)

    def read(self, key: str) -> Mapping[str, np.ndarray]:
        """Bands (y, x) of one key, not to be written to.

        Raises: ShardError if the key is not there or its chunk is damaged.
        """
        sensor, row = self._place_of(key)
        found: dict[str, np.ndarray] = {}
        for names, pixels in self._groups[sensor]:
            found.update(zip(names, pixels.read(row), strict=True))
        return found

    def read_bytes(self, key: str) -> bytes:
        """The same as a safetensors dictionary."""
        return encode(self.read(key))

    @contextmanager
    def pieces(self, keys: Sequence[str], bands: Sequence[str]) -> Iterator[list[Piece]]:
        """Memory of the keys' chunks, as they lie in their files where nothing compresses them; see ``PieceStore``."""
        wanted = set(bands)
        gathered: dict[tuple[str, int], tuple[list[int], list[np.ndarray]]] = {}
        for place, key in enumerate(keys):
            sensor, row = self._place_of(key)
            for number, (names, pixels) in enumerate(self._groups[sensor]):
                if wanted.intersection(names):
                    rows, memory = gathered.setdefault((sensor, number), ([], []))
                    rows.append(place)
                    memory.append(np.ascontiguousarray(pixels.read(row)).reshape(-1).view(np.uint8))
        yield [Piece(self._layouts[of], np.array(rows), memory) for of, (rows, memory) in gathered.items()]

    def _place_of(self, key: str) -> tuple[str, int]:
        if key not in self._place:
            raise ShardError(f"{self.path} has no key {key}; see its index.parquet for those it has", key=key)
        return self._place[key]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        said = load_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ShardError(f"{path} cannot be read ({error}); make the shard again", path=str(path)) from error
    if not isinstance(said, dict):
        raise ShardError(f"{path} is no Zarr metadata; make the shard again", path=str(path))
    return said
