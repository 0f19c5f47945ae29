"""Correction by sen2cor, driven through a stand-in: what is refused, what is mended, what is never taken for whole."""

import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml
from conftest import SENSING, TILE, comes, random_bands
from typer.testing import CliRunner

from rsdata import steps
from rsdata.catalog import read_patches
from rsdata.commands import app
from rsdata.errors import CorrectionError, RecipeError, SceneError, WorkspaceError
from rsdata.recipe import Sen2cor, load_recipe
from rsdata.records import Correction, Quarantine, Receipt
from rsdata.scenes import check_complete, open_sentinel2, sen2cor
from rsdata.shards import open_shard
from rsdata.testing import write_l1c_safe, write_stand_in
from rsdata.workspace import Workspace, read_record

TIMEOUT_S = 120.0


def l1c_bands(side_px: int = 240, seed: int = 0) -> dict[str, np.ndarray]:
    cirrus = np.random.default_rng(seed).integers(1000, 1100, (side_px // 6, side_px // 6), dtype=np.uint16)
    return random_bands(side_px, seed) | {"B10": cirrus}


def write_l1c(folder: Path, seed: int = 0, **changes: object) -> Path:
    return write_l1c_safe(folder, **({"tile": TILE, "sensing": SENSING, "bands": l1c_bands(seed=seed)} | changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def l1c(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small Level-1C product, for reading only."""
    return write_l1c(tmp_path_factory.mktemp("l1c"))


@pytest.fixture
def bench(tmp_path: Path):
    """Correct products with a stand-in that behaves as asked; everything lies in the test's own folder."""

    class Bench:
        workspace = Workspace(tmp_path / "out")
        notes = tmp_path / "notes"

        def options(self, behaviour: str = "correct", version: str = "2.11.0", seconds: float = 0.0, **given: object) -> Sen2cor:
            name = f"{behaviour.replace(' ', '-')}-{version}-{seconds}"
            program = write_stand_in(
                tmp_path / "programs" / name / "L2A_Process", behaviour, version=version, seconds=seconds, notes=self.notes
            )
            return Sen2cor.model_validate({"program": str(program), "retries": 0, "timeout_s": TIMEOUT_S} | given)

        def correct(self, source: Path, behaviour: str = "correct", **given: object) -> steps.Outcome:
            return steps.correct_scene(source, self.options(behaviour, **given), self.workspace)

        def fails(self, source: Path, behaviour: str = "correct", **given: object) -> str:
            with pytest.raises(SceneError) as caught:
                self.correct(source, behaviour, **given)
            return str(caught.value)

        def left_nothing(self) -> bool:
            """No product, no receipt, no scratch folder, whatever else there may be."""
            scratch = [path for path in self.workspace.scratch.glob("*") if path.is_dir()]
            return not [*self.workspace.root.glob("*.SAFE"), *self.workspace.root.glob("receipts/**/*.json"), *scratch]

        def runs(self) -> list[list[str]]:
            return [lines for path in sorted(self.notes.iterdir()) if (lines := path.read_text().splitlines()) != ["helper"]]

    return Bench()


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file and folder below a folder: bytes and time of change."""
    return {str(p.relative_to(folder)): (p.read_bytes() if p.is_file() else b"", p.stat().st_mtime_ns) for p in sorted(folder.rglob("*"))}


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


# --- the product, and the program -------------------------------------------------------------------------


def test_the_l1c_writer_makes_what_the_reader_reads(l1c):
    product = open_sentinel2(l1c)
    bands = l1c_bands()
    assert (product.scene.level, product.scene.baseline, product.scene.tile_id) == ("L1C", "05.09", "33UUP")
    assert product.scene.datetime == SENSING
    assert {product.scene.offsets[name] for name in ("B01", "B02", "B12")} == {-1000.0}
    for name in ("B02", "B8A", "B09"):
        assert np.array_equal(product.read(name), bands[name])
    assert next(l1c.rglob("*_B10.jp2")).is_file()
    sen2cor.check_input(product)


def test_an_l1c_of_an_early_baseline_states_no_offset(tmp_path):
    product = open_sentinel2(write_l1c(tmp_path, baseline="02.09"))
    assert "RADIO_ADD_OFFSET" not in (product.files.path / "MTD_MSIL1C.xml").read_text()
    assert not any(product.scene.offsets.values())
    sen2cor.check_input(product)


@pytest.mark.parametrize(("printed", "version"), [
    ("Sentinel-2 Level 2A Processor (Sen2Cor). Version: 2.8.0, created: 2019.02.20,\nsupporting Level-1C", "2.8.0"),
    ("Sentinel-2 Level 2A Processor (Sen2Cor). Version:\n2.5.5, created: 2018.03.19,", "2.5.5"),
    ("Sen2Cor. Version: 03.02.00, created: 2024.12.18, supporting Level-1C product version 15.0", "3.2.0"),
    ("Sentinel-2 Level 2A Processor (Sen2Cor). Version: 02.12.03, created: 2024.02.01", "2.12.3"),
])  # fmt: skip
def test_the_version_is_read_from_the_banner(tmp_path, printed, version):
    program = tmp_path / "L2A_Process"
    program.write_text(f"#!/bin/sh\ncat <<'END'\nusage: L2A_Process.py [-h] [--resolution {{10,20,60}}]\n{printed}\nEND\n")
    program.chmod(0o755)
    asked = sen2cor.ask_program(program)
    assert asked.version == version
    assert "--resolution" in asked.options


def test_a_program_that_is_not_sen2cor_is_refused(tmp_path):
    program = tmp_path / "L2A_Process"
    program.write_text("#!/bin/sh\necho hello\n")
    program.chmod(0o755)
    with pytest.raises(CorrectionError, match=r"does not say a version of sen2cor but 'hello'; name sen2cor's L2A_Process"):
        sen2cor.ask_program(program)
    program.write_text("#!/bin/sh\nsleep 30\n")
    with pytest.raises(CorrectionError, match=r"--help did not answer within 0 s; see that sen2cor runs by itself"):
        sen2cor.ask_program(program, timeout_s=0.2)


def test_the_program_is_found_by_setting_then_variable_then_path(tmp_path, monkeypatch):
    places = {name: write_stand_in(tmp_path / name / "bin" / "L2A_Process") for name in ("set", "variable", "path")}
    monkeypatch.delenv(sen2cor.PROGRAM_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    with pytest.raises(CorrectionError, match=r"L2A_Process is not on PATH; install sen2cor from https://step.esa.int.* RSDATA_SEN2COR"):
        sen2cor.find_program()
    monkeypatch.setenv("PATH", str(places["path"].parent))
    assert sen2cor.find_program() == places["path"]
    monkeypatch.setenv(sen2cor.PROGRAM_VARIABLE, str(places["variable"].parents[1]))  # the folder it was installed in
    assert sen2cor.find_program() == places["variable"]
    assert sen2cor.find_program(str(places["set"])) == places["set"]
    with pytest.raises(CorrectionError, match=r"/nothing is no program that can be run"):
        sen2cor.find_program("/nothing")


@pytest.mark.parametrize(("version", "expected"), [
    ("2.5.5", ["--resolution", "10"]),
    ("2.8.0", ["--resolution", "10", "--output_dir", "OUT"]),
    ("2.11.0", ["--resolution", "10", "--output_dir", "OUT"]),
])  # fmt: skip
def test_the_command_line_is_that_of_the_version(bench, version, expected):
    options = bench.options(version=version)
    program = sen2cor.ask_program(Path(options.program))
    command = sen2cor.build_command(program, Path("in.SAFE"), Path("OUT"), options, gipp=None)
    assert command == [options.program, *expected, "in.SAFE"]


def test_a_setting_the_version_has_no_option_for_is_refused(bench):
    options = bench.options(version="2.5.5", processing_baseline="99.99")
    program = sen2cor.ask_program(Path(options.program))
    with pytest.raises(CorrectionError, match=r"sen2cor 2\.5\.5 has no --processing_baseline; leave the setting out or use a version"):
        sen2cor.build_command(program, Path("in.SAFE"), Path("OUT"), options, gipp=None)


def test_an_old_version_corrects_old_products_and_refuses_those_with_an_offset(bench, l1c, tmp_path):
    message = bench.fails(l1c, version="2.8.0")
    assert "carries a radiometric offset, which sen2cor 2.8.0 does not know; its result would be off by 0.1" in message
    assert bench.runs() == []
    old = write_l1c(tmp_path / "old", baseline="02.09")
    for version in ("2.5.5", "2.8.0"):
        outcome = bench.correct(old, version=version)
        assert outcome.receipt.inputs["sen2cor"] == version
    assert ["--output_dir" in run for run in bench.runs()].count(True) == 1


# --- a correction that goes well --------------------------------------------------------------------------


def test_a_product_is_corrected_once_with_version_log_and_receipt(bench, l1c):
    before = contents(l1c)
    outcome = bench.correct(l1c)
    record = steps.correction_of(outcome.receipt, bench.workspace)
    product = open_sentinel2(bench.workspace.root / record.folder)
    check_complete(product)
    scene = open_sentinel2(l1c).scene
    assert (product.scene.level, product.scene.tile_id, product.scene.datetime) == ("L2A", scene.tile_id, scene.datetime)
    assert "_N9999_" in product.scene.product
    assert product.scene.offsets["B04"] == -1000.0
    assert np.array_equal(product.read("B04"), l1c_bands()["B04"] - 80)
    assert (outcome.receipt.inputs["sen2cor"], record.sen2cor_version) == ("2.11.0", "2.11.0")
    assert set(outcome.receipt.inputs) == {"l1c", "options", "sen2cor"}
    log = bench.workspace.log("correct", scene.product).read_text()
    assert "Application terminated successfully" in log
    assert "sen2cor 2.11.0" in log
    assert contents(l1c) == before
    files = {path: path.stat().st_mtime_ns for path in bench.workspace.root.rglob("*")}
    assert bench.correct(l1c).skipped
    assert len(bench.runs()) == 1
    assert {path: path.stat().st_mtime_ns for path in bench.workspace.root.rglob("*")} == files


def test_other_settings_or_another_version_correct_again_and_replace_the_product(bench, l1c):
    first = bench.correct(l1c)
    one = steps.correction_of(first.receipt, bench.workspace).folder
    time.sleep(1.1)  # the name holds the second
    second = bench.correct(l1c, version="2.12.3")
    assert not second.skipped
    (only,) = bench.workspace.root.glob("*.SAFE")
    assert only.name == steps.correction_of(second.receipt, bench.workspace).folder != one


def test_folders_a_download_lost_are_mended_in_the_copy_and_said(bench, tmp_path):
    lossy = write_l1c(tmp_path / "in", empty_folders=False)
    before = contents(lossy)
    outcome = bench.correct(lossy)
    assert contents(lossy) == before
    mended = steps.correction_of(outcome.receipt, bench.workspace).mended
    assert outcome.receipt.counts["mended"] == 6
    assert "added the empty folder AUX_DATA to the copy, as the download lacks it" in mended
    assert any(line.startswith("added the empty folder GRANULE/L1C_T33UUP_") and "/AUX_DATA" in line for line in mended)
    assert mended[0] in bench.workspace.log("correct", lossy.stem).read_text()


def test_a_folder_under_another_name_and_a_write_protected_one_are_corrected(bench, l1c, tmp_path):
    renamed = Path(shutil.copytree(l1c, tmp_path / "my-scene"))
    for path in [*renamed.rglob("*"), renamed]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        outcome = bench.correct(renamed)
    finally:
        for path in [renamed, *renamed.rglob("*")]:
            path.chmod(path.stat().st_mode | stat.S_IWUSR)
    assert steps.correction_of(outcome.receipt, bench.workspace).mended[0].startswith("renamed my-scene to S2A_MSIL1C_")


def test_a_program_that_writes_into_its_input_does_not_reach_the_user(bench, l1c):
    before = contents(l1c)
    bench.correct(l1c, "writes into input")
    assert contents(l1c) == before


def zipped(safe: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(safe.rglob("*")):
            if file.is_file():
                archive.write(file, f"{safe.name}/{file.relative_to(safe).as_posix()}")
    return target


def test_a_zip_is_unpacked_into_scratch_and_corrected(bench, l1c, tmp_path):
    archive = zipped(l1c, tmp_path / "product.zip")
    outcome = bench.correct(archive)
    assert outcome.receipt.counts["mended"] == 6  # a zip of files holds no empty folder
    assert list(tmp_path.glob("*.SAFE")) == []


def test_a_zip_that_leaves_its_folder_is_refused(bench, l1c, tmp_path):
    for name, message in (
        ("../evil.txt", "would lie outside its folder"),
        ("/evil.txt", "would lie outside"),
        ("a\\..\\evil.txt", "would lie"),
    ):
        archive = zipped(l1c, tmp_path / "slip.zip")
        with zipfile.ZipFile(archive, "a") as opened:
            opened.writestr(zipfile.ZipInfo(name), b"evil")
        assert message in bench.fails(archive)
    assert not list(tmp_path.rglob("evil.txt"))
    assert bench.left_nothing()


def test_a_zip_with_a_link_is_refused(bench, l1c, tmp_path):
    archive = zipped(l1c, tmp_path / "link.zip")
    link = zipfile.ZipInfo(f"{l1c.name}/AUX_DATA")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(link, "/etc")
    message = bench.fails(archive)
    assert "AUX_DATA', which is a link or a device and no plain file, so it is not unpacked; fetch the product again" in message
    assert bench.runs() == []


def test_a_zip_bomb_is_refused_before_it_is_unpacked(bench, l1c, tmp_path):
    archive = zipped(l1c, tmp_path / "bomb.zip")
    with (
        zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as opened,
        opened.open(f"{l1c.name}/zeros.bin", "w", force_zip64=True) as entry,
    ):
        for _ in range(300):
            entry.write(bytes(2**20))
    assert "would unpack to" in (message := bench.fails(archive))
    assert "more than any product, so it is not unpacked" in message
    assert not list((bench.workspace.root).rglob("zeros.bin"))


def test_a_zip_with_the_same_path_twice_or_damage_is_refused(bench, l1c, tmp_path):
    archive = zipped(l1c, tmp_path / "twice.zip")
    with zipfile.ZipFile(archive, "a") as opened, pytest.warns(UserWarning, match="Duplicate name"):
        opened.writestr(f"{l1c.name}/manifest.safe", (l1c / "manifest.safe").read_bytes())
    assert "holds the same path twice (manifest.safe)" in bench.fails(archive)
    damaged = zipped(l1c, tmp_path / "damaged.zip")
    data = bytearray(damaged.read_bytes())
    with zipfile.ZipFile(damaged) as opened:
        entry = next(info for info in opened.infolist() if info.filename.endswith("_B02.jp2"))
    data[entry.header_offset + 200] ^= 0xFF
    damaged.write_bytes(data)
    assert bench.fails(damaged)


# --- and one that does not --------------------------------------------------------------------------------


@pytest.mark.parametrize(("behaviour", "message"), [
    ("empty", "sen2cor 2.11.0 ended with exit code 0, but IMG_DATA of S2A_MSIL2A_20230612T101031_N9999_"),
    ("nothing", "sen2cor 2.11.0 ended with exit code 0, but it left no product at all; expected Level-2A of tile 33UUP, sensed at 2023"),
    ("crash", "sen2cor 2.11.0 was killed by SIGSEGV (Sentinel-2 Level 2A Processor (Sen2Cor). Version:"),
    ("out of memory", "was killed by SIGKILL (Sentinel-2 Level 2A Processor (Sen2Cor). Version: 2.11.0 started ...); it may lack memory"),
    ("error", "sen2cor 2.11.0 ended with exit code 1 (Progress[%]: 100.00 : Application terminated with at least one error.)"),
    ("wrong level", "T33UUP_20230612T122134.SAFE is Level-1C; expected Level-2A of tile 33UUP"),
    ("wrong tile", "is of tile 33UVP; expected Level-2A of tile 33UUP"),
    ("no dem", "sen2cor 2.11.0 stopped for want of a DEM (DEM: file srtm_38_03.tif could not be found); put the tile into the DEM folder"),
    ("constant", "with B11 constant: every pixel is 1234; see its log"),
    ("no data", "with B09 empty: every pixel is no data"),
    ("missing band", "lacks B8A; its log says where it stopped"),
    ("truncated", "sen2cor 2.11.0 left a damaged product: "),
])  # fmt: skip
def test_each_way_to_fail_is_told_and_quarantined(bench, l1c, behaviour, message):
    said = bench.fails(l1c, behaviour)
    assert message in said
    assert "fetch the product again" not in said
    assert bench.left_nothing()
    folder = bench.workspace.quarantine(l1c.stem)
    assert said.endswith(f"what is known lies in {folder}")
    reason = read_record(folder / "reason.json", Quarantine)
    assert message in reason.message
    assert (reason.source, reason.sen2cor_version, reason.attempts) == (l1c.stem, "2.11.0", 1)
    assert reason.command[1:3] == ["--resolution", "10"]
    assert "attempt 1 failed" in (folder / "log.txt").read_text()
    assert not (folder / "input").exists()


def test_a_success_takes_the_product_out_of_quarantine(bench, l1c):
    bench.fails(l1c, "nothing")
    assert bench.workspace.quarantine(l1c.stem).exists()
    bench.correct(l1c)
    assert not bench.workspace.quarantine(l1c.stem).exists()


def test_a_run_out_of_time_is_ended_with_all_it_started(bench, l1c):
    message = bench.fails(l1c, "hang", timeout_s=2)
    assert "sen2cor 2.11.0 did not end within 2 s; it was stopped with all it had started, so raise the limit (--timeout" in message
    started = [int(path.name) for path in bench.notes.iterdir()]
    assert len(started) == 2  # the program and its helper
    assert comes(lambda: not any(alive(process) for process in started))
    assert "waiting for download" in (bench.workspace.quarantine(l1c.stem) / "log.txt").read_text()
    assert bench.left_nothing()


def test_a_run_that_may_go_better_is_tried_again_and_others_are_not(bench, l1c):
    outcome = bench.correct(l1c, "flaky", retries=1)
    assert outcome.receipt.counts["attempts"] == 2
    log = bench.workspace.log("correct", l1c.stem).read_text()
    assert "attempt 1 failed: sen2cor 2.11.0 ended with exit code 1" in log
    runs = len(bench.runs())
    bench.workspace.receipt_path("correct", l1c.stem).unlink()
    bench.fails(l1c, "no dem", retries=3)
    assert len(bench.runs()) == runs + 1


def test_a_stop_ends_what_runs_and_nothing_is_tried_again(bench, l1c):
    """As on Ctrl-C."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(bench.fails, l1c, "hang", retries=5)
        assert comes(lambda: len(list(bench.notes.glob("*"))) == 2)
        steps.stop_corrections(bench.workspace)
        assert "sen2cor 2.11.0 was stopped, as all that ran beside it; the same command begins" in future.result(timeout=20)
    started = [int(path.name) for path in bench.notes.iterdir()]
    assert len(started) == 2
    assert comes(lambda: not any(alive(process) for process in started))


def test_a_full_disk_is_a_workspace_error_not_a_bad_product(bench, l1c, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    options = bench.options()
    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(WorkspaceError, match=r"cannot be written: the disk is full, .* make room and run the same command again"):
        steps.correct_scene(l1c, options, bench.workspace)
    assert bench.left_nothing()


def test_a_product_of_the_old_naming_is_refused(bench, l1c):
    scene = open_sentinel2(l1c).scene.model_copy(update={"product": "S2A_OPER_PRD_MSIL1C_PDMC_20160702T015653_R065"})
    with pytest.raises(CorrectionError, match=r"has the naming before December 2016; sen2cor is run on products in compact naming only"):
        sen2cor.check_supported(scene, sen2cor.ask_program(Path(bench.options().program)))


def test_what_is_not_a_whole_l1c_is_refused_before_anything_runs(bench, l1c, made_safe, tmp_path):
    assert "is Level-2A already; expected Level-1C, so use it as it is" in bench.fails(made_safe)
    copy = Path(shutil.copytree(l1c, tmp_path / l1c.name))
    band = next(copy.rglob("*_B10.jp2"))
    whole = band.read_bytes()
    band.unlink()
    assert "lacks B10; expected all thirteen bands, so fetch the product again" in bench.fails(copy)
    band.write_bytes(whole[:500])
    assert "B10.jp2 has 500 bytes, but manifest.safe says" in bench.fails(copy)
    band.write_bytes(whole)
    next(copy.rglob("MTD_DS.xml")).unlink()
    assert "lacks DATASTRIP/…/MTD_DS.xml, which sen2cor reads" in bench.fails(copy)
    assert bench.runs() == []
    assert bench.left_nothing()


def test_a_coarser_resolution_is_held_to_its_own_bands(bench, l1c):
    assert set(sen2cor.expected_bands(20)) == {"B01", "B05", "B06", "B07", "B8A", "B09", "B11", "B12", "SCL", "CLDPRB", "SNWPRB"}
    assert sen2cor.expected_bands(60) == ["B01", "B09"]
    bench.correct(l1c, resolution=20)
    assert bench.runs()[0][:2] == ["--resolution", "20"]


# --- settings ---------------------------------------------------------------------------------------------

GIPP = """<?xml version="1.0"?><Level-2A_Ground_Image_Processing_Parameter><Common_Section><DEM_Directory>NONE</DEM_Directory>
<Force_Exit_On_DEM_Error>FALSE</Force_Exit_On_DEM_Error></Common_Section></Level-2A_Ground_Image_Processing_Parameter>"""


def test_a_dem_is_written_into_a_copy_of_the_gipp_that_forbids_to_go_on_without(bench, l1c, tmp_path):
    gipp, dem = tmp_path / "L2A_GIPP.xml", tmp_path / "dem"
    gipp.write_text(GIPP)
    assert "does not exist; put the DEM's tiles there, or leave `dem` out" in bench.fails(l1c, gipp=str(gipp), dem=str(dem))
    dem.mkdir()
    assert "the DEM folder" in (said := bench.fails(l1c, gipp=str(gipp), dem=str(dem)))
    assert "is empty" in said
    (dem / "srtm_38_03.tif").touch()
    assert "does not exist to be told of it; name sen2cor's L2A_GIPP.xml as `gipp`" in bench.fails(l1c, dem=str(dem), home=str(tmp_path))
    program = sen2cor.ask_program(Path(bench.options().program))
    written = sen2cor.write_gipp(program, bench.options(gipp=str(gipp), dem=str(dem)), tmp_path / "out")
    text = written.read_text()
    assert f"<DEM_Directory>{dem}</DEM_Directory>" in text
    assert "<Force_Exit_On_DEM_Error>TRUE</Force_Exit_On_DEM_Error>" in text
    assert gipp.read_text() == GIPP
    bench.correct(l1c, gipp=str(gipp), dem=str(dem))
    assert bench.runs()[-1][2] == "--GIP_L2A"


def test_a_changed_gipp_corrects_again(bench, l1c, tmp_path):
    gipp = tmp_path / "L2A_GIPP.xml"
    gipp.write_text(GIPP)
    bench.correct(l1c, gipp=str(gipp))
    assert bench.correct(l1c, gipp=str(gipp), timeout_s=500).skipped  # what does not touch the pixels does not count
    gipp.write_text(GIPP.replace("NONE", "dem/srtm"))
    assert not bench.correct(l1c, gipp=str(gipp)).skipped
    gipp.write_text("<broken")
    (tmp_path / "dem").mkdir()
    (tmp_path / "dem" / "tile.tif").touch()
    assert "L2A_GIPP.xml is not well-formed XML" in bench.fails(l1c, gipp=str(gipp), dem=str(tmp_path / "dem"))


def test_products_at_a_time_follow_from_memory_unless_set(monkeypatch):
    def free(gib: float) -> None:
        monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": int(gib * 2**30)}))

    free(23)
    assert steps.corrections_at_once(10, Sen2cor(), workers=16) == 2
    assert steps.corrections_at_once(1, Sen2cor(), workers=16) == 1
    assert steps.corrections_at_once(10, Sen2cor(), workers=1) == 1
    assert steps.corrections_at_once(10, Sen2cor(at_once=5), workers=1) == 5
    free(3)
    assert steps.corrections_at_once(10, Sen2cor(), workers=16) == 1


# --- several, and killed ----------------------------------------------------------------------------------


def test_two_runs_at_the_same_time_do_not_meet(bench, l1c, tmp_path):
    """Two products, and one of them twice, all at once into one folder."""
    other = write_l1c(tmp_path / "other", seed=1, sensing=SENSING.replace(day=13))
    options = bench.options(seconds=0.5)
    with ThreadPoolExecutor(3) as pool:
        outcomes = list(pool.map(lambda path: steps.correct_scene(path, options, bench.workspace), [l1c, other, l1c]))
    assert sorted(outcome.skipped for outcome in outcomes) == [False, False, True]
    assert len({Path(run[-1]).parents[1] for run in bench.runs()}) == 2  # scratch folders
    for outcome, seed in zip(outcomes, (0, 1, 0), strict=True):
        folder = bench.workspace.root / steps.correction_of(outcome.receipt, bench.workspace).folder
        assert np.array_equal(open_sentinel2(folder).read("B04"), l1c_bands(seed=seed)["B04"] - 80)
    assert len(list(bench.workspace.root.glob("*.SAFE"))) == 2
    assert not [path for path in bench.workspace.scratch.iterdir() if path.is_dir()]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "rsdata", *map(str, arguments)]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return os.environ | {"PREFECT_HOME": str(tmp_path_factory.mktemp("prefect")), "CI": "true"}


def test_a_killed_run_leaves_no_process_and_is_taken_up_again(bench, l1c, tmp_path):
    """SIGKILL to the runner while sen2cor works; its process ends, and nothing of it is taken for a product."""
    options = bench.options("hang")
    script = f"""
from pathlib import Path
from rsdata import steps
from rsdata.recipe import Sen2cor
from rsdata.workspace import Workspace
steps.correct_scene(Path({str(l1c)!r}), Sen2cor(program={options.program!r}), Workspace(Path({str(bench.workspace.root)!r})))
"""
    runner = subprocess.Popen([sys.executable, "-c", script])
    assert comes(lambda: len(list(bench.notes.glob("*"))) == 2, 60)
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    started = [int(path.name) for path in bench.notes.iterdir()]
    assert comes(lambda: not any(alive(process) for process in started))
    leftover = [path for path in bench.workspace.scratch.iterdir() if path.is_dir()]
    assert len(leftover) == 1
    assert not list(bench.workspace.root.glob("*.SAFE"))
    outcome = bench.correct(l1c)
    assert not outcome.skipped
    assert len(list(bench.workspace.root.glob("*.SAFE"))) == 1
    assert not leftover[0].exists()


def test_a_product_without_a_receipt_is_replaced_not_doubled(bench, l1c):
    """As after a kill between the product's last rename and its receipt."""
    bench.correct(l1c)
    bench.workspace.receipt_path("correct", l1c.stem).unlink()
    time.sleep(1.1)
    assert not bench.correct(l1c).skipped
    assert len(list(bench.workspace.root.glob("*.SAFE"))) == 1


def test_a_half_product_is_made_again(bench, l1c):
    outcome = bench.correct(l1c)
    folder = bench.workspace.root / steps.correction_of(outcome.receipt, bench.workspace).folder
    next(folder.rglob("*_B02_10m.jp2")).write_bytes(b"half")
    assert not bench.correct(l1c).skipped


# --- the command line and the build -----------------------------------------------------------------------


def test_the_command_lists_what_was_and_was_not_corrected(bench, l1c, made_safe, tmp_path, environment):
    lossy = write_l1c(tmp_path / "in", seed=2, sensing=SENSING.replace(day=14), empty_folders=False)
    bench.correct(l1c)
    out = bench.workspace.root
    line = command("scenes", "correct", l1c, lossy, made_safe, "--out", out, "--program", bench.options().program, "--workers", 2)
    result = subprocess.run(line, capture_output=True, text=True, env=environment, timeout=TIMEOUT_S, check=False)
    assert result.returncode == 1
    assert (result.stdout.count("finished before"), result.stdout.count("corrected"), result.stdout.count("failed")) == (1, 1, 1)
    assert "is Level-2A already" in " ".join(result.stderr.split())
    assert "added the empty folder AUX_DATA to the copy" in result.stderr
    assert "Traceback" not in result.stderr
    assert len(list(out.glob("S2A_MSIL2A_*_N9999_*.SAFE"))) == 2
    assert len(bench.runs()) == 2


def test_the_command_answers_in_json(bench, l1c, tmp_path, monkeypatch):
    from rsdata.flows import correct_scenes

    asked = []
    monkeypatch.setattr(correct_scenes, "correct", lambda *arguments: asked.append(arguments) or [tmp_path / "L2A.SAFE"])
    line = ["scenes", "correct", str(l1c), "--out", str(tmp_path), "--timeout", "60", "--retries", "2", "--workers", "3", "--json"]
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"scenes": [], "products": [str(tmp_path / "L2A.SAFE")], "failures": []}
    ((sources, out, options, workers),) = asked
    assert (sources, out, workers) == ([l1c], tmp_path, 3)
    assert (options.timeout_s, options.retries, options.at_once) == (60, 2, 3)


def test_a_missing_program_and_a_wrong_resolution_end_in_one_sentence(l1c, tmp_path):
    result = CliRunner().invoke(app, ["scenes", "correct", str(l1c), "--out", str(tmp_path), "--program", "/nothing"])
    assert isinstance(result.exception, CorrectionError)
    result = CliRunner().invoke(app, ["scenes", "correct", str(l1c), "--out", str(tmp_path), "--resolution", "30"])
    assert isinstance(result.exception, RecipeError)
    assert "`resolution` is 30" in str(result.exception)


def recipe(folder: Path, built: Workspace, options: Sen2cor, **changes: object) -> Path:
    content = {
        "name": "from-l1c",
        "scenes": {"sentinel2": ["in/*.SAFE"], "require_s1": False},
        "sen2cor": {"program": options.program, "retries": 0},
        "labels": {"path": str(built.inputs / "corine.gpkg")},
        "countries": {"path": str(built.inputs / "countries.gpkg")},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content | changes), encoding="utf-8")
    return path


def test_a_build_from_l1c_uses_the_product_it_made(bench, built, tmp_path, environment):
    """Two Level-1C products, one of which sen2cor refuses; the other becomes patches whose pixels are those of its L2A."""
    place = {"ul_x_m": TILE.ul_x_m + 9600, "ul_y_m": TILE.ul_y_m - 48000}
    good = write_l1c(tmp_path / "in", seed=3, empty_folders=False, **place)
    bad = write_l1c(tmp_path / "in", seed=4, sensing=SENSING.replace(day=20), **place)
    next(bad.rglob("MTD_DS.xml")).unlink()
    path = recipe(tmp_path, built, bench.options())
    root = tmp_path / "dataset"
    stages = ("correct", "scenes", "patches", "labels", "quality", "splits", "captions", "shards", "catalog")
    only = [part for stage in stages for part in ("--only", stage)]
    line = command("build", path, "--out", root, "--workers", 1, *only)
    first = subprocess.run(line, capture_output=True, text=True, env=environment, timeout=TIMEOUT_S, check=False)
    assert first.returncode == 1
    assert "lacks DATASTRIP" in first.stderr
    assert "Traceback" not in first.stderr
    manifest = json.loads((root / "manifest.json").read_text())
    assert [(item["stage"], item["unit"]) for item in manifest["failures"]] == [("correct", bad.name)]
    record = read_record(root / "corrected" / "parts" / "correct" / f"{good.stem}.json", Correction)
    assert [item["name"] for item in manifest["inputs"] if "MSIL2A" in item["name"]] == [record.product.rsplit("_", 1)[0]]
    table = read_patches(root / "patches.parquet")
    assert set(table["s2_product"]) == {record.product}
    pixels = open_sentinel2(root / "corrected" / record.folder).read("B03")
    with open_shard(root / "shards" / "lmdb") as shard:
        assert np.array_equal(shard.read(table["patch_id"].iloc[0])["B03"], pixels[:120, :120])
    assert len(bench.runs()) == 1
    loaded, workspace = load_recipe(path), Workspace(root)
    assert steps.correct_scene(good, steps.sen2cor_options(loaded), workspace.corrected).skipped
    assert [pair.s2.product for pair in steps.find_scenes(loaded, workspace).pairs] == [record.product]
    assert len(bench.runs()) == 1


def test_an_l1c_that_was_not_corrected_or_changed_since_is_not_built_from(bench, built, tmp_path):
    source = write_l1c(tmp_path / "in")
    loaded = load_recipe(recipe(tmp_path, built, bench.options()))
    workspace = Workspace.create(tmp_path / "dataset")
    (failed,) = steps.find_scenes(loaded, workspace).failures
    assert "has not been corrected yet; do the stage `correct` first" in failed.message
    options = steps.sen2cor_options(loaded)
    assert steps.uncorrected_products(loaded, workspace) == [source]
    steps.correct_scene(source, options, workspace.corrected)
    (pair,) = steps.find_scenes(loaded, workspace).pairs
    assert pair.s2.level == "L2A"
    os.utime(next(source.rglob("*_B02.jp2")))
    assert steps.find_scenes(loaded, workspace).pairs == []
    receipt = read_record(workspace.corrected.receipt_path("correct", source.stem), Receipt)
    assert receipt.stage == "correct"


def test_a_dataset_cannot_ask_for_a_coarser_resolution(built, bench, tmp_path):
    path = recipe(tmp_path, built, bench.options(), sen2cor={"resolution": 20})
    with pytest.raises(RecipeError, match=r"`sen2cor.resolution` is 20; a dataset needs all bands, which only 10 gives"):
        load_recipe(path)
