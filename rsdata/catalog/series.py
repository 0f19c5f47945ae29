"""The time series of a dataset as its report shows them: how many there are, why others are not, and one of them as a strip."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from rsdata.catalog import pictures

_LEFT_OUT = {
    "no_split": "no patch was kept there, so there is no split",
    "several_splits": "dates there lie in several splits",
    "few_frames": "fewer dates passed the filters than the recipe asks for",
    "no_pair": "no two usable dates lie near those the recipe names",
    "not_coded": "a codec failed",
}


@dataclass(frozen=True)
class SeriesFrame:
    """One frame of a place as a picture."""

    sensor: str
    time: datetime
    products: int  # it was made from
    nodata: float  # shares of the patch
    cloud: float | None
    picture: np.ndarray  # (y, x, 3) or (y, x) uint8


@dataclass(frozen=True)
class SeriesSummary:
    """All series in numbers, and one place in pictures."""

    places: int
    frames: Mapping[str, int]  # sensor to its frames
    left_out: Mapping[str, int]  # reason to places without a series
    composite: str
    place_id: str
    split: str | None
    strip: Sequence[SeriesFrame]
    hidden: int = 0  # frames of the place that are not shown


def series_page(summary: SeriesSummary) -> dict[str, Any]:
    """What the report's template needs of the series."""
    titles = {"s2": "Sentinel-2", "s1": "Sentinel-1"}
    return {
        "places": summary.places,
        "frames": [(titles[sensor], count) for sensor, count in summary.frames.items()],
        "left_out": [(count, _LEFT_OUT.get(reason, reason)) for reason, count in summary.left_out.items() if count],
        "composite": None if summary.composite == "none" else summary.composite,
        "place": summary.place_id,
        "split": summary.split,
        "hidden": summary.hidden,
        "strips": [
            (
                titles[sensor],
                [
                    {
                        "picture": pictures.jpeg(each.picture),
                        "day": f"{each.time:%Y-%m-%d}",
                        "cloud": each.cloud,
                        "nodata": each.nodata,
                        "products": each.products,
                    }
                    for each in summary.strip
                    if each.sensor == sensor
                ],
            )
            for sensor in summary.frames
        ],
    }
