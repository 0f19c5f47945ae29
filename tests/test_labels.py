"""Labels: polygons to codes, codes to classes, classes to patches; held to real CORINE data where it is there."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

from rsdata.errors import LabelError
from rsdata.labels import label_patches, label_source, load_nomenclature, nearest_countries, rasterize_codes
from rsdata.labels.corine import read_corine

CLC = load_nomenclature("bigearthnet-19")
NORTH_UP_10M = Affine(10, 0, 0, 0, -10, 100)  # ten by ten pixels, corner at (0, 100)
BOUNDS = (500_000.0, 5_300_000.0, 501_200.0, 5_301_200.0)


def polygons(codes: dict[tuple[float, float, float, float], int]) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame({"code": list(codes.values())}, geometry=[shapely.box(*box) for box in codes], crs=32633)


def write_layer(path: Path, column: str, values: list[object], crs: int = 3035) -> Path:
    boxes = [shapely.box(500_000 + 600 * i, 5_300_000, 500_600 + 600 * i, 5_301_200) for i in range(len(values))]
    gpd.GeoDataFrame({column: values}, geometry=boxes, crs=32633).to_crs(crs).to_file(path, layer="clc", driver="GPKG")
    return path


def test_the_nomenclature_is_the_table_of_reben():
    assert len(CLC.classes) == 19
    assert len(CLC.code_names) == 44
    assert CLC.unlabeled_codes == [122, 123, 124, 131, 132, 133, 141, 142, 332, 334, 335, 423, 999]
    codes = {each.name: each.codes for each in CLC.classes}
    assert codes["Permanent crops"] == [221, 222, 223, 241]
    assert codes["Natural grassland and sparsely vegetated areas"] == [321, 333]
    assert sum(len(members) for members in codes.values()) == 44 - 12


def test_a_pixel_takes_the_polygon_under_its_centre():
    burnt = rasterize_codes(polygons({(0, 0, 14, 100): 111, (16, 0, 100, 100): 523}), NORTH_UP_10M, (10, 10))
    # The second column's centres lie at x = 15, between the two polygons.
    assert (burnt[:, 0] == 111).all()
    assert (burnt[:, 1] == 999).all()
    assert (burnt[:, 2:] == 523).all()


def test_labels_are_all_classes_present_however_small():
    patch = np.full((1, 120, 120), 211, np.uint16)
    patch[0, 0, 0] = 512
    found = label_patches(patch, CLC)
    assert found.labels == [["Arable land", "Inland waters"]]
    assert found.fractions[0]["Inland waters"] == 1 / 14_400
    assert found.unlabeled.tolist() == [0.0]


@pytest.mark.parametrize("code", sorted(CLC.code_names))
def test_every_code_gets_its_class_or_counts_as_unlabelled(code):
    found = label_patches(np.full((1, 120, 120), code, np.uint16), CLC)
    expected = [each.name for each in CLC.classes if code in each.codes]
    assert found.labels == [expected]
    assert found.unlabeled[0] == (0.0 if expected else 1.0)


@pytest.mark.parametrize("column", ["Code_18", "CODE_18", "code_18", "CLC18"])
def test_the_code_column_is_found_by_its_usual_names(tmp_path, column):
    read = read_corine(write_layer(tmp_path / "clc.gpkg", column, ["112", "523"]), BOUNDS, 32633, CLC)
    assert read["code"].tolist() == [112, 523]


def test_polygons_come_back_in_the_raster_crs_whatever_theirs_was(tmp_path):
    for crs in (3035, 4326, 25833, 3857):
        read = read_corine(write_layer(tmp_path / f"{crs}.gpkg", "Code_18", ["112", "523"], crs), BOUNDS, 32633, CLC)
        burnt = rasterize_codes(read, Affine(10, 0, BOUNDS[0], 0, -10, BOUNDS[3]), (120, 120))
        assert (burnt[:, :60] == 112).all() and (burnt[:, 60:] == 523).all()


def test_a_layer_without_a_code_column_is_refused_and_its_columns_named(tmp_path):
    with pytest.raises(LabelError, match=r"no column with class codes, only landuse; expected one such as Code_18"):
        read_corine(write_layer(tmp_path / "clc.gpkg", "landuse", ["112", "523"]), BOUNDS, 32633, CLC)


def test_an_unknown_code_is_refused_and_named(tmp_path):
    with pytest.raises(LabelError, match=r"column Code_18 holds 777; expected the 44 codes"):
        read_corine(write_layer(tmp_path / "clc.gpkg", "Code_18", ["112", "777"]), BOUNDS, 32633, CLC)


def test_polygons_elsewhere_are_refused_and_the_scene_is_placed(tmp_path):
    elsewhere = (600_000.0, 5_300_000.0, 601_200.0, 5_301_200.0)
    with pytest.raises(LabelError, match=r"no polygon of clc.gpkg .* touches the scene, which covers 16\.3\d to 16\.3\d degrees east"):
        read_corine(write_layer(tmp_path / "clc.gpkg", "Code_18", ["112"]), elsewhere, 32633, CLC)


def test_a_missing_file_and_a_file_that_is_no_layer_are_refused(tmp_path):
    with pytest.raises(LabelError, match="does not exist; name the file with the land cover polygons"):
        read_corine(tmp_path / "none.gpkg", BOUNDS, 32633, CLC)
    text = tmp_path / "notes.gpkg"
    text.write_text("no vectors here")
    with pytest.raises(LabelError, match="cannot be opened as vectors"):
        read_corine(text, BOUNDS, 32633, CLC)


def test_an_invalid_polygon_is_repaired_and_counted(tmp_path):
    bowtie = shapely.Polygon([(500_000, 5_300_000), (501_200, 5_301_200), (501_200, 5_300_000), (500_000, 5_301_200)])
    gpd.GeoDataFrame({"Code_18": ["112"]}, geometry=[bowtie], crs=32633).to_file(tmp_path / "clc.gpkg", driver="GPKG")
    read = read_corine(tmp_path / "clc.gpkg", BOUNDS, 32633, CLC)
    assert read["repaired"].tolist() == [True]
    assert read.geometry.is_valid.all()
    assert read.geometry.area.sum() == pytest.approx(1200 * 1200 / 2)


def test_unknown_sources_and_nomenclatures_are_refused_with_the_known():
    with pytest.raises(LabelError, match="no label source 'osm'; known are corine"):
        label_source("osm")
    with pytest.raises(LabelError, match="no nomenclature 'clc-3'; known are bigearthnet-19"):
        load_nomenclature("clc-3")


def test_the_nearest_country_is_taken_at_sea_and_ties_go_by_name(tmp_path):
    rows = {"West": shapely.box(10, 50, 11, 52), "East": shapely.box(13, 50, 14, 52), "Far": shapely.box(20, 50, 21, 52)}
    path = tmp_path / "countries.gpkg"
    gpd.GeoDataFrame({"NAME": list(rows)}, geometry=list(rows.values()), crs=4326).to_file(path, driver="GPKG")
    lon = np.array([10.5, 11.2, 12.9, 12.0])
    assert nearest_countries(path, lon, np.full(4, 51.0)) == ["West", "West", "East", "East"]
    assert nearest_countries(path, lon, np.full(4, 51.0), names=["West"]) == ["West"] * 4
    with pytest.raises(LabelError, match="has no country Atlantis"):
        nearest_countries(path, lon, np.full(4, 51.0), names=["Atlantis"])
    with pytest.raises(LabelError, match="has no column ISO, only NAME"):
        nearest_countries(path, lon, np.full(4, 51.0), name_column="ISO")
    with pytest.raises(LabelError, match="none of the countries"):
        nearest_countries(path, lon + 100, np.full(4, 51.0))


def test_real_clc2018_polygons_burn_to_the_published_raster(shared_data):
    with rasterio.open(shared_data / "clc" / "clc2018_lanjaron_es_25m.tif") as raster:
        published, transform, bounds = raster.read(1), raster.transform, tuple(raster.bounds)
    # The raster is in EPSG:3042 (northing first), the same projection as EPSG:25830 with its axes swapped.
    read = read_corine(shared_data / "clc" / "clc2018_lanjaron_es.gpkg", bounds, 25830, CLC)
    burnt = rasterize_codes(read, transform, published.shape)
    assert len(read) == 136
    assert burnt.shape == (745, 474)
    assert np.array_equal(burnt, published)


def test_real_clc5_codes_are_read_from_their_german_attribute(shared_data):
    path = shared_data / "clc" / "clc5_2018_muenster_de.gpkg"
    whole = gpd.read_file(path)
    read = read_corine(path, tuple(whole.total_bounds), 25832, CLC)
    assert len(read) == len(whole) == 447
    assert set(read["code"]) <= set(CLC.code_names)


def test_real_countries_agree_with_the_published_metadata(shared_data):
    """Natural Earth's borders are coarse (1:50 million), so patches near a border may differ."""
    import pandas as pd

    from rsdata.grid import Tile, corners
    from rsdata.patches import with_footprints
    from rsdata.records import PatchId

    table = pd.read_parquet(shared_data / "bigearthnet_v2" / "metadata_sample" / "metadata_3tiles.parquet").iloc[::7]
    ids = [PatchId.parse(patch_id) for patch_id in table["patch_id"]]
    rows = []
    for patch in ids:
        tile = Tile.from_name(patch.tile)
        x, y = corners(tile, np.array(patch.col), np.array(patch.row))
        rows.append({"epsg": tile.epsg, "ul_x_m": int(x), "ul_y_m": int(y)})
    places = with_footprints(pd.DataFrame(rows))
    centres = shapely.centroid(places.geometry.to_numpy())
    names = [
        "Austria",
        "Belgium",
        "Finland",
        "Ireland",
        "Kosovo",
        "Lithuania",
        "Luxembourg",
        "Portugal",
        "Republic of Serbia",
        "Switzerland",
    ]
    borders = shared_data / "borders" / "ne_50m_admin0_europe.geojson"
    same, wrong = 0, set()
    for tile in sorted({patch.tile for patch in ids}):
        here = np.array([patch.tile == tile for patch in ids])
        countries = nearest_countries(borders, shapely.get_x(centres[here]), shapely.get_y(centres[here]), "ADMIN", names)
        published = table["country"].to_numpy()[here]
        same += sum(a == b for a, b in zip(countries, published, strict=True))
        wrong |= {frozenset(pair) for pair in zip(countries, published, strict=True) if len(set(pair)) == 2}
    assert same / len(ids) > 0.97
    assert wrong <= {frozenset({"Belgium", "Luxembourg"})}
