"""What is measured of each patch beyond its row in the patch table, and pictures of some that were dropped."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from rsdata import catalog, patches, quality, scenes, shards
from rsdata.grid import PatchGrid
from rsdata.recipe import Quality
from rsdata.records import DROP_REASONS, Coregistration, PatchId, PatchMeasures
from rsdata.sensors import SENTINEL2
from rsdata.sensors.sentinel2 import SCL_CLASSES, SCL_GSD_M
from rsdata.steps.pictures import RGB, halved, natural_colours
from rsdata.steps.receipts import read_pair
from rsdata.workspace import Workspace

EXAMPLES = 4  # pictures per reason: kept of each scene, and shown in the report
_MASK_KINDS = ("QUALIT", "DEFECT", "TECQUA", "SATURA", "NODATA")  # one raster, or polygons of four kinds


def measure(
    product: scenes.Sentinel2Product, layers: Mapping[str, np.ndarray], grid: PatchGrid, thresholds: Quality, threads: int
) -> pd.DataFrame:
    """Measure the optical side of every patch, in the grid's order: columns of ``PatchMeasures``."""
    scene = product.scene
    found: dict[str, np.ndarray | None] = {}

    def of_band(name: str) -> dict[str, np.ndarray | None]:
        gsd_m = SENTINEL2[name].gsd_m
        masks = (scenes.open_mask(product, kind, name) for kind in _MASK_KINDS if f"{kind}_{name}" in scene.masks)
        flagged = quality.flagged_pixels(masks) if thresholds.read_masks else {}
        saturated = quality.saturated_pixels(layers[name], scene.saturated, flagged.get("saturated"))
        return {
            f"nodata_{name}": quality.missing_fraction(layers[name], scene.nodata, grid, gsd_m),
            f"saturated_{name}": quality.share_per_patch(saturated, grid, gsd_m),
            f"defective_{name}": quality.share_per_patch(flagged["defective"], grid, gsd_m) if flagged else None,
            f"flagged_{name}": quality.share_per_patch(flagged["nodata"], grid, gsd_m) if flagged else None,
        }

    with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:
        for columns in pool.map(of_band, SENTINEL2.band_names):
            found |= columns
    classes = quality.class_shares(layers["SCL"], grid)
    found |= {f"scl_{name.lower()}": classes[index] for index, name in SCL_CLASSES.items()}
    found |= {
        "nodata_flagged_fraction": _largest([found.pop(f"flagged_{name}") for name in SENTINEL2.band_names]),
        "defective_fraction": _largest([found[f"defective_{name}"] for name in SENTINEL2.band_names]),
        "saturated_fraction": _largest([*(found[f"saturated_{name}"] for name in SENTINEL2.band_names), classes[1]]),
        "cloud_probability": quality.mean_per_patch(layers["CLDPRB"], grid, SCL_GSD_M),
        "snow_probability": quality.mean_per_patch(layers["SNWPRB"], grid, SCL_GSD_M),
    }
    cols, _ = grid.cells()
    table = pd.DataFrame({name: np.full(len(cols), np.nan) if values is None else values for name, values in found.items()})
    digests = quality.fingerprints([(layers[band.name], band.gsd_m) for band in SENTINEL2.bands], grid, threads)
    return table.assign(pixels_sha256=pd.Series(digests, dtype=object), failed_checks=[scene.failed_checks] * len(table))


def largest_nodata(measures: pd.DataFrame) -> np.ndarray:
    """Largest share of no-data pixels over the bands, (n,) float64."""
    return measures[[f"nodata_{name}" for name in SENTINEL2.band_names]].to_numpy().max(axis=1)


