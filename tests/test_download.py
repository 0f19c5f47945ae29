"""Search and download against servers on the loopback that behave, and that do not."""

import hashlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import traceback
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import shapely
from servers import Fault, FileServer, Served, StacServer, TokenServer, s3_server, stac_item, zip_asset
from typer.testing import CliRunner

from rsdata import steps
from rsdata.commands import app
from rsdata.errors import DownloadError, RsdataError, SceneError
from rsdata.grid import Tile
from rsdata.records import Download, FetchedFile, RemoteFile, RemoteProduct
from rsdata.scenes import catalogue, download, remote
from rsdata.workspace import Workspace, read_record

for package in ("httpx", "obstore", "pystac_client"):
    pytest.importorskip(package, reason=f"{package} is not installed; it comes with the extra `download`")

KEYS = remote.Keys()
ENVIRONMENT = ("CDSE_", "AWS_", "RSDATA_")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the keys nor the proxies of whoever runs the tests take part."""
    for name in list(os.environ):
        if name.startswith(ENVIRONMENT) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def files() -> Iterator[FileServer]:
    with FileServer() as server:
        yield server


@pytest.fixture(scope="session")
def zipped(made_safe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small product as the zip that a catalogue offers."""
    path = tmp_path_factory.mktemp("zipped") / f"{made_safe.stem}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for item in sorted(made_safe.rglob("*")):
            archive.write(item, f"{made_safe.name}/{item.relative_to(made_safe).as_posix()}")
    return path


@pytest.fixture
def offer(files: FileServer, zipped: Path) -> SimpleNamespace:
    """The small product at the file server, as the catalogue describes it."""
    content = zipped.read_bytes()
    path = "/odata/v1/Products(0b5a)/$value"
    files.files[path] = Served(content)
    item = stac_item(zipped.stem, assets={"Product": zip_asset(f"{files.url}{path}", content)})
    return SimpleNamespace(path=path, content=content, item=item, product=catalogue.read_item(item, "S2MSI2A"), name=zipped.stem)


@contextmanager
def session(keys: remote.Keys = KEYS, **changes: object) -> Iterator[remote.Session]:
    options: dict[str, object] = {"backoff_s": 0.01, "sync_bytes": 64 * 1024}
    with remote.Session(keys, **(options | changes)) as opened:  # type: ignore[arg-type]
        yield opened


def fetch(product: RemoteProduct, out: Path, keys: remote.Keys = KEYS, **changes: object) -> Download:
    with session(keys, **changes) as opened:
        return steps.download_product(product, Workspace.create(out), opened)


def record_of(product: str, out: Path) -> Download:
    return read_record(out / "downloads" / f"{product}.json", Download)


def without_checksum(product: RemoteProduct, **changes: object) -> RemoteProduct:
    assert product.archive is not None
    return product.model_copy(update={"archive": product.archive.model_copy(update={"checksum": None, **changes})})


# --- search -----------------------------------------------------------------------------------------------


def s2_name(day: str, tile: str = "33UUP", level: str = "2A", baseline: str = "0509", made: str = "141248") -> str:
    return f"S2A_MSIL{level}_{day}T101031_N{baseline}_R022_T{tile}_{day}T{made}"


def ask(tile: str = "33UUP", period: str = "2023-06-01/2023-06-30", **changes: object) -> catalogue.ProductQuery:
    start, end = catalogue.parse_period(period)
    return catalogue.ProductQuery(Tile.from_name(tile), start, end, **changes)  # type: ignore[arg-type]


@pytest.fixture
def many() -> list[dict]:
    june = [stac_item(s2_name(f"202306{day:02d}"), cloud=float(day)) for day in range(1, 31)]
    return [
        *june[::-1],
        stac_item(s2_name("20230531")),
        stac_item(s2_name("20230701")),
        stac_item(s2_name("20230610", tile="33UVP"), cloud=1.0),
        stac_item(s2_name("20230610", level="1C"), collection="sentinel-2-l1c"),
        stac_item("S1A_IW_GRDH_1SDV_20230611T165101_20230611T165126_048941_05E2A3_1B2C", collection="sentinel-1-grd"),
        stac_item("S1A_EW_GRDM_1SDH_20230611T165101_20230611T165126_048941_05E2A3_1B2D", collection="sentinel-1-grd"),
        stac_item("S1A_IW_GRDH_1SDV_20230612T165101_20230612T165126_048941_05E2A4_1B2E", "sentinel-1-grd", lonlat=(40, 10)),
    ]


@pytest.mark.parametrize("filters", [True, False], ids=["filters at the server", "filters only here"])
def test_search_keeps_tile_days_and_clouds_over_several_pages(many, filters, monkeypatch):
    monkeypatch.setattr(catalogue, "_PAGE_ITEMS", 4)
    with StacServer(many, filters) as server:
        found = catalogue.search_catalogue(ask(max_cloud=9.0), server.url)
    assert [product.product for product in found.products] == [s2_name(f"202306{day:02d}") for day in range(1, 10)]
    assert found.refused == {}
    assert len(server.searches) == (3 if filters else 8)  # nine items in fours; unfiltered, thirty of June and one of the next tile


