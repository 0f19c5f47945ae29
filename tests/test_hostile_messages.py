"""Damaged and hostile inputs, each made here and read: what rsdata says is what docs/messages.md says that it says."""

import json
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine
from numcodecs import Zstd

from rsdata import catalog, labels, scenes
from rsdata.commands.console import reason_and_remedy
from rsdata.errors import RsdataError
from rsdata.recipe import Labels, load_recipe
from rsdata.records import ShardIndexRow
from rsdata.scenes.dem import open_dem
from rsdata.scenes.grd import open_grd
from rsdata.scenes.sen2cor.source import unpack
from rsdata.shards.compression import Compression
from rsdata.shards.convert.tiff import read_tiff
from rsdata.shards.lmdb import LmdbStore, write_lmdb
from rsdata.shards.manifest import read_index, read_manifest, write_rows
from rsdata.shards.values import decode, encode
from rsdata.shards.zarr import ZarrStore, write_zarr
from rsdata.testing.grd import GrdScene, write_grd_safe

PAGE = Path(__file__).parents[1] / "docs" / "messages.md"
GROUND = labels.Area(32633, 500_000, 5_300_000, 502_400, 5_302_400)
CLC = labels.load_nomenclature("bigearthnet-19")
KEY = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57"
BANDS = {"B02": np.arange(400, dtype=np.uint16).reshape(20, 20), "B03": np.ones((20, 20), np.uint16)}
PLACE = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500_000, 0, -10, 5_302_400)}
VERBS = "correct fetch give make name read see write"
TO_DO = re.compile(rf"(^|, so |, )({VERBS.replace(' ', '|')})\b")  # what every message ends in
CASES: dict[str, Callable[..., object]] = {}


def case(what: str) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """A row of the table: what is wrong, and a function that makes such an input in a folder and has rsdata read it."""

    def add(make: Callable[..., object]) -> Callable[..., object]:
        assert what not in CASES
        CASES[what] = make
        return make

    return add


def rows() -> dict[str, str]:
    """What is wrong to the message, as the page has them."""
    section = PAGE.read_text(encoding="utf-8").partition("## Damaged and hostile files\n")[2].partition("\n## ")[0]
    found = re.findall(r"^\| ([^|`]+) \| (`+) ?(.+?) ?\2 \|$", section, re.MULTILINE)
    return {what: said for what, _, said in found}


def test_the_page_lists_forty_inputs_and_more_and_each_is_made_here():
    assert len(rows()) >= 40
    assert sorted(rows()) == sorted(CASES)


@pytest.mark.parametrize("what", CASES)
def test_what_rsdata_says_is_what_the_page_says(what, made_safe, tmp_path):
    with pytest.raises(RsdataError) as caught:
        CASES[what](*(tmp_path, made_safe)[: CASES[what].__code__.co_argcount])
    said = str(caught.value)
    pattern = ".*".join(re.escape(part) for part in rows()[what].split("…"))
    assert re.fullmatch(pattern, said, re.DOTALL), said
    remedy = reason_and_remedy(said)[1]
    assert said.endswith(remedy) and TO_DO.search(remedy), f"{said!r} does not say what to do"
    assert len(said) < 700 + said.count(str(tmp_path)) * len(str(tmp_path))


# --- Sentinel-2 -------------------------------------------------------------------------------------------


def copied(folder: Path, safe: Path) -> Path:
    return Path(shutil.copytree(safe, folder / safe.name))


def the(safe: Path, pattern: str) -> Path:
    (found,) = safe.rglob(pattern)
    return found


