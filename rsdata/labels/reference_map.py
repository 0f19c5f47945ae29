"""From codes to the labels of each patch: by counting the pixels of a reference map, or from exact shares.

A patch's labels are all classes present, without a smallest area.
"""

from dataclasses import dataclass

import numpy as np

from rsdata.labels.layer import CodeShares
from rsdata.labels.nomenclature import Nomenclature

_ROUNDING = 1e-10  # exact share up to which a class is not there: 1.4 square centimetres of a patch


@dataclass(frozen=True)
class PatchLabels:
    """Labels of many patches, in the order the patches were given."""

    labels: list[list[str]]  # class names, sorted
    fractions: list[dict[str, float]]  # class name to share of the patch's area
    unlabeled: np.ndarray  # (n,) float64, share of the area without a class


def label_patches(codes: np.ndarray, nomenclature: Nomenclature) -> PatchLabels:
    """Count classes per patch.

    Args:
        codes: (n, y, x) uint16 reference maps.
        nomenclature: which code means which class.
    """
    unlabeled = len(nomenclature.classes)
    index_of_code = np.full(2**16, unlabeled, np.uint16)
    for each in nomenclature.classes:
        index_of_code[each.codes] = each.index
    counts = np.empty((len(codes), unlabeled + 1), np.int64)
    for i, patch in enumerate(codes):
        counts[i] = np.bincount(index_of_code[patch].ravel(), minlength=unlabeled + 1)
    return _labels(counts / max(1, codes[0].size if len(codes) else 1), nomenclature)


def label_shares(found: CodeShares, nomenclature: Nomenclature) -> PatchLabels:
    """Add up exact shares per class; a class is present if its share is more than rounding."""
    index_of_code = {code: each.index for each in nomenclature.classes for code in each.codes}
    shares = np.zeros((len(found.shares), len(nomenclature.classes) + 1))
    for column, code in enumerate(found.codes.tolist()):
        shares[:, index_of_code.get(code, -1)] += found.shares[:, column]
    shares[shares <= _ROUNDING] = 0
    return _labels(shares, nomenclature)


def _labels(shares: np.ndarray, nomenclature: Nomenclature) -> PatchLabels:
    """Args: shares: (n, classes + 1) by class index; last the share without a class."""
    names = [each.name for each in nomenclature.classes]
    fractions = [dict(sorted((names[k], float(row[k])) for k in np.flatnonzero(row[:-1]))) for row in shares]
    return PatchLabels([list(patch) for patch in fractions], fractions, shares[:, -1])
