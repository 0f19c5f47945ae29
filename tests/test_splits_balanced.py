"""The ``balanced`` split: its promises held against distances and counts worked out another way."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import coo_array
from suites import SCENES, SplitStrategyTests

from rsdata import catalog, steps
from rsdata.errors import SplitError
from rsdata.recipe import SplitPart
from rsdata.records import DROP_REASONS
from rsdata.splits import assign, divide
from rsdata.splits.annealing import BlockGraph, held_by
from rsdata.splits.buffer import _cover
from rsdata.splits.ground import Neighbourhood, Places
from rsdata.splits.positions import positions
from rsdata.testing.gaps import smallest_gap_m
from rsdata.testing.patch_table import REBEN_TILES, patch_table

# Neighbours in one zone, and two that overlap across the border of zones 31 and 32, 33 and 34.
TILES = ("33UUP", "33UVP", "33UYP", "34TCR", "31UGR", "32ULA")


class TestBalanced(SplitStrategyTests):
    strategy = "balanced"
    options = {"block_m": 15_000}  # noqa: RUF012
    needs = ("labels",)
    draws_lots = True


@pytest.fixture(scope="module")
def table():
    return patch_table(25_000, TILES, seed=2)


@pytest.fixture(scope="module")
def divided(table):
    return divide(table, SplitPart(strategy="balanced"))


def shares(table, split, column="labels"):
    kept = split.notna().to_numpy()
    shown = pd.DataFrame({"split": split[kept].to_numpy(), "name": table[column][kept].to_numpy()}).explode("name")
    return shown.groupby(["name", "split"]).size().unstack(fill_value=0) / split.value_counts()


def test_no_two_splits_come_closer_than_the_buffer(table, divided):
    assert smallest_gap_m(table, divided.split.to_numpy(object), 4000) >= 1750
    far = assign(table, SplitPart(strategy="balanced", options={"buffer_m": 4000, "max_dropped": 0.5}))
    assert smallest_gap_m(table, far.to_numpy(object), 8000) >= 4000


def test_the_check_of_gaps_finds_a_patch_that_is_too_near(table, divided):
    back = divided.split.to_numpy(object, copy=True)
    back[pd.isna(back)] = "test"
    assert smallest_gap_m(table, back, 4000) < 1750


def test_ratios_and_class_shares_are_even_and_few_patches_are_dropped(table, divided):
    assert divided.drop_reason == "split_buffer"
    assert divided.split.isna().mean() < 0.12
    ratios = divided.split.value_counts(normalize=True)
    assert (ratios - pd.Series({"train": 0.5, "validation": 0.25, "test": 0.25})).abs().max() < 0.02
    of_class = shares(table, divided.split)
    common = of_class[of_class.min(axis=1) > 0.01]
    assert len(common) >= 10
    assert (common.max(axis=1) / common.min(axis=1)).max() < 1.15
    frame = shares(table, assign(table, SplitPart())).loc[common.index]
    assert (frame.max(axis=1) / frame.min(axis=1)).max() > 1.3  # where nobody looked after balance, there is none


def test_seasons_are_balanced_on_request(table):
    part = SplitPart(strategy="balanced", options={"balance": ["season"], "tolerance": 0.03})
    without = SplitPart(strategy="balanced", options={"balance": []})
    factor, other = (
        (each.max(axis=1) / each.min(axis=1)).max() for each in (shares(table, assign(table, p), "season") for p in (part, without))
    )
    assert factor < 1.1 < other


def test_it_says_what_came_out(divided):
    (note,) = divided.info.notes
    assert note.startswith(f"{divided.split.isna().mean():.2%} of the patches were dropped between the splits, which hold train ")
    assert divided.info.options["buffer_m"] == 1750
    assert divided.info.ratios == {"train": 0.5, "validation": 0.25, "test": 0.25}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"buffer_m": 150_000}, "a buffer of 150000 m .* cannot be divided into 3 splits|would be dropped|would hold"),
        ({"max_dropped": 0.001}, r"more than `max_dropped` \(0.1%\)"),
        ({"buffer_m": -1}, "option `buffer_m` of strategy 'balanced'"),
        ({"balance": ["weather"]}, "option `balance.0` of strategy 'balanced'"),
        ({"balance": ["season"]}, "needs the column `season`"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    cells = itertools.product(range(0, 60, 2), range(0, 60, 2))
    table = pd.DataFrame({"patch_id": [f"{SCENES[0]}_{col:02d}_{row:02d}" for col, row in cells]}).assign(labels=[["A"]] * 900)
    with pytest.raises(SplitError, match=message):
        assign(table, SplitPart(strategy="balanced", options=options))


def test_too_few_places_for_three_splits_are_refused():
    table = pd.DataFrame({"patch_id": [f"{SCENES[0]}_10_10", f"{SCENES[1]}_10_10"], "labels": [["A"], ["A"]]})
    with pytest.raises(SplitError, match="the 2 patches cannot be divided into 3 splits"):
        assign(table, SplitPart(strategy="balanced"))


def test_gaps_follow_from_the_grid_by_hand():
    # From cell (10, 10): two cells away in both directions leaves 1200 m each way, 1697 m; three in one direction 2400 m.
    cells = [(10, 10), (12, 12), (13, 10), (11, 11)]
    places = Places.of(positions(pd.Series([f"{SCENES[0]}_{col:02d}_{row:02d}" for col, row in cells])))
    number = dict(zip(cells, places.of_patch.tolist(), strict=True))

    def near(gap_m):
        first, second = Neighbourhood.of(places.frames(), gap_m).pairs_between(np.arange(len(places)))
        of = {value: key for key, value in number.items()}
        return {of[b] if of[a] == (10, 10) else of[a] for a, b in zip(first, second, strict=True) if (10, 10) in (of[a], of[b])}

    assert near(1) == {(11, 11)}
    assert near(1690) == {(11, 11)}
    assert near(1705) == {(11, 11), (12, 12)}
    assert near(2410) == {(11, 11), (12, 12), (13, 10)}


def test_near_places_are_found_whatever_their_zones():
    table = patch_table(3_000, ("33UYP", "34UCU"), seed=0)
    places = Places.of(positions(table["patch_id"]))
    frames = places.frames()
    first, second = Neighbourhood.of(frames, 3000.0).pairs_between(places.zone)
    found = set(zip(first.tolist(), second.tolist(), strict=True))
    a, b = (np.flatnonzero(places.zone == zone) for zone in (33, 34))
    apart_m = np.linalg.norm(frames[a, 0][:, None] - frames[b, 0][None], axis=-1)
    certain = {tuple(sorted((int(a[i]), int(b[j])))) for i, j in np.argwhere(apart_m < 3000 + 1190)}
    possible = {tuple(sorted((int(a[i]), int(b[j])))) for i, j in np.argwhere(apart_m < 3000 + 1820)}  # turned by 4.5 degrees
    assert certain
    assert certain <= {tuple(sorted(each)) for each in found} <= possible


def test_the_fewest_patches_are_dropped():
    rng = np.random.default_rng(3)
    for _ in range(20):
        left, right = np.divmod(rng.permutation(25)[:9], 5)  # nine different pairs of places 0 to 4 and 5 to 9
        right += 5
        patches = rng.integers(1, 4, 10)
        cover = set(_cover(left, right, patches).tolist())
        pairs = list(zip(left.tolist(), right.tolist(), strict=True))
        assert all(a in cover or b in cover for a, b in pairs)
        choices = (set(c) for size in range(11) for c in itertools.combinations(range(10), size))
        cheapest = min(patches[list(c)].sum() for c in choices if all(a in c or b in c for a, b in pairs))
        assert patches[list(cover)].sum() == cheapest


def test_a_border_costs_its_two_rows_of_places():
    # Two blocks of 5 by 5 places, one patch each, side by side: a buffer of 1750 m reaches two columns on either side.
    place = np.arange(50)
    block = (place % 10 >= 5).astype(np.int64)
    column = place % 10
    near = np.flatnonzero((column >= 3) & (column <= 6))
    graph = BlockGraph.of(block, np.ones((50, 1)), near, 1 - block[near])
    assert held_by(graph, np.array([0, 1]), 2).sum() == pytest.approx(50 - 10)
    assert held_by(graph, np.array([0, 0]), 2).tolist() == [[50], [0]]
    assert coo_array((graph.loss[:, 0], (graph.twin, graph.twin))).sum() == pytest.approx(10)


def test_in_the_table_of_a_build_what_is_dropped_is_no_longer_kept(tmp_path, built_table):
    catalog.write_patches(tmp_path / "patches.parquet", built_table)
    part = SplitPart(strategy="balanced", options={"balance": [], "buffer_m": 2500, "max_dropped": 0.9})
    counts, info = steps.assign_table(tmp_path / "patches.parquet", part, tmp_path / "divided.parquet")
    back = catalog.read_patches(tmp_path / "divided.parquet")
    assert catalog.read_split_info(tmp_path / "divided.parquet") == info
    assert counts["dropped"] == (back["drop_reason"] == "split_buffer").sum() > 0
    assert (back["split"].notna() == back["kept"]).all()
    assert "split_buffer" in DROP_REASONS
    assert (back.loc[~built_table["kept"].to_numpy(), "drop_reason"] == "nodata").all()


@pytest.fixture
def built_table():
    from rsdata.patches import with_footprints

    rows = patch_table(6_000, ("33UUP",), seed=1)
    where = positions(rows["patch_id"])
    rows = rows.assign(**{name: where[name] for name in ("tile_id", "col", "row", "epsg", "ul_x_m", "ul_y_m")})
    kept = np.arange(len(rows)) % 50 > 0
    rows = rows.assign(
        s2_product="S2", s1_product=None, label_fractions=[{}] * len(rows), s1_time_gap_h=None, split=None, kept=kept,
        drop_reason=np.where(kept, None, "nodata"), contains_cloud_or_shadow=False, contains_seasonal_snow=False,
        **dict.fromkeys(("unlabeled_fraction", "nodata_fraction", "cloud_fraction", "shadow_fraction", "snow_fraction"), 0.0),
    )  # fmt: skip
    return with_footprints(rows.astype({"datetime": "datetime64[us, UTC]"}))


def test_the_generated_table_has_the_shape_of_reben():
    table = patch_table(30_000, REBEN_TILES[:8], seed=0)
    assert len(table) == 30_000
    assert table["patch_id"].is_unique
    again = patch_table(30_000, REBEN_TILES[:8], seed=0)
    pd.testing.assert_frame_equal(table, again)
    assert not patch_table(30_000, REBEN_TILES[:8], seed=1)["patch_id"].equals(table["patch_id"])
    frequency = table["labels"].explode().value_counts(normalize=False) / len(table)
    assert len(frequency) == 19
    assert 0.0005 < frequency.min() < 0.002
    assert 0.15 < frequency.max() < 0.3
    assert table.groupby(table["patch_id"].str[-12:])["labels"].agg(lambda lists: lists.map(tuple).nunique()).eq(1).all()