def rewritten(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.search(old, text)
    path.write_text(re.sub(old, new, text, count=1), encoding="utf-8")


@case("a JPEG 2000 file is cut short")
def _(folder, safe):
    safe = copied(folder, safe)
    jp2 = the(safe, "*_B05_20m.jp2")
    jp2.write_bytes(jp2.read_bytes()[:1000])
    scenes.check_complete(scenes.open_sentinel2(safe))


@case("a file decodes, but to wrong pixels")
def _(folder, safe):
    safe = copied(folder, safe)
    jp2 = the(safe, "*_B04_10m.jp2")
    data = bytearray(jp2.read_bytes())
    data[-200] ^= 1
    jp2.write_bytes(data)
    scenes.check_contents(scenes.open_sentinel2(safe))


@case("a file does not decode")
def _(folder, safe):
    safe = copied(folder, safe)
    jp2 = the(safe, "*_B03_10m.jp2")
    jp2.write_bytes(bytes(jp2.stat().st_size))
    scenes.open_sentinel2(safe).read("B03")


@case("a band is missing")
def _(folder, safe):
    safe = copied(folder, safe)
    the(safe, "*_B8A_20m.jp2").unlink()
    scenes.check_complete(scenes.open_sentinel2(safe))


@case("a raster disagrees with its metadata")
def _(folder, safe):
    safe = copied(folder, safe)
    shutil.copy(the(safe, "*_B05_20m.jp2"), the(safe, "*_B01_60m.jp2"))
    scenes.open_sentinel2(safe).read("B01")


def empty_tiff(path: Path, width: int, height: int, **about: object) -> None:
    """A GeoTIFF of some kilobytes that claims any size, as none of its tiles are stored."""
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint16", "sparse_ok": True, "tiled": True, "blockxsize": 4096, "blockysize": 4096}
    with rasterio.open(path, "w", width=width, height=height, BIGTIFF="YES", **(profile | PLACE | about)):
        pass


@case("a raster claims a billion pixels")
def _(folder, safe):
    safe = copied(folder, safe)
    empty_tiff(the(safe, "*_B02_10m.jp2"), 40_000, 40_000)
    scenes.open_sentinel2(safe).read("B02")


@case("metadata claim a tile of a billion pixels")
def _(folder, safe):
    safe = copied(folder, safe)
    rewritten(the(safe, "MTD_TL.xml"), r"<NROWS>\d+</NROWS>", "<NROWS>1000000000</NROWS>")
    scenes.open_sentinel2(safe)


@case("XML is broken")
def _(folder, safe):
    safe = copied(folder, safe)
    xml = safe / "MTD_MSIL2A.xml"
    xml.write_text(xml.read_text()[:2000])
    scenes.open_sentinel2(safe)


@case("XML declares entities that multiply")
def _(folder, safe):
    safe = copied(folder, safe)
    lol = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    rewritten(safe / "MTD_MSIL2A.xml", r"\?>", f'?>\n<!DOCTYPE a [<!ENTITY a0 "lol">{lol}]>')
    scenes.open_sentinel2(safe)


@case("XML names another file as a part of itself")
def _(folder, safe):
    safe = copied(folder, safe)
    rewritten(the(safe, "MTD_TL.xml"), r"\?>", '?>\n<!DOCTYPE a SYSTEM "file:///etc/passwd">')
    scenes.open_sentinel2(safe)


@case("XML is larger than any metadata")
def _(folder, safe):
    safe = copied(folder, safe)
    with (safe / "MTD_MSIL2A.xml").open("r+b") as stream:
        stream.truncate(70_000_000)
    scenes.open_sentinel2(safe)


@case("XML holds a word where a number belongs")
def _(folder, safe):
    safe = copied(folder, safe)
    rewritten(safe / "MTD_MSIL2A.xml", r"(<BOA_QUANTIFICATION_VALUE[^>]*>)\d+", r"\1many")
    scenes.open_sentinel2(safe)


@case("XML holds a number that makes no sense")
def _(folder, safe):
    safe = copied(folder, safe)
    rewritten(the(safe, "MTD_TL.xml"), r"<ULX>\d+</ULX>", "<ULX>NaN</ULX>")
    scenes.open_sentinel2(safe)


@case("XML holds a day that never was")
def _(folder, safe):
    safe = copied(folder, safe)
    rewritten(the(safe, "MTD_TL.xml"), r"(<SENSING_TIME[^>]*>)[^<]+", r"\g<1>2023-02-30T10:10:31Z")
    scenes.open_sentinel2(safe)


@case("a folder is empty")
def _(folder):
    (folder / "S2A.SAFE").mkdir()
    scenes.open_sentinel2(folder / "S2A.SAFE")


@case("a zip is none")
def _(folder):
    (folder / "S2A.zip").write_bytes(b"PK\x03\x04 and then nothing")
    scenes.open_sentinel2(folder / "S2A.zip")


@case("a zip holds no product")
def _(folder):
    zipped(folder / "S2A.zip", {"readme.txt": b"nothing"})
    scenes.open_sentinel2(folder / "S2A.zip")


@case("a file in a zip is damaged")
def _(folder, safe):
    path = folder / f"{safe.stem}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in [*sorted(safe.rglob("*.xml")), safe / "manifest.safe"]:
            archive.write(file, f"{safe.name}/{file.relative_to(safe).as_posix()}")
        at = archive.getinfo(f"{safe.name}/manifest.safe").header_offset
    data = bytearray(path.read_bytes())
    data[at + 200 : at + 230] = bytes(30)
    path.write_bytes(data)
    scenes.open_sentinel2(path)


# --- archives that are unpacked ---------------------------------------------------------------------------


def zipped(path: Path, entries: dict[str, bytes], **attributes: int) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            info = zipfile.ZipInfo(name)
            for key, value in attributes.items():
                setattr(info, key, value)
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return path


@case("a zip would write outside its folder")
def _(folder):
    unpack(zipped(folder / "a.zip", {"S2A.SAFE/a": b"a", "../../.bashrc": b"b"}), folder / "out")


@case("a zip holds a link")
def _(folder):
    unpack(zipped(folder / "a.zip", {"S2A.SAFE/a": b"/etc/passwd"}, create_system=3, external_attr=0o120777 << 16), folder / "out")


@case("a zip holds a device")
def _(folder):
    unpack(zipped(folder / "a.zip", {"S2A.SAFE/a": b""}, create_system=3, external_attr=0o020666 << 16), folder / "out")


@case("a zip holds a path twice")
def _(folder):
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr("a", b"1")
        archive.writestr("a", b"2")
    unpack(folder / "a.zip", folder / "out")


@case("a zip unpacks to far more than it packs")
def _(folder):
    path = zipped(folder / "a.zip", {"a": bytes(10**6)})
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02") + 24  # size of the entry, in the directory at the end
    data[at : at + 4] = struct.pack("<I", 2**31)
    path.write_bytes(data)
    unpack(path, folder / "out")


@case("an entry of a zip is longer than it says")
def _(folder):
    path = zipped(folder / "a.zip", {"a": bytes(10**6)})
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02") + 24
    data[at : at + 4] = struct.pack("<I", 1000)
    path.write_bytes(data)
    unpack(path, folder / "out")


# --- Sentinel-1 -------------------------------------------------------------------------------------------


def grd(folder: Path) -> Path:
    scene = GrdScene(12.5, 47.0, datetime(2023, 6, 12, 5, 12, 34, tzinfo=UTC), (60, 80))
    dn = np.full(scene.shape_yx, 300, np.uint16)
    return write_grd_safe(folder, scene, {"VV": dn, "VH": dn})


@case("a GRD product lacks its calibration")
def _(folder):
    safe = grd(folder)
    the(safe, "calibration-*vv*.xml").unlink()
    open_grd(safe)


@case("an annotation claims a billion pixels")
def _(folder):
    safe = grd(folder)
    rewritten(the(safe / "annotation", "s1a*vh*.xml"), r"<numberOfSamples>\d+", "<numberOfSamples>1000000000")
    open_grd(safe)


@case("a BEAM-DIMAP header is none")
def _(folder):
    (folder / "a.dim").write_text("<html><body>404</body></html>")
    scenes.open_sentinel1(folder / "a.dim")


@case("a STAC item is none")
def _(folder):
    (folder / "item.json").write_text('{"type": "FeatureCollection", "features": []}')
    scenes.open_stac_item(folder / "item.json")


@case("JSON is nested without end")
def _(folder):
    (folder / "item.json").write_text("[" * 200_000)
    scenes.open_stac_item(folder / "item.json")


@case("an elevation model is no raster")
def _(folder):
    (folder / "dem.tif").write_bytes(b"II*\0 and then nothing")
    open_dem([folder / "dem.tif"])


@case("an elevation model would fill the memory")
def _(folder):
    empty_tiff(folder / "dem.tif", 2**20, 2**20, dtype="float32", transform=Affine(0.01, 0, 500_000, 0, -0.01, 5_302_400))
    open_dem([folder / "dem.tif"], datum="ellipsoid").heights(32633, 500_005 + 10 * np.arange(90.0), 5_302_395 - 10 * np.arange(90.0))


# --- labels -----------------------------------------------------------------------------------------------


def layer(path: Path, column: str = "Code_18", value: object = "112", left_m: float = 500_000) -> Path:
    boxes = [shapely.box(left_m, 5_300_000, left_m + 2_400, 5_302_400)]
    table = gpd.GeoDataFrame({column: [value]}, geometry=boxes, crs=32633)
    table.to_parquet(path) if path.suffix == ".parquet" else table.to_file(path)
    return path


def read_labels(path: Path, source: str = "corine") -> None:
    labels.label_source(source).read(path, GROUND, CLC, Labels())


@case("land cover is no layer of polygons")
def _(folder):
    (folder / "clc.gpkg").write_bytes(b"SQLite format 3\0 and then nothing")
    read_labels(folder / "clc.gpkg")


@case("land cover has no code column")
def _(folder):
    read_labels(layer(folder / "clc.gpkg", "landuse"))


@case("land cover holds an unknown code")
def _(folder):
    read_labels(layer(folder / "clc.gpkg", value="777"))


@case("land cover lies elsewhere")
def _(folder):
    read_labels(layer(folder / "clc.gpkg", left_m=600_000))


@case("a polygon has no coordinates")
def _(folder):
    path = layer(folder / "clc.geojson")
    said = json.loads(path.read_text())
    said["features"][0]["geometry"] = {"type": "Polygon"}
    path.write_text(json.dumps(said))
    read_labels(path)


@case("land cover in Parquet does not say where its geometries are")
def _(folder):
    pd.DataFrame({"Code_18": ["112"]}).to_parquet(folder / "clc.parquet")
    read_labels(folder / "clc.parquet")


@case("land cover is no raster")
def _(folder):
    (folder / "clc.tif").write_bytes(b"GIF89a")
    read_labels(folder / "clc.tif", "corine-raster")


# --- what people write ------------------------------------------------------------------------------------


def recipe(folder: Path, text: str) -> None:
    (folder / "recipe.yaml").write_text(text)
    load_recipe(folder / "recipe.yaml")


@case("the aliases of a recipe stand for a billion values")
def _(folder):
    lines = ["a0: &a0 [lol, lol, lol]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10))]
    recipe(folder, "\n".join(lines))


@case("an alias of a recipe holds itself")
def _(folder):
    recipe(folder, "name: &a [*a]")


@case("a recipe asks for a Python object")
def _(folder):
    recipe(folder, 'name: !!python/object/apply:os.system ["true"]')


@case("a recipe is nested without end")
def _(folder):
    recipe(folder, "name: " + "[" * 5000)


@case("a recipe key is unknown")
def _(folder):
    recipe(folder, "name: a\nlabel: {path: clc.gpkg}\n")


# --- shards -----------------------------------------------------------------------------------------------


@case("the manifest of a shard is none")
def _(folder):
    (folder / "manifest.json").write_text('{"name": "a", "format": 5}')
    read_manifest(folder)


@case("a value says that its header has 2⁶³ bytes")
def _(folder):
    decode((2**63).to_bytes(8, "little") + encode(BANDS)[8:], KEY)


def with_header(said: dict[str, object], pixels: int) -> bytes:
    head = json.dumps(said).encode()
    return len(head).to_bytes(8, "little") + head + bytes(pixels)


@case("two bands of a value overlap")
def _(folder):
    band = {"dtype": "U16", "shape": [2, 2]}
    decode(with_header({"B02": band | {"data_offsets": [0, 8]}, "B03": band | {"data_offsets": [4, 12]}}, 12), KEY)


@case("a band lies beyond the end of its value")
def _(folder):
    decode(with_header({"B02": {"dtype": "U16", "shape": [1000, 1000], "data_offsets": [0, 2_000_000]}}, 800), KEY)


def compressed(folder: Path, packed: bytes, most_bytes: int = 10_000) -> None:
    with LmdbStore(write_lmdb(folder, [(KEY, packed)]).parent, Compression("zstd"), most_bytes) as store:
        store.read(KEY)


@case("a compressed value unpacks to more than its bands need")
def _(folder):
    compressed(folder, bytes(Zstd().encode(bytes(50_000_000))))


@case("a compressed value is damaged")
def _(folder):
    compressed(folder, bytes(Zstd().encode(encode(BANDS)))[:-20])


@case("an LMDB file is none")
def _(folder):
    (folder / "data.mdb").write_bytes(bytes(8192))
    with LmdbStore(folder) as store:
        store.read(KEY)


@case("a key is not in a shard")
def _(folder):
    with LmdbStore(write_lmdb(folder, [("other", b"a")]).parent) as store:
        store.read(KEY)


def zarr_shard(folder: Path) -> Path:
    from memory_shards import band_infos

    from rsdata.sensors import SENTINEL2

    bands = [band for band in band_infos(SENTINEL2, {}) if band.name in ("B02", "B03")]
    index = pd.DataFrame(
        {"patch_id": [KEY], "sensor": [SENTINEL2.name], "s1_key": None, "reference_map_key": None, "split": None, "labels": [[]]}
    )
    pixels = {band.name: np.ones(band.shape, np.uint16) for band in bands}
    write_zarr(folder, index, bands, lambda key: pixels, title="made", compression=None)
    write_rows(folder / "index.parquet", index, ShardIndexRow)
    return folder


def with_metadata(folder: Path, change: Callable[[dict], object]) -> None:
    path = the(zarr_shard(folder), "pixels/zarr.json")
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))
    with ZarrStore(folder, 100_000) as store:
        store.read(KEY)


