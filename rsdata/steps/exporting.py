"""A dataset's texts in the forms that others read, with pictures from its shard where a form has a place for them."""

import io
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from PIL import Image

from rsdata import captions, catalog, shards
from rsdata.errors import WorkspaceError
from rsdata.recipe import Recipe, load_recipe
from rsdata.records import PatchFacts, PatchId, TextRow
from rsdata.sensors import SENTINEL1
from rsdata.steps.label_inputs import nomenclature_of
from rsdata.steps.packing import shard_of_scene
from rsdata.steps.pictures import RGB, natural_colours, radar_colours
from rsdata.steps.receipts import read_pair
from rsdata.workspace import Workspace
from rsdata.writing import writing, writing_folder

PATCHES_PER_TAR = 1_000

Rows = Sequence[Mapping[str, Any]]
Advance = Callable[[int], None]


class Pictures:
    """Patches of a built dataset in natural colours, or as radar where it holds no Sentinel-2, read from its shards when asked for."""

    def __init__(self, recipe: Recipe, workspace: Workspace) -> None:
        self._recipe, self._workspace = recipe, workspace
        self._stack = ExitStack()
        self._opened: dict[Path, shards.Shard] = {}
        self._radar: dict[str, str] = {}  # patch to the key of its Sentinel-1, where that is all there is
        self._offsets: dict[str, dict[str, float]] = {}

    def __enter__(self) -> "Pictures":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def png(self, patch_id: str) -> bytes:
        """One patch, 120 x 120 pixels of 10 m, as PNG."""
        scene = PatchId.parse(patch_id).scene
        folder = shard_of_scene(scene, self._recipe, self._workspace)
        if folder not in self._opened:
            self._opened[folder] = self._stack.enter_context(shards.open_shard(folder))
            index = self._opened[folder].index
            alone = index[index["sensor"] == SENTINEL1.name]
            self._radar |= dict(zip(alone["patch_id"], alone["s1_key"], strict=True))
        if scene not in self._offsets:
            self._offsets[scene] = read_pair(scene, self._workspace).s2.offsets
        bands = self._opened[folder].read(self._radar.get(patch_id, patch_id))
        optical = patch_id not in self._radar
        picture = natural_colours({name: bands[name] for name in RGB}, self._offsets[scene]) if optical else radar_colours(bands)
        content = io.BytesIO()
        Image.fromarray(picture).save(content, "png")
        return content.getvalue()


def export_texts(workspace: Workspace, form: str, out: Path, *, pictures: bool = True, advance: Advance = lambda n: None) -> dict[str, int]:
    """Write a built dataset's texts in another form; return what it holds, by name.

    Args:
        form: of ``TEXT_FORMS``.
        out: a Parquet file for bigearthnet-txt, else a folder; must not exist yet.
        pictures: put pictures beside the texts, where the form has a place for them.
        advance: told how many patches were done.

    Raises: WorkspaceError if there is no such form, or ``out`` exists.
    """
    if form not in TEXT_FORMS:
        raise WorkspaceError(f"there is no form {form!r} for texts; known are {', '.join(sorted(TEXT_FORMS))}", form=form)
    if out.exists():
        raise WorkspaceError(f"{out} exists; name another with --out", path=str(out))
    recipe = load_recipe(workspace.recipe)
    with Pictures(recipe, workspace) as found:
        return TEXT_FORMS[form](workspace, recipe, out, found.png if pictures else None, advance)


def _bigearthnet_txt(workspace: Workspace, recipe: Recipe, out: Path, png_of: object, advance: Advance) -> dict[str, int]:
    count = 0
    with writing(out) as aside, pq.ParquetWriter(aside, captions.BIGEARTHNET_TXT_SCHEMA, compression="zstd") as writer:
        for portion in catalog.read_portions(workspace.texts, TextRow):
            rows = portion.to_pylist()
            writer.write_table(captions.bigearthnet_txt(rows, count))
            count += len(rows)
            advance(len({row["patch_id"] for row in rows}))
    return {"rows": count}


def _llava(workspace: Workspace, recipe: Recipe, out: Path, png_of: Callable[[str], bytes] | None, advance: Advance) -> dict[str, int]:
    count = 0
    with writing_folder(out) as folder, (folder / "conversations.json").open("w", encoding="utf-8") as stream:
        stream.write("[")
        for patch_id, rows in _by_patch(workspace):
            image = _write_picture(folder, patch_id, png_of)
            for row in rows:
                stream.write((",\n" if count else "\n") + json.dumps(captions.llava_conversation(row, image), ensure_ascii=False))
                count += 1
            advance(1)
        stream.write("\n]\n")
    return {"conversations": count}


def _coco(workspace: Workspace, recipe: Recipe, out: Path, png_of: Callable[[str], bytes] | None, advance: Advance) -> dict[str, int]:
    class_names = [each.name for each in nomenclature_of(recipe).classes]

    def patches(folder: Path) -> Iterator[tuple[PatchFacts, Rows]]:
        texts = _by_patch(workspace)
        patch_id, rows = next(texts, ("", []))
        for portion in catalog.read_portions(workspace.facts, PatchFacts):
            for facts in (PatchFacts.model_validate(each) for each in portion.to_pylist()):
                while patch_id and patch_id < facts.patch_id:
                    patch_id, rows = next(texts, ("", []))
                _write_picture(folder, facts.patch_id, png_of)
                yield facts, [row for row in rows if row["box"] is not None] if patch_id == facts.patch_id else []
                advance(1)

    with (
        writing_folder(out) as folder,
        (folder / "boxes.json").open("w", encoding="utf-8") as stream,
        tempfile.TemporaryFile("w+", encoding="utf-8", dir=folder) as spool,
    ):
        return captions.coco_boxes(stream, patches(folder), class_names, spool)


def _webdataset(workspace: Workspace, recipe: Recipe, out: Path, png_of: Callable[[str], bytes] | None, advance: Advance) -> dict[str, int]:
    tars = patches = 0
    with writing_folder(out) as folder:
        waiting = _by_patch(workspace)
        while portion := list(islice(waiting, PATCHES_PER_TAR)):
            with (folder / f"texts-{tars:06d}.tar").open("wb") as stream:
                patches += captions.write_tar(stream, portion, png_of)
            tars += 1
            advance(len(portion))
    return {"tars": tars, "samples": patches}


TEXT_FORMS: dict[str, Callable[..., dict[str, int]]] = {
    "bigearthnet-txt": _bigearthnet_txt,
    "llava": _llava,
    "coco": _coco,
    "webdataset": _webdataset,
}


def _by_patch(workspace: Workspace) -> Iterator[tuple[str, Rows]]:
    """Rows of each patch, in the order of the table."""
    rows = (row for portion in catalog.read_portions(workspace.texts, TextRow) for row in portion.to_pylist())
    for patch_id, own in groupby(rows, key=lambda row: str(row["patch_id"])):
        yield patch_id, list(own)


def _write_picture(folder: Path, patch_id: str, png_of: Callable[[str], bytes] | None) -> str | None:
    """Write a picture if there is one; its path from the folder."""
    if png_of is None:
        return None
    (folder / "images").mkdir(exist_ok=True)
    (folder / "images" / f"{patch_id}.png").write_bytes(png_of(patch_id))
    return f"images/{patch_id}.png"