def _largest(shares: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Largest over the bands that were measured, (n,); None if none was."""
    known = [each for each in shares if each is not None]
    return np.max(known, axis=0) if known else None


def add_backscatter(
    measures: pd.DataFrame, products: Sequence[str | None], missing: np.ndarray | None, shifts: Sequence[Coregistration]
) -> pd.DataFrame:
    """Add how far each patch's Sentinel-1 scene lies off, and what it lacks.

    Args:
        products: Sentinel-1 product of each patch.
        missing: (n,) share of missing pixels, None without Sentinel-1.
        shifts: of every scene that was read.
    """
    of = {shift.s1_product: shift for shift in shifts}
    found = [of.get(product) if product else None for product in products]
    return measures.assign(
        s1_nodata_fraction=missing if missing is not None else np.full(len(measures), np.nan),
        s1_south_px=[shift.south_px if shift else np.nan for shift in found],
        s1_east_px=[shift.east_px if shift else np.nan for shift in found],
        s1_spread_px=[shift.spread_px if shift else np.nan for shift in found],
    )


def reliable_shift_px(measures: pd.DataFrame) -> np.ndarray:
    """How far Sentinel-1 lies off each patch, (n,) pixels of 10 m; NaN where that is not known or the blocks disagree."""
    length = np.hypot(measures["s1_south_px"], measures["s1_east_px"])
    return length.where(measures["s1_spread_px"] <= quality.RELIABLE_SPREAD_PX).to_numpy()


# --- the whole dataset ------------------------------------------------------------------------------------


def gather_measures(
    units: Sequence[str], table: pd.DataFrame, thresholds: Quality, workspace: Workspace
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Put the measures of all scenes together and settle which patches repeat another's picture.

    Args:
        table: the patch table of all scenes, in the order of patch ids.

    Returns: the table, duplicates dropped if the recipe says so; and the measures, in the same order.
    """
    measures = pd.concat([catalog.read_table(measures_path(unit, workspace), PatchMeasures) for unit in units])
    measures = measures.sort_values("patch_id", ignore_index=True)
    kept = table["kept"].to_numpy(bool)
    outlined = patches.with_footprints(table.loc[kept, ["patch_id", "epsg", "ul_x_m", "ul_y_m"]])
    found = quality.find_duplicates(outlined.assign(pixels_sha256=measures.loc[kept, "pixels_sha256"])).reindex(table.index)
    measures[found.columns] = found.astype(object).where(found.notna(), None)
    if thresholds.duplicates == "drop":
        repeats = found["duplicate_of"].notna()
        table = table.assign(kept=table["kept"] & ~repeats, drop_reason=table["drop_reason"].astype(object).mask(repeats, "duplicate"))
    return table, measures


def write_measures(path: Path, measures: pd.DataFrame) -> None:
    catalog.write_rows(path, measures[list(PatchMeasures.model_fields)], PatchMeasures)


def measures_path(unit: str, workspace: Workspace) -> Path:
    return workspace.part("quality", unit, "-measures.parquet")


# --- pictures of dropped patches --------------------------------------------------------------------------


def pictures_path(unit: str, workspace: Workspace) -> Path:
    return workspace.part("quality", unit, "-dropped.npz")


def write_pictures(
    path: Path, table: pd.DataFrame, grid: PatchGrid, layers: Mapping[str, np.ndarray], offsets: Mapping[str, float]
) -> None:
    """Set aside small pictures of a few dropped patches of each reason, as their pixels reach no shard."""
    chosen = [patch_id for _, rows in table[~table["kept"]].groupby("drop_reason") for patch_id in _spread(rows["patch_id"].tolist())]
    made = {}
    for patch_id in sorted(chosen):
        patch = PatchId.parse(patch_id)
        window = grid.window(patch.col, patch.row, SENTINEL2[RGB[0]].gsd_m)
        made[patch_id] = halved(natural_colours({name: layers[name][window] for name in RGB}, offsets))
    with path.open("wb") as stream:
        np.savez_compressed(stream, **made)  # type: ignore[arg-type]  # the stub takes the arrays for its own options


def dropped_examples(table: pd.DataFrame, workspace: Workspace) -> dict[str, list[tuple[str, np.ndarray]]]:
    """A few dropped patches of each reason as (patch id, picture), spread evenly over the table; none where parts are gone.

    Patches that were dropped once all scenes were known still lie among the pixels their scene contributed.
    """
    dropped = table[~table["kept"]]
    examples: dict[str, list[tuple[str, np.ndarray]]] = {}
    known: dict[str, list[str]] = {reason: [] for reason in DROP_REASONS}
    units = sorted({PatchId.parse(patch_id).scene for patch_id in dropped["patch_id"]})
    reasons = dict(zip(dropped["patch_id"], dropped["drop_reason"], strict=True))
    for unit in units:
        if pictures_path(unit, workspace).exists():
            with np.load(pictures_path(unit, workspace)) as pictures:
                for patch_id in pictures.files:
                    if patch_id in reasons:
                        known[reasons[patch_id]].append(patch_id)
    for reason in DROP_REASONS:
        later = [] if known[reason] else dropped.loc[dropped["drop_reason"] == reason, "patch_id"].tolist()
        pictures_of = [(patch_id, _picture(patch_id, workspace)) for patch_id in _spread(known[reason] or later)]
        examples[reason] = [(patch_id, picture) for patch_id, picture in pictures_of if picture is not None]
    return examples


def _picture(patch_id: str, workspace: Workspace) -> np.ndarray | None:
    unit = PatchId.parse(patch_id).scene
    stored, pixels = pictures_path(unit, workspace), workspace.part("quality", unit, "")
    if stored.exists():
        with np.load(stored) as pictures:
            if patch_id in pictures.files:
                return np.asarray(pictures[patch_id])
    if not pixels.is_dir():
        return None
    with shards.LmdbStore(pixels) as store:
        return halved(natural_colours(store.read(patch_id), read_pair(unit, workspace).s2.offsets))


def _spread(names: Sequence[str]) -> list[str]:
    """At most ``EXAMPLES`` of them, evenly over their order."""
    return [names[index] for index in np.unique(np.linspace(0, len(names) - 1, min(EXAMPLES, len(names))).astype(int))]
