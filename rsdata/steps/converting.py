"""Published datasets, in the folders they were published in, as one shard."""

import colorsys
import dataclasses
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from rsdata import shards
from rsdata.errors import CatalogError, LabelError, ShardError, WorkspaceError
from rsdata.foreign import PARQUET_ERRORS, open_parquet
from rsdata.labels import load_nomenclature
from rsdata.records import LabelClass
from rsdata.shards import convert
from rsdata.shards.convert import Conversion
from rsdata.workspace import file_sha256

try:
    import fcntl
except ImportError:  # not on Windows; there nothing stops two conversions into one folder
    fcntl = None  # type: ignore[assignment]

_LABEL_COLUMNS = ["patch_id", "split", "labels", "s1_name"]  # of the table published with BigEarthNet v2
_NOMENCLATURE = "bigearthnet-19"  # of its labels


__all__ = ["Conversion", "convert_dataset", "known_datasets"]


def known_datasets() -> list[str]:
    return convert.known_datasets()


def convert_dataset(
    dataset: str,
    folders: Mapping[convert.Option, Path],
    target: Path,
    *,
    format: str = "lmdb",
    workers: int | None = None,
    metadata: Path | None = None,
    nomenclature: str | None = None,
    skip_damaged: bool = False,
    advance: Callable[[int], None] = lambda n: None,
) -> Conversion:
    """Write a dataset as a shard; what an interrupted run had written is not written again.

    The shard grows in a hidden folder beside the target and gets its name once it is whole. A target that was made from
    the same dataset before is left as it is.

    Args:
        dataset: name of a known dataset, or a YAML file that describes one.
        folders: option such as ``s1-dir`` to the folder it names; any subset of those the dataset has.
        metadata: table with splits and labels as published with BigEarthNet v2. Without it, labels are those that the dataset
            states beside its patches or in the names of its folders, and there are no splits.
        nomenclature: for classes stated by name beside the patches, the table that groups them, such as bigearthnet-19.

    Raises: ShardError if files are damaged or keys clash; RecipeError if there is no such dataset; LabelError if the
        nomenclature does not know a class; WorkspaceError if the target cannot be written.
    """
    if format not in shards.FORMATS:
        raise ShardError(f"{format!r} is no format to convert to; known are {', '.join(sorted(shards.FORMATS))}", format=format)
    plan = convert.plan(convert.load_spec(dataset), folders)
    labelling = _stated(plan, nomenclature) if metadata is None else _labelling(metadata)
    digest = convert.digest_of(plan, labelling)
    target = target.absolute()
    aside = target.with_name(f".{target.name}.part")
    if (target / shards.MANIFEST_FILE).is_file():
        with shards.open_shard(target) as shard:
            made, labelled = shard.manifest, convert.labelled_rows(shard.index)
        if made.recipe_sha256 == digest and made.format == format and (skip_damaged or not made.left_out):
            advance(len(plan.values))
            return Conversion(made, resumed_after=made.keys, labelled=labelled)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ShardError(f"{target} holds something else already; name a folder that does not exist yet", path=str(target))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target.with_name(f".{target.name}.lock")):
            done = convert.convert(
                plan,
                aside,
                workers=workers or os.cpu_count() or 1,
                skip_damaged=skip_damaged,
                labelling=labelling,
                advance=advance,
            )
            if format != "lmdb":
                done = _repacked(done, aside, format)
            _sync(*aside.rglob("*"), aside)
            if target.is_dir():
                target.rmdir()  # empty, as was seen above
            aside.replace(target)
            _sync(target.parent)
    except OSError as error:
        if isinstance(error, WorkspaceError):
            raise
        raise WorkspaceError(
            f"{target} cannot be written: {error.strerror or error}; free space and run the same command again, which goes on from there",
            path=str(target),
        ) from error
    return done


