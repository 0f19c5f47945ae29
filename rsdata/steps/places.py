"""Which frames the time series of each place has, settled tile by tile from the patch table and told by two tables.

A place is a column and row of a tile. It belongs to the split that its kept dates have, and has no series if they have
several. Any date of a usable product may be a frame, whether its patch was kept or not, and the recipe's filters decide;
only where the split divides dates, those that were dropped stay out, as nobody knows their split.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from rsdata import catalog, series, splits
from rsdata.errors import RecipeError
from rsdata.recipe import Recipe, Series, SeriesVideos
from rsdata.records import CubeFrame, CubeRow, PatchMeasures, place_id, reference_map_id, s1_scene_id, s1_start
from rsdata.sensors import SENTINEL1, SENTINEL2
from rsdata.series import Choice, Seen, Slot
from rsdata.shards import Cube
from rsdata.splits.kfold import KFold
from rsdata.steps.frames import Frames, usable
from rsdata.steps.measuring import reliable_shift_px
from rsdata.steps.receipts import Outcome, once, outputs_digest
from rsdata.workspace import Workspace, combined_sha256
from rsdata.writing import writing


@dataclass(frozen=True)
class Place:
    """One place with its dates in the order of time."""

    place_id: str
    dates: pd.DataFrame  # rows of the patch table, with ``may_enter`` and ``s1_may_enter``
    choice: Choice

    @property
    def first_kept(self) -> pd.Series:
        return self.dates[self.dates["kept"].astype(bool)].iloc[0]


@dataclass(frozen=True)
class TilePlaces:
    """The places of one tile; the patch table is read when it is first needed."""

    tile: str
    units: Sequence[str]  # scenes of the tile
    offsets: Mapping[str, float]  # what counts are brought to
    recipe: Recipe
    workspace: Workspace

    @property
    def rows_path(self) -> Path:
        return self.workspace.part("series", self.tile, ".parquet")

    @property
    def frames_path(self) -> Path:
        return self.workspace.part("series", self.tile, "-frames.parquet")

    def settle(self) -> Outcome:
        """Write the rows of the tile's places and frames, as they will lie in the shard."""
        part = series_part(self.recipe)

        def work() -> tuple[list[Path], dict[str, int]]:
            rows, frames, reasons = [], [], Counter[str]()
            with Frames(self.units, self.offsets, self.workspace) as opened:
                for place in self.places():
                    if place.choice.left_out is not None:
                        reasons[place.choice.left_out] += 1
                        continue
                    frames += series.frame_rows(place.place_id, opened.read(place.choice.slots), part)
                    rows.append(_row(place))
            for path, model, made in ((self.rows_path, CubeRow, rows), (self.frames_path, CubeFrame, frames)):
                with writing(path) as aside:
                    catalog.write_rows(aside, pd.DataFrame(made, columns=list(model.model_fields)), model)
            return [self.rows_path, self.frames_path], {"places": len(rows), "frames": len(frames), **reasons}

        key = self.pixels_key() | {
            "splits": outputs_digest("splits", "all", self.workspace),
            "recipe": part.model_copy(update={"video": SeriesVideos()}).digest(),
            "quality": self.recipe.quality.digest(),
            "dates of two splits": str(_divides_dates(self.recipe)),
        }
        return once("series", self.tile, self.workspace, key, work)

    def pixels_key(self) -> dict[str, str]:
        """What the tile's pixels follow from."""
        key = {f"pixels {unit}": outputs_digest("quality", unit, self.workspace) for unit in self.units}
        return key | {"offsets": combined_sha256({band: str(value) for band, value in self.offsets.items()})}

    def places(self, wanted: Collection[str] | None = None) -> Iterator[Place]:
        """Places in the order of their ids; all, or those that are wanted."""
        table = self._table if wanted is None else self._table[self._table["place"].isin(set(wanted))]
        part = series_part(self.recipe)
        for name, dates in table.groupby("place", sort=True):
            yield Place(str(name), dates, _choice(dates, part))

    def cubes(self, wanted: Collection[str]) -> Iterator[Cube]:
        """The cubes of some places that have a series, one at a time."""
        part = series_part(self.recipe)
        with Frames(self.units, self.offsets, self.workspace) as opened:
            for place in self.places(wanted):
                observed = opened.read(place.choice.slots)
                reference_map = opened.reference_map(place.first_kept["patch_id"])
                yield Cube(place.place_id, series.made_frames(observed, part), series.valid_frames(observed, part), reference_map)

    @cached_property
    def _table(self) -> pd.DataFrame:
        """Rows of the patch table by place and time, with ``place``, ``may_enter`` and ``s1_may_enter``."""
        table = catalog.read_patches(self.workspace.patches)
        mine = (table["tile_id"] == self.tile).to_numpy()
        measures = catalog.read_table(self.workspace.quality, PatchMeasures)[mine].reset_index(drop=True)
        table = pd.DataFrame(table[mine].drop(columns="geometry")).reset_index(drop=True)
        thresholds = self.recipe.quality
        defective = measures["defective_fraction"].astype(float) > thresholds.max_defective_fraction
        saturated = measures["saturated_fraction"] > thresholds.max_saturated_fraction
        shifted = reliable_shift_px(measures) > (thresholds.max_coregistration_shift_px or float("inf"))
        known = usable(table)
        if _divides_dates(self.recipe):
            known &= table["kept"].astype(bool)
        places = [place_id(self.tile, col, row) for col, row in zip(table["col"], table["row"], strict=True)]
        table = table.assign(
            place=places,
            may_enter=known & ~defective & ~saturated,
            s1_may_enter=known & table["s1_product"].notna() & ~shifted,
        )
        return table.sort_values(["place", "datetime", "patch_id"], ignore_index=True)


