"""Keep or drop, with the reason; thresholds come from the recipe."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from rsdata.recipe import Quality
from rsdata.records import DROP_REASONS, DropReason


def judge(
    patches: pd.DataFrame,
    *,
    thresholds: Quality,
    max_unlabeled_fraction: float,
    s1_missing_fraction: np.ndarray | None,
    require_s1: bool,
    product_refused: bool,
    shift_px: np.ndarray | None = None,
) -> pd.DataFrame:
    """Keep or drop each patch; the first reason of ``DROP_REASONS`` that applies is the one recorded.

    Only what one scene tells is judged here; reasons that need the whole table come later.

    Args:
        patches: fractions per patch: no-data, defective, saturated, unlabelled, cloud, shadow, snow. NaN, as where a
            product has no masks, exceeds no threshold.
        s1_missing_fraction: (n,) share of missing Sentinel-1 pixels, None if there is no Sentinel-1 scene.
        product_refused: whether the product failed one of its own quality inspections.
        shift_px: (n,) how far Sentinel-1 lies off, in pixels of 10 m; NaN where that is not known.

    Returns: ``contains_cloud_or_shadow``, ``contains_seasonal_snow``, ``kept``, ``drop_reason``.
    """
    never = np.zeros(len(patches), bool)
    clouded = (patches["cloud_fraction"] + patches["shadow_fraction"]).to_numpy()
    snow = patches["snow_fraction"].to_numpy()
    max_shift_px = thresholds.max_coregistration_shift_px
    applies: Mapping[DropReason, np.ndarray] = {
        "product_quality": ~never if product_refused else never,
        "nodata": patches["nodata_fraction"].to_numpy() > 0,
        "defective": patches["defective_fraction"].to_numpy(float) > thresholds.max_defective_fraction,
        "saturated": patches["saturated_fraction"].to_numpy() > thresholds.max_saturated_fraction,
        "unlabeled": patches["unlabeled_fraction"].to_numpy() >= max_unlabeled_fraction,
        "cloud_or_shadow": clouded > thresholds.max_cloud_or_shadow_fraction,
        "snow": snow > thresholds.max_snow_fraction,
        "no_s1": ~never if require_s1 and s1_missing_fraction is None else never,
        "s1_nodata": s1_missing_fraction > 0 if s1_missing_fraction is not None and require_s1 else never,
        "coregistration": shift_px > max_shift_px if shift_px is not None and max_shift_px is not None else never,
    }
    reason = np.full(len(patches), None, object)
    for name in reversed([name for name in DROP_REASONS if name in applies]):
        reason[applies[name]] = name
    return pd.DataFrame(
        {
            "contains_cloud_or_shadow": clouded > thresholds.contains_fraction,
            "contains_seasonal_snow": snow > thresholds.contains_fraction,
            "kept": pd.isna(reason),
            "drop_reason": reason,
        },
        index=patches.index,
    )
