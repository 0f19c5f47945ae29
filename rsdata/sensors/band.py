"""What a band and a sensor are."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Band:
    """One band as it lies in a shard."""

    name: str
    gsd_m: int  # ground sampling distance, metres
    dtype: str  # numpy name of the stored type
    unit: str  # of the stored values
    nodata: float | None  # stored value that marks missing data; NaN is given as float("nan")
    wavelength_nm: float | None = None  # centre
    bandwidth_nm: float | None = None  # full width
    product_index: int | None = None  # ``band_id`` in the product's XML

    def pixels(self, side_m: int) -> int:
        """Pixels along a square side of ``side_m`` metres."""
        return side_m // self.gsd_m


@dataclass(frozen=True)
class Sensor:
    """The bands one instrument contributes, in the order shards and manifests list them."""

    name: str
    title: str
    bands: tuple[Band, ...]

    def __getitem__(self, band: str) -> Band:
        for candidate in self.bands:
            if candidate.name == band:
                return candidate
        raise KeyError(f"{self.title} has no band {band!r}, only {', '.join(self.band_names)}")

    @property
    def band_names(self) -> tuple[str, ...]:
        return tuple(band.name for band in self.bands)
