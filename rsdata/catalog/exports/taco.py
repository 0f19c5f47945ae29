"""TACO: a ``.tacozip`` of GeoTIFFs that GDAL reads in place, with tables that tacoreader asks by SQL.

A patch is a folder of one GeoTIFF for each resolution of each sensor; its split, classes, place and time stand in the first table, the
bands of each file in the second. All patches of a container must hold the same files, so those that lack a sensor have a container
of their own. A container is never cut: over several, tacoreader 2.4.21 joins the tables by numbers that each of them counts anew, and
so gives a patch the files of others. Patches come by their ids, as tacotoolbox notes where files lie in that order, whatever it is given.

Source: TACO specification 0.5.0, written by tacotoolbox.
"""

import shutil
import struct
import zipfile
from collections.abc import Sequence
from datetime import UTC
from pathlib import Path
from typing import Any

import pyarrow as pa
import shapely

from rsdata.catalog.exports.geotiff import geotiff
from rsdata.catalog.exports.side_by_side import side_by_side
from rsdata.catalog.exports.source import Advance, Source
from rsdata.catalog.exports.stacks import Sample, Stack, pixels_of, samples_of, stacks_of
from rsdata.catalog.geoparquet import GEOMETRY
from rsdata.catalog.sources import data_sources, summary_of
from rsdata.errors import CatalogError
from rsdata.grid import PATCH_SIDE_M
from rsdata.sensors import REFERENCE_MAP

_NO_TIME = struct.pack("<2H", 0, 1 << 5 | 1)  # 0:00 of 1 January 1980
_READABLE = struct.pack("<I", 0o100644 << 16)  # a file that its owner may write and all may read
_FILES = ".files"  # folder of the GeoTIFFs until they are packed
_GSD_M = 10  # of the grid that stac:tensor_shape and stac:geotransform describe
_SCHEMA = pa.schema(
    {
        "split": pa.string(),
        "labels": pa.list_(pa.string()),
        "country": pa.string(),
        "season": pa.string(),
        "s1_name": pa.string(),
        "stac:crs": pa.string(),
        "stac:tensor_shape": pa.list_(pa.int64()),
        "stac:geotransform": pa.list_(pa.float64()),
        "stac:time_start": pa.timestamp("us"),  # UTC, as the specification has it
        "stac:centroid": pa.binary(),  # WKB, EPSG:4326
    }
)


class Taco:
    """See the module."""

    summary = "TACO: containers of GeoTIFFs with tables for SQL, read in place by GDAL"

    def write(self, source: Source, folder: Path, *, workers: int = 1, advance: Advance = lambda n: None) -> dict[str, int]:
        """Raises: CatalogError if tacotoolbox is not installed or refuses the dataset."""
        toolbox = _toolbox()
        stacks = stacks_of(source.manifest)
        samples = sorted((sample for each in samples_of(source).values() for sample in each), key=lambda sample: f"{sample.id}/")
        gsd_m = {(band.sensor, band.name): band.gsd_m for band in source.manifest.bands}
        nodata = {(band.sensor, band.name): None if band.nodata is None else float(band.nodata) for band in source.manifest.bands}
        files = folder / _FILES

        def write_files(sample: Sample) -> tuple[str, ...]:
            """The GeoTIFFs of one patch; the names of its stacks."""
            made = files / sample.id
            made.mkdir(parents=True)
            there = []
            for stack, values in pixels_of(source, sample, stacks):
                if values is None:
                    continue
                band = (stack.sensor, stack.bands[0])
                corner_m = (float(sample.row["ul_x_m"]), float(sample.row["ul_y_m"]))
                side_m = gsd_m[band] or PATCH_SIDE_M / stack.shape[0]
                place = {"epsg": sample.row["epsg"], "corner_m": corner_m, "gsd_m": float(side_m), "nodata": nodata[band]}
                (made / f"{stack.name}.tif").write_bytes(geotiff(values, names=stack.bands, **place))
                there.append(stack.name)
            return tuple(there)

        alike: dict[tuple[str, ...], list[Sample]] = {}
        for sample, there in zip(samples, side_by_side(write_files, samples, workers), strict=True):
            alike.setdefault(there, []).append(sample)
            advance(1)
        centres = dict(zip(source.patches["patch_id"], shapely.to_wkb(shapely.centroid(source.patches[GEOMETRY].array)), strict=True))
        for there, group in sorted(alike.items()):
            lacking = "-".join(["without", *sorted({stack.sensor for stack in stacks if stack.name not in there})])
            complete = len(there) == len(stacks)
            name = dataset_id(source.name) if complete else f"{dataset_id(source.name)}-{lacking}"
            target = (folder if complete else folder / lacking) / f"{name}.tacozip"
            table = _table(group, centres)
            packed = [_packed(toolbox, sample, table.slice(row, 1), files, stacks, there) for row, sample in enumerate(group)]
            _create(toolbox, packed, _about(toolbox, source, group, name), target, files)
        shutil.rmtree(files)
        return {"patches": len(samples), "containers": len(alike)}


