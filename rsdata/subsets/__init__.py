"""Tools that datasets are judged by: label noise, few and nested patches, clients of a federation, strata, pruning.

Each gives a manifest over patches and touches no pixel. Patches are put in the order of their ids before anything is
drawn, so the order of rows in a table decides nothing.
"""

from rsdata.subsets.clients import PARTITIONS, Division, Partition, Settings, divide
from rsdata.subsets.noise import NOISES, Noise, inject
from rsdata.subsets.patches import Patches
from rsdata.subsets.picture import draw_shares
from rsdata.subsets.pruning import FREE, Near, far_apart, near_duplicates, unit_vectors
from rsdata.subsets.shots import few_shot, nested, stratify
from rsdata.subsets.strata import main_themes, sample, strata

__all__ = [
    "FREE",
    "NOISES",
    "PARTITIONS",
    "Division",
    "Near",
    "Noise",
    "Partition",
    "Patches",
    "Settings",
    "divide",
    "draw_shares",
    "far_apart",
    "few_shot",
    "inject",
    "main_themes",
    "near_duplicates",
    "nested",
    "sample",
    "strata",
    "stratify",
    "unit_vectors",
]
