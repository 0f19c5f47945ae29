"""Sentinel-1 as SNAP writes it: BEAM-DIMAP, and GeoTIFFs with both polarisations or with one each.

Bands are known by SNAP's own names (``Sigma0_VV``, ``Gamma0_VH_db``). Bands that are not calibrated are refused, as nothing
later could tell them apart from those that are.
"""

from pathlib import Path, PurePosixPath

from rsdata.errors import SceneError
from rsdata.foreign import is_file
from rsdata.records import is_s1_product
from rsdata.scenes.dimap import DimapBand, DimapHeader, read_dimap, read_tiff_tag
from rsdata.scenes.product import ProductFiles, list_files
from rsdata.scenes.sentinel1_rasters import (
    BesideFiles,
    Processed,
    Quantity,
    Raster,
    Unit,
    band_of,
    grd_name,
    made_up_name,
    missing_band,
    opened,
    place_of,
    quantity_of,
    read_place,
    stamp,
    unit_of,
)
from rsdata.sensors import SENTINEL1

_UNCALIBRATED = {"intensity", "amplitude", "beta0"}


def find_dim(path: Path) -> Path | None:
    """The header a path names: itself, or the only one in the folder; None if there is none."""
    if path.suffix.lower() == ".dim":
        return path
    found = sorted(path.glob("*.dim")) if path.is_dir() else []
    return found[0] if len(found) == 1 else None


def open_dim(path: Path, wanted: Quantity) -> Processed:
    """Read the header of a BEAM-DIMAP product.

    Args:
        path: the ``.dim``; its ``.data`` folder lies beside it.
        wanted: sigma0 or gamma0, where the product holds both.

    Raises: SceneError if the header is damaged, the product not terrain corrected, or a polarisation or its pixels are missing.
    """
    if not path.is_file():
        raise SceneError(f"{path} does not exist; name the .dim of a BEAM-DIMAP product", path=str(path))
    files = BesideFiles(path, "", {path.name: path.stat().st_size})
    header = read_dimap(files.read_xml(path.name), str(path))
    bands = _choose(path, header, wanted, needs_pixels=True)
    rasters = {}
    for name, band in bands.items():
        inside = _pixels(files, path, band)
        rasters[name] = Raster(inside, driver="ENVI", nodata=band.nodata)
        if band.crs_wkt is None or band.transform is None:
            raise SceneError(
                f"{path} has no place on a map; terrain correct it with SNAP (Range-Doppler Terrain Correction)", path=str(path)
            )
        with opened(path, files, rasters[name]) as source:
            stated = header.shape_yx[0] * header.shape_yx[1] * 4
            if source.shape != header.shape_yx or source.dtypes[0] != "float32" or files.sizes[inside] < stated:
                raise SceneError(
                    f"{path}: {inside} holds {source.shape} {source.dtypes[0]} in {files.sizes[inside]} bytes; the header says "
                    f"{header.shape_yx} float32, {stated} bytes, so write the product again",
                    path=str(path),
                )
    vv, vh = bands["VV"], bands["VH"]
    if (vv.crs_wkt, vv.transform) != (vh.crs_wkt, vh.transform) or vv.crs_wkt is None or vv.transform is None:
        raise SceneError(f"{path}: VV and VH lie on different grids; write them onto one with SNAP", path=str(path))
    product, notes = _name(path, header)
    return Processed(
        files,
        product,
        "BEAM-DIMAP",
        rasters,
        place_of(path, vv.crs_wkt, vv.transform, header.shape_yx),
        *_measure(path, [(band.name, band.unit) for band in bands.values()]),
        orbit_direction=header.orbit_direction,
        notes=notes,
    )


