"""What stands in for sen2cor's ``L2A_Process`` in tests: the same command line, a much simpler correction.

It runs as a program of its own and loads nothing but the standard library until it corrects, so that asking its version
is quick. How it is to behave is set by the launcher that ``write_stand_in`` writes. Its help is that of sen2cor 2.5.5 and
2.8.0 as printed in public (https://github.com/ranghetti/sen2r/issues/373 for 2.8.0); that of later 2.x has the same options.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

BEHAVIOURS = (
    "correct", "empty", "nothing", "hang", "crash", "error", "wrong level", "wrong tile", "no dem", "constant", "missing band",
    "truncated", "no data", "flaky", "writes into input", "out of memory",
)  # fmt: skip
FAILURE = 1


def parser(version: str) -> argparse.ArgumentParser:
    """The command line of a version: 2.5 lacks the folders that 2.8 and later have."""
    number = tuple(int(part) for part in version.split("."))
    supported = "version <= 14.5" if number < (2, 8) else f"version 14.2 - {'14.5' if number < (2, 9) else '14.9'}"
    made = argparse.ArgumentParser(
        prog="L2A_Process.py",
        description=f"Sentinel-2 Level 2A Processor (Sen2Cor). Version: {version}, created: 2019.02.20, "
        f"supporting Level-1C product {supported}.",
    )
    made.add_argument("input_dir", help="Directory of Level-1C input")
    made.add_argument("--resolution", type=int, choices=[10, 20, 60], help="Target resolution, can be 10, 20 or 60m.")
    switches = ["--sc_only", "--cr_only"]
    values = ["--GIP_L2A", "--GIP_L2A_SC", "--GIP_L2A_AC", "--GIP_L2A_PB"]
    if number < (2, 8):
        switches.append("--refresh")
    else:
        switches += ["--raw", "--tif", "--debug"]
        values += ["--mode", "--datastrip", "--tile", "--output_dir", "--work_dir", "--img_database_dir", "--res_database_dir"]
        values += ["--processing_centre", "--archiving_centre", "--processing_baseline"]
    for switch in switches:
        made.add_argument(switch, action="store_true")
    for value in values:
        made.add_argument(value)
    return made


def main(behaviour: str, version: str, seconds: float, notes: Path | None) -> int:
    """Do as sen2cor would, or fail as told; return the exit code.

    Args:
        behaviour: one of BEHAVIOURS.
        seconds: time to pass before anything is written.
        notes: a folder where each run leaves a file named by its process, with its command line.
    """
    given = parser(version).parse_args()
    print(f"Sentinel-2 Level 2A Processor (Sen2Cor). Version: {version} started ...", flush=True)
    source = Path(given.input_dir)
    tries = 0
    if notes is not None:
        tries = len(list(notes.iterdir()))
        (notes / f"{os.getpid()}").write_text("\n".join(sys.argv[1:]), encoding="utf-8")
    if not (source.name.startswith("S2") and source.name[3:10] == "_MSIL1C" and source.suffix == ".SAFE"):
        print(f"L1C user product directory must match the following mask: S2?_MSIL1C*.SAFE, but is {source.name}")
        return FAILURE
    for needed in ("AUX_DATA", "GRANULE/*/AUX_DATA", "GRANULE/*/QI_DATA"):
        if not [path for path in source.glob(needed) if path.is_dir()]:
            print(f"[Errno 2] No such file or directory: '{needed}'")
            return FAILURE
    output = Path(getattr(given, "output_dir", None) or source.parent)
    output.mkdir(exist_ok=True)
    time.sleep(seconds)
    if behaviour == "hang":
        # A helper in the same process group, as sen2cor's band readers are.
        helper = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
        if notes is not None:
            (notes / f"{helper.pid}").write_text("helper", encoding="utf-8")
        print("Progress[%]: 9.48 : L2A_DEM: waiting for download", flush=True)
        time.sleep(600)
    if behaviour == "nothing":
        return 0
    if behaviour == "out of memory":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "error" or (behaviour == "flaky" and tries == 0):
        print("Progress[%]: 100.00 : Application terminated with at least one error.")
        return FAILURE
    if behaviour == "no dem":
        print("DEM: file srtm_38_03.tif could not be found")
        print("Progress[%]: 100.00 : Application terminated with at least one error.")
        return FAILURE
    if behaviour == "wrong level":
        shutil.copytree(source, output / source.name.replace("MSIL1C", "MSIL2A"))
        return 0
    if behaviour == "writes into input":
        for file in source.rglob("*"):
            if file.is_file() and file.suffix == ".xml" and file.name != "MTD_TL.xml" and not file.name.startswith("MTD_MSI"):
                file.write_text("overwritten", encoding="utf-8")
    return _correct(behaviour, version, source, output, given)


def _correct(behaviour: str, version: str, source: Path, output: Path, given: argparse.Namespace) -> int:
    import numpy as np
    import rasterio

    from rsdata.grid import Tile
    from rsdata.testing.safe import write_l2a_safe

    # Read without rsdata's own reader, which is what tests of the correction lean on.
    product, tile_xml = ElementTree.parse(source / "MTD_MSIL1C.xml"), ElementTree.parse(next(source.glob("GRANULE/*/MTD_TL.xml")))
    offset = int(product.findtext(".//RADIO_ADD_OFFSET") or 0)
    ul_x_m, ul_y_m = (int(tile_xml.findtext(f".//{tag}") or 0) for tag in ("ULX", "ULY"))
    bands = {}
    for name in ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"):
        with rasterio.open(next(source.glob(f"GRANULE/*/IMG_DATA/*_{name}.jp2"))) as raster:
            pixels = raster.read(1)
        # A layer of haze is taken off; sen2cor, too, keeps the offset of its input and the mark of missing pixels.
        haze = 250 if name in ("B01", "B02") else 80
        bands[name] = np.where(pixels == 0, 0, np.clip(pixels.astype(np.int32) - haze, 1, 65534)).astype(np.uint16)
    green, red, near = (bands[name].astype(np.float32) for name in ("B03", "B04", "B8A"))
    red, green = (pixels.reshape(near.shape[0], 2, near.shape[1], 2).mean(axis=(1, 3)) for pixels in (red, green))
    scl = np.select([near == 0, green > 8000, near > 1.3 * red, near < green], [0, 9, 4, 6], default=5).astype(np.uint8)
    if behaviour == "constant":
        bands["B11"][:] = 1234
    if behaviour == "no data":
        bands["B09"][:] = 0
    tile = Tile.from_name(source.name.split("_T")[1][:5])
    if behaviour == "wrong tile":
        tile = Tile.from_name("33UVP")
        ul_x_m, ul_y_m = tile.ul_x_m, tile.ul_y_m
    number = tuple(int(part) for part in version.split("."))
    made = write_l2a_safe(
        output,
        tile=tile,
        sensing=datetime.fromisoformat(tile_xml.findtext(".//SENSING_TIME") or ""),
        bands=bands,
        scl=scl,
        cloud_probability=np.where(scl == 9, 90, 0).astype(np.uint8),
        snow_probability=np.zeros_like(scl),
        ul_x_m=ul_x_m,
        ul_y_m=ul_y_m,
        baseline=getattr(given, "processing_baseline", None) or "99.99",
        mission=source.name[:3],
        relative_orbit=int(product.findtext(".//SENSING_ORBIT_NUMBER") or 0),
        orbit_direction=product.findtext(".//SENSING_ORBIT_DIRECTION") or "",
        processed=datetime.now(UTC).replace(microsecond=0),
        offset=offset if offset and number >= (2, 10) else None,
        threads=1,
    )
    images = sorted(made.glob("GRANULE/*/IMG_DATA/*/*.jp2"))
    if behaviour == "empty":
        for image in images:
            image.unlink()
    if behaviour == "missing band":
        next(made.rglob("*_B8A_20m.jp2")).unlink()
    if behaviour == "truncated":
        band = next(made.rglob("*_B04_10m.jp2"))
        band.write_bytes(band.read_bytes()[:2000])
    if behaviour == "crash":
        for image in images[len(images) // 2 :]:
            image.unlink()
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGSEGV)
    print("Progress[%]: 100.00 : Application terminated successfully.")
    return 0