@case("Zarr metadata claim a patch of terabytes")
def _(folder):
    def change(said):
        said["shape"] = [1, 2, 10**6, 10**6]
        said["chunk_grid"]["configuration"]["chunk_shape"][1:] = [2, 10**6, 10**6]
        said["codecs"][0]["configuration"]["chunk_shape"][1:] = [2, 10**6, 10**6]

    with_metadata(folder, change)


@case("Zarr metadata name other chunks than there are")
def _(folder):
    with_metadata(folder, lambda said: said["codecs"][0]["configuration"].update(chunk_shape=[1, 1, 7, 7]))


@case("Zarr metadata name an unknown codec")
def _(folder):
    with_metadata(folder, lambda said: said["codecs"][0]["configuration"]["codecs"].append({"name": "evil", "configuration": {}}))


@case("a chunk of a Zarr shard lies beyond its file")
def _(folder):
    import google_crc32c

    path = next(path for path in sorted(zarr_shard(folder).glob("*/pixels/c/**/*")) if path.is_file())
    data = bytearray(path.read_bytes())
    data[-20:-12] = struct.pack("<Q", 10**9)
    data[-4:] = google_crc32c.value(bytes(data[-20:-4])).to_bytes(4, "little")
    path.write_bytes(data)
    with ZarrStore(folder) as store:
        store.read(KEY)


