"""Sentinel-2 MSI: its bands, the twelve of surface reflectance first, the scene classification, product masks.

Stored counts are the product's own; scale and offset stand beside them in the manifest. Wavelengths are
those of Sentinel-2A as its products state them (Spectral_Information, baseline 05.09). Counts of 0 are
no data and 65535 is saturated; both are read from the product and only checked against these.
"""

from rsdata.sensors.band import Band, Sensor

# name, ground sampling distance (m), centre (nm), from (nm), to (nm), band_id in the product's XML
_TABLE = (
    ("B02", 10, 492.7, 456, 533, 1),
    ("B03", 10, 559.8, 538, 583, 2),
    ("B04", 10, 664.6, 646, 684, 3),
    ("B08", 10, 832.8, 760, 907, 7),
    ("B05", 20, 704.1, 695, 714, 4),
    ("B06", 20, 740.5, 731, 749, 5),
    ("B07", 20, 782.8, 769, 797, 6),
    ("B8A", 20, 864.7, 837, 881, 8),
    ("B11", 20, 1613.7, 1539, 1682, 11),
    ("B12", 20, 2202.4, 2078, 2320, 12),
    ("B01", 60, 442.7, 412, 456, 0),
    ("B09", 60, 945.1, 932, 958, 9),
)

SENTINEL2 = Sensor(
    "s2",
    "Sentinel-2",
    tuple(Band(name, gsd, "uint16", "counts", 0, centre, high - low, index) for name, gsd, centre, low, high, index in _TABLE),
)

# All thirteen bands as Level-1C products hold them, in the order of band_id: with the cirrus band B10, which Level-2A leaves out.
B10 = Band("B10", 60, "uint16", "counts", 0, 1373.5, 75, 10)
SENTINEL2_L1C = Sensor("s2_l1c", "Sentinel-2 L1C", tuple(sorted((*SENTINEL2.bands, B10), key=lambda band: band.product_index or 0)))
BAND_OF_INDEX = {band.product_index: band.name for band in SENTINEL2_L1C.bands}

MISSIONS = ("S2A", "S2B", "S2C", "S2D")
NODATA_COUNTS = 0
SATURATED_COUNTS = 65535
QUANTIFICATION = 10_000  # counts per unit of reflectance, in every baseline so far
OFFSET_COUNTS = -1_000  # BOA_ADD_OFFSET of baselines from 04.00 on, in every product so far

# Quality inspections that must read PASSED before a product may carry labels.
QUALITY_CHECKS = ("GENERAL_QUALITY", "GEOMETRIC_QUALITY", "RADIOMETRIC_QUALITY", "SENSOR_QUALITY")

# Scene classification of sen2cor (20 m), index to name as MTD_MSIL2A.xml lists them.
SCL_CLASSES: dict[int, str] = {
    0: "NODATA",
    1: "SATURATED_DEFECTIVE",
    2: "DARK_FEATURE_SHADOW",
    3: "CLOUD_SHADOW",
    4: "VEGETATION",
    5: "NOT_VEGETATED",
    6: "WATER",
    7: "UNCLASSIFIED",
    8: "CLOUD_MEDIUM_PROBA",
    9: "CLOUD_HIGH_PROBA",
    10: "THIN_CIRRUS",
    11: "SNOW_ICE",
}
SCL_CLOUD = (8, 9, 10)
SCL_SHADOW = (3,)
SCL_SNOW = (11,)
SCL_GSD_M = 20

# Flags of the raster masks from baseline 04.00 on, one raster band each, 1 where it holds.
# Source: Copernicus SentiWiki, S2 Products and S2 Processing, quality masks; Sentinel-2 PSD 14.9.
CLASSI_FLAGS = ("OPAQUE", "CIRRUS", "SNOW_ICE")  # MSK_CLASSI_B00, 60 m
QUALIT_FLAGS = (  # MSK_QUALIT_Bxx, on the band's own grid
    "ANC_LOST",  # ancillary data lost
    "ANC_DEG",  # ancillary data degraded
    "MSI_LOST",  # image data lost
    "MSI_DEG",  # image data degraded
    "QT_DEFECTIVE_PIXELS",
    "QT_NODATA_PIXELS",  # within the swath; pixels beside the swath are not flagged
    "QT_PARTIALLY_CORRECTED_PIXELS",
    "QT_SATURATED_PIXELS",
)
CLASSI_GSD_M = 60
