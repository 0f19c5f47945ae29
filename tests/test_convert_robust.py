"""Conversions that meet damage, full disks and sudden death: a clear sentence, and never half a shard under a whole one's name."""

import hashlib
import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load
from test_convert_datasets import contents
from test_convert_tiff import random_pixels, write_tiff
from typer.testing import CliRunner

from rsdata import steps
from rsdata.commands import app
from rsdata.errors import CatalogError, ShardError, WorkspaceError
from rsdata.shards import open_shard, verify_shard
from rsdata.shards.convert import reading
from rsdata.shards.lmdb import LmdbWriter

SCENE = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP"
S1_SCENE = "S1A_IW_GRDH_1SDV_20170613T165043"
SIDES = {
    "B02": 120,
    "B03": 120,
    "B04": 120,
    "B08": 120,
    "B05": 60,
    "B06": 60,
    "B07": 60,
    "B8A": 60,
    "B11": 60,
    "B12": 60,
    "B01": 20,
    "B09": 20,
}


def write_patch(root: Path, number: int) -> None:
    """A pair of patches such as BigEarthNet's, 14 files."""
    s2, s1 = f"{SCENE}_{number:02d}_07", f"{S1_SCENE}_33UUP_{number}_7"
    for seed, (band, side) in enumerate(SIDES.items()):
        pixels = random_pixels("uint16", (1, side, side), number * 20 + seed) % 12_000
        write_tiff(root / "s2" / SCENE / s2 / f"{s2}_{band}.tif", pixels)
    for seed, band in enumerate(("VH", "VV")):
        write_tiff(root / "s1" / S1_SCENE / s1 / f"{s1}_{band}.tif", random_pixels("float32", (1, 120, 120), number * 20 + 15 + seed))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pairs of patches, for reading only."""
    root = tmp_path_factory.mktemp("made")
    for number in range(12):
        write_patch(root, number)
    return root


@pytest.fixture
def tree(made: Path, tmp_path: Path) -> Path:
    """The same, as hard links that a test may replace."""
    subprocess.run(["cp", "-rl", made, tmp_path / "in"], check=True)
    return tmp_path / "in"


@pytest.fixture
def small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_PORTION_BYTES", 500_000)  # three or four values


def folders(tree: Path) -> dict[str, Path]:
    return {"s1-dir": tree / "s1", "s2-dir": tree / "s2"}


def s2_file(tree: Path, number: int, band: str) -> Path:
    return tree / "s2" / SCENE / f"{SCENE}_{number:02d}_07" / f"{SCENE}_{number:02d}_07_{band}.tif"


def replace(path: Path, data: bytes) -> None:
    path.unlink()  # a hard link
    path.write_bytes(data)


def digests(shard: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(shard.iterdir())}


def test_files_are_the_same_whatever_the_number_of_workers(tree, tmp_path, small_portions):
    for workers in (1, 2, 5):
        steps.convert_dataset("bigearthnet", folders(tree), tmp_path / f"out-{workers}", workers=workers)
    first = digests(tmp_path / "out-1")
    assert set(first) == {"data.mdb", "index.parquet", "manifest.json"}
    assert digests(tmp_path / "out-2") == digests(tmp_path / "out-5") == first
    assert len(contents(tmp_path / "out-1")) == 24


def test_statistics_are_those_of_numpy_over_all_patches(tree, tmp_path):
    steps.convert_dataset("bigearthnet", folders(tree), tmp_path / "out", workers=2)
    with open_shard(tmp_path / "out") as shard:
        manifest = shard.manifest
    values = [load(value) for value in contents(tmp_path / "out").values()]
    assert manifest.statistics_over == "all patches"
    assert manifest.counts == {}
    for band in manifest.bands:
        pixels = np.concatenate([value[band.name].ravel() for value in values if band.name in value]).astype(np.float64)
        if band.nodata == 0:
            pixels = pixels[pixels != 0]
        assert band.statistics.count == pixels.size
        assert band.statistics.mean == pytest.approx(pixels.mean(), rel=1e-9)
        assert band.statistics.std == pytest.approx(pixels.std(), rel=1e-9)
        assert (band.statistics.min, band.statistics.max) == (pixels.min(), pixels.max())
        low, high = band.statistics.bin_edges
        expected, _ = np.histogram(np.clip(pixels, low, high), bins=len(band.statistics.histogram), range=(low, high))
        assert np.abs(np.array(band.statistics.histogram) - expected).sum() <= (0 if band.dtype == "uint16" else 4)  # at float edges


def test_statistics_are_of_the_train_split_where_metadata_names_one(tree, tmp_path):
    keys = [f"{SCENE}_{number:02d}_07" for number in range(12)]
    table = pd.DataFrame(
        {
            "patch_id": keys,
            "split": ["train"] * 4 + ["validation"] * 4 + ["test"] * 4,
            "labels": [["Arable land"]] * 12,
            "s1_name": [f"{S1_SCENE}_33UUP_{number}_7" for number in range(12)],
        }
    )
    table.to_parquet(tmp_path / "metadata.parquet")
    steps.convert_dataset("bigearthnet", folders(tree), tmp_path / "out", metadata=tmp_path / "metadata.parquet")
    with open_shard(tmp_path / "out") as shard:
        manifest, index = shard.manifest, shard.index
        pixels = np.concatenate([shard.read(key)["B11"].ravel() for key in keys[:4]]).astype(np.float64)
        radar = np.concatenate([shard.read(key)["VV"].ravel() for key in table["s1_name"][:4]]).astype(np.float64)
    statistics = {band.name: band.statistics for band in manifest.bands}
    assert statistics["B11"].mean == pytest.approx(pixels[pixels != 0].mean(), rel=1e-9)
    assert statistics["VV"].mean == pytest.approx(radar.mean(), rel=1e-9)
    assert manifest.counts == {"train": 4, "validation": 4, "test": 4}
    assert index["s1_key"].tolist() == table["s1_name"].tolist()
    assert verify_shard(tmp_path / "out") == []
    with pytest.raises(CatalogError, match="give the metadata.parquet of BigEarthNet v2"):
        steps.convert_dataset("bigearthnet", folders(tree), tmp_path / "other", metadata=tree)


def truncated(path: Path) -> None:
    replace(path, path.read_bytes()[:-100])


def shrunk(path: Path) -> None:
    path.unlink()
    write_tiff(path, random_pixels("uint16", (1, 60, 60)))


def retyped(path: Path) -> None:
    path.unlink()
    write_tiff(path, random_pixels("int16", (1, 120, 120)))


def doubled(path: Path) -> None:
    path.unlink()
    write_tiff(path, random_pixels("uint16", (2, 120, 120)))


def emptied(path: Path) -> None:
    replace(path, b"")


def turned_into_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated": (truncated, r"B03\.tif ends after \d+ bytes, its pixels reach to byte \d+; fetch it again"),
    "wrong size": (shrunk, r"B03\.tif is 60 x 60 pixels, expected 120 x 120"),
    "unexpected dtype": (retyped, r"B03\.tif holds int16, expected uint16"),
    "two bands": (doubled, r"B03\.tif holds 2 bands, expected 1"),
    "empty": (emptied, r"B03\.tif is not a TIFF that can be read"),
    "missing": (Path.unlink, r"B03\.tif is missing; fetch it again"),
    "unreadable": (turned_into_a_folder, r"B03\.tif cannot be read: Is a directory"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_named_and_nothing_passes_for_a_shard(tree, tmp_path, kind):
    damage, message = DAMAGE[kind]
    damage(s2_file(tree, 5, "B03"))
    with pytest.raises(ShardError, match=message) as caught:
        steps.convert_dataset("bigearthnet", folders(tree), tmp_path / "out", workers=2)
    assert "1 of 24 values have damaged files" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_all_damaged_files_are_listed_and_the_mended_dataset_converts_to_the_same_bytes(tree, made, tmp_path, small_portions):
    broken = [s2_file(tree, 2, "B01"), s2_file(tree, 2, "B09"), s2_file(tree, 11, "B8A")]
    for path in broken:
        truncated(path)
    with pytest.raises(ShardError, match="2 of 24 values have damaged files") as caught:
        steps.convert_dataset("bigearthnet", folders(tree), tmp_path / "out")
    assert all(path.name in str(caught.value) for path in broken)
    for path in broken:
        replace(path, (made / path.relative_to(tree)).read_bytes())
    done = steps.convert_dataset("bigearthnet", folders(tree), tmp_path / "out")
    assert 12 <= done.resumed_after < 24
    steps.convert_dataset("bigearthnet", folders(made), tmp_path / "undisturbed")
    assert digests(tmp_path / "out") == digests(tmp_path / "undisturbed")


def test_damaged_patches_are_left_out_on_request_and_the_shard_says_so(tree, tmp_path):
    truncated(s2_file(tree, 5, "B03"))
    command = ["convert", "bigearthnet", "--s1-dir", str(tree / "s1"), "--s2-dir", str(tree / "s2"), "--target", str(tmp_path / "out")]
    assert CliRunner().invoke(app, [*command, "--json"]).exit_code == 1
    result = CliRunner().invoke(app, [*command, "--skip-damaged", "--json"])
    assert result.exit_code == 1
    (left_out,) = json.loads(result.stdout)["manifest"]["left_out"]
    assert left_out["key"] == f"{SCENE}_05_07"
    assert "B03.tif ends after" in left_out["reason"]
    values = contents(tmp_path / "out")
    assert len(values) == 23
    assert f"{SCENE}_05_07" not in values
    assert verify_shard(tmp_path / "out") == []
    with pytest.raises(ShardError, match="holds something else already"):  # as somebody who wants them all must not get this one
        steps.convert_dataset("bigearthnet", folders(tree), tmp_path / "out")


def test_a_key_that_comes_twice_is_refused_with_both_places(tree, tmp_path):
    again = tree / "s2" / "another_scene" / f"{SCENE}_05_07"
    again.mkdir(parents=True)
    with pytest.raises(ShardError, match=rf"the key {SCENE}_05_07 comes twice, from .*{SCENE}.* and .*another_scene.*; remove one"):
        steps.convert_dataset("bigearthnet", folders(tree), tmp_path / "out")


def test_the_database_grows_where_values_exceed_its_map(tmp_path):
    writer = LmdbWriter(tmp_path, map_bytes=2**16)
    values = {f"{number:03d}": bytes([number]) * 50_000 for number in range(40)}
    keys = list(values)
    for first in range(0, 40, 10):
        writer.append([(key, values[key]) for key in keys[first : first + 10]])
    assert contents(tmp_path) == values


SLOW = """
import sys, time
from pathlib import Path
from rsdata import steps
from rsdata.shards import lmdb
from rsdata.shards.convert import reading
reading._PORTION_BYTES = 500_000
append = lmdb.LmdbWriter.append
def slowly(self, items):
    append(self, items)
    print("written", flush=True)
    time.sleep(0.05)