def test_the_last_day_is_included_and_the_next_is_not(many):
    with StacServer(many) as server:
        found = catalogue.search_catalogue(ask(period="2023-06-30"), server.url)
    assert [product.datetime for product in found.products] == [datetime(2023, 6, 30, 10, 10, 31, tzinfo=UTC)]


def test_each_product_type_comes_from_its_collection(many):
    with StacServer(many) as server:
        l1c = catalogue.search_catalogue(ask(product_type="S2MSI1C"), server.url)
        grd = catalogue.search_catalogue(ask(product_type="S1GRD"), server.url)
    assert [product.product for product in l1c.products] == [s2_name("20230610", level="1C")]
    assert [product.product[:32] for product in grd.products] == ["S1A_IW_GRDH_1SDV_20230611T165101"]  # over the tile, VV and VH
    assert grd.refused == {}
    assert [each["collections"] for each in server.searches] == [["sentinel-2-l1c"], ["sentinel-1-grd"]]
    assert "filter" not in server.searches[1]


def test_the_filters_are_sent_as_the_catalogue_knows_them(many):
    with StacServer(many) as server:
        catalogue.search_catalogue(ask(max_cloud=20.0), server.url)
    assert server.searches[0]["filter"]["args"] == [
        {"op": "=", "args": [{"property": "grid:code"}, "MGRS-33UUP"]},
        {"op": "<=", "args": [{"property": "eo:cloud_cover"}, 20.0]},
    ]


def test_of_several_processings_the_newest_is_taken():
    old, new = s2_name("20230612", baseline="0509"), s2_name("20230612", baseline="0510", made="010101")
    items = [stac_item(new), stac_item(old)]
    assert [each.product for each in catalogue.choose(items, ask()).products] == [new]
    assert catalogue.choose(items, ask()).older == [old]
    assert [each.product for each in catalogue.choose(items, ask(every_baseline=True)).products] == [old, new]


def test_an_item_says_size_checksum_and_folder():
    name = s2_name("20230612")
    folder = f"s3://eodata/Sentinel-2/MSI/L2A/2023/06/12/{name}.SAFE"
    assets = {
        "Product": zip_asset("https://download.dataspace.copernicus.eu/odata/v1/Products(0b5a)/$value", b"abc"),
        "safe_manifest": {"href": f"{folder}/manifest.safe", "file:size": 7},
        "thumbnail": {"href": "https://datahub.creodias.eu/odata/v1/Assets(1)/$value"},
        "B02_10m": {"href": "https://x/y", "alternate": {"s3": {"href": f"{folder}/GRANULE/g/B02.jp2", "file:size": 7}}},
    }
    product = catalogue.read_item(stac_item(name, assets=assets, cloud=None), "S2MSI2A")
    assert product.archive == RemoteFile(
        path=f"{name}.zip", href=assets["Product"]["href"], bytes=3, checksum="d50110900150983cd24fb0d6963f7d28e17f72"
    )
    assert (product.folder, product.baseline, product.tile_id, product.cloud_cover) == (folder, "05.09", "33UUP", None)
    assert [file.path for file in product.files] == ["GRANULE/g/B02.jp2", "manifest.safe"]


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (stac_item(s2_name("20230612")) | {"id": "../../etc/passwd"}, "not the name of a product of type S2MSI2A"),
        (stac_item(s2_name("20230612"), assets={"thumbnail": {"href": "https://x/t.jpg"}}), "may be offline, order it first"),
        (stac_item(s2_name("20230612")) | {"assets": None}, "no properties or no assets"),
    ],
)
def test_an_item_that_cannot_be_fetched_is_named_and_left_out(item, reason):
    found = catalogue.choose([item, stac_item(s2_name("20230613"))], ask())
    assert [product.product for product in found.products] == [s2_name("20230613")]
    assert [reason in why for why in found.refused.values()] == [True]


def test_a_catalogue_out_of_service_ends_in_one_sentence(many):
    with StacServer(many) as server:
        server.broken = 400
        with pytest.raises(DownloadError, match=r"^the catalogue at 127\.0\.0\.1:\d+ answers 400; "):
            catalogue.search_catalogue(ask(), server.url)
    with pytest.raises(DownloadError, match="name another with --catalogue"):
        catalogue.search_catalogue(ask(), server.url)
    with FileServer() as other:
        other.files["/"] = Served(b"<html>no STAC here</html>")
        with pytest.raises(DownloadError, match="the catalogue at"):
            catalogue.search_catalogue(ask(), other.url)


@pytest.mark.parametrize(("text", "message"), [("June 2023", "is no span of days"), ("2023-06-30/2023-06-01", "ends before it starts")])
def test_dates_that_make_no_sense_are_refused(text, message):
    with pytest.raises(DownloadError, match=message):
        catalogue.parse_period(text)


# --- one zip ----------------------------------------------------------------------------------------------


def test_a_product_comes_whole_and_a_rerun_asks_the_server_nothing(offer, files, tmp_path):
    done = fetch(offer.product, tmp_path)
    assert (tmp_path / f"{offer.name}.zip").read_bytes() == offer.content
    assert done == record_of(offer.name, tmp_path)
    assert (done.state, done.path, done.notes) == ("done", f"{offer.name}.zip", [])
    assert done.files[0].sha256 == hashlib.sha256(offer.content).hexdigest()
    assert done.files[0].verified == "size and md5"
    assert len(files.log) == 1
    assert fetch(offer.product, tmp_path) == done
    assert len(files.log) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{offer.name}.zip", "downloads"]
    assert [path.name for path in (tmp_path / "downloads").iterdir()] == [f"{offer.name}.json"]


