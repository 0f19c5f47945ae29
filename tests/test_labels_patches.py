"""From polygons to labels: the rules of the reference map, exact shares, and real CORINE data held to both."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine

from rsdata.labels import Area, label_patches, label_shares, label_source, load_nomenclature
from rsdata.labels.polygon_layer import PolygonLayer
from rsdata.quality import judge
from rsdata.recipe import Labels, Quality

CLC = load_nomenclature("bigearthnet-19")
NORTH_UP_10M = Affine(10, 0, 0, 0, -10, 100)  # ten by ten pixels, corner at (0, 100)
PATCH = np.array([[0.0, 0.0, 1200.0, 1200.0]])
PATCH_10M = Affine(10, 0, 0, 0, -10, 1200), (120, 120)


def layer(*polygons: tuple[shapely.Geometry, int]) -> PolygonLayer:
    shapes, codes = zip(*polygons, strict=True)
    return PolygonLayer(np.array(codes, np.uint16), np.array(shapes), np.zeros(len(codes), bool))


def shares(of: PolygonLayer, boxes: np.ndarray = PATCH) -> dict[int, float]:
    """Shares of the first box, zeros left out."""
    found = of.shares(boxes)
    return {int(code): float(share) for code, share in zip(found.codes, found.shares[0], strict=True) if share}


def test_a_pixel_takes_the_polygon_under_its_centre_and_not_every_one_it_touches():
    burnt = layer((shapely.box(0, 0, 14, 100), 111), (shapely.box(16, 0, 100, 100), 523)).rasterize(NORTH_UP_10M, (10, 10))
    # The second column's centres lie at x = 15, between the two polygons, and both polygons touch it.
    assert (burnt[:, 0] == 111).all()
    assert (burnt[:, 1] == 999).all()
    assert (burnt[:, 2:] == 523).all()


@pytest.mark.parametrize("gsd_m", [10, 20, 60])
def test_centres_decide_at_every_resolution_of_the_grid(gsd_m):
    disc = shapely.Point(617, 583).buffer(431, quad_segs=64)
    side = 1200 // gsd_m
    burnt = layer((disc, 311)).rasterize(Affine(gsd_m, 0, 0, 0, -gsd_m, 1200), (side, side))
    rows, cols = np.mgrid[:side, :side]
    inside = shapely.contains_xy(disc, gsd_m * (cols + 0.5), 1200 - gsd_m * (rows + 0.5))
    assert np.array_equal(burnt == 311, inside)
    assert (burnt[~inside] == 999).all()


def test_holes_are_left_to_what_lies_in_them():
    ring = shapely.box(0, 0, 1200, 1200).difference(shapely.box(300, 300, 900, 900))
    lake = layer((ring, 311), (shapely.box(600, 300, 900, 900), 512))
    burnt = lake.rasterize(*PATCH_10M)
    assert [(burnt == code).sum() for code in (311, 512, 999)] == [14_400 - 3600, 1800, 1800]
    assert shares(lake) == pytest.approx({311: 0.75, 512: 0.125, 999: 0.125}, abs=1e-12)


def test_where_polygons_overlap_the_later_wins_in_pixels_and_in_areas():
    pile = layer(
        (shapely.box(0, 0, 1200, 1200), 311),
        (shapely.box(0, 0, 600, 1200), 211),
        (shapely.box(300, 0, 900, 600), 311),
        (shapely.box(300, 0, 900, 600), 512),
    )
    burnt = pile.rasterize(*PATCH_10M)
    counted = {code: (burnt == code).mean() for code in (211, 311, 512)}
    # Left half 211, less the quarter by half that 512 covers; 512 is a quarter of the patch; the rest is 311.
    assert counted == {211: 0.375, 311: 0.375, 512: 0.25}
    assert shares(pile) == pytest.approx(counted, abs=1e-12)


def test_an_overlap_that_a_gap_makes_up_for_is_still_seen():
    """Areas that add up to the whole patch prove nothing."""
    both = layer((shapely.box(0, 0, 600, 1200), 211), (shapely.box(300, 0, 900, 1200), 512))
    assert shares(both) == pytest.approx({211: 0.25, 512: 0.5, 999: 0.25}, abs=1e-12)


def test_polygons_that_touch_only_an_edge_or_a_corner_give_no_label():
    beside = layer((shapely.box(0, 0, 1200, 1200), 211), (shapely.box(1200, 0, 2400, 1200), 512), (shapely.box(-50, 1200, 0, 1300), 311))
    assert set(np.unique(beside.rasterize(*PATCH_10M))) == {211}
    assert label_shares(beside.shares(PATCH), CLC).labels == [["Arable land"]]


def test_exact_areas_see_what_no_pixel_centre_sees():
    strip = layer((shapely.box(0, 0, 1200, 1200), 211), (shapely.box(101, 0, 104, 1200), 511))
    counted = label_patches(strip.rasterize(*PATCH_10M)[None], CLC)
    exact = label_shares(strip.shares(PATCH), CLC)
    assert counted.labels == [["Arable land"]]
    assert exact.labels == [["Arable land", "Inland waters"]]
    assert exact.fractions[0]["Inland waters"] == pytest.approx(3 / 1200, abs=1e-12)


def test_an_invalid_polygon_is_repaired_and_counted(tmp_path):
    bowtie = shapely.Polygon([(500_000, 5_300_000), (501_200, 5_301_200), (501_200, 5_300_000), (500_000, 5_301_200)])
    gpd.GeoDataFrame({"Code_18": ["112"]}, geometry=[bowtie], crs=32633).to_file(tmp_path / "clc.gpkg", driver="GPKG")
    area = Area(32633, 500_000, 5_300_000, 501_200, 5_301_200)
    read = label_source("corine").read(tmp_path / "clc.gpkg", area, CLC, Labels())
    assert read.counts == {"polygons": 1, "repaired": 1}
    assert shares(read, np.array([area.bounds])) == pytest.approx({112: 0.5, 999: 0.5}, abs=1e-9)


def test_a_spike_that_a_repair_leaves_as_a_line_is_not_drawn(tmp_path):
    spike = shapely.Polygon([(500_000, 5_300_000), (500_600, 5_300_000), (500_600, 5_300_605), (501_195, 5_300_605), (500_600, 5_300_605),
                             (500_600, 5_301_200), (500_000, 5_301_200)])  # fmt: skip
    assert not spike.is_valid
    assert shapely.make_valid(spike).geom_type == "GeometryCollection"
    gpd.GeoDataFrame({"Code_18": ["112"]}, geometry=[spike], crs=32633).to_file(tmp_path / "clc.gpkg", driver="GPKG")
    area = Area(32633, 500_000, 5_300_000, 501_200, 5_301_200)
    read = label_source("corine").read(tmp_path / "clc.gpkg", area, CLC, Labels())
    burnt = read.rasterize(Affine(10, 0, 500_000, 0, -10, 5_301_200), (120, 120))
    assert (burnt[:, :60] == 112).all()
    assert (burnt[:, 60:] == 999).all()


def test_labels_are_all_classes_present_down_to_one_pixel():
    patch = np.full((1, 120, 120), 211, np.uint16)
    patch[0, 0, 0] = 512
    found = label_patches(patch, CLC)
    assert found.labels == [["Arable land", "Inland waters"]]
    assert found.fractions[0]["Inland waters"] == 1 / 14_400
    assert found.unlabeled.tolist() == [0.0]


@pytest.mark.parametrize("code", sorted(CLC.code_names))
def test_every_code_gets_its_class_or_counts_as_unlabelled(code):
    expected = [each.name for each in CLC.classes if code in each.codes]
    counted = label_patches(np.full((1, 120, 120), code, np.uint16), CLC)
    exact = label_shares(layer((shapely.box(0, 0, 1200, 1200), code)).shares(PATCH), CLC)
    for found in (counted, exact):
        assert found.labels == [expected]
        assert found.unlabeled[0] == (0.0 if expected else 1.0)


@pytest.mark.parametrize("code", [999, 122, 423])
@pytest.mark.parametrize(("pixels", "kept"), [(3599, True), (3600, False)])  # 24.993 % and 25 % of 14,400
def test_a_patch_is_kept_below_a_quarter_unlabelled_and_dropped_at_a_quarter(code, pixels, kept):
    patch = np.full((1, 120, 120), 211, np.uint16)
    patch[0].ravel()[:pixels] = code
    unlabeled = label_patches(patch, CLC).unlabeled
    assert _kept(unlabeled[0]) is kept


@pytest.mark.parametrize(("width_m", "kept"), [(1200 * 0.2499, True), (1200 * 0.25, False)])
def test_the_same_bound_holds_for_exact_areas(width_m, kept):
    part = layer((shapely.box(width_m, 0, 1200, 1200), 211))
    assert _kept(label_shares(part.shares(PATCH), CLC).unlabeled[0]) is kept


def _kept(unlabeled_fraction: float) -> bool:
    clear = ("nodata", "defective", "saturated", "cloud", "shadow", "snow")
    table = pd.DataFrame({"unlabeled_fraction": [unlabeled_fraction], **{f"{name}_fraction": [0.0] for name in clear}})
    judged = judge(
        table,
        thresholds=Quality(),
        max_unlabeled_fraction=Labels().max_unlabeled_fraction,
        s1_missing_fraction=None,
        require_s1=False,
        product_refused=False,
    )
    assert judged["drop_reason"].tolist() in ([None], ["unlabeled"])
    return bool(judged["kept"].iloc[0])


def test_real_clc2018_polygons_burn_to_the_published_raster(shared_data):
    with rasterio.open(shared_data / "clc" / "clc2018_lanjaron_es_25m.tif") as raster:
        published, transform, bounds = raster.read(1), raster.transform, tuple(raster.bounds)
    # The raster is in EPSG:3042 (northing first), the same projection as EPSG:25830 with its axes swapped.
    area = Area(25830, *bounds)
    read = label_source("corine").read(shared_data / "clc" / "clc2018_lanjaron_es.gpkg", area, CLC, Labels())
    burnt = read.rasterize(transform, published.shape)
    assert len(read.codes) == 136
    assert burnt.shape == (745, 474)
    assert np.array_equal(burnt, published)
    again = label_source("corine-raster").read(shared_data / "clc" / "clc2018_lanjaron_es_25m.tif", area, CLC, Labels())
    assert np.array_equal(again.rasterize(transform, published.shape), published)


@pytest.fixture(scope="module")
def muenster(shared_data) -> tuple[PolygonLayer, np.ndarray, np.ndarray]:
    """The real CLC5 polygons, a hundred boxes of 1200 m, and each box's reference map at 10 m."""
    path = shared_data / "clc" / "clc5_2018_muenster_de.gpkg"
    left, bottom, right, top = gpd.read_file(path).total_bounds
    read = label_source("corine").read(path, Area(25832, left, bottom, right, top), CLC, Labels())
    corners = [(left + 1200 * col, top - 1200 * row) for row in range(10) for col in range(10)]
    boxes = np.array([(x, y - 1200, x + 1200, y) for x, y in corners])
    burnt = read.rasterize(Affine(10, 0, left, 0, -10, top), (1200, 1200))
    return read, boxes, burnt.reshape(10, 120, 10, 120).swapaxes(1, 2).reshape(-1, 120, 120)


