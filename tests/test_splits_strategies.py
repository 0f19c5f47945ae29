"""Blocks, regions, time, folds, chance and imported splits, by hand; and what they say of themselves on disk."""

import json

import geopandas as gpd
import pandas as pd
import pyproj
import pytest
import shapely
from suites import SCENES, SplitStrategyTests
from typer.testing import CliRunner

from rsdata import catalog, steps
from rsdata.catalog.report import audit_sentences
from rsdata.commands import app
from rsdata.errors import RecipeError, SplitError
from rsdata.recipe import SplitPart
from rsdata.splits import STRATEGIES, assign, divide
from rsdata.testing.patch_table import patch_table

UUP, UVP = "33UUP", "33UVP"


class TestBlocks(SplitStrategyTests):
    strategy = "blocks"
    draws_lots = True


class TestRandom(SplitStrategyTests):
    strategy = "random"
    draws_lots = True


class TestRegionsByCountry(SplitStrategyTests):
    strategy = "regions"
    options = {"test": ["Germany"]}  # noqa: RUF012
    needs = ("country",)
    gives = ("train", "test")


class TestRegionsByTileInTurn(SplitStrategyTests):
    strategy = "regions"
    options = {"by": "tile", "leave_one_out": True}  # noqa: RUF012
    gives = ("fold_0", "fold_1")


class TestTime(SplitStrategyTests):
    strategy = "time"
    options = {"by": "season", "test": ["autumn"]}  # noqa: RUF012
    keeps_places_together = False
    gives = ("train", "test")


class TestKFold(SplitStrategyTests):
    strategy = "kfold"
    options = {"k": 3, "grouping": {"side_m": 20_000}}  # noqa: RUF012
    draws_lots = True
    gives = ("fold_0", "fold_1", "fold_2")


