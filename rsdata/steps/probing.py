"""Features of a trained model as a table, and what a linear model finds in them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from rsdata import shards, subsets
from rsdata.errors import SubsetError
from rsdata.records import SPLITS, ProbeReport
from rsdata.steps.subset_sources import read_embeddings, read_source
from rsdata.steps.training import shard_of
from rsdata.workspace import write_record


def embed_patches(
    checkpoint: Path, folder: Path, out: Path, *, split: str | None = None, advance: Callable[[int], None] = lambda n: None
) -> tuple[int, int]:
    """Write what a trained model knows of each patch of a dataset or a shard before its last layer.

    Returns: how many patches, and how many numbers each.
    """
    from rsdata.training import load_checkpoint
    from rsdata.training.embedding import write_embeddings

    with shards.open_shard(shard_of(folder)) as shard:
        return write_embeddings(load_checkpoint(checkpoint), shard, split, out, advance)


def probe_embeddings(
    embeddings: Path,
    source: Path,
    *,
    out: Path | None = None,
    labels: Path | None = None,
    subset: Path | None = None,
    subset_part: str | None = None,
) -> ProbeReport:
    """Fit a linear probe to embeddings of train patches and score it on test patches.

    Args:
        embeddings: as ``embed_patches`` writes it, of all splits.
        source: the dataset, shard or table that has the labels and splits.
        out: JSON file for the report.
        labels: other labels for train patches; subset, subset_part: the only train patches to learn from; as in training.
    """
    from rsdata.training.choosing import labels_for, read_labels, read_subset
    from rsdata.training.probing import Known, linear_probe

    read = read_source(source)
    patches = subsets.Patches.of(read.table, classes=read.classes)
    if "split" not in patches.table:
        raise SubsetError(f"{source} has no column `split`, so nothing says what to learn from and what to score on", path=str(source))
    ids, features = read_embeddings(embeddings, None, unit=False)
    row_of = {patch_id: row for row, patch_id in enumerate(ids)}
    keep = None if subset is None else read_subset(subset, subset_part)
    targets, splits = patches.labels.copy(), patches.table["split"].to_numpy(object)
    known = {}
    for split in SPLITS:
        rows = [
            row
            for row in np.flatnonzero(splits == split)
            if patches.ids[row] in row_of and (split != "train" or keep is None or patches.ids[row] in keep)
        ]
        if split == "train" and labels is not None:
            place = {name: index for index, name in enumerate(patches.classes)}
            targets[rows] = False
            for row, names in zip(rows, labels_for(list(patches.ids[rows]), read_labels(labels)), strict=True):
                if unknown := sorted(set(names) - place.keys()):
                    raise SubsetError(f"{labels} names {', '.join(unknown)}, which {source} does not know", classes=unknown)
                targets[row, [place[name] for name in names]] = True
        known[split] = Known(features[[row_of[patches.ids[row]] for row in rows]], targets[rows])
    report = linear_probe(known["train"], known["validation"], known["test"], patches.classes)
    if out is not None:
        write_record(out, report)
    return report
