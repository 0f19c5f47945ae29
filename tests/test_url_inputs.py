"""Recipes whose inputs lie behind URLs: the same bytes as from the disk, fetched once, and each way it can fail."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from conftest import SMALL, run_steps, write_recipe
from rasterio.transform import from_origin
from servers import Fault, FileServer, Served, s3_server

from rsdata import steps
from rsdata.errors import DownloadError, RecipeError, SceneError
from rsdata.recipe import Recipe, load_recipe
from rsdata.records import ScenePair, Sentinel1Match, Sentinel1Scene
from rsdata.scenes import open_sentinel2, remote, remote_inputs
from rsdata.scenes.mosaic import dem_name
from rsdata.steps import fetching, heights
from rsdata.steps.scene import _s1_processing_key
from rsdata.workspace import Workspace


@pytest.fixture
def files() -> Iterator[FileServer]:
    with FileServer() as server:
        yield server


@contextmanager
def patient(**changes: object) -> Iterator[remote.Session]:
    options: dict[str, object] = {"backoff_s": 0.01, "sync_bytes": 16 * 1024, "tries": 2}
    with remote.Session(remote.Keys(), **(options | changes)) as session:  # type: ignore[arg-type]
        yield session


def fetch(url: str, workspace: Workspace, **changes: object) -> steps.Outcome:
    with patient(**changes) as session:
        return fetching.fetch_url(url, workspace, session)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "dataset")


def recipe_of(folder: Path, **scenes: object) -> Recipe:
    content = {"name": "far", "scenes": {"sentinel2": ["none*"], **scenes}, "labels": {"path": "land.gpkg"}}
    folder.mkdir(parents=True, exist_ok=True)
    return load_recipe(write_recipe(folder, content))


# --- a build from a bucket --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bucket(built: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The inputs of the small dataset in an S3 bucket, in another process; the environment names it."""
    for package in ("moto", "flask", "obstore", "httpx"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed; it comes with the extra `dev`")
    with s3_server(tmp_path_factory.mktemp("moto")) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        server.put("scenes", built.inputs, "small")
        client = server._client()
        client.put_object_acl(Bucket="scenes", Key="small/countries.gpkg", ACL="public-read")
        yield SimpleNamespace(url=server.url, client=client)


def far_recipe(folder: Path, url: str) -> Path:
    content = {key: value for key, value in SMALL.items() if key not in ("synthetic", "training")} | {
        "scenes": {"sentinel2": ["s3://scenes/small/sentinel2/S2*.SAFE"], "sentinel1": ["s3://scenes/small/s*1/S1*"]},
        "labels": {"path": "s3://scenes/small/corine.gpkg"},
        "countries": {"path": f"{url}/scenes/small/countries.gpkg"},
    }
    return write_recipe(folder, content)


@pytest.fixture(scope="module")
def far(bucket: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The small dataset built from the bucket."""
    folder = tmp_path_factory.mktemp("far")
    path = far_recipe(folder, bucket.url)
    recipe, workspace = load_recipe(path), Workspace.create(folder / "dataset")
    fetched = steps.fetch_inputs(recipe, workspace)
    return SimpleNamespace(path=path, recipe=recipe, fetched=fetched, workspace=run_steps(path, workspace.root)[0])


def contents(root: Path) -> dict[str, str]:
    """Digests of tables and shard; of the shard's manifest without the digest of the recipe, which says where inputs lie."""
    found = {path.name: path.read_bytes() for path in root.glob("*.parquet")}
    found |= {path.relative_to(root).as_posix(): path.read_bytes() for path in (root / "shards").rglob("*") if path.is_file()}
    for name in [each for each in found if each.endswith("manifest.json")]:
        said = json.loads(found[name])
        said.pop("recipe_sha256")
        found[name] = json.dumps(said, sort_keys=True).encode()
    return {name: hashlib.sha256(each).hexdigest() for name, each in found.items() if not name.endswith("lock.mdb")}


def test_a_build_from_a_bucket_gives_the_bytes_of_one_from_the_disk(far, built):
    assert {"patches.parquet", "facts.parquet", "texts.parquet", "shards/lmdb/data.mdb"} <= set(contents(built.root))
    assert contents(far.workspace.root) == contents(built.root)


def test_every_input_is_fetched_once_and_digested(far, built):
    products = [path for pattern in ("sentinel2/S2*", "sentinel1/S1*") for path in built.inputs.glob(pattern)]
    assert len(far.fetched) == len(products) + 2
    copied = {item.sha256 for outcome in far.fetched for item in outcome.receipt.outputs}
    here = [*(path for product in products for path in product.rglob("*") if path.is_file()), *built.inputs.glob("co*.gpkg")]
    assert copied == {hashlib.sha256(path.read_bytes()).hexdigest() for path in here}
    again = steps.fetch_inputs(far.recipe, far.workspace)
    assert len(again) == len(far.fetched)
    assert all(outcome.skipped for outcome in again)
    everything = "".join(path.read_text() for path in far.workspace.root.rglob("*.json"))
    assert "planted" not in everything


def test_a_changed_object_is_noticed_and_only_that_is_fetched(far, bucket, tmp_path):
    workspace = Workspace(Path(shutil.copytree(far.workspace.root, tmp_path / "dataset")))
    before = (workspace.root / steps.locate_inputs(far.recipe, workspace).labels).read_bytes()
    bucket.client.put_object(Bucket="scenes", Key="small/corine.gpkg", Body=before + b"\0")
    try:
        done = [outcome for outcome in steps.fetch_inputs(far.recipe, workspace) if not outcome.skipped]
    finally:
        bucket.client.put_object(Bucket="scenes", Key="small/corine.gpkg", Body=before)
    assert [len(outcome.receipt.outputs) for outcome in done] == [1]
    assert steps.locate_inputs(far.recipe, workspace).labels.read_bytes() == before + b"\0"


def test_without_a_network_what_was_fetched_is_taken_when_that_is_asked_for(far, tmp_path, monkeypatch):
    monkeypatch.setenv("RSDATA_OFFLINE", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert steps.fetch_inputs(far.recipe, far.workspace) == []
    assert len(steps.find_scenes(far.recipe, far.workspace).pairs) == 2
    with pytest.raises(DownloadError, match=r"/scenes/small/.* has not been fetched .* RSDATA_OFFLINE forbids asking"):
        steps.find_scenes(far.recipe, Workspace.create(tmp_path / "new"))


def test_patterns_are_expanded_by_folder_and_name_nothing_else(bucket):
    with remote.Session() as session:
        (first, second) = remote_inputs.expand_url("s3://scenes/*/sentinel2/S2*.SAFE", session)
        assert first < second
        assert first.startswith("s3://scenes/small/sentinel2/S2")
        assert remote_inputs.expand_url("s3://scenes/small/c*.gpkg", session) == [
            "s3://scenes/small/corine.gpkg",
            "s3://scenes/small/countries.gpkg",
        ]
        with pytest.raises(DownloadError, match=r"s3://scenes/small/S3\* matches nothing; look at the address, and at the endpoint"):
            remote_inputs.expand_url("s3://scenes/small/S3*", session)
        with pytest.raises(DownloadError, match=r"s3://scenes/small/none.SAFE is not there \(127.0.0.1:\d+ answers 404\)"):
            remote_inputs.list_input("s3://scenes/small/none.SAFE", session)


# --- what may go wrong ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def zipped(made_safe: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("zip") / "product.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for item in sorted(made_safe.rglob("*")):
            archive.write(item, f"{made_safe.name}/{item.relative_to(made_safe).as_posix()}")
    return path.read_bytes()


def test_a_transfer_cut_in_its_middle_goes_on_from_there(files, zipped, workspace):
    files.files["/product.zip"] = Served(zipped)
    half = len(zipped) // 2
    files.faults = [Fault(), Fault(cut_after=half)]
    with pytest.raises(DownloadError, match="what has come is kept, run the same command later"):
        fetch(f"{files.url}/product.zip", workspace, tries=1)
    assert fetching.copy_of(f"{files.url}/product.zip", workspace) is None
    asked = len(files.log)
    outcome = fetch(f"{files.url}/product.zip", workspace)
    starts = [each.headers.get("range") for each in files.log[asked:]]
    assert starts[0] is None  # what is there is asked first
    assert int(str(starts[1]).removeprefix("bytes=").removesuffix("-")) > half // 2
    copy = fetching.copy_of(f"{files.url}/product.zip", workspace)
    assert copy is not None
    assert copy.read_bytes() == zipped
    assert outcome.receipt.outputs[0].sha256 == hashlib.sha256(zipped).hexdigest()


def test_a_file_replaced_after_half_a_transfer_is_fetched_from_its_start(files, zipped, workspace):
    url = f"{files.url}/product.zip"
    files.files["/product.zip"] = Served(zipped[::-1])
    files.faults = [Fault(), Fault(cut_after=len(zipped) // 2)]
    with pytest.raises(DownloadError):
        fetch(url, workspace, tries=1)
    files.files["/product.zip"] = Served(zipped)
    fetch(url, workspace)
    assert (fetching.copy_of(url, workspace) or Path()).read_bytes() == zipped


def test_a_file_replaced_while_it_is_fetched_is_refused_and_the_next_run_takes_the_new_one(files, zipped, workspace, monkeypatch):
    url = f"{files.url}/product.zip"
    files.files["/product.zip"] = Served(zipped[:-1])
    list_input = remote_inputs.list_input

    def list_then_replace(*given: object) -> remote_inputs.Listing:
        listing = list_input(*given)  # type: ignore[arg-type]
        files.files["/product.zip"] = Served(zipped)
        return listing

    monkeypatch.setattr(remote_inputs, "list_input", list_then_replace)
    with pytest.raises(DownloadError, match=r"product.zip changed while it was fetched \(product.zip\); run the same command again"):
        fetch(url, workspace)
    assert fetching.copy_of(url, workspace) is None
    fetch(url, workspace)
    assert (fetching.copy_of(url, workspace) or Path()).read_bytes() == zipped


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, r"127.0.0.1:\d+ wants to know who asks for product.zip \(401\); set CDSE_USERNAME"),
        (403, r"127.0.0.1:\d+ refuses product.zip \(403\); look whether"),
        (404, r"http://127.0.0.1:\d+/product.zip is not there \(127.0.0.1:\d+ answers 404\); look at the address in the recipe"),
        (503, r"127.0.0.1:\d+ answers 503, and did so 2 times; what has come is kept"),
    ],
)
def test_what_a_server_refuses_is_one_sentence(files, workspace, status, message):
    files.faults = [Fault(status=status), Fault(status=status)]
    with pytest.raises(DownloadError, match=message) as caught:
        fetch(f"{files.url}/product.zip?key=secret", workspace)
    assert "secret" not in str(caught.value)


def test_a_file_larger_than_the_free_disk_is_not_begun(files, zipped, workspace, monkeypatch):
    files.files["/product.zip"] = Served(zipped)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=10**9, used=0, free=1000))
    with pytest.raises(DownloadError, match=rf"product.zip needs {len(zipped):,} bytes, .* but the disk of .* has 1,000; free space"):
        fetch(f"{files.url}/product.zip", workspace)
    assert len(files.log) == 1


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://me:secret@host/x.zip", r"https://host/x.zip is written with a user name or password; put keys into the environment"),
        ("https://host/", "names a whole server or bucket"),
        ("ftp://host/x.zip", "'ftp://host/x.zip' is no address that inputs are fetched from"),
    ],
)
def test_an_address_that_is_none_is_refused_before_anything_is_asked(url, message, workspace):
    with pytest.raises(DownloadError, match=message):
        fetch(url, workspace)


