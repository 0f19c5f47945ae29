"""The catalog stage: what a dataset was made from and holds, for rsdata (manifest.json) and for everybody else (STAC, Croissant, card).

The manifest is a chain: digests of the inputs, the recipe, the versions of the software, what each unit of work left, and the
digests of all outputs. The catalogue files say nothing of the manifest, so that it can vouch for them.
"""

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import pyogrio
import pyproj
import rasterio
import yaml

from rsdata import __version__, catalog
from rsdata.catalog.exports import Source, card, croissant, stac
from rsdata.catalog.sources import edition_of
from rsdata.recipe import Recipe
from rsdata.records import Coregistration, Coregistrations, Correction, Failure, InputDigest, Manifest, ReceiptDigest, ScenePair, Stage
from rsdata.shards.manifest import SERIES_FORMAT
from rsdata.steps.caption_portions import climate_files
from rsdata.steps.inputs import locate_inputs
from rsdata.steps.label_inputs import label_files, with_own_tables
from rsdata.steps.publishing import open_source
from rsdata.steps.receipts import Outcome, once, outputs_digest, read_pair, read_receipt, scene_digest
from rsdata.workspace import Workspace, combined_sha256, file_sha256, read_record, write_record
from rsdata.writing import writing

# Programs that pixels and tables go through, by the name they are installed under.
_SOFTWARE = (
    "dask", "exactextract", "geopandas", "lmdb", "numba", "numcodecs", "numpy", "pandas", "pyarrow", "pyogrio", "pyproj", "rasterio",
    "safetensors", "scikit-image", "scipy", "shapely", "xarray", "zarr",
)  # fmt: skip
_SCENE_STAGES: tuple[Stage, ...] = ("patches", "labels", "quality")  # ``scenes`` says where files lie, which differs by machine
# What the catalogue is made of: each file's name and who writes it, given where the dataset lies, seen from it.
_CATALOGUE: dict[str, Callable[[Path, Source, str], object]] = {
    stac.ITEMS_FILE: stac.write_items,
    stac.COLLECTION_FILE: stac.write_collection,
    croissant.CROISSANT_FILE: lambda path, source, prefix: croissant.write_croissant(path, source, stac.main_files(source), prefix),
    card.CARD_FILE: lambda path, source, prefix: card.write_card(path, source),
}


def write_manifest(units: Sequence[str], failures: Sequence[Failure], recipe: Recipe, workspace: Workspace) -> Outcome:
    """Say what the dataset was made from and what it holds: the recipe, the catalogue, and the manifest that vouches for both."""

    def work() -> tuple[list[Path], dict[str, int]]:
        recipe_files = _write_recipe(recipe, workspace)
        manifest = _manifest(units, failures, recipe, workspace)
        catalogue = _write_catalogue(manifest, workspace)
        manifest = manifest.model_copy(update={"outputs": [*manifest.outputs, *(workspace.artifact(path) for path in catalogue)]})
        write_record(workspace.manifest, manifest)
        return [workspace.manifest, *recipe_files, *catalogue], {"failures": len(failures)}

    key = {
        "shards": outputs_digest("shards", recipe.shards.format, workspace),
        **({"series": outputs_digest("series", SERIES_FORMAT, workspace)} if recipe.series is not None else {}),
        "captions": outputs_digest("captions", "all", workspace),
        "scenes": combined_sha256({unit: scene_digest(unit, workspace) for unit in units}),
        "failures": combined_sha256({f"{item.stage} {item.unit}": item.message for item in failures}),
        "recipe": recipe.digest(),
        "catalogue": " ".join(_CATALOGUE),
    }
    return once("catalog", "all", workspace, key, work)


def _write_recipe(recipe: Recipe, workspace: Workspace) -> list[Path]:
    """Keep the recipe, and beside it the tables that it names."""
    said, tables = with_own_tables(recipe)
    for name, content in tables.items():
        with writing(workspace.root / name) as aside:
            aside.write_bytes(content)
    with writing(workspace.recipe) as aside:
        aside.write_text(yaml.safe_dump(said.model_dump(mode="json", exclude_none=True), sort_keys=False), encoding="utf-8")
    return [workspace.recipe, *(workspace.root / name for name in tables)]


