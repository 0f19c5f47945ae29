"""Suites that every member of a family passes: a new member is one class that names it.

class TestFrame(SplitStrategyTests):
    strategy = "frame"
"""

import itertools
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import ClassVar

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine

from rsdata.captions import captioner_for, check_caption, facts_digest
from rsdata.errors import LabelError, ShardError, SplitError
from rsdata.labels import Area, LabelLayer, label_source, load_nomenclature
from rsdata.recipe import Captions, Labels, SplitPart
from rsdata.records import SEASONS, SPLITS, ClassShare, PatchFacts
from rsdata.shards import compression_of, open_shard, repack, verify_shard
from rsdata.shards.reading import BatchPlan
from rsdata.splits import STRATEGIES, assign, divide, strategy_of

SCENES = (
    "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP",
    "S2B_MSIL2A_20170926T101031_N9999_R022_T33UUP",
    "S2A_MSIL2A_20170614T103021_N9999_R108_T33UVP",
)
CLASS_NAMES = tuple(each.name for each in load_nomenclature("bigearthnet-19").classes)


class SplitStrategyTests:
    """What holds for every way to divide patches."""

    strategy: str
    options: ClassVar[dict[str, object]] = {}
    keeps_places_together = True  # False for strategies that divide by time, or as somebody else did
    needs: ClassVar[tuple[str, ...]] = ()  # columns beside patch_id
    draws_lots = False  # whether another seed gives another split
    gives: ClassVar[tuple[str, ...]] = SPLITS  # what the table below is divided into

    @pytest.fixture
    def part(self) -> SplitPart:
        return SplitPart.model_validate({"strategy": self.strategy, "options": self.options})

    @pytest.fixture
    def table(self) -> pd.DataFrame:
        """Every third cell of two tiles, one of them on two dates, with two labels each; index counts down."""
        cells = list(itertools.product(range(0, 91, 3), range(0, 91, 3)))
        ids = [f"{scene}_{col:02d}_{row:02d}" for scene in SCENES for col, row in cells]
        labels = [sorted({CLASS_NAMES[col % 19], CLASS_NAMES[row % 19]}) for _ in SCENES for col, row in cells]
        country = ["Austria" if col < 45 else "Germany" for _ in SCENES for col, _ in cells]
        return pd.DataFrame({"patch_id": ids, "labels": labels, "country": country}, index=range(len(ids), 0, -1))

    def test_it_is_called_by_its_short_name(self, part):
        assert isinstance(strategy_of(part), STRATEGIES[self.strategy])

    def test_every_patch_gets_a_known_split_under_its_own_index(self, table, part):
        divided = divide(table, part)
        assert divided.split.index.equals(table.index)
        assert set(divided.split.dropna()) == set(self.gives)
        assert divided.split.notna().all() or divided.drop_reason is not None
        assert divided.split.notna().mean() > 0.5

    def test_it_says_what_it_did(self, table, part):
        info = divide(table, part).info
        assert (info.strategy, info.seed) == (self.strategy, 0)
        assert set(info.options) == set(STRATEGIES[self.strategy].model_fields)
        assert (info.leaks is not None) == (self.strategy == "random")

    def test_order_of_the_rows_does_not_matter(self, table, part):
        shuffled = table.sample(frac=1, random_state=7)
        pd.testing.assert_series_equal(assign(shuffled, part).sort_index(), assign(table, part).sort_index())

    def test_a_seed_gives_one_split_and_another_seed_another(self, table, part):
        other = part.model_copy(update={"seed": 1})
        first = assign(table, part)
        assert assign(table, part).equals(first)
        assert assign(table, other).equals(first) != self.draws_lots

    def test_the_index_of_the_table_plays_no_part(self, table, part):
        expected = assign(table, part).tolist()
        assert assign(table.set_axis([0] * len(table)), part).tolist() == expected

    def test_the_table_is_left_as_it_was(self, table, part):
        before = table.copy(deep=True)
        assign(table, part)
        pd.testing.assert_frame_equal(table, before)

    def test_all_dates_of_a_place_share_one_split(self, table, part):
        if not self.keeps_places_together:
            pytest.skip("this strategy divides by time, or as somebody else did")
        place = table["patch_id"].str[-12:]  # tile, column and row
        assert assign(table, part).fillna("dropped").groupby(place).nunique().eq(1).all()

    def test_an_empty_table_gives_an_empty_split(self, table, part):
        assert len(assign(table.iloc[:0], part)) == 0

    def test_a_table_without_ids_is_refused(self, table, part):
        with pytest.raises(SplitError, match="no column `patch_id`"):
            assign(table.drop(columns="patch_id"), part)

    def test_a_column_it_needs_is_asked_for(self, table, part):
        for name in self.needs:
            with pytest.raises(SplitError, match=f"needs the column `{name}`"):
                assign(table.drop(columns=name), part)

    def test_an_unknown_option_is_refused_with_the_known_ones(self, part):
        wrong = part.model_copy(update={"options": {**part.options, "no_such_option": 1}})
        with pytest.raises(SplitError, match=f"strategy '{self.strategy}' has no option `no_such_option`; known are "):
            strategy_of(wrong)