class TestImport(SplitStrategyTests):
    strategy = "import"
    keeps_places_together = False

    @pytest.fixture
    def part(self, table, tmp_path):
        listing = pd.DataFrame({"patch_id": table["patch_id"], "split": ["val", "train", "test"] * (len(table) // 3)})
        listing.to_csv(tmp_path / "published.csv", index=False)
        options = {"path": str(tmp_path / "published.csv"), "rename": {"val": "validation"}}
        return SplitPart(strategy="import", options=options)


def ids(*cells, scene=SCENES[0]):
    return pd.DataFrame({"patch_id": [f"{scene}_{col:02d}_{row:02d}" for col, row in cells]})


def split_by(strategy, table, **options):
    return list(assign(table, SplitPart(strategy=strategy, options=options)))


def test_a_block_is_a_square_of_the_map():
    table = patch_table(20_000, (UUP, UVP, "34TCR"), seed=1)
    part = SplitPart(strategy="blocks", options={"side_m": 30_000})
    split = assign(table, part)
    where = STRATEGIES["blocks"].model_validate(part.options).groups(table)
    assert pd.Series(split.to_numpy()).groupby(where).nunique().eq(1).all()
    # One patch by hand: 33UUP's corner is (300000, 5400000), so the centre of cell (10, 20) is (312600, 5375400).
    x_m, y_m = pyproj.Transformer.from_crs(32633, 3035, always_xy=True).transform(312_600, 5_375_400)
    assert STRATEGIES["blocks"].model_validate(part.options).groups(ids((10, 20)))[0] == f"{int(x_m // 30_000)}_{int(y_m // 30_000)}"


def test_ratios_are_met_to_within_a_block():
    table = patch_table(20_000, (UUP, UVP, "34TCR"), seed=1)
    part = SplitPart.parse("blocks", ["side_m=10000"], 5, "0.7,0.1,0.2")
    shares = assign(table, part).value_counts(normalize=True)
    most = pd.Series(STRATEGIES["blocks"].model_validate(part.options).groups(table)).value_counts(normalize=True).max()
    assert abs(shares["train"] - 0.7) < 2 * most
    assert abs(shares["validation"] - 0.1) < 2 * most


def test_a_split_with_ratio_zero_gets_nothing():
    assert set(assign(patch_table(2_000, (UUP,), seed=1), SplitPart.parse("blocks", [], ratios="0.8,0,0.2"))) == {"train", "test"}


@pytest.mark.parametrize(("crs", "message"), [("EPSG:4326", "not projected in metres"), ("EPSG:999999", "no reference system")])
def test_blocks_ask_for_a_map_in_metres(crs, message):
    with pytest.raises(SplitError, match=message):
        split_by("blocks", ids((0, 0)), crs=crs)


def test_cities_are_circles_on_the_ground():
    # Cell centres of row 45 lie 1200 m apart; the circle around the centre of column 40 reaches just past two of them.
    to_lonlat = pyproj.Transformer.from_crs(32633, 4326, always_xy=True)
    lon, lat = to_lonlat.transform(300_000 + 40.5 * 1200 - 20, 5_400_000 - 45.5 * 1200)
    city = {"name": "Somewhere", "lon": lon, "lat": lat, "radius_km": 2.45}
    cells = [(col, 45) for col in range(36, 45)]
    split = split_by("regions", ids(*cells), by="city", cities=[city], test=["Somewhere"])
    assert [col for (col, _), name in zip(cells, split, strict=True) if name == "test"] == [38, 39, 40, 41, 42]


def test_polygons_hold_out_what_they_cover(tmp_path):
    to_lonlat = pyproj.Transformer.from_crs(32633, 3035, always_xy=True)
    corner = [to_lonlat.transform(300_000 + 1200 * col, 5_400_000 - 1200 * row) for col, row in ((10, 10), (20, 10), (20, 20), (10, 20))]
    gpd.GeoDataFrame({"name": ["park"]}, geometry=[shapely.Polygon(corner)], crs=3035).to_file(tmp_path / "parks.gpkg")
    options = {"by": "polygon", "path": str(tmp_path / "parks.gpkg"), "test": ["park"]}
    cells = [(9, 15), (10, 15), (19, 15), (20, 15), (15, 9), (15, 10)]
    assert split_by("regions", ids(*cells), **options) == ["train", "test", "test", "train", "train", "test"]
    with pytest.raises(SplitError, match="no polygons with a column `NAME`; it has name"):
        split_by("regions", ids((9, 9)), **options | {"name_column": "NAME"})
    info = divide(ids(*cells), SplitPart(strategy="regions", options=options)).info
    assert info.options["path"] == "parks.gpkg"  # no folder of this machine is told


def test_leaving_one_out_names_its_folds():
    table = pd.concat([ids((1, 1), (2, 2)), ids((3, 3), scene=SCENES[2])], ignore_index=True)
    part = SplitPart(strategy="regions", options={"by": "tile", "leave_one_out": True})
    divided = divide(table, part)
    assert list(divided.split) == ["fold_0", "fold_0", "fold_1"]
    assert divided.info.notes == ["fold_0 is 33UUP", "fold_1 is 33UVP"]
    assert split_by("regions", table, by="tile", leave_one_out=True, test_fold=1) == ["train", "train", "test"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "no country is held out"),
        ({"test": ["Atlantis"]}, "no patches of country Atlantis; known are Austria"),
        ({"test": ["Austria"], "validation": ["Austria"]}, "for both test and validation"),
        ({"test": ["Austria"]}, "all patches are held out"),
        ({"leave_one_out": True}, "needs two regions or more"),
        ({"test_fold": 0}, "say `leave_one_out: true`"),
        ({"by": "city"}, "no city is given"),
        ({"by": "polygon"}, "no file with polygons"),
        ({"by": "polygon", "path": "nowhere.gpkg"}, "nowhere.gpkg cannot be read"),
        ({"by": "planet"}, "option `by` of strategy 'regions'"),
    ],
)
def test_regions_that_cannot_be_are_refused(options, message):
    with pytest.raises(SplitError, match=message):
        split_by("regions", ids((1, 1)).assign(country="Austria"), **options)


def test_time_is_read_from_the_id():
    table = pd.concat([ids((1, 1)), ids((1, 1), scene=SCENES[1])], ignore_index=True)  # 13 June and 26 September 2017
    assert split_by("time", table, by="season", test=["autumn"]) == ["train", "test"]
    assert split_by("time", table, by="month", validation=[6]) == ["validation", "train"]
    with pytest.raises(SplitError, match="all patches are held out, by year 2017"):
        split_by("time", table, test=[2017])
    with pytest.raises(SplitError, match="no patches of year 2018; known are 2017"):
        split_by("time", table, test=[2018])


def test_folds_are_even_and_can_become_splits():
    table = patch_table(20_000, (UUP, UVP, "34TCR"), seed=1)
    folds = assign(table, SplitPart(strategy="kfold", options={"k": 4}))
    assert folds.value_counts(normalize=True).sub(0.25).abs().max() < 0.005
    picked = assign(table, SplitPart(strategy="kfold", options={"k": 4, "test_fold": 3, "validation_fold": 1}))
    named = folds.map({"fold_0": "train", "fold_1": "validation", "fold_2": "train", "fold_3": "test"})
    assert picked.tolist() == named.tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 2, "test_fold": 2}, "called 0 to 1"),
        ({"k": 2, "test_fold": 1, "validation_fold": 1}, "both test and validation"),
        ({"by": "frame"}, "folds cannot be made by 'frame'; known are blocks, random, regions, time"),
        ({"grouping": {"side": 3}}, "`grouping.side`.*options of 'blocks' are side_m, crs"),
        ({"by": "regions", "grouping": {"by": "tile"}}, "only 1 groups for 5 folds"),
    ],
)
def test_folds_that_cannot_be_are_refused(options, message):
    with pytest.raises(SplitError, match=message):
        split_by("kfold", ids((1, 1), (40, 40)), **options)