def open_geotiff(path: Path, wanted: Quantity) -> Processed:
    """Read a GeoTIFF that holds both polarisations as bands.

    What a band is comes from the header that SNAP puts into the file, or else from the bands' own descriptions.

    Raises: SceneError if the file does not say which band is which, or a polarisation is missing.
    """
    if not path.is_file():
        raise SceneError(f"{path} does not exist; name a GeoTIFF of Sentinel-1", path=str(path))
    files = BesideFiles(path, "", {path.name: path.stat().st_size})
    header = read_tiff_tag(path)
    if header is not None:
        bands = _choose(path, header, wanted, needs_pixels=False)
        rasters = {name: Raster(path.name, band.index + 1, nodata=band.nodata) for name, band in bands.items()}
        said = [(band.name, band.unit) for band in bands.values()]
        product, notes = _name(path, header)
        layout, orbit = "SNAP GeoTIFF", header.orbit_direction
    else:
        with opened(path, files, Raster(path.name)) as source:
            known = {
                index: (name or "", unit or "") for index, name, unit in zip(source.indexes, source.descriptions, source.units, strict=True)
            }
        chosen = _pick(path, [(name, index) for index, (name, _) in known.items()], wanted)
        rasters = {name: Raster(path.name, index) for name, index in chosen.items()}
        said = [known[index] for index in chosen.values()]
        product, notes = _name(path, None)
        layout, orbit = "GeoTIFF, both polarisations", None
    place = read_place(path, files, rasters)
    return Processed(files, product, layout, rasters, place, *_measure(path, said), orbit_direction=orbit, notes=notes)


def open_pair(path: Path, wanted: Quantity) -> Processed:
    """Read a folder named like a GRD product, with one GeoTIFF per polarisation, or one GeoTIFF with both.

    Raises: SceneError if the folder is named otherwise, or a polarisation is missing.
    """
    name = path.name.removesuffix(".SAFE")
    if not is_s1_product(name):
        raise SceneError(
            f"{path} is not named like a Sentinel-1 GRD product; expected a folder such as "
            "S1A_IW_GRDH_1SDV_20170613T165043_20170613T165108_017014_01C595_B2A5",
            path=str(path),
        )
    files = list_files(path)
    tiffs = [inside for inside in files.sizes if inside.lower().endswith((".tif", ".tiff"))]
    found = {band: _of_polarisation(tiffs, band) for band in SENTINEL1.band_names}
    if len(tiffs) == 1 and not any(found.values()) and not files.zipped:
        return open_geotiff(path / tiffs[0], wanted)
    for band, names in found.items():
        if len(names) != 1:
            expected = f"one named …_{band}.tif, terrain corrected, or one GeoTIFF with both polarisations"
            raise missing_band(path, band, f"{len(names) or 'no'} GeoTIFF", expected)
    rasters = {band: Raster(names[0]) for band, names in found.items()}
    place = read_place(path, files, rasters)
    return Processed(files, name, "GeoTIFF pair", rasters, place, *_described(path, files, rasters), fallback="db")


def _of_polarisation(tiffs: list[str], band: str) -> list[str]:
    endings = (f"_{band.lower()}.tif", f"_{band.lower()}.tiff")
    return sorted(inside for inside in tiffs if inside.lower().endswith(endings) or inside.upper() == f"{band}.TIF")


def _described(path: Path, files: ProductFiles, rasters: dict[str, Raster]) -> tuple[Unit | None, Quantity | None]:
    """What the bands of a pair say of themselves, if anything."""
    said = []
    for raster in rasters.values():
        with opened(path, files, raster) as source:
            said.append((source.descriptions[0] or "", source.units[0] or ""))
    return _measure(path, said)


def _choose(path: Path, header: DimapHeader, wanted: Quantity, *, needs_pixels: bool) -> dict[str, DimapBand]:
    bands = [band for band in header.bands if not (needs_pixels and band.virtual)]
    chosen = _pick(path, [(band.name, index) for index, band in enumerate(bands)], wanted)
    for index in chosen.values():
        if not bands[index].as_is:
            raise SceneError(f"{path}: {bands[index].name} is scaled or a logarithm; write it from SNAP as plain float32", path=str(path))
    return {name: bands[index] for name, index in chosen.items()}


