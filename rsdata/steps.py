"""The stages of a build, one function each: read the workspace, call rooms, write the workspace.

A step is safe to repeat. It first looks for a receipt with the same inputs, the same part of the recipe and the
same software version, and does nothing if there is one; the receipt is the last thing it writes. What passes
between steps are records and paths, never arrays.
"""

import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import psutil
import yaml
from pydantic import ValidationError
from rasterio.transform import from_origin

from rsdata import __version__, captions, catalog, labels, patches, quality, scenes, shards, splits
from rsdata.errors import CorrectionError, DownloadError, RecipeError, RsdataError, SceneError, WorkspaceError
from rsdata.grid import PatchGrid, Tile
from rsdata.recipe import Countries, Recipe, Sen2cor, SplitPart, Training
from rsdata.records import (
    CaptionRow,
    Coregistration,
    Coregistrations,
    Correction,
    Download,
    Failure,
    FetchedFile,
    InputDigest,
    Manifest,
    PatchFacts,
    PatchId,
    PatchLabeling,
    PatchPlace,
    PatchQuality,
    Quarantine,
    Receipt,
    RemoteFile,
    RemoteProduct,
    ScenePair,
    Sentinel1Match,
    Sentinel2Scene,
    ShardManifest,
    SplitAudit,
    Stage,
    TrainingReport,
    reference_map_id,
    s1_patch_id,
    s1_scene_id,
)
from rsdata.scenes import catalogue, download, remote
from rsdata.scenes.product import list_files
from rsdata.sensors import REFERENCE_MAP, SENTINEL1, SENTINEL2, Sensor
from rsdata.sensors.sentinel2 import QUANTIFICATION
from rsdata.workspace import (
    Workspace,
    combined_sha256,
    file_sha256,
    read_record,
    write_record,
    writing,
    writing_folder,
)

MAP_PIXEL_M = 10  # of the reference map
SAMPLES_PER_SPLIT = 8  # patches shown in the report
_PROCESS_BYTES = 300 * 2**20  # of a worker before it has read anything
_TERRAIN_BYTES = 2**30  # strips of an image and cells of terrain while Sentinel-1 GRD is corrected
RGB = ("B04", "B03", "B02")
RGB_REFLECTANCE = 0.25  # reflectance shown as white
S1_DB = (-22.0, -2.0)  # backscatter shown as black and as white


@dataclass(frozen=True)
class Outcome:
    """A finished unit of work, and whether it had been finished before."""

    receipt: Receipt
    skipped: bool


@dataclass(frozen=True)
class Inputs:
    """Where a recipe's products and layers lie, once it is known."""

    sentinel2: list[str]
    sentinel1: list[str]
    labels: Path
    countries: Countries | None


@dataclass(frozen=True)
class Found:
    """The units of work a recipe asks for, and the products that cannot be one."""

    pairs: list[ScenePair]
    failures: list[Failure] = field(default_factory=list)


def failure(stage: str, unit: str, error: BaseException) -> Failure:
    """Record an error against the unit it stopped; one that rsdata did not foresee is named by its type too."""
    kind = type(error).__name__
    return Failure(stage=stage, unit=unit, error=kind, message=str(error) if isinstance(error, RsdataError) else f"{kind}: {error}")


def open_workspace(root: Path) -> Workspace:
    """A dataset that was built before, by its folder."""
    return Workspace(root.resolve())


# --- inputs -----------------------------------------------------------------------------------------------


def make_inputs(recipe: Recipe, workspace: Workspace, progress: Callable[[str], None] = lambda line: None) -> Outcome | None:
    """Make the scenes of a recipe that asks for synthetic ones; None if it names scenes to read."""
    if recipe.synthetic is None:
        return None
    from rsdata.testing import synthesize

    synthetic = recipe.synthetic

    def work() -> tuple[list[Path], dict[str, int]]:
        made = synthesize(synthetic, workspace.inputs, progress)
        scene_files = [file for folder in (*made.sentinel2, *made.sentinel1) for file in sorted(folder.rglob("*")) if file.is_file()]
        return [made.labels, made.countries, *scene_files], {"scenes": len(made.sentinel2)}

    return _once("inputs", "synthetic", workspace, {"recipe": synthetic.digest()}, work)


def locate_inputs(recipe: Recipe, workspace: Workspace) -> Inputs:
    """Where the products, polygons and countries of a recipe lie."""
    if recipe.scenes is not None and recipe.labels.path is not None:
        countries = recipe.countries
        if countries is not None and countries.path is not None:
            countries = countries.model_copy(update={"path": recipe.absolute(countries.path)})
        return Inputs(
            [recipe.absolute(pattern) for pattern in recipe.scenes.sentinel2],
            [recipe.absolute(pattern) for pattern in recipe.scenes.sentinel1],
            Path(recipe.absolute(recipe.labels.path)),
            countries,
        )
    folder = workspace.inputs
    return Inputs(
        [str(folder / "sentinel2" / "S2*.SAFE")],
        [str(folder / "sentinel1" / "S1*")],
        folder / "corine.gpkg",
        (recipe.countries or Countries()).model_copy(update={"path": str(folder / "countries.gpkg")}),
    )


def find_scenes(recipe: Recipe, workspace: Workspace) -> Found:
    """Open every product's metadata and pair the two sensors; what cannot be opened is a failure, not the end.

    Raises: SceneError if not one usable Sentinel-2 product is left and none failed.
    """
    inputs = locate_inputs(recipe, workspace)
    limits = recipe.scenes
    max_gap_h, prefer = (limits.max_s1_gap_h, limits.prefer_s1_orbit) if limits else (72, None)
    failures: list[Failure] = []

    def opened(paths: Iterable[Path], open_product: Callable[[Path], Any]) -> dict[str, Any]:
        products: dict[str, Any] = {}
        for path in paths:
            try:
                product = open_product(path)
            except RsdataError as error:
                failures.append(failure("scenes", path.name, error))
                continue
            if product.scene.product in products:
                known = products[product.scene.product].files.path
                duplicate = SceneError(f"{path} is the same product as {known}; name each product once")
                failures.append(failure("scenes", path.name, duplicate))
                continue
            products[product.scene.product] = product
        return products

    s1 = opened(scenes.expand(inputs.sentinel1), lambda path: scenes.open_sentinel1(path, s1_processing(recipe)))
    s2 = opened(scenes.expand(inputs.sentinel2), lambda path: _corrected(scenes.open_sentinel2(path), recipe, workspace))
    pairs = []
    units: set[str] = set()
    for _, product in sorted(s2.items()):
        if product.scene.scene_id in units:
            twin = SceneError(f"{product.files.path} is another processing of {product.scene.scene_id}; keep one of the two")
            failures.append(failure("scenes", product.scene.product, twin))
            continue
        units.add(product.scene.scene_id)
        matches = scenes.matches_in_time(product.scene, [each.scene for each in s1.values()], max_gap_h, prefer)
        signatures = {match.product: s1[match.product].files.signature() for match, _ in matches}
        pairs.append(
            ScenePair(
                s2_path=str(product.files.path),
                s2=product.scene,
                s1=[Sentinel1Match(path=str(s1[match.product].files.path), scene=match, time_gap_h=gap_h) for match, gap_h in matches],
                signature=combined_sha256({product.scene.product: product.files.signature(), **signatures}),
            )
        )
    return Found(pairs, failures)


