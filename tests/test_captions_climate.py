"""Climate zones from a raster: which value lies under a place, and what it is called."""

import numpy as np
import pytest
import rasterio
from affine import Affine

from rsdata.captions import ClimateRaster, climate_names
from rsdata.errors import CaptionError

VALUES = np.array([[8, 15, 26], [0, 27, 99], [255, 1, 2]])  # 99 is no class of the table, 255 no data


def write_raster(path, values=VALUES, crs="EPSG:4326", transform=None, dtype="uint8", nodata=255):
    """Three by three pixels of one degree from (10 E, 50 N), unless said otherwise."""
    about = {"crs": crs, "transform": transform or Affine(1, 0, 10, 0, -1, 50), "dtype": dtype, "nodata": nodata}
    with rasterio.open(path, "w", driver="GTiff", width=3, height=3, count=1, **about) as raster:
        raster.write(values.astype(dtype), 1)
    return path


def zones(path, *places, names=None):
    with ClimateRaster(path, names or climate_names()) as raster:
        return raster.zones(places)


def test_a_place_has_the_class_of_the_pixel_it_lies_in(tmp_path):
    path = write_raster(tmp_path / "climate.tif")
    assert zones(path, (10.01, 49.99), (11.99, 49.01), (12.5, 49.5), (11.5, 48.5)) == [
        "Csa (temperate, dry summer, hot summer)",
        "Cfb (temperate, no dry season, warm summer)",
        "Dfb (cold, no dry season, warm summer)",
        "Dfc (cold, no dry season, cold summer)",
    ]


def test_sea_and_missing_data_have_no_zone(tmp_path):
    assert zones(write_raster(tmp_path / "climate.tif"), (10.5, 48.5), (10.5, 47.5), (11.5, 47.5)) == [
        None,
        None,
        "Af (tropical, rainforest)",
    ]


def test_a_raster_may_have_any_reference_system(tmp_path):
    # EPSG:3035 counts metres from (4321000, 3210000) at 10 degrees east, 52 degrees north.
    path = write_raster(tmp_path / "climate.tif", crs="EPSG:3035", transform=Affine(1000, 0, 4_321_000 - 1500, 0, -1000, 3_210_000 + 1500))
    assert zones(path, (10, 52)) == ["Dfc (cold, no dry season, cold summer)"]
    assert zones(path, (10, 52 + 1000 / 111_200)) == ["Cfb (temperate, no dry season, warm summer)"]  # 1 km north


def test_whole_numbers_kept_as_floats_are_understood(tmp_path):
    path = write_raster(tmp_path / "climate.tif", dtype="float32", nodata=float("nan"), values=np.where(VALUES == 255, np.nan, VALUES))
    assert zones(path, (11.5, 48.5), (10.5, 47.5)) == ["Dfc (cold, no dry season, cold summer)", None]


@pytest.mark.parametrize("place", [(9.99, 49.5), (13.01, 49.5), (11.5, 50.01), (11.5, 46.99)])
def test_a_place_outside_is_refused(tmp_path, place):
    with pytest.raises(
        CaptionError, match=r"climate\.tif does not cover the patch around .* degrees east, .* degrees north; name a climate"
    ):
        zones(write_raster(tmp_path / "climate.tif"), (11.5, 48.5), place)


def test_a_place_beyond_the_reference_system_is_refused(tmp_path):
    with pytest.raises(CaptionError, match="does not cover the patch"):
        zones(write_raster(tmp_path / "climate.tif", crs="EPSG:3857"), (11.5, 90.0))


def test_a_value_without_a_name_is_refused(tmp_path):
    with pytest.raises(CaptionError, match=r"climate\.tif holds 99, which the table of climate classes does not name"):
        zones(write_raster(tmp_path / "climate.tif"), (12.5, 48.5))


def test_what_is_no_raster_is_refused(tmp_path):
    (tmp_path / "climate.tif").write_text("Cfb")
    with pytest.raises(CaptionError, match="cannot be read as a raster"):
        zones(tmp_path / "climate.tif")


def test_a_raster_that_does_not_say_where_it_lies_is_refused(tmp_path):
    with pytest.raises(CaptionError, match="does not state its CRS"):
        zones(write_raster(tmp_path / "climate.tif", crs=None))


def test_a_raster_whose_pixels_have_no_extent_is_refused(tmp_path):
    with pytest.raises(CaptionError, match="has pixels of no extent on the ground"):
        zones(write_raster(tmp_path / "climate.tif", transform=Affine(1, 1, 10, 1, 1, 50)))


# --- names ------------------------------------------------------------------------------------------------


def test_thirty_classes_are_known_by_number():
    names = climate_names()
    assert names.pop(0) == ""
    assert sorted(names) == list(range(1, 31))
    assert len(set(names.values())) == 30
    symbols = [name.split(" ")[0] for name in names.values()]
    groups = "".join(symbol[0] for symbol in symbols)
    assert groups == "AAA" + "BBBB" + "C" * 9 + "D" * 12 + "EE"
    assert (symbols[0], symbols[7], symbols[14], symbols[25], symbols[29]) == ("Af", "Csa", "Cfb", "Dfb", "EF")


def test_a_user_may_name_the_values(tmp_path):
    (tmp_path / "zones.csv").write_text('value,name\n15,"mild, wet"\n-1,\n', encoding="utf-8")
    names = climate_names(tmp_path / "zones.csv")
    assert names == {15: "mild, wet", -1: ""}
    assert zones(write_raster(tmp_path / "climate.tif"), (11.5, 49.5), names=names) == ["mild, wet"]


@pytest.mark.parametrize(
    ("content", "finding"),
    [
        ("number,name\n1,mild\n", "zones.csv has the columns number, name; expected value and name"),
        ("", "zones.csv has the columns none at all"),
        ("value,name\nCfb,mild\n", "zones.csv, line 2: expected a whole number"),
        ("value,name\n1,mild\n1,wet\n", "zones.csv, line 3: expected a whole number that has not stood there yet"),
        ("value,name\n1,mild, wet\n", "zones.csv, line 2: .* a name in quotes"),
    ],
)
def test_a_table_that_names_nothing_is_refused(tmp_path, content, finding):
    (tmp_path / "zones.csv").write_text(content, encoding="utf-8")
    with pytest.raises(CaptionError, match=finding):
        climate_names(tmp_path / "zones.csv")


def test_a_table_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(CaptionError, match=r"the table of climate classes .*zones\.csv cannot be read: No such file"):
        climate_names(tmp_path / "zones.csv")