@case("the index of a shard is cut short")
def _(folder):
    path = zarr_shard(folder) / "index.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    read_index(folder)


@case("a video is damaged")
def _(folder):
    pytest.importorskip("av")
    from rsdata.shards.video import Clip, VideoSettings
    from rsdata.shards.video import encode as encode_video

    blob = bytearray(encode_video(np.ones((4, 1, 32, 32), np.uint16), VideoSettings()))
    blob[30] ^= 1
    Clip(bytes(blob)).read()


# --- tables, published files, texts, weights --------------------------------------------------------------


@case("a table is no Parquet")
def _(folder):
    (folder / "patches.parquet").write_text("patch_id,split\n")
    catalog.read_patch_ids(folder / "patches.parquet")


@case("a table has no patch ids")
def _(folder):
    pd.DataFrame({"split": ["train"]}).to_parquet(folder / "patches.parquet")
    catalog.read_patch_ids(folder / "patches.parquet")


@case("a table claims more rows than its bytes can hold")
def _(folder):
    same = pa.DictionaryArray.from_arrays(pa.array(np.zeros(5_000_000, np.int32)), [KEY])
    pq.write_table(pa.table({"patch_id": same}), folder / "patches.parquet", compression="zstd", row_group_size=5_000_000)
    catalog.read_patch_ids(folder / "patches.parquet")


