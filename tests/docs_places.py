"""Folders that pages of the documentation are run in: a small built dataset called ``DIR``, and what else the page talks of.

Names stand for the same things on all pages. A page gets only what it mentions; what it changes is its own copy.
"""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
import xarray as xr
from conftest import SENSING, TILE, random_bands, write_recipe, write_scene
from docs_blocks import ROOT, Block, blocks_of
from servers import FileServer, Served, StacServer, stac_item, zip_asset

from rsdata.recipe import SplitPart
from rsdata.shards import repack
from rsdata.splits import assign
from rsdata.testing import write_l1c_safe, write_stand_in
from rsdata.testing.chat_server import chat_server
from rsdata.testing.patch_table import patch_table

RECIPE: dict[str, object] = {
    "name": "small",
    "title": "A small dataset",
    "licence": "CC0-1.0",
    "attribution": ["Synthetic scenes made by rsdata; no satellite data."],
    "synthetic": {
        "tiles": ["33UUP"],
        "dates": ["2023-04-18T10:00:31Z", "2023-06-12T10:00:31Z"],
        "raster_px": [120, 2640],
        "offset_px": [4800, 480],  # crosses all three frames of the split
        "cell_m": 400,
        "clouds": 0,
        "nodata_strip": False,
        "seed": 3,
    },
    "series": {"filters": {"max_cloud": 1.0}},
    "training": {"model": "small-cnn", "epochs": 1, "batch_size": 16, "input_px": 32, "baselines": False},
}


@dataclass
class Place:
    """Where one page is run."""

    folder: Path
    replaced: dict[str, str] = field(default_factory=dict)  # words of commands that stand for something else here
    names: dict[str, object] = field(default_factory=dict)  # what programs of the page take as given, and what they make