def _repacked(done: Conversion, folder: Path, format: str) -> Conversion:
    """The same shard in another format in its stead: files are read in the order of keys, which only LMDB is written in."""
    packed = folder.with_name(f"{folder.name}.{format}")
    shutil.rmtree(packed, ignore_errors=True)  # of a run that was interrupted
    packed.mkdir()
    manifest = shards.repack([folder], packed, format=format)
    shutil.rmtree(folder)
    packed.replace(folder)
    return dataclasses.replace(done, manifest=manifest)


def _labelling(metadata: Path) -> convert.Labelling:
    """Splits and labels of a table as published with BigEarthNet v2.

    Raises: CatalogError if it cannot be read or lacks a column.
    """
    try:
        table = open_parquet(metadata).read(_LABEL_COLUMNS).replace_schema_metadata(None).to_pandas()
    except PARQUET_ERRORS as error:
        raise CatalogError(
            f"{metadata} is no table with the columns {', '.join(_LABEL_COLUMNS)} ({error}); give the metadata.parquet of BigEarthNet v2",
            path=str(metadata),
        ) from error
    if missing := [name for name in _LABEL_COLUMNS if name not in table]:
        raise CatalogError(
            f"{metadata} has no column {', '.join(missing)}; give the metadata.parquet of BigEarthNet v2", path=str(metadata)
        )
    nomenclature = load_nomenclature(_NOMENCLATURE)
    return convert.Labelling(table, nomenclature.classes, nomenclature.unlabeled_codes, file_sha256(metadata))


def _stated(plan: convert.Plan, nomenclature: str | None) -> convert.Labelling | None:
    """Labels as the dataset itself states them, patch by patch; None if it does not.

    Raises: ShardError if a file that should state them is missing or damaged; LabelError if it names an unknown class.
    """
    table_name = next((each.input.labels.nomenclature for each in plan.sources if each.input.labels and each.input.labels.file), None)
    if nomenclature is not None and table_name is None:
        raise ShardError(f"{plan.spec.name} does not state classes by name beside its patches; leave --nomenclature out")
    stated = list(convert.statements(plan))
    if not stated:
        return None
    if table_name is None:
        classes, unlabeled = _classes_of_folders(sorted({name for each in stated for name in each.classes})), []
        renamed: dict[str, str | None] = {each.name: each.name for each in classes}
    else:
        known = load_nomenclature(nomenclature or table_name)
        classes, unlabeled = list(known.classes), known.unlabeled_codes
        renamed = {name: known.class_of_code.get(code) for code, name in known.code_names.items()}
    order = {each.name: each.index for each in classes}
    partner = {each.partner: each.key for each in stated if each.partner is not None}
    rows = []
    for each in stated:
        if strange := [name for name in each.classes if name not in renamed]:
            raise LabelError(
                f"{each.key} has the class {strange[0]!r}, which {nomenclature or table_name} does not know; choose another --nomenclature"
            )
        found = {renamed[name] for name in each.classes} - {None}
        rows.append((each.key, None, sorted(found, key=lambda name: order[str(name)]), partner.get(each.key)))
    table = pd.DataFrame(rows, columns=_LABEL_COLUMNS)
    return convert.Labelling(table, classes, unlabeled, hashlib.sha256(repr(rows).encode()).hexdigest())


def _classes_of_folders(names: Sequence[str]) -> list[LabelClass]:
    """Classes that have names alone; colours go round the circle."""
    colors = (colorsys.hsv_to_rgb(index / len(names), 0.6, 0.9) for index in range(len(names)))
    return [
        LabelClass(index=index, name=name, color="#" + "".join(f"{round(255 * part):02x}" for part in color), codes=[])
        for index, (name, color) in enumerate(zip(names, colors, strict=True))
    ]


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock that ends with this process, however it ends.

    Raises: WorkspaceError if another process holds it.
    """
    if fcntl is None:
        yield
        return
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WorkspaceError(
                f"another conversion into {path.parent} is under way, see {path.name}; wait for it", path=str(path)
            ) from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _sync(*paths: Path) -> None:
    """Bring files, or the entries of folders, to the disk."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
