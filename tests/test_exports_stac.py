"""STAC: the collection and its items are what other programs take for such, and lead to the shard's pixels."""

import io
import json
from dataclasses import replace
from pathlib import Path

import duckdb
import geopandas as gpd
import lmdb
import pyarrow.parquet as pq
import pystac
import pytest
import safetensors.numpy
import shapely
import stac_geoparquet.arrow
import stac_rules
import stac_schemas
from pystac.validation.stac_validator import JsonSchemaSTACValidator
from suites import ExportTests

from rsdata import catalog, steps
from rsdata.catalog.exports import EXPORTS
from rsdata.catalog.exports import stac as stac_export
from rsdata.grid import Tile
from rsdata.records import Manifest
from rsdata.steps.publishing import open_source
from rsdata.workspace import file_sha256, read_record

ROLES = {"s2": "feature", "s1": "feature", "reference_map": "label"}


class TestStac(ExportTests):
    form = "stac"
    has_pixels = False


@pytest.fixture(scope="module")
def folder(built) -> Path:
    """Where a build leaves its catalogue."""
    return built.root / "catalog"


@pytest.fixture(scope="module")
def items(folder) -> list[dict]:
    """All items as JSON, as stac-geoparquet reads them."""
    return list(stac_geoparquet.arrow.stac_table_to_items(pq.read_table(folder / "items.parquet")))


@pytest.fixture(scope="module")
def kept(built):
    table = catalog.read_patches(built.patches)
    return table[table["kept"]].set_index("patch_id")


def as_json(item: dict) -> dict:
    """What stac-geoparquet gives, as it would be written."""
    return json.loads(json.dumps(item, default=str))


def validate_core(entity: dict, kind: pystac.STACObjectType) -> None:
    """By the schemas that come with pystac; it has none of the extensions'."""
    JsonSchemaSTACValidator().validate_core(entity, kind, "1.1.0")


def test_every_item_is_valid_stac_by_the_schemas_in_pystac(items):
    for item in items:
        validate_core(item, pystac.STACObjectType.ITEM)
    with pytest.raises(pystac.STACValidationError):
        validate_core(items[0] | {"stac_version": "1.0.9"}, pystac.STACObjectType.ITEM)


def test_the_collection_is_valid_stac_by_the_schemas_in_pystac(folder):
    collection = json.loads((folder / "collection.json").read_text(encoding="utf-8"))
    validate_core(collection, pystac.STACObjectType.COLLECTION)
    assert pystac.Collection.from_file(folder / "collection.json").id == "small"


def test_items_and_collection_keep_to_the_rules_of_their_extensions(folder, items):
    collection = json.loads((folder / "collection.json").read_text(encoding="utf-8"))
    assert [finding for entity in (collection, *items) for finding in stac_rules.findings(entity)] == []


@pytest.fixture(scope="module")
def schemas() -> Path:
    """Where the published schemas of the extensions lie."""
    folder = stac_schemas.folder()
    if folder is None:
        pytest.skip(f"{stac_schemas.FOLDER} names no folder of schemas; see tests/stac_schemas.py")
    return folder


def test_items_and_collection_are_valid_by_the_published_schemas_of_their_extensions(folder, items, schemas):
    collection = json.loads((folder / "collection.json").read_text(encoding="utf-8"))
    entities = [collection, *map(as_json, items)]
    assert [finding for entity in entities for finding in stac_schemas.findings(schemas, entity)] == []


def test_every_extension_is_in_the_collection_and_an_item_states_those_it_has_fields_of(folder, items):
    collection = json.loads((folder / "collection.json").read_text(encoding="utf-8"))
    assert collection["stac_extensions"] == list(stac_export.EXTENSIONS.values())
    named = [stac_export.EXTENSIONS[name] for name in ("projection", "eo", "processing", "sar", "ml-aoi")]
    assert all(item["stac_extensions"] == named for item in items)


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (lambda item: item["properties"].update({"eo:cloud_cover": 101}), "101 is greater than the maximum"),
        (lambda item: item["properties"].update({"proj:epsg": 32633}), "projection/v2.0.0 has no field proj:epsg"),
        (lambda item: item["assets"]["s1"].update({"sar:frequency_band": "5.4"}), "'5.4' is not one of"),
        (lambda item: item["assets"]["s2"].update({"ml-aoi:role": "data"}), "'data' is not one of"),
    ],
)
def test_the_rules_and_the_published_schemas_find_what_breaks_them(items, change, finding):
    item = as_json(items[0])
    change(item)
    assert any(finding in each for each in stac_rules.findings(item))
    if stac_schemas.folder():
        assert stac_schemas.findings(stac_schemas.folder(), item)