@dataclass
class Places:
    """Makes places; what several pages need is made once."""

    root: Path

    @cached_property
    def recipe(self) -> Path:
        return write_recipe(self.root, RECIPE)

    @cached_property
    def dataset(self) -> Path:
        """A dataset with everything: two dates of 22 places, series, a trained network, a report; built by the command."""
        build = [sys.executable, "-m", "rsdata", "build", str(self.recipe), "--out", str(self.root / "dataset"), "--workers", "1"]
        environment = os.environ | {"PREFECT_HOME": str(self.root / "prefect"), "CI": "true"}
        if (self.root / "dataset").exists():
            pytest.fail("the dataset could not be built; see the first page that needed it")
        done = subprocess.run(build, env=environment, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return self.root / "dataset"

    @cached_property
    def table(self) -> pd.DataFrame:
        """12,000 patches of four tiles in three countries, divided."""
        table = patch_table(12_000, ("33UXP", "33UWP", "32TLT", "31UDS"))
        return table.assign(split=assign(table, SplitPart(strategy="blocks")))

    @contextmanager
    def of(self, page: Path, blocks: Sequence[Block], patch: pytest.MonkeyPatch) -> Iterator[Place]:
        """The folder a page is run in, while it is run; it is the working directory of this process."""
        code = "\n".join(block.code for block in blocks)
        place = Place(self.root / "pages" / page.stem, names={"__name__": page.stem})
        place.folder.mkdir(parents=True)
        for name in list(os.environ):
            if name.startswith(("CDSE_", "AWS_", "RSDATA_")) or name.lower().endswith("_proxy"):
                patch.delenv(name)
        patch.setenv("PREFECT_HOME", str(self.root / "prefect"))
        patch.setenv("CI", "true")
        with ExitStack() as stack:
            for word, put in CAST.items():
                if word in code:
                    put(self, place, patch, stack)
            patch.chdir(place.folder)
            try:
                yield place
            finally:
                patch.undo()
                shutil.rmtree(place.folder)


Put = Callable[[Places, Place, pytest.MonkeyPatch, ExitStack], object]


def _dataset(places: Places, place: Place, *_: object) -> None:
    shutil.copytree(places.dataset, place.folder / "DIR", symlinks=True)


def _shard(places: Places, place: Place, *_: object) -> None:
    shutil.copytree(places.dataset / "shards" / "lmdb", place.folder / "SHARD")


def _table(name: str) -> Put:
    return lambda places, place, *_: places.table.to_parquet(place.folder / name)


def _level_1c(places: Places, place: Place, patch: pytest.MonkeyPatch, stack: ExitStack) -> None:
    bands = random_bands()
    write_l1c_safe(place.folder, tile=TILE, sensing=SENSING, bands=bands | {"B10": bands["B01"]})
    program = write_stand_in(places.root / "sen2cor" / "L2A_Process")
    patch.setenv("RSDATA_SEN2COR", str(program))
    place.replaced["~/Sen2Cor-02.11.00-Linux64/bin/L2A_Process"] = str(program)


def _catalogue(places: Places, place: Place, patch: pytest.MonkeyPatch, stack: ExitStack) -> None:
    """One product to search for and fetch, from servers of this machine."""
    made = write_scene(place.folder / "offered", random_bands())
    zipped = place.folder / "offered" / f"{made.stem}.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        for item in sorted(made.rglob("*")):
            archive.write(item, f"{made.name}/{item.relative_to(made).as_posix()}")
    content, path = zipped.read_bytes(), "/odata/v1/Products(0b5a)/$value"
    files = stack.enter_context(FileServer())
    files.files[path] = Served(content)
    radar = "S1A_IW_GRDH_1SDV_20230611T165101_20230611T165126_048941_05E2A3_1B2C"
    items = [stac_item(made.stem, assets={"Product": zip_asset(f"{files.url}{path}", content)}), stac_item(radar, "sentinel-1-grd")]
    patch.setenv("RSDATA_STAC", stack.enter_context(StacServer(items)).url)


def _model(places: Places, place: Place, patch: pytest.MonkeyPatch, stack: ExitStack) -> None:
    server = stack.enter_context(chat_server(place.folder / "requests.jsonl"))
    place.replaced |= {"--base-url URL": f"--base-url {server.url}", "--model NAME": "--model good"}


def _cubes(places: Places, place: Place, *_: object) -> None:
    """Twelve dates of 24 by 26 pixels; ``cube`` is the same as an array."""
    rng = np.random.default_rng(0)
    smooth = np.cumsum(rng.integers(-3, 4, (12, 4, 24, 26)), axis=-1) + 800
    cube = (smooth + rng.integers(0, 20, smooth.shape)).astype(np.uint16)
    days = np.arange("2023-01-01", "2023-01-13", dtype="datetime64[D]").astype("datetime64[ns]")
    bands = {f"S2-L2A-{name}": (("t", "y", "x"), cube[:, at]) for at, name in enumerate(("B02", "B03", "B04", "B08"))}
    data = xr.Dataset(bands, coords={"t": days, "y": np.arange(24.0), "x": np.arange(26.0)})
    data.to_netcdf(place.folder / "cube.nc", engine="h5netcdf")
    place.names["cube"] = cube


def _predictions(places: Places, place: Place, *_: object) -> None:
    texts = pd.read_parquet(places.dataset / "texts.parquet")
    rows = [json.dumps({"row_id": row.row_id, "output": row.output}) for row in texts.itertuples()]
    (place.folder / "predictions.jsonl").write_text("\n".join(rows), encoding="utf-8")


def _one_epoch(places: Places, place: Place, *_: object) -> None:
    """A network that takes a second for a patch here sees each but once; everything else of the preset is as it is."""
    place.replaced["--preset reben"] = "--preset reben --epochs 1"


def _vectors(places: Places, place: Place, *_: object) -> None:
    vectors, ids = np.eye(4, dtype=np.float32), np.array(list("abcd"))
    for name in ("images", "texts"):
        np.savez(place.folder / f"{name}.npz", vectors=vectors, ids=ids)


def _heights(places: Places, place: Place, *_: object) -> None:
    patches = pd.read_parquet(places.dataset / "shards" / "lmdb" / "index.parquet", columns=["patch_id"])
    patches.assign(height=np.linspace(100, 900, len(patches))).to_parquet(place.folder / "HEIGHTS.parquet")


def _text_vectors(places: Places, place: Place, *_: object) -> None:
    patches = pd.read_parquet(places.dataset / "shards" / "lmdb" / "index.parquet", columns=["patch_id"])
    drawn = np.random.default_rng(0).normal(size=(len(patches), 16)).astype(np.float32)
    patches.assign(embedding=list(drawn)).to_parquet(place.folder / "VECTORS.parquet")


def _drone(places: Places, place: Place, *_: object) -> None:
    """The description as the page has it, and two patches of two bands."""
    (said,) = [block.code for block in blocks_of(ROOT / "docs" / "convert.md") if block.language == "yaml"]
    (place.folder / "my-drone.yaml").write_text(said, encoding="utf-8")
    (place.folder / "drone" / "meadow").mkdir(parents=True)
    for patch in ("a_top", "a_ground", "b_top", "b_ground"):
        heights = np.random.default_rng(len(patch)).random((256, 256), np.float32)
        about = {"driver": "GTiff", "width": 256, "height": 256, "count": 1, "dtype": "float32", "nodata": -1}
        with rasterio.open(place.folder / "drone" / "meadow" / f"{patch}.tif", "w", **about) as raster:
            raster.write(heights, 1)


def _sample(places: Places, place: Place, *_: object) -> None:
    """What an example of the transforms turns."""
    said = "Give the bounding box of the largest region of pastures."
    row = SimpleNamespace(box=[10, 10, 30, 20], input=said, output="[10, 10, 30, 20]", options=[])
    image, mask = np.zeros((3, 120, 120), np.float32), np.zeros((120, 120), np.int64)
    sample = {"image": image, "mask": mask, "input": row.input, "output": row.output}
    place.names |= {"row": row, "image": image, "mask": mask, "sample": sample, "class_names": [], "number": 0, "epoch": 0}


def _ground(places: Places, place: Place, *_: object) -> None:
    """Land use of the whole tile, in the west and in the east."""
    left, top = TILE.ul_x_m, TILE.ul_y_m
    boxes = [shapely.box(left, top - 109_800, left + 54_900, top), shapely.box(left + 54_900, top - 109_800, left + 109_800, top)]
    table = gpd.GeoDataFrame({"landuse": ["forest", "meadow"]}, geometry=boxes, crs=TILE.epsg)
    table.to_file(place.folder / "landuse.gpkg")


def _zarr(places: Places, place: Place, *_: object) -> None:
    (place.folder / "DIR" / "shards" / "zarr").mkdir()
    repack([places.dataset / "shards" / "lmdb"], place.folder / "DIR" / "shards" / "zarr", format="zarr")


CAST: dict[str, Put] = {
    "DIR": _dataset,
    "SHARD": _shard,
    "TABLE": _table("TABLE"),
    "T.parquet": _table("T.parquet"),
    "metadata.parquet": _table("metadata.parquet"),
    "patches.parquet": _table("patches.parquet"),
    "metadata_3tiles.parquet": _table("metadata_3tiles.parquet"),
    "recipe.yaml": lambda places, place, *_: shutil.copy(places.recipe, place.folder / "recipe.yaml"),
    "_MSIL2A_": lambda places, place, *_: write_scene(place.folder, random_bands()),
    "_MSIL1C_": _level_1c,
    "scenes download": _catalogue,
    "--base-url": _model,
    "cube.nc": _cubes,
    "predictions.jsonl": _predictions,
    "images.npz": _vectors,
    "HEIGHTS.parquet": _heights,
    "VECTORS.parquet": _text_vectors,
    "DIR/shards/zarr": _zarr,
    "video-header.txt": lambda places, place, *_: shutil.copy(ROOT / "docs" / "video-header.txt", place.folder),
    "landuse.gpkg": _ground,
    "my-drone.yaml": _drone,
    "RandomTurn(": _sample,
    "--model vit-base": _one_epoch,
}