def scenes_at_once(pairs: Sequence[ScenePair], workers: int) -> int:
    """How many scenes may be worked on at a time, by cores asked for, scenes there are, and memory that is free."""
    largest = max((_scene_bytes(pair) for pair in pairs), default=1)
    return max(1, min(workers, len(pairs), psutil.virtual_memory().available // largest))


def _scene_bytes(pair: ScenePair) -> int:
    """Memory one scene takes while it is assessed: its decoded rasters, and a third for decoders and copies."""
    sensors = [SENTINEL2, REFERENCE_MAP, *([SENTINEL1] if pair.s1 else [])]
    per_m2 = sum(np.dtype(band.dtype).itemsize / band.gsd_m**2 for sensor in sensors for band in sensor.bands)
    per_m2 += sum(1 / gsd_m**2 for gsd_m in scenes.LAYERS.values())
    correction = _TERRAIN_BYTES if any(match.scene.footprint for match in pair.s1) else 0
    return int(pair.s2.width_m * pair.s2.height_m * per_m2 * 4 / 3) + _PROCESS_BYTES + correction


# --- correction -------------------------------------------------------------------------------------------


def sen2cor_options(recipe: Recipe) -> Sen2cor | None:
    """How a recipe wants Level-1C products corrected, its paths made absolute; None if it does not."""
    if recipe.sen2cor is None:
        return None
    paths = ("gipp", "gipp_sc", "gipp_ac", "gipp_pb", "dem", "home", "tables")
    given = {name: recipe.absolute(path) for name in paths if (path := getattr(recipe.sen2cor, name))}
    program = recipe.sen2cor.program
    if program and "/" in program:
        given["program"] = recipe.absolute(program)
    return recipe.sen2cor.model_copy(update=given)


def make_sen2cor_options(given: Mapping[str, object]) -> Sen2cor:
    """Settings of sen2cor as given on a command line.

    Raises: RecipeError naming the first that cannot be.
    """
    try:
        return Sen2cor.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise RecipeError(f"`{'.'.join(map(str, first['loc']))}` is {first['input']!r}: {first['msg']}") from error


def uncorrected_products(recipe: Recipe, workspace: Workspace) -> list[Path]:
    """The Level-1C products among those a recipe names; what cannot be opened is left for ``find_scenes`` to report."""
    found = []
    for path in scenes.expand(locate_inputs(recipe, workspace).sentinel2) if recipe.sen2cor else []:
        try:
            if scenes.open_sentinel2(path).scene.level == "L1C":
                found.append(path)
        except RsdataError:
            continue
    return found


def corrections_at_once(products: int, options: Sen2cor, workers: int) -> int:
    """How many products may be corrected at a time: as set, else by workers and free memory, 8 GiB for each."""
    by_memory = psutil.virtual_memory().available // scenes.sen2cor.MEMORY_BYTES
    return max(1, min(products, options.at_once or min(workers, by_memory)))


def correct_scene(path: Path, options: Sen2cor, workspace: Workspace) -> Outcome:
    """Have sen2cor make a Level-2A product of a Level-1C product, and move it into the workspace once it was found whole.

    A failure leaves the log, the reason and what there is of the output in the workspace's quarantine.

    Args:
        workspace: where ``<Level-2A name>.SAFE``, receipts, logs and the quarantine lie.

    Raises: SceneError if the input cannot be corrected or no attempt gave a whole product.
    """
    source = scenes.sen2cor.open_l1c(path)
    unit = source.scene.product
    program = scenes.sen2cor.installed(options.program)
    record_path = workspace.part("correct", unit, ".json")

    def work() -> tuple[list[Path], dict[str, int]]:
        before = _correction_record(unit, workspace)
        with scenes.sen2cor.scratch_folder(workspace.scratch, unit) as scratch:
            try:
                made = scenes.sen2cor.correct(source, program, options, scratch)
            except SceneError as error:
                folder = _quarantine(error, source, program.version, scratch, workspace)
                raise CorrectionError(f"{error}; what is known lies in {folder}", **error.context) from error
            except WorkspaceError:
                raise
            except OSError as error:
                reason = error.strerror or str(error)
                raise WorkspaceError(f"{scratch} cannot be written: {reason}; free space or name another folder") from error
            target = workspace.root / f"{made.product.scene.product}.SAFE"
            record = Correction(
                source=unit,
                source_sha256=source.files.sha256(),
                product=made.product.scene.product,
                folder=target.name,
                sen2cor_version=program.version,
                resolution=options.resolution,
                command=made.command,
                mended=made.mended,
                attempts=made.attempts,
            )
            # From here on the record names the product that is about to appear, so that a rerun after a kill replaces it.
            workspace.receipt_path("correct", unit).unlink(missing_ok=True)
            write_record(record_path, record)
            with writing(workspace.log("correct", unit)) as aside:
                shutil.copyfile(scratch / "log.txt", aside)
            with writing_folder(target) as aside:
                scenes.sen2cor.settle(Path(made.product.files.path), aside)
        if before is not None and before.folder != target.name:
            shutil.rmtree(workspace.root / Path(before.folder).name, ignore_errors=True)
        shutil.rmtree(workspace.quarantine(unit), ignore_errors=True)
        files = sorted(file for file in target.rglob("*") if file.is_file())
        return [record_path, *files], {"files": len(files), "mended": len(made.mended), "attempts": made.attempts}

    key = {**_correction_key(source, options), "sen2cor": program.version}
    with scenes.sen2cor.held(workspace.scratch, unit):
        return _once("correct", unit, workspace, key, work)


def check_sen2cor(options: Sen2cor) -> str:
    """The version of the sen2cor that would run.

    Raises: CorrectionError if there is none, or it does not answer.
    """
    return scenes.sen2cor.installed(options.program).version


def stop_corrections() -> None:
    """End every sen2cor this process runs."""
    scenes.sen2cor.stop_all()


def correction_of(receipt: Receipt, workspace: Workspace) -> Correction:
    """How the Level-2A product that a receipt vouches for came about."""
    return read_record(workspace.part("correct", receipt.unit, ".json"), Correction)


def _correction_key(source: scenes.Sentinel2Product, options: Sen2cor) -> dict[str, str]:
    return {"l1c": source.files.signature(), "options": scenes.sen2cor.options_digest(options)}


def _correction_record(unit: str, workspace: Workspace) -> Correction | None:
    try:
        return read_record(workspace.part("correct", unit, ".json"), Correction)
    except WorkspaceError:
        return None


def _corrected(product: scenes.Sentinel2Product, recipe: Recipe, workspace: Workspace) -> scenes.Sentinel2Product:
    """The Level-2A product made of a Level-1C product, where the recipe corrects; any other product as it is.

    Raises: CorrectionError if it has not been made, or was made of other files or with other settings.
    """
    options = sen2cor_options(recipe)
    if options is None or product.scene.level != "L1C":
        return product
    made, unit = workspace.corrected, product.scene.product
    if made.receipt_path("correct", unit).exists():
        receipt = _receipt("correct", unit, made)
        as_asked = all(receipt.inputs.get(name) == value for name, value in _correction_key(product, options).items())
        if as_asked and made.finished("correct", unit, receipt.key):
            return scenes.open_sentinel2(made.root / correction_of(receipt, made).folder)
    raise CorrectionError(f"{product.files.path} has not been corrected yet; do the stage `correct` first", path=str(product.files.path))


def _quarantine(error: SceneError, source: scenes.Sentinel2Product, version: str, scratch: Path, workspace: Workspace) -> Path:
    """Keep what a failed correction left, without the copy of its input."""
    unit = source.scene.product
    shutil.rmtree(scratch / "input", ignore_errors=True)
    reason = Quarantine(
        source=unit,
        path=str(source.files.path),
        error=type(error).__name__,
        message=str(error),
        sen2cor_version=version,
        command=list(error.context.get("command", [])),  # type: ignore[call-overload]
        attempts=int(error.context.get("attempts", 0)),  # type: ignore[call-overload]
    )
    with writing_folder(workspace.quarantine(unit)) as aside:
        for item in sorted(scratch.iterdir()):
            if item.name != "lock":
                shutil.move(item, aside / item.name)
        write_record(aside / "reason.json", reason)
    return workspace.quarantine(unit)


# --- one scene --------------------------------------------------------------------------------------------


def register_scene(pair: ScenePair, recipe: Recipe, workspace: Workspace, threads: int = 1) -> Outcome:
    """Check that a scene is whole, to the byte, and take the digest of its files."""
    path = workspace.part("scenes", pair.unit, ".json")

    def work() -> tuple[list[Path], dict[str, int]]:
        s2 = scenes.open_sentinel2(Path(pair.s2_path))
        scenes.check_complete(s2)
        scenes.check_contents(s2, threads)
        s1 = {match.scene.product: scenes.open_sentinel1(Path(match.path), s1_processing(recipe)).files.sha256() for match in pair.s1}
        contents = combined_sha256({pair.s2.product: s2.files.sha256(), **s1})
        write_record(path, pair.model_copy(update={"inputs_sha256": contents}))
        return [path], {"bands": len(s2.scene.bands)}

    return _once("scenes", pair.unit, workspace, {"signature": pair.signature, "s1": _s1_order(pair)}, work)


def cut_scene(unit: str, recipe: Recipe, workspace: Workspace) -> Outcome:
    """List the patches of a scene."""
    path = workspace.part("patches", unit, ".parquet")

    def work() -> tuple[list[Path], dict[str, int]]:
        table = patches.cut_patches(_pair(unit, workspace).s2)
        with writing(path) as aside:
            catalog.write_rows(aside, table, PatchPlace)
        return [path], {"patches": len(table)}

    return _once("patches", unit, workspace, {"scene": _scene_digest(unit, workspace)}, work)


def label_scene(unit: str, recipe: Recipe, workspace: Workspace) -> Outcome:
    """Rasterize the land cover under a scene and take each patch's labels and country from it."""
    inputs = locate_inputs(recipe, workspace)
    table_path = workspace.part("labels", unit, ".parquet")
    map_path = workspace.part("labels", unit, ".npy")

    def work() -> tuple[list[Path], dict[str, int]]:
        scene = _pair(unit, workspace).s2
        grid = patches.grid_of(scene)
        nomenclature = labels.load_nomenclature(recipe.labels.nomenclature)
        bounds = (scene.ul_x_m, scene.ul_y_m - scene.height_m, scene.ul_x_m + scene.width_m, scene.ul_y_m)
        read_polygons = labels.label_source(recipe.labels.source)
        polygons = read_polygons(inputs.labels, bounds, scene.epsg, nomenclature, recipe.labels.layer, recipe.labels.code_column)
        shape_yx = (scene.height_m // MAP_PIXEL_M, scene.width_m // MAP_PIXEL_M)
        codes = labels.rasterize_codes(polygons, from_origin(scene.ul_x_m, scene.ul_y_m, MAP_PIXEL_M, MAP_PIXEL_M), shape_yx)
        found = labels.label_patches(_cells(codes, grid, MAP_PIXEL_M), nomenclature)
        table = _read_rows("patches", unit, workspace)[["patch_id", "epsg", "ul_x_m", "ul_y_m"]]
        table = table.assign(
            country=_countries(table, inputs.countries),
            labels=found.labels,
            label_fractions=found.fractions,
            unlabeled_fraction=found.unlabeled,
        )
        with writing(map_path) as aside, aside.open("wb") as stream:
            np.save(stream, codes)
        with writing(table_path) as aside:
            catalog.write_rows(aside, table[list(PatchLabeling.model_fields)], PatchLabeling)
        return [table_path, map_path], {"polygons": len(polygons), "repaired": int(polygons["repaired"].sum())}

    countries = inputs.countries
    key = {
        "patches": _outputs_digest("patches", unit, workspace),
        "labels": _signature(inputs.labels),
        "countries": _signature(Path(countries.path)) if countries and countries.path else "",
        "country names": countries.model_copy(update={"path": None}).digest() if countries else "",
        "recipe": recipe.labels.model_copy(update={"path": None}).digest(),
    }
    return _once("labels", unit, workspace, key, work)


def assess_scene(unit: str, recipe: Recipe, workspace: Workspace, threads: int = 1) -> Outcome:
    """Decode a scene once: judge each patch, and set aside the pixels of those that are kept.

    Args:
        threads: bands decoded at a time.
    """
    table_path = workspace.part("quality", unit, ".parquet")
    shifts_path = workspace.part("quality", unit, ".json")
    pixels_path = workspace.part("quality", unit, "")
    require_s1 = _requires_s1(recipe)

    def work() -> tuple[list[Path], dict[str, int]]:
        pair = _pair(unit, workspace)
        grid = patches.grid_of(pair.s2)
        product = scenes.open_sentinel2(Path(pair.s2_path))
        ids = _read_rows("patches", unit, workspace)["patch_id"].to_numpy()
        layers = product.read_all((*scenes.LAYERS, *SENTINEL2.band_names), threads)
        nodata = np.stack([quality.missing_fraction(layers[band.name], product.scene.nodata, grid, band.gsd_m) for band in SENTINEL2.bands])
        table = pd.DataFrame(
            {
                "patch_id": ids,
                "nodata_fraction": nodata.max(axis=0),
                **quality.sky_fractions(layers["SCL"], layers["CLDPRB"], layers["SNWPRB"], grid, recipe.quality),
                "unlabeled_fraction": _read_rows("labels", unit, workspace)["unlabeled_fraction"].to_numpy(),
            }
        )
        backscatter = _read_s1(pair, grid, layers["B08"], s1_processing(recipe, threads))
        table = table.join(
            quality.judge(
                table,
                thresholds=recipe.quality,
                max_unlabeled_fraction=recipe.labels.max_unlabeled_fraction,
                s1_missing_fraction=backscatter.missing if pair.s1 else None,
                require_s1=require_s1,
                product_refused=scenes.quality_problem(pair.s2) is not None,
            )
        )
        table["s1_product"] = [match.scene.product if match else None for match in backscatter.chosen]
        table["s1_time_gap_h"] = [match.time_gap_h if match else None for match in backscatter.chosen]
        layers[REFERENCE_MAP.name] = np.load(workspace.part("labels", unit, ".npy"), mmap_mode="r")
        with writing_folder(pixels_path) as aside:
            data_file = shards.write_part(aside, _patch_values(table, grid, layers, backscatter)).name
        with writing(table_path) as aside:
            catalog.write_rows(aside, table[list(PatchQuality.model_fields)], PatchQuality)
        write_record(shifts_path, Coregistrations(scenes=backscatter.shifts))
        reasons = table["drop_reason"].dropna().value_counts()
        return [table_path, shifts_path, pixels_path / data_file], {
            "kept": int(table["kept"].sum()),
            **{str(k): int(v) for k, v in reasons.items()},
        }

    key = {
        "scene": _scene_digest(unit, workspace),
        "labels": _outputs_digest("labels", unit, workspace),
        "recipe": recipe.quality.digest(),
        "max_unlabeled_fraction": str(recipe.labels.max_unlabeled_fraction),
        "require_s1": str(require_s1),
        "s1 processing": _s1_processing_key(recipe),
    }
    return _once("quality", unit, workspace, key, work)


def s1_processing(recipe: Recipe, threads: int = 1) -> scenes.Sentinel1Processing:
    """How a recipe wants Sentinel-1 brought to decibel on the ground, its paths made absolute."""
    said = recipe.scenes
    if said is None:
        return scenes.Sentinel1Processing(threads=threads)
    return scenes.Sentinel1Processing(
        unit=said.sentinel1_unit,
        dem=tuple(str(path) for path in scenes.expand(recipe.absolute(each) for each in said.dem)),
        dem_datum=said.dem_datum,
        geoid=recipe.absolute(said.geoid) if said.geoid else None,
        quantity=said.backscatter,
        remove_noise=said.remove_thermal_noise,
        flatten=said.flatten_terrain,
        corrector=said.terrain_corrector,
        threads=threads,
    )


def _s1_processing_key(recipe: Recipe) -> str:
    """What decides how Sentinel-1 is processed: the recipe's words, and the files of heights they name."""
    processing = s1_processing(recipe)
    files = [inside for path in processing.dem for inside in (sorted(Path(path).glob("*.tif")) if Path(path).is_dir() else [Path(path)])]
    files += [Path(processing.geoid)] if processing.geoid else []
    return combined_sha256(
        {
            "said": repr(replace(processing, dem=(), geoid=None)),
            **{f"{index} {path.name}": _signature(path) for index, path in enumerate(files)},
        }
    )


@dataclass(frozen=True)
class _Backscatter:
    """Sentinel-1 over the patches of a scene, in the grid's order."""

    chosen: list[Sentinel1Match | None]  # per patch, the first choice that covers it wholly
    bands: list[dict[str, np.ndarray] | None]  # per patch, band to (y, x) float32 dB
    missing: np.ndarray  # (n,) share of missing pixels; where no scene covers a patch wholly, that of the best
    shifts: list[Coregistration]  # of every scene that was read


def _read_s1(pair: ScenePair, grid: PatchGrid, optical: np.ndarray, processing: scenes.Sentinel1Processing) -> _Backscatter:
    """Take each patch from the first of the matching scenes that covers it wholly.

    Args:
        optical: (y, x) counts of a 10 m band, to see whether the two sensors agree on where things are.
    """
    cells = list(zip(*(cells.tolist() for cells in grid.cells()), strict=True))
    found = _Backscatter([None] * len(cells), [None] * len(cells), np.ones(len(cells)), [])
    for order, match in enumerate(pair.s1):
        if all(found.chosen):
            break
        product = scenes.open_sentinel1(Path(match.path), processing)
        extent = {
            "epsg": pair.s2.epsg,
            "ul_x_m": pair.s2.ul_x_m,
            "ul_y_m": pair.s2.ul_y_m,
            "width_m": pair.s2.width_m,
            "height_m": pair.s2.height_m,
        }
        rasters = {band.name: product.read(band.name, **extent) for band in SENTINEL1.bands}
        missing = np.stack([quality.missing_fraction(rasters[band.name], float("nan"), grid, band.gsd_m) for band in SENTINEL1.bands]).max(
            axis=0
        )
        for index, (col, row) in enumerate(cells):
            if found.chosen[index] is None and missing[index] == 0:
                found.chosen[index] = match
                views = {band.name: rasters[band.name][grid.window(col, row, band.gsd_m)] for band in SENTINEL1.bands}
                # The first scene usually covers all, so its raster stays; of others only what is needed.
                found.bands[index] = views if order == 0 else {name: pixels.copy() for name, pixels in views.items()}
        np.minimum(found.missing, missing, out=found.missing)
        if shift := quality.register(optical, rasters["VV"]):
            south_px, east_px, spread_px, blocks = shift
            found.shifts.append(
                Coregistration(
                    s2_product=pair.s2.product,
                    s1_product=match.scene.product,
                    south_px=south_px,
                    east_px=east_px,
                    spread_px=spread_px,
                    blocks=blocks,
                )
            )
    return found


def _patch_values(
    table: pd.DataFrame, grid: PatchGrid, layers: Mapping[str, np.ndarray], backscatter: _Backscatter
) -> dict[str, dict[str, np.ndarray]]:
    """Key to bands of every kept patch, as views into the scene's rasters."""
    values: dict[str, dict[str, np.ndarray]] = {}
    for index, patch_id in table.loc[table["kept"], "patch_id"].items():
        patch = PatchId.parse(patch_id)
        windows = {gsd_m: grid.window(patch.col, patch.row, gsd_m) for gsd_m in (10, 20, 60)}
        values[patch_id] = {band.name: layers[band.name][windows[band.gsd_m]] for band in SENTINEL2.bands}
        values[reference_map_id(patch_id)] = {band.name: layers[REFERENCE_MAP.name][windows[band.gsd_m]] for band in REFERENCE_MAP.bands}
        match, bands = backscatter.chosen[index], backscatter.bands[index]
        if match is not None and bands is not None:
            values[s1_patch_id(match.scene.scene_id, patch)] = bands
    return values


def _countries(table: pd.DataFrame, countries: Countries | None) -> list[str | None]:
    if countries is None or countries.path is None:
        return [None] * len(table)
    lon, lat = _centres(table)
    return list(labels.nearest_countries(Path(countries.path), lon, lat, countries.name_column, countries.names))


def _centres(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude of patch centres, degrees."""
    outlines = patches.with_footprints(table).geometry
    box = outlines.bounds
    return ((box["minx"] + box["maxx"]) / 2).to_numpy(), ((box["miny"] + box["maxy"]) / 2).to_numpy()


# --- the whole dataset ------------------------------------------------------------------------------------


def assign_splits(units: Sequence[str], recipe: Recipe, workspace: Workspace) -> Outcome:
    """Put the patch table together, divide the kept patches, and audit the division."""

    def work() -> tuple[list[Path], dict[str, int]]:
        table = pd.concat([_scene_table(unit, workspace) for unit in units]).sort_values("patch_id", ignore_index=True)
        kept = table[table["kept"]]
        if kept.empty:
            reasons = ", ".join(f"{count} for {reason}" for reason, count in table["drop_reason"].value_counts().items())
            raise RecipeError(f"not one of {len(table)} patches was kept: {reasons}; loosen the recipe or give it other scenes")
        table["split"] = splits.assign(kept, recipe.split).reindex(table.index)
        table["split"] = table["split"].astype(object).where(table["kept"], None)
        audit = splits.audit(table[table["kept"]], [each.name for each in _nomenclature(recipe).classes])
        with writing(workspace.patches) as aside:
            catalog.write_patches(aside, patches.with_footprints(table))
        write_record(workspace.audit, audit)
        return [workspace.patches, workspace.audit], {"patches": len(table), **audit.counts}

    key = {f"{stage} {unit}": _outputs_digest(stage, unit, workspace) for unit in units for stage in ("patches", "labels", "quality")}
    return _once("splits", "all", workspace, {**key, "recipe": recipe.split.digest()}, work)


def caption_patches(recipe: Recipe, workspace: Workspace) -> Outcome:
    """Gather the facts of each kept patch and write one caption that they support."""

    def work() -> tuple[list[Path], dict[str, int]]:
        table = _kept(workspace)
        facts = captions.facts_table(table)
        captioner = captions.captioner_for(recipe.captions)
        rows = captions.caption_all(facts, captioner, [each.name for each in _nomenclature(recipe).classes])
        with writing(workspace.facts) as aside:
            catalog.write_rows(aside, pd.DataFrame([each.model_dump() for each in facts]), PatchFacts)
        with writing(workspace.texts) as aside:
            catalog.write_rows(aside, pd.DataFrame([each.model_dump() for each in rows]), CaptionRow)
        return [workspace.facts, workspace.texts], {"captions": len(rows)}

    key = {"patches": _outputs_digest("splits", "all", workspace), "recipe": recipe.captions.digest()}
    return _once("captions", "all", workspace, {**key, "labels": recipe.labels.nomenclature}, work)


def pack_shards(units: Sequence[str], recipe: Recipe, workspace: Workspace, advance: Callable[[int], None] = lambda n: None) -> Outcome:
    """Merge the pixels of all scenes into one shard with its manifest and statistics."""
    folder = workspace.shards(recipe.shards.format)

    def work() -> tuple[list[Path], dict[str, int]]:
        if recipe.shards.format != "lmdb":
            raise RecipeError(f"shards.format is {recipe.shards.format!r}; known are {', '.join(sorted(shards.FORMATS))}")
        table = _kept(workspace)
        pairs = [_pair(unit, workspace) for unit in units]
        quantifications = {pair.s2.quantification for pair in pairs}
        if len(quantifications) != 1:
            raise SceneError(f"the scenes have different quantification values {sorted(quantifications)}; build them as separate datasets")
        s1_keys = [
            s1_patch_id(s1_scene_id(product), PatchId.parse(patch_id)) if product is not None else None
            for patch_id, product in table[["patch_id", "s1_product"]].itertuples(index=False)
        ]
        sensors: list[Sensor] = [SENTINEL2, *([SENTINEL1] if any(s1_keys) else []), REFERENCE_MAP]
        nomenclature = _nomenclature(recipe)
        with writing_folder(folder) as aside:
            manifest = shards.pack(
                aside,
                [workspace.part("quality", unit, "") for unit in units],
                name=recipe.name,
                index=shards.index_rows(table, s1_keys),
                sensors=sensors,
                offsets={name: [pair.s2.offsets[name] for pair in pairs] for name in SENTINEL2.band_names},
                quantification=quantifications.pop(),
                labels=nomenclature.classes,
                unlabeled_codes=nomenclature.unlabeled_codes,
                recipe_sha256=recipe.dataset_digest(),
                advance=advance,
            )
        return [folder / item.path for item in manifest.files] + [folder / shards.MANIFEST_FILE], {"keys": manifest.keys, **manifest.counts}

    key = {f"pixels {unit}": _outputs_digest("quality", unit, workspace) for unit in units}
    key |= {"patches": _outputs_digest("splits", "all", workspace), "recipe": recipe.dataset_digest()}
    return _once("shards", recipe.shards.format, workspace, key, work)


def write_manifest(units: Sequence[str], failures: Sequence[Failure], recipe: Recipe, workspace: Workspace) -> Outcome:
    """Say what the dataset was made from and what it holds."""
    inputs = locate_inputs(recipe, workspace)

    def work() -> tuple[list[Path], dict[str, int]]:
        table = catalog.read_patches(workspace.patches)
        outputs = [workspace.patches, workspace.facts, workspace.texts, workspace.audit]
        outputs += [workspace.root / item.path for item in _receipt("shards", recipe.shards.format, workspace).outputs]
        layers = [inputs.labels, *([Path(inputs.countries.path)] if inputs.countries and inputs.countries.path else [])]
        with writing(workspace.recipe) as aside:
            aside.write_text(yaml.safe_dump(recipe.model_dump(mode="json", exclude_none=True), sort_keys=False), encoding="utf-8")
        manifest = Manifest(
            name=recipe.name,
            title=recipe.title,
            rsdata_version=__version__,
            recipe_sha256=recipe.dataset_digest(),
            inputs=[
                *(InputDigest(name=unit, sha256=_pair(unit, workspace).inputs_sha256 or "") for unit in units),
                *(InputDigest(name=layer.name, sha256=file_sha256(layer)) for layer in layers),
            ],
            counts={"scenes": len(units), "patches": len(table), "kept": int(table["kept"].sum())},
            dropped={str(k): int(v) for k, v in table["drop_reason"].value_counts().sort_index().items()},
            splits={str(k): int(v) for k, v in table["split"].value_counts().sort_index().items()},
            coregistration=_shifts(units, workspace),
            failures=list(failures),
            outputs=[workspace.artifact(path) for path in outputs],
        )
        write_record(workspace.manifest, manifest)
        return [workspace.manifest, workspace.recipe], {"failures": len(failures)}

    key = {
        "shards": _outputs_digest("shards", recipe.shards.format, workspace),
        "captions": _outputs_digest("captions", "all", workspace),
        "scenes": combined_sha256({unit: _scene_digest(unit, workspace) for unit in units}),
        "failures": combined_sha256({f"{item.stage} {item.unit}": item.message for item in failures}),
        "recipe": recipe.digest(),
    }
    return _once("catalog", "all", workspace, key, work)


def train_baseline(recipe: Recipe, workspace: Workspace, options: Training) -> Outcome:
    """Train the baseline a recipe asks for on its shard."""
    folder = workspace.training(options.model)

    def work() -> tuple[list[Path], dict[str, int]]:
        from rsdata.training import train

        report = train(workspace.shards(recipe.shards.format), options, folder)
        write_record(workspace.metrics(options.model), report)
        return [workspace.metrics(options.model), folder / "model.safetensors"], {"epochs": len(report.epochs)}

    key = {"shards": _outputs_digest("shards", recipe.shards.format, workspace), "recipe": options.digest()}
    return _once("training", options.model, workspace, key, work)


def write_report(recipe: Recipe, workspace: Workspace) -> Outcome:
    """Draw the dataset on one page: map, balance, samples, audit, drops, and the scores of the recipe's model."""
    model = recipe.training.model if recipe.training else ""
    metrics = workspace.metrics(model)
    manifest = read_record(workspace.manifest, Manifest)

    def work() -> tuple[list[Path], dict[str, int]]:
        table = catalog.read_patches(workspace.patches)
        texts = catalog.read_table(workspace.texts, CaptionRow)
        nomenclature = _nomenclature(recipe)
        with writing(workspace.report) as aside:
            catalog.write_report(
                aside,
                title=recipe.title or recipe.name,
                attribution=recipe.attribution,
                patches=table,
                classes=list(nomenclature.classes),
                audit=read_record(workspace.audit, SplitAudit),
                captions=dict(zip(texts["patch_id"], texts["text"], strict=True)),
                samples=_samples(table, recipe, workspace),
                code_colors=nomenclature.code_colors,
                code_names=nomenclature.code_names,
                coregistration=manifest.coregistration,
                failures=manifest.failures,
                training=read_record(metrics, TrainingReport) if metrics.exists() else None,
                provenance={
                    "Recipe": f"{manifest.name} ({manifest.recipe_sha256[:12]})",
                    "Made with": f"rsdata {manifest.rsdata_version}",
                    "Inputs": ", ".join(item.name for item in manifest.inputs),
                },
            )
        return [workspace.report], {"samples": SAMPLES_PER_SPLIT * 3}

    key = {"manifest": file_sha256(workspace.manifest), "metrics": file_sha256(metrics) if metrics.exists() else ""}
    return _once("report", "all", workspace, key, work)


def read_training(workspace: Workspace, model: str) -> TrainingReport:
    """Scores of a model that was trained on this dataset."""
    return read_record(workspace.metrics(model), TrainingReport)


def assign_table(table_path: Path, part: SplitPart, out: Path) -> dict[str, int]:
    """Divide any table that has patch ids, keep its other columns, and count the patches per split."""
    table = catalog.read_patch_ids(table_path)
    table["split"] = splits.assign(table, part)
    with writing(out) as aside:
        catalog.write_patch_ids(aside, table)
    return {str(name): int(count) for name, count in table["split"].value_counts().items()}


def audit_table(table_path: Path) -> SplitAudit:
    """Audit the split of any table that has patch ids and a column ``split``; dropped patches are left out."""
    table = catalog.read_patch_ids(table_path)
    return splits.audit(table[table["split"].notna()] if "split" in table else table)


def verify_dataset(workspace: Workspace, advance: Callable[[int], None] = lambda n: None) -> tuple[Manifest, list[str]]:
    """A dataset's manifest, and one sentence for each way the files differ from it."""
    manifest = read_record(workspace.manifest, Manifest)
    findings = []
    for stated in manifest.outputs:
        path = workspace.root / stated.path
        if not path.is_file():
            findings.append(f"{stated.path} is missing")
        elif workspace.artifact(path) != stated:
            findings.append(f"{stated.path} differs from its digest in manifest.json")
    if findings:
        return manifest, findings
    table = catalog.read_patches(workspace.patches)
    kept = set(table.loc[table["kept"], "patch_id"])
    for path, model in ((workspace.facts, PatchFacts), (workspace.texts, CaptionRow)):
        if set(catalog.read_table(path, model)["patch_id"]) != kept:
            findings.append(f"{path.name} does not describe exactly the kept patches")
    for folder in sorted({(workspace.root / item.path).parent for item in manifest.outputs if item.path.startswith("shards/")}):
        with shards.open_shard(folder) as shard:
            if set(shard.index["patch_id"]) != kept:
                findings.append(f"{folder.relative_to(workspace.root)} does not hold exactly the kept patches")
        findings += shards.verify_shard(folder, advance)
    return manifest, findings


def verify_shard(path: Path, advance: Callable[[int], None] = lambda n: None) -> tuple[ShardManifest, list[str]]:
    """A shard's manifest, and one sentence for each way the shard differs from it."""
    with shards.open_shard(path) as shard:
        manifest = shard.manifest
    return manifest, shards.verify_shard(path, advance)


def shard_info(path: Path) -> ShardManifest:
    with shards.open_shard(path) as shard:
        return shard.manifest


def inspect_scene(path: Path, tile: str | None = None) -> tuple[Any, str | None]:
    """What a product says of itself, and why it could not become part of a dataset, if so.

    ``tile`` picks one where a Sentinel-2 product from before December 2016 holds several.
    """
    if path.name.startswith("S1"):
        return scenes.open_sentinel1(path).scene, None
    if path.suffix.lower() == ".json":
        return scenes.open_stac_item(path).scene, f"{path} is a STAC item; a dataset is built from SAFE products"
    product = scenes.open_sentinel2(path, tile)
    try:
        scenes.check_complete(product)
    except SceneError as error:
        return product.scene, str(error)
    return product.scene, scenes.quality_problem(product.scene)


def summarize_scene(scene: Any, problem: str | None) -> list[tuple[str, str]]:
    """What matters of a scene as lines of name and text."""
    if isinstance(scene, Sentinel2Scene):
        return scenes.summarize(scene, problem)
    stated = ((name, ", ".join(value) if isinstance(value, dict) else value) for name, value in scene.model_dump(mode="json").items())
    return [(name, "not stated" if value is None else str(value)) for name, value in stated]


def search_products(query: catalogue.ProductQuery, url: str | None = None) -> catalogue.SearchResult:
    """The products that a STAC catalogue offers; ``RSDATA_STAC`` names one, and so does ``url``, which goes first."""
    return catalogue.search_catalogue(query, url or os.environ.get("RSDATA_STAC") or catalogue.CDSE_STAC)


def product_query(
    tile: str,
    period: str,
    product_type: str = "S2MSI2A",
    max_cloud: float | None = None,
    limit: int | None = None,
    every_baseline: bool = False,
) -> catalogue.ProductQuery:
    """A query from what people type.

    Raises: GridError, or DownloadError if the dates or the type make no sense.
    """
    known = [name for name in catalogue.COLLECTIONS if name == product_type]
    if not known:
        raise DownloadError(f"{product_type!r} is not a product type; choose one of {', '.join(catalogue.COLLECTIONS)}")
    start, end = catalogue.parse_period(period)
    return catalogue.ProductQuery(Tile.from_name(tile.removeprefix("T")), start, end, known[0], max_cloud, limit, every_baseline)


def public_product(product: RemoteProduct) -> dict[str, Any]:
    """A product as JSON, its addresses without anything that could be a key."""
    clean = json.loads(product.model_dump_json())
    for file in [*clean["files"], *([clean["archive"]] if clean["archive"] else [])]:
        file["href"] = remote.public_href(file["href"])
    return dict(clean)


def fetch_products(
    products: Sequence[RemoteProduct],
    out: Path,
    connections: int = remote.CONNECTIONS,
    via: str = "auto",
    tell: Callable[[RemoteProduct, int, Download | Failure | None], None] = lambda product, n, outcome: None,
) -> tuple[list[Download], list[Failure]]:
    """Fetch products into a folder, with keys from the environment."""
    if not products:
        return [], []
    with remote.Session(connections=connections) as session:
        return download_products(products, Workspace.create(out), session, via, tell)


def download_product(
    product: RemoteProduct,
    workspace: Workspace,
    session: remote.Session,
    via: str = "auto",
    advance: Callable[[int], None] = lambda n: None,
) -> Download:
    """Fetch one product into the workspace, from where an earlier run left it; one that is there is left alone.

    Its record lies in ``downloads/`` and says at any time how far it is. The product itself gets its name only when
    it is whole, verified, and could be opened.

    Args:
        via: https for one zip, s3 for a folder of objects, auto for what the keys in the environment allow.
        advance: told bytes as they come; a negative number where a beginning is thrown away.

    Raises: DownloadError or SceneError, with the reason in the record as well.
    """
    place = workspace.download_state(product.product)
    before: Download | None = None
    with suppress(WorkspaceError):  # none yet, or of another version
        before = read_record(place, Download)
    if before is not None and before.state == "done" and _is_whole(before, workspace):
        return before
    source = download.choose_source(product, session.keys, via)
    suffix = ".zip" if source == "archive" else ".SAFE"
    target, part = workspace.root / f"{product.product}{suffix}", workspace.download_part(product.product)
    if before is not None and before.source != source:
        _remove(part)
        before = None
    record = Download(
        product=product.product,
        state="partial" if before is not None and before.files else "wanted",
        source="archive" if source == "archive" else "folder",
        files=before.files if before is not None else [],
    )
    if target.exists() and not (record.files and all(file.sha256 for file in record.files)):
        raise DownloadError(
            f"{target} is there, but was not fetched by this command; move it away or name another folder", path=str(target)
        )
    write_record(place, record)
    try:
        if not target.exists():
            record = _fetch(product, record, workspace, session, advance)
            part.replace(target)
        _open_fetched(product, target, workspace)
        done = record.model_copy(update={"state": "done", "path": target.name})
        write_record(place, done)
        return done
    except (RsdataError, OSError) as error:
        known = read_record(place, Download)
        files = [] if isinstance(error, SceneError) else known.files
        state = "partial" if any(file.offset for file in files) else "failed"
        with suppress(WorkspaceError):  # a full disk takes no reason either
            write_record(place, known.model_copy(update={"state": state, "reason": str(error), "files": files}))
        if isinstance(error, RsdataError):
            raise
        raise DownloadError(
            f"{target} cannot be put in place ({error.strerror}); look at its folder, then repeat", path=str(target)
        ) from error


def download_products(
    products: Sequence[RemoteProduct],
    workspace: Workspace,
    session: remote.Session,
    via: str = "auto",
    tell: Callable[[RemoteProduct, int, Download | Failure | None], None] = lambda product, n, outcome: None,
) -> tuple[list[Download], list[Failure]]:
    """Fetch products, several at a time but never over more connections than the session has; one that fails stops no other.

    Args:
        tell: told of every product as bytes come, and once with its outcome.
    """

    def fetch(product: RemoteProduct) -> Download | Failure:
        outcome: Download | Failure
        try:
            outcome = download_product(product, workspace, session, via, lambda n: tell(product, n, None))
        except RsdataError as error:
            outcome = failure("download", product.product, error)
        tell(product, 0, outcome)
        return outcome

    with ThreadPoolExecutor(max_workers=session.connections, thread_name_prefix="download") as pool:
        waiting = [pool.submit(fetch, product) for product in products]
        try:
            outcomes = [future.result() for future in waiting]
        except BaseException:
            session.stop()
            pool.shutdown(cancel_futures=True)
            raise
    done = [outcome for outcome in outcomes if isinstance(outcome, Download)]
    return done, [outcome for outcome in outcomes if isinstance(outcome, Failure)]


def _fetch(
    product: RemoteProduct, record: Download, workspace: Workspace, session: remote.Session, advance: Callable[[int], None]
) -> Download:
    """Bring every file of a product to the place where it waits to be whole; the record on disk follows."""
    place, part = workspace.download_state(product.product), workspace.download_part(product.product)
    if record.source == "archive":
        wanted = [product.archive] if product.archive is not None else []
    else:
        wanted = download.with_checksums(remote.list_folder(str(product.folder), session), product)
    files = {file.path: file for file in record.files}
    notes, lock, given_up = download.unverified(wanted), threading.Lock(), threading.Event()

    def snapshot() -> Download:
        here = [files[each.path] for each in wanted if each.path in files]
        return record.model_copy(update={"state": "partial", "files": here, "notes": notes, "reason": None})

    def remember(file: FetchedFile) -> None:
        with lock:
            files[file.path] = file
            write_record(place, snapshot())

    def fetch(file: RemoteFile) -> None:
        if given_up.is_set():
            return
        target = part if record.source == "archive" else part / file.path
        try:
            download.fetch_file(file, files.get(file.path), target, session, remember, advance)
        except download.WrongContent as error:
            given_up.set()
            rejected = workspace.download_rejected(target.name if record.source == "folder" else file.path)
            rejected.parent.mkdir(exist_ok=True)
            target.replace(rejected)
            with lock:
                files.pop(file.path, None)
                write_record(place, snapshot())
            raise download.WrongContent(f"{error}; it lies in {rejected}, and the same command fetches it anew", **error.context) from None
        except BaseException:
            given_up.set()
            raise

    part.parent.mkdir(parents=True, exist_ok=True)
    missing = sum((file.bytes or 0) for file in wanted) - sum(file.offset for file in record.files)
    download.check_space(part.parent, max(0, missing), product.product)
    with ThreadPoolExecutor(max_workers=min(session.connections, len(wanted))) as pool:
        waiting = [pool.submit(fetch, file) for file in wanted]
        problems = [error for future in waiting if (error := future.exception()) is not None]
    if problems:
        raise problems[0]
    return snapshot()


def _open_fetched(product: RemoteProduct, path: Path, workspace: Workspace) -> None:
    """See that a finished product is one.

    Raises: SceneError if it is not; it is moved aside first.
    """
    try:
        if product.product_type == "S1GRD":
            list_files(path, marker="manifest.safe").read_xml("manifest.safe")
            return
        found = scenes.open_sentinel2(path).scene.product
        if found != product.product:
            raise SceneError(f"{path.name} holds the product {found}; search again", path=str(path))
    except SceneError as error:
        rejected = workspace.download_rejected(path.name)
        rejected.parent.mkdir(exist_ok=True)
        _remove(rejected)
        path.replace(rejected)
        raise SceneError(f"what came is not the product: {error}; it lies in {rejected}", path=str(rejected)) from error


def _is_whole(record: Download, workspace: Workspace) -> bool:
    """Whether a finished product still lies where it was put, with files of the same sizes."""
    if record.path is None:
        return False
    path = workspace.root / record.path
    if record.source == "archive":
        return path.is_file() and path.stat().st_size == record.bytes
    return all((path / file.path).is_file() and (path / file.path).stat().st_size == file.offset for file in record.files)


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _samples(table: gpd.GeoDataFrame, recipe: Recipe, workspace: Workspace) -> list[catalog.Sample]:
    """Pictures of patches from each split, spread evenly over the table."""
    offsets: dict[str, dict[str, float]] = {}
    chosen = []
    for split in ("train", "validation", "test"):
        rows = table[table["split"] == split]
        chosen += (
            [rows.iloc[i] for i in np.unique(np.linspace(0, len(rows) - 1, min(SAMPLES_PER_SPLIT, len(rows))).astype(int))]
            if len(rows)
            else []
        )
    samples = []
    with shards.open_shard(workspace.shards(recipe.shards.format)) as shard:
        keys = shard.index.set_index("patch_id")
        for row in chosen:
            scene = PatchId.parse(row["patch_id"]).scene
            offsets.setdefault(scene, _pair(scene, workspace).s2.offsets)
            bands = shard.read(row["patch_id"])
            rgb = np.stack([(bands[name].astype(np.float32) + offsets[scene][name]) / QUANTIFICATION for name in RGB], axis=-1)
            s1_key = keys.loc[row["patch_id"], "s1_key"]
            samples.append(
                catalog.Sample(
                    patch_id=row["patch_id"],
                    rgb=_as_picture(rgb, 0.0, RGB_REFLECTANCE),
                    s1=_as_picture(shard.read(s1_key)["VV"], *S1_DB) if s1_key is not None else None,
                    reference_map=shard.read(keys.loc[row["patch_id"], "reference_map_key"])["Data"],
                )
            )
    return samples


def _as_picture(pixels: np.ndarray, black: float, white: float) -> np.ndarray:
    """Stretch values to uint8; what is missing is black."""
    return (np.clip((np.nan_to_num(pixels, nan=black) - black) / (white - black), 0, 1) * 255).astype(np.uint8)


# --- receipts ---------------------------------------------------------------------------------------------


def _once(
    stage: Stage, unit: str, workspace: Workspace, inputs: Mapping[str, str], work: Callable[[], tuple[list[Path], dict[str, int]]]
) -> Outcome:
    """Do a unit of work unless its receipt says it is done; write the receipt last."""
    key = combined_sha256({**inputs, "stage": stage, "unit": unit, "rsdata": __version__})
    receipt = workspace.finished(stage, unit, key)
    if receipt is not None:
        return Outcome(receipt, skipped=True)
    start = time.monotonic()
    outputs, counts = work()
    return Outcome(workspace.write_receipt(stage, unit, key, inputs, outputs, counts, time.monotonic() - start), skipped=False)


def _receipt(stage: Stage, unit: str, workspace: Workspace) -> Receipt:
    return read_record(workspace.receipt_path(stage, unit), Receipt)


def _outputs_digest(stage: Stage, unit: str, workspace: Workspace) -> str:
    return combined_sha256({item.path: item.sha256 for item in _receipt(stage, unit, workspace).outputs})


def _scene_digest(unit: str, workspace: Workspace) -> str:
    """What a scene was made from, wherever its files lie."""
    pair = _pair(unit, workspace)
    return combined_sha256({"contents": pair.inputs_sha256 or "", "s2": pair.s2.product, "s1": _s1_order(pair)})


def _s1_order(pair: ScenePair) -> str:
    return " ".join(match.scene.product for match in pair.s1)


def _signature(path: Path) -> str:
    """A quick mark of a file that may be large: name, size and time."""
    if not path.exists():
        return "missing"
    stat = path.stat()
    return hashlib.sha256(f"{path.name} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()


# --- small readers ----------------------------------------------------------------------------------------


def _pair(unit: str, workspace: Workspace) -> ScenePair:
    return read_record(workspace.part("scenes", unit, ".json"), ScenePair)


_PARTS = {"patches": PatchPlace, "labels": PatchLabeling, "quality": PatchQuality}


def _read_rows(stage: Stage, unit: str, workspace: Workspace) -> pd.DataFrame:
    return catalog.read_table(workspace.part(stage, unit, ".parquet"), _PARTS[stage])


def _scene_table(unit: str, workspace: Workspace) -> pd.DataFrame:
    table = _read_rows("patches", unit, workspace)
    for stage in ("labels", "quality"):
        table = table.merge(_read_rows(stage, unit, workspace), on="patch_id", validate="one_to_one")
    return table


def _shifts(units: Sequence[str], workspace: Workspace) -> list[Coregistration]:
    return [shift for unit in units for shift in read_record(workspace.part("quality", unit, ".json"), Coregistrations).scenes]


def _kept(workspace: Workspace) -> gpd.GeoDataFrame:
    table = catalog.read_patches(workspace.patches)
    return table[table["kept"]].reset_index(drop=True)


def _cells(pixels: np.ndarray, grid: PatchGrid, gsd_m: int) -> np.ndarray:
    """All patches of a raster (n, y, x), in the grid's order."""
    cells = grid.cut(pixels, gsd_m)
    return cells.reshape(-1, *cells.shape[2:])


def _nomenclature(recipe: Recipe) -> labels.Nomenclature:
    return labels.load_nomenclature(recipe.labels.nomenclature)


def _requires_s1(recipe: Recipe) -> bool:
    return recipe.scenes.require_s1 if recipe.scenes else True