lmdb.LmdbWriter.append = slowly
tree = Path(sys.argv[1])
steps.convert_dataset("bigearthnet", {"s1-dir": tree / "s1", "s2-dir": tree / "s2"}, Path(sys.argv[2]), workers=2)
"""


def test_a_conversion_that_is_killed_goes_on_and_ends_with_the_same_bytes(tree, tmp_path, small_portions):
    steps.convert_dataset("bigearthnet", folders(tree), tmp_path / "undisturbed")
    for portions in (2, 3):
        process = subprocess.Popen([sys.executable, "-c", SLOW, tree, tmp_path / "out"], stdout=subprocess.PIPE, text=True)
        for _ in range(portions):
            assert process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert not (tmp_path / "out").exists()
    done = steps.convert_dataset("bigearthnet", folders(tree), tmp_path / "out")
    assert done.resumed_after >= 5 * 3
    assert digests(tmp_path / "out") == digests(tmp_path / "undisturbed")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out", "undisturbed"]


def test_a_disk_that_is_full_is_told_and_the_work_goes_on_once_there_is_room(tree, tmp_path, small_portions):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, limits[1]))
        with pytest.raises(WorkspaceError, match=r"out cannot be written: .*; free space and run the same command again"):
            steps.convert_dataset("bigearthnet", folders(tree), tmp_path / "out", workers=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert not (tmp_path / "out").exists()
    done = steps.convert_dataset("bigearthnet", folders(tree), tmp_path / "out")
    assert 0 < done.resumed_after < 24
    steps.convert_dataset("bigearthnet", folders(tree), tmp_path / "undisturbed")
    assert digests(tmp_path / "out") == digests(tmp_path / "undisturbed")


def test_left_out_patches_are_remembered_over_an_interruption(tree, tmp_path, small_portions, monkeypatch):
    for number in (0, 3, 9):
        truncated(s2_file(tree, number, "B03"))
    steps.convert_dataset("bigearthnet", folders(tree), tmp_path / "undisturbed", skip_damaged=True)
    append, calls = LmdbWriter.append, iter(range(6))

    def stops(self: LmdbWriter, items: list[tuple[str, bytes]]) -> None:
        if next(calls, None) is None:
            raise OSError(28, "No space left on device")
        append(self, items)

    with monkeypatch.context() as patched:
        patched.setattr(LmdbWriter, "append", stops)
        with pytest.raises(WorkspaceError, match="No space left on device"):
            steps.convert_dataset("bigearthnet", folders(tree), tmp_path / "out", skip_damaged=True)
    steps.convert_dataset("bigearthnet", folders(tree), tmp_path / "out", skip_damaged=True)
    assert digests(tmp_path / "out") == digests(tmp_path / "undisturbed")
    with open_shard(tmp_path / "out") as shard:
        assert [each.key[-5:] for each in shard.manifest.left_out] == ["00_07", "03_07", "09_07"]


def test_a_dataset_that_has_changed_since_is_begun_anew(tree, tmp_path, small_portions):
    truncated(s2_file(tree, 11, "B8A"))
    with pytest.raises(ShardError, match="1 of 24"):
        steps.convert_dataset("bigearthnet", folders(tree), tmp_path / "out")
    write_patch(tree, 20)
    (s2_file(tree, 11, "B8A")).unlink()
    write_tiff(s2_file(tree, 11, "B8A"), random_pixels("uint16", (1, 60, 60)))
    assert steps.convert_dataset("bigearthnet", folders(tree), tmp_path / "out").resumed_after == 0
    assert len(contents(tmp_path / "out")) == 26


def test_a_target_that_holds_something_is_not_touched(tree, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(ShardError, match="holds something else already; name a folder that does not exist yet"):
        steps.convert_dataset("bigearthnet", folders(tree), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["notes.txt"]


def test_two_conversions_into_one_target_do_not_meet(tree, tmp_path):
    code = SLOW.replace("0.05", "30")
    process = subprocess.Popen([sys.executable, "-c", code, tree, tmp_path / "out"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "written\n"
        with pytest.raises(WorkspaceError, match="another conversion into .* is under way"):
            steps.convert_dataset("bigearthnet", folders(tree), tmp_path / "out")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_files_of_several_structures_are_all_copied_and_those_of_none_counted(tree, tmp_path):
    usual = contents_of(tree, tmp_path / "usual")
    for number, options in ((3, {"blockysize": 7}), (4, {"blockysize": 120}), (5, {"compress": "lzw"}), (6, {"nodata": 9})):
        path = s2_file(tree, number, "B02")
        pixels = random_pixels("uint16", (1, 120, 120), number * 20) % 12_000
        path.unlink()
        write_tiff(path, pixels, **options)
    done = steps.convert_dataset("bigearthnet", folders(tree), tmp_path / "mixed", workers=2)
    assert contents(tmp_path / "mixed") == usual
    assert done.by_rasterio == {"compression 5": 1}
    assert done.files == 12 * 14


def contents_of(tree: Path, target: Path) -> dict[str, bytes]:
    steps.convert_dataset("bigearthnet", folders(tree), target)
    return contents(target)


def test_memory_stays_bounded_and_conversion_is_faster_than_a_plain_loop(shared_data, tmp_path):
    """A short version of ``make bench-shards``, by CPU time, as other work may share the machine."""
    sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))
    try:
        import convert as bench
    finally:
        sys.path.pop(0)
    bench.make_tree(tmp_path / "in", 150, shared_data)
    bench.timed("rsdata", tmp_path / "in", tmp_path / "warm", 1)
    ours = bench.timed("rsdata", tmp_path / "in", tmp_path / "ours", 1)
    plain = bench.timed("rasterio", tmp_path / "in", tmp_path / "plain", 1)
    assert bench.equal(tmp_path / "ours", tmp_path / "plain")
    assert ours["peak_mb"] < bench.MAX_PEAK_MB
    assert plain["cpu"] > 2 * ours["cpu"]