def test_a_pattern_over_http_is_refused():
    with patient() as session, pytest.raises(DownloadError, match=r"has a `\*`, but a server has no listing over HTTP"):
        remote_inputs.expand_url("https://host/S2*.zip", session)


def test_products_that_do_not_come_or_are_none_do_not_stop_the_others(files, zipped, made_safe, workspace, tmp_path):
    files.files["/product.zip"] = Served(zipped)
    files.files["/page.zip"] = Served(b"<html>Please log in</html>")
    names = ["product.zip", "page.zip", "gone.zip"]
    recipe = recipe_of(tmp_path / "recipe", sentinel2=[f"{files.url}/{name}" for name in names])
    steps.fetch_inputs(recipe, workspace)
    found = steps.find_scenes(recipe, workspace)
    assert [pair.s2.product for pair in found.pairs] == [made_safe.stem]
    assert sorted(each.unit for each in found.failures) == ["gone.zip", "page.zip"]
    said = {each.unit: each.message for each in found.failures}
    assert said["page.zip"].endswith(f"(it is the copy of {files.url}/page.zip)")
    assert "is not there" in said["gone.zip"]


def test_land_cover_that_does_not_come_ends_the_build(files, workspace, tmp_path):
    recipe = recipe_of(tmp_path / "recipe")
    recipe = recipe.model_copy(update={"labels": recipe.labels.model_copy(update={"path": f"{files.url}/land.gpkg"})})
    with pytest.raises(DownloadError, match="land.gpkg is not there"):
        steps.fetch_inputs(recipe, workspace)


