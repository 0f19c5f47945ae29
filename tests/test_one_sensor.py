"""Datasets of Sentinel-1 alone and of Sentinel-2 alone: what is in the shard, and that all that follows from it goes along.

Each is the small dataset packed again, so that what it holds can be held against the shard of both sensors.
"""

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import lmdb
import mlcroissant
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pystac
import pytest
import stac_geoparquet.arrow
import stac_rules
import yaml
from conftest import SMALL, run_steps, write_recipe
from PIL import Image
from pystac.validation.stac_validator import JsonSchemaSTACValidator
from reports import Page, patch_table, report
from suites import ExportTests
from test_exports_bigearthnet import TestBigEarthNet as BigEarthNetExport
from test_exports_training import TestHuggingFace as HuggingFaceExport
from test_exports_training import TestWebDataset as WebDatasetExport

from rsdata import steps
from rsdata.catalog import read_patches, read_table
from rsdata.catalog.exports.card import card
from rsdata.catalog.report import ShardFacts
from rsdata.errors import RecipeError, SubsetError, TrainingError
from rsdata.recipe import Recipe, Shards, Training, load_recipe
from rsdata.records import PatchFacts
from rsdata.shards import open_shard, repack, verify_shard
from rsdata.shards.video.patches import series_of_patches
from rsdata.steps.publishing import open_source
from rsdata.workspace import Workspace

BANDS = {"s1": ["VH", "VV"], "s2": ["B02", "B03", "B04", "B08", "B05", "B06", "B07", "B8A", "B11", "B12", "B01", "B09"]}
Make = Callable[..., Workspace]


@pytest.fixture(scope="module")
def make(tmp_path_factory) -> Make:
    """The small dataset with another ``shards`` in its recipe, each made once."""
    made: dict[str, Workspace] = {}

    def of(built: Workspace, **shards: Any) -> Workspace:
        name = json.dumps(shards)
        if name not in made:
            folder = tmp_path_factory.mktemp("one")
            root = Path(shutil.copytree(built.root, folder / "dataset", copy_function=shutil.copy2))
            if len(shards) > 1:  # not where the shard of both sensors lies
                shutil.rmtree(root / "shards")
                shutil.rmtree(root / "receipts" / "shards")
            made[name], _ = run_steps(write_recipe(folder, SMALL | {"shards": shards, "training": None}), root)
        return made[name]

    return of


@pytest.fixture(scope="module")
def radar(built, make) -> Workspace:
    return make(built, sensors=["s1"])


@pytest.fixture(scope="module")
def optical(built, make) -> Workspace:
    return make(built, sensors=["s2"])


def kept(workspace: Workspace) -> pd.DataFrame:
    table = read_patches(workspace.patches)
    return table[table["kept"]].sort_values("patch_id", ignore_index=True)


def twin(row: Any) -> str:
    """The key of a patch's Sentinel-1, spelt out."""
    return "_".join([*row.s1_product.split("_")[:5], row.tile_id, str(row.col), str(row.row)])


def shard_folders(workspace: Workspace) -> list[Path]:
    return sorted(path.parent for path in (workspace.root / "shards").rglob("index.parquet"))


