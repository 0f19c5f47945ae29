"""Files made to do harm: nothing is unpickled, nothing crashes the reader or fills the memory, no name becomes markup."""

import ast
import io
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import rasterio
import yaml
from numcodecs import Blosc, Zstd
from rasterio.transform import from_origin
from typer.testing import CliRunner

from rsdata.captions import ClimateRaster, climate_names
from rsdata.commands import app
from rsdata.errors import RsdataError, ShardError
from rsdata.foreign import MAX_YAML_NODES, load_json, load_yaml, open_parquet
from rsdata.scenes import open_sentinel2
from rsdata.scenes.dem import open_dem
from rsdata.scenes.sen2cor.source import unpack
from rsdata.shards import open_shard, verify_shard
from rsdata.shards.compression import stated_bytes
from rsdata.testing.patch_table import patch_table

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))
from fuzz import fuzz
from fuzz_targets import TARGETS, make_shard

ROOT = Path(__file__).parents[1]
UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
FOUND = {  # inputs that once ended in something else than a sentence
    "s2-zip": (702616, 707715, 711627),
    "s1-processed": (902296, 906091),
    "labels": (700246, 702033, 702854, 900389, 900502, 902026, 1000263, 1008554),
    "heights": (902900,),
    "tables": (903467, 1054573),
    "stac": (1008474,),
    "zarr": (910138, 914225),
    "published": (700184, 700947),
    "scores": (717868, 1001011, 2029799),
}
HARMLESS = {("rsdata/training/loop.py", "pickle.UnpicklingError")}  # an error to catch, which reads nothing