def series_part(recipe: Recipe) -> Series:
    """Raises: RecipeError if a recipe asks for no series."""
    if recipe.series is None:
        raise RecipeError(f"{recipe.name} asks for no time series; add the part `series`")
    return recipe.series


def _divides_dates(recipe: Recipe) -> bool:
    """Whether two dates of a place may lie in two splits."""
    strategy = splits.strategy_of(recipe.split)
    return strategy.divides_time or (isinstance(strategy, KFold) and strategy.by == "time")


def _choice(dates: pd.DataFrame, part: Series) -> Choice:
    named = dates["split"].dropna().unique()
    if len(named) != 1:
        return Choice({}, "several_splits" if len(named) else "no_split")
    seen: dict[str, list[Seen]] = {SENTINEL2.name: [], SENTINEL1.name: []}
    for date in dates.itertuples():
        if date.may_enter:
            cloud = min(1.0, date.cloud_fraction + date.shadow_fraction)
            time = date.datetime.to_pydatetime()
            seen[SENTINEL2.name].append(Seen(date.patch_id, date.s2_product, time, date.nodata_fraction, cloud, date.snow_fraction))
        if date.s1_may_enter:
            seen[SENTINEL1.name].append(Seen(date.patch_id, date.s1_product, s1_start(s1_scene_id(date.s1_product))))
    return series.choose_frames(seen, part)


def _row(place: Place) -> dict[str, Any]:
    """Row of ``CubeRow``; labels are those of the first kept date."""
    first, slots = place.first_kept, place.choice.slots
    nothing: list[Slot] = []
    return {
        "place_id": place.place_id,
        **{name: first[name] for name in ("tile_id", "col", "row", "epsg", "ul_x_m", "ul_y_m", "country", "split")},
        "labels": list(first["labels"]),
        "s2_frames": len(slots.get(SENTINEL2.name, nothing)),
        "s1_frames": len(slots.get(SENTINEL1.name, nothing)),
        "reference_map_key": reference_map_id(place.place_id),
    }
