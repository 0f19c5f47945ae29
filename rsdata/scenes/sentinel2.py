"""Sentinel-2 products: opened by what their metadata say, read whole or lazily, turned into reflectance once.

Counts travel as they are, with scale and offset beside them the CF way; ``harmonize`` applies both, and refuses
what carries the offset already. A JPEG 2000 tile is decoded whole however small the window, so bands are read
once and whole, or in chunks as wide as the raster.
"""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import rioxarray
import xarray as xr
from affine import Affine
from rasterio.errors import RasterioError

from rsdata.errors import SceneError
from rsdata.foreign import RASTER_ERRORS
from rsdata.records import Sentinel2Scene
from rsdata.scenes.product import ProductFiles, list_files
from rsdata.scenes.sentinel2_metadata import LAYERS, MANIFEST, MARKERS, OTHER_LAYERS, listed_checksums, listed_files, read_scene
from rsdata.scenes.sentinel2_url import as_url, list_url
from rsdata.sensors import SENTINEL2
from rsdata.sensors.sentinel2 import NODATA_COUNTS, SCL_CLASSES, SENTINEL2_L1C

CHUNKS = {"y": 1024, "x": -1}  # one row of JPEG 2000 blocks at 10 m
_DTYPES = {"SCL": "uint8", "CLDPRB": "uint8", "SNWPRB": "uint8"}  # all others are uint16


@dataclass(frozen=True)
class Place:
    """Where a raster lies: its outer corner, pixel size and shape, in the CRS of its scene."""

    ul_x_m: float  # outer edge of the first pixel, never its centre
    ul_y_m: float
    pixel_m: float
    shape_yx: tuple[int, int]

    @property
    def transform(self) -> Affine:
        return Affine(self.pixel_m, 0, self.ul_x_m, 0, -self.pixel_m, self.ul_y_m)

    def coordinates(self) -> dict[str, tuple[str, np.ndarray, dict[str, str]]]:
        """Pixel centres in metres, x eastward and y southward."""
        height, width = self.shape_yx
        x = self.ul_x_m + (np.arange(width) + 0.5) * self.pixel_m
        y = self.ul_y_m - (np.arange(height) + 0.5) * self.pixel_m
        axis = {"units": "m"}
        return {
            "y": ("y", y, axis | {"standard_name": "projection_y_coordinate", "axis": "Y"}),
            "x": ("x", x, axis | {"standard_name": "projection_x_coordinate", "axis": "X"}),
        }