def test_a_product_that_was_removed_here_is_fetched_again(offer, files, tmp_path):
    fetch(offer.product, tmp_path)
    (tmp_path / f"{offer.name}.zip").unlink()
    fetch(offer.product, tmp_path)
    assert len(files.log) == 2


def test_after_a_cut_only_the_missing_range_is_asked_for(offer, files, tmp_path):
    files.faults = [Fault(cut_after=300_000), Fault(cut_after=100_000)]
    fetch(offer.product, tmp_path)
    starts = [int(each.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-")) for each in files.log]
    assert len(starts) == 3
    assert starts == sorted(starts)
    assert starts[0] == 0
    assert 0 < starts[1] <= 300_000
    assert starts[1] < starts[2] <= 400_000
    assert [each.status for each in files.log] == [200, 206, 206]
    assert files.log[1].headers["if-range"] == files.files[offer.path].etag
    assert files.log[2].sent == len(offer.content) - starts[2]


def test_after_too_many_cuts_what_came_is_kept_and_a_rerun_goes_on(offer, files, tmp_path):
    files.faults = [Fault(cut_after=200_000), Fault(cut_after=0), Fault(cut_after=0)]
    with pytest.raises(DownloadError, match=r"broke .*3 times; what has come is kept, run the same command later"):
        fetch(offer.product, tmp_path, tries=3)
    partial = record_of(offer.name, tmp_path)
    kept = partial.files[0].offset
    assert partial.state == "partial"
    assert "3 times" in str(partial.reason)
    assert (tmp_path / "downloads" / f"{offer.name}.part").stat().st_size == kept > 0
    fetch(offer.product, tmp_path)
    assert files.log[-1].headers["range"] == f"bytes={kept}-"
    assert files.log[-1].sent == len(offer.content) - kept
    assert (tmp_path / f"{offer.name}.zip").read_bytes() == offer.content


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_a_file_that_changed_meanwhile_is_fetched_from_its_start(offer, files, tmp_path, ranges):
    files.faults = [Fault(cut_after=200_000), Fault(cut_after=0)]
    with pytest.raises(DownloadError):
        fetch(offer.product, tmp_path, tries=2)
    old = offer.content[::-1]
    (tmp_path / "downloads" / f"{offer.name}.part").write_bytes(old[:200_000])  # the beginning of another file
    files.files[offer.path] = Served(offer.content, etag='"another"', ranges=ranges)
    fetch(offer.product, tmp_path)
    assert files.log[-1].sent == len(offer.content)
    assert (tmp_path / f"{offer.name}.zip").read_bytes() == offer.content


def test_a_server_that_ignores_the_condition_does_not_join_two_files(offer, files, tmp_path):
    files.faults = [Fault(cut_after=200_000), Fault(cut_after=0)]
    with pytest.raises(DownloadError):
        fetch(offer.product, tmp_path, tries=2)
    other = record_of(offer.name, tmp_path)
    changed = other.model_copy(update={"files": [other.files[0].model_copy(update={"mark": 'W/"old"'})]})  # sent without If-Range
    (tmp_path / "downloads" / f"{offer.name}.json").write_text(changed.model_dump_json())
    fetch(offer.product, tmp_path)
    assert [each.status for each in files.log[-2:]] == [206, 200]
    assert (tmp_path / f"{offer.name}.zip").read_bytes() == offer.content


def test_a_zip_of_unknown_size_comes_too(offer, files, tmp_path):
    files.files[offer.path].chunked = True
    assert fetch(offer.product, tmp_path).files[0].verified == "size and md5"
    again = tmp_path / "cut"
    files.faults = [Fault(cut_after=200_000)]
    fetch(offer.product, again)
    assert files.log[-1].status == 206
    assert (again / f"{offer.name}.zip").read_bytes() == offer.content


def test_a_wrong_checksum_is_said_and_the_file_put_aside(offer, files, tmp_path):
    files.files[offer.path] = Served(offer.content[:-1] + b"!")
    with pytest.raises(download.WrongContent, match=r"came with the md5 \w{32}, but the catalogue says \w{32}; it lies in .*rejected"):
        fetch(offer.product, tmp_path)
    rejected = tmp_path / "downloads" / "rejected" / f"{offer.name}.zip"
    assert rejected.read_bytes()[-1:] == b"!"
    assert not (tmp_path / f"{offer.name}.zip").exists()
    assert (record_of(offer.name, tmp_path).state, record_of(offer.name, tmp_path).files) == ("failed", [])
    files.files[offer.path] = Served(offer.content)
    fetch(offer.product, tmp_path)
    assert "range" not in files.log[-1].headers


def test_a_size_other_than_promised_is_refused_before_it_is_fetched(offer, files, tmp_path):
    lied = without_checksum(offer.product, bytes=len(offer.content) + 5)
    with pytest.raises(DownloadError, match=rf"has {len(offer.content):,} bytes at the server, but the catalogue says"):
        fetch(lied, tmp_path)
    assert not list((tmp_path / "downloads").glob("*.part")) or not (tmp_path / "downloads" / f"{offer.name}.part").stat().st_size
    files.files[offer.path].chunked = True
    with pytest.raises(download.WrongContent, match="but the catalogue says"):
        fetch(lied, tmp_path)


def test_a_checksum_outranks_a_wrong_size(offer, files, tmp_path):
    archive = offer.product.archive.model_copy(update={"bytes": 17})  # such as the size of the unpacked product
    done = fetch(offer.product.model_copy(update={"archive": archive}), tmp_path)
    assert done.files[0].verified == "md5"


def test_without_a_checksum_that_is_said(offer, files, tmp_path):
    assert fetch(without_checksum(offer.product), tmp_path).notes == [
        "the catalogue has no checksum for 1 of 1 files; their sizes were compared"
    ]


def test_a_zip_that_is_not_the_product_is_put_aside(offer, files, tmp_path):
    files.files[offer.path] = Served(b"<html>maintenance</html>")
    with pytest.raises(SceneError, match="what came is not the product: .* damaged zip"):
        fetch(without_checksum(offer.product, bytes=None), tmp_path)
    assert (tmp_path / "downloads" / "rejected" / f"{offer.name}.zip").exists()
    assert record_of(offer.name, tmp_path).state == "failed"


def test_a_tile_across_the_180th_meridian_is_asked_for_on_both_sides():
    outline = shapely.geometry.shape(catalogue.tile_outline(Tile.from_name("01WCV")))
    east, west = sorted(outline.geoms, key=lambda part: part.bounds[0])
    assert (west.bounds[0], west.bounds[2]) == (pytest.approx(177.19, abs=0.01), 180.0)
    assert (east.bounds[0], east.bounds[2]) == (-180.0, pytest.approx(-179.50, abs=0.01))


# --- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, r"wants to know who asks for .*\(401\); set CDSE_USERNAME and CDSE_PASSWORD, or CDSE_TOKEN in the environment"),
        (403, r"refuses .*\(403\); look whether .* its quota is not used up"),
        (404, r"no longer has .*\(404\); the product was removed or replaced, search again"),
        (410, r"no longer has .*\(410\)"),
        (422, r"answers 422 to a request for .*; the product may be offline"),
    ],
)
def test_a_refusal_is_not_asked_again(offer, files, tmp_path, status, message):
    files.faults = [Fault(status=status)]
    with pytest.raises(DownloadError, match=message):
        fetch(offer.product, tmp_path)
    assert len(files.log) == 1
    record = record_of(offer.name, tmp_path)
    assert record.state == "failed"
    assert re.search(message, str(record.reason))


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_passing_trouble_is_tried_again(offer, files, tmp_path, status):
    files.faults = [Fault(status=status), Fault(status=status)]
    assert fetch(offer.product, tmp_path).state == "done"
    assert [each.status for each in files.log] == [status, status, 200]