def test_real_exact_shares_sum_to_one_and_leave_nothing_unlabelled(muenster):
    read, boxes, _ = muenster
    assert len(read.codes) == 447
    found = read.shares(boxes)
    labelled = found.codes != 999
    assert np.abs(found.shares[:, labelled].sum(axis=1) - 1).max() < 1e-9


def test_real_exact_shares_equal_plain_overlay_save_where_two_polygons_overlap(muenster):
    """One of the hundred boxes holds an overlap of 0.09 square metres in the file itself."""
    read, boxes, _ = muenster
    found = read.shares(boxes)
    for row, box in zip(found.shares, boxes, strict=True):
        pieces = shapely.area(shapely.intersection(read.geometry, shapely.box(*box))) / 1.44e6
        plain = np.array([pieces[read.codes == code].sum() for code in found.codes])
        assert np.abs(row - plain).max() < (1e-12 if abs(pieces.sum() - 1) < 1e-12 else 1e-7)


def test_real_pixel_counts_stray_from_exact_areas_no_more_than_borders_allow(muenster):
    """A pixel cut by a border errs by at most half of it, at random: the sum over m such pixels by about 0.29 sqrt(m) of one."""
    read, boxes, maps = muenster
    found = read.shares(boxes)
    outlines = {int(code): shapely.union_all(read.geometry[read.codes == code]) for code in np.unique(read.codes)}
    strayed = []
    for row, box, codes in zip(found.shares, boxes, maps, strict=True):
        for code, share in zip(found.codes, row, strict=True):
            if code == 999:
                continue
            inside = shapely.intersection(shapely.boundary(outlines[int(code)]), shapely.box(*box))
            cut = 4 / np.pi * shapely.length(inside) / 10  # pixels a line crosses, on average over its directions
            if cut > 0:
                strayed.append(((codes == code).sum() - share * 14_400) / (0.29 * np.sqrt(cut)))
    strayed = np.array(strayed)
    assert len(strayed) > 300
    assert np.abs(strayed).max() < 5
    assert 0.5 < strayed.std() < 1.5
    assert abs(strayed.mean()) < 0.15


