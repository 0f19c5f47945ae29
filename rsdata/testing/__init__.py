"""Synthetic scenes, and the suites every member of a family is held to."""

from rsdata.testing.ground import Ground, countries_around, write_layer
from rsdata.testing.painting import Optical, Painter
from rsdata.testing.safe import QUALITY_PASSED, product_name, write_jp2, write_l2a_safe
from rsdata.testing.safe_l1c import L1C_BANDS, write_l1c_safe
from rsdata.testing.sen2cor import write_stand_in
from rsdata.testing.sentinel1 import write_s1_pair
from rsdata.testing.synthetic import SyntheticInputs, synthesize

__all__ = [
    "L1C_BANDS",
    "QUALITY_PASSED",
    "Ground",
    "Optical",
    "Painter",
    "SyntheticInputs",
    "countries_around",
    "product_name",
    "synthesize",
    "write_jp2",
    "write_l1c_safe",
    "write_l2a_safe",
    "write_layer",
    "write_s1_pair",
    "write_stand_in",
]
