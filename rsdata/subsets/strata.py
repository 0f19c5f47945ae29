"""Strata, such as climate by theme, and the same share, or the same number, of the patches of each."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from rsdata.errors import SubsetError
from rsdata.subsets.patches import Groups, Patches, rounded
from rsdata.subsets.shots import Within

NO_THEME = "no theme"


def main_themes(patches: Patches, theme_of: Mapping[str, str]) -> Groups:
    """The theme that most of each patch is of, (n,).

    By area where the table has ``label_fractions``, else by the number of the patch's classes. Of equal ones, that which comes first in
    ``theme_of``. A patch without a class has ``NO_THEME``.

    Args: theme_of: class to theme, in the themes' order.
    Raises: SubsetError if a class has no theme.
    """
    if unknown := [name for name in patches.classes if name not in theme_of]:
        raise SubsetError(f"no theme is known of {', '.join(unknown)}; name the nomenclature that the labels are of", classes=unknown)
    themes = list(dict.fromkeys(theme_of.values()))
    theme = np.array([themes.index(theme_of[name]) for name in patches.classes], np.int64)
    weights = patches.labels.astype(np.float64)
    if "label_fractions" in patches.table:
        for row, fractions in enumerate(patches.table["label_fractions"]):
            weights[row] = [(fractions or {}).get(name, 0.0) for name in patches.classes]
    sums = np.stack([weights[:, theme == index].sum(axis=1) for index in range(len(themes))], axis=1)
    return np.where(sums.sum(axis=1) > 0, np.array(themes, object)[sums.argmax(axis=1)], NO_THEME)


def strata(groups: Sequence[Groups]) -> Groups:
    """Every combination as one name, (n,): ``Cfb × Wetlands``."""
    return np.array([" × ".join(each) for each in zip(*groups, strict=True)], object)


def sample(stratum: Groups, sizes: Sequence[float], seed: int) -> Within:
    """Draw from every stratum, each size inside the next.

    A size of at most 1 is a share: round(share * n) of the n patches of each stratum, but one at least. A larger size is a
    number of patches of each stratum, or all where it has fewer.

    Returns: (n,) the smallest size that holds each patch; NaN where none does.
    Raises: SubsetError if sizes are of both sorts, or none.
    """
    shares = [0 < size <= 1 for size in sizes]
    if not sizes or not (all(shares) or all(size > 1 and float(size).is_integer() for size in sizes)):
        raise SubsetError(
            f"{', '.join(f'{each:g}' for each in sizes) or 'nothing'} are no sizes; expected shares above 0 and at most 1, "
            "or whole numbers of patches above 1"
        )
    random = np.random.default_rng(seed)
    within = np.full(len(stratum), np.nan)
    for rows in pd.Series(range(len(stratum))).groupby(stratum, sort=True):
        order = random.permutation(rows[1].to_numpy())
        for size in sorted(set(sizes), reverse=True):
            within[order[: max(1, rounded(size, len(order))) if size <= 1 else int(size)]] = size
    return within