def facts(classes: dict[str, float], **changes: object) -> PatchFacts:
    """Facts of a made-up patch: classes and their shares, in summer 2017 in Austria unless said otherwise."""
    shares = [ClassShare(name=name, share=share) for name, share in sorted(classes.items(), key=lambda pair: (-pair[1], pair[0]))]
    values: dict[str, object] = {
        "patch_id": f"{SCENES[0]}_26_57", "classes": shares, "season": "summer", "country": "Austria",
        "year": 2017, "month": 6, "sensors": ["s2", "s1"],
    }  # fmt: skip
    return PatchFacts.model_validate(values | changes)


class CaptionerTests:
    """What holds for everyone who writes captions."""

    engine: str
    seeds: ClassVar[tuple[int, ...]] = (0, 1, 2)

    def many_facts(self) -> list[PatchFacts]:
        """Each class alone, largest and smallest of several, in every season, with and without a country."""
        months = {"winter": 1, "spring": 4, "summer": 7, "autumn": 10}
        mixtures = []
        for index, name in enumerate(CLASS_NAMES):
            second, third = CLASS_NAMES[(index + 1) % 19], CLASS_NAMES[(index + 7) % 19]
            mixtures += [{name: 1.0}, {name: 0.52, second: 0.33, third: 0.004}, {second: 0.9957, name: 0.0043}, {name: 0.25, third: 0.125}]
        places = itertools.cycle(["Austria", None, "Bosnia and Herzegovina", "Netherlands", "Bosnia and Herz."])
        sensors = itertools.cycle([["s2"], ["s2", "s1"]])
        cases = zip(itertools.product(mixtures, SEASONS), places, sensors, strict=False)
        return [
            facts(
                mixture, patch_id=f"{SCENES[0]}_{number // 91:02d}_{number % 91:02d}", season=season, month=months[season],
                country=country, sensors=seen,
            )
            for number, ((mixture, season), country, seen) in enumerate(cases)
        ]  # fmt: skip

    @pytest.fixture(params=(0, 1, 2), ids="seed {}".format)
    def captioner(self, request):
        return captioner_for(Captions(engine=self.engine, seed=request.param))

    def test_it_is_called_by_its_short_name(self, captioner):
        assert captioner.name == self.engine

    def test_nothing_is_said_that_the_facts_do_not_hold(self, captioner):
        for each in self.many_facts():
            text = captioner.caption(each)
            assert check_caption(text, each, CLASS_NAMES) == [], text

    def test_the_largest_class_and_the_season_are_always_named(self, captioner):
        for each in self.many_facts():
            text = captioner.caption(each).lower()
            assert each.classes[0].name.lower() in text
            assert each.season in text

    def test_a_caption_is_one_line_of_whole_sentences(self, captioner):
        for each in self.many_facts():
            text = captioner.caption(each)
            assert text == " ".join(text.split())
            assert text[0].isupper()
            assert text.endswith(".")

    def test_a_patch_keeps_its_caption_whatever_was_written_before(self, captioner):
        many = self.many_facts()
        forward = {facts_digest(each): captioner.caption(each) for each in many}
        again = captioner_for(Captions(engine=self.engine, seed=captioner.seed))
        assert {facts_digest(each): again.caption(each) for each in reversed(many)} == forward

    def test_a_patch_without_any_class_still_gets_a_caption(self, captioner):
        nothing = facts({})
        assert check_caption(captioner.caption(nothing), nothing, CLASS_NAMES) == []