def test_the_rules_find_a_field_of_an_extension_that_is_not_stated(folder, items):
    item = as_json(items[0]) | {"stac_extensions": []}
    assert "properties: eo:cloud_cover is used without eo/v2.0.0" in stac_rules.findings(item)
    collection = json.loads((folder / "collection.json").read_text(encoding="utf-8")) | {"stac_extensions": []}
    assert "summaries: proj:code is used without projection/v2.0.0" in stac_rules.findings(collection)


def test_schemas_are_read_from_a_folder_laid_out_as_their_addresses(tmp_path, items):
    """Two of our own: the first refers to the second, which refuses any cloud."""
    clouds, clear = (f"https://example.org/{name}/v1.0.0/schema.json" for name in ("clouds", "clear"))
    for url, rules in ((clouds, {"$ref": f"{clear}#"}), (clear, {"properties": {"eo:cloud_cover": {"maximum": -1}}})):
        path = stac_schemas.path_of(tmp_path, url)
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"properties": {"properties": rules}} if url == clouds else rules), encoding="utf-8")
    item = as_json(items[0]) | {"stac_extensions": [clouds]}
    (finding,) = stac_schemas.findings(tmp_path, item)
    assert finding.startswith(f"{clouds}: $.properties['eo:cloud_cover'] ") and "greater than the maximum of -1" in finding
    with pytest.raises(FileNotFoundError, match="clouds/v2.0.0"):
        stac_schemas.findings(tmp_path, item | {"stac_extensions": [clouds.replace("v1", "v2")]})


def test_schemas_are_fetched_once_with_what_they_refer_to(tmp_path, monkeypatch):
    first, second = "https://example.org/first/v1.0.0/schema.json", "https://example.org/second.json"
    draft = "http://json-schema.org/draft-07/schema#"
    served = {first: {"$schema": draft, "allOf": [{"$ref": f"{second}#/a"}, {"$ref": "#/b"}, {"$ref": draft}]}, second: {"a": {}}}
    asked = []

    def answer(url, timeout):
        asked.append(url)
        return io.BytesIO(json.dumps(served[url]).encode())

    monkeypatch.setattr(stac_schemas, "EXTENSIONS", {"first": first})
    monkeypatch.setattr(stac_schemas.urllib.request, "urlopen", answer)
    assert [stac_schemas.fetch(tmp_path), stac_schemas.fetch(tmp_path)] == [2, 2]
    assert asked == [first, second]
    assert stac_schemas.read(tmp_path, second) == {"a": {}}


def test_items_are_the_kept_patches_with_their_places_times_and_splits(items, kept):
    assert [item["id"] for item in items] == sorted(kept.index)
    words = {"train": "train", "validation": "validate", "test": "test"}
    for item in items:
        row = kept.loc[item["id"]]
        assert item["properties"]["ml-aoi:split"] == words[row["split"]]
        assert item["properties"]["rsdata:labels"] == row["labels"]
        assert {name: asset["ml-aoi:role"] for name, asset in item["assets"].items()} == ROLES
        assert pystac.Item.from_dict(item).datetime == row["datetime"].to_pydatetime()
        assert shapely.geometry.shape(item["geometry"]).equals(row["geometry"])


def test_the_projected_box_of_a_patch_is_its_1200_m_square(items, kept):
    item = items[0]
    left, top = float(kept.loc[item["id"], "ul_x_m"]), float(kept.loc[item["id"], "ul_y_m"])
    assert item["properties"]["proj:code"] == f"EPSG:{Tile.from_name(kept.loc[item['id'], 'tile_id']).epsg}"
    assert item["properties"]["proj:bbox"] == [left, top - 1200, left + 1200, top]
    assert item["properties"]["proj:transform"] == [10, 0, left, 0, -10, top]
    assert item["properties"]["proj:shape"] == [120, 120]


def test_an_asset_leads_to_the_pixels_in_the_shard(items, folder):
    asset = items[3]["assets"]["s2"]
    database = (folder / asset["href"]).resolve()
    with lmdb.open(str(database.parent), readonly=True, lock=False) as shard, shard.begin() as transaction:
        bands = safetensors.numpy.load(transaction.get(asset["rsdata:key"].encode()))
    assert set(bands) == {"B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"}
    assert bands["B02"].shape == (120, 120)


