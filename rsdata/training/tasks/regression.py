"""One number for each patch, or for each pixel: mean squared error in standard deviations of the train split."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rsdata.errors import TrainingError
from rsdata.recipe import Training
from rsdata.records import RegressionScores, ShardManifest
from rsdata.training.dataset import PatchDataset, ShardReader, TargetReader
from rsdata.training.metrics import Errors
from rsdata.training.models import Answers
from rsdata.training.tasks.base import Answer, Build, Maps, TaskBase, band_named, check_answers, read_rows, the
from rsdata.training.tasks.rasters import MeasureMap


@dataclass(frozen=True)
class Regression(TaskBase):
    """Answers and targets are (patch, 1) or (patch, 1, y, x) float32, in standard deviations from the mean; NaN is not known."""

    target: str
    answers: Answers  # pixel for a band of the shard, patch for a column of a table
    mean: float  # of the train split, in the target's unit
    std: float
    unit: str
    name: ClassVar[str] = "regression"
    classes: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def of(cls, shard: ShardReader, options: Training, bands: Sequence[str], table: Path | None) -> Self:
        target = options.target or ""
        if target in [band.name for band in shard.manifest.bands]:
            if target in bands:
                raise TrainingError(f"the band {target} is to be learned and cannot be input too; leave it out of the bands", band=target)
            band = band_named(shard.manifest, target)
            found = band.statistics
            if found is None or found.mean is None or not found.std:
                raise TrainingError(
                    f"the manifest of shard {shard.manifest.name!r} has no train statistics of {target}, or it never changes; "
                    "regression needs its mean and spread",
                    band=target,
                )
            return cls(target, "pixel", found.mean, found.std, band.unit)
        if table is None:
            known = ", ".join(band.name for band in shard.manifest.bands)
            raise TrainingError(f"shard {shard.manifest.name!r} has no band {target}; known are {known}; for a column name its `table`")
        train = shard.index.loc[shard.index["split"] == "train", "patch_id"]
        values = _column(table, target).reindex(train).to_numpy()
        values = values[np.isfinite(values)]
        if len(values) < 2 or not values.std():
            raise TrainingError(
                f"column {target} of {table} has {len(values)} values for the train split, or all are equal; regression needs a spread",
                column=target,
            )
        return cls(target, "patch", float(values.mean()), float(values.std()), "")

    def check_fits(self, manifest: ShardManifest) -> None:
        """Any shard with the input's bands can be asked."""

    def reader(self, shard: ShardReader, dataset: PatchDataset, table: Path | None, training: bool) -> TargetReader | None:
        if self.answers == "pixel":
            return MeasureMap(shard, dataset, band_named(shard.manifest, self.target), self.mean, self.std)
        values = _column(table, self.target)
        check_answers(dataset.split, dataset.patch_ids, np.isin(dataset.patch_ids, values.index), f"row in {table}")
        found = (values.reindex(dataset.patch_ids).to_numpy(np.float64) - self.mean) / self.std
        return _Column(np.asarray(found, np.float32))

    def network(self, build: Build, bands: Sequence[str]) -> nn.Module:
        return build(len(bands), 1)

    def loss(self, answer: Answer, targets: Tensor) -> Tensor:
        known = targets.isfinite()
        errors = torch.where(known, the(answer) - targets.nan_to_num(), 0)
        return errors.square().sum() / known.sum().clamp(min=1)

    def weight(self, targets: Tensor) -> float:
        return int(targets.isfinite().sum())

    def scorer(self) -> "RegressionScorer":
        return RegressionScorer(self)

    def columns(self, answer: Answer) -> dict[str, Any]:
        values = self._in_unit(answer)
        if self.answers == "patch":
            return {self.target: values[:, 0]}
        return {f"{self.target}_mean": values.mean(axis=(1, 2, 3)), f"{self.target}_std": values.std(axis=(1, 2, 3))}

    def maps(self, answer: Answer) -> Maps | None:
        return Maps(self._in_unit(answer)[:, 0].astype(np.float32), None, {}, self.unit) if self.answers == "pixel" else None

    def _in_unit(self, answer: Answer) -> npt.NDArray[np.float64]:
        return the(answer).double().cpu().numpy() * self.std + self.mean


class RegressionScorer:
    """Adds up errors."""

    def __init__(self, task: Regression) -> None:
        self._task = task
        self._errors = Errors()
        self._patches = 0

    def add(self, answer: Answer, targets: Tensor) -> None:
        known = targets.isfinite().cpu()
        self._patches += len(targets)
        self._errors.add(the(answer).detach().double().cpu()[known], targets.double().cpu()[known])

    def scores(self) -> RegressionScores:
        if not self._errors.values:
            raise TrainingError(f"not one value of {self._task.target} is known on the {self._patches} patches, so nothing can be scored")
        r2, mse, mae = self._errors.figures()
        return RegressionScores(
            patches=self._patches,
            values=self._errors.values,
            loss=mse,
            r2=r2,
            rmse=math.sqrt(mse) * self._task.std,
            mae=mae * self._task.std,
        )


class _Column:
    def __init__(self, values: npt.NDArray[np.float32]) -> None:
        self._values = values

    def read(self, places: npt.NDArray[np.int64], turns: npt.NDArray[np.int64], epoch: int) -> Tensor:
        return torch.from_numpy(self._values[places])[:, None]


def _column(table: Path | None, name: str) -> Any:
    """Patch id to value.

    Raises: TrainingError if there is no such column of numbers, or a patch has several rows.
    """
    rows = read_rows(table, [name], "regression")
    if rows["patch_id"].duplicated().any():
        raise TrainingError(
            f"{table} has several rows for {rows['patch_id'][rows['patch_id'].duplicated()].iloc[0]}; expected one per patch"
        )
    try:
        return rows.set_index("patch_id")[name].astype(np.float64)
    except (TypeError, ValueError) as error:
        raise TrainingError(f"column {name} of {table} does not hold numbers: {error}; name another `target`", column=name) from error
