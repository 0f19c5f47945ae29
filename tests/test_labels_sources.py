"""Every label source against the family's suite, and what only one format or source has to do."""

import shutil
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.windows import Window
from suites import AROUND, GROUND, LabelSourceTests, polygon_halves, raster_halves

from rsdata.errors import LabelError
from rsdata.labels import Area, label_source, load_nomenclature
from rsdata.labels.layer import files_of
from rsdata.recipe import Labels

CLC = load_nomenclature("bigearthnet-19")
LANDUSE = "code,index,name,color,values\n1,0,Forest,#00a600,forest|wood\n2,1,Built,#ff0000,residential\n3,,Grass,#e6e64d,meadow\n"
TEN_M = Affine(10, 0, GROUND.left_m, 0, -10, GROUND.top_m)


def read(path: Path, area: Area = GROUND, **said: object):
    return label_source("corine").read(path, area, CLC, Labels.model_validate(said))


class TestCorine(LabelSourceTests):
    source, west, east = "corine", 112, 523

    def write(self, folder):
        return polygon_halves(folder / "clc.gpkg", "Code_18", "112", "523")


class TestCorineRasterCodes(LabelSourceTests):
    source, west, east, pixel_m = "corine-raster", 112, 523, 100

    def write(self, folder):
        return raster_halves(folder / "clc.tif", 112, 523, pixel=100, dtype="int16")


class TestCorineGridCodes(LabelSourceTests):
    source, west, east, pixel_m = "corine-raster", 112, 523, 25

    def write(self, folder):
        return raster_halves(folder / "clc.tif", 2, 44, pixel=25, crs=3857)


class TestWorldCover(LabelSourceTests):
    source, west, east, pixel_m = "worldcover", 10, 80, 10

    def write(self, folder):
        return raster_halves(folder / "ESA_WorldCover_10m_2021_v200_N45E015_Map.tif", 10, 80, pixel=1 / 12_000, crs=4326)


class TestPolygons(LabelSourceTests):
    source, west, east, said = "polygons", 1, 2, {"code_column": "landuse"}

    def write(self, folder):
        return polygon_halves(folder / "osm.gpkg", "landuse", "wood", "residential", crs=4326)

    def nomenclature(self, folder):
        (folder / "landuse.csv").write_text(LANDUSE)
        return load_nomenclature(folder / "landuse.csv")


@pytest.mark.parametrize("format", ["gpkg", "parquet", "bbox.parquet", "shp", "shp.zip", "gdb", "fgb", "geojson"])
def test_corine_is_read_from_every_vector_format_alike(tmp_path, format):
    path = tmp_path / f"clc.{format}"
    plain = polygon_halves(tmp_path / "plain.gpkg", "Code_18", "112", "523")
    table = gpd.read_file(plain)
    if format == "bbox.parquet":
        table.to_parquet(path, write_covering_bbox=True, schema_version="1.1.0")
    elif format == "parquet":
        table.to_parquet(path)
    elif format == "shp.zip":
        table.to_file(tmp_path / "clc.shp")
        (tmp_path / "zipped").mkdir()
        for part in tmp_path.glob("clc.*"):
            part.rename(tmp_path / "zipped" / part.name)
        path = Path(shutil.make_archive(str(tmp_path / "clc"), "zip", tmp_path / "zipped"))
    else:
        table.to_file(path, driver={"gdb": "OpenFileGDB"}.get(format), **({"layer": "clc"} if format == "gdb" else {}))
    codes = read(path).rasterize(TEN_M, (240, 240))
    assert (codes[:, :120] == 112).all()
    assert (codes[:, 120:] == 523).all()
    assert all(file.is_file() for file in label_source("corine").files(path, GROUND))


@pytest.mark.parametrize("crs", [4326, 25833, 3857, 3042, 3035, 31467])
def test_polygons_come_to_the_same_place_whatever_order_their_crs_gives_its_axes(tmp_path, crs):
    """EPSG:3042, 3035, 4326 and 31467 put north first; files hold east first all the same."""
    for suffix in ("gpkg", "parquet"):
        codes = read(polygon_halves(tmp_path / f"clc.{suffix}", "Code_18", "112", "523", crs)).rasterize(TEN_M, (240, 240))
        assert (codes[:, :120] == 112).all()
        assert (codes[:, 120:] == 523).all()
        assert set(np.unique(codes)) == {112, 523}
        (tmp_path / f"clc.{suffix}").unlink()


def test_a_raster_whose_crs_puts_north_first_comes_to_the_same_place(tmp_path):
    path = raster_halves(tmp_path / "clc.tif", 112, 523, pixel=10, crs=3045, dtype="int16")  # UTM 33 with its axes swapped
    codes = label_source("corine-raster").read(path, GROUND, CLC, Labels()).rasterize(TEN_M, (240, 240))
    assert (codes[:, :120] == 112).all()
    assert (codes[:, 120:] == 523).all()