def test_a_trouble_that_stays_ends_after_few_tries(offer, files, tmp_path):
    files.faults = [Fault(status=503)] * 9
    with pytest.raises(DownloadError, match=r"answers 503, and did so 3 times"):
        fetch(offer.product, tmp_path, tries=3)
    assert len(files.log) == 3


@pytest.mark.parametrize("status", [429, 503])
def test_the_server_is_left_alone_for_as_long_as_it_asks(offer, files, tmp_path, status):
    files.faults = [Fault(status=status, headers={"Retry-After": "1"})]
    begun = time.monotonic()
    fetch(offer.product, tmp_path)
    assert 1.0 <= time.monotonic() - begun < 5.0


def test_a_server_that_asks_for_more_patience_than_a_run_has_is_left_alone(offer, files, tmp_path):
    files.faults = [Fault(status=429, headers={"Retry-After": "86400"})]
    with pytest.raises(DownloadError, match="asks to be left alone for 86400 s"):
        fetch(offer.product, tmp_path)
    assert len(files.log) == 1


def test_retry_after_may_be_a_date():
    assert remote._retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert (remote._retry_after("Wed, 21 Oct 2099 07:28:00 GMT") or 0) > 3_000
    assert remote._retry_after("soon") is None


def test_a_server_that_is_not_there_ends_in_one_sentence(offer, tmp_path):
    with FileServer() as gone:
        pass
    archive = offer.product.archive.model_copy(update={"href": f"{gone.url}/x"})
    with pytest.raises(DownloadError, match=r"the connection to 127.0.0.1:\d+ broke \(ConnectError\), and did so 2 times"):
        fetch(offer.product.model_copy(update={"archive": archive}), tmp_path, tries=2)


def test_never_more_connections_than_allowed(offer, files, tmp_path):
    files.pause_s = 0.1
    products = [without_checksum(offer.product).model_copy(update={"product": f"{offer.name}{n}"}) for n in range(6)]
    with session(connections=2) as opened:
        done, failures = steps.download_products(products, Workspace.create(tmp_path), opened)
    assert (len(done), len(failures)) == (0, 6)  # every one came, and is another product than its name says
    assert all("holds the product" in item.message for item in failures)
    assert files.busiest == 2


# --- kept through trouble ---------------------------------------------------------------------------------


