"""The synthetic scenes: true to the format, alike for the same seed, and worth learning from."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from rasterio.features import rasterize
from scipy.ndimage import maximum_filter, minimum_filter

from rsdata.errors import GridError, RecipeError, SceneError
from rsdata.grid import PatchGrid, Tile
from rsdata.labels.nomenclature import load_nomenclature
from rsdata.recipe import Synthetic
from rsdata.sensors import SENTINEL2
from rsdata.testing import Ground, Painter, countries_around, synthesize, write_l2a_safe, write_s1_pair

TILE = Tile.from_name("33UUP")
SENSING = datetime(2018, 6, 12, 10, 10, 31, tzinfo=UTC)
XML = {
    "product": "{https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-2A.xsd}",
    "tile": "{https://psd-14.sentinel2.eo.esa.int/PSD/S2_PDI_Level-2A_Tile_Metadata.xsd}",
    "xfdu": "{urn:ccsds:schema:xfdu:1}",
}
SMALL = Synthetic(tiles=["33UUP"], dates=[datetime(2018, 6, 12)], raster_px=(480, 600), offset_px=(1200, 2400), cell_m=700)


def noise_product(height_px: int = 240, width_px: int = 360) -> dict[str, object]:
    """Arguments for a product of random pixels over all of uint16, the two extremes among them."""
    rng = np.random.default_rng(7)
    bands = {
        band.name: rng.integers(0, 65536, (height_px * 10 // band.gsd_m, width_px * 10 // band.gsd_m), np.uint16)
        for band in SENTINEL2.bands
    }
    bands["B02"][0, :2] = 0, 65535
    mask = rng.integers(0, 12, (height_px // 2, width_px // 2), np.uint8)
    return {"tile": TILE, "sensing": SENSING, "bands": bands, "scl": mask, "cloud_probability": mask, "snow_probability": mask}


def read(product: Path, ending: str) -> np.ndarray:
    with rasterio.open(next(product.rglob(f"*{ending}"))) as raster:
        return raster.read(1)


def digests(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


def raster_of(spec: Synthetic, name: str = "33UUP") -> PatchGrid:
    tile = Tile.from_name(name)
    (height, width), (down, right) = spec.raster_px, spec.offset_px
    return PatchGrid(tile, tile.ul_x_m + right * 10, tile.ul_y_m - down * 10, width * 10, height * 10)


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    given = noise_product()
    corner = {"ul_x_m": TILE.ul_x_m + 2400, "ul_y_m": TILE.ul_y_m - 3600}
    return write_l2a_safe(tmp_path_factory.mktemp("noise"), **given, **corner), given


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("small")
    return folder, synthesize(SMALL, folder)


@pytest.fixture(scope="module")
def painter() -> Painter:
    raster = raster_of(Synthetic(tiles=["33UUP"], dates=[SENSING], raster_px=(840, 1200), offset_px=(4800, 960)))
    return Painter(Ground.around([raster], seed=3, cell_m=1500), raster)


class TestProduct:
    def test_every_pixel_reads_back_equal_at_its_native_resolution(self, product):
        folder, given = product
        for band in SENTINEL2.bands:
            assert np.array_equal(
                read(folder, f"R{band.gsd_m}m/T33UUP_20180612T101031_{band.name}_{band.gsd_m}m.jp2"), given["bands"][band.name]
            )
        for ending in ("SCL_20m.jp2", "MSK_CLDPRB_20m.jp2", "MSK_SNWPRB_20m.jp2"):
            assert np.array_equal(read(folder, ending), given["scl"])

    def test_files_are_jpeg_2000_and_lie_where_the_tile_lies(self, product):
        folder, _ = product
        for gsd_m, path in ((10, "B02_10m.jp2"), (20, "SCL_20m.jp2"), (60, "B09_60m.jp2")):
            with rasterio.open(next(folder.rglob(f"*{path}"))) as raster:
                assert raster.driver == "JP2OpenJPEG"
                assert raster.crs.to_epsg() == 32633
                assert tuple(raster.transform)[:6] == (gsd_m, 0, 300_000 + 2400, 0, -gsd_m, 5_400_000 - 3600)

    def test_tile_xml_states_the_same_place(self, product):
        folder, _ = product
        root = ElementTree.parse(next(folder.rglob("MTD_TL.xml"))).getroot()
        assert root.tag == XML["tile"] + "Level-2A_Tile_ID"
        geocoding = root.find(f"{XML['tile']}Geometric_Info/Tile_Geocoding")
        assert geocoding.findtext("HORIZONTAL_CS_CODE") == "EPSG:32633"
        assert [s.findtext("NROWS") for s in geocoding.findall("Size")] == ["240", "120", "40"]
        assert {g.findtext("ULX") for g in geocoding.findall("Geoposition")} == {"302400"}
        assert {g.findtext("ULY") for g in geocoding.findall("Geoposition")} == {"5396400"}
        assert root.findtext(f"{XML['tile']}General_Info/SENSING_TIME") == "2018-06-12T10:10:31.000Z"

    def test_product_xml_names_all_images_and_thirteen_offsets(self, product):
        folder, _ = product
        root = ElementTree.parse(folder / "MTD_MSIL2A.xml").getroot()
        info = root.find(f"{XML['product']}General_Info")
        assert info.findtext("Product_Info/PRODUCT_URI") == folder.name
        assert [(e.get("band_id"), e.text) for e in info.iter("BOA_ADD_OFFSET")] == [(str(index), "-1000") for index in range(13)]
        images = [folder / f"{e.text}.jp2" for e in info.iter("IMAGE_FILE")]
        assert len(images) == 13
        assert all(image.is_file() for image in images)
        assert {e.text for e in root.iter("quality_check")} == {"PASSED"}

    def test_vegetation_share_in_the_xml_is_that_of_the_scene_classification(self, product):
        folder, given = product
        scl = given["scl"]
        expected = 100 * (scl == 4).sum() / (scl != 0).sum()
        text = ElementTree.parse(next(folder.rglob("MTD_TL.xml"))).getroot().find(".//VEGETATION_PERCENTAGE").text
        assert float(text) == pytest.approx(expected, abs=1e-6)

    def test_manifest_lists_every_file_with_its_size_and_checksum(self, product):
        folder, _ = product
        root = ElementTree.parse(folder / "manifest.safe").getroot()
        assert root.tag == XML["xfdu"] + "XFDU"
        listed = {}
        for stream in root.iter("byteStream"):
            path = folder / stream.find("fileLocation").get("href")
            assert path.stat().st_size == int(stream.get("size"))
            assert hashlib.sha3_256(path.read_bytes()).hexdigest() == stream.findtext("checksum")
            listed[path.resolve()] = path
        assert set(listed) == {p.resolve() for p in folder.rglob("*") if p.is_file() and p.name != "manifest.safe"}

    @pytest.mark.parametrize(("baseline", "offsets"), [("03.01", 0), ("04.00", 13), ("99.99", 0)])
    def test_offsets_follow_the_baseline(self, tmp_path, baseline, offsets):
        given = noise_product(120, 120)
        root = ElementTree.parse(write_l2a_safe(tmp_path, **given, baseline=baseline) / "MTD_MSIL2A.xml").getroot()
        assert len(list(root.iter("BOA_ADD_OFFSET"))) == offsets

    def test_same_arguments_give_the_same_bytes(self, product, tmp_path):
        folder, given = product
        again = write_l2a_safe(tmp_path, **given, ul_x_m=TILE.ul_x_m + 2400, ul_y_m=TILE.ul_y_m - 3600, threads=1)
        assert digests(again) == digests(folder)

    def test_a_failed_quality_check_is_written(self, tmp_path):
        folder = write_l2a_safe(tmp_path, **noise_product(120, 120), quality_checks={"SENSOR_QUALITY": "FAILED"})
        flags = {e.get("checkType"): e.text for e in ElementTree.parse(folder / "MTD_MSIL2A.xml").getroot().iter("quality_check")}
        assert flags["SENSOR_QUALITY"] == "FAILED"
        assert flags["GENERAL_QUALITY"] == "PASSED"

    def test_bands_of_different_ground_are_refused_and_nothing_is_left(self, tmp_path):
        given = noise_product(120, 120)
        given["bands"]["B11"] = np.zeros((61, 60), np.uint16)
        with pytest.raises(SceneError, match="B11 has 61 x 60 pixels of 20 m; expected 60 x 60"):
            write_l2a_safe(tmp_path, **given)
        assert list(tmp_path.iterdir()) == []

    def test_a_raster_beyond_its_tile_is_refused(self, tmp_path):
        with pytest.raises(GridError, match="does not lie in tile 33UUP"):
            write_l2a_safe(tmp_path, **noise_product(120, 120), ul_x_m=TILE.ul_x_m - 1200)


class TestSentinel1Pair:
    def test_backscatter_and_missing_pixels_read_back_equal(self, tmp_path):
        rng = np.random.default_rng(1)
        vv, vh = rng.normal(-12, 4, (2, 120, 240)).astype(np.float32)
        vh[3, 5] = np.nan
        name = "S1A_IW_GRDH_1SDV_20180612T165043_20180612T165108_022328_12FA3D_8783"
        folder = write_s1_pair(tmp_path, product_name=name, tile=TILE, vv=vv, vh=vh)
        assert folder.name == name
        with rasterio.open(folder / f"{name}_VH.tif") as raster:
            assert raster.dtypes == ("float32",)
            assert np.isnan(raster.nodata)
            assert raster.bounds[0] == TILE.ul_x_m
            assert np.array_equal(raster.read(1), vh, equal_nan=True)
        assert np.array_equal(read(folder, "_VV.tif"), vv)


class TestGround:
    def test_labels_from_the_file_equal_the_map_behind_the_pixels(self, made):
        _, inputs = made
        raster = raster_of(SMALL)
        polygons = gpd.read_file(inputs.labels)
        assert polygons.crs.to_epsg() == 3035
        shapes = zip(polygons.to_crs(raster.tile.epsg).geometry, polygons["Code_18"].astype(int), strict=True)
        with rasterio.open(next(inputs.sentinel2[0].rglob("*B02_10m.jp2"))) as band:
            burnt = rasterize(shapes, out_shape=band.shape, transform=band.transform, fill=999, dtype="uint16")
        painter = Painter(Ground.around([raster], seed=SMALL.seed, cell_m=SMALL.cell_m), raster)
        assert np.array_equal(burnt, painter.codes)

    def test_default_ground_shows_at_least_ten_classes_and_some_unlabelled_ground(self):
        spec = Synthetic(tiles=["33UUP", "33TWN"], dates=[SENSING])
        rasters = [raster_of(spec, name) for name in spec.tiles]
        ground = Ground.around(rasters, seed=spec.seed, cell_m=spec.cell_m)
        assert ground.polygons.is_valid.all()
        nomenclature = load_nomenclature("bigearthnet-19")
        codes = np.concatenate([np.unique(Painter(ground, raster).codes) for raster in rasters])
        classes = {nomenclature.class_of_code.get(int(code)) for code in codes}
        assert len(classes - {None}) >= 10
        assert None in classes
        assert {int(code) for code in codes} <= set(nomenclature.code_names) | {999}

    def test_tiles_that_overlap_see_the_same_ground(self):
        # 33UUP and 33UVP overlap; the raster of one is looked at from a ground made for both and for it alone.
        west, east = Tile.from_name("33UUP"), Tile.from_name("33UVP")
        strip = PatchGrid(west, west.ul_x_m + 102_000, west.ul_y_m - 12_000, 6000, 6000)
        same = PatchGrid(east, strip.ul_x_m, strip.ul_y_m, 6000, 6000)
        alone, other = Ground.around([strip], seed=1, cell_m=900), Ground.around([same], seed=1, cell_m=900)
        assert np.array_equal(Painter(alone, strip).codes, Painter(other, same).codes)

    def test_countries_cover_the_ground_and_split_it(self):
        raster = raster_of(SMALL)
        countries = countries_around([raster], seed=0).to_crs(raster.tile.epsg)
        ground = gpd.GeoSeries.from_xy([raster.ul_x_m, raster.ul_x_m + raster.width_m], [raster.ul_y_m] * 2, crs=raster.tile.epsg)
        names = [countries.loc[countries.contains(point), "NAME"].tolist() for point in ground]
        assert [len(found) for found in names] == [1, 1]
        assert names[0] != names[1]


class TestPixels:
    def test_pixels_do_not_depend_on_how_many_rows_are_painted_at_a_time(self, painter):
        asked = {"clouds": 2, "nodata_strip": True}
        whole = painter.optical(SENSING, **asked)
        parts = [painter.optical(SENSING, **asked, rows=slice(*ends)) for ends in ((0, 66), (66, 600), (600, 840))]
        for name, pixels in whole.bands.items():
            assert np.array_equal(np.concatenate([part.bands[name] for part in parts]), pixels), name
        assert np.array_equal(np.concatenate([part.scl for part in parts]), whole.scl)
        echoes = painter.backscatter(SENSING)["VH"]
        assert np.array_equal(
            np.concatenate([painter.backscatter(SENSING, rows=slice(*ends))["VH"] for ends in ((0, 500), (500, 840))]), echoes
        )

    def test_strip_without_data_is_the_same_in_all_bands_and_spares_the_radar(self, painter):
        view = painter.optical(SENSING, clouds=0, nodata_strip=True)
        missing = view.bands["B01"] == 0
        assert 0.005 < missing.mean() < 0.1
        assert missing[:, 0].all()
        for name, pixels in view.bands.items():
            factor = 60 // SENTINEL2[name].gsd_m
            assert np.array_equal(pixels == 0, missing.repeat(factor, 0).repeat(factor, 1)), name
        assert np.array_equal(view.scl == 0, missing.repeat(3, 0).repeat(3, 1))
        assert np.isfinite(painter.backscatter(SENSING)["VV"]).all()
        assert (painter.optical(SENSING, clouds=0, nodata_strip=False).bands["B01"] > 0).all()

    def test_clouds_are_bright_classified_probable_and_throw_shadows(self, painter):
        clear, view = (painter.optical(SENSING, clouds=count, nodata_strip=False) for count in (0, 2))
        cloud, shadow = view.scl == 9, view.scl == 3
        assert cloud.mean() > 0.003
        assert shadow.any()
        assert not np.isin(clear.scl, (3, 8, 9, 10)).any()
        assert (view.cloud_probability[cloud] > 50).all()
        assert clear.cloud_probability.max() < 10
        assert view.bands["B05"][cloud].mean() > clear.bands["B05"][cloud].mean() + 1500
        assert view.bands["B8A"][shadow].mean() < clear.bands["B8A"][shadow].mean()

    def test_winter_brings_snow_to_high_ground(self, painter):
        view = painter.optical(datetime(2018, 1, 20, 10, 10, 31, tzinfo=UTC), clouds=0, nodata_strip=False)
        snow = view.scl == 11
        assert snow.any()
        assert view.snow_probability[snow].min() > 20
        assert not (painter.optical(SENSING, clouds=0, nodata_strip=False).scl == 11).any()

    def test_counts_carry_the_offset_and_open_water_falls_below_it_now_and_then(self, painter):
        view = painter.optical(SENSING, clouds=0, nodata_strip=False)
        water = minimum_filter(painter.codes == 523, 9) | minimum_filter(painter.codes == 512, 9)
        infrared = view.bands["B08"][water]
        assert abs(infrared.mean() - 1050) < 60
        assert (infrared < 1000).any()

    def test_nearest_mean_finds_most_pure_pixels_of_another_tile(self):
        """Trained on one tile and tried on another, twelve bands and two polarisations without texture."""
        spec = Synthetic(tiles=["33UUP", "33TWN"], dates=[SENSING], raster_px=(960, 1920), offset_px=(4800, 0))
        rasters = [raster_of(spec, name) for name in spec.tiles]
        ground = Ground.around(rasters, seed=0, cell_m=1000)
        class_of = load_nomenclature("bigearthnet-19").class_of_code
        features, truth = [], []
        for raster in rasters:
            painter = Painter(ground, raster)
            view, echoes = painter.optical(SENSING, clouds=0, nodata_strip=False), painter.backscatter(SENSING)
            codes = painter.codes
            pure = minimum_filter(codes, 13) == maximum_filter(codes, 13)
            pure &= np.isin(codes, list(class_of))
            finest = [px.repeat(len(codes) // len(px), 0).repeat(len(codes) // len(px), 1) / 10_000 for px in view.bands.values()]
            stack = np.stack([*finest, echoes["VV"] / 20, echoes["VH"] / 20], axis=-1)
            features.append(stack[pure][::7])
            truth.append(np.array([class_of[int(code)] for code in codes[pure][::7]]))
        names = np.unique(truth[0])
        spread = features[0].std(axis=0)
        means = np.stack([features[0][truth[0] == name].mean(axis=0) for name in names]) / spread
        distance = ((features[1] / spread)[:, None] - means[None]) ** 2
        hit = names[distance.sum(axis=-1).argmin(axis=1)] == truth[1]
        assert 0.6 < hit.mean() < 0.97  # neither hopeless nor trivial
        assert len(names) >= 10


class TestSynthesize:
    def test_a_scene_per_tile_and_date_with_a_radar_twin_within_hours(self, made):
        _, inputs = made
        assert len(inputs.sentinel2) == len(inputs.sentinel1) == 1
        assert inputs.sentinel2[0].name.startswith("S2A_MSIL2A_20180612T101031_N0509_")
        start = datetime.strptime(inputs.sentinel1[0].name[17:32] + "+0000", "%Y%m%dT%H%M%S%z")
        assert 1 < abs((start - SENSING).total_seconds()) / 3600 < 12
        assert gpd.read_file(inputs.countries)["NAME"].nunique() == 3
        assert (read(inputs.sentinel2[0], "SCL_20m.jp2") == 9).any()

    def test_same_request_gives_the_same_bytes_and_another_seed_others(self, made, tmp_path):
        folder, inputs = made
        synthesize(SMALL, tmp_path / "again")
        assert digests(tmp_path / "again") == digests(folder)
        other = synthesize(SMALL.model_copy(update={"seed": 1}), tmp_path / "other")
        ours, theirs = read(inputs.sentinel2[0], "B04_10m.jp2"), read(other.sentinel2[0], "B04_10m.jp2")
        assert (ours != theirs).mean() > 0.9

    def test_what_is_whole_is_kept_and_what_is_missing_is_made(self, tmp_path):
        spec = SMALL.model_copy(update={"raster_px": (120, 240), "dates": [datetime(2018, 6, 12), datetime(2018, 9, 20)]})
        inputs = synthesize(spec, tmp_path)
        before = digests(tmp_path)
        for path in inputs.sentinel2[1].rglob("*"):
            path.unlink() if path.is_file() else None
        kept = {p: p.stat().st_mtime_ns for p in inputs.sentinel2[0].rglob("*")}
        for folder in sorted(inputs.sentinel2[1].rglob("*"), reverse=True):
            folder.rmdir()
        inputs.sentinel2[1].rmdir()
        told: list[str] = []
        assert synthesize(spec, tmp_path, told.append) == inputs
        assert digests(tmp_path) == before
        assert {p: p.stat().st_mtime_ns for p in inputs.sentinel2[0].rglob("*")} == kept
        assert all("20180920" in line for line in told)

    def test_another_request_in_the_same_folder_leaves_no_old_scene(self, tmp_path):
        spec = SMALL.model_copy(update={"raster_px": (120, 120)})
        old = read(synthesize(spec, tmp_path).sentinel2[0], "B02_10m.jp2")
        new = read(synthesize(spec.model_copy(update={"seed": 5}), tmp_path).sentinel2[0], "B02_10m.jp2")
        assert not np.array_equal(old, new)
        assert len(list((tmp_path / "sentinel2").iterdir())) == 1

    def test_a_raster_that_holds_no_whole_patches_is_refused(self, tmp_path):
        with pytest.raises(RecipeError, match="multiples of 120"):
            synthesize(SMALL.model_copy(update={"raster_px": (100, 120)}), tmp_path)
