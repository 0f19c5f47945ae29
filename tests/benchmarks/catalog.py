"""Write STAC, Croissant and the card of 100,000 generated patches; print time and memory, held against bounds.

    python tests/benchmarks/catalog.py [--patches N] [--seed S]

The patches have the shape of reBEN (``rsdata.testing.patch_table``) and every column of a build's table; there are no pixels.
Making them does not count. The work runs in a process of its own, so its peak memory, the table included, is its own; the bound
on time is held against CPU time, as all of it is one thread and others may share the machine. Afterwards the items are read
through stac-geoparquet and DuckDB, and the Croissant description by mlcroissant, where these are installed.

Exits 1 if a bound is missed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd

from rsdata import __version__, catalog, shards
from rsdata.catalog.exports import Source
from rsdata.grid import Tile, corners
from rsdata.labels import load_nomenclature
from rsdata.patches import with_footprints
from rsdata.recipe import Recipe
from rsdata.records import Artifact, Manifest, PatchId, PatchRow, ShardManifest, reference_map_id, s1_patch_id, s1_scene_id
from rsdata.sensors import REFERENCE_MAP, SENTINEL1, SENTINEL2
from rsdata.workspace import file_sha256

MOST_CPU_S, MOST_GIB = 30.0, 2.0
WORK = """
import json, pickle, resource, sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import catalog as bench
from rsdata.catalog.exports import EXPORTS
root, out = Path(sys.argv[2]), Path(sys.argv[3])
source = bench.source_of(root)
figures = {}
for name in ("stac", "croissant", "card"):
    (out / name).mkdir(parents=True)
    started, cpu = time.monotonic(), time.process_time()
    EXPORTS[name].write(source, out / name)
    figures[name] = {"seconds": time.monotonic() - started, "cpu_s": time.process_time() - cpu,
                     "bytes": sum(path.stat().st_size for path in (out / name).iterdir())}