def test_a_disk_too_small_is_said_before_anything_is_fetched(offer, files, tmp_path, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: SimpleNamespace(free=100_000_000))
    huge = offer.product.archive.model_copy(update={"bytes": 900_000_000})
    with pytest.raises(DownloadError, match=r"needs 900,000,000 bytes, .* has 100,000,000; free space or name another folder"):
        fetch(offer.product.model_copy(update={"archive": huge}), tmp_path)
    assert files.log == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 768 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=768k", "tmpfs", place], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("no file system may be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_disk_full_in_the_middle_is_said_and_the_beginning_kept(offer, files, small_disk, monkeypatch):
    monkeypatch.setattr(download, "SPARE_BYTES", 0)
    content = os.urandom(2_000_000)
    files.files["/big"] = Served(content, chunked=True)
    wanted = RemoteFile(path="big.zip", href=f"{files.url}/big")
    notes: list[FetchedFile] = []
    with session() as opened:
        with pytest.raises(
            DownloadError, match=r"the disk of .* is full; [\d,]+ bytes of big.zip are kept, so free space and run"
        ) as caught:
            download.fetch_file(wanted, None, small_disk / "big.part", opened, notes.append)
        assert "\n" not in str(caught.value)
        kept = notes[-1].offset
        assert 600_000 < kept <= 768 * 1024
        assert content.startswith((small_disk / "big.part").read_bytes()[:kept])
        subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
        done = download.fetch_file(wanted, notes[-1], small_disk / "big.part", opened, notes.append)
    assert done.sha256 == hashlib.sha256(content).hexdigest()
    assert files.log[-1].headers["range"] == f"bytes={kept}-"


def in_another_process(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=Path(__file__).parents[1])


FETCH = """
    import resource, sys
    from pathlib import Path
    from rsdata import steps
    from rsdata.errors import RsdataError
    from rsdata.records import RemoteProduct
    from rsdata.scenes import remote
    from rsdata.workspace import Workspace
    product, out, limit = RemoteProduct.model_validate_json(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    with remote.Session(sync_bytes=65536, backoff_s=0.01) as session:
        try:
            steps.download_product(product, Workspace.create(out), session)
        except RsdataError as error:
            print(error)
            sys.exit(1)
"""


def test_a_file_that_may_grow_no_further_is_kept(offer, files, tmp_path):
    process = in_another_process(FETCH, offer.product.model_dump_json(), tmp_path, 250_000)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.fullmatch(rf"the disk of .* is full; 250,000 of {len(offer.content):,} bytes of .* run the same command\n", said)
    fetch(offer.product, tmp_path)
    assert files.log[-1].headers["range"] == "bytes=250000-"


def test_killed_in_the_middle_the_same_command_goes_on(offer, files, tmp_path):
    files.faults = [Fault(stall_after=350_000)]
    process = in_another_process(FETCH, offer.product.model_dump_json(), tmp_path, 0)
    state = tmp_path / "downloads" / f"{offer.name}.json"
    for _ in range(600):
        if state.exists() and record_of(offer.name, tmp_path).bytes >= 200_000:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    files.release.set()
    kept = record_of(offer.name, tmp_path).bytes
    assert 200_000 <= kept <= 350_000
    fetch(offer.product, tmp_path)
    assert files.log[-1].headers["range"] == f"bytes={kept}-"
    assert files.log[-1].sent == len(offer.content) - kept
    assert (tmp_path / f"{offer.name}.zip").read_bytes() == offer.content


def test_killed_before_the_record_was_closed_nothing_is_fetched_twice(offer, files, tmp_path):
    done = fetch(offer.product, tmp_path)
    (tmp_path / "downloads" / f"{offer.name}.json").write_text(done.model_copy(update={"state": "partial", "path": None}).model_dump_json())
    assert fetch(offer.product, tmp_path) == done
    assert len(files.log) == 1


def test_a_stranger_of_the_same_name_is_not_overwritten(offer, files, tmp_path):
    (tmp_path / f"{offer.name}.zip").write_bytes(b"mine")
    with pytest.raises(DownloadError, match="is there, but was not fetched by this command; move it away"):
        fetch(offer.product, tmp_path)
    assert (tmp_path / f"{offer.name}.zip").read_bytes() == b"mine"
    assert files.log == []


def test_a_folder_that_cannot_be_written_is_named(offer, files, tmp_path):
    (tmp_path / "downloads" / f"{offer.name}.part" / "x").mkdir(parents=True)
    with pytest.raises(DownloadError, match=r"\.part cannot be written \(Is a directory\)"):
        fetch(offer.product, tmp_path)


def test_a_record_of_another_version_is_begun_anew(offer, files, tmp_path):
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / f"{offer.name}.json").write_text('{"product": 1}')
    assert fetch(offer.product, tmp_path).state == "done"


def test_a_run_that_is_stopped_keeps_what_has_come(offer, files, tmp_path):
    with session() as opened, pytest.raises(DownloadError, match="stopped; what has come is kept, the same command goes on from there"):
        steps.download_product(offer.product, Workspace.create(tmp_path), opened, advance=lambda n: opened.stop() if n else None)
    kept = record_of(offer.name, tmp_path)
    assert kept.state == "partial"
    assert 0 < kept.bytes < len(offer.content)
    fetch(offer.product, tmp_path)
    assert files.log[-1].headers["range"] == f"bytes={kept.bytes}-"


