"""Suites that every member of a family passes: a new member is one class that names it.

class TestFrame(SplitStrategyTests):
    strategy = "frame"
"""

import dataclasses
import itertools
import math
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
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

from rsdata import steps
from rsdata.captions import MapClasses, Surroundings, captioner_for, check_caption, facts_digest, facts_of, open_engine
from rsdata.catalog.exports import EXPORTS
from rsdata.errors import LabelError, ShardError, SplitError, TrainingError
from rsdata.labels import Area, LabelLayer, label_source, load_nomenclature
from rsdata.recipe import Captions, Labels, SplitPart, Training
from rsdata.records import SEASONS, SPLITS, PatchFacts
from rsdata.shards import compression_of, open_shard, repack, verify_shard
from rsdata.shards.reading import BatchPlan
from rsdata.splits import STRATEGIES, assign, divide, strategy_of
from rsdata.steps.publishing import open_source
from rsdata.subsets import PARTITIONS, Patches, Settings
from rsdata.subsets import divide as divide_clients
from rsdata.testing.reference_maps import NOMENCLATURE, map_row, reference_map

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


def facts(classes: dict[str, float], year: int = 2017, month: int = 6, **changes: object) -> PatchFacts:
    """Facts of a made-up patch: classes and their shares, in summer 2017 in Austria unless said otherwise; nothing of regions."""
    shares = [
        {
            "name": name, "share": share, "area_m2": share * 1_440_000, "decile": max(1, math.ceil(10 * share)), "regions": 1,
            "dominance": "primary" if share > 0.25 else "secondary" if share >= 0.05 else "marginal",
        }
        for name, share in sorted(classes.items(), key=lambda pair: (-pair[1], pair[0]))
    ]  # fmt: skip
    values: dict[str, object] = {
        "patch_id": f"{SCENES[0]}_26_57", "s1_name": None, "split": "train", "classes": shares,
        "unlabeled_fraction": max(0.0, 1 - math.fsum(classes.values())), "regions": [], "adjacent": [],
        "diversity": abs(math.fsum(-share * math.log(share) for share in classes.values())),
        "season": "summer", "datetime": datetime(year, month, 13, 10, 10, 31, tzinfo=UTC), "country": "Austria", "climate": None,
        "longitude": 13.7, "latitude": 48.2, "sensors": ["s2", "s1"],
    }  # fmt: skip
    return PatchFacts.model_validate(values | changes)


class PartitionTests:
    """What holds for every way to deal out patches to clients."""

    partition: str
    draws_lots = True  # whether another seed gives another partition
    clients: ClassVar[int | None] = 3

    @pytest.fixture
    def table(self) -> pd.DataFrame:
        """240 patches on two tiles and four dates, in two countries, with one to three of five classes; every tenth has none."""
        random = np.random.default_rng(5)
        rows = []
        for number in range(240):
            scene = f"S2A_MSIL2A_2017{(1, 4, 7, 10)[number % 4]:02d}13T101031_N9999_R022_T{('33UUP', '33UVP')[number % 2]}"
            count = 0 if number % 10 == 9 else 1 + int(random.integers(3))
            labels = sorted(str(each) for each in random.choice(CLASS_NAMES[:5], count, replace=False, p=[0.4, 0.3, 0.2, 0.05, 0.05]))
            rows.append((f"{scene}_{number // 4:02d}_00", labels, ("Austria", "Belgium", "Kosovo")[number % 3], "train"))
        return pd.DataFrame(rows, columns=["patch_id", "labels", "country", "split"])

    def deal(self, table: pd.DataFrame, seed: int = 0, **settings: object) -> dict[str, str]:
        patches = Patches.of(table)
        found = divide_clients(patches, self.partition, Settings(**({"clients": self.clients} | settings)), seed)
        assert set(found.sensors) == set(found.client)
        return dict(zip(patches.ids, found.client, strict=True))

    def test_every_patch_has_one_client_and_no_client_is_empty(self, table):
        found = self.deal(table)
        assert sorted(found) == sorted(table["patch_id"])
        assert len(set(found.values())) == (self.clients or len(set(found.values())))

    def test_the_order_of_rows_decides_nothing(self, table):
        assert self.deal(table) == self.deal(table.sample(frac=1, random_state=1))

    def test_another_seed_gives_another_partition_only_where_lots_are_drawn(self, table):
        assert self.deal(table) == self.deal(table)
        assert (self.deal(table) != self.deal(table, seed=1)) == self.draws_lots

    def test_it_is_among_the_short_names(self):
        assert self.partition in PARTITIONS


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

    def test_the_largest_class_is_always_named_and_the_season_at_times(self, captioner):
        texts = [(each, captioner.caption(each).lower()) for each in self.many_facts()]
        assert all(each.classes[0].name.lower() in text for each, text in texts)
        assert 0.3 < sum(each.season in text for each, text in texts) / len(texts) < 0.7

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