GROUND = Area(32633, 500_000, 5_300_000, 502_400, 5_302_400)  # what test layers cover: one class in the west, one in the east
MIDDLE_M = 501_200.0  # where the east begins
AROUND = Area(32633, 499_400, 5_299_400, 503_000, 5_303_000)  # 600 m more on each side


def polygon_halves(path: Path, column: str, west: object, east: object, crs: int = 3035) -> Path:
    """Two polygons over ``GROUND``, as GeoParquet or in the format GDAL takes the suffix for."""
    boxes = [shapely.box(GROUND.left_m, GROUND.bottom_m, MIDDLE_M, GROUND.top_m), shapely.box(MIDDLE_M, *GROUND.bounds[1:])]
    table = gpd.GeoDataFrame({column: [west, east]}, geometry=boxes, crs=GROUND.epsg).to_crs(crs)
    table.to_parquet(path) if path.suffix == ".parquet" else table.to_file(path)
    return path


def raster_halves(path: Path, west: int, east: int, pixel: float, crs: int = 3035, dtype: str = "uint8") -> Path:
    """A GeoTIFF over ``GROUND`` and somewhat more, which is 0, its no-data value; ``pixel`` in units of the CRS."""
    left, bottom, right, top = AROUND.bounds_in(crs)
    transform = Affine(pixel, 0, left // pixel * pixel, 0, -pixel, (top // pixel + 1) * pixel)
    shape = (int((top - bottom) / pixel) + 3, int((right - left) / pixel) + 3)
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    x, y = pyproj.Transformer.from_crs(crs, GROUND.epsg, always_xy=True).transform(*(transform @ (cols + 0.5, rows + 0.5)))
    inside = (x > GROUND.left_m) & (x < GROUND.right_m) & (y > GROUND.bottom_m) & (y < GROUND.top_m)
    values = np.where(inside, np.where(x < MIDDLE_M, west, east), 0).astype(dtype)
    about = {"driver": "GTiff", "count": 1, "nodata": 0, "crs": f"EPSG:{crs}", "transform": transform, "dtype": dtype}
    with rasterio.open(path, "w", height=shape[0], width=shape[1], **about) as raster:
        raster.write(values, 1)
    return path


class LabelSourceTests:
    """What holds for every source of labels; a member writes a file with one code in the west of ``GROUND`` and one in its east."""

    source: str
    west: int
    east: int
    said: ClassVar[dict[str, object]] = {}
    pixel_m = 0.0  # of the source; how far its edges may lie from where they are drawn

    def write(self, folder: Path) -> Path:
        raise NotImplementedError

    def nomenclature(self, folder: Path):
        return load_nomenclature(label_source(self.source).codes or "")

    @pytest.fixture
    def path(self, tmp_path) -> Path:
        return self.write(tmp_path)

    def read(self, path: Path, area: Area = AROUND) -> LabelLayer:
        return label_source(self.source).read(path, area, self.nomenclature(path.parent), Labels.model_validate(self.said))

    @pytest.mark.parametrize("gsd_m", [10, 20, 60])
    def test_each_pixel_has_the_code_under_its_centre_at_any_resolution(self, path, gsd_m):
        side = 3600 // gsd_m
        codes = self.read(path).rasterize(Affine(gsd_m, 0, AROUND.left_m, 0, -gsd_m, AROUND.top_m), (side, side))
        assert codes.shape == (side, side)
        assert codes.dtype == np.uint16
        x = AROUND.left_m + gsd_m * (np.arange(side) + 0.5)
        y = AROUND.top_m - gsd_m * (np.arange(side) + 0.5)
        across = (x > GROUND.left_m) & (x < GROUND.right_m)
        down = (y > GROUND.bottom_m) & (y < GROUND.top_m)
        expected = np.where(down[:, None] & across, np.where(x < MIDDLE_M, self.west, self.east), 999)
        clear_x = np.abs(x[:, None] - (GROUND.left_m, MIDDLE_M, GROUND.right_m)).min(axis=1) > 1.5 * self.pixel_m
        clear_y = np.abs(y[:, None] - (GROUND.bottom_m, GROUND.top_m)).min(axis=1) > 1.5 * self.pixel_m
        clear = clear_y[:, None] & clear_x
        assert clear.mean() > 0.4
        assert np.array_equal(codes[clear], expected[clear])

    def test_shares_are_those_of_the_areas(self, path):
        left, bottom = GROUND.left_m, GROUND.bottom_m
        boxes = [
            (left, bottom + 600, left + 1200, bottom + 1800),  # the west alone
            (left + 900, bottom + 600, left + 2100, bottom + 1800),  # a quarter west, three quarters east
            (left + 1800, bottom + 600, left + 3000, bottom + 1800),  # half east, half without a label
        ]
        found = self.read(path).shares(np.array(boxes))
        shares = [dict(zip(found.codes.tolist(), row.tolist(), strict=True)) for row in found.shares]
        near = pytest.approx
        error = 2 * self.pixel_m / 1200 + 1e-5  # a box's side bends by millimetres in another CRS
        assert shares[0] == near({self.west: 1, self.east: 0, 999: 0}, abs=error)
        assert shares[1] == near({self.west: 0.25, self.east: 0.75, 999: 0}, abs=error)
        assert shares[2] == near({self.west: 0, self.east: 0.5, 999: 0.5}, abs=error)
        assert np.abs(found.shares.sum(axis=1) - 1).max() < 1e-9

    def test_only_the_part_asked_for_is_read(self, path):
        west = Area(GROUND.epsg, GROUND.left_m + 300, GROUND.bottom_m + 300, MIDDLE_M - 300, GROUND.top_m - 300)
        codes = self.read(path, west).rasterize(Affine(10, 0, west.left_m, 0, -10, west.top_m), (180, 60))
        assert (codes == self.west).all()

    def test_land_cover_of_another_place_is_refused_and_the_scene_is_placed(self, path):
        elsewhere = Area(GROUND.epsg, 600_000, 5_300_000, 601_200, 5_301_200)
        with pytest.raises(LabelError, match="covers 16\\.3. to 16\\.3. degrees east and 47\\.8. to 47\\.8. degrees north"):
            self.read(path, elsewhere)

    def test_a_missing_file_is_refused_by_its_name(self, path):
        with pytest.raises(LabelError, match="not-there"):
            self.read(path.with_name("not-there" + path.suffix))

    def test_the_files_it_reads_are_named(self, path):
        files = label_source(self.source).files(path, AROUND)
        assert files
        assert all(file.is_file() for file in files)
        assert all(file == path or path.parent in file.parents for file in files)


class ShardFormatTests:
    """What holds for every format and compression of shards."""

    format: str
    compression: str = "none"

    @pytest.fixture
    def shard(self, lmdb_shard: Path, tmp_path: Path) -> Path:
        """The shard ``lmdb_shard`` in this format."""
        folder = tmp_path / "packed"
        folder.mkdir()
        repack([lmdb_shard], folder, format=self.format, compression=compression_of(self.compression))
        return folder

    def test_every_value_comes_back_to_the_bit(self, shard, lmdb_shard):
        with open_shard(shard) as here, open_shard(lmdb_shard) as there:
            assert list(here.keys()) == list(there.keys())
            for key in there.keys():  # noqa: SIM118
                assert here.read_bytes(key) == there.read_bytes(key)
                assert {band: pixels.dtype for band, pixels in here.read(key).items()} == {b: p.dtype for b, p in there.read(key).items()}

    def test_its_manifest_says_the_same_but_for_codec_and_files(self, shard, lmdb_shard):
        own = {"format", "codec", "files"}
        with open_shard(shard) as here, open_shard(lmdb_shard) as there:
            assert here.manifest.model_dump(exclude=own) == there.manifest.model_dump(exclude=own)
            assert here.manifest.format == self.format
            assert here.manifest.codec.endswith("" if self.compression == "none" else f"+{self.compression}")
            pd.testing.assert_frame_equal(here.index, there.index)

    def test_it_is_found_to_be_as_its_manifest_says(self, shard):
        assert verify_shard(shard) == []

    def test_batches_are_those_of_any_other_format(self, shard, lmdb_shard):
        plan = BatchPlan(
            ("VV", "B05", "B02"), mean=(-12.0, 900.0, 800.0), std=(5.0, 300.0, 250.0), nodata=(float("nan"), 0, 0), side_px=120
        )
        batches = []
        for folder in (shard, lmdb_shard):
            with open_shard(folder) as opened:
                rows = opened.index[opened.index["s1_key"].notna()]
                out = np.zeros((len(rows), 3, 120, 120), np.float32)
                upright = np.zeros(len(rows), np.int64)
                for column, bands in (("patch_id", ["B05", "B02"]), ("s1_key", ["VV"])):
                    with opened.pieces(rows[column].tolist(), bands) as pieces:
                        assert plan.fill(pieces, bands, out, upright) == []
                batches.append(out)
        np.testing.assert_array_equal(*batches)

    def test_back_in_lmdb_it_is_the_same_file(self, shard, lmdb_shard, tmp_path):
        (tmp_path / "back").mkdir()
        repack([shard], tmp_path / "back", format="lmdb")
        for name in ("data.mdb", "index.parquet", "manifest.json"):
            assert (tmp_path / "back" / name).read_bytes() == (lmdb_shard / name).read_bytes()

    def test_the_same_shard_gives_the_same_bytes(self, shard, lmdb_shard, tmp_path):
        (tmp_path / "again").mkdir()
        repack([lmdb_shard], tmp_path / "again", format=self.format, compression=compression_of(self.compression))
        for path in (path for path in shard.rglob("*") if path.is_file() and path.name != "lock.mdb"):
            assert (tmp_path / "again" / path.relative_to(shard)).read_bytes() == path.read_bytes()

    def test_a_key_that_is_not_there_is_named(self, shard):
        with open_shard(shard) as opened, pytest.raises(ShardError, match=r"has no key S9; see its index.parquet"):
            opened.read("S9")

    def test_it_reads_on_in_another_process(self, shard):
        with open_shard(shard) as opened:
            key = next(opened.keys())
            expected = opened.read_bytes(key)
            for method in ("fork", "spawn"):
                with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
                    assert pool.submit(opened.read_bytes, key).result() == expected

    def test_damage_to_any_file_is_found(self, shard):
        with open_shard(shard) as opened:
            files = [item.path for item in opened.manifest.files]
        for name in files:
            content = (shard / name).read_bytes()
            (shard / name).write_bytes(
                content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 1]) + content[len(content) // 2 + 1 :]
            )
            assert any(name in finding for finding in verify_shard(shard))
            (shard / name).write_bytes(content)
        assert verify_shard(shard) == []