def test_a_host_that_wants_quiet_gets_it_on_every_connection():
    with session(connections=3) as opened:
        opened.be_quiet("busy.example.org", 0.3)
        begun = time.monotonic()
        with opened.connection("other.example.org"):
            assert time.monotonic() - begun < 0.2
        with opened.connection("busy.example.org"):
            assert time.monotonic() - begun >= 0.3


def test_a_second_command_on_the_same_product_stops(offer, files, tmp_path):
    files.faults = [Fault(stall_after=200_000)]
    process = in_another_process(FETCH, offer.product.model_dump_json(), tmp_path, 0)
    for _ in range(600):
        if (tmp_path / "downloads" / f"{offer.name}.part").exists() and record_of(offer.name, tmp_path).bytes:
            break
        time.sleep(0.05)
    with pytest.raises(DownloadError, match="another process is fetching"):
        fetch(offer.product, tmp_path)
    files.release.set()
    assert process.wait(60) == 0
    assert record_of(offer.name, tmp_path).state == "done"


# --- keys -------------------------------------------------------------------------------------------------

PLANTED = {
    "CDSE_USERNAME": "planted-user@example.org",
    "CDSE_PASSWORD": "planted-password",
    "CDSE_S3_ACCESS_KEY": "PLANTEDACCESSKEY",
    "CDSE_S3_SECRET": "planted-s3-secret",
}
TOKEN = "planted-token-given-by-the-server"


def test_a_token_is_fetched_once_and_sent_only_where_it_may_go(offer, files, tmp_path):
    files.files[offer.path].needs_token = TOKEN
    with TokenServer(PLANTED["CDSE_USERNAME"], PLANTED["CDSE_PASSWORD"], TOKEN) as tokens, FileServer() as foreign:
        keys = remote.Keys.from_environment(
            PLANTED | {"CDSE_TOKEN_URL": f"{tokens.url}/token", "RSDATA_TOKEN_HOSTS": f"127.0.0.1:{files.port}"}
        )
        files.faults = [Fault(cut_after=100_000)]
        fetch(offer.product, tmp_path / "a", keys)
        assert tokens.asked == 1
        assert [each.headers["authorization"] for each in files.log] == [f"Bearer {TOKEN}"] * 2
        foreign.files["/elsewhere"] = Served(offer.content)
        files.files[offer.path].location = f"{foreign.url}/elsewhere"
        fetch(offer.product, tmp_path / "b", keys)
        assert foreign.log[0].status == 200
        assert "authorization" not in foreign.log[0].headers


def test_a_token_about_to_run_out_is_renewed(offer, files, tmp_path):
    with TokenServer(PLANTED["CDSE_USERNAME"], PLANTED["CDSE_PASSWORD"], TOKEN, expires_in=1) as tokens:
        environment = PLANTED | {"CDSE_TOKEN_URL": f"{tokens.url}/token", "RSDATA_TOKEN_HOSTS": "127.0.0.1"}
        with session(remote.Keys.from_environment(environment)) as opened:
            opened.authorization(files.url)
            opened._token = (opened._token[0], time.monotonic() - 1)  # type: ignore[index]
            opened.authorization(files.url)
    assert tokens.asked == 2


@pytest.mark.parametrize(
    ("url", "may"),
    [
        ("https://download.dataspace.copernicus.eu/odata/v1/Products(1)/$value", True),
        ("http://download.dataspace.copernicus.eu/odata/v1/Products(1)/$value", False),
        ("https://dataspace.copernicus.eu.example.org/x", False),
        ("https://example.org/x", False),
        ("https://mirror.example.org/x", True),
    ],
)
def test_who_may_see_the_token(url, may):
    assert remote.Keys(token="t", token_hosts=("mirror.example.org",)).may_see_token(url) is may


def test_keys_of_one_store_do_not_go_to_another(offer, files, tmp_path, monkeypatch):
    amazon = {"AWS_ACCESS_KEY_ID": "AMAZON", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "amazon-session"}
    assert not remote.Keys.from_environment(amazon).for_s3  # no endpoint is named, so these are for Amazon
    assert remote.Keys.from_environment(amazon | {"AWS_ENDPOINT_URL": "https://own"}).s3_endpoint == "https://own"
    with FileServer() as other:
        for name, value in (amazon | {"AWS_ENDPOINT_URL_S3": other.url, "AWS_ENDPOINT_URL": other.url}).items():
            monkeypatch.setenv(name, value)
        for name, value in (PLANTED | {"CDSE_S3_ENDPOINT": files.url}).items():
            monkeypatch.setenv(name, value)
        product = offer.product.model_copy(update={"folder": f"s3://eodata/{offer.name}.SAFE"})
        with pytest.raises(DownloadError, match="no longer has"):
            fetch(product, tmp_path, remote.Keys.from_environment())
        assert other.log == []
    assert "PLANTEDACCESSKEY" in files.log[0].headers["authorization"]
    assert "x-amz-security-token" not in files.log[0].headers