class CaptionEngineTests:
    """What holds for every engine that captions many patches at once."""

    def part(self) -> Captions:
        raise NotImplementedError

    def facts(self) -> list[PatchFacts]:
        classes = MapClasses.of(load_nomenclature(NOMENCLATURE).classes)
        return [facts_of(map_row(number), reference_map(number), classes) for number in range(10)]

    @pytest.fixture
    def around(self, tmp_path) -> Surroundings:
        return Surroundings(CLASS_NAMES, answers=tmp_path / "answers.sqlite")

    def test_each_patch_gets_one_supported_caption_in_order(self, around):
        many, done = self.facts(), []
        with open_engine(self.part(), dataclasses.replace(around, advance=done.append)) as engine:
            rows = engine.captions(many)
        assert [row.patch_id for row in rows] == [each.patch_id for each in many]
        assert len({row.row_id for row in rows}) == len(rows) == sum(done)
        for row, each in zip(rows, many, strict=True):
            assert (row.category, row.type, row.checked, row.facts_digest) == ("caption", "caption", True, facts_digest(each))
            assert check_caption(row.output, each, CLASS_NAMES) == [], row.output

    def test_portions_make_no_difference(self, around):
        many = self.facts()
        with open_engine(self.part(), around) as engine:
            whole = engine.captions(many)
            assert [*engine.captions(many[:3]), *engine.captions(many[3:])] == whole

    def test_the_report_is_of_all_captions_and_only_models_have_one(self, around):
        with open_engine(self.part(), around) as engine:
            rows = engine.captions(self.facts())
            report, outcomes = engine.report(), engine.outcomes
        if report is None:
            assert outcomes == []
            assert {row.model for row in rows} == {None}
            return
        assert report.captions == len(rows) == len(outcomes)
        assert report.fallen_back == sum(row.model is None for row in rows) == sum(each.outcome == "template" for each in outcomes)


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