def test_a_folder_over_http_is_fetched_by_its_manifest(files, made_safe, workspace):
    for path in made_safe.rglob("*"):
        if path.is_file():
            files.files[f"/{path.relative_to(made_safe.parent).as_posix()}"] = Served(path.read_bytes())
    url = f"{files.url}/{made_safe.name}"
    fetch(url, workspace)
    copy = fetching.copy_of(url, workspace)
    assert copy is not None
    assert open_sentinel2(copy).scene == open_sentinel2(made_safe).scene
    transferred = len(files.log)
    assert fetch(url, workspace).skipped
    assert len(files.log) == transferred + 1  # the manifest


_SERVE_AND_READ = """
import faulthandler, io, sys, threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from rsdata.scenes import open_sentinel2

faulthandler.dump_traceback_later(40, exit=True)
safe, asked = Path(sys.argv[1]), set()

class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_): pass
    def send_head(self):
        asked.add(self.path)
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return None
        content, wanted = path.read_bytes(), self.headers.get("Range", "")
        first, last = 0, len(content) - 1
        if wanted:
            begin, _, end = wanted.removeprefix("bytes=").partition("-")
            first, last = int(begin), min(int(end or last), last)
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        return io.BytesIO(content[first : last + 1])

server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *given: Handler(*given, directory=str(safe.parent)))
threading.Thread(target=server.serve_forever, daemon=True).start()
product = open_sentinel2(f"http://127.0.0.1:{server.server_port}/{safe.name}")
found, local = product.read_all(("B02", "B05"), 2), open_sentinel2(safe)
assert all((found[name] == local.read(name)).all() for name in found)
foreign = [path for path in asked if not (safe.parent / path.lstrip("/")).is_file()]
assert not foreign, foreign
"""


