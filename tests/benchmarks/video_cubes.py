"""Cubes for the video benchmark: real series at native resolution, and larger ones made from real pixels."""

from pathlib import Path

import numpy as np
import rasterio
import xarray as xr

DATA = Path(__file__).parents[3] / "shared" / "data"
SERIES = DATA / "timeseries"
CLEAR, CLOUDY = "199U_1099R", "0U_199R"
BANDS_10M = ("B02", "B03", "B04", "B08")
BANDS_20M = ("B05", "B06", "B07", "B8A", "B11", "B12")
BANDS_60M = ("B01", "B09")

Cube = list[np.ndarray]  # one (time, band, y, x) per resolution


def real() -> dict[str, Cube]:
    """Series of real dates, small; the 20 m bands of the first come as copies on 10 m and are taken back."""
    cubes: dict[str, Cube] = {}
    with xr.open_dataset(SERIES / "worldcereal_belgium_s1_s2_monthly_12x100x100_10m.nc") as data:
        bands = {name[-3:]: data[name].values for name in data if str(name).startswith("S2-L2A-")}
    kept = [month for month in range(12) if not (bands["B02"][month] == 65_535).all()]
    fine = np.stack([bands[name][kept] for name in BANDS_10M], 1)
    coarse = np.stack([bands[name][kept, ::2, ::2] for name in ("B05", "B06", "B07", "B11", "B12")], 1)
    cubes["nine bands, 10 months"] = [fine, coarse]
    with xr.open_dataset(SERIES / "gfmap_belgium_s2_l2a_19x52x46_10m.nc") as data:
        cubes["four bands, 19 dates"] = [np.stack([data[f"S2-L2A-{name}"].values for name in BANDS_10M], 1)]
    cubes["rgb, 19 dates"] = [cubes["four bands, 19 dates"][0][:, :3]]
    with xr.open_dataset(SERIES / "s2_l2a_33TWM_5dates_120m.nc") as data:
        cubes["four bands, 5 dates"] = [data["reflectance_dn"].values]
    cubes["rgb, 5 dates"] = [cubes["four bands, 5 dates"][0][:, :3]]
    scenes = np.load(SERIES / "eolearn_slovenia_s2_l1c.npz")
    cubes["ndvi, 68 dates"] = [scenes["ndvi_i16"][:, None]]
    return cubes


def mirrored(cube: Cube, times: int = 3) -> Cube:
    """A larger cube of the same texture: each frame and its mirror images side by side."""
    return [np.pad(part, ((0, 0), (0, 0), *(((0, (times - 1) * side)) for side in part.shape[2:])), mode="symmetric") for part in cube]


def major_tom(name: str, bands: tuple[str, ...]) -> np.ndarray:
    """(band, y, x) of one Major TOM scene piece."""
    (folder,) = (path.parent for path in (DATA / "major_tom_core").rglob("B02.tif") if name in str(path))
    return np.stack([rasterio.open(folder / f"{band}.tif").read(1) for band in bands])


def generated(dates: int = 24, side_px: int = 264, seed: int = 0) -> Cube:
    """Twelve bands through two years, from the pixels of one clear scene: seasons, haze, drift of a tenth of a pixel,
    sensor noise, and on every third date real clouds of the other scene."""
    rng = np.random.default_rng(seed)
    cloud_share = _smooth(rng, dates, side_px // 6)
    index = major_tom(CLEAR, ("B04", "B08")).astype(np.float64)
    green = ((index[1] - index[0]) / (index[1] + index[0] + 1))[:side_px, :side_px].clip(0, 1)
    parts = []
    for bands, factor in ((BANDS_10M, 1), (BANDS_20M, 2), (BANDS_60M, 6)):
        side = side_px // factor
        clear = major_tom(CLEAR, bands)[:, : side + 1, : side + 1].astype(np.float64)
        cloud = major_tom(CLOUDY, bands)[:, :side, :side].astype(np.float64)
        plants = green.reshape(side, factor, side, factor).mean(axis=(1, 3))
        frames = []
        for date in range(dates):
            season = np.sin(2 * np.pi * date / 12)
            x, y = rng.uniform(0, 0.1, 2)
            scene = (1 - x) * (1 - y) * clear[:, :side, :side] + x * clear[:, :side, 1:] + y * (1 - x) * clear[:, 1:, :side]
            for at, band in enumerate(bands):
                grows = {"B08": 0.35, "B8A": 0.35, "B07": 0.3, "B06": 0.25, "B04": -0.3, "B12": -0.2, "B11": -0.1}.get(band, -0.1)
                scene[at] *= 1 + grows * season * plants
            scene = scene * rng.normal(1, 0.02) + rng.uniform(0, 60) * np.linspace(1, 0.2, len(bands))[:, None, None]
            if date % 3 == 1:
                share = np.kron(cloud_share[date], np.ones((6 // factor,) * 2))
                scene = share * cloud + (1 - share) * scene
            scene += rng.normal(0, 1, scene.shape) * (6 + 0.006 * scene)
            frames.append(scene)
        parts.append(np.clip(np.rint(frames), 1, 65_535).astype(np.uint16))
    return parts


def _smooth(rng: np.random.Generator, dates: int, side: int) -> np.ndarray:
    """(time, y, x) shares of cloud, soft blobs that cover about a third."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(rng.normal(size=(dates, side, side)), (0, 5, 5))
    noise /= noise.std()
    return np.clip((noise - 0.3) * 2, 0, 1)
