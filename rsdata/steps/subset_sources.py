"""What manifests over patches are made from: a dataset, a shard or any table, and tables of embeddings."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from rsdata import shards, subsets
from rsdata.catalog.geoparquet import read_patch_ids
from rsdata.errors import SubsetError
from rsdata.foreign import PARQUET_ERRORS, open_parquet
from rsdata.recipe import load_recipe
from rsdata.steps.label_inputs import nomenclature_of
from rsdata.workspace import Workspace, file_sha256


@dataclass(frozen=True, eq=False)
class Source:
    """Where patches were read from, and what is known of them."""

    path: Path
    sha256: str
    table: pd.DataFrame
    classes: list[str] | None  # all that labels may name, in order; None if only the labels themselves tell
    workspace: Workspace | None = None  # of a dataset
    sensors: tuple[str, ...] | None = None  # those of Sentinel-1 and Sentinel-2 whose pixels there may be; None if nothing tells


def read_source(path: Path) -> Source:
    """A built dataset, a shard, or a Parquet file with a row per patch.

    Raises: CatalogError, ShardError or WorkspaceError if it is none of these.
    """
    if (path / "recipe.yaml").is_file():
        workspace = Workspace(path)
        recipe = load_recipe(workspace.recipe)
        classes = [each.name for each in nomenclature_of(recipe).classes]
        sensors = tuple(recipe.shards.sensors)
        return Source(path, file_sha256(workspace.patches), read_patch_ids(workspace.patches), classes, workspace, sensors)
    if path.is_dir():
        with shards.open_shard(path) as shard:
            classes = [each.name for each in sorted(shard.manifest.labels, key=lambda each: each.index)]
            return Source(path, file_sha256(path / shards.MANIFEST_FILE), shard.index.reset_index(drop=True), classes)
    table = read_patch_ids(path)  # says what is wrong with a path that is no table
    return Source(path, file_sha256(path), table, None)


def read_embeddings(path: Path, split: str | None, *, unit: bool = True) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.float64]]:
    """Ids, sorted, and their vectors, float64; of length 1 if asked for.

    Raises: SubsetError if the file cannot be read, or has no such vectors.
    """
    wanted = ["patch_id", "embedding"] + ([] if split is None else ["split"])
    try:
        table = open_parquet(path).read(wanted)
        if lacking := [name for name in wanted if name not in table.column_names]:
            raise SubsetError(f"{path} has no column {', '.join(lacking)}; write it with `rsdata subset embed`", path=str(path))
        if split is not None:
            table = table.filter(pc.equal(table["split"], split))
        lengths = set(pc.list_value_length(table["embedding"]).to_pylist())
        values = pc.cast(pc.list_flatten(table["embedding"]), pa.float64())
    except PARQUET_ERRORS as error:
        reason = " ".join(str(error).split())
        raise SubsetError(f"{path} cannot be read as embeddings ({reason}); make them by `rsdata subset embed`", path=str(path)) from error
    if not table.num_rows:
        raise SubsetError(f"{path} has no embeddings{'' if split is None else f' of the {split} split'}", path=str(path))
    ids = np.array(table["patch_id"].to_pylist(), object)
    if len(lengths) != 1 or None in lengths or len(set(ids)) < len(ids):
        raise SubsetError(f"{path} holds embeddings of several lengths, or a patch twice; write it again", path=str(path))
    order = np.argsort(ids, kind="stable")
    vectors = values.to_numpy().reshape(len(ids), -1)[order]
    return ids[order], subsets.unit_vectors(vectors) if unit else vectors