def test_bands_are_read_from_a_server_in_the_same_process_without_side_files(made_safe):
    """GDAL used to ask for some fifty side files while Python's lock was held, and such a server could never answer."""
    pytest.importorskip("obstore")
    done = subprocess.run([sys.executable, "-c", _SERVE_AND_READ, str(made_safe)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


# --- heights ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(made_safe: Path) -> ScenePair:
    """The small product, over 12.3 E 48.7 N, with a Sentinel-1 product in radar geometry."""
    s2 = open_sentinel2(made_safe).scene
    name = "S1A_IW_GRDH_1SDV_20230612T051234_20230612T051259_048951_05E2F1_A1B2"
    s1 = Sentinel1Scene(
        product=name, scene_id=name[:32], mission="S1A", datetime=s2.datetime, epsg=0, ul_x_m=0, ul_y_m=0, width_m=0, height_m=0,
        bands={}, footprint=[(11.0, 48.0), (14.0, 48.0), (14.0, 50.0)],
    )  # fmt: skip
    return ScenePair(s2_path=str(made_safe), s2=s2, s1=[Sentinel1Match(path="s1", scene=s1, time_gap_h=1)], signature="")


def tile_bytes(corner: tuple[int, int], path: Path) -> bytes:
    profile = {"driver": "GTiff", "height": 12, "width": 12, "count": 1, "dtype": "float32", "crs": "EPSG:4326"}
    with rasterio.open(path, "w", transform=from_origin(corner[1], corner[0] + 1, 1 / 12, 1 / 12), **profile) as raster:
        raster.write(np.full((12, 12), 400, np.float32), 1)
    return path.read_bytes()


@pytest.fixture
def tiles(files: FileServer, tmp_path: Path) -> FileServer:
    """A server with nine tiles of the Copernicus DEM, in the public layout."""
    for corner in [(lat, lon) for lat in (47, 48, 49) for lon in (11, 12, 13)]:
        name = dem_name(corner)
        files.files[f"/dem/{name.removesuffix('.tif')}/{name}"] = Served(tile_bytes(corner, tmp_path / name))
    return files


def under(scene: ScenePair, recipe: Recipe, workspace: Workspace) -> list[str]:
    """Names of the tiles that a recipe brings under a scene, once what it names by URL is fetched."""
    with patient() as session:
        heights.fetch_heights([scene], recipe, workspace, session)
    return [Path(each).name for each in heights.with_heights(steps.s1_processing(recipe), scene, recipe, workspace).dem]


def test_the_ground_reaches_five_kilometres_around_the_scene(pair):
    west, south, east, north = heights.ground_of(pair.s2)
    assert north - south == pytest.approx((2_400 + 2 * 5_120) / 111_200, rel=0.05)
    assert (east - west) * np.cos(np.radians(48.7)) == pytest.approx((2_400 + 2 * 5_120) / 111_300, rel=0.08)


def test_only_tiles_under_the_footprint_are_fetched_and_only_once(tiles, pair, workspace, tmp_path):
    recipe = recipe_of(tmp_path / "recipe", dem=[f"{tiles.url}/dem/"])
    assert under(pair, recipe, workspace) == [dem_name((48, 12))]
    asked = [each.path for each in tiles.log]
    assert {path.rsplit("/", 1)[1] for path in asked} == {dem_name((48, 12))}
    assert under(pair, recipe, workspace) == [dem_name((48, 12))]
    assert len(tiles.log) == len(asked) + 1
    optical_only = pair.model_copy(update={"s1": []})
    assert under(optical_only, recipe, workspace) == []


def test_a_tile_that_is_not_there_is_sea_only_if_the_recipe_says_so(tiles, pair, workspace, tmp_path):
    wide = pair.model_copy(update={"s2": pair.s2.model_copy(update={"height_m": 100_000})})  # into 47 N
    south = dem_name((47, 12))
    del tiles.files[f"/dem/{south.removesuffix('.tif')}/{south}"]
    base = [f"{tiles.url}/dem/"]
    with pytest.raises(SceneError, match=rf"lacks {south} of the 2 tiles .* or state that they are sea \(`dem_sea: \[N47E012\]`"):
        under(wide, recipe_of(tmp_path / "a", dem=base), workspace)
    for sea in (True, ["N47E012"]):
        recipe = recipe_of(tmp_path / "b", dem=base, dem_sea=sea)
        assert under(wide, recipe, workspace) == [dem_name((48, 12))]
        assert heights.with_heights(steps.s1_processing(recipe), wide, recipe, workspace).dem_sea == ((47, 12),)
    tiles.files.clear()
    with pytest.raises(SceneError, match="`dem` has none of the tiles under S2A_MSIL2A_20230612"):
        under(wide, recipe_of(tmp_path / "c", dem=[f"{tiles.url}/elsewhere"], dem_sea=True), workspace)
    with pytest.raises(RecipeError, match="dem_sea"):
        recipe_of(tmp_path / "d", dem=base, dem_sea=["47N"])


def test_a_server_that_refuses_a_tile_is_not_taken_for_the_sea(tiles, pair, workspace, tmp_path):
    tiles.faults = [Fault(status=403)]
    with pytest.raises(DownloadError, match=r"refuses Copernicus_DSM_COG_10_N48_00_E012_00_DEM.tif \(403\)"):
        under(pair, recipe_of(tmp_path / "recipe", dem=[f"{tiles.url}/dem/"], dem_sea=True), workspace)


def test_of_a_local_folder_only_tiles_under_the_footprint_enter_the_key(pair, workspace, tmp_path):
    folder = tmp_path / "dem"
    folder.mkdir()
    for corner in [(48, 12), (48, 13)]:
        tile_bytes(corner, folder / dem_name(corner))
    recipe = recipe_of(tmp_path / "recipe", dem=[str(folder)])
    key = _s1_processing_key(pair, recipe, workspace)
    (folder / dem_name((48, 13))).write_bytes(b"changed")
    (folder / dem_name((30, 2))).touch()
    assert _s1_processing_key(pair, recipe, workspace) == key
    os.utime(folder / dem_name((48, 12)), ns=(1, 1))
    assert _s1_processing_key(pair, recipe, workspace) != key


def test_public_buckets_are_read_at_amazon_unless_an_endpoint_is_named():
    with remote.Session(remote.Keys()) as session:
        assert remote_inputs._public("s3://copernicus-dem-30m/a/b.tif", session) == "https://copernicus-dem-30m.s3.amazonaws.com/a/b.tif"
        assert remote_inputs._public("s3://other/a/b.tif", session) == "s3://other/a/b.tif"
    with remote.Session(remote.Keys(s3_endpoint="http://127.0.0.1:1")) as session:
        assert remote_inputs._public("s3://copernicus-dem-30m/a/b.tif", session) == "s3://copernicus-dem-30m/a/b.tif"