class TaskTests:
    """What holds for every task that can be learned; a member says what it is asked to learn from the shard ``task_shard``."""

    task: str
    model = "small-cnn"
    said: ClassVar[dict[str, object]] = {}  # options beside task and model
    bands: ClassVar[tuple[str, ...]] = ("B02", "B11", "VV")

    def table(self, shard, folder: Path) -> Path | None:
        """What the option ``table`` names."""
        return None

    def study(self, shard, folder: Path, **changes: object):
        from rsdata.training.protocol import Study
        from rsdata.training.ranks import Ranks

        said = {"task": self.task, "model": self.model, "input_px": 24, "bands": list(self.bands), **self.said, **changes}
        return Study(shard, Training.model_validate(said), self.table(shard, folder), Ranks())

    @pytest.fixture
    def made(self, task_shard, tmp_path):
        """The study, a network, and one batch of the train split as it lies."""
        import torch

        from rsdata.training.checkpoint import build_network

        study = self.study(task_shard, tmp_path)
        torch.manual_seed(0)
        network = build_network(self.model, study.task, study.normalisation.bands)
        items = study.training.__getitems__(range(8))
        return study, network, torch.stack([pixels for pixels, _ in items]), torch.stack([targets for _, targets in items])

    def test_it_is_called_by_its_short_name(self, made):
        from rsdata.training import TASKS

        assert type(made[0].task) is TASKS[self.task]
        assert made[0].task.name == self.task

    def test_targets_of_a_batch_are_those_of_its_patches(self, task_shard, tmp_path):
        import torch

        training = self.study(task_shard, tmp_path).training
        together = training.targets_of([3, 0, 7])
        assert all(torch.equal(together[row].nan_to_num(-9), training[place][1].nan_to_num(-9)) for row, place in enumerate((3, 0, 7)))

    def test_the_loss_is_a_mean_and_reaches_every_weight(self, made):
        import torch

        study, network, pixels, targets = made
        answer = study.task.answer(network, pixels, targets)
        loss = study.task.loss(answer, targets)
        assert loss.shape == () and torch.isfinite(loss)
        loss.backward()
        assert all(weight.grad is not None and torch.isfinite(weight.grad).all() for weight in network.parameters())

    def test_parts_of_a_batch_weigh_as_much_as_the_whole(self, made):
        study, network, pixels, targets = made
        if self.task == "retrieval":
            pytest.skip("its loss compares the patches of a batch with each other")
        network.eval()

        def summed(part: slice) -> float:
            of_part = targets[part]
            return study.task.loss(study.task.answer(network, pixels[part], of_part), of_part).item() * study.task.weight(of_part)

        assert summed(slice(0, 3)) + summed(slice(3, 8)) == pytest.approx(summed(slice(0, 8)), rel=1e-5)

    def test_a_few_steps_lower_the_loss(self, made):
        import torch

        study, network, pixels, targets = made
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
        losses = []
        for _ in range(6):
            loss = study.task.loss(study.task.answer(network, pixels, targets), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0]

    def test_turned_patches_have_turned_targets(self, task_shard, tmp_path):
        """The loss of a network that looks at single pixels does not change by turning image and map together."""
        import torch

        study = self.study(task_shard, tmp_path)
        training = study.training
        training.epoch = 3
        turned = [training[index] for index in range(8)]
        training.augment = False
        plain = [training[index] for index in range(8)]
        moved = [not torch.equal(a[0], b[0]) for a, b in zip(plain, turned, strict=True)]
        assert any(moved) == study.task.turns_images
        for (image, target), (turned_image, turned_target) in zip(plain, turned, strict=True):
            if study.task.answers == "patch":
                continue
            pairs = torch.stack([image[0].flatten().double(), target.flatten().double().nan_to_num(-9)], dim=1)
            turned_pairs = torch.stack([turned_image[0].flatten().double(), turned_target.flatten().double().nan_to_num(-9)], dim=1)
            assert sorted(map(tuple, pairs.tolist())) == sorted(map(tuple, turned_pairs.tolist()))

    def test_a_card_gives_the_task_back(self, made):
        import json

        task = made[0].task
        assert type(task).from_card(json.loads(json.dumps(task.card()))) == task

    def test_training_leaves_a_model_that_scores_as_reported(self, task_shard, tmp_path):
        from rsdata.records import TrainingReport
        from rsdata.training import CHECKPOINT_NAME, SilentProgress, load_checkpoint, run_folder, score, train_shard

        said = {"task": self.task, "model": self.model, "bands": list(self.bands), **self.said}
        table = self.table(task_shard, tmp_path)
        options = Training.model_validate({"input_px": 24, "epochs": 1, "batch_size": 8, **said})
        report = train_shard(task_shard, options, tmp_path / "out", SilentProgress(), table=table)
        assert TrainingReport.model_validate_json(report.model_dump_json()) == report
        assert report.baselines
        assert {each.test.task for each in report.baselines} == {self.task}
        again = score(load_checkpoint(run_folder(tmp_path / "out", 0) / CHECKPOINT_NAME), task_shard, "test", table)
        assert again == report.runs[0].test
        assert list(again.figures()) == list(report.test)

    def test_predictions_are_one_row_per_patch(self, task_shard, tmp_path):
        import torch

        from rsdata.training.checkpoint import Checkpoint, ModelCard, build_network
        from rsdata.training.writing import TABLE_NAME, write_predictions

        study = self.study(task_shard, tmp_path)
        torch.manual_seed(1)
        network = build_network(self.model, study.task, study.normalisation.bands)
        card = ModelCard(self.model, self.task, study.task.card(), study.normalisation, 24)
        table = self.table(task_shard, tmp_path)
        patches, maps = write_predictions(Checkpoint(card, study.task, network), task_shard, "test", tmp_path / "said", table=table)
        rows = pd.read_parquet(tmp_path / "said" / TABLE_NAME)
        assert rows["patch_id"].tolist() == study.test.patch_ids
        assert patches == len(rows) and len(rows.columns) > 1
        assert maps == len(list((tmp_path / "said").glob("maps/*.tif"))) == (len(rows) if study.task.answers == "pixel" else 0)

    def test_a_network_of_the_other_kind_is_refused(self, task_shard, tmp_path):
        other = "small-unet" if self.model == "small-cnn" else "small-cnn"
        with pytest.raises(TrainingError, match=f"{other} gives one answer per .*; choose another model"):
            self.study(task_shard, tmp_path, model=other)


