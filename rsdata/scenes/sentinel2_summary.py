"""A Sentinel-2 scene in a few lines: what somebody wants to know before using it."""

from collections import Counter

from rsdata.records import Sentinel2Scene
from rsdata.scenes.sentinel2_metadata import LAYERS, OTHER_LAYERS
from rsdata.sensors import SENTINEL2
from rsdata.sensors.sentinel2 import QUALITY_CHECKS, SENTINEL2_L1C

_LEVELS = {"L1C": "Level-1C, top-of-atmosphere reflectance", "L2A": "Level-2A, surface reflectance"}


def summarize(scene: Sentinel2Scene, problem: str | None) -> list[tuple[str, str]]:
    """Name and text of each line; ``problem`` is why no dataset can be made from the scene, None where one can."""
    expected = [band for band in SENTINEL2_L1C.band_names if scene.level == "L1C" or band in SENTINEL2.band_names]
    layers = (*LAYERS, *OTHER_LAYERS) if scene.level == "L2A" else ()
    direction = (scene.orbit_direction or "direction not stated").lower()
    orbit = f"relative {scene.relative_orbit}, absolute {_or_not_stated(scene.absolute_orbit)}, {direction}"
    lines = [
        ("level", f"{_LEVELS[scene.level]}; baseline {scene.baseline}"),
        ("sensing time", f"{scene.datetime:%Y-%m-%d %H:%M:%S} UTC"),
        ("orbit", orbit),
        ("tile", f"{scene.tile_id}, EPSG:{scene.epsg}, corner {scene.ul_x_m} {scene.ul_y_m}, {scene.width_m} x {scene.height_m} m"),
        ("datatake", _or_not_stated(scene.datatake_id)),
        ("granule", _or_not_stated(scene.granule_id)),
        ("datastrip", _or_not_stated(scene.datastrip_id)),
        ("made", f"{scene.generation_time:%Y-%m-%d %H:%M:%S} UTC" if scene.generation_time else "not stated"),
        ("reflectance", f"(counts + offset) / {scene.quantification:g}"),
        ("offset", offsets_in_words(scene)),
        ("special counts", f"{scene.nodata} no data, {scene.saturated} saturated"),
        ("quality", _quality(scene)),
        ("sun", _angles(scene.sun_zenith_deg, scene.sun_azimuth_deg)),
        ("view", _view(scene)),
        ("cloud", "not stated" if scene.cloud_percent is None else f"{scene.cloud_percent:.2f} %"),
        ("bands here", ", ".join(name for name in expected if name in scene.bands) or "none"),
        ("bands absent", ", ".join(name for name in expected if name not in scene.bands) or "none"),
    ]
    if layers:
        lines.append(("layers here", ", ".join(name for name in layers if name in scene.bands) or "none"))
        lines.append(("layers absent", ", ".join(name for name in layers if name not in scene.bands) or "none"))
    kinds = Counter(name.partition("_")[0] for name in scene.masks)
    lines.append(("masks", ", ".join(f"{kind} ({count})" if count > 1 else kind for kind, count in sorted(kinds.items())) or "none"))
    lines += [("note", note) for note in scene.notes]
    return [*lines, ("verdict", f"not usable: {problem}" if problem else "usable")]


def offsets_in_words(scene: Sentinel2Scene) -> str:
    """Offsets in one line, such as ``-1000 in all bands``."""
    if scene.offset_applied:
        return "applied already"
    values = Counter(scene.offsets.values())
    if len(values) == 1:
        (value,) = values
        return f"{value:g} in all bands" if value else "none"
    usual, _ = values.most_common(1)[0]
    others = ", ".join(f"{value:g} in {band}" for band, value in scene.offsets.items() if value != usual)
    return f"{usual:g}, but {others}"


def _quality(scene: Sentinel2Scene) -> str:
    missing = [name for name in QUALITY_CHECKS if name not in scene.quality_checks]
    texts = [f"{name} {scene.quality_checks[name]}" for name in scene.failed_checks]
    if not texts and scene.quality_checks:
        texts = [f"{len(scene.quality_checks)} inspections PASSED"]
    return "; ".join([*texts, *([f"not stated: {', '.join(missing)}"] if missing else [])])


def _angles(zenith: float | None, azimuth: float | None) -> str:
    return "not stated" if zenith is None or azimuth is None else f"zenith {zenith:.2f}°, azimuth {azimuth:.2f}°"


def _view(scene: Sentinel2Scene) -> str:
    zeniths = list(scene.view_zenith_deg.values())
    return f"zenith {min(zeniths):.2f}° to {max(zeniths):.2f}° over bands" if zeniths else "not stated"


def _or_not_stated(value: object) -> str:
    return "not stated" if value is None else str(value)
