"""Whole sets of inputs made on the spot: Sentinel-2 products, their Sentinel-1 twins, land cover and countries.

What is there already is not made again, so an interrupted run goes on where it stopped; a file beside the
products says what they were made from, and if that changed they are made anew.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from rsdata.errors import RecipeError, WorkspaceError
from rsdata.grid import TILE_SIDE_M, PatchGrid, Tile
from rsdata.recipe import Synthetic
from rsdata.testing.ground import Ground, countries_around, write_layer
from rsdata.testing.noise import generator
from rsdata.testing.painting import Painter
from rsdata.testing.safe import product_name, write_l2a_safe
from rsdata.testing.sentinel1 import write_s1_pair

_VERSION = 1  # raise it whenever the same request would give other pixels
_PATCH_PX = 120


@dataclass(frozen=True)
class SyntheticInputs:
    """Where the inputs lie."""

    sentinel2: tuple[Path, ...]  # one SAFE folder per tile and date
    sentinel1: tuple[Path, ...]  # the twin of each
    labels: Path  # land cover polygons, attribute Code_18
    countries: Path  # attribute NAME


def synthesize(spec: Synthetic, folder: Path, progress: Callable[[str], None] | None = None) -> SyntheticInputs:
    """Make all scenes of a recipe's ``synthetic`` part, and the ground they show.

    Args:
        spec: tiles, dates, size and place of the rasters, seed. A date at midnight is moved to the overpass at 10:10:31 UTC.
        folder: gets ``sentinel2/``, ``sentinel1/``, ``corine.gpkg`` and ``countries.gpkg``.
        progress: told in one line what comes next.

    Raises:
        RecipeError: if the raster is neither a multiple of a patch nor a whole tile.
        GridError: if it does not lie in its tile.
        WorkspaceError: if the system refuses to write.
    """
    tell = progress or (lambda line: None)
    whole = all(px > 0 and (px % _PATCH_PX == 0 or px == TILE_SIDE_M // 10) for px in spec.raster_px)
    if not whole or any(px < 0 or px % _PATCH_PX for px in spec.offset_px):
        raise RecipeError(
            f"`synthetic` asks for a raster of {spec.raster_px} pixels at {spec.offset_px}; "
            f"expected multiples of {_PATCH_PX}, or {TILE_SIDE_M // 10} for a whole tile",
            raster_px=spec.raster_px,
            offset_px=spec.offset_px,
        )
    rasters = [_raster(spec, name) for name in dict.fromkeys(spec.tiles)]
    _clear_if_changed(spec, folder)
    ground = _Lazy(spec, rasters)
    labels, countries = folder / "corine.gpkg", folder / "countries.gpkg"
    if not labels.exists():
        tell("land cover polygons")
        write_layer(labels, ground.made.polygons, "clc2018")
    if not countries.exists():
        write_layer(countries, countries_around(rasters, seed=spec.seed), "countries")
    sentinel2, sentinel1 = [], []
    for raster in rasters:
        painter = None
        for date in spec.dates:
            scene = _Scene(spec, raster.tile, date)
            paths = (folder / "sentinel2" / f"{scene.s2_name}.SAFE", folder / "sentinel1" / scene.s1_name)
            sentinel2.append(paths[0])
            sentinel1.append(paths[1])
            if all(path.exists() for path in paths):
                continue
            painter = painter or Painter(ground.made, raster)
            if not paths[0].exists():
                tell(f"{scene.s2_name}: painting")
                view = painter.optical(scene.sensing, clouds=spec.clouds, nodata_strip=spec.nodata_strip)
                tell(f"{scene.s2_name}: writing")
                write_l2a_safe(
                    paths[0].parent,
                    tile=raster.tile,
                    sensing=scene.sensing,
                    bands=view.bands,
                    scl=view.scl,
                    cloud_probability=view.cloud_probability,
                    snow_probability=view.snow_probability,
                    ul_x_m=raster.ul_x_m,
                    ul_y_m=raster.ul_y_m,
                    relative_orbit=scene.relative_orbit,
                )
                del view
            if not paths[1].exists():
                tell(f"{scene.s1_name}: painting and writing")
                echoes = painter.backscatter(scene.s1_start)
                write_s1_pair(
                    paths[1].parent,
                    product_name=scene.s1_name,
                    tile=raster.tile,
                    vv=echoes["VV"],
                    vh=echoes["VH"],
                    ul_x_m=raster.ul_x_m,
                    ul_y_m=raster.ul_y_m,
                )
                del echoes
    return SyntheticInputs(tuple(sentinel2), tuple(sentinel1), labels, countries)


@dataclass(frozen=True)
class _Lazy:
    """The ground, made when something is painted onto it."""

    spec: Synthetic
    rasters: list[PatchGrid]

    @cached_property
    def made(self) -> Ground:
        return Ground.around(self.rasters, seed=self.spec.seed, cell_m=self.spec.cell_m)


@dataclass(frozen=True)
class _Scene:
    """Times and names of one tile on one date."""

    spec: Synthetic
    tile: Tile
    date: datetime

    @property
    def sensing(self) -> datetime:
        date = self.date.replace(tzinfo=UTC) if self.date.tzinfo is None else self.date.astimezone(UTC)
        if (date.hour, date.minute, date.second, date.microsecond) == (0, 0, 0, 0):
            return date.replace(hour=10, minute=10, second=31)
        return date

    @property
    def relative_orbit(self) -> int:
        return int(generator(self.spec.seed, self.tile.name, "orbit").integers(1, 144))

    @property
    def s2_name(self) -> str:
        return product_name(self.tile, self.sensing, relative_orbit=self.relative_orbit)

    @property
    def s1_start(self) -> datetime:
        """Some hours before or after: Sentinel-1 passes near dawn and dusk."""
        hours = generator(self.spec.seed, self.tile.name, self.sensing.isoformat(), "s1").uniform(4, 8)
        sign = -1 if self.sensing.toordinal() % 2 else 1
        return (self.sensing + sign * timedelta(hours=float(hours))).replace(microsecond=0)

    @property
    def s1_name(self) -> str:
        rng = generator(self.spec.seed, self.tile.name, self.sensing.isoformat(), "s1 name")
        # Orbit 175 revolutions in 12 days since 2014-04-03; the rest of the name is made up.
        orbit = int((self.s1_start - datetime(2014, 4, 3, tzinfo=UTC)) / timedelta(days=12) * 175)
        stop = self.s1_start + timedelta(seconds=25)
        datatake, check = int(rng.integers(0, 16**6)), int(rng.integers(0, 16**4))
        return f"S1A_IW_GRDH_1SDV_{self.s1_start:%Y%m%dT%H%M%S}_{stop:%Y%m%dT%H%M%S}_{orbit:06d}_{datatake:06X}_{check:04X}"


def _raster(spec: Synthetic, name: str) -> PatchGrid:
    tile = Tile.from_name(name)
    (height, width), (down, right) = spec.raster_px, spec.offset_px
    return PatchGrid(tile, tile.ul_x_m + right * 10, tile.ul_y_m - down * 10, width * 10, height * 10)


def _clear_if_changed(spec: Synthetic, folder: Path) -> None:
    """Remove what an earlier request left behind if it was another one, and note what is made now."""
    note = folder / "synthetic.json"
    asked = hashlib.sha256(json.dumps([_VERSION, spec.digest()]).encode()).hexdigest()
    try:
        if note.exists():
            if json.loads(note.read_text(encoding="utf-8")).get("made_from") == asked:
                return
            for name in ("sentinel2", "sentinel1"):
                shutil.rmtree(folder / name, ignore_errors=True)
            for name in ("corine.gpkg", "countries.gpkg"):
                (folder / name).unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        aside = folder / ".synthetic.json.part"
        aside.write_text(json.dumps({"made_from": asked, "request": spec.model_dump(mode="json")}, indent=1) + "\n", encoding="utf-8")
        aside.replace(note)
    except OSError as error:
        raise WorkspaceError(
            f"{folder} cannot be written: {error.strerror or error}; free space or name another folder", path=str(folder)
        ) from error
