"""Facts about each sensor: its bands in storage order, their ground sampling distance, wavelength and unit.

A sensor is one module with one frozen ``Sensor``; nothing here reads a file. Whoever needs a band asks by
name, so the order in a shard is a fact stated once and never a position in somebody's code.
"""

from rsdata.sensors.band import Band, Sensor
from rsdata.sensors.reference_map import REFERENCE_MAP
from rsdata.sensors.sentinel1 import SENTINEL1
from rsdata.sensors.sentinel2 import SENTINEL2

SENSORS: dict[str, Sensor] = {sensor.name: sensor for sensor in (SENTINEL2, SENTINEL1, REFERENCE_MAP)}

__all__ = ["REFERENCE_MAP", "SENSORS", "SENTINEL1", "SENTINEL2", "Band", "Sensor"]