def test_stacs_scale_and_offset_give_the_reflectance_of_the_manifest(folder, built):
    collection = json.loads((folder / "collection.json").read_text(encoding="utf-8"))
    bands = {band["name"]: band for band in collection["item_assets"]["s2"]["bands"]}
    with open_source(built) as source:
        for band in source.manifest.bands:
            if band.sensor == "s2":
                (offset,) = band.offset
                stated = bands[band.name]
                assert 2345 * stated["raster:scale"] + stated["raster:offset"] == pytest.approx((2345 + offset) * band.scale)
    assert bands["B8A"]["eo:common_name"] == "nir08" and bands["B8A"]["eo:center_wavelength"] == 0.8647


def test_every_code_of_the_reference_map_has_a_class(folder):
    collection = json.loads((folder / "collection.json").read_text(encoding="utf-8"))
    classes = {each["value"]: each["title"] for each in collection["item_assets"]["reference_map"]["classification:classes"]}
    assert classes[312] == "Coniferous forest" and classes[999] == "no class"
    assert len(classes) == 44 + 1  # CORINE's classes, and area without a polygon


def test_checksums_of_the_collection_are_those_of_the_files(folder):
    collection = json.loads((folder / "collection.json").read_text(encoding="utf-8"))
    assert "patches.parquet" in collection["assets"]
    for asset in collection["assets"].values():
        file = folder / asset["href"]
        assert asset["file:checksum"] == "1220" + file_sha256(file)
        assert asset["file:size"] == file.stat().st_size


def test_geopandas_and_duckdb_read_the_items(folder, kept):
    frame = gpd.read_parquet(folder / "items.parquet")
    assert frame.crs.to_epsg() == 4326 and len(frame) == len(kept)
    found = duckdb.sql(f"select id from '{folder / 'items.parquet'}' where \"ml-aoi:split\" = 'test' order by id").fetchall()
    assert [patch_id for (patch_id,) in found] == sorted(kept.index[kept["split"] == "test"])


def test_a_patch_without_sentinel1_has_no_such_asset_and_no_such_extension(built, tmp_path):
    with open_source(built) as source:
        index, patches = source.index.copy(), source.patches.copy()
        index.loc[0, "s1_key"] = patches.loc[0, "s1_product"] = None
        stac_export.write_items(tmp_path / "items.parquet", replace(source, index=index, patches=patches), "..")
    first, second, *_ = stac_geoparquet.arrow.stac_table_to_items(pq.read_table(tmp_path / "items.parquet"))
    assert set(first["assets"]) == {"s2", "reference_map"} and set(second["assets"]) == {"s2", "s1", "reference_map"}
    assert stac_rules.findings(first) == stac_rules.findings(second) == []


def test_a_patch_without_a_split_does_not_state_the_extension_that_splits_are_of(built, tmp_path):
    with open_source(built) as source:
        patches = source.patches.copy()
        patches.loc[0, "split"] = None
        stac_export.write_items(tmp_path / "items.parquet", replace(source, patches=patches), "..")
    first, second, *_ = map(as_json, stac_geoparquet.arrow.stac_table_to_items(pq.read_table(tmp_path / "items.parquet")))
    assert {url.split("/")[3] for url in second["stac_extensions"]} - {url.split("/")[3] for url in first["stac_extensions"]} == {"ml-aoi"}
    for item in (first, second):
        assert stac_rules.findings(item) == []
        assert not stac_schemas.folder() or stac_schemas.findings(stac_schemas.folder(), item) == []


def test_the_catalogue_of_a_build_is_in_its_manifest(built):
    outputs = {item.path for item in read_record(built.manifest, Manifest).outputs}
    assert {f"catalog/{name}" for name in ("items.parquet", "collection.json", "croissant.json", "card.md")} <= outputs


def test_an_export_points_back_into_the_dataset(built, tmp_path):
    steps.export_dataset(built, "stac", tmp_path / "out")
    (item, *_) = stac_geoparquet.arrow.stac_table_to_items(pq.read_table(tmp_path / "out" / "items.parquet"))
    assert (tmp_path / "out" / item["assets"]["s2"]["href"]).resolve() == built.root / "shards" / "lmdb" / "data.mdb"
    assert "stac" in EXPORTS