@dataclass(frozen=True)
class Sentinel2Product:
    """One product, or one tile of it, opened: its metadata are read, its pixels are not."""

    files: ProductFiles
    scene: Sentinel2Scene
    decimated: bool = False  # a catalogue's item may point to rasters coarser than it says; a SAFE product may not

    def gsd_m(self, band: str) -> int:
        """Native ground sampling distance of a band or layer, metres."""
        return LAYERS.get(band) or OTHER_LAYERS.get(band) or SENTINEL2_L1C[band].gsd_m

    def read(self, band: str) -> np.ndarray:
        """Read a whole band or layer as stored, (y, x): uint16 counts, or uint8 for SCL and probabilities; on one core.

        Raises: SceneError if the file is damaged or does not fit the product's own metadata.
        """
        inside = self._file_of(band)
        where = f"{self.files.path}: {inside}"
        try:
            # GDAL would decode JPEG 2000 on every core, whatever the number of workers.
            with rasterio.Env(GDAL_NUM_THREADS="1"), rasterio.open(self.files.gdal_path(inside)) as raster:
                self._check_georeference(raster, where, self.gsd_m(band))
                self._check_type(raster, where, band)
                return raster.read(1)
        except RASTER_ERRORS as error:
            raise _undecodable(where, band, error) from error

    def read_all(self, bands: Iterable[str], threads: int = 1) -> dict[str, np.ndarray]:
        """Read several bands, ``threads`` at a time."""
        names = list(bands)
        with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:
            return dict(zip(names, pool.map(self.read, names), strict=True))

    def place(self, band: str) -> Place:
        """Where a band's raster lies: the whole tile, or the part of it that was cut out on the tile's own pixels.

        Raises: SceneError if the file is damaged, or lies off the product's grid.
        """
        inside = self._file_of(band)
        where = f"{self.files.path}: {inside}"
        try:
            with rasterio.open(self.files.gdal_path(inside)) as raster:
                self._check_type(raster, where, band)
                return self.place_of(raster, where, self.gsd_m(band))
        except RASTER_ERRORS as error:
            raise _undecodable(where, band, error) from error

    def open_counts(self, band: str, chunks: Mapping[str, int] | None = None) -> xr.DataArray:
        """Open a band or layer lazily as stored, (y, x) in dask chunks, at pixel centres.

        ``scale_factor`` and ``add_offset`` are given the CF way: physical = counts * scale_factor + add_offset.
        ``offset_applied`` says whether the counts carry the offset already.

        Raises: SceneError if the file is damaged, or lies off the product's grid.
        """
        return self._open(band, self.place(band), chunks)

    def open_dataset(
        self, *, bands: Iterable[str] | None = None, gsd_m: int | None = None, chunks: Mapping[str, int] | None = None
    ) -> xr.Dataset:
        """Open bands and layers of one resolution lazily, as stored: (y, x) each, on one grid, nothing resampled.

        Args:
            bands: bands and layers by name; they must share one resolution.
            gsd_m: in place of names, every band and layer there is at this native resolution, 10, 20 or 60 metres.
            chunks: dask chunks in pixels; 1024 rows of full width if absent.

        Returns: counts with CRS, transform, pixel centres, ``scale_factor``, ``add_offset``, ``_FillValue`` and units;
            ``harmonize`` and ``xarray.decode_cf`` make reflectance of them.
        Raises: SceneError if a band is missing, damaged, of another resolution, or covers other ground than the rest.
        """
        if (bands is None) == (gsd_m is None):
            raise SceneError("open_dataset takes either band names or one resolution, such as gsd_m=10; give one of the two")
        names = list(bands) if bands is not None else [name for name in self.scene.bands if self.gsd_m(name) == gsd_m]
        if not names:
            there = ", ".join(f"{name} ({self.gsd_m(name)} m)" for name in self.scene.bands) or "none"
            raise SceneError(f"{self.scene.product} has no bands at {gsd_m} m; its bands are {there}", product=self.scene.product)
        places = {name: self.place(name) for name in names}
        if len(set(places.values())) > 1:
            listed = ", ".join(f"{name} {at.shape_yx[0]} x {at.shape_yx[1]} at {at.pixel_m:g} m" for name, at in places.items())
            raise SceneError(
                f"{self.scene.product}: {listed}; expected one grid, so open each resolution as a dataset of its own",
                product=self.scene.product,
            )
        place = places[names[0]]
        dataset = xr.Dataset({name: self._open(name, place, chunks) for name in names})
        dataset.attrs = {
            "product": self.scene.product,
            "level": self.scene.level,
            "processing_baseline": self.scene.baseline,
            "tile": self.scene.tile_id,
            "datetime": self.scene.datetime.isoformat(),
            "offset_applied": int(self.scene.offset_applied),
        }
        return dataset

    def open_reflectance(self, band: str) -> xr.DataArray:
        """Open a band lazily as reflectance (y, x) float32, unitless; no data is NaN.

        Surface reflectance of Level-2A, top-of-atmosphere reflectance of Level-1C. An offset that the pixels carry
        already is not applied again.
        """
        counts = self.open_counts(band)
        return surface_reflectance(counts, self.scene.offsets[band], self.scene.quantification, self.scene.nodata)

    def _file_of(self, band: str) -> str:
        if band not in self.scene.bands:
            raise SceneError(
                f"{self.files.path} lacks {band}; it has {', '.join(self.scene.bands) or 'no bands'}", path=str(self.files.path), band=band
            )
        return self.scene.bands[band]

    def _open(self, band: str, place: Place, chunks: Mapping[str, int] | None) -> xr.DataArray:
        opened = rioxarray.open_rasterio(
            self.files.gdal_path(self._file_of(band)), chunks=dict(chunks or CHUNKS), lock=False, parse_coordinates=False
        )
        if not isinstance(opened, xr.DataArray) or opened.sizes["band"] != 1:
            raise SceneError(f"{self.files.path}: {self.scene.bands[band]} holds several rasters; expected one band", band=band)
        pixels = xr.DataArray(opened.isel(band=0).data, place.coordinates(), ("y", "x"), band, self._attributes(band))
        return pixels.rio.write_crs(self.scene.epsg).rio.write_transform(place.transform)

    def _attributes(self, band: str) -> dict[str, object]:
        """CF attributes of a band or layer as stored."""
        scene = self.scene
        if band == "SCL":
            names = [name.lower() for name in SCL_CLASSES.values()]
            return {
                "long_name": "scene classification",
                "units": "1",
                "flag_values": list(SCL_CLASSES),
                "flag_meanings": " ".join(names),
                "nodata": 0,
            }
        if band in ("CLDPRB", "SNWPRB"):
            return {"long_name": f"{'cloud' if band == 'CLDPRB' else 'snow'} probability", "units": "percent"}
        fill = {"_FillValue": np.uint16(scene.nodata), "nodata": scene.nodata}
        if band in OTHER_LAYERS:
            quantification = scene.aot_quantification if band == "AOT" else scene.wvp_quantification
            if quantification is None:
                raise SceneError(f"{scene.product} does not state the quantification of {band}, so its values have no unit", band=band)
            title, unit = ("aerosol optical thickness", "1") if band == "AOT" else ("water vapour", "cm")
            return {"long_name": title, "units": unit, "scale_factor": 1 / quantification, "add_offset": 0.0, **fill}
        return {
            "long_name": f"{'surface' if scene.level == 'L2A' else 'top-of-atmosphere'} reflectance, {band}",
            "units": "1",
            "scale_factor": 1 / scene.quantification,
            "add_offset": scene.offsets[band] / scene.quantification,
            "offset_applied": int(scene.offset_applied),
            "wavelength_nm": SENTINEL2_L1C[band].wavelength_nm,
            "gsd_m": self.gsd_m(band),
            **fill,
        }

    def _check_type(self, raster: rasterio.DatasetReader, where: str, band: str) -> None:
        expected = _DTYPES.get(band, "uint16")
        if raster.dtypes[0] != expected:
            raise SceneError(f"{where} holds {raster.dtypes[0]}; expected {expected} as ESA delivers it", band=band)

    def _check_georeference(self, raster: rasterio.DatasetReader, where: str, gsd_m: int) -> None:
        """Hold a raster to the whole tile: its size, CRS, corner and pixel size."""
        path = str(self.files.path)
        shape = (self.scene.height_m // gsd_m, self.scene.width_m // gsd_m)
        if raster.shape != shape:
            raise SceneError(
                f"{where} is {raster.shape[0]} x {raster.shape[1]} pixels, but MTD_TL.xml says {shape[0]} x {shape[1]}; "
                "fetch the product again",
                path=path,
            )
        self._check_crs(raster, where)
        corner = (raster.transform.c, raster.transform.f)
        if not raster.transform.is_identity and corner != (self.scene.ul_x_m, self.scene.ul_y_m):
            raise SceneError(f"{where} has its corner at {corner}, but MTD_TL.xml says {(self.scene.ul_x_m, self.scene.ul_y_m)}", path=path)
        if not raster.transform.is_identity and raster.res != (gsd_m, gsd_m):
            raise SceneError(f"{where} has pixels of {raster.res[0]:g} x {raster.res[1]:g} m; expected {gsd_m} m", path=path)

    def _check_crs(self, raster: rasterio.DatasetReader, where: str) -> None:
        if raster.crs is not None and raster.crs.to_epsg() not in (None, self.scene.epsg):
            raise SceneError(
                f"{where} is in EPSG:{raster.crs.to_epsg()}, but MTD_TL.xml says EPSG:{self.scene.epsg}", path=str(self.files.path)
            )

    def place_of(self, raster: rasterio.DatasetReader, where: str, gsd_m: int) -> Place:
        """Where an opened raster lies: the whole tile, or a part cut out along its pixels.

        Raises: SceneError if it lies off the tile's pixels or reaches beyond the tile.
        """
        scene = self.scene
        whole = Place(scene.ul_x_m, scene.ul_y_m, gsd_m, (scene.height_m // gsd_m, scene.width_m // gsd_m))
        if self.decimated and raster.shape != whole.shape_yx:
            pixel_m = scene.width_m / raster.width
            states_it = raster.transform.is_identity or (raster.res == (pixel_m, pixel_m) and self._starts_at_corner(raster))
            if scene.height_m / raster.height == pixel_m and states_it:
                self._check_crs(raster, where)
                return Place(scene.ul_x_m, scene.ul_y_m, pixel_m, raster.shape)
        if raster.transform.is_identity or raster.shape == whole.shape_yx:
            self._check_georeference(raster, where, gsd_m)
            return whole
        self._check_crs(raster, where)
        right_px, down_px = (raster.transform.c - scene.ul_x_m) / gsd_m, (scene.ul_y_m - raster.transform.f) / gsd_m
        height, width = raster.shape
        fits = min(right_px, down_px) >= 0 and right_px + width <= whole.shape_yx[1] and down_px + height <= whole.shape_yx[0]
        if raster.res != (gsd_m, gsd_m) or right_px % 1 or down_px % 1 or not fits:
            raise SceneError(
                f"{where} covers {height} x {width} pixels of {raster.res[0]:g} m from ({raster.transform.c:g}, {raster.transform.f:g}); "
                f"expected pixels of {gsd_m} m on the grid of tile {scene.tile_id}, whose corner is ({scene.ul_x_m}, {scene.ul_y_m})",
                path=str(self.files.path),
            )
        return Place(raster.transform.c, raster.transform.f, gsd_m, (height, width))

    def _starts_at_corner(self, raster: rasterio.DatasetReader) -> bool:
        return (raster.transform.c, raster.transform.f) == (self.scene.ul_x_m, self.scene.ul_y_m)


def _undecodable(where: str, band: str, error: RasterioError) -> SceneError:
    reason = str(error.__cause__ or error)
    return SceneError(f"{where} cannot be decoded ({reason}); the file is damaged, fetch the product again", band=band)


# --- reflectance ------------------------------------------------------------------------------------------


def surface_reflectance(counts: xr.DataArray, offset: float, quantification: float, nodata: int = NODATA_COUNTS) -> xr.DataArray:
    """Turn Sentinel-2 counts into reflectance.

    Dark water can come out slightly below zero. Those values are kept: clipping them would bias every mean
    computed later.

    Args:
        counts: (…, y, x) uint16.
        offset: ADD_OFFSET of the band, in counts, read from the product.
        quantification: counts per unit of reflectance.
        nodata: count that marks missing pixels.

    Returns: same shape, float32, unitless; no data is NaN.
    Raises: SceneError if the counts are not integers, so were scaled already.
    Source: Copernicus SentiWiki, S2 Products, radiometric offset.
    """
    if counts.dtype.kind != "u":
        raise SceneError(f"{counts.name or 'the band'} is {counts.dtype}, so it was scaled already; expected counts as uint16")
    physical = (counts.astype("float32") + np.float32(offset)) / np.float32(quantification)
    physical = physical.where(counts != nodata)
    physical.attrs = {"units": "1"}
    return physical


def harmonize(dataset: xr.Dataset, invalid: xr.DataArray | None = None) -> xr.Dataset:
    """Turn counts of any baseline into comparable reflectance: offset and scale, each applied once.

    Args:
        dataset: counts as ``open_dataset`` gives them, (y, x) uint16.
        invalid: (y, x) boolean on the same grid, true where reflectance shall be NaN, such as cloud.

    Returns: bands float32, unitless; AOT float32, unitless; WVP float32, cm; no data is NaN. SCL and probabilities stay.
    Raises: SceneError if the offset was applied before, or the values are no counts.
    Source: Copernicus SentiWiki, S2 Products, radiometric offset.
    """
    applied = [name for name, band in dataset.data_vars.items() if band.attrs.get("offset_applied", 0)]
    if dataset.attrs.get("offset_applied", 0) or applied:
        raise SceneError(
            f"{dataset.attrs.get('product', 'the dataset')} carries its offset already"
            f"{' in ' + ', '.join(map(str, applied)) if applied else ''}; expected counts with offset_applied 0, "
            "so only scale these, with to_reflectance",
            product=dataset.attrs.get("product"),
        )
    return to_reflectance(dataset, invalid)


def to_reflectance(dataset: xr.Dataset, invalid: xr.DataArray | None = None) -> xr.Dataset:
    """Do what is still to be done to make reflectance of counts: the offset unless they carry it, then the scale.

    Takes and returns what ``harmonize`` does, but takes counts whose offset was applied by who published them too.

    Raises: SceneError if the values are no counts, so were scaled already, or ``invalid`` lies on another grid.
    """
    if invalid is not None and (invalid.dims != ("y", "x") or any(not invalid[axis].equals(dataset[axis]) for axis in ("y", "x"))):
        raise SceneError(f"the mask is {dict(invalid.sizes)} on another grid; expected (y, x) as in the dataset, {dict(dataset.sizes)}")
    made = dataset.copy()
    for name, counts in dataset.data_vars.items():
        if "scale_factor" not in counts.attrs:
            if name in SENTINEL2_L1C.band_names:
                raise SceneError(
                    f"{name} states no scale_factor, so it was scaled already; expected counts as open_dataset gives them", band=name
                )
            continue
        scale, nodata = counts.attrs["scale_factor"], counts.attrs.get("nodata", NODATA_COUNTS)
        offset = 0.0 if counts.attrs.get("offset_applied", 0) else counts.attrs["add_offset"]
        physical = surface_reflectance(counts, round(offset / scale, 6), round(1 / scale, 6), nodata)
        if invalid is not None:
            physical = physical.where(~invalid)
        kept = {key: counts.attrs[key] for key in ("long_name", "units", "wavelength_nm", "gsd_m") if key in counts.attrs}
        physical.attrs = kept | ({"offset_applied": 1} if "offset_applied" in counts.attrs else {})
        made[name] = physical
    made.attrs = dataset.attrs | {"offset_applied": 1}
    return made


# --- opening ----------------------------------------------------------------------------------------------


def open_sentinel2(path: Path | str, tile: str | None = None) -> Sentinel2Product:
    """Open a Sentinel-2 product, L1C or L2A, from its SAFE folder or zip, and read its metadata.

    Args:
        path: the product's folder, or a zip with it inside; or the URL of either, ``s3://…`` or ``https://…``, with
            credentials from the environment.
        tile: MGRS name such as ``32TNM``, where a product from before December 2016 holds several.

    Raises: SceneError if it is damaged, incomplete, not a Sentinel-2 product, or holds several tiles and none is named.
    """
    url = as_url(path)
    if url is not None:
        remote = list_url(url)
        return Sentinel2Product(remote, read_scene(remote, tile))
    path = Path(path)
    if path.is_file() and path.suffix.lower() in (".xml", ".json"):
        raise SceneError(
            f"{path} is one file of a product; expected the product's folder or zip, so name the .SAFE folder it lies in", path=str(path)
        )
    files = list_files(path, marker=MARKERS)
    return Sentinel2Product(files, read_scene(files, tile))


def check_complete(product: Sentinel2Product) -> None:
    """See that a product can be cut into patches: level, bands, layers, sizes as its manifest says.

    Raises: SceneError naming what is wrong and what to do.
    """
    path, scene = product.files.path, product.scene
    if scene.level != "L2A":
        raise SceneError(
            f"{path} is Level-{scene.level[1:]} (top of atmosphere); expected Level-2A, so run sen2cor on it or fetch the L2A product",
            path=str(path),
        )
    missing = [name for name in (*SENTINEL2.band_names, *LAYERS) if name not in scene.bands]
    if missing:
        raise SceneError(
            f"{path} lacks {', '.join(missing)}; expected all twelve bands, SCL, MSK_CLDPRB and MSK_SNWPRB, so fetch the product again",
            path=str(path),
            missing=missing,
        )
    listed = listed_files(product.files)
    for name in (*SENTINEL2.band_names, *LAYERS):
        inside = scene.bands[name]
        stated, found = listed.get(inside), product.files.sizes[inside]
        if stated is not None and found < stated:
            raise SceneError(
                f"{path}: {inside} has {found} bytes, but {MANIFEST} says {stated}; the file is cut short, fetch the product again",
                path=str(path),
                file=inside,
            )


def check_contents(product: Sentinel2Product, threads: int = 1) -> None:
    """Hold the bands and layers to the checksums in the manifest, where it states any.

    A JPEG 2000 file with a few wrong bytes decodes without complaint to wrong pixels, so this is the only guard.

    Raises: SceneError naming the file whose contents differ.
    """
    stated = listed_checksums(product.files)

    def check(inside: str) -> None:
        algorithm, expected = stated[inside]
        if product.files.digest(inside, algorithm) != expected:
            raise SceneError(
                f"{product.files.path}: {inside} differs from its checksum in {MANIFEST}; the file is damaged, fetch the product again",
                path=str(product.files.path),
                file=inside,
            )

    with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:
        for _ in pool.map(check, [inside for inside in product.scene.bands.values() if inside in stated]):
            pass


def quality_problem(scene: Sentinel2Scene) -> str | None:
    """Why a product's own inspections forbid labels, or None."""
    failed: Mapping[str, str] = {name: scene.quality_checks[name] for name in scene.failed_checks}
    if not failed:
        return None
    return f"{scene.product}: {', '.join(f'{name} is {flag}' for name, flag in failed.items())}; expected PASSED"
