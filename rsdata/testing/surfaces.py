"""How each land cover looks: reflectance by band and season, texture, backscatter, and where in a landscape it lies.

A surface is a blend of a green and a dormant state; the day of the year, the field and the noise decide how
green a pixel is. Numbers are typical of Central Europe, read off published spectra by eye: right in kind, not
measured.
"""

import math
from dataclasses import dataclass

import numpy as np

# Order of the spectra below.
BAND_ORDER = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")

# Surface reflectance, unitless.
_MATERIALS: dict[str, tuple[float, ...]] = {
    "sea": (0.045, 0.040, 0.026, 0.010, 0.007, 0.005, 0.004, 0.003, 0.002, 0.002, 0.001, 0.000),
    "lake": (0.034, 0.034, 0.036, 0.020, 0.017, 0.010, 0.009, 0.008, 0.006, 0.006, 0.003, 0.002),
    "turbid": (0.055, 0.066, 0.086, 0.070, 0.062, 0.038, 0.036, 0.030, 0.024, 0.020, 0.008, 0.005),
    "soil": (0.070, 0.085, 0.112, 0.145, 0.160, 0.175, 0.188, 0.205, 0.220, 0.225, 0.295, 0.255),
    "stubble": (0.085, 0.105, 0.150, 0.195, 0.220, 0.245, 0.260, 0.285, 0.300, 0.300, 0.370, 0.290),
    "crop": (0.018, 0.028, 0.066, 0.028, 0.095, 0.340, 0.440, 0.470, 0.490, 0.490, 0.190, 0.080),
    "grass": (0.024, 0.034, 0.076, 0.046, 0.120, 0.270, 0.320, 0.340, 0.360, 0.360, 0.230, 0.125),
    "hay": (0.050, 0.062, 0.096, 0.108, 0.150, 0.205, 0.225, 0.245, 0.265, 0.270, 0.300, 0.195),
    "broadleaf": (0.016, 0.021, 0.046, 0.021, 0.078, 0.260, 0.335, 0.355, 0.375, 0.375, 0.155, 0.065),
    "twigs": (0.032, 0.038, 0.052, 0.060, 0.082, 0.112, 0.128, 0.142, 0.158, 0.162, 0.185, 0.120),
    "conifer": (0.012, 0.015, 0.028, 0.017, 0.042, 0.110, 0.135, 0.150, 0.160, 0.160, 0.072, 0.031),
    "shrub": (0.022, 0.028, 0.052, 0.042, 0.085, 0.185, 0.220, 0.235, 0.250, 0.250, 0.175, 0.095),
    "heath": (0.030, 0.036, 0.052, 0.062, 0.088, 0.135, 0.152, 0.168, 0.182, 0.186, 0.195, 0.120),
    "reed": (0.024, 0.032, 0.056, 0.048, 0.085, 0.165, 0.190, 0.205, 0.215, 0.210, 0.105, 0.050),
    "peat": (0.026, 0.031, 0.044, 0.052, 0.072, 0.110, 0.125, 0.138, 0.148, 0.148, 0.115, 0.062),
    "saltmarsh": (0.048, 0.058, 0.080, 0.084, 0.110, 0.160, 0.178, 0.190, 0.198, 0.198, 0.150, 0.098),
    "roofs": (0.110, 0.122, 0.136, 0.156, 0.168, 0.182, 0.190, 0.205, 0.212, 0.212, 0.225, 0.205),
    "asphalt": (0.090, 0.096, 0.104, 0.110, 0.116, 0.122, 0.126, 0.132, 0.138, 0.138, 0.150, 0.142),
    "halls": (0.210, 0.225, 0.240, 0.250, 0.255, 0.262, 0.266, 0.275, 0.280, 0.280, 0.270, 0.250),
    "sand": (0.160, 0.195, 0.255, 0.310, 0.330, 0.345, 0.360, 0.380, 0.395, 0.395, 0.460, 0.415),
    "rock": (0.115, 0.125, 0.145, 0.160, 0.168, 0.176, 0.182, 0.192, 0.198, 0.198, 0.228, 0.208),
    "snow": (0.880, 0.900, 0.900, 0.890, 0.880, 0.860, 0.840, 0.820, 0.800, 0.780, 0.120, 0.100),
    "cloud": (0.560, 0.545, 0.535, 0.530, 0.535, 0.545, 0.550, 0.560, 0.565, 0.480, 0.410, 0.310),
}  # fmt: skip


