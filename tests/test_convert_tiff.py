"""TIFFs read without GDAL: the same pixels as rasterio gives, or a reason why rasterio has to."""

import struct
from pathlib import Path

import numpy as np
import pytest
import rasterio

from rsdata.errors import ShardError
from rsdata.shards.convert.tiff import Unusual, parse, pixels_of, read_tiff, template_of

OPTIONS: dict[str, dict[str, object]] = {
    "strips": {},
    "one row per strip": {"blockysize": 1},
    "bands apart": {"interleave": "band"},
    "bands together": {"interleave": "pixel"},
    "deflated": {"compress": "deflate"},
    "deflated differences": {"compress": "deflate", "predictor": 2, "interleave": "pixel"},
    "deflated differences, bands apart": {"compress": "deflate", "predictor": 2, "interleave": "band"},
}


def write_tiff(path: Path, pixels: np.ndarray, **options: object) -> Path:
    """A GeoTIFF of (band, y, x) as GDAL writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands, height, width = pixels.shape
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 390_000, 0, -10, 5_348_400)}
    profile = {"driver": "GTiff", "count": bands, "height": height, "width": width, "dtype": pixels.dtype, **place, **options}
    with rasterio.open(path, "w", **profile) as raster:
        raster.write(pixels)
    return path


def random_pixels(dtype: str, shape: tuple[int, int, int] = (3, 37, 41), seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return random.normal(-12, 5, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_pixels_are_those_of_rasterio(tmp_path, dtype, options):
    if dtype.startswith("float"):
        options = options.removesuffix(" differences").removesuffix(" differences, bands apart")  # of floats they are another predictor
    options = OPTIONS[options]
    pixels = random_pixels(dtype)
    path = write_tiff(tmp_path / "a.tif", pixels, **options)
    read, unusual, _, _ = read_tiff(path)
    assert unusual is None
    assert read.dtype == pixels.dtype
    assert np.array_equal(read, pixels)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"tiled": True, "blockxsize": 16, "blockysize": 16}, "tag 322"),
        ({"compress": "lzw"}, "compression 5"),
        ({"compress": "deflate", "predictor": 3}, "predictor 3"),
        ({"BIGTIFF": "YES"}, "not a little-endian classic TIFF"),
        ({"ENDIANNESS": "BIG"}, "not a little-endian classic TIFF"),
        ({"nbits": 12}, "bits per sample"),
        ({"sparse_ok": True}, "sparse or odd strips"),
    ],
)
def test_what_is_unusual_is_read_by_rasterio_and_the_reason_told(tmp_path, options, reason):
    dtype = "float32" if options.get("predictor") == 3 else "uint16"
    pixels = random_pixels(dtype) if "sparse_ok" not in options else np.zeros((1, 40, 40), dtype)
    if "nbits" in options:
        pixels &= 0xFFF
    path = write_tiff(tmp_path / "a.tif", pixels, **options)
    read, unusual, _, structure = read_tiff(path)
    assert unusual == reason
    assert structure is None
    assert np.array_equal(read, pixels)


def test_a_second_image_in_the_file_is_unusual(tmp_path):
    path = write_tiff(tmp_path / "a.tif", random_pixels("uint16", (1, 64, 64)))
    with rasterio.open(path, "r+") as raster:
        raster.build_overviews([2])
    with pytest.raises(Unusual, match="several images"):
        parse(path.read_bytes(), path)


def copy_by(template, data: bytes, size: int) -> np.ndarray:
    value = np.zeros(size, np.uint8)
    for source, target, length in template.runs:
        value[target : target + length] = np.frombuffer(data, np.uint8)[source : source + length]
    return value


def test_a_template_copies_each_band_to_its_place(tmp_path):
    pixels = random_pixels("uint16")
    path = write_tiff(tmp_path / "a.tif", pixels, interleave="band", blockysize=5)
    data = path.read_bytes()
    template = template_of(data, parse(data, path), [pixels[0].nbytes * place for place in (2, 0, 1)])
    assert template is not None
    value = copy_by(template, data, pixels.nbytes).view("<u2").reshape(pixels.shape)
    assert np.array_equal(value, pixels[[1, 2, 0]])


def test_strips_that_follow_each_other_are_one_run(tmp_path):
    data = write_tiff(tmp_path / "a.tif", random_pixels("uint16", (1, 40, 40)), blockysize=4).read_bytes()
    template = template_of(data, parse(data, tmp_path), [0])
    assert template is not None
    assert [length for *_, length in template.runs] == [3200]


def test_pixels_that_must_be_put_in_order_have_no_template(tmp_path):
    for name in ("bands together", "deflated"):
        data = write_tiff(tmp_path / "a.tif", random_pixels("uint16"), **OPTIONS[name]).read_bytes()
        assert template_of(data, parse(data, tmp_path), [0, 1, 2]) is None


def test_the_place_on_earth_is_not_compared_and_the_size_is(tmp_path):
    pixels = random_pixels("uint16", (1, 40, 40))
    here = write_tiff(tmp_path / "a.tif", pixels).read_bytes()
    template = template_of(here, parse(here, tmp_path), [0])
    assert template is not None
    there = write_tiff(tmp_path / "b.tif", pixels, transform=rasterio.Affine(10, 0, 300_000, 0, -10, 5_000_000)).read_bytes()
    assert there != here
    assert all(there[first : first + len(text)] == text for first, text in template.compared)
    other = write_tiff(tmp_path / "c.tif", random_pixels("uint16", (1, 20, 80))).read_bytes()
    assert not all(other[first : first + len(text)] == text for first, text in template.compared)


def test_every_cut_of_a_file_is_refused_or_left_to_rasterio_which_refuses_it(tmp_path):
    path = write_tiff(tmp_path / "a.tif", random_pixels("uint16", (1, 20, 20)))
    whole = path.read_bytes()
    for length in (0, 3, 7, 9, 60, 200, 300, len(whole) - 400, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ShardError, match=r"a\.tif (ends after|is not a TIFF)"):
            read_tiff(path)


def test_a_deflated_strip_that_is_damaged_is_refused(tmp_path):
    path = write_tiff(tmp_path / "a.tif", random_pixels("uint16"), compress="deflate")
    data = bytearray(path.read_bytes())
    (first, length) = parse(bytes(data), path).strips[0]
    data[first + length // 2 : first + length // 2 + 8] = b"\xff" * 8
    path.write_bytes(data)
    with pytest.raises(ShardError, match=r"a\.tif holds (damaged pixels|a strip)"):
        read_tiff(path)


def test_no_bytes_make_the_parser_fail_in_another_way(tmp_path):
    whole = write_tiff(tmp_path / "a.tif", random_pixels("uint16", (2, 8, 8)), interleave="band").read_bytes()
    random = np.random.default_rng(5)
    for _ in range(3000):
        data = bytearray(whole)
        for place in random.integers(0, len(whole) - 256, 3):
            data[place] = random.integers(256)
        try:
            structure = parse(bytes(data), tmp_path)
            if np.prod(structure.shape) < 1e6:
                pixels_of(bytes(data), structure, tmp_path)
        except (ShardError, Unusual):
            pass


def test_an_ifd_at_the_end_of_the_file_is_followed(tmp_path):
    whole = write_tiff(tmp_path / "a.tif", random_pixels("uint16", (1, 20, 20))).read_bytes()
    (directory,) = struct.unpack_from("<I", whole, 4)
    (entries,) = struct.unpack_from("<H", whole, directory)
    moved = whole + whole[directory : directory + 6 + 12 * entries]
    path = tmp_path / "b.tif"
    path.write_bytes(moved[:4] + struct.pack("<I", len(whole)) + moved[8:])
    read, unusual, _, _ = read_tiff(path)
    assert unusual is None
    assert np.array_equal(read, random_pixels("uint16", (1, 20, 20)))


def test_every_real_file_at_hand_reads_as_rasterio_reads_it(shared_data):
    reasons = set()
    for folder in ("bigearthnet_v2", "bigearthnet_v1_pairs", "ssl4eo_s12", "eurosat_ms"):
        paths = sorted((shared_data / folder).rglob("*.tif"))
        assert paths
        for path in paths:
            read, unusual, _, _ = read_tiff(path)
            with rasterio.open(path) as raster:
                expected = raster.read()
            assert read.dtype == expected.dtype
            assert np.array_equal(read, expected, equal_nan=expected.dtype.kind == "f"), path
            reasons.add(unusual)
    assert reasons == {None, "predictor 3"}