def _toolbox() -> Any:
    """Raises: CatalogError if it is not installed."""
    try:
        import tacotoolbox
    except ImportError as error:
        raise CatalogError("an export as taco needs tacotoolbox; install it with pip install 'rsdata[taco]'") from error
    tacotoolbox.verbose(False)  # it would log beside our bar and our message
    return tacotoolbox


def _create(toolbox: Any, samples: list[Any], about: dict[str, Any], target: Path, scratch: Path) -> None:
    """Write one container. Raises: CatalogError if the toolbox refuses."""
    try:
        tortilla = toolbox.datamodel.Tortilla(samples=samples)
        toolbox.create(toolbox.datamodel.Taco(tortilla=tortilla, **about), target, split_size=None, temp_dir=scratch)
    except Exception as error:  # its own errors have no public name, and those of pydantic and of the disk come through
        raise CatalogError(f"tacotoolbox cannot write {target.name}: {' '.join(str(error).split())}", path=str(target)) from error
    forget_when(target)


def forget_when(path: Path) -> None:
    """Give every member of a zip the first time that the format knows and usual rights, so that the same members are the same bytes.

    Source: APPNOTE.TXT of the zip format, 4.3.7 and 4.3.12.
    """
    with zipfile.ZipFile(path) as archive:
        heads, place = [member.header_offset for member in archive.infolist()], archive.start_dir
    with path.open("r+b") as file:
        for head in heads:
            file.seek(head + 10)
            file.write(_NO_TIME)
        for _ in heads:
            file.seek(place)
            record = file.read(46)
            if record[:4] != b"PK\1\2":
                raise CatalogError(f"{path} is no zip as tacotoolbox writes them: no member is listed at byte {place}", path=str(path))
            file.seek(place + 12)
            file.write(_NO_TIME)
            file.seek(place + 38)
            file.write(_READABLE)
            place += 46 + sum(struct.unpack("<3H", record[28:34]))  # name, extra field and comment


def dataset_id(name: str) -> str:
    """The recipe's name as TACO takes one: letters, digits, - and _, a letter among them."""
    plain = name.replace(".", "-")
    return plain if any(sign.isalpha() for sign in plain) else f"dataset-{plain}"


def _table(samples: Sequence[Sample], centres: dict[str, bytes]) -> pa.Table:
    """What is known of each patch, a row for each."""
    side_px = PATCH_SIDE_M // _GSD_M
    rows = [
        {
            **{name: sample.row[name] for name in ("split", "labels", "country", "season", "s1_name")},
            "stac:crs": f"EPSG:{sample.row['epsg']}",
            "stac:tensor_shape": [side_px, side_px],
            "stac:geotransform": [sample.row["ul_x_m"], _GSD_M, 0, sample.row["ul_y_m"], 0, -_GSD_M],
            "stac:time_start": sample.row["datetime"].astimezone(UTC).replace(tzinfo=None),
            "stac:centroid": centres[sample.id],
        }
        for sample in samples
    ]
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


def _packed(toolbox: Any, sample: Sample, row: pa.Table, files: Path, stacks: Sequence[Stack], there: Sequence[str]) -> Any:
    """A patch as the toolbox takes it: its row, and its files with their bands."""
    children = []
    for stack in stacks:
        if stack.name in there:
            child = toolbox.datamodel.Sample(id=f"{stack.name}.tif", path=files / sample.id / f"{stack.name}.tif")
            child.extend_with(pa.table({"bands": pa.array([list(stack.bands)], pa.list_(pa.string()))}))
            children.append(child)
    folder = toolbox.datamodel.Sample(id=sample.id, path=toolbox.datamodel.Tortilla(samples=children))
    folder.extend_with(row)
    return folder


def _about(toolbox: Any, source: Source, samples: Sequence[Sample], name: str) -> dict[str, Any]:
    """What ``COLLECTION.json`` says of the dataset."""
    patches = source.patches[source.patches["patch_id"].isin([sample.id for sample in samples])]
    sources = data_sources(source.recipe, patches, source.dataset)
    provider = toolbox.taco.datamodel.Provider
    roles = ["producer", "licensor"]
    providers = {each.provider: provider(name=each.provider, roles=roles, url=each.url) for each in reversed(sources)}
    stated = [source.recipe.licence] if source.recipe.licence else [each.licence_url or each.licence for each in sources]
    sensors = [name for name in source.sensors if samples[0].keys.get(name) is not None]
    has_map = samples[0].keys.get(REFERENCE_MAP.name) is not None
    tasks = {"scene-classification": bool(source.manifest.labels), "semantic-segmentation": has_map}
    return {
        "id": name,
        "title": source.title[:250],
        "dataset_version": f"1.0.0+{source.dataset.recipe_sha256[:12]}",
        "description": summary_of(source.recipe, patches, sensors),
        "licenses": list(dict.fromkeys(stated)) or ["not stated"],
        "providers": list(providers.values()),
        "tasks": [task for task, fits in tasks.items() if fits] or ["other"],
        "keywords": ["remote sensing", "land cover"],
    }
