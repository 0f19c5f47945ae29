"""Time series: which dates of a place are taken, which of their pixels are valid, and what composites are made of them.

Nothing here reads or writes: dates come as rows of the patch table, pixels as arrays (time, band, y, x), one per native
resolution. Nothing is resampled; the scene classification of 20 m is looked up for the pixels of other sizes.
"""

from rsdata.series.choosing import LEFT_OUT_REASONS, Choice, Seen, Slot, choose_frames
from rsdata.series.cubes import GROUPS, Group, Observed, frame_rows, made_frames, shifted_counts, valid_frames

__all__ = [
    "GROUPS",
    "LEFT_OUT_REASONS",
    "Choice",
    "Group",
    "Observed",
    "Seen",
    "Slot",
    "choose_frames",
    "frame_rows",
    "made_frames",
    "shifted_counts",
    "valid_frames",
]
