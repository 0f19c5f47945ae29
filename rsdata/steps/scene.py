"""The stages of one scene: checked, cut into patches, labelled, judged."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from rasterio.transform import from_origin

from rsdata import catalog, labels, patches, quality, scenes, shards
from rsdata.grid import PatchGrid
from rsdata.recipe import Countries, Recipe
from rsdata.records import (
    Coregistration,
    Coregistrations,
    PatchId,
    PatchLabeling,
    PatchPlace,
    PatchQuality,
    ScenePair,
    Sentinel1Match,
    reference_map_id,
    s1_patch_id,
)
from rsdata.sensors import REFERENCE_MAP, SENTINEL1, SENTINEL2
from rsdata.sensors.sentinel2 import SCL_GSD_M
from rsdata.steps import measuring
from rsdata.steps.frames import scl_key, usable, write_frames
from rsdata.steps.heights import with_heights
from rsdata.steps.inputs import locate_inputs
from rsdata.steps.label_inputs import area_of, boxes_of, label_files, nomenclature_of
from rsdata.steps.receipts import Outcome, file_signature, once, outputs_digest, read_pair, read_rows, s1_order, scene_digest
from rsdata.workspace import Workspace, combined_sha256, write_record
from rsdata.writing import writing, writing_folder

MAP_PIXEL_M = 10  # of the reference map


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

    return once("scenes", pair.unit, workspace, {"signature": pair.signature, "s1": s1_order(pair)}, work)


def cut_scene(unit: str, recipe: Recipe, workspace: Workspace) -> Outcome:
    """List the patches of a scene."""
    path = workspace.part("patches", unit, ".parquet")

    def work() -> tuple[list[Path], dict[str, int]]:
        table = patches.cut_patches(read_pair(unit, workspace).s2)
        with writing(path) as aside:
            catalog.write_rows(aside, table, PatchPlace)
        return [path], {"patches": len(table)}

    return once("patches", unit, workspace, {"scene": scene_digest(unit, workspace)}, work)


def label_scene(unit: str, recipe: Recipe, workspace: Workspace) -> Outcome:
    """Rasterize the land cover under a scene and take each patch's labels and country from it."""
    inputs = locate_inputs(recipe, workspace)
    table_path = workspace.part("labels", unit, ".parquet")
    map_path = workspace.part("labels", unit, ".npy")

    def work() -> tuple[list[Path], dict[str, int]]:
        scene = read_pair(unit, workspace).s2
        grid = patches.grid_of(scene)
        nomenclature = nomenclature_of(recipe)
        layer = labels.label_source(recipe.labels.source).read(inputs.labels, area_of(scene), nomenclature, recipe.labels)
        shape_yx = (scene.height_m // MAP_PIXEL_M, scene.width_m // MAP_PIXEL_M)
        codes = layer.rasterize(from_origin(scene.ul_x_m, scene.ul_y_m, MAP_PIXEL_M, MAP_PIXEL_M), shape_yx)
        if recipe.labels.fractions == "exact":
            found = labels.label_shares(layer.shares(boxes_of(grid)), nomenclature)
        else:
            found = labels.label_patches(_cells(codes, grid, MAP_PIXEL_M), nomenclature)
        table = read_rows("patches", unit, workspace)[["patch_id", "epsg", "ul_x_m", "ul_y_m"]]
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
        return [table_path, map_path], dict(layer.counts)

    countries = inputs.countries
    key = {
        "patches": outputs_digest("patches", unit, workspace),
        "labels": combined_sha256({str(n): file_signature(file) for n, file in enumerate(label_files(unit, recipe, workspace))}),
        "nomenclature": nomenclature_of(recipe).digest,
        "countries": file_signature(Path(countries.path)) if countries and countries.path else "",
        "country names": countries.model_copy(update={"path": None}).digest() if countries else "",
        "recipe": recipe.labels.model_copy(update={"path": None}).digest(),
    }
    return once("labels", unit, workspace, key, work)


def assess_scene(unit: str, recipe: Recipe, workspace: Workspace, threads: int = 1) -> Outcome:
    """Decode a scene once: judge each patch, and set aside the pixels of those that are kept or may enter a time series.

    Args:
        threads: bands decoded at a time.
    """
    table_path = workspace.part("quality", unit, ".parquet")
    shifts_path = workspace.part("quality", unit, ".json")
    pixels_path = workspace.part("quality", unit, "")
    measures_path, pictures_path = measuring.measures_path(unit, workspace), measuring.pictures_path(unit, workspace)
    require_s1 = _requires_s1(recipe)

    def work() -> tuple[list[Path], dict[str, int]]:
        pair = read_pair(unit, workspace)
        grid = patches.grid_of(pair.s2)
        product = scenes.open_sentinel2(Path(pair.s2_path))
        ids = read_rows("patches", unit, workspace)["patch_id"].to_numpy()
        layers = product.read_all((*scenes.LAYERS, *SENTINEL2.band_names), threads)
        measures = measuring.measure(product, layers, grid, recipe.quality, threads)
        table = pd.DataFrame(
            {
                "patch_id": ids,
                "nodata_fraction": measuring.largest_nodata(measures),
                "defective_fraction": measures["defective_fraction"],
                "saturated_fraction": measures["saturated_fraction"],
                **quality.sky_fractions(layers["SCL"], layers["CLDPRB"], layers["SNWPRB"], grid, recipe.quality),
                "unlabeled_fraction": read_rows("labels", unit, workspace)["unlabeled_fraction"].to_numpy(),
            }
        )
        processing = with_heights(s1_processing(recipe, threads), pair, recipe, workspace)
        backscatter = _read_s1(pair, grid, layers["B08"], processing)
        s1_products = [match.scene.product if match else None for match in backscatter.chosen]
        s1_missing = backscatter.missing if pair.s1 else None
        measures = measuring.add_backscatter(measures, s1_products, s1_missing, backscatter.shifts)
        table = table.join(
            quality.judge(
                table,
                thresholds=recipe.quality,
                max_unlabeled_fraction=recipe.labels.max_unlabeled_fraction,
                s1_missing_fraction=s1_missing,
                require_s1=require_s1,
                product_refused=scenes.quality_problem(pair.s2) is not None,
                shift_px=measuring.reliable_shift_px(measures),
            )
        )
        table["s1_product"] = s1_products
        table["s1_time_gap_h"] = [match.time_gap_h if match else None for match in backscatter.chosen]
        layers[REFERENCE_MAP.name] = np.load(workspace.part("labels", unit, ".npy"), mmap_mode="r")
        with writing_folder(pixels_path) as aside:
            data_file = shards.write_part(aside, _patch_values(table[table["kept"]], grid, layers, backscatter)).name
        with writing(table_path) as aside:
            catalog.write_rows(aside, table[list(PatchQuality.model_fields)], PatchQuality)
        with writing(measures_path) as aside:
            measuring.write_measures(aside, measures.assign(patch_id=ids, duplicate_of=None, duplicate_kind=None))
        with writing(pictures_path) as aside:
            measuring.write_pictures(aside, table, grid, layers, pair.s2.offsets)
        write_record(shifts_path, Coregistrations(scenes=backscatter.shifts))
        outputs = [table_path, measures_path, pictures_path, shifts_path, pixels_path / data_file]
        if recipe.series is not None:
            outputs.append(_write_frames(unit, table, grid, layers, backscatter, workspace))
        reasons = table["drop_reason"].dropna().value_counts()
        return outputs, {
            "kept": int(table["kept"].sum()),
            **{str(k): int(v) for k, v in reasons.items()},
        }

    key = {
        "scene": scene_digest(unit, workspace),
        "labels": outputs_digest("labels", unit, workspace),
        "recipe": recipe.quality.model_copy(update={"duplicates": "keep"}).digest(),  # settled once all scenes are known
        "max_unlabeled_fraction": str(recipe.labels.max_unlabeled_fraction),
        "require_s1": str(require_s1),
        "s1 processing": _s1_processing_key(read_pair(unit, workspace), recipe, workspace),
        **({"frames": "set aside"} if recipe.series is not None else {}),
    }
    return once("quality", unit, workspace, key, work)


def s1_processing(recipe: Recipe, threads: int = 1) -> scenes.Sentinel1Processing:
    """How a recipe wants Sentinel-1 brought to decibel on the ground; files of heights come in by ``with_heights``."""
    said = recipe.scenes
    if said is None:
        return scenes.Sentinel1Processing(threads=threads)
    return scenes.Sentinel1Processing(
        unit=said.sentinel1_unit,
        resample=said.resample_sentinel1,
        dem_datum=said.dem_datum,
        quantity=said.backscatter,
        remove_noise=said.remove_thermal_noise,
        flatten=said.flatten_terrain,
        corrector=said.terrain_corrector,
        threads=threads,
    )


def _s1_processing_key(pair: ScenePair, recipe: Recipe, workspace: Workspace) -> str:
    """What decides how Sentinel-1 is processed over one scene: the recipe's words, and the files of heights under it."""
    processing = with_heights(s1_processing(recipe), pair, recipe, workspace)
    files = [Path(path) for path in (*processing.dem, *([processing.geoid] if processing.geoid else []))]
    return combined_sha256(
        {
            "said": repr(replace(processing, dem=(), geoid=None)),
            **{f"{index} {path.name}": file_signature(path) for index, path in enumerate(files)},
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
    """Key to bands of the patches of a table, indexed in the grid's order, as views into the scene's rasters."""
    values: dict[str, dict[str, np.ndarray]] = {}
    for index, patch_id in table["patch_id"].items():
        patch = PatchId.parse(patch_id)
        windows = {gsd_m: grid.window(patch.col, patch.row, gsd_m) for gsd_m in (10, 20, 60)}
        values[patch_id] = {band.name: layers[band.name][windows[band.gsd_m]] for band in SENTINEL2.bands}
        values[reference_map_id(patch_id)] = {band.name: layers[REFERENCE_MAP.name][windows[band.gsd_m]] for band in REFERENCE_MAP.bands}
        match, bands = backscatter.chosen[index], backscatter.bands[index]
        if match is not None and bands is not None:
            values[s1_patch_id(match.scene.scene_id, patch)] = bands
    return values


def _write_frames(
    unit: str, table: pd.DataFrame, grid: PatchGrid, layers: Mapping[str, np.ndarray], backscatter: _Backscatter, workspace: Workspace
) -> Path:
    """Set aside what a time series may need beyond the kept patches: the others' pixels, and the classification under all."""
    table = table[usable(table)]
    values = _patch_values(table[~table["kept"]], grid, layers, backscatter)
    for patch_id in table["patch_id"]:
        patch = PatchId.parse(patch_id)
        values[scl_key(patch_id)] = {"SCL": layers["SCL"][grid.window(patch.col, patch.row, SCL_GSD_M)]}
    return write_frames(unit, values, workspace)


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


def _cells(pixels: np.ndarray, grid: PatchGrid, gsd_m: int) -> np.ndarray:
    """All patches of a raster (n, y, x), in the grid's order."""
    cells = grid.cut(pixels, gsd_m)
    return cells.reshape(-1, *cells.shape[2:])


def _requires_s1(recipe: Recipe) -> bool:
    return recipe.scenes.require_s1 if recipe.scenes else True