def test_real_grid_codes_are_told_from_level_3_codes(shared_data):
    (path,) = (shared_data / "clc").glob("clc2018_gridcodes_*.tif")
    with rasterio.open(path) as raster:
        lon, lat = raster.lnglat()
        numbers, grid, crs = raster.read(1), raster.transform, raster.crs
    assert (round(lon, 1), round(lat, 1)) == (9.0, 48.8)
    x, y = 496_500.0, 5_402_000.0
    area = Area(32632, x - 6000, y - 6000, x + 6000, y + 6000)
    read = label_source("corine-raster").read(path, area, CLC, Labels())
    to_10m = Affine(10, 0, area.left_m, 0, -10, area.top_m)
    codes = read.rasterize(to_10m, (1200, 1200))
    # Independently: project every pixel centre, and look up the grid code there in the sorted list of level-3 codes.
    rows, cols = np.mgrid[:1200, :1200]
    centres = pyproj.Transformer.from_crs(32632, crs, always_xy=True).transform(*(to_10m @ (cols + 0.5, rows + 0.5)))
    col, row = ~grid @ centres
    expected = np.array([0, *sorted(CLC.code_names)])[numbers[row.astype(int), col.astype(int)]]
    assert (codes != expected).sum() <= 5  # centres within millimetres of a border
    assert set(np.unique(codes)) <= set(CLC.code_names)
    exact = read.shares(np.array([area.bounds]))
    counted = {int(code): (codes == code).mean() for code in exact.codes}
    assert dict(zip(exact.codes.tolist(), exact.shares[0], strict=True)) == pytest.approx(counted, abs=1e-3)