def unsafe_calls(source: str, name: str) -> list[str]:
    """Calls in a source text that could run code out of a file, or leave an archive's folder."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [f"import {alias.name}" for alias in node.names if alias.name.split(".")[0] in UNPICKLERS]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in UNPICKLERS:
            found += [f"{node.module}.{alias.name}" for alias in node.names if (name, f"{node.module}.{alias.name}") not in HARMLESS]
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            said = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if called == "torch.load" and said.get("weights_only") != "True":
                found.append("torch.load without weights_only=True")
            if said.get("allow_pickle", "False") != "False":
                found.append(f"{called} with allow_pickle")
            if called in ("yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "yaml.safe_load"):
                found.append(f"{called}, which counts no aliases")
            if (
                called in ("pd.read_pickle", "pandas.read_pickle", "eval", "exec")
                or called == "shutil.unpack_archive"
                or called.endswith(".extractall")
            ):
                found.append(called)
    return found


def test_nothing_that_could_run_code_out_of_a_file_is_called():
    found = {}
    for folder in ("rsdata", "flows"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if calls := unsafe_calls(path.read_text(encoding="utf-8"), name):
                found[name] = calls
    assert found == {}


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from joblib import load", "torch.load(path)", "np.load(path, allow_pickle=True)", "yaml.load(text, Loader=Any)",
     "zipfile.ZipFile(path).extractall(folder)", "pd.read_pickle(path)", "eval(text)"],
)  # fmt: skip
def test_such_a_call_would_be_found(source):
    assert unsafe_calls(source, "rsdata/a.py")


def test_aliases_are_counted_as_often_as_they_stand_for_something():
    assert load_yaml("a: &x [1, 2]\nb: *x\nc: [*x, *x]") == {"a": [1, 2], "b": [1, 2], "c": [[1, 2], [1, 2]]}
    assert load_yaml("") is None
    # Each line holds ten times what the line before stands for: 10, 100, … 100,000 and the lists around them.
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 5))]
    assert MAX_YAML_NODES < 111_111
    with pytest.raises(yaml.YAMLError, match="aliases stand for"):
        load_yaml("\n".join(lines))
    assert len(load_yaml("\n".join(lines[:4]))) == 4
    with pytest.raises(yaml.YAMLError, match="a value that is none"):
        load_yaml("day: 2023-02-30")
    with pytest.raises(ValueError, match="nested too deeply"):
        load_json("[" * 100_000)


def test_rows_that_a_file_has_no_room_for_are_not_read(tmp_path):
    few = pa.table({"patch_id": [f"a{n}" for n in range(1000)]})
    pa.parquet.write_table(few, tmp_path / "few.parquet")
    assert open_parquet(tmp_path / "few.parquet").read().num_rows == 1000
    many = pa.table({"patch_id": pa.DictionaryArray.from_arrays(pa.array(np.zeros(3_000_000, np.int32)), ["a"])})
    pa.parquet.write_table(many, tmp_path / "many.parquet")
    assert (tmp_path / "many.parquet").stat().st_size < 100_000
    with pytest.raises(pa.ArrowInvalid, match=r"claims 3,000,000 rows in [\d,]+ bytes"):
        open_parquet(tmp_path / "many.parquet")


@pytest.mark.parametrize("size", [1, 255, 256, 65_791, 65_792, 3_000_000])
def test_a_compressed_value_says_how_long_it_is(size):
    plain = np.random.default_rng(0).bytes(size)
    assert stated_bytes(Zstd().encode(plain), "zstd") == size
    assert stated_bytes(Blosc(cname="zstd").encode(plain), "blosc") == size


@pytest.mark.parametrize("packed", [b"", b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfd\x00\x58\x01\x00\x00", bytes(10)])
def test_a_compressed_value_that_does_not_say_is_refused(packed):
    with pytest.raises(ShardError, match="does not say how many bytes"):
        stated_bytes(packed, "zstd")


@pytest.fixture(scope="module")
def shard(tmp_path_factory) -> Path:
    return make_shard(tmp_path_factory.mktemp("shard"))


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.999])
def test_a_database_that_is_cut_short_is_refused_before_it_is_mapped(shard, keep):
    """Beyond the end of a mapped file lies the end of the process."""
    path = shard / "data.mdb"
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[: int(len(whole) * keep)])
        with pytest.raises(ShardError, match=r"data.mdb has [\d,]+ bytes; the manifest says [\d,]+, so it is cut short"):
            open_shard(shard)
        assert any("data.mdb" in finding for finding in verify_shard(shard))
    finally:
        path.write_bytes(whole)


HOSTILE = "<script>alert(1)</script>'\"><img src=x onerror=alert(2)>](javascript:alert(3))\n# heading | `code`"


def zip_of(name: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, b"content")
    return out.getvalue()


@pytest.mark.parametrize("where", ["the directory", "the file's own head"])
@pytest.mark.parametrize("reader", [open_sentinel2, lambda path: unpack(path, path.with_suffix(""))], ids=["open", "unpack"])
def test_a_zip_with_a_name_that_is_no_text_is_refused(tmp_path, reader, where):
    data = zip_of("S2A_MSIL2A_é.SAFE/manifest.safe")
    at = data.index("é".encode()) if where == "the file's own head" else data.rindex("é".encode())
    (tmp_path / "product.zip").write_bytes(data[:at] + b"\xff" + data[at + 1 :])
    with pytest.raises(RsdataError, match="fetch the product again"):
        reader(tmp_path / "product.zip")


@pytest.mark.parametrize("reader", [open_sentinel2, lambda path: unpack(path, path.with_suffix(""))], ids=["open", "unpack"])
def test_a_zip_with_a_name_of_no_letters_is_refused(tmp_path, reader):
    data = zip_of("a")
    head = data.index(b"PK\x01\x02")
    nameless = data[: head + 28] + struct.pack("<HH", 0, 1) + data[head + 32 :]  # the letter counts as extra data instead
    (tmp_path / "product.zip").write_bytes(nameless)
    with zipfile.ZipFile(tmp_path / "product.zip") as archive:
        assert archive.namelist() == [""]
    with pytest.raises(RsdataError, match="holds no manifest.safe|fetch the product again"):
        reader(tmp_path / "product.zip")


def test_a_climate_raster_whose_crs_nothing_converts_to_is_refused(tmp_path):
    about = {"driver": "GTiff", "width": 4, "height": 4, "count": 1, "dtype": "uint8", "transform": from_origin(7, 50, 1, 1)}
    with rasterio.open(tmp_path / "raster.tif", "w", crs='LOCAL_CS["somewhere",UNIT["metre",1]]', **about) as raster:
        raster.write(np.ones((4, 4), np.uint8), 1)
    with pytest.raises(RsdataError, match="raster.tif states a CRS that nothing can be converted to"):
        ClimateRaster(tmp_path / "raster.tif", climate_names())


def test_an_elevation_model_whose_crs_nothing_converts_to_is_refused(tmp_path):
    about = {"driver": "GTiff", "width": 4, "height": 4, "count": 1, "dtype": "float32", "transform": from_origin(4e5, 5e6, 30, 30)}
    with rasterio.open(tmp_path / "heights.tif", "w", crs='LOCAL_CS["somewhere",UNIT["metre",1]]', **about) as raster:
        raster.write(np.ones((4, 4), np.float32), 1)
    model = open_dem([tmp_path / "heights.tif"], datum="ellipsoid")
    with pytest.raises(RsdataError, match="heights.tif states a CRS that nothing can be converted to"):
        model.heights(32633, np.array([4e5, 4.0003e5]), np.array([5e6, 4.9999e6]))


def test_names_in_a_table_become_no_markup_of_the_audit_page(tmp_path):
    table = patch_table(200, tiles=("33UUP",))
    table["split"] = np.where(np.arange(len(table)) % 2, "train", "test")
    table["country"] = HOSTILE
    table["labels"] = [[HOSTILE, "Pastures"]] * len(table)
    table.to_parquet(tmp_path / "table.parquet")
    result = CliRunner().invoke(app, ["split", "audit", str(tmp_path / "table.parquet"), "--out", str(tmp_path / "audit")])
    assert result.exception is None, result.output
    (path,) = (tmp_path / "audit").glob("*.html")
    page = path.read_text(encoding="utf-8")
    assert "alert(1)" in page  # the names are told
    assert "<script>alert" not in page and "<img src=x" not in page
    assert 'href="javascript' not in page


def test_damage_of_every_kind_is_read_or_refused_in_words():
    """The first few of the inputs that `make check-fuzz` makes without end, read in a process with bounded memory, and those it found."""
    inputs = [(name, number) for name in TARGETS for number in (*range(8), *FOUND.get(name, ()))]
    counts, findings = fuzz(inputs)
    assert findings == []
    assert counts["read"] + counts["refused"] == len(inputs)
    assert min(counts["read"], counts["refused"]) > 10  # damage is neither always harmless nor always seen at once
