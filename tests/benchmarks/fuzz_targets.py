"""What ``fuzz.py`` damages: for each kind of input small originals, made here, and what rsdata does with such a file."""

import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import rasterio
import shapely
from affine import Affine

from rsdata import catalog, labels, scenes
from rsdata.grid import Tile
from rsdata.recipe import Labels, load_recipe
from rsdata.records import Manifest, Receipt, TextRow
from rsdata.sensors import SENTINEL2
from rsdata.shards import open_shard, repack
from rsdata.testing import write_l2a_safe
from rsdata.workspace import read_record

TILE = Tile.from_name("33UUP")
SENSING = datetime(2023, 6, 12, 10, 10, 31, tzinfo=UTC)
GRD = "S1A_IW_GRDH_1SDV_20230612T051234_20230612T051259_048951_05E2F1_A1B2"
GROUND = labels.Area(32633, 500_000, 5_300_000, 502_400, 5_302_400)


@dataclass(frozen=True)
class Subject:
    """One file that is damaged, and what reads it."""

    name: str
    kind: str  # its structure, see fuzz.STRUCTURED
    original: bytes
    read: Callable[[bytes], Any]


def on_disk(path: Path, kind: str, read: Callable[[], Any], name: str = "") -> Subject:
    """A file among others: damaged in its place, and mended afterwards."""
    original = path.read_bytes()

    def attempt(data: bytes) -> Any:
        path.write_bytes(data)
        try:
            return read()
        finally:
            path.write_bytes(original)

    return Subject(name or path.name, kind, original, attempt)


# --- products ---------------------------------------------------------------------------------------------


