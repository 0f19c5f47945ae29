"""The ``frame`` split, by hand and against the published one."""

import time

import pandas as pd
import pytest
from suites import SCENES, SplitStrategyTests

from rsdata.errors import CatalogError, GridError, SplitError
from rsdata.recipe import SplitPart
from rsdata.splits import assign, positions

FRAME = SplitPart(strategy="frame")


class TestFrame(SplitStrategyTests):
    strategy = "frame"


def frame_of(*cells):
    return list(assign(pd.DataFrame({"patch_id": [f"{SCENES[0]}_{col:02d}_{row:02d}" for col, row in cells]}), FRAME))


def test_frames_end_where_the_published_ones_do():
    # From the west edge: widths are 16 079.8 m and 11 370.2 m, centres lie at 600 + 1200 col.
    assert frame_of((12, 45), (13, 45), (22, 45), (23, 45)) == ["train", "validation", "validation", "test"]
    # From the east edge the tile is 600 m wider than its 91 patches.
    assert frame_of((68, 45), (69, 45), (77, 45), (78, 45)) == ["test", "validation", "validation", "train"]
    # Rows count the same way southward, and the nearest of all four edges decides.
    assert frame_of((45, 12), (45, 23), (45, 68), (45, 78), (12, 23)) == ["train", "test", "test", "train", "train"]


def test_all_published_splits_are_reproduced(shared_data):
    folder = shared_data / "bigearthnet_v2" / "metadata_sample"
    for name, rows in (("metadata_3tiles.parquet", 13_635), ("metadata_3tiles_snow_cloud_shadow.parquet", 321)):
        table = pd.read_parquet(folder / name)
        assert len(table) == rows
        assert (assign(table, FRAME) == table["split"]).all()


def test_positions_follow_from_ids_exactly(shared_data):
    folder = shared_data / "bigearthnet_v2" / "metadata_sample"
    tables = [pd.read_parquet(folder / f"metadata_3tiles{suffix}.parquet") for suffix in ("", "_snow_cloud_shadow")]
    bounds = pd.read_parquet(folder / "patch_bounds_3tiles.parquet")
    both = bounds.merge(pd.concat(tables)[["patch_id", "s2v1_name"]], on="s2v1_name", validate="one_to_one")
    assert len(both) == 13_956
    found = positions(both["patch_id"])
    assert (found["epsg"] == both["epsg"]).all()
    assert ("T" + found["tile_id"] == both["tile"]).all()
    assert (found["ul_x_m"] == both["minx"]).all()
    assert (found["ul_x_m"] + 1200 == both["maxx"]).all()
    assert (found["ul_y_m"] == both["maxy"]).all()
    assert (found["ul_y_m"] - 1200 == both["miny"]).all()


def test_half_a_million_patches_take_less_than_two_seconds():
    ids = pd.Series([f"{scene}_{col:02d}_{row:02d}" for scene in SCENES for col in range(91) for row in range(91)])
    table = pd.DataFrame({"patch_id": pd.concat([ids] * 23, ignore_index=True)})
    assert len(table) > 550_000
    start = time.process_time()
    assign(table, FRAME)
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("patch_id", "error", "message"),
    [
        ("S2A_MSIL2A_20170613T101031_26_57", CatalogError, "not a patch id"),
        (f"{SCENES[0]}_26-57", CatalogError, "not a patch id"),
        (f"{SCENES[0]}_26_91", SplitError, "outside its tile"),
        ("S2A_MSIL2A_20170613T101031_N9999_R022_T33UAP_26_57", GridError, "zone 33 has the columns"),
        ("", CatalogError, "not a patch id"),
        (None, SplitError, "no patch id"),
    ],
)
def test_an_id_that_names_no_patch_is_refused(patch_id, error, message):
    with pytest.raises(error, match=message):
        assign(pd.DataFrame({"patch_id": [f"{SCENES[0]}_00_00", patch_id]}), FRAME)


def test_an_unknown_strategy_is_refused_with_the_known_ones():
    with pytest.raises(SplitError, match=r"no split strategy 'frames'; known are .*frame"):
        assign(pd.DataFrame({"patch_id": [f"{SCENES[0]}_00_00"]}), SplitPart(strategy="frames"))
