"""Built datasets in forms that other programs read, and archives of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from rsdata import catalog, shards
from rsdata.catalog.exports import EXPORTS, Source
from rsdata.errors import WorkspaceError
from rsdata.recipe import load_recipe
from rsdata.records import BandInfo, Manifest, PatchId, ShardManifest, SplitAudit
from rsdata.steps.packing import shard_of_scene
from rsdata.workspace import Workspace, read_record
from rsdata.writing import writing_folder

Advance = Callable[[int], None]

EXPORT_FORMS = {name: export.summary for name, export in EXPORTS.items()}


def export_dataset(workspace: Workspace, form: str, out: Path, *, workers: int = 1, advance: Advance = lambda n: None) -> dict[str, int]:
    """Write a built dataset in another form; return what it holds, by name. The folder appears once it is whole.

    Args:
        form: of ``EXPORT_FORMS``.
        out: must not exist yet.
        advance: told how many patches were done.

    Raises: WorkspaceError if there is no such form, ``out`` exists, or a file of the dataset is not as its manifest says;
        CatalogError if the dataset lacks what the form needs.
    """
    if form not in EXPORTS:
        raise WorkspaceError(f"there is no form {form!r} of a dataset; known are {', '.join(sorted(EXPORTS))}", form=form)
    if out.exists():
        raise WorkspaceError(f"{out} exists; name another with --out", path=str(out))
    with open_source(workspace) as source, writing_folder(out.absolute()) as folder:
        return EXPORTS[form].write(source, folder, workers=workers, advance=advance)


@contextmanager
def open_source(workspace: Workspace, dataset: Manifest | None = None) -> Iterator[Source]:
    """A built dataset as exports take it; its pixels can be read until the end of the block.

    Args: dataset: what its manifest will say, where it is not written yet; its digests were just taken and are not checked again.
    Raises: WorkspaceError if it is not built, or a file is not as its manifest says.
    """
    if dataset is None:
        dataset = read_record(workspace.manifest, Manifest)
        check_outputs(workspace, dataset)
    recipe = load_recipe(workspace.recipe)
    table = catalog.read_patches(workspace.patches)
    patches = table[table["kept"]].sort_values("patch_id", ignore_index=True)
    scenes = sorted({PatchId.parse(patch_id).scene for patch_id in patches["patch_id"]})
    folders = list(dict.fromkeys(shard_of_scene(scene, recipe, workspace) for scene in scenes))
    with ExitStack() as stack:
        opened = [stack.enter_context(shards.open_shard(folder)) for folder in folders]
        index = pd.concat([shard.index.astype(object) for shard in opened]).sort_values("patch_id", ignore_index=True)
        if list(index["patch_id"]) != list(patches["patch_id"]):
            raise WorkspaceError(
                f"the shards below {workspace.root} do not hold exactly the kept patches; see `rsdata verify {workspace.root}`",
                path=str(workspace.root),
            )
        yield Source(
            patches=patches,
            index=index,
            manifest=_merged([shard.manifest for shard in opened]),
            recipe=recipe,
            dataset=dataset,
            read=_reader(opened),
            root=workspace.root,
            shard_folders=tuple(folders),
            texts=workspace.texts if workspace.texts.exists() else None,
            audit=read_record(workspace.audit, SplitAudit) if workspace.audit.exists() else None,
        )


def check_outputs(workspace: Workspace, dataset: Manifest) -> None:
    """What is exported is what was built: a damaged file must not be published under a new digest.

    Raises: WorkspaceError if a file is missing, or not as the manifest says.
    """
    for stated in dataset.outputs:
        path = workspace.root / stated.path
        if not path.is_file() or workspace.artifact(path) != stated:
            state = "differs from its digest in manifest.json" if path.is_file() else "is missing"
            raise WorkspaceError(f"{path} {state}; run the build again before exporting", path=str(path))


def _reader(opened: Sequence[shards.Shard]) -> Callable[[str], Mapping[str, np.ndarray]]:
    if len(opened) == 1:
        return opened[0].read
    of_key: dict[str, shards.Shard] = {}
    for shard in opened:
        for column in ("patch_id", "s1_key", "reference_map_key"):
            of_key |= dict.fromkeys(shard.index[column].dropna(), shard)
    return lambda key: of_key[key].read(key)


def _merged(manifests: Sequence[ShardManifest]) -> ShardManifest:
    """What the shards of several scenes say together; each has its own files and statistics."""
    first = manifests[0]
    if len(manifests) == 1:
        return first
    counts = {split: sum(each.counts.get(split, 0) for each in manifests) for each in manifests for split in each.counts}
    said: dict[str, list[BandInfo]] = {}
    for each in manifests:
        for band in each.bands:
            said.setdefault(f"{band.sensor} {band.name}", []).append(band)
    bands = [
        every[0].model_copy(update={"offset": sorted({offset for band in every for offset in band.offset}), "statistics": None})
        for every in said.values()
    ]
    return first.model_copy(update={"counts": counts, "bands": bands, "keys": sum(each.keys for each in manifests), "files": []})