@dataclass(frozen=True)
class Surface:
    """One land cover code, or the ground that no polygon covers."""

    code: int  # CORINE level 3; 0 stands for no polygon
    weight: float  # how common it is
    niche: tuple[float | None, float | None, float | None]  # elevation, cultivation, wetness, each 0 to 1; None: anywhere
    green: dict[str, float]  # materials and their shares
    dormant: dict[str, float]
    greenness: tuple[float, float]  # out of season, in season
    peak_day: float = 165  # of the year, northern hemisphere
    season_days: float = 55  # standard deviation of the season
    field_m: tuple[float, float] = (0, 0)  # length and width of its fields or buildings, metres; 0: none
    field_green: float = 0.0  # how much greenness differs between fields
    field_bright: float = 0.0  # how much brightness differs between fields, share
    grain: tuple[float, float, float] = (0.03, 0.03, 0.03)  # brightness at grains of 20, 60 and 240 m, share
    patchy: float = 0.06  # how much greenness differs over 240 and 960 m
    vv_db: float = -11.0
    vh_db: float = -17.5
    winter_db: float = 0.0  # added to both when greenness is lowest
    field_db: float = 0.0  # how much backscatter differs between fields
    water: bool = False


SURFACES: tuple[Surface, ...] = (
    Surface(0, 0.8, (None, None, None), {"grass": 0.6, "roofs": 0.4}, {"hay": 0.5, "soil": 0.5}, (0.3, 0.6), patchy=0.2),
    # Towns
    Surface(111, 0.7, (0.40, 0.98, None), {"roofs": 0.7, "asphalt": 0.25, "broadleaf": 0.05}, {"roofs": 0.75, "asphalt": 0.25},
            (0.2, 0.5), field_m=(60, 40), field_bright=0.30, grain=(0.12, 0.08, 0.04), vv_db=-4.5, vh_db=-11.0, field_db=2.5),
    Surface(112, 2.0, (0.42, 0.88, None), {"roofs": 0.45, "grass": 0.25, "broadleaf": 0.3}, {"roofs": 0.6, "asphalt": 0.15, "twigs": 0.25},
            (0.2, 0.8), field_m=(50, 40), field_green=0.45, field_bright=0.24, grain=(0.10, 0.06, 0.04),
            vv_db=-6.5, vh_db=-13.0, field_db=2.0),
    Surface(121, 1.3, (0.38, 0.93, 0.30), {"halls": 0.6, "asphalt": 0.4}, {"halls": 0.55, "asphalt": 0.45},
            (0.4, 0.5), field_m=(190, 110), field_bright=0.36, grain=(0.08, 0.05, 0.03), vv_db=-4.0, vh_db=-12.5, field_db=3.0),
    Surface(124, 0.1, (0.35, 0.85, 0.30), {"grass": 0.6, "asphalt": 0.4}, {"asphalt": 1.0}, (0.4, 0.8), field_m=(900, 90), field_green=0.5,
            vv_db=-13.0, vh_db=-21.0),
    Surface(131, 0.25, (0.60, 0.75, 0.25), {"rock": 0.7, "sand": 0.3}, {"rock": 0.6, "soil": 0.4}, (0.4, 0.6), field_m=(260, 160),
            field_bright=0.25, vv_db=-9.0, vh_db=-17.0),
    Surface(142, 0.15, (0.45, 0.90, 0.60), {"grass": 0.7, "broadleaf": 0.3}, {"hay": 0.8, "twigs": 0.2}, (0.35, 0.95), field_m=(240, 100),
            field_green=0.15, vv_db=-11.0, vh_db=-17.5),
    # Fields
    Surface(211, 5.0, (0.42, 0.62, 0.42), {"crop": 1.0}, {"soil": 0.8, "stubble": 0.2}, (0.10, 0.78), peak_day=145, season_days=38,
            field_m=(420, 190), field_green=0.42, field_bright=0.10, grain=(0.02, 0.03, 0.03), vv_db=-10.5, vh_db=-17.5, winter_db=-1.0,
            field_db=1.8),
    Surface(213, 0.3, (0.26, 0.60, 0.70), {"crop": 0.8, "turbid": 0.2}, {"turbid": 0.6, "soil": 0.4}, (0.05, 0.85), peak_day=205,
            season_days=32, field_m=(260, 130), field_green=0.25, vv_db=-13.0, vh_db=-20.0, winter_db=-2.0, field_db=1.5),
    Surface(221, 1.2, (0.52, 0.62, 0.08), {"crop": 0.30, "stubble": 0.50, "soil": 0.2}, {"stubble": 0.75, "twigs": 0.25}, (0.1, 0.8),
            peak_day=195, field_m=(120, 50), field_green=0.30, field_bright=0.16, grain=(0.08, 0.03, 0.02),
            vv_db=-10.0, vh_db=-17.0, field_db=1.0),
    Surface(222, 0.9, (0.38, 0.66, 0.18), {"broadleaf": 0.5, "grass": 0.3, "stubble": 0.2}, {"twigs": 0.5, "stubble": 0.5}, (0.15, 0.85),
            peak_day=175, field_m=(150, 70), field_green=0.25, field_bright=0.12, grain=(0.10, 0.04, 0.02), vv_db=-9.5, vh_db=-15.5),
    Surface(231, 3.2, (0.50, 0.50, 0.68), {"grass": 1.0}, {"hay": 1.0}, (0.40, 0.95), peak_day=150, season_days=70, field_m=(260, 160),
            field_green=0.16, field_bright=0.05, grain=(0.02, 0.02, 0.03), vv_db=-12.0, vh_db=-19.5),
    Surface(242, 2.4, (0.46, 0.72, 0.52), {"crop": 0.6, "grass": 0.4}, {"soil": 0.6, "roofs": 0.15, "hay": 0.25}, (0.2, 0.7), peak_day=160,
            field_m=(130, 55), field_green=0.50, field_bright=0.16, grain=(0.06, 0.04, 0.03), vv_db=-10.0, vh_db=-16.5, field_db=1.8),
    Surface(243, 2.0, (0.57, 0.44, 0.46), {"crop": 0.35, "broadleaf": 0.4, "grass": 0.25}, {"soil": 0.4, "twigs": 0.35, "hay": 0.25},
            (0.2, 0.75), field_m=(200, 140), field_green=0.35, field_bright=0.10, grain=(0.06, 0.10, 0.08), patchy=0.16, vv_db=-10.3,
            vh_db=-16.0, field_db=1.2),
    Surface(244, 0.8, (0.48, 0.40, 0.12), {"hay": 0.55, "broadleaf": 0.45}, {"hay": 0.75, "twigs": 0.25}, (0.3, 0.7), peak_day=120,
            grain=(0.18, 0.10, 0.03), vv_db=-11.0, vh_db=-17.0),
    # Forests and open land
    Surface(311, 3.2, (0.56, 0.24, 0.56), {"broadleaf": 1.0}, {"twigs": 1.0}, (0.05, 1.0), peak_day=180, season_days=58,
            grain=(0.07, 0.06, 0.04), patchy=0.05, vv_db=-10.0, vh_db=-14.5, winter_db=-0.6),
    Surface(312, 3.4, (0.82, 0.22, 0.52), {"conifer": 1.0}, {"conifer": 0.85, "twigs": 0.15}, (0.5, 1.0), grain=(0.09, 0.08, 0.05),
            patchy=0.10, vv_db=-10.8, vh_db=-15.3),
    Surface(313, 2.4, (0.69, 0.22, 0.60), {"conifer": 0.5, "broadleaf": 0.5}, {"conifer": 0.5, "twigs": 0.5}, (0.1, 0.95), season_days=58,
            peak_day=180, grain=(0.12, 0.14, 0.08), patchy=0.18, vv_db=-10.4, vh_db=-14.9),
    Surface(321, 1.4, (0.92, 0.22, 0.34), {"grass": 0.55, "hay": 0.45}, {"hay": 0.8, "rock": 0.2}, (0.15, 0.75), peak_day=170, patchy=0.14,
            grain=(0.03, 0.05, 0.08), vv_db=-12.8, vh_db=-20.0),
    Surface(322, 1.3, (0.74, 0.12, 0.82), {"heath": 0.75, "shrub": 0.25}, {"heath": 0.8, "peat": 0.2}, (0.3, 0.8), peak_day=210,
            patchy=0.10, grain=(0.05, 0.08, 0.08), vv_db=-12.0, vh_db=-18.0),
    Surface(324, 2.2, (0.62, 0.30, 0.32), {"shrub": 0.8, "broadleaf": 0.2}, {"hay": 0.45, "twigs": 0.55}, (0.2, 0.85), patchy=0.20,
            grain=(0.12, 0.14, 0.06), vv_db=-11.2, vh_db=-16.6),
    Surface(332, 0.25, (0.99, 0.10, 0.40), {"rock": 1.0}, {"rock": 1.0}, (0.5, 0.5), grain=(0.10, 0.10, 0.10), vv_db=-9.5, vh_db=-18.0),
    Surface(333, 0.5, (0.95, 0.10, 0.12), {"rock": 0.6, "grass": 0.4}, {"rock": 0.75, "hay": 0.25}, (0.2, 0.7), grain=(0.08, 0.10, 0.10),
            patchy=0.2, vv_db=-11.0, vh_db=-18.5),
    # Coast and wetlands
    Surface(331, 0.55, (0.15, 0.30, 0.15), {"sand": 0.95, "heath": 0.05}, {"sand": 1.0}, (0.3, 0.7), grain=(0.03, 0.06, 0.08), vv_db=-14.5,
            vh_db=-23.0),
    Surface(411, 1.0, (0.25, 0.30, 0.88), {"reed": 0.85, "lake": 0.15}, {"reed": 0.35, "hay": 0.35, "lake": 0.3}, (0.15, 0.9), patchy=0.20,
            grain=(0.05, 0.10, 0.08), vv_db=-9.5, vh_db=-16.5),
    Surface(412, 0.8, (0.80, 0.12, 0.96), {"peat": 0.8, "reed": 0.2}, {"peat": 0.9, "lake": 0.1}, (0.3, 0.8), patchy=0.15,
            grain=(0.04, 0.10, 0.10), vv_db=-11.5, vh_db=-18.8),
    Surface(421, 0.9, (0.14, 0.35, 0.85), {"saltmarsh": 0.8, "reed": 0.2}, {"saltmarsh": 0.7, "turbid": 0.3}, (0.2, 0.8), patchy=0.20,
            grain=(0.04, 0.10, 0.10), vv_db=-12.5, vh_db=-20.5),
    # Waters
    Surface(511, 0.5, (0.28, 0.55, 0.80), {"turbid": 0.7, "lake": 0.3}, {"turbid": 0.8, "lake": 0.2}, (0.4, 0.6), grain=(0.02, 0.02, 0.08),
            vv_db=-18.5, vh_db=-25.5, water=True),
    Surface(512, 1.6, (0.32, 0.40, 0.92), {"lake": 1.0}, {"lake": 1.0}, (0.5, 0.5), grain=(0.02, 0.02, 0.06), vv_db=-20.5, vh_db=-27.0,
            water=True),
    Surface(523, 2.2, (-0.05, None, None), {"sea": 1.0}, {"sea": 1.0}, (0.5, 0.5), grain=(0.02, 0.03, 0.05), vv_db=-16.0, vh_db=-25.0,
            water=True),
)  # fmt: skip


def spectrum(materials: dict[str, float]) -> np.ndarray:
    """Reflectance of a mixture in the order of ``BAND_ORDER``, (12,) float32."""
    return sum((share * np.array(_MATERIALS[name]) for name, share in materials.items()), np.zeros(12)).astype(np.float32)


def greenness(surface: Surface, day_of_year: int, south: bool) -> float:
    """How green a surface is on average on a day, 0 to 1; seasons are half a year apart between the hemispheres."""
    peak = surface.peak_day + (182.6 if south else 0)
    apart = (day_of_year - peak + 182.6) % 365.25 - 182.6
    low, high = surface.greenness
    return low + (high - low) * math.exp(-0.5 * (apart / surface.season_days) ** 2)
