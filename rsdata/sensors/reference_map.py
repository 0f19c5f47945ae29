"""The reference map: land cover codes on the 10 m grid, stored beside the pixels they describe."""

from rsdata.sensors.band import Band, Sensor

REFERENCE_MAP = Sensor("reference_map", "Reference map", (Band("Data", 10, "uint16", "CLC code", 999),))
NO_POLYGON = 999  # area that no label polygon covers
