"""How much of a patch can be used, and whether it is kept.

Everything here measures or judges and changes no pixel. Each dropped patch has exactly one reason, the first of
``DROP_REASONS`` that applies.
"""

from rsdata.quality.duplicates import find_duplicates
from rsdata.quality.pixels import FLAGS, fingerprints, flagged_pixels, missing_fraction, saturated_pixels, share_per_patch
from rsdata.quality.registration import RELIABLE_SPREAD_PX, register
from rsdata.quality.sky import class_shares, mean_per_patch, sky_fractions
from rsdata.quality.verdict import judge

__all__ = [
    "FLAGS",
    "RELIABLE_SPREAD_PX",
    "class_shares",
    "find_duplicates",
    "fingerprints",
    "flagged_pixels",
    "judge",
    "mean_per_patch",
    "missing_fraction",
    "register",
    "saturated_pixels",
    "share_per_patch",
    "sky_fractions",
]
