"""A Sentinel-1 product on one screen."""

import numpy as np

from rsdata.records import Sentinel1Scene
from rsdata.scenes.sentinel1_rasters import UNIT_WORDS

_NOT_STATED = "not stated"


def summarize_sentinel1(scene: Sentinel1Scene, problem: str | None) -> list[tuple[str, str]]:
    """What matters of a scene, as lines of name and text.

    Args:
        problem: what keeps the scene out of a dataset, if anything.
    """
    lines = [
        ("layout", scene.layout or _NOT_STATED),
        ("sensed", f"{scene.datetime:%Y-%m-%d %H:%M:%S} UTC, {scene.mission}"),
        ("orbit", scene.orbit_direction or _NOT_STATED),
    ]
    if scene.in_radar_geometry or scene.grid is None:
        lines.append(("grid", "radar geometry; corrected onto the tile's grid while it is read"))
    else:
        unit = UNIT_WORDS[scene.unit] if scene.unit else f"unit {_NOT_STATED}"
        lines.append(("pixels", f"{scene.quantity or f'quantity {_NOT_STATED}'}, {unit}"))
        lines.append(("grid", scene.grid))
        kept = "read as it is on tiles of its zone" if scene.on_utm_grid else "not one of Sentinel-2's 10 m grids; to be resampled"
        lines.append(("", kept))
    if scene.footprint:
        lon_deg, lat_deg = np.array(scene.footprint).T
        lines.append(("ground", f"{lon_deg.min():.3f} to {lon_deg.max():.3f} E, {lat_deg.min():.3f} to {lat_deg.max():.3f} N"))
    lines += [(band, inside) for band, inside in sorted(scene.bands.items())]
    lines += [("note", note) for note in scene.notes]
    lines.append(("dataset", problem or "can be used"))
    return lines