def test_real_worldcover_is_read_on_its_own_island(shared_data):
    """Sao Tome, 0.3 degrees north of the equator: forest, sea, and a town."""
    (path,) = (shared_data / "worldcover_dem").glob("ESA_WorldCover*.tif")
    with rasterio.open(path) as raster:
        bounds, values = raster.bounds, raster.read(1)
    left, bottom, right, top = pyproj.Transformer.from_crs(4326, 32632, always_xy=True).transform_bounds(*bounds)
    area = Area(32632, *(round(each, -1) for each in (left + 100, bottom + 100, right - 100, top - 100)))
    names = load_nomenclature("worldcover-11")
    read = label_source("worldcover").read(path, area, names, Labels())
    shape = int((area.top_m - area.bottom_m) / 10), int((area.right_m - area.left_m) / 10)
    codes = read.rasterize(Affine(10, 0, area.left_m, 0, -10, area.top_m), shape)
    assert set(np.unique(codes)) <= {*names.code_names, 999}
    for code in (10, 50):
        assert (codes == code).mean() == pytest.approx((values == code).mean(), abs=0.02)
    exact = read.shares(np.array([area.bounds]))
    counted = {int(code): (codes == code).mean() for code in exact.codes}
    assert dict(zip(exact.codes.tolist(), exact.shares[0], strict=True)) == pytest.approx(counted, abs=1e-3)
