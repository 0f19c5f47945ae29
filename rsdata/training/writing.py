"""Predictions on disk: one Parquet row per patch, and a GeoTIFF for each where answers are maps."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import rasterio
from rasterio.crs import CRS
from rasterio.transform import from_origin

from rsdata.errors import CatalogError, TrainingError
from rsdata.grid import PATCH_SIDE_M, Tile, corners
from rsdata.records import PatchId
from rsdata.training.checkpoint import Checkpoint
from rsdata.training.dataset import PatchDataset, ShardReader
from rsdata.training.inference import answers, dataset_for
from rsdata.training.tasks import Maps
from rsdata.writing import writing

TABLE_NAME = "predictions.parquet"
MAPS_NAME = "maps"


def write_predictions(
    checkpoint: Checkpoint,
    shard: ShardReader,
    split: str | None,
    out: Path,
    *,
    table: Path | None = None,
    maps: bool = True,
    advance: Callable[[int], None] = lambda n: None,
) -> tuple[int, int]:
    """Ask a model about every patch of a split, and write what it says below a folder.

    ``predictions.parquet`` has one row per patch: probability of each class and the classes above one half (multilabel), share of
    each class (segmentation), mean and spread or the number itself (regression), or both embeddings (retrieval). Tasks whose answers
    are maps leave ``maps/<patch id>.tif`` too, in the patch's own CRS and place, at the resolution of the model's input.

    Args:
        split: all patches if None.
        table: texts or embeddings, for models that are shown them.
        maps: whether to write GeoTIFFs where answers are maps.

    Returns: how many patches, and how many maps.
    Raises: TrainingError if the shard does not fit the model, or ids of patches do not say where these lie; WorkspaceError.
    """
    dataset = dataset_for(checkpoint, shard, split)
    if checkpoint.task.targets_are_input:
        dataset.target_reader = checkpoint.task.reader(shard, dataset, table, False)
    maps = maps and checkpoint.task.answers == "pixel"
    if maps:
        _place(dataset.patch_ids[0], dataset.input_px)  # refused before the network is asked
    counts = [0, 0]
    with writing(out / TABLE_NAME) as aside:
        writer = None
        try:
            for part, pictures, patch_ids in _parts(checkpoint, dataset, maps):
                rows = pa.table({"patch_id": patch_ids, **part})
                writer = writer or pq.ParquetWriter(aside, rows.schema, compression="zstd")
                writer.write_table(rows)
                for number, patch_id in enumerate(patch_ids if pictures is not None else ()):
                    _write_map(out / MAPS_NAME / f"{patch_id}.tif", patch_id, number, pictures)
                counts = [counts[0] + len(patch_ids), counts[1] + (len(patch_ids) if pictures is not None else 0)]
                advance(len(patch_ids))
        finally:
            if writer is not None:
                writer.close()
    return counts[0], counts[1]


def _parts(checkpoint: Checkpoint, dataset: PatchDataset, maps: bool) -> Iterator[tuple[dict[str, Any], Maps | None, list[str]]]:
    task, first = checkpoint.task, 0
    for answer, targets in answers(task, checkpoint.network, dataset):
        patch_ids = dataset.patch_ids[first : first + len(targets)]
        first += len(targets)
        yield task.columns(answer), task.maps(answer) if maps else None, patch_ids


def _place(patch_id: str, side_px: int) -> dict[str, Any]:
    """CRS and transform of a patch's pixels.

    Raises: TrainingError if its id is not that of a patch of the 1200 m grid.
    """
    try:
        patch = PatchId.parse(patch_id)
    except CatalogError as error:
        raise TrainingError(f"maps cannot be placed: {error}; ask for the table alone", patch_id=patch_id) from error
    tile = Tile.from_name(patch.tile)
    left, top = corners(tile, patch.col, patch.row)  # type: ignore[arg-type]
    step = PATCH_SIDE_M / side_px
    return {"crs": CRS.from_epsg(tile.epsg), "transform": from_origin(float(left), float(top), step, step)}


def _write_map(path: Path, patch_id: str, number: int, maps: Maps | None) -> None:
    if maps is None:
        return
    pixels = maps.pixels[number]
    profile = {
        "driver": "GTiff", "count": 1, "height": pixels.shape[0], "width": pixels.shape[1], "dtype": pixels.dtype.name,
        "nodata": maps.nodata, "compress": "deflate", **_place(patch_id, pixels.shape[1]),
    }  # fmt: skip
    with writing(path) as aside, rasterio.open(aside, "w", **profile) as raster:
        raster.write(pixels, 1)
        raster.update_tags(patch_id=patch_id)
        raster.update_tags(1, unit=maps.unit, **{f"class_{value}": name for value, name in maps.names.items()})
