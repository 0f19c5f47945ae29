"""What a trained network knows of patches before its last layer, as a table of vectors."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from rsdata.errors import TrainingError
from rsdata.training.checkpoint import Checkpoint
from rsdata.training.dataset import ShardReader
from rsdata.training.inference import dataset_for
from rsdata.training.loading import PatchLoader
from rsdata.training.models import features
from rsdata.writing import writing

_BATCH = 64  # patches at once; fixed, because results of different batch sizes differ in the last bits


def write_embeddings(
    checkpoint: Checkpoint, shard: ShardReader, split: str | None, out: Path, advance: Callable[[int], None] = lambda n: None
) -> tuple[int, int]:
    """Write the features of every patch of a split as Parquet: ``patch_id``, ``split`` and ``embedding``, a list of float32.

    Patches are as they lie, in the order of their ids.

    Args: split: all patches if None.
    Returns: how many patches, and how many numbers each.
    Raises: TrainingError if the shard does not fit the model, or the model has two encoders; WorkspaceError.
    """
    if checkpoint.task.name == "retrieval":
        raise TrainingError("a model of retrieval has two encoders; `rsdata predict` writes the embeddings of both")
    dataset = dataset_for(checkpoint, shard, split)
    split_of = dict(zip(shard.index["patch_id"], shard.index["split"], strict=True))
    network = checkpoint.network.eval()
    schema = pa.schema([("patch_id", pa.string()), ("split", pa.string()), ("embedding", pa.list_(pa.float32()))])
    first, length = 0, 0
    with writing(out) as aside, pq.ParquetWriter(aside, schema, compression="zstd") as writer, PatchLoader(dataset, _BATCH) as loader:
        for pixels, _ in loader:
            with torch.inference_mode():
                found = features(checkpoint.card.model, network, pixels).float().numpy()
            ids = dataset.patch_ids[first : first + len(found)]
            columns = [ids, [split_of[each] for each in ids], list(found)]
            writer.write_table(pa.Table.from_arrays([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema))
            first, length = first + len(found), found.shape[1]
            advance(len(found))
    return first, length