def test_planted_keys_show_nowhere(offer, files, tmp_path, monkeypatch, caplog, capfd):
    """Refusals that repeat what was sent, wrong passwords, S3 errors: no key in logs, records, errors or tracebacks."""
    caplog.set_level(logging.DEBUG)
    heard: list[str] = []

    def listen(product: RemoteProduct, keys: remote.Keys, out: str, via: str = "auto") -> None:
        with session(keys, tries=2) as opened, pytest.raises(RsdataError) as caught:
            steps.download_product(product, Workspace.create(tmp_path / out), opened, via)
        heard.append("".join(traceback.format_exception(caught.value)) + repr(caught.value.context) + repr(keys) + repr(opened.keys))

    with TokenServer(PLANTED["CDSE_USERNAME"], PLANTED["CDSE_PASSWORD"], TOKEN) as tokens:
        environment = PLANTED | {"CDSE_TOKEN_URL": f"{tokens.url}/token", "RSDATA_TOKEN_HOSTS": "127.0.0.1", "CDSE_S3_ENDPOINT": files.url}
        keys = remote.Keys.from_environment(environment)
        for status in (401, 403, 404, 500):
            files.faults = [Fault(status=status, echo=True)] * 2
            listen(offer.product, keys, f"http{status}")
        assert files.log[0].headers["authorization"] == f"Bearer {TOKEN}"  # so it was there to be lost
        files.faults = []
        listen(offer.product, remote.Keys.from_environment(environment | {"CDSE_PASSWORD": "planted-password-mistyped"}), "password")
        in_bucket = offer.product.model_copy(update={"folder": f"s3://eodata/{offer.name}.SAFE"})
        for status in (401, 403, 500):
            files.faults = [Fault(status=status, echo=True)] * 2
            listen(in_bucket, keys, f"s3{status}", via="s3")
        assert PLANTED["CDSE_S3_ACCESS_KEY"] in files.log[-1].headers["authorization"]
    captured = capfd.readouterr()
    written = "".join(path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file())
    everything = "\n".join([*heard, written, caplog.text, captured.out, captured.err])
    assert "401" in everything
    for secret in (*PLANTED.values(), TOKEN):
        assert secret not in everything


def test_addresses_are_shown_without_what_could_be_a_key(offer):
    signed = offer.product.archive.model_copy(update={"href": "https://me:secret@host:8443/a/Products(1)/$value?X-Amz-Signature=secret"})
    shown = steps.public_product(offer.product.model_copy(update={"archive": signed}))
    assert shown["archive"]["href"] == "https://host:8443/a/Products(1)/$value"


# --- objects ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bucket(made_safe: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The small product as a folder of objects at a server that speaks S3."""
    if find_spec("moto") is None or find_spec("flask") is None:
        pytest.skip("moto[server] is not installed; it comes with the extra `dev`")
    with s3_server(tmp_path_factory.mktemp("moto")) as server:
        prefix = f"Sentinel-2/MSI/L2A/2023/06/12/{made_safe.name}"
        server.put("eodata", made_safe, prefix)
        keys = remote.Keys(s3_access="planted", s3_secret="planted", s3_endpoint=server.url)
        yield SimpleNamespace(server=server, folder=f"s3://eodata/{prefix}", keys=keys)


def in_folder(bucket: SimpleNamespace, safe: Path, checksum: str | None = None) -> RemoteProduct:
    band = next(path for path in sorted(safe.rglob("*B02_10m.jp2")))
    inside = band.relative_to(safe).as_posix()
    digest = checksum or f"1220{hashlib.sha256(band.read_bytes()).hexdigest()}"
    asset = {"href": f"{bucket.folder}/{inside}", "file:size": band.stat().st_size, "file:checksum": digest}
    return catalogue.read_item(stac_item(safe.stem, assets={"B02_10m": asset}), "S2MSI2A")


def test_a_folder_of_objects_comes_whole_and_a_rerun_asks_nothing(bucket, made_safe, tmp_path):
    product = in_folder(bucket, made_safe)
    done = fetch(product, tmp_path, bucket.keys)
    here = tmp_path / made_safe.name
    wanted = {path.relative_to(made_safe): path.read_bytes() for path in made_safe.rglob("*") if path.is_file()}
    assert {path.relative_to(here): path.read_bytes() for path in here.rglob("*") if path.is_file()} == wanted
    assert (done.source, done.path, len(done.files)) == ("folder", made_safe.name, len(wanted))
    assert sorted({str(file.verified) for file in done.files}) == ["size", "size and sha256"]
    assert done.notes == [f"the catalogue has no checksum for {len(wanted) - 1} of {len(wanted)} files; their sizes were compared"]
    nowhere = remote.Keys(s3_access="planted", s3_secret="planted", s3_endpoint="http://127.0.0.1:9")
    assert fetch(product, tmp_path, nowhere) == done


def test_an_object_begun_before_goes_on_in_its_middle(bucket, made_safe, tmp_path):
    product = in_folder(bucket, made_safe)
    with session(bucket.keys) as opened:
        listed = remote.list_folder(str(product.folder), opened)
        wanted = max(listed, key=lambda file: file.bytes or 0)
        content = (made_safe / wanted.path).read_bytes()
        begun = FetchedFile(path=wanted.path, bytes=len(content), mark=f'"{hashlib.md5(content).hexdigest()}"', offset=1_000)
        part = tmp_path / "object.part"
        part.write_bytes(content[:1_000] + b"never synced")
        came: list[int] = []
        done = download.fetch_file(wanted, begun, part, opened, lambda file: None, came.append)
        assert part.read_bytes() == content
        assert sum(came) == len(content)
        assert came[0] == 1_000
        stale = begun.model_copy(update={"mark": '"another"'})
        part.write_bytes(b"?" * 1_000)
        assert download.fetch_file(wanted, stale, part, opened, lambda file: None).sha256 == done.sha256
    assert part.read_bytes() == content


