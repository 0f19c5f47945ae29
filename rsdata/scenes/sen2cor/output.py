"""What sen2cor left: found by its metadata, looked at band by band, and moved into place."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from rsdata.errors import CorrectionError, SceneError
from rsdata.records import Sentinel2Scene
from rsdata.scenes.sen2cor.program import Program
from rsdata.scenes.sentinel2 import LAYERS, Sentinel2Product, check_complete, open_sentinel2
from rsdata.sensors import SENTINEL2


def find_output(folders: Sequence[Path], copy: Path, source: Sentinel2Scene, program: Program) -> Sentinel2Product:
    """Find the Level-2A product of the same tile and sensing time, by its metadata.

    Args:
        folders: where to look; the input's own copy is passed over.

    Raises: CorrectionError saying what was there instead.
    """
    seen = []
    for path in sorted({file.parent for folder in folders for file in folder.rglob("MTD_MSIL*.xml") if not file.is_relative_to(copy)}):
        if not _has_images(path):
            raise CorrectionError(
                f"{program} ended with exit code 0, but IMG_DATA of {path.name} is empty; its log says where it stopped, "
                "often for want of memory or of a DEM",
                again=True,
            )
        try:
            product = open_sentinel2(path)
        except SceneError as error:
            seen.append(f"{path.name} cannot be opened ({error})")
            continue
        scene = product.scene
        if scene.level != "L2A":
            seen.append(f"{path.name} is Level-{scene.level[1:]}")
        elif scene.tile_id != source.tile_id:
            seen.append(f"{path.name} is of tile {scene.tile_id}")
        elif scene.datetime != source.datetime:
            seen.append(f"{path.name} was sensed at {scene.datetime:%Y-%m-%dT%H:%M:%SZ}")
        else:
            return product
    what = "; ".join(seen) or "it left no product at all"
    raise CorrectionError(
        f"{program} ended with exit code 0, but {what}; expected Level-2A of tile {source.tile_id}, "
        f"sensed at {source.datetime:%Y-%m-%dT%H:%M:%SZ}, so see its log",
        again=not seen,
    )


def _has_images(product: Path) -> bool:
    return any(file.is_file() and file.stat().st_size for file in product.glob("GRANULE/*/IMG_DATA/**/*"))


def expected_bands(resolution: int) -> list[str]:
    """Bands and layers in their native resolution that sen2cor makes when asked for 10, 20 or 60 m.

    At 10 m it makes all, at 20 m those of 20 m and (``Downsample_20_to_60``) 60 m, at 60 m only those of 60 m.
    """
    gsds = {band.name: band.gsd_m for band in SENTINEL2.bands} | {layer: LAYERS[layer] for layer in ("SCL", "CLDPRB", "SNWPRB")}
    return [name for name, gsd_m in gsds.items() if gsd_m >= resolution]


def check_output(product: Sentinel2Product, source: Sentinel2Scene, resolution: int, program: Program) -> None:
    """See that a product is whole: all bands, on the input's ground, as its metadata say, decoded, neither empty nor constant.

    Bands are decoded one at a time. Water or a clear sky may give a scene class or a probability that is the same
    everywhere, so layers need only decode, and the classes hold something.

    Raises: CorrectionError naming the band and what is wrong with it.
    """
    scene = product.scene
    place, expected = ((each.epsg, each.ul_x_m, each.ul_y_m, each.width_m, each.height_m) for each in (scene, source))
    if place != expected:
        raise CorrectionError(f"{program} made {scene.product} on {place}; expected the input's own grid {expected}")
    names = expected_bands(resolution)
    if missing := [name for name in names if name not in scene.bands]:
        raise CorrectionError(
            f"{program} ended with exit code 0, but {scene.product} lacks {', '.join(missing)}; its log says where it stopped",
            again=True,
            missing=missing,
        )
    try:
        if resolution == min(band.gsd_m for band in SENTINEL2.bands):
            check_complete(product)
        for name in names:
            pixels = product.read(name)
            low, high = int(pixels.min()), int(pixels.max())
            if high == scene.nodata and name not in ("CLDPRB", "SNWPRB"):
                raise CorrectionError(f"{program} made {scene.product} with {name} empty: every pixel is no data", again=True, band=name)
            if low == high and name not in LAYERS:
                raise CorrectionError(
                    f"{program} made {scene.product} with {name} constant: every pixel is {low}; see its log", again=True, band=name
                )
    except CorrectionError:
        raise
    except SceneError as error:
        reason = str(error).replace(", fetch the product again", "").replace("; fetch the product again", "")
        raise CorrectionError(f"{program} left a damaged product: {reason}", again=True, **_without_again(error.context)) from error


def _without_again(context: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in context.items() if name != "again"}


def settle(product: Path, folder: Path) -> None:
    """Move a product into an empty folder, on another file system by copying, and have every file reach the disk."""
    try:
        product.replace(folder)
    except OSError:  # another file system
        shutil.copytree(product, folder, dirs_exist_ok=True)
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