@pytest.mark.parametrize("column", ["Code_18", "CODE_18", "code_18", "CLC18", "CODE_12", "clc_code"])
def test_the_code_column_is_found_by_its_usual_names(tmp_path, column):
    assert read(polygon_halves(tmp_path / "clc.gpkg", column, "112", "523")).codes.tolist() == [112, 523]


def test_codes_may_be_text_or_numbers(tmp_path):
    assert read(polygon_halves(tmp_path / "clc.gpkg", "Code_18", 112, 523)).codes.tolist() == [112, 523]
    assert read(polygon_halves(tmp_path / "clc2.gpkg", "Code_18", 112.0, 523.0)).codes.tolist() == [112, 523]


def test_a_layer_without_a_code_column_is_refused_and_its_columns_named(tmp_path):
    path = polygon_halves(tmp_path / "clc.gpkg", "landuse", "112", "523")
    with pytest.raises(LabelError, match=r"no column with class codes, only landuse; expected one such as Code_18"):
        read(path)
    with pytest.raises(LabelError, match=r"no column clc, only landuse"):
        read(path, code_column="clc")
    assert read(path, code_column="landuse").codes.tolist() == [112, 523]


def test_an_unknown_code_is_refused_and_named(tmp_path):
    with pytest.raises(LabelError, match=r"column Code_18 holds 777; expected the 44 codes"):
        read(polygon_halves(tmp_path / "clc.gpkg", "Code_18", "112", "777"))


def test_files_that_are_no_layers_are_refused(tmp_path):
    for name, finding in {"notes.gpkg": "cannot be opened as vectors", "notes.parquet": "cannot be opened as Parquet"}.items():
        (tmp_path / name).write_text("no vectors here")
        with pytest.raises(LabelError, match=finding):
            read(tmp_path / name)
    pd.DataFrame({"Code_18": ["112"]}).to_parquet(tmp_path / "plain.parquet")
    with pytest.raises(LabelError, match="without the metadata of GeoParquet"):
        read(tmp_path / "plain.parquet")


def test_a_layer_without_a_crs_is_refused(tmp_path):
    for name in ("clc.gpkg", "clc.parquet"):
        table = gpd.GeoDataFrame({"Code_18": ["112"]}, geometry=[shapely.box(*GROUND.bounds)])
        table.to_parquet(tmp_path / name) if name.endswith("parquet") else table.to_file(tmp_path / name)
        with pytest.raises(LabelError, match="does not state its CRS"):
            read(tmp_path / name)


def test_points_and_lines_beside_polygons_are_left_out_and_counted(tmp_path):
    shapes = [
        shapely.box(*GROUND.bounds),
        shapely.Point(500_600, 5_301_200),
        shapely.LineString([(500_000, 5_300_000), (502_400, 5_302_400)]),
    ]
    gpd.GeoDataFrame({"Code_18": ["112", "523", "523"]}, geometry=shapes, crs=32633).to_file(tmp_path / "clc.gpkg")
    layer = read(tmp_path / "clc.gpkg")
    assert layer.counts == {"polygons": 1, "repaired": 0, "not polygons": 2}
    assert (layer.rasterize(TEN_M, (240, 240)) == 112).all()


def test_of_overlapping_polygons_the_later_in_the_file_wins_whatever_the_format(tmp_path):
    """A spatial index returns features in its own order; a large polygon in the middle of many small ones would show it."""
    rng = np.random.default_rng(3)
    left, bottom = rng.uniform(GROUND.left_m, GROUND.right_m - 300, 400), rng.uniform(GROUND.bottom_m, GROUND.top_m - 300, 400)
    shapes = [shapely.box(x, y, x + 300, y + 300) for x, y in zip(left, bottom, strict=True)]
    shapes[200] = shapely.box(*GROUND.bounds)
    codes = rng.choice(sorted(CLC.code_names), 400)
    table = gpd.GeoDataFrame({"Code_18": codes}, geometry=shapes, crs=32633)
    expected = np.full((240, 240), 999)
    y, x = GROUND.top_m - 10 * (np.arange(240) + 0.5), GROUND.left_m + 10 * (np.arange(240) + 0.5)
    for code, shape in zip(codes, shapes, strict=True):
        west, south, east, north = shape.bounds
        expected[np.ix_((y > south) & (y < north), (x > west) & (x < east))] = code
    table.to_file(tmp_path / "clc.gpkg")
    table.to_parquet(tmp_path / "clc.parquet")
    table.to_parquet(tmp_path / "bbox.parquet", write_covering_bbox=True, schema_version="1.1.0")
    for name in ("clc.gpkg", "clc.parquet", "bbox.parquet"):
        assert np.array_equal(read(tmp_path / name).rasterize(TEN_M, (240, 240)), expected), name