class OneSensorTests:
    """What holds for every shard of one sensor."""

    sensor: str
    options: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def dataset(self, built, make) -> Workspace:
        return make(built, sensors=[self.sensor], **self.options)

    def test_keys_are_those_of_its_sensor_and_the_maps_and_no_others(self, dataset):
        expected = {f"{row.patch_id}_reference_map" for row in kept(dataset).itertuples()}
        expected |= {twin(row) if self.sensor == "s1" else row.patch_id for row in kept(dataset).itertuples()}
        found: set[str] = set()
        for folder in shard_folders(dataset):
            with open_shard(folder) as shard:
                found |= set(shard.keys())
                assert len(shard) == shard.manifest.keys == len(list(shard.keys()))
        assert found == expected and len(expected) > 100

    def test_the_index_keeps_the_patch_ids_and_says_whose_they_are(self, dataset):
        index = pd.concat([pd.read_parquet(folder / "index.parquet") for folder in shard_folders(dataset)])
        index = index.sort_values("patch_id", ignore_index=True).astype(object).where(lambda each: each.notna(), None)
        table = kept(dataset)
        assert index["patch_id"].tolist() == table["patch_id"].tolist()
        assert set(index["sensor"]) == {self.sensor}
        assert index["s1_key"].tolist() == [twin(row) if self.sensor == "s1" else None for row in table.itertuples()]
        assert index["split"].tolist() == table["split"].tolist()

    def test_bands_and_their_statistics_are_those_of_the_shard_of_both(self, dataset, built):
        with open_shard(built.shards("lmdb")) as both:
            expected = [band for band in both.manifest.bands if band.sensor in (self.sensor, "reference_map")]
        for folder in shard_folders(dataset):
            with open_shard(folder) as shard:
                bands = shard.manifest.bands
                assert [band.name for band in bands] == [*BANDS[self.sensor], "Data"]
                assert (
                    shard.manifest.key_rule == {"s1": "", "s2": "patch_id; "}[self.sensor] + "s1_key; patch_id + '_reference_map', in UTF-8"
                )
                if len(shard_folders(dataset)) == 1:  # else of fewer patches
                    assert bands == expected

    def test_values_are_those_of_the_shard_of_both_to_the_bit(self, dataset, built):
        with open_shard(built.shards("lmdb")) as both:
            for folder in shard_folders(dataset):
                with open_shard(folder) as shard:
                    for key in shard.keys():  # noqa: SIM118, as a shard is no mapping
                        expected, found = both.read(key), shard.read(key)
                        assert set(expected) == set(found)
                        assert all(np.array_equal(expected[name], found[name]) for name in expected)

    def test_the_dataset_is_verified_and_a_value_that_is_gone_is_found(self, dataset, tmp_path):
        assert steps.verify_dataset(dataset)[1] == []
        folder = shard_folders(dataset)[0]
        assert verify_shard(folder) == []
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        copy = Path(shutil.copytree(folder, tmp_path / "shard"))
        manifest["bands"] = [band for band in manifest["bands"] if band["name"] not in ("VV", "B02")]
        (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        found = verify_shard(copy)
        assert len(found) == len(pd.read_parquet(folder / "index.parquet")) and "not the bands the manifest states" in found[0]

    def test_the_patch_table_is_that_of_both(self, dataset, built):
        assert dataset.patches.read_bytes() == built.patches.read_bytes()

    def test_the_report_shows_what_there_is(self, dataset):
        steps.write_report(load_recipe(dataset.recipe), dataset)
        text = dataset.report.read_text(encoding="utf-8")
        titles = {
            "s1": ["Sentinel-1, in colours", "Sentinel-1, VV", "Sentinel-1, VH"],
            "s2": ["Sentinel-2, natural colours", "Sentinel-2, false colour"],
        }
        cards = text.count('<article class="card"')
        assert cards > 20 and text.count("<figcaption>Reference map</figcaption>") == cards
        for sensor, shown in titles.items():
            for title in shown:
                assert text.count(f"<figcaption>{title}</figcaption>") == (cards if sensor == self.sensor else 0)
        words = " ".join(Page(text).words.split())
        alone = {"s1": "It holds the pixels of Sentinel-1 alone", "s2": "It holds the pixels of Sentinel-2 alone."}
        assert [sensor for sensor, said in alone.items() if said in words] == [self.sensor]
        assert ("Clouds hide nothing from radar" in words) == (self.sensor == "s1")


class TestRadarInLmdb(OneSensorTests):
    sensor = "s1"


class TestRadarInZarrPerScene(OneSensorTests):
    sensor = "s1"
    options: ClassVar = {"format": "zarr", "compression": "zstd", "per_scene": True}


class TestOpticalInLmdbPerScene(OneSensorTests):
    sensor = "s2"
    options: ClassVar = {"format": "lmdb", "per_scene": True}


class TestOpticalInZarr(OneSensorTests):
    sensor = "s2"
    options: ClassVar = {"format": "zarr"}


# --- exports: the suites of each form, on each dataset ------------------------------------------------------


class _OfRadar:
    @pytest.fixture
    def built(self, built, make) -> Workspace:
        return make(built, sensors=["s1"])


class _OfOptical:
    test_patches_that_share_one_sentinel1_scene_are_written_all_the_same = None  # there is none to share

    @pytest.fixture
    def built(self, built, make) -> Workspace:
        return make(built, sensors=["s2"])


class TestRadarAsBigEarthNet(_OfRadar, BigEarthNetExport):
    pass


class TestRadarAsWebDataset(_OfRadar, WebDatasetExport):
    pass


class TestOpticalAsWebDataset(_OfOptical, WebDatasetExport):
    pass


class TestRadarAsHuggingFace(_OfRadar, HuggingFaceExport):
    pass


class TestRadarAsStac(_OfRadar, ExportTests):
    form, has_pixels = "stac", False


class TestRadarAsCroissant(_OfRadar, ExportTests):
    form, has_pixels = "croissant", False


def test_the_other_forms_are_written_of_either(radar, optical, tmp_path):
    forms = ["card", *(["taco"] if find_spec("tacotoolbox") else [])]
    for dataset, name, others in ((radar, "radar", forms), (optical, "optical", [*forms, "huggingface", "stac", "croissant"])):
        for form in others:
            assert steps.export_dataset(dataset, form, tmp_path / f"{name}-{form}")


def test_the_published_columns_name_a_twin_only_where_its_files_are(radar, optical, tmp_path):
    for name, dataset in (("radar", radar), ("optical", optical)):
        counts = steps.export_dataset(dataset, "bigearthnet", tmp_path / name, workers=2)
        bands = {"radar": 2, "optical": 12}[name]
        assert len(list((tmp_path / name).rglob("*.tif"))) == (bands + 1) * counts["patches"] == (bands + 1) * len(kept(dataset))
        table, rows = pq.read_table(tmp_path / name / "metadata.parquet").to_pandas(), kept(dataset)
        assert table["patch_id"].tolist() == rows["patch_id"].tolist()
        assert table["s1_name"].where(table["s1_name"].notna(), "").tolist() == [
            twin(row) if name == "radar" else "" for row in rows.itertuples()
        ]
        assert not (tmp_path / name / {"radar": "BigEarthNet-S2", "optical": "BigEarthNet-S1"}[name]).exists()


def _start(product: str) -> datetime:
    return datetime.strptime(product.split("_")[4], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)


def test_items_of_radar_are_of_the_radar_satellite_and_its_time(radar):
    items = list(stac_geoparquet.arrow.stac_table_to_items(pq.read_table(radar.root / "catalog" / "items.parquet")))
    collection = json.loads((radar.root / "catalog" / "collection.json").read_text(encoding="utf-8"))
    rows = kept(radar).set_index("patch_id")
    assert [finding for entity in (collection, *items) for finding in stac_rules.findings(entity)] == []
    JsonSchemaSTACValidator().validate_core(collection, pystac.STACObjectType.COLLECTION, "1.1.0")
    for item in items:
        JsonSchemaSTACValidator().validate_core(item, pystac.STACObjectType.ITEM, "1.1.0")
        said, row = item["properties"], rows.loc[item["id"]]
        assert (said["platform"], said["constellation"], said["instruments"]) == ("sentinel-1a", "sentinel-1", ["c-sar"])
        assert set(item["assets"]) == {"s1", "reference_map"} and "eo:cloud_cover" not in said
        assert pystac.Item.from_dict(item).datetime == _start(row["s1_product"]) != row["datetime"]
    assert set(collection["item_assets"]) == {"s1", "reference_map"}
    assert "Sentinel-1" in collection["keywords"] and "Sentinel-2" not in collection["keywords"]
    key = items[3]["assets"]["s1"]["rsdata:key"]
    database = (radar.root / "catalog" / items[3]["assets"]["s1"]["href"]).resolve().parent
    with lmdb.open(str(database), readonly=True, lock=False) as env, env.begin() as transaction:
        assert transaction.get(key.encode()) is not None


def test_items_of_optical_have_no_asset_of_radar(optical):
    items = list(stac_geoparquet.arrow.stac_table_to_items(pq.read_table(optical.root / "catalog" / "items.parquet")))
    rows = kept(optical).set_index("patch_id")
    for item in items:
        assert stac_rules.findings(item) == [] and set(item["assets"]) == {"s2", "reference_map"}
        assert pystac.Item.from_dict(item).datetime == rows.loc[item["id"], "datetime"]


@pytest.mark.parametrize(("sensor", "title", "other"), [("s1", "Sentinel-1", "Sentinel-2"), ("s2", "Sentinel-2", "Sentinel-1")])
def test_description_and_card_speak_of_its_sensor(sensor, title, other, built, make):
    dataset = make(built, sensors=[sensor])
    description = mlcroissant.Dataset(str(dataset.root / "catalog" / "croissant.json")).metadata
    assert f" {title} patches of 1200 m" in description.description and other not in description.description
    said = json.loads((dataset.root / "catalog" / "croissant.json").read_text(encoding="utf-8"))["keywords"]
    assert title in said and other not in said
    text = (dataset.root / "catalog" / "card.md").read_text(encoding="utf-8")
    head = yaml.safe_load(text.split("---\n", 2)[1])
    assert title.lower() in head["tags"] and other.lower() not in head["tags"]
    assert f"| {title} | {', '.join(BANDS[sensor])} |" in text and f"| {other} |" not in text
    assert ("It holds no pixel of Sentinel-2" in text) == (sensor == "s1")
    assert (f"{len(kept(dataset))} patches have no Sentinel-1." in text) == (sensor == "s2")


def test_patches_with_the_same_radar_pixels_are_counted_in_card_and_report(radar, tmp_path):
    with open_source(radar) as source:
        index, patches = source.index.copy(), source.patches.copy()
        index.loc[0:2, "s1_key"] = index.loc[0, "s1_key"]
        patches.loc[0:2, "split"] = ["train", "test", "test"]
        text = card(replace(source, index=index, patches=patches))
        assert "repeat" not in card(source)
    assert "2 patches repeat the Sentinel-1 pixels of another" in text
    assert "1 Sentinel-1 picture lies in several splits" in text
    table = patch_table()  # two tiles of 54 places on two dates, of which 49 are kept on both
    table["s1_product"] = "S1A_IW_GRDH_1SDV_20220613T165043"
    shard = ShardFacts("radar", "lmdb", "none", patches=196, keys=392, bytes=1, raw_bytes=1, sensors=("s1",))
    words = Page(report(tmp_path, table, shards=[shard])).words
    assert "98 kept patches have the same Sentinel-1 pixels as another" in words


# --- texts ------------------------------------------------------------------------------------------------------


def test_facts_name_the_sensors_that_are_there_and_when_they_saw_the_patch(radar, optical, built):
    rows = kept(built).set_index("patch_id")
    for dataset, sensors in ((radar, ["s1"]), (optical, ["s2"]), (built, ["s2", "s1"])):
        for fact in read_table(dataset.facts, PatchFacts).itertuples():
            row = rows.loc[fact.patch_id]
            assert list(fact.sensors) == sensors
            assert fact.datetime == (_start(row["s1_product"]) if dataset is radar else row["datetime"])
            assert (fact.s1_name is None) == (dataset is optical)


def test_captions_of_radar_never_speak_of_the_optical_satellite(radar, built):
    texts = {name: pd.read_parquet(each.texts)["output"] for name, each in (("radar", radar), ("both", built))}
    assert texts["both"].str.contains("Sentinel-2").any() and texts["radar"].str.contains("Sentinel-1").any()
    assert not texts["radar"].str.contains("Sentinel-2").any()


def test_pictures_beside_texts_are_of_the_radar_where_nothing_else_is(radar, optical, tmp_path):
    patch = kept(radar).iloc[0]
    seen = {}
    for name, dataset in (("radar", radar), ("optical", optical)):
        steps.export_texts(dataset, "llava", tmp_path / name)
        content = (tmp_path / name / "images" / f"{patch['patch_id']}.png").read_bytes()
        seen[name] = np.asarray(Image.open(io.BytesIO(content)))
    with open_shard(radar.shards("lmdb")) as shard:
        vv = shard.read(twin(next(kept(radar).itertuples())))["VV"]
    assert np.array_equal(seen["radar"][..., 0], (np.clip((vv + 20) / 20, 0, 1) * 255).astype(np.uint8))  # -20 dB black, 0 dB full red
    assert seen["optical"].shape == (120, 120, 3) and not np.array_equal(seen["optical"], seen["radar"])


# --- what is made of the shard ------------------------------------------------------------------------------------


def test_a_network_learns_from_radar_alone_and_is_not_asked_for_what_is_not_there(radar, tmp_path):
    pytest.importorskip("torch")
    from rsdata.training import Normalisation, PatchDataset

    path = radar.shards("lmdb")
    with open_shard(path) as shard:
        dataset = PatchDataset(shard, "train", Normalisation(("VV", "VH"), (0.0, 0.0), (1.0, 1.0)))
        rows = kept(radar)
        assert dataset.patch_ids == rows.loc[rows["split"] == "train", "patch_id"].tolist()
        row = next(rows[rows["split"] == "train"].itertuples())
        assert np.array_equal(dataset[0][0].numpy(), np.stack([shard.read(twin(row))[name] for name in ("VV", "VH")]))
    options = Training(model="pixel-mil", epochs=1, input_px=12, batch_size=64, sensors=["s1"], baselines=False)
    steps.train_on_shard(path, tmp_path / "out", options)
    (metrics,) = (tmp_path / "out").rglob("metrics.json")
    assert json.loads(metrics.read_text(encoding="utf-8"))["bands"] == ["VH", "VV"]
    with pytest.raises(TrainingError, match=r"shard 'small' has no bands of s2; it has those of s1, so name these$"):
        steps.train_on_shard(path, tmp_path / "other", options.model_copy(update={"sensors": ["s2"]}))


def test_patches_of_radar_become_series_of_radar_and_a_subset_of_them_stays_whole(radar, tmp_path):
    rows = kept(radar).iloc[:3]
    manifest = repack([radar.shards("lmdb")], tmp_path / "three", format="zarr", keep=set(rows["patch_id"]))
    assert verify_shard(tmp_path / "three") == [] and manifest.keys == 6
    with open_shard(tmp_path / "three") as shard:
        series = series_of_patches(shard)
        assert (series.rows["s2_frames"].tolist(), series.rows["s1_frames"].tolist()) == ([0] * 3, [1] * 3)
        assert [time.to_pydatetime() for time in series.frames["time"]] == [_start(product) for product in rows["s1_product"]]
        for cube, row in zip(series.cubes(shard), sorted(rows.itertuples(), key=lambda row: (row.tile_id, row.col, row.row)), strict=True):
            assert list(cube.groups) == ["s1"]
            assert np.array_equal(cube.groups["s1"][0, 1], shard.read(twin(row))["VV"])


def test_two_datasets_differ_in_what_their_recipes_pack(radar, optical):
    found = steps.compare_datasets(radar, optical)
    assert "shards.sensors was ['s1'], and is ['s2']" in found.recipe


def test_clients_of_radar_have_radar(radar, tmp_path):
    steps.make_clients(radar.root, tmp_path / "clients.parquet", by="iid", clients=2)
    assert {tuple(each) for each in pd.read_parquet(tmp_path / "clients.parquet")["sensors"]} == {("s1",)}
    for by, asked in (("modality", []), ("iid", ["s1", "s2"])):
        with pytest.raises(SubsetError, match="the dataset holds s1 alone"):
            steps.make_clients(radar.root, tmp_path / "no.parquet", by=by, clients=2, modalities=asked)


# --- recipes ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def half(built, tmp_path_factory) -> Workspace:
    """Sentinel-2 alone of two scenes of which one has no Sentinel-1, and patches are kept without it."""
    folder = tmp_path_factory.mktemp("half")
    product = kept(built)["s1_product"].iloc[0]
    scenes = {
        "sentinel2": [str(built.inputs / "sentinel2" / "S2*.SAFE")],
        "sentinel1": [str(built.inputs / "sentinel1" / f"{product}*")],
        "require_s1": False,
    }
    said = {"name": "half", "scenes": scenes, "labels": {"path": str(built.inputs / "corine.gpkg")}, "shards": {"sensors": ["s2"]}}
    return run_steps(write_recipe(folder, said), folder / "out")[0]


def test_optical_patches_are_packed_whether_they_have_radar_or_not(half):
    table = kept(half)
    assert table["s1_product"].notna().any() and table["s1_product"].isna().any()
    with open_shard(half.shards("lmdb")) as shard:
        assert set(shard.keys()) == {*table["patch_id"], *(f"{each}_reference_map" for each in table["patch_id"])}
        assert {band.sensor for band in shard.manifest.bands} == {"s2", "reference_map"}
    assert steps.verify_dataset(half)[1] == []
    steps.write_report(load_recipe(half.recipe), half)
    assert "no Sentinel-1</div>" not in half.report.read_text(encoding="utf-8")


SYNTHETIC = {"name": "x", "synthetic": {"tiles": ["33UUP"], "dates": ["2023-04-18T10:00:31Z"]}}
SCENES = {"name": "x", "labels": {"path": "clc.gpkg"}}


@pytest.mark.parametrize(
    ("said", "finding"),
    [
        (SYNTHETIC | {"shards": {"sensors": ["s1", "s1"]}}, "`shards`: `sensors` names one twice: s1, s1"),
        (SYNTHETIC | {"shards": {"sensors": ["s3"]}}, "`shards.sensors.0`: Input should be 's2' or 's1'"),
        (
            SYNTHETIC | {"shards": {"sensors": ["s1"]}, "training": {"sensors": ["s1", "s2"]}},
            "`training` asks for s2, and `shards.sensors` packs s1 alone; change one of the two",
        ),
        (SYNTHETIC | {"shards": {"sensors": ["s1"]}, "training": {"bands": ["VV", "B8A"]}}, "`training` asks for s2"),
        (SYNTHETIC | {"shards": {"sensors": ["s2"]}, "training": {"task": "retrieval"}}, "`training` asks for s1"),
        (
            SYNTHETIC | {"shards": {"sensors": ["s2"]}, "training": {"task": "regression", "target": "VV"}},
            "`training` asks for s1, and `shards.sensors` packs s2 alone",
        ),
        (
            SCENES | {"scenes": {"sentinel2": ["S2*"], "sentinel1": ["S1*"], "require_s1": False}, "shards": {"sensors": ["s1"]}},
            "`shards.sensors` is s1 alone and `scenes.require_s1` is false, so patches would be without pixels",
        ),
        (SCENES | {"scenes": {"sentinel2": ["S2*"]}, "shards": {"sensors": ["s1"]}}, "`scenes.sentinel1` names no product"),
    ],
)
def test_what_cannot_be_packed_is_refused_before_any_work(said, finding, tmp_path):
    with pytest.raises(RecipeError) as caught:
        load_recipe(write_recipe(tmp_path, said))
    assert finding in str(caught.value)


def test_both_sensors_in_any_order_are_what_a_recipe_without_the_key_says():
    plain = Recipe.model_validate(SYNTHETIC)
    for sensors in (["s1", "s2"], ["s2", "s1"]):
        named = Recipe.model_validate(SYNTHETIC | {"shards": {"sensors": sensors}})
        assert (named.digest(), named.dataset_digest()) == (plain.digest(), plain.dataset_digest())
        assert named.model_dump() == plain.model_dump() and "sensors" not in named.model_dump()["shards"]
    before = json.dumps({"compression": "none", "format": "lmdb", "per_scene": False})  # what the part held before it had sensors
    assert Shards().digest() == hashlib.sha256(before.encode()).hexdigest()
    assert len({Recipe.model_validate(SYNTHETIC | {"shards": {"sensors": [each]}}).dataset_digest() for each in ("s1", "s2")}) == 2
    assert Shards.model_validate(Shards(sensors=["s1"]).model_dump()).sensors == ["s1"]
