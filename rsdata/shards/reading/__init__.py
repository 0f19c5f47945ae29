"""From stored patches to a batch of pixels, in one pass over memory.

A store says where its pixels lie (``pieces``); a plan converts, resamples, normalises and scatters them into a batch
with compiled code. A store that cannot say is read key by key and gives the same batch.
"""

from rsdata.shards.reading.batches import RESAMPLINGS, SYMMETRIES, BatchPlan, Resampling
from rsdata.shards.reading.pieces import Headers, Layout, Piece, PieceStore, Plane, pieces_of, pieces_of_arrays, pieces_of_values

__all__ = [
    "RESAMPLINGS",
    "SYMMETRIES",
    "BatchPlan",
    "Headers",
    "Layout",
    "Piece",
    "PieceStore",
    "Plane",
    "Resampling",
    "pieces_of",
    "pieces_of_arrays",
    "pieces_of_values",
]