def _manifest(units: Sequence[str], failures: Sequence[Failure], recipe: Recipe, workspace: Workspace) -> Manifest:
    """The manifest of what is there, still without the catalogue."""
    table = catalog.read_patches(workspace.patches)
    outputs = [workspace.patches, workspace.quality, workspace.facts, workspace.texts, workspace.audit]
    outputs += [workspace.root / item.path for item in read_receipt("shards", recipe.shards.format, workspace).outputs]
    counts = {"scenes": len(units), "patches": len(table), "kept": int(table["kept"].sum())}
    if recipe.series is not None:
        made = read_receipt("series", SERIES_FORMAT, workspace)
        outputs += [workspace.root / item.path for item in made.outputs]
        counts["series"] = made.counts["places"]
    made_by = _correctors(workspace)
    return Manifest(
        name=recipe.name,
        title=recipe.title,
        rsdata_version=__version__,
        software=software_versions(),
        recipe_sha256=recipe.dataset_digest(),
        inputs=[*(_scene_input(read_pair(unit, workspace), made_by) for unit in units), *_layers(units, recipe, workspace)],
        receipts=list(_chain(units, recipe, workspace)),
        counts=counts,
        dropped={str(k): int(v) for k, v in table["drop_reason"].value_counts().sort_index().items()},
        splits={str(k): int(v) for k, v in table["split"].value_counts().sort_index().items()},
        split=catalog.read_split_info(workspace.patches),
        coregistration=_shifts(units, workspace),
        failures=list(failures),
        outputs=[workspace.artifact(path) for path in outputs],
    )


def _write_catalogue(manifest: Manifest, workspace: Workspace) -> list[Path]:
    """Write the dataset for catalogues that know nothing of rsdata; return the files."""
    with open_source(workspace, manifest) as source:
        prefix = stac.relative_root(source, workspace.catalogue(stac.COLLECTION_FILE).parent)
        for name, write in _CATALOGUE.items():
            with writing(workspace.catalogue(name)) as aside:
                write(aside, source, prefix)
    return [workspace.catalogue(name) for name in _CATALOGUE]


def software_versions() -> dict[str, str]:
    """What this installation computes with."""
    found = {"rsdata": __version__, "python": platform.python_version(), "gdal": rasterio.__gdal_version__, "proj": pyproj.proj_version_str}
    return found | {name: metadata.version(name) for name in _SOFTWARE}


def _correctors(workspace: Workspace) -> dict[str, str]:
    """Products that were corrected in this build, and by what."""
    folder = workspace.corrected.part("correct", "any", ".json").parent
    made = (read_record(path, Correction) for path in sorted(folder.glob("*.json")))
    return {each.product: f"sen2cor {each.sen2cor_version}" for each in made}


def _scene_input(pair: ScenePair, made_by: Mapping[str, str]) -> InputDigest:
    return InputDigest(
        name=pair.unit,
        sha256=pair.inputs_sha256 or "",
        kind="scene",
        products=[pair.s2.product, *(match.scene.product for match in pair.s1)],
        version=pair.s2.baseline,
        made_by=made_by.get(pair.s2.product),
    )


def _layers(units: Sequence[str], recipe: Recipe, workspace: Workspace) -> Iterator[InputDigest]:
    """The files beside the scenes that the dataset depends on."""
    inputs = locate_inputs(recipe, workspace)
    for path in dict.fromkeys(file for unit in units for file in label_files(unit, recipe, workspace)):
        edition = None if recipe.synthetic is not None else _edition(path, recipe)
        yield InputDigest(name=path.name, sha256=file_sha256(path), kind="labels", version=edition)
    if inputs.countries and inputs.countries.path:
        path = Path(inputs.countries.path)
        yield InputDigest(name=path.name, sha256=file_sha256(path), kind="countries")
    for path in climate_files(recipe, workspace):
        yield InputDigest(name=path.name, sha256=file_sha256(path), kind="climate")


def _edition(path: Path, recipe: Recipe) -> str | None:
    """The edition of a land cover file, by its name and, of a vector layer, the names of its layer and attributes."""
    names = [path.name, recipe.labels.layer or ""]
    try:
        about = pyogrio.read_info(path, layer=recipe.labels.layer)
        names += [about["layer_name"], *about["fields"]]
    except pyogrio.errors.DataSourceError:
        pass  # a raster: its name is all there is
    return edition_of(names)


def _chain(units: Sequence[str], recipe: Recipe, workspace: Workspace) -> Iterator[ReceiptDigest]:
    links: list[tuple[Stage, str]] = [(stage, unit) for stage in _SCENE_STAGES for unit in units]
    links += [("splits", "all"), ("captions", "all"), ("shards", recipe.shards.format)]
    links += [("series", SERIES_FORMAT)] if recipe.series is not None else []
    for stage, unit in links:
        yield ReceiptDigest(stage=stage, unit=unit, outputs_sha256=outputs_digest(stage, unit, workspace))


def _shifts(units: Sequence[str], workspace: Workspace) -> list[Coregistration]:
    return [shift for unit in units for shift in read_record(workspace.part("quality", unit, ".json"), Coregistrations).scenes]
