"""One place of the time series as pictures, read from the shard."""

import numpy as np

from rsdata import catalog, shards
from rsdata.recipe import Recipe
from rsdata.sensors import SENTINEL1, SENTINEL2
from rsdata.shards.manifest import SERIES_FORMAT
from rsdata.steps.pictures import RGB, S1_DB, as_picture, natural_colours
from rsdata.steps.series import left_out_places
from rsdata.workspace import Workspace

MOST_FRAMES = 24  # of a sensor that are shown


def series_summary(recipe: Recipe, workspace: Workspace) -> catalog.SeriesSummary | None:
    """The series in numbers, and the place with the most dates, of those the one with the thickest cloud; None if there are none."""
    if recipe.series is None:
        return None
    with shards.open_cubes(workspace.shards(SERIES_FORMAT)) as shard:
        cloud = shard.frames.groupby("place_id")["cloud_fraction"].max()
        index = shard.index.assign(cloud=shard.index["place_id"].map(cloud).fillna(0.0))
        place = index.sort_values(["s2_frames", "s1_frames", "cloud", "place_id"], ascending=[False, False, False, True]).iloc[0]
        rows = shard.frames[shard.frames["place_id"] == place["place_id"]]
        strip: list[catalog.SeriesFrame] = []
        for sensor in recipe.series.sensors:
            own = rows[rows["sensor"] == sensor]
            shown = own.iloc[np.unique(np.linspace(0, len(own) - 1, min(MOST_FRAMES, len(own))).astype(int))]
            for row, picture in zip(shown.itertuples(), _pictures(shard, place["place_id"], sensor, shown["frame"].tolist()), strict=True):
                share = None if sensor == SENTINEL1.name else row.cloud_fraction
                strip.append(catalog.SeriesFrame(sensor, row.time, len(row.products), row.nodata_fraction, share, picture))
        return catalog.SeriesSummary(
            places=len(shard.index),
            frames={sensor: int((shard.frames["sensor"] == sensor).sum()) for sensor in recipe.series.sensors},
            left_out=left_out_places(workspace),
            composite=recipe.series.composite,
            place_id=place["place_id"],
            split=place["split"],
            strip=strip,
            hidden=len(rows) - len(strip),
        )


def _pictures(shard: shards.CubeShard, place_id: str, sensor: str, frames: list[int]) -> list[np.ndarray]:
    if sensor == SENTINEL2.name:
        offsets = {band.name: band.offset[0] for band in shard.manifest.bands if band.name in RGB}
        bands = shard.read_bands(place_id, RGB, frames)
        return [natural_colours({name: pixels[index] for name, pixels in bands.items()}, offsets) for index in range(len(frames))]
    return [as_picture(pixels, *S1_DB) for pixels in shard.read_bands(place_id, ["VV"], frames)["VV"]]