def test_objects_missing_or_other_than_the_catalogue_says_are_refused(bucket, made_safe, tmp_path):
    with pytest.raises(download.WrongContent, match="came with the sha256"):
        fetch(in_folder(bucket, made_safe, checksum=f"1220{'0' * 64}"), tmp_path / "a", bucket.keys)
    gone = in_folder(bucket, made_safe).model_copy(update={"folder": f"{bucket.folder}x", "files": []})
    with pytest.raises(DownloadError, match="holds no objects at .*; the product was removed or replaced, search again"):
        fetch(gone, tmp_path / "b", bucket.keys)
    half = in_folder(bucket, made_safe)
    half = half.model_copy(update={"files": [half.files[0].model_copy(update={"path": "GRANULE/x/B99.jp2"})]})
    with pytest.raises(DownloadError, match=r"lacks GRANULE/x/B99.jp2 that the catalogue names; the product is incomplete there"):
        fetch(half, tmp_path / "c", bucket.keys)
    missing = in_folder(bucket, made_safe).model_copy(update={"folder": f"s3://nobucket/{made_safe.name}"})
    with pytest.raises(DownloadError, match=r"no longer has .*\(404\)"):
        fetch(missing, tmp_path / "d", bucket.keys)


def test_the_way_follows_from_keys_and_offers(offer):
    both = offer.product.model_copy(update={"folder": "s3://eodata/x.SAFE"})
    assert download.choose_source(both, remote.Keys(s3_access="a", s3_secret="b")) == "folder"
    assert download.choose_source(both, KEYS) == "archive"
    assert download.choose_source(both, KEYS, "s3") == "folder"
    with pytest.raises(DownloadError, match="only via https; leave out --via"):
        download.choose_source(offer.product, KEYS, "s3")


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "a\\b", "", "a//b"])
def test_a_path_that_leaves_the_folder_is_refused(path):
    with pytest.raises(DownloadError, match="would leave the product's folder"):
        remote.check_inside(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("d50110900150983cd24fb0d6963f7d28e17f72", ("md5", "900150983cd24fb0d6963f7d28e17f72")),
        ("900150983cd24fb0d6963f7d28e17f72", ("md5", "900150983cd24fb0d6963f7d28e17f72")),
        (f"1220{'ab' * 32}", ("sha256", "ab" * 32)),
        (f"1e20{'ab' * 32}", ("blake3", "ab" * 32)),
        (f"1214{'ab' * 32}", ("unknown kind", f"1214{'ab' * 32}")),
    ],
)
def test_checksums_are_read_as_multihashes(text, expected):
    assert download.parse_checksum(text) == expected


# --- command line -----------------------------------------------------------------------------------------


def test_the_command_searches_fetches_and_says_what_failed(offer, files, tmp_path, monkeypatch):
    gone = stac_item(s2_name("20230620"), assets={"Product": zip_asset(f"{files.url}/gone")})
    with StacServer([offer.item, gone, stac_item(s2_name("20230625"), cloud=80.0)]) as server:
        monkeypatch.setenv("RSDATA_STAC", server.url)
        asked = [
            "scenes",
            "download",
            "--tile",
            "33UUP",
            "--date",
            "2023-06-01/2023-06-30",
            "--cloud",
            "20",
            "--out",
            str(tmp_path / "out"),
        ]
        listed = CliRunner().invoke(app, [*asked, "--dry-run", "--json"])
        assert listed.exit_code == 0, listed.output
        assert [each["product"] for each in json.loads(listed.stdout)["products"]] == [offer.name, s2_name("20230620")]
        assert files.log == []
        assert not (tmp_path / "out").exists()
        run = CliRunner().invoke(app, asked)
        assert run.exit_code == 1
        assert "no longer has" in run.stderr
        assert f"{offer.name} is there" in run.stderr
        assert (tmp_path / "out" / f"{offer.name}.zip").exists()
        before = len(files.log)
        again = CliRunner().invoke(app, [*asked, "--limit", "1", "--json"])
        assert again.exit_code == 0, again.output
        assert [each["state"] for each in json.loads(again.stdout)["downloads"]] == ["done"]
        assert len(files.log) == before


def test_a_product_fetched_can_be_inspected(offer, tmp_path):
    fetch(offer.product, tmp_path)
    assert CliRunner().invoke(app, ["scenes", "inspect", str(tmp_path / f"{offer.name}.zip")]).exit_code == 0


def test_a_missing_extra_is_named(monkeypatch, offer, tmp_path):
    monkeypatch.setitem(sys.modules, "pystac_client", None)
    with pytest.raises(RsdataError, match=r"pystac-client is not installed; .* pip install 'rsdata\[download\]'"):
        catalogue.search_catalogue(ask(), "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(RsdataError, match="httpx is not installed"):
        fetch(offer.product, tmp_path)
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(RsdataError, match="obstore is not installed"):
        fetch(offer.product.model_copy(update={"archive": None, "folder": "s3://eodata/x.SAFE"}), tmp_path / "s3")
