"""What a study changes about the train split: which patches are learned from, and with which labels.

Both are manifests over patch ids, such as `rsdata subset` writes; validation and test patches stay as the shard has them.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from rsdata.errors import TrainingError
from rsdata.foreign import PARQUET_ERRORS, open_parquet


def read_labels(path: Path) -> dict[str, list[str]]:
    """Patch id to class names, from the columns ``patch_id`` and ``labels``.

    Raises: TrainingError if the file cannot be read or lists a patch twice.
    """
    table = _read(path, ("patch_id", "labels"))
    return dict(zip(table["patch_id"].to_pylist(), table["labels"].to_pylist(), strict=True))


def read_subset(path: Path, part: str | None = None) -> frozenset[str]:
    """Ids of the patches to learn from; any table with ``patch_id`` serves.

    Rows whose column ``kept`` says no are left out.

    Args: part: of nested sizes (column ``within``) the size, such as 0.1; of clients (column ``client``) the client's name; all
        rows if absent.

    Raises: TrainingError if the file cannot be read, lists a patch twice, or has no such part.
    """
    table = _read(path, ("patch_id",))
    if "kept" in table.column_names:
        table = table.filter(table["kept"])
    if part is not None:
        if "within" in table.column_names:
            sizes = sorted(set(table["within"].to_pylist()))
            known = {f"{size:g}": size for size in sizes}
            mask = pc.less_equal(table["within"], known.get(_plain(part), -1.0))
        elif "client" in table.column_names:
            known = dict.fromkeys(sorted(set(table["client"].to_pylist())), 0.0)
            mask = pc.equal(table["client"], part)
        else:
            raise TrainingError(f"{path} has no parts, as it has neither `within` nor `client`; leave `subset_part` out", path=str(path))
        if (part if "client" in table.column_names else _plain(part)) not in known:
            raise TrainingError(f"{path} has no part {part!r}; it has {', '.join(known)}", part=part)
        table = table.filter(mask)
    return frozenset(table["patch_id"].to_pylist())


def labels_for(patch_ids: Collection[str], labels: Mapping[str, list[str]]) -> list[Sequence[str]]:
    """The labels of these patches.

    Raises: TrainingError if some have none.
    """
    if lacking := [patch_id for patch_id in patch_ids if patch_id not in labels]:
        raise TrainingError(
            f"the file of labels names {len(labels)} patches, but not {len(lacking)} of those to learn from, {lacking[0]} among them; "
            "make it from the same shard and split",
            patches=lacking,
        )
    return [labels[patch_id] for patch_id in patch_ids]


def _read(path: Path, needed: tuple[str, ...]) -> pa.Table:
    try:
        file = open_parquet(path)
        names = file.schema_arrow.names
        if lacking := [name for name in needed if name not in names]:
            raise TrainingError(f"{path} has no column {', '.join(lacking)}; it has {', '.join(names)}", path=str(path))
        table = file.read([name for name in (*needed, "kept", "within", "client") if name in names])
        table.validate(full=True)
    except PARQUET_ERRORS as error:
        reason = " ".join(str(error).split())
        raise TrainingError(f"{path} cannot be read as Parquet ({reason}); name a manifest of `rsdata subset`", path=str(path)) from error
    if len(table) != pc.count_distinct(table["patch_id"]).as_py():
        raise TrainingError(f"{path} lists a patch twice; list each once", path=str(path))
    return table


def _plain(number: str) -> str:
    """0.10 as 0.1; other texts as they are."""
    try:
        return f"{float(number):g}"
    except ValueError:
        return number