figures["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps(figures))
"""


def full_patch_table(patches: int = 100_000, seed: int = 0) -> gpd.GeoDataFrame:
    """A patch table with every column of a build's, made up: a tenth is dropped, splits lie in blocks of 10 x 10 patches.

    Returns: the columns of ``PatchRow`` but ``bbox``, and footprints in EPSG:4326, by patch id.
    """
    from rsdata.testing.patch_table import patch_table

    table = patch_table(patches, seed=seed).sort_values("patch_id", ignore_index=True)
    rng = np.random.default_rng(seed)
    ids = [PatchId.parse(patch_id) for patch_id in table["patch_id"]]
    table["tile_id"] = [each.tile for each in ids]
    table["col"], table["row"] = [each.col for each in ids], [each.row for each in ids]
    table["s2_product"] = [f"{each.scene}_20230101T000000" for each in ids]
    for name, rows in table.groupby("tile_id"):
        tile = Tile.from_name(str(name))
        ul_x_m, ul_y_m = corners(tile, rows["col"].to_numpy(), rows["row"].to_numpy())
        table.loc[rows.index, ["epsg", "ul_x_m", "ul_y_m"]] = np.stack([np.full(len(rows), tile.epsg), ul_x_m, ul_y_m], 1)
    table[["epsg", "ul_x_m", "ul_y_m"]] = table[["epsg", "ul_x_m", "ul_y_m"]].astype("int64")
    starts = {time: f"{time:%Y%m%dT%H%M%S}" for time in table["datetime"].unique()}
    products = [f"S1A_IW_GRDH_1SDV_{starts[time]}_{starts[time]}_017014_01C595_B2A5" for time in table["datetime"]]
    table["s1_product"] = np.where(rng.random(patches) < 0.95, np.array(products, object), None)
    table["s1_time_gap_h"] = np.where(table["s1_product"].notna(), np.round(rng.uniform(-8, 8, patches), 2), np.nan)
    shares = rng.dirichlet(np.ones(19), patches)
    table["label_fractions"] = [
        {name: round(float(share), 4) for name, share in zip(names, of, strict=False)}
        for names, of in zip(table["labels"], shares, strict=True)
    ]
    for column, most in (("unlabeled", 0.25), ("nodata", 0.0), ("cloud", 0.3), ("shadow", 0.1), ("snow", 0.2)):
        table[f"{column}_fraction"] = np.round(rng.random(patches) ** 4 * most, 4)
    table["contains_cloud_or_shadow"] = table["cloud_fraction"] + table["shadow_fraction"] > 0.01
    table["contains_seasonal_snow"] = table["snow_fraction"] > 0.01
    table["kept"] = rng.random(patches) < 0.9
    table["drop_reason"] = np.where(table["kept"], None, rng.choice(np.array(["unlabeled", "nodata", "cloud_or_shadow"], object), patches))
    block = (table["row"] // 10 * 10 + table["col"] // 10) % 4
    split = np.array(["train", "train", "validation", "test"], object)[block]
    table["split"] = np.where(table["kept"], split, None)
    return with_footprints(table[[name for name in PatchRow.model_fields if name != "bbox"]])


def write_dataset(root: Path, patches: int, seed: int = 0) -> None:
    """Write the table as a build leaves it."""
    root.mkdir(parents=True, exist_ok=True)
    catalog.write_patches(root / "patches.parquet", full_patch_table(patches, seed))


def source_of(root: Path) -> Source:
    """The dataset below ``root`` as exports take it; it has no pixels."""
    path = root / "patches.parquet"
    table = catalog.read_patches(path)
    kept = table[table["kept"]].reset_index(drop=True)
    twins = [
        None if product is None else s1_patch_id(s1_scene_id(product), PatchId.parse(patch_id))
        for patch_id, product in zip(kept["patch_id"], kept["s1_product"], strict=True)
    ]
    index = pd.DataFrame(
        {
            "patch_id": kept["patch_id"],
            "sensor": SENTINEL2.name,
            "s1_key": pd.Series(twins, dtype=object),
            "reference_map_key": [reference_map_id(PatchId.parse(patch_id)) for patch_id in kept["patch_id"]],
            "split": kept["split"],
            "labels": kept["labels"],
        }
    )
    nomenclature, counts = load_nomenclature("bigearthnet-19"), {str(k): int(v) for k, v in kept["split"].value_counts().items()}
    manifest = ShardManifest(
        name="generated",
        format="lmdb",
        codec="none",
        recipe_sha256="0" * 64,
        key_rule="patch id",
        patch_side_m=1200,
        grid="MGRS",
        bands=shards.band_infos([SENTINEL2, SENTINEL1, REFERENCE_MAP], {band: [-1000.0] for band in SENTINEL2.band_names}, 10_000),
        labels=list(nomenclature.classes),
        unlabeled_codes=nomenclature.unlabeled_codes,
        counts=counts,
        keys=3 * len(kept),
        files=[],
    )
    dataset = Manifest(
        name="generated",
        title="A generated dataset",
        rsdata_version=__version__,
        recipe_sha256="0" * 64,
        inputs=[],
        counts={"scenes": kept["s2_product"].nunique(), "patches": len(table), "kept": len(kept)},
        dropped={str(k): int(v) for k, v in table["drop_reason"].value_counts().items()},
        splits=counts,
        coregistration=[],
        failures=[],
        outputs=[Artifact(path=path.name, bytes=path.stat().st_size, sha256=file_sha256(path))],
    )
    recipe = Recipe.model_validate(
        {"name": "generated", "title": dataset.title, "scenes": {"sentinel2": ["S2*.SAFE"]}, "labels": {"path": "U2018_CLC2018.gpkg"}}
    )

    def no_pixels(key: str) -> dict[str, np.ndarray]:
        raise KeyError(key)

    return Source(kept, index, manifest, recipe, dataset, no_pixels, root, (root / "shards" / "lmdb",))


def _read_back(out: Path, kept: int) -> None:
    """Open what was written with programs that are not rsdata."""
    import duckdb
    import mlcroissant
    import pyarrow.parquet as pq
    import stac_geoparquet.arrow

    items = out / "stac" / "items.parquet"
    (found,) = duckdb.sql(f"select count(distinct id) from '{items}'").fetchone() or (0,)
    first = next(iter(stac_geoparquet.arrow.stac_table_to_items(pq.read_table(items).slice(0, 1))))
    described = mlcroissant.Dataset(str(out / "croissant" / "croissant.json"))
    print(f"DuckDB counts {found:,} items, the first is {first['id']}; mlcroissant finds {len(described.metadata.record_sets)} record sets")
    assert found == kept


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patches", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, out = Path(folder) / "dataset", Path(folder) / "out"
        write_dataset(root, arguments.patches, arguments.seed)
        command = [sys.executable, "-c", WORK, str(Path(__file__).parent), str(root), str(out)]
        figures = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        peak_gib = figures.pop("peak_gib")
        cpu_s = sum(each["cpu_s"] for each in figures.values())
        for name, each in figures.items():
            print(f"{name:10} {each['seconds']:6.1f} s {each['cpu_s']:6.1f} CPU s {each['bytes'] / 1e6:8.2f} MB")
        print(f"together {cpu_s:.1f} CPU s (at most {MOST_CPU_S:g}), peak {peak_gib:.2f} GiB (at most {MOST_GIB:g})")
        _read_back(out, int(catalog.read_patches(root / "patches.parquet")["kept"].sum()))
    return int(cpu_s > MOST_CPU_S or peak_gib > MOST_GIB)


if __name__ == "__main__":
    sys.exit(main())