def test_only_worldcover_tiles_under_the_scene_are_opened_and_joined_without_a_seam(tmp_path):
    """The scene lies across 15 degrees east, where two tiles meet; a third, elsewhere, is no raster at all."""
    whole = raster_halves(tmp_path / "whole.tif", 10, 80, pixel=1 / 12_000, crs=4326)
    area = Area(32633, 499_400, 5_299_400, 503_000, 5_303_000)
    folder = tmp_path / "tiles"
    folder.mkdir()
    with rasterio.open(whole) as raster:
        seam = round((15 - raster.transform.c) * 12_000)
        assert 0 < seam < raster.width
        for corner, window in {
            "N45E012": Window(0, 0, seam, raster.height),
            "N45E015": Window(seam, 0, raster.width - seam, raster.height),
        }.items():
            about = raster.profile | {"width": window.width, "transform": raster.window_transform(window)}
            with rasterio.open(folder / f"ESA_WorldCover_10m_2021_v200_{corner}_Map.tif", "w", **about) as tile:
                tile.write(raster.read(1, window=window), 1)
    (folder / "ESA_WorldCover_10m_2021_v200_N00E006_Map.tif").write_text("elsewhere")
    worldcover, names = label_source("worldcover"), load_nomenclature("worldcover-11")
    assert [file.name.split("_")[5] for file in worldcover.files(folder, area)] == ["N45E012", "N45E015"]
    grid = Affine(10, 0, area.left_m, 0, -10, area.top_m), (360, 360)
    joined, single = (worldcover.read(path, area, names, Labels()) for path in (folder, whole))
    assert joined.counts == {"rasters": 2}
    assert np.array_equal(joined.rasterize(*grid), single.rasterize(*grid))
    assert (joined.rasterize(*grid) == 10).any()
    other = folder / "ESA_WorldCover_10m_2020_v100_N45E015_Map.tif"
    shutil.copy(folder / "ESA_WorldCover_10m_2021_v200_N45E015_Map.tif", other)
    with pytest.raises(LabelError, match="holds the editions 2020_v100, 2021_v200"):
        worldcover.files(folder, area)
    with pytest.raises(LabelError, match=r"no WorldCover tile .* such as ESA_WorldCover_10m_2021_v200_N51E009_Map.tif"):
        worldcover.files(folder, Area(32632, 500_010, 5_751_000, 501_200, 5_752_200))


def test_values_of_a_class_column_are_explained_by_the_table(tmp_path):
    (tmp_path / "landuse.csv").write_text(LANDUSE)
    names = load_nomenclature(tmp_path / "landuse.csv")
    said = Labels(source="polygons", code_column="landuse")
    source = label_source("polygons")
    path = polygon_halves(tmp_path / "a.gpkg", "landuse", "meadow", None)
    layer = source.read(path, GROUND, names, said)
    assert layer.codes.tolist() == [3]
    assert layer.counts["not polygons"] == 1  # a polygon that says nothing
    assert names.unlabeled_codes == [3, 999]
    with pytest.raises(LabelError, match="'forrest', which the nomenclature landuse does not know; add it to the column values"):
        source.read(polygon_halves(tmp_path / "b.gpkg", "landuse", "forrest", "wood"), GROUND, names, said)
    with pytest.raises(LabelError, match=r"which column of a.gpkg holds the class; name it under labels.code_column"):
        source.read(path, GROUND, names, Labels(source="polygons"))
    with pytest.raises(LabelError, match=r"has no column crop, only landuse"):
        source.read(path, GROUND, names, Labels(source="polygons", code_column="crop"))


def test_without_a_column_of_values_the_class_column_holds_the_codes(tmp_path):
    (tmp_path / "crops.csv").write_text("code,index,name,color\n7,0,Maize,#ffff00\n12,1,Rye,#e6a600\n")
    names = load_nomenclature(tmp_path / "crops.csv")
    for number, (west, east) in enumerate([(7, 12), ("7", "12"), (7.0, 12.0)]):
        path = polygon_halves(tmp_path / f"{number}.gpkg", "crop", west, east)
        assert label_source("polygons").read(path, GROUND, names, Labels(code_column="crop")).codes.tolist() == [7, 12]


def test_a_data_set_of_several_files_is_all_of_them(tmp_path):
    for name in ("clc.shp", "clc.dbf", "other.dbf"):
        (tmp_path / name).touch()
    assert [file.name for file in files_of(tmp_path / "clc.shp")] == ["clc.dbf", "clc.shp"]
    assert [file.name for file in files_of(tmp_path)] == ["clc.dbf", "clc.shp", "other.dbf"]
    assert files_of(tmp_path / "clc.gpkg") == [tmp_path / "clc.gpkg"]


def test_unknown_sources_are_refused_with_the_known():
    with pytest.raises(LabelError, match="no label source 'osm'; known are corine, corine-raster, polygons, worldcover"):
        label_source("osm")


def test_around_lies_600_m_around_the_ground():
    assert (AROUND.left_m, AROUND.top_m) == (GROUND.left_m - 600, GROUND.top_m + 600)
