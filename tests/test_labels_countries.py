"""Countries: the nearest of those named, at borders, at sea, and where Natural Earth has no code."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from rsdata.errors import LabelError
from rsdata.grid import Tile, corners
from rsdata.labels import nearest_countries
from rsdata.patches import with_footprints
from rsdata.records import PatchId

REBEN = ["Austria", "Belgium", "Finland", "Ireland", "Kosovo", "Lithuania", "Luxembourg", "Portugal", "Republic of Serbia", "Switzerland"]


@pytest.fixture
def borders(shared_data):
    return shared_data / "borders" / "ne_50m_admin0_europe.geojson"


@pytest.fixture
def made(tmp_path):
    """Two neighbours that share the meridian 12, one far away; the way Natural Earth writes codes."""
    rows = {"West": (10, 12), "East": (12, 14), "Far": (20, 21)}
    table = {"NAME": list(rows), "ISO_A2": ["-99", "EA", "FA"], "ISO_A2_EH": ["WE", "EA", "FA"], "ADM0_A3": ["WES", "EAS", "FAR"]}
    path = tmp_path / "countries.gpkg"
    gpd.GeoDataFrame(table, geometry=[shapely.box(a, 50, b, 52) for a, b in rows.values()], crs=4326).to_file(path, driver="GPKG")
    return path


def test_the_border_decides_and_a_tie_on_it_goes_by_name(made):
    lon = np.array([11.999, 12.001, 12.0])
    assert nearest_countries(made, lon, np.full(3, 51.0)) == ["West", "East", "East"]


def test_at_sea_the_nearest_coast_decides(made):
    """North of both, measured over ground and not in degrees; and between East and Far."""
    assert nearest_countries(made, np.array([10.5, 13.5, 16.9, 17.1]), np.array([53.0, 53.0, 51.0, 51.0])) == [
        "West",
        "East",
        "East",
        "Far",
    ]
    assert nearest_countries(made, np.array([13.5]), np.array([53.0]), names=["West"]) == ["West"]


def test_a_country_is_asked_for_by_name_or_by_any_of_its_codes(made):
    place = np.array([11.0, 13.0]), np.array([51.0, 51.0])
    for west in ("West", "WE", "WES"):
        for east in ("East", "EA", "EAS"):
            assert nearest_countries(made, *place, names=[west, east]) == ["West", "East"]


def test_a_missing_code_is_never_a_name(made):
    place = np.array([11.0, 13.0]), np.array([51.0, 51.0])
    assert nearest_countries(made, *place, name_column="ISO_A2") == ["WE", "EA"]
    with pytest.raises(LabelError, match=r"has no country -99; see its columns NAME, ISO_A2, ISO_A2_EH, ADM0_A3"):
        nearest_countries(made, *place, names=["-99"])


def test_what_cannot_be_found_is_refused(made):
    place = np.array([11.0]), np.array([51.0])
    with pytest.raises(LabelError, match="has no country Atlantis, Mu"):
        nearest_countries(made, *place, names=["Mu", "West", "Atlantis"])
    with pytest.raises(LabelError, match="has no column ISO, only"):
        nearest_countries(made, *place, name_column="ISO")
    with pytest.raises(LabelError, match="none of the countries"):
        nearest_countries(made, place[0] + 100, place[1])


@pytest.mark.parametrize(
    ("lon", "lat", "country", "codes"),
    [
        (21.17, 42.66, "Kosovo", ["KOS"]),  # Pristina; no ISO code at all
        (2.35, 48.86, "France", ["FRA"]),  # ISO_A2 and ISO_A3 are -99
        (10.75, 59.91, "Norway", ["NOR"]),
        (16.37, 48.21, "Austria", ["AT", "AUT"]),
    ],
)
def test_real_countries_without_an_iso_code_are_found_and_called(borders, lon, lat, country, codes):
    place = np.array([lon]), np.array([lat])
    assert nearest_countries(borders, *place) == [country]
    assert nearest_countries(borders, *place, name_column="ISO_A2") == [codes[0]]
    for code in codes:
        assert nearest_countries(borders, *place, names=[code]) == [country]


def test_real_places_at_sea_belong_to_the_nearest_coast(borders):
    """Off Ostend, off Lisbon, and between Helsinki and Tallinn, nearer to Finland."""
    lon, lat = [2.7, -10.5, 24.9], [51.35, 38.7, 59.95]
    found = [nearest_countries(borders, np.array([a]), np.array([b]), "ADMIN")[0] for a, b in zip(lon, lat, strict=True)]
    assert found == ["Belgium", "Portugal", "Finland"]


def test_real_countries_agree_with_the_published_metadata(shared_data, borders):
    """Natural Earth's borders are coarse (1:50 million), so patches near a border may differ."""
    table = pd.read_parquet(shared_data / "bigearthnet_v2" / "metadata_sample" / "metadata_3tiles.parquet").iloc[::7]
    ids = [PatchId.parse(patch_id) for patch_id in table["patch_id"]]
    rows = []
    for patch in ids:
        tile = Tile.from_name(patch.tile)
        x, y = corners(tile, np.array(patch.col), np.array(patch.row))
        rows.append({"epsg": tile.epsg, "ul_x_m": int(x), "ul_y_m": int(y)})
    centres = shapely.centroid(with_footprints(pd.DataFrame(rows)).geometry.to_numpy())
    same, wrong = 0, set()
    for tile in sorted({patch.tile for patch in ids}):
        here = np.array([patch.tile == tile for patch in ids])
        countries = nearest_countries(borders, shapely.get_x(centres[here]), shapely.get_y(centres[here]), "ADMIN", REBEN)
        published = table["country"].to_numpy()[here]
        same += sum(a == b for a, b in zip(countries, published, strict=True))
        wrong |= {frozenset(pair) for pair in zip(countries, published, strict=True) if len(set(pair)) == 2}
    assert same / len(ids) > 0.97
    assert wrong <= {frozenset({"Belgium", "Luxembourg"})}