@case("a published GeoTIFF claims a billion pixels")
def _(folder):
    empty_tiff(folder / "B02.tif", 40_000, 40_000)
    read_tiff(folder / "B02.tif")


def small_tiff(path: Path, **options: object) -> bytes:
    with rasterio.open(path, "w", driver="GTiff", width=20, height=20, count=1, dtype="uint16", **PLACE, **options) as raster:
        raster.write(BANDS["B02"][None])
    return path.read_bytes()


@case("a published GeoTIFF is cut short")
def _(folder):
    (folder / "B02.tif").write_bytes(small_tiff(folder / "B02.tif")[:-100])
    read_tiff(folder / "B02.tif")


@case("a strip of a published GeoTIFF unpacks to more than its rows")
def _(folder):
    data = small_tiff(folder / "B02.tif", compress="deflate")
    bomb = zlib.compress(bytes(10**7), 9)
    changed = bytearray(data)
    for tag, value in ((273, len(data)), (279, len(bomb))):  # where the strip lies, and how long it is
        entry = next(at for at in range(8, len(data), 2) if struct.unpack_from("<HHI", data, at) in ((tag, 3, 1), (tag, 4, 1)))
        changed[entry : entry + 12] = struct.pack("<HHII", tag, 4, 1, value)
    (folder / "B02.tif").write_bytes(bytes(changed) + bomb)
    read_tiff(folder / "B02.tif")


@case("a climate raster is damaged")
def _(folder):
    from rsdata.captions.climate import ClimateRaster

    path = folder / "climate.tif"
    path.write_bytes(small_tiff(path)[:-700])
    with ClimateRaster(path, {15: "Cfb"}) as opened:
        opened.zones([pyproj.Transformer.from_crs(32633, 4326, always_xy=True).transform(500_100, 5_302_300)])


@case("a line of results of a batch is no JSON")
def _(folder):
    from rsdata.captions.llm.batch import read_batch
    from rsdata.captions.llm.store import ResponseStore

    (folder / "results.jsonl").write_text("{'custom_id': 1}\n")
    with ResponseStore(folder / "answers.sqlite") as store:
        read_batch(folder / "results.jsonl", store)


@case("weights are a pickle")
def _(folder):
    pytest.importorskip("torch")
    from rsdata.training.models.published import weights_file

    (folder / "weights.pt").write_bytes(b"\x80\x04K\x01.")
    weights_file(str(folder / "weights.pt"))
