"""Quality in a build: the table of measures, duplicates settled before splits, one reason per dropped patch, the report."""

import re
from pathlib import Path

import geopandas as gpd
import pytest
import shapely
from conftest import TILE, random_bands, run_steps, write_recipe, write_scene

from rsdata import steps
from rsdata.catalog import read_patches, read_table
from rsdata.recipe import load_recipe
from rsdata.records import DROP_REASONS, Manifest, PatchMeasures
from rsdata.workspace import Workspace, read_record


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """One acquisition processed twice, two by two patches each: the first saturated, the second without data in a pixel."""
    folder = tmp_path_factory.mktemp("twice")
    bands = random_bands()
    bands["B08"][:60, :120] = 65535
    bands["B11"][0, 119] = 0
    for baseline in ("04.00", "05.09"):
        write_scene(folder / "scenes", bands, baseline=baseline)
    ground = shapely.box(TILE.ul_x_m - 100, TILE.ul_y_m - 5000, TILE.ul_x_m + 5000, TILE.ul_y_m + 100)
    gpd.GeoDataFrame({"Code_18": ["211"]}, geometry=[ground], crs=TILE.epsg).to_file(folder / "clc.gpkg")
    return folder


def built_with(folder: Path, root: Path, **quality: object) -> tuple[Workspace, list[steps.Outcome]]:
    content = {
        "name": "twice",
        "scenes": {"sentinel2": ["scenes/*.SAFE"], "require_s1": False},
        "labels": {"path": "clc.gpkg"},
        "quality": {"max_saturated_fraction": 0.4, **quality},
    }
    recipe = write_recipe(folder, content)
    workspace, outcomes = run_steps(recipe, root)
    outcomes.append(steps.write_report(load_recipe(recipe), workspace))
    return workspace, outcomes


def test_duplicates_are_counted_and_on_request_dropped_without_judging_scenes_again(folder, tmp_path):
    workspace, _ = built_with(folder, tmp_path / "out")
    table, measures = read_patches(workspace.patches), read_table(workspace.quality, PatchMeasures)
    older, newer = sorted(table["s2_product"].str[:44].unique())
    assert "_N0400_" in older
    assert measures["patch_id"].tolist() == table["patch_id"].tolist()
    assert table["drop_reason"].tolist() == ["saturated", None, "nodata", None] * 2  # by column, then row
    repeats = measures.set_index("patch_id")["duplicate_of"].dropna()
    assert repeats.to_dict() == {f"{newer}_00_01": f"{older}_00_01", f"{newer}_01_01": f"{older}_01_01"}
    assert table["kept"].sum() == 4
    page = workspace.report.read_text()
    assert "2 patches have the same pixels as another patch; 2 of them are kept." in page

    workspace, outcomes = built_with(folder, tmp_path / "out", duplicates="drop")
    assert {outcome.receipt.stage for outcome in outcomes if outcome.skipped} == {"scenes", "patches", "labels", "quality"}
    table = read_patches(workspace.patches)
    assert table["drop_reason"].tolist() == ["saturated", None, "nodata", None, "saturated", "duplicate", "nodata", "duplicate"]
    assert table.loc[table["drop_reason"] == "duplicate", "split"].isna().all()
    assert read_record(workspace.manifest, Manifest).dropped == {"duplicate": 2, "nodata": 2, "saturated": 2}
    assert steps.verify_dataset(workspace)[1] == []
    page = workspace.report.read_text()
    assert "2 patches have the same pixels as another patch; 0 of them are kept." in page
    rows = re.findall(r'<th scope="row" class="mono whole">(\w+)</th><td class="count">(\d+) .*?</tr>', page)
    assert rows == [("nodata", "2"), ("saturated", "2"), ("duplicate", "2")]
    assert page.count('<img src="data:image/jpeg;base64,') == 6  # duplicates too, whose pixels are in no shard


def test_the_measures_are_held_to_the_patch_table(folder, tmp_path):
    workspace, _ = built_with(folder, tmp_path / "out")
    manifest = read_record(workspace.manifest, Manifest)
    assert "quality.parquet" in [item.path for item in manifest.outputs]
    workspace.quality.unlink()
    assert steps.verify_dataset(workspace)[1] == ["quality.parquet is missing"]


def test_every_dropped_patch_has_one_reason_from_the_list(built):
    table = read_patches(built.patches)
    assert (table["kept"] == table["drop_reason"].isna()).all()
    assert set(table["drop_reason"].dropna()) <= set(DROP_REASONS)
    measures = read_table(built.quality, PatchMeasures)
    largest = measures[[name for name in measures if re.fullmatch(r"nodata_B\w\w", name)]].max(axis=1)
    assert largest.tolist() == table["nodata_fraction"].tolist()
    classes = measures[[name for name in measures if name.startswith("scl_")]]
    assert classes.shape[1] == 12
    assert classes.sum(axis=1).to_numpy() == pytest.approx(1)
    assert (measures["pixels_sha256"].isna() == (largest == 1)).all()
    assert measures["s1_spread_px"].notna().equals(table["s1_product"].notna())