def test_unlisted_patches_are_refused_or_dropped_and_counted(tmp_path):
    ids((1, 1), (2, 2), (7, 7)).assign(split=["train", "test", "test"]).to_parquet(tmp_path / "theirs.parquet")
    table, path = ids((1, 1), (2, 2), (3, 3)), str(tmp_path / "theirs.parquet")
    with pytest.raises(SplitError, match="does not list 1 of 3 patches, such as .*_03_03"):
        split_by("import", table, path=path)
    divided = divide(table, SplitPart(strategy="import", options={"path": path, "unmatched": "drop"}))
    assert list(divided.split) == ["train", "test", None]
    assert divided.drop_reason == "not_in_split"
    assert divided.info.notes[0].startswith("2 of 3 patches are listed, 1 are not")
    assert divided.info.notes[1] == "1 patches of the list are not in the table"


@pytest.mark.parametrize(
    ("listing", "message"),
    [
        (ids((1, 1)).assign(split="holdout"), "did not answer with one of train, validation, test or a fold .* but with holdout"),
        (ids((1, 1), (1, 1)).assign(split=["train", "test"]), "in two splits"),
        (ids((1, 1)).assign(fold="train"), "cannot be read|no column `split`"),
    ],
)
def test_a_list_that_is_no_split_is_refused(tmp_path, listing, message):
    listing.to_csv(tmp_path / "theirs.csv", index=False)
    with pytest.raises(SplitError, match=message):
        split_by("import", ids((1, 1)), path=str(tmp_path / "theirs.csv"))


def test_the_published_split_is_imported_as_it_is(shared_data):
    path = shared_data / "bigearthnet_v2" / "metadata_sample" / "metadata_3tiles.parquet"
    table = pd.read_parquet(path)
    assert assign(table, SplitPart(strategy="import", options={"path": str(path)})).tolist() == table["split"].tolist()


def test_that_random_leaks_is_said_in_every_output(tmp_path):
    table_path, out_path = tmp_path / "table.parquet", tmp_path / "divided.parquet"
    patch_table(2_000, (UUP, UVP), seed=1).to_parquet(table_path)
    done = CliRunner().invoke(app, ["split", "assign", str(table_path), "--strategy", "random", "--seed", "3", "--out", str(out_path)])
    assert done.exit_code == 0, done.output
    assert "Warning: the split 'random' leaks" in done.stderr
    info = catalog.read_split_info(out_path)
    assert (info.strategy, info.seed) == ("random", 3)
    assert "neighbouring patches" in info.leaks
    audit = steps.audit_table(out_path, out=tmp_path / "page")
    assert audit.split == info
    assert audit_sentences(audit)[0][0] == "bad"
    assert "leaks by the way it was made" in (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    assert "Warning: the split 'random' leaks" in CliRunner().invoke(app, ["split", "audit", str(out_path)]).stderr
    as_json = CliRunner().invoke(app, ["split", "assign", str(table_path), "--out", str(out_path), "--json"])
    assert json.loads(as_json.stdout)["split"]["leaks"] is None
    assert catalog.read_split_info(out_path).strategy == "frame"


def test_options_on_the_command_line_are_yaml():
    part = SplitPart.parse("regions", ["by=city", "cities=[{name: A, lon: 1, lat: 2, radius_km: 3.5}]", "test=[A]"], 4, "0.6,0.2,0.2")
    assert part.options == {"by": "city", "cities": [{"name": "A", "lon": 1, "lat": 2, "radius_km": 3.5}], "test": ["A"]}
    assert (part.seed, part.ratios.values()) == (4, (0.6, 0.2, 0.2))


@pytest.mark.parametrize(
    ("options", "ratios", "message"),
    [
        (["side_m"], None, "'side_m' is no option"),
        (["side_m=[1"], None, "is not YAML"),
        ([], "0.5,0.5", "are no ratios"),
        ([], "0.5,0.4,0.2", "sum to 1.1; they must sum to 1"),
        ([], "1.5,-0.25,-0.25", "less than or equal to 1"),
    ],
)
def test_what_the_command_line_cannot_mean_is_refused(options, ratios, message):
    with pytest.raises(RecipeError, match=message):
        SplitPart.parse("blocks", options, ratios=ratios)


def test_ratios_are_refused_by_a_strategy_that_has_its_own():
    with pytest.raises(SplitError, match="'frame' does not heed ratios"):
        assign(ids((1, 1)), SplitPart.parse("frame", [], ratios="0.6,0.2,0.2"))