class ModelTests:
    """What holds for every model; a new one is a class with its short name, its number of parameters, and the side it was published for.

    Where weights do not matter, networks are made on the "meta" device, which knows shapes and computes nothing.
    """

    model: ClassVar[str]
    parameters: ClassVar[int]  # for 3 bands and 1000 classes
    published_px: ClassVar[int] = 224

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def its_library(cls, request):
        from rsdata.training.models import MODELS

        if MODELS[cls.model].extra == "models":
            request.getfixturevalue("torchvision")

    @pytest.fixture(scope="class")
    @classmethod
    def network(cls, its_library):
        return cls.drawn_network()

    @classmethod
    def drawn_network(cls):
        """For 14 bands and 5 outputs, with random weights; ``sums`` is what they were at first."""
        import torch

        from rsdata.training.models import build_model

        torch.manual_seed(3)
        network = build_model(cls.model, 14, 5, side_px=cls.side_px())
        network.sums = [weight.detach().double().sum().item() for weight in network.parameters()]
        return network

    @classmethod
    def side_px(cls) -> int:
        """As small as leaves batch normalisation more than one pixel at the coarsest scale of networks that come back from it."""
        from rsdata.training.models import MODELS

        return 64 if MODELS[cls.model].answers == "pixel" else 32

    def answer_of(self, bands: int, side_px: int, outputs: int = 19):
        import torch

        from rsdata.training.models import build_model

        with torch.device("meta"):
            return build_model(self.model, bands, outputs, side_px=side_px).eval()(torch.zeros(2, bands, side_px, side_px))

    def ground(self, side_px: int) -> tuple[int, ...]:
        """Rows and columns of an answer."""
        from rsdata.training.models import MODELS

        return (side_px, side_px) if MODELS[self.model].answers == "pixel" else ()

    def test_it_has_the_published_number_of_parameters(self):
        import torch

        from rsdata.training.models import build_model, count_parameters

        with torch.device("meta"):
            assert count_parameters(build_model(self.model, 3, 1000, side_px=self.published_px)) == self.parameters

    @pytest.mark.parametrize("bands", [2, 12], ids=["s1", "s2"])
    def test_any_number_of_bands_gives_one_logit_per_class(self, bands):
        assert self.answer_of(bands, 120).shape == (2, 19, *self.ground(120))

    def test_the_smallest_squares_that_it_names_are_taken(self):
        from rsdata.training.models import MODELS

        side_px = max(20, MODELS[self.model].least_px)
        assert self.answer_of(1, side_px, 3).shape == (2, 3, *self.ground(side_px))

    def test_smaller_squares_are_refused(self):
        from rsdata.training.models import MODELS, build_model

        least_px = MODELS[self.model].least_px
        with pytest.raises(TrainingError, match=f"needs squares of at least {least_px} pixels a side and was asked for {least_px - 1}"):
            build_model(self.model, 2, 3, side_px=least_px - 1)

    def test_no_bands_or_no_classes_is_refused(self):
        from rsdata.training.models import build_model

        for bands, classes in ((0, 19), (12, 0)):
            with pytest.raises(TrainingError, match="at least one of each"):
                build_model(self.model, bands, classes)

    def test_its_stem_takes_the_bands_and_its_head_gives_the_outputs(self, network):
        from rsdata.training.models import MODELS

        weights = network.state_dict()
        assert weights[MODELS[self.model].stem].shape[1] == 14
        head = {name: value for name, value in weights.items() if name.startswith(f"{MODELS[self.model].head}.")}
        assert head and {len(value) for value in head.values()} == {5}

    def test_features_are_what_the_last_layer_is_shown(self, network):
        """For patches: its linear layer on the features is the answer."""
        import torch

        from rsdata.training.models import MODELS, features

        network.eval()
        pixels = torch.randn(3, 14, self.side_px(), self.side_px(), generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            found = features(self.model, network, pixels)
            assert found.ndim == 2 and len(found) == 3 and torch.isfinite(found).all()
            if MODELS[self.model].answers == "patch":
                last = network.get_submodule(MODELS[self.model].head)
                assert torch.allclose(last(found), network(pixels), atol=1e-5)

    def test_one_step_on_s1_and_s2_lowers_the_loss(self, network):
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits

        network.train()
        drawn = torch.Generator().manual_seed(1)
        pixels = torch.randn(4, 14, self.side_px(), self.side_px(), generator=drawn)
        targets = (torch.rand(4, 5, *self.ground(self.side_px()), generator=drawn) > 0.5).float()
        before = binary_cross_entropy_with_logits(network(pixels), targets)
        before.backward()
        with torch.no_grad():
            steepness = sum(float(weight.grad.square().sum()) for weight in network.parameters() if weight.grad is not None)
            optimizer = torch.optim.SGD(network.parameters(), lr=0.02 * before.item() / steepness)  # for 2 % less, were the way straight
            optimizer.step()
            after = binary_cross_entropy_with_logits(network(pixels), targets)
        network.zero_grad()
        assert after < before

    def test_the_same_seed_gives_the_same_weights(self, network):
        assert self.drawn_network().sums == network.sums


class ExportTests:
    """What holds for every form a dataset is exported in."""

    form: str
    has_pixels = True

    def pixels(self, folder: Path) -> dict[str, dict[str, np.ndarray]]:
        """All pixels by key and band, read by a program that is not rsdata."""
        raise NotImplementedError

    @pytest.fixture
    def exported(self, built, tmp_path) -> Path:
        steps.export_dataset(built, self.form, tmp_path / "exported")
        return tmp_path / "exported"

    def test_it_is_listed_in_one_line(self):
        assert 10 < len(steps.EXPORT_FORMS[self.form]) < 100 and "\n" not in steps.EXPORT_FORMS[self.form]

    def test_three_workers_write_the_same_bytes_as_one(self, built, exported, tmp_path):
        told: list[int] = []
        steps.export_dataset(built, self.form, tmp_path / "out", workers=3, advance=told.append)
        assert _files(tmp_path / "out") == _files(exported)
        with open_source(built) as source:
            assert sum(told) == len(source.patches)

    def test_every_value_of_the_shard_is_there_to_the_bit_and_nothing_else(self, built, exported):
        if not self.has_pixels:
            pytest.skip(f"{self.form} holds no pixels")
        found = self.pixels(exported)
        with open_source(built) as source:
            keys = {key for of_sensor in source.keys.values() for key in of_sensor if key is not None}
            assert set(found) == keys
            for key in keys:
                stored = source.read(key)
                assert set(found[key]) == set(stored)
                for name, pixels in stored.items():
                    assert (found[key][name].dtype, found[key][name].shape) == (pixels.dtype, pixels.shape)
                    assert found[key][name].tobytes() == pixels.tobytes()

    def test_patches_that_share_one_sentinel1_scene_are_written_all_the_same(self, built, tmp_path):
        """As two dates of Sentinel-2 beside one of Sentinel-1."""
        with open_source(built) as source:
            index = source.index[:6].copy()
            index.loc[1:2, "s1_key"] = index.loc[0, "s1_key"]
            shared = dataclasses.replace(source, index=index, patches=source.patches[:6])
            (tmp_path / "out").mkdir()
            EXPORTS[self.form].write(shared, tmp_path / "out", workers=2)
            if self.has_pixels:
                found, key = self.pixels(tmp_path / "out"), index.loc[0, "s1_key"]
                assert set(found) == {key for of_sensor in shared.keys.values() for key in of_sensor}
                assert all(found[key][name].tobytes() == pixels.tobytes() for name, pixels in source.read(key).items())


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
