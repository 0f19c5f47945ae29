"""Sentinel-1 C-SAR, interferometric wide swath, dual polarisation.

Backscatter is stored in decibel on the 10 m grid of the Sentinel-2 tile; missing pixels are NaN.
Source of the radar frequency (5.405 GHz): ESA, Sentinel-1 SAR technical guide.
"""

from rsdata.sensors.band import Band, Sensor

_WAVELENGTH_NM = 299_792_458 / 5.405e9 * 1e9


def _band(name: str) -> Band:
    return Band(name, 10, "float32", "dB", float("nan"), wavelength_nm=_WAVELENGTH_NM)


SENTINEL1 = Sensor("s1", "Sentinel-1", (_band("VH"), _band("VV")))
MISSIONS = ("S1A", "S1B", "S1C", "S1D")