def _safe(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    bands = {band.name: rng.integers(900, 6_000, (1200 // band.gsd_m,) * 2, dtype=np.uint16) for band in SENTINEL2.bands}
    layer = np.full((60, 60), 4, np.uint8)
    about = {"tile": TILE, "sensing": SENSING, "scl": layer, "cloud_probability": 0 * layer, "snow_probability": 0 * layer}
    return write_l2a_safe(folder, bands=bands, **about)  # type: ignore[arg-type]


def _add_angles(path: Path) -> None:
    """Grids of sun and view angles, which products made here lack."""
    rows = "".join("<VALUES>30 30.5 NaN</VALUES>" for _ in range(3))
    grid = "".join(
        f"<{name}><COL_STEP>5000</COL_STEP><ROW_STEP>5000</ROW_STEP><Values_List>{rows}</Values_List></{name}>"
        for name in ("Zenith", "Azimuth")
    )
    view = f'<Viewing_Incidence_Angles_Grids bandId="1" detectorId="3">{grid}</Viewing_Incidence_Angles_Grids>'
    text = path.read_text(encoding="utf-8")
    path.write_text(
        text.replace("</Mean_Sun_Angle>", f"</Mean_Sun_Angle><Sun_Angles_Grid>{grid}</Sun_Angles_Grid>{view}", 1), encoding="utf-8"
    )


def sentinel2_xml(folder: Path) -> list[Subject]:
    safe = _safe(folder)
    _add_angles(next(safe.rglob("MTD_TL.xml")))

    def read() -> None:
        product = scenes.open_sentinel2(safe)
        scenes.check_complete(product)
        scenes.summarize(product.scene, scenes.quality_problem(product.scene))
        scenes.sun_angles(product)
        scenes.view_angles(product)
        product.place("B02")
        product.read("B09")

    return [on_disk(path, "xml", read) for path in [*sorted(safe.rglob("*.xml")), safe / "manifest.safe"] if "DATASTRIP" not in str(path)]


def sentinel2_rasters(folder: Path) -> list[Subject]:
    safe = _safe(folder)
    product = scenes.open_sentinel2(safe)

    def read(band: str) -> Callable[[], None]:
        def attempt() -> None:
            opened = scenes.open_sentinel2(safe)
            opened.place(band)
            opened.read(band)

        return attempt

    return [on_disk(safe / product.scene.bands[band], "jp2", read(band)) for band in ("B02", "B09", "SCL")]


def sentinel2_zip(folder: Path) -> list[Subject]:
    safe = _safe(folder)
    path = folder / f"{safe.stem}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(safe.rglob("*")):
            if file.suffix in (".xml", ".safe") or "B09" in file.name:
                archive.write(file, file.relative_to(folder).as_posix())

    def read() -> None:
        product = scenes.open_sentinel2(path)
        product.files.digest("manifest.safe", "md5")
        product.read("B09")

    def unpack() -> None:
        import shutil

        from rsdata.scenes.sen2cor.source import unpack

        try:
            unpack(path, folder / "unpacked")
        finally:
            shutil.rmtree(folder / "unpacked", ignore_errors=True)

    return [on_disk(path, "zip", read), on_disk(path, "zip", unpack, "unpack")]


def sentinel1_grd(folder: Path) -> list[Subject]:
    from rsdata.scenes.grd import open_grd
    from rsdata.scenes.grd_geometry import image_coordinates
    from rsdata.scenes.grd_radiometry import calibrate, find_border
    from rsdata.testing.grd import GrdScene, write_grd_safe

    made = GrdScene(12.5, 47.0, datetime(2023, 6, 12, 5, 12, 34, tzinfo=UTC), (60, 80))
    dn = np.random.default_rng(0).integers(100, 900, made.shape_yx).astype(np.uint16)
    safe = write_grd_safe(folder, made, {"VV": dn, "VH": dn})

    def read() -> None:
        opened = open_grd(safe)
        opened.footprint_lonlat()
        scenes.describe_sentinel1(safe)
        channel = opened.channel("VV")
        with opened.open_pixels("VV") as raster:
            find_border(raster)
            pixels = raster.read(1, window=((0, 32), (0, 32)))
        calibrate(pixels, channel, "sigma0", 0, 0)
        image_coordinates(channel, channel.grid.lon_deg, channel.grid.lat_deg, channel.grid.height_m)

    xml = [path for path in sorted(safe.rglob("*.xml")) if "-vv-" in path.name]
    tiff = next(safe.rglob("*vv*.tiff"))
    return [on_disk(path, "xml", read, path.name[:14]) for path in (*xml, *xml, safe / "manifest.safe")] + [on_disk(tiff, "tiff", read)]


def sentinel1_processed(folder: Path) -> list[Subject]:
    """BEAM-DIMAP, GeoTIFF with SNAP's tag, HyP3 and a STAC item of the Planetary Computer."""
    from rsdata.scenes.sentinel1 import Sentinel1Processing
    from rsdata.testing.sentinel1 import write_s1_pair
    from rsdata.testing.sentinel1_processed import dimap_header, write_dim, write_hyp3, write_item, write_tiff, write_two_band_tiff

    left, top = TILE.ul_x_m + 1200, TILE.ul_y_m - 2400
    place = Affine(10, 0, left, 0, -10, top)
    where = {"epsg": 32633, "ul_x_m": left, "ul_y_m": top, "width_m": 400, "height_m": 400}
    vv, vh = (np.random.default_rng(seed).exponential(0.05, (40, 40)).astype(np.float32) + np.float32(2e-3) for seed in (1, 2))
    bands = {"Sigma0_VV": vv, "Sigma0_VH": vh}
    utm = "EPSG:32633"

    def read(path: Path) -> Callable[[], None]:
        def attempt() -> None:
            scenes.describe_sentinel1(path)
            product = scenes.open_sentinel1(path, Sentinel1Processing(resample=True))
            for band in ("VV", "VH"):
                product.read(band, **where)

        return attempt

    dim = write_dim(folder / "dim" / "made.dim", bands, crs=utm, transform=place, product=GRD)
    header = dimap_header("made", bands, crs=utm, transform=place, product=GRD)
    tiff = write_two_band_tiff(folder / "tiff" / f"{GRD}.tif", bands, epsg=32633, transform=place, header=header)
    hyp3 = write_hyp3(folder / "hyp3", "S1A_IW_20230612T051234_DVP_RTC10_G_gpuned_FD6A", vv, vh, crs=utm, transform=place)
    hrefs = {}
    for band, pixels in (("vv", vv), ("vh", vh)):
        write_tiff(folder / "item" / f"{band}.tif", pixels, crs=utm, transform=place, nodata=-32768)
        hrefs[band] = f"{band}.tif"
    item = write_item(folder / "item" / "item.json", GRD, hrefs)
    db = 10 * np.log10(vv)
    pair = write_s1_pair(folder / "pair", product_name=GRD, tile=TILE, vv=db, vh=db, ul_x_m=left, ul_y_m=top)
    return [
        on_disk(dim, "xml", read(dim)),
        on_disk(dim, "xml", read(dim)),
        on_disk(next(dim.with_suffix(".data").glob("*VV.hdr")), "text", read(dim)),
        on_disk(tiff, "tiff", read(tiff)),
        on_disk(next(hyp3.glob("*_VV.tif")), "tiff", read(hyp3), "hyp3"),
        on_disk(item, "json", read(item)),
        on_disk(next(pair.glob("*_VV.tif")), "tiff", read(pair), "pair"),
    ]


def stac_items(folder: Path) -> list[Subject]:
    """What catalogues answer: a search of products, and a Sentinel-2 item with bands beside it."""
    from rsdata.scenes.catalogue import ProductQuery, choose

    product = "S2A_MSIL2A_20230612T101031_N0509_R022_T33UUP_20230612T141248"
    folder_url = f"s3://eodata/Sentinel-2/MSI/L2A/2023/06/12/{product}.SAFE"
    found = {
        "type": "Feature",
        "id": product,
        "properties": {"datetime": "2023-06-12T10:10:31Z", "eo:cloud_cover": 12.5, "processing:version": "05.09"},
        "assets": {
            "Product": {
                "href": "https://download.example.org/1.zip",
                "file:size": 10**9,
                "file:checksum": "d50110" + 32 * "a",
                "alternate": {"s3": {"href": folder_url}},
            },
            "B02_10m": {"href": f"{folder_url}/GRANULE/a/IMG_DATA/b.jp2", "file:size": 5},
        },
    }
    query = ProductQuery(TILE, datetime(2023, 6, 1, tzinfo=UTC), datetime(2023, 7, 1, tzinfo=UTC), max_cloud=50)

    def answered(data: bytes) -> None:
        try:
            item = json.loads(data)
        except ValueError:
            return  # pystac-client's to refuse; see search_catalogue
        choose([item], query) if isinstance(item, dict) else None

    href = "B02.tif"
    profile = {"driver": "GTiff", "width": 60, "height": 60, "count": 1, "dtype": "uint16", "crs": "EPSG:32633"}
    with rasterio.open(folder / href, "w", transform=Affine(1830, 0, TILE.ul_x_m, 0, -1830, TILE.ul_y_m), **profile) as raster:
        raster.write(np.full((1, 60, 60), 3000, np.uint16))
    item = {
        "type": "Feature",
        "id": "made",
        "properties": {
            "datetime": "2023-06-12T10:10:31Z",
            "s2:product_uri": f"{product}.SAFE",
            "s2:product_type": "S2MSI2A",
            "s2:processing_baseline": "05.09",
            "s2:generation_time": "2023-06-12T14:12:48Z",
            "s2:datatake_id": "GS2A_20230612T101031_041629_N05.09",
            "earthsearch:boa_offset_applied": True,
            "view:sun_elevation": 60.0,
            "view:sun_azimuth": 150.0,
            "eo:cloud_cover": 3.0,
            "proj:epsg": 32633,
        },
        "assets": {
            "blue": {
                "href": href,
                "proj:shape": [10980, 10980],
                "proj:transform": [10, 0, TILE.ul_x_m, 0, -10, TILE.ul_y_m],
                "raster:bands": [{"scale": 0.0001, "offset": 0}],
            }
        },
    }
    path = folder / "item.json"
    path.write_text(json.dumps(item), encoding="utf-8")

    def read() -> None:
        opened = scenes.open_stac_item(path)
        scenes.quality_problem(opened.scene)
        if "B02" in opened.scene.bands and "://" not in opened.scene.bands["B02"]:
            opened.place("B02")

    original = json.dumps(found).encode()
    return [Subject("answer", "json", original, answered), on_disk(path, "json", read)]


def heights(folder: Path) -> list[Subject]:
    """An elevation model, a geoid and a climate raster."""
    from rsdata.captions.climate import ClimateRaster
    from rsdata.scenes.dem import open_dem

    path = folder / "dem.tif"
    about = {"driver": "GTiff", "count": 1, "dtype": "float32", "crs": "EPSG:4326", "transform": Affine(0.01, 0, 12, 0, -0.01, 48)}
    with rasterio.open(path, "w", width=64, height=64, **about) as raster:
        raster.write(np.random.default_rng(0).normal(500, 50, (1, 64, 64)).astype(np.float32))

    def read() -> None:
        x, y = pyproj.Transformer.from_crs(4326, 32633, always_xy=True).transform(12.3, 47.7)
        open_dem([path], datum="ellipsoid").heights(32633, x + 10 * np.arange(40.0), y - 10 * np.arange(30.0))

    climate = folder / "climate.tif"
    with rasterio.open(climate, "w", width=32, height=32, **(about | {"dtype": "uint8"})) as raster:
        raster.write(np.full((1, 32, 32), 15, np.uint8))

    def zones() -> None:
        with ClimateRaster(climate, {15: "Cfb"}) as opened:
            opened.zones([(12.1, 47.9), (12.2, 47.8)])

    return [on_disk(path, "tiff", read), on_disk(climate, "tiff", zones)]


# --- labels -----------------------------------------------------------------------------------------------


def _halves() -> gpd.GeoDataFrame:
    boxes = [shapely.box(500_000, 5_300_000, 501_200, 5_302_400), shapely.box(501_200, 5_300_000, 502_400, 5_302_400)]
    return gpd.GeoDataFrame({"Code_18": ["112", "523"]}, geometry=boxes, crs=32633).to_crs(4326)


def label_layers(folder: Path) -> list[Subject]:
    nomenclature = labels.load_nomenclature("bigearthnet-19")
    table = _halves()
    table.to_file(folder / "clc.gpkg")
    table.to_file(folder / "clc.geojson")
    table.to_parquet(folder / "clc.parquet")
    table.to_parquet(folder / "boxed.parquet", write_covering_bbox=True)

    def read(path: Path, source: str = "corine") -> Callable[[], None]:
        def attempt() -> None:
            layer = labels.label_source(source).read(path, GROUND, nomenclature, Labels())
            layer.rasterize(Affine(10, 0, 500_000, 0, -10, 5_302_400), (240, 240))

        return attempt

    raster = folder / "clc.tif"
    about = {"driver": "GTiff", "count": 1, "nodata": 0, "crs": "EPSG:32633", "transform": Affine(100, 0, 499_000, 0, -100, 5_304_000)}
    with rasterio.open(raster, "w", width=50, height=50, dtype="int16", **about) as file:
        file.write(np.full((1, 50, 50), 112, np.int16))
    subjects = [on_disk(folder / name, "table", read(folder / name)) for name in ("clc.gpkg", "clc.parquet", "boxed.parquet")]
    subjects.append(on_disk(folder / "clc.geojson", "json", read(folder / "clc.geojson")))
    subjects.append(on_disk(raster, "tiff", read(raster, "corine-raster")))
    countries = folder / "countries.geojson"
    gpd.GeoDataFrame({"NAME": ["A", "B"], "ISO_A2": ["AA", "-99"]}, geometry=table.geometry, crs=4326).to_file(countries)
    lon, lat = np.array([15.01, 15.02]), np.array([47.86, 47.861])
    subjects.append(on_disk(countries, "json", lambda: labels.nearest_countries(countries, lon, lat)))
    return subjects


# --- what people write, and records -----------------------------------------------------------------------


def recipes(folder: Path) -> list[Subject]:
    from importlib import resources

    from rsdata.shards.convert.specs import load_spec

    subjects = []
    for entry in (resources.files("rsdata.catalogs") / "recipes" / f"{name}.yaml" for name in ("demo", "reben")):
        path = folder / entry.name
        path.write_bytes(entry.read_bytes())
        subjects.append(on_disk(path, "yaml", partial(load_recipe, path)))
    for entry in sorted((resources.files("rsdata.shards.convert") / "datasets").iterdir(), key=lambda each: each.name)[:2]:
        path = folder / f"spec-{entry.name}"
        path.write_bytes(entry.read_bytes())
        subjects.append(on_disk(path, "yaml", partial(load_spec, str(path))))
    return subjects


def records(folder: Path) -> list[Subject]:
    manifest = Manifest(
        name="made", title="Made", rsdata_version="0", recipe_sha256="0" * 64, inputs=[], counts={"kept": 3}, dropped={},
        splits={"train": 3}, coregistration=[], failures=[], outputs=[],
    )  # fmt: skip
    receipt = Receipt(stage="scenes", unit="a", key="b", inputs={"a": "b"}, outputs=[], counts={"patches": 3}, seconds=0.5)
    subjects = []
    for record in (manifest, receipt):
        path = folder / f"{type(record).__name__}.json"
        path.write_text(record.model_dump_json(), encoding="utf-8")
        subjects.append(on_disk(path, "json", partial(read_record, path, type(record))))
    return subjects


def tables(folder: Path) -> list[Subject]:
    """Every Parquet table that is read: of patches, of texts, of splits, of subsets, of facts."""
    from rsdata.catalog import audit_table, geoparquet
    from rsdata.recipe import SplitPart
    from rsdata.splits import divide
    from rsdata.testing.patch_table import patch_table
    from rsdata.training.choosing import read_labels, read_subset

    plain = patch_table(40, tiles=("33UUP",))
    plain["split"] = "train"
    path = folder / "plain.parquet"
    plain.to_parquet(path)
    ids = plain[["patch_id"]].copy()
    texts = pd.DataFrame({name: [_sample(field.annotation)] * 3 for name, field in TextRow.model_fields.items()})
    geoparquet.write_rows(folder / "texts.parquet", texts, TextRow)
    subset = plain[["patch_id", "labels", "split"]].copy()
    subset["kept"] = True
    subset.to_parquet(folder / "subset.parquet")
    part = SplitPart.model_validate(
        {"strategy": "import", "options": {"path": str(path), "id_column": "patch_id", "split_column": "split"}}
    )
    reads: list[tuple[Path, Callable[[], Any]]] = [
        (path, lambda: catalog.read_patch_ids(path)),
        (path, lambda: audit_table.read_for_audit(path)),
        (path, lambda: divide(ids, part)),
        (folder / "texts.parquet", lambda: catalog.read_table(folder / "texts.parquet", TextRow)),
        (folder / "subset.parquet", lambda: (read_labels(folder / "subset.parquet"), read_subset(folder / "subset.parquet"))),
    ]
    return [on_disk(where, "parquet", read, f"{where.stem} {number}") for number, (where, read) in enumerate(reads)]


def _sample(annotation: Any) -> Any:
    text = str(annotation)
    if "list" in text or "dict" in text or "None" in text or "Literal" in text:
        from typing import get_args

        return [] if "list" in text else {} if "dict" in text else None if "None" in text else get_args(annotation)[0]
    return {str: "a", int: 1, float: 0.5, bool: True}.get(annotation, "a")


# --- shards -----------------------------------------------------------------------------------------------


def make_shard(folder: Path) -> Path:
    from rsdata.sensors import REFERENCE_MAP, SENTINEL1
    from rsdata.shards import index_rows, pack, write_part

    scene, s1 = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP", "S1A_IW_GRDH_1SDV_20170613T165043_33UUP"
    rng = np.random.default_rng(0)
    cells = [(26, 57), (27, 57)]
    values: dict[str, dict[str, np.ndarray]] = {}
    for col, row in cells:
        patch = f"{scene}_{col:02d}_{row:02d}"
        values[patch] = {band.name: rng.integers(1, 9999, (band.pixels(1200),) * 2, dtype=np.uint16) for band in SENTINEL2.bands}
        values[f"{s1}_{col:02d}_{row:02d}"] = {band.name: rng.normal(-12, 5, (120, 120)).astype(np.float32) for band in SENTINEL1.bands}
        values[f"{patch}_reference_map"] = {"Data": np.full((120, 120), 211, np.uint16)}
    write_part(folder / "part", values)
    ids = [f"{scene}_{col:02d}_{row:02d}" for col, row in cells]
    table = pd.DataFrame({"patch_id": ids, "split": ["train", "test"], "labels": [["Arable land"]] * 2})
    pack(
        folder / "lmdb", [folder / "part"], name="made", index=index_rows(table, [f"{s1}_{col:02d}_{row:02d}" for col, row in cells]),
        sensors=[SENTINEL2, SENTINEL1, REFERENCE_MAP], offsets={band: [-1000.0] for band in SENTINEL2.band_names}, quantification=10_000,
        labels=labels.load_nomenclature("bigearthnet-19").classes, unlabeled_codes=[999], recipe_sha256="0" * 64,
    )  # fmt: skip
    return folder / "lmdb"


def _read_shard(path: Path) -> None:
    with open_shard(path) as shard:
        for key in list(shard.index["patch_id"])[:2]:
            shard.read(key)
        with shard.pieces(list(shard.index["patch_id"])[:2], ["B02", "B09"]) as pieces:
            for piece in pieces:
                for name in piece.layout.planes:
                    piece.plane(0, name)


def shard_manifests(folder: Path) -> list[Subject]:
    """The manifest and the index beside a shard; its pixels are whole."""
    from rsdata.shards import verify_shard

    shard = make_shard(folder)

    def read() -> None:
        _read_shard(shard)
        verify_shard(shard)

    return [on_disk(shard / "manifest.json", "json", read), on_disk(shard / "index.parquet", "parquet", read)]


def values(folder: Path) -> list[Subject]:
    """Values of a shard: safetensors, bare and compressed."""
    from rsdata.shards.compression import Compression
    from rsdata.shards.lmdb import LmdbStore, write_lmdb
    from rsdata.shards.reading.pieces import Headers, pieces_of_values
    from rsdata.shards.values import decode, encode

    bands = {"B02": np.arange(400, dtype=np.uint16).reshape(20, 20), "B09": np.zeros((3, 4), np.uint16), "VV": np.ones((5, 5), np.float32)}
    value = encode(bands)

    def read(data: bytes) -> None:
        decode(data, "key")
        for piece in pieces_of_values([memoryview(data)], ["key"], Headers()):
            for name in piece.layout.planes:
                piece.plane(0, name).sum()

    subjects = [Subject("safetensors", "safetensors", value, read)]
    for name in ("zstd", "blosc"):
        compression = Compression(name)  # type: ignore[arg-type]
        packed = bytes(compression.codec().encode(value))
        store = LmdbStore(write_lmdb(folder / name, [("key", packed)]).parent, compression)
        subjects.append(Subject(name, "packed", packed, lambda data, store=store: store._unpacked(data, "key")))  # type: ignore[misc]
    return subjects


def zarr_shards(folder: Path) -> list[Subject]:
    """Metadata and chunks of a Zarr shard, plain and compressed."""
    from rsdata.shards.compression import Compression

    source = make_shard(folder)
    subjects = []
    for name, compression in (("plain", None), ("blosc", Compression("blosc"))):
        shard = folder / name
        repack([source], shard, format="zarr", compression=compression)
        described = (shard / "s2_10m" / "zarr.json", next(shard.glob("s2_60m/*/zarr.json")))
        subjects += [on_disk(path, "json", partial(_read_shard, shard), f"{name} {path.name}") for path in described]
        chunks = next(path for path in sorted(shard.glob("s2_60m/*/c/**/*")) if path.is_file() and path.stat().st_size > 100)
        subjects.append(on_disk(chunks, "chunks", partial(_read_shard, shard), f"{name} chunks"))
    return subjects


def published_files(folder: Path) -> list[Subject]:
    """GeoTIFFs of published datasets, and labels that lie beside them."""
    from rsdata.shards.convert.tiff import read_tiff

    subjects = []
    pixels = np.random.default_rng(0).integers(0, 9999, (3, 20, 24), dtype=np.uint16)
    kinds = ({}, {"compress": "deflate", "predictor": 2}, {"compress": "lzw"}, {"tiled": True, "blockxsize": 16, "blockysize": 16})
    for number, options in enumerate(kinds):
        path = folder / f"{number}.tif"
        profile = {"driver": "GTiff", "count": 3, "height": 20, "width": 24, "dtype": "uint16", "crs": "EPSG:32633", **options}
        with rasterio.open(path, "w", transform=Affine(10, 0, 390_000, 0, -10, 5_348_400), **profile) as raster:
            raster.write(pixels)
        subjects.append(on_disk(path, "tiff", partial(read_tiff, path)))
    return subjects


# --- texts and models -------------------------------------------------------------------------------------


def model_answers(folder: Path) -> list[Subject]:
    from rsdata.captions.llm.batch import read_batch
    from rsdata.captions.llm.client import read_reply
    from rsdata.captions.llm.prompting import parse_answer
    from rsdata.captions.llm.store import Question, ResponseStore

    content = '{"caption": "Mixed forest covers most of the area."}'
    body = {
        "choices": [{"message": {"content": content}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 8},
    }

    def reply(data: bytes) -> None:
        try:
            found = read_reply(data.decode(errors="replace"))
        except ValueError:
            return  # what it says it raises; the client asks again
        parse_answer(found.content)

    asked = [Question.of(f"facts {n}", "prompt", "model", {}, 1) for n in range(3)]
    store = ResponseStore(folder / "answers.sqlite")
    store.note_batched(asked)
    lines = [{"custom_id": question.digest, "response": {"status_code": 200, "body": body}, "error": None} for question in asked]
    path = folder / "results.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n", encoding="utf-8")
    return [
        Subject("reply", "json", json.dumps(body).encode(), reply),
        Subject("answer", "json", content.encode(), lambda data: parse_answer(data.decode(errors="replace"))),
        on_disk(path, "jsonl", lambda: read_batch(path, store)),
    ]


def scored_files(folder: Path) -> list[Subject]:
    """Embeddings and predictions that `rsdata caption-score` is given."""
    from rsdata.steps.scoring import _embeddings, _predictions

    np.savez(folder / "a.npz", vectors=np.ones((3, 4), np.float32), ids=np.array(["a", "b", "c"]))
    (folder / "p.jsonl").write_text('{"row_id": "a", "output": "b"}\n{"row_id": "c", "output": "d"}\n', encoding="utf-8")
    (folder / "p.csv").write_text("row_id,output\na,b\nc,d\n", encoding="utf-8")
    pd.DataFrame({"row_id": ["a", "c"], "output": ["b", "d"]}).to_parquet(folder / "p.parquet")
    subjects = [on_disk(folder / "a.npz", "zip", lambda: _embeddings(folder / "a.npz"))]
    for name in ("p.jsonl", "p.csv", "p.parquet"):
        kind = "jsonl" if name.endswith("jsonl") else "text"
        subjects.append(on_disk(folder / name, kind, lambda name=name: list(_predictions(folder / name))))  # type: ignore[misc]
    return subjects


TARGETS: dict[str, Callable[[Path], list[Subject]]] = {
    "s2-xml": sentinel2_xml,
    "s2-rasters": sentinel2_rasters,
    "s2-zip": sentinel2_zip,
    "s1-grd": sentinel1_grd,
    "s1-processed": sentinel1_processed,
    "stac": stac_items,
    "heights": heights,
    "labels": label_layers,
    "recipes": recipes,
    "records": records,
    "tables": tables,
    "shard-manifests": shard_manifests,
    "values": values,
    "zarr": zarr_shards,
    "published": published_files,
    "answers": model_answers,
    "scores": scored_files,
}