def _pick(path: Path, named: list[tuple[str, int]], wanted: Quantity) -> dict[str, int]:
    """Which band is VV and which VH: power before decibel, and the quantity wanted before others.

    Raises: SceneError if a polarisation is missing, only there without calibration, or there more than once.
    """
    known = [(said, index) for name, index in named if (said := band_of(name)) is not None]
    held = ", ".join(name for name, _ in named) or "no bands"
    for quantity in sorted({said[0] for said, _ in known} - _UNCALIBRATED, key=lambda each: (each != wanted, each)):
        for db in (False, True):
            chosen = [(said[1], index) for said, index in known if said[0] == quantity and said[2] is db]
            both = [(band, index) for band, index in chosen if band in SENTINEL1.band_names]
            if len(both) == len(SENTINEL1.band_names) == len(dict(both)):
                return dict(both)
    if any(said[0] in _UNCALIBRATED for said, _ in known):
        raise SceneError(f"{path} holds {held}, which is not sigma0 or gamma0; calibrate it with SNAP", path=str(path))
    missing = [band for band in SENTINEL1.band_names if not any(said[1] == band for said, _ in known)]
    raise missing_band(
        path, " and ".join(missing) or "VV and VH", f"{held} and so nothing", "one band each, named such as Sigma0_VV and Sigma0_VH"
    )


def _measure(path: Path, said: list[tuple[str, str]]) -> tuple[Unit | None, Quantity | None]:
    """Unit and quantity that names and units of bands state.

    Raises: SceneError if name and unit, or the two polarisations, contradict each other.
    """
    units: set[Unit | None] = set()
    quantities: set[Quantity | None] = set()
    for name, unit in said:
        named, stated = band_of(name), unit_of(unit)
        if named is not None and named[2] and stated not in (None, "db"):
            raise SceneError(f"{path}: {name} is decibel by its name and {unit!r} by its unit; write the product again", path=str(path))
        units.add("db" if named is not None and named[2] else stated)
        quantities.add(quantity_of(named[0]) if named is not None else None)
    if len(units) > 1:
        raise SceneError(f"{path}: VV and VH are of different units; write the product again", path=str(path))
    return units.pop(), quantities.pop() if len(quantities) == 1 else None


def _pixels(files: BesideFiles, path: Path, band: DimapBand) -> str:
    """The .img of a band, which must lie below the header's folder."""
    parts = PurePosixPath(band.file or "").parts
    if not parts or parts[0] == "/" or ".." in parts or "\\" in (band.file or "") or ":" in parts[0]:
        raise SceneError(f"{path} puts {band.name} at {band.file!r}, outside its own folder; write the product again", path=str(path))
    stem = PurePosixPath(*parts).with_suffix("")
    inside, beside = f"{stem}.img", f"{stem}.hdr"
    for each in (inside, beside):
        if not is_file(path.parent / each):
            raise SceneError(f"{path} lacks {each}; keep the .data folder beside the .dim, or write the product again", path=str(path))
        files.sizes[each] = (path.parent / each).stat().st_size
    return inside


def _name(path: Path, header: DimapHeader | None) -> tuple[str, tuple[str, ...]]:
    """The GRD that a product was made from, and what is to be noted of it.

    Raises: SceneError if neither header nor file name tells it.
    """
    found = grd_name([*(header.names if header else ()), path.stem, path.parent.name])
    if found is not None:
        return found
    if header is not None and header.mission and header.start and header.mode:
        mission = header.mission.upper().replace("SENTINEL-", "S")
        name = made_up_name(mission, header.mode, "DV", stamp(header.start))
        if is_s1_product(name):
            return name, (f"its product name ({', '.join(header.names)}) tells no GRD; named by mission and time",)
    raise SceneError(
        f"{path} tells neither in its metadata nor in its name which Sentinel-1 product it was made from; name it such as "
        "S1A_IW_GRDH_1SDV_20170613T165043_20170613T165108_017014_01C595_B2A5_TC",
        path=str(path),
    )
