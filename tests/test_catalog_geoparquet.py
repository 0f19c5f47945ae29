"""Tables keep what they were given, and other GeoParquet readers understand them."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from pandas.testing import assert_frame_equal
from suites import facts

from rsdata.catalog import geoparquet
from rsdata.errors import CatalogError
from rsdata.grid import Tile, corners, footprints
from rsdata.records import Failure, PatchFacts, PatchRow, arrow_schema

SCENE = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP"


@pytest.fixture
def metadata_3tiles() -> Path:
    path = Path(__file__).parents[2] / "shared" / "data" / "bigearthnet_v2" / "metadata_sample" / "metadata_3tiles.parquet"
    if not path.exists():
        pytest.skip("the published BigEarthNet v2 metadata is not at ../shared/data")
    return path


def patch_table(side: int = 3) -> gpd.GeoDataFrame:
    """A square of ``side`` x ``side`` patches in the corner of tile 33UUP; every third has no Sentinel-1 and is dropped."""
    tile = Tile.from_name("33UUP")
    row, col = (axis.ravel() for axis in np.meshgrid(np.arange(side), np.arange(side), indexing="ij"))
    ul_x_m, ul_y_m = corners(tile, col, row)
    dropped = np.arange(side * side) % 3 == 2
    rows = {
        "patch_id": [f"{SCENE}_{c:02d}_{r:02d}" for c, r in zip(col, row, strict=True)],
        "tile_id": tile.name,
        "s2_product": f"{SCENE}_20200827T101031",
        "s1_product": [None if gone else "S1A_IW_GRDH_1SDV_20170613T165043_20170613T165108_017014_01C595_B2A5" for gone in dropped],
        "col": col,
        "row": row,
        "epsg": tile.epsg,
        "ul_x_m": ul_x_m,
        "ul_y_m": ul_y_m,
        "datetime": datetime(2017, 6, 13, 10, 10, 31, tzinfo=UTC),
        "season": "summer",
        "country": ["Austria" if c else None for c in col],
        "labels": [["Arable land", "Pastures"] if c else [] for c in col],
        "label_fractions": [{"Pastures": 0.25, "Arable land": 0.5} if c else {} for c in col],
        "unlabeled_fraction": np.where(col > 0, 0.25, 1.0),
        "nodata_fraction": 0.0,
        "cloud_fraction": 0.125,
        "shadow_fraction": 0.0,
        "snow_fraction": 0.0,
        "contains_cloud_or_shadow": True,
        "contains_seasonal_snow": False,
        "s1_time_gap_h": np.where(dropped, np.nan, 6.5),
        "split": [None if gone else "train" for gone in dropped],
        "kept": ~dropped,
        "drop_reason": ["no_s1" if gone else None for gone in dropped],
    }
    return gpd.GeoDataFrame(rows, geometry=footprints(ul_x_m, ul_y_m, tile.epsg), crs=4326)


def geo_of(path: Path) -> dict:
    return json.loads(pq.read_schema(path).metadata[b"geo"])


def test_patches_come_back_as_they_were(tmp_path):
    patches = patch_table()
    geoparquet.write_patches(tmp_path / "p.parquet", patches)
    back = geoparquet.read_patches(tmp_path / "p.parquet")
    texts = patches.select_dtypes("str").columns
    expected = patches.assign(**{name: patches[name].astype(object).where(patches[name].notna(), None) for name in texts})
    assert_frame_equal(pd.DataFrame(back), pd.DataFrame(expected), check_dtype=False)
    assert back.crs.to_epsg() == 4326
    assert back["label_fractions"][1] == {"Arable land": 0.5, "Pastures": 0.25}
    assert back["labels"][1] == ["Arable land", "Pastures"] and back["labels"][0] == []
    assert back["country"][0] is None and back["drop_reason"][0] is None and back["s1_product"][2] is None
    assert back["datetime"][0] == pd.Timestamp("2017-06-13T10:10:31Z") and str(back["datetime"].dt.tz) == "UTC"
    assert back["kept"].dtype == bool and back["col"].dtype == np.int64 and np.isnan(back["s1_time_gap_h"][2])
    geoparquet.write_patches(tmp_path / "again.parquet", back)
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "p.parquet").read_bytes()


def test_rows_that_were_read_are_valid_records(tmp_path):
    geoparquet.write_patches(tmp_path / "p.parquet", patch_table())
    back = geoparquet.read_patches(tmp_path / "p.parquet")
    bounds = back.bounds.rename(columns={"minx": "xmin", "miny": "ymin", "maxx": "xmax", "maxy": "ymax"})
    for values, box in zip(back.drop(columns="geometry").to_dict("records"), bounds.to_dict("records"), strict=True):
        PatchRow.model_validate(values | {"bbox": box})


def test_columns_are_those_of_the_record_with_the_geometry_before_the_box(tmp_path):
    geoparquet.write_patches(tmp_path / "p.parquet", patch_table())
    schema = pq.read_schema(tmp_path / "p.parquet")
    fields = [name for name in PatchRow.model_fields if name != "bbox"]
    assert schema.names == [*fields, "geometry", "bbox"]
    for field in arrow_schema(PatchRow):
        assert schema.field(field.name).type.equals(field.type) and schema.field(field.name).nullable == field.nullable


def test_file_metadata_holds_what_geoparquet_1_1_requires(tmp_path):
    """By hand from the specification; the keys a schema would check, and that they agree with the file."""
    patches = patch_table()
    geoparquet.write_patches(tmp_path / "p.parquet", patches)
    geo, schema = geo_of(tmp_path / "p.parquet"), pq.read_schema(tmp_path / "p.parquet")
    assert geo["version"] == "1.1.0" and geo["primary_column"] == "geometry" and list(geo["columns"]) == ["geometry"]
    column = geo["columns"]["geometry"]
    assert set(column) <= {"encoding", "geometry_types", "crs", "edges", "orientation", "bbox", "epoch", "covering"}
    assert column["encoding"] == "WKB" and column["geometry_types"] == ["Polygon"] and column["edges"] == "planar"
    assert column["crs"]["type"] == "GeographicCRS" and column["crs"]["id"] == {"authority": "EPSG", "code": 4326}
    assert column["bbox"] == pytest.approx(patches.total_bounds.tolist())
    assert column["covering"] == {"bbox": {edge: ["bbox", edge] for edge in ("xmin", "ymin", "xmax", "ymax")}}
    assert schema.field("geometry").type == pa.binary()  # BYTE_ARRAY at the root of the schema
    assert pa.types.is_struct(schema.field("bbox").type)
    group = pq.read_metadata(tmp_path / "p.parquet")
    assert group.row_group(0).column(0).compression == "ZSTD" and set(group.metadata) == {b"geo"}


def test_boxes_cover_their_footprints(tmp_path):
    patches = patch_table()
    geoparquet.write_patches(tmp_path / "p.parquet", patches.assign(bbox=None))
    boxes = pd.DataFrame(pq.read_table(tmp_path / "p.parquet")["bbox"].to_pylist())
    assert np.array_equal(boxes[["xmin", "ymin", "xmax", "ymax"]], patches.bounds)


def test_geopandas_reads_the_footprints(tmp_path):
    patches = patch_table()
    geoparquet.write_patches(tmp_path / "p.parquet", patches)
    other = gpd.read_parquet(tmp_path / "p.parquet")
    assert other.crs.to_epsg() == 4326 and other.geom_equals(patches.geometry).all()
    assert list(other["labels"][1]) == ["Arable land", "Pastures"]


def test_a_box_filter_returns_the_patches_it_meets(tmp_path, monkeypatch):
    monkeypatch.setattr(geoparquet, "ROWS_PER_GROUP", 2)  # so that whole groups can be skipped
    patches = patch_table()
    geoparquet.write_patches(tmp_path / "p.parquet", patches)
    x, y = patches.geometry[4].centroid.coords[0]  # the middle of three by three
    found = gpd.read_parquet(tmp_path / "p.parquet", bbox=(x - 1e-4, y - 1e-4, x + 1e-4, y + 1e-4))
    assert found["patch_id"].to_list() == [f"{SCENE}_01_01"]
    east = gpd.read_parquet(tmp_path / "p.parquet", bbox=(x - 1e-4, y - 1, x + 1, y + 1))
    assert sorted(east["col"].unique()) == [1, 2] and len(east) == 6


def test_two_writes_give_the_same_bytes(tmp_path):
    patches = patch_table()
    other = patches.copy()
    other["label_fractions"] = [dict(reversed(shares.items())) for shares in other["label_fractions"]]
    other["datetime"] = other["datetime"].astype("datetime64[ns, UTC]").dt.tz_convert("Europe/Vienna")
    other.index = range(100, 100 + len(other))
    geoparquet.write_patches(tmp_path / "a.parquet", patches)
    geoparquet.write_patches(tmp_path / "b.parquet", other[list(reversed(other.columns))])
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_an_empty_patch_table_is_still_geoparquet(tmp_path):
    geoparquet.write_patches(tmp_path / "p.parquet", patch_table().iloc[:0])
    assert len(geoparquet.read_patches(tmp_path / "p.parquet")) == 0
    assert len(gpd.read_parquet(tmp_path / "p.parquet")) == 0
    assert geo_of(tmp_path / "p.parquet")["columns"]["geometry"]["geometry_types"] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.drop(columns="season"), "lacks `season`"),
        (lambda p: p.assign(colour="red"), "has `colour` that nobody knows"),
        (lambda p: p.assign(season=None), "`season` of PatchRow has no value in 9 rows, the first is patch " + SCENE + "_00_00"),
        (lambda p: p.assign(col="east"), "`col` of PatchRow cannot be written as int64"),
        (lambda p: p.assign(col=0.5), "`col` of PatchRow cannot be written as int64"),
        (lambda p: p.assign(labels="Pastures"), "`labels` of PatchRow cannot be written"),
        (lambda p: p.assign(datetime=datetime(2017, 6, 13)), "expected UTC"),
        (lambda p: p.assign(patch_id=f"{SCENE}_00_00"), "more than once"),
        (lambda p: p.to_crs(32633), "expected longitude and latitude, EPSG:4326"),
        (lambda p: p.set_geometry(p.geometry.boundary), "no polygon as footprint"),
    ],
)
def test_a_wrong_patch_table_is_refused_in_words(tmp_path, change, message):
    with pytest.raises(CatalogError, match=re.escape(message)):
        geoparquet.write_patches(tmp_path / "p.parquet", change(patch_table()))
    assert not (tmp_path / "p.parquet").exists()


def test_plain_rows_come_back_as_they_were(tmp_path):
    rows = pd.DataFrame({"stage": "labels", "unit": ["a", "b"], "error": "LabelError", "message": ["No fields.", "“Wälder”, <b>."]})
    geoparquet.write_rows(tmp_path / "t.parquet", rows[["message", "error", "unit", "stage"]], Failure)
    assert_frame_equal(geoparquet.read_table(tmp_path / "t.parquet", Failure), rows, check_dtype=False)
    assert pq.read_schema(tmp_path / "t.parquet").metadata is None


def test_nested_records_come_back_as_dicts(tmp_path):
    meadow = facts({"Pastures": 0.75}, country=None)
    for rows in (pd.DataFrame([meadow.model_dump()]), pd.DataFrame([dict(meadow)])):
        geoparquet.write_rows(tmp_path / "f.parquet", rows, PatchFacts)
        back = geoparquet.read_table(tmp_path / "f.parquet", PatchFacts)
        assert PatchFacts.model_validate(back.to_dict("records")[0]) == meadow


def test_files_that_are_no_such_table_are_refused_in_words(tmp_path):
    texts = pd.DataFrame({"patch_id": ["a"], "text": ["Fields."]})
    texts.to_parquet(tmp_path / "t.parquet")
    (tmp_path / "no.parquet").write_text("patch_id,text")
    with pytest.raises(CatalogError, match="lacks the columns `stage`, `unit`, `error`, `message` of a Failure table"):
        geoparquet.read_table(tmp_path / "t.parquet", Failure)
    with pytest.raises(CatalogError, match="has no column `geometry`"):
        geoparquet.read_patches(tmp_path / "t.parquet")
    for read in (geoparquet.read_patches, geoparquet.read_patch_ids):
        with pytest.raises(CatalogError, match=r"no\.parquet cannot be read as Parquet"):
            read(tmp_path / "no.parquet")
        with pytest.raises(CatalogError, match="does not exist"):
            read(tmp_path / "absent.parquet")
    texts.rename(columns={"patch_id": "name"}).to_parquet(tmp_path / "n.parquet")
    with pytest.raises(CatalogError, match="has no column `patch_id`, only `name`, `text`"):
        geoparquet.read_patch_ids(tmp_path / "n.parquet")
    texts.assign(patch_id=1).to_parquet(tmp_path / "i.parquet")
    with pytest.raises(CatalogError, match="`patch_id` is int64"):
        geoparquet.read_patch_ids(tmp_path / "i.parquet")


def test_a_table_cut_short_is_refused(tmp_path):
    geoparquet.write_patches(tmp_path / "p.parquet", patch_table())
    whole = (tmp_path / "p.parquet").read_bytes()
    (tmp_path / "p.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CatalogError, match="cannot be read as Parquet"):
        geoparquet.read_patches(tmp_path / "p.parquet")


def test_a_column_of_another_type_is_refused(tmp_path):
    pd.DataFrame({"stage": ["a"], "unit": [1], "error": ["x"], "message": ["0"]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(CatalogError, match="column `unit` is int64, expected string"):
        geoparquet.read_table(tmp_path / "t.parquet", Failure)


def test_a_patch_table_can_be_read_by_its_ids(tmp_path):
    patches = patch_table()
    geoparquet.write_patches(tmp_path / "p.parquet", patches)
    table = geoparquet.read_patch_ids(tmp_path / "p.parquet")
    assert isinstance(table, gpd.GeoDataFrame) and "bbox" not in table
    geoparquet.write_patches(tmp_path / "q.parquet", table)  # so a split can be assigned and written back
    assert (tmp_path / "q.parquet").read_bytes() == (tmp_path / "p.parquet").read_bytes()


def test_a_table_of_ids_is_written_with_the_columns_it_has(tmp_path):
    patches = patch_table()
    geoparquet.write_patches(tmp_path / "p.parquet", patches)
    geoparquet.write_patch_ids(tmp_path / "q.parquet", geoparquet.read_patch_ids(tmp_path / "p.parquet"))
    assert (tmp_path / "q.parquet").read_bytes() == (tmp_path / "p.parquet").read_bytes()
    table = pd.DataFrame(patches[["patch_id", "labels", "label_fractions", "country"]])
    geoparquet.write_patch_ids(tmp_path / "t.parquet", table)
    back = geoparquet.read_patch_ids(tmp_path / "t.parquet")
    assert back["label_fractions"].to_list() == table["label_fractions"].to_list() and back["country"][0] is None
    geoparquet.write_patch_ids(tmp_path / "g.parquet", patches[["patch_id", "geometry"]])
    assert geoparquet.read_patch_ids(tmp_path / "g.parquet").geom_equals(patches.geometry).all()
    with pytest.raises(CatalogError, match="column `country` cannot be written"):
        geoparquet.write_patch_ids(tmp_path / "t.parquet", table.assign(country=[[1], "a"] + [None] * 7))


def test_published_columns_are_the_eight_of_the_kept_patches(tmp_path):
    rows = geoparquet.published_columns(patch_table())
    assert list(rows.columns) == [
        "patch_id", "labels", "split", "country", "s1_name", "s2v1_name", "contains_seasonal_snow", "contains_cloud_or_shadow"
    ]  # fmt: skip
    assert len(rows) == 6 and rows["s2v1_name"].isna().all()
    assert rows["patch_id"][1] == f"{SCENE}_01_00" and rows["s1_name"][1] == "S1A_IW_GRDH_1SDV_20170613T165043_33UUP_1_0"


def test_the_published_metadata_is_read_as_it_is(metadata_3tiles, tmp_path):
    table = geoparquet.read_patch_ids(metadata_3tiles)
    assert len(table) == 13635 and list(table.columns) == list(geoparquet.PUBLISHED_SCHEMA.names)
    assert table["labels"][0] == ["Arable land", "Broad-leaved forest", "Mixed forest", "Pastures"]
    assert table["contains_seasonal_snow"].dtype == bool
    geoparquet.write_published(tmp_path / "ours.parquet", patch_table())
    published, ours = pq.read_schema(metadata_3tiles), pq.read_schema(tmp_path / "ours.parquet")
    for name in published.names:
        kind = published.field(name).type
        assert ours.field(name).type == (pa.string() if kind == pa.large_string() else kind)


def test_times_between_zones_keep_their_instant(tmp_path):
    patches = patch_table()
    patches["datetime"] = [datetime(2017, 6, 13, 10, 10, 31, tzinfo=UTC) + timedelta(minutes=n) for n in range(len(patches))]
    patches["datetime"] = patches["datetime"].astype(object)
    geoparquet.write_patches(tmp_path / "p.parquet", patches)
    assert geoparquet.read_patches(tmp_path / "p.parquet")["datetime"][8] == pd.Timestamp("2017-06-13T10:18:31Z")


def test_footprints_are_stored_longitude_first(tmp_path):
    geoparquet.write_patches(tmp_path / "p.parquet", patch_table())
    first = shapely.from_wkb(pq.read_table(tmp_path / "p.parquet")["geometry"][0].as_py())
    assert 12 < first.centroid.x < 13 and 48 < first.centroid.y < 49
